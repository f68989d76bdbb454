"""Which items are everyone's neighbour."""

from dataclasses import dataclass
from typing import final

import numpy as np

from mohs.evaluation.checked import Bools, Index

__all__ = ["Occurrence", "occurrence"]


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

    def hubs(self, times: float = 5.0) -> Bools:
        """Return which items are a wrong neighbour of more than `times`·k items, of k classes or more, bool [N].

        Were neighbours drawn at random, `count_N` would be about Poisson with mean k: above 5·k with a probability
        under 10⁻¹⁵ for k = 10.
        """
        hub_N: Bools = (self.bad_count_N > times * self.k) & (self.num_bad_classes_N >= self.k)
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
