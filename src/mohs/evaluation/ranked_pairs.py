"""Pairs in order of closeness, sorted once and counted again with other weights: what a bootstrap needs.

Everything that a threshold decides follows from the counts at each closeness of a positive pair, since between two of
them only negatives come in, and a threshold there is worse than the one before.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np

from mohs.evaluation.checked import Float64, Index
from mohs.evaluation.pair_scores import PairScores
from mohs.randomness import generator

__all__ = ["RankedPairs", "Rates", "at_most", "class_bootstrap", "equal_error", "percentile_interval", "rank_pairs"]


@final
@dataclass(frozen=True, eq=False)
class Rates:
    """What each of U thresholds does; threshold u accepts the pairs at least as close as the u-th positive closeness.

    Attributes:
        tpr_U: share of positive pairs accepted, float64 [U], ascending, the last is 1.
        fpr_U: share of negative pairs accepted, ascending.
        closer_fpr_U: share of negative pairs that are closer than the threshold: `fpr_U` without those tied with it.
        negative_sum_S: weight of the s closest negative pairs, float64 [S + 1], from 0.
    """

    tpr_U: Float64
    fpr_U: Float64
    closer_fpr_U: Float64
    negative_sum_S: Float64

    def precision(self, prevalence: float) -> Float64:
        """Return π·TPR / (π·TPR + (1 − π)·FPR) with π the prevalence, float64 [U]; 0 if nothing is accepted."""
        accepted_positive = prevalence * self.tpr_U
        accepted = accepted_positive + (1 - prevalence) * self.fpr_U
        return np.divide(accepted_positive, accepted, out=np.zeros_like(accepted), where=accepted > 0)

    def average_precision(self, prevalence: float) -> float:
        """Return Σ_u (TPR_u − TPR_{u−1})·precision_u, scikit-learn's rule."""
        return float(np.diff(self.tpr_U, prepend=0.0) @ self.precision(prevalence))

    def auc(self) -> float:
        """Return the probability that a positive pair is closer than a negative one; ties count one half."""
        return float(np.diff(self.tpr_U, prepend=0.0) @ (1 - (self.closer_fpr_U + self.fpr_U) / 2))

    def equal_error_rate(self) -> float:
        """Return the rate where FPR = 1 − TPR on the ROC curve, with straight lines between its points."""
        fpr_V = np.concatenate([[0.0], np.stack([self.closer_fpr_U, self.fpr_U], axis=1).ravel(), [1.0]])
        before_U = np.concatenate([[0.0], self.tpr_U[:-1]])
        tpr_V = np.concatenate([[0.0], np.stack([before_U, self.tpr_U], axis=1).ravel(), [1.0]])
        return equal_error(fpr_V, tpr_V)

    def last_with_fpr(self, max_fpr: float) -> int:
        """Return the loosest threshold with FPR ≤ max_fpr that accepts a positive pair; −1 if there is none."""
        return self._last_that_adds(at_most(self.fpr_U, max_fpr))

    def last_with_precision(self, min_precision: float, prevalence: float) -> int:
        """Return the loosest threshold with precision ≥ min_precision; −1 if there is none."""
        kept = np.flatnonzero(self.precision(prevalence) >= min_precision - _ROUNDING)
        return self._last_that_adds(int(kept[-1]) if len(kept) else -1)

    def _last_that_adds(self, u: int) -> int:
        # In a resample some positive pairs do not occur; a threshold is one of a pair that does.
        return int(np.searchsorted(self.tpr_U, self.tpr_U[u])) if u >= 0 and self.tpr_U[u] > 0 else -1


# Sums of shares may be off by this.
_ROUNDING = 1e-12


def at_most(sum_V: Float64, limit: float) -> int:
    """Return the last place of ascending sums that is at most `limit`, but for their rounding; −1 if there is none."""
    return int(np.searchsorted(sum_V, limit + _ROUNDING * sum_V[-1], side="right")) - 1


def equal_error(fpr_V: Float64, tpr_V: Float64) -> float:
    """Return the rate where FPR = 1 − TPR between the points of a ROC curve from (0, 0) to (1, 1).

    >>> equal_error(np.array([0.0, 0.0, 0.5, 1.0]), np.array([0.0, 0.5, 1.0, 1.0]))
    0.25
    """
    # FPR + TPR ascends along the curve, and is 1 there.
    return float(np.interp(1.0, fpr_V + tpr_V, fpr_V))


@final
@dataclass(frozen=True, eq=False)
class RankedPairs:
    """Positive and negative pairs, each closest first; made by `rank_pairs`.

    Attributes:
        farness_U: the distinct scores of positive pairs, float64 [U], closest first: the distance, or the similarity
            with its sign turned, so that they ascend.
        num_classes: how many classes there are among the pairs.
        positive_class_R: class of each of R positive pairs, int64.
        positive_weight_R: float64 [R].
        last_U: place in R of the last pair of closeness u.
        negative_class_2S: the two classes of each of S negative pairs, int64 [2, S].
        negative_weight_S: float64 [S].
        negative_farness_S: float64 [S], ascending.
        num_not_farther_U: how many negative pairs are at least as close as u.
        num_closer_U: how many are closer.
    """

    farness_U: Float64
    num_classes: int
    positive_class_R: Index
    positive_weight_R: Float64
    last_U: Index
    negative_class_2S: Index
    negative_weight_S: Float64
    negative_farness_S: Float64
    num_not_farther_U: Index
    num_closer_U: Index

    def scratch(self) -> Float64:
        """Return memory for `rates`, float64 [3, S + 1]; fresh memory would take longer than the counting."""
        return np.zeros((3, len(self.negative_weight_S) + 1))

    def rates(self, multiplicity_C: Float64 | None = None, scratch_3S: Float64 | None = None) -> Rates | None:
        """Return the rates with class c there `multiplicity_C[c]` times (none: once each); None without both kinds.

        A pair counts with the product of the multiplicities of the classes that it is of: m_c for a positive pair of
        class c, which is there once in each copy of its class, and m_c·m_d for a negative pair of c and d. With a
        `scratch`, `negative_sum_S` lies in it, until the next call with it.
        """
        sum_S, count_S, other_S = self.scratch() if scratch_3S is None else scratch_3S
        count_S, other_S = count_S[1:], other_S[1:]
        positive_R = self.positive_weight_R
        if multiplicity_C is None:
            np.cumsum(self.negative_weight_S, out=sum_S[1:])
        else:
            positive_R = positive_R * multiplicity_C[self.positive_class_R]
            # "clip" only says that no index is out of range: numpy then needs no copy.
            np.take(multiplicity_C, self.negative_class_2S[0], out=count_S, mode="clip")
            np.take(multiplicity_C, self.negative_class_2S[1], out=other_S, mode="clip")
            count_S *= other_S
            count_S *= self.negative_weight_S
            np.cumsum(count_S, out=sum_S[1:])
        positive_sum_R = np.cumsum(positive_R)
        if not positive_sum_R[-1] or not sum_S[-1]:
            return None
        return Rates(
            positive_sum_R[self.last_U] / positive_sum_R[-1],
            sum_S[self.num_not_farther_U] / sum_S[-1],
            sum_S[self.num_closer_U] / sum_S[-1],
            sum_S,
        )

    def farness_at_fpr(self, rates: Rates, max_fpr: float) -> float:
        """Return the loosest score of a pair that accepts at most that share of negative pairs; NaN if none does."""
        sum_S = rates.negative_sum_S
        u = rates.last_with_fpr(max_fpr)
        positive = self.farness_U[u] if u >= 0 else np.nan
        num = at_most(sum_S, max_fpr * sum_S[-1])
        if num < len(self.negative_farness_S):
            # Those tied with the first pair that is too many do not come in either.
            num = int(np.searchsorted(self.negative_farness_S, self.negative_farness_S[num], side="left"))
        # The last one that occurs in a resample.
        num = int(np.searchsorted(sum_S, sum_S[num], side="left"))
        negative = self.negative_farness_S[num - 1] if num else np.nan
        return float(np.fmax(positive, negative))

    def accepted(self, rates: Rates, farness: float) -> tuple[float, float]:
        """Return (TPR, FPR) of the pairs that are at least as close."""
        u = int(np.searchsorted(self.farness_U, farness, side="right")) - 1
        num = int(np.searchsorted(self.negative_farness_S, farness, side="right"))
        return float(rates.tpr_U[u]) if u >= 0 else 0.0, float(rates.negative_sum_S[num] / rates.negative_sum_S[-1])


def rank_pairs(scores: PairScores, class_2P: Index) -> RankedPairs:
    """Return the pairs in order; `class_2P` are the classes of both items of each pair, int64 [2, P]."""
    farness_P = -scores.closeness
    positive_R, negative_S = (
        places[np.argsort(farness_P[places], kind="stable")]
        for places in (np.flatnonzero(scores.same_P), np.flatnonzero(~scores.same_P))
    )
    farness_R, farness_S = farness_P[positive_R], farness_P[negative_S]
    last_U = np.append(np.flatnonzero(np.diff(farness_R)), len(farness_R) - 1)
    return RankedPairs(
        farness_U=farness_R[last_U],
        num_classes=int(class_2P.max()) + 1,
        positive_class_R=class_2P[0, positive_R],
        positive_weight_R=scores.weight_P[positive_R],
        last_U=last_U,
        negative_class_2S=class_2P[:, negative_S],
        negative_weight_S=scores.weight_P[negative_S],
        negative_farness_S=farness_S,
        num_not_farther_U=np.searchsorted(farness_S, farness_R[last_U], side="right"),
        num_closer_U=np.searchsorted(farness_S, farness_R[last_U], side="left"),
    )


def class_bootstrap(
    ranked: RankedPairs, statistic: Callable[[Rates], Float64], *, num_resamples: int, seed: int
) -> Float64:
    """Return the statistic in resamples of the classes, float64 [B, K].

    Each resample draws as many classes as there are, with replacement, and weighs pairs by the rule of
    `RankedPairs.rates`. For negative pairs this is the pigeonhole bootstrap of Owen (2007), with one factor for both
    sides as in the vertex bootstrap of Snijders and Borgatti (1999) and Davezies et al. (2021): it never gives a
    variance that is too small, but up to three times too large a one for what is noise of single pairs. For positive
    pairs it is the cluster bootstrap. Pairs of two copies of one class are left out: they are neither. Resamples
    without a positive or a negative pair are left out, so B may be less than `num_resamples`.
    """
    random = generator(seed, "class bootstrap")
    scratch_3S = ranked.scratch()
    rows = []
    for _ in range(num_resamples):
        drawn = random.integers(ranked.num_classes, size=ranked.num_classes)
        rates = ranked.rates(np.bincount(drawn, minlength=ranked.num_classes).astype(np.float64), scratch_3S)
        if rates is not None:
            rows.append(statistic(rates))
    return np.stack(rows) if rows else np.empty((0, len(statistic(ranked.rates()))))  # type: ignore[arg-type]


def percentile_interval(values_B: Float64) -> tuple[float, float] | None:
    """Return the 2.5% and 97.5% points; None with fewer than 20 values, or if more than 2.5% of them are NaN.

    >>> percentile_interval(np.arange(201.0))
    (5.0, 195.0)
    """
    known_B = values_B[~np.isnan(values_B)]
    if len(values_B) < 20 or len(known_B) < 0.975 * len(values_B):
        return None
    low, high = np.quantile(known_B, [0.025, 0.975])
    return float(low), float(high)
