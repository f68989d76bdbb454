"""What a run does with its held-out pictures: measure them after each segment, and stop early if it is to."""

import numpy as np

from mohs.evaluation.intervals import class_interval
from mohs.training.events import EarlyStoppingEvent, HeldOutEvent
from mohs.training.held_out import HeldOut, copied_weights
from mohs.training.state import RunState

__all__ = ["look_at_held_out", "take_best"]


def look_at_held_out(run: RunState, held_out: HeldOut | None, *, counts: bool = True) -> None:
    """Tell how well held-out pictures are found by the network as it is, and end the run if it is to be stopped."""
    if held_out is None:
        return
    stop_after, recall = run.config.training.stop_after, 0.0
    if run.peers.is_first:
        with run.stepper.descent.autocast():
            hits_C = held_out.hits(run.embedder)
        recall = float(hits_C.mean())
        low, high = class_interval(hits_C, np.arange(len(hits_C)))
        run.emit(
            HeldOutEvent(
                triplets=run.tally.triplets,
                recall=recall,
                num_queries=len(hits_C),
                hits="".join("1" if hit else "0" for hit in hits_C.tolist()),
                on_seen_classes=held_out.matches_trained,
                of=held_out.of,
                low=low,
                high=high,
            )
        )
    if stop_after is None:
        return
    if run.best.take(run.peers.from_first(recall), run.tally.triplets, counts=counts):
        run.best_weights = copied_weights(run.embedder)
    if run.best.num_since >= stop_after and run.waiting:
        run.best.stopped = True
        run.waiting.clear()
        run.ahead = None  # made already: a segment ends when it is


def take_best(run: RunState) -> None:
    """Make the network what it was when held-out classes were found best, and tell it."""
    assert run.best_weights is not None
    assert run.best.recall is not None
    run.embedder.load_state_dict(run.best_weights)
    run.emit(
        EarlyStoppingEvent(
            triplets=run.tally.triplets,
            num_triplets=run.config.training.length,
            best_triplets=run.best.triplets,
            best_recall=run.best.recall,
            stopped=run.best.stopped,
        )
    )
