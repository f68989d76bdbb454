"""The commands `mohs classify fit | predict | evaluate`."""

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from mohs.cli.options import Catalog, ClassColumn, FileColumn, Json, MultiLabelOption, Quiet, Seed
from mohs.errors import InputError

__all__ = ["classify"]

classify = typer.Typer(help="Fit, use and measure a classifier on a run's embedder, which stays as it is.")

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
    multi_label: MultiLabelOption = None,
    seed: Seed = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Fit a classifier and its calibration; write a folder that can be used on its own."""
    from mohs.cli.classify import FitRequest, classify_fit_command

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
        source=_picture_source(source, catalog, file_column, class_column, multi_label),
        out=out,
        parameters={name: value for name, value in parameters.items() if value is not None},
        held_out=_picture_source(held_out, None, file_column, class_column, multi_label),
        unseen=_picture_source(unseen, None, file_column, class_column, multi_label),
        min_precision=min_precision,
        max_false_acceptance=max_false_acceptance,
    )
    if source is None and catalog is not None:
        raise InputError("--catalog: needs SOURCE; the run's own data is known")
    if not (source or held_out or unseen) and (file_column or class_column or multi_label):
        raise InputError("--file-column, --class-column, --multi-label: need SOURCE, --held-out or --unseen")
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
    from mohs.cli.classify import classify_predict_command

    classify_predict_command(folder, pictures, top=top, as_json=as_json, as_csv=as_csv)


@classify.command("evaluate")
def classify_evaluate(
    folder: ClassifierFolder,
    source: Annotated[str | None, typer.Argument(help="Pictures to measure on; default: the run's test items.")] = None,
    catalog: Catalog = None,
    file_column: FileColumn = None,
    class_column: ClassColumn = None,
    multi_label: MultiLabelOption = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure accuracy and calibration on pictures that the classifier was not fitted on."""
    if source is None and (catalog or file_column or class_column or multi_label):
        raise InputError(
            "--catalog, --file-column, --class-column, --multi-label: need SOURCE; the run's own data is known"
        )
    from mohs.cli.classify import classify_evaluate_command

    pictures = _picture_source(source, catalog, file_column, class_column, multi_label)
    classify_evaluate_command(folder, pictures, quiet=quiet, as_json=as_json)


def _picture_source(
    source: str | None,
    catalog: str | None,
    file_column: str | None,
    class_column: str | None,
    multi_label: str | None,
) -> Any:
    """Return where pictures are to be read from; None if no source is given."""
    from mohs.cli.classify import PictureSource
    from mohs.data.multi_label import MULTI_LABEL

    chosen = multi_label or "error"
    if chosen not in MULTI_LABEL:
        raise InputError(f"--multi-label: {chosen!r} is not one of {', '.join(map(repr, MULTI_LABEL))}; change it")
    if source is None:
        return None
    return PictureSource(source, catalog, file_column or "file", class_column or "class", cast(Any, chosen))
