"""The plan of a segment whose batches are composed: cliques in random order, each triplet with one it is to meet."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mohs.distances import exact_distance
from mohs.plan import TripletPlan
from mohs.randomness import generator
from mohs.settings.config import RunConfig
from mohs.training.cliques import Pairs, find_cliques
from mohs.training.closed_loop import SegmentBank
from mohs.training.false_negatives import Dropped, replace_false_negatives

__all__ = ["compose_batches", "mine_rows"]


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
