"""Several negatives for an anchor: the ones that follow, by (distance, item index), the one at the wanted hardness."""

import math

import numpy as np
from numpy.typing import NDArray

from mohs.mining import kernels
from mohs.mining.kernels import EXCLUDED, TOP, Array, Block, Scalar, compiled, exact_distance_of
from mohs.mining.problem import MiningProblem

__all__ = ["select_window", "window_of"]


def window_of(
    problem: MiningProblem, block: Block, position_R: NDArray[np.int64], first_R: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the negatives of a block's anchors, int64[R, K], nearest first, given the one at the wanted hardness.

    They are `first_R` and the next farther ones, or the K farthest where fewer than K − 1 are farther. The bins must
    be as the selection of `first_R` left them.
    """
    if problem.num_wanted == 1:
        return first_R[:, None]
    window_RK = np.empty((len(first_R), problem.num_wanted), dtype=np.int64)
    select_window(block, problem.num_negatives_T[position_R], first_R, window_RK)
    return window_RK


@compiled()
def select_window(block: Block, num_negatives_R: Array, first_R: Array, window_RK: Array) -> None:
    """Write for each row the item `first_R` and those that follow it, K in all, or the last K where fewer follow.

    Bins only say who cannot be among them (see `kernels.py`); exact distances order the others.
    """
    bins_RM, anchor_R, _, line_R3, square, mean_R, spread_R, bank_ND, item_M = block
    num_candidates, num_more = bins_RM.shape[1], window_RK.shape[1] - 1
    column_M, distance_M = np.empty(num_candidates, np.int32), np.empty(num_candidates, np.float32)
    low_K = np.empty(-(-num_candidates // kernels._CHUNK), np.uint16)
    for r in range(anchor_R.size):
        bins, anchor, first, slack = bins_RM[r], anchor_R[r], first_R[r], line_R3[r, 0]
        nearest = exact_distance_of(bank_ND, anchor, first)
        value = (square * np.float64(nearest) * np.float64(nearest) - line_R3[r, 1]) * line_R3[r, 2]
        # From `sure` on every item is farther; below `low` none is.
        low = np.int64(min(max(math.floor(value - slack), 0.0), np.float64(TOP)))
        sure = np.int64(min(max(math.floor(value + slack) + 1.0, 1.0), np.float64(EXCLUDED)))
        before = kernels._count_below(bins, sure)
        num_negatives, num_found = num_negatives_R[r], 0
        z = (np.float64(sure) - mean_R[r]) / spread_R[r]
        density = num_negatives * 0.4 * math.exp(-0.5 * z * z) / spread_R[r]
        high = np.int64(TOP)
        if num_negatives - before >= num_more:
            guess = np.float64(sure) + num_more / max(density, 1e-6)
            _, last, _ = kernels._bracket(bins, num_negatives, before + num_more - 1, guess, density)
            high = kernels._above(last, slack)
        n = kernels._columns_within(bins, low, high, low_K, column_M)
        for i in range(n):
            item = item_M[column_M[i]]
            distance = exact_distance_of(bank_ND, anchor, item)
            if distance > nearest or (distance == nearest and item > first):
                column_M[num_found], distance_M[num_found] = column_M[i], distance
                num_found += 1
        if num_found >= num_more:
            window_RK[r, 0] = first
            _write_sorted(column_M[:num_found], distance_M[:num_found], item_M, 0, window_RK[r, 1:])
            continue
        # Too few follow: the window ends with the farthest item.
        rank = num_negatives - window_RK.shape[1]
        start, _, _ = kernels._bracket(bins, num_negatives, rank, value, density)
        n = kernels._columns_within(bins, kernels._below(start, slack), np.int64(TOP), low_K, column_M)
        for i in range(n):
            distance_M[i] = exact_distance_of(bank_ND, anchor, item_M[column_M[i]])
        _write_sorted(column_M[:n], distance_M[:n], item_M, n - window_RK.shape[1], window_RK[r])


@compiled()
def _write_sorted(column_n: Array, distance_n: Array, item_M: Array, skip: Scalar, item_K: Array) -> None:
    """Write items in the order of (distance, item index), from the one of rank `skip` on."""
    item_n = item_M[column_n]
    by_item = np.argsort(item_n, kind="mergesort")
    by_distance = np.argsort(distance_n[by_item], kind="mergesort")
    for k in range(item_K.size):
        item_K[k] = item_n[by_item[by_distance[skip + k]]]
