"""The nearest or the farthest positive of each anchor, by exact distances over its whole class."""

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mohs.mining.exact import mine_exact
from mohs.mining.exclusions import make_exclusions
from mohs.mining.kernels import Array, Scalar, compiled, exact_distance_of
from mohs.mining.problem import Problem
from mohs.mining.stored import StoredBank
from mohs.mining.threads import for_each, num_threads
from mohs.plan import POSITIVE_ORIGINS

__all__ = ["positives_by_distance"]

_ANCHORS = 256  # of a piece
_LARGE_CLASS = 512  # items; the classes of which are worth a matrix product
_MANY_ANCHORS = 32
_CLASS, _AUGMENTATION = (POSITIVE_ORIGINS.index(name) for name in ("class", "augmentation"))

Index = NDArray[np.int64]


def positives_by_distance(problem: Problem, rule: Literal["easy", "hard"]) -> tuple[Index, NDArray[np.uint8]]:
    """Return the nearest ("easy") or farthest ("hard") other item of each anchor's class, int64[T], and its origin.

    All items of the class count, candidates or not. The lower item index wins ties. An anchor that is alone in its
    class is its own positive, to be augmented. The origin is uint8[T] into `POSITIVE_ORIGINS`.
    """
    p = problem
    item_N = np.argsort(p.class_N, kind="stable")
    count_C = np.bincount(p.class_N)
    start_C1 = np.concatenate([[0], np.cumsum(count_C)])
    class_T = p.class_N[p.anchors_T]
    positive_T = p.anchors_T.copy()
    large_C = (count_C >= _LARGE_CLASS) & (np.bincount(class_T, minlength=len(count_C)) >= _MANY_ANCHORS)
    for label in np.flatnonzero(large_C):
        at = np.flatnonzero(class_T == label)
        positive_T[at] = _by_mining(p, item_N[start_C1[label] : start_C1[label + 1]], p.anchors_T[at], rule)

    small = np.flatnonzero(~large_C[class_T])
    sign = np.float32(1 if rule == "easy" else -1)

    def search(first: int) -> None:
        at = small[first : first + _ANCHORS]
        found_R = p.anchors_T[at]
        span_R2 = np.stack([start_C1[class_T[at]], start_C1[class_T[at] + 1]], axis=1)
        _search(p.bank_ND.readable, item_N, span_R2, sign, found_R)
        positive_T[at] = found_R

    pairs = int(count_C[class_T[small]].sum())
    for_each(search, range(0, len(small), _ANCHORS), num_threads() if pairs > 10**6 else 1)
    origin_T = np.where(positive_T == p.anchors_T, _AUGMENTATION, _CLASS).astype(np.uint8)
    return positive_T, origin_T


def _by_mining(p: Problem, item_K: Index, anchor_R: Index, rule: Literal["easy", "hard"]) -> Index:
    """Mine one class as if every item of it were a class of its own: rank 0, or the nearest at the largest distance."""
    every_K = np.arange(len(item_K))
    part = replace(
        p,
        bank_ND=StoredBank(p.bank_ND.values_ND[item_K], is_mapped=False),
        labels_N=every_K,
        class_N=every_K,
        candidates_M=every_K,
        class_start_C1=np.arange(len(item_K) + 1),
        anchors_T=np.searchsorted(item_K, anchor_R),
        hardness_T=np.full(len(anchor_R), 1.0 if rule == "easy" else 0.0),
        num_negatives_T=np.full(len(anchor_R), len(item_K) - 1),
        num_wanted=1,
        exclusions=make_exclusions(None, every_K, every_K),
        scale="rank" if rule == "easy" else "range",
        margin=None,
        squared=False,
    )
    return item_K[mine_exact(part, np.zeros(len(anchor_R), dtype=np.float32))[0][:, 0]]


@compiled()
def _search(bank_ND: Array, item_N: Array, span_R2: Array, sign: Scalar, found_R: Array) -> None:
    """Replace each anchor in `found_R` by the item of its class of least sign·distance, if there is another one."""
    for r in range(found_R.size):
        anchor, best = found_R[r], np.float32(np.inf)
        for i in range(span_R2[r, 0], span_R2[r, 1]):
            item = item_N[i]  # in ascending order: only a smaller value replaces what was found
            if item != anchor:
                value = sign * exact_distance_of(bank_ND, anchor, item)
                if found_R[r] == anchor or value < best:
                    best, found_R[r] = value, item
