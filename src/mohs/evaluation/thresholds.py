"""Thresholds chosen for a wanted precision or false positive rate, and what they do on classes not chosen on."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, final

import numpy as np

from mohs.checks import require, wrong_number
from mohs.evaluation.checked import Index
from mohs.evaluation.intervals import Interval, share_interval
from mohs.evaluation.pair_noise import AcceptedShares, PairNoise
from mohs.evaluation.pair_scores import PairScores, folds_of
from mohs.evaluation.ranked_pairs import RankedPairs, Rates
from mohs.randomness import generator

__all__ = [
    "BestThreshold",
    "Level",
    "Wanted",
    "best_threshold",
    "chosen_farness",
    "cross_fitted",
    "joined_ends",
    "reached_ends",
    "safe_farness",
    "shares_at",
]


Wanted: TypeAlias = Literal["precision", "false positive rate"]
Level: TypeAlias = tuple[Wanted, float]

_NUM_FOLDS = 10
_NUM_CANDIDATES = 200


def chosen_farness(ranked: RankedPairs, rates: Rates | None, level: Level, prevalence: float) -> float:
    """Return the loosest farness that keeps what is wanted on these pairs; NaN if none does."""
    wanted, value = level
    if rates is None:
        return np.nan
    if wanted == "false positive rate":
        return ranked.farness_at_fpr(rates, value)
    u = rates.last_with_precision(value, prevalence)
    return float(ranked.farness_U[u]) if u >= 0 else np.nan


def shares_at(ranked: RankedPairs, noise: PairNoise, farness: float) -> AcceptedShares:
    """Return what is accepted at a farness, with its noise."""
    u = int(np.searchsorted(ranked.farness_U, farness, side="right"))
    positive = int(ranked.last_U[u - 1]) + 1 if u else 0
    return noise.accepted(slice(positive), slice(int(np.searchsorted(ranked.negative_farness_S, farness, "right"))))


def reached_ends(shares: AcceptedShares, wanted: Wanted, prevalence: float) -> Interval | None:
    """Return the 95% interval of what is wanted; None if there is nothing to tell it by."""
    return shares.precision_ends(prevalence) if wanted == "precision" else shares.fpr_ends


def cross_fitted(
    ranked: RankedPairs, noise: PairNoise, levels: Sequence[Level], prevalence: float, *, seed: int
) -> list[AcceptedShares]:
    """Return what thresholds accept on classes that they were not chosen on, for each level.

    Classes are dealt to 10 folds (those with a positive pair first, so that each has its part of them). A pair is
    accepted by the threshold that is chosen without the folds of its two classes: so every pair is measured, and none
    by a threshold that it, or another pair of one of its classes, had a part in.
    """
    with_positive = np.unique(ranked.positive_class_R)
    others = np.setdiff1d(np.arange(ranked.num_classes), with_positive)
    random = generator(seed, "threshold folds")
    order = np.concatenate([random.permutation(with_positive), random.permutation(others)])
    fold_C = np.empty(ranked.num_classes, dtype=np.int64)
    fold_C[order] = np.arange(ranked.num_classes) % _NUM_FOLDS
    scratch_3S = ranked.scratch()
    farness_LKK = np.full((len(levels), _NUM_FOLDS, _NUM_FOLDS), -np.inf)
    for k in range(_NUM_FOLDS):
        for j in range(k + 1):
            rates = ranked.rates(((fold_C != k) & (fold_C != j)).astype(np.float64), scratch_3S)
            farness_L = np.array([chosen_farness(ranked, rates, level, prevalence) for level in levels])
            # Without a threshold nothing is accepted.
            farness_LKK[:, k, j] = farness_LKK[:, j, k] = np.where(np.isnan(farness_L), -np.inf, farness_L)
    fold_R, fold_2S = fold_C[ranked.positive_class_R], fold_C[ranked.negative_class_2S]
    farness_R = np.repeat(ranked.farness_U, np.diff(ranked.last_U, prepend=-1))
    return [
        noise.accepted(
            farness_R <= farness_KK[fold_R, fold_R], ranked.negative_farness_S <= farness_KK[fold_2S[0], fold_2S[1]]
        )
        for farness_KK in farness_LKK
    ]


def safe_farness(
    ranked: RankedPairs, noise: PairNoise, rates: Rates, level: Level, prevalence: float
) -> tuple[float, AcceptedShares] | None:
    """Return the loosest farness whose 95% interval keeps what is wanted, with what it accepts; None if none does.

    The lower end of the precision must not be below the level, or the upper end of the false positive rate above it.
    Looked at are 200 farnesses of positive pairs, evenly among those that keep it without an interval.
    """
    wanted, value = level
    kept_U = rates.precision(prevalence) >= value if wanted == "precision" else rates.fpr_U <= value
    candidates: Index = np.flatnonzero(kept_U)
    if len(candidates) > _NUM_CANDIDATES:
        candidates = candidates[np.linspace(0, len(candidates) - 1, _NUM_CANDIDATES).astype(np.int64)]
    for farness in ranked.farness_U[candidates[::-1]].tolist():
        shares = shares_at(ranked, noise, farness)
        ends = reached_ends(shares, wanted, prevalence)
        if ends is not None and (ends[0] >= value if wanted == "precision" else ends[1] <= value):
            return farness, shares
    return None


def joined_ends(first: Interval | None, second: Interval | None) -> Interval | None:
    """Return the interval that holds both; None if one is not known."""
    if first is None or second is None:
        return None
    return min(first[0], second[0]), max(first[1], second[1])


# Of `share_interval`: the least that holds (benchmarks/coverage_pairs.py).
_PRIOR_CLASSES = 1.0


@final
@dataclass(frozen=True)
class BestThreshold:
    """The threshold of best accuracy, and the accuracy to expect of it.

    Attributes:
        accuracy: mean over the folds of the accuracy at the threshold chosen without the fold.
        standard_error: of that mean: standard deviation of the folds' accuracies / √folds.
        interval: 95%, of the accuracy: `share_interval` with that error and Student's t of one degree of freedom less
            than there are folds. ±1.96 standard errors hold the truth in 86 to 91% of the cases only.
        threshold: chosen on all pairs; the one to use.
        prevalence: share of positive pairs that the accuracy is for; 0.5 on LFW.
        fold_accuracy: of each fold.
        fold_threshold: chosen without each fold.
        num_left_out: pairs between classes of two folds, that no fold was measured on.
    """

    accuracy: float
    standard_error: float
    interval: tuple[float, float]
    threshold: float
    prevalence: float
    fold_accuracy: tuple[float, ...]
    fold_threshold: tuple[float, ...]
    num_left_out: int

    def as_record(self) -> dict[str, Any]:
        """Return the numbers as JSON values."""
        return asdict(self)


def best_threshold(
    scores: PairScores, class_2P: Index, *, num_folds: int = 10, prevalence: float = 0.5, seed: int = 0
) -> BestThreshold:
    """Return the threshold of best accuracy, with its accuracy by cross-validation over classes.

    The protocol is that of Labeled Faces in the Wild (Huang et al. 2007): for each of 10 folds the threshold is chosen
    on the pairs of the other nine and measured on the fold's own; mean and standard error are over the folds. Here
    folds are of classes (`folds_of`), so no class is on both sides, and pairs between folds are not measured on.
    Kinds are weighed so that positive pairs have the share `prevalence` on each side: accuracy is
    π·TPR + (1 − π)·(1 − FPR), whatever the number of pairs of each kind.

    A threshold lies midway between the last pair accepted and the first refused; of thresholds with the same accuracy
    it is the strictest. Accepting nothing or everything may be best; the threshold then is the next number beyond.

    Args:
        scores: from `pair_scores`.
        class_2P: classes of both items of each pair, int64 [2, P], from 0 on.
        num_folds: at least 2; each needs two classes with a positive pair.
        prevalence: in (0, 1).
        seed: of the folds.

    Raises:
        InputError: too few classes for the folds, a fold without negative pairs, or a parameter out of range.
    """
    require(wrong_number("prevalence", prevalence, above=0, below=1, example=0.5))
    order_P = np.argsort(-scores.closeness, kind="stable")
    class_2P, scores = class_2P[:, order_P], scores.taken(order_P)
    accuracies, thresholds, num_measured = [], [], 0
    for others, own in folds_of(scores, class_2P, num_folds, seed=seed):
        chosen = _most_accurate(others, prevalence)
        accuracies.append(_accuracy(own, chosen, prevalence))
        thresholds.append(scores.in_units(chosen))
        num_measured += len(own.same_P)
    accuracy = float(np.mean(accuracies))
    error = float(np.std(accuracies, ddof=1) / np.sqrt(num_folds))
    num_classes = len(np.unique(class_2P[0, scores.same_P]))
    return BestThreshold(
        accuracy=accuracy,
        standard_error=error,
        interval=share_interval(accuracy, error**2, num_classes, freedom=num_folds - 1, prior=_PRIOR_CLASSES),
        threshold=scores.in_units(_most_accurate(scores, prevalence)),
        prevalence=prevalence,
        fold_accuracy=tuple(accuracies),
        fold_threshold=tuple(thresholds),
        num_left_out=len(scores.same_P) - num_measured,
    )


def _accuracy(scores: PairScores, closeness: float, prevalence: float) -> float:
    accepted_P, same_P, weight_P = scores.closeness >= closeness, scores.same_P, scores.weight_P
    tpr = float(weight_P[accepted_P & same_P].sum() / weight_P[same_P].sum())
    fpr = float(weight_P[accepted_P & ~same_P].sum() / weight_P[~same_P].sum())
    return prevalence * tpr + (1 - prevalence) * (1 - fpr)


def _most_accurate(scores: PairScores, prevalence: float) -> float:
    """Return the closeness of best accuracy; pairs come closest first."""
    closeness_P, same_P, weight_P = scores.closeness, scores.same_P, scores.weight_P
    # Accepting the first pairs up to a tie's end; up to −1: none.
    last_U = np.append(np.flatnonzero(np.diff(closeness_P)), len(closeness_P) - 1)
    tpr_U = np.cumsum(weight_P * same_P)[last_U] / weight_P[same_P].sum()
    fpr_U = np.cumsum(weight_P * ~same_P)[last_U] / weight_P[~same_P].sum()
    gain_U = np.concatenate([[0.0], prevalence * tpr_U - (1 - prevalence) * fpr_U])
    # Rounding of the sums must not decide between thresholds of the same accuracy.
    best = int(np.flatnonzero(gain_U >= gain_U.max() - 1e-12)[0])
    if best == 0:
        return float(np.nextafter(closeness_P[0], np.inf))
    if best == len(last_U):
        return float(np.nextafter(closeness_P[-1], -np.inf))
    accepted, refused = closeness_P[last_U[best - 1]], closeness_P[last_U[best - 1] + 1]
    middle = (accepted + refused) / 2
    # Between neighbouring numbers there is none.
    return float(middle if middle > refused else accepted)
