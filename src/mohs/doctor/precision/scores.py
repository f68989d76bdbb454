"""Scores that cannot say much at the top: saturated, not normalised, or pushed by a margin that cannot be met."""

from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from mohs.checks import require, wrong_number
from mohs.distances import unit_rows
from mohs.evaluation.checked import Float64, Index
from mohs.randomness import generator

__all__ = ["MarginCheck", "TripletMargin", "check_margin", "random_similarities"]

_NUM_PAIRS = 200_000


def random_similarities(embeddings_ND: npt.ArrayLike, class_N: Index, *, seed: int = 0) -> Float64:
    """Return similarities of up to 200,000 random pairs of different classes (drawn with replacement), ascending.

    >>> random_similarities([[1, 0], [0, 1]], np.array([0, 1]))[:2].tolist()
    [0.0, 0.0]
    """
    x_ND = unit_rows(embeddings_ND)
    random = generator(seed, "random pairs")
    first, second = random.integers(len(x_ND), size=(2, _NUM_PAIRS))
    differ = class_N[first] != class_N[second]
    similarity_R: Float64 = np.einsum("pd,pd->p", x_ND[first[differ]], x_ND[second[differ]], dtype=np.float64)
    return np.sort(similarity_R)


@final
@dataclass(frozen=True)
class MarginCheck:
    """What a margin asks for and what the sphere can give.

    Attributes:
        largest: the largest distance between two points of the unit sphere in the loss's measure: 4 squared, 2 plain.
        average: the largest that all distances of many points can have on average: 2 squared, √2 plain.
        met_share: share of random triplets with d(a, n) ≥ d(a, p) + margin; NaN if no class has two items.
        positive, negative: mean distance to the positive and to the negative of those triplets, in that measure.
    """

    largest: float
    average: float
    met_share: float
    positive: float
    negative: float


@final
@dataclass(frozen=True)
class TripletMargin:
    """The margin of a triplet loss, and whether it is one of squared distances."""

    value: float
    squared: bool = True


def check_margin(embeddings_ND: npt.ArrayLike, class_N: Index, margin: TripletMargin, *, seed: int = 0) -> MarginCheck:
    """Return how a triplet margin compares with the distances that there are between unit vectors.

    ‖a − b‖² = 2 − 2·a·b ≤ 4, and the mean of ‖a − b‖² over all pairs is 2 − 2·‖mean vector‖² ≤ 2, so a margin above 4
    is never met and one above 2 not by the average negative, however long the training.

    Args:
        embeddings_ND: numbers [N, D]; rows are divided by their norms.
        class_N: class codes.
        margin: of the triplet loss.
        seed: of the 200,000 random triplets.
    """
    require(wrong_number("margin", margin.value, above=0, example=0.2))
    x_ND = unit_rows(embeddings_ND).astype(np.float64)
    order = np.argsort(class_N, kind="stable")
    size_C = np.bincount(class_N)
    start_C = np.cumsum(size_C) - size_C
    random = generator(seed, "random triplets")
    anchors = np.flatnonzero(size_C[class_N] > 1)
    largest, average = (4.0, 2.0) if margin.squared else (2.0, 2**0.5)
    if not len(anchors):
        return MarginCheck(largest, average, np.nan, np.nan, np.nan)
    place_N = np.empty(len(order), dtype=np.int64)
    place_N[order] = np.arange(len(order)) - np.repeat(start_C, size_C)
    anchor = anchors[random.integers(len(anchors), size=_NUM_PAIRS)]
    step = 1 + (random.random(_NUM_PAIRS) * (size_C[class_N[anchor]] - 1)).astype(np.int64)
    label = class_N[anchor]
    positive = order[start_C[label] + (place_N[anchor] + step) % size_C[label]]
    negative = random.integers(len(x_ND), size=_NUM_PAIRS)
    differ = class_N[negative] != label
    anchor, positive, negative = anchor[differ], positive[differ], negative[differ]

    def distance(other: Index) -> Float64:
        square = np.maximum(0.0, 2 - 2 * np.einsum("td,td->t", x_ND[anchor], x_ND[other]))
        found: Float64 = square if margin.squared else np.sqrt(square)
        return found

    to_positive, to_negative = distance(positive), distance(negative)
    return MarginCheck(
        largest,
        average,
        float((to_negative >= to_positive + margin.value).mean()),
        float(to_positive.mean()),
        float(to_negative.mean()),
    )
