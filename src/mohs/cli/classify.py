"""`mohs classify fit | predict | evaluate`: a classifier on a run's embedder, fitted, used and measured.

Longer than other commands, since it is three.
"""

from __future__ import annotations

import csv
import io
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, cast

import typer

from mohs.cli import options
from mohs.cli.console import print_json, print_table, require_folder_place, say
from mohs.cli.pictures_read import QUARANTINE, tell_pictures
from mohs.cli.progress import decoding_progress
from mohs.errors import BadImagesError, InputError, Problem, at_most_20
from mohs.shown import csv_cell, printable

if TYPE_CHECKING:
    import numpy as np

    from mohs.classify.classifier import Classifier
    from mohs.classify.measure import Measurement
    from mohs.classify.thresholds import Threshold
    from mohs.data.dataset import Dataset
    from mohs.data.quarantine import Reading
    from mohs.model.embedder import Embedder
    from mohs.runs import Run
    from mohs.settings.config import DataConfig
    from mohs.training.run_inputs import SplitData

__all__ = ["classify"]

_Progress: TypeAlias = Callable[[int, int], None] | None

# Parameters of the library, and those of the command line where they have another name.
_PARAMETERS = {
    "method": "method",
    "dropout": "dropout",
    "num_epochs": "epochs",
    "learning_rate": "learning_rate",
    "weight_decay": "weight_decay",
    "balanced": "balanced",
    "num_neighbours": "neighbours",
    "min_probability": "min_probability",
    "min_similarity": "min_similarity",
    "seed": "seed",
}
_FLAGS = {
    **{name: options.flag_of(parameter) for name, parameter in _PARAMETERS.items()},
    "min_precision": "--min-precision",
    "max_false_acceptance": "--max-false-acceptance",
    "held_out": "--held-out",
    "catalog_N": "--catalog",
    "y": "SOURCE",
}

_BATCH = 256
_NUM_WORST = 10

classify = typer.Typer(help="Fit, use and measure a classifier on a run's embedder, which stays as it is.")

ClassifierFolder = Annotated[Path, typer.Argument(help="Folder made by 'mohs classify fit'.")]


@classify.command("fit")
def classify_fit(
    run: Annotated[Path, typer.Argument(help="Run folder made by 'mohs train', or an embedder folder.")],
    out: Annotated[Path, typer.Option(help="New folder for the classifier.")],
    source: Annotated[str | None, typer.Argument(help="Pictures to fit on; default: the run's training items.")] = None,
    method: Annotated[str | None, typer.Option(help="linear, nearest-neighbours or nearest-catalog.")] = None,
    dropout: Annotated[float | None, typer.Option(help="linear: dropout before the layer; default 0.5.")] = None,
    epochs: Annotated[int | None, typer.Option(help="linear: passes over the pictures; default 50.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="linear: peak rate, AdamW; default 0.01.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="linear: weight decay; default 0.01.")] = None,
    balanced: Annotated[bool, typer.Option("--balanced", help="linear: each class counts alike in the loss.")] = False,
    neighbours: Annotated[int | None, typer.Option(help="nearest-neighbours: pictures that vote; default 5.")] = None,
    held_out: Annotated[str | None, typer.Option(help="Pictures of the same classes to calibrate on.")] = None,
    min_probability: Annotated[
        float | None, typer.Option(help="linear: answer 'none of these' below this probability.")
    ] = None,
    min_similarity: Annotated[
        float | None, typer.Option(help="The other methods: answer 'none of these' below this similarity.")
    ] = None,
    min_precision: Annotated[
        float | None, typer.Option(help="Choose the threshold for this share of right answers among those given.")
    ] = None,
    max_false_acceptance: Annotated[
        float | None,
        typer.Option(
            help="Choose the threshold so that at most this share of pictures of unseen classes is given a class."
        ),
    ] = None,
    unseen: Annotated[
        str | None, typer.Option(help="Pictures of other classes; default: the run's test, if split by class.")
    ] = None,
    catalog: options.Catalog = None,
    file_column: options.FileColumn = None,
    class_column: options.ClassColumn = None,
    multi_label: options.MultiLabelOption = None,
    max_bad: options.MaxBad = None,
    seed: options.Seed = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Fit a classifier and its calibration; write a folder that can be used on its own."""
    given = locals()
    from mohs.classify.thresholds import check_wanted

    parameters = {name: given[own] for name, own in _PARAMETERS.items() if given[own] is not None}
    pictures = _pictures(given)
    if source is None and catalog is not None:
        raise InputError("--catalog: needs SOURCE; a run uses its own data")
    if not (source or held_out or unseen) and (file_column or class_column or multi_label or max_bad):
        raise InputError("--file-column, --class-column, --multi-label, --max-bad: need SOURCE, --held-out or --unseen")
    _check_place_and_parameters(out, parameters)
    wanted = {"min_precision": min_precision, "max_false_acceptance": max_false_acceptance}
    names = [name for name, value in wanted.items() if value is not None]
    if names:
        with options.naming_flags(_FLAGS):
            check_wanted(min_precision, max_false_acceptance)
        for name in ("min_probability", "min_similarity"):
            if name in parameters:
                fix = "give the threshold or what it is to keep"
                raise InputError(Problem(f"{_FLAGS[name]}, {_FLAGS[names[0]]}", "both given", fix))
    elif unseen is not None:
        raise InputError("--unseen: needs --max-false-acceptance or --min-precision, for which it is used")
    sources = {
        "fitted": None if source is None else pictures,
        "held out": None if held_out is None else pictures.model_copy(update={"source": held_out, "catalog": None}),
        "unseen": None if unseen is None else pictures.model_copy(update={"source": unseen, "catalog": None}),
    }
    _fit(run, sources, parameters, wanted if names else None, out, quiet=quiet, as_json=as_json)


def _check_place_and_parameters(out: Path, parameters: Mapping[str, Any]) -> None:
    """Raise `InputError` for what is wrong whatever the data: minutes of embedding must not come first."""
    from mohs.classify.classifier import Classifier
    from mohs.classify.inputs import check_parameters

    require_folder_place(out, "--out")
    if out.exists():
        raise InputError(f"--out: {out} exists already; name another folder, or remove it")
    with options.naming_flags(_FLAGS):
        check_parameters(Classifier(None, **parameters).get_params())


def _fit(
    folder: Path,
    sources: Mapping[str, DataConfig | None],
    parameters: Mapping[str, Any],
    wanted: Mapping[str, float | None] | None,
    out: Path,
    *,
    quiet: bool,
    as_json: bool,
) -> None:
    """Fit on the embeddings of a run's training items, or of other pictures, and write the classifier's folder.

    The threshold is a parameter, or chosen for what is `wanted` with pictures of classes that are not fitted: those of
    `sources`, or the run's test items if their classes are not trained on.
    """
    from mohs.classify.classifier import Classifier
    from mohs.data.table import require_classes
    from mohs.runs import versions
    from mohs.training.processes import choose_device

    source = sources["fitted"]
    run, embedder = _open_run(folder, has_source=source is not None)
    embedder.to(choose_device("auto"))
    with options.naming_flags(_FLAGS):
        classifier = Classifier(embedder, **parameters)
    began = time.perf_counter()
    with decoding_progress(quiet=quiet) as progress:
        if source is None:
            fitted, unseen = _own_items(cast("Run", run), progress)
        else:
            fitted, unseen = source.open(embedder.policy, progress=progress), None
        require_classes(fitted.table)
        held_out, other = (
            None if pictures is None else pictures.open(embedder.policy, progress=progress)
            for pictures in (sources["held out"], sources["unseen"])
        )
        held_out = None if held_out is None else _samples(held_out)
        unseen = unseen if other is None else other
    reading = _reading([fitted, held_out, unseen])
    read = time.perf_counter()
    x_ND = embedder.embed(fitted.pictures)
    held_out_xy = None if held_out is None else (embedder.embed(held_out.pictures), held_out.labels)
    unseen_UD = None if unseen is None or wanted is None else embedder.embed(unseen.pictures)
    embedded = time.perf_counter()
    with options.naming_flags(_FLAGS):
        classifier.fit(x_ND, fitted.labels, catalog_N=fitted.roles == "catalog", held_out=held_out_xy)
    threshold = None if wanted is None else _choose_threshold(classifier, wanted, unseen, unseen_UD)
    facts = {
        "run": None if run is None else str(run.folder.resolve()),
        "source": None if source is None else _absolute(source.source),
        "num_pictures": len(fitted),
        "num_classes": len(classifier.classes_),
        "threshold": None if threshold is None else asdict(threshold),
        "read_s": read - began,
        "embed_s": embedded - read,
        "fit_s": time.perf_counter() - embedded,
        "versions": versions(),
    }
    classifier.save(out, facts=facts)
    tell_pictures(reading, out / QUARANTINE, quiet=quiet or as_json)
    record = {
        "classifier": str(out),
        "method": classifier.method,
        "min_probability": classifier.min_probability,
        "min_similarity": classifier.min_similarity,
        "calibration": asdict(classifier.calibration_),
        "embedder_sha256": classifier.embedder_sha256_,
        "pictures_read": reading.as_record(),
        **facts,
    }
    if as_json:
        print_json(record)
    _warn(classifier)
    if not as_json:
        _tell_fit(record)


def _reading(datasets: Sequence[Dataset | None]) -> Reading:
    """Return what became of the pictures of data sets, which may be parts of one."""
    from mohs.data.quarantine import Reading

    there = [dataset for dataset in datasets if dataset is not None]
    bad = dict.fromkeys(each for dataset in there for each in dataset.bad)
    return Reading(sum(map(len, there)), tuple(bad))


def _open_run(folder: Path, *, has_source: bool) -> tuple[Run | None, Embedder]:
    from mohs.model.embedder import Embedder
    from mohs.runs import Run

    if (folder / "config.json").is_file():
        run = Run.open(folder)
        return run, run.embedder()
    if not (folder / "embedder.json").is_file():
        what = f"{folder}: neither a finished run nor an embedder folder (no embedder.json)"
        raise InputError(Problem("RUN", what, "give one made by 'mohs train'"))
    if not has_source:
        raise InputError(f"SOURCE: missing; {folder} is an embedder without pictures of its own")
    return None, Embedder.from_pretrained(folder)


def _own_items(run: Run, progress: _Progress) -> tuple[Dataset, Dataset | None]:
    """Return the items that a run trained on, and those of its test if their classes are not among them."""
    import numpy as np

    data = _own_data(run, progress)
    fitted = data.dataset.take(np.flatnonzero(data.train_N))
    return fitted, data.dataset.take(np.flatnonzero(data.test_N)) if data.unseen_classes else None


def _own_data(run: Run, progress: _Progress) -> SplitData:

    from mohs.training.run_inputs import open_split_data

    data = open_split_data(run.config.data, seed=run.config.seed, progress=progress)
    if data.fingerprint != run.facts()["data_fingerprint"]:
        raise InputError(
            f"{data.dataset.table.source}: not the items that {run.folder} was trained and split on "
            "(see its items.csv); restore them, or give other pictures as SOURCE"
        )
    return data


def _choose_threshold(
    classifier: Classifier,
    wanted: Mapping[str, float | None],
    unseen: Dataset | None,
    unseen_UD: np.ndarray | None,
) -> Threshold:
    import numpy as np

    if unseen is not None:
        known = np.intersect1d(unseen.labels, classifier.classes_)
        if known.size:
            what = f"{len(known)} of its classes are fitted, for example {str(known[0])!r}"
            raise InputError(Problem("--unseen", what, "leave their pictures out"))
    elif wanted["max_false_acceptance"] is not None:
        what = "needs pictures of classes that are not fitted"
        raise InputError(Problem("--max-false-acceptance", what, "give them with --unseen"))
    with options.naming_flags(_FLAGS):
        threshold = classifier.find_threshold(unseen_UD, **wanted)
    name = "min_probability" if classifier.method == "linear" else "min_similarity"
    classifier.set_params(**{name: threshold.value})
    return threshold


def _tell_fit(record: Mapping[str, Any]) -> None:
    """Say on stderr what was fitted."""
    calibration = record["calibration"]
    say(
        f"{record['method']} on {record['num_pictures']:,} pictures of {record['num_classes']:,} classes: "
        f"read {record['read_s']:.1f} s, embed {record['embed_s']:.1f} s, fit {record['fit_s']:.1f} s"
    )
    if calibration["source"] != "none":
        say(
            f"calibrated by {calibration['source']} on {calibration['num_pictures']:,} pictures: "
            f"temperature {calibration['temperature']:.3g}"
        )
    threshold = record["threshold"]
    if threshold is not None:
        shares = {"coverage": "coverage", "precision": "precision", "false_acceptance": "false acceptance"}
        known = [f"{name} {threshold[key]:.3f}" for key, name in shares.items() if threshold[key] is not None]
        say(
            f"'none of these' below {threshold['value']:.4g}: {', '.join(known)} "
            f"(on {threshold['num_known']:,} pictures of known and {threshold['num_unseen']:,} of unseen classes)"
        )
    say(f"classifier: {record['classifier']}")


@classify.command("predict")
def classify_predict(
    folder: ClassifierFolder,
    pictures: Annotated[list[Path], typer.Argument(help="Picture files.")],
    top: Annotated[int, typer.Option(help="Show this many of the most probable classes.")] = 5,
    max_bad: options.MaxBad = None,
    as_json: options.Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Results as CSV on stdout.")] = False,
) -> None:
    """Say which class each picture is of; exits with 3 if more than --max-bad of them cannot be read."""
    import numpy as np

    if as_json and as_csv:
        raise InputError("--json, --csv: both given; use one of them")
    if top < 1:
        raise InputError(f"--top: {top} is below 1; use for example --top 5")
    classifier, embedder = _load(folder)
    pictures, x_ND, problems = _embed_files(embedder, pictures)
    predicted_N = classifier.predict(x_ND)
    confidence_N = classifier.confidence(x_ND)
    proba_NC = classifier.predict_proba(x_ND)
    best_NK = np.argsort(-proba_NC, axis=1, kind="stable")[:, :top]
    found = [
        {
            "file": str(file),
            "predicted": predicted_N[n].item(),
            "confidence": float(confidence_N[n]),
            "top": [{"class": classifier.classes_[c].item(), "probability": float(proba_NC[n, c])} for c in best_NK[n]],
        }
        for n, file in enumerate(pictures)
    ]
    if as_json:
        set_aside = [{"file": problem.place, "reason": problem.problem} for problem in problems]
        warning = classifier.calibration_.warning
        print_json({"calibration_warning": warning, "pictures": found, "set_aside": set_aside})
    elif as_csv:
        _print_predictions(found)
    else:
        kind = "probability" if classifier.method == "linear" else "similarity"
        rows = [
            [
                picture["file"],
                str(picture["predicted"]),
                f"{picture['confidence']:.3f}",
                ", ".join(f"{each['class']} {each['probability']:.3f}" for each in picture["top"]),
            ]
            for picture in found
        ]
        print_table(f"{len(found):,} pictures", ["", "predicted", kind, "most probable classes"], rows)
    _warn(classifier)
    if len(problems) > (max_bad or 0):
        raise BadImagesError(*at_most_20(problems))
    for line in at_most_20(problems):
        say(f"set aside: {line}")


@classify.command("evaluate")
def classify_evaluate(
    folder: ClassifierFolder,
    source: Annotated[str | None, typer.Argument(help="Pictures to measure on; default: the run's test items.")] = None,
    catalog: options.Catalog = None,
    file_column: options.FileColumn = None,
    class_column: options.ClassColumn = None,
    multi_label: options.MultiLabelOption = None,
    max_bad: options.MaxBad = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Measure accuracy and calibration on pictures that the classifier was not fitted on."""
    given = locals()
    if source is None and (catalog or file_column or class_column or multi_label or max_bad):
        raise InputError(
            "--catalog, --file-column, --class-column, --multi-label, --max-bad: need SOURCE; a run uses its own data"
        )
    from mohs.classify.measure import measure_classifier

    pictures = _pictures(given)
    classifier, embedder = _load(folder)
    facts = classifier.facts_
    with decoding_progress(quiet=quiet) as progress:
        is_own = source is None
        dataset = _test_items(folder, facts, progress) if is_own else pictures.open(embedder.policy, progress=progress)
    reading = _reading([dataset])
    dataset = _samples(dataset)
    tell_pictures(reading, quiet=quiet or as_json)
    x_ND = embedder.embed(dataset.pictures)
    with options.naming_flags({**_FLAGS, "y": dataset.table.source}):
        found = measure_classifier(classifier, x_ND, dataset.labels)
    if as_json:
        print_json({**found.as_record(), "pictures_read": reading.as_record()})
    else:
        _tell_measurement(found, classifier.method)
    if source is not None and _absolute(source) == facts.get("source"):
        say("warning: the classifier was fitted on these pictures; the numbers are too good")
    if found.num_unknown:
        unknown = f"{found.num_unknown:,} pictures are of classes that the classifier does not know"
        say(f"{unknown}: they count in 'accepted' alone")
    _warn(classifier)


def _load(folder: Path) -> tuple[Classifier, Embedder]:
    """Return a classifier and its embedder, on the best device."""
    from mohs.classify.classifier import Classifier
    from mohs.training.processes import choose_device

    classifier = Classifier.load(folder)
    embedder: Embedder | None = classifier.embedder
    if embedder is None:
        raise InputError(f"{folder}: fitted on embeddings, without an embedder; it cannot read pictures")
    return classifier, embedder.to(choose_device("auto"))


def _test_items(folder: Path, facts: Mapping[str, Any], progress: _Progress) -> Dataset:
    import numpy as np

    from mohs.runs import Run

    if facts.get("source") is not None or facts.get("run") is None:
        raise InputError(
            f"SOURCE: missing; {folder} was fitted on {facts.get('source')}: give pictures that are not among them"
        )
    data = _own_data(Run.open(facts["run"]), progress)
    if data.unseen_classes:
        raise InputError(
            f"SOURCE: missing; no test class of {facts['run']} is known to the classifier (it was split by class): "
            "give SOURCE, or train with --split-by item"
        )
    return data.dataset.take(np.flatnonzero(data.test_N))


def _samples(dataset: Dataset) -> Dataset:
    """Return the items that are no catalog pictures: those may be the classifier's own references."""
    import numpy as np

    samples = np.flatnonzero(dataset.roles != "catalog")
    if not samples.size:
        raise InputError(f"{dataset.table.source}: catalog pictures only; add pictures to classify")
    return dataset.take(samples)


def _embed_files(embedder: Embedder, files: Sequence[Path]) -> tuple[list[Path], np.ndarray, list[Problem]]:
    """Return the files that can be read, their vectors, and what is wrong with each of the others.

    Raises `BadImagesError` if none can be read.
    """
    import numpy as np

    from mohs.data.images import decode_images

    read: list[Path] = []
    blocks: list[np.ndarray] = []
    problems: list[Problem] = []
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(files), _BATCH):
            block = files[start : start + _BATCH]
            good = []
            for file, picture in zip(block, decode_images(block, embedder.policy, pool=pool), strict=True):
                if isinstance(picture, str):
                    problems.append(Problem(str(file), picture, "replace the file, or leave it out"))
                else:
                    good.append(picture)
                    read.append(file)
            if good:
                blocks.append(embedder.embed(np.stack(good)))
    if not blocks:
        raise BadImagesError(*at_most_20(problems))
    return read, np.concatenate(blocks), problems


def _absolute(source: str) -> str:
    return str(Path(source).resolve())


def _warn(classifier: Classifier) -> None:
    if classifier.calibration_.warning:
        say(f"warning: {classifier.calibration_.warning}")


def _pictures(given: Mapping[str, Any]) -> DataConfig:
    """Return what options say of pictures, with their defaults; without a source it is replaced, or not read."""
    from mohs.data.multi_label import MULTI_LABEL

    if given["multi_label"] not in (None, *MULTI_LABEL):
        known = ", ".join(map(repr, MULTI_LABEL))
        raise InputError(Problem("--multi-label", f"{given['multi_label']!r} is not one of {known}", "change it"))
    names = ("source", "catalog", "file_column", "class_column", "multi_label", "max_bad")
    return options.read_settings(None, {name: given[name] for name in names}).config.data


def _interval(interval: tuple[float, float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def _tell_measurement(found: Measurement, method: str) -> None:
    """Print the accuracy, the reliability and the worst classes."""
    header = ["", "accuracy", "95% interval", "by class", "95% interval", "top-5", "NLL", "ECE"]
    row = [
        method,
        f"{found.accuracy:.3f}",
        _interval(found.interval),
        f"{found.accuracy_by_class:.3f}",
        _interval(found.interval_by_class),
        f"{found.top5_accuracy:.3f}",
        f"{found.negative_log_likelihood:.3f}",
        f"{found.expected_calibration_error:.3f}",
    ]
    if found.at_threshold is not None:
        header += ["threshold", "coverage", "accuracy of accepted", "accepted of unknown"]
        at = found.at_threshold
        row += [f"{at.threshold:.4g}", f"{at.coverage:.3f}", _share(at.accuracy), _share(at.false_acceptance)]
    print_table(f"{found.num_pictures:,} pictures, {found.num_classes:,} classes", header, [row])
    print_table(
        "reliability",
        ["largest probability", "pictures", "mean probability", "accuracy", "95% interval"],
        [
            [
                f"{each.low:.2f} to {each.high:.2f}",
                f"{each.num_cases:,}",
                _share(each.mean_probability),
                _share(each.frequency),
                _interval(each.interval),
            ]
            for each in found.reliability
            if each.num_cases
        ],
    )
    worst = sorted(found.per_class, key=lambda each: (each.accuracy, each.mean_probability))[:_NUM_WORST]
    print_table(
        f"the {len(worst)} worst of {len(found.per_class):,} classes (--json has all)",
        ["class", "pictures", "accuracy", "mean probability"],
        [
            [str(each.label), f"{each.num_pictures:,}", f"{each.accuracy:.3f}", f"{each.mean_probability:.3f}"]
            for each in worst
        ],
    )


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _print_predictions(found: Sequence[Mapping[str, Any]]) -> None:
    """Print predictions as CSV, one row for each class of a picture's list."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "predicted", "confidence", "rank", "class", "probability"])
    for picture in found:
        for rank, each in enumerate(picture["top"], start=1):
            first = [csv_cell(picture["file"]), csv_cell(picture["predicted"]), f"{picture['confidence']:.6g}"]
            writer.writerow([*first, rank, csv_cell(each["class"]), f"{each['probability']:.6g}"])
    # UTF-8 whatever the terminal: a table of files and classes must not depend on it.
    sys.stdout.flush()
    said = printable(text.getvalue()) if sys.stdout.isatty() else text.getvalue()
    sys.stdout.buffer.write(said.encode())
    sys.stdout.buffer.flush()
