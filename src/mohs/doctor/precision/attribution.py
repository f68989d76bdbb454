"""Why the most similar pairs of different classes are there: one cause for each, by evidence."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, final, get_args

import numpy as np
import numpy.typing as npt

from mohs.data.equal_pictures import picture_difference, picture_numbers
from mohs.doctor.embeddings.split_classes import find_split_classes
from mohs.doctor.precision.evidence import (
    Occurrence,
    join_classes,
    low_information,
    occurrence,
    random_similarities,
    twins_by_number,
)
from mohs.doctor.precision.labels import LabelDoubt, label_doubt
from mohs.doctor.precision.top_pairs import TopPairs
from mohs.evaluation.checked import Bools, Float32, Float64, Index
from mohs.evaluation.exact_neighbours import nearest_items

__all__ = ["CAUSES", "PICTURE_CAUSES", "Attribution", "Cause", "attribute"]

Cause: TypeAlias = Literal[
    "same-picture",
    "low-information",
    "duplicate-pictures",
    "near-duplicates",
    "label-errors",
    "perhaps-one-class",
    "hubs",
    "saturated",
    "look-alikes",
]

CAUSES: tuple[Cause, ...] = get_args(Cause)
"""In the order in which they are looked for: a pair has the first one that its evidence shows."""

PICTURE_CAUSES: tuple[Cause, ...] = CAUSES[:4]
"""Those that only pictures show."""

NUM_NEIGHBOURS = 20
HUB_NEIGHBOURS = 10
# Two classes are called one only if their pictures differ less than any fine stroke would make them.
SAME_DIFFERENCE = 0.03
# A picture whose label is wrong anyway is a changed copy of a neighbour up to here.
COPY_DIFFERENCE = 0.12
SATURATED_SIMILARITY = 0.95
SATURATED_SHARE = 0.01

_NUM_COMPARED = 5


@final
@dataclass(frozen=True, eq=False)
class Attribution:
    """The evidence about N items, and the cause of each of P pairs.

    Attributes:
        cause_P: position in `CAUSES`, int64 [P]; -1 for a true match that is not "same-picture".
        picture_N: number of each item's picture, equal for equal pixels; none without pictures. Pictures that show too
            little are all different.
        joined_C: the class that each class is one with, by equal pictures.
        same_C: the same, by nearly equal pictures, too.
        doubt: of each label, with classes joined by `joined_C`.
        wrong_N: labels called wrong, those of spare_N too, bool [N].
        right_N: the class that such an item is of, in `same_C`'s classes, int64 [N]; -1 elsewhere.
        twin_N: the item that it is a copy of, changed or not; -1 for none.
        twin_difference_N: `picture_difference` to it, 0 for equal pixels; NaN for none.
        spare_N: items to leave out, because the same picture is under a class that it fits better, bool [N].
        occurrence: how often items are neighbours; its `hubs` are hub_N.
        split_2S: classes that are perhaps one (`find_split_classes`), in `same_C`'s classes, int64 [2, S].
        hub_N: bool [N].
        poor_why_N: why a picture shows too little (`low_information`), "" if it does not; none without pictures.
        random_R: similarities of random pairs of different classes, ascending, float64 [R].
    """

    cause_P: Index
    picture_N: Index | None
    joined_C: Index
    same_C: Index
    doubt: LabelDoubt
    wrong_N: Bools
    right_N: Index
    twin_N: Index
    twin_difference_N: Float64
    spare_N: Bools
    occurrence: Occurrence
    split_2S: Index
    hub_N: Bools
    poor_why_N: npt.NDArray[np.str_] | None
    random_R: Float64

    def of(self, cause: Cause) -> Bools:
        """Return which pairs have this cause, bool [P]."""
        chosen: Bools = self.cause_P == CAUSES.index(cause)
        return chosen


def attribute(
    pairs: TopPairs,
    num_top: int,
    x_ND: Float32,
    class_N: Index,
    *,
    pictures_NHWC: npt.NDArray[np.uint8] | None = None,
    longer_side: Callable[[int], int] | None = None,
    query_N: Bools | None = None,
) -> Attribution:
    """Return the cause of each pair: of a false match the first of these that holds.

    1. "same-picture": query and gallery item are the same picture (equal pixels), whatever their labels. True matches
       have this cause, too; without a gallery only they do.
    2. "low-information": one of the two is blank, tiny or blurred.
    3. "duplicate-pictures": equal pixels; or classes that are one by such pictures (`join_classes`); or one is a wrong
       label (see 5) with an equal picture in the class that it is of.
    4. "near-duplicates": the same with pictures that differ by at most 0.03 (classes; looked for among the
       first `num_top`) or 0.12 (a wrong label and its nearest neighbours).
    5. "label-errors": the label of one of them is called wrong, and the other is of the class that it fits instead.
    6. "perhaps-one-class": their classes lie as near to each other as pictures of one class do (`find_split_classes`).
    7. "hubs": one of them is a wrong neighbour of more than 50 items of 10 classes or more.
    8. "saturated": the similarity is at least 0.95, and 1% of random pairs of different classes are as similar.
    9. "look-alikes": none of these.

    Args:
        pairs: from `find_top_pairs`.
        num_top: so many of the first pairs are looked at in detail.
        x_ND: unit rows.
        class_N: class codes in the order of the labels.
        pictures_NHWC: uint8; without them 1 to 4 are not looked for.
        longer_side: gives the longer side of an item's file in pixels, 0 if unknown; None: "tiny" is not looked for.
        query_N: as for `find_top_pairs`.
    """
    num_items = len(class_N)
    picture_N = None if pictures_NHWC is None else picture_numbers(pictures_NHWC)
    number_N = np.arange(num_items) if picture_N is None else picture_N
    top = pairs.take(np.arange(num_top))
    why_N = None if pictures_NHWC is None else _low_information(top, pictures_NHWC, longer_side)
    poor_N = np.zeros(num_items, dtype=bool) if why_N is None else why_N != ""
    # That two blank pictures are equal says nothing about their classes.
    number_N = np.where(poor_N, num_items + np.arange(num_items), number_N)
    joined_C = join_classes(class_N, number_N, *twins_by_number(class_N, number_N))
    joined_N = joined_C[class_N]
    neighbours_NK = nearest_items(x_ND, NUM_NEIGHBOURS)
    doubt = label_doubt(x_ND, joined_N, neighbours_NK, picture_N=number_N)
    same_C = joined_C
    if pictures_NHWC is not None:
        same_C = _join_by_likeness(top, class_N, number_N, joined_C, pictures_NHWC, poor_N)
    same_N = same_C[class_N]
    rival_N = np.where(doubt.rival_N >= 0, same_C[doubt.rival_N], -1)
    wrong_N = doubt.wrong_N & (rival_N != same_N)
    right_N = _nearest_class(wrong_N, same_N, neighbours_NK)
    twin_N = np.full(num_items, -1, dtype=np.int64)
    difference_N = np.full(num_items, np.nan)
    if pictures_NHWC is not None:
        _find_twins(wrong_N, right_N, twin_N, difference_N, same_N, number_N, neighbours_NK, pictures_NHWC)
    spare_N, leader_N = _spare(same_N, number_N, wrong_N, right_N, doubt)
    twin_N[spare_N], difference_N[spare_N] = leader_N[spare_N], 0.0
    wrong_N |= spare_N
    right_N[spare_N] = same_N[leader_N[spare_N]]
    near_NK = neighbours_NK if query_N is None else nearest_items(x_ND, HUB_NEIGHBOURS, query_N=query_N)
    seen = occurrence(near_NK[:, :HUB_NEIGHBOURS], np.where(wrong_N, right_N, same_N))
    found = Attribution(
        cause_P=np.zeros(0, dtype=np.int64),
        picture_N=None if picture_N is None else number_N,
        joined_C=joined_C,
        same_C=same_C,
        doubt=doubt,
        wrong_N=wrong_N,
        right_N=right_N,
        twin_N=twin_N,
        twin_difference_N=difference_N,
        spare_N=spare_N,
        occurrence=seen,
        split_2S=_split_classes(x_ND, same_N),
        hub_N=seen.hubs(),
        poor_why_N=why_N,
        random_R=random_similarities(x_ND, class_N),
    )
    return replace(found, cause_P=_causes(pairs, found, class_N, number_N, poor_N, has_gallery=query_N is not None))


def _split_classes(x_ND: Float32, class_N: Index) -> Index:
    """Return the pairs of classes that are perhaps one, int64 [2, S]."""
    names, code_N = np.unique(class_N, return_inverse=True)
    split = find_split_classes(x_ND, code_N.astype(np.int64))
    pairs_2S: Index = names[np.stack([split.first_P, split.second_P])]
    return pairs_2S


def _low_information(
    top: TopPairs, pictures_NHWC: npt.NDArray[np.uint8], longer_side: Callable[[int], int] | None
) -> npt.NDArray[np.str_]:
    """Return which pictures show too little; of those of the top, with the sizes of their files."""
    side_N = np.zeros(len(pictures_NHWC), dtype=np.int64)
    if longer_side is not None:
        in_top = np.unique(np.concatenate([top.first_P, top.second_P]))
        side_N[in_top] = [longer_side(item) for item in in_top.tolist()]
    return low_information(pictures_NHWC, longer_side_N=side_N)


def _causes(
    pairs: TopPairs, found: Attribution, class_N: Index, number_N: Index, poor_N: Bools, *, has_gallery: bool
) -> Index:
    """Return the cause of each pair by the evidence about its items, -1 for none, int64 [P]."""
    joined_N, same_N, wrong_N, right_N = found.joined_C[class_N], found.same_C[class_N], found.wrong_N, found.right_N
    first, second = pairs.first_P, pairs.second_P
    equal_P = number_N[first] == number_N[second]
    of_one_P = np.zeros(len(pairs), dtype=bool)
    by_copy_P, by_change_P = of_one_P.copy(), of_one_P.copy()
    for item, other in ((first, second), (second, first)):
        other_class = np.where(wrong_N[other], right_N[other], same_N[other])
        fits_P = wrong_N[item] & ((right_N[item] == same_N[other]) | (right_N[item] == other_class))
        of_one_P |= fits_P
        by_copy_P |= fits_P & (found.twin_difference_N[item] == 0)
        by_change_P |= fits_P & (found.twin_difference_N[item] > 0)
    beyond_P = 1 - np.searchsorted(found.random_R, pairs.similarity_P, side="left") / max(1, len(found.random_R))
    saturated_P = (pairs.similarity_P >= SATURATED_SIMILARITY) & (beyond_P >= SATURATED_SHARE)
    # One number for each two classes, in either order.
    low_P, high_P = np.minimum(same_N[first], same_N[second]), np.maximum(same_N[first], same_N[second])
    num, split_2S = len(found.same_C), found.split_2S
    split_P = np.isin(low_P * num + high_P, split_2S[0] * num + split_2S[1])
    tests: dict[Cause, Bools] = {
        "same-picture": equal_P & (pairs.same_P | has_gallery),
        "low-information": poor_N[first] | poor_N[second],
        "duplicate-pictures": equal_P | (joined_N[first] == joined_N[second]) | by_copy_P,
        "near-duplicates": (same_N[first] == same_N[second]) | by_change_P,
        "label-errors": of_one_P,
        "perhaps-one-class": split_P,
        "hubs": found.hub_N[first] | found.hub_N[second],
        "saturated": saturated_P,
        "look-alikes": np.ones(len(pairs), dtype=bool),
    }
    cause_P = np.full(len(pairs), -1, dtype=np.int64)
    for number, cause in enumerate(CAUSES):
        chosen = (cause_P < 0) & tests[cause]
        cause_P[chosen if cause == "same-picture" else chosen & ~pairs.same_P] = number
    return cause_P


def _join_by_likeness(
    pairs: TopPairs,
    class_N: Index,
    picture_N: Index,
    joined_C: Index,
    pictures_NHWC: npt.NDArray[np.uint8],
    poor_N: Bools,
) -> Index:
    """Return `joined_C` with classes joined, too, whose pictures among these pairs are equal but for a trifle."""
    joined_N = joined_C[class_N]
    first, second = pairs.first_P, pairs.second_P
    differ_P = (joined_N[first] != joined_N[second]) & (picture_N[first] != picture_N[second])
    rows = np.flatnonzero(differ_P & ~poor_N[first] & ~poor_N[second])
    difference = picture_difference(pictures_NHWC, first[rows], second[rows])
    near = rows[difference <= SAME_DIFFERENCE]
    exact = twins_by_number(joined_N, picture_N)
    again_C = join_classes(
        joined_N, picture_N, np.concatenate([exact[0], first[near]]), np.concatenate([exact[1], second[near]])
    )
    same_C: Index = again_C[joined_C]
    return same_C


def _find_twins(
    wrong_N: Bools,
    right_N: Index,
    twin_N: Index,
    difference_N: Float64,
    same_N: Index,
    picture_N: Index,
    neighbours_NK: Index,
    pictures_NHWC: npt.NDArray[np.uint8],
) -> None:
    """Find the picture that each wrongly labelled one is a copy of, and take its class for the right one."""
    items = np.flatnonzero(wrong_N)
    first: list[int] = []
    second: list[int] = []
    for item in items.tolist():
        near = neighbours_NK[item]
        near = near[(near >= 0) & (same_N[near] != same_N[item]) & ~wrong_N[near]]
        equal = near[picture_N[near] == picture_N[item]]
        if len(equal):
            twin_N[item], difference_N[item] = equal[0], 0.0
            right_N[item] = same_N[equal[0]]
            continue
        first += [item] * len(near[:_NUM_COMPARED])
        second += near[:_NUM_COMPARED].tolist()
    one, other = np.array(first, dtype=np.int64), np.array(second, dtype=np.int64)
    difference = picture_difference(pictures_NHWC, one, other)
    for place in np.argsort(-difference, kind="stable").tolist():  # the most alike comes last and stays
        if difference[place] <= COPY_DIFFERENCE:
            item = one[place]
            twin_N[item], difference_N[item] = other[place], max(float(difference[place]), 1e-9)
            right_N[item] = same_N[other[place]]


def _nearest_class(wrong_N: Bools, same_N: Index, neighbours_NK: Index) -> Index:
    """Return the class of the nearest neighbour of another class whose own label is not wrong, -1 for right labels."""
    trusted_NK = (neighbours_NK >= 0) & ~wrong_N[neighbours_NK] & (same_N[neighbours_NK] != same_N[:, None])
    nearest_N = neighbours_NK[np.arange(len(same_N)), trusted_NK.argmax(axis=1)]
    wrong_N &= trusted_NK.any(axis=1)
    return np.where(wrong_N, same_N[nearest_N], -1)


def _spare(same_N: Index, picture_N: Index, wrong_N: Bools, right_N: Index, doubt: LabelDoubt) -> tuple[Bools, Index]:
    """Return which items' pictures are under another class, too, that they fit better, and the item that stays."""
    class_N = np.where(wrong_N, right_N, same_N)
    fit_N = np.where(wrong_N, doubt.rival_fit_N, doubt.own_fit_N)
    fit_N = np.where(np.isnan(fit_N), -np.inf, fit_N)
    order = np.lexsort((-fit_N, wrong_N, picture_N))  # of one picture the item whose label is right comes first
    leader = np.append(True, picture_N[order][1:] != picture_N[order][:-1])
    best = order[np.maximum.accumulate(np.where(leader, np.arange(len(order)), 0))]
    leader_N = np.empty_like(order)
    leader_N[order] = best
    spare_N = (class_N != class_N[leader_N]) | (wrong_N & (leader_N != np.arange(len(order))))
    return spare_N & (same_N != class_N[leader_N]), leader_N
