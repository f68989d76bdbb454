"""The definition of mining, spelt out: every distance, a full sort per anchor. Slow; for tests only."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mohs.hardness.scales import Scale

__all__ = ["oracle_negatives", "oracle_positives"]


def oracle_negatives(
    embeddings_ND: NDArray[np.float32],
    labels_N: Any,
    *,
    anchors_T: Any,
    positives_T: Any,
    hardness_T: Any,
    scale: Scale,
    candidates_N: Any = None,
    margin: float = 0.0,
    squared: bool = False,
    num_negatives: int = 1,
    excluded_pairs: Any = (),
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the negatives, int64[T·k], and the achieved hardness, float32[T·k], as rows of a plan are ordered.

    Every anchor must have k = `num_negatives` negatives.

    >>> oracle_negatives(np.float32([[0], [1], [3]]), ["a", "b", "c"], anchors_T=[0], positives_T=[0],
    ...                  hardness_T=[1.0], scale="rank")
    (array([1]), array([1.], dtype=float32))
    """
    labels = np.asarray(labels_N)
    is_candidate = np.ones(len(labels), dtype=bool) if candidates_N is None else np.asarray(candidates_N)
    rows = embeddings_ND.astype(np.float64)
    excluded_P2 = np.asarray(excluded_pairs, dtype=np.int64).reshape(-1, 2)
    negatives, achieved = [], []
    for anchor, positive, h in zip(anchors_T, positives_T, np.asarray(hardness_T, dtype=np.float64), strict=True):
        distance_N = np.sqrt(((rows - rows[anchor]) ** 2).sum(axis=1)).astype(np.float32).astype(np.float64)
        allowed_N = is_candidate & (labels != labels[anchor])
        allowed_N[excluded_P2[excluded_P2[:, 0] == anchor, 1]] = False
        item = np.flatnonzero(allowed_N)
        item = item[np.lexsort((item, distance_N[item]))]  # nearest first, ties by index
        d = distance_N[item]
        m = len(item)
        r = _rank(d, h, scale, distance_N[positive], margin, squared)
        first = min(r, m - num_negatives)
        rank_K = np.arange(first, first + num_negatives)
        if scale == "range":
            got_K = np.full(num_negatives, h) if d[-1] == d[0] else (d[-1] - d[rank_K]) / (d[-1] - d[0])
        elif scale == "rank":
            got_K = np.full(num_negatives, h) if m == 1 else 1.0 - rank_K / (m - 1)
        elif scale == "log-rank":
            got_K = np.full(num_negatives, h) if m == 1 else 1.0 - np.log(rank_K + 1.0) / np.log(m)
        else:
            d_ap = distance_N[positive]
            more_K = d[rank_K] ** 2 - d_ap**2 if squared else d[rank_K] - d_ap
            got_K = np.clip(1.0 - more_K / margin, 0.0, 1.0)
        negatives.append(item[rank_K])
        achieved.append(got_K)
    return np.concatenate(negatives), np.concatenate(achieved).astype(np.float32)


def _rank(d: NDArray[np.float64], h: float, scale: Scale, d_ap: float, margin: float, squared: bool) -> int:
    """Return the rank that the scale chooses among sorted distances."""
    m = len(d)
    if scale == "range":
        return int(np.flatnonzero(d >= min(d[-1] - h * (d[-1] - d[0]), d[-1]))[0])
    if scale == "rank":
        return int(np.rint((1.0 - h) * (m - 1)))
    if scale == "log-rank":
        return int(np.rint(float(m) ** (1.0 - h))) - 1
    key, key_ap = (d**2, d_ap**2) if squared else (d, d_ap)
    return int(np.flatnonzero(key >= min(key_ap + (1.0 - h) * margin, key[-1]))[0])


def oracle_positives(
    embeddings_ND: NDArray[np.float32], labels_N: Any, *, anchors_T: Any, rule: Literal["easy", "hard"]
) -> NDArray[np.int64]:
    """Return the nearest or farthest other item of each anchor's class, int64[T], or the anchor where it is alone.

    >>> oracle_positives(np.float32([[0], [1], [3]]), ["a", "a", "a"], anchors_T=[0, 1], rule="hard")
    array([2, 2])
    """
    labels, rows = np.asarray(labels_N), embeddings_ND.astype(np.float64)
    positives = []
    for anchor in anchors_T:
        distance_N = np.sqrt(((rows - rows[anchor]) ** 2).sum(axis=1)).astype(np.float32)
        item = np.flatnonzero((labels == labels[anchor]) & (np.arange(len(labels)) != anchor))
        wanted = distance_N[item] if rule == "easy" else -distance_N[item]
        positives.append(item[np.lexsort((item, wanted))][0] if item.size else anchor)
    return np.array(positives, dtype=np.int64)
