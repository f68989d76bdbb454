"""The inner loops over one tile of products between two parts of the bank: every pair serves both of its items.

All items are anchors and candidates at once, in the order of the tiles. A search has a sign: +1 for the nearest, −1 for
the farthest. The *excess* of a pair is sign·key − low, where `low` is the anchor's threshold less the error of a key:
only an excess between 0 and the anchor's limit can matter, and the limit falls as better items are found. As in
`kernels.py`, keys only filter; what passes is decided by exact distances, ties by item index.

An anchor's row of `static_N3` is (low, sure, error): from an excess of `sure` on, the threshold holds whatever the
rounding. Its row of `exact_N2` is (tau, zero): the threshold as a distance, and a distance d has the key
square·d² − zero.
"""

from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from mohs.mining.kernels import Array, Scalar, compiled, exact_distance_of

__all__ = ["NO_LIMIT", "Search", "search_tile", "try_pairs"]

NO_LIMIT = np.float32(1e38)
_NONE = np.uint32(0x7F000000)  # the bits of 1.7e38, beyond any limit
_PIECE = 128
_ROUND_UP = np.float32(1 + 2.0**-22)


@final
class Search(NamedTuple):
    """What is sought for each of N anchors, and the best of it so far: a tuple, since kernels take it as it is.

    Attributes:
        sign: 1 or −1.
        square: of the frame.
        static_N3, exact_N2: see above.
        limit_N: how far beyond `low` a key may be and still matter, float32.
        found_N: the items, −1 for none.
        distance_N: how far they are, float32.
    """

    sign: np.float32
    square: float
    static_N3: NDArray[np.float32]
    exact_N2: NDArray[np.float64]
    limit_N: Array
    found_N: NDArray[np.int64]
    distance_N: NDArray[np.float32]

    def part(self, anchors: slice) -> "Search":
        """Return the search of these anchors, which writes to this one."""
        return Search(
            self.sign, self.square, self.static_N3[anchors], self.exact_N2[anchors], self.limit_N[anchors],
            self.found_N[anchors], self.distance_N[anchors],
        )  # fmt: skip


@compiled()
def search_tile(
    product_RC: Array,
    first_row: Scalar,
    first_column: Scalar,
    half_norm_N: Array,
    own_N2: Array,
    search: Search,
    bank_ND: Array,
    item_N: Array,
) -> None:
    """Search one tile for its row items and, off the diagonal, for its column items; update limits and finds."""
    sign, static_N3, limit_N = search.sign, search.static_N3, search.limit_N
    num_rows, num_columns = product_RC.shape
    half_C = half_norm_N[first_column : first_column + num_columns]
    low_C = np.ascontiguousarray(static_N3[first_column : first_column + num_columns, 0])
    if own_N2[first_row + num_rows - 1, 1] > first_column:
        _exclude_own(product_RC, first_row, first_column, sign, own_N2)

    # The least excess in reach: for each row, and for each column by pieces of rows.
    low_R, half_R = np.empty(num_rows, np.float32), half_norm_N[first_row : first_row + num_rows]
    for r in range(num_rows):
        low_R[r] = static_N3[first_row + r, 0]
    row_least_R = np.full(num_rows, _NONE)
    column_least_KC = np.full((-(-num_rows // _PIECE), num_columns), _NONE)
    _least(product_RC, half_R, half_C, low_R, low_C, sign, row_least_R, column_least_KC)

    for r in range(num_rows):
        n = first_row + r
        if _tighten(row_least_R[r], n, static_N3, limit_N):
            for c in range(num_columns):
                excess = sign * (half_C[c] - product_RC[r, c]) - static_N3[n, 0]
                if np.float32(0.0) <= excess <= limit_N[n]:
                    _try(n, first_column + c, search, bank_ND, item_N)
    if first_row == first_column:
        return
    least_C = np.full(num_columns, _NONE)
    for k in range(column_least_KC.shape[0]):
        for c in range(num_columns):
            least_C[c] = min(least_C[c], column_least_KC[k, c])
    for c in range(num_columns):
        n = first_column + c
        if _tighten(least_C[c], n, static_N3, limit_N):
            for k in range(column_least_KC.shape[0]):
                if _as_float(column_least_KC[k, c]) <= limit_N[n]:
                    for r in range(k * _PIECE, min((k + 1) * _PIECE, num_rows)):
                        excess = sign * (half_norm_N[first_row + r] - product_RC[r, c]) - static_N3[n, 0]
                        if np.float32(0.0) <= excess <= limit_N[n]:
                            _try(n, first_row + r, search, bank_ND, item_N)


@compiled()
def try_pairs(pair_P2: Array, search: Search, bank_ND: Array, item_N: Array) -> None:
    """Try each pair (anchor, other), one way only; update limits and finds."""
    for p in range(pair_P2.shape[0]):
        _try(pair_P2[p, 0], pair_P2[p, 1], search, bank_ND, item_N)


@compiled()
def _tighten(least_bits: Scalar, n: Scalar, static_N3: Array, limit_N: Array) -> Scalar:
    """Lower the limit of anchor n to what the least excess allows; return whether anything is left within it."""
    least = _as_float(least_bits)
    if not least <= limit_N[n]:
        return False
    if least >= static_N3[n, 1]:
        limit_N[n] = min(limit_N[n], (least + np.float32(2.0) * static_N3[n, 2]) * _ROUND_UP)
    return True


@compiled()
def _as_float(bits: Scalar) -> Scalar:
    return np.uint32(bits).view(np.float32)


@compiled()
def _exclude_own(product_RC: Array, first_row: Scalar, first_column: Scalar, sign: Scalar, own_N2: Array) -> None:
    """Move pairs of one class out of reach of any limit."""
    for r in range(product_RC.shape[0]):
        start = max(own_N2[first_row + r, 0] - first_column, 0)
        stop = min(own_N2[first_row + r, 1] - first_column, product_RC.shape[1])
        for c in range(start, stop):
            product_RC[r, c] = -sign * np.float32(np.inf)


@compiled(fastmath={"contract"})
def _least(
    product_RC: Array,
    half_R: Array,
    half_C: Array,
    low_R: Array,
    low_C: Array,
    sign: Scalar,
    row_least_R: Array,
    column_least_KC: Array,
) -> None:
    """Lower each row's and each column's least excess ≥ 0, as bits; four rows at a time, to read columns less often."""
    num_rows = product_RC.shape[0]
    for r in range(0, num_rows - 3, 4):
        product0, product1, product2, product3 = product_RC[r], product_RC[r + 1], product_RC[r + 2], product_RC[r + 3]
        half0, half1, half2, half3 = half_R[r], half_R[r + 1], half_R[r + 2], half_R[r + 3]
        low0, low1, low2, low3 = low_R[r], low_R[r + 1], low_R[r + 2], low_R[r + 3]
        least0, least1, least2, least3 = _NONE, _NONE, _NONE, _NONE
        least_C = column_least_KC[r // _PIECE]
        for c in range(product0.size):
            half, low = half_C[c], low_C[c]
            first = min(_excess(half0, product0[c], sign, low), _excess(half1, product1[c], sign, low))
            second = min(_excess(half2, product2[c], sign, low), _excess(half3, product3[c], sign, low))
            least_C[c] = min(least_C[c], min(first, second))
            least0 = min(least0, _excess(half, product0[c], sign, low0))
            least1 = min(least1, _excess(half, product1[c], sign, low1))
            least2 = min(least2, _excess(half, product2[c], sign, low2))
            least3 = min(least3, _excess(half, product3[c], sign, low3))
        row_least_R[r], row_least_R[r + 1], row_least_R[r + 2], row_least_R[r + 3] = least0, least1, least2, least3
    for r in range(num_rows // 4 * 4, num_rows):
        for c in range(product_RC.shape[1]):
            row_least_R[r] = min(row_least_R[r], _excess(half_C[c], product_RC[r, c], sign, low_R[r]))
            column_least_KC[r // _PIECE, c] = min(
                column_least_KC[r // _PIECE, c], _excess(half_R[r], product_RC[r, c], sign, low_C[c])
            )


@compiled(fastmath={"contract"})
def _excess(half: Scalar, product: Scalar, sign: Scalar, low: Scalar) -> Scalar:
    """Return the bits of the excess: as unsigned integers they order what is ≥ 0, and what is below 0 comes last."""
    return np.float32(sign * (half - product) - low).view(np.uint32)


@compiled()
def _try(n: Scalar, other: Scalar, search: Search, bank_ND: Array, item_N: Array) -> None:
    """Decide by the exact distance whether `other` is a better find for anchor n."""
    sign, square, static_N3, exact_N2, limit_N, found_N, distance_N = search
    tau, zero = exact_N2[n]
    item = item_N[other]
    distance = exact_distance_of(bank_ND, item_N[n], item)
    if np.float64(distance) < tau:
        return
    signed, best = sign * distance, sign * distance_N[n]
    if found_N[n] < 0 or signed < best or (signed == best and item < found_N[n]):
        found_N[n], distance_N[n] = item, distance
        low, error = np.float64(static_N3[n, 0]), np.float64(static_N3[n, 2])
        bound = sign * (square * np.float64(distance) * np.float64(distance) - zero) + error - low
        # A limit may be below 0 by rounding only; what has just been found keeps it at 0 or above.
        limit_N[n] = min(limit_N[n], max(np.float32(bound), np.float32(0.0)) * _ROUND_UP)
