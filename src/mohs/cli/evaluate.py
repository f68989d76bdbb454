"""`mohs evaluate`: measure a run, or embeddings from anywhere.

A little long, since it takes two kinds of input and writes what it finds in three forms.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mohs.cli import options
from mohs.cli.console import (
    among_processes,
    held_run,
    is_first,
    print_json,
    print_lines,
    print_table,
    require_file_place,
    say,
)
from mohs.cli.pictures_read import QUARANTINE, beside, tell_pictures
from mohs.cli.progress import counting_progress, decoding_progress, working
from mohs.errors import DataWarning, InputError, Problem
from mohs.peers import Peers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mohs.doctor.findings import Diagnosis
    from mohs.evaluation.embedded import Embedded
    from mohs.evaluation.summary import EmbeddingReport
    from mohs.evaluation.verification import VerificationResult
    from mohs.runs import Evaluation, Run
    from mohs.training.run_inputs import SplitData

__all__ = ["evaluate"]

_NUM_PAIRS = 5
_SAME_GROUP = "--exclude-same-group"


def evaluate(
    run: Annotated[Path | None, typer.Argument(help="Run folder made by 'mohs train'.")] = None,
    embeddings: Annotated[
        Path | None, typer.Option(help="Instead of a run: embeddings from anywhere, a .npy file [items, dimensions].")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Their classes: CSV or Parquet with a column 'class' (and 'file', 'role'), .npy or .txt."),
    ] = None,
    query_embeddings: Annotated[
        Path | None, typer.Option(help="Queries, to be searched among --embeddings; default: all against all.")
    ] = None,
    query_labels: Annotated[Path | None, typer.Option(help="Classes of the queries.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the numbers to this JSON file.")] = None,
    per_class: Annotated[Path | None, typer.Option(help="Write a table of the classes to this CSV file.")] = None,
    no_pairs: Annotated[
        bool, typer.Option("--no-pairs", help="Leave out verification on pairs, which takes some seconds.")
    ] = False,
    exclude_same_group: Annotated[
        bool,
        typer.Option(
            "--exclude-same-group",
            help="Leave out of a query's results the items of its own group, such as its session.",
        ),
    ] = False,
    data: Annotated[
        str | None, typer.Option(help="Measure the run on all pictures of this table, not on its test pictures.")
    ] = None,
    catalog: options.Catalog = None,
    file_column: options.FileColumn = None,
    class_column: options.ClassColumn = None,
    group_column: options.GroupColumn = None,
    multi_label: options.MultiLabelOption = None,
    max_bad: options.MaxBad = None,
    seed: options.Seed = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Measure a run beside the untrained network and the pixels; or embeddings from anywhere (--embeddings)."""
    if embeddings is None:
        _refuse(
            {
                "--labels": labels,
                "--query-embeddings": query_embeddings,
                "--query-labels": query_labels,
                "--out": out,
                "--seed": seed,
            },
            "needs --embeddings; give it, or leave this out",
        )
        if no_pairs:
            raise InputError("--no-pairs: needs --embeddings; leave it out for a run, whose report shows its pairs")
        if run is None:
            raise InputError("RUN: missing; give a run folder, or --embeddings FILE and --labels FILE")
        columns = (catalog, file_column, class_column, group_column, multi_label, max_bad)
        if data is None and any(each is not None for each in columns):
            raise InputError(
                "--catalog, --file-column, --class-column, --group-column, --multi-label, --max-bad: need --data; a "
                "run uses its own data"
            )
        # Pictures are prepared as for the run; which ones there are, the run's settings do not say.
        other = {
            "source": data,
            "catalog": catalog,
            "file_column": file_column or "file",
            "class_column": class_column or "class",
            "group_column": "group" if group_column is None else group_column,
            "multi_label": multi_label or "error",
            "per_class": None,
            "max_classes": None,
            # What the run put up with was of its own pictures.
            "max_bad_images": max_bad or 0,
        }
        holds = data is None and is_first()
        with (
            among_processes(_device(run)) as peers,
            held_run(run, "evaluating") if holds else nullcontext(False) as is_written,
        ):
            _evaluate_run(
                run,
                peers,
                other=None if data is None else other,
                is_written=peers.from_first(is_written),
                per_class=per_class,
                exclude_same_group=exclude_same_group,
                quiet=quiet,
                as_json=as_json,
            )
        return
    _refuse(
        {"RUN": run, "--data": data, "--catalog": catalog, "--multi-label": multi_label, "--max-bad": max_bad},
        "with --embeddings; leave it out",
    )
    if labels is None:
        raise InputError("--labels: missing; give the classes of the rows of --embeddings")
    if (query_embeddings is None) != (query_labels is None):
        raise InputError("--query-embeddings, --query-labels: one without the other; give both or neither")
    if seed is not None and seed < 0:
        raise InputError(f"--seed: {seed} is below 0; use for example --seed 0")
    for place, flag in ((out, "--out"), (per_class, "--per-class")):
        if place is not None:
            require_file_place(place, flag)
    _evaluate_embeddings(
        (embeddings, labels),
        None if query_embeddings is None or query_labels is None else (query_embeddings, query_labels),
        columns={"class_column": class_column, "file_column": file_column, "group_column": group_column},
        exclude_same_group=exclude_same_group,
        seed=seed or 0,
        out=out,
        per_class=per_class,
        verification=not no_pairs,
        quiet=quiet,
        as_json=as_json,
    )


def _refuse(flags: Mapping[str, object], why: str) -> None:
    problems = [Problem(flag, f"{value} {why}") for flag, value in flags.items() if value is not None]
    if problems:
        raise InputError(*problems)


def _device(run: Path) -> str:
    """Return what the run computes on; of a folder that holds none, something else tells."""
    from mohs.settings.config import load_run_config

    return load_run_config(run).training.device if (run / "config.json").is_file() else "cpu"


def _evaluate_run(
    folder: Path,
    peers: Peers,
    *,
    other: Mapping[str, object] | None,
    is_written: bool,
    per_class: Path | None,
    exclude_same_group: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Measure a run on its test items (or on other data) and write metrics.json and report.html."""
    import numpy as np

    from mohs.evaluation.classes import write_class_table
    from mohs.report.words import METRIC_HEADER, metric_row, queries_counted, search_sentences
    from mohs.runs import Run, evaluate
    from mohs.training.run_inputs import open_split_data

    if per_class is not None:
        require_file_place(per_class, "--per-class")
    run = Run.open(folder)
    config = run.config.data if other is None else run.config.data.model_copy(update=other)
    with decoding_progress(quiet=quiet) as progress:
        opened = peers.first_here_first(
            lambda: open_split_data(config, seed=run.config.seed, all_test=other is not None, progress=progress)
        )
    opened.count_queries()  # before minutes of embedding
    if is_first():
        place = beside(folder / "metrics.json") if is_written else QUARANTINE
        tell_pictures(opened.reading, place, quiet=quiet or as_json)
    if exclude_same_group:
        table = opened.dataset.table
        _check_groups(table.groups, table.source, config.group_column)
    with (
        options.naming_flags({"query_groups_Q": _SAME_GROUP}),
        counting_progress("embedding", quiet=quiet) as progress,
    ):
        evaluation = evaluate(
            run,
            data=opened if is_written or other is not None else None,  # None: the run's own, and checked for it
            exclude_same_group=exclude_same_group,
            verification=True,
            write=is_written,
            peers=peers,
            progress=progress,
        )
    if not is_first():
        return
    measured = evaluation.measured
    trained = measured["trained"]
    if per_class is not None:
        queries, gallery = evaluation.query_and_gallery()
        files = evaluation.dataset.table.files
        write_class_table(per_class, trained.classes, [files[i] for i in queries], [files[i] for i in gallery])
    if as_json:
        print_json(
            {
                **{name: found.as_record() for name, found in measured.items()},
                "pictures_read": opened.reading.as_record(),
            }
        )
    else:
        found = trained.retrieval
        title = f"{queries_counted(found)}, gallery of {found.num_gallery:,}, {trained.told_protocol}"
        rows = [[name, *metric_row(each)] for name, each in measured.items()]
        print_table(title, ["", *METRIC_HEADER], rows, strong=len(rows) - 1)
        for sentence in search_sentences(trained):
            print_lines([sentence])
        for note in trained.notes:
            say(f"note: {note}")
        _print_pairs(trained.verification)
    if is_written:
        with working("writing the report", quiet=quiet):
            diagnosis = _write_report(run, evaluation, opened)
        if not as_json:
            for finding in diagnosis.findings:
                say(f"doctor: {finding.severity}: {finding.cause}: {finding.what}")
            say(f"report: {run.folder / 'report.html'}")
            way_on = "doctor" if diagnosis.findings else "index build NAME.index SOURCE --embedder"
            say(f"next: mohs {way_on} {run.folder}")
    elif other is not None and evaluation.num_trained_classes:  # the run's own report describes its own test
        num_tested = len(np.unique(evaluation.dataset.labels[evaluation.test_N]))
        say(
            "warning: the run was trained on classes of the same name: "
            f"{evaluation.num_trained_classes:,} of these {num_tested:,}"
        )


def _write_report(run: Run, evaluation: Evaluation, data: SplitData) -> Diagnosis:
    from mohs.report.of_run import Head, write_run_report
    from mohs.report.words import queries_counted

    facts, name, measured = run.facts(), run.folder.name, evaluation.measured
    return write_run_report(
        run.folder / "report.html",
        Head(
            title=f"Run {name}",
            command=f"mohs train --config {run.folder / 'config.json'} --out NEW_FOLDER",
            summary=[
                ("data", run.config.data.source),
                ("pictures", f"{facts['num_items']:,} of {facts['num_classes']:,} classes"),
                ("trained on", f"{facts['num_training_items']:,} of {facts['num_training_classes']:,} classes"),
                ("tested on", queries_counted(measured["trained"].retrieval)),
                ("seed", str(run.config.seed)),
                (
                    "seconds",
                    f"embed {facts['embed_s']:.1f}, mine {facts['mine_s']:.1f}, train {facts['train_s']:.1f}, "
                    f"evaluate {evaluation.evaluate_s:.1f}",
                ),
            ],
        ),
        shown=name,
        runs={name: (run, evaluation)},
        data=data,
        rows=measured,
        highlight="trained",
    )


def _read_embeddings(
    files: tuple[Path, Path],
    query_files: tuple[Path, Path] | None,
    columns: Mapping[str, str | None],
    *,
    exclude_same_group: bool,
) -> tuple[Embedded, Embedded]:
    """Return the items and the queries, which are the items themselves if no files are theirs."""
    import numpy as np

    from mohs.data.names import name_warning
    from mohs.evaluation.embedding_files import read_embedded

    embeddings, labels = files
    query_embeddings, query_labels = query_files or files
    read = partial(
        read_embedded,
        class_column=columns["class_column"],
        file_column=columns["file_column"],
        group_column=columns["group_column"],
        class_flag="--class-column",
    )
    items = queries = read(embeddings, labels, flag="--labels")
    if query_files is not None:
        queries = read(query_embeddings, query_labels, flag="--query-labels")
        if queries.x_ND.shape[1] != items.x_ND.shape[1]:
            raise InputError(
                f"{query_embeddings}: {queries.x_ND.shape[1]} dimensions, and {embeddings} has "
                f"{items.x_ND.shape[1]}; use embeddings of one model for both"
            )
    if exclude_same_group:
        tables = ((items, labels), (queries, query_labels))
        for given, table in tables:
            _check_groups(given.groups, table, columns["group_column"])
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
    return items, queries


def _evaluate_embeddings(
    files: tuple[Path, Path],
    query_files: tuple[Path, Path] | None,
    *,
    columns: Mapping[str, str | None],
    exclude_same_group: bool,
    seed: int,
    out: Path | None,
    per_class: Path | None,
    verification: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Measure embeddings all against all, or queries against them; print and write what was found."""
    import numpy as np

    from mohs.artefacts import write_json
    from mohs.evaluation.classes import write_class_table
    from mohs.evaluation.summary import evaluate_embeddings

    items, queries = _read_embeddings(files, query_files, columns, exclude_same_group=exclude_same_group)
    num_classes = len(np.unique(items.labels))
    with (
        among_processes("cpu") as peers,
        counting_progress("ranking", quiet=quiet) as progress,
        options.naming_flags({"query_groups_Q": _SAME_GROUP}),
    ):
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
            peers=peers,
        )
    if not is_first():
        return
    record = {
        "embeddings": str(files[0]),
        "queries": None if query_files is None else str(query_files[0]),
        "num_dimensions": items.x_ND.shape[1],
        "num_classes": num_classes,
        **report.as_record(),
    }
    if out is not None:
        write_json(out, record)
    if per_class is not None:
        write_class_table(per_class, report.classes, queries.files, items.files)
    if as_json:
        print_json(record)
        return
    _print_report(report, num_classes, verification=verification)
    for place in (out, per_class):
        if place is not None:
            say(f"written: {place}")


def _print_report(report: EmbeddingReport, num_classes: int, *, verification: bool) -> None:
    from mohs.report.words import MEANS_HEADER, metric_rows, queries_counted, search_sentences

    retrieval = report.retrieval
    print_table(
        f"{queries_counted(retrieval)}, {retrieval.num_gallery:,} items of {num_classes:,} classes, "
        f"{report.told_protocol}",
        MEANS_HEADER,
        metric_rows(report),
    )
    for sentence in search_sentences(report):
        print_lines([sentence])
    if verification:
        _print_pairs(report.verification)
    sizes = report.gallery_sizes
    print_table(
        "recall@1 in a gallery of fewer classes",
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


def _print_pairs(found: VerificationResult | None) -> None:
    from mohs.report.words import PAIR_HEADER, pair_rows

    if found is None:
        say("no pairs: none of one class, or none of two, among queries and gallery; thresholds need both")
    else:
        print_table(f"pairs: {found.law}", PAIR_HEADER, pair_rows(found))


def _check_groups(groups_N: Sequence[str] | NDArray[Any] | None, table: str | Path, group_column: str | None) -> None:
    """Raise `InputError` unless a table names a group for a row at least: else the flag would leave nothing out."""
    column = repr(group_column or "group")
    if groups_N is None:
        what = f"{table} has no column {column}"
        fix = "add one that says what each picture was taken with, such as its session"
        raise InputError(Problem(_SAME_GROUP, what, fix))
    if not any(str(group) not in ("", "-1") for group in groups_N):
        what = f"column {column} of {table} is empty in all {len(groups_N):,} rows, so nothing would be left out"
        raise InputError(Problem(_SAME_GROUP, what, f"fill it, or leave out {_SAME_GROUP}"))
