"""What to expect of each threshold: how many queries get their class, how many answers are right."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

__all__ = ["OperatingCurve", "operating_curve"]

_MAX_POINTS = 101


@final
@dataclass(frozen=True)
class OperatingCurve:
    """Shares at T thresholds of distance, ascending; an answer is given if the nearest item is nearer than it.

    Attributes:
        threshold_distance: the thresholds.
        precision: of the answers to pictures whose class is in the index, the share that is right; None where no answer
            is given.
        recall: of the pictures whose class is in the index, the share that gets its class.
        false_acceptance: of the pictures whose class is not in the index, the share that gets a class all the same.
    """

    threshold_distance: tuple[float, ...]
    precision: tuple[float | None, ...]
    recall: tuple[float, ...]
    false_acceptance: tuple[float, ...]

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> "OperatingCurve":
        """Return the curve of a JSON object with these four lists."""
        return cls(**{name: tuple(values) for name, values in record.items()})


def operating_curve(
    distance_P: NDArray[np.floating], right_P: NDArray[np.bool_], distance_Q: NDArray[np.floating]
) -> OperatingCurve:
    """Return the curve of held-out pictures, at up to 101 thresholds: just beyond quantiles of their distances.

    Args:
        distance_P: of pictures whose class is in the index, the distance of the nearest item.
        right_P: whether that item is of their class.
        distance_Q: of pictures whose class is not in the index, the distance of the nearest item.

    >>> curve = operating_curve(np.array([0.1, 0.3]), np.array([True, False]), np.array([0.2, 0.4]))
    >>> [round(t, 3) for t in curve.threshold_distance], curve.precision
    ([0.1, 0.2, 0.3, 0.4], (1.0, 1.0, 0.5, 0.5))
    >>> curve.recall, curve.false_acceptance
    ((0.5, 0.5, 0.5, 0.5), (0.0, 0.5, 0.5, 1.0))
    """
    every = np.unique(np.concatenate([distance_P, distance_Q]).astype(np.float64))
    chosen = every[np.unique(np.linspace(0, len(every) - 1, min(_MAX_POINTS, len(every))).round().astype(int))]
    threshold_T = np.nextafter(chosen, np.inf)
    given_TP = distance_P[None, :] < threshold_T[:, None]
    given_T, found_T = given_TP.sum(axis=1), (given_TP & right_P).sum(axis=1)
    return OperatingCurve(
        threshold_distance=tuple(threshold_T.tolist()),
        precision=tuple(
            found / given if given else None for found, given in zip(found_T.tolist(), given_T.tolist(), strict=True)
        ),
        recall=tuple((found_T / len(distance_P)).tolist()),
        false_acceptance=tuple((distance_Q[None, :] < threshold_T[:, None]).mean(axis=1).tolist()),
    )
