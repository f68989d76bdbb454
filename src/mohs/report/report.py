"""One self-contained HTML page about one or more training runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

import jinja2
import numpy as np
import numpy.typing as npt

from mohs.artefacts import atomic_path
from mohs.errors import InputError
from mohs.report.pictures import data_uris
from mohs.report.plots import DASHES, NUM_COLOURS, Line, hardness_plot, line_plot

__all__ = ["Example", "Hit", "MinedTriplet", "Report", "Strategy", "Verdict", "write_report"]

# Dots of all hardness plots together; an SVG dot takes about 130 bytes.
_MAX_DOTS, _MAX_DOTS_PER_STRATEGY = 4000, 600

_MAX_BYTES = 3_000_000


@final
@dataclass(frozen=True)
class Verdict:
    """One sentence of judgement: "good" (as it should be), "note" (worth knowing) or "bad" (a problem)."""

    level: Literal["good", "note", "bad"]
    text: str


@final
@dataclass(frozen=True)
class Strategy:
    """One trained run to be drawn.

    `events` are those of its log, in order. Step events: {"event": "step", "triplets": seen so far} and any of "loss",
    "active_fraction", "spread", "pictures_per_s". Segment events: {"event": "segment"} and "triplet_index",
    "hardness_asked", "hardness_achieved" (lists of one length), "embed_s", "mine_s", "train_s", "effective_rank",
    "triplets". Other keys and other events are ignored; a missing value or None is not drawn.
    """

    name: str
    events: Sequence[Mapping[str, Any]]


@final
@dataclass(frozen=True, eq=False)
class Hit:
    """One result of a query: the picture (uint8 HW, HW1 or HW3), its label, its distance, and whether it is right."""

    picture: npt.NDArray[np.uint8]
    label: str
    distance: float
    is_match: bool


@final
@dataclass(frozen=True, eq=False)
class Example:
    """A query picture and its nearest results, nearest first."""

    query: npt.NDArray[np.uint8]
    query_label: str
    results: Sequence[Hit]


@final
@dataclass(frozen=True, eq=False)
class MinedTriplet:
    """A triplet as it was mined: three pictures, two labels, the achieved hardness, when; `strategy` groups them."""

    anchor: npt.NDArray[np.uint8]
    positive: npt.NDArray[np.uint8]
    negative: npt.NDArray[np.uint8]
    label: str
    negative_label: str
    hardness: float
    triplet_index: int
    strategy: str = ""


@final
@dataclass(frozen=True, eq=False)
class Report:
    """What the page shows; empty parts are left out of it.

    Attributes:
        title: the heading of the page.
        summary: facts in pairs (what, value), such as ("classes", "5,200").
        verdicts: sentences of judgement, most important first.
        table_header: names of the columns of the table of results; the first column names the row.
        table_rows: the rows, already formatted, each as long as the header.
        table_caption: what the table measures, on what, with which intervals.
        highlight: index of the row to mark, or None.
        highlight_mark: the word it is marked with.
        strategies: the runs to draw; the order gives their colours.
        examples_best: queries that went well.
        examples_worst: queries that went wrong.
        mined: triplets at chosen moments.
        command: the command that does it all again.
        versions: name and version of what was used.
    """

    title: str
    summary: Sequence[tuple[str, str]] = ()
    verdicts: Sequence[Verdict] = ()
    table_header: Sequence[str] = ()
    table_rows: Sequence[Sequence[str]] = ()
    table_caption: str = "Results on held-out data"
    highlight: int | None = None
    highlight_mark: str = "default"
    strategies: Sequence[Strategy] = ()
    examples_best: Sequence[Example] = ()
    examples_worst: Sequence[Example] = ()
    mined: Sequence[MinedTriplet] = ()
    command: str = ""
    versions: Mapping[str, str] | None = None


def write_report(path: str | Path, report: Report) -> None:
    """Write `report` to `path` as one HTML file without any reference to the network, atomically.

    Pictures are inside as PNG, plots as SVG; the file stays under 3 MB. The same report gives the same bytes.

    Raises:
        InputError: rows that do not fit the header, a highlight out of range, lists of unequal length in an event, a
            picture that is not uint8, or more pictures than fit.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_report(f"{folder}/report.html", Report("A run", summary=[("classes", "12")]))
    ...     Path(f"{folder}/report.html").read_text(encoding="utf-8")[:15]
    '<!doctype html>'
    """
    _check(report)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mohs.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pictures = _Pictures(report)
    html = environment.get_template("report.html.j2").render(
        report=report,
        uri=pictures.uri,
        legend=[
            {"name": strategy.name, "series": i % NUM_COLOURS, "dashes": " ".join(map(str, DASHES[i % len(DASHES)]))}
            for i, strategy in enumerate(report.strategies)
        ],
        hardness_plots=_hardness_plots(report.strategies),
        line_plots=_line_plots(report.strategies),
        times=_times(report.strategies),
        numeric_columns=_numeric_columns(report),
        mined_groups=_mined_groups(report.mined),
    )
    data = html.encode("utf-8")
    if len(data) > _MAX_BYTES:
        raise InputError(f"report: {len(data):,} bytes; the limit is {_MAX_BYTES:,}, show fewer strategies or examples")
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


@final
class _Pictures:
    # Shrunk all together, since they share one budget; found again by identity.
    def __init__(self, report: Report) -> None:
        pictures = [
            picture
            for example in (*report.examples_best, *report.examples_worst)
            for picture in (example.query, *(hit.picture for hit in example.results))
        ]
        pictures += [picture for one in report.mined for picture in (one.anchor, one.positive, one.negative)]
        self._uris = dict(zip(map(id, pictures), data_uris(pictures), strict=True))

    def uri(self, picture: npt.NDArray[np.uint8]) -> str:
        return self._uris[id(picture)]


def _check(report: Report) -> None:
    problems = [
        f"table_rows: row {i} has {len(row)} cells and the header {len(report.table_header)}; give one for each column"
        for i, row in enumerate(report.table_rows)
        if len(row) != len(report.table_header)
    ]
    if report.highlight is not None and not 0 <= report.highlight < len(report.table_rows):
        problems.append(f"highlight: {report.highlight} is not in [0, {len(report.table_rows)}), the rows of the table")
    problems += [
        f"verdicts: level {verdict.level!r} of {verdict.text!r} is not one of 'good', 'note', 'bad'"
        for verdict in report.verdicts
        if verdict.level not in ("good", "note", "bad")
    ]
    for strategy in report.strategies:
        for event in _of_kind(strategy, "segment"):
            lengths = [len(event.get(key) or ()) for key in ("triplet_index", "hardness_asked", "hardness_achieved")]
            if len(set(lengths)) > 1:
                problems.append(
                    f"strategy {strategy.name!r}: segment {event.get('segment')}: triplet_index, hardness_asked and "
                    f"hardness_achieved have lengths {lengths}; they must be equal"
                )
    if problems:
        raise InputError(*problems)


def _of_kind(strategy: Strategy, kind: str) -> list[Mapping[str, Any]]:
    return [event for event in strategy.events if event["event"] == kind]


def _hardness_plots(strategies: Sequence[Strategy]) -> list[dict[str, Any]]:
    plots = []
    for series, strategy in enumerate(strategies):
        segments = _of_kind(strategy, "segment")
        index, asked, achieved = (
            np.array([value for event in segments for value in event.get(key) or ()], dtype=np.float64)
            for key in ("triplet_index", "hardness_asked", "hardness_achieved")
        )
        if len(index) == 0:
            continue
        order = np.argsort(index, kind="stable")
        most = min(_MAX_DOTS_PER_STRATEGY, _MAX_DOTS // len(strategies))
        if len(order) > most:
            order = order[np.linspace(0, len(order) - 1, most).round().astype(np.int64)]
        plots.append(
            {
                "name": strategy.name,
                "svg": hardness_plot(
                    index[order],
                    asked[order],
                    achieved[order],
                    series=series,
                    figure_id=f"hardness-{series}",
                    title=f"Hardness against time: {strategy.name}",
                ),
            }
        )
    return plots


def _line_plots(strategies: Sequence[Strategy]) -> list[dict[str, Any]]:
    wanted: list[tuple[str, str, str, tuple[float, float] | None, str]] = [
        ("loss", "Loss", "loss", None, "Losses of different kinds have different scales: compare shapes, not heights."),
        (
            "active_fraction",
            "Active triplets",
            "share of triplets with a loss",
            (-0.03, 1.03),
            "Near 0 there is nothing left to learn from; at 1 with a loss that stands still, the model has collapsed.",
        ),
        (
            "spread",
            "Spread of the embeddings",
            "std·√D",
            (-0.03, 1.03),
            "1 is spread evenly over the sphere; a fall towards 0 is a collapse.",
        ),
        ("pictures_per_s", "Speed", "pictures per second", None, "While training; embedding and mining are below."),
    ]
    plots = []
    for key, heading, y_label, y_limits, note in wanted:
        lines = []
        for series, strategy in enumerate(strategies):
            events = [event for event in _of_kind(strategy, "step") if event.get(key) is not None]
            if events:
                x, y = (np.array([event[name] for event in events], dtype=np.float64) for name in ("triplets", key))
                lines.append(Line(strategy.name, series, x, y))
        if lines:
            figure_id = key.replace("_", "-")
            svg = line_plot(
                lines, figure_id=figure_id, title=f"{heading} against time", y_label=y_label, y_limits=y_limits
            )
            plots.append({"heading": heading, "svg": svg, "note": note})
    return plots


def _times(strategies: Sequence[Strategy]) -> list[dict[str, Any]]:
    rows = []
    for strategy in strategies:
        seconds = {
            part: [event[f"{part}_s"] for event in _of_kind(strategy, "segment") if event.get(f"{part}_s") is not None]
            for part in ("embed", "mine", "train")
        }
        total = sum(sum(values) for values in seconds.values())
        if total > 0:
            rows.append(
                {
                    "name": strategy.name,
                    "total": f"{total:,.1f}",
                    "parts": [
                        {
                            "name": part,
                            "seconds": f"{sum(values):,.1f}" if values else "–",
                            "percent": f"{100 * sum(values) / total:.1f}",
                        }
                        for part, values in seconds.items()
                    ],
                }
            )
    return rows


def _numeric_columns(report: Report) -> list[bool]:
    # Numbers stand right, one below the other. "0.53 ± 0.01", "12 %" and "–" count as numbers.
    return [
        column > 0
        and all(cell[:1].isdigit() or cell[:1] in "–-+±" for row in report.table_rows for cell in [row[column].strip()])
        for column in range(len(report.table_header))
    ]


def _mined_groups(mined: Sequence[MinedTriplet]) -> list[tuple[str, list[MinedTriplet]]]:
    groups: dict[str, list[MinedTriplet]] = {}
    for triplet in mined:
        groups.setdefault(triplet.strategy, []).append(triplet)
    return list(groups.items())
