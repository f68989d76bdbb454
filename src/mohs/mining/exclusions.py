"""Pairs that a review has ruled out: an item that is no candidate for one anchor, though it is one for others.

A block marks them in its bins like the anchor's own class (`mark_in_bins`). A sweep takes such pairs out of its product
(`TilePairs`); where only one of the two is ruled out for the other, the sweep then tries the other way round by itself.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mohs.checks import plain_array
from mohs.errors import InputError, Problem
from mohs.mining.kernels import EXCLUDED, Array, compiled

__all__ = ["Exclusions", "TilePairs", "make_exclusions", "mark_in_bins"]

_SENTINEL = np.uint16(EXCLUDED)

Index = NDArray[np.int64]


@final
@dataclass(frozen=True, eq=False)
class Exclusions:
    """Pairs that are ruled out and would be allowed otherwise, each once, by (anchor item, column).

    Attributes:
        anchor_E: item indices, int64[E].
        column_E: where the other item stands in `MiningProblem.candidates_M`, int64[E].
    """

    anchor_E: Index
    column_E: Index

    def __len__(self) -> int:
        return len(self.anchor_E)

    def spans(self, item_R: Index) -> Index:
        """Return from where to where each item's pairs stand, int64[R, 2]."""
        sides = (np.searchsorted(self.anchor_E, item_R, side) for side in ("left", "right"))
        return np.stack(list(sides), axis=1)

    def counts(self, item_R: Index) -> Index:
        """Return how many candidates each item has lost, int64[R]."""
        if not len(self):
            return np.zeros(len(item_R), dtype=np.int64)
        return np.diff(self.spans(item_R), axis=1)[:, 0]


@final
class TilePairs:
    """Excluded pairs by the pairs of tiles, row ≤ column, in which a sweep meets them. All items are candidates."""

    def __init__(self, exclusions: Exclusions, place_N: Index, tile: int) -> None:
        place_E, column_E = place_N[exclusions.anchor_E], exclusions.column_E
        low_E, high_E = np.minimum(place_E, column_E), np.maximum(place_E, column_E)
        # A tile on the diagonal meets a pair twice.
        twice = low_E // tile == high_E // tile
        row, column = np.concatenate([low_E, high_E[twice]]), np.concatenate([high_E, low_E[twice]])
        self._num_tiles = -(-len(place_N) // tile)
        code = row // tile * self._num_tiles + column // tile
        order = np.argsort(code, kind="stable")
        self._code, self._row, self._column = code[order], row[order] % tile, column[order] % tile
        one_way = ~np.isin(column_E * len(place_N) + place_E, place_E * len(place_N) + column_E)
        self.allowed_P2: Index = np.stack([column_E[one_way], place_E[one_way]], axis=1)
        """Pairs of (anchor, other), as places, that are not ruled out though the reverse is."""

    def within(self, row_tile: int, column_tile: int) -> tuple[Index, Index]:
        """Return rows and columns, counted within the tile, of the pairs in it."""
        code = row_tile * self._num_tiles + column_tile
        first, last = np.searchsorted(self._code, [code, code + 1])
        return self._row[first:last], self._column[first:last]


def make_exclusions(pairs: ArrayLike | None, class_N: Index, candidates_M: Index) -> Exclusions:
    """Return the pairs that matter: the other item is a candidate and of another class than the anchor.

    Args:
        pairs: (anchor item, other item), int[P, 2], in any order, any pair any number of times; None for none.
        class_N: class numbers.
        candidates_M: item indices.

    Raises `InputError` for another shape, values that are not whole numbers, and indices outside [0, N).
    """
    array = plain_array("excluded_pairs", [] if pairs is None else pairs)
    if not array.size:
        return Exclusions(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
    if array.ndim != 2 or array.shape[1] != 2 or array.dtype.kind not in "iu":
        what = f"{array.dtype}{list(array.shape)} is not a list of pairs of item indices"
        raise InputError(Problem("excluded_pairs", what, "give integers [P, 2], (anchor item, other item)"))
    outside = np.argwhere((array < 0) | (array >= len(class_N)))
    if outside.size:
        row, side = outside[0]
        what = (
            f"{array[row, side]} in row {row}, column {side}, is not an item index in [0, {len(class_N)}) "
            f"({len(outside)} such values)"
        )
        raise InputError(Problem("excluded_pairs", what))
    column_N = np.full(len(class_N), -1)
    column_N[candidates_M] = np.arange(len(candidates_M))
    anchor, other = array.astype(np.int64).T
    matters = (column_N[other] >= 0) & (class_N[anchor] != class_N[other])
    code = np.unique(anchor[matters] * len(candidates_M) + column_N[other[matters]])
    return Exclusions(code // len(candidates_M), code % len(candidates_M))


@compiled()
def mark_in_bins(bins_RM: Array, span_R2: Array, column_E: Array) -> None:
    """Mark the excluded columns of each row."""
    for r in range(bins_RM.shape[0]):
        for e in range(span_R2[r, 0], span_R2[r, 1]):
            bins_RM[r, column_E[e]] = _SENTINEL
