"""What a search answers: the items that are near, what class they speak for, or that it is unknown."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from mohs.index.calibration import Calibration
from mohs.index.exact_search import Vectors

__all__ = ["Answer", "Match", "first_of_class", "make_answer"]


@final
@dataclass(frozen=True)
class Match:
    """An item that is near to a query.

    Attributes:
        id, label: of the item.
        distance: Euclidean, of unit vectors: 0 is the same, 2 the opposite.
        probability: that it is of the query's class; None if the index is not calibrated.
        columns: the item's row: file, path, role, thumbnail (a PNG) and the table's other columns.
    """

    id: str
    label: str
    distance: float
    probability: float | None
    columns: Mapping[str, Any]


@final
@dataclass(frozen=True)
class Answer:
    """What a search found for one query.

    Attributes:
        matches: nearest first.
        label: the class of the nearest item; None for "unknown", if the index is calibrated and the item is not near
            enough, or if there is no item.
        votes: of each class among the matches, the sum of their probabilities as a share of all; by distance alone
            (1 − d/2) if the index is not calibrated. Largest first.
    """

    matches: tuple[Match, ...]
    label: str | None
    votes: Mapping[str, float]


def first_of_class(
    vectors: Vectors, items: NDArray[np.int64], distance: NDArray[np.float32], num: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the nearest item of each class and its distance, nearest first, at most `num` of them."""
    first = np.unique(vectors.class_N[items].astype(np.str_), return_index=True)[1]
    keep = np.sort(first)[:num]
    return items[keep], distance[keep]


def make_answer(
    vectors: Vectors,
    items: NDArray[np.int64],
    distance: NDArray[np.float32],
    of_id: Mapping[str, Mapping[str, Any]],
    calibration: Calibration | None,
) -> Answer:
    """Return the answer that items [K] at these distances make, with their other columns by id."""
    probability = None if calibration is None else calibration.probability(distance)
    # Lists, since a service makes an answer in the time in which NumPy hands out the numbers one by one.
    ids, labels = vectors.id_N[items].tolist(), vectors.class_N[items].tolist()
    probabilities = [None] * len(ids) if probability is None else probability.tolist()
    matches = tuple(
        Match(item, label, near, chance, of_id[item])
        for item, label, near, chance in zip(ids, labels, distance.tolist(), probabilities, strict=True)
    )
    weight = 1 - distance / 2 if probability is None else probability
    votes: dict[str, float] = {}
    for label, each in zip(labels, weight.tolist(), strict=True):
        votes[label] = votes.get(label, 0.0) + each
    total = sum(votes.values()) or 1.0
    near = bool(matches) and (calibration is None or matches[0].distance < calibration.threshold_distance)
    return Answer(
        matches=matches,
        label=matches[0].label if near else None,
        votes={label: votes[label] / total for label in sorted(votes, key=lambda each: -votes[each])},
    )
