"""`mohs evaluate --embeddings`: measure embeddings from anywhere."""

import csv
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mohs.artefacts import atomic_path, write_json
from mohs.cli.console import counting_progress, print_json, print_table, require_file_place, say
from mohs.cli.groups import check_groups, groups_by_flag
from mohs.data.names import name_warning
from mohs.errors import DataWarning, InputError
from mohs.evaluation.classes import ClassResult
from mohs.evaluation.embedding_files import read_embedded
from mohs.evaluation.retrieval import RetrievalResult
from mohs.evaluation.summary import EmbeddingReport, evaluate_embeddings
from mohs.evaluation.verification import VerificationResult
from mohs.report.of_run import queries_counted, search_sentences

__all__ = [
    "TABLE_HEADER",
    "evaluate_embeddings_command",
    "verification_rows",
    "write_class_table",
]

# The file of each item; None if not known.
_Files: TypeAlias = Sequence[str] | NDArray[np.str_] | None

TABLE_HEADER = ("", "value", "95% interval", "chance")
_METRIC_HEADER = ("", "over queries", "95% interval", "by class", "95% interval", "chance")

_NUM_PAIRS = 5
_CLASS_FLAG = "--class-column"
_FPR, _PRECISION = 1e-3, 0.95
_SAFE = {False: "-", True: "too few pairs"}


def evaluate_embeddings_command(
    embeddings: Path,
    labels: Path,
    *,
    query_embeddings: Path | None,
    query_labels: Path | None,
    class_column: str | None,
    file_column: str | None,
    group_column: str | None,
    exclude_same_group: bool,
    seed: int,
    out: Path | None,
    per_class: Path | None,
    verification: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Measure embeddings all against all, or queries against them; print and write what was found."""
    if seed < 0:
        raise InputError(f"--seed: {seed} is below 0; use for example --seed 0")
    for place, flag in ((out, "--out"), (per_class, "--per-class")):
        if place is not None:
            require_file_place(place, flag)
    columns = {"class_column": class_column, "file_column": file_column, "group_column": group_column}
    items = read_embedded(embeddings, labels, flag="--labels", class_flag=_CLASS_FLAG, **columns)
    queries = items
    if query_embeddings is not None and query_labels is not None:
        queries = read_embedded(
            query_embeddings, query_labels, flag="--query-labels", class_flag=_CLASS_FLAG, **columns
        )
        if queries.x_ND.shape[1] != items.x_ND.shape[1]:
            raise InputError(
                f"{query_embeddings}: {queries.x_ND.shape[1]} dimensions, and {embeddings} has "
                f"{items.x_ND.shape[1]}; use embeddings of one model for both"
            )
    tables = ((items, labels), (queries, query_labels or labels))
    if exclude_same_group:
        for given, table in tables:
            check_groups(given.groups, table, group_column)
        names = {name for given, _ in tables for name in (() if given.groups is None else given.groups.tolist())}
        if line := name_warning(names - {""}, "groups"):
            warnings.warn(f"{labels}: {line}", DataWarning, stacklevel=2)
    if line := name_warning({*items.labels.tolist(), *queries.labels.tolist()}, "classes"):
        warnings.warn(f"{labels}: {line}", DataWarning, stacklevel=2)
    num_found_C = np.unique(items.labels, return_counts=True)[1]
    if (num_found_C.max() < 2) if queries is items else not np.isin(queries.labels, items.labels).any():
        raise InputError(
            f"{labels}: none of the {len(queries.labels):,} queries has another item of its class to find; check "
            "that these are the classes, or add items"
        )
    with counting_progress("ranking", quiet=quiet) as progress, groups_by_flag():
        report = evaluate_embeddings(
            items.x_ND,
            items.labels,
            roles_N=items.roles,
            query_embeddings_QD=None if queries is items else queries.x_ND,
            query_labels_Q=None if queries is items else queries.labels,
            groups_N=items.groups if exclude_same_group else None,
            query_groups_Q=queries.groups if exclude_same_group and queries is not items else None,
            verification=verification,
            seed=seed,
            progress=progress,
        )
    record = {
        "embeddings": str(embeddings),
        "queries": None if queries is items else str(query_embeddings),
        "num_dimensions": items.x_ND.shape[1],
        "num_classes": len(np.unique(items.labels)),
        **report.as_record(),
    }
    if out is not None:
        write_json(out, record)
    if per_class is not None:
        write_class_table(per_class, report.classes, queries.files, items.files)
    if as_json:
        print_json(record)
        return
    _print_report(report, len(np.unique(items.labels)), verification=verification)
    for place in (out, per_class):
        if place is not None:
            say(f"written: {place}")


def write_class_table(path: Path, classes: Sequence[ClassResult], query_files: _Files, gallery_files: _Files) -> None:
    """Write a CSV with a row for each class; examples are files where they are known, else 0-based row numbers."""
    header = ["class", "queries", "recall@1", "average_precision", "confused_with", "times", "query", "found"]
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for each in classes:
            query, found = ("", "") if each.example is None else each.example
            writer.writerow(
                [
                    each.label,
                    each.num_queries,
                    "" if each.recall_at_1 is None else f"{each.recall_at_1:.6g}",
                    "" if each.average_precision is None else f"{each.average_precision:.6g}",
                    "" if each.confused_with is None else each.confused_with,
                    each.num_confused,
                    query if query_files is None or query == "" else query_files[int(query)],
                    found if gallery_files is None or found == "" else gallery_files[int(found)],
                ]
            )


def _print_report(report: EmbeddingReport, num_classes: int, *, verification: bool) -> None:
    retrieval = report.retrieval
    print_table(
        f"{queries_counted(retrieval)}, {retrieval.num_gallery:,} items of {num_classes:,} classes, "
        f"{report.told_protocol}",
        _METRIC_HEADER,
        _metric_rows(report),
    )
    for sentence in search_sentences(report):
        print(sentence)
    if report.verification is not None:
        print_table(f"pairs: {report.verification.law}", TABLE_HEADER, verification_rows(report.verification))
    elif verification:
        say("no pairs: none of one class, or none of two, among queries and gallery; thresholds need both")
    sizes = report.gallery_sizes
    print_table(
        "recall@1 if the gallery had only so many classes",
        ["classes", *(f"{size:,}" for size in sizes.num_classes)],
        [["recall@1", *(f"{value:.3f}" for value in sizes.recall_at_1)]],
    )
    if report.confusable:
        print_table(
            "classes taken for each other",
            ["class", "and", "misses", "of queries"],
            [
                [str(pair.first), str(pair.second), f"{pair.num_first} + {pair.num_second}", f"{pair.num_queries}"]
                for pair in report.confusable[:_NUM_PAIRS]
            ],
        )
    for note in report.notes:
        say(f"note: {note}")


def _metric_rows(report: EmbeddingReport) -> list[list[str]]:
    retrieval, catalog = report.retrieval, report.catalog
    rows = [_retrieval_row(name, retrieval, name) for name in retrieval.metrics]
    if catalog is not None:
        rows.append(_retrieval_row("catalog accuracy", catalog, "recall@1"))
    for kind, triplets in (
        ("random", report.triplets),
        ("semi-hard", report.semi_hard_triplets),
        ("hard", report.hard_triplets),
    ):
        if triplets is not None:
            *cells, chance = _row(f"triplets, {kind}", triplets.accuracy, triplets.interval, triplets.chance)
            rows.append([*cells, "-", "-", chance])
    rows.append(["spread", f"{report.spread.std_sqrt_dim:.3f}", "-", "-", "-", "-"])
    return rows


def _retrieval_row(title: str, found: RetrievalResult, name: str) -> list[str]:
    """Return a metric over queries, by class, and by chance (over queries)."""
    *cells, chance = _row(title, found.metrics[name], found.intervals.get(name), found.chance[name])
    return [*cells, *_row("", found.macro.metrics[name], found.macro.intervals.get(name), None)[1:3], chance]


def verification_rows(found: VerificationResult) -> list[list[str]]:
    """Return the rows of a table under `TABLE_HEADER`: how well pairs are told apart, and thresholds to use."""
    curves, intervals, best = found.curves, found.intervals, found.best
    rows = [
        _row(
            "average precision", curves.average_precision, intervals and intervals.average_precision, curves.prevalence
        ),
        _row("area under ROC", curves.auc, intervals and intervals.auc, 0.5),
        _row("equal error rate", curves.equal_error_rate, intervals and intervals.equal_error_rate, 0.5),
    ]
    points = () if intervals is None else intervals.operating_points
    for point in points:
        if (point.wanted, point.level) == ("false positive rate", _FPR) and point.tpr is not None:
            rows.append(_row(f"TPR at FPR {_FPR:g}", point.tpr, point.tpr_interval, _FPR))
    if best is not None:
        rows.append(_row("best accuracy", best.accuracy, best.interval, 0.5))
        rows.append(_row("  at distance up to", best.threshold, None, None))
    for point in points:
        if (point.wanted, point.level) == ("precision", _PRECISION):
            name = f"precision {_PRECISION:g} at distance up to"
            value = point.threshold
            if value is None:
                rows.append([name, "-", "-", "-"])
                continue
            rows.append(_row(name, value, point.threshold_interval, None))
            rows.append(_row("  which on other classes has", point.precision or 0.0, point.reached_interval, None))
            safe = point.safe_threshold
            rows.append(
                ["  safe on other classes up to", "-" if safe is None else f"{safe:.3f}", _SAFE[safe is None], "-"]
            )
    return rows


def _row(name: str, value: float, interval: tuple[float, float] | None, chance: Any) -> list[str]:
    return [
        name,
        f"{value:.3f}",
        "-" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}",
        "-" if chance is None else f"{chance:.3f}",
    ]
