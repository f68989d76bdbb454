"""Which class is the anchor, and when."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mohs.errors import InputError
from mohs.randomness import generator

__all__ = ["anchor_sequence"]


def anchor_sequence(labels_N: ArrayLike, num_triplets: int, *, seed: int) -> NDArray[np.int64]:
    """Return the anchors of a run as item indices, int64[T].

    Classes come in passes: each pass is a fresh random permutation of all C classes, one anchor per class, and the
    last pass is cut, so every class is an anchor ⌊T/C⌋ or ⌈T/C⌉ times. Within a class the items take turns in a random
    order of their own, so an item of a class of n is an anchor on every n-th pass. A shorter sequence with the same
    labels and seed is a prefix of a longer one.

    Args:
        labels_N: one label per item, strings or integers, at least one item.
        num_triplets: T, at least 1.
        seed: in [0, 2**63).

    Raises `InputError` if `labels_N` is empty or not one-dimensional, or `num_triplets` is below 1.

    >>> anchors = anchor_sequence(["a", "a", "b", "c"], 6, seed=0)
    >>> sorted(anchors[:3].tolist()) in ([0, 2, 3], [1, 2, 3])
    True
    >>> sorted(anchors.tolist())
    [0, 1, 2, 2, 3, 3]
    """
    labels = np.asarray(labels_N)
    if labels.ndim != 1 or labels.size == 0:
        raise InputError(f"labels_N: shape {labels.shape} is not [N] with N >= 1; give one label per item")
    if isinstance(num_triplets, bool) or not isinstance(num_triplets, (int, np.integer)) or num_triplets < 1:
        raise InputError(f"num_triplets: {num_triplets!r} is not a whole number of at least 1; use for example 10000")
    _, class_N = np.unique(labels, return_inverse=True)
    counts_C = np.bincount(class_N)
    num_classes = len(counts_C)
    # Items grouped by class, in a random order inside each class.
    shuffled_N = generator(seed, "anchor items").permutation(len(labels))
    grouped_N = shuffled_N[np.argsort(class_N[shuffled_N], kind="stable")]
    starts_C = np.concatenate([[0], np.cumsum(counts_C)[:-1]])

    num_passes = -(-int(num_triplets) // num_classes)
    rng = generator(seed, "anchor classes")
    classes_T = np.concatenate([rng.permutation(num_classes) for _ in range(num_passes)])[:num_triplets]
    pass_T = np.arange(num_triplets) // num_classes
    anchors_T: NDArray[np.int64] = grouped_N[starts_C[classes_T] + pass_T % counts_C[classes_T]].astype(np.int64)
    return anchors_T
