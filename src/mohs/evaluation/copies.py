"""Rows that are one and the same picture: equal but for rounding, as far as the numbers themselves can tell.

Two embeddings of one picture differ by rounding: of float32 in batches of other sizes, of a file in float16 or bfloat16
or with few decimals. How coarse a row is, its numbers show: all of them are values that such a format can hold.
Different pictures lie farther apart.
"""

import numpy as np
import numpy.typing as npt

from mohs.randomness import generator

__all__ = ["EQUAL", "equal_groups", "equal_partner", "of_one_length", "rounding"]

EQUAL = 1e-5
"""Embeddings closer than this share of their length are of equal pictures: batches of other sizes round otherwise."""

_MAX_DECIMALS = 5
_NUM_DIRECTIONS = 6
_NUM_CANDIDATES = 4


def rounding(x_ND: npt.ArrayLike) -> npt.NDArray[np.float64]:
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
    moved_N: npt.NDArray[np.float64] = norm_N * np.where(is_bfloat16_N, 2.0**-8, np.where(is_float16_N, 2.0**-11, 0.0))
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
    rows_ND: npt.ArrayLike,
    others_ND: npt.ArrayLike,
    *,
    same_items: bool = False,
    limit_N: npt.NDArray[np.float64] | None = None,
) -> npt.NDArray[np.int64]:
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


def equal_groups(x_ND: npt.ArrayLike) -> npt.NDArray[np.int64]:
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


def _limit(
    rows: npt.NDArray[np.float64], others: npt.NDArray[np.float64], *, same_items: bool
) -> npt.NDArray[np.float64]:
    norm_N = np.linalg.norm(rows, axis=1)
    moved_N = rounding(rows)
    # The coarsest of the others may be the partner; what is not of its length is no partner anyway.
    moved_M = moved_N if same_items else rounding(others)
    length_M = norm_N if same_items else np.linalg.norm(others, axis=1)
    relative = float((moved_M / np.where(length_M > 0, length_M, np.inf)).max())
    limit_N: npt.NDArray[np.float64] = EQUAL * float(length_M.mean()) + moved_N + relative * norm_N
    return limit_N


def _directions(dim: int) -> npt.NDArray[np.float64]:
    """Return a few orthonormal directions as columns, float64 [D, K]."""
    few = min(_NUM_DIRECTIONS, dim)
    directions: npt.NDArray[np.float64] = np.linalg.qr(
        generator(0, "directions to look for copies").normal(size=(dim, few))
    )[0]
    return directions
