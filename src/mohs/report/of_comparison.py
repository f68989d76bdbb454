"""The page of a comparison."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from mohs.compare.cells import BASELINES, Cell, Comparison, Results, read_arrays
from mohs.compare.strategies import STRATEGIES
from mohs.compare.summary import PROTOCOLS, Difference, Row, optimisers, schedules
from mohs.compare.table import (
    HEADER,
    PAPER_CAPTION,
    PAPER_HEADER,
    intervals_of,
    pair_rows,
    paper_rows,
    table_rows,
    what_is_equal,
)
from mohs.report.page import write_report
from mohs.report.parts import Band, DrawnRun, Judgement, Plot, Report, TextTable
from mohs.report.plots import interval_plot, line_plot
from mohs.report.result_plots import band_plot
from mohs.runs import versions
from mohs.settings.config import override_config

__all__ = ["ASIDE", "MeasuredComparison", "write_comparison_report"]

# More curves than colours with dashes of their own could not be told apart.
_MAX_CURVES = 12

# All but R@1, its interval and the difference to the default, on unseen classes and in the catalog.
ASIDE = (4, *range(8, len(HEADER)))

_WHAT = {"unseen": "unseen classes", "seen": "the catalog of classes trained on"}


@final
@dataclass(frozen=True, eq=False)
class MeasuredComparison:
    """A comparison at equal "pictures" or "cpu", with its cells and their rows."""

    equal: str
    comparison: Comparison
    cells: Sequence[Cell]
    rows: Sequence[Row]


def write_comparison_report(
    path: Path, measured: Sequence[MeasuredComparison], results: Results, *, paper: bool, command: str
) -> None:
    """Write the page: tables, R@1 and differences with their intervals, and curves of the first seed.

    Plots and curves are of the first of `measured`.
    """
    first = measured[0]
    comparison, rows = first.comparison, first.rows
    facts = comparison.data.facts()
    trained = [row for row in rows if row.strategy not in BASELINES]
    shown = sorted(trained, key=lambda row: -row.means["unseen_recall_1"])[:_MAX_CURVES]
    arrays = {
        cell.strategy: read_arrays(results, cell)
        for cell in first.cells
        if cell.seed == 0 and cell.strategy in {row.strategy for row in shown}
    }
    names = [row.strategy for row in rows]
    plots = [plot for protocol in PROTOCOLS for plot in _interval_plots(rows, protocol, comparison.num_seeds)]
    plots += [plot for protocol in PROTOCOLS for plot in _gallery_plots(rows, list(arrays), protocol)]
    if paper:
        plots += _look_plots(comparison, arrays)
    report = Report(
        title=f"Strategies compared: {comparison.data.name}",
        summary=[
            ("training classes", f"{facts['training_classes']:,}"),
            ("training pictures", f"{facts['training_pictures']:,}"),
            ("unseen classes", f"{facts['test_classes']:,}"),
            ("their queries", f"{facts['test_queries']:,}"),
            ("catalog queries", f"{facts['catalog_queries']:,}"),
            ("pictures shown by a run", _num_pictures(comparison)),
            ("seeds", str(comparison.num_seeds)),
            ("pictures read", str(comparison.data.reading).removeprefix("pictures: ")),
        ],
        verdicts=[verdict for each in measured for verdict in _verdicts(each, results)]
        + _trained_on(bool(facts["catalog_queries_are_trained_on"])),
        results=TextTable(
            ["", *HEADER[1:]],
            table_rows(rows),
            f"Means over seeds, at {what_is_equal(comparison)}. {intervals_of(comparison.num_seeds)} A difference is "
            "paired query by query. Unseen: test classes were not trained on. Catalog: held-out pictures of training "
            "classes against one training picture of each. R@10 to TPR are on unseen classes; seconds are wall time "
            "and CPU s processor time of training, with embedding and mining.",
            ASIDE,
        ),
        more_tables=([TextTable(["", *PAPER_HEADER[1:]], paper_rows(rows), PAPER_CAPTION)] if paper else [])
        + [table for each in measured for table in _more_tables(each, results, whole=each is not first)],
        highlight=names.index("default") if "default" in names else None,
        comparison=plots,
        strategies=[DrawnRun(name, _events(comparison, name, found)) for name, found in arrays.items()],
        command=command,
        versions=versions(),
    )
    write_report(path, report)


def _num_pictures(comparison: Comparison) -> str:
    counts = sorted({comparison.budget_of(strategy.name).num_pictures for strategy in comparison.strategies})
    return f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"


def _more_tables(measured: MeasuredComparison, results: Results, *, whole: bool) -> list[TextTable]:
    """Return the table of strategies, if `whole`, and what of the differences is the optimiser's or the schedule's."""
    comparison = measured.comparison
    at = f"At {what_is_equal(comparison)}. {intervals_of(comparison.num_seeds)}"
    tables = (
        [TextTable(["", *HEADER[1:]], table_rows(measured.rows), f"Means over seeds. {at}", ASIDE)] if whole else []
    )
    optimiser, rest = optimisers(comparison, measured.cells, results)
    scheduled = schedules(comparison.data, measured.cells, results)
    parts = (
        ("with Adam", optimiser, "What the optimiser adds: R@1 with Muon minus R@1 with Adam."),
        ("beside", rest, "What all but the optimiser adds: the default minus a loss of the library with the same one."),
        ("without", scheduled, "What a schedule of hardness adds to the same loss."),
    )
    for other, found, caption in parts:
        if found:
            tables.append(TextTable(["", other, "R@1 unseen", "R@1 catalog"], pair_rows(found), f"{caption} {at}"))
    return tables


def _verdicts(measured: MeasuredComparison, results: Results) -> list[Judgement]:
    """Return what the default is worth, how much of it is the optimiser's and the schedule's, and what went wrong."""
    comparison, rows = measured.comparison, measured.rows
    at = "At equal CPU, on" if measured.equal == "cpu" else "On"
    verdicts = []
    for row in rows:
        if row.strategy == "default":
            bests = {"online": row.to_best, "plain": row.to_best_plain}
            for kind, protocol in itertools.product(bests, PROTOCOLS):
                if (found := bests[kind].get(protocol)) is not None:
                    level = "note" if not found.is_clear else "good" if found.mean > 0 else "bad"
                    text = (
                        f"{at} {_WHAT[protocol]}, R@1 of the default is {_higher(found)} than that of {found.to}, the "
                        f"best {kind} strategy there ({_sure(found)})."
                    )
                    verdicts.append(Judgement(level, text))  # type: ignore[arg-type]
    optimiser, rest = optimisers(comparison, measured.cells, results)
    for name, by in optimiser:
        if name.startswith("default"):
            verdicts += [
                Judgement("note", f"{at} {_WHAT[protocol]}, Muon adds {by[protocol].mean:+.3f} to R@1 of "
                f"{by[protocol].to} ({_sure(by[protocol])}).")
                for protocol in PROTOCOLS
            ]  # fmt: skip
    for protocol in PROTOCOLS:
        if rest:
            _, by = min(rest, key=lambda pair: pair[1][protocol].mean)
            found = by[protocol]
            text = (
                f"{at} {_WHAT[protocol]}, R@1 of the default is {_higher(found)} than that of {found.to}, the best "
                f"with the same optimiser ({_sure(found)})."
            )
            verdicts.append(Judgement("note", text))
    for name, by in schedules(comparison.data, measured.cells, results):
        if name == "default":
            verdicts += [
                Judgement("note", f"{at} {_WHAT[protocol]}, scheduled hardness adds {by[protocol].mean:+.3f} to R@1 of "
                f"the same loss ({_sure(by[protocol])}).")
                for protocol in PROTOCOLS
            ]  # fmt: skip
    for row in rows:
        happened = {"collapsed": row.num_collapsed, "ended below their start": row.num_below_start}
        told = [f"{count} of {row.num_seeds} runs {what}" for what, count in happened.items() if count]
        if told:
            verdicts.append(Judgement("note", f"{row.strategy}: {', '.join(told)}."))
    return verdicts


def _higher(found: Difference) -> str:
    return f"{abs(found.mean):.3f} {'higher' if found.mean > 0 else 'lower'}"


def _sure(found: Difference) -> str:
    """Return the interval in words, and whether the difference may be chance."""
    low, high = found.interval
    over = "seeds and classes" if found.num_seeds > 1 else "classes alone, with one seed"
    return f"95% interval {low:+.3f} to {high:+.3f} over {over}{'' if found.is_clear else ', which may be chance'}"


def _trained_on(trained_on: bool) -> list[Judgement]:
    text = "Catalog queries were trained on: next to no class has a picture more that could be held out."
    return [Judgement("note", text)] if trained_on else []


def _interval_plots(rows: Sequence[Row], protocol: Any, num_seeds: int) -> list[Plot]:
    recall = {row.strategy: row.means[f"{protocol}_recall_1"] for row in rows}
    ordered = sorted(rows, key=lambda row: -recall[row.strategy])
    what = _WHAT[protocol]
    plots = [
        Plot(
            f"R@1 on {what}",
            interval_plot(
                [row.strategy for row in ordered],
                [recall[row.strategy] for row in ordered],
                [row.intervals[protocol] for row in ordered],
                figure_id=f"recall-{protocol}",
                title=f"R@1 on {what} by strategy",
                x_label="R@1",
            ),
            "Intervals of single strategies overlap even where a difference is clear: see the differences.",
        )
    ]
    differing = [row for row in ordered if protocol in row.to_default]
    if differing:
        found = [row.to_default[protocol] for row in differing]
        plots.append(
            Plot(
                f"Difference to the default on {what}",
                interval_plot(
                    [row.strategy for row in differing],
                    [difference.mean for difference in found],
                    [difference.interval for difference in found],
                    figure_id=f"difference-{protocol}",
                    title=f"Difference of R@1 to the default on {what}",
                    x_label="difference of R@1",
                    zero=True,
                ),
                f"Paired by query. {intervals_of(num_seeds)} An interval that crosses the line may be chance.",
            )
        )
    return plots


def _gallery_plots(rows: Sequence[Row], names: Sequence[str], protocol: Any) -> list[Plot]:
    """Return R@1 and the mean reciprocal rank against the size of the gallery; colours are those of the curves."""
    own = {row.strategy: row.galleries[protocol] for row in rows}
    plots = []
    for key, what in (("recall_1", "R@1"), ("mrr", "Mean reciprocal rank")):
        bands = []
        for name in names:
            found = own[name]
            bands.append(Band(name, np.array(found.num_classes, dtype=float), np.array(getattr(found, key))))
        if bands:
            heading = f"{what} against gallery size, {_WHAT[protocol]}"
            svg = band_plot(
                bands, figure_id=f"gallery-{key.replace('_', '-')}-{protocol}", title=heading, y_label=what,
                x_label="classes in the gallery", x_log=True,
            )  # fmt: skip
            note = "Expected if the gallery held fewer of these classes, drawn at random. Ranks are those of classes."
            plots.append(Plot(heading, svg, note, has_legend=True))
    return plots


def _look_plots(comparison: Comparison, arrays: Mapping[str, Mapping[str, NDArray[Any]]]) -> list[Plot]:
    """Return accuracy over training, of runs that were looked at; colours are those of the curves below."""
    plots = []
    wanted = (
        ("look_top_50", "Top-50 accuracy over training", "Share of test queries with a match among the 50 nearest."),
        ("look_triplets", "Triplet accuracy over training", "On random triplets of training pictures."),
    )
    for key, heading, note in wanted:
        curves = []
        for name, found in arrays.items():
            # A look comes after each segment; segments are of near-equal length.
            y = found.get(f"curve_{key}", np.empty(0))
            end = comparison.budget_of(name).num_pictures / _pictures_per_triplet(comparison, name)
            curves.append(Band(name, np.arange(1, len(y) + 1) * end / max(1, len(y)), y))
        if any(len(curve.y) for curve in curves):
            svg = line_plot(
                curves, figure_id=key.replace("_", "-"), title=heading, y_label="accuracy", y_limits=(-0.03, 1.03)
            )
            plots.append(Plot(heading, svg, note, has_legend=True))
    return plots


def _events(comparison: Comparison, name: str, arrays: Mapping[str, NDArray[Any]]) -> list[dict[str, Any]]:
    """Return a cell's curves as events of a log, counted in triplets (for online strategies, pairs)."""
    shown = _pictures_per_triplet(comparison, name)
    events: list[dict[str, Any]] = []
    keys = {"loss": "loss", "spread": "spread", "active": "active_fraction"}
    for i, pictures in enumerate(arrays.get("curve_pictures", ())):
        values = {key: float(arrays[f"curve_{own}"][i]) for own, key in keys.items() if f"curve_{own}" in arrays}
        events.append({"event": "step", "triplets": pictures / shown, **values})
    if "curve_triplet" in arrays:
        events.append(
            {
                "event": "segment",
                "triplet_index": arrays["curve_triplet"].tolist(),
                "hardness_asked": arrays["curve_asked"].tolist(),
                "hardness_achieved": arrays["curve_achieved"].tolist(),
            }
        )
    return events


def _pictures_per_triplet(comparison: Comparison, name: str) -> int:
    strategy = STRATEGIES[name]
    if strategy.online is not None:
        return 2
    return override_config(None, (), {**comparison.settings, **strategy.settings}).loss.pictures_per_triplet
