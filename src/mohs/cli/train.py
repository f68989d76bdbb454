"""`mohs train` and `mohs evaluate`."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mohs.cli.console import (
    decoding_progress,
    print_json,
    print_table,
    require_file_place,
    require_folder_place,
    say,
    training_progress,
)
from mohs.cli.evaluate import TABLE_HEADER, verification_rows, write_class_table
from mohs.cli.groups import check_groups, groups_by_flag
from mohs.model.finetune import random_weights_warning
from mohs.report.of_run import METRIC_HEADER, metric_row, queries_counted, search_sentences, write_run_report
from mohs.runs import Evaluation, Run, evaluate, train_on, with_run_folder
from mohs.sequence import describe_length
from mohs.settings.config import DataConfig, RunConfig
from mohs.training.events import require_tensorboard
from mohs.training.processes import choose_device, processes
from mohs.training.run_inputs import SplitData, forewarnings, open_split_data

__all__ = ["evaluate_command", "train_command"]


def train_command(config: RunConfig, *, notes: Sequence[str] = (), resume: bool, quiet: bool, as_json: bool) -> None:
    """Train, and say `notes` on the settings and what came of it; among several processes, the first one speaks."""
    first = os.environ.get("RANK", "0") == "0"
    quiet = quiet or not first
    if config.out is not None and not resume:
        require_folder_place(Path(config.out), "--out")
    if config.training.tensorboard:
        require_tensorboard()
    if first:
        with_run_folder(config, resume=resume)  # before pictures are read
    with processes(choose_device(config.training.device)) as peers:
        with decoding_progress(quiet=quiet) as progress:
            data = open_split_data(config.data, seed=config.seed, progress=progress)
        if first:
            lengths = [] if quiet or as_json else _told_before(config, data)
            warnings = [f"warning: {line}" for line in forewarnings(config, data.num_training_classes)]
            anchors = data.anchors_note(config)
            if line := _random_backbone(config):
                warnings.append(f"warning: {line}")
            for note in (*notes, *lengths, *warnings, *([anchors] if anchors else [])):
                say(note)
        with training_progress("train", quiet=quiet) as listeners:
            run = train_on(data, config, resume=resume, listeners=listeners, peers=peers)
    if not first:
        return
    facts = run.facts()
    if as_json:
        print_json({"run": str(run.folder), **facts})
        return
    for line in facts["left_out"]:
        say(f"left out: {line}")
    say(
        f"trained on {facts['num_training_items']:,} pictures of {facts['num_training_classes']:,} classes "
        f"({facts['num_triplets']:,} triplets, {facts['num_pictures']:,} pictures shown): "
        f"embed {facts['embed_s']:.1f} s, mine {facts['mine_s']:.1f} s, train {facts['train_s']:.1f} s"
    )
    if facts["num_kept_apart"]:
        say(f"pairs that met in a batch and were not taken for negatives: {facts['num_kept_apart']:,}")
    say(f"run folder: {run.folder}")
    say(f"next: mohs evaluate {run.folder}")


def evaluate_command(
    folder: Path,
    *,
    data: DataConfig | None,
    per_class: Path | None = None,
    exclude_same_group: bool = False,
    quiet: bool,
    as_json: bool,
) -> None:
    """Measure a run on its test items (or on other data) and write metrics.json and report.html."""
    if per_class is not None:
        require_file_place(per_class, "--per-class")
    run = Run.open(folder)
    with decoding_progress(quiet=quiet) as progress:
        opened = open_split_data(
            data or run.config.data, seed=run.config.seed, all_test=data is not None, progress=progress
        )
    opened.count_queries()  # before minutes of embedding
    if exclude_same_group:
        table = opened.dataset.table
        check_groups(table.groups, table.source, (data or run.config.data).group_column)
    with groups_by_flag():
        evaluation = evaluate(
            run, data=opened, exclude_same_group=exclude_same_group, verification=True, write=data is None
        )
    measured = evaluation.measured
    if per_class is not None:
        queries, gallery = evaluation.query_and_gallery()
        files = evaluation.dataset.table.files
        write_class_table(
            per_class, measured["trained"].classes, [files[i] for i in queries], [files[i] for i in gallery]
        )
    if as_json:
        print_json({name: found.as_record() for name, found in measured.items()})
    else:
        print_table(
            _title(evaluation), ["", *METRIC_HEADER], [[n, *metric_row(m)] for n, m in measured.items()], strong=2
        )
        for sentence in search_sentences(measured["trained"]):
            print(sentence)
        for note in measured["trained"].notes:
            say(f"note: {note}")
        pairs = measured["trained"].verification
        if pairs is None:
            say("no pairs: none of one class, or none of two, among queries and gallery; thresholds need both")
        else:
            print_table(f"pairs: {pairs.law}", TABLE_HEADER, verification_rows(pairs))
    if data is not None:
        if evaluation.num_trained_classes:
            num_tested = len(np.unique(evaluation.dataset.labels[evaluation.test_N]))
            say(
                "warning: the run was trained on classes of the same name: "
                f"{evaluation.num_trained_classes:,} of these {num_tested:,}"
            )
        return  # the run's own files describe its own test
    facts = run.facts()
    path = run.folder / "report.html"
    write_run_report(
        path,
        title=f"Run {run.folder.name}",
        command=f"mohs train --config {run.folder / 'config.json'} --out NEW_FOLDER",
        run=run,
        evaluation=evaluation,
        data=opened,
        runs={run.folder.name: run},
        evaluations={run.folder.name: evaluation},
        rows=list(measured.items()),
        summary=[
            ("data", run.config.data.source),
            ("pictures", f"{facts['num_items']:,} of {facts['num_classes']:,} classes"),
            ("trained on", f"{facts['num_training_items']:,} of {facts['num_training_classes']:,} classes"),
            ("tested on", queries_counted(measured["trained"].retrieval)),
            ("seed", str(run.config.seed)),
            ("seconds", _seconds(run, evaluation)),
        ],
        highlight=2,
    )
    if not as_json:
        say(f"report: {path}")


def _told_before(config: RunConfig, data: SplitData) -> list[str]:
    """Return what is told of every run before it begins: how long it is, and which test items count."""
    num_classes = data.num_training_classes
    num_queries, num_counted = int(data.test_N.sum()), data.count_queries()
    lines = [f"length: {describe_length(config.for_classes(num_classes).training.length, num_classes)}"]
    if num_counted < num_queries:
        lines.append(
            f"test: {num_queries:,} queries, of which {num_counted:,} count; the others have no other picture of their "
            "class to find"
        )
    return lines


def _random_backbone(config: RunConfig) -> str | None:
    """Return a line on a network that was asked for by name, as pretrained ones are, and comes without weights."""
    if config.model.backbone == "small" or config.model.weights is not None or random_weights_warning(config):
        return None
    return f"backbone: {config.model.backbone!r} starts from random weights; give pretrained ones by --weights"


def _title(evaluation: Evaluation) -> str:
    retrieval = evaluation.measured["trained"].retrieval
    gallery = f"gallery of {retrieval.num_gallery:,}"
    return f"{queries_counted(retrieval)}, {gallery}, {evaluation.measured['trained'].told_protocol}"


def _seconds(run: Run, evaluation: Evaluation) -> str:
    facts = run.facts()
    return (
        f"embed {facts['embed_s']:.1f}, mine {facts['mine_s']:.1f}, train {facts['train_s']:.1f}, "
        f"evaluate {evaluation.evaluate_s:.1f}"
    )
