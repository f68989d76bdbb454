"""Chance levels: what the metrics come to if the gallery is ranked at random, so that a value can be read.

With few classes, or many items in each, chance is high; with one relevant item among thousands it is nearly 0.
"""

from collections.abc import Sequence

import numpy as np

from mohs.evaluation.checked import Float64, Index

__all__ = ["chance_levels"]


def chance_levels(
    num_relevant_Q: Index, num_ranked_Q: Index, ks: Sequence[int], *, weight_Q: Float64 | None = None
) -> dict[str, float]:
    """Return the expected value of each metric of `RetrievalResult.metrics`, all orders of a gallery being as likely.

    For a query with R relevant among M items, and H_n = 1 + 1/2 + … + 1/n:

    - recall@k: 1 − S(k), where S(k) = Π_{j<k} (M−R−j)/(M−j) is the probability of no relevant item among the first k;
    - precision@k and R-precision: R/M;
    - mAP: (H_M + (R−1)/(M−1)·(M − H_M)) / M, and MAP@R: (H_R + (R−1)/(M−1)·(R − H_R)) / M (Bestgen 2015, "Exact
      expected average precision of the random baseline for system evaluation");
    - MRR: Σ_r (S(r−1) − S(r)) / r.

    The mean over the queries is returned, by `weight_Q` if given; each must have a relevant item.

    >>> {name: round(value, 4) for name, value in chance_levels(np.array([1]), np.array([4]), [1]).items()}
    {'recall@1': 0.25, 'precision@1': 0.25, 'mAP': 0.5208, 'MAP@R': 0.25, 'R-precision': 0.25, 'MRR': 0.5208}
    """
    pairs_U2, place_Q = np.unique(np.stack([num_relevant_Q, num_ranked_Q], axis=1), axis=0, return_inverse=True)
    weight_U = np.bincount(place_Q, weights=weight_Q)
    values_UK = np.array([_chances(int(R), int(M), ks) for R, M in pairs_U2])
    means_K = (weight_U @ values_UK) / weight_U.sum()
    names = [f"recall@{k}" for k in ks] + [f"precision@{k}" for k in ks] + ["mAP", "MAP@R", "R-precision", "MRR"]
    return dict(zip(names, means_K.tolist(), strict=True))


def _chances(R: int, M: int, ks: Sequence[int]) -> list[float]:
    j = np.arange(M)
    none_M1 = np.concatenate([[1.0], np.cumprod(np.maximum(M - R - j, 0) / (M - j))])
    recalls = [float(1 - none_M1[min(k, M)]) for k in ks]
    harmonic_M = np.cumsum(1 / (j + 1))
    pairs = (R - 1) / (M - 1) if M > 1 else 0.0
    mean_average_precision, map_at_r = (float(harmonic_M[n - 1] + pairs * (n - harmonic_M[n - 1])) / M for n in (M, R))
    reciprocal_rank = float(((none_M1[:-1] - none_M1[1:]) / (j + 1)).sum())
    return [*recalls, *[R / M] * len(ks), mean_average_precision, map_at_r, R / M, reciprocal_rank]
