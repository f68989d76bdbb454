"""The inner loops of ranking: squared distances of relevant items, and how many others lie within each of them.

What travels together is a tuple, since kernels take it as it is. Queries with many limits count by grids
(`rank_grids.py`).
"""

from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from mohs.evaluation.rank_grids import Grids, Limits, count_in_grid, grid_counts
from mohs.mining.kernels import Array, Scalar, compiled

__all__ = [
    "SHORT",
    "Columns",
    "NearestWrong",
    "Queries",
    "RankSums",
    "count_tile",
    "relevant_squares",
    "sort_short",
    "sum_up",
]

SHORT = 48
"""Up to so many relevant items are sorted here; numpy sorts longer lists faster."""

_PIECE = 64
_NO_KEY = np.int32(0x7F000000)  # the bits of 1.7e38, beyond any key


@final
class Queries(NamedTuple):
    """Queries of R rows: row r is `query_QD[query_R[r]]`.

    Its relevant items are among the columns `own_R2[r]`, from and to; `self_R` is its own column, and `group_R` its
    group, −1 for none: neither is ranked.
    """

    query_QD: NDArray[np.float32]
    query_R: NDArray[np.int64]
    own_R2: NDArray[np.int64]
    self_R: NDArray[np.int64]
    group_R: NDArray[np.int64]


@final
class Columns(NamedTuple):
    """The M items that are ranked, in class order; group g has columns `column_E[start_G1[g] : start_G1[g + 1]]`."""

    gallery_MD: NDArray[np.float32]
    class_M: NDArray[np.int64]
    half_norm_M: NDArray[np.float32]
    start_G1: NDArray[np.int64]
    column_E: NDArray[np.int64]


@final
class NearestWrong(NamedTuple):
    """The nearest irrelevant item so far, ties by column; no key above `bound_R` can be it, with an error of a key."""

    error_R: NDArray[np.float32]
    bound_R: NDArray[np.float32]
    square_R: NDArray[np.float64]
    column_R: NDArray[np.int64]


@final
class RankSums(NamedTuple):
    """What each query's ranks come to; `hits_RK` are relevant items of ranks up to each k."""

    first_rank_R: NDArray[np.int64]
    average_precision_R: NDArray[np.float64]
    map_at_r_R: NDArray[np.float64]
    r_precision_R: NDArray[np.float64]
    hits_RK: NDArray[np.int64]


@compiled(fastmath={"reassoc", "contract"})
def exact_square(a_D: Array, b_D: Array) -> Scalar:
    """Squared distance of two rows, float64."""
    total = 0.0
    for k in range(a_D.size):
        difference = np.float64(a_D[k]) - np.float64(b_D[k])
        total += difference * difference
    return total


@compiled()
def relevant_squares(queries: Queries, columns: Columns, start_R1: Array, square_T: Array) -> None:
    """Write the squared distances of each query to its relevant items, those of row r from `start_R1[r]` on."""
    query_QD, query_R, own_R2, self_R, group_R = queries
    gallery_MD, _, _, start_G1, column_E = columns
    for r in range(query_R.size):
        t, e, end = start_R1[r], 0, 0
        if group_R[r] >= 0:
            end = start_G1[group_R[r] + 1]
            e = _first_from(column_E, own_R2[r, 0], start_G1[group_R[r]], end)
        for column in range(own_R2[r, 0], own_R2[r, 1]):
            if e < end and column_E[e] == column:
                e += 1
            elif column != self_R[r]:
                square_T[t] = exact_square(query_QD[query_R[r]], gallery_MD[column])
                t += 1


@compiled()
def sort_short(start_R1: Array, square_T: Array) -> None:
    """Sort each row's squares where there are at most `SHORT`."""
    for r in range(start_R1.size - 1):
        start, stop = start_R1[r], start_R1[r + 1]
        if stop - start > SHORT:
            continue
        for t in range(start + 1, stop):
            value, at = square_T[t], t
            while at > start and square_T[at - 1] > value:
                square_T[at] = square_T[at - 1]
                at -= 1
            square_T[at] = value


@compiled()
def count_tile(
    product_RC: Array,
    first: Scalar,
    queries: Queries,
    columns: Columns,
    limits: Limits,
    grids: Grids,
    classes_R2: Array,
    wrong: NearestWrong,
) -> None:
    """Count one tile of products, those of the gallery's columns from `first` on, for each row.

    `classes_R2`: classes with an item within the first limit, and the last such class.
    """
    query_QD, query_R, own_R2, self_R, group_R = queries
    gallery_MD, class_M, half_norm_M, start_G1, column_E = columns
    start_R1, low_T, high_T, limit_T, count_T = limits
    grid_R, line_G2, first_GK, unsure_GK, count_GK = grids
    bound_R = wrong.bound_R
    num_columns = product_RC.shape[1]
    half_C = half_norm_M[first : first + num_columns]
    key_C, cell_C = np.empty(num_columns, np.float32), np.empty(num_columns, np.uint16)
    near_C = np.empty(num_columns + 1, np.uint16)
    for r in range(product_RC.shape[0]):
        product_C = product_RC[r]
        for column in range(max(own_R2[r, 0], first), min(own_R2[r, 1], first + num_columns)):
            product_C[column - first] = -np.inf
        if first <= self_R[r] < first + num_columns:
            product_C[self_R[r] - first] = -np.inf
        if group_R[r] >= 0:
            end = start_G1[group_R[r] + 1]
            for e in range(_first_from(column_E, first, start_G1[group_R[r]], end), end):
                if column_E[e] >= first + num_columns:
                    break
                product_C[column_E[e] - first] = -np.inf
        least = _keys(product_C, half_C, key_C)
        query_D = query_QD[query_R[r]]
        if least <= bound_R[r]:
            _find_nearest(key_C, least, first, r, query_D, gallery_MD, wrong)
        start, stop = start_R1[r], start_R1[r + 1]
        if stop == start or least > high_T[stop - 1]:
            continue
        num_first = 0
        if least <= high_T[start]:
            num_first = _count_classes(
                key_C, near_C, first, low_T[start], high_T[start], limit_T[start], query_D, gallery_MD,
                class_M, classes_R2[r],
            )  # fmt: skip
        g = grid_R[r]
        if g >= 0:
            num_unsure = count_in_grid(
                key_C, high_T[stop - 1], line_G2[g, 0], line_G2[g, 1], unsure_GK[g], count_GK[g], cell_C, near_C
            )
            for j in range(num_unsure):
                c = near_C[j]
                k = cell_C[c]
                t = start + first_GK[g, k]
                t = _first_from(high_T, key_C[c], t, start + first_GK[g, k + 1])
                if t < stop and key_C[c] > low_T[t]:
                    t = _first_from(limit_T, exact_square(query_D, gallery_MD[first + c]), t, stop)
                if t < stop:
                    count_T[t] += 1
            continue
        count_T[start] += num_first
        for t in range(stop - 1, start, -1):
            if least > high_T[t]:
                break
            count_T[t] += _count_within(
                key_C, first, low_T[t], high_T[t], limit_T[t], query_D, gallery_MD
            )  # fmt: skip


@compiled(fastmath={"contract"})
def _keys(product_C: Array, half_C: Array, key_C: Array) -> Scalar:
    """Write the keys; return the least."""
    # As integers, so that the minimum is vector code: those below 0 are turned round.
    least = _NO_KEY
    for c in range(product_C.size):
        key = np.float32(half_C[c] - product_C[c])
        key_C[c] = key
        bits = key.view(np.int32)
        least = min(least, np.int32(bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF))))
    return np.int32(least ^ ((least >> np.int32(31)) & np.int32(0x7FFFFFFF))).view(np.float32)


@compiled()
def _find_nearest(
    key_C: Array, least: Scalar, first: Scalar, r: Scalar, query_D: Array, gallery_MD: Array, wrong: NearestWrong
) -> None:
    """Look for a nearer irrelevant item among keys up to the row's bound; lower the bound."""
    error_R, bound_R, wrong_square_R, wrong_column_R = wrong
    reach = np.float32(2.0) * error_R[r]
    bound = min(bound_R[r], least + reach + (abs(least) + reach) * np.float32(2.0**-21))
    for c in range(key_C.size):
        if key_C[c] <= bound:
            square = exact_square(query_D, gallery_MD[first + c])
            if square < wrong_square_R[r]:
                wrong_square_R[r], wrong_column_R[r] = square, first + c
                if square == 0.0:
                    # Nothing is nearer, and ties go to the first.
                    bound = np.float32(-np.inf)
    bound_R[r] = bound


@compiled()
def _near(key_C: Array, high: Scalar, near_C: Array) -> Scalar:
    """Write the places of the keys up to `high`; return how many there are."""
    n = np.uintp(0)
    for start in range(0, key_C.size, _PIECE):
        piece = key_C[start : start + _PIECE]
        num_near = np.int32(0)
        for j in range(piece.size):
            num_near = np.int32(num_near + np.int32(piece[j] <= high))
        if num_near > 0:
            for j in range(piece.size):
                near_C[n] = start + j  # stays if it counts
                n += np.uintp(piece[j] <= high)
    return np.int64(n)


@compiled()
def _count_classes(
    key_C: Array, near_C: Array, first: Scalar, low: Scalar, high: Scalar, limit: Scalar, query_D: Array,
    gallery_MD: Array, class_M: Array, classes_2: Array,
) -> Scalar:  # fmt: skip
    """Return how many items are within the first limit; count their classes too."""
    count, num_classes, last = 0, classes_2[0], classes_2[1]
    for j in range(_near(key_C, high, near_C)):
        column = first + near_C[j]
        if key_C[near_C[j]] > low and exact_square(query_D, gallery_MD[column]) > limit:
            continue
        count += 1
        num_classes += class_M[column] != last
        last = class_M[column]
    classes_2[0], classes_2[1] = num_classes, last
    return count


@compiled()
def _count_within(
    key_C: Array, first: Scalar, low: Scalar, high: Scalar, limit: Scalar, query_D: Array, gallery_MD: Array,
) -> Scalar:  # fmt: skip
    """Return how many items are within a limit."""
    surely, perhaps = np.int32(0), np.int32(0)
    for c in range(key_C.size):
        surely = np.int32(surely + np.int32(key_C[c] <= low))
        perhaps = np.int32(perhaps + np.int32(key_C[c] <= high))
    if perhaps > surely:
        for c in range(key_C.size):
            if low < key_C[c] <= high and exact_square(query_D, gallery_MD[first + c]) <= limit:
                surely += 1
    return np.int64(surely)


@compiled()
def _first_from(value_T: Array, wanted: Scalar, begin: Scalar, end: Scalar) -> Scalar:
    """Return the first place in [begin, end) of an ascending list with a value of at least `wanted`, or `end`."""
    while begin < end:
        middle = (begin + end) // 2
        if value_T[middle] < wanted:
            begin = middle + 1
        else:
            end = middle
    return begin


@compiled()
def sum_up(limits: Limits, grids: Grids, k_K: Array, sums: RankSums) -> None:
    """Turn counts into ranks, in place, and write what each query's ranks come to.

    The rank of the i-th relevant item is i + irrelevant items within its limit. Rows without relevant items are left as
    they are.
    """
    start_R1, _, _, _, count_T = limits
    grid_R, _, first_GK, unsure_GK, count_GK = grids
    first_rank_R, average_precision_R, map_at_r_R, r_precision_R, hits_RK = sums
    for r in range(start_R1.size - 1):
        rank_i = count_T[start_R1[r] : start_R1[r + 1]]
        R = rank_i.size
        if R == 0:
            continue
        if grid_R[r] >= 0:
            g = grid_R[r]
            grid_counts(first_GK[g], unsure_GK[g], count_GK[g], rank_i)
            for i in range(1, R):
                rank_i[i] += rank_i[i - 1]
        precision, precision_within, num_within = 0.0, 0.0, 0
        for i in range(R):
            rank_i[i] += i + 1
            share = (i + 1) / rank_i[i]
            precision += share
            if rank_i[i] <= R:
                precision_within += share
                num_within += 1
        first_rank_R[r] = rank_i[0]
        average_precision_R[r] = precision / R
        map_at_r_R[r] = precision_within / R
        r_precision_R[r] = num_within / R
        for k in range(k_K.size):
            hits_RK[r, k] = np.searchsorted(rank_i, k_K[k], side="right")
