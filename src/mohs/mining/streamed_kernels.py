"""The inner loops over a tile of products between some anchors and one piece of a bank that is streamed.

Keys are as in `kernels.py`: half_norm(b) − a·b. Here they are compared as they are, not binned, since no row is ever
whole. They only filter; what is within their error is decided by the exact distance, and ties by the item index: both
in one number, the *code* of an item, (the bits of its float32 distance)·N + item, which orders negatives as the
definition does.

An anchor's own class and what is excluded for it are NaN: no comparison holds for them. `stack_ND` holds float32 rows:
the anchors, those of a block at `place_R`, and the piece, the columns of a tile from `first_column` on. What travels
together is a tuple, since kernels take it as it is.
"""

from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from mohs.mining.kernels import Array, compiled, exact_distance_of
from mohs.mining.sweep_kernels import _NONE, _ROUND_UP, Search, _excess, _tighten

__all__ = ["CodeWindow", "Slots", "Tile", "count_keys", "look_within", "mark_items", "search_tile"]

_CHUNK = 64


@final
class Tile(NamedTuple):
    """Products of some queries and some columns of a piece.

    Attributes:
        product_RC: float32, NaN where an item is of the query's class or excluded.
        half_C: ‖b‖²/2 of the columns.
        item_C: the items of the columns, in ascending order.
        first_column: where these columns begin in the stack.
        stack_ND: rows of the queries, and of the piece.
    """

    product_RC: NDArray[np.float32]
    half_C: NDArray[np.float32]
    item_C: NDArray[np.int64]
    first_column: int
    stack_ND: NDArray[np.float32]


@final
class CodeWindow(NamedTuple):
    """A window of codes for each query.

    Attributes:
        key_R2: no item whose key is below the first is in the window, or above it; none beyond the second is in it, or
            below; float32.
        code_R2: first and last, int64.
        num_items: of the bank, which codes are made with.
    """

    key_R2: NDArray[np.float32]
    code_R2: NDArray[np.int64]
    num_items: int

    def part(self, rows: slice) -> "CodeWindow":
        """Return the windows of these queries."""
        return CodeWindow(self.key_R2[rows], self.code_R2[rows], self.num_items)


@final
class Slots(NamedTuple):
    """Where the codes of a window are written: to `code_S` from the first to the last of `slot_R2`, and how many."""

    slot_R2: NDArray[np.int64]
    code_S: NDArray[np.int64]
    count_R: NDArray[np.int64]


@compiled()
def mark_items(product_RC: Array, item_C: Array, span_R2: Array, item_S: Array) -> None:
    """Make products NaN where the item is among `item_S[span]` of the row, which is in ascending order."""
    first, last, size = item_C[0], item_C[item_C.size - 1], item_C.size
    for r in range(product_RC.shape[0]):
        low, high = span_R2[r, 0], span_R2[r, 1]
        if low == high or item_S[high - 1] < first or item_S[low] > last:
            continue
        at = low + np.searchsorted(item_S[low:high], first)
        while at < high and item_S[at] <= last:
            c = np.searchsorted(item_C, item_S[at])
            if c < size and item_C[c] == item_S[at]:
                product_RC[r, c] = np.nan
            at += 1


@compiled()
def search_tile(tile: Tile, place_R: Array, search: Search) -> None:
    """Search a tile for each row's nearest item at or beyond its threshold, or farthest; see `sweep_kernels.py`."""
    product_RC, half_C, item_C, first_column, stack_ND = tile
    sign, square, static_R3, exact_R2, limit_R, found_R, distance_R = search
    for r in range(product_RC.shape[0]):
        product, low = product_RC[r], static_R3[r, 0]
        least = _NONE
        for c in range(product.size):
            least = min(least, _excess(half_C[c], product[c], sign, low))
        if not _tighten(least, r, static_R3, limit_R):
            continue
        tau, zero, error = exact_R2[r, 0], exact_R2[r, 1], np.float64(static_R3[r, 2])
        for c in range(product.size):
            excess = sign * (half_C[c] - product[c]) - low
            if np.float32(0.0) <= excess <= limit_R[r]:
                distance = exact_distance_of(stack_ND, place_R[r], first_column + c)
                if np.float64(distance) < tau:
                    continue
                item, signed, best = item_C[c], sign * distance, sign * distance_R[r]
                if found_R[r] < 0 or signed < best or (signed == best and item < found_R[r]):
                    found_R[r], distance_R[r] = item, distance
                    bound = sign * (square * np.float64(distance) * np.float64(distance) - zero) + error
                    bound = max(np.float32(bound - np.float64(low)), np.float32(0.0)) * _ROUND_UP
                    limit_R[r] = min(limit_R[r], bound)


@compiled()
def count_keys(product_RC: Array, half_C: Array, line_R3: Array, below_R: Array, cells_RB: Array) -> None:
    """Count keys below a row's start, and in cells of equal width from there to its end (`line_R3`: start, end, step).

    A key k is in the cell ⌊(k − start)·step⌋, or in the last.
    """
    last = cells_RB.shape[1] - 1
    for r in range(product_RC.shape[0]):
        start, end, step = line_R3[r, 0], line_R3[r, 1], line_R3[r, 2]
        row, cells = product_RC[r], cells_RB[r]
        for first in range(0, row.size, _CHUNK):
            product, half = row[first : first + _CHUNK], half_C[first : first + _CHUNK]
            before, within = np.int32(0), np.int32(0)
            for j in range(product.size):
                key = half[j] - product[j]
                before = np.int32(before + np.int32(key < start))
                within = np.int32(within + (np.int32(key >= start) & np.int32(key < end)))
            below_R[r] += before
            if within:
                for j in range(product.size):
                    key = half[j] - product[j]
                    if start <= key < end:
                        cells[max(np.int64(0), min(np.int64((key - start) * step), last))] += np.uint32(1)


@compiled()
def look_within(
    tile: Tile, place_R: Array, window: CodeWindow, below_R: Array, shift_R: Array, cells_RB: Array, slots: Slots
) -> None:
    """Count the codes below a row's window and look at those in it.

    With a shift ≥ 0 codes are counted in cells of 2^shift. With −1 they are written to the row's slot as far as they
    fit, and all are counted.
    """
    product_RC, half_C, item_C, first_column, stack_ND = tile
    key_R2, code_R2, num_items = window
    slot_R2, code_S, count_R = slots
    for r in range(product_RC.shape[0]):
        low, high, first_code, last_code = key_R2[r, 0], key_R2[r, 1], code_R2[r, 0], code_R2[r, 1]
        row, shift = product_RC[r], shift_R[r]
        for first in range(0, row.size, _CHUNK):
            product, half = row[first : first + _CHUNK], half_C[first : first + _CHUNK]
            before, within = np.int32(0), np.int32(0)
            for j in range(product.size):
                key = half[j] - product[j]
                before = np.int32(before + np.int32(key < low))
                within = np.int32(within + (np.int32(key >= low) & np.int32(key <= high)))
            below_R[r] += before
            if not within:
                continue
            for j in range(product.size):
                key = half[j] - product[j]
                if not low <= key <= high:
                    continue
                distance = exact_distance_of(stack_ND, place_R[r], first_column + first + j)
                code = np.int64(np.float32(distance).view(np.uint32)) * num_items + item_C[first + j]
                if code < first_code:
                    below_R[r] += 1
                elif code <= last_code:
                    if shift >= 0:
                        cells_RB[r, (code - first_code) >> shift] += np.uint32(1)
                    else:
                        at = slot_R2[r, 0] + count_R[r]
                        if at < slot_R2[r, 1]:
                            code_S[at] = code
                        count_R[r] += 1
