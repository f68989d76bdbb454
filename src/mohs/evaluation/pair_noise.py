"""What a threshold reaches on other classes: intervals of the shares of pairs that it accepts, over classes.

Pairs share classes, so what counts is how much each class, and each pair of classes, adds.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from scipy.special import gammaincinv, stdtrit

from mohs.evaluation.checked import Bools, Float64, Index
from mohs.evaluation.intervals import Interval, share_interval
from mohs.evaluation.ranked_pairs import RankedPairs

__all__ = ["AcceptedShares", "PairNoise"]

_TAIL = 0.025
# Of `share_interval`: the least that holds for means over pairs of numbers that are not only 0 and 1, such as the AUC
# (benchmarks/coverage_pairs.py).
_PRIOR_CLASSES_OF_MEANS = 1.0


@final
@dataclass(frozen=True)
class AcceptedShares:
    """Shares of pairs that were accepted, with their 95% intervals over classes.

    Attributes:
        tpr: of positive pairs.
        tpr_ends: Wilson's interval of effective classes (`share_interval`).
        fpr: of negative pairs.
        fpr_ends: gamma interval of effective counts.
        fpr_low_median, fpr_high_median: medians of the gamma distributions that the two ends are of.
    """

    tpr: float
    tpr_ends: Interval
    fpr: float
    fpr_ends: Interval
    fpr_low_median: float
    fpr_high_median: float

    def precision_ends(self, prevalence: float) -> Interval | None:
        """Return the 95% interval of the precision; None if no positive pair is accepted.

        The logarithm of the odds of precision is log π/(1 − π) + log TPR − log FPR. Its ends come from those of the two
        rates, taken as independent, by the method of variance estimates recovery (Zou and Donner 2008): the lower one
        is the difference less √((log TPR − log TPR_low)² + (log FPR_high − log FPR)²).
        """
        if not self.tpr:
            return None
        odds = prevalence / (1 - prevalence)
        low_tpr, high_tpr = (np.log(max(end, 1e-300) / self.tpr) for end in self.tpr_ends)
        far = np.log(self.fpr_ends[1] / self.fpr_high_median)
        low = odds * self.tpr / self.fpr_high_median * np.exp(-np.hypot(low_tpr, far))
        if not self.fpr_ends[0] or not self.fpr_low_median:
            return float(low / (1 + low)), 1.0
        near = np.log(self.fpr_low_median / self.fpr_ends[0])
        high = odds * self.tpr / self.fpr_low_median * np.exp(np.hypot(high_tpr, near))
        return float(low / (1 + low)), float(high / (1 + high))


@final
class PairNoise:
    """Ranked pairs with what each class has of them, to tell the noise of any choice of accepted pairs."""

    def __init__(self, ranked: RankedPairs) -> None:
        self._ranked = ranked
        num = ranked.num_classes
        positive_C = _sums(ranked.positive_class_R, ranked.positive_weight_R, num)
        self._positive_C = positive_C / positive_C.sum()
        self.num_effective = float(1 / np.square(self._positive_C).sum())
        first_S, second_S = ranked.negative_class_2S
        weight_S = ranked.negative_weight_S
        self._negative_C = _sums(first_S, weight_S, num) + _sums(second_S, weight_S, num)
        self._student = float(stdtrit(max(self.num_effective - 1, 1.0), 1 - _TAIL) / stdtrit(np.inf, 1 - _TAIL))
        # Of each pair: what its classes have in all.
        self._classes_S = self._negative_C[first_S] + self._negative_C[second_S]

    def accepted(self, positive_R: Bools | slice, negative_S: Bools | slice) -> AcceptedShares:
        """Return the shares of the pairs accepted; each side is a mask, or a slice of the closest ones."""
        tpr, tpr_ends = self._tpr(positive_R)
        return AcceptedShares(tpr, tpr_ends, *self._fpr(negative_S))

    def interval(self, share: float, variance: float) -> Interval:
        """Return `share_interval` of a mean over these pairs of which the variance is known, as from resamples."""
        return share_interval(share, variance, self.num_effective, prior=_PRIOR_CLASSES_OF_MEANS)

    def auc(self) -> Interval:
        """Return the 95% interval of the area under the ROC curve.

        Its influence function has a part from the positive pairs of a class, how many negative pairs are farther than
        they, and one from its negative pairs, how many positive pairs are closer (DeLong et al. 1988, over classes).
        """
        ranked = self._ranked
        positive_R, negative_S = ranked.positive_weight_R, ranked.negative_weight_S
        positive_R, negative_S = positive_R / positive_R.sum(), negative_S / negative_S.sum()
        sum_S, sum_R = np.concatenate([[0.0], np.cumsum(negative_S)]), np.concatenate([[0.0], np.cumsum(positive_R)])
        farther_U = 1 - (sum_S[ranked.num_closer_U] + sum_S[ranked.num_not_farther_U]) / 2
        farther_R = np.repeat(farther_U, np.diff(ranked.last_U, prepend=-1))
        auc = float(positive_R @ farther_R)
        sum_U = sum_R[np.concatenate([[0], ranked.last_U + 1])]
        farness_S = ranked.negative_farness_S
        closer_S = sum_U[np.searchsorted(ranked.farness_U, farness_S, side="left")]
        not_farther_S = sum_U[np.searchsorted(ranked.farness_U, farness_S, side="right")]
        gain_S = negative_S * ((closer_S + not_farther_S) / 2 - auc)
        right_C = _sums(ranked.positive_class_R, positive_R * farther_R, ranked.num_classes)
        deviation_C = right_C - auc * self._positive_C
        for side_S in ranked.negative_class_2S:
            deviation_C += _sums(side_S, gain_S, ranked.num_classes)
        variance = float(np.square(deviation_C).sum()) * self._small_sample()
        return self._share_ends(auc, variance, right_C, prior=_PRIOR_CLASSES_OF_MEANS)

    def _tpr(self, accepted_R: Bools | slice) -> tuple[float, Interval]:
        ranked = self._ranked
        share_R = ranked.positive_weight_R[accepted_R] / ranked.positive_weight_R.sum()
        right_C = _sums(ranked.positive_class_R[accepted_R], share_R, ranked.num_classes)
        tpr = float(min(1.0, right_C.sum()))
        variance = float(np.square(right_C - tpr * self._positive_C).sum()) * self._small_sample()
        return tpr, self._share_ends(tpr, variance, right_C)

    def _share_ends(self, share: float, variance: float, right_C: Float64, *, prior: float = 2.0) -> Interval:
        telling = min(_spread(right_C), _spread(self._positive_C - right_C))
        return share_interval(share, variance, self.num_effective, telling=telling, prior=prior)

    def _small_sample(self) -> float:
        return self.num_effective / max(self.num_effective - 1, 1.0)

    def _fpr(self, accepted_S: Bools | slice) -> tuple[float, Interval, float, float]:
        """Return the share, its interval, and the medians of the two gamma distributions.

        The variance of the number of accepted pairs is Σ_c d_c², with d_c by how much class c has more accepted pairs
        than its share: what leaving out one class at a time gives. It counts the noise of single pairs of classes twice
        (Aronow et al. 2015 take it off once), which makes up for its being small where the number is, by chance. It is
        times n/(n − 1) and the square of Student's t over its limit. Then the interval of Fay and Feuer (1997) for
        weighted counts: quantiles of gamma distributions with that mean and variance, the upper one after one more.
        """
        ranked = self._ranked
        weight_S = ranked.negative_weight_S[accepted_S]
        total, accepted = float(ranked.negative_weight_S.sum()), float(weight_S.sum())
        share = accepted / total
        first_S, second_S = ranked.negative_class_2S[:, accepted_S]
        class_C = _sums(first_S, weight_S, ranked.num_classes) + _sums(second_S, weight_S, ranked.num_classes)
        squares = float(np.square(class_C).sum()) - 2 * share * float(weight_S @ self._classes_S[accepted_S])
        squares += share**2 * float(np.square(self._negative_C).sum())
        variance = max(squares, 0.0) * self._small_sample() * self._student**2
        # The size of a lump: pairs come in together. Two lumps of one pair are taken to be known of.
        one = float(weight_S.mean()) if len(weight_S) else float(ranked.negative_weight_S[0])
        variance = max(variance, accepted * one * (1 - share))
        lump = max(one, (variance + 2 * one**2) / (accepted + 2 * one))
        low, low_median = 0.0, 0.0
        if accepted:
            shape, scale = accepted**2 / variance if variance else np.inf, variance / accepted / total
            low, low_median = _gamma(shape, scale, (_TAIL, 0.5), share)
        above, variance_above = accepted + lump, variance + lump**2
        high_median, high = _gamma(above**2 / variance_above, variance_above / above / total, (0.5, 1 - _TAIL), share)
        return share, (low, min(high, 1.0)), low_median, min(high_median, 1.0)


def _sums(class_P: Index, weight_P: Float64, num: int) -> Float64:
    """Return the sum of the weights of each class, float64 [C]."""
    return np.bincount(class_P, weights=weight_P, minlength=num).astype(np.float64)


def _gamma(shape: float, scale: float, at: tuple[float, float], exact: float) -> Interval:
    if not np.isfinite(shape):
        return exact, exact
    first, second = (float(gammaincinv(shape, p)) * scale for p in at)
    return first, second


def _spread(part_C: Float64) -> float:
    """Return how many classes a sum is spread over, (Σ x)² / Σ x²; 0 for a sum of 0."""
    square = float(np.square(part_C).sum())
    return float(part_C.sum()) ** 2 / square if square > 1e-18 else 0.0
