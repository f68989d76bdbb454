"""Whether a probability of 0.8 is right 8 times in 10."""

from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from mohs.errors import InputError
from mohs.evaluation.intervals import wilson_interval

__all__ = ["ReliabilityBin", "expected_calibration_error", "reliability_table"]


@final
@dataclass(frozen=True)
class ReliabilityBin:
    """Pictures whose largest probability lies in (low, high]; in the first bin, in [0, high].

    `mean_probability` and `accuracy` are None in an empty bin; `interval` is the 95% Wilson interval of the accuracy.
    """

    low: float
    high: float
    num_pictures: int
    mean_probability: float | None
    accuracy: float | None
    interval: tuple[float, float] | None


def reliability_table(
    probability_N: npt.ArrayLike, correct_N: npt.ArrayLike, *, num_bins: int = 15
) -> tuple[ReliabilityBin, ...]:
    """Return `num_bins` bins of equal width over [0, 1], lowest first.

    `probability_N` is the largest probability of each picture, `correct_N` whether its class was right. In a calibrated
    classifier mean probability and accuracy are equal in every bin. Raises `InputError` for lengths that differ, no
    picture, a probability outside of [0, 1], or fewer than one bin.

    >>> table = reliability_table([0.9, 0.8, 0.3], [True, False, False], num_bins=2)
    >>> [(b.num_pictures, round(b.mean_probability, 2), b.accuracy) for b in table]
    [(1, 0.3, 0.0), (2, 0.85, 0.5)]
    """
    p_N = np.asarray(probability_N, dtype=np.float64)
    correct = np.asarray(correct_N, dtype=bool)
    if p_N.ndim != 1 or p_N.shape != correct.shape or not p_N.size:
        raise InputError(
            f"probability_N, correct_N: shapes {p_N.shape} and {correct.shape}; give one of each for a picture"
        )
    # Softmax may exceed 1 by its rounding.
    if not ((p_N >= 0) & (p_N <= 1 + 1e-9)).all():
        raise InputError("probability_N: a value is not in [0, 1]; give probabilities")
    if num_bins < 1:
        raise InputError(f"num_bins: {num_bins!r} is less than 1; use for example 15")
    edges = np.linspace(0.0, 1.0, num_bins + 1)
    bin_N = np.clip(np.searchsorted(edges, p_N, side="left") - 1, 0, num_bins - 1)
    table = []
    for i in range(num_bins):
        inside = bin_N == i
        count, right = int(inside.sum()), int((inside & correct).sum())
        table.append(
            ReliabilityBin(
                low=float(edges[i]),
                high=float(edges[i + 1]),
                num_pictures=count,
                mean_probability=float(p_N[inside].mean()) if count else None,
                accuracy=right / count if count else None,
                interval=wilson_interval(right, count) if count else None,
            )
        )
    return tuple(table)


def expected_calibration_error(table: tuple[ReliabilityBin, ...]) -> float:
    """Return ECE = Σ_b (n_b/N) |accuracy_b − mean probability_b|, in [0, 1], 0 is best.

    Guo et al., "On calibration of modern neural networks", 2017, eq. 3. It grows with the number of bins and, at few
    pictures, is above 0 for a calibrated classifier too.

    >>> expected_calibration_error(reliability_table([0.9, 0.9], [True, False]))
    0.4
    """
    total = sum(each.num_pictures for each in table)
    return sum(
        each.num_pictures / total * abs(each.accuracy - each.mean_probability)
        for each in table
        if each.accuracy is not None and each.mean_probability is not None
    )
