"""`mohs classify`: a classifier on a run's embedder, fitted, used and measured."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from rich.markup import escape

from mohs.classify.classifier import Classifier
from mohs.classify.inputs import check_parameters
from mohs.classify.measure import Measurement, measure_classifier
from mohs.classify.thresholds import Threshold, check_wanted
from mohs.cli.classify_output import print_predictions, tell_fit, tell_measurement
from mohs.cli.console import decoding_progress, print_json, print_table, require_folder_place, say
from mohs.data.dataset import Dataset, open_dataset
from mohs.data.images import ImagePolicy, decode_images
from mohs.data.multi_label import MultiLabel
from mohs.data.table import require_classes
from mohs.errors import InputError, at_most_20
from mohs.model.embedder import Embedder
from mohs.runs import Run, versions
from mohs.training.processes import choose_device
from mohs.training.run_inputs import SplitData, open_split_data

__all__ = [
    "FitRequest",
    "PictureSource",
    "classify_evaluate_command",
    "classify_fit_command",
    "classify_predict_command",
]

Progress = Callable[[int, int], None] | None

# Flags of the command line, by the name that messages of the library have for them.
_FLAGS = {
    "method": "--method",
    "dropout": "--dropout",
    "num_epochs": "--epochs",
    "learning_rate": "--learning-rate",
    "weight_decay": "--weight-decay",
    "num_neighbours": "--neighbours",
    "min_probability": "--min-probability",
    "min_similarity": "--min-similarity",
    "min_precision": "--min-precision",
    "max_false_acceptance": "--max-false-acceptance",
    "held_out": "--held-out",
    "catalog_N": "--catalog",
    "seed": "--seed",
}

_BATCH = 256


@final
@dataclass(frozen=True)
class PictureSource:
    """A table or folder as given on the command line."""

    source: str
    catalog: str | None = None
    file_column: str = "file"
    class_column: str = "class"
    multi_label: MultiLabel = "error"

    def open(self, policy: ImagePolicy, progress: Progress) -> Dataset:
        """Return its items, decoded by `policy`."""
        return open_dataset(
            self.source,
            catalog=self.catalog,
            policy=policy,
            file_column=self.file_column,
            class_column=self.class_column,
            multi_label=self.multi_label,
            progress=progress,
        )


@final
@dataclass(frozen=True)
class FitRequest:
    """What `mohs classify fit` was asked for.

    `parameters` are those of `Classifier` that were given; `source` none: the run's own training items. The threshold
    is a parameter, or chosen for `min_precision` and `max_false_acceptance` with pictures of classes that are not
    fitted: `unseen`, or the run's test items if their classes are not trained on.
    """

    run: Path
    source: PictureSource | None
    out: Path
    parameters: Mapping[str, Any]
    held_out: PictureSource | None
    unseen: PictureSource | None
    min_precision: float | None
    max_false_acceptance: float | None

    @property
    def wants_threshold(self) -> bool:
        """Whether a threshold is to be chosen from pictures."""
        return self.min_precision is not None or self.max_false_acceptance is not None


def classify_fit_command(request: FitRequest, *, quiet: bool, as_json: bool) -> None:
    """Fit a classifier on the embeddings of a run's training items, or of other pictures, and write its folder."""
    _check(request)
    run, embedder = _open_run(request)
    embedder.to(choose_device("auto"))
    classifier = _with_flags(lambda: Classifier(embedder, **request.parameters))
    began = time.perf_counter()
    with decoding_progress(quiet=quiet) as progress:
        fitted, unseen = _data(request, run, embedder.policy, progress)
        require_classes(fitted.table)
        held_out = None if request.held_out is None else _samples(request.held_out.open(embedder.policy, progress))
        if request.unseen is not None:
            unseen = request.unseen.open(embedder.policy, progress)
    read = time.perf_counter()
    x_ND = embedder.embed(fitted.pictures)
    held_out_xy = None if held_out is None else (embedder.embed(held_out.pictures), held_out.labels)
    unseen_UD = None if unseen is None or not request.wants_threshold else embedder.embed(unseen.pictures)
    embedded = time.perf_counter()
    catalog_N = fitted.roles == "catalog"
    _with_flags(lambda: classifier.fit(x_ND, fitted.labels, catalog_N=catalog_N, held_out=held_out_xy))
    threshold = None
    if request.wants_threshold:
        threshold = _choose_threshold(request, classifier, unseen, unseen_UD)
    facts = {
        "run": None if run is None else str(run.folder.resolve()),
        "source": None if request.source is None else _absolute(request.source.source),
        "num_pictures": len(fitted),
        "num_classes": len(classifier.classes_),
        "threshold": None if threshold is None else asdict(threshold),
        "read_s": read - began,
        "embed_s": embedded - read,
        "fit_s": time.perf_counter() - embedded,
        "versions": versions(),
    }
    classifier.save(request.out, facts=facts)
    record = {
        "classifier": str(request.out),
        "method": classifier.method,
        "min_probability": classifier.min_probability,
        "min_similarity": classifier.min_similarity,
        "calibration": asdict(classifier.calibration_),
        "embedder_sha256": classifier.embedder_sha256_,
        **facts,
    }
    if as_json:
        print_json(record)
    _warn(classifier)
    if not as_json:
        tell_fit(record)


def classify_predict_command(folder: Path, pictures: Sequence[Path], *, top: int, as_json: bool, as_csv: bool) -> None:
    """Say which class each picture is of, and the most probable ones."""
    if as_json and as_csv:
        raise InputError("--json, --csv: both given; use one of them")
    if top < 1:
        raise InputError(f"--top: {top} is below 1; use for example --top 5")
    classifier = Classifier.load(folder)
    embedder: Embedder | None = classifier.embedder
    if embedder is None:
        raise InputError(f"{folder}: fitted on embeddings, without an embedder; it cannot read pictures")
    embedder.to(choose_device("auto"))
    x_ND = _embed_files(embedder, pictures)
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
        print_json({"calibration_warning": classifier.calibration_.warning, "pictures": found})
    elif as_csv:
        print_predictions(found)
    else:
        kind = "probability" if classifier.method == "linear" else "similarity"
        rows = [
            [
                escape(picture["file"]),
                escape(str(picture["predicted"])),
                f"{picture['confidence']:.3f}",
                escape(", ".join(f"{each['class']} {each['probability']:.3f}" for each in picture["top"])),
            ]
            for picture in found
        ]
        print_table(f"{len(found):,} pictures", ["", "predicted", kind, "most probable classes"], rows)
    _warn(classifier)


def classify_evaluate_command(folder: Path, source: PictureSource | None, *, quiet: bool, as_json: bool) -> None:
    """Measure a classifier on a run's test items, or on other pictures."""
    classifier = Classifier.load(folder)
    embedder: Embedder | None = classifier.embedder
    if embedder is None:
        raise InputError(f"{folder}: fitted on embeddings, without an embedder; it cannot read pictures")
    embedder.to(choose_device("auto"))
    facts = classifier.facts_
    with decoding_progress(quiet=quiet) as progress:
        dataset = _test_items(folder, facts, progress) if source is None else source.open(embedder.policy, progress)
    dataset = _samples(dataset)
    x_ND = embedder.embed(dataset.pictures)
    found: Measurement = _with_flags(
        lambda: measure_classifier(classifier, x_ND, dataset.labels), y=dataset.table.source
    )
    if as_json:
        print_json(found.as_record())
    else:
        tell_measurement(found, classifier.method)
    if source is not None and _absolute(source.source) == facts.get("source"):
        say("warning: the classifier was fitted on these pictures; the numbers are too good")
    if found.num_unknown:
        unknown = f"{found.num_unknown:,} pictures are of classes that the classifier does not know"
        say(f"{unknown}: they count in 'accepted' alone")
    _warn(classifier)


def _check(request: FitRequest) -> None:
    """Raise `InputError` for what is wrong whatever the data: minutes of embedding must not come first."""
    require_folder_place(request.out, "--out")
    if request.out.exists():
        raise InputError(f"--out: {request.out} exists already; name another folder, or remove it")
    _with_flags(lambda: check_parameters(Classifier(None, **request.parameters).get_params()))
    if request.wants_threshold:
        _with_flags(lambda: check_wanted(request.min_precision, request.max_false_acceptance))
        fixed = [name for name in ("min_probability", "min_similarity") if request.parameters.get(name) is not None]
        if fixed:
            wanted = "--min-precision" if request.min_precision is not None else "--max-false-acceptance"
            raise InputError(f"{_FLAGS[fixed[0]]}, {wanted}: both given; give the threshold or what it is to keep")
    elif request.unseen is not None:
        raise InputError("--unseen: needs --max-false-acceptance or --min-precision, for which it is used")


def _open_run(request: FitRequest) -> tuple[Run | None, Embedder]:
    folder = request.run
    if (folder / "config.json").is_file():
        run = Run.open(folder)
        return run, run.embedder()
    if not (folder / "embedder.json").is_file():
        raise InputError(
            f"RUN: {folder}: neither a finished run nor an embedder folder (no embedder.json); give one made by "
            "'mohs train'"
        )
    if request.source is None:
        raise InputError(f"SOURCE: missing; {folder} is an embedder without pictures of its own")
    return None, Embedder.from_pretrained(folder)


def _data(
    request: FitRequest, run: Run | None, policy: ImagePolicy, progress: Progress
) -> tuple[Dataset, Dataset | None]:
    """Return the items to fit on, and those of the run's test if their classes are not among them."""
    if request.source is not None or run is None:
        assert request.source is not None
        return request.source.open(policy, progress), None
    data = _own_data(run, progress)
    fitted = data.dataset.take(np.flatnonzero(data.train_N))
    return fitted, data.dataset.take(np.flatnonzero(data.test_N)) if data.unseen_classes else None


def _own_data(run: Run, progress: Progress) -> SplitData:
    data = open_split_data(run.config.data, seed=run.config.seed, progress=progress)
    if data.fingerprint != run.facts()["data_fingerprint"]:
        raise InputError(
            f"{data.dataset.table.source}: not the items that {run.folder} was trained and split on "
            "(see its items.csv); restore them, or give other pictures as SOURCE"
        )
    return data


def _choose_threshold(
    request: FitRequest, classifier: Classifier, unseen: Dataset | None, unseen_UD: np.ndarray | None
) -> Threshold:
    if unseen is not None:
        known = np.intersect1d(unseen.labels, classifier.classes_)
        if known.size:
            raise InputError(
                f"--unseen: {len(known)} of its classes are fitted, for example {str(known[0])!r}; "
                "leave their pictures out"
            )
    elif request.max_false_acceptance is not None:
        raise InputError(
            "--max-false-acceptance: needs pictures of classes that are not fitted; give them with --unseen"
        )
    threshold: Threshold = _with_flags(
        lambda: classifier.find_threshold(
            unseen_UD, min_precision=request.min_precision, max_false_acceptance=request.max_false_acceptance
        )
    )
    name = "min_probability" if classifier.method == "linear" else "min_similarity"
    classifier.set_params(**{name: threshold.value})
    return threshold


def _test_items(folder: Path, facts: Mapping[str, Any], progress: Progress) -> Dataset:
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
    samples = np.flatnonzero(dataset.roles != "catalog")
    if not samples.size:
        raise InputError(f"{dataset.table.source}: catalog pictures only; add pictures to classify")
    return dataset.take(samples)


def _embed_files(embedder: Embedder, files: Sequence[Path]) -> np.ndarray:
    problems: list[str] = []
    blocks = []
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(files), _BATCH):
            block = files[start : start + _BATCH]
            decoded = decode_images(block, embedder.policy, pool=pool)
            problems += [
                f"{file}: {each}; replace the file, or leave it out"
                for file, each in zip(block, decoded, strict=True)
                if isinstance(each, str)
            ]
            if not problems:
                blocks.append(embedder.embed(np.stack([each for each in decoded if not isinstance(each, str)])))
    if problems:
        raise InputError(*at_most_20(problems))
    return np.concatenate(blocks)


def _with_flags(action: Callable[[], Any], *, y: str = "SOURCE") -> Any:
    """Return what `action` does; in the messages of its errors parameters have the names of their flags, y that."""
    try:
        return action()
    except InputError as error:
        problems = []
        for problem in error.problems:
            name, colon, rest = problem.partition(":")
            problems.append(f"{y if name == 'y' else _FLAGS.get(name, name)}{colon}{rest}")
        raise InputError(*problems) from None


def _absolute(source: str) -> str:
    return str(Path(source).resolve())


def _warn(classifier: Classifier) -> None:
    if classifier.calibration_.warning:
        say(f"warning: {classifier.calibration_.warning}")
