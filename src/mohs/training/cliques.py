"""Cliques: which classes meet in a batch of an in-batch loss.

A batch of 96 pairs out of tens of thousands of classes holds few strangers that are hard to tell apart, unless it is
composed. It is composed of *cliques*: a triplet, and the triplets of the classes nearest to its own that are not taken
yet. Every triplet is shown once, so a clique costs no picture.

The rule. Triplets wait in plan order. The first one that waits begins a clique, and mining gives it the negatives at
the hardness that is asked for, out of the anchors that wait: its mates are the triplets of these, nearest first, whose
class is not in the clique, until `size` stand together. So the scale of the hardness is that of mining: on `log-rank`,
1 asks for the nearest of all, and a lower hardness passes over the nearest M^(1 − h) − 1 of M. What mining gives is
sought for many triplets at once; one whose negatives were taken by others meanwhile waits for the next time.

Cliques of 8 were better than of 4 and of 16 on 32,000 classes (docs/lab-book.md).

The plan of a segment is composed of them (`compose_batches`): cliques in random order, each triplet with one it is to
meet.
"""

import itertools
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mohs.distances import exact_distance
from mohs.errors import InputError, Problem
from mohs.plan import TripletPlan
from mohs.randomness import generator
from mohs.settings.config import RunConfig
from mohs.training.closed_loop import SegmentBank
from mohs.training.false_negatives import Dropped, replace_false_negatives

__all__ = ["Clique", "MineAmong", "Pairs", "compose_batches", "find_cliques", "mine_rows"]

_SEEDS_AT_ONCE = 1024
# Negatives that are sought for each, as a multiple of the size: others take some of them.
_SOUGHT = 4


class MineAmong(Protocol):
    """Mine `num` negatives for each of some triplets, out of some items."""

    def __call__(self, rows_R: NDArray[np.int64], among_A: NDArray[np.int64], num: int) -> TripletPlan:
        """Return a plan of R·num rows, the negatives of a triplet nearest first."""
        ...


@final
@dataclass(frozen=True, eq=False)
class Clique:
    """Triplets that are shown together: the one that began it, then its mates, nearest first.

    `achieved_hardness` is that of each mate's anchor as a negative of the first one's.
    """

    triplets: tuple[int, ...]
    achieved_hardness: tuple[float, ...] = ()


@final
@dataclass(frozen=True, eq=False)
class Pairs:
    """Who may not be a mate of whom: pairs of triplets kept apart, and items too near to be trusted.

    Attributes:
        apart: whether two triplets may not stand together; None: all may.
        min_distance_ratio: a negative nearer than this share of the positive's distance is no mate.
        num_excluded_K: for each triplet, how many items are never a negative of its anchor.
    """

    apart: Callable[[int, int], bool] | None = None
    min_distance_ratio: float = 0.0
    num_excluded_K: NDArray[np.int64] | None = None


def find_cliques(
    item_K: ArrayLike, class_K: ArrayLike, size: int, mine_among: MineAmong, pairs: Pairs | None = None
) -> tuple[list[Clique], NDArray[np.int64]]:
    """Return the triplets in cliques of at most `size`, in the order in which they began, by the rule above.

    The second is int64[R, 2]: a triplet that began a clique, and an item that it was too near to, for each such pair.

    Args:
        item_K: the item by which others find each triplet, its anchor or its positive; −1: none of them may be a
            negative, so that it is nobody's mate.
        class_K: the class of each triplet.
        size: the most triplets in a clique; 1: each alone.
        mine_among: the miner, at the hardness of each triplet.
        pairs: who may not meet; None: all may.

    Of negatives at one distance the miner takes the lower item first. Raises `InputError` for columns of different
    length.

    >>> from mohs.mining import mine
    >>> x = np.float32([[0.0], [10.0], [1.0], [11.0]])
    >>> def nearest(rows_R, among_A, num):
    ...     return mine(x, np.arange(4), anchors_T=rows_R, hardness_T=1.0, candidates=among_A, num_negatives=num,
    ...                 positives_T=rows_R)
    >>> [clique.triplets for clique in find_cliques([0, 1, 2, 3], [0, 1, 2, 3], 2, nearest)[0]]
    [(0, 2), (1, 3)]
    """
    item_of, class_of = np.asarray(item_K, dtype=np.int64), np.asarray(class_K, dtype=np.int64)
    if len(item_of) != len(class_of):
        what = f"{len(class_of)} classes for {len(item_of)} triplets"
        raise InputError(Problem("class_K", what, "give one for each"))
    search = _Search(item_of, class_of, size, Pairs() if pairs is None else pairs)
    while size > 1 and (seeds := search.seeds()).size:
        among_A, num = search.among(seeds)
        if num:
            search.take(seeds, mine_among(seeds, among_A, num), num)
    alone = [Clique((t,)) for t in np.flatnonzero(~search.taken_K).tolist()]
    distrusted = np.array(sorted(search.distrusted), dtype=np.int64).reshape(-1, 2)
    return search.cliques + alone, distrusted


@final
class _Search:
    """The state of a search: who is taken."""

    def __init__(self, item_K: NDArray[np.int64], class_K: NDArray[np.int64], size: int, pairs: Pairs) -> None:
        self._item_K, self._class_K, self._size, self._pairs = item_K, class_K, size, pairs
        self._triplets_of: dict[int, list[int]] = defaultdict(list)
        for t, item in enumerate(item_K.tolist()):
            self._triplets_of[item].append(t)
        self._is_found_K = item_K >= 0
        self.taken_K = np.zeros(len(item_K), dtype=bool)
        self._hopeless_K = np.zeros(len(item_K), dtype=bool)
        self.cliques: list[Clique] = []
        self.distrusted: set[tuple[int, int]] = set()

    def seeds(self) -> NDArray[np.int64]:
        """Return the triplets that begin a clique next: as many as there can be, at most 1,024."""
        waiting = np.flatnonzero(~self.taken_K & ~self._hopeless_K)
        return waiting[: max(1, min(_SEEDS_AT_ONCE, len(waiting) // self._size))] if len(waiting) else waiting

    def among(self, seeds: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
        """Return the items of those that wait, and how many negatives each seed is to have; 0 if one of them has none.

        Such a one begins no clique from then on: it must not keep the others waiting.
        """
        free_K = ~self.taken_K & self._is_found_K
        item_A, first_A = np.unique(self._item_K[free_K], return_index=True)
        class_A = np.sort(self._class_K[free_K][first_A])
        before_S, after_S = (np.searchsorted(class_A, self._class_K[seeds], side) for side in ("left", "right"))
        num_S = len(item_A) - (after_S - before_S)
        if self._pairs.num_excluded_K is not None:
            num_S = num_S - self._pairs.num_excluded_K[seeds]
        num = min(_SOUGHT * self._size, int(num_S.min()))
        if num < 1:
            self._hopeless_K[seeds[num_S < 1]] = True
        return item_A, max(0, num)

    def take(self, seeds: NDArray[np.int64], plan: TripletPlan, num: int) -> None:
        """Give each seed that is still free its mates; one that finds too few for the others waits, but the first."""
        negative_SK = plan.negative.reshape(len(seeds), num).tolist()
        achieved_SK = plan.achieved_hardness.reshape(len(seeds), num)
        least_SK = self._pairs.min_distance_ratio * plan.anchor_positive_distance
        trusted_SK = (plan.anchor_negative_distance >= least_SK).reshape(len(seeds), num)
        for row, seed in enumerate(seeds.tolist()):
            if self.taken_K[seed]:
                continue
            mates, at = self._mates(seed, negative_SK[row], trusted_SK[row].tolist())
            if row and len(mates) + 1 < self._size:
                continue
            self.taken_K[[seed, *mates]] = True
            self.cliques.append(Clique((seed, *mates), tuple(achieved_SK[row, at].tolist())))

    def _mates(self, seed: int, negatives: Sequence[int], trusted: Sequence[bool]) -> tuple[list[int], list[int]]:
        """Return the mates of a seed, and their places among its negatives."""
        mates: list[int] = []
        places: list[int] = []
        classes = {self._class_K[seed]}
        for place, item in enumerate(negatives):
            if len(mates) + 1 == self._size:
                break
            if not trusted[place]:
                self.distrusted.add((seed, item))
                continue
            free = (t for t in self._triplets_of[item] if not self.taken_K[t] and self._class_K[t] not in classes)
            apart = self._pairs.apart
            mate = next((t for t in free if apart is None or not any(apart(t, u) for u in (seed, *mates))), None)
            if mate is not None:
                mates.append(mate)
                places.append(place)
                classes.add(self._class_K[mate])
        return mates, places


def mine_rows(
    bank: SegmentBank, rows_R: NDArray[np.int64], hardness_K: NDArray[np.float64], config: RunConfig
) -> tuple[TripletPlan, Dropped]:
    """Return these triplets of a segment, each with a negative of its own, and the negatives that were not trusted."""

    def mined(rows: NDArray[np.int64], *, beyond_positive: bool = False) -> TripletPlan:
        if beyond_positive:
            return bank.mine(rows_R[rows], np.ones(len(rows)), config, scale="margin")
        return bank.mine(rows_R[rows], hardness_K[rows_R[rows]], config)

    return replace_false_negatives(mined, len(rows_R), config.negatives.min_distance_ratio)


def compose_batches(
    bank: SegmentBank,
    hardness_K: NDArray[np.float64],
    config: RunConfig,
    *,
    step: int,
    apart: Callable[[int, int], bool] | None = None,
) -> tuple[TripletPlan, Dropped]:
    """Return the triplets of a segment in cliques of `RunConfig.clique_size`, and the pairs that were not trusted.

    The negative of the first triplet of a clique is that of its mates which mining found nearest; each mate's is the
    first triplet, by its anchor, or by its positive where anchors may be no negatives. Achieved hardness is that of the
    pair as mining found it for the first. A triplet that is alone has the negative that mining gives it among all.
    Cliques come in random order, drawn by (seed, step): those found last are of what the others left over.
    """
    anchor_K, x_MD = bank.anchor_K, bank.x_MD

    def mine_among(rows_R: NDArray[np.int64], among_A: NDArray[np.int64], num: int) -> TripletPlan:
        return replace(bank, candidates=among_A).mine(rows_R, hardness_K[rows_R], config, num_negatives=num)

    excluded = np.empty(0, np.int64) if bank.excluded_P2 is None else bank.excluded_P2[:, 0]
    num_excluded_K = np.bincount(excluded, minlength=len(x_MD))[anchor_K]
    pairs = Pairs(apart, config.negatives.min_distance_ratio, num_excluded_K)
    item_K = _found_by(bank)
    size = config.clique_size
    found, distrusted_R2 = find_cliques(item_K, bank.class_M[anchor_K], size, mine_among, pairs)
    cliques = [found[at].triplets for at in generator(config.seed, "cliques", step).permutation(len(found)).tolist()]
    negative_K, achieved_K = np.full(len(anchor_K), -1), np.zeros(len(anchor_K), np.float32)
    for clique in found:
        first, mates = clique.triplets[0], list(clique.triplets[1:])
        if mates:
            negative_K[first], achieved_K[first] = item_K[mates[0]], clique.achieved_hardness[0]
            negative_K[mates], achieved_K[mates] = item_K[first], clique.achieved_hardness
    alone = np.flatnonzero(negative_K < 0)

    # What a header says is of the whole bank; cliques are mined among what waits.
    first_row = np.zeros(1, np.int64)
    header = dict(bank.mine(first_row, hardness_K[first_row], config).header)
    positive_distance_K = exact_distance(x_MD[anchor_K], x_MD[bank.positive_K])
    first_R, item_R = distrusted_R2.T
    distance_R = exact_distance(x_MD[anchor_K[first_R]], x_MD[item_R])
    dropped = Dropped(anchor_K[first_R], item_R, distance_R, positive_distance_K[first_R])
    if len(alone):
        rest, dropped_there = mine_rows(bank, alone, hardness_K, config)
        negative_K[alone], achieved_K[alone] = rest.negative, rest.achieved_hardness
        dropped = dropped.and_also(dropped_there)
    plan = TripletPlan(
        anchor=anchor_K,
        positive=bank.positive_K,
        negative=negative_K,
        hardness=hardness_K.astype(np.float32),
        achieved_hardness=achieved_K,
        anchor_positive_distance=positive_distance_K,
        anchor_negative_distance=exact_distance(x_MD[anchor_K], x_MD[negative_K]),
        positive_origin=np.zeros(len(anchor_K), np.uint8) if bank.origin_K is None else bank.origin_K,
        header=header | {"num_false_negatives": len(dropped.anchor_R), "num_alone": len(alone)},
    )
    order_K = np.fromiter(itertools.chain.from_iterable(cliques), dtype=np.int64, count=len(anchor_K))
    return plan.take(order_K), dropped


def _found_by(bank: SegmentBank) -> NDArray[np.int64]:
    """Return for each triplet its anchor, or else its positive, if that may be a negative; −1 if neither may."""
    if bank.candidates is None:
        return bank.anchor_K
    may_be_M = np.zeros(len(bank.x_MD), dtype=bool)
    may_be_M[bank.candidates] = True
    by_positive_K = np.where(may_be_M[bank.positive_K], bank.positive_K, -1)
    return np.where(may_be_M[bank.anchor_K], bank.anchor_K, by_positive_K)
