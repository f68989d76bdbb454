"""One self-contained HTML page about one or more training runs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt

from mohs.artefacts import atomic_path
from mohs.doctor.findings import settings_diff
from mohs.errors import InputError
from mohs.report.parts import Band, DrawnRun, EmbeddingMap, MinedTriplet, Pairs, Plot, Report, TextTable
from mohs.report.plots import DASHES, NUM_COLOURS, hardness_plot, line_plot
from mohs.report.rendering import data_uris, rendered, thumbnail_uris
from mohs.report.result_plots import band_plot, distance_plot, reliability_plot

__all__ = ["write_report"]

# Dots of all hardness plots together; an SVG dot takes about 130 bytes.
_MAX_DOTS, _MAX_DOTS_PER_STRATEGY = 4000, 600

_MAX_BYTES = 3_000_000


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
    values = {
        "report": report,
        "uri": _Pictures(report).uri,
        "legend": [
            {"name": strategy.name, "series": i % NUM_COLOURS, "dashes": " ".join(map(str, DASHES[i % len(DASHES)]))}
            for i, strategy in enumerate(report.strategies)
        ],
        "hardness_plots": _hardness_plots(report.strategies),
        "line_plots": [*_held_out_plot(report.strategies), *_line_plots(report.strategies)],
        "times": _times(report.strategies),
        "numeric": _numeric_columns,
        "pair_plots": [] if report.pairs is None else _pair_plots(report.pairs),
        "gallery_plot": _gallery_plot(report),
        "gallery_table": _gallery_table(report),
        "settings_diff": settings_diff,
        "map_points": [] if report.embedding_map is None else _map_points(report.embedding_map),
        "mined_groups": _mined_groups(report.mined),
    }
    data = rendered("report.html.j2", values).encode("utf-8")
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
        pictures += [picture for one in report.confusions for picture in (one.picture, one.other_picture)]
        self._uris = dict(zip(map(id, pictures), data_uris(pictures), strict=True))

    def uri(self, picture: npt.NDArray[np.uint8]) -> str:
        return self._uris[id(picture)]


def _check(report: Report) -> None:
    tables = [("results", report.results)]
    tables += [(f"more_tables {i}", table) for i, table in enumerate(report.more_tables)]
    if report.pairs is not None:
        tables += [("pairs.facts", report.pairs.facts), ("pairs.thresholds", report.pairs.thresholds)]
    problems = [
        f"{name}: row {i} has {len(row)} cells and the header {len(table.header)}; give one for each column"
        for name, table in tables
        for i, row in enumerate(table.rows)
        if len(row) != len(table.header)
    ]
    problems += [
        f"{name}: aside {list(table.aside)} are not columns from 1 to {len(table.header) - 1}"
        for name, table in tables
        if not all(0 < column < len(table.header) for column in table.aside)
    ]
    num_rows = len(report.results.rows)
    if report.highlight is not None and not 0 <= report.highlight < num_rows:
        problems.append(f"highlight: {report.highlight} is not in [0, {num_rows}), the rows of the table")
    problems += [
        f"verdicts: level {verdict.level!r} of {verdict.text!r} is not one of 'result', 'good', 'note', 'bad'"
        for verdict in report.verdicts
        if verdict.level not in ("result", "good", "note", "bad")
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


def _of_kind(strategy: DrawnRun, kind: str) -> list[Mapping[str, Any]]:
    return [event for event in strategy.events if event["event"] == kind]


def _hardness_plots(strategies: Sequence[DrawnRun]) -> list[dict[str, Any]]:
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
                "note": _SPIKY if _is_spiky(asked[order]) else "",
                "series": series % NUM_COLOURS,
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


_SPIKY = (
    "The line jumps because batches are put together from neighbouring classes: triplets stand in the order of their "
    "batches, not of the curve."
)


def _is_spiky(asked: npt.NDArray[np.float64]) -> bool:
    """Return whether a quarter of the points are turns: no curve of hardness turns that often by itself."""
    turns = np.diff(asked[1:]) * np.diff(asked[:-1]) < 0
    return len(asked) > 8 and int(turns.sum()) > len(asked) / 4


def _curve(strategy: DrawnRun, kind: str, key: str) -> Band:
    """Return what the events of a kind say of `key` over the triplets seen; an empty curve if they say nothing."""
    events = [event for event in _of_kind(strategy, kind) if event.get(key) is not None]
    x, y = (np.array([event[name] for event in events], dtype=np.float64) for name in ("triplets", key))
    return Band(strategy.name, x, y)


def _line_plots(strategies: Sequence[DrawnRun]) -> list[Plot]:
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
        curves = [_curve(strategy, "step", key) for strategy in strategies]
        if any(len(curve.x) for curve in curves):
            figure_id = key.replace("_", "-")
            svg = line_plot(
                curves, figure_id=figure_id, title=f"{heading} against time", y_label=y_label, y_limits=y_limits
            )
            plots.append(Plot(heading, svg, note))
    return plots


def _held_out_plot(strategies: Sequence[DrawnRun]) -> list[Plot]:
    """Return the plot of R@1 on held-out pictures over the run, in a list; an empty one if no run has any."""
    bands, of, kept = [], set(), []
    for strategy in strategies:
        points, curve = _of_kind(strategy, "held-out"), _curve(strategy, "held-out", "recall")
        if points and all("low" in event and "high" in event for event in points):  # older runs have none
            low, high = (np.array([event[name] for event in points], dtype=np.float64) for name in ("low", "high"))
            curve = replace(curve, low=low, high=high)
        bands.append(curve)
        of |= {event.get("of", "test") for event in points}
        kept += [(strategy.name, event) for event in _of_kind(strategy, "early-stopping")]
    if not of:
        return []
    held_out = {
        "test": "test pictures, at most one pair of each class; they decide nothing",
        "validation": "classes that are neither trained on nor tested",
    }
    note = f"R@1 on {' or '.join(held_out[each] for each in sorted(of))}. Shaded: 95% interval."
    for name, event in kept:
        run = f"{name}: the" if len(strategies) > 1 else "The"
        note += f" {run} weights are those after {event['best_triplets']:,} triplets, the best point."
    svg = band_plot(
        bands,
        figure_id="held-out",
        title="R@1 on held-out pictures against time",
        x_label="triplets seen",
        y_label="R@1",
    )
    return [Plot("Learning curve", svg, note)]


def _times(strategies: Sequence[DrawnRun]) -> list[dict[str, Any]]:
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


def _numeric_columns(table: TextTable) -> list[bool]:
    # Numbers stand right, one below the other. "0.53 ± 0.01", "12 %" and "–" count as numbers.
    return [
        column > 0
        and all(cell[:1].isdigit() or cell[:1] in "–-+±" for row in table.rows for cell in [row[column].strip()])
        for column in range(len(table.header))
    ]


def _pair_plots(pairs: Pairs) -> list[Plot]:
    precision_recall = band_plot(
        pairs.precision_recall,
        figure_id="pr",
        title="Precision against recall",
        x_label="recall",
        y_label="precision",
    )
    roc = band_plot(
        pairs.roc,
        figure_id="roc",
        title="True positive rate against false positive rate",
        x_label="false positive rate",
        y_label="true positive rate",
        x_log=True,
        diagonal=True,
    )
    plots = [
        Plot(
            "Precision and recall",
            precision_recall,
            "A dip at the left means that the surest matches are wrong: see what the doctor says of precision.",
        ),
        Plot("ROC", roc, "The rates that matter are small, so the axis is logarithmic. The thin curve is chance."),
        Plot(
            "Distances",
            distance_plot(pairs.histogram),
            "Filled: pairs of one class. Line: pairs of two. Where they overlap, no threshold is right.",
        ),
    ]
    if pairs.reliability:
        note = "Distance as a probability, on pairs it was not fitted on; true where it is on the diagonal."
        plots.append(Plot("Reliability", reliability_plot(pairs.reliability), note))
    return plots


def _gallery_plot(report: Report) -> Any:
    if not report.gallery:
        return None
    return band_plot(
        report.gallery,
        figure_id="gallery",
        title="Recall@1 against the number of classes in the gallery",
        x_label="classes in the gallery",
        y_label="R@1",
        x_log=True,
    )


def _gallery_table(report: Report) -> TextTable:
    """Return recall@1 by size, a row for each curve; a size that a curve lacks is a dash."""
    sizes = sorted({float(size) for band in report.gallery for size in band.x})
    rows = []
    for band in report.gallery:
        at = dict(zip(band.x.tolist(), band.y.tolist(), strict=True))
        rows.append([band.name, *(f"{at[size]:.3f}" if size in at else "–" for size in sizes)])
    return TextTable(["classes in the gallery", *(f"{size:,.0f}" for size in sizes)], rows, "Recall@1 by gallery size")


def _map_points(shown: EmbeddingMap) -> list[dict[str, Any]]:
    """Return each picture's place on a board of 1,000 × 640, the misses drawn last so that they are on top."""
    low, high = shown.xy_P2.min(axis=0), shown.xy_P2.max(axis=0)
    place_P2 = (shown.xy_P2 - low) / np.maximum(high - low, 1e-12) * np.array([960.0, 600.0]) + 5.0
    points = [
        {"x": f"{x:.0f}", "y": f"{y:.0f}", "label": label, "uri": uri, "is_hit": bool(hit)}
        for (x, y), label, uri, hit in zip(
            place_P2.tolist(), shown.labels, thumbnail_uris(shown.pictures), shown.is_hit, strict=True
        )
    ]
    return sorted(points, key=lambda point: not point["is_hit"])


def _mined_groups(mined: Sequence[MinedTriplet]) -> list[tuple[str, list[MinedTriplet]]]:
    groups: dict[str, list[MinedTriplet]] = {}
    for triplet in mined:
        groups.setdefault(triplet.strategy, []).append(triplet)
    return list(groups.items())
