"""Precision against recall among the most similar pairs, as it is and as it would be without some of them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mohs.doctor.precision.top_pairs import TopPairs
from mohs.evaluation.checked import Bools, Float64, Index
from mohs.evaluation.intervals import wilson_interval
from mohs.evaluation.top_precision import Dip, top_precision

__all__ = ["RECALLS", "TopCurve", "TopPoint", "plot_curves", "top_curve"]


RECALLS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
"""Where tables show the curve."""

SURE_DIP = 0.02
"""A dip is sure if even the lower end of its interval is above this; not 0, because the surest of many ranks is chosen,
which the interval does not know."""

FEWEST_PAIRS = 20
"""Dips are looked for from this many pairs on: fewer say too little about a share."""

_NUM_RANKS = 1000


@final
@dataclass(frozen=True)
class TopPoint:
    """The curve at one threshold: `num_pairs` pairs are at least as similar, `precision` of them are true matches."""

    recall: float
    precision: float
    interval: tuple[float, float]
    num_pairs: int
    similarity: float


@final
@dataclass(frozen=True, eq=False)
class TopCurve:
    """Precision and recall at each similarity of a pair, most similar first; tied pairs come in together.

    Attributes:
        recall_U, precision_U: float64 [U].
        num_pairs_U: pairs at least as similar, int64 [U].
        similarity_U: float64 [U], descending.
        dip: the surest drop of precision below what it is further down (at up to 1,000 ranks, even in the logarithm,
            the first at 20 pairs).
        deepest: the deepest such drop, sure or not.
    """

    recall_U: Float64
    precision_U: Float64
    num_pairs_U: Index
    similarity_U: Float64
    dip: Dip
    deepest: Dip

    @property
    def dips(self) -> bool:
        """Whether precision at the top is lower than further down by more than 0.02 at least."""
        return self.dip.interval[0] > SURE_DIP

    def at(self, recall: float) -> TopPoint | None:
        """Return the first point with at least that recall; None if the curve ends before it."""
        place = int(np.searchsorted(self.recall_U, recall - 1e-12))
        if place == len(self.recall_U):
            return None
        count, precision = int(self.num_pairs_U[place]), float(self.precision_U[place])
        interval = wilson_interval(round(precision * count), count)
        return TopPoint(float(self.recall_U[place]), precision, interval, count, float(self.similarity_U[place]))

    def points(self) -> list[TopPoint]:
        """Return the points at `RECALLS`, as far as the curve goes."""
        return [point for recall in RECALLS if (point := self.at(recall)) is not None]

    def as_record(self) -> dict[str, Any]:
        """Return the points and the dip as JSON values."""
        return {
            "points": [asdict(point) | {"interval": list(point.interval)} for point in self.points()],
            "dips": self.dips,
            "dip": {
                "depth": self.dip.depth,
                "interval": list(self.dip.interval),
                "num_pairs": self.dip.rank,
                "precision": self.dip.precision,
                "later_num_pairs": self.dip.later_rank,
                "later_precision": self.dip.later_precision,
            },
        }


def top_curve(pairs: TopPairs, *, without_P: Bools | None = None) -> TopCurve:
    """Return the curve of the pairs; with `without_P` (bool [P]) as if those pairs did not exist.

    True matches that are left out are taken from the number of all true matches, too. Intervals are Wilson's, which
    take pairs to be independent; pairs that share a picture are not, so the true ones are wider.

    >>> from mohs.doctor.precision.top_pairs import find_top_pairs
    >>> pairs = find_top_pairs([[1.0, 0.0], [1.0, 0.01], [0.0, 1.0], [1.0, 0.02]], ["a", "a", "b", "b"], recall=1.0)
    >>> top_curve(pairs).precision_U.round(2).tolist()
    [0.5, 0.33, 0.5]
    """
    kept = pairs if without_P is None else pairs.take(~without_P)
    num_positive = pairs.num_positive - (0 if without_P is None else int((pairs.same_P & without_P).sum()))
    if not len(kept):
        nothing = Dip(0.0, (0.0, 0.0), 0, 0.0, 1.0, 0, 0.0)
        return TopCurve(np.empty(0), np.empty(0), np.empty(0, np.int64), np.empty(0), nothing, nothing)
    last_U = np.append(np.flatnonzero(np.diff(kept.similarity_P)), len(kept) - 1)
    num_true_U = np.cumsum(kept.same_P)[last_U]
    num_pairs_U = last_U + 1
    if pairs.num_true_left_out or pairs.num_false_left_out:
        num_true_U[-1] += pairs.num_true_left_out
        num_pairs_U[-1] += pairs.num_true_left_out + pairs.num_false_left_out
    # The end of the group that each pair is in, at ranks even in the logarithm.
    wanted = np.unique(np.geomspace(min(FEWEST_PAIRS, len(kept)), len(kept), _NUM_RANKS).round().astype(np.int64))
    ends = np.unique(num_pairs_U[np.minimum(np.searchsorted(num_pairs_U, wanted), len(num_pairs_U) - 1)])
    group_P = np.searchsorted(ends, np.arange(len(kept)), side="right")
    seen = top_precision(kept.same_P, similarity_P=-group_P.astype(np.float64), num_ranks=len(kept))
    return TopCurve(
        recall_U=num_true_U / max(1, num_positive),
        precision_U=num_true_U / num_pairs_U,
        num_pairs_U=num_pairs_U,
        similarity_U=kept.similarity_P[last_U],
        dip=seen.surest,
        deepest=seen.deepest,
    )


def plot_curves(curves: Mapping[str, TopCurve], path: str | Path, *, recall: float) -> None:
    """Write the curves as PNG; the first is drawn strong, `recall` is marked.

    The axis of recall is logarithmic, since what is asked about is its beginning; points of fewer than 20 pairs, where
    precision is chance, are left out.
    """
    figure = Figure(figsize=(7.2, 4.2), layout="constrained", dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for number, (name, curve) in enumerate(curves.items()):
        drawn = (curve.num_pairs_U >= FEWEST_PAIRS) & (curve.recall_U > 0)
        if not drawn.any():
            continue
        strong = number == 0 or number == len(curves) - 1
        axes.plot(
            curve.recall_U[drawn],
            curve.precision_U[drawn],
            label=name,
            linewidth=2.2 if strong else 1.2,
            linestyle="-" if strong else "--",
            color="black" if number == 0 else f"C{number - 1}",
        )
    axes.axvline(recall, color="0.6", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    axes.grid(color="0.9")
    axes.legend(fontsize=8, loc="lower left")  # "best" is slow, and warns so on a busy machine
    figure.savefig(path, format="png")
