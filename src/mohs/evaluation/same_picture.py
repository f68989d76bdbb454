"""Rows that say nothing: all zero, or one vector that rows of many classes share."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from mohs.evaluation.checked import Bools, Float64, Index
from mohs.neighbour_search import nearest_rows
from mohs.randomness import generator

__all__ = [
    "EQUAL",
    "equal_groups",
    "equal_partner",
    "failed_rows",
    "near_copies",
    "of_one_length",
    "rounding",
    "shared_rows",
    "some_rows",
]


_MIN_CLASSES = 3
_MAX_SHARE = 0.5
_MAX_SHARE_OF_A_VECTOR = 0.95
_FEW_VECTORS = 2


def failed_rows(x_ND: npt.ArrayLike, class_N: Index, *, group_N: Index | None = None) -> Bools:
    """Return which rows are all zero or of a vector that three classes or more share, bool [N].

    A picture that did not load, or that is blank, gives the same vector whatever its class. These rows are those of
    `shared_rows`. Where more than half of all rows are such, they have failed if they hold one vector or two and at
    least a twentieth of all rows hold others. With more vectors it is the network that failed: then only rows of zeros
    count, and none where more than half are zero.

    >>> failed_rows([[0.0, 0.0], [1.0, 2.0], [3.0, 1.0], [3.0, 1.0], [3.0, 1.0]], np.array([0, 0, 1, 2, 3])).tolist()
    [True, False, True, True, True]
    >>> failed_rows(np.repeat(np.eye(3), 3, axis=0), np.arange(9) % 3).any()
    np.False_
    >>> x_ND = [[1.0, 2.0], [2.0, 1.0], [1.0, 0.0], [0.0, 1.0], [3.0, 1.0], [3.0, 1.0], [3.0, 1.0]]
    >>> failed_rows(x_ND, np.array([0, 0, 1, 1, 0, 1, 2])).tolist()
    [False, False, False, False, True, True, True]
    """
    rows = np.asarray(x_ND)
    group_N = equal_groups(rows) if group_N is None else group_N
    failed = shared_rows(rows, class_N, group_N=group_N)
    few = len(np.unique(group_N[failed])) <= _FEW_VECTORS
    if failed.mean() > (_MAX_SHARE_OF_A_VECTOR if few else _MAX_SHARE):
        zero_N: Bools = np.logical_not(np.any(rows, axis=1))
        failed = zero_N if zero_N.mean() <= _MAX_SHARE else np.zeros_like(zero_N)
    return failed


def shared_rows(x_ND: npt.ArrayLike, class_N: Index, *, group_N: Index | None = None) -> Bools:
    """Return which rows are all zero or of a vector that three classes or more share, bool [N].

    A shared vector is one of `equal_groups` (within rounding). Of single numbers (D = 1) only zero counts: others are
    equal by chance.

    >>> shared_rows([[3.0, 1.0], [3.0, 1.0], [3.0, 1.0]], np.array([0, 1, 2])).tolist()
    [True, True, True]
    >>> shared_rows([[3.0], [3.0], [3.0], [0.0]], np.array([0, 1, 2, 2])).tolist()
    [False, False, False, True]
    """
    rows = np.asarray(x_ND)
    zero_N: Bools = np.logical_not(np.any(rows, axis=1))
    if rows.shape[1] == 1:
        return zero_N
    group_N = equal_groups(rows) if group_N is None else group_N
    pairs_G = np.unique(np.stack([group_N, class_N]), axis=1)[0]
    shared_N = (np.bincount(pairs_G, minlength=int(group_N.max()) + 1) >= _MIN_CLASSES)[group_N]
    shared: Bools = np.logical_or(zero_N, shared_N)
    return shared


def some_rows(row_N: Index, num: int = 3) -> str:
    """Return the first few rows for a message.

    >>> some_rows(np.array([2, 5, 8, 9])), some_rows(np.array([2]))
    ('rows 2, 5, 8, …', 'row 2')
    """
    named = ", ".join(str(row) for row in row_N[:num].tolist())
    return f"row{'s' if len(row_N) > 1 else ''} {named}{', …' if len(row_N) > num else ''}"


Labels: TypeAlias = NDArray[np.str_] | Index

_MAX_RATIO = 1 / 3
_MIN_SHARE = 0.01
_MIN_ROWS = 5
_VALLEY = 4.0
_NUM_COMPARED = 8
_NUM_NEAREST = 64


def near_copies(
    rows_ND: NDArray[np.floating], labels_N: Labels, others_MD: NDArray[np.floating], labels_M: Labels
) -> tuple[Bools, Float64, Index]:
    """Return which rows have a near copy among others [N], how far copies are from each [N], and the nearest one [N].

    The *ratio* of a row is its distance to the nearest of the others over a usual one: to the farthest of up to eight
    more items of its class, on both sides, or to the nearest of a third class, if that is less. Copies are a heap of
    small ratios with nothing beyond it: up to some ratio t of at most a third there are four times as many rows or more
    as from t to 2t. Numbers that vary in m dimensions have 2ᵐ − 1 times as many rows from t to 2t as below t, so that
    even along a line there is no such heap; and classes that differ in how close they are change numerator and
    denominator alike. A class that has nothing but copies cannot be told from one whose pictures are all alike: its
    rows do not count.

    None are copies if these are fewer than 5, or 1% of the rows.
    """
    rows, others = np.asarray(rows_ND, dtype=np.float64), np.asarray(others_MD, dtype=np.float64)
    found_Nk = nearest_rows(rows, others, _NUM_NEAREST)
    # The first ones are ranked anew: float32 products blur the distances of copies.
    few = [np.linalg.norm(rows - others[found_N], axis=1) for found_N in found_Nk[:, :4].T]
    few_Nk = np.stack(few, axis=1)
    nearest_N, first_N = few_Nk.min(axis=1), found_Nk[np.arange(len(rows)), few_Nk.argmin(axis=1)]
    label_Nk = labels_M[found_Nk]
    third_Nk = (label_Nk != labels_N[:, None]) & (label_Nk != labels_M[first_N][:, None])
    third_N = np.linalg.norm(rows - others[found_Nk[np.arange(len(rows)), third_Nk.argmax(axis=1)]], axis=1)
    of_class_N = _farthest_of_class(np.concatenate([rows, others]), np.concatenate([labels_N, labels_M]), first_N)
    far_N = np.minimum(of_class_N, np.where(third_Nk.any(axis=1), third_N, np.inf))
    far_N[~np.isfinite(far_N)] = 0.0
    ratio_N = np.where(far_N > 0, nearest_N / np.where(far_N > 0, far_N, 1.0), np.inf)
    sorted_N = np.sort(ratio_N)
    limit = 0.0
    for place in np.flatnonzero(sorted_N <= _MAX_RATIO).tolist():
        below = place + 1
        beyond = int(np.searchsorted(sorted_N, 2 * sorted_N[place], side="right")) - below
        if below >= max(_MIN_ROWS, _MIN_SHARE * len(rows)) and _VALLEY * beyond <= below:
            limit = float(sorted_N[place])
    copied_N: Bools = (ratio_N <= limit) & (limit > 0)
    return copied_N, np.where(copied_N, limit * np.where(copied_N, far_N, 0.0), 0.0), first_N


def _farthest_of_class(every_ND: Float64, labels: Labels, first_N: Index) -> Float64:
    """Return the distance of each row to the farthest of up to eight items of its class but itself and its nearest.

    The rows come first in `every_ND`, then the others; `first_N` is the nearest of these to each row. If there are no
    such items: 0 where the nearest is of that class, else inf.
    """
    num_rows, codes = len(first_N), np.unique(labels, return_inverse=True)[1]
    order = np.argsort(codes, kind="stable")
    start_C = np.searchsorted(codes[order], np.arange(int(codes.max()) + 2))
    far_N = np.zeros(num_rows)
    for i in range(num_rows):
        members = order[start_C[codes[i]] : start_C[codes[i] + 1]]
        members = members[(members != i) & (members != num_rows + first_N[i])]
        if not len(members):
            far_N[i] = 0.0 if labels[num_rows + first_N[i]] == labels[i] else np.inf
            continue
        chosen = members[np.linspace(0, len(members) - 1, min(len(members), _NUM_COMPARED)).astype(np.int64)]
        far_N[i] = np.linalg.norm(every_ND[chosen] - every_ND[i], axis=1).max()
    return far_N


EQUAL = 1e-5
"""Embeddings closer than this share of their length are of equal pictures: batches of other sizes round otherwise."""

_MAX_DECIMALS = 5
_NUM_DIRECTIONS = 6
_NUM_CANDIDATES = 4


def rounding(x_ND: npt.ArrayLike) -> Float64:
    """Return how far each row can have been moved by a format coarser than float32, float64 [N]: Euclidean distances.

    If all numbers of a row are float16 or bfloat16, each has moved by up to half a unit in its last place, 2⁻¹¹ or 2⁻⁸
    of itself. If all have k = 1, …, 5 decimals, by 10⁻ᵏ/2, √D times that in all; not where that is more than a tenth of
    the length, as codes of few values have it. Whole numbers, and what no such format can hold, are taken as they are.

    >>> rounding(np.float32([[1.0, 1 / 3], [0.25, 2.5]])).round(6).tolist()
    [0.0, 0.009814]
    >>> rounding(np.float16([[1.0, 1 / 3]])).round(6).tolist()
    [0.000515]
    """
    rows = np.asarray(x_ND, dtype=np.float64)
    norm_N, single = np.linalg.norm(rows, axis=1), np.ascontiguousarray(rows, dtype=np.float32)
    with np.errstate(over="ignore"):
        is_float16_N = (single.astype(np.float16).astype(np.float64) == rows).all(axis=1)
    is_bfloat16_N = (single == rows).all(axis=1) & ~(single.view(np.uint32) & 0xFFFF).any(axis=1)
    moved_N: Float64 = norm_N * np.where(is_bfloat16_N, 2.0**-8, np.where(is_float16_N, 2.0**-11, 0.0))
    # A decimal number in float32 is off by half a unit in its last place.
    slack_N = np.abs(rows).max(axis=1) * 2.0**-23
    known_N = np.zeros(len(rows), dtype=bool)
    for decimals in range(_MAX_DECIMALS + 1):
        has_N = ~known_N & (np.abs(rows - rows.round(decimals)).max(axis=1) <= slack_N)
        known_N |= has_N
        half_step = 0.5 * 10.0**-decimals * float(np.sqrt(rows.shape[1]))
        if decimals == 0:
            moved_N[has_N] = 0.0
        else:
            moved_N = np.where(has_N & (half_step <= 0.1 * norm_N), np.maximum(moved_N, half_step), moved_N)
    return moved_N


def equal_partner(
    rows_ND: npt.ArrayLike, others_ND: npt.ArrayLike, *, same_items: bool = False, limit_N: Float64 | None = None
) -> Index:
    """Return for each row another row that is equal to it within rounding, int64 [N]; -1 if there is none.

    Equal is closer than 1e-5 of the mean length of `others`, and what `rounding` of both may add; `limit_N` can replace
    it. Of several partners it is the nearest of the first few. With `same_items` both are the same rows in the same
    order, and a row is not its own partner.

    >>> equal_partner(np.float16([[0.1, 0.2], [0.3, 0.3]]), np.float32([[5.0, 5.0], [0.1, 0.2]])).tolist()
    [1, -1]
    """
    from scipy.spatial import cKDTree

    rows, others = np.asarray(rows_ND, dtype=np.float64), np.asarray(others_ND, dtype=np.float64)
    if limit_N is None:
        limit_N = _limit(rows, others, same_items=same_items)
    few_DK = _directions(rows.shape[1])
    # A projection never makes a distance larger, so no partner is lost.
    k = min(_NUM_CANDIDATES + same_items, len(others))
    _, found_Nk = cKDTree(others @ few_DK).query(rows @ few_DK, k=k, distance_upper_bound=float(limit_N.max()))
    found_Nk = found_Nk.reshape(len(rows), k)
    partner_N, nearest_N = np.full(len(rows), -1, dtype=np.int64), np.full(len(rows), np.inf)
    for found_N in found_Nk.T:
        here = np.flatnonzero(found_N < len(others))
        if same_items:
            here = here[found_N[here] != here]
        distance = np.linalg.norm(rows[here] - others[found_N[here]], axis=1)
        better = (distance <= limit_N[here]) & (distance < nearest_N[here])
        partner_N[here[better]], nearest_N[here[better]] = found_N[here[better]], distance[better]
    return partner_N


def of_one_length(
    one_ND: npt.NDArray[np.floating], other_MD: npt.NDArray[np.floating]
) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]:
    """Return both as they are, or both at unit length if their median norms differ by more than a tenth.

    >>> [rows.tolist() for rows in of_one_length(np.array([[0.0, 1.0]]), np.array([[0.0, 3.0]]))]
    [[[0.0, 1.0]], [[0.0, 1.0]]]
    """
    norms = [np.linalg.norm(rows, axis=1) for rows in (one_ND, other_MD)]
    medians = [float(np.median(norm)) for norm in norms]
    if max(medians) <= 1.1 * min(medians):
        return one_ND, other_MD
    one, other = (
        rows / np.where(norm > 0, norm, 1.0)[:, None] for rows, norm in zip((one_ND, other_MD), norms, strict=True)
    )
    return one, other


def equal_groups(x_ND: npt.ArrayLike) -> Index:
    """Return a number for each row, int64 [N], the same for rows that are equal within rounding, from 0 upwards.

    Numbers are in the order of the first rows; a row belongs to the first row that it is equal to.

    >>> equal_groups(np.float32([[1.0, 0.0], [0.0, 1.0], [1.0, 1e-7]])).tolist()
    [0, 1, 0]
    """
    from scipy.spatial import cKDTree

    rows = np.ascontiguousarray(x_ND, dtype=np.float64) + 0.0  # −0 is 0
    # Most copies are equal to the last bit: the tree has one of each.
    _, first, exact_N = np.unique(
        rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel(),
        return_index=True,
        return_inverse=True,
    )
    limit_U = _limit(rows, rows, same_items=True)[first]
    unique_UD = rows[first]
    low_UK = unique_UD @ _directions(rows.shape[1])
    tree = cKDTree(low_UK)
    has_partner_U = equal_partner(unique_UD, unique_UD, same_items=True, limit_N=limit_U) >= 0
    leader_U = np.arange(len(first))
    for unique in np.flatnonzero(has_partner_U)[np.argsort(first[has_partner_U])].tolist():
        if leader_U[unique] != unique:
            continue
        near = np.array(tree.query_ball_point(low_UK[unique], limit_U[unique]), dtype=np.int64)
        near = near[np.linalg.norm(unique_UD[near] - unique_UD[unique], axis=1) <= limit_U[unique]]
        near = near[(leader_U[near] == near) & (first[near] > first[unique])]
        leader_U[near] = unique
    of_row = leader_U[exact_N.ravel()]
    _, place, number_N = np.unique(of_row, return_index=True, return_inverse=True)
    order = np.empty(len(place), dtype=np.int64)
    order[np.argsort(place)] = np.arange(len(place))
    return order[number_N]


def _limit(rows: Float64, others: Float64, *, same_items: bool) -> Float64:
    norm_N = np.linalg.norm(rows, axis=1)
    moved_N = rounding(rows)
    # The coarsest of the others may be the partner; what is not of its length is no partner anyway.
    moved_M = moved_N if same_items else rounding(others)
    length_M = norm_N if same_items else np.linalg.norm(others, axis=1)
    relative = float((moved_M / np.where(length_M > 0, length_M, np.inf)).max())
    limit_N: Float64 = EQUAL * float(length_M.mean()) + moved_N + relative * norm_N
    return limit_N


def _directions(dim: int) -> Float64:
    """Return a few orthonormal directions as columns, float64 [D, K]."""
    few = min(_NUM_DIRECTIONS, dim)
    directions: Float64 = np.linalg.qr(generator(0, "directions to look for copies").normal(size=(dim, few)))[0]
    return directions
