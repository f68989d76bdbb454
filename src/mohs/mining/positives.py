"""Which positive an anchor gets when the caller does not say: one at random, the nearest or the farthest."""

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mohs.checks import class_labels, item_indices, plain_array, require, wrong_choice
from mohs.errors import InputError, Problem
from mohs.mining.exact import mine_exact
from mohs.mining.exclusions import make_exclusions
from mohs.mining.kernels import Array, Scalar, compiled, exact_distance_of
from mohs.mining.problem import Index, MiningProblem
from mohs.mining.stored import StoredBank
from mohs.mining.threads import for_each, num_threads
from mohs.plan import POSITIVE_ORIGINS
from mohs.randomness import generator

__all__ = ["choose_positives", "positives_by_distance", "positives_of_classes"]


_CLASS, _CATALOG, _AUGMENTATION = (POSITIVE_ORIGINS.index(name) for name in ("class", "catalog", "augmentation"))


def choose_positives(
    labels_N: ArrayLike,
    anchors_T: ArrayLike,
    *,
    seed: int,
    catalog_N: ArrayLike | None = None,
    prefer: Literal["class", "catalog"] = "class",
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Return a positive for each anchor, int64[T], and where it comes from, uint8[T] into `POSITIVE_ORIGINS`.

    A positive is an item of the anchor's class other than the anchor, drawn evenly at random. With `prefer="class"`
    it is a sample if there is another one, else a catalog item; with `prefer="catalog"` the other way round. An anchor
    that is alone in its class is its own positive, to be augmented. The choice for the first T anchors is a prefix of
    the choice for more anchors.

    Args:
        labels_N: one label per item, strings or integers.
        anchors_T: item indices in [0, N).
        seed: in [0, 2**63).
        catalog_N: True for catalog items, bool[N]; None if there are none.
        prefer: "class" or "catalog".

    Raises `InputError` for lengths that differ, anchors out of range or another `prefer`.

    >>> positives, origin = choose_positives(["a", "a", "b"], [0, 1, 2], seed=0)
    >>> positives, [POSITIVE_ORIGINS[o] for o in origin]
    (array([1, 0, 2]), ['class', 'class', 'augmentation'])
    """
    require(wrong_choice("prefer", prefer, ("class", "catalog")))
    labels = class_labels("labels_N", labels_N)
    anchors = item_indices("anchors_T", anchors_T, len(labels))
    catalog = np.zeros(len(labels), dtype=bool) if catalog_N is None else plain_array("catalog_N", catalog_N)
    if catalog.dtype != bool or catalog.shape != labels.shape:
        what = f"{catalog.dtype}{catalog.shape} is not bool[{len(labels)}]"
        raise InputError(Problem("catalog_N", what, "give one per item"))

    class_N = np.unique(labels, return_inverse=True)[1]
    return positives_of_classes(class_N, anchors, seed=seed, catalog_N=catalog, prefer=prefer)


def positives_of_classes(
    class_N: Index,
    anchors: Index,
    *,
    seed: int,
    catalog_N: NDArray[np.bool_] | None = None,
    prefer: Literal["class", "catalog"] = "class",
) -> tuple[Index, NDArray[np.uint8]]:
    """Return what `choose_positives` does, of checked arguments: class numbers, 0 … C − 1, instead of labels."""
    catalog = np.zeros(len(class_N), dtype=bool) if catalog_N is None else catalog_N
    draw_T = generator(seed, "positives").random(len(anchors))
    positives_T = anchors.copy()
    origin_T = np.full(len(anchors), _AUGMENTATION, dtype=np.uint8)
    pools = [(~catalog, _CLASS), (catalog, _CATALOG)]
    # The pool that is preferred comes last and overwrites.
    for pool_N, origin in pools if prefer == "catalog" else reversed(pools):
        chosen_T = _another_of_class(class_N, pool_N, anchors, draw_T)
        found = chosen_T >= 0
        positives_T[found] = chosen_T[found]
        origin_T[found] = origin
    return positives_T, origin_T


def _another_of_class(
    class_N: NDArray[np.int64], pool_N: NDArray[np.bool_], anchors_T: NDArray[np.int64], draw_T: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return a random item of the pool that shares the anchor's class and is not the anchor, or −1."""
    class_T = class_N[anchors_T]
    # Only items of the anchors' classes: few anchors of a large bank ask for little.
    is_asked_C = np.zeros(int(class_N.max()) + 1, dtype=bool)
    is_asked_C[class_T] = True
    item_P = np.flatnonzero(pool_N & is_asked_C[class_N])
    order_P = np.argsort(class_N[item_P], kind="stable")
    pool = item_P[order_P]
    count_C = np.bincount(class_N[pool], minlength=len(is_asked_C))
    start_C = np.cumsum(count_C) - count_C
    rank_P = np.zeros(len(pool) + 1, dtype=np.int64)
    rank_P[order_P] = np.arange(len(pool))
    at_T = np.searchsorted(item_P, anchors_T)
    inside_T = np.append(item_P, -1)[at_T] == anchors_T
    count_T, place_T = count_C[class_T], np.where(inside_T, rank_P[at_T] - start_C[class_T], -1)
    others_T = count_T - inside_T
    # Steps 1 … others from the anchor's own place, or places 0 … others − 1 where the anchor is not in the pool.
    step_T = np.minimum((draw_T * others_T).astype(np.int64), np.maximum(others_T - 1, 0))
    turn_T = np.where(inside_T, place_T + 1 + step_T, step_T) % np.maximum(count_T, 1)
    found_T = others_T > 0
    chosen_T = np.full(len(anchors_T), -1)
    chosen_T[found_T] = pool[(start_C[class_T] + turn_T)[found_T]]
    return chosen_T


_ANCHORS = 256  # of a piece
_LARGE_CLASS = 512  # items; the classes of which are worth a matrix product
_MANY_ANCHORS = 32
_BYTES_AT_ONCE = 2**26  # of rows out of shards, or those of one class


def positives_by_distance(problem: MiningProblem, rule: Literal["easy", "hard"]) -> tuple[Index, NDArray[np.uint8]]:
    """Return the nearest ("easy") or farthest ("hard") other item of each anchor's class, int64[T], and its origin.

    All items of the class count, candidates or not. The lower item index wins ties. An anchor that is alone in its
    class is its own positive, to be augmented. The origin is uint8[T] into `POSITIVE_ORIGINS`.
    """
    if problem.bank_ND.shards is not None:
        return _of_classes_in_turn(problem, rule)
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


def _of_classes_in_turn(p: MiningProblem, rule: Literal["easy", "hard"]) -> tuple[Index, NDArray[np.uint8]]:
    """Read the rows of the anchors' classes out of shards, some classes at a time: no others are asked."""
    class_T = p.class_N[p.anchors_T]
    order_T, item_N = np.argsort(class_T, kind="stable"), np.argsort(p.class_N, kind="stable")
    sorted_T, count_C = class_T[order_T], np.bincount(p.class_N)
    start_C1 = np.concatenate([[0], np.cumsum(count_C)])
    label_U = np.unique(class_T)
    turn_U = np.cumsum(count_C[label_U]) * 4 * p.bank_ND.shape[1] // _BYTES_AT_ONCE
    positive_T, origin_T = np.empty_like(p.anchors_T), np.empty(len(p.anchors_T), dtype=np.uint8)
    for label_u in np.split(label_U, np.flatnonzero(np.diff(turn_U)) + 1):
        low, high = label_u[0], label_u[-1]
        item_K = item_N[start_C1[low] : start_C1[high + 1]]
        item_K = np.sort(item_K[np.isin(p.class_N[item_K], label_u)])
        at = order_T[np.searchsorted(sorted_T, low) : np.searchsorted(sorted_T, high, side="right")]
        part = replace(
            p,
            bank_ND=StoredBank(p.bank_ND[item_K], is_mapped=False),
            class_N=np.searchsorted(label_u, p.class_N[item_K]),
            anchors_T=np.searchsorted(item_K, p.anchors_T[at]),
        )
        positive_K, origin_T[at] = positives_by_distance(part, rule)
        positive_T[at] = item_K[positive_K]
    return positive_T, origin_T


def _by_mining(p: MiningProblem, item_K: Index, anchor_R: Index, rule: Literal["easy", "hard"]) -> Index:
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
