"""Grids: where a query has many limits, keys are counted in the cells of an equidistant grid between them.

A cell that no limit may lie in is *sure*: all its keys are within the same limits, and counting them is enough. Keys in
other cells, and only those, are looked at one by one.
"""

from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from mohs.mining.kernels import Array, Scalar, compiled

__all__ = ["Grids", "Limits", "count_in_grid", "grid_counts", "make_grids"]

_GRID_PIECE = 64


@final
class Limits(NamedTuple):
    """Limits of row r, ascending, from `start_R1[r]` on: one for each relevant item.

    Up to `low_T` a key is surely within, beyond `high_T` surely not; between, the square says so, up to `limit_T`.
    `count_T`: for rows without a grid, irrelevant items within each limit; for others, those counted one by one that
    are within this limit and no smaller one.
    """

    start_R1: NDArray[np.int64]
    low_T: NDArray[np.float32]
    high_T: NDArray[np.float32]
    limit_T: NDArray[np.float64]
    count_T: NDArray[np.int64]


@final
class Grids(NamedTuple):
    """Grid `grid_R[r]` of row r, −1 for none; it has a cell less than `first_GK` has columns.

    A key lies in cell (key − base)·scale, cut to the grid, with (base, scale) = `line_G2`. Limits before `first_GK` lie
    in lower cells, so that keys of this cell are beyond them. In cells of `unsure_GK` some limit may lie. `count_GK`
    are keys in each cell.
    """

    grid_R: NDArray[np.int64]
    line_G2: NDArray[np.float32]
    first_GK: NDArray[np.int32]
    unsure_GK: NDArray[np.uint8]
    count_GK: NDArray[np.uint32]


@compiled()
def make_grids(limits: Limits, grids: Grids) -> None:
    """Write the grid of each row that has one."""
    start_R1, low_T, high_T, _, _ = limits
    grid_R, line_G2, first_GK, unsure_GK, _ = grids
    num_cells = first_GK.shape[1] - 1
    for r in range(grid_R.size):
        g = grid_R[r]
        if g < 0:
            continue
        low, high = low_T[start_R1[r] : start_R1[r + 1]], high_T[start_R1[r] : start_R1[r + 1]]
        step = max(high[-1] - low[0], np.float32(1e-30)) / np.float32(num_cells - 8)
        # The first limit is not in the cell of all that is nearer.
        base, scale = low[0] - np.float32(2.0) * step, np.float32(1.0) / step
        line_G2[g, 0], line_G2[g, 1] = base, scale
        first_K, inside_K = first_GK[g], np.zeros(num_cells + 1, np.int32)
        first_K[:] = 0
        for i in range(low.size):
            after = _cell(high[i], base, scale, num_cells) + 1
            inside_K[_cell(low[i], base, scale, num_cells)] += 1
            inside_K[after] -= 1
            first_K[after] += 1
        for k in range(1, num_cells + 1):
            first_K[k] += first_K[k - 1]
            inside_K[k] += inside_K[k - 1]
        for k in range(num_cells):
            unsure_GK[g, k] = inside_K[k] > 0


@compiled()
def _cell(key: Scalar, base: Scalar, scale: Scalar, num_cells: Scalar) -> Scalar:
    return np.int32(min(max((key - base) * scale, np.float32(0.0)), np.float32(num_cells - 1)))


@compiled()
def count_in_grid(
    key_C: Array, last: Scalar, base: Scalar, scale: Scalar, unsure_K: Array, count_K: Array, cell_C: Array,
    unsure_C: Array,
) -> Scalar:  # fmt: skip
    """Count keys in their cells; write the places of those in unsure cells, and return how many these are.

    Keys beyond `last` are beyond all limits; whether they are counted does not matter.
    """
    num_near = np.int32(0)
    for c in range(key_C.size):
        num_near = np.int32(num_near + np.int32(key_C[c] <= last))
    if num_near == 0:
        return 0
    _cells(key_C, base, scale, np.int32(unsure_K.size), cell_C)
    n = np.uintp(0)
    if 8 * num_near > key_C.size:
        for c in range(key_C.size):
            k = cell_C[c]
            count_K[k] += np.uint32(1)
            unsure_C[n] = c  # stays if it counts
            n += np.uintp(unsure_K[k])
        return np.int64(n)
    # Few: most keys would be counted in the last cell, one after the other.
    for start in range(0, key_C.size, _GRID_PIECE):
        piece = key_C[start : start + _GRID_PIECE]
        num_near = np.int32(0)
        for j in range(piece.size):
            num_near = np.int32(num_near + np.int32(piece[j] <= last))
        if num_near > 0:
            for j in range(piece.size):
                if piece[j] <= last:
                    k = cell_C[start + j]
                    count_K[k] += np.uint32(1)
                    unsure_C[n] = start + j
                    n += np.uintp(unsure_K[k])
    return np.int64(n)


@compiled(fastmath={"nnan", "nsz"})
def _cells(key_C: Array, base: Scalar, scale: Scalar, num_cells: Scalar, cell_C: Array) -> None:
    for c in range(key_C.size):
        cell_C[c] = np.uint16(_cell(key_C[c], base, scale, num_cells))


@compiled()
def grid_counts(first_K: Array, unsure_K: Array, count_K: Array, count_i: Array) -> None:
    """Add the counts of sure cells to the first limit that their keys are within."""
    for k in range(unsure_K.size):
        if not unsure_K[k] and first_K[k] < count_i.size:
            count_i[first_K[k]] += np.int64(count_K[k])
