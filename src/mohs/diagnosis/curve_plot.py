"""The precision-recall curves of the top, as it is and without each cause, as a PNG."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mohs.diagnosis.top_curve import TopCurve

__all__ = ["plot_curves"]

_FEWEST_PAIRS = 20


def plot_curves(curves: Mapping[str, TopCurve], path: str | Path, *, recall: float) -> None:
    """Write the curves as PNG; the first is drawn strong, `recall` is marked.

    The axis of recall is logarithmic, since what is asked about is its beginning; points of fewer than 20 pairs, where
    precision is chance, are left out.
    """
    figure = Figure(figsize=(7.2, 4.2), layout="constrained", dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for number, (name, curve) in enumerate(curves.items()):
        drawn = (curve.num_pairs_U >= _FEWEST_PAIRS) & (curve.recall_U > 0)
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
