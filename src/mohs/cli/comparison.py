"""The command that sets strategies side by side."""

from pathlib import Path
from typing import Annotated

import typer

from mohs.cli.options import (
    Catalog,
    Channels,
    ClassColumn,
    Config,
    FileColumn,
    Json,
    Quiet,
    Setting,
    Size,
    read_settings,
)

__all__ = ["compare"]


def compare(
    source: Annotated[str, typer.Argument(help="CSV, Parquet, folder of class folders, or 'glyphs' (built in).")],
    strategies: Annotated[
        str | None, typer.Option(help="Names with commas between; 'list' shows them; default: all, hours of work.")
    ] = None,
    seeds: Annotated[
        int, typer.Option(help="Every strategy is trained with so many seeds; intervals hold their noise.")
    ] = 5,
    pictures: Annotated[
        int | None, typer.Option(help="Pictures that each run shows to the network, at most; default 60,000.")
    ] = None,
    equal: Annotated[
        str, typer.Option(help="What every run has alike: pictures, cpu (seconds, by a short probe), or both in turn.")
    ] = "pictures",
    tune: Annotated[
        int, typer.Option(help="Trials of each strategy, at most, on a part of the training classes, 0 to 12; 0: none.")
    ] = 0,
    paper: Annotated[
        bool,
        typer.Option(
            "--paper",
            help="The published protocol: 10 epochs of about 1,000 triplets (or of --pictures); four strategies.",
        ),
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for cells and report; what is there already is not run again.")] = (
        Path("mohs-compare")
    ),
    config: Config = None,
    preset: Annotated[str | None, typer.Option(help="Settings to begin with: see mohs train.")] = None,
    budget: Annotated[
        str | None, typer.Option(help="Network and batch: small or medium (two cores), large (a GPU).")
    ] = None,
    catalog: Catalog = None,
    file_column: FileColumn = None,
    class_column: ClassColumn = None,
    size: Size = None,
    channels: Channels = None,
    per_class: Annotated[int | None, typer.Option(help="Pictures of a class that train; default 2.")] = None,
    test_fraction: Annotated[float | None, typer.Option(help="Share of the test classes; default 0.2.")] = None,
    rotations: Annotated[
        bool, typer.Option("--rotations", help="Each picture turned by 0, 90, 180, 270 degrees is a class of its own.")
    ] = False,
    backbone: Annotated[str | None, typer.Option(help="small, or a timm model.")] = None,
    weights: Annotated[str | None, typer.Option(help="safetensors file for the backbone.")] = None,
    setting: Setting = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train strategies on the same budget with several seeds and compare them, with paired intervals."""
    flags = {
        "SOURCE": source,
        "--catalog": catalog,
        "--file-column": file_column,
        "--class-column": class_column,
        "--size": size,
        "--channels": channels,
        "--test-fraction": test_fraction,
        "--backbone": backbone,
        "--weights": weights,
    }
    settings = read_settings(config, flags, setting or (), preset, budget)
    from mohs.cli.compare import Request, compare_command

    request = Request(
        strategies=None if strategies is None else [name.strip() for name in strategies.split(",")],
        num_seeds=seeds,
        num_pictures=pictures,
        num_trials=tune,
        paper=paper,
        out=out,
        per_class=per_class,
        rotations=rotations,
        budget=budget,
        equal=equal,
    )
    compare_command(settings.config, request, notes=settings.notes, quiet=quiet, as_json=as_json)
