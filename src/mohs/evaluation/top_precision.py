"""Precision among the closest pairs: whether the most confident matches are right."""

from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt

from mohs.checks import require, wrong_whole
from mohs.evaluation.checked import Float64, Index
from mohs.evaluation.intervals import wilson_interval
from mohs.evaluation.pair_scores import pair_scores

__all__ = ["Dip", "TopPrecision", "top_precision"]


@final
@dataclass(frozen=True)
class Dip:
    """A drop of precision among the closest pairs, below what it is further down.

    Attributes:
        depth: precision at `later_rank` − precision at `rank`; 0 if precision never rises.
        interval: its 95% interval (Newcombe 1998, method 10); below 0 if it may be no dip at all.
        rank: number of pairs accepted in the dip.
        precision: of those.
        threshold: the score of the last of them.
        later_rank: number of pairs accepted where precision is highest after it.
        later_precision: of those.
    """

    depth: float
    interval: tuple[float, float]
    rank: int
    precision: float
    threshold: float
    later_rank: int
    later_precision: float


@final
@dataclass(frozen=True, eq=False)
class TopPrecision:
    """Precision of the closest pairs, at each rank that a threshold can cut at.

    Attributes:
        num_accepted_T: int64 [T], ascending: pairs accepted by threshold t; pairs tied come in together.
        threshold_T: the score of the last of them, as it was given.
        num_right_T: how many of them are positive.
        precision_T: their share.
        low_T: lower end of its 95% Wilson interval.
        high_T: upper end.
        deepest: the largest drop below a later maximum.
        surest: the drop whose interval has the highest lower end: the one to trust. Its being chosen among all ranks,
            and pairs of one class being alike, are not in the interval: ask for more than a lower end just above 0.
    """

    num_accepted_T: Index
    threshold_T: Float64
    num_right_T: Index
    precision_T: Float64
    low_T: Float64
    high_T: Float64
    deepest: Dip
    surest: Dip

    def as_record(self, *, num_points: int = 200) -> dict[str, Any]:
        """Return the numbers as JSON values, thinned to about `num_points` ranks, even in the logarithm."""
        last = len(self.num_accepted_T) - 1
        wanted = np.searchsorted(self.num_accepted_T, np.geomspace(1, self.num_accepted_T[-1], num_points))
        places = np.unique(np.minimum(wanted, last))
        return {
            "num_accepted": self.num_accepted_T[places].tolist(),
            "threshold": self.threshold_T[places].tolist(),
            "precision": self.precision_T[places].tolist(),
            "low": self.low_T[places].tolist(),
            "high": self.high_T[places].tolist(),
            "deepest": asdict(self.deepest),
            "surest": asdict(self.surest),
        }


def top_precision(
    same_P: npt.ArrayLike,
    *,
    distance_P: npt.ArrayLike | None = None,
    similarity_P: npt.ArrayLike | None = None,
    num_ranks: int = 1000,
) -> TopPrecision:
    """Return the precision of the closest pairs, and how far it dips; give one of `distance_P` and `similarity_P`.

    Give all of the closest pairs there are, not a sample of them. For r = 1, 2, … accepted pairs,
    precision is the share of positive ones among the r closest; pairs of the same score come in together, so that the
    order of a file decides nothing. The ranks are those up to `num_ranks`, and the end of the tie that it cuts.

    A dip at rank r below a later rank s compares the r closest pairs with the s − r pairs after them, which are
    others: with q the precision of the latter, precision_s − precision_r = (1 − r/s) · (q − precision_r), and the
    interval is (1 − r/s) times that of the difference of two independent shares, from Wilson's intervals of both.

    Args:
        same_P: bool [P], whether each pair is of one class; all alike is allowed.
        distance_P: numbers [P], at least 0, smaller is closer.
        similarity_P: numbers [P], larger is closer.
        num_ranks: at least 1.

    Raises:
        InputError: what `pair_scores` refuses, or `num_ranks` out of range.

    >>> found = top_precision([False, True, True, True], similarity_P=[0.99, 0.98, 0.9, 0.8])
    >>> found.precision_T.round(2).tolist(), found.deepest.depth
    ([0.0, 0.5, 0.67, 0.75], 0.75)
    """
    require(wrong_whole("num_ranks", num_ranks, example=1000))
    scores = pair_scores(same_P, distance_P=distance_P, similarity_P=similarity_P, both_kinds=False)
    order_P = np.argsort(-scores.closeness, kind="stable")
    closeness_P, right_P = scores.closeness[order_P], scores.same_P[order_P]
    last_T = np.append(np.flatnonzero(np.diff(closeness_P)), len(closeness_P) - 1)
    last_T = last_T[: int(np.searchsorted(last_T, num_ranks - 1, side="left")) + 1]
    num_accepted_T = last_T + 1
    num_right_T = np.cumsum(right_P)[last_T]
    interval_T2 = np.array(
        [
            wilson_interval(int(right), int(accepted))
            for right, accepted in zip(num_right_T, num_accepted_T, strict=True)
        ]
    )
    threshold_T = np.array([scores.in_units(closeness) for closeness in closeness_P[last_T]])
    dips = _dips(num_accepted_T, num_right_T, threshold_T, interval_T2)
    return TopPrecision(
        num_accepted_T=num_accepted_T,
        threshold_T=threshold_T,
        num_right_T=num_right_T,
        precision_T=num_right_T / num_accepted_T,
        low_T=interval_T2[:, 0],
        high_T=interval_T2[:, 1],
        deepest=max(dips, key=lambda dip: (dip.depth, -dip.rank)),
        surest=max(dips, key=lambda dip: (dip.interval[0], -dip.rank)),
    )


def _dips(accepted_T: Index, right_T: Index, threshold_T: Float64, interval_T2: Float64) -> list[Dip]:
    """Return the drop of each rank below the highest precision that comes after it; where none is higher, depth 0."""
    precision_T = right_T / accepted_T
    dips = []
    best = len(precision_T) - 1
    for t in range(len(precision_T) - 1, -1, -1):
        # Of equal precisions the later one, which is the surer.
        if precision_T[t] > precision_T[best]:
            best = t
        depth, interval = 0.0, (0.0, 0.0)
        if best > t:
            depth = float(precision_T[best] - precision_T[t])
            between = int(accepted_T[best] - accepted_T[t])
            interval = _interval(
                depth,
                int(right_T[best] - right_T[t]) / between,
                wilson_interval(int(right_T[best] - right_T[t]), between),
                float(precision_T[t]),
                (float(interval_T2[t, 0]), float(interval_T2[t, 1])),
                1 - int(accepted_T[t]) / int(accepted_T[best]),
            )
        dips.append(
            Dip(
                depth=depth,
                interval=interval,
                rank=int(accepted_T[t]),
                precision=float(precision_T[t]),
                threshold=float(threshold_T[t]),
                later_rank=int(accepted_T[best]),
                later_precision=float(precision_T[best]),
            )
        )
    return dips


def _interval(
    depth: float, q: float, q_interval: tuple[float, float], p: float, p_interval: tuple[float, float], factor: float
) -> tuple[float, float]:
    """Return factor times the interval of q − p of independent shares (Newcombe 1998, method 10).

    `depth` is factor · (q − p), and is in the interval to the last digit: the ends are laid off from it.
    """
    below = float(np.hypot(q - q_interval[0], p_interval[1] - p))
    above = float(np.hypot(q_interval[1] - q, p - p_interval[0]))
    return depth - factor * below, depth + factor * above
