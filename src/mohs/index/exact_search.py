"""The nearest items of a query among those of an index, exact."""

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from mohs.distances import exact_distance

__all__ = ["Vectors", "nearest_items"]

_BLOCK = 64
# Squared distances of unit vectors by float32 products are this near to the exact ones, for up to 10,000 dimensions.
_SLACK = 1e-4


@final
@dataclass(frozen=True, eq=False)
class Vectors:
    """N items of an index in memory, in order of their ids: ids, str; classes, str; unit vectors, float32[N, D]."""

    id_N: NDArray[np.object_]
    class_N: NDArray[np.object_]
    x_ND: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.id_N)


def nearest_items(
    vectors: Vectors, query_QD: NDArray[np.float32], num: int, *, allowed_QN: NDArray[np.bool_] | None = None
) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Return, for each query, the nearest items and their Euclidean distances, nearest first.

    At most `num` for each, fewer if fewer are allowed. Distances are defined as everywhere (`exact_distance`); ties go
    to the item that comes first. A product of matrices narrows the choice to what lies within its rounding error.

    Args:
        vectors: the items.
        query_QD: unit vectors.
        num: at least 1.
        allowed_QN: the items that may be an answer, for each query or for all ([1, N]).
    """
    found = []
    allowed = None if allowed_QN is None else np.broadcast_to(allowed_QN, (len(query_QD), len(vectors)))
    for start in range(0, len(query_QD), _BLOCK):
        block_BD = query_QD[start : start + _BLOCK]
        farness_BN = -(block_BD @ vectors.x_ND.T)
        for row, query_D in enumerate(block_BD):
            farness_N = farness_BN[row]
            if allowed is not None:
                farness_N = np.where(allowed[start + row], farness_N, np.inf)
            k = min(num, int(np.isfinite(farness_N).sum()))
            if not k:
                found.append((np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)))
                continue
            limit = np.partition(farness_N, k - 1)[k - 1] + _SLACK
            items = np.flatnonzero(farness_N <= limit)
            distance = exact_distance(vectors.x_ND[items], np.broadcast_to(query_D, (len(items), len(query_D))))
            order = np.argsort(distance, kind="stable")[:k]
            found.append((items[order].astype(np.int64), distance[order]))
    return found
