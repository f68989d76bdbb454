"""The nearest other items of each item, and which items are everyone's neighbour."""

from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from mohs.data.equal_pictures import nearest_rows
from mohs.distances import unit_rows
from mohs.errors import InputError

__all__ = ["Occurrence", "nearest_items", "occurrence"]


def nearest_items(
    embeddings_ND: npt.ArrayLike, k: int, *, query_N: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.int64]:
    """Return the k most similar other items of each item, int64 [N, k], most similar first, by faiss's flat search.

    With `query_N` (bool [N]) an item has the items of the other side only as its neighbours. Where there are fewer
    than k, the rest of a row is -1. Similarity is the dot product of unit rows, in float32.

    >>> nearest_items([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]], 1).ravel().tolist()
    [1, 0, 1]
    """
    x_ND = unit_rows(embeddings_ND)
    if k < 1:
        raise InputError(f"k: {k!r} is below 1; use for example 10")
    if query_N is None:
        # An item is its own neighbour, though not always the first one: copies of it are as near.
        found_NK = nearest_rows(x_ND, x_ND, min(k + 1, len(x_ND)))
        is_self_NK = found_NK == np.arange(len(x_ND))[:, None]
        missing_N = ~is_self_NK.any(axis=1)
        is_self_NK[missing_N, -1] = True
        found_NK = found_NK[~is_self_NK].reshape(len(x_ND), -1)
    else:
        found_NK = np.full((len(x_ND), k), -1, dtype=np.int64)
        for side_N in (query_N, ~query_N):
            others = np.flatnonzero(~side_N)
            if len(others) and side_N.any():
                few = min(k, len(others))
                found_NK[side_N, :few] = others[nearest_rows(x_ND[side_N], x_ND[others], few)]
    short = k - found_NK.shape[1]
    return np.pad(found_NK, ((0, 0), (0, short)), constant_values=-1) if short else found_NK


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

    count_N: npt.NDArray[np.int64]
    bad_count_N: npt.NDArray[np.int64]
    num_bad_classes_N: npt.NDArray[np.int64]
    skewness: float
    k: int

    def hubs(self, times: float = 5.0) -> npt.NDArray[np.bool_]:
        """Return which items are a wrong neighbour of more than `times`·k items, of k classes or more, bool [N].

        Were neighbours drawn at random, `count_N` would be about Poisson with mean k: above 5·k with a probability
        under 10⁻¹⁵ for k = 10.
        """
        hub_N: npt.NDArray[np.bool_] = (self.bad_count_N > times * self.k) & (self.num_bad_classes_N >= self.k)
        return hub_N


def occurrence(neighbours_NK: npt.NDArray[np.int64], class_N: npt.NDArray[np.int64]) -> Occurrence:
    """Return how often each item is a neighbour; `neighbours_NK` from `nearest_items`, -1 for none.

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
