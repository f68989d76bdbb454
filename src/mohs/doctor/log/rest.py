"""Whether a column of a log has come to rest, and where."""

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from mohs.doctor.log.stuck_values import LossFacts, stuck_values
from mohs.evaluation.checked import Float64
from mohs.settings.loss_records import StuckValue

__all__ = ["Rest", "at_stuck_values", "end_mean", "finite", "finite_tail", "number_noise", "resting_tail"]

_MIN_ROWS = 5
_NUM_LENGTHS = 64
# Shares of the level: how far a rest may wander, and how noisy it may be to be told from a slow change.
_WANDER, _MOST_WANDER, _MOST_NOISE = 2e-3, 1e-2, 2e-2
# A known loss has a few stuck values, an unknown one many, of which one is met by chance more easily.
_NEAR_KNOWN, _NEAR_UNKNOWN, _MOST_NOISE_NEAR = 1e-2, 5e-3, 1.5e-2
_COARSEST = 1e-3


@final
@dataclass(frozen=True)
class Rest:
    """The end of a column, if it has come to rest.

    Attributes:
        value: its mean.
        noise: standard deviation of one number, as a share of the value.
        half_range: half of largest minus smallest, as a share of the value.
        quantum: what the last decimal of the column's numbers is worth, as a share of the value; 0 for 5 and more.
        first_row: the row it begins at.
        num_rows: how many numbers it has.
        share: of the column's numbers.
        first_value: the column's first number.
        largest_before, median_before: the largest and the median number before it; NaN if there is none.
    """

    value: float
    noise: float
    half_range: float
    quantum: float
    first_row: int
    num_rows: int
    share: float
    first_value: float
    largest_before: float
    median_before: float

    @property
    def quiet(self) -> bool:
        """Whether all its numbers are within ±0.1%, and written finely enough to tell: training is never so quiet."""
        return self.half_range <= 1e-3 and self.quantum <= 1e-3

    @property
    def within(self) -> str:
        """Its noise in words, as in "±0.05%"."""
        return f"±{max(self.noise, 1e-4):.2g}" if self.value == 0 else f"±{100 * max(self.noise, 1e-4):.1g}%"


def finite(values_T: Float64) -> Float64:
    """Return the finite numbers."""
    return values_T[np.isfinite(values_T)]


def finite_tail(values_T: Float64, share: float) -> Float64:
    """Return the last `share` of the finite numbers, three at least if there are as many.

    >>> finite_tail(np.array([1.0, np.nan, 2.0, 3.0, 4.0]), 0.5).tolist()
    [2.0, 3.0, 4.0]
    """
    known = finite(values_T)
    return known[len(known) - min(len(known), max(3, round(share * len(known)))) :]


def end_mean(values_T: Float64 | None) -> float | None:
    """Return the mean of the last tenth of the finite numbers (`finite_tail`); None if there is none."""
    tail = np.zeros(0) if values_T is None else finite_tail(values_T, 0.1)
    return float(tail.mean()) if len(tail) else None


def number_noise(values_T: Float64) -> float:
    """Return the standard deviation of one number about a slow change: 1.4826/√2 · median |difference of neighbours|.

    >>> round(number_noise(np.linspace(1, 0, 4000) + np.random.default_rng(0).normal(0, 0.1, 4000)), 2)
    0.1
    """
    return 0.0 if len(values_T) < 2 else 1.4826 / math.sqrt(2) * float(np.median(np.abs(np.diff(values_T))))


def resting_tail(values_T: Float64, *, at_least: float = 0.25) -> Rest | None:
    """Return the longest end of a column that has noise and no drift.

    The noise is the column's own: `number_noise`, or the worth of the last decimal over √12 if that is more. It is 2%
    of the level at most, or 20% where the ends are so long that their means are known to 0.5%. An end rests if

    - the means of its thirds differ by no more than chance would: 4 standard errors, 0.2% of the level at least and 1%
      at most;
    - its numbers scatter by no more than 2 times the noise between neighbours;
    - none is farther from their middle than 6 times the noise and 0.2%.

    None if it is shorter than 5 numbers or than `at_least` of the column.

    >>> random = np.random.default_rng(0)
    >>> found = resting_tail(np.r_[np.linspace(0.3, 0.21, 20), 0.2 * (1 + random.normal(0, 0.005, 20))])
    >>> found.first_row, round(found.value, 3)
    (20, 0.2)
    >>> resting_tail(np.linspace(1.0, 0.5, 20)) is None
    True
    """
    rows = np.flatnonzero(np.isfinite(values_T))
    known = values_T[rows]
    shortest = max(_MIN_ROWS, math.ceil(at_least * len(known)))
    if len(known) < shortest:
        return None
    # What the last decimal is worth: 0.01 for 0.31 and 0.3; 0 for more than 4 decimals.
    quantum = next((10.0**-k for k in range(5) if np.array_equal(np.round(known, k), known)), 0.0)
    lengths = np.unique(np.geomspace(shortest, len(known), _NUM_LENGTHS).round().astype(int))[::-1]
    num = next((int(num) for num in lengths if _rests(known[-num:], quantum)), 0)
    if not num:
        return None
    tail, before = known[-num:], known[: len(known) - num]
    level = abs(float(tail.mean())) or 1.0
    return Rest(
        value=float(tail.mean()),
        noise=max(number_noise(tail), float(tail.std())) / level,
        half_range=float(tail.max() - tail.min()) / 2 / level,
        quantum=quantum / level,
        first_row=int(rows[-num]),
        num_rows=num,
        share=num / len(known),
        first_value=float(known[0]),
        largest_before=float(before.max()) if len(before) else math.nan,
        median_before=float(np.median(before)) if len(before) else math.nan,
    )


def at_stuck_values(value: float, loss: LossFacts, *, noise: float = 0.0) -> tuple[StuckValue, ...]:
    """Return the stuck values of the loss that `value` is near to, likeliest first.

    Near is within 1%, or within 1.5 times the noise, a share of the value, if that is more: what is left of the
    distances at one point adds to the loss. None are near for a noise above 1.5%. If neither its name nor its margin is
    known, near is within 0.5%, and the noise must be below 1%.

    >>> [known.saturated for known in at_stuck_values(0.5, LossFacts("contrastive"))]  # one number, two reasons
    [False, True]
    """
    known = loss.name is not None or loss.margin is not None
    if noise > (_MOST_NOISE_NEAR if known else _NEAR_KNOWN):
        return ()
    near = max(_NEAR_KNOWN, 1.5 * noise) if known else _NEAR_UNKNOWN
    return tuple(stuck for stuck in stuck_values(loss) if abs(value - stuck.value) <= near * stuck.value)


def _rests(tail: Float64, quantum: float) -> bool:
    middle = float(np.median(tail))
    level = abs(middle)
    if level == 0:
        return not tail.any()
    noise = max(number_noise(tail), min(quantum, _COARSEST * level) / math.sqrt(12))
    thirds = [float(third.mean()) for third in np.array_split(tail, 3)]
    wander = max(_WANDER * level, min(_MOST_WANDER * level, 4 * noise / math.sqrt(len(tail) / 3)))
    from_middle = np.abs(tail - middle)
    known = noise <= _MOST_NOISE * level
    known = known or (noise <= 10 * _MOST_NOISE * level and noise / math.sqrt(len(tail) / 3) <= level / 200)
    return (
        known
        and max(thirds) - min(thirds) <= wander
        and float(np.median(from_middle)) * 1.4826 <= 2 * noise + _WANDER / 2 * level
        and float(from_middle.max()) <= 6 * noise + _WANDER * level
    )
