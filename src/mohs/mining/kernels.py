"""The inner loops over a block of anchors × candidates, compiled by numba and run without the interpreter's lock.

A *key* of a pair is ‖b‖²/2 − a·b, so that d² = ‖a‖² + 2·key: for one anchor a smaller key is closer. A block holds keys
as *bins*: uint16 steps on a linear scale of the anchor's own, which saturates at both ends. Bins fit the caches twice
as well as float32 and are scanned twice as fast. `TOP` is the last bin; `EXCLUDED` marks the anchor's own class.

Bins carry the rounding of a float32 matrix product and of the binning. `slack` bounds, in bins, how far the value that
was binned may lie from the one that the exact distance implies (see `bank.py`). So bins decide only what is farther
apart than the slack; everything nearer is decided by the exact distance of the original rows, rounded to float32, with
ties by item index. What comes out is the definition, whatever rounded the product.

Inner loops run over short slices (`row[j]`, j from 0) and compare with `if`: that is the form LLVM turns into vector
instructions.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, TypeVar, final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mohs.mining.stored import row_of, value_of

__all__ = [
    "EXCLUDED",
    "TOP",
    "Block",
    "bin_tile",
    "centred_rows",
    "compiled",
    "exact_distance_of",
    "select_nearest",
    "select_range",
    "select_rank",
]

TOP = 65534
EXCLUDED = 65535
_CHUNK = 128
_FEW = 24
_SHORT = 48
_ONE = np.uint16(1)
_NO_BIN = np.uint16(65535)

Array: TypeAlias = NDArray[Any]
Scalar: TypeAlias = Any  # numba infers the machine type
_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(**options: Any) -> Callable[[_Function], _Function]:
    """Compile on first use; keep the machine code on disk where there is a place to keep it."""

    def decorate(function: _Function) -> _Function:
        try:
            return njit(nogil=True, error_model="numpy", cache=True, **options)(function)  # type: ignore[no-any-return]
        except RuntimeError:  # numba found no writable folder for its cache
            return njit(nogil=True, error_model="numpy", **options)(function)  # type: ignore[no-any-return]

    return decorate


@final
class Block(NamedTuple):
    """Bins of R anchors against all M candidates, and what they were made of: a tuple, since kernels take it as it is.

    Attributes:
        bins_RM: uint16; excluded pairs are marked, the own class is left to the kernels.
        anchor_R: item indices.
        own_R2: the columns of the anchor's own class: from, to.
        line_R3: slack, zero and step of each anchor's bins: a distance d lies at (square·d² − zero)·step.
        square: see above.
        mean_R, spread_R: mean and standard deviation of an anchor's bins, expected.
        bank_ND: the embeddings, as they are stored.
        item_M: the items of the columns.
    """

    bins_RM: NDArray[np.uint16]
    anchor_R: NDArray[np.int64]
    own_R2: NDArray[np.int64]
    line_R3: NDArray[np.float64]
    square: float
    mean_R: NDArray[np.float64]
    spread_R: NDArray[np.float64]
    bank_ND: Array
    item_M: NDArray[np.int64]


@compiled(fastmath={"nnan", "nsz"})
def bin_tile(
    product_RC: Array, half_norm_C: Array, scale_R: Array, offset_R: Array, bins_RM: Array, first: int
) -> None:
    """Write the bins of one tile of products a·b into columns `first` … of the block."""
    width = half_norm_C.size
    for r in range(product_RC.shape[0]):
        scale, offset = scale_R[r], offset_R[r]
        product, bins = product_RC[r, :width], bins_RM[r, first : first + width]
        for c in range(width):
            value = (half_norm_C[c] - product[c]) * scale + offset
            value = min(max(value, np.float32(0.0)), np.float32(TOP))
            bins[c] = np.uint16(np.int32(value))


@compiled()
def centred_rows(bank_ND: Array, item_C: Array, shift_D: Array, unit: Scalar, row_CD: Array) -> None:
    """Write (embedding − shift)·unit of the items."""
    for c in range(item_C.size):
        stored, row = row_of(bank_ND, item_C[c]), row_CD[c]
        for k in range(row.size):
            row[k] = (value_of(bank_ND, stored[k]) - shift_D[k]) * unit


@compiled()
def select_range(block: Block, hardness_R: Array, found_R: Array, extreme_R2: Array) -> None:
    """Write the nearest item with d ≥ dmax − h·(dmax − dmin), and (dmin, dmax)."""
    bins_RM, anchor_R, own_R2, line_R3, square, _, _, bank_ND, item_M = block
    num_chunks = -(-bins_RM.shape[1] // _CHUNK)
    low_K, high_K = np.empty(num_chunks, np.uint16), np.empty(num_chunks, np.uint16)
    for r in range(anchor_R.size):
        bins, anchor, slack = bins_RM[r], anchor_R[r], line_R3[r, 0]
        bins[own_R2[r, 0] : own_R2[r, 1]] = EXCLUDED
        _chunk_extremes(bins, low_K, high_K)
        lowest, highest = np.int64(low_K.min()), np.int64(high_K.max()) - 1
        dmin = _extreme(bins, low_K, lowest, _above(lowest, slack), -1.0, bank_ND, anchor, item_M)
        high_K -= _ONE
        dmax = _extreme(bins, high_K, _below(highest, slack), highest, 1.0, bank_ND, anchor, item_M)
        extreme_R2[r, 0], extreme_R2[r, 1] = dmin, dmax
        easiest = np.float64(dmax)
        tau = min(easiest - hardness_R[r] * (easiest - np.float64(dmin)), easiest)
        value = (square * tau * tau - line_R3[r, 1]) * line_R3[r, 2]
        found_R[r] = _nearest_at_least(bins, tau, value, slack, low_K, bank_ND, anchor, item_M)


@compiled()
def select_nearest(block: Block, tau_R: Array, found_R: Array) -> None:
    """Write the nearest item with d ≥ min(tau, dmax): the farthest where none reaches the threshold."""
    bins_RM, anchor_R, own_R2, line_R3, square, _, _, bank_ND, item_M = block
    num_chunks = -(-bins_RM.shape[1] // _CHUNK)
    low_K, high_K = np.empty(num_chunks, np.uint16), np.empty(num_chunks, np.uint16)
    for r in range(anchor_R.size):
        bins, anchor, slack, tau = bins_RM[r], anchor_R[r], line_R3[r, 0], tau_R[r]
        bins[own_R2[r, 0] : own_R2[r, 1]] = EXCLUDED
        value = (square * tau * tau - line_R3[r, 1]) * line_R3[r, 2]
        found_R[r] = _nearest_at_least(bins, tau, value, slack, low_K, bank_ND, anchor, item_M)
        if found_R[r] < 0:
            _chunk_extremes(bins, low_K, high_K)
            highest = np.int64(high_K.max()) - 1
            high_K -= _ONE
            tau = np.float64(_extreme(bins, high_K, _below(highest, slack), highest, 1.0, bank_ND, anchor, item_M))
            value = (square * tau * tau - line_R3[r, 1]) * line_R3[r, 2]
            found_R[r] = _nearest_at_least(bins, tau, value, slack, low_K, bank_ND, anchor, item_M)


@compiled()
def select_rank(block: Block, rank_R: Array, guess_R: Array, density_R: Array, found_R: Array) -> None:
    """Write the item of a 0-based rank by (distance, item index).

    `guess_R` is the bin in which the rank is expected, `density_R` the number of items in a bin there.
    """
    bins_RM, anchor_R, own_R2, line_R3, _, _, _, bank_ND, item_M = block
    num_candidates = bins_RM.shape[1]
    column_M, distance_M = np.empty(num_candidates, np.int32), np.empty(num_candidates, np.float32)
    low_K = np.empty(-(-num_candidates // _CHUNK), np.uint16)
    for r in range(anchor_R.size):
        bins, rank, slack = bins_RM[r], rank_R[r], line_R3[r, 0]
        start, stop = own_R2[r, 0], own_R2[r, 1]
        bins[start:stop] = EXCLUDED
        low, high, before = _bracket(bins, num_candidates - (stop - start), rank, guess_R[r], density_R[r])
        n = _columns_within(bins, _below(low, slack), _above(high, slack), low_K, column_M)
        for i in range(n):
            before -= bins[column_M[i]] < low
        # Within the window, the bin of the wanted rank leaves a narrower one, whose exact distances decide.
        wanted = np.int64(_partitioned(bins, column_M, n, rank - before))
        narrow_low, narrow_high = _below(wanted, slack), _above(wanted, slack)
        m = 0
        for i in range(n):
            column = column_M[i]
            value = np.int64(bins[column])
            if value < narrow_low:
                before += 1
            elif value <= narrow_high:
                distance_M[m] = exact_distance_of(bank_ND, anchor_R[r], item_M[column])
                column_M[m] = column
                m += 1
        found_R[r] = _item_of_rank(distance_M, column_M, m, rank - before, item_M)


@compiled(fastmath={"reassoc", "contract"})
def exact_distance_of(bank_ND: Array, a: Scalar, b: Scalar) -> Scalar:
    """Distance of two rows: float64 inside, rounded to float32 once."""
    row_a, row_b = row_of(bank_ND, a), row_of(bank_ND, b)
    total = 0.0
    for k in range(row_a.size):
        difference = np.float64(value_of(bank_ND, row_a[k])) - np.float64(value_of(bank_ND, row_b[k]))
        total += difference * difference
    return np.float32(math.sqrt(total))


@compiled()
def _below(value: Scalar, slack: Scalar) -> Scalar:
    """Lowest bin that an item may be in if its exact value may tie with, or precede, one binned at `value`."""
    return np.int64(max(math.floor(np.float64(value) - 2.0 * slack), 0.0))


@compiled()
def _above(value: Scalar, slack: Scalar) -> Scalar:
    """Highest bin that an item may be in if its exact value may tie with, or follow, one binned at `value`."""
    return np.int64(min(math.floor(np.float64(value) + 1.0 + 2.0 * slack), np.float64(TOP)))


@compiled()
def _chunk_extremes(bins: Array, low_K: Array, high_K: Array) -> None:
    """Write the smallest bin of each chunk, and one more than the largest (0 if all are excluded)."""
    for k in range(low_K.size):
        chunk = bins[k * _CHUNK : (k + 1) * _CHUNK]
        low, high = _NO_BIN, np.uint16(0)
        for j in range(chunk.size):
            value = chunk[j]
            if value < low:
                low = value
            following = np.uint16(value + _ONE)  # EXCLUDED wraps round to 0
            if following > high:
                high = following
        low_K[k], high_K[k] = low, high


@compiled()
def _extreme(
    bins: Array, chunk_K: Array, low: Scalar, high: Scalar, sign: Scalar, bank_ND: Array, anchor: Scalar, item_M: Array
) -> Scalar:
    """Return the largest sign·distance, unsigned, among the bins low … high, given an extreme bin of each chunk."""
    best = -np.inf
    for k in range(chunk_K.size):
        if low <= chunk_K[k] <= high:
            for j in range(k * _CHUNK, min((k + 1) * _CHUNK, bins.size)):
                if low <= bins[j] <= high:
                    best = max(best, sign * np.float64(exact_distance_of(bank_ND, anchor, item_M[j])))
    return np.float32(sign * best)


@compiled()
def _nearest_at_least(
    bins: Array, tau: Scalar, value: Scalar, slack: Scalar, low_K: Array, bank_ND: Array, anchor: Scalar, item_M: Array
) -> Scalar:
    """Return the nearest item with distance ≥ tau, which lies at `value`, ties by item index; −1 if there is none."""
    low, sure = np.int64(0), np.int64(0)
    if tau > 0.0:
        low = np.int64(min(max(math.floor(value - slack), 0.0), np.float64(TOP)))
        # Bin 0 is never sure: what lies below the scale shares it.
        sure = np.int64(min(max(math.floor(value + slack) + 1.0, 1.0), np.float64(EXCLUDED)))
    # With `low` subtracted, whatever is below wraps round and becomes large.
    least = _chunk_minima(bins, np.uint16(low), np.uint16(sure), low_K)
    high = np.int64(TOP)
    if least < EXCLUDED:
        high = _above(least, slack)
    best, best_distance = -1, np.float32(np.inf)
    for k in range(low_K.size):
        if low_K[k] <= high - low:
            for j in range(k * _CHUNK, min((k + 1) * _CHUNK, bins.size)):
                if low <= bins[j] <= high:
                    item = item_M[j]
                    distance = exact_distance_of(bank_ND, anchor, item)
                    if np.float64(distance) >= tau and (
                        best < 0 or distance < best_distance or (distance == best_distance and item < best)
                    ):
                        best, best_distance = item, distance
    return best


@compiled()
def _chunk_minima(bins: Array, low: Scalar, sure: Scalar, low_K: Array) -> Scalar:
    """Write each chunk's smallest bin − low among bins ≥ low; return the smallest bin ≥ sure, or EXCLUDED."""
    smallest = _NO_BIN
    for k in range(low_K.size):
        chunk = bins[k * _CHUNK : (k + 1) * _CHUNK]
        least, least_sure = _NO_BIN, _NO_BIN
        for j in range(chunk.size):
            above = np.uint16(chunk[j] - low)
            if above < least:
                least = above
            above_sure = np.uint16(chunk[j] - sure)
            if above_sure < least_sure:
                least_sure = above_sure
        low_K[k] = least
        if least_sure < smallest:
            smallest = least_sure
    # Below `sure` wraps round to at least 65536 − sure, beyond EXCLUDED − sure.
    return min(np.int64(smallest) + np.int64(sure), np.int64(EXCLUDED))


@compiled()
def _count_below(bins: Array, threshold: Scalar) -> Scalar:
    limit, count = np.uint16(threshold), np.int32(0)
    for j in range(bins.size):
        count = np.int32(count + np.int32(bins[j] < limit))
    return np.int64(count)


@compiled()
def _bracket(
    bins: Array, num_negatives: Scalar, rank: Scalar, guess: Scalar, density: Scalar
) -> tuple[Scalar, Scalar, Scalar]:
    """Return bins low and high, and how many items lie below low.

    By bin, the item of this rank lies in one of low … high, and few others do.
    """
    low, high, below_low, below_high = np.int64(0), np.int64(TOP + 1), np.int64(0), np.int64(num_negatives)
    at = guess
    turn = 0
    while high - low > 1 and below_high - below_low > _FEW:
        threshold = np.int64(min(max(at, np.float64(low + 1)), np.float64(high - 1)))
        below = _count_below(bins, threshold)
        if below <= rank:
            low, below_low = threshold, below
        else:
            high, below_high = threshold, below
        turn += 1
        # Aim a little beyond the wanted rank, so that the next count closes the bracket from the other side.
        if turn <= 6:
            density = max(density, 1e-6)
            miss = np.float64(rank - below)
            beyond = _FEW / 3.0 if miss >= 0 else -_FEW / 3.0
            at = threshold + (miss + beyond) / density
            if low > 0 and high <= TOP:
                density = max(np.float64(below_high - below_low) / (high - low), 1e-6)
        else:
            at = (low + high) // 2
    return low, high - 1, below_low


@compiled()
def _columns_within(bins: Array, low: Scalar, high: Scalar, low_K: Array, column_M: Array) -> Scalar:
    """Write the columns whose bins are low … high, in order; return how many."""
    lowest = np.uint16(low)
    for k in range(low_K.size):
        chunk = bins[k * _CHUNK : (k + 1) * _CHUNK]
        least = _NO_BIN
        for j in range(chunk.size):
            above = np.uint16(chunk[j] - lowest)
            if above < least:
                least = above
        low_K[k] = least
    n = 0
    for k in range(low_K.size):
        if low_K[k] <= high - low:
            for j in range(k * _CHUNK, min((k + 1) * _CHUNK, bins.size)):
                if low <= bins[j] <= high:
                    column_M[n] = j
                    n += 1
    return n


@compiled()
def _partitioned(bins: Array, column_M: Array, n: Scalar, rank: Scalar) -> Scalar:
    """Return the bin of the 0-based rank among the first n columns."""
    value_n = np.empty(n, np.uint16)
    for i in range(n):
        value_n[i] = bins[column_M[i]]
    return np.partition(value_n, rank)[rank]


@compiled()
def _item_of_rank(distance_M: Array, column_M: Array, n: Scalar, rank: Scalar, item_M: Array) -> Scalar:
    """Return the item of the 0-based rank by (distance, item index) among the first n."""
    item_n, distance_n = item_M[column_M[:n]], distance_M[:n]
    if n > _SHORT:
        by_item = np.argsort(item_n, kind="mergesort")
        by_distance = np.argsort(distance_n[by_item], kind="mergesort")
        return item_n[by_item[by_distance[rank]]]
    for i in range(n):
        before = 0
        for j in range(n):
            before += distance_n[j] < distance_n[i] or (distance_n[j] == distance_n[i] and item_n[j] < item_n[i])
        if before == rank:
            return item_n[i]
    return -1
