"""Training against time: curves as inline SVG."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mohs.artefacts import atomic_path
from mohs.errors import InputError
from mohs.plan import TripletPlan
from mohs.report.svg import DASHES, INK, NUM_COLOURS, SERIES, new_axes, svg_of, svg_style

__all__ = ["Line", "check_picture_place", "hardness_plot", "line_plot", "save_hardness_plot"]

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
    with svg_style():
        figure, axes = new_axes("triplets seen", y_label)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        for line in lines:
            x, y = _stretch_means(line.x, line.y)
            # A single point has no length to draw.
            marker = "o" if len(x) == 1 else None
            (drawn,) = axes.plot(x, y, color=SERIES[line.series % NUM_COLOURS], marker=marker, markersize=4)
            dashes = DASHES[line.series % len(DASHES)]
            if dashes:
                drawn.set_dashes(dashes)
        if y_limits is not None:
            axes.set_ylim(*y_limits)
        facts = "; ".join(f"{line.name}: from {line.y[0]:.3g} to {line.y[-1]:.3g}" for line in lines)
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
    place = Path(path)
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
