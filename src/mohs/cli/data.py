"""Commands on tables and pictures: check, glyphs, mine."""

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from mohs.cli.options import (
    Cap,
    Catalog,
    Channels,
    ClassColumn,
    Curve,
    Cycles,
    FileColumn,
    GroupColumn,
    Growth,
    Json,
    MultiLabelOption,
    Quiet,
    Seed,
    Size,
    SourceArgument,
    WhiteLevel,
    read_settings,
)
from mohs.errors import InputError
from mohs.hardness.scales import SCALES

__all__ = ["check", "fix", "glyphs", "mine"]


def check(
    source: Annotated[str, typer.Argument(help="CSV, Parquet, or folder of class folders.")],
    catalog: Catalog = None,
    file_column: FileColumn = None,
    class_column: ClassColumn = None,
    group_column: GroupColumn = None,
    multi_label: MultiLabelOption = None,
    white_level: WhiteLevel = None,
    fixes: Annotated[
        Path | None, typer.Option(help="Write corrections for 'mohs fix' here, as --multi-label chooses (CSV).")
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Read a table and every picture of it; say what is there and what is wrong."""
    flags = {
        "SOURCE": source,
        "--catalog": catalog,
        "--file-column": file_column,
        "--class-column": class_column,
        "--group-column": group_column,
        "--multi-label": multi_label,
        "--white-level": white_level,
    }
    from mohs.cli.check import check_command

    check_command(read_settings(None, flags).config.data, fixes, quiet=quiet, as_json=as_json)


def glyphs(
    folder: Annotated[Path, typer.Argument(help="New folder for the pictures, images.csv and catalog.csv.")],
    size: Annotated[int, typer.Option(help="Side of the pictures, pixels.")] = 64,
    classes: Annotated[int | None, typer.Option(help="Only the first classes.")] = None,
    keep_homoglyphs: Annotated[
        bool, typer.Option("--keep-homoglyphs", help="Leave Latin A and Greek Alpha two classes: equal pictures.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write the built-in set of characters as files, to try the other commands on."""
    from mohs.cli.check import glyphs_command

    glyphs_command(folder, size, classes, merge_homoglyphs=not keep_homoglyphs, as_json=as_json)


def fix(
    source: Annotated[str, typer.Argument(help="The table (CSV, Parquet or folder) that was looked at.")],
    fixes: Annotated[
        Path, typer.Argument(help="fixes.csv of 'mohs doctor --precision' or 'mohs check --fixes', looked through.")
    ],
    out: Annotated[Path, typer.Option(help="The new table, CSV.")],
    catalog: Catalog = None,
    file_column: FileColumn = None,
    class_column: ClassColumn = None,
    group_column: GroupColumn = None,
    as_json: Json = False,
) -> None:
    """Write the table with corrections made: classes joined, pictures relabelled or left out; files stay."""
    from mohs.cli.precision import fix_command

    flags = {
        "SOURCE": source,
        "--catalog": catalog,
        "--file-column": file_column,
        "--class-column": class_column,
        "--group-column": group_column,
    }
    fix_command(read_settings(None, flags).config.data, fixes, out, as_json=as_json)


def mine(
    source: SourceArgument,
    out: Annotated[Path, typer.Option(help="The plan, Parquet.")] = Path("plan.parquet"),
    csv: Annotated[Path | None, typer.Option(help="The plan as CSV with file names, too.")] = None,
    catalog: Catalog = None,
    file_column: FileColumn = None,
    class_column: ClassColumn = None,
    group_column: GroupColumn = None,
    multi_label: MultiLabelOption = None,
    white_level: WhiteLevel = None,
    triplets: Annotated[int, typer.Option(help="Anchors; with one negative each, the length of the plan.")] = 10_000,
    negatives: Annotated[int, typer.Option(help="Negatives of each anchor: so many rows of the plan.")] = 1,
    curve: Curve = None,
    cap: Cap = None,
    growth: Growth = None,
    cycles: Cycles = None,
    scale: Annotated[str, typer.Option(help=f"{', '.join(SCALES[:-1])} or {SCALES[-1]}.")] = "range",
    margin: Annotated[float | None, typer.Option(help="Of the scale 'margin', Euclidean distance.")] = None,
    metric: Annotated[str, typer.Option(help="euclidean, or cosine: rows are divided by their norms.")] = "euclidean",
    positive_rule: Annotated[str, typer.Option(help="random; easy: the nearest of the class; hard: the farthest.")] = (
        "random"
    ),
    anchors: Annotated[
        str | None,
        typer.Option(
            help="catalog: catalog pictures, with samples as positives and negatives; sample: samples, catalog "
            "pictures first as positives; any (default): samples, and --prefer decides."
        ),
    ] = None,
    prefer: Annotated[
        str | None, typer.Option(help="Random positives: class (other pictures first, the default) or catalog.")
    ] = None,
    candidates: Annotated[str, typer.Option(help="What may be a negative: all, sample or catalog pictures.")] = "all",
    review_list: Annotated[
        Path | None, typer.Option(help="CSV (file, other) of pairs that are not negatives: a run's review.csv.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="exact, sampled, or auto: sampled from 30 billion pairs on (rank, log-rank).")
    ] = "exact",
    num_sampled: Annotated[int | None, typer.Option(help="Candidates in a sample; default 4096.")] = None,
    device: Annotated[
        str | None,
        typer.Option(help="cpu, cuda, cuda:1, mps: embeds and mines; default: mines on the CPU, embeds on the best."),
    ] = None,
    embedder: Annotated[Path | None, typer.Option(help="Run or embedder folder; default: untrained small one.")] = None,
    embeddings: Annotated[Path | None, typer.Option(help=".npy with a row per item, instead of an embedder.")] = None,
    size: Size = None,
    channels: Channels = None,
    seed: Seed = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Mine a triplet for each anchor over the whole table, at scheduled hardness."""
    if (size is not None or channels is not None) and (embedder is not None or embeddings is not None):
        raise InputError("--size, --channels: decided already by --embedder or --embeddings; leave them out")
    config = read_settings(
        None,
        {
            "--seed": seed,
            "SOURCE": source,
            "--catalog": catalog,
            "--file-column": file_column,
            "--class-column": class_column,
            "--group-column": group_column,
            "--multi-label": multi_label,
            "--white-level": white_level,
            "--size": size,
            "--channels": channels,
            "--curve": curve,
            "--cap": cap,
            "--growth": growth,
            "--cycles": cycles,
            "--scale": scale,
            "--triplets": triplets,
            "--anchors": anchors,
            "--prefer": prefer,
        },
    ).config
    from mohs.cli.mine import mine_command
    from mohs.cli.mine_request import MineRequest

    request = MineRequest(
        data=config.data,
        hardness=config.hardness,
        margin=margin,
        num_triplets=config.training.num_triplets,
        num_negatives=negatives,
        # Checked with the rest of the request, so that all mistakes are told together.
        positive_rule=cast(Any, positive_rule),
        anchors=config.training.anchors,
        prefer_positive=None if prefer is None else config.training.prefer_positive,
        metric=cast(Any, metric),
        candidates=cast(Any, candidates),
        review_list=review_list,
        method=cast(Any, method),
        num_sampled=num_sampled,
        device=device,
        embedder=embedder,
        embeddings=embeddings,
        out=out,
        csv=csv,
        seed=config.seed,
    )
    mine_command(request, quiet=quiet, as_json=as_json)
