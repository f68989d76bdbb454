"""Triplet accuracy: how often a random item of the same class is closer than a random item of another one."""

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt

from mohs.errors import InputError
from mohs.evaluation.inputs import checked_embeddings, checked_labels, class_codes
from mohs.evaluation.intervals import wilson_interval
from mohs.evaluation.ties import tie_limit
from mohs.randomness import generator

__all__ = ["TripletAccuracy", "sample_triplets", "triplet_accuracy", "triplet_accuracy_of"]

# Rows of differences at a time: 4,096 x 2,048 dimensions in float64 is 64 MB.
_BLOCK_TRIPLETS = 4096


@final
@dataclass(frozen=True)
class TripletAccuracy:
    """The share of triplets in order.

    Attributes:
        accuracy: share of triplets whose positive is strictly closer to the anchor than the negative; ties are wrong.
        interval: its 95% Wilson interval. It holds the noise of sampling triplets, not that of the choice of classes.
        num_triplets: how many triplets.
        num_tied: how many of them are ties; near `num_triplets` the embedding has collapsed.
    """

    accuracy: float
    interval: tuple[float, float]
    num_triplets: int
    num_tied: int


def triplet_accuracy(
    embeddings_ND: npt.ArrayLike, labels_N: npt.ArrayLike, *, num_triplets: int = 10_000, seed: int = 0
) -> TripletAccuracy:
    """Return the share of random triplets with d(anchor, positive) < d(anchor, negative), Euclidean.

    Triplets come from `sample_triplets`. Distances that differ by no more than rounding are ties, and ties are wrong
    (`mohs.evaluation.ties`): a collapsed embedding has accuracy 0, a random one 0.5. Random negatives are easy; the
    number tells whether there is an order at all, retrieval metrics tell how good it is.

    >>> triplet_accuracy([[0.0], [0.1], [5.0], [5.1]], [0, 0, 1, 1], num_triplets=100).accuracy
    1.0
    """
    x_ND = checked_embeddings(embeddings_ND, "embeddings_ND")
    labels = checked_labels(labels_N, "labels_N", len(x_ND))
    return triplet_accuracy_of(x_ND, *sample_triplets(labels, num_triplets, seed=seed))


def triplet_accuracy_of(
    embeddings_ND: npt.ArrayLike, anchors_T: npt.ArrayLike, positives_T: npt.ArrayLike, negatives_T: npt.ArrayLike
) -> TripletAccuracy:
    """Return the share of the given triplets (item indices, int [T] each) in order; the rule of `triplet_accuracy`.

    >>> triplet_accuracy_of([[0.0], [0.1], [5.0]], [0, 0], [1, 2], [2, 1]).accuracy
    0.5
    """
    x_ND = checked_embeddings(embeddings_ND, "embeddings_ND")
    names = ("anchors_T", "positives_T", "negatives_T")
    anchors, positives, negatives = (
        _checked_indices(values, name, len(x_ND))
        for values, name in zip((anchors_T, positives_T, negatives_T), names, strict=True)
    )
    if not len(anchors) == len(positives) == len(negatives):
        raise InputError(
            f"{', '.join(names)}: lengths {len(anchors)}, {len(positives)} and {len(negatives)}; "
            "give one of each for every triplet"
        )
    num_correct = num_tied = 0
    for first in range(0, len(anchors), _BLOCK_TRIPLETS):
        block = slice(first, first + _BLOCK_TRIPLETS)
        anchor_BD = x_ND[anchors[block]]
        norm_B = np.linalg.norm(anchor_BD, axis=1)
        positive_B = np.linalg.norm(anchor_BD - x_ND[positives[block]], axis=1)
        negative_B = np.linalg.norm(anchor_BD - x_ND[negatives[block]], axis=1)
        correct_B = negative_B > tie_limit(positive_B, norm_B)
        num_correct += int(correct_B.sum())
        num_tied += int((~correct_B & ~(positive_B > tie_limit(negative_B, norm_B))).sum())
    return TripletAccuracy(
        accuracy=num_correct / len(anchors),
        interval=wilson_interval(num_correct, len(anchors)),
        num_triplets=len(anchors),
        num_tied=num_tied,
    )


def sample_triplets(
    labels_N: npt.ArrayLike, num_triplets: int, *, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return item indices (anchors, positives, negatives), int64 [T] each, drawn with replacement.

    A class is drawn uniformly from those with two items or more, an anchor uniformly from its items, a positive from
    the others of them, and a negative uniformly from all items of other classes.

    Raises:
        InputError: no class has two items, or there is only one class, or num_triplets < 1.

    >>> anchors, positives, negatives = sample_triplets(["a", "a", "b"], 2, seed=0)
    >>> sorted({int(anchors[0]), int(positives[0])}), negatives.tolist()
    ([0, 1], [2, 2])
    """
    labels = checked_labels(labels_N, "labels_N", np.shape(labels_N)[0] if np.ndim(labels_N) else 0)
    if num_triplets < 1:
        raise InputError(f"num_triplets: {num_triplets!r} is less than 1; use for example 10000")
    [codes] = class_codes(labels)
    count_C = np.bincount(codes) if len(codes) else np.zeros(0, dtype=np.int64)
    eligible = np.flatnonzero(count_C >= 2)
    if len(count_C) < 2 or len(eligible) == 0:
        raise InputError(
            f"labels_N: {len(count_C)} classes, {len(eligible)} of them with two items; "
            "a triplet needs two items of one class and one of another"
        )
    start_C = np.cumsum(count_C) - count_C
    order_N = np.argsort(codes, kind="stable")
    random = generator(seed, "held-out triplets")
    drawn = random.choice(eligible, size=num_triplets)
    start, count = start_C[drawn], count_C[drawn]
    anchor_place = random.integers(0, count)
    positive_place = (anchor_place + random.integers(1, count)) % count
    # Places before the class stay, places from it on jump over it.
    negative_place = random.integers(0, len(codes) - count)
    negative_place += np.where(negative_place >= start, count, 0)
    return order_N[start + anchor_place], order_N[start + positive_place], order_N[negative_place]


def _checked_indices(values: Any, name: str, num_items: int) -> npt.NDArray[np.int64]:
    indices = np.asarray(values)
    if indices.ndim != 1 or len(indices) == 0 or indices.dtype.kind not in "iu":
        raise InputError(f"{name}: shape {indices.shape} and type {indices.dtype}; give a flat array of item indices")
    wrong = np.flatnonzero((indices < 0) | (indices >= num_items))
    if len(wrong):
        raise InputError(f"{name}: {indices[wrong[0]]} of triplet {wrong[0]} is not in [0, {num_items})")
    return indices.astype(np.int64)
