"""From a plan to batches, without losing its order."""

import itertools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from mohs.artefacts import fingerprint
from mohs.data.dataset import Dataset
from mohs.errors import TrainingError
from mohs.evaluation.collapse import spread as spread_of
from mohs.hardness.curves import schedule
from mohs.mining import mine
from mohs.mining.roles import choose_roles
from mohs.model.embedder import Embedder, embed_items
from mohs.peers import Peers
from mohs.plan import TripletPlan
from mohs.randomness import generator
from mohs.settings.config import RunConfig
from mohs.training.cliques import compose_batches, mine_rows
from mohs.training.closed_loop import Control, HardnessController, SegmentBank, measure_gaps
from mohs.training.false_negatives import Dropped, distrusted_pairs
from mohs.training.guard import BankHealth, bank_recall
from mohs.training.kept_apart import by_first_item, may_be_negatives
from mohs.training.last_seen import Seen

__all__ = [
    "Planned",
    "Planner",
    "Segment",
    "all_segments",
    "batch_slices",
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


_HEALTH_PAIRS = 512
_LOOKED_AT = 4096
"""The negatives that a plan chooses from where nothing is trained on them: they only tell how hard it was."""


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
    """A segment's plan, in the order in which it is trained on, and what was seen on the way."""

    plan: TripletPlan
    health: BankHealth
    control: Control | None
    dropped: Dropped
    embed_s: float
    mine_s: float


@final
class Planner:
    """Makes the plan of a segment from the network as it is; the same network and segment give the same plan.

    Processes share the embedding, by item, and the mining, by anchor; each has the whole plan.
    """

    def __init__(self, dataset: Dataset, config: RunConfig, peers: Peers) -> None:
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
            "curve": config.asked_hardness.model_dump(mode="json"),
            "run_seed": config.seed,
        }

    def plan(
        self,
        segment: Segment,
        embedder: Embedder,
        controller: HardnessController | None = None,
        seen: Seen | None = None,
    ) -> Planned:
        """Return the plan of a segment by this network; a closed loop decides the hardness and takes note of it.

        Triplet losses mine over all items. In-batch losses show anchors and positives only, so just these are embedded,
        and negatives are mined among the segment's anchors, or, where nothing is trained on them, among 4,096 of these
        (`RunConfig.trains_on_mined`). From `training.neighbourhood_from` on batches are composed of cliques
        (`cliques.py`). Of `seen`, what training has shown of the segment's `items`, only what is
        missing is embedded, and a sample for the guard. Raises `TrainingError` if the network gives NaN or Inf.
        """
        config = self._config
        items_M, in_batch = self._items(segment.anchor_K, segment.positive_K)
        began = time.perf_counter()
        if seen is None:
            bank_MD = self._embed(embedder, items_M)
            health = self._health(bank_MD, items_M)
        else:
            bank_MD = seen.x_MD
            if not seen.known_M.all():
                bank_MD[~seen.known_M] = self._embed(embedder, items_M[~seen.known_M])
            health = self._health_of_sample(embedder, segment.anchor_K, segment.positive_K, segment.number)
        embedded = time.perf_counter()
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
        training = config.training
        # Segments begin at whole triplets, rounded down; so does the share of the run.
        begins = math.floor(training.neighbourhood_from * training.length)
        if in_batch and config.clique_size > 1 and segment.first >= begins:
            apart = self._apart(segment) if len(self.distrusted_P2) else None
            plan, dropped = compose_batches(bank, hardness_K, config, step=segment.number, apart=apart)
        else:
            plan, dropped = mine_rows(bank, np.arange(len(hardness_K)), hardness_K, config)
        plan = self._of_items(plan, segment, items_M)
        finished = time.perf_counter()
        embed_s, mine_s = embedded - began, finished - embedded
        return Planned(plan, health, control, dropped.of_items(items_M), embed_s, mine_s)

    def _bank(
        self, segment: Segment, bank_MD: NDArray[np.float32], items_M: NDArray[np.int64], *, in_batch: bool
    ) -> SegmentBank:
        anchor_K, positive_K = (np.searchsorted(items_M, part) for part in (segment.anchor_K, segment.positive_K))
        candidates = self._candidates(segment, items_M, in_batch=in_batch)
        excluded_P2 = self._excluded(bank_MD, items_M, np.unique(anchor_K), candidates)
        class_M = self._class_N[items_M]
        columns = bank_MD, class_M, anchor_K, positive_K, segment.origin_K, candidates, excluded_P2
        return SegmentBank(*columns, self._peers)

    def _of_items(self, plan: TripletPlan, segment: Segment, items_M: NDArray[np.int64]) -> TripletPlan:
        """Return a plan of places in the bank as one of items."""
        # What the miner says of its bank is of the items it was given: for in-batch losses not all.
        mined = {f"mined_{name}" if name.startswith("num_") else name: value for name, value in plan.header.items()}
        return replace(
            plan,
            anchor=items_M[plan.anchor],
            positive=items_M[plan.positive],
            negative=items_M[plan.negative],
            header={**mined, **self._run_header, "segment": segment.number, "first_triplet": segment.first},
        )

    def items(self, segment: Segment) -> NDArray[np.int64]:
        """Return the items that a segment is planned from, ascending."""
        return self._items(segment.anchor_K, segment.positive_K)[0]

    def look(self, plan: TripletPlan, embedder: Embedder) -> BankHealth:
        """Return what a bank of the items shows that a plan of these triplets would be mined from."""
        if self._config.plans_from_steps:
            return self._health_of_sample(embedder, plan.anchor, plan.positive, plan.header["segment"])
        items_M, _ = self._items(plan.anchor, plan.positive)
        return self._health(self._embed(embedder, items_M), items_M)

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
            peers=self._peers,
        )
        return np.concatenate([excluded_P2, np.stack([nearest.anchor, nearest.negative], axis=1)])

    def _apart(self, segment: Segment) -> Callable[[int, int], bool]:
        """Return which two triplets show pictures that are kept apart."""
        first, other = self.distrusted_P2.T.tolist()
        others_of: dict[int, set[int]] = {}
        for a, b in zip(first, other, strict=True):
            others_of.setdefault(a, set()).add(b)
        shown = list(zip(segment.anchor_K.tolist(), segment.positive_K.tolist(), strict=True))

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

    def _candidates(self, segment: Segment, items_M: NDArray[np.int64], *, in_batch: bool) -> NDArray[np.int64] | None:
        """Return the places in `items_M` of the items that may be negatives; None for all."""
        if not in_batch:
            return None if self.negative_N.all() else np.flatnonzero(self.negative_N[items_M])
        among = np.searchsorted(items_M, self._negatives_among(segment.anchor_K, items_M))
        if self._config.trains_on_mined or len(among) <= _LOOKED_AT:
            return among
        draw = generator(self._config.seed, "negatives looked at", segment.number)
        few = np.sort(draw.choice(among, _LOOKED_AT, replace=False))
        return few if len(np.unique(self._class_N[items_M[few]])) > 1 else among

    def _embed(self, embedder: Embedder, items_M: NDArray[np.int64]) -> NDArray[np.float32]:
        bank_MD = embed_items(embedder, self._dataset.pictures, items_M, peers=self._peers)
        if not np.isfinite(bank_MD).all():
            raise TrainingError("embeddings are NaN or Inf")
        return bank_MD

    def _health_of_sample(
        self, embedder: Embedder, anchor_K: NDArray[np.int64], positive_K: NDArray[np.int64], number: int
    ) -> BankHealth:
        """Return the health of the network on up to 512 pairs of a segment."""
        draw = generator(self._config.seed, "bank health", number)
        rows = draw.permutation(len(anchor_K))[:_HEALTH_PAIRS]
        items_M = np.unique(np.concatenate([anchor_K[rows], positive_K[rows]]))
        return self._health(self._embed(embedder, items_M), items_M)

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
    hardness_T = schedule(config.asked_hardness.build(), training.length)
    segments = []
    for start, stop in segment_bounds(training.length, training.num_segments, config.hardness.cycles):
        part = slice(start, stop)
        segments.append(
            Segment(0, start, roles.anchors_T[part], roles.positives_T[part], roles.origin_T[part], hardness_T[part])
        )
    return segments
