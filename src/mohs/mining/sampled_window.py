"""Several negatives out of a sample: the sampled item that stands for the wanted rank, and its neighbours."""

import numpy as np

from mohs.mining.kernels import Array, Scalar, compiled

__all__ = ["select_sampled_window"]

_CHUNK = 16
_LARGEST = np.float32(np.finfo(np.float32).max)


@compiled()
def select_sampled_window(
    key_Rm: Array,
    own_R2: Array,
    num_negatives_R: Array,
    found_R: Array,
    estimate_R: Array,
    column_RK: Array,
    estimate_RK: Array,
) -> None:
    """Write K columns of each row by (key, column), from `found_R` on, and the ranks at which they are thought to lie.

    Where fewer than K − 1 negatives follow, those just before `found_R` make up for them; a row with fewer than K in
    all gets −1. Keys of the own class must be inf, as `select_sampled` leaves them.
    """
    num_columns, num_wanted = key_Rm.shape[1], column_RK.shape[1]
    column_K, side_K = np.empty(num_wanted, np.int64), np.empty(num_wanted, np.int64)
    for r in range(key_Rm.shape[0]):
        num_sampled = num_columns - (own_R2[r, 1] - own_R2[r, 0])
        if num_sampled < num_wanted:
            column_RK[r, :], estimate_RK[r, :] = -1, -1.0
            continue
        num_after = _neighbours(key_Rm[r], found_R[r], 1, num_wanted - 1, side_K)
        num_before = num_wanted - 1 - num_after
        column_K[num_before] = found_R[r]
        for k in range(num_after):
            column_K[num_before + 1 + k] = side_K[k]
        if num_before:
            _neighbours(key_Rm[r], found_R[r], -1, num_before, side_K)
            for k in range(num_before):
                column_K[num_before - 1 - k] = side_K[k]
        stretch = (num_negatives_R[r] + 1.0) / (num_sampled + 1.0)
        for k in range(num_wanted):
            column_RK[r, k] = column_K[k]
            estimate_RK[r, k] = estimate_R[r] + (k - num_before) * stretch


@compiled()
def _neighbours(keys: Array, found: Scalar, sign: Scalar, wanted: Scalar, column_K: Array) -> Scalar:
    """Write the next columns after `found` by (sign·key, sign·column), nearest first; return how many there are."""
    from_key, n = keys[found], 0
    # Keys from low to high may be among them; what is beyond every number is of the own class.
    low, high = (from_key, _LARGEST) if sign > 0 else (-_LARGEST, from_key)
    num_chunks = -(-keys.size // _CHUNK)
    for i in range(num_chunks):
        # Ties come in the order in which they are to stand.
        first = (i if sign > 0 else num_chunks - 1 - i) * _CHUNK
        chunk = keys[first : first + _CHUNK]
        count = np.int32(0)
        for j in range(chunk.size):
            count = np.int32(count + (np.int32(chunk[j] >= low) & np.int32(chunk[j] <= high)))
        if count == 0:
            continue
        for j in range(chunk.size):
            column = first + (j if sign > 0 else chunk.size - 1 - j)
            key = keys[column]
            if not low <= key <= high or (key == from_key and sign * column <= sign * found):
                continue
            if n == wanted and sign * key >= sign * keys[column_K[n - 1]]:
                continue
            k = n if n < wanted else wanted - 1
            while k > 0 and sign * keys[column_K[k - 1]] > sign * key:
                column_K[k] = column_K[k - 1]
                k -= 1
            column_K[k] = column
            n = min(n + 1, wanted)
            if n == wanted and sign > 0:
                high = keys[column_K[n - 1]]
            elif n == wanted:
                low = keys[column_K[n - 1]]
    return n
