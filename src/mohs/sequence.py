"""Which class is the anchor, when, and how often: a run's length is in passes over the classes."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mohs.bounds import TRIPLETS
from mohs.checks import class_labels, require, wrong_whole
from mohs.randomness import generator

__all__ = ["anchor_sequence", "describe_length", "length_warning", "usual_length"]

_LEAST_TRIPLETS, _LEAST_PASSES = 20_000, 4


def anchor_sequence(labels_N: ArrayLike, num_triplets: int, *, seed: int) -> NDArray[np.int64]:
    """Return the anchors of a run as item indices, int64[T].

    Classes come in passes: each pass is a fresh random permutation of all C classes, one anchor per class, and the
    last pass is cut, so every class is an anchor ⌊T/C⌋ or ⌈T/C⌉ times. Within a class the items take turns in a random
    order of their own, so an item of a class of n is an anchor on every n-th pass. A shorter sequence with the same
    labels and seed is a prefix of a longer one.

    Args:
        labels_N: one label per item, strings or integers, at least one item.
        num_triplets: T, at least 1, at most `mohs.bounds.TRIPLETS`.
        seed: in [0, 2**63).

    Raises `InputError` for labels that `mohs.checks.class_labels` refuses, or `num_triplets` out of range.

    >>> anchors = anchor_sequence(["a", "a", "b", "c"], 6, seed=0)
    >>> sorted(anchors[:3].tolist()) in ([0, 2, 3], [1, 2, 3])
    True
    >>> sorted(anchors.tolist())
    [0, 1, 2, 2, 3, 3]
    """
    labels = class_labels("labels_N", labels_N)
    require(wrong_whole("num_triplets", num_triplets, example=10000))
    TRIPLETS.check("num_triplets", int(num_triplets))
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


def usual_length(num_classes: int) -> int:
    """Return the triplets of a run for which no length is given: 20,000, or 4 passes over the classes if that is more.

    A pass makes every class an anchor once. On few classes 20,000 triplets are many passes; on more than 5,000 they
    would be so few that some classes are hardly shown, or never.

    >>> usual_length(4_158), usual_length(25_102)
    (20000, 100408)
    """
    return max(_LEAST_TRIPLETS, _LEAST_PASSES * num_classes)


def describe_length(num_triplets: int, num_classes: int) -> str:
    """Return the length of a run in words: triplets, and how many passes over the classes they are.

    >>> describe_length(20_000, 25_102)
    '20,000 triplets: 0.80 passes over 25,102 classes'
    """
    return f"{num_triplets:,} triplets: {num_triplets / num_classes:.2f} passes over {num_classes:,} classes"


def length_warning(num_triplets: int, num_classes: int) -> str | None:
    """Return a line if a run is shorter than one pass, so that some classes are never an anchor; None otherwise.

    >>> length_warning(20_000, 25_102)
    '20,000 triplets: 0.80 passes over 25,102 classes; 5,102 of them are never an anchor: give 25,102 or more'
    >>> length_warning(25_102, 25_102)
    """
    if num_triplets >= num_classes:
        return None
    missing = num_classes - num_triplets
    one = "is" if missing == 1 else "are"
    said = describe_length(num_triplets, num_classes)
    return f"{said}; {missing:,} of them {one} never an anchor: give {num_classes:,} or more"
