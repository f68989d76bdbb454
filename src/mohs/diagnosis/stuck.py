"""Whether a column of a log has come to rest, and where."""

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from mohs.diagnosis.known_losses import LossFacts, StuckValue, stuck_values

__all__ = ["Rest", "at_stuck_value", "at_stuck_values", "constant_tail", "finite_tail"]

_CONSTANT = 2e-3
_NEAR = 5e-3
_MIN_ROWS = 5


@final
@dataclass(frozen=True)
class Rest:
    """The end of a column, if it is constant.

    Attributes:
        value: its mean.
        first_row: the row it begins at.
        num_rows: how many numbers it has.
        first_value: the column's first number.
        largest_before: the largest number before it; NaN if there is none.
    """

    value: float
    first_row: int
    num_rows: int
    first_value: float
    largest_before: float


def finite_tail(values_T: NDArray[np.float64], share: float, *, at_least: int = 3) -> NDArray[np.float64]:
    """Return the last `share` of the finite numbers, `at_least` so many if there are as many.

    >>> finite_tail(np.array([1.0, np.nan, 2.0, 3.0, 4.0]), 0.5).tolist()
    [2.0, 3.0, 4.0]
    """
    finite = values_T[np.isfinite(values_T)]
    return finite[len(finite) - min(len(finite), max(at_least, round(share * len(finite)))) :]


def constant_tail(values_T: NDArray[np.float64]) -> Rest | None:
    """Return the constant end of a column: the longest one within ±0.1% of its middle.

    None if it is shorter than 5 numbers or than a quarter of the column. Losses that still learn, of batches or of
    epochs, differ by more from one row to the next.

    >>> constant_tail(np.array([0.7, 0.6] + [0.5] * 10)).first_row
    2
    >>> constant_tail(np.linspace(1.0, 0.5, 20)) is None
    True
    """
    rows = np.flatnonzero(np.isfinite(values_T))
    finite = values_T[rows]
    if len(finite) < _MIN_ROWS:
        return None
    backwards = finite[::-1]
    low, high = np.minimum.accumulate(backwards), np.maximum.accumulate(backwards)
    wide = np.flatnonzero(high - low > _CONSTANT * np.abs(high + low) / 2)
    num = int(wide[0]) if wide.size else len(finite)
    if num < max(_MIN_ROWS, len(finite) / 4):
        return None
    before = finite[: len(finite) - num]
    return Rest(
        value=float(finite[-num:].mean()),
        first_row=int(rows[-num]),
        num_rows=num,
        first_value=float(finite[0]),
        largest_before=float(before.max()) if len(before) else float("nan"),
    )


def at_stuck_values(value: float, loss: LossFacts) -> tuple[StuckValue, ...]:
    """Return the stuck values of the loss that `value` is within 0.5% of, likeliest first.

    >>> [known.saturated for known in at_stuck_values(0.5, LossFacts("contrastive"))]  # one number, two reasons
    [False, True]
    """
    return tuple(known for known in stuck_values(loss) if abs(value - known.value) <= _NEAR * known.value)


def at_stuck_value(value: float, loss: LossFacts) -> StuckValue | None:
    """Return the likeliest of these values; None if there is none.

    >>> at_stuck_value(0.2001, LossFacts("triplet", margin=0.2)).value
    0.2
    """
    return next(iter(at_stuck_values(value, loss)), None)
