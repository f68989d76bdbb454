"""SVG that follows the page: its text colour, its font, light or dark.

No user text goes into a plot (names stand in the HTML around it), so nothing here needs escaping, a font with all
scripts, or mathtext.
"""

import contextlib
import io
import re
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

__all__ = ["DASHES", "INK", "NUM_COLOURS", "SERIES", "new_axes", "short_number", "svg_of", "svg_style"]

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

    >>> short_number(12_500), short_number(0.5)
    ('12.5k', '0.5')
    """
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:g}"


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
