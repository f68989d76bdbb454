"""Evidence of why items are similar: hubs, equal pictures, pictures that show too little, a margin out of reach."""

from collections import defaultdict
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from mohs.checks import require, wrong_number
from mohs.data.multi_label import joined_sets
from mohs.data.stored_pictures import Pictures, StoredPictures
from mohs.distances import unit_rows
from mohs.errors import InputError
from mohs.evaluation.checked import Bools, Float64, Index
from mohs.randomness import generator

__all__ = [
    "MarginCheck", "Occurrence", "TripletMargin", "check_margin", "join_classes", "low_information", "occurrence",
    "random_similarities", "twins_by_number",
]  # fmt: skip


@final
@dataclass(frozen=True, eq=False)
class Occurrence:
    """How often items are among the k nearest of others (Radovanović et al., "Hubs in space", 2010).

    Attributes:
        count_N: of how many items of any class each item is one of the k nearest, int64 [N]; k on average.
        bad_count_N: of how many items of other classes.
        num_bad_classes_N: of how many other classes those are.
        skewness: of `count_N`, third standardised moment: about 0 without hubs, above 2 with strong ones.
        k: how many neighbours were looked at.
    """

    count_N: Index
    bad_count_N: Index
    num_bad_classes_N: Index
    skewness: float
    k: int

    def hubs(self) -> Bools:
        """Return which items are a wrong neighbour of more than 5·k items, of k classes or more, bool [N].

        Were neighbours drawn at random, `count_N` would be about Poisson with mean k: above 5·k with a probability
        under 10⁻¹⁵ for k = 10.
        """
        hub_N: Bools = (self.bad_count_N > 5 * self.k) & (self.num_bad_classes_N >= self.k)
        return hub_N


def occurrence(neighbours_NK: Index, class_N: Index) -> Occurrence:
    """Return how often each item is a neighbour.

    `neighbours_NK` is from `mohs.evaluation.exact_neighbours.nearest_items`, -1 for none.

    >>> occurrence(np.array([[1], [0], [1]]), np.array([0, 0, 1])).bad_count_N.tolist()
    [0, 1, 0]
    """
    num_items, k = neighbours_NK.shape
    query = np.repeat(np.arange(num_items), k)
    item = neighbours_NK.ravel()
    query, item = query[item >= 0], item[item >= 0]
    count_N = np.bincount(item, minlength=num_items)
    bad = class_N[query] != class_N[item]
    bad_count_N = np.bincount(item[bad], minlength=num_items)
    by_class = np.unique(np.stack([item[bad], class_N[query[bad]]]), axis=1)
    num_bad_classes_N = np.bincount(by_class[0], minlength=num_items)
    deviation_N = count_N - count_N.mean()
    spread = float(np.sqrt(np.mean(deviation_N**2)))
    skewness = float(np.mean(deviation_N**3) / spread**3) if spread > 0 else 0.0
    return Occurrence(count_N, bad_count_N, num_bad_classes_N, skewness, k)


def twins_by_number(class_N: Index, picture_N: Index) -> tuple[Index, Index]:
    """Return pairs of items of different classes with the same picture, one pair for each two classes and picture.

    >>> first, second = twins_by_number(np.array([0, 0, 1, 2]), np.array([5, 5, 5, 7]))
    >>> first.tolist(), second.tolist()
    ([0], [2])
    """
    # One item of each class and picture is enough.
    _, items = np.unique(np.stack([class_N, picture_N]), axis=1, return_index=True)
    by_picture: dict[int, list[int]] = defaultdict(list)
    for item in np.sort(items).tolist():
        by_picture[int(picture_N[item])].append(item)
    pairs = [(a, b) for group in by_picture.values() for i, a in enumerate(group) for b in group[i + 1 :]]
    first, second = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return first, second


def join_classes(class_N: Index, picture_N: Index, first_T: Index, second_T: Index) -> Index:
    """Return the class that each class is joined to, int64 [C]: the largest of its group, of equal ones the lowest.

    Two classes are one if more than half of the different pictures of one of them have a twin in the other. A class of
    one picture that has a twin is therefore joined; in a class of two, one twin is not enough: it may be a copy under a
    wrong label.

    Args:
        class_N: class codes, 0 to C − 1.
        picture_N: number of each item's picture.
        first_T: items that have a twin.
        second_T: their twins.

    >>> join_classes(np.array([0, 0, 1, 1, 1]), np.array([7, 8, 7, 8, 9]), np.array([0, 1]), np.array([2, 3])).tolist()
    [1, 1]
    """
    num_classes = int(class_N.max()) + 1
    size_C = np.bincount(class_N, minlength=num_classes)
    pictures_C = np.bincount(np.unique(np.stack([class_N, picture_N]), axis=1)[0], minlength=num_classes)
    shared: dict[tuple[int, int], set[int]] = defaultdict(set)
    for one, other in ((first_T, second_T), (second_T, first_T)):
        for label, twin_label, picture in zip(
            class_N[one].tolist(), class_N[other].tolist(), picture_N[one].tolist(), strict=True
        ):
            if label != twin_label:
                shared[label, twin_label].add(picture)
    joined = joined_sets(pair for pair, pictures in shared.items() if 2 * len(pictures) > pictures_C[pair[0]])
    name_C = np.arange(num_classes)
    for group in {id(group): group for group in joined.values()}.values():
        # The largest class gives its name; of equal ones the lowest.
        name_C[list(group)] = min(group, key=lambda each: (-size_C[each], each))
    return name_C


BLANK_STD = 3.0
BLURRED_SHARE = 0.1
TINY_SHARE = 0.25


def low_information(pictures_NHWC: Pictures, *, longer_side_N: npt.ArrayLike | None = None) -> npt.NDArray[np.str_]:
    """Return which pictures show too little, str [N]: "blank", "blurred", "tiny", or "" where nothing is wrong.

    The first of these that holds: "blank" if the standard deviation of the grey values is under 3 of 255; "tiny" if the
    file's longer side has less than a quarter of the pixels of the prepared picture's, so that it was enlarged more
    than four times; "blurred" if its sharpness is under a tenth of the median of all pictures. The sharpness is the
    energy of the Laplacian over the variance, both of grey values, and does not depend on contrast: 0 without any
    detail, about 20 for noise. The Laplacian is the mean of the four neighbours minus the pixel, times 4, without the
    border (Pech-Pacheco et al. 2000).

    Args:
        pictures_NHWC: uint8 [N, H, W, C], H and W at least 3.
        longer_side_N: pixels of the longer side of each file, 0 if unknown; None: "tiny" is not looked for.

    >>> pictures = np.zeros((2, 8, 8, 1), np.uint8)
    >>> pictures[1, 2:4, 3:6] = 255
    >>> low_information(pictures).tolist()
    ['blank', '']
    """
    is_array = isinstance(pictures_NHWC, np.ndarray | StoredPictures)
    pictures = pictures_NHWC if is_array else np.asarray(pictures_NHWC)
    if len(pictures.shape) != 4 or pictures.dtype != np.uint8 or min(pictures.shape[1:3]) < 3:
        raise InputError(f"pictures_NHWC: {pictures.dtype}{pictures.shape} is not uint8 [N, H, W, C], 3 x 3 or larger")
    num_pictures = len(pictures)
    std_N, sharpness_N = np.zeros(num_pictures), np.zeros(num_pictures)
    for i, picture in enumerate(pictures):
        grey_HW = picture.mean(axis=-1, dtype=np.float32)
        middle = grey_HW[1:-1, 1:-1]
        around = grey_HW[:-2, 1:-1] + grey_HW[2:, 1:-1] + grey_HW[1:-1, :-2] + grey_HW[1:-1, 2:]
        variance = float(grey_HW.var(dtype=np.float64))
        std_N[i] = variance**0.5
        sharpness_N[i] = float(np.square(around - 4 * middle).mean(dtype=np.float64)) / variance if variance else 0.0
    why_N = np.full(num_pictures, "", dtype="<U7")
    blank_N = std_N < BLANK_STD
    if not blank_N.all():
        why_N[sharpness_N < BLURRED_SHARE * np.median(sharpness_N[~blank_N])] = "blurred"
    if longer_side_N is not None:
        side_N = np.asarray(longer_side_N)
        why_N[(side_N > 0) & (side_N < TINY_SHARE * max(pictures.shape[1:3]))] = "tiny"
    why_N[blank_N] = "blank"
    return why_N


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


def check_margin(embeddings_ND: npt.ArrayLike, class_N: Index, margin: TripletMargin) -> MarginCheck:
    """Return how a triplet margin compares with the distances between unit vectors, by 200,000 random triplets.

    ‖a − b‖² = 2 − 2·a·b ≤ 4, and the mean of ‖a − b‖² over all pairs is 2 − 2·‖mean vector‖² ≤ 2, so a margin above 4
    is never met and one above 2 not by the average negative, however long the training.

    Args:
        embeddings_ND: numbers [N, D]; rows are divided by their norms.
        class_N: class codes.
        margin: of the triplet loss.
    """
    require(wrong_number("margin", margin.value, above=0, example=0.2))
    x_ND = unit_rows(embeddings_ND).astype(np.float64)
    order = np.argsort(class_N, kind="stable")
    size_C = np.bincount(class_N)
    start_C = np.cumsum(size_C) - size_C
    random = generator(0, "random triplets")
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
