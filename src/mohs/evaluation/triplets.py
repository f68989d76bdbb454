"""Triplet accuracy: how often an item of the same class is closer than an item of another one.

The negatives decide what the number means. Random ones are easy: the accuracy tells whether there is an order at all.
The nearest ones are what a search meets: the accuracy is close to recall@1. In between lie the semi-hard ones, here
those of rank √M by distance among the M negatives of an anchor. (The semi-hard negatives of FaceNet are farther than
the positive by definition: the accuracy on them would be 1, whatever the network.)
"""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, final, get_args

import numpy as np
import numpy.typing as npt

from mohs.checks import class_labels, item_indices, require, wrong_choice, wrong_whole
from mohs.errors import InputError
from mohs.evaluation.checked import Array, Float64, Index, checked_embeddings, checked_labels, class_codes
from mohs.evaluation.intervals import class_interval, wilson_interval
from mohs.evaluation.ranks import tie_limit
from mohs.hardness.scales import rank_of
from mohs.mining import Scale, mine
from mohs.peers import ALONE, Peers
from mohs.randomness import generator

__all__ = ["Negatives", "TripletAccuracy", "sample_triplets", "triplet_accuracy", "triplet_accuracy_of"]

Negatives: TypeAlias = Literal["random", "semi-hard", "hard"]

# What mining is asked for.
_MINED: dict[str, tuple[Scale, float]] = {"semi-hard": ("log-rank", 0.5), "hard": ("rank", 1.0)}

# Rows of differences at a time: 4,096 x 2,048 dimensions in float64 is 64 MB.
_BLOCK_TRIPLETS = 4096


@final
@dataclass(frozen=True)
class TripletAccuracy:
    """The share of triplets in order.

    Attributes:
        accuracy: share of triplets whose positive is strictly closer to the anchor than the negative; ties are wrong.
        interval: its 95% interval over the anchors' classes (`class_interval`), where they are known and more than one;
            else that of Wilson, which holds the noise of sampling triplets alone.
        num_triplets: how many triplets.
        num_tied: how many of them are ties; near `num_triplets` the embedding has collapsed.
        chance: the accuracy of an embedding that knows nothing; none for given triplets.
    """

    accuracy: float
    interval: tuple[float, float]
    num_triplets: int
    num_tied: int
    chance: float | None = None

    def as_record(self) -> dict[str, Any]:
        """Return the numbers as JSON values."""
        return {
            "accuracy": self.accuracy,
            "interval": list(self.interval),
            "chance": self.chance,
            "num_triplets": self.num_triplets,
            "num_tied": self.num_tied,
        }


def triplet_accuracy(
    embeddings_ND: npt.ArrayLike,
    labels_N: npt.ArrayLike,
    *,
    negatives: Negatives = "random",
    num_triplets: int = 10_000,
    seed: int = 0,
    peers: Peers = ALONE,
) -> TripletAccuracy:
    """Return the share of triplets with d(anchor, positive) < d(anchor, negative), Euclidean.

    Anchors and positives come from `sample_triplets`, and so do the negatives if they are "random". Others are mined
    for the anchor over all items of other classes (`mohs.mine`): "hard" is the nearest of the M, "semi-hard" the one of
    rank √M (scale log-rank, hardness 0.5). If the positive's place among the M negatives were random, the accuracy on
    the negative of 0-based rank r would be (r + 1)/(M + 1), and 0.5 on random ones: that is `chance`.

    Distances that differ by no more than rounding are ties, and ties are wrong (`mohs.evaluation.ranks`), so a
    collapsed embedding has accuracy 0. `peers` are processes that call this together: they share the mining.

    Raises `InputError` for inputs that `sample_triplets` refuses, and for other negatives.

    >>> triplet_accuracy([[0.0], [0.1], [5.0], [5.1]], [0, 0, 1, 1], num_triplets=100).accuracy
    1.0
    """
    require(wrong_choice("negatives", negatives, get_args(Negatives)))
    x_ND = checked_embeddings(embeddings_ND, "embeddings_ND")
    labels = checked_labels(labels_N, "labels_N", len(x_ND))
    anchors, positives, chosen = sample_triplets(labels, num_triplets, seed=seed)
    chance = 0.5
    if negatives != "random":
        scale, hardness = _MINED[negatives]
        anchors_U, place_T = np.unique(anchors, return_inverse=True)
        plan = mine(
            x_ND, labels, anchors_T=anchors_U, positives_T=anchors_U, hardness_T=hardness, scale=scale, peers=peers
        )
        chosen = plan.negative[place_T]
        [codes] = class_codes(labels)
        num_negatives_T = len(codes) - np.bincount(codes)[codes[anchors]]
        rank_T = rank_of(scale, np.full(len(anchors), hardness), num_negatives_T)
        chance = float(((rank_T + 1) / (num_negatives_T + 1)).mean())
    return _measured(x_ND, anchors, positives, chosen, labels, chance)


def triplet_accuracy_of(
    embeddings_ND: npt.ArrayLike,
    anchors_T: npt.ArrayLike,
    positives_T: npt.ArrayLike,
    negatives_T: npt.ArrayLike,
    *,
    labels_N: npt.ArrayLike | None = None,
) -> TripletAccuracy:
    """Return the share of the given triplets (item indices, int [T] each) in order; the rule of `triplet_accuracy`.

    With the labels of the items, the interval is that over the anchors' classes.

    >>> triplet_accuracy_of([[0.0], [0.1], [5.0]], [0, 0], [1, 2], [2, 1]).accuracy
    0.5
    """
    x_ND = checked_embeddings(embeddings_ND, "embeddings_ND")
    names = ("anchors_T", "positives_T", "negatives_T")
    anchors, positives, negatives = (
        item_indices(name, values, len(x_ND))
        for values, name in zip((anchors_T, positives_T, negatives_T), names, strict=True)
    )
    if not len(anchors) or not len(anchors) == len(positives) == len(negatives):
        raise InputError(
            f"{', '.join(names)}: lengths {len(anchors)}, {len(positives)} and {len(negatives)}; "
            "give one of each for every triplet"
        )
    labels = None if labels_N is None else checked_labels(labels_N, "labels_N", len(x_ND))
    return _measured(x_ND, anchors, positives, negatives, labels, None)


def _measured(
    x_ND: Float64, anchors: Index, positives: Index, negatives: Index, labels: Array | None, chance: float | None
) -> TripletAccuracy:
    correct_T = np.empty(len(anchors), dtype=bool)
    num_tied = 0
    for first in range(0, len(anchors), _BLOCK_TRIPLETS):
        block = slice(first, first + _BLOCK_TRIPLETS)
        anchor_BD = x_ND[anchors[block]]
        norm_B = np.linalg.norm(anchor_BD, axis=1)
        positive_B = np.linalg.norm(anchor_BD - x_ND[positives[block]], axis=1)
        negative_B = np.linalg.norm(anchor_BD - x_ND[negatives[block]], axis=1)
        correct_T[block] = negative_B > tie_limit(positive_B, norm_B)
        num_tied += int((~correct_T[block] & ~(positive_B > tie_limit(negative_B, norm_B))).sum())
    num_correct = int(correct_T.sum())
    interval = wilson_interval(num_correct, len(anchors))
    if labels is not None and (labels[anchors] != labels[anchors[0]]).any():
        interval = class_interval(correct_T, labels[anchors])
    return TripletAccuracy(
        accuracy=num_correct / len(anchors),
        interval=interval,
        num_triplets=len(anchors),
        num_tied=num_tied,
        chance=chance,
    )


def sample_triplets(labels_N: npt.ArrayLike, num_triplets: int, *, seed: int) -> tuple[Index, Index, Index]:
    """Return item indices (anchors, positives, negatives), int64 [T] each, drawn with replacement.

    A class is drawn uniformly from those with two items or more, an anchor uniformly from its items, a positive from
    the others of them, and a negative uniformly from all items of other classes.

    Raises:
        InputError: no class has two items, or there is only one class, or num_triplets < 1.

    >>> anchors, positives, negatives = sample_triplets(["a", "a", "b"], 2, seed=0)
    >>> sorted({int(anchors[0]), int(positives[0])}), negatives.tolist()
    ([0, 1], [2, 2])
    """
    labels = class_labels("labels_N", labels_N)
    require(wrong_whole("num_triplets", num_triplets, example=10_000))
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
