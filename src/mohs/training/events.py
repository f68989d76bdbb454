"""What training tells while it runs."""

import importlib.util
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias, final

import numpy as np
import torch
from numpy.typing import NDArray

from mohs.artefacts import read_events
from mohs.checks import is_number
from mohs.data.dataset import Dataset
from mohs.errors import InputError, Problem
from mohs.model.embedder import Embedder
from mohs.randomness import generator

__all__ = [
    "ClassificationEvent",
    "EarlyStoppingEvent",
    "Event",
    "GuardEvent",
    "HeldOutEvent",
    "Listener",
    "SegmentEvent",
    "StepEvent",
    "TensorBoard",
    "as_record",
    "read_run_events",
    "require_tensorboard",
]


@final
@dataclass(frozen=True)
class ClassificationEvent:
    """One optimiser step of the classification warm-up; `accuracy` is of its batch, in [0, 1]."""

    step: int
    num_steps: int
    pictures: int
    loss: float
    accuracy: float
    learning_rate: float


@final
@dataclass(frozen=True)
class StepEvent:
    """One optimiser step.

    `spread` is of the anchors' embeddings in training mode, 0 (collapsed) to 1; `positive_distance` and
    `negative_distance` are Euclidean means over the batch (the second of the plan's negatives; none for in-batch
    losses); `collapsed_loss` is the loss if all embeddings were the same; `num_kept_apart` counts pairs (picture,
    picture of another class) that an in-batch loss did not take for negatives (`mohs.training.kept_apart`).
    """

    step: int
    num_steps: int
    triplets: int
    pictures: int
    loss: float
    active_fraction: float
    hardness: float
    spread: float
    learning_rate: float
    pictures_per_s: float
    gradient_norm: float
    positive_distance: float
    negative_distance: float | None
    collapsed_loss: float | None
    num_kept_apart: int = 0


@final
@dataclass(frozen=True)
class SegmentEvent:
    """A segment embedded, mined and trained: at most 200 evenly taken triplets of it, and the state of its bank.

    `recall` is R@1 of `num_queries` training pictures in the bank before training on the segment (none where no class
    has two pictures). `active_fraction` is the mean over the segment's steps. `control` is what the closed loop
    decided, `num_dropped` counts false negatives, `trainable` names the layer groups that learn.
    """

    segment: int
    triplets: int
    triplet_index: tuple[int, ...]
    hardness_asked: tuple[float, ...]
    hardness_achieved: tuple[float, ...]
    anchor_positive_distance: float
    anchor_negative_distance: float
    spread: float
    effective_rank: float
    recall: float | None
    num_queries: int
    active_fraction: float
    control: dict[str, float] | None
    num_dropped: int
    trainable: tuple[str, ...]
    embed_s: float
    mine_s: float
    train_s: float


@final
@dataclass(frozen=True)
class HeldOutEvent:
    """R@1 of some held-out pictures, one of each class, before the first segment and after each one.

    `of` says whether they are of classes held out for it ("validation") or of the test, which decides nothing. `hits`
    has a digit for each query, the same ones every time: "1" where its match was found first. `low` to `high` is the
    95% interval of `recall`. `on_seen_classes` says whether matches are training pictures.
    """

    triplets: int
    recall: float
    num_queries: int
    hits: str
    on_seen_classes: bool
    of: str
    low: float
    high: float


@final
@dataclass(frozen=True)
class EarlyStoppingEvent:
    """The end of a run that held-out classes may stop: after `triplets` of `num_triplets` that were planned.

    Its weights are those after `best_triplets`, when R@1 was `best_recall`; `stopped` if it did not go on to its end.
    """

    triplets: int
    num_triplets: int
    best_triplets: int
    best_recall: float
    stopped: bool


@final
@dataclass(frozen=True)
class GuardEvent:
    """What the collapse guard saw, the numbers that it saw it in, and what was done ("none" after a warning)."""

    step: int
    triplets: int
    level: str
    signal: str
    cause: str
    action: str
    numbers: dict[str, float]


def read_run_events(path: str | Path) -> list[dict[str, Any]]:
    """Return the events of a run, oldest first (`mohs.artefacts.read_events`), with the values that are read of them.

    Raises `InputError` that names the line for an event in which such a value is missing or of another type.
    """
    events = read_events(path)
    for number, event in enumerate(events, start=1):
        for name, (fits, wanted) in _READ.get(event["event"], {}).items():
            if not fits(event.get(name)):
                found = f"is {event[name]!r:.60}" if name in event else "is missing"
                what = f"{name} of a {event['event']} {found}, not {wanted}"
                raise InputError(Problem(f"line {number}", what, "delete the line or the run", file=str(path)))
    return events


_Rule: TypeAlias = tuple[Callable[[Any], bool], str]
_NUMBER: Final[_Rule] = (is_number, "a number")
_NUMBERS: Final[_Rule] = (lambda value: isinstance(value, list) and all(map(is_number, value)), "a list of numbers")
_PERHAPS: Final[_Rule] = (lambda value: value is None or is_number(value), "a number or null")
_HITS: Final[_Rule] = (lambda value: isinstance(value, str) and not set(value) - {"0", "1"}, "digits 0 and 1")
# By kind and name; what older versions did not write is not asked for.
_READ: Final[Mapping[str, Mapping[str, _Rule]]] = {
    "step": dict.fromkeys(("step", "triplets", "loss", "active_fraction"), _NUMBER)
    | dict.fromkeys(("positive_distance", "negative_distance", "gradient_norm", "learning_rate", "spread"), _PERHAPS),
    "segment": dict.fromkeys(("triplet_index", "hardness_asked", "hardness_achieved"), _NUMBERS)
    | {"triplets": _NUMBER, "recall": _PERHAPS},
    "held-out": {"triplets": _NUMBER, "recall": _NUMBER, "hits": _HITS},
    "early-stopping": dict.fromkeys(("triplets", "num_triplets", "best_triplets", "best_recall"), _NUMBER),
}

Event: TypeAlias = StepEvent | SegmentEvent | HeldOutEvent | EarlyStoppingEvent | GuardEvent | ClassificationEvent
Listener: TypeAlias = Callable[[Event], None]
_KINDS: Final[Mapping[type[Event], str]] = {
    StepEvent: "step",
    SegmentEvent: "segment",
    HeldOutEvent: "held-out",
    EarlyStoppingEvent: "early-stopping",
    GuardEvent: "guard",
    ClassificationEvent: "classification",
}


def as_record(event: Event) -> tuple[str, dict[str, Any]]:
    """Return the name and the values of an event, as written to events.jsonl."""
    return _KINDS[type(event)], asdict(event)


_MAX_PICTURES = 2048
# The projector takes all thumbnails as one square picture of at most 8,192 pixels a side.
_THUMBNAIL = 64
_STEP_SCALARS = (
    "loss", "active_fraction", "spread", "gradient_norm", "learning_rate", "pictures_per_s", "positive_distance",
    "negative_distance", "collapsed_loss",
)  # fmt: skip
_BANK_SCALARS = ("recall", "spread", "effective_rank", "anchor_positive_distance", "anchor_negative_distance")


def require_tensorboard() -> None:
    """Raise `InputError` if TensorBoard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        what = "the package tensorboard is not installed"
        fix = "install it with pip install 'mohs[track]', or leave the setting out"
        raise InputError(Problem("training.tensorboard", what, fix))


@final
class TensorBoard:
    """A listener that writes a run's events into a folder for TensorBoard; a context manager that closes it.

    ===================  =============================================================================
    train/…              of each step: loss, active_fraction, spread, gradient_norm, learning_rate,
                         pictures_per_s, distances, and the loss of a collapsed network
    hardness/…           asked, of each step; achieved, of each segment; both as histograms of a segment
    bank/…               of each bank, at the first triplet of its segment: recall, spread,
                         effective_rank, distances
    held-out/recall      of held-out classes, or of a few test pictures, after each segment
    warm-up/…            of the classification warm-up, its steps are pictures
    guard                what the collapse guard saw and did, as text
    ===================  =============================================================================

    Every event is on disk when the call returns. Of a run that is taken up, give the triplets it had trained on: what
    was written beyond them is not shown.
    """

    def __init__(self, folder: Path, done_triplets: int | None = None) -> None:
        require_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        if done_triplets is None:  # what a run left that never came to a checkpoint
            shutil.rmtree(folder, ignore_errors=True)
        self._folder = folder
        purge_step = None if done_triplets is None else done_triplets + 1
        self._writer = SummaryWriter(str(folder), purge_step=purge_step)

    def __enter__(self) -> "TensorBoard":
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def __call__(self, event: Event) -> None:
        """Write one event."""
        match event:
            case StepEvent():
                for name in _STEP_SCALARS:
                    self._scalar(f"train/{name}", getattr(event, name), event.triplets)
                self._scalar("hardness/asked", event.hardness, event.triplets)
            case SegmentEvent():
                for name in _BANK_SCALARS:
                    self._scalar(f"bank/{name}", getattr(event, name), event.triplets)
                self._scalar("hardness/achieved", float(np.mean(event.hardness_achieved)), event.triplets)
                for name in ("hardness_asked", "hardness_achieved"):
                    values = np.array(getattr(event, name))
                    self._writer.add_histogram(f"{name.replace('_', '/')} in segment", values, event.triplets)
            case HeldOutEvent():
                self._scalar("held-out/recall", event.recall, event.triplets)
            case EarlyStoppingEvent():
                text = f"weights after {event.best_triplets} triplets, where R@1 was {event.best_recall:.3f}"
                self._writer.add_text("early stopping", text, event.triplets)
            case GuardEvent():
                text = f"{event.level} ({event.signal}): {event.cause}; action: {event.action}"
                self._writer.add_text("guard", text, event.triplets)
            case ClassificationEvent():
                self._scalar("warm-up/loss", event.loss, event.pictures)
                self._scalar("warm-up/accuracy", event.accuracy, event.pictures)
        self._writer.flush()

    def add_embeddings(self, embedder: Embedder, dataset: Dataset, chosen_N: NDArray[np.bool_], *, seed: int) -> None:
        """Write embeddings of the items marked in `chosen_N` with class, file and thumbnail for the projector.

        At most 2,048 pictures: whole classes, drawn by `seed`, until the next would be too many.
        """
        items = np.flatnonzero(chosen_N)
        items = items[_some_classes(dataset.labels_id[items], seed)]
        pictures_NHWC = np.array(dataset.pictures[items])
        x_NCHW = torch.from_numpy(pictures_NHWC).permute(0, 3, 1, 2).float() / 255.0
        if x_NCHW.shape[-1] > _THUMBNAIL:
            x_NCHW = torch.nn.functional.interpolate(x_NCHW, _THUMBNAIL, mode="area")
        # Left by a run that was stopped here: the library would add to it.
        shutil.rmtree(self._folder / "00000", ignore_errors=True)
        (self._folder / "projector_config.pbtxt").unlink(missing_ok=True)
        self._writer.add_embedding(
            embedder.embed(pictures_NHWC),
            metadata=[[dataset.labels[i], dataset.table.files[i]] for i in items],
            metadata_header=["class", "file"],
            label_img=x_NCHW.expand(-1, 3, -1, -1),
            tag="pictures",
        )

    def _scalar(self, name: str, value: float | None, step: int) -> None:
        if value is not None and math.isfinite(value):
            self._writer.add_scalar(name, value, step)


def _some_classes(class_N: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    order = generator(seed, "projector").permutation(np.unique(class_N))
    ends_C = np.cumsum(np.bincount(class_N)[order])
    chosen = order[: max(1, np.searchsorted(ends_C, _MAX_PICTURES, side="right"))]
    return np.flatnonzero(np.isin(class_N, chosen))[:_MAX_PICTURES]
