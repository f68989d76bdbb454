"""What a result looks like: precision and recall, distances, reliability, gallery size, as inline SVG."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from mohs.evaluation.pair_calibration import ReliabilityBin
from mohs.evaluation.pair_scores import ScoreHistogram
from mohs.report.parts import Band
from mohs.report.plots import DASHES, INK, NUM_COLOURS, SERIES, log_x_axis, new_axes, svg_of, svg_style

__all__ = ["band_plot", "distance_plot", "reliability_plot"]

_MAX_POINTS = 200


def band_plot(
    bands: Sequence[Band],
    *,
    figure_id: str,
    title: str,
    x_label: str,
    y_label: str,
    x_log: bool = False,
    diagonal: bool = False,
) -> Markup:
    """Return an SVG of curves with their 95% intervals as shaded bands; y is from 0 to 1.

    x ascends. A curve of more than 200 points is drawn through 200 of them, evenly by x (log x if `x_log`).
    With `x_log` points at x ≤ 0 are not drawn. `diagonal` draws y = x, what chance gives on a ROC plot.
    """
    with svg_style():
        figure, axes = new_axes(x_label, y_label)
        facts = []
        for series, band in enumerate(bands):
            colour, dashes = SERIES[series % NUM_COLOURS], DASHES[series % len(DASHES)]
            shown = _evenly(np.log10(np.maximum(band.x, 1e-12)) if x_log else band.x, band.x > 0 if x_log else None)
            x, y = band.x[shown], band.y[shown]
            if band.low is not None and band.high is not None:
                axes.fill_between(x, band.low[shown], band.high[shown], color=colour, alpha=0.18, linewidth=0)
            (drawn,) = axes.plot(x, y, color=colour, marker="o" if len(x) < 12 else None, markersize=3.5)
            if dashes:
                drawn.set_dashes(dashes)
            if len(x):
                facts.append(f"{band.name}: from {y[0]:.3g} at {x[0]:.3g} to {y[-1]:.3g} at {x[-1]:.3g}")
        if x_log:
            log_x_axis(axes)
        if diagonal:
            low, high = axes.get_xlim()
            line = np.geomspace(low, high, 200) if x_log else np.linspace(low, high, 200)
            axes.plot(line, line, color=INK, linewidth=0.7, alpha=0.5)
        axes.set_ylim(-0.03, 1.03)
        return svg_of(figure, figure_id, title, "; ".join(facts))


def distance_plot(histogram: ScoreHistogram) -> Markup:
    """Return an SVG of two histograms over distance: pairs of one class, filled, and of two classes, as a line."""
    with svg_style():
        figure, axes = new_axes("distance", "share of the pairs")
        axes.stairs(histogram.positive, histogram.edges, fill=True, color=SERIES[0], alpha=0.35)
        axes.stairs(histogram.negative, histogram.edges, color=SERIES[1], linewidth=1.6)
        axes.set_ylim(bottom=0)
        overlap = float(np.minimum(histogram.positive, histogram.negative).sum())
        facts = f"The two histograms share {overlap:.1%} of their area."
        return svg_of(figure, "distances", "Histograms of distance", facts)


def reliability_plot(bins: Sequence[ReliabilityBin]) -> Markup:
    """Return an SVG of the observed share over the predicted probability, with intervals, and the diagonal."""
    predicted, observed = (
        np.array([getattr(each, name) for each in bins], dtype=np.float64) for name in ("mean_probability", "frequency")
    )
    low, high = np.array([each.interval for each in bins], dtype=np.float64).T
    with svg_style():
        figure, axes = new_axes("predicted probability of one class", "observed share")
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.7, alpha=0.5)
        axes.errorbar(
            predicted,
            observed,
            # Rounding can put a bound a last digit on the wrong side, which matplotlib refuses.
            yerr=np.maximum([observed - low, high - observed], 0.0),
            fmt="o-",
            color=SERIES[0],
            markersize=4,
            linewidth=1.2,
        )
        axes.set_xlim(-0.03, 1.03)
        axes.set_ylim(-0.03, 1.03)
        off = np.average(np.abs(predicted - observed), weights=[each.num_cases for each in bins])
        facts = f"Observed and predicted differ by {off:.3f} on average."
        return svg_of(figure, "reliability", "Observed and predicted", facts)


def _evenly(x: npt.NDArray[np.float64], inside: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.int64]:
    """Return at most 201 indices of the points inside, evenly by x (ascending), the last one always among them."""
    index = np.arange(len(x)) if inside is None else np.flatnonzero(inside)
    if len(index) <= _MAX_POINTS:
        return index
    inner = x[index]
    first_beyond = np.searchsorted(inner, np.linspace(inner[0], inner[-1], _MAX_POINTS))
    chosen: npt.NDArray[np.int64] = index[np.unique(np.append(first_beyond, len(inner) - 1).clip(max=len(inner) - 1))]
    return chosen
