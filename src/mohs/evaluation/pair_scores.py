"""How close two items are: a distance or a similarity, said by name, so that the two cannot be taken for each other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, final

import numpy as np
import numpy.typing as npt

from mohs.checks import numbers, plain_array, require, wrong_whole
from mohs.errors import InputError
from mohs.evaluation.checked import Bools, Float64, Index
from mohs.evaluation.intervals import fold_of_class, pairs_of_fold

__all__ = ["PairScores", "ScoreHistogram", "ScoreKind", "folds_of", "pair_scores", "score_histogram"]


ScoreKind: TypeAlias = Literal["distance", "similarity"]

_FEWEST_NEGATIVES = 10


@final
@dataclass(frozen=True, eq=False)
class PairScores:
    """Checked scores of P pairs, of both kinds of pair.

    Attributes:
        value_P: float64 [P], as given.
        kind: "distance", smaller is closer, or "similarity", larger is closer.
        same_P: bool [P], whether both items are of one class (a *positive* pair).
        weight_P: float64 [P], above 0: how many pairs of the population each stands for.
    """

    value_P: Float64
    kind: ScoreKind
    same_P: Bools
    weight_P: Float64

    @property
    def closeness(self) -> Float64:
        """The similarity, or the distance with its sign turned: larger is closer."""
        return self.value_P if self.kind == "similarity" else -self.value_P

    def in_units(self, closeness: float) -> float:
        """Return a closeness as a value of the kind that was given."""
        return float(closeness if self.kind == "similarity" else -closeness)

    @property
    def prevalence(self) -> float:
        """The share of positive pairs, by weight."""
        return float(self.weight_P[self.same_P].sum() / self.weight_P.sum())

    def taken(self, which_P: Bools | Index) -> "PairScores":
        """Return the pairs where a mask is true, or those of these places."""
        return PairScores(self.value_P[which_P], self.kind, self.same_P[which_P], self.weight_P[which_P])

    def weights_at(self, prevalence: float) -> Float64:
        """Return weights, float64 [P], of which those of positive pairs add up to the prevalence, all of them to 1."""
        weight_P = self.weight_P.copy()
        weight_P[self.same_P] *= prevalence / weight_P[self.same_P].sum()
        weight_P[~self.same_P] *= (1 - prevalence) / weight_P[~self.same_P].sum()
        return weight_P

    def closest_negatives(self, fprs: Sequence[float]) -> list[tuple[float, str]]:
        """Return for each FPR how many negative pairs it rests on, and why these are too few ("" if they are not).

        The closest negative pairs that make up that share by weight count as (Σw)²/Σw² (Kish 1965), that is, with
        equal weights, each as one. Ten are needed.
        """
        negative_S = np.flatnonzero(~self.same_P)
        weight_S = self.weight_P[negative_S[np.argsort(-self.closeness[negative_S], kind="stable")]]
        sum_S, square_sum_S = np.cumsum(weight_S), np.cumsum(np.square(weight_S))
        found = []
        for fpr in fprs:
            last = int(np.searchsorted(sum_S, fpr * sum_S[-1] * (1 + 1e-9), side="right")) - 1
            effective = float(sum_S[last] ** 2 / square_sum_S[last]) if last >= 0 else 0.0
            enough = round(effective, 6) >= _FEWEST_NEGATIVES
            reason = (
                f"the negative pairs at a false positive rate of {fpr:g} count as {effective:.3g} "
                f"({len(weight_S):,} were looked at); {_FEWEST_NEGATIVES} are needed"
            )
            found.append((effective, "" if enough else reason))
        return found


def pair_scores(
    same_P: npt.ArrayLike,
    *,
    distance_P: npt.ArrayLike | None = None,
    similarity_P: npt.ArrayLike | None = None,
    weight_P: npt.ArrayLike | None = None,
    both_kinds: bool = True,
) -> PairScores:
    """Return checked scores of pairs; give exactly one of `distance_P` and `similarity_P`.

    Args:
        same_P: bool [P] (or integers 0 and 1): whether the pair is of one class.
        distance_P: numbers [P], at least 0, smaller is closer (`mohs.distances`).
        similarity_P: numbers [P], larger is closer.
        weight_P: numbers [P] above 0, how many pairs each stands for; none: 1 each.
        both_kinds: whether pairs of one kind only are refused.

    Raises:
        InputError: both or neither given, lengths that differ, NaN or Inf, a negative distance, a weight that is not
            above 0, no pair of one class, or none of two.

    >>> pair_scores([True, False], distance_P=[0.5, 1.0]).closeness.tolist()
    [-0.5, -1.0]
    >>> pair_scores([True, False], distance_P=[-0.5, 1.0])
    Traceback (most recent call last):
    mohs.errors.InputError: distance_P: -0.5 of pair 0 is negative (1 in all); is it a similarity_P?
    """
    if (distance_P is None) == (similarity_P is None):
        given = "neither is" if distance_P is None else "both are"
        raise InputError(
            f"distance_P, similarity_P: {given} given; give distance_P if smaller is closer, similarity_P if larger is"
        )
    kind: ScoreKind = "similarity" if distance_P is None else "distance"
    name = f"{kind}_P"
    same = _flags(same_P)
    value = _numbers(similarity_P if distance_P is None else distance_P, name, len(same))
    weight = np.ones(len(same)) if weight_P is None else _numbers(weight_P, "weight_P", len(same))
    _refuse(kind == "distance", value < 0, value, name, "negative", "is it a similarity_P?")
    _refuse(True, weight <= 0, weight, "weight_P", "not above 0", "leave the pair out")
    if both_kinds and (same.all() or not same.any()):
        one, other = ("two classes", "one class") if same.all() else ("one class", "two classes")
        raise InputError(f"same_P: all {len(same)} pairs are of {other}; add pairs of {one}")
    return PairScores(value, kind, same, weight)


def _flags(values: npt.ArrayLike) -> Bools:
    array = plain_array("same_P", values)
    if array.ndim != 1 or not len(array):
        raise InputError(f"same_P: shape {array.shape}; give one flag for each pair, and at least one pair")
    if array.dtype.kind in "iu" and np.isin(array, (0, 1)).all():
        return array.astype(bool)
    if array.dtype != np.bool_:
        raise InputError(f"same_P: type {array.dtype} is not bool; give True for a pair of one class, False for two")
    return array


def _numbers(values: Any, name: str, num_pairs: int) -> Float64:
    array = numbers(name, values)
    if array.shape != (num_pairs,):
        raise InputError(
            f"{name}: shape {array.shape} and type {array.dtype}; give one number for each of the {num_pairs} pairs"
        )
    array = array.astype(np.float64)
    _refuse(True, ~np.isfinite(array), array, name, "not finite", "leave the pair out, or embed its items again")
    return array


def _refuse(applies: bool, bad_P: Bools, value_P: Float64, name: str, what: str, fix: str) -> None:
    if applies and bad_P.any():
        first = int(np.flatnonzero(bad_P)[0])
        raise InputError(f"{name}: {value_P[first]:g} of pair {first} is {what} ({int(bad_P.sum())} in all); {fix}")


@final
@dataclass(frozen=True, eq=False)
class ScoreHistogram:
    """Shares of the pairs of each kind in B bins of scores.

    Attributes:
        kind: "distance" or "similarity".
        edges: float64 [B + 1], evenly from the smallest to the largest score.
        positive: share of the positive pairs in each bin, float64 [B], adding up to 1.
        negative: share of the negative pairs, likewise.
    """

    kind: ScoreKind
    edges: Float64
    positive: Float64
    negative: Float64

    def as_record(self) -> dict[str, Any]:
        """Return the numbers as JSON values."""
        return {
            "kind": self.kind,
            "edges": self.edges.tolist(),
            "positive": self.positive.tolist(),
            "negative": self.negative.tolist(),
        }


def folds_of(
    scores: PairScores, class_2P: Index, num_folds: int, *, seed: int
) -> Iterator[tuple[PairScores, PairScores]]:
    """Yield for each fold of the classes (`fold_of_class`) the pairs without a class of it, and its own pairs.

    Raises `InputError` for too few classes for the folds, and for a fold without negative pairs.
    """
    fold_C = fold_of_class(class_2P, scores.same_P, num_folds, seed=seed)
    for fold in range(num_folds):
        others_P, own_P = pairs_of_fold(class_2P, fold_C, fold)
        own = scores.taken(own_P)
        if own.same_P.all():
            raise InputError(
                f"num_folds: fold {fold} of {num_folds} has no negative pair; use fewer folds or more negative pairs"
            )
        yield scores.taken(others_P), own


def score_histogram(scores: PairScores, *, num_bins: int = 60) -> ScoreHistogram:
    """Return the histogram of both kinds; pairs count by weight. Raises `InputError` for fewer than one bin.

    If all scores are the same, the bins span ½ below and above it.
    """
    require(wrong_whole("num_bins", num_bins, example=60))
    edges = np.histogram_bin_edges(scores.value_P, bins=num_bins)
    positive, negative = (
        np.histogram(scores.value_P[kind_P], bins=edges, weights=scores.weight_P[kind_P])[0]
        for kind_P in (scores.same_P, ~scores.same_P)
    )
    return ScoreHistogram(scores.kind, edges, positive / positive.sum(), negative / negative.sum())
