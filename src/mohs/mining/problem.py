"""What is to be mined, checked once: every method starts from the same arrays."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, final, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mohs.distances import exact_distance, unit_rows
from mohs.errors import InputError
from mohs.hardness.scales import SCALES, Scale, ScaleRule, rule_of
from mohs.mining.exclusions import Exclusions, make_exclusions
from mohs.mining.stored import StoredBank, stored_bank

__all__ = ["Metric", "Problem", "distances_of", "item_indices", "make_problem", "pair_distance"]

Metric: TypeAlias = Literal["euclidean", "cosine"]

_PAIR_VALUES = 2**16
"""Numbers of one side of a piece of pairs: 512 KiB in float64, so that what is computed of them stays in the cache."""


@final
@dataclass(frozen=True, eq=False)
class Problem:
    """Checked inputs of one mining run.

    Attributes:
        bank_ND: the embeddings, as given or, for the metric "cosine", divided by their norms, N rows of D.
        labels_N: as given, an array of strings or integers.
        class_N: class numbers 0 … C − 1 in the order of the sorted labels, int64[N].
        candidates_M: the items that may be negatives, by (class, item index), int64[M].
        class_start_C1: the candidates of class c are `candidates_M[class_start_C1[c] : class_start_C1[c + 1]]`,
            int64[C + 1].
        anchors_T, hardness_T: int64[T] and float64[T].
        num_negatives_T: an anchor's negatives: candidates outside its class that are not excluded, int64[T], at least
            `num_wanted`.
        num_wanted: negatives to find for an anchor, `num_negatives` of `mohs.mine`.
        exclusions: pairs that are ruled out.
        scale, margin, squared, metric: as in `mohs.mine`.
    """

    bank_ND: StoredBank
    labels_N: NDArray[np.generic]
    class_N: NDArray[np.int64]
    candidates_M: NDArray[np.int64]
    class_start_C1: NDArray[np.int64]
    anchors_T: NDArray[np.int64]
    hardness_T: NDArray[np.float64]
    num_negatives_T: NDArray[np.int64]
    num_wanted: int
    exclusions: Exclusions
    scale: Scale
    margin: float | None
    squared: bool
    metric: Metric

    @property
    def rule(self) -> ScaleRule:
        """What the scale is."""
        return rule_of(self.scale)


def make_problem(
    embeddings_ND: ArrayLike,
    labels_N: ArrayLike,
    *,
    anchors_T: ArrayLike,
    hardness_T: ArrayLike,
    scale: Scale,
    candidates: ArrayLike | None,
    margin: float | None,
    squared: bool,
    num_negatives: int = 1,
    excluded_pairs: ArrayLike | None = None,
    metric: Metric = "euclidean",
) -> Problem:
    """Return the checked inputs; raise `InputError` for what `mohs.mine` refuses."""
    if scale not in SCALES:
        raise InputError(f"scale: {scale!r} is not one of {', '.join(map(repr, SCALES))}")
    _check_margin(scale, margin, squared)
    if metric not in get_args(Metric):
        raise InputError(f"metric: {metric!r} is not one of {', '.join(map(repr, get_args(Metric)))}")
    num_wanted = _num_wanted(num_negatives)
    bank = StoredBank(unit_rows(embeddings_ND), is_mapped=False) if metric == "cosine" else stored_bank(embeddings_ND)
    labels = _labels(labels_N, len(bank))
    anchors = item_indices("anchors_T", anchors_T, len(bank))
    if not anchors.size:
        raise InputError("anchors_T: is empty; give at least one anchor")
    hardness = _hardness(hardness_T, len(anchors))
    names_C, class_N = np.unique(labels, return_inverse=True)
    if len(names_C) < 2:
        raise InputError(
            f"labels_N: all {len(labels)} items are of class {_name(names_C[0])}; give at least two classes"
        )

    candidates_M = _candidates(candidates, len(bank))
    candidates_M = candidates_M[np.argsort(class_N[candidates_M], kind="stable")]
    count_C = np.bincount(class_N[candidates_M], minlength=len(names_C))
    num_others_T = len(candidates_M) - count_C[class_N[anchors]]
    without = np.flatnonzero(num_others_T == 0)
    if without.size:
        first = anchors[without[0]]
        raise InputError(
            f"candidates: anchor {first} (position {without[0]}) of class {_name(labels[first])} has no negative: none "
            f"of the {len(candidates_M)} candidates is of another class ({without.size} such anchors); add candidates "
            "of other classes or leave these anchors out"
        )
    exclusions = make_exclusions(excluded_pairs, class_N, candidates_M)
    num_negatives_T = num_others_T - exclusions.counts(anchors)
    _check_enough(anchors, labels, num_others_T, num_negatives_T, num_wanted)
    return Problem(
        bank_ND=bank,
        labels_N=labels,
        class_N=class_N,
        candidates_M=candidates_M,
        class_start_C1=np.concatenate([[0], np.cumsum(count_C)]),
        anchors_T=anchors,
        hardness_T=hardness,
        num_negatives_T=num_negatives_T,
        num_wanted=num_wanted,
        exclusions=exclusions,
        scale=scale,
        margin=None if margin is None else float(margin),
        squared=bool(squared),
        metric=metric,
    )


def pair_distance(problem: Problem, other_T: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the exact distance of each anchor to the item beside it, float32[T], piece by piece in the cache."""
    bank, anchors_T = problem.bank_ND, problem.anchors_T
    distance_T = np.empty(len(other_T), dtype=np.float32)
    num_pairs = max(1, _PAIR_VALUES // bank.shape[1])
    for start in range(0, len(other_T), num_pairs):
        piece = slice(start, start + num_pairs)
        distance_T[piece] = exact_distance(bank[anchors_T[piece]], bank[other_T[piece]])
    return distance_T


def distances_of(problem: Problem, item_TK: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the exact distances of each anchor to the items in its row, float32[T, K]."""
    return np.stack([pair_distance(problem, np.ascontiguousarray(item_T)) for item_T in item_TK.T], axis=1)


def item_indices(name: str, values: ArrayLike, num_items: int) -> NDArray[np.int64]:
    """Return `values` as int64[T], all in [0, N)."""
    array = np.asarray(values)
    if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
        raise InputError(f"{name}: {array.dtype}{list(array.shape)} is not a list of item indices; give integers [T]")
    outside = np.flatnonzero((array < 0) | (array >= num_items))
    if outside.size:
        raise InputError(
            f"{name}: {array[outside[0]]} at position {outside[0]} is not an item index in [0, {num_items}) "
            f"({outside.size} such values)"
        )
    return array.astype(np.int64)


def _labels(labels_N: ArrayLike, num_items: int) -> NDArray[np.generic]:
    labels = np.asarray(labels_N)
    if labels.shape != (num_items,):
        raise InputError(
            f"labels_N: shape {labels.shape} does not match {num_items} embeddings; give one label per row"
        )
    if labels.dtype.kind == "O":
        labels = labels.astype(str)
    if labels.dtype.kind not in "iubUST":
        raise InputError(f"labels_N: {labels.dtype} is neither text nor whole numbers; give class names or numbers")
    return labels


def _hardness(hardness_T: ArrayLike, num_anchors: int) -> NDArray[np.float64]:
    hardness = np.asarray(hardness_T, dtype=np.float64)
    if hardness.shape not in ((), (num_anchors,)):
        raise InputError(
            f"hardness_T: shape {hardness.shape} does not match {num_anchors} anchors; give one, or one per anchor"
        )
    hardness = np.broadcast_to(hardness, num_anchors)
    bad = np.flatnonzero(~((hardness >= 0.0) & (hardness <= 1.0)))
    if bad.size:
        raise InputError(
            f"hardness_T: {hardness[bad[0]]} at position {bad[0]} is not in [0, 1] ({bad.size} such values); "
            "hardness runs from 0 (easiest) to 1 (hardest)"
        )
    return hardness


def _candidates(candidates: ArrayLike | None, num_items: int) -> NDArray[np.int64]:
    if candidates is None:
        return np.arange(num_items)
    array = np.asarray(candidates)
    if array.dtype == bool:
        if array.shape != (num_items,):
            raise InputError(f"candidates: bool mask of shape {array.shape} is not [{num_items}]; give one per item")
        array = np.flatnonzero(array)
    array = np.unique(item_indices("candidates", array, num_items))
    if not array.size:
        raise InputError("candidates: none is left; allow at least one item to be a negative")
    return array


def _num_wanted(num_negatives: int) -> int:
    whole = isinstance(num_negatives, (int, np.integer)) and not isinstance(num_negatives, bool)
    if not whole or num_negatives < 1:
        raise InputError(
            f"num_negatives: {num_negatives!r} is not an integer of at least 1; use for example num_negatives=4"
        )
    return int(num_negatives)


def _check_enough(
    anchors_T: NDArray[np.int64],
    labels_N: NDArray[np.generic],
    num_others_T: NDArray[np.int64],
    num_negatives_T: NDArray[np.int64],
    num_wanted: int,
) -> None:
    """Refuse anchors that exclusions leave without any negative, or with fewer than are wanted."""
    without = np.flatnonzero(num_negatives_T == 0)
    if without.size:
        first = anchors_T[without[0]]
        raise InputError(
            f"excluded_pairs: anchor {first} (position {without[0]}) of class {_name(labels_N[first])} has no negative "
            f"left: the excluded pairs take all {num_others_T[without[0]]} of them ({without.size} such anchors); "
            "exclude fewer, add candidates of other classes or leave these anchors out"
        )
    few = np.flatnonzero(num_negatives_T < num_wanted)
    if few.size:
        first = anchors_T[few[0]]
        raise InputError(
            f"num_negatives: anchor {first} (position {few[0]}) of class {_name(labels_N[first])} has only "
            f"{num_negatives_T[few[0]]} negatives of the {num_wanted} asked for ({few.size} such anchors); ask for "
            "fewer, add candidates of other classes or leave these anchors out"
        )


def _check_margin(scale: Scale, margin: float | None, squared: bool) -> None:
    if rule_of(scale).needs != "margin":
        if margin is not None or squared:
            raise InputError(f"margin, squared: have no meaning on the scale {scale!r}; leave them out")
    elif margin is None:
        raise InputError(f"margin: the scale {scale!r} needs the loss's margin; use for example margin=0.2")
    elif not (np.isfinite(margin) and margin > 0):
        raise InputError(f"margin: {margin!r} is not a positive number; use for example 0.2")


def _name(label: np.generic) -> str:
    return repr(label.item())
