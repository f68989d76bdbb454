"""The tables of a comparison, for a terminal and as Markdown; one stands beside what was published."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from mohs.compare.cells import Cell, Comparison, Results
from mohs.compare.summary import Difference, Differences, Row, optimisers, schedules

__all__ = [
    "HEADER",
    "PAPER_CAPTION",
    "PAPER_HEADER",
    "PUBLISHED_TOP_50",
    "SHORT",
    "comparison_markdown",
    "intervals_of",
    "markdown",
    "pair_rows",
    "pairs_markdown",
    "paper_markdown",
    "paper_rows",
    "rows_markdown",
    "short_rows",
    "table_rows",
    "what_is_equal",
]

HEADER = (
    "strategy", "R@1 unseen", "95%", "to default", "to best online", "R@1 catalog", "95%", "to default",
    "to best online", "R@10", "Top-50", "MAP@R", "MRR", "AP", "TPR@1e-3", "train triplets", "spread", "active",
    "pictures", "pictures/s", "seconds", "CPU s", "collapsed", "below start", "settings",
)  # fmt: skip
"""Columns: R@10 to `TPR@1e-3` are on unseen classes, `active` is at the end, `pictures` are those shown by a run,
`seconds` are wall time and `CPU s` processor time of training, the last but one counts runs that ended below their
start."""


_NUM_FIRST = HEADER.index("R@10")
"""Columns of the first of two tables in Markdown."""

SHORT = (
    "strategy", "R@1 unseen", "to default", "to best online", "R@1 catalog", "to default", "to best online", "spread",
    "CPU s", "collapsed", "below start",
)  # fmt: skip
"""Columns that fit a terminal."""


def short_rows(rows: Sequence[Row]) -> list[list[str]]:
    """Return the cells of the table for a terminal, as `SHORT` says."""
    chosen = [0, 1, 3, 4, 5, 7, 8, *map(HEADER.index, SHORT[-4:])]
    return [[cells[column] for column in chosen] for cells in table_rows(rows)]


def table_rows(rows: Sequence[Row]) -> list[list[str]]:
    """Return the cells of the table, a list for each row, as `HEADER` says."""
    return [_cells(row) for row in rows]


def what_is_equal(comparison: Comparison) -> str:
    """Return a clause that says what all runs of a comparison have alike: pictures, or CPU seconds."""
    budget = comparison.budget
    shown = f"{budget.num_pictures:,} pictures in {budget.num_steps:,} steps of {budget.batch_pictures}"
    if not comparison.own_budgets:
        return f"equal pictures: every run shows {shown}"
    names = [strategy.name for strategy in comparison.strategies]
    first = "default" if "default" in names else names[0]
    return f"equal CPU: every run takes about the CPU seconds that {first} takes for {shown}, by a short probe of each"


def comparison_markdown(comparison: Comparison, cells: Sequence[Cell], results: Results, rows: Sequence[Row]) -> str:
    """Return all tables of a comparison as Markdown: what is equal, strategies, schedules, optimisers."""
    added, rest = optimisers(comparison, cells, results)
    scheduled = schedules(comparison.data, cells, results)
    parts = (
        f"At {what_is_equal(comparison)}. {intervals_of(comparison.num_seeds)}\n",
        markdown(rows),
        pairs_markdown("scheduled hardness", "beside the same loss without it", scheduled),
        pairs_markdown("with Muon", "the same with Adam", added),
        pairs_markdown("all but the optimiser", "a loss of the library with the same one", rest),
    )
    return "\n".join(filter(None, parts))


def intervals_of(num_seeds: int) -> str:
    """Return a sentence that says which noise the intervals hold."""
    if num_seeds > 1:
        return f"Intervals are 95%, over {num_seeds} seeds and classes."
    return "Intervals are 95% over classes; what another seed would give is not in them (one seed)."


def markdown(rows: Sequence[Row]) -> str:
    """Return the table as Markdown, in two: R@1 with its intervals and differences, and below it all else."""
    cells = table_rows(rows)
    parts = (range(_NUM_FIRST), (0, *range(_NUM_FIRST, len(HEADER))))
    text = "\n".join(
        rows_markdown([[row[i] for i in part] for row in (HEADER, ["---"] + ["---:"] * (len(HEADER) - 1), *cells)])
        for part in parts
    )
    for row in rows:
        if row.strategy == "default" and row.to_best_plain:
            names = {"unseen": "unseen classes", "seen": "catalog"}
            found = [f"{names[name]} {_difference(by)} ({by.to})" for name, by in row.to_best_plain.items()]
            text += f"\nR@1 of the default to the best plain strategy: {', '.join(found)}.\n"
    return text


def pairs_markdown(one: str, two: str, found: Sequence[tuple[str, Differences]]) -> str:
    """Return differences as Markdown, under the names of what is compared with what; "" if nothing was compared."""
    if not found:
        return ""
    return rows_markdown([[one, two, "R@1 unseen", "R@1 catalog"], ["---"] * 4, *pair_rows(found)])


def rows_markdown(rows: Iterable[Sequence[str]]) -> str:
    """Return rows of cells as Markdown, a line each.

    >>> print(rows_markdown([["a", "b"], ["---", "---"], ["1", "2"]]), end="")
    | a | b |
    | --- | --- |
    | 1 | 2 |
    """
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def pair_rows(found: Sequence[tuple[str, Differences]]) -> list[list[str]]:
    """Return the cells of a table of differences: one strategy, another, one − another by protocol."""
    return [[name, by["unseen"].to, _difference(by["unseen"]), _difference(by["seen"])] for name, by in found]


def _cells(row: Row) -> list[str]:
    means = row.means
    cells = [row.strategy]
    protocols: tuple[Any, ...] = ("unseen", "seen")
    for protocol in protocols:
        low, high = row.intervals[protocol]
        cells += [
            _share(means[f"{protocol}_recall_1"]),
            f"{low:.3f} to {high:.3f}",
            _difference(row.to_default.get(protocol)),
            _difference(row.to_best.get(protocol)),
        ]
    metrics = ("recall_10", "top_50", "map_at_r", "mrr", "ap", "tpr")
    cells += [_share(means[f"unseen_{name}"]) for name in metrics]
    cells += [_share(means["train_triplets"]), f"{means['spread']:.2f}"]
    cells.append("-" if np.isnan(means["active_end"]) else f"{means['active_end']:.0%}")
    trained = means["num_pictures"] > 0
    counts = ("num_pictures", "pictures_per_s")
    cells += [f"{means[name]:,.0f}" if trained else "-" for name in counts]
    cells += [f"{means[name]:.1f}" if trained else "-" for name in ("train_s", "cpu_s")]
    cells += [f"{n} of {row.num_seeds}" if trained else "-" for n in (row.num_collapsed, row.num_below_start)]
    cells.append(row.settings or "-")
    return cells


def _share(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"


def _difference(found: Difference | None) -> str:
    if found is None:
        return "-"
    low, high = found.interval
    return f"{found.mean:+.3f} [{low:+.3f}, {high:+.3f}]"


PUBLISHED_TOP_50: Final[Mapping[str, float]] = MappingProxyType(
    {"easiest": 0.11, "hardest": 0.17, "sigmoid": 0.47, "cyclic sigmoid": 0.44}
)
"""Top-50 accuracy on test queries, by strategy."""

PAPER_HEADER: Final = ("strategy", "published Top-50", "Top-50", "random training triplets", "mined triplets")

PAPER_CAPTION: Final = (
    "The published protocol. Published figures are of other pictures: compare their order, not their height. Triplets: "
    "the share with the positive nearer than the negative, at the end."
)


def paper_rows(rows: Sequence[Row]) -> list[list[str]]:
    """Return the cells of the table, a list for each row, as `PAPER_HEADER` says; "-" where there is no figure."""
    return [
        [
            row.strategy,
            f"{PUBLISHED_TOP_50[row.strategy]:.2f}" if row.strategy in PUBLISHED_TOP_50 else "-",
            *(_share(row.means[name]) for name in ("unseen_top_50", "train_triplets", "mined_triplets")),
        ]
        for row in rows
    ]


def paper_markdown(rows: Sequence[Row]) -> str:
    """Return the table as Markdown, below its caption."""
    table = [PAPER_HEADER, ["---"] + ["---:"] * (len(PAPER_HEADER) - 1), *paper_rows(rows)]
    return f"{PAPER_CAPTION}\n\n{rows_markdown(table)}"
