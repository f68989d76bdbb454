"""Intervals: how far a measured share or mean can be from the true one."""

import math

import numpy as np
import numpy.typing as npt

from mohs.errors import InputError
from mohs.evaluation.inputs import checked_labels, class_codes
from mohs.randomness import generator

__all__ = ["class_bootstrap_interval", "wilson_interval"]

# The 97.5% point of the standard normal distribution.
_Z_95 = 1.959963984540054


def class_bootstrap_interval(
    values_Q: npt.ArrayLike, labels_Q: npt.ArrayLike, *, confidence: float = 0.95, num_resamples: int = 1000, seed: int
) -> tuple[float, float]:
    """Return (low, high): the percentile bootstrap interval of the mean of `values_Q`, resampling whole classes.

    Items of one class are alike, so resampling single items would give intervals that are too narrow. Each resample
    draws C classes with replacement out of the C there are and takes the mean over all items of the classes drawn
    (the cluster bootstrap; Davison and Hinkley 1997, section 3.8). The same seed draws the same classes, so intervals
    of two metrics of the same queries move together.

    Args:
        values_Q: one finite number for each query.
        labels_Q: its class, integer or string; at least two classes.
        confidence: in (0, 1).
        num_resamples: at least 1; 1,000 gives about two digits of the ends.
        seed: integer in [0, 2**63).

    Raises:
        InputError: a value that is not finite, lengths that differ, fewer than two classes, a parameter out of range.

    >>> low, high = class_bootstrap_interval([1, 1, 0, 0, 1, 0], ["a", "a", "b", "b", "c", "d"], seed=0)
    >>> 0 <= low < 0.5 < high <= 1
    True
    """
    values = np.asarray(values_Q, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise InputError("values_Q: not a flat array of finite numbers; leave out queries without a value first")
    if not 0 < confidence < 1:
        raise InputError(f"confidence: {confidence!r} is not in (0, 1); use for example 0.95")
    if num_resamples < 1:
        raise InputError(f"num_resamples: {num_resamples!r} is less than 1; use for example 1000")
    [codes] = class_codes(checked_labels(labels_Q, "labels_Q", len(values)))
    num_classes = int(codes.max()) + 1 if len(codes) else 0
    if num_classes < 2:
        raise InputError(f"labels_Q: {num_classes} class; an interval over classes needs at least two")
    class_sums = np.bincount(codes, weights=values)
    class_counts = np.bincount(codes)
    random = generator(seed, "class bootstrap")
    means = np.empty(num_resamples)
    for i in range(num_resamples):
        drawn = random.integers(num_classes, size=num_classes)
        means[i] = class_sums[drawn].sum() / class_counts[drawn].sum()
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def wilson_interval(successes: float, trials: float) -> tuple[float, float]:
    """Return (low, high): the 95% Wilson score interval of a share (Wilson 1927).

    (p + z²/2n ± z·√(p(1−p)/n + z²/4n²)) / (1 + z²/n) with p = successes/trials, n = trials, z = 1.96.
    Unlike p ± z·√(p(1−p)/n) it stays in [0, 1] and is not empty at p = 0 or 1. Trials are taken to be independent;
    both numbers may be fractions, for an effective number of trials.

    >>> [round(end, 3) for end in wilson_interval(0, 10)]
    [0.0, 0.278]
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise InputError(
            f"successes, trials: {successes} of {trials} is not a share; need 0 <= successes <= trials >= 1"
        )
    share = successes / trials
    squared = _Z_95**2 / trials
    middle = share + squared / 2
    half_width = math.sqrt(share * (1 - share) * squared + squared**2 / 4)
    low = 0.0 if successes == 0 else (middle - half_width) / (1 + squared)
    high = 1.0 if successes == trials else (middle + half_width) / (1 + squared)
    return low, high
