"""Near-duplicates: pictures of one recording or session, which a search finds before anything else of their class."""

from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from mohs.data.duplicates import picture_difference, small_pictures
from mohs.randomness import generator

__all__ = ["NearDuplicates", "find_near_duplicates", "nearest_rows"]

Index = npt.NDArray[np.int64]

MAX_QUERIES = 300
"""So many pictures are compared with all others; of more, a random sample."""

# Copies that were moved by a pixel, rescaled, brightened or compressed differ by 0.01 to 0.2, their nearest of a few by
# less than this; emoji of one name by other artists, and photographs of one kind, by more.
NEAR_DIFFERENCE = 0.08
NEAR_SHARE = 0.02
_NUM_CANDIDATES = 16
_SIDE = 16


@final
@dataclass(frozen=True, eq=False)
class NearDuplicates:
    """What was found among `num_looked` pictures.

    Attributes:
        num_looked: how many pictures were compared with the others.
        query_P: those that have a near-duplicate, int64 [P].
        other_P: the near-duplicate of each, int64 [P].
        difference_P: `picture_difference` of the two, float64 [P].
        why_not: why nothing can be said, or "".
    """

    num_looked: int
    query_P: Index
    other_P: Index
    difference_P: npt.NDArray[np.float64]
    why_not: str = ""

    @property
    def share(self) -> float:
        """Share of the pictures looked at that have a near-duplicate."""
        return len(self.query_P) / max(1, self.num_looked)

    @property
    def is_common(self) -> bool:
        """Whether there are enough to tell: 2% of the pictures, and three or more."""
        return self.share >= NEAR_SHARE and len(self.query_P) >= 3

    def pairs(self) -> list[tuple[int, int]]:
        """Return (query, other), each pair once: two pictures are often each other's near-duplicate."""
        found: dict[frozenset[int], tuple[int, int]] = {}
        for one, other in zip(self.query_P.tolist(), self.other_P.tolist(), strict=True):
            found.setdefault(frozenset((one, other)), (one, other))
        return list(found.values())


def find_near_duplicates(
    pictures_NHWC: npt.NDArray[np.uint8],
    labels_N: npt.NDArray[np.str_],
    *,
    query_Q: Index | None = None,
    gallery_G: Index | None = None,
    groups_N: npt.NDArray[np.str_] | None = None,
    seed: int = 0,
) -> NearDuplicates:
    """Return which pictures have a near-duplicate among others, itself and its own group left out.

    Candidates are the nearest by the mean greys of 16 × 16 cells, each picture's mean and contrast taken away. Two are
    near-duplicates if `picture_difference` is at most 0.08, and at most half of what the nearest pictures of *other*
    classes differ by (their 5% quantile): where unrelated pictures look alike, as products on white or aligned faces
    do, they are no evidence. Of line drawings (two tones, no colours) nothing is said: two people draw an "o" alike.

    Args:
        pictures_NHWC: uint8 [N, H, W, 1 or 3].
        labels_N: classes.
        query_Q: pictures to look at; none: all. Of more than 300 a random sample.
        gallery_G: where to look for theirs; none: among all.
        groups_N: "" for none.
        seed: of the sample.
    """
    query_Q = np.arange(len(labels_N)) if query_Q is None else query_Q
    gallery_G = np.arange(len(labels_N)) if gallery_G is None else gallery_G
    empty = np.empty(0, dtype=np.int64)
    if len(query_Q) > MAX_QUERIES:
        chosen = generator(seed, "near-duplicates").permutation(len(query_Q))[:MAX_QUERIES]
        query_Q = query_Q[np.sort(chosen)]
    if not len(query_Q) or not len(gallery_G):
        return NearDuplicates(0, empty, empty, np.empty(0), "no pictures to compare")
    if _share_of_line_drawings(np.asarray(pictures_NHWC[query_Q])) >= 0.5:
        return NearDuplicates(len(query_Q), empty, empty, np.empty(0), "line drawings, which are alike by nature")
    candidates_QK = gallery_G[
        nearest_rows(
            _rows(pictures_NHWC, query_Q), _rows(pictures_NHWC, gallery_G), min(_NUM_CANDIDATES, len(gallery_G))
        )
    ]
    allowed_QK = candidates_QK != query_Q[:, None]
    if groups_N is not None:
        own_Q1 = groups_N[query_Q][:, None]
        allowed_QK &= (own_Q1 == "") | (groups_N[candidates_QK] != own_Q1)
    other_QK = allowed_QK & (labels_N[candidates_QK] != labels_N[query_Q][:, None])
    nearest_Q, found_Q = _first(candidates_QK, allowed_QK)
    unrelated_Q, compared_Q = _first(candidates_QK, other_QK)
    difference_P = picture_difference(pictures_NHWC, query_Q[found_Q], nearest_Q[found_Q])
    limit = NEAR_DIFFERENCE
    if compared_Q.any():
        apart = picture_difference(pictures_NHWC, query_Q[compared_Q], unrelated_Q[compared_Q])
        limit = min(limit, float(np.quantile(apart, 0.05)) / 2)
    near_P = difference_P <= limit
    return NearDuplicates(len(query_Q), query_Q[found_Q][near_P], nearest_Q[found_Q][near_P], difference_P[near_P])


def nearest_rows(query_QD: npt.NDArray[np.float32], gallery_GD: npt.NDArray[np.float32], k: int) -> Index:
    """Return the k rows of the gallery with the largest dot product, int64 [Q, k], by faiss's flat search."""
    import faiss

    index = faiss.IndexFlatIP(gallery_GD.shape[1])
    index.add(gallery_GD)
    found_QK: Index = index.search(query_QD, k)[1].astype(np.int64)
    return found_QK


def _rows(pictures_NHWC: npt.NDArray[np.uint8], items: Index) -> npt.NDArray[np.float32]:
    """Return unit rows of the mean greys in 16 × 16 cells, the mean of each picture taken away."""
    rows = np.empty((len(items), _SIDE * _SIDE), dtype=np.float32)
    for start in range(0, len(items), 1024):
        small = small_pictures(np.asarray(pictures_NHWC[items[start : start + 1024]])).mean(axis=1)
        for axis in (1, 2):
            edges = np.arange(_SIDE) * small.shape[axis] // _SIDE
            counts = np.diff(edges, append=small.shape[axis]).clip(1)
            shape = [1, 1, 1]
            shape[axis] = _SIDE
            small = np.add.reduceat(small, edges, axis=axis) / counts.reshape(shape)
        rows[start : start + 1024] = small.reshape(len(small), -1)
    rows -= rows.mean(axis=1, keepdims=True)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-6))
    return rows


def _first(candidates_QK: Index, allowed_QK: npt.NDArray[np.bool_]) -> tuple[Index, npt.NDArray[np.bool_]]:
    """Return the first allowed candidate of each query, and whether there is one."""
    first_Q: Index = candidates_QK[np.arange(len(candidates_QK)), allowed_QK.argmax(axis=1)]
    any_Q: npt.NDArray[np.bool_] = np.any(allowed_QK, axis=1)
    return first_Q, any_Q


def _share_of_line_drawings(pictures_NHWC: npt.NDArray[np.uint8]) -> float:
    """Return the share of pictures without colours, with two thirds of the pixels near the darkest or lightest."""
    small = small_pictures(pictures_NHWC)
    is_grey = (small.max(axis=1) - small.min(axis=1)).mean(axis=(1, 2)) < 0.01
    grey = small.mean(axis=1).reshape(len(small), -1)
    low, high = grey.min(axis=1, keepdims=True), grey.max(axis=1, keepdims=True)
    near = np.minimum(grey - low, high - grey) <= 0.15 * (high - low)
    return float((is_grey & (near.mean(axis=1) >= 2 / 3)).mean())
