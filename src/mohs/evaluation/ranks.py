"""When two distances count as equal, and who then comes first: one rule for every metric.

Two rows that are the same vector can come out of a matrix product, or of a network run in another batch, a rounding
error apart. A metric that trusted such differences would give a collapsed embedding (all rows equal) a score by
luck or by the order of the file. So distances that differ by no more than float32 can tell are *tied*, and ties are
*pessimistic*: the wrong item comes first.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import final

import numpy as np
import numpy.typing as npt

from mohs.errors import InputError
from mohs.evaluation import rank_grids, rank_kernels
from mohs.evaluation.checked import Float32, Float64, Index
from mohs.mining import kernels as mining_kernels
from mohs.mining.bank import TILE, CentredBank, centred_items
from mohs.mining.stored import StoredBank
from mohs.mining.threads import Progress, for_each, num_threads, one_blas_thread
from mohs.peers import ALONE, Peers, exchange_rows

__all__ = ["TIE_TOLERANCE", "Ranks", "Side", "rank_relevant", "tie_limit"]


TIE_TOLERANCE = 1e-6
"""Relative size of what counts as rounding: about 8 units in the last place of float32."""


def tie_limit(distance: npt.NDArray[np.floating], query_norm: npt.ArrayLike) -> Float64:
    """Return the largest distance that is still tied with `distance`: d + 1e-6 · (d + ‖query‖).

    An item is farther than another only if its distance exceeds the other's limit. d + ‖query‖ bounds the norm of the
    item at distance d, so the rule does not change when all embeddings are multiplied by a number, and the limit grows
    with d, so limits never cross.

    >>> float(tie_limit(np.array(0.5), 1.0))
    0.5000015
    """
    distance = np.asarray(distance, dtype=np.float64)
    return distance + TIE_TOLERANCE * (distance + np.asarray(query_norm, dtype=np.float64))


_BLOCK_ROWS, _GRID_ROWS = 512, 128
_BLOCK_LIMITS = 2**19
"""A block holds fewer rows where they have so many relevant items together: 64 MB with all that belongs to them."""

_FEW = 12
"""Up to so many limits, keys are compared with each of them; with more, a row has a grid."""

_CELLS, _MANY, _MANY_CELLS = 2048, 200, 8192
"""Cells of a grid, and of one for more than `_MANY` limits."""

_SMALL = 10**6  # pairs; fewer are not worth a thread
_LARGEST_ROW = 1e30  # of a query, where the longest item of the gallery is about 1


@final
@dataclass(frozen=True, eq=False)
class Ranks:
    """What the ranks of each query's R relevant items come to, [Q] each, in the order of the queries.

    Attributes:
        num_relevant: R, int64.
        num_ranked: gallery items without the query itself and its group, int64.
        first_rank: of the first relevant item, int64; −1 if R = 0.
        average_precision, map_at_r, r_precision: float64; NaN, 0 and 0 if R = 0.
        hits: relevant items of ranks up to each k, int64 [Q, K].
        num_wrong_classes: classes of irrelevant items that are not farther than the first relevant one, int64.
        nearest_wrong: gallery index of the nearest irrelevant item, ties to the lower class and then index, int64; −1
            if there is none.
        nearest_wrong_distance: float64; inf if there is none.
    """

    num_relevant: Index
    num_ranked: Index
    first_rank: Index
    average_precision: Float64
    map_at_r: Float64
    r_precision: Float64
    hits: Index
    num_wrong_classes: Index
    nearest_wrong: Index
    nearest_wrong_distance: Float64


@final
@dataclass(frozen=True, eq=False)
class _Gallery:
    """The gallery in class order, and the queries in class order too, so that blocks of them share their classes.

    Items of group g are the columns `column_E` from `start_G1[g]` up to `start_G1[g + 1]`, ascending.
    """

    gallery_MD: Float32
    query_QD: Float32
    bank: CentredBank
    item_M: Index
    class_M: Index
    query_order_Q: Index
    own_Q2: Index
    self_Q: Index
    group_Q: Index
    start_G1: Index
    column_E: Index
    num_relevant_Q: Index
    num_ranked_Q: Index
    norm_Q: Float64
    k_K: Index


@final
@dataclass(frozen=True, eq=False)
class Side:
    """The queries of a search, or its gallery: rows, float32 [N, D], numbers of classes, and of groups, −1 for none."""

    x_ND: Float32
    class_N: Index
    group_N: Index

    def __len__(self) -> int:
        return len(self.x_ND)


def rank_relevant(
    queries: Side,
    gallery: Side,
    *,
    self_Q: Index,
    ks: tuple[int, ...],
    progress: Progress | None = None,
    peers: Peers = ALONE,
) -> Ranks:
    """Return the ranks of checked inputs; −1 in `self_Q` for a query that is not in the gallery.

    The items of a query's own group are not ranked. Several processes
    rank every n-th block of queries each, and all return all ranks.
    """
    threads = num_threads() if len(queries) * len(gallery) > _SMALL else 1
    with one_blas_thread():
        ordered = _prepared(queries, gallery, self_Q, ks, threads)
        num_queries = len(queries)
        ranks = Ranks(
            num_relevant=ordered.num_relevant_Q,
            num_ranked=ordered.num_ranked_Q,
            first_rank=np.full(num_queries, -1, dtype=np.int64),
            average_precision=np.full(num_queries, np.nan),
            map_at_r=np.zeros(num_queries),
            r_precision=np.zeros(num_queries),
            hits=np.zeros((num_queries, len(ks)), dtype=np.int64),
            num_wrong_classes=np.zeros(num_queries, dtype=np.int64),
            nearest_wrong=np.full(num_queries, -1, dtype=np.int64),
            nearest_wrong_distance=np.full(num_queries, np.inf),
        )
        blocks = list(_blocks(ordered.num_relevant_Q[ordered.query_order_Q]))
        local = threading.local()

        def work(number: int) -> None:
            if not hasattr(local, "product_RC"):
                local.product_RC = np.empty((_BLOCK_ROWS, TILE), dtype=np.float32)
            _rank_block(ordered, ordered.query_order_Q[blocks[number]], local.product_RC, ranks)

        own = range(peers.rank, len(blocks), peers.num_ranks)
        for_each(work, own, threads, progress)
        own_R = np.concatenate([ordered.query_order_Q[:0], *(ordered.query_order_Q[blocks[number]] for number in own)])
        exchange_rows(peers, own_R, *(getattr(ranks, field.name) for field in fields(ranks)))
    return ranks


def _prepared(queries: Side, gallery: Side, self_Q: Index, ks: tuple[int, ...], threads: int) -> _Gallery:
    query_QD, query_class_Q, group_Q = queries.x_ND, queries.class_N, queries.group_N
    gallery_GD, gallery_class_G, group_G = gallery.x_ND, gallery.class_N, gallery.group_N
    item_M = np.argsort(gallery_class_G, kind="stable")
    class_M = gallery_class_G[item_M]
    place_G = np.empty(len(item_M), dtype=np.int64)
    place_G[item_M] = np.arange(len(item_M))
    own_Q2 = np.stack([np.searchsorted(class_M, query_class_Q, side=side) for side in ("left", "right")], axis=1)
    # A query that is in the gallery under its own group is left out with that.
    self_Q = np.where((self_Q >= 0) & (group_Q >= 0) & (group_G[self_Q] == group_Q), -1, self_Q)
    self_is_relevant_Q = (self_Q >= 0) & (gallery_class_G[self_Q] == query_class_Q)
    grouped_M = np.flatnonzero(group_G[item_M] >= 0)
    order_E = np.argsort(group_G[item_M][grouped_M], kind="stable")
    num_groups = int(max(group_Q.max(), group_G.max())) + 1
    start_G1 = np.concatenate([[0], np.cumsum(np.bincount(group_G[group_G >= 0], minlength=num_groups))])
    size_Q = np.where(group_Q >= 0, np.diff(start_G1, append=0)[group_Q], 0)
    norm_Q = np.sqrt(np.einsum("qd,qd->q", query_QD, query_QD, dtype=np.float64))
    gallery_MD = gallery_GD[item_M]
    bank = centred_items(StoredBank(gallery_MD, is_mapped=False), np.arange(len(item_M)), threads)
    if float(norm_Q.max()) * float(bank.frame.unit) > _LARGEST_ROW:
        raise InputError(
            f"query_embeddings_QD: row {int(norm_Q.argmax())} is more than {_LARGEST_ROW:g} times as long as the "
            "gallery's longest; use embeddings of one model for both"
        )
    return _Gallery(
        gallery_MD=gallery_MD,
        query_QD=query_QD,
        bank=bank,
        item_M=item_M,
        class_M=class_M,
        query_order_Q=np.argsort(query_class_Q, kind="stable"),
        own_Q2=own_Q2,
        self_Q=np.where(self_Q >= 0, place_G[self_Q], -1),
        group_Q=group_Q,
        start_G1=start_G1,
        column_E=grouped_M[order_E],
        num_relevant_Q=own_Q2[:, 1]
        - own_Q2[:, 0]
        - self_is_relevant_Q
        - _num_of_own_class(query_class_Q, group_Q, gallery_class_G, group_G),
        num_ranked_Q=len(gallery_GD) - (self_Q >= 0) - size_Q,
        norm_Q=norm_Q,
        k_K=np.array(ks, dtype=np.int64),
    )


def _num_of_own_class(query_class_Q: Index, group_Q: Index, gallery_class_G: Index, group_G: Index) -> Index:
    """Return how many gallery items are of the query's class and group; 0 for a query without a group."""
    num_groups = int(max(group_Q.max(), group_G.max())) + 1
    grouped_G = group_G >= 0
    pair_G = gallery_class_G[grouped_G] * num_groups + group_G[grouped_G]
    pair_P, count_P = np.unique(pair_G, return_counts=True)
    pair_Q = query_class_Q * num_groups + group_Q
    place_Q = np.minimum(np.searchsorted(pair_P, pair_Q), max(0, len(pair_P) - 1))
    if not len(pair_P):
        return np.zeros(len(group_Q), dtype=np.int64)
    return np.where((group_Q >= 0) & (pair_P[place_Q] == pair_Q), count_P[place_Q], 0)


def _blocks(num_relevant_Q: Index) -> Iterator[slice]:
    """Yield slices of the queries in class order."""
    end_Q = np.cumsum(num_relevant_Q)
    start = 0
    while start < len(end_Q):
        before = end_Q[start - 1] if start else 0
        fitting = int(np.searchsorted(end_Q, before + _BLOCK_LIMITS, side="right"))
        stop = min(max(fitting, start + 1), start + _BLOCK_ROWS)
        stop = min(stop, start + _block_rows(num_relevant_Q[start:stop]))
        yield slice(start, stop)
        start = stop


def _block_rows(num_relevant_R: Index) -> int:
    """Return how many rows a block may have: fewer with grids, so that these stay in the cache for several tiles."""
    return _GRID_ROWS if (num_relevant_R > _FEW).any() else _BLOCK_ROWS


def _rank_block(g: _Gallery, query_R: Index, product_RC: Float32, ranks: Ranks) -> None:
    bank, num_rows = g.bank, len(query_R)
    rows_RD = np.empty((num_rows, g.query_QD.shape[1]), dtype=np.float32)
    mining_kernels.centred_rows(g.query_QD, query_R, bank.frame.shift_D, bank.frame.unit, rows_RD)
    half_norm_R = np.einsum("rd,rd->r", rows_RD, rows_RD, dtype=np.float64) / 2
    centred_norm_R = np.sqrt(2 * half_norm_R)
    bound_R = bank.frame.key_bound(centred_norm_R)
    # A key is the difference of two float32, which rounds once more.
    error_R = bank.frame.key_error(centred_norm_R) + 2.0**-22 * bound_R

    queries = rank_kernels.Queries(g.query_QD, query_R, g.own_Q2[query_R], g.self_Q[query_R], g.group_Q[query_R])
    columns = rank_kernels.Columns(g.gallery_MD, g.class_M, bank.half_norm_M, g.start_G1, g.column_E)
    count_R = g.num_relevant_Q[query_R]
    start_R1 = np.concatenate([[0], np.cumsum(count_R)])
    square_T = np.empty(start_R1[-1])
    rank_kernels.relevant_squares(queries, columns, start_R1, square_T)
    rank_kernels.sort_short(start_R1, square_T)
    for r in np.flatnonzero(count_R > rank_kernels.SHORT):
        square_T[start_R1[r] : start_R1[r + 1]].sort()
    limit_T = tie_limit(np.sqrt(square_T), np.repeat(g.norm_Q[query_R], count_R))
    np.square(limit_T, out=square_T)
    key_T = bank.frame.key_of(limit_T, np.repeat(half_norm_R, count_R))
    # No key is beyond its bound, so a limit need not be either.
    reach_T, error_T = np.repeat(2 * bound_R, count_R), np.repeat(error_R, count_R)
    key_T = np.clip(key_T, -reach_T, reach_T)
    low_T = np.nextafter((key_T - error_T).astype(np.float32), np.float32(-np.inf))
    high_T = np.nextafter((key_T + error_T).astype(np.float32), np.float32(np.inf))

    limits = rank_grids.Limits(start_R1, low_T, high_T, square_T, np.zeros(len(square_T), dtype=np.int64))

    has_grid_R = count_R > _FEW
    grid_R = np.where(has_grid_R, np.cumsum(has_grid_R) - 1, -1)
    num_grids, num_cells = int(has_grid_R.sum()), _MANY_CELLS if count_R.max() > _MANY else _CELLS
    grids = rank_grids.Grids(
        grid_R,
        line_G2=np.empty((num_grids, 2), dtype=np.float32),
        first_GK=np.empty((num_grids, num_cells + 1), dtype=np.int32),
        unsure_GK=np.empty((num_grids, num_cells), dtype=np.uint8),
        count_GK=np.zeros((num_grids, num_cells), dtype=np.uint32),
    )
    rank_grids.make_grids(limits, grids)

    classes_R2 = np.tile(np.array([0, -1]), (num_rows, 1))
    wrong = rank_kernels.NearestWrong(
        error_R.astype(np.float32),
        bound_R=np.full(num_rows, np.finfo(np.float32).max),
        square_R=np.full(num_rows, np.inf),
        column_R=np.full(num_rows, -1),
    )
    tiles_at_once = _BLOCK_ROWS // _block_rows(count_R)
    buffer = bank.tile_buffer()
    for first_tile in range(0, bank.num_tiles, tiles_at_once):
        tiles = range(first_tile, min(first_tile + tiles_at_once, bank.num_tiles))
        first = first_tile * TILE
        width = min(len(g.item_M) - first, len(tiles) * TILE)
        product = product_RC.ravel()[: num_rows * width].reshape(num_rows, width)
        for place, tile in enumerate(tiles):
            np.matmul(rows_RD, bank.tile(tile, buffer), out=product[:, place * TILE : (place + 1) * TILE])
        rank_kernels.count_tile(product, first, queries, columns, limits, grids, classes_R2, wrong)

    sums = rank_kernels.RankSums(
        first_rank_R=np.full(num_rows, -1),
        average_precision_R=np.full(num_rows, np.nan),
        map_at_r_R=np.zeros(num_rows),
        r_precision_R=np.zeros(num_rows),
        hits_RK=np.zeros((num_rows, len(g.k_K)), dtype=np.int64),
    )
    rank_kernels.sum_up(limits, grids, g.k_K, sums)
    ranks.first_rank[query_R], ranks.hits[query_R] = sums.first_rank_R, sums.hits_RK
    ranks.average_precision[query_R], ranks.map_at_r[query_R] = sums.average_precision_R, sums.map_at_r_R
    ranks.r_precision[query_R] = sums.r_precision_R
    ranks.num_wrong_classes[query_R] = classes_R2[:, 0]
    ranks.nearest_wrong[query_R] = np.where(wrong.column_R >= 0, g.item_M[wrong.column_R], -1)
    ranks.nearest_wrong_distance[query_R] = np.sqrt(wrong.square_R)
