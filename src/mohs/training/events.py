"""What training tells while it runs."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias, final

__all__ = [
    "ClassificationEvent",
    "Event",
    "GuardEvent",
    "HeldOutEvent",
    "Listener",
    "SegmentEvent",
    "StepEvent",
    "as_record",
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
    """R@1 of some test pictures, one of each class, before the first segment and after each one.

    `hits` has a digit for each query, the same ones every time: "1" where its match was found first. `on_seen_classes`
    says whether matches are training pictures. It decides nothing.
    """

    triplets: int
    recall: float
    num_queries: int
    hits: str
    on_seen_classes: bool


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


Event: TypeAlias = StepEvent | SegmentEvent | HeldOutEvent | GuardEvent | ClassificationEvent
Listener: TypeAlias = Callable[[Event], None]


def as_record(event: Event) -> tuple[str, dict[str, Any]]:
    """Return the name and the values of an event, as written to events.jsonl."""
    match event:
        case StepEvent():
            name = "step"
        case SegmentEvent():
            name = "segment"
        case HeldOutEvent():
            name = "held-out"
        case GuardEvent():
            name = "guard"
        case ClassificationEvent():
            name = "classification"
    return name, asdict(event)
