"""From a plan to batches, without losing its order."""

import itertools
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mohs.errors import InputError

__all__ = ["batch_slices", "neighbourhood_order", "segment_bounds"]


def segment_bounds(num_triplets: int, num_segments: int, num_cycles: int = 1) -> list[tuple[int, int]]:
    """Return (start, stop) of each segment of a run: near-equal lengths, none empty.

    The number of segments is raised to the next multiple of `num_cycles`, so that a cycle of a cyclic curve is a whole
    number of segments, and lowered to at most one segment per two triplets.

    >>> segment_bounds(10, 3)
    [(0, 3), (3, 6), (6, 10)]
    """
    count = math.ceil(num_segments / num_cycles) * num_cycles
    count = max(1, min(count, num_triplets // 2))
    edges = [i * num_triplets // count for i in range(count + 1)]
    return list(itertools.pairwise(edges))


def batch_slices(num_triplets: int, batch_triplets: int) -> list[slice]:
    """Return consecutive slices of near-equal length, each of at most `batch_triplets`.

    Equal lengths rather than a short last batch: batch norm over two or three pictures would disturb the network.

    >>> batch_slices(10, 4)
    [slice(0, 3, None), slice(3, 6, None), slice(6, 10, None)]
    """
    count = math.ceil(num_triplets / batch_triplets)
    edges = [i * num_triplets // count for i in range(count + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def neighbourhood_order(
    anchor_class_T: ArrayLike,
    negative_class_T: ArrayLike,
    size: int,
    *,
    apart: Callable[[int, int], bool] | None = None,
) -> NDArray[np.int64]:
    """Return an order of the triplets in which classes and their mined negatives stand together, int64[T].

    Rule: take the first triplet not yet taken; then the first not yet taken triplet whose anchor is of the class of
    the last one's negative; and so on until `size` triplets stand together or there is no such triplet; then start
    again. Every triplet appears once. With an in-batch loss, a mined negative thus enters the batch as a class with a
    positive of its own, and costs no extra picture. `size` 1 keeps the plan's order.

    Triplets t and u with `apart(t, u)` never stand together: the next one is the first that may stand with all.

    >>> neighbourhood_order([0, 1, 2, 3], [2, 3, 0, 1], 2)
    array([0, 2, 1, 3])
    """
    anchor_class = np.asarray(anchor_class_T).tolist()
    negative_class = np.asarray(negative_class_T).tolist()
    if len(anchor_class) != len(negative_class):
        raise InputError(
            f"negative_class_T: {len(negative_class)} values for {len(anchor_class)} anchors; give one per triplet"
        )
    waiting: dict[int, list[int]] = {}
    for t in reversed(range(len(anchor_class))):
        waiting.setdefault(anchor_class[t], []).append(t)  # the earliest triplet of a class is popped first
    taken = [False] * len(anchor_class)
    order: list[int] = []
    for first in range(len(anchor_class)):
        next_one: int | None = None if taken[first] else first
        together: list[int] = []
        while next_one is not None:
            t = next_one
            taken[t] = True
            together.append(t)
            _remove(waiting[anchor_class[t]], t)
            following = waiting.get(negative_class[t], []) if len(together) < size else []
            if apart is None:
                next_one = following[-1] if following else None
            else:
                next_one = next((u for u in reversed(following) if not any(apart(u, v) for v in together)), None)
        order += together
    return np.array(order, dtype=np.int64)


def _remove(waiting: list[int], t: int) -> None:
    """Take t out; it is most often the last."""
    if waiting[-1] == t:
        waiting.pop()
    else:
        waiting.remove(t)
