"""What is to be mined, checked once: every method starts from the same arrays."""

from dataclasses import dataclass, replace
from typing import TypeAlias, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mohs.checks import class_labels, item_indices, numbers, plain_array
from mohs.distances import exact_distance, unit_rows
from mohs.errors import InputError, Problem
from mohs.hardness.scales import Scale, ScaleRule, rule_of
from mohs.mining.exclusions import Exclusions, make_exclusions
from mohs.mining.options import Metric
from mohs.mining.stored import StoredBank, shard_bank, stored_bank
from mohs.shards import RowsInPieces

__all__ = ["Float32", "Float64", "Index", "MiningProblem", "distances_of", "make_problem", "pair_distance"]

Index: TypeAlias = NDArray[np.int64]
Float32: TypeAlias = NDArray[np.float32]
Float64: TypeAlias = NDArray[np.float64]

_PAIR_VALUES = 2**16
"""Numbers of one side of a piece of pairs: 512 KiB in float64, so that what is computed of them stays in the cache."""

_SHARD_PAIR_VALUES = 2**23
"""The same for a bank in shards, 32 MiB in float32: each piece opens every shard."""


@final
@dataclass(frozen=True, eq=False)
class MiningProblem:
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
    class_N: Index
    candidates_M: Index
    class_start_C1: Index
    anchors_T: Index
    hardness_T: Float64
    num_negatives_T: Index
    num_wanted: int
    exclusions: Exclusions
    scale: Scale
    margin: float | None
    squared: bool
    metric: Metric

    def part(self, positions: Index) -> "MiningProblem":
        """Return the same problem for the anchors at these positions only."""
        columns = {name: getattr(self, name)[positions] for name in ("anchors_T", "hardness_T", "num_negatives_T")}
        return replace(self, **columns)

    @property
    def rule(self) -> ScaleRule:
        """What the scale is."""
        return rule_of(self.scale)


@final
@dataclass(frozen=True, eq=False)
class Hardness:
    """How hard the negative of each anchor is to be, number(s) in [0, 1], and what that means: see `mohs.mine`."""

    hardness_T: ArrayLike
    scale: Scale
    margin: float | None = None
    squared: bool = False


def make_problem(
    embeddings_ND: ArrayLike | RowsInPieces,
    labels_N: ArrayLike,
    *,
    anchors_T: ArrayLike,
    wanted: Hardness,
    candidates: ArrayLike | None = None,
    num_negatives: int = 1,
    excluded_pairs: ArrayLike | None = None,
    metric: Metric = "euclidean",
) -> MiningProblem:
    """Return the checked inputs; raise `InputError` for data that `mohs.mine` refuses (options: `options.py`)."""
    if isinstance(embeddings_ND, RowsInPieces):
        bank = shard_bank(embeddings_ND, divides=metric == "cosine")
    elif metric == "cosine":
        bank = StoredBank(unit_rows(embeddings_ND), is_mapped=False)
    else:
        bank = stored_bank(embeddings_ND)
    labels = class_labels("labels_N", labels_N, len(bank))
    anchors = item_indices("anchors_T", anchors_T, len(bank))
    if not anchors.size:
        raise InputError(Problem("anchors_T", "is empty", "give at least one anchor"))
    hardness = _hardness(wanted.hardness_T, len(anchors))
    names_C, class_N = np.unique(labels, return_inverse=True)
    if len(names_C) < 2:
        what = f"all {len(labels)} items are of class {names_C[0].item()!r}"
        raise InputError(Problem("labels_N", what, "give at least two classes"))

    candidates_M = _candidates(candidates, len(bank))
    candidates_M = candidates_M[np.argsort(class_N[candidates_M], kind="stable")]
    count_C = np.bincount(class_N[candidates_M], minlength=len(names_C))
    num_others_T = len(candidates_M) - count_C[class_N[anchors]]
    exclusions = make_exclusions(excluded_pairs, class_N, candidates_M)
    problem = MiningProblem(
        bank_ND=bank,
        labels_N=labels,
        class_N=class_N,
        candidates_M=candidates_M,
        class_start_C1=np.concatenate([[0], np.cumsum(count_C)]),
        anchors_T=anchors,
        hardness_T=hardness,
        num_negatives_T=num_others_T - exclusions.counts(anchors),
        num_wanted=int(num_negatives),
        exclusions=exclusions,
        scale=wanted.scale,
        margin=None if wanted.margin is None else float(wanted.margin),
        squared=bool(wanted.squared),
        metric=metric,
    )
    _check_enough(problem, num_others_T)
    return problem


def pair_distance(problem: MiningProblem, other_T: Index) -> Float32:
    """Return the exact distance of each anchor to the item beside it, float32[T], piece by piece."""
    bank, anchors_T = problem.bank_ND, problem.anchors_T
    distance_T = np.empty(len(other_T), dtype=np.float32)
    num_pairs = max(1, (_PAIR_VALUES if bank.shards is None else _SHARD_PAIR_VALUES) // bank.shape[1])
    for start in range(0, len(other_T), num_pairs):
        piece = slice(start, start + num_pairs)
        distance_T[piece] = exact_distance(bank[anchors_T[piece]], bank[other_T[piece]])
    return distance_T


def distances_of(problem: MiningProblem, item_TK: Index) -> Float32:
    """Return the exact distances of each anchor to the items in its row, float32[T, K]."""
    return np.stack([pair_distance(problem, np.ascontiguousarray(item_T)) for item_T in item_TK.T], axis=1)


def _hardness(hardness_T: ArrayLike, num_anchors: int) -> Float64:
    hardness = numbers("hardness_T", hardness_T).astype(np.float64)
    if hardness.shape not in ((), (num_anchors,)):
        what = f"shape {hardness.shape} does not match {num_anchors} anchors"
        raise InputError(Problem("hardness_T", what, "give one, or one per anchor"))
    hardness = np.broadcast_to(hardness, num_anchors)
    bad = np.flatnonzero(~((hardness >= 0.0) & (hardness <= 1.0)))
    if bad.size:
        what = f"{hardness[bad[0]]} at position {bad[0]} is not in [0, 1] ({bad.size} such values)"
        raise InputError(Problem("hardness_T", what, "hardness runs from 0 (easiest) to 1 (hardest)"))
    return hardness


def _candidates(candidates: ArrayLike | None, num_items: int) -> Index:
    if candidates is None:
        return np.arange(num_items)
    array = plain_array("candidates", candidates)
    if array.dtype == bool:
        if array.shape != (num_items,):
            what = f"bool mask of shape {array.shape} is not [{num_items}]"
            raise InputError(Problem("candidates", what, "give one per item"))
        array = np.flatnonzero(array)
    array = np.unique(item_indices("candidates", array, num_items))
    if not array.size:
        raise InputError(Problem("candidates", "none is left", "allow at least one item to be a negative"))
    return array


def _check_enough(p: MiningProblem, num_others_T: Index) -> None:
    """Refuse anchors that have fewer negatives than are wanted, or none: for want of candidates, or by exclusions."""
    fix = "add candidates of other classes or leave these anchors out"
    # The first rule that some anchor breaks is told.
    short_T3 = num_others_T == 0, p.num_negatives_T == 0, p.num_negatives_T < p.num_wanted
    few = next((np.flatnonzero(short_T) for short_T in short_T3 if short_T.any()), None)
    if few is None:
        return
    t, such = few[0], f"({few.size} such anchors)"
    anchor = f"anchor {p.anchors_T[t]} (position {t}) of class {p.labels_N[p.anchors_T[t]].item()!r}"
    if not num_others_T[t]:
        what = f"{anchor} has no negative: none of the {len(p.candidates_M)} candidates is of another class {such}"
        raise InputError(Problem("candidates", what, fix))
    if not p.num_negatives_T[t]:
        what = f"{anchor} has no negative left: the excluded pairs take all {num_others_T[t]} of them {such}"
        raise InputError(Problem("excluded_pairs", what, f"exclude fewer, {fix}"))
    what = f"{anchor} has only {p.num_negatives_T[t]} negatives of the {p.num_wanted} asked for {such}"
    raise InputError(Problem("num_negatives", what, f"ask for fewer, {fix}"))
