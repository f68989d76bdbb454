"""What to do about wrong confident matches: one correction for each class, label or picture at fault."""

from dataclasses import dataclass, replace
from typing import final

import numpy as np

from mohs.data.fixes import Suggestion
from mohs.doctor.precision.attribution import CAUSES, Attribution, Cause
from mohs.doctor.precision.top_pairs import Bools, Ints, Rows, TopPairs

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
    other: int | None
    num_pairs: int
    similarity: float
    difference: float
    own_fit: float
    other_fit: float


def suggest_fixes(
    top: TopPairs, found: Attribution, x_ND: Rows, class_N: Ints, *, query_N: Bools | None = None
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
    cause_F = found.cause_P[: len(top)][~top.same_P]
    fixes = [
        *_merges(false, cause_F, found, x_ND, class_N),
        *_labels(false, cause_F, found, x_ND, class_N),
        *_split_classes(false, cause_F, found, x_ND, class_N),
        *_pictures(top, found, query_N),
    ]
    kept = _keep_classes(fixes, class_N)
    return tuple(sorted(kept, key=lambda fix: (fix.suggestion == "look", -fix.num_pairs, fix.item)))


def _keep_classes(fixes: list[ItemFix], class_N: Ints) -> list[ItemFix]:
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


def _merges(false: TopPairs, cause_F: Ints, found: Attribution, x_ND: Rows, class_N: Ints) -> list[ItemFix]:
    same_N = found.same_C[class_N]
    of_merge_F = np.isin(cause_F, [CAUSES.index("duplicate-pictures"), CAUSES.index("near-duplicates")])
    of_merge_F &= same_N[false.first_P] == same_N[false.second_P]
    pairs_C = np.zeros(len(found.same_C), dtype=np.int64)
    for side in (false.first_P, false.second_P):
        pairs_C += np.bincount(class_N[side[of_merge_F]], minlength=len(pairs_C))
    items_of = _items_by_class(class_N)
    fixes = []
    for label in np.flatnonzero(found.same_C != np.arange(len(found.same_C))).tolist():
        to = int(found.same_C[label])
        exact = found.joined_C[label] == found.joined_C[to]
        item, other, difference = _example(label, to, found, x_ND, items_of)
        fixes.append(
            ItemFix(
                item=item,
                suggestion="merge classes" if exact else "look",
                to=to,
                cause="duplicate-pictures" if exact else "near-duplicates",
                other=other,
                num_pairs=int(pairs_C[label]),
                similarity=float(x_ND[item] @ x_ND[other]),
                difference=difference,
                own_fit=float(found.doubt.own_fit_N[item]),
                other_fit=float(found.doubt.rival_fit_N[item]),
            )
        )
    return fixes


def _example(label: int, to: int, found: Attribution, x_ND: Rows, items_of: dict[int, Ints]) -> tuple[int, int, float]:
    """Return an item of each class and the difference of their pictures: equal ones if there are any."""
    one, other = items_of[label], items_of[to]
    if found.picture_N is not None:
        _, at, other_at = np.intersect1d(found.picture_N[one], found.picture_N[other], return_indices=True)
        if len(at):
            return int(one[at[0]]), int(other[other_at[0]]), 0.0
    similarity = x_ND[one] @ x_ND[other].T
    row, column = np.unravel_index(int(similarity.argmax()), similarity.shape)
    return int(one[row]), int(other[column]), float("nan")


def _labels(false: TopPairs, cause_F: Ints, found: Attribution, x_ND: Rows, class_N: Ints) -> list[ItemFix]:
    doubt = found.doubt
    causes: tuple[Cause, ...] = ("duplicate-pictures", "near-duplicates", "label-errors")
    of_label_F = np.isin(cause_F, [CAUSES.index(cause) for cause in causes])
    pairs_N = np.zeros(len(class_N), dtype=np.int64)
    for side in (false.first_P, false.second_P):
        pairs_N += np.bincount(side[of_label_F], minlength=len(pairs_N))
    fixes = []
    for item in np.flatnonzero(found.wrong_N).tolist():
        other = int(found.twin_N[item])
        spare = bool(found.spare_N[item])
        fixes.append(
            ItemFix(
                item=item,
                suggestion="drop" if spare else "look",
                to=int(found.right_N[item]),
                cause=causes[0] if spare else causes[1] if other >= 0 else causes[2],
                other=None if other < 0 else other,
                num_pairs=int(pairs_N[item]),
                similarity=float("nan") if other < 0 else float(x_ND[item] @ x_ND[other]),
                difference=float(found.twin_difference_N[item]),
                own_fit=float(doubt.own_fit_N[item]),
                other_fit=float(doubt.rival_fit_N[item]),
            )
        )
    unsure_N = (doubt.margin_N >= doubt.threshold) & ~doubt.wrong_N & ~found.wrong_N
    for item in np.flatnonzero(unsure_N).tolist():
        to = int(found.same_C[doubt.rival_N[item]])
        nan = float("nan")
        fit = (float(doubt.own_fit_N[item]), float(doubt.rival_fit_N[item]))
        if to != found.same_C[class_N[item]]:
            fixes.append(ItemFix(item, "look", to, "label-errors", None, int(pairs_N[item]), nan, nan, *fit))
    return fixes


def _split_classes(false: TopPairs, cause_F: Ints, found: Attribution, x_ND: Rows, class_N: Ints) -> list[ItemFix]:
    """Return the classes that are perhaps one, to be looked at."""
    same_N = found.same_C[class_N]
    of_cause_F = cause_F == CAUSES.index("perhaps-one-class")
    one_F, other_F = same_N[false.first_P], same_N[false.second_P]
    items_of = _items_by_class(same_N)
    fixes = []
    for first, second in found.split_2S.T.tolist():
        pairs = of_cause_F & (((one_F == first) & (other_F == second)) | ((one_F == second) & (other_F == first)))
        similarity = x_ND[items_of[second]] @ x_ND[items_of[first]].T
        row, column = np.unravel_index(int(similarity.argmax()), similarity.shape)
        fixes.append(
            ItemFix(
                item=int(items_of[second][row]),
                suggestion="look",
                to=first,
                cause="perhaps-one-class",
                other=int(items_of[first][column]),
                num_pairs=int(pairs.sum()),
                similarity=float(similarity[row, column]),
                difference=float("nan"),
                own_fit=float(found.doubt.own_fit_N[items_of[second][row]]),
                other_fit=float(found.doubt.rival_fit_N[items_of[second][row]]),
            )
        )
    return fixes


def _pictures(top: TopPairs, found: Attribution, query_N: Bools | None) -> list[ItemFix]:
    """Return the corrections of queries in the gallery, pictures that show too little, and hubs."""
    cause_P = found.cause_P[: len(top)]
    nan = float("nan")
    fixes = []

    def pairs_of(cause: Cause) -> TopPairs:
        return top.take(cause_P == CAUSES.index(cause))

    if query_N is not None:
        leaks = pairs_of("same-picture")
        queries, first, count = np.unique(leaks.first_P, return_index=True, return_counts=True)
        for item, row, number in zip(queries.tolist(), first.tolist(), count.tolist(), strict=True):
            other = int(leaks.second_P[row])
            similarity = float(leaks.similarity_P[row])
            fixes.append(ItemFix(item, "drop", None, "same-picture", other, number, similarity, 0.0, nan, nan))
    if found.information is not None:
        poor = pairs_of("low-information")
        items, count = np.unique(np.concatenate([poor.first_P, poor.second_P]), return_counts=True)
        for item, number in zip(items.tolist(), count.tolist(), strict=True):
            why = found.information.why_N[item]
            if why:
                suggestion: Suggestion = "drop" if why == "blank" else "look"
                fixes.append(ItemFix(item, suggestion, None, "low-information", None, number, nan, nan, nan, nan))
    hubs = pairs_of("hubs")
    items, count = np.unique(np.concatenate([hubs.first_P, hubs.second_P]), return_counts=True)
    for item, number in zip(items.tolist(), count.tolist(), strict=True):
        if found.hub_N[item]:
            fixes.append(ItemFix(item, "look", None, "hubs", None, number, nan, nan, nan, nan))
    return fixes


def _items_by_class(class_N: Ints) -> dict[int, Ints]:
    order = np.argsort(class_N, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(class_N[order])) + 1)
    return {int(class_N[part[0]]): part for part in parts}
