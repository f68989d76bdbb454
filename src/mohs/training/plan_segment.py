"""From a plan to batches, without losing its order."""

import itertools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mohs.artefacts import fingerprint
from mohs.data.dataset import Dataset
from mohs.errors import InputError, TrainingError
from mohs.evaluation.spread import spread as spread_of
from mohs.hardness.curves import schedule
from mohs.mining import mine
from mohs.mining.roles import choose_roles
from mohs.model.embedder import Embedder
from mohs.plan import TripletPlan
from mohs.settings.config import RunConfig
from mohs.training.closed_loop import Control, HardnessController, SegmentBank, measure_gaps
from mohs.training.false_negatives import Dropped, distrusted_pairs, replace_false_negatives
from mohs.training.guard import BankHealth, bank_recall
from mohs.training.kept_apart import by_first_item, may_be_negatives
from mohs.training.processes import Processes

__all__ = [
    "Planned",
    "Planner",
    "Segment",
    "all_segments",
    "batch_slices",
    "neighbourhood_order",
    "segment_bounds",
]


def segment_bounds(num_triplets: int, num_segments: int, num_cycles: int = 1) -> list[tuple[int, int]]:
    """Return (start, stop) of each segment of a run: near-equal lengths, none empty.

    The number of segments is raised to the next multiple of `num_cycles`, so that a cycle of a cyclic curve is a whole
    number of segments, and lowered to at most one segment per two triplets.

    >>> segment_bounds(10, 3)
    [(0, 3), (3, 6), (6, 10)]
    """
    count = math.ceil(num_segments / num_cycles) * num_cycles
    count = max(1, min(count, num_triplets // 2))
    edges = [i * num_triplets // count for i in range(count + 1)]
    return list(itertools.pairwise(edges))


def batch_slices(num_triplets: int, batch_triplets: int) -> list[slice]:
    """Return consecutive slices of near-equal length, each of at most `batch_triplets`.

    Equal lengths rather than a short last batch: batch norm over two or three pictures would disturb the network.

    >>> batch_slices(10, 4)
    [slice(0, 3, None), slice(3, 6, None), slice(6, 10, None)]
    """
    count = math.ceil(num_triplets / batch_triplets)
    edges = [i * num_triplets // count for i in range(count + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def neighbourhood_order(
    anchor_class_T: ArrayLike,
    negative_class_T: ArrayLike,
    size: int,
    *,
    apart: Callable[[int, int], bool] | None = None,
) -> NDArray[np.int64]:
    """Return an order of the triplets in which classes and their mined negatives stand together, int64[T].

    Rule: take the first triplet not yet taken; then the first not yet taken triplet whose anchor is of the class of
    the last one's negative; and so on until `size` triplets stand together or there is no such triplet; then start
    again. Every triplet appears once. With an in-batch loss, a mined negative thus enters the batch as a class with a
    positive of its own, and costs no extra picture. `size` 1 keeps the plan's order.

    Triplets t and u with `apart(t, u)` never stand together: the next one is the first that may stand with all.

    >>> neighbourhood_order([0, 1, 2, 3], [2, 3, 0, 1], 2)
    array([0, 2, 1, 3])
    """
    anchor_class = np.asarray(anchor_class_T).tolist()
    negative_class = np.asarray(negative_class_T).tolist()
    if len(anchor_class) != len(negative_class):
        raise InputError(
            f"negative_class_T: {len(negative_class)} values for {len(anchor_class)} anchors; give one per triplet"
        )
    waiting: dict[int, list[int]] = {}
    for t in reversed(range(len(anchor_class))):
        waiting.setdefault(anchor_class[t], []).append(t)  # the earliest triplet of a class is popped first
    taken = [False] * len(anchor_class)
    order: list[int] = []
    for first in range(len(anchor_class)):
        next_one: int | None = None if taken[first] else first
        together: list[int] = []
        while next_one is not None:
            t = next_one
            taken[t] = True
            together.append(t)
            _remove(waiting[anchor_class[t]], t)
            following = waiting.get(negative_class[t], []) if len(together) < size else []
            if apart is None:
                next_one = following[-1] if following else None
            else:
                next_one = next((u for u in reversed(following) if not any(apart(u, v) for v in together)), None)
        order += together
    return np.array(order, dtype=np.int64)


def _remove(waiting: list[int], t: int) -> None:
    """Take t out; it is most often the last."""
    if waiting[-1] == t:
        waiting.pop()
    else:
        waiting.remove(t)


_ITEMS_AT_ONCE = 8192
_EMBED_BATCH = 256


@final
@dataclass(frozen=True, eq=False)
class Segment:
    """Triplets that wait for their negatives.

    Attributes:
        number: counts the plans of a run.
        first: triplets of the run before this segment.
        anchor_K, positive_K, origin_K: items and where positives come from.
        hardness_K: what the curve asks for; the closed loop decides for itself.
        hardness_factor: what the guard has left of it, in (0, 1].
    """

    number: int
    first: int
    anchor_K: NDArray[np.int64]
    positive_K: NDArray[np.int64]
    origin_K: NDArray[np.uint8]
    hardness_K: NDArray[np.float64]
    hardness_factor: float = 1.0


@final
@dataclass(frozen=True, eq=False)
class Planned:
    """A segment's plan, in the order in which it is trained on, and what was seen on the way.

    `embedded` are the items that were embedded and their embeddings, if a negative bank is to have them.
    """

    plan: TripletPlan
    health: BankHealth
    control: Control | None
    dropped: Dropped
    embed_s: float
    mine_s: float
    embedded: tuple[NDArray[np.int64], NDArray[np.float32]] | None = None


@final
class Planner:
    """Makes the plan of a segment from the network as it is; the same network and segment give the same plan."""

    def __init__(self, dataset: Dataset, config: RunConfig, peers: Processes) -> None:
        self._dataset = dataset
        self._config = config
        self._peers = peers
        self._class_N = dataset.labels_id
        self.negative_N = may_be_negatives(dataset, config)
        self.distrusted_P2 = distrusted_pairs(dataset, config.negatives)
        self._run_header: Mapping[str, Any] = {
            "num_items": len(dataset),
            "num_classes": int(self._class_N.max()) + 1,
            "data_fingerprint": fingerprint(np.array(dataset.table.files), dataset.labels),
            "curve": config.hardness.model_dump(mode="json"),
            "run_seed": config.seed,
        }

    def plan(
        self,
        segment: Segment,
        embedder: Embedder,
        controller: HardnessController | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Planned:
        """Return the plan of a segment by this network; a closed loop decides the hardness and takes note of it.

        Triplet losses mine over all items. In-batch losses show anchors and positives only, so just these are embedded,
        negatives are mined among the segment's anchors, and from `training.neighbourhood_from` on the plan is put into
        neighbourhood order. Raises `TrainingError` if the network gives NaN or Inf.
        """
        config = self._config
        items_M, in_batch = self._items(segment.anchor_K, segment.positive_K)
        began = time.perf_counter()
        bank_MD = self._embed(embedder, items_M, progress)
        embedded = time.perf_counter()
        health = self._health(bank_MD, items_M)
        bank = self._bank(segment, bank_MD, items_M, in_batch=in_batch)
        control, hardness_K = None, segment.hardness_K * segment.hardness_factor
        if controller is not None:
            control = controller.next_hardness(
                measure_gaps(bank, config, spread=health.spread, step=segment.number),
                spread=health.spread,
                num_negatives=len(items_M if bank.candidates is None else bank.candidates),
                factor=segment.hardness_factor,
            )
            hardness_K = np.full(len(segment.anchor_K), control.hardness)

        def mined(rows: NDArray[np.int64], *, beyond_positive: bool = False) -> TripletPlan:
            if beyond_positive:
                return bank.mine(rows, np.ones(len(rows)), config, scale="margin")
            return bank.mine(rows, hardness_K[rows], config)

        plan, dropped = replace_false_negatives(mined, len(hardness_K), config.negatives.min_distance_ratio)
        plan = self._in_order(self._of_items(plan, segment, items_M), segment, in_batch=in_batch)
        finished = time.perf_counter()
        embed_s, mine_s = embedded - began, finished - embedded
        kept = (items_M, bank_MD) if config.memory.num_negatives else None
        return Planned(plan, health, control, dropped.of_items(items_M), embed_s, mine_s, kept)

    def _bank(
        self, segment: Segment, bank_MD: NDArray[np.float32], items_M: NDArray[np.int64], *, in_batch: bool
    ) -> SegmentBank:
        anchor_K, positive_K = (np.searchsorted(items_M, part) for part in (segment.anchor_K, segment.positive_K))
        candidates = self._candidates(segment.anchor_K, items_M, in_batch=in_batch)
        excluded_P2 = self._excluded(bank_MD, items_M, np.unique(anchor_K), candidates)
        class_M = self._class_N[items_M]
        return SegmentBank(bank_MD, class_M, anchor_K, positive_K, segment.origin_K, candidates, excluded_P2)

    def _of_items(self, plan: TripletPlan, segment: Segment, items_M: NDArray[np.int64]) -> TripletPlan:
        """Return a plan of places in the bank as one of items."""
        # What the miner says of its bank is of the items it was given: for in-batch losses not all.
        mined = {f"mined_{name}" if name.startswith("num_") else name: value for name, value in plan.header.items()}
        return replace(
            plan,
            anchor=segment.anchor_K,
            positive=segment.positive_K,
            negative=items_M[plan.negative],
            header={**mined, **self._run_header, "segment": segment.number, "first_triplet": segment.first},
        )

    def _in_order(self, plan: TripletPlan, segment: Segment, *, in_batch: bool) -> TripletPlan:
        """Return a plan in neighbourhood order, if it is time for it."""
        training = self._config.training
        if not in_batch or segment.first < training.neighbourhood_from * training.length:
            return plan
        apart = self._apart(plan) if len(self.distrusted_P2) else None
        anchor_class_K, negative_class_K = self._class_N[plan.anchor], self._class_N[plan.negative]
        return plan.take(neighbourhood_order(anchor_class_K, negative_class_K, training.neighbourhood, apart=apart))

    def look(self, plan: TripletPlan, embedder: Embedder) -> BankHealth:
        """Return what a bank of the items shows that a plan of these triplets would be mined from."""
        items_M, _ = self._items(plan.anchor, plan.positive)
        return self._health(self._embed(embedder, items_M, None), items_M)

    def _excluded(
        self,
        bank_MD: NDArray[np.float32],
        items_M: NDArray[np.int64],
        anchors: NDArray[np.int64],
        candidates: NDArray[np.int64] | None,
    ) -> NDArray[np.int64]:
        """Return the pairs (anchor, other), as places in `items_M`, that mining leaves out."""
        excluded_P2 = _local_pairs(self.distrusted_P2, items_M)
        if not self._config.negatives.skip_nearest:
            return excluded_P2
        nearest = mine(
            bank_MD,
            self._class_N[items_M],
            anchors_T=anchors,
            hardness_T=1.0,
            scale="rank",
            candidates=candidates,
            num_negatives=self._config.negatives.skip_nearest,
            excluded_pairs=excluded_P2,
            seed=self._config.seed,
        )
        return np.concatenate([excluded_P2, np.stack([nearest.anchor, nearest.negative], axis=1)])

    def _apart(self, plan: TripletPlan) -> Callable[[int, int], bool]:
        """Return which two triplets show pictures that are kept apart."""
        first, other = self.distrusted_P2.T.tolist()
        others_of: dict[int, set[int]] = {}
        for a, b in zip(first, other, strict=True):
            others_of.setdefault(a, set()).add(b)
        shown = list(zip(plan.anchor.tolist(), plan.positive.tolist(), strict=True))

        def apart(t: int, u: int) -> bool:
            return any(not others_of.get(item, set()).isdisjoint(shown[u]) for item in shown[t])

        return apart

    def _items(self, anchor_K: NDArray[np.int64], positive_K: NDArray[np.int64]) -> tuple[NDArray[np.int64], bool]:
        """Return the items of a segment's bank, and whether they are those alone that the segment shows."""
        used = np.unique(np.concatenate([anchor_K, positive_K]))
        negatives = self._negatives_among(anchor_K, used)
        # A short segment may hold one class only; its negatives then come from everywhere.
        in_batch = self._config.loss.in_batch and len(np.unique(self._class_N[negatives])) > 1
        return (used if in_batch else np.arange(len(self._dataset))), in_batch

    def _negatives_among(self, anchor_K: NDArray[np.int64], used_M: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return those of the items that a segment shows that mining may take: its anchors, or its samples."""
        return np.unique(anchor_K) if self.negative_N.all() else used_M[self.negative_N[used_M]]

    def _candidates(
        self, anchor_K: NDArray[np.int64], items_M: NDArray[np.int64], *, in_batch: bool
    ) -> NDArray[np.int64] | None:
        """Return the places in `items_M` of the items that may be negatives; None for all."""
        if in_batch:
            return np.searchsorted(items_M, self._negatives_among(anchor_K, items_M))
        return None if self.negative_N.all() else np.flatnonzero(self.negative_N[items_M])

    def _embed(
        self, embedder: Embedder, items_M: NDArray[np.int64], progress: Callable[[int, int], None] | None
    ) -> NDArray[np.float32]:
        """Return the embeddings of the items, reading their pictures a few thousand at a time.

        Blocks are cut in the same places whatever the number of processes: a block's last digits depend on its size.
        """
        starts = range(0, len(items_M), _ITEMS_AT_ONCE)
        blocks = {}
        for number, start in enumerate(starts):
            if number % self._peers.num_ranks == self._peers.rank:
                piece = items_M[start : start + _ITEMS_AT_ONCE]
                blocks[number] = embedder.embed(self._dataset.pictures[piece], batch_size=_EMBED_BATCH)
            if progress is not None:
                progress(min(start + _ITEMS_AT_ONCE, len(items_M)), len(items_M))
        bank_MD = np.concatenate(self._peers.gather_blocks(blocks, len(starts)))
        if not np.isfinite(bank_MD).all():
            raise TrainingError("embeddings are NaN or Inf")
        return bank_MD

    def _health(self, bank_MD: NDArray[np.float32], items_M: NDArray[np.int64]) -> BankHealth:
        spread = spread_of(bank_MD)
        apart_P2 = by_first_item(_local_pairs(self.distrusted_P2, items_M))
        recall, num_queries = bank_recall(bank_MD, self._class_N[items_M], seed=self._config.seed, apart_P2=apart_P2)
        return BankHealth(spread.std_sqrt_dim, spread.effective_rank, recall, num_queries)


def _local_pairs(pair_P2: NDArray[np.int64], items_M: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the pairs whose items are both among `items_M` (sorted), as positions there."""
    place_P2 = np.minimum(np.searchsorted(items_M, pair_P2), len(items_M) - 1)
    inside_P2: NDArray[np.int64] = place_P2[(items_M[place_P2] == pair_P2).all(axis=1)]
    return inside_P2


def all_segments(dataset: Dataset, config: RunConfig) -> list[Segment]:
    """Return the whole run: who is anchor when, with which positive, at which hardness."""
    training = config.training
    roles = choose_roles(
        dataset.labels,
        dataset.roles == "catalog",
        training.length,
        anchors=training.anchors,
        prefer=training.prefer_positive,
        seed=config.seed,
        name="training.anchors",
    )
    hardness_T = schedule(config.hardness.build(), training.length)
    segments = []
    for start, stop in segment_bounds(training.length, training.num_segments, config.hardness.cycles):
        part = slice(start, stop)
        segments.append(
            Segment(0, start, roles.anchors_T[part], roles.positives_T[part], roles.origin_T[part], hardness_T[part])
        )
    return segments
