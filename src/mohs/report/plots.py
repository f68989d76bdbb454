"""Curves as inline SVG that follows the page: its text colour, its font, light or dark.

No user text goes into a plot (names stand in the HTML around it), so nothing here needs escaping, a font with all
scripts, or mathtext.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

__all__ = ["DASHES", "NUM_COLOURS", "Line", "hardness_plot", "line_plot"]

NUM_COLOURS = 6
"""Series colours that the template's style sheet defines, `--series-0` to `--series-5`."""

DASHES: tuple[tuple[float, ...], ...] = ((), (6, 2), (2, 2), (8, 2, 2, 2))
"""Dash patterns in points, by series; with the colours, so that no curve is told by its colour alone."""

# Matplotlib wants real colours. These stand for the page's own and are replaced in the SVG.
_INK, _FAINT = "#fe0100", "#fe0200"
_SERIES = [f"#fe03{i:02d}" for i in range(NUM_COLOURS)]

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "mohs",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": _INK,
    "text.parse_math": False,
    "axes.edgecolor": _FAINT,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "grid.color": _FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": _FAINT,
    "xtick.labelcolor": _INK,
    "ytick.color": _FAINT,
    "ytick.labelcolor": _INK,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "path.simplify": False,
}

_MAX_LINE_POINTS = 150


@final
@dataclass(frozen=True)
class Line:
    """One curve: x [P] and y [P], drawn in the colour and dashes of series number `series`."""

    name: str
    series: int
    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]


def line_plot(
    lines: Sequence[Line], *, figure_id: str, title: str, y_label: str, y_limits: tuple[float, float] | None = None
) -> Markup:
    """Return an SVG of curves over the triplets seen.

    A curve of more than 150 points is drawn as the means of 150 even stretches of it. The SVG's description tells the
    first and the last value of each curve.

    Args:
        lines: the curves.
        figure_id: starts every id in the SVG, unique in the page; letters, digits and hyphens.
        title: accessible name of the SVG.
        y_label: what is drawn, with its unit.
        y_limits: lowest and highest y; None fits them to the data.
    """
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(y_label)
        for line in lines:
            x, y = _stretch_means(line.x, line.y)
            # A single point has no length to draw.
            marker = "o" if len(x) == 1 else None
            (drawn,) = axes.plot(x, y, color=_SERIES[line.series % NUM_COLOURS], marker=marker, markersize=4)
            dashes = DASHES[line.series % len(DASHES)]
            if dashes:
                drawn.set_dashes(dashes)
        if y_limits is not None:
            axes.set_ylim(*y_limits)
        facts = "; ".join(f"{line.name}: from {line.y[0]:.3g} to {line.y[-1]:.3g}" for line in lines)
        return _svg(figure, figure_id, title, facts)


def hardness_plot(
    triplet_index: npt.NDArray[np.float64],
    asked: npt.NDArray[np.float64],
    achieved: npt.NDArray[np.float64],
    *,
    series: int,
    figure_id: str,
    title: str,
) -> Markup:
    """Return an SVG of hardness over the triplets: asked as a line, achieved as dots.

    Args:
        triplet_index: [P] ascending.
        asked: [P] hardness in [0, 1] that the curve or the controller asked for.
        achieved: [P] hardness in [0, 1] of the negative that was found.
        series: whose colour the dots have.
        figure_id: starts every id in the SVG, unique in the page.
        title: accessible name of the SVG.
    """
    with mpl.rc_context(_STYLE):
        figure, axes = _axes("hardness")
        colour = _SERIES[series % NUM_COLOURS]
        axes.plot(triplet_index, achieved, "o", color=colour, alpha=0.6, markersize=3.2, markeredgewidth=0)
        axes.plot(triplet_index, asked, color=_INK, linewidth=1)
        axes.set_ylim(-0.03, 1.03)
        facts = (
            f"Asked hardness between {asked.min():.2f} and {asked.max():.2f}; achieved hardness differs from it by "
            f"{np.abs(asked - achieved).mean():.3f} on average."
        )
        return _svg(figure, figure_id, title, facts)


def _axes(y_label: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(5.2, 2.7), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.set_axisbelow(True)
    axes.set_xlabel("triplets seen")
    axes.set_ylabel(y_label)
    axes.margins(x=0.01)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short_number(value)))
    return figure, axes


def _short_number(value: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:g}"


def _stretch_means(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    if len(x) <= _MAX_LINE_POINTS:
        return x, y
    starts = np.arange(_MAX_LINE_POINTS) * len(x) // _MAX_LINE_POINTS
    sizes = np.diff(np.append(starts, len(x)))
    return np.add.reduceat(x, starts) / sizes, np.add.reduceat(y, starts) / sizes


def _with_short_coordinates(attribute: re.Match[str]) -> str:
    return re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", attribute[0])


def _svg(figure: Figure, figure_id: str, title: str, facts: str) -> Markup:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    # What only a stand-alone file needs: the XML head, and metadata with addresses.
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Ids are unique in one SVG; a page holds many.
    text = re.sub(r'\bid="([^"]+)"', rf'id="{figure_id}-\1"', text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{figure_id}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{figure_id}-\1)", text)
    # A hundredth of a point is enough for any screen.
    text = re.sub(r' (?:d|x|y)="[^"]+"', _with_short_coordinates, text)
    text = text.replace(_INK, "currentColor").replace(_FAINT, "var(--faint)")
    for i, colour in enumerate(_SERIES):
        text = text.replace(colour, f"var(--series-{i})")
    view_box = re.search(r'viewBox="[^"]+"', text)
    if view_box is None:
        raise AssertionError("matplotlib wrote an SVG without a viewBox")
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" class="plot" role="img" '
        f'{view_box[0]} aria-labelledby="{figure_id}-title {figure_id}-facts">\n'
        f'<title id="{figure_id}-title">{escape(title)}</title>\n<desc id="{figure_id}-facts">{escape(facts)}</desc>'
    )
    return Markup(re.sub(r"<svg[^>]*>", lambda _: head, text, count=1))  # noqa: S704  built above, parts escaped
