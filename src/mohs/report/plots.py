"""SVG that follows the page: its text colour, its font, light or dark.

No user text goes into a plot (names stand in the HTML around it), so nothing here needs escaping, a font with all
scripts, or mathtext.
"""

import contextlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from mohs.artefacts import atomic_path
from mohs.checks import path_of
from mohs.errors import InputError
from mohs.plan import TripletPlan
from mohs.report.parts import Band

__all__ = [
    "DASHES",
    "INK",
    "NUM_COLOURS",
    "SERIES",
    "check_picture_place",
    "hardness_plot",
    "interval_plot",
    "line_plot",
    "log_x_axis",
    "new_axes",
    "save_hardness_plot",
    "short_number",
    "svg_of",
    "svg_style",
]


NUM_COLOURS = 6
"""Series colours that the template's style sheet defines, `--series-0` to `--series-5`."""

DASHES: tuple[tuple[float, ...], ...] = ((), (6, 2), (2, 2), (8, 2, 2, 2))
"""Dash patterns in points, by series; with the colours, so that no curve is told by its colour alone."""

# Matplotlib wants real colours. These stand for the page's own and are replaced in the SVG.
INK, _FAINT = "#fe0100", "#fe0200"
SERIES = [f"#fe03{i:02d}" for i in range(NUM_COLOURS)]

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "mohs",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": _FAINT,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "grid.color": _FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": _FAINT,
    "xtick.labelcolor": INK,
    "ytick.color": _FAINT,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "path.simplify": False,
}


@contextlib.contextmanager
def svg_style() -> Iterator[None]:
    """Draw in the page's style inside this block; matplotlib's own settings are given back after it."""
    with mpl.rc_context(_STYLE):
        yield


def new_axes(x_label: str, y_label: str) -> tuple[Figure, Any]:
    """Return an empty figure of the page's plots and its axes."""
    figure = Figure(figsize=(5.2, 2.7), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.set_axisbelow(True)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.margins(x=0.01)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
    return figure, axes


def short_number(value: float) -> str:
    """Return a number as an axis shows it.

    >>> short_number(12_500), short_number(0.5), short_number(1e-5)
    ('12.5k', '0.5', '1e-5')
    """
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:g}".replace("e-0", "e-")


def log_x_axis(axes: Any) -> None:
    """Make the x axis logarithmic, with few and plain tick labels: matplotlib's own are mathtext, which is off here.

    Decades are labelled, and 2 and 5 of each where the axis spans fewer than two.
    """
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    steps = (1.0,) if high / low >= 100 else (1.0, 2.0, 5.0)
    axes.xaxis.set_major_locator(LogLocator(subs=steps, numticks=8))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
    axes.xaxis.set_minor_locator(NullLocator())


def _with_short_coordinates(attribute: re.Match[str]) -> str:
    return re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", attribute[0])


def svg_of(figure: Figure, figure_id: str, title: str, facts: str) -> Markup:
    """Return a figure as an SVG element whose ids start with `figure_id`, with an accessible title and description."""
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
    text = text.replace(INK, "currentColor").replace(_FAINT, "var(--faint)")
    for i, colour in enumerate(SERIES):
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


_MAX_LINE_POINTS = 150


def line_plot(
    curves: Sequence[Band], *, figure_id: str, title: str, y_label: str, y_limits: tuple[float, float] | None = None
) -> Markup:
    """Return an SVG of curves over the triplets seen, each in the colour and dashes of its place; empty ones have none.

    A curve of more than 150 points is drawn as the means of 150 even stretches of it. The SVG's description tells the
    first and the last value of each curve.

    Args:
        curves: the curves; their intervals are not drawn.
        figure_id: starts every id in the SVG, unique in the page; letters, digits and hyphens.
        title: accessible name of the SVG.
        y_label: what is drawn, with its unit.
        y_limits: lowest and highest y; None fits them to the data.
    """
    with svg_style():
        figure, axes = new_axes("triplets seen", y_label)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        for series, curve in enumerate(curves):
            if not len(curve.x):
                continue
            x, y = _stretch_means(curve.x, curve.y)
            # A single point has no length to draw.
            marker = "o" if len(x) == 1 else None
            (drawn,) = axes.plot(x, y, color=SERIES[series % NUM_COLOURS], marker=marker, markersize=4)
            dashes = DASHES[series % len(DASHES)]
            if dashes:
                drawn.set_dashes(dashes)
        if y_limits is not None:
            axes.set_ylim(*y_limits)
        facts = "; ".join(f"{each.name}: from {each.y[0]:.3g} to {each.y[-1]:.3g}" for each in curves if len(each.y))
        return svg_of(figure, figure_id, title, facts)


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
    with svg_style():
        figure, axes = new_axes("triplets seen", "hardness")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        _draw_hardness(axes, triplet_index, asked, achieved, series=series, marker_size=3.2)
        facts = (
            f"Asked hardness between {asked.min():.2f} and {asked.max():.2f}; achieved hardness differs from it by "
            f"{np.abs(asked - achieved).mean():.3f} on average."
        )
        return svg_of(figure, figure_id, title, facts)


def check_picture_place(path: str | Path, *, name: str) -> None:
    """Raise `InputError`, under `name`, for a file that no picture can be written to."""
    place = path_of(name, path)
    known = sorted(FigureCanvasBase.get_supported_filetypes())
    if place.suffix[1:].lower() not in known:
        raise InputError(f"{name}: {path}: matplotlib writes no {place.suffix or 'file without an ending'}; use .png")
    blocking = next(parent for parent in place.absolute().parents if parent.exists())
    if place.is_dir() or not blocking.is_dir():
        what = "is a folder" if place.is_dir() else f"{blocking} is a file"
        raise InputError(f"{name}: {path}: {what}; name another file")


def save_hardness_plot(path: str | Path, plans: Mapping[str, TripletPlan]) -> None:
    """Write a picture of the hardness of every triplet, asked for and achieved, with a panel for each plan.

    The format is that of the file's ending. The file takes the place of one that is there.
    """
    place = Path(path)
    figure = Figure(figsize=(9, 2.4 * len(plans) + 0.4), layout="constrained")
    for row, (name, plan) in enumerate(plans.items()):
        axes = figure.add_subplot(len(plans), 1, row + 1)
        index = np.arange(len(plan))
        _draw_hardness(axes, index, plan.hardness, plan.achieved_hardness, series=0, marker_size=2.0)
        axes.set_title(f"{name}: {len(plan):,} triplets")
        axes.set_xlabel("triplet")
        axes.set_ylabel("hardness")
        axes.margins(x=0.01)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    with atomic_path(place) as temporary:
        figure.savefig(temporary, format=place.suffix[1:].lower(), dpi=150)


def _draw_hardness(
    axes: Any,
    triplet_index: npt.NDArray[Any],
    asked: npt.NDArray[Any],
    achieved: npt.NDArray[Any],
    *,
    series: int,
    marker_size: float,
) -> None:
    """Draw hardness over the triplets into axes: achieved as dots, asked for as a line."""
    colour = SERIES[series % NUM_COLOURS]
    axes.plot(
        triplet_index, achieved, "o", color=colour, alpha=0.6, markersize=marker_size, markeredgewidth=0,
        label="achieved",
    )  # fmt: skip
    axes.plot(triplet_index, asked, color=INK, linewidth=1, label="asked for")
    axes.set_ylim(-0.03, 1.03)


def _stretch_means(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    if len(x) <= _MAX_LINE_POINTS:
        return x, y
    starts = np.arange(_MAX_LINE_POINTS) * len(x) // _MAX_LINE_POINTS
    sizes = np.diff(np.append(starts, len(x)))
    return np.add.reduceat(x, starts) / sizes, np.add.reduceat(y, starts) / sizes


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
