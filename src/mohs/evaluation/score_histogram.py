"""How the scores of positive and of negative pairs are distributed."""

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt

from mohs.errors import InputError
from mohs.evaluation.pair_scores import PairScores, ScoreKind

__all__ = ["ScoreHistogram", "score_histogram"]


@final
@dataclass(frozen=True, eq=False)
class ScoreHistogram:
    """Shares of the pairs of each kind in B bins of scores.

    Attributes:
        kind: "distance" or "similarity".
        edges: float64 [B + 1], evenly from the smallest to the largest score.
        positive: share of the positive pairs in each bin, float64 [B], adding up to 1.
        negative: share of the negative pairs, likewise.
    """

    kind: ScoreKind
    edges: npt.NDArray[np.float64]
    positive: npt.NDArray[np.float64]
    negative: npt.NDArray[np.float64]

    def as_record(self) -> dict[str, Any]:
        """Return the numbers as JSON values."""
        return {
            "kind": self.kind,
            "edges": self.edges.tolist(),
            "positive": self.positive.tolist(),
            "negative": self.negative.tolist(),
        }


def score_histogram(scores: PairScores, *, num_bins: int = 60) -> ScoreHistogram:
    """Return the histogram of both kinds; pairs count by weight. Raises `InputError` for fewer than one bin.

    If all scores are the same, the bins span ½ below and above it.
    """
    if num_bins < 1:
        raise InputError(f"num_bins: {num_bins!r} is less than 1; use for example 60")
    edges = np.histogram_bin_edges(scores.value_P, bins=num_bins)
    positive, negative = (
        np.histogram(scores.value_P[kind_P], bins=edges, weights=scores.weight_P[kind_P])[0]
        for kind_P in (scores.same_P, ~scores.same_P)
    )
    return ScoreHistogram(scores.kind, edges, positive / positive.sum(), negative / negative.sum())
