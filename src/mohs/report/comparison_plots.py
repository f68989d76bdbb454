"""Strategies side by side: one dot and its interval each, as inline SVG."""

from collections.abc import Sequence

from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from mohs.report.svg import INK, SERIES, svg_of, svg_style

__all__ = ["interval_plot"]

_ROW_INCHES, _FRAME_INCHES = 0.24, 0.6


def interval_plot(
    names: Sequence[str],
    values: Sequence[float],
    intervals: Sequence[tuple[float, float]],
    *,
    figure_id: str,
    title: str,
    x_label: str,
    zero: bool = False,
) -> Markup:
    """Return an SVG with a row for each name, from top to bottom: its value as a dot, its interval as a line.

    Args:
        names: names of strategies; they are Mohs's own, so that they may stand in a plot.
        values: one for each.
        intervals: (low, high) for each.
        figure_id: starts every id in the SVG, unique in the page.
        title: accessible name of the SVG.
        x_label: what the values are.
        zero: whether x = 0 is drawn, as for differences.
    """
    with svg_style():
        figure = Figure(figsize=(5.2, _FRAME_INCHES + _ROW_INCHES * len(names)), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.set_axisbelow(True)
        for row, (value, (low, high)) in enumerate(zip(values, intervals, strict=True)):
            axes.plot([low, high], [row, row], color=SERIES[0], linewidth=2.4, alpha=0.45)
            axes.plot([value], [row], "o", color=SERIES[0], markersize=4.5)
        if zero:
            axes.axvline(0.0, color=INK, linewidth=0.8)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlabel(x_label)
        facts = "; ".join(
            f"{name}: {value:.3f} ({low:.3f} to {high:.3f})"
            for name, value, (low, high) in zip(names, values, intervals, strict=True)
        )
        return svg_of(figure, figure_id, title, facts)
