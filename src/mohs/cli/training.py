"""Commands that train and measure: demo, train, evaluate."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from mohs.cli.options import (
    Cap,
    Catalog,
    Channels,
    ClassColumn,
    Config,
    Curve,
    Cycles,
    FileColumn,
    GroupColumn,
    Growth,
    Json,
    MultiLabelOption,
    Quiet,
    ScaleOption,
    Seed,
    Setting,
    Size,
    WhiteLevel,
    read_settings,
)
from mohs.errors import InputError

__all__ = ["demo", "evaluate", "report", "train"]


def demo(
    out: Annotated[Path, typer.Option(help="Folder for runs and report; an older demo there is replaced.")] = Path(
        "mohs-demo"
    ),
    seed: Annotated[int, typer.Option(help="Decides every random choice.")] = 0,
    pictures: Annotated[int | None, typer.Option(help="Pictures that each strategy may show to the network.")] = None,
    classes: Annotated[int | None, typer.Option(help="Use only this many classes, for a quick look.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train and measure four strategies on the built-in set, two pictures per class, in under three minutes."""
    from mohs.cli.demo import DEFAULT_PICTURES, demo_command

    demo_command(
        out,
        seed=seed,
        num_pictures=DEFAULT_PICTURES if pictures is None else pictures,
        num_classes=classes,
        quiet=quiet,
        as_json=as_json,
    )


def train(
    source: Annotated[str | None, typer.Argument(help="CSV, Parquet, folder, or 'glyphs'.")] = None,
    out: Annotated[str | None, typer.Option(help="New run folder; default runs/NAME-001.")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the run in this folder (or begin it there, with SOURCE).")
    ] = None,
    config: Config = None,
    preset: Annotated[
        str | None, typer.Option(help="Settings to begin with: small, frozen, fine-tune, fine-tune-sgd or photos.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Network, batch and length: small or medium (two cores), large (a GPU).")
    ] = None,
    catalog: Catalog = None,
    file_column: FileColumn = None,
    class_column: ClassColumn = None,
    group_column: GroupColumn = None,
    multi_label: MultiLabelOption = None,
    white_level: WhiteLevel = None,
    size: Size = None,
    channels: Channels = None,
    per_class: Annotated[int | None, typer.Option(help="Keep at most this many pictures of a class.")] = None,
    split_by: Annotated[str | None, typer.Option(help="class (test on unseen classes) or item.")] = None,
    test_fraction: Annotated[float | None, typer.Option(help="Share of the test; default 0.2.")] = None,
    backbone: Annotated[str | None, typer.Option(help="small, or a timm model.")] = None,
    weights: Annotated[str | None, typer.Option(help="safetensors file for the backbone.")] = None,
    loss: Annotated[str | None, typer.Option(help="infonce, triplet, arcface …: see --print-config.")] = None,
    margin: Annotated[float | None, typer.Option(help="Of triplet, contrastive and semi-hard.")] = None,
    curve: Curve = None,
    cap: Cap = None,
    growth: Growth = None,
    cycles: Cycles = None,
    scale: ScaleOption = None,
    triplets: Annotated[int | None, typer.Option(help="Length of the plan.")] = None,
    batch: Annotated[int | None, typer.Option(help="Triplets per step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak rate of the head and of new networks.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write for TensorBoard.")] = False,
    seed: Seed = None,
    setting: Setting = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Show the settings and exit.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train an embedder: embed, mine, train in plan order, repeat."""
    flags = {
        "--seed": seed,
        "--out": out,
        "SOURCE": source,
        "--catalog": catalog,
        "--file-column": file_column,
        "--class-column": class_column,
        "--group-column": group_column,
        "--multi-label": multi_label,
        "--white-level": white_level,
        "--size": size,
        "--channels": channels,
        "--per-class": per_class,
        "--split-by": split_by,
        "--test-fraction": test_fraction,
        "--backbone": backbone,
        "--weights": weights,
        "--loss": loss,
        "--margin": margin,
        "--curve": curve,
        "--cap": cap,
        "--growth": growth,
        "--cycles": cycles,
        "--scale": scale,
        "--triplets": triplets,
        "--batch": batch,
        "--learning-rate": learning_rate,
        "--device": device,
        "--tensorboard": tensorboard or None,
    }
    if resume is not None:
        if out is not None and Path(out) != resume:
            raise InputError(f"--out: {out} with --resume {resume}; leave one of them out")
        flags["--out"] = str(resume)
        given = [name for name, value in flags.items() if value is not None and name != "--out"]
        if source is None and config is None:
            if given or setting or preset or budget:
                raise InputError(
                    f"--resume: {resume} goes on with its own settings; leave out {given[0] if given else '--set'}, or "
                    "give all that the run was begun with"
                )
            config = resume / "config.json"
            if not config.is_file():
                raise InputError(f"--resume: {resume} holds no run (no config.json); give SOURCE to begin one there")
    if source is None and config is None and not print_config:
        raise InputError("SOURCE: missing; give a CSV, Parquet file or folder, 'glyphs', or --config FILE")
    settings = read_settings(config, flags, setting or (), preset, budget)
    if print_config:
        for note in settings.notes:
            print(note, file=sys.stderr)
        print(settings.config.to_toml(), end="")
        return
    from mohs.cli.train import train_command

    train_command(settings.config, notes=settings.notes, resume=resume is not None, quiet=quiet, as_json=as_json)


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
        bool, typer.Option("--exclude-same-group", help="A query does not find items of its own group, or session.")
    ] = False,
    data: Annotated[str | None, typer.Option(help="Other data for the run, all of it for the test.")] = None,
    catalog: Catalog = None,
    file_column: FileColumn = None,
    class_column: ClassColumn = None,
    group_column: GroupColumn = None,
    multi_label: MultiLabelOption = None,
    seed: Seed = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure a run beside the untrained network and the pixels; or embeddings from anywhere (--embeddings)."""
    if embeddings is not None:
        _refuse(
            {"RUN": run, "--data": data, "--catalog": catalog, "--multi-label": multi_label},
            "with --embeddings; leave it out",
        )
        if labels is None:
            raise InputError("--labels: missing; give the classes of the rows of --embeddings")
        if (query_embeddings is None) != (query_labels is None):
            raise InputError("--query-embeddings, --query-labels: one without the other; give both or neither")
        from mohs.cli.evaluate import evaluate_embeddings_command

        evaluate_embeddings_command(
            embeddings,
            labels,
            query_embeddings=query_embeddings,
            query_labels=query_labels,
            class_column=class_column,
            file_column=file_column,
            group_column=group_column,
            exclude_same_group=exclude_same_group,
            seed=0 if seed is None else seed,
            out=out,
            per_class=per_class,
            verification=not no_pairs,
            quiet=quiet,
            as_json=as_json,
        )
        return
    needs: dict[str, object] = {
        "--labels": labels,
        "--query-embeddings": query_embeddings,
        "--query-labels": query_labels,
        "--out": out,
    }
    _refuse(needs | {"--seed": seed}, "needs --embeddings; give it, or leave this out")
    if no_pairs:
        raise InputError("--no-pairs: needs --embeddings; the report of a run shows its pairs")
    if run is None:
        raise InputError("RUN: missing; give a run folder, or --embeddings FILE and --labels FILE")
    of_data = (catalog, file_column, class_column, group_column, multi_label)
    if data is None and any(each is not None for each in of_data):
        raise InputError(
            "--catalog, --file-column, --class-column, --group-column, --multi-label: need --data; the run's own "
            "data is known"
        )
    from mohs.cli.train import evaluate_command
    from mohs.runs import Run

    other = None
    if data is not None:
        # Pictures are prepared as for the run; which ones there are, the run's settings do not say.
        update = {
            "source": data,
            "catalog": catalog,
            "file_column": file_column or "file",
            "class_column": class_column or "class",
            "group_column": "group" if group_column is None else group_column,
            "multi_label": multi_label or "error",
            "per_class": None,
            "max_classes": None,
        }
        other = Run.open(run).config.data.model_copy(update=update)
    evaluate_command(
        run, data=other, per_class=per_class, exclude_same_group=exclude_same_group, quiet=quiet, as_json=as_json
    )


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders; the first one is shown in detail.")],
    out: Annotated[Path, typer.Option(help="The page.")] = Path("report.html"),
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Compare runs on one page: results with paired intervals, curves, and the first one in detail."""
    from mohs.cli.report import report_command

    report_command(runs, out, quiet=quiet, as_json=as_json)


def _refuse(flags: Mapping[str, object], why: str) -> None:
    problems = [f"{flag}: {value} {why}" for flag, value in flags.items() if value is not None]
    if problems:
        raise InputError(*problems)
