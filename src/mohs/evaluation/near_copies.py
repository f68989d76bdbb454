"""Rows that are nearly one picture: frames of one recording, bursts, compressed copies, numbers of few bits."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["near_copies"]

Labels: TypeAlias = NDArray[np.str_] | NDArray[np.int64]

_MAX_RATIO = 1 / 3
_MIN_SHARE = 0.01
_MIN_ROWS = 5
_VALLEY = 4.0
_NUM_COMPARED = 8
_NUM_NEAREST = 64


def near_copies(
    rows_ND: NDArray[np.floating], labels_N: Labels, others_MD: NDArray[np.floating], labels_M: Labels
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.int64]]:
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
    import faiss

    rows, others = np.asarray(rows_ND, dtype=np.float64), np.asarray(others_MD, dtype=np.float64)
    index = faiss.IndexFlatL2(others.shape[1])
    index.add(np.ascontiguousarray(others, dtype=np.float32))
    _, found_Nk = index.search(np.ascontiguousarray(rows, dtype=np.float32), min(_NUM_NEAREST, len(others)))
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
    copied_N: NDArray[np.bool_] = (ratio_N <= limit) & (limit > 0)
    return copied_N, np.where(copied_N, limit * np.where(copied_N, far_N, 0.0), 0.0), first_N


def _farthest_of_class(
    every_ND: NDArray[np.float64], labels: Labels, first_N: NDArray[np.int64]
) -> NDArray[np.float64]:
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
