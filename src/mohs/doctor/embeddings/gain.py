"""What a change of embeddings does to R@1: the gain over the same queries, with its interval."""

from dataclasses import dataclass
from typing import final

import numpy as np

from mohs.evaluation.checked import Bools
from mohs.evaluation.embedded import Embedded, Recall
from mohs.evaluation.intervals import difference_and_interval

__all__ = ["Gain", "gain_of"]


@final
@dataclass(frozen=True)
class Gain:
    """What a change does to R@1 of the same queries.

    Attributes:
        before, after: R@1 of the queries that count.
        gain: mean of the paired differences, after less before.
        low, high: its 95% interval over classes.
        num: queries that count.
    """

    before: float
    after: float
    gain: float
    low: float
    high: float
    num: int

    def numbers(self, before: str, after: str, gain: str = "gain") -> dict[str, float]:
        """Return what a finding keeps of it, under these names; `gain` with the ends of its interval."""
        return {before: self.before, after: self.after, gain: self.gain, "low": self.low, "high": self.high}


def gain_of(before: Recall, after_hits_Q: Bools, queries: Embedded) -> Gain:
    """Return what a change does to R@1, from the hits (bool [Q]) after it."""
    counted = before.counted
    after = after_hits_Q[counted].astype(np.float64)
    gain, low, high = difference_and_interval(after - before.hits[counted], queries.labels[counted])
    return Gain(before.value, float(after.mean()), gain, low, high, before.num)
