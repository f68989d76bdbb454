"""Pictures of a batch that must not be negatives of each other.

An in-batch loss takes every picture of another class for a negative. Three rules say of which it must not:

1. pairs that are not to be trusted: equal pictures under two classes, and those that a review has ruled out
   (`mohs.training.false_negatives.distrusted_pairs`), both ways;
2. `negatives.min_distance_ratio`: a picture nearer than ratio·d, d being the distance to the anchor's own positive in
   this batch; a positive that is an augmentation of the anchor has distance 0 and rules out nothing, as in mining;
3. `training.anchors = "catalog"`: catalog pictures are nobody's negatives.

The pairs leave the sum over negatives of a loss, and with it the gradient: what is left is the loss of a batch in which
the two had never met. Only pairs of rules 1 and 2 are counted.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mohs.data.dataset import Dataset
from mohs.settings.config import RunConfig

__all__ = [
    "Apart",
    "by_first_item",
    "may_be_negatives",
    "near_pairs",
    "own_positive_distance",
    "pairs_between",
    "pairs_in_batch",
]


@final
@dataclass(frozen=True, eq=False)
class Apart:
    """Pairs of a batch of M pictures that are kept apart.

    Attributes:
        all_MM: True where the column must not be a negative of the row, bool[M, M].
        fixed_MM: those of them that do not depend on the embeddings (rules 1 and 3); what a collapsed network pays is
            without these.
        num_pairs: pairs (row, column) by rules 1 and 2.
    """

    all_MM: Tensor
    fixed_MM: Tensor
    num_pairs: int


def may_be_negatives(dataset: Dataset, config: RunConfig) -> NDArray[np.bool_]:
    """Return which items may be negatives, bool[N]: with catalog pictures for anchors samples alone (rule 3)."""
    if config.training.anchors == "catalog":
        return np.asarray(dataset.roles != "catalog")
    return np.ones(len(dataset), dtype=bool)


def by_first_item(pair_P2: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return pairs in the order that `pairs_between` wants: by their first item, then by their second."""
    return pair_P2[np.lexsort(pair_P2.T[::-1])]


def pairs_between(
    pair_P2: NDArray[np.int64], item_R: NDArray[np.int64], item_C: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return which (row, column) are pairs (first item, second item) of a list in order, bool[R, C].

    >>> pairs_between(np.array([[1, 5], [2, 7], [5, 1]]), np.array([2, 1, 1]), np.array([5, 7])).tolist()
    [[False, True], [True, False], [True, False]]
    """
    found_RC = np.zeros((len(item_R), len(item_C)), dtype=bool)
    row, pair = _spans(*(np.searchsorted(pair_P2[:, 0], item_R, side) for side in ("left", "right")))
    order_C = np.argsort(item_C, kind="stable")
    other = pair_P2[pair, 1]
    which, place = _spans(*(np.searchsorted(item_C[order_C], other, side) for side in ("left", "right")))
    found_RC[row[which], order_C[place]] = True
    return found_RC


def pairs_in_batch(
    item_M: NDArray[np.int64],
    class_M: NDArray[np.int64],
    embedding_MD: Tensor,
    *,
    num_triplets: int,
    distrusted_P2: NDArray[np.int64],
    min_distance_ratio: float,
    catalog_M: NDArray[np.bool_] | None,
) -> Apart | None:
    """Return the pairs of a batch that are kept apart; None if there are none.

    Args:
        item_M: B anchors, their B positives, and B negatives or none.
        class_M: their classes.
        embedding_MD: their embeddings.
        num_triplets: B.
        distrusted_P2: pairs for rule 1, as `by_first_item` orders them.
        min_distance_ratio: for rule 2; 0 rules out nothing.
        catalog_M: catalog pictures for rule 3; None: it does not hold.
    """
    others_MM = class_M[:, None] != class_M
    fixed_MM = np.zeros_like(others_MM)
    if len(distrusted_P2):
        fixed_MM |= pairs_between(distrusted_P2, item_M, item_M) & others_MM
    num_pairs = int(fixed_MM.sum())
    if catalog_M is not None:
        fixed_MM |= catalog_M & others_MM
    fixed = torch.from_numpy(fixed_MM).to(embedding_MD.device)
    everything = fixed
    if min_distance_ratio > 0:
        positive_M = own_positive_distance(item_M, embedding_MD, num_triplets)
        near = near_pairs(embedding_MD, embedding_MD, positive_M, min_distance_ratio)
        near &= torch.from_numpy(others_MM).to(near.device)
        if catalog_M is not None:
            near &= ~torch.from_numpy(catalog_M).to(near.device)  # they are no negatives anyway
        num_pairs += int((near & ~fixed).sum())
        everything = fixed | near
    if not bool(everything.any()):
        return None
    return Apart(everything, fixed, num_pairs)


@torch.no_grad()
def own_positive_distance(item_M: NDArray[np.int64], embedding_MD: Tensor, num_triplets: int) -> Tensor:
    """Return the distance of each anchor to its positive, and of each positive to its anchor, float[M].

    It is 0 where the two are one item, and for negatives, which come after them: those are nobody's anchor.
    """
    distance_M = torch.zeros(len(item_M), device=embedding_MD.device, dtype=embedding_MD.dtype)
    anchor, positive = slice(0, num_triplets), slice(num_triplets, 2 * num_triplets)
    distance_B = torch.linalg.vector_norm(embedding_MD[anchor] - embedding_MD[positive], dim=1)
    distance_B[torch.from_numpy(item_M[anchor] == item_M[positive]).to(distance_B.device)] = 0.0
    distance_M[anchor] = distance_M[positive] = distance_B
    return distance_M


@torch.no_grad()
def near_pairs(row_RD: Tensor, column_CD: Tensor, positive_R: Tensor, ratio: float) -> Tensor:
    """Return where a column is nearer to a row than `ratio` times the row's own positive, bool[R, C]."""
    distance_RC = torch.cdist(row_RD, column_CD, compute_mode="donot_use_mm_for_euclid_dist")
    return distance_RC < ratio * positive_R[:, None]


def _spans(first_R: NDArray[np.int64], last_R: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return, for all numbers in first … last − 1 of every row, the row and the number."""
    count_R = last_R - first_R
    row = np.repeat(np.arange(len(first_R)), count_R)
    number = np.arange(len(row)) - np.repeat(np.cumsum(count_R) - count_R - first_R, count_R)
    return row, number
