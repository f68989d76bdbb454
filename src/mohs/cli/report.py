"""`mohs report`: several runs on one page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mohs.cli import options
from mohs.cli.console import held_run, print_json, print_lines, print_table, require_file_place, say
from mohs.cli.pictures_read import QUARANTINE, beside, tell_pictures
from mohs.cli.progress import decoding_progress
from mohs.errors import InputError

if TYPE_CHECKING:
    from mohs.report.parts import Judgement
    from mohs.runs import Evaluation, Run

__all__ = ["report"]


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders; the first one is shown in detail.")],
    out: Annotated[Path, typer.Option(help="The page.")] = Path("report.html"),
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Compare runs on one page: results with paired intervals, curves, and the first one in detail."""
    from mohs.report.of_run import Head, write_run_report
    from mohs.report.words import METRIC_HEADER, metric_row, queries_counted
    from mohs.runs import BASELINES, Run, evaluate
    from mohs.training.run_inputs import open_split_data

    require_file_place(out, "--out")
    named = _named([Run.open(folder) for folder in runs])
    first_name, first = next(iter(named.items()))
    evaluations: dict[str, Evaluation] = {}
    pictures: dict[str, Any] = {}
    for name, run in named.items():
        with decoding_progress(quiet=quiet) as progress:
            data = open_split_data(run.config.data, seed=run.config.seed, progress=progress)
        if run is first:
            first_data = data
        with held_run(run.folder, "reporting") as is_written:
            place = beside(run.folder / "metrics.json") if is_written else QUARANTINE
            tell_pictures(data.reading, place, quiet=quiet or as_json)
            pictures[name] = data.reading.as_record()
            of_run = data if is_written else None  # None: the run's own, and checked for it
            evaluations[name] = evaluate(run, data=of_run, baselines=run is first, write=is_written)
    rows = {name: found for name, found in evaluations[first_name].measured.items() if name in BASELINES}
    rows |= {name: evaluation.measured["trained"] for name, evaluation in evaluations.items()}
    differences = [
        _difference(first_name, evaluations[first_name], name, evaluation)
        for name, evaluation in evaluations.items()
        if name != first_name
    ]
    write_run_report(
        out,
        Head(
            title=f"Runs {', '.join(named)}" if len(named) > 1 else f"Run {first_name}",
            command=" ".join(["mohs", "report", *map(str, runs), "--out", str(out)]),
            summary=[
                ("data", first.config.data.source),
                ("tested on", queries_counted(evaluations[first_name].measured["trained"].retrieval)),
                ("shown in detail", first_name),
                *((f"seed of {name}", str(run.config.seed)) for name, run in named.items()),
            ],
        ),
        shown=first_name,
        runs={name: (run, evaluations[name]) for name, run in named.items()},
        data=first_data,
        rows=rows,
        highlight=first_name,
        verdicts=[verdict for verdict, _ in differences],
    )
    if as_json:
        print_json(
            {
                "metrics": {name: found.as_record() for name, found in rows.items()},
                "differences": [record for _, record in differences],
                "pictures_read": pictures,
                "report": str(out),
            }
        )
        return
    print_table("", ["", *METRIC_HEADER], [[n, *metric_row(m)] for n, m in rows.items()], strong=len(rows) - 1)
    for verdict, _ in differences:
        print_lines([verdict.text])
    say(f"report: {out}")


def _named(runs: list[Run]) -> Mapping[str, Run]:
    """Return the runs by the shortest ends of their paths that differ."""
    paths = [run.folder.resolve().parts for run in runs]
    if len(set(paths)) < len(paths):
        twice = next(run.folder for run, path in zip(runs, paths, strict=True) if paths.count(path) > 1)
        raise InputError(f"RUNS: {twice} is given twice; give each run once")
    length = 1
    while len({path[-length:] for path in paths}) < len(paths):
        length += 1
    return {"/".join(path[-length:]): run for path, run in zip(paths, runs, strict=True)}


def _difference(first_name: str, first: Evaluation, name: str, other: Evaluation) -> tuple[Judgement, dict[str, Any]]:
    """Compare R@1 with that of the first run: paired by query, 95% interval over classes. Seeds are in no interval."""
    import numpy as np

    from mohs.evaluation.intervals import class_difference_interval
    from mohs.report.parts import Judgement

    if not _same_queries(first, other):
        text = f"{name} was tested on other pictures than {first_name}: their rows cannot be compared."
        return Judgement("note", text), {"run": name, "against": first_name, "recall@1": None, "interval": None}
    ours, theirs = first.measured["trained"].retrieval, other.measured["trained"].retrieval
    counted = ours.counted
    change_Q = theirs.hit_at_1[counted].astype(np.float64) - ours.hit_at_1[counted]
    labels_Q = first.dataset.labels[first.test_N][counted]
    mean = float(change_Q.mean())
    record = {"run": name, "against": first_name, "recall@1": mean, "interval": None}
    if len(np.unique(labels_Q)) < 2:
        return Judgement(
            "note", f"R@1 of {name} is {mean:+.3f} against {first_name}; one class has no interval."
        ), record
    low, high = class_difference_interval(change_Q, labels_Q)
    record["interval"] = [low, high]
    sure = "" if low > 0 or high < 0 else ", which may be chance"
    text = (
        f"R@1 of {name} is {mean:+.3f} against {first_name} (95% interval {low:+.3f} to {high:+.3f} over "
        f"classes{sure}). What another seed would give is not in it: mohs compare has several."
    )
    return Judgement("note", text), record


def _same_queries(a: Evaluation, b: Evaluation) -> bool:
    """Return whether both were tested on the same pictures of the same classes, against as many."""
    return (
        a.dataset.table.files == b.dataset.table.files
        and bool((a.test_N == b.test_N).all())
        and bool((a.dataset.labels == b.dataset.labels).all())
    )
