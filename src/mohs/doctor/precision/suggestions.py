"""What to do about wrong confident matches: one correction for each class, label or picture at fault."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from mohs.data.fixes import Suggestion
from mohs.doctor.precision.attribution import CAUSES, Attribution, Cause
from mohs.doctor.precision.top_pairs import TopPairs
from mohs.evaluation.checked import Bools, Float32, Index

__all__ = ["ItemFix", "suggest_fixes"]


@final
@dataclass(frozen=True)
class ItemFix:
    """A correction in terms of items and class codes; `mohs.data.fixes.LabelFix` has their names.

    Attributes:
        item: the picture; of a class to be joined, one that shows why.
        suggestion: what to do.
        to: class code, none where there is no other class.
        cause: from `CAUSES`.
        other: the picture that shows why; none if there is none.
        num_pairs: false matches among the most similar pairs that the correction explains.
        similarity: of the two pictures; NaN without `other`.
        difference: of their pixels, 0 if equal; NaN if not compared.
        own_fit: of the item to its class (`mohs.doctor.precision.labels`); NaN if nobody speaks.
        other_fit: to the other class.
    """

    item: int
    suggestion: Suggestion
    to: int | None
    cause: Cause
    num_pairs: int
    other: int | None = None
    similarity: float = math.nan
    difference: float = math.nan
    own_fit: float = math.nan
    other_fit: float = math.nan


def suggest_fixes(
    top: TopPairs, found: Attribution, x_ND: Float32, class_N: Index, *, query_N: Bools | None = None
) -> tuple[ItemFix, ...]:
    """Return the corrections, those that explain most pairs first; `top` are the first pairs that `found` is about.

    What is applied ("merge classes", "relabel", "drop") has equal pixels for a proof. What likeness alone says is
    "look", with the class in `to`: of labels called wrong by similarities, 9% to 48% were right in simulations
    (`mohs.doctor.precision.labels`), and of 32 emoji called wrong by a nearly equal picture of another class, all 32
    were right: squares and clocks that differ in a detail.

    - Classes that are one: "merge classes" into the largest if most of a class's pictures are equal to others' of it,
      "look" if they are only nearly equal.
    - A wrong label: "drop" if the same picture is under the right label already, else "look". This is said of all
      items, whether or not they are in a pair of `top`; where two of a class speak against each other, "look", too.
    - A picture that fits both of its classes: "drop" under the one that it fits less.
    - A blank picture in `top`: "drop"; a tiny or blurred one: "look".
    - A query that is in the gallery: "drop".
    - A hub in `top`: "look".
    - Two classes that are perhaps one: "look".
    - Corrections that would together leave a class without a picture: "look", all of that class.
    """
    false = top.take(~top.same_P)
    known = _Evidence(false, found.cause_P[: len(top)][~top.same_P], found, x_ND, class_N)
    fixes = [*_merges(known), *_labels(known), *_split_classes(known), *_pictures(top, found, query_N)]
    kept = _keep_classes(fixes, class_N)
    return tuple(sorted(kept, key=lambda fix: (fix.suggestion == "look", -fix.num_pairs, fix.item)))


def _keep_classes(fixes: list[ItemFix], class_N: Index) -> list[ItemFix]:
    """Return the fixes with "look" for those that take all pictures out of a class."""
    taken = np.unique([fix.item for fix in fixes if fix.suggestion in ("drop", "relabel")]).astype(np.int64)
    size_C = np.bincount(class_N)
    emptied_C = np.bincount(class_N[taken], minlength=len(size_C)) == size_C
    return [
        replace(fix, suggestion="look")
        if fix.suggestion in ("drop", "relabel") and emptied_C[class_N[fix.item]]
        else fix
        for fix in fixes
    ]


@final
@dataclass(frozen=True, eq=False)
class _Evidence:
    """The false matches of the top with their causes, and what is known of the items."""

    false: TopPairs
    cause_F: Index
    found: Attribution
    x_ND: Float32
    class_N: Index

    def have(self, *causes: Cause) -> Bools:
        """Return which of the false matches have one of these causes."""
        return np.isin(self.cause_F, [CAUSES.index(cause) for cause in causes])

    def pairs_of(self, of_F: Bools, value_N: Index, size: int) -> Index:
        """Return how many of these false matches each value (an item's own, by side) is in, int64 [size]."""
        first, second = (value_N[side[of_F]] for side in (self.false.first_P, self.false.second_P))
        return np.bincount(first, minlength=size) + np.bincount(second, minlength=size)

    def fix(
        self, item: int, suggestion: Suggestion, to: int, cause: Cause, num_pairs: int, other: int | None = None
    ) -> ItemFix:
        """Return a correction with the similarity to the other picture and the fits."""
        fit, rival_fit = float(self.found.doubt.own_fit_N[item]), float(self.found.doubt.rival_fit_N[item])
        similarity = math.nan if other is None else float(self.x_ND[item] @ self.x_ND[other])
        return ItemFix(item, suggestion, to, cause, int(num_pairs), other, similarity, math.nan, fit, rival_fit)

    def most_similar(self, one: Index, other: Index) -> tuple[int, int]:
        """Return the two items, one of each group, that are most similar."""
        similarity = self.x_ND[one] @ self.x_ND[other].T
        row, column = np.unravel_index(int(similarity.argmax()), similarity.shape)
        return int(one[row]), int(other[column])


def _merges(known: _Evidence) -> list[ItemFix]:
    found, same_N = known.found, known.found.same_C[known.class_N]
    of_merge_F = known.have("duplicate-pictures", "near-duplicates")
    of_merge_F &= same_N[known.false.first_P] == same_N[known.false.second_P]
    pairs_C = known.pairs_of(of_merge_F, known.class_N, len(found.same_C))
    items_of = _items_by_class(known.class_N)
    fixes = []
    for label in np.flatnonzero(found.same_C != np.arange(len(found.same_C))).tolist():
        to = int(found.same_C[label])
        one, other = items_of[label], items_of[to]
        at = other_at = np.zeros(0, dtype=np.int64)
        if found.picture_N is not None:
            _, at, other_at = np.intersect1d(found.picture_N[one], found.picture_N[other], return_indices=True)
        # Equal pictures show it best.
        pair = (int(one[at[0]]), int(other[other_at[0]])) if len(at) else known.most_similar(one, other)
        exact = found.joined_C[label] == found.joined_C[to]
        cause: Cause = "duplicate-pictures" if exact else "near-duplicates"
        fix = known.fix(pair[0], "merge classes" if exact else "look", to, cause, pairs_C[label], pair[1])
        fixes.append(replace(fix, difference=0.0) if len(at) else fix)
    return fixes


def _labels(known: _Evidence) -> list[ItemFix]:
    found, doubt = known.found, known.found.doubt
    causes: tuple[Cause, ...] = ("duplicate-pictures", "near-duplicates", "label-errors")
    num_items = len(known.class_N)
    pairs_N = known.pairs_of(known.have(*causes), np.arange(num_items), num_items)
    fixes = []
    for item in np.flatnonzero(found.wrong_N).tolist():
        twin, spare, to = int(found.twin_N[item]), bool(found.spare_N[item]), int(found.right_N[item])
        cause = causes[0] if spare else causes[1] if twin >= 0 else causes[2]
        other = None if twin < 0 else twin
        fix = known.fix(item, "drop" if spare else "look", to, cause, pairs_N[item], other)
        fixes.append(replace(fix, difference=float(found.twin_difference_N[item])))
    unsure_N = (doubt.margin_N >= doubt.threshold) & ~doubt.wrong_N & ~found.wrong_N
    for item in np.flatnonzero(unsure_N).tolist():
        to = int(found.same_C[doubt.rival_N[item]])
        if to != found.same_C[known.class_N[item]]:
            fixes.append(known.fix(item, "look", to, "label-errors", pairs_N[item]))
    return fixes


def _split_classes(known: _Evidence) -> list[ItemFix]:
    """Return the classes that are perhaps one, to be looked at."""
    same_N = known.found.same_C[known.class_N]
    one_F, other_F = same_N[known.false.first_P], same_N[known.false.second_P]
    items_of = _items_by_class(same_N)
    fixes = []
    for first, second in known.found.split_2S.T.tolist():
        pairs_F = ((one_F == first) & (other_F == second)) | ((one_F == second) & (other_F == first))
        num_pairs = int((pairs_F & known.have("perhaps-one-class")).sum())
        item, other = known.most_similar(items_of[second], items_of[first])
        fixes.append(known.fix(item, "look", first, "perhaps-one-class", num_pairs, other))
    return fixes


def _pictures(top: TopPairs, found: Attribution, query_N: Bools | None) -> list[ItemFix]:
    """Return the corrections of queries in the gallery, pictures that show too little, and hubs."""
    fixes = []

    def pairs_of(cause: Cause) -> TopPairs:
        return top.take(found.of(cause)[: len(top)])

    def items_of(cause: Cause) -> Iterator[tuple[int, int]]:
        pairs = pairs_of(cause)
        items, count = np.unique(np.concatenate([pairs.first_P, pairs.second_P]), return_counts=True)
        return zip(items.tolist(), count.tolist(), strict=True)

    if query_N is not None:
        leaks = pairs_of("same-picture")
        queries, first, count = np.unique(leaks.first_P, return_index=True, return_counts=True)
        for item, row, number in zip(queries.tolist(), first.tolist(), count.tolist(), strict=True):
            other, similarity = int(leaks.second_P[row]), float(leaks.similarity_P[row])
            fixes.append(ItemFix(item, "drop", None, "same-picture", number, other, similarity, 0.0))
    if found.poor_why_N is not None:
        for item, number in items_of("low-information"):
            if why := found.poor_why_N[item]:
                suggestion: Suggestion = "drop" if why == "blank" else "look"
                fixes.append(ItemFix(item, suggestion, None, "low-information", number))
    fixes += [ItemFix(item, "look", None, "hubs", number) for item, number in items_of("hubs") if found.hub_N[item]]
    return fixes


def _items_by_class(class_N: Index) -> dict[int, Index]:
    order = np.argsort(class_N, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(class_N[order])) + 1)
    return {int(class_N[part[0]]): part for part in parts}
