"""Anchors shared among processes: each mines every n-th of them against the whole bank, and all have all of it.

Short, and a file of its own, since exact and sampled mining both go by it.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from mohs.mining.problem import Float32, Float64, Index, MiningProblem
from mohs.peers import Peers, exchange_rows

__all__ = ["Found", "mine_by_anchor"]

Found: TypeAlias = tuple[Index, Float32, Float64]
"""Negatives, their distances and achieved hardness, [T, K] each."""


def mine_by_anchor(
    problem: MiningProblem,
    positive_distance_T: Float32,
    peers: Peers,
    work: Callable[[MiningProblem, Float32], Found],
) -> Found:
    """Return what `work` finds for all anchors, each process having done its own; as if one had done all.

    Exact mining decides for each anchor by itself, so who mines it changes nothing. Neighbours in the plan, which ask
    for about the same hardness, go to different processes: they take about the same time.
    """
    if peers.num_ranks == 1:
        return work(problem, positive_distance_T)
    shape = len(problem.anchors_T), problem.num_wanted
    negative_TK, distance_TK, achieved_TK = np.empty(shape, np.int64), np.empty(shape, np.float32), np.empty(shape)
    own_R = np.arange(peers.rank, shape[0], peers.num_ranks)
    if own_R.size:
        found = work(problem.part(own_R), positive_distance_T[own_R])
        negative_TK[own_R], distance_TK[own_R], achieved_TK[own_R] = found
    exchange_rows(peers, own_R, negative_TK, distance_TK, achieved_TK)
    return negative_TK, distance_TK, achieved_TK
