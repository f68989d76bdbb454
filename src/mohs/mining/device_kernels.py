"""The last word on what a device has filtered: exact distances of the few items left to each anchor.

Windows are given row by row: the columns of row r are `column_n[start_R1[r] : start_R1[r + 1]]`; a row without columns
is left as it is. Each kernel serves the rows `first` … `last` − 1, so that threads can share a block.
"""

import numpy as np

from mohs.mining.kernels import Array, Scalar, compiled, exact_distance_of

__all__ = ["decide_extreme", "decide_nearest", "decide_rank"]


@compiled()
def decide_extreme(
    bank_ND: Array,
    anchor_R: Array,
    item_M: Array,
    start_R1: Array,
    column_n: Array,
    sign: Scalar,
    distance_R: Array,
    first: Scalar,
    last: Scalar,
) -> None:
    """Write the largest sign·distance of each window, unsigned."""
    for r in range(first, last):
        best = -np.inf
        for i in range(start_R1[r], start_R1[r + 1]):
            best = max(best, sign * np.float64(exact_distance_of(bank_ND, anchor_R[r], item_M[column_n[i]])))
        if best > -np.inf:
            distance_R[r] = np.float32(sign * best)


@compiled()
def decide_nearest(
    bank_ND: Array,
    anchor_R: Array,
    item_M: Array,
    start_R1: Array,
    column_n: Array,
    tau_R: Array,
    found_R: Array,
    first: Scalar,
    last: Scalar,
) -> None:
    """Write the nearest item of each window with d ≥ tau, ties by item index."""
    for r in range(first, last):
        best, best_distance = -1, np.float32(np.inf)
        for i in range(start_R1[r], start_R1[r + 1]):
            item = item_M[column_n[i]]
            distance = exact_distance_of(bank_ND, anchor_R[r], item)
            if np.float64(distance) >= tau_R[r] and (
                best < 0 or distance < best_distance or (distance == best_distance and item < best)
            ):
                best, best_distance = item, distance
        if best >= 0:
            found_R[r] = best


@compiled()
def decide_rank(
    bank_ND: Array,
    anchor_R: Array,
    item_M: Array,
    start_R1: Array,
    column_n: Array,
    rank_R: Array,
    found_R: Array,
    first: Scalar,
    last: Scalar,
) -> None:
    """Write the item of a 0-based rank, by (distance, item index), within each window."""
    for r in range(first, last):
        columns = column_n[start_R1[r] : start_R1[r + 1]]
        if not 0 <= rank_R[r] < columns.size:
            continue
        item_n = np.sort(item_M[columns])
        distance_n = np.empty(item_n.size, np.float32)
        for i in range(item_n.size):
            distance_n[i] = exact_distance_of(bank_ND, anchor_R[r], item_n[i])
        # A stable sort keeps items of one distance in the order of their indices.
        found_R[r] = item_n[np.argsort(distance_n, kind="mergesort")[rank_R[r]]]
