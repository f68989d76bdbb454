"""Intervals that hold two noises: which classes were asked for, and which seeds trained.

A strategy is what training makes of it with any seed, asked for any classes of the kind. Hits of a few seeds say how
much it differs between seeds; leaving that out made 28 to 57% of the intervals between a strategy and itself exclude 0,
where 5% should.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray
from scipy import stats

from mohs.evaluation.intervals import Interval, class_difference_interval, class_interval

__all__ = ["seeds_and_classes_interval"]


def seeds_and_classes_interval(
    sides: Sequence[NDArray[np.float64]], labels_Q: npt.ArrayLike, *, confidence: float = 0.95
) -> Interval:
    """Return (low, high) of the mean of one side's hits, or of the difference of two, over seeds and classes.

    A side is a float array [S, Q], a row for each seed; of two, the mean of the second is taken from that of the first.
    Queries and classes are the same for both (paired), seeds are not: a number that two strategies share as their seed
    does not make their luck the same. With m the estimate and (l, u) its interval over classes of the mean over seeds,

        low = m − √((m − l)² + (t·e)²),   high = m + √((u − m)² + (t·e)²),   e² = Σ max(0, v − (1 − 1/S)·w)

    where the sum is over the sides, v is the variance of the seeds' means divided by S, and w the part of v that comes
    of single answers that change by chance from seed to seed: it shrinks with the number of classes, and the interval
    over classes holds it already. t is Student's quantile with Welch's degrees of freedom, which follow from the v and
    from S − 1 each: 2.8 for three seeds on both sides, 2.3 for five. Intervals of parts are combined as by Zou and
    Donner (2008, "Construction of confidence limits about effect measures: a general approach"). Taking off w a little
    less than whole keeps two or three seeds honest; chosen by simulation, which is a test.

    A side of one seed adds nothing: how much it differs between seeds cannot be known.

    Raises `InputError` for fewer than two classes.

    >>> hits_SQ = np.array([[1.0, 1, 0, 1], [0.0, 1, 0, 0], [1.0, 0, 0, 1]])
    >>> low, high = seeds_and_classes_interval([hits_SQ], ["a", "b", "c", "d"])
    >>> bool(low < hits_SQ.mean() < high)
    True
    """
    means_Q = [hits_SQ.mean(axis=0) for hits_SQ in sides]
    if len(sides) == 2:
        mean = float(means_Q[0].mean() - means_Q[1].mean())
        low, high = class_difference_interval(means_Q[0] - means_Q[1], labels_Q, confidence=confidence)
    else:
        mean = float(means_Q[0].mean())
        low, high = class_interval(means_Q[0], labels_Q, confidence=confidence)
    repeated = [hits_SQ for hits_SQ in sides if len(hits_SQ) > 1]
    if not repeated:
        return low, high
    v, w = np.array([_seed_variances(hits_SQ, labels_Q) for hits_SQ in repeated]).T
    num_seeds = np.array([len(hits_SQ) for hits_SQ in repeated])
    variance = np.maximum(0.0, v - (1.0 - 1.0 / num_seeds) * w).sum()
    if variance == 0:
        return low, high
    freedom = v.sum() ** 2 / (v**2 / (num_seeds - 1)).sum()
    reach = float(stats.t.ppf((1 + confidence) / 2, freedom) * np.sqrt(variance))
    return mean - float(np.hypot(mean - low, reach)), mean + float(np.hypot(high - mean, reach))


def _seed_variances(hits_SQ: NDArray[np.float64], labels_Q: npt.ArrayLike) -> tuple[float, float]:
    """Return the variance of the mean over seeds as the seeds' means tell it, and the part due to single answers."""
    num_seeds, num_queries = hits_SQ.shape
    codes, size_C = np.unique(np.asarray(labels_Q), return_inverse=True, return_counts=True)[1:]
    num_classes = len(size_C)
    mean_S = hits_SQ.mean(axis=1)
    sum_SC = np.stack([np.bincount(codes, weights=hit_Q, minlength=num_classes) for hit_Q in hits_SQ])
    # What is left of a class's hits without the class's own level and without the seed's.
    rest_SC = sum_SC - sum_SC.mean(axis=0) - np.outer(mean_S - mean_S.mean(), size_C)
    scale = num_classes / ((num_classes - 1) * (num_seeds - 1) * num_seeds * num_queries**2)
    return float(mean_S.var(ddof=1) / num_seeds), float((rest_SC**2).sum() * scale)
