"""`mohs train`: a table in, a run folder out."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mohs.cli import options
from mohs.cli.console import is_first, print_json, print_lines, require_folder_place, say
from mohs.cli.progress import decoding_progress, training_progress
from mohs.errors import InputError, at_most_20
from mohs.settings.loss_records import LOSSES, listed

if TYPE_CHECKING:
    from mohs.settings.config import RunConfig
    from mohs.training.run_inputs import SplitData

__all__ = ["flags", "train"]


def train(
    source: Annotated[str | None, typer.Argument(help="CSV, Parquet, folder, or 'glyphs'.")] = None,
    out: Annotated[str | None, typer.Option(help="New run folder; default runs/NAME-001.")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the run in this folder (or begin it there, with SOURCE).")
    ] = None,
    config: options.Config = None,
    preset: Annotated[
        str | None, typer.Option(help="Preset to begin with: small, frozen, fine-tune, fine-tune-sgd or photos.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Network, batch and length: small or medium (two cores), large (a GPU).")
    ] = None,
    catalog: options.Catalog = None,
    file_column: options.FileColumn = None,
    class_column: options.ClassColumn = None,
    group_column: options.GroupColumn = None,
    multi_label: options.MultiLabelOption = None,
    white_level: options.WhiteLevel = None,
    max_bad: options.MaxBad = None,
    size: options.Size = None,
    channels: options.Channels = None,
    per_class: Annotated[int | None, typer.Option(help="Keep at most this many pictures of a class.")] = None,
    split_by: Annotated[
        str | None,
        typer.Option(
            help="Test on classes that are not trained on (class, the default), or on other pictures of those "
            "that are (item)."
        ),
    ] = None,
    test_fraction: Annotated[
        float | None, typer.Option(help="Share of the classes, or pictures, for the test; default 0.2.")
    ] = None,
    validation_fraction: Annotated[
        float | None, typer.Option(help="Share of the training classes to hold out and measure on; default 0.")
    ] = None,
    backbone: options.Backbone = None,
    weights: options.Weights = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="timm's weights of the backbone, from the Hugging Face hub.")
    ] = False,
    from_: Annotated[
        str | None, typer.Option("--from", help="Begin with the weights of this run, or saved embedder.")
    ] = None,
    loss: Annotated[str | None, typer.Option(help="infonce, triplet, arcface …; all: --explain loss.name.")] = None,
    margin: Annotated[
        float | None, typer.Option(help=f"Margin of {listed(record for record in LOSSES if record.margin)}.")
    ] = None,
    curve: options.Curve = None,
    cap: options.Cap = None,
    growth: options.Growth = None,
    cycles: options.Cycles = None,
    scale: options.ScaleOption = None,
    triplets: Annotated[int | None, typer.Option(help="Length of the plan, in triplets.")] = None,
    stop_after: Annotated[
        int | None,
        typer.Option(help="Early stopping: end after this many segments without a better R@1 on held-out classes."),
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Triplets per step.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak learning rate of the head and of new backbones.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write the events for TensorBoard.")] = False,
    seed: options.Seed = None,
    setting: options.Setting = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Show the settings and exit.")] = False,
    explain: Annotated[
        str | None, typer.Option(help="Say what a setting or section means, and exit.", metavar="S.N")
    ] = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Train an embedder: embed, mine, train in plan order, repeat."""
    if explain is not None:
        from mohs.settings.reference import explain as explain_setting

        with options.naming_flags({explain: f"--explain {explain}"}):
            print_lines(explain_setting(explain, flags()))
        return
    given = locals() | {"out": out if resume is None else str(resume), "tensorboard": tensorboard or None}
    given["pretrained"] = "default" if pretrained else None
    if resume is not None:
        if out is not None and Path(out) != resume:
            raise InputError(f"--out: {out} with --resume {resume}; leave one of them out")
        if source is None and config is None:
            # The first of the settings, in the order of the options, and then what else was given.
            others = (
                options.flag_of(name) for name in options.SETTINGS if name != "out" and given.get(name) is not None
            )
            unused = next(others, "--set" if setting or preset or budget else None)
            if unused is not None:
                raise InputError(
                    f"--resume: {resume} goes on with its own settings; leave out {unused}, or give all that the run "
                    "was begun with"
                )
            config = resume / "config.json"
            if not config.is_file():
                raise InputError(f"--resume: {resume} holds no run (no config.json); give SOURCE to begin one there")
    if source is None and config is None and not print_config:
        raise InputError("SOURCE: missing; give a CSV, Parquet file or folder, 'glyphs', or --config FILE")
    settings = options.read_settings(config, given, setting or (), preset, budget)
    if print_config:
        for note in settings.lines():
            say(note)
        print(settings.config.to_toml(), end="")
        return
    _train(settings, resume=resume is not None, quiet=quiet, as_json=as_json)


def flags() -> dict[str, str]:
    """Return the flags of `mohs train` that are settings, by setting.

    >>> flags()["training.num_triplets"]
    '--triplets'
    """
    own = signature(train).parameters
    return {setting: options.flag_of(name) for name, setting in options.SETTINGS.items() if name in own}


def _train(settings: options.Settings, *, resume: bool, quiet: bool, as_json: bool) -> None:
    """Train, and say what came of it; among several processes, the first one speaks."""
    from mohs.runs import train_on
    from mohs.training.events import require_tensorboard
    from mohs.training.processes import choose_device, processes
    from mohs.training.run_folder import with_run_folder
    from mohs.training.run_inputs import open_split_data

    config = settings.config
    first = is_first()
    quiet = quiet or not first
    if config.out is not None and not resume:
        require_folder_place(Path(config.out), "--out")
    if config.training.tensorboard:
        require_tensorboard()
    if first:
        with_run_folder(config, resume=resume)  # before pictures are read
    with processes(choose_device(config.training.device)) as peers:
        with decoding_progress(quiet=quiet) as progress:
            data = peers.first_here_first(lambda: open_split_data(config.data, seed=config.seed, progress=progress))
        if first:
            for line in (*settings.lines(), *_before(config, data, lengths=not (quiet or as_json))):
                say(line)
            if not (quiet or as_json):
                say(str(data.reading))
        with training_progress("train", quiet=quiet) as listeners:
            run = train_on(data, config, resume=resume, listeners=listeners, peers=peers)
    if not first:
        return
    facts = run.facts()
    if as_json:
        print_json({"run": str(run.folder), **facts})
        return
    for line in at_most_20(facts["left_out"]):
        say(f"set aside: {line}")
    say(
        f"trained on {facts['num_training_items']:,} pictures of {facts['num_training_classes']:,} classes "
        f"({facts['num_triplets']:,} triplets, {facts['num_pictures']:,} pictures shown): "
        f"embed {facts['embed_s']:.1f} s, mine {facts['mine_s']:.1f} s, train {facts['train_s']:.1f} s"
    )
    if facts["best_triplets"] is not None:
        ended = "stopped early" if facts["stopped_early"] else "not stopped early"
        say(
            f"{ended}: the weights are those after {facts['best_triplets']:,} triplets, where R@1 on held-out classes "
            f"was best, {facts['best_recall']:.3f}"
        )
    if facts["num_kept_apart"]:
        say(f"pairs that met in a batch and were not taken for negatives: {facts['num_kept_apart']:,}")
    say(f"run folder: {run.folder}")
    say(f"next: mohs evaluate {run.folder}")


def _before(config: RunConfig, data: SplitData, *, lengths: bool) -> list[str]:
    """Return what is told of a run before it begins: its length, the test items that count, what may go wrong."""
    from mohs.model.beginning import differences
    from mohs.model.finetune import random_weights_warning
    from mohs.sequence import describe_length
    from mohs.training.run_inputs import classes_before, forewarnings

    lines = differences(config.network, config.data.policy)
    num_classes = data.num_training_classes
    if lengths:
        num_queries, num_counted = int(data.test_N.sum()), data.count_queries()
        decided = config.for_classes(num_classes)
        lines.append(f"length: {describe_length(decided.training.length, num_classes)}")
        if decided.num_bank_negatives:
            lines.append(
                f"negatives: all of the batch, and {decided.num_bank_negatives} of the {decided.memory.size:,} "
                "pictures that were shown last (memory.num_negatives)"
            )
        if decided.whitens:
            lines.append("after the last step: embeddings are whitened within classes (training.whiten)")
        if num_counted < num_queries:
            lines.append(
                f"test: {num_queries:,} queries, of which {num_counted:,} count; the others have no other picture of "
                "their class to find"
            )
    lines += [f"warning: {line}" for line in forewarnings(config, num_classes)]
    model = config.model
    if model.backbone != "small" and model.beginning is None and not random_weights_warning(config):
        # A network that was asked for by name, as pretrained ones are.
        lines.append(
            f"warning: backbone: {model.backbone!r} starts from random weights; give --pretrained, or --weights FILE"
        )
    if config.model.start is not None and data.unseen_classes:
        known = classes_before(config)
        seen = sum(label in known for label in set(data.dataset.labels[data.test_N].tolist()))
        if seen:
            lines.append(
                f"warning: {seen:,} test classes were trained on by {config.model.start}; what is measured on them is "
                "not on unseen classes"
            )
    anchors = data.anchors_note(config)
    return lines + ([anchors] if anchors else [])
