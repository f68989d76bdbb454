"""The inner loops over one tile of products between two parts of the bank: every pair serves both of its items.

All items are anchors and candidates at once, in the order of the tiles. A search has a sign: +1 for the nearest, −1 for
the farthest. The *excess* of a pair is sign·key − low, where `low` is the anchor's threshold less the error of a key:
only an excess between 0 and the anchor's limit can matter, and the limit falls as better items are found. As in
`kernels.py`, keys only filter; what passes is decided by exact distances, ties by item index.

An anchor's row of `static_N3` is (low, sure, error): from an excess of `sure` on, the threshold holds whatever the
rounding. Its row of `exact_N2` is (tau, zero): the threshold as a distance, and a distance d has the key
square·d² − zero.
"""

import numpy as np

from mohs.mining.kernels import Array, Scalar, compiled, exact_distance_of

__all__ = ["NO_LIMIT", "search_tile"]

NO_LIMIT = np.float32(1e38)
_NONE = np.uint32(0x7F000000)  # the bits of 1.7e38, beyond any limit
_PIECE = 128
_ROUND_UP = np.float32(1 + 2.0**-22)


@compiled()
def search_tile(
    product_RC: Array,
    first_row: Scalar,
    first_column: Scalar,
    sign: Scalar,
    half_norm_N: Array,
    own_N2: Array,
    static_N3: Array,
    exact_N2: Array,
    square: Scalar,
    bank_ND: Array,
    item_N: Array,
    limit_N: Array,
    found_N: Array,
    distance_N: Array,
) -> None:
    """Search one tile for its row items and, off the diagonal, for its column items; update limits and finds."""
    num_rows, num_columns = product_RC.shape
    half_C = half_norm_N[first_column : first_column + num_columns]
    low_C = np.ascontiguousarray(static_N3[first_column : first_column + num_columns, 0])
    if own_N2[first_row + num_rows - 1, 1] > first_column:
        _exclude_own(product_RC, first_row, first_column, sign, own_N2)

    # The least excess in reach, for each row by pieces of columns and for each column by pieces of rows.
    row_least_RK = np.empty((num_rows, -(-num_columns // _PIECE)), np.uint32)
    column_least_KC = np.full((-(-num_rows // _PIECE), num_columns), _NONE)
    for r in range(num_rows):
        low = static_N3[first_row + r, 0]
        for k in range(row_least_RK.shape[1]):
            piece = slice(k * _PIECE, (k + 1) * _PIECE)
            row_least_RK[r, k] = _row_least(product_RC[r, piece], half_C[piece], sign, low)
        if first_row != first_column:
            _column_least(product_RC[r], half_norm_N[first_row + r], sign, low_C, column_least_KC[r // _PIECE])

    for r in range(num_rows):
        n = first_row + r
        least = _NONE
        for k in range(row_least_RK.shape[1]):
            least = min(least, row_least_RK[r, k])
        if _tighten(least, n, static_N3, limit_N):
            for k in range(row_least_RK.shape[1]):
                if _as_float(row_least_RK[r, k]) <= limit_N[n]:
                    for c in range(k * _PIECE, min((k + 1) * _PIECE, num_columns)):
                        excess = sign * (half_C[c] - product_RC[r, c]) - static_N3[n, 0]
                        if np.float32(0.0) <= excess <= limit_N[n]:
                            _try(
                                n, first_column + c, sign, static_N3, exact_N2, square, bank_ND, item_N,
                                limit_N, found_N, distance_N,
                            )  # fmt: skip
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
                            _try(
                                n, first_row + r, sign, static_N3, exact_N2, square, bank_ND, item_N,
                                limit_N, found_N, distance_N,
                            )  # fmt: skip


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
def _row_least(product_C: Array, half_C: Array, sign: Scalar, low: Scalar) -> Scalar:
    """Return the least excess ≥ 0 of a row, as bits."""
    least = _NONE
    for c in range(product_C.size):
        least = min(least, _excess_bits(half_C[c], product_C[c], sign, low))
    return least


@compiled(fastmath={"contract"})
def _column_least(product_C: Array, half: Scalar, sign: Scalar, low_C: Array, least_C: Array) -> None:
    """Lower the least excess ≥ 0 of each column, as bits."""
    for c in range(product_C.size):
        least_C[c] = min(least_C[c], _excess_bits(half, product_C[c], sign, low_C[c]))


@compiled(fastmath={"contract"})
def _excess_bits(half: Scalar, product: Scalar, sign: Scalar, low: Scalar) -> Scalar:
    """Return the bits of the excess: as unsigned integers they order what is ≥ 0, and what is below 0 comes last."""
    return np.float32(sign * (half - product) - low).view(np.uint32)


@compiled()
def _try(
    n: Scalar,
    other: Scalar,
    sign: Scalar,
    static_N3: Array,
    exact_N2: Array,
    square: Scalar,
    bank_ND: Array,
    item_N: Array,
    limit_N: Array,
    found_N: Array,
    distance_N: Array,
) -> None:
    """Decide by the exact distance whether `other` is a better find for anchor n."""
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
