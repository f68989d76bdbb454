"""The inner loop of sampled mining: for each anchor the item of a sample that stands for a rank among all negatives.

A row holds the keys of one anchor to the m items of a sample (a smaller key is closer, see `sampled.py`). The plain
estimate of a rank fraction, the share of sampled negatives below a key, is off by √(q(1 − q)/n). Part of that error is
seen in the sample: mean and mean square of its keys differ from those of all candidates, which are known. Regressing
"is a negative below the threshold" on key and squared key, over the sample itself, says how many ranks this difference
is worth (a control variate), whatever the distribution of the keys.

Inner loops run over slices from 0 and choose with `if`: that is the form LLVM turns into vector instructions.
"""

import math

import numpy as np

from mohs.mining.kernels import Array, Scalar, compiled

__all__ = ["select_sampled", "select_sampled_window"]

_ENOUGH = 48  # keys in a bracket that are cheaper sorted out than counted again
_MAX_COUNTS = 10
_CHUNK = 16
_TRUSTED_ERRORS = 4.0  # standard errors
_LEAST_ITEMS = 16.0
_LARGEST = np.float32(np.finfo(np.float32).max)


@compiled()
def select_sampled(
    key_Rm: Array,
    own_R2: Array,
    rank_R: Array,
    num_negatives_R: Array,
    mean_R: Array,
    spread_R: Array,
    found_R: Array,
    estimate_R: Array,
) -> None:
    """Write the column that stands for each anchor's wanted rank (−1: no negative in the sample), and its rank.

    `own_R2` is the slice of columns of the anchor's own class, `mean_R` and `spread_R` are mean and standard deviation
    of its keys over all candidates. `estimate_R` is the rank among all negatives at which the column is thought to lie.
    Keys of the own class are overwritten.
    """
    num_columns = key_Rm.shape[1]
    column_m, value_m = np.empty(num_columns, np.int32), np.empty(num_columns, np.float32)
    for r in range(key_Rm.shape[0]):
        keys, start, stop = key_Rm[r], own_R2[r, 0], own_R2[r, 1]
        n = num_columns - (stop - start)
        if n == 0:
            found_R[r], estimate_R[r] = -1, -1.0
            continue
        scale = np.float32(1.0 / spread_R[r]) if spread_R[r] > 0.0 else np.float32(0.0)
        mean = np.float32(mean_R[r])
        sum1, sum2, sum3, sum4 = _power_sums(keys, mean, scale)
        negative1, negative2 = np.float64(sum1), np.float64(sum2)
        for c in range(start, stop):
            u = np.float64((keys[c] - mean) * scale)
            negative1 -= u
            negative2 -= u * u
            keys[c] = np.inf

        # The sampled rank whose expected rank among all is the wanted one.
        stretch = (num_negatives_R[r] + 1.0) / (n + 1.0)
        plain = (rank_R[r] + 1.0) / stretch - 1.0
        q = min(max((plain + 0.5) / n, 0.5 / n), 1.0 - 0.5 / n)
        threshold = np.float32(mean_R[r] + spread_R[r] * 0.6 * math.log(q / (1.0 - q)))
        middle = np.int64(min(max(round(plain), 0.0), n - 1.0))
        low, high, below_low, below_high = _bracket(keys, n, middle, threshold, spread_R[r], n // 32)
        threshold, count = low, below_low
        if below_low == 0 or (below_high < n and below_high - middle < middle - below_low):
            threshold, count = high, below_high
        shift = 0.0
        if 0 < count < n:
            below1, below2 = _power_sums_below(keys, threshold, mean, scale)
            shift = _shift(
                num_columns, n, count, sum1, sum2, sum3, sum4, negative1, negative2, np.float64(below1),
                np.float64(below2),
            )  # fmt: skip
        wanted = np.int64(min(max(round(plain + shift), 0.0), n - 1.0))
        low, high, below_low, below_high = _bracket(keys, n, wanted, threshold, spread_R[r], _ENOUGH)
        inside = _columns_within(keys, low, high, column_m)
        for i in range(inside):
            value_m[i] = keys[column_m[i]]
        value = np.partition(value_m[:inside], wanted - below_low)[wanted - below_low]
        for i in range(inside):
            if value_m[i] == value:
                found_R[r] = column_m[i]
                break
        estimate_R[r] = (wanted - shift + 1.0) * stretch - 1.0


@compiled()
def _shift(
    m: Scalar,
    n: Scalar,
    count: Scalar,
    sum1: Scalar,
    sum2: Scalar,
    sum3: Scalar,
    sum4: Scalar,
    negative1: Scalar,
    negative2: Scalar,
    below1: Scalar,
    below2: Scalar,
) -> Scalar:
    """Return by how many sampled ranks the sample has too many negatives below the threshold.

    The sums are of powers of standardised keys u (mean 0 and mean square 1 over all candidates): over the sample, its
    negatives, its negatives below the threshold.
    """
    mean1, mean2, mean3, mean4 = sum1 / m, sum2 / m, sum3 / m, sum4 / m
    miss1, miss2 = mean1, mean2 - 1.0
    c11, c12, c22 = mean2 - mean1 * mean1, mean3 - mean1 * mean2, mean4 - mean2 * mean2
    share = count / n
    # y = 1 − share for negatives below the threshold, −share for the others, 0 for the own class: its mean is 0.
    y1, y2 = (below1 - share * negative1) / m, (below2 - share * negative2) / m
    # A heavy tail is met by few items of a sample, or by none. Then the moments differ by more than chance, or rest on
    # a few items, and the covariances say nothing.
    chance1, chance2 = _TRUSTED_ERRORS**2 * c11 / m, _TRUSTED_ERRORS**2 * c22 / m
    if not (miss1 * miss1 < chance1 and miss2 * miss2 < chance2 and c22 < m / _LEAST_ITEMS * c11 * c11):
        return 0.0
    determinant = c11 * c22 - c12 * c12
    if determinant > 1e-4 * c11 * c22:
        slope1 = (y1 * c22 - y2 * c12) / determinant
        slope2 = (y2 * c11 - y1 * c12) / determinant
        return m * (slope1 * miss1 + slope2 * miss2)
    return m * y1 / c11 * miss1


@compiled()
def _bracket(
    keys: Array, n: Scalar, rank: Scalar, guess: Scalar, spread: Scalar, enough: Scalar
) -> tuple[Scalar, Scalar, Scalar, Scalar]:
    """Return low and high, so that the key of this rank is in [low, high), and how many keys are below each."""
    low, high, below_low, below_high = np.float32(-np.inf), np.float32(np.inf), 0, n
    at, density = guess, max(0.3 * n / spread, 1e-30) if spread > 0.0 else 1e-30
    for _ in range(_MAX_COUNTS):
        if below_high - below_low <= enough:
            break
        if not low < at < high:
            at = np.float32(low / 2 + high / 2)
            if not low < at < high:
                break
        below = _count_below(keys, at)
        step = np.float64(below_high - below_low)
        if below <= rank:
            low, below_low = at, below
        else:
            high, below_high = at, below
        if low > -np.inf and high < np.inf:
            density = max((below_high - below_low) / max(np.float64(high) - np.float64(low), 1e-300), 1e-30)
        # A little beyond the wanted rank, so that the next count closes the bracket from the other side.
        beyond = enough / 3.0
        if below > rank:
            beyond = -beyond
        at = np.float32(np.float64(at) + (rank - below + beyond) / density)
        if below_high - below_low > 0.7 * step and low > -np.inf and high < np.inf:
            at = np.float32(low / 2 + high / 2)
    return low, high, below_low, below_high


@compiled()
def _columns_within(keys: Array, low: Scalar, high: Scalar, column_m: Array) -> Scalar:
    """Write the columns whose keys are in [low, high), in order; return how many."""
    inside = 0
    for first in range(0, keys.size, _CHUNK):
        chunk = keys[first : first + _CHUNK]
        count = np.int32(0)
        for j in range(chunk.size):
            count = np.int32(count + (np.int32(chunk[j] >= low) & np.int32(chunk[j] < high)))
        if count > 0:
            for j in range(chunk.size):
                column_m[inside] = first + j
                inside += low <= chunk[j] < high
                if inside == column_m.size:
                    return inside
    return inside


@compiled()
def _count_below(keys: Array, threshold: Scalar) -> Scalar:
    count = np.int32(0)
    for j in range(keys.size):
        count = np.int32(count + np.int32(keys[j] < threshold))
    return np.int64(count)


@compiled(fastmath={"reassoc", "contract", "nsz"})
def _power_sums(keys: Array, mean: Scalar, scale: Scalar) -> tuple[Scalar, Scalar, Scalar, Scalar]:
    """Return the sums of u, u², u³ and u⁴ with u = (key − mean)·scale."""
    sum1, sum2, sum3, sum4 = np.float32(0.0), np.float32(0.0), np.float32(0.0), np.float32(0.0)
    for j in range(keys.size):
        u = (keys[j] - mean) * scale
        square = u * u
        sum1 += u
        sum2 += square
        sum3 += square * u
        sum4 += square * square
    return sum1, sum2, sum3, sum4


@compiled(fastmath={"reassoc", "contract", "nsz"})
def _power_sums_below(keys: Array, threshold: Scalar, mean: Scalar, scale: Scalar) -> tuple[Scalar, Scalar]:
    """Return the sums of u and u² over the keys below the threshold."""
    sum1, sum2 = np.float32(0.0), np.float32(0.0)
    for j in range(keys.size):
        u = (keys[j] - mean) * scale if keys[j] < threshold else np.float32(0.0)
        sum1 += u
        sum2 += u * u
    return sum1, sum2


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
