"""Search among more items than a query is compared with one by one: an index of the store, whose recall is measured."""

from dataclasses import dataclass
from math import sqrt
from typing import final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mohs.distances import exact_distance
from mohs.index.exact_search import Vectors, nearest_items
from mohs.index.store import Store, vectors_of
from mohs.randomness import generator

__all__ = ["EXACT_UP_TO", "Approximation", "build_approximation", "items_of"]

EXACT_UP_TO = 200_000
"""Items that are held in memory and all compared with a query; an index of more is approximate."""
_MIN_RECALL = 0.95
_NUM_QUERIES, _NUM_NEAREST = 200, 10
_FIRST_PROBES = 8


@final
@dataclass(frozen=True)
class Approximation:
    """An inverted file of the store: its items in cells, of which a query looks into the nearest.

    Attributes:
        num_items: that it was built of; later ones are compared one by one until the index is compacted.
        num_partitions: its cells.
        num_probes: cells that a query looks into: 8, 16, 32 …, the first that find 95%.
        recall: share of the ten nearest items that are found, itself apart, in the mean over `num_queries` items.
        num_queries: items that were asked for.
    """

    num_items: int
    num_partitions: int
    num_probes: int
    recall: float
    num_queries: int


def items_of(rows: pa.Table) -> Vectors:
    """Return rows with the columns id, class and vector as items in order of their ids."""
    rows = rows.sort_by("id")
    id_N, class_N = (np.array(rows.column(name).to_pylist(), dtype=object) for name in ("id", "class"))
    return Vectors(id_N, class_N, vectors_of(rows))


def build_approximation(store: Store, *, seed: int = 0) -> Approximation:
    """Index the vectors of a store's newest version, of 20 items at least, and return what is found, measured.

    `seed` draws the items that are asked for.
    """
    store = store.newest()
    items = items_of(store.read(["id", "class", "vector"]))
    num_partitions = round(sqrt(len(items)))
    store = store.index_vectors(num_partitions)
    random = generator(seed, "items asked for the recall of an index")
    asked = np.sort(random.choice(len(items), min(_NUM_QUERIES, len(items)), replace=False))
    query_QD = items.x_ND[asked]
    farthest_Q = np.array([distance[-1] for _, distance in nearest_items(items, query_QD, _NUM_NEAREST + 1)])
    num_probes = min(_FIRST_PROBES, num_partitions)
    while True:
        recall = _recall(store, items.id_N[asked], query_QD, farthest_Q, num_probes)
        if recall >= _MIN_RECALL or num_probes == num_partitions:
            return Approximation(len(items), num_partitions, num_probes, recall, len(asked))
        num_probes = min(2 * num_probes, num_partitions)


def _recall(
    store: Store,
    id_Q: NDArray[np.object_],
    query_QD: NDArray[np.float32],
    farthest_Q: NDArray[np.floating],
    num_probes: int,
) -> float:
    """Return the share of what is found that is as near as the tenth nearest, itself apart: of copies any counts."""
    num_found = 0
    for own, query_D, farthest in zip(id_Q.tolist(), query_QD, farthest_Q, strict=True):
        found = items_of(store.nearest(query_D, _NUM_NEAREST + 1, num_probes=num_probes))
        x_KD = found.x_ND[found.id_N != own]
        near = exact_distance(x_KD, np.broadcast_to(query_D, x_KD.shape)) <= farthest
        num_found += min(int(near.sum()), _NUM_NEAREST)
    return num_found / (_NUM_NEAREST * len(id_Q))
