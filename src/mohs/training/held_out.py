"""Pictures that training does not see: R@1 of them after each segment, and when a run ends for it.

They are of held-out classes where a run has some (`data.validation_fraction`, or "validation" in the table). These are
neither trained on nor tested, so that they may decide: by early stopping a run ends when they are found no better any
more, with the weights of its best moment. Else they are a few test pictures, to be looked at and nothing else: no
weights, no rate and no moment to stop are chosen by those, or the test would not be a test.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mohs.errors import InputError, Problem
from mohs.evaluation.exact_neighbours import nearest_by_class
from mohs.evaluation.intervals import class_interval
from mohs.evaluation.ranks import tie_limit
from mohs.model.embedder import Embedder
from mohs.randomness import generator
from mohs.settings.config import RunConfig
from mohs.training.events import EarlyStoppingEvent, HeldOutEvent
from mohs.training.run_inputs import FEWEST_HELD_OUT, SplitData

if TYPE_CHECKING:
    from mohs.training.state import RunState  # which keeps the best moment of a run

__all__ = [
    "Best",
    "HeldOut",
    "check_early_stopping",
    "choose_held_out",
    "copied_weights",
    "look_at_held_out",
    "take_best",
]

_MOST_TEST_CLASSES, _FEWEST_TEST_CLASSES = 200, 32
_SHARE = 0.2
_MOST_CLASSES = 2000


@final
@dataclass(frozen=True, eq=False)
class HeldOut:
    """Pairs of pictures of C classes: query c searches among all other pictures, and match c is the right one.

    `of` says what they are of: classes that are held out, or the test. `matches_trained` says whether the matches are
    training pictures, as in a test of seen classes.
    """

    query_CHWC: NDArray[np.uint8]
    match_CHWC: NDArray[np.uint8]
    matches_trained: bool
    of: Literal["validation", "test"] = "test"

    def hits(self, embedder: Embedder) -> NDArray[np.bool_]:
        """Return whether each query finds its match first, bool[C]; a tie counts against it, and so does NaN."""
        num = len(self.query_CHWC)
        x_ND = embedder.embed(np.concatenate([self.query_CHWC, self.match_CHWC])).astype(np.float64)
        class_C = np.arange(num)
        if self.matches_trained:  # The gallery of seen classes is known pictures; of unseen classes, all others.
            own_C, other_C = nearest_by_class(x_ND[:num], class_C, x_ND[num:], class_C, same_items=False)
        else:
            class_N = np.tile(class_C, 2)
            own_N, other_N = nearest_by_class(x_ND, class_N, x_ND, class_N, same_items=True)
            own_C, other_C = own_N[:num], other_N[:num]
        hits_C: NDArray[np.bool_] = tie_limit(own_C, 1.0) < other_C
        return hits_C


def choose_held_out(data: SplitData, config: RunConfig) -> HeldOut | None:
    """Return pairs of pictures of held-out classes, or else of test classes, by the run's seed; None for fewer than 10.

    Of each class one picture is the query. Its match is a training picture where these classes are trained on, else
    another picture that is held out. Of classes that were held out for it, or that may stop the run, there are up to
    2,000. Else there are up to 200, and at most so many that a segment shows five times their pictures to the network
    (but 32 in any case): a picture that is only embedded costs a third, so that the curve takes 7% of the training at
    most, and 3% by default.
    """
    held_out_N = data.validation_N
    for_it = bool(config.data.validation_fraction) or config.training.stop_after is not None
    if held_out_N.any() and (found := _choose(data, held_out_N, "validation", config, for_it=for_it)) is not None:
        return found
    return _choose(data, data.test_N, "test", config, for_it=False)


def _choose(
    data: SplitData,
    held_out_N: NDArray[np.bool_],
    of: Literal["validation", "test"],
    config: RunConfig,
    *,
    for_it: bool,
) -> HeldOut | None:
    dataset, train_N = data.dataset, data.train_N
    draw = generator(config.seed, "held-out curve")
    priority_N = draw.random(len(dataset))
    class_N = dataset.labels_id
    seen = bool(np.isin(class_N[held_out_N], class_N[train_N]).any())
    queries = _first_of_class(class_N, np.flatnonzero(held_out_N), priority_N)
    pool_N = train_N if seen else held_out_N & ~np.isin(np.arange(len(dataset)), queries)
    matches = _first_of_class(class_N, np.flatnonzero(pool_N), priority_N)
    shared, at_query, at_match = np.intersect1d(class_N[queries], class_N[matches], return_indices=True)
    if len(shared) < FEWEST_HELD_OUT:
        return None
    chosen = np.sort(draw.permutation(len(shared))[: _MOST_CLASSES if for_it else _most(data, config)])
    query, match = queries[at_query[chosen]], matches[at_match[chosen]]
    return HeldOut(np.asarray(dataset.pictures[query]), np.asarray(dataset.pictures[match]), seen, of)


def _most(data: SplitData, config: RunConfig) -> int:
    training = config.for_classes(data.num_training_classes).training
    pictures = training.length * config.loss.pictures_per_triplet
    return max(_FEWEST_TEST_CLASSES, min(_MOST_TEST_CLASSES, int(_SHARE * pictures / training.num_segments / 2)))


def _first_of_class(
    class_N: NDArray[np.int64], items: NDArray[np.int64], priority_N: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return of each class among the items the one of lowest priority number, ascending by class."""
    order = items[np.lexsort((priority_N[items], class_N[items]))]
    return order[np.unique(class_N[order], return_index=True)[1]]


@final
@dataclass
class Best:
    """The best measurement so far: R@1, triplets before it, measurements since, whether the run was stopped for them.

    It is saved under these names.

    >>> best = Best()
    >>> [best.take(recall, triplets) for recall, triplets in ((0.2, 0), (0.4, 100), (0.4, 200), (0.3, 300))]
    [True, True, False, False]
    >>> best
    Best(recall=0.4, triplets=100, num_since=2, stopped=False)
    """

    recall: float | None = None
    triplets: int = 0
    num_since: int = 0
    stopped: bool = False

    def take(self, recall: float, triplets: int, *, counts: bool = True) -> bool:
        """Take note of a measurement, and return whether it is better than all before; an equal one is not.

        One that is no better and `counts` brings the end nearer.
        """
        if self.recall is not None and not recall > self.recall:
            self.num_since += counts
            return False
        self.recall, self.triplets, self.num_since = recall, triplets, 0
        return True


def copied_weights(embedder: Embedder) -> dict[str, Tensor]:
    """Return the weights and statistics of a network as they are now, on the CPU."""
    return {name: value.detach().to("cpu", copy=True) for name, value in embedder.state_dict().items()}


def check_early_stopping(config: RunConfig, held_out: HeldOut | None) -> None:
    """Raise `InputError` if a run is to be stopped by classes that it has not, or that its test is measured on."""
    stop_after = config.training.stop_after
    if stop_after is None or (held_out is not None and held_out.of == "validation"):
        return
    what = f"{stop_after}, and no classes are held out to measure on; the test must not decide when to stop"
    fix = "give data.validation_fraction, for example 0.1, or leave it out"
    raise InputError(Problem("training.stop_after", what, fix))


def look_at_held_out(run: "RunState", held_out: HeldOut | None, *, counts: bool = True) -> None:
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


def take_best(run: "RunState") -> None:
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
