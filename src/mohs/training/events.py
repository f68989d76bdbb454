"""What training tells while it runs."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias, final

__all__ = ["Event", "Listener", "SegmentEvent", "StepEvent", "as_record"]


@final
@dataclass(frozen=True)
class StepEvent:
    """One optimiser step. `spread` is of the anchors' embeddings in training mode, 0 (collapsed) to 1."""

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


@final
@dataclass(frozen=True)
class SegmentEvent:
    """A segment embedded, mined and trained: at most 200 evenly taken triplets of it, and the spread of its bank."""

    segment: int
    triplets: int
    triplet_index: tuple[int, ...]
    hardness_asked: tuple[float, ...]
    hardness_achieved: tuple[float, ...]
    anchor_positive_distance: float
    anchor_negative_distance: float
    spread: float
    effective_rank: float
    embed_s: float
    mine_s: float
    train_s: float


Event: TypeAlias = StepEvent | SegmentEvent
Listener: TypeAlias = Callable[[Event], None]


def as_record(event: Event) -> tuple[str, dict[str, Any]]:
    """Return the name and the values of an event, as written to events.jsonl."""
    return ("step" if isinstance(event, StepEvent) else "segment"), asdict(event)
