"""Thresholds chosen for a wanted precision or false positive rate, and what they do on classes not chosen on."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from mohs.evaluation.intervals import Interval
from mohs.evaluation.pair_noise import AcceptedShares, PairNoise
from mohs.evaluation.ranked_pairs import RankedPairs, Rates
from mohs.randomness import generator

__all__ = [
    "Level",
    "Wanted",
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
            farness_R <= farness_KK[fold_R, fold_R],
            ranked.negative_farness_S <= farness_KK[fold_2S[0], fold_2S[1]],
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
    candidates: npt.NDArray[np.int64] = np.flatnonzero(kept_U)
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
