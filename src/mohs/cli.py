"""The command line. What a command does is in `mohs.commands`; heavy packages are imported inside the commands."""

import contextlib
import errno
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, cast

import typer

from mohs import __version__
from mohs.errors import InputError, MohsError

__all__ = ["main"]

app = typer.Typer(
    name="mohs",
    help="Similarity learning for many classes with one or two pictures each.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# The base of typer's own errors: click's in older versions of typer, a class of its own in newer ones.
_UsageError = cast(type[Exception], typer.BadParameter.__mro__[2])

# Flags of the command line that change a setting, and the setting they change.
_SETTINGS = {
    "SOURCE": "data.source",
    "--seed": "seed",
    "--out": "out",
    "--catalog": "data.catalog",
    "--file-column": "data.file_column",
    "--class-column": "data.class_column",
    "--size": "data.size",
    "--channels": "data.channels",
    "--per-class": "data.per_class",
    "--split-by": "data.split_by",
    "--test-fraction": "data.test_fraction",
    "--backbone": "model.backbone",
    "--weights": "model.weights",
    "--loss": "loss.name",
    "--margin": "loss.margin",
    "--curve": "hardness.curve",
    "--cap": "hardness.cap",
    "--growth": "hardness.growth",
    "--cycles": "hardness.cycles",
    "--scale": "hardness.scale",
    "--triplets": "training.num_triplets",
    "--batch": "training.batch_triplets",
    "--learning-rate": "training.learning_rate",
    "--device": "training.device",
    "--prefer": "training.prefer_positive",
}

SourceArgument = Annotated[str, typer.Argument(help="CSV, Parquet, folder of class folders, or 'glyphs' (built in).")]
Catalog = Annotated[str | None, typer.Option(help="Table with one reference picture per class.")]
FileColumn = Annotated[str | None, typer.Option(help="Column of file names; default 'file'.")]
ClassColumn = Annotated[str | None, typer.Option(help="Column of classes; default 'class'.")]
Seed = Annotated[int | None, typer.Option(help="Decides every random choice; default 0.")]
Size = Annotated[int | None, typer.Option(help="Side of the square network input, pixels; default 64.")]
Channels = Annotated[int | None, typer.Option(help="1 grey, 3 colour; default 3.")]
Curve = Annotated[
    str | None, typer.Option(help="constant, linear, sine, tanh, logarithmic or sigmoid; default sigmoid.")
]
Cap = Annotated[float | None, typer.Option(help="Largest hardness of the curve, 0 to 1; default 0.85.")]
Growth = Annotated[float | None, typer.Option(help="Growth of tanh, logarithmic and sigmoid.")]
Cycles = Annotated[int | None, typer.Option(help="Repetitions of the curve; default 1.")]
ScaleOption = Annotated[str | None, typer.Option("--scale", help="range, rank, log-rank or margin; default log-rank.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Json = Annotated[bool, typer.Option("--json", help="Results as JSON on stdout.")]
Config = Annotated[Path | None, typer.Option(help="TOML file (or a run's config.json); flags override it.")]
Setting = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any setting: section.name=value; repeatable.", metavar="S.N=V"),
]


@app.callback(invoke_without_command=True)
def _start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print(f"mohs {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        with contextlib.redirect_stdout(sys.stderr):
            print(context.get_help())
        raise typer.Exit(2)


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
        out,
        seed=seed,
        num_pictures=DEFAULT_PICTURES if pictures is None else pictures,
        num_classes=classes,
        quiet=quiet,
        as_json=as_json,
    )


@app.command()
def check(
    source: Annotated[str, typer.Argument(help="CSV, Parquet, or folder of class folders.")],
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
    scale: Annotated[str, typer.Option(help="range, rank, log-rank or margin.")] = "range",
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
    if (size is not None or channels is not None) and (embedder is not None or embeddings is not None):
        raise InputError("--size, --channels: decided already by --embedder or --embeddings; leave them out")
    config = _config(
        None,
        {
            "--seed": seed,
            "SOURCE": source,
            "--catalog": catalog,
            "--file-column": file_column,
            "--class-column": class_column,
            "--size": size,
            "--channels": channels,
            "--curve": curve,
            "--cap": cap,
            "--growth": growth,
            "--cycles": cycles,
            "--scale": scale,
            "--triplets": triplets,
            "--prefer": prefer,
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
    out: Annotated[str | None, typer.Option(help="New run folder; default runs/NAME-001.")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the run in this folder (or begin it there, with SOURCE).")
    ] = None,
    config: Config = None,
    preset: Annotated[
        str | None, typer.Option(help="Settings to begin with: small, frozen, fine-tune or fine-tune-sgd.")
    ] = None,
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
    }
    if resume is not None:
        if out is not None and Path(out) != resume:
            raise InputError(f"--out: {out} with --resume {resume}; leave one of them out")
        flags["--out"] = str(resume)
        given = [name for name, value in flags.items() if value is not None and name != "--out"]
        if source is None and config is None:
            if given or setting or preset:
                raise InputError(
                    f"--resume: {resume} goes on with its own settings; leave out {given[0] if given else '--set'}, or "
                    "give all that the run was begun with"
                )
            config = resume / "config.json"
            if not config.is_file():
                raise InputError(f"--resume: {resume} holds no run (no config.json); give SOURCE to begin one there")
    if source is None and config is None and not print_config:
        raise InputError("SOURCE: missing; give a CSV, Parquet file or folder, 'glyphs', or --config FILE")
    settings = _config(config, flags, setting or (), preset)
    if print_config:
        print(settings.to_toml(), end="")
        return
    from mohs.commands.train import train_command

    train_command(settings, resume=resume is not None, quiet=quiet, as_json=as_json)


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
    if data is None and (catalog or file_column or class_column):
        raise InputError("--catalog, --file-column, --class-column: need --data; the run's own data is known")
    from mohs.commands.train import evaluate_command
    from mohs.runs import Run

    other = None
    if data is not None:
        # Pictures are prepared as for the run; which ones there are, the run's settings do not say.
        update = {
            "source": data,
            "catalog": catalog,
            "file_column": file_column or "file",
            "class_column": class_column or "class",
            "per_class": None,
            "max_classes": None,
        }
        other = Run.open(run).config.data.model_copy(update=update)
    evaluate_command(run, data=other, quiet=quiet, as_json=as_json)


classify = typer.Typer(help="Fit, use and measure a classifier on a run's embedder, which stays as it is.")
app.add_typer(classify, name="classify")

ClassifierFolder = Annotated[Path, typer.Argument(help="Folder made by 'mohs classify fit'.")]


@classify.command("fit")
def classify_fit(
    run: Annotated[Path, typer.Argument(help="Run folder made by 'mohs train', or an embedder folder.")],
    out: Annotated[Path, typer.Option(help="New folder for the classifier.")],
    source: Annotated[str | None, typer.Argument(help="Pictures to fit on; default: the run's training items.")] = None,
    method: Annotated[str | None, typer.Option(help="linear, nearest-neighbours or nearest-catalog.")] = None,
    dropout: Annotated[float | None, typer.Option(help="linear: before the linear layer; default 0.5.")] = None,
    epochs: Annotated[int | None, typer.Option(help="linear: default 50.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="linear: peak rate, AdamW; default 0.01.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="linear: default 0.01.")] = None,
    balanced: Annotated[bool, typer.Option("--balanced", help="linear: each class counts alike in the loss.")] = False,
    neighbours: Annotated[int | None, typer.Option(help="nearest-neighbours: pictures that vote; default 5.")] = None,
    held_out: Annotated[str | None, typer.Option(help="Pictures of the same classes to calibrate on.")] = None,
    min_probability: Annotated[float | None, typer.Option(help="linear: 'none of these' below it.")] = None,
    min_similarity: Annotated[float | None, typer.Option(help="The other methods: 'none of these' below it.")] = None,
    min_precision: Annotated[
        float | None, typer.Option(help="Choose the threshold: share of right answers among those given.")
    ] = None,
    max_false_acceptance: Annotated[
        float | None, typer.Option(help="Choose the threshold: share of pictures of unseen classes given one.")
    ] = None,
    unseen: Annotated[
        str | None, typer.Option(help="Pictures of other classes; default: the run's test, if split by class.")
    ] = None,
    catalog: Catalog = None,
    file_column: FileColumn = None,
    class_column: ClassColumn = None,
    seed: Seed = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Fit a classifier and its calibration; write a folder that can be used on its own."""
    from mohs.commands.classify import FitRequest, classify_fit_command

    parameters = {
        "method": method,
        "dropout": dropout,
        "num_epochs": epochs,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "balanced": balanced,
        "num_neighbours": neighbours,
        "min_probability": min_probability,
        "min_similarity": min_similarity,
        "seed": seed,
    }
    request = FitRequest(
        run=run,
        source=_picture_source(source, catalog, file_column, class_column),
        out=out,
        parameters={name: value for name, value in parameters.items() if value is not None},
        held_out=_picture_source(held_out, None, file_column, class_column),
        unseen=_picture_source(unseen, None, file_column, class_column),
        min_precision=min_precision,
        max_false_acceptance=max_false_acceptance,
    )
    if source is None and catalog is not None:
        raise InputError("--catalog: needs SOURCE; the run's own data is known")
    if not (source or held_out or unseen) and (file_column or class_column):
        raise InputError("--file-column, --class-column: need SOURCE, --held-out or --unseen")
    classify_fit_command(request, quiet=quiet, as_json=as_json)


@classify.command("predict")
def classify_predict(
    folder: ClassifierFolder,
    pictures: Annotated[list[Path], typer.Argument(help="Picture files.")],
    top: Annotated[int, typer.Option(help="So many of the most probable classes.")] = 5,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Results as CSV on stdout.")] = False,
) -> None:
    """Say which class each picture is of."""
    from mohs.commands.classify import classify_predict_command

    classify_predict_command(folder, pictures, top=top, as_json=as_json, as_csv=as_csv)


@classify.command("evaluate")
def classify_evaluate(
    folder: ClassifierFolder,
    source: Annotated[str | None, typer.Argument(help="Pictures to measure on; default: the run's test items.")] = None,
    catalog: Catalog = None,
    file_column: FileColumn = None,
    class_column: ClassColumn = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure accuracy and calibration on pictures that the classifier was not fitted on."""
    if source is None and (catalog or file_column or class_column):
        raise InputError("--catalog, --file-column, --class-column: need SOURCE; the run's own data is known")
    from mohs.commands.classify import classify_evaluate_command

    pictures = _picture_source(source, catalog, file_column, class_column)
    classify_evaluate_command(folder, pictures, quiet=quiet, as_json=as_json)


def _picture_source(source: str | None, catalog: str | None, file_column: str | None, class_column: str | None) -> Any:
    """Return where pictures are to be read from; None if no source is given."""
    from mohs.commands.classify import PictureSource

    return None if source is None else PictureSource(source, catalog, file_column or "file", class_column or "class")


def _config(
    file: Path | None, flags: Mapping[str, Any], settings: Sequence[str] = (), preset: str | None = None
) -> Any:
    """Return the settings of a preset, changed by a file, by `--set` and by flags; messages name the flag."""
    from mohs.config import override_config
    from mohs.presets import preset_settings

    given = {_SETTINGS[flag]: (flag, value) for flag, value in flags.items() if value is not None}
    base = {} if preset is None else preset_settings(preset)
    try:
        return override_config(file, settings, {name: value for name, (_, value) in given.items()}, preset=base)
    except InputError as error:
        problems = []
        for problem in error.problems:
            _, _, rest = problem.partition(": ")
            name, _, what = rest.partition(": ")
            problems.append(f"{given[name][0]}: {what}" if name in given else problem)
        raise InputError(*problems) from None


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 2 bad input, 3 bad images, 4 resource, 5 training, 130/143 signals."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that temporary files are removed
    # OpenMP's threads spin while they wait for each other. Beside one busy program a demo on two cores took 35 s so and
    # 24 s with threads that sleep, and several programs make it far worse; alone, sleeping costs 6%. It must be said
    # before torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    code, lines = _run(sys.argv[1:] if arguments is None else list(arguments))
    for line in lines:
        print(line, file=sys.stderr)
    sys.exit(code)


def _run(arguments: list[str]) -> tuple[int, Sequence[str]]:
    """Run a command and return its exit code and what is to be said on stderr."""
    try:
        # Not app(): it answers some errors itself, in more than one line.
        command = typer.main.get_command(app)
        with command.make_context("mohs", arguments) as context:
            command.invoke(context)
        sys.stdout.flush()
    except typer.Exit as stop:
        return stop.exit_code, ()
    except _UsageError as error:
        return 2, (_usage_line(error),)
    except (typer.Abort, KeyboardInterrupt):
        return 130, ("mohs: interrupted",)
    except MohsError as error:
        return error.exit_code, [f"mohs: {problem}" for problem in error.problems]
    except BrokenPipeError:
        # The reader of stdout left (as 'head' does): not an error, and nothing more can be said there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0, ()
    except OSError as error:
        return _explain_os_error(error)
    except (MemoryError, RuntimeError) as error:
        # torch has no error of its own for a CPU's memory.
        if isinstance(error, RuntimeError) and not any(text in str(error) for text in _OUT_OF_MEMORY):
            raise
        return 4, ("mohs: out of memory; use fewer or smaller pictures (--size), smaller batches, or a larger machine",)
    return 0, ()


_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def _usage_line(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    name = context.command_path if context else "mohs"
    text = getattr(error, "format_message", error.__str__)()
    if isinstance(error.__cause__, ValueError) and hasattr(error.__cause__, "errors"):
        # Newer versions of typer let pydantic read the values, and leave out the value that was wrong.
        value = error.__cause__.errors()[0]["input"]
        text = text.replace("Invalid value for", f"Invalid value {value!r} for", 1)
    return f"{name}: {' '.join(text.split()).rstrip('.')}; see '{name} --help'"


def _explain_os_error(error: OSError) -> tuple[int, Sequence[str]]:
    """Return exit code and message for a path that cannot be used, or a resource that is used up."""
    path = error.filename2 or error.filename
    place = "" if path is None else f"{os.fsdecode(path)}: "
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return 4, (f"mohs: {place}{reason}; free some space, or write to another disk",)
    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        return 4, (f"mohs: {place}{reason}; close other programs, or raise the limit",)
    return 2, (f"mohs: {place}{reason}; check the path and its permissions",)


if __name__ == "__main__":
    main()
