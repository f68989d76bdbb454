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
    """Cases (pictures, pairs) whose probability lies in (low, high]; in the first bin, in [0, high].

    Attributes:
        low: lower edge.
        high: upper edge.
        num_cases: how many there are.
        share: their share of all cases, by weight.
        mean_probability: by weight; None in an empty bin.
        frequency: share of them that were right, by weight; None in an empty bin.
        interval: 95% Wilson interval of the frequency, with the effective number of cases (Σw)²/Σw² (Kish 1965), which
            is the number of cases if all weigh the same; None in an empty bin.
    """

    low: float
    high: float
    num_cases: int
    share: float
    mean_probability: float | None
    frequency: float | None
    interval: tuple[float, float] | None


def reliability_table(
    probability_N: npt.ArrayLike,
    correct_N: npt.ArrayLike,
    *,
    num_bins: int = 15,
    weight_N: npt.ArrayLike | None = None,
) -> tuple[ReliabilityBin, ...]:
    """Return `num_bins` bins of equal width over [0, 1], lowest first.

    `probability_N` is the probability that each case was given (of a classifier the largest one of each picture, of a
    pair that it is of one class), `correct_N` whether it came true. If probabilities are calibrated, mean probability
    and frequency are equal in every bin. `weight_N` says how much each case counts, 1 if there is none. Raises
    `InputError` for lengths that differ, no case, a probability outside of [0, 1], a weight that is not above 0, or
    fewer than one bin.

    >>> table = reliability_table([0.9, 0.8, 0.3], [True, False, False], num_bins=2)
    >>> [(b.num_cases, round(b.mean_probability, 2), b.frequency) for b in table]
    [(1, 0.3, 0.0), (2, 0.85, 0.5)]
    """
    p_N = np.asarray(probability_N, dtype=np.float64)
    correct = np.asarray(correct_N, dtype=bool)
    if p_N.ndim != 1 or p_N.shape != correct.shape or not p_N.size:
        raise InputError(
            f"probability_N, correct_N: shapes {p_N.shape} and {correct.shape}; give one of each for a case"
        )
    # Softmax may exceed 1 by its rounding.
    if not ((p_N >= 0) & (p_N <= 1 + 1e-9)).all():
        raise InputError("probability_N: a value is not in [0, 1]; give probabilities")
    w_N = np.ones_like(p_N) if weight_N is None else np.asarray(weight_N, dtype=np.float64)
    if w_N.shape != p_N.shape or not ((w_N > 0) & np.isfinite(w_N)).all():
        raise InputError(f"weight_N: shape {w_N.shape}, or a value that is not above 0; give one weight for each case")
    if num_bins < 1:
        raise InputError(f"num_bins: {num_bins!r} is less than 1; use for example 15")
    edges = np.linspace(0.0, 1.0, num_bins + 1)
    bin_N = np.clip(np.searchsorted(edges, p_N, side="left") - 1, 0, num_bins - 1)
    num_B = np.bincount(bin_N, minlength=num_bins)
    weight_B, square_B, probability_B, right_B = (
        np.bincount(bin_N, weights=values, minlength=num_bins) for values in (w_N, w_N**2, w_N * p_N, w_N * correct)
    )
    table = []
    for i in range(num_bins):
        filled = bool(num_B[i])
        # Sums of the same numbers in another order may differ in the last place.
        frequency = min(1.0, float(right_B[i] / weight_B[i])) if filled else None
        effective = float(weight_B[i] ** 2 / square_B[i]) if filled else 0.0
        table.append(
            ReliabilityBin(
                low=float(edges[i]),
                high=float(edges[i + 1]),
                num_cases=int(num_B[i]),
                share=float(weight_B[i] / w_N.sum()),
                mean_probability=float(probability_B[i] / weight_B[i]) if filled else None,
                frequency=frequency,
                interval=None if frequency is None else wilson_interval(frequency * effective, effective),
            )
        )
    return tuple(table)


def expected_calibration_error(table: tuple[ReliabilityBin, ...]) -> float:
    """Return ECE = Σ_b share_b |frequency_b − mean probability_b|, in [0, 1], 0 is best.

    Guo et al., "On calibration of modern neural networks", 2017, eq. 3. It grows with the number of bins and, at few
    cases, is above 0 for calibrated probabilities too.

    >>> expected_calibration_error(reliability_table([0.9, 0.9], [True, False]))
    0.4
    """
    return sum(
        each.share * abs(each.frequency - each.mean_probability)
        for each in table
        if each.frequency is not None and each.mean_probability is not None
    )
