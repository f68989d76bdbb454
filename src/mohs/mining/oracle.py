"""The definition of mining, spelt out: every distance, a full sort per anchor. Slow; for tests only."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mohs.mining.scales import Scale

__all__ = ["oracle_negatives"]


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
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the negatives, int64[T], and the achieved hardness, float32[T]; every anchor must have a negative.

    >>> oracle_negatives(np.float32([[0], [1], [3]]), ["a", "b", "c"], anchors_T=[0], positives_T=[0],
    ...                  hardness_T=[1.0], scale="rank")
    (array([1]), array([1.], dtype=float32))
    """
    labels = np.asarray(labels_N)
    is_candidate = np.ones(len(labels), dtype=bool) if candidates_N is None else np.asarray(candidates_N)
    rows = embeddings_ND.astype(np.float64)
    negatives, achieved = [], []
    for anchor, positive, h in zip(anchors_T, positives_T, np.asarray(hardness_T, dtype=np.float64), strict=True):
        distance_N = np.sqrt(((rows - rows[anchor]) ** 2).sum(axis=1)).astype(np.float32).astype(np.float64)
        item = np.flatnonzero(is_candidate & (labels != labels[anchor]))
        item = item[np.lexsort((item, distance_N[item]))]  # nearest first, ties by index
        d = distance_N[item]
        m = len(item)
        if scale == "range":
            tau = min(d[-1] - h * (d[-1] - d[0]), d[-1])
            r = int(np.flatnonzero(d >= tau)[0])
            got = h if d[-1] == d[0] else (d[-1] - d[r]) / (d[-1] - d[0])
        elif scale == "rank":
            r = int(np.rint((1.0 - h) * (m - 1)))
            got = h if m == 1 else 1.0 - r / (m - 1)
        elif scale == "log-rank":
            r = int(np.rint(float(m) ** (1.0 - h))) - 1
            got = h if m == 1 else 1.0 - np.log(r + 1.0) / np.log(m)
        else:
            d_ap = distance_N[positive]
            key, key_ap = (d**2, d_ap**2) if squared else (d, d_ap)
            enough = np.flatnonzero(key >= key_ap + (1.0 - h) * margin)
            farther = np.flatnonzero(d > d_ap)
            r = int(enough[0]) if enough.size else int(farther[0]) if farther.size else 0
            got = min(max(1.0 - (key[r] - key_ap) / margin, 0.0), 1.0)
        negatives.append(item[r])
        achieved.append(got)
    return np.array(negatives, dtype=np.int64), np.array(achieved, dtype=np.float32)
