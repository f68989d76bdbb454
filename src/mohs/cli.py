"""The command line. What a command does is in `mohs.commands`; heavy packages are imported inside the commands."""

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import click
import typer

from mohs import __version__
from mohs.errors import InputError, MohsError

__all__ = ["main"]

app = typer.Typer(
    name="mohs",
    help="Similarity learning for many classes with one or two pictures each.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

SourceArgument = Annotated[str, typer.Argument(help="CSV, Parquet, folder of class folders, or 'glyphs' (built in).")]
Catalog = Annotated[str | None, typer.Option(help="Table with one reference picture per class.")]
FileColumn = Annotated[str | None, typer.Option(help="Column of file names; default 'file'.")]
ClassColumn = Annotated[str | None, typer.Option(help="Column of classes; default 'class'.")]
Seed = Annotated[int | None, typer.Option(help="Decides every random choice; default 0.")]
Size = Annotated[int | None, typer.Option(help="Side of the square network input, pixels; default 64.")]
Channels = Annotated[int | None, typer.Option(help="1 grey, 3 colour; default 3.")]
Curve = Annotated[str | None, typer.Option(help="constant, linear, sine, tanh, logarithmic or sigmoid.")]
Cap = Annotated[float | None, typer.Option(help="Largest hardness of the curve, 0 to 1.")]
Growth = Annotated[float | None, typer.Option(help="Growth of tanh, logarithmic and sigmoid.")]
Cycles = Annotated[int | None, typer.Option(help="Repetitions of the curve.")]
ScaleOption = Annotated[str | None, typer.Option("--scale", help="range, rank, log-rank or margin.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Json = Annotated[bool, typer.Option("--json", help="Results as JSON on stdout.")]
Config = Annotated[Path | None, typer.Option(help="TOML file (or a run's config.json); flags override it.")]
Setting = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any setting: section.name=value; repeatable.", metavar="S.N=V"),
]


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        print(f"mohs {__version__}")
        raise typer.Exit


@app.command()
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
    from mohs.commands.demo import DEFAULT_PICTURES, demo_command

    demo_command(
        out, seed=seed, num_pictures=pictures or DEFAULT_PICTURES, num_classes=classes, quiet=quiet, as_json=as_json
    )


@app.command()
def check(
    source: SourceArgument,
    catalog: Catalog = None,
    file_column: FileColumn = None,
    class_column: ClassColumn = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Read a table and every picture of it; say what is there and what is wrong."""
    from mohs.commands.check import check_command

    check_command(source, catalog, file_column or "file", class_column or "class", quiet=quiet, as_json=as_json)


@app.command()
def glyphs(
    folder: Annotated[Path, typer.Argument(help="New folder for the pictures, images.csv and catalog.csv.")],
    size: Annotated[int, typer.Option(help="Side of the pictures, pixels.")] = 64,
    classes: Annotated[int | None, typer.Option(help="Only the first classes.")] = None,
    as_json: Json = False,
) -> None:
    """Write the built-in set of characters as files, to try the other commands on."""
    from mohs.commands.check import glyphs_command

    glyphs_command(folder, size, classes, as_json=as_json)


@app.command()
def mine(
    source: SourceArgument,
    out: Annotated[Path, typer.Option(help="The plan, Parquet.")] = Path("plan.parquet"),
    csv: Annotated[Path | None, typer.Option(help="The plan as CSV with file names, too.")] = None,
    catalog: Catalog = None,
    file_column: FileColumn = None,
    class_column: ClassColumn = None,
    triplets: Annotated[int, typer.Option(help="Length of the plan.")] = 10_000,
    curve: Curve = None,
    cap: Cap = None,
    growth: Growth = None,
    cycles: Cycles = None,
    scale: ScaleOption = None,
    margin: Annotated[float | None, typer.Option(help="Of the scale 'margin', Euclidean distance.")] = None,
    prefer: Annotated[str, typer.Option(help="Positives: class (other pictures first) or catalog.")] = "class",
    embedder: Annotated[Path | None, typer.Option(help="Run or embedder folder; default: untrained small one.")] = None,
    embeddings: Annotated[Path | None, typer.Option(help=".npy with a row per item, instead of an embedder.")] = None,
    size: Size = None,
    channels: Channels = None,
    seed: Seed = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Mine a triplet for each anchor over the whole table, at scheduled hardness."""
    config = _config(
        None,
        {
            "seed": seed,
            "data.source": source,
            "data.catalog": catalog,
            "data.file_column": file_column,
            "data.class_column": class_column,
            "data.size": size,
            "data.channels": channels,
            "hardness.curve": curve,
            "hardness.cap": cap,
            "hardness.growth": growth,
            "hardness.cycles": cycles,
            "hardness.scale": scale or "range",
            "training.num_triplets": triplets,
            "training.prefer_positive": prefer,
        },
    )
    from mohs.commands.mine import MineRequest, mine_command

    request = MineRequest(
        data=config.data,
        hardness=config.hardness,
        margin=margin,
        num_triplets=config.training.num_triplets,
        prefer_positive=config.training.prefer_positive,
        embedder=embedder,
        embeddings=embeddings,
        out=out,
        csv=csv,
        seed=config.seed,
    )
    mine_command(request, quiet=quiet, as_json=as_json)


@app.command()
def train(
    source: Annotated[str | None, typer.Argument(help="CSV, Parquet, folder, or 'glyphs'.")] = None,
    out: Annotated[str | None, typer.Option(help="New run folder; default runs/latest.")] = None,
    config: Config = None,
    catalog: Catalog = None,
    file_column: FileColumn = None,
    class_column: ClassColumn = None,
    size: Size = None,
    channels: Channels = None,
    per_class: Annotated[int | None, typer.Option(help="Keep at most this many pictures of a class.")] = None,
    split_by: Annotated[str | None, typer.Option(help="class (test on unseen classes) or item.")] = None,
    test_fraction: Annotated[float | None, typer.Option(help="Share of the test; default 0.2.")] = None,
    backbone: Annotated[str | None, typer.Option(help="small, or a timm model.")] = None,
    weights: Annotated[str | None, typer.Option(help="safetensors file for the backbone.")] = None,
    loss: Annotated[str | None, typer.Option(help="infonce, semi-hard, triplet or soft-triplet.")] = None,
    margin: Annotated[float | None, typer.Option(help="Of triplet and semi-hard.")] = None,
    curve: Curve = None,
    cap: Cap = None,
    growth: Growth = None,
    cycles: Cycles = None,
    scale: ScaleOption = None,
    triplets: Annotated[int | None, typer.Option(help="Length of the plan.")] = None,
    batch: Annotated[int | None, typer.Option(help="Triplets per step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak rate, AdamW.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")] = None,
    seed: Seed = None,
    setting: Setting = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Show the settings and exit.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train an embedder: embed, mine, train in plan order, repeat."""
    flags = {
        "seed": seed,
        "out": out,
        "data.source": source,
        "data.catalog": catalog,
        "data.file_column": file_column,
        "data.class_column": class_column,
        "data.size": size,
        "data.channels": channels,
        "data.per_class": per_class,
        "data.split_by": split_by,
        "data.test_fraction": test_fraction,
        "model.backbone": backbone,
        "model.weights": weights,
        "loss.name": loss,
        "loss.margin": margin,
        "hardness.curve": curve,
        "hardness.cap": cap,
        "hardness.growth": growth,
        "hardness.cycles": cycles,
        "hardness.scale": scale,
        "training.num_triplets": triplets,
        "training.batch_triplets": batch,
        "training.learning_rate": learning_rate,
        "training.device": device,
    }
    if source is None and config is None:
        raise InputError("SOURCE: missing; give a CSV, Parquet file or folder, 'glyphs', or --config FILE")
    settings = _config(config, flags, setting or ())
    if print_config:
        print(settings.to_toml(), end="")
        return
    from mohs.commands.train import train_command

    train_command(settings, quiet=quiet, as_json=as_json)


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder made by 'mohs train'.")],
    data: Annotated[str | None, typer.Option(help="Other data, all of it for the test.")] = None,
    catalog: Catalog = None,
    file_column: FileColumn = None,
    class_column: ClassColumn = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure a run beside the untrained network and the pixels; write metrics.json and report.html."""
    from mohs.commands.train import evaluate_command
    from mohs.runs import Run

    other = None
    if data is not None:
        given = {"catalog": catalog, "file_column": file_column, "class_column": class_column}
        update = {"source": data, "catalog": None} | {name: value for name, value in given.items() if value is not None}
        other = Run.open(run).config.data.model_copy(update=update)
    elif catalog or file_column or class_column:
        raise InputError("--catalog, --file-column, --class-column: need --data; the run's own data is known")
    evaluate_command(run, data=other, quiet=quiet, as_json=as_json)


def _config(file: Path | None, flags: dict[str, Any], settings: Sequence[str] = ()) -> Any:
    """Return the settings of a file, with `--set` and then flags on top."""
    from mohs.config import override_config

    return override_config(file, settings, {name: value for name, value in flags.items() if value is not None})


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 2 bad input, 3 bad images, 4 resource, 5 training, 130/143 signals."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that temporary files are removed
    try:
        app(args=None if arguments is None else list(arguments), prog_name="mohs", standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        sys.exit(2)
    except click.ClickException as error:
        name = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "mohs"
        text = " ".join(error.format_message().split())
        print(f"{name}: {text.rstrip('.')}; see '{name} --help'", file=sys.stderr)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        print("mohs: interrupted", file=sys.stderr)
        sys.exit(130)
    except MohsError as error:
        for problem in error.problems:
            print(f"mohs: {problem}", file=sys.stderr)
        sys.exit(error.exit_code)
    except MemoryError:
        print("mohs: out of memory; use fewer or smaller pictures (--size), or a machine with more", file=sys.stderr)
        sys.exit(4)
    except BrokenPipeError:
        # The reader of stdout left (as 'head' does): not an error, and nothing more can be said there.
        sys.stderr.close()
        sys.exit(0)
    sys.exit(0)


if __name__ == "__main__":
    main()
