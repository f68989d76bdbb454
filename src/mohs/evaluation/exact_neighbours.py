"""What is nearest: to each query, of its class and of another one, and the closest pairs of two."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from mohs.checks import require, wrong_whole
from mohs.distances import exact_distance, unit_rows
from mohs.errors import InputError
from mohs.evaluation.checked import (
    Bools,
    Float32,
    Float64,
    Index,
    check_dimensions,
    checked_embeddings,
    checked_labels,
    checked_self_indices,
    class_codes,
)
from mohs.evaluation.ranks import tie_limit
from mohs.neighbour_search import nearest_rows

__all__ = ["nearest", "nearest_by_class", "nearest_items", "nearest_negatives", "paired_distances"]

# A tile of 1,024 x 1,024 float32 is 4 MB. Fixed, so that results never depend on the machine.
_TILE = 1024
# Two blocks of rows: 8,192 x 2,048 dimensions in float64 is 128 MB.
_PAIRS_PER_BLOCK = 8192
# A block of distances to a gallery: at most so many rows and, with what is made of it, 400 MB.
_BLOCK_ROWS, _BLOCK_PAIRS = 512, 2**24


def nearest(
    query_embeddings_QD: npt.ArrayLike,
    gallery_embeddings_GD: npt.ArrayLike,
    k: int,
    *,
    self_indices_Q: npt.ArrayLike | None = None,
) -> tuple[Index, Float32]:
    """Return (gallery indices int64 [Q, k], Euclidean distances float32 [Q, k]) of the k nearest, nearest first.

    Exact. Ties break on (distance, gallery index): equal rows are at exactly equal distances, because the distances of
    the candidates are computed again from the differences. For pictures of results, not for metrics, whose ties are
    pessimistic.

    Args:
        query_embeddings_QD: numbers [Q, D].
        gallery_embeddings_GD: numbers [G, D].
        k: 1 to G, or to G − 1 if a query is itself in the gallery.
        self_indices_Q: int [Q], the gallery index of the query itself, which is left out; -1 for none.

    Raises:
        InputError: shapes that do not fit, rows with NaN or Inf, or k out of range.

    >>> indices, distances = nearest([[0.0]], [[3.0], [-1.0], [1.0]], 2)
    >>> indices.tolist(), distances.tolist()
    ([[1, 2]], [[1.0, 1.0]])
    """
    queries_QD = checked_embeddings(query_embeddings_QD, "query_embeddings_QD")
    gallery_GD = checked_embeddings(gallery_embeddings_GD, "gallery_embeddings_GD")
    check_dimensions(queries_QD, gallery_GD)
    self_Q = checked_self_indices(self_indices_Q, len(queries_QD), len(gallery_GD))
    largest = len(gallery_GD) - int((self_Q >= 0).any())
    if not 1 <= k <= largest:
        raise InputError(f"k: {k!r} is not in [1, {largest}], the number of gallery items a query can have")
    indices_QK = np.empty((len(queries_QD), k), dtype=np.int64)
    distances_QK = np.empty((len(queries_QD), k), dtype=np.float32)
    norm_Q = np.linalg.norm(queries_QD, axis=1)
    for rows, square_BG in _square_blocks(queries_QD, gallery_GD):
        inside = np.flatnonzero(self_Q[rows] >= 0)
        square_BG[inside, self_Q[rows][inside]] = np.inf
        limit_B = tie_limit(np.sqrt(np.partition(square_BG, k - 1, axis=1)[:, k - 1]), norm_Q[rows])
        for row, query in enumerate(range(rows.start, rows.start + len(square_BG))):
            candidates = np.flatnonzero(square_BG[row] <= limit_B[row] ** 2)
            exact = np.sqrt(np.square(gallery_GD[candidates] - queries_QD[query]).sum(axis=1)).astype(np.float32)
            # Candidates ascend by index, so a stable sort breaks ties on it.
            chosen = np.argsort(exact, kind="stable")[:k]
            indices_QK[query], distances_QK[query] = candidates[chosen], exact[chosen]
    return indices_QK, distances_QK


def nearest_by_class(
    query_QD: Float64,
    query_class_Q: Index,
    gallery_GD: Float64,
    gallery_class_G: Index,
    *,
    same_items: bool,
    farthest: bool = False,
    beyond_Q: Float64 | None = None,
) -> tuple[Float64, Float64]:
    """Return the distance of each query to the nearest item of its class, and of another one, float64 [Q]; inf if none.

    Args:
        query_QD: checked numbers [Q, D].
        query_class_Q: class numbers [Q].
        gallery_GD: checked numbers [G, D].
        gallery_class_G: class numbers [G].
        same_items: the queries are the gallery, in the same order, and each is left out of its own.
        farthest: the distances to the farthest items instead; −inf if there is none.
        beyond_Q: items no farther than this from their query are left out.

    >>> x_ND, class_N = np.array([[0.0], [1.0], [3.0]]), np.array([0, 0, 1])
    >>> own_N, other_N = nearest_by_class(x_ND, class_N, x_ND, class_N, same_items=True)
    >>> own_N.tolist(), other_N.tolist()
    ([1.0, 1.0, inf], [3.0, 2.0, 2.0])
    """
    own_Q, other_Q = np.empty(len(query_QD)), np.empty(len(query_QD))
    none, best = (-np.inf, np.max) if farthest else (np.inf, np.min)
    for rows, square_BG in _square_blocks(query_QD, gallery_GD):
        distance_BG = np.sqrt(square_BG)
        same_BG = query_class_Q[rows, None] == gallery_class_G
        if beyond_Q is not None:
            distance_BG[distance_BG <= beyond_Q[rows, None]] = none
        if same_items:
            here = np.arange(len(distance_BG))
            distance_BG[here, rows.start + here] = none
        own_Q[rows] = best(np.where(same_BG, distance_BG, none), axis=1)
        other_Q[rows] = best(np.where(same_BG, none, distance_BG), axis=1)
    return own_Q, other_Q


def nearest_items(embeddings_ND: npt.ArrayLike, k: int, *, query_N: Bools | None = None) -> Index:
    """Return the k most similar other items of each item, int64 [N, k], most similar first (`nearest_rows`).

    With `query_N` (bool [N]) an item has the items of the other side only as its neighbours. Where there are fewer
    than k, the rest of a row is -1. Similarity is the dot product of unit rows, in float32.

    >>> nearest_items([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]], 1).ravel().tolist()
    [1, 0, 1]
    """
    x_ND = unit_rows(embeddings_ND)
    require(wrong_whole("k", k, example=10))
    found_NK = np.full((len(x_ND), k), -1, dtype=np.int64)
    if query_N is None:
        of_all = nearest_rows(x_ND, x_ND, k, by="similarity", same_items=True)
        found_NK[:, : of_all.shape[1]] = of_all
        return found_NK
    for side_N in (query_N, ~query_N):
        others = np.flatnonzero(~side_N)
        if len(others) and side_N.any():
            of_side = others[nearest_rows(x_ND[side_N], x_ND[others], k, by="similarity")]
            found_NK[side_N, : of_side.shape[1]] = of_side
    return found_NK


def _square_blocks(queries_QD: Float64, gallery_GD: Float64) -> Iterator[tuple[slice, Float64]]:
    """Yield squared distances [B, G] of blocks of queries; the next block overwrites the one before.

    By products of float64: in float32, d² = ‖q‖² + ‖g‖² − 2q·g would lose all digits of the small distances of a nearly
    collapsed embedding.
    """
    half_square_G = np.square(gallery_GD).sum(axis=1) / 2
    half_square_Q = np.square(queries_QD).sum(axis=1) / 2
    # The two buffers are used for all blocks: touching fresh memory costs as much as the product.
    block_rows = min(_BLOCK_ROWS, max(_BLOCK_PAIRS // len(gallery_GD), 1), len(queries_QD))
    squares_BG, products_BG = np.empty((2, block_rows, len(gallery_GD)))
    for first in range(0, len(queries_QD), block_rows):
        block = slice(first, min(first + block_rows, len(queries_QD)))
        square_BG, product_BG = squares_BG[: block.stop - first], products_BG[: block.stop - first]
        np.matmul(queries_QD[block], gallery_GD.T, out=product_BG)
        np.add(half_square_Q[block, None], half_square_G, out=square_BG)
        square_BG -= product_BG
        square_BG *= 2
        np.maximum(square_BG, 0, out=square_BG)
        yield block, square_BG


def nearest_negatives(
    embeddings_ND: npt.ArrayLike, labels_N: npt.ArrayLike, num_pairs: int, *, query_N: Bools | None = None
) -> Index:
    """Return the `num_pairs` pairs of items of two classes that are closest, int64 [P, 2]; fewer if fewer are.

    They are ordered by (distance, smaller index, larger index), the smaller index first. Candidates, an eighth more
    than asked for, come from float32 products of the centred rows, tile by tile (4 MB); the exact distance (float64,
    rounded to float32) orders them. A pair can be missed only if products are off by more than the distance to the last
    candidate, which takes that eighth of pairs to lie within rounding of each other.

    Args:
        embeddings_ND: numbers [N, D].
        labels_N: integers or strings [N].
        num_pairs: at least 1.
        query_N: bool [N]: only pairs of an item that is marked and one that is not.

    Raises:
        InputError: no such pair, or a parameter out of range.

    >>> nearest_negatives([[0.0], [5.0], [1.0]], ["a", "b", "c"], 2).tolist()
    [[0, 2], [1, 2]]
    """
    x_ND = checked_embeddings(embeddings_ND, "embeddings_ND")
    require(wrong_whole("num_pairs", num_pairs, example=1000))
    [class_N] = class_codes(checked_labels(labels_N, "labels_N", len(x_ND)))
    candidates = _candidates(x_ND, class_N, num_pairs + num_pairs // 8 + 64, query_N)
    if not len(candidates):
        raise InputError(f"embeddings_ND: no negative pair among {len(x_ND)} items")
    first_P, second_P = candidates // len(x_ND), candidates % len(x_ND)
    order = np.lexsort((candidates, paired_distances(x_ND, first_P, second_P)))[:num_pairs]
    return np.stack([first_P[order], second_P[order]], axis=1)


def paired_distances(x_ND: Float64, first_P: Index, second_P: Index) -> Float32:
    """Return the Euclidean distance of items and others, float32 [P], by `exact_distance`.

    >>> paired_distances(np.array([[0.0], [2.0], [5.0]]), np.array([0, 2]), np.array([1, 1])).tolist()
    [2.0, 3.0]
    """
    distance_P = np.empty(len(first_P), dtype=np.float32)
    for start in range(0, len(first_P), _PAIRS_PER_BLOCK):
        block = slice(start, start + _PAIRS_PER_BLOCK)
        distance_P[block] = exact_distance(x_ND[first_P[block]], x_ND[second_P[block]])
    return distance_P


def _candidates(x_ND: Float64, class_N: Index, num_kept: int, query_N: Bools | None) -> Index:
    """Return the codes i·N + j, i < j, of the closest pairs of two classes by float32 products."""
    num_items = len(x_ND)
    # Centred and scaled, rounding is relative to the spread of the embeddings, and squares stay in range.
    centred_ND = x_ND - x_ND.mean(axis=0)
    scale = float(np.abs(centred_ND).max())
    centred_ND /= scale or 1.0
    half_square_N = np.einsum("nd,nd->n", centred_ND, centred_ND) / 2
    # Two more columns, and the product of a row of the left and one of the right is |a|²/2 + |b|²/2 − a·b = d²/2.
    ones_N = np.ones(num_items)
    left_NE = np.column_stack([-centred_ND, half_square_N, ones_N]).astype(np.float32)
    right_NE = np.column_stack([centred_ND, ones_N, half_square_N]).astype(np.float32)
    buffer = np.empty(_TILE**2, dtype=np.float32)
    kept_code, kept_value = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
    limit = np.float32(np.inf)
    for top in range(0, num_items, _TILE):
        rows = slice(top, min(top + _TILE, num_items))
        for left in range(top, num_items, _TILE):
            columns = slice(left, min(left + _TILE, num_items))
            if query_N is not None and np.ptp(np.concatenate([query_N[rows], query_N[columns]]).astype(np.int64)) == 0:
                continue  # all on one side
            num_rows, num_columns = rows.stop - rows.start, columns.stop - columns.start
            tile = buffer[: num_rows * num_columns]
            np.matmul(left_NE[rows], right_NE[columns].T, out=tile.reshape(num_rows, num_columns))
            flat = np.flatnonzero(tile < limit)
            first, second = flat // num_columns + top, flat % num_columns + left
            wanted = (first < second) & (class_N[first] != class_N[second])
            if query_N is not None:
                wanted &= query_N[first] != query_N[second]
            kept_code = np.concatenate([kept_code, (first * num_items + second)[wanted]])
            kept_value = np.concatenate([kept_value, tile[flat[wanted]]])
            if len(kept_code) > 2 * num_kept:
                nearest = np.argpartition(kept_value, num_kept - 1)[:num_kept]
                kept_code, kept_value = kept_code[nearest], kept_value[nearest]
                limit = kept_value.max()
    if len(kept_code) > num_kept:
        nearest = np.argpartition(kept_value, num_kept - 1)[:num_kept]
        kept_code = kept_code[nearest]
    return kept_code
