"""Retrieval metrics: whether a query finds items of its own class first.

Distances are Euclidean, smaller is closer, of rows rounded to float32. The ranking rule for all metrics, chosen so that
a collapsed embedding cannot look good: ties are pessimistic (`mohs.evaluation.ranks`). The i-th closest relevant item
of a query has

    rank_i = i + number of irrelevant gallery items that are not farther than it

so with all embeddings equal every relevant item comes after every irrelevant one: the worst score there is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt

from mohs.errors import InputError
from mohs.evaluation.chance import chance_levels
from mohs.evaluation.checked import checked_embeddings, checked_float32, checked_labels, class_codes
from mohs.evaluation.intervals import Interval, Over, class_intervals, class_means
from mohs.evaluation.ranks import Ranks, rank_relevant, tie_limit
from mohs.mining.threads import Progress

__all__ = ["MacroMetrics", "RetrievalResult", "evaluate_all_against_all", "evaluate_retrieval", "nearest"]

# A block of distances of `nearest`: at most 1,024 rows and 200 MB. Results do not depend on it.
_BLOCK_ROWS, _BLOCK_PAIRS = 1024, 2**24


@final
@dataclass(frozen=True)
class MacroMetrics:
    """The metrics of `RetrievalResult` over classes: first the mean of the queries of each class, then that of classes.

    A class of two pictures counts as much as one of two hundred. Over queries, the large classes decide.

    Attributes:
        metrics: under the names of `RetrievalResult.metrics`.
        intervals: 95% intervals of them over classes (`class_interval`); empty with one class.
        chance: what they come to if the gallery is ranked at random.
        num_classes: classes with a query that counts.
    """

    metrics: dict[str, float]
    intervals: dict[str, Interval]
    chance: dict[str, float]
    num_classes: int

    def as_record(self) -> dict[str, Any]:
        """Return the numbers as JSON values."""
        return {
            **self.metrics,
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
            "chance": self.chance,
            "num_classes": self.num_classes,
        }


@final
@dataclass(frozen=True, eq=False)
class RetrievalResult:
    """What `evaluate_retrieval` measured. All means are over the queries with at least one relevant gallery item.

    Attributes:
        recall: recall@k for each k: the share of queries with at least one item of their class among the k nearest.
        precision: precision@k for each k: the share of items of the query's class among the k nearest.
        mean_average_precision: mAP over the full ranking; of a query (1/R) Σ_i i/rank_i over its R relevant items.
        map_at_r: MAP@R: (1/R) Σ i/rank_i over the relevant items with rank_i ≤ R (Musgrave et al. 2020, section 3).
        r_precision: the share of relevant items among the R nearest.
        mean_reciprocal_rank: mean of 1/rank of the first match.
        num_queries: all queries, those without a match too.
        num_gallery: all gallery items.
        num_queries_without_match: queries with no item of their class in the gallery (themselves, and with groups
            their own group, left out). They have no right answer: left out of every mean, and counted here.
        intervals: 95% intervals of all `metrics` over classes (`mohs.evaluation.intervals.class_interval`), by name;
            empty if the queries that count are of one class only.
        chance: what `metrics` come to if the gallery is ranked at random (`mohs.evaluation.chance`).
        macro: the same metrics with each class counting the same.
        first_match_rank: int64 [Q], rank of the first match, 1 is best; -1 without a match.
        average_precision: float64 [Q]; NaN without a match.
        hit_at_1: bool [Q], whether the nearest item is a match; False without a match.
        counted: bool [Q], False for the queries without a match.
        num_relevant: int64 [Q], R; 0 without a match.
        num_wrong_classes: int64 [Q], other classes with an item that is not farther than the first match.
        nearest_wrong: int64 [Q], gallery index of the nearest item of another class; -1 if there is none. Ties break on
            the order of classes, then of items.
        nearest_wrong_distance: float64 [Q]; inf if there is none.
    """

    recall: dict[int, float]
    precision: dict[int, float]
    mean_average_precision: float
    map_at_r: float
    r_precision: float
    mean_reciprocal_rank: float
    num_queries: int
    num_gallery: int
    num_queries_without_match: int
    intervals: dict[str, Interval]
    chance: dict[str, float]
    macro: MacroMetrics
    first_match_rank: npt.NDArray[np.int64]
    average_precision: npt.NDArray[np.float64]
    hit_at_1: npt.NDArray[np.bool_]
    counted: npt.NDArray[np.bool_]
    num_relevant: npt.NDArray[np.int64]
    num_wrong_classes: npt.NDArray[np.int64]
    nearest_wrong: npt.NDArray[np.int64]
    nearest_wrong_distance: npt.NDArray[np.float64]

    @property
    def metrics(self) -> dict[str, float]:
        """The means under their usual names: recall@k and precision@k for each k, mAP, MAP@R, R-precision, MRR."""
        return {
            **{f"recall@{k}": value for k, value in self.recall.items()},
            **{f"precision@{k}": value for k, value in self.precision.items()},
            "mAP": self.mean_average_precision,
            "MAP@R": self.map_at_r,
            "R-precision": self.r_precision,
            "MRR": self.mean_reciprocal_rank,
        }

    @property
    def num_counted(self) -> int:
        """How many queries have a match, and so are in the means."""
        return self.num_queries - self.num_queries_without_match

    def as_record(self) -> dict[str, Any]:
        """Return the numbers as JSON values: the metrics, their intervals, their chance levels, and counts."""
        return {
            **self.metrics,
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
            "chance": self.chance,
            "macro": self.macro.as_record(),
            "num_counted_queries": self.num_counted,
            "num_queries": self.num_queries,
            "num_gallery": self.num_gallery,
            "num_queries_without_match": self.num_queries_without_match,
        }


def evaluate_retrieval(
    query_embeddings_QD: npt.ArrayLike,
    query_labels_Q: npt.ArrayLike,
    gallery_embeddings_GD: npt.ArrayLike,
    gallery_labels_G: npt.ArrayLike,
    *,
    ks: Sequence[int] = (1, 5, 10, 50),
    self_indices_Q: npt.ArrayLike | None = None,
    query_groups_Q: npt.ArrayLike | None = None,
    gallery_groups_G: npt.ArrayLike | None = None,
    progress: Progress | None = None,
) -> RetrievalResult:
    """Rank the gallery for each query by Euclidean distance and return the usual retrieval metrics.

    Ties are pessimistic: see the module's rule. The full ranking counts, exactly, but nothing is sorted: memory is that
    of the embeddings three times, and it never grows with Q·G (`mohs.evaluation.ranks`).

    Args:
        query_embeddings_QD: numbers [Q, D], numpy or torch; unit vectors or not. They are rounded to float32.
        query_labels_Q: integers or strings [Q].
        gallery_embeddings_GD: numbers [G, D].
        gallery_labels_G: labels [G] of the same kind as the queries'.
        ks: the k of recall@k and precision@k, each at least 1. A k beyond the gallery means the whole gallery.
        self_indices_Q: int [Q], the gallery index of the query itself, which is left out for that query; -1 if the
            query is not in the gallery. None: no query is in the gallery.
        query_groups_Q: what each query was taken with (session, camera, product family), integers or strings [Q]: the
            gallery items of its own group are left out for that query. -1 and "" are no group. None: nothing is.
        gallery_groups_G: groups [G] of the same kind.
        progress: called with (blocks of queries done, blocks in all) from the calling thread.

    Raises:
        InputError: shapes or lengths that do not fit, rows with NaN or Inf, or no query with any match.

    >>> result = evaluate_retrieval([[0.0, 0.1], [1.0, 0.0]], ["a", "b"], [[0.0, 0.0], [0.9, 0.0]], ["a", "b"], ks=(1,))
    >>> result.recall[1], result.mean_average_precision
    (1.0, 1.0)
    """
    queries_QD = checked_float32(query_embeddings_QD, "query_embeddings_QD")
    gallery_GD = queries_QD
    if gallery_embeddings_GD is not query_embeddings_QD:
        gallery_GD = checked_float32(gallery_embeddings_GD, "gallery_embeddings_GD")
    _check_dimensions(queries_QD, gallery_GD)
    num_queries, num_gallery = len(queries_QD), len(gallery_GD)
    query_codes_Q, gallery_codes_G = class_codes(
        checked_labels(query_labels_Q, "query_labels_Q", num_queries),
        checked_labels(gallery_labels_G, "gallery_labels_G", num_gallery),
    )
    if not ks or any(isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1 for k in ks):
        raise InputError(f"ks: {list(ks)!r} is not a list of integers >= 1; use for example (1, 5, 10)")
    self_Q = _checked_self_indices(self_indices_Q, num_queries, num_gallery)
    groups = _checked_groups(query_groups_Q, gallery_groups_G, num_queries, num_gallery)
    self_is_relevant_Q = (self_Q >= 0) & (gallery_codes_G[self_Q] == query_codes_Q)
    if not (np.bincount(gallery_codes_G, minlength=query_codes_Q.max() + 1)[query_codes_Q] > self_is_relevant_Q).any():
        raise InputError(
            f"query_labels_Q: none of the {num_queries} queries has another item of its class in the gallery; "
            "check that both label arrays come from the same table, or add pictures"
        )
    ranks = rank_relevant(
        queries_QD,
        query_codes_Q,
        gallery_GD,
        gallery_codes_G,
        self_Q=self_Q,
        group_Q=None if groups is None else groups[0],
        group_G=None if groups is None else groups[1],
        ks=tuple(map(int, ks)),
        progress=progress,
    )
    if not ranks.num_relevant.any():
        raise InputError(
            f"query_groups_Q: none of the {num_queries} queries has an item of its class outside its own group; check "
            "that groups are sessions or the like, and not the classes"
        )
    return _result(ranks, query_codes_Q, num_gallery, tuple(map(int, ks)))


def _result(
    ranks: Ranks, query_codes_Q: npt.NDArray[np.int64], num_gallery: int, ks: tuple[int, ...]
) -> RetrievalResult:
    counted_Q = ranks.num_relevant > 0
    num_ranked_Q, first_rank_Q = ranks.num_ranked[counted_Q], ranks.first_rank[counted_Q]
    num_relevant_Q = ranks.num_relevant[counted_Q]
    precision_QK = ranks.hits[counted_Q] / np.minimum(np.array(ks), num_ranked_Q[:, None])
    of_queries = {
        **{f"recall@{k}": (first_rank_Q <= k).astype(np.float64) for k in ks},
        **{f"precision@{k}": precision_Q for k, precision_Q in zip(ks, precision_QK.T, strict=True)},
        "mAP": ranks.average_precision[counted_Q],
        "MAP@R": ranks.map_at_r[counted_Q],
        "R-precision": ranks.r_precision[counted_Q],
        "MRR": 1 / first_rank_Q,
    }
    codes_Q = query_codes_Q[counted_Q]
    means = {name: float(value_Q.mean()) for name, value_Q in of_queries.items()}
    return RetrievalResult(
        recall={k: means[f"recall@{k}"] for k in ks},
        precision={k: means[f"precision@{k}"] for k in ks},
        mean_average_precision=means["mAP"],
        map_at_r=means["MAP@R"],
        r_precision=means["R-precision"],
        mean_reciprocal_rank=means["MRR"],
        num_queries=len(query_codes_Q),
        num_gallery=num_gallery,
        num_queries_without_match=int((~counted_Q).sum()),
        intervals=_intervals(of_queries, codes_Q, "queries"),
        chance=chance_levels(num_relevant_Q, num_ranked_Q, ks),
        macro=MacroMetrics(
            metrics=dict(zip(of_queries, class_means(list(of_queries.values()), codes_Q), strict=True)),
            intervals=_intervals(of_queries, codes_Q, "classes"),
            chance=chance_levels(num_relevant_Q, num_ranked_Q, ks, weight_Q=1 / np.bincount(codes_Q)[codes_Q]),
            num_classes=len(np.unique(codes_Q)),
        ),
        first_match_rank=ranks.first_rank,
        average_precision=ranks.average_precision,
        hit_at_1=ranks.first_rank == 1,
        counted=counted_Q,
        num_relevant=ranks.num_relevant,
        num_wrong_classes=ranks.num_wrong_classes,
        nearest_wrong=ranks.nearest_wrong,
        nearest_wrong_distance=ranks.nearest_wrong_distance,
    )


def _intervals(
    of_queries: dict[str, npt.NDArray[np.float64]], codes_Q: npt.NDArray[np.int64], over: Over
) -> dict[str, Interval]:
    if (codes_Q == codes_Q[0]).all():
        return {}
    return dict(zip(of_queries, class_intervals(list(of_queries.values()), codes_Q, over=over), strict=True))


def evaluate_all_against_all(
    embeddings_ND: npt.ArrayLike,
    labels_N: npt.ArrayLike,
    *,
    ks: Sequence[int] = (1, 5, 10, 50),
    groups_N: npt.ArrayLike | None = None,
    progress: Progress | None = None,
) -> RetrievalResult:
    """Return the metrics of `evaluate_retrieval` with every item a query and all others its gallery.

    An item is left out of its own gallery by its index, not by its distance, so duplicates of it stay in. Items that
    are alone in their class count as `num_queries_without_match`, and stay in the gallery of the others. With groups
    (see `evaluate_retrieval`) the other items of an item's group are left out, too.

    >>> evaluate_all_against_all([[0.0], [0.1], [5.0], [5.1]], [0, 0, 1, 1], ks=(1,)).recall
    {1: 1.0}
    """
    embeddings_ND = checked_float32(embeddings_ND, "embeddings_ND")
    labels_N = checked_labels(labels_N, "labels_N", len(embeddings_ND))
    return evaluate_retrieval(
        embeddings_ND,
        labels_N,
        embeddings_ND,
        labels_N,
        ks=ks,
        self_indices_Q=np.arange(len(labels_N)),
        query_groups_Q=groups_N,
        gallery_groups_G=groups_N,
        progress=progress,
    )


def nearest(
    query_embeddings_QD: npt.ArrayLike,
    gallery_embeddings_GD: npt.ArrayLike,
    k: int,
    *,
    self_indices_Q: npt.ArrayLike | None = None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
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
    _check_dimensions(queries_QD, gallery_GD)
    self_Q = _checked_self_indices(self_indices_Q, len(queries_QD), len(gallery_GD))
    largest = len(gallery_GD) - int((self_Q >= 0).any())
    if not 1 <= k <= largest:
        raise InputError(f"k: {k!r} is not in [1, {largest}], the number of gallery items a query can have")
    indices_QK = np.empty((len(queries_QD), k), dtype=np.int64)
    distances_QK = np.empty((len(queries_QD), k), dtype=np.float32)
    norm_Q = np.linalg.norm(queries_QD, axis=1)
    for first, distances_BG in _distance_blocks(queries_QD, gallery_GD, self_Q):
        kth_B = np.partition(distances_BG, k - 1, axis=1)[:, k - 1]
        for row, query in enumerate(range(first, first + len(distances_BG))):
            candidates = np.flatnonzero(distances_BG[row] <= tie_limit(kth_B[row], norm_Q[query]))
            exact = np.sqrt(np.square(gallery_GD[candidates] - queries_QD[query]).sum(axis=1)).astype(np.float32)
            # Candidates ascend by index, so a stable sort breaks ties on it.
            chosen = np.argsort(exact, kind="stable")[:k]
            indices_QK[query], distances_QK[query] = candidates[chosen], exact[chosen]
    return indices_QK, distances_QK


def _distance_blocks(
    queries_QD: npt.NDArray[np.float64], gallery_GD: npt.NDArray[np.float64], self_Q: npt.NDArray[np.int64]
) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    # float64 products: in float32, d² = ‖q‖² + ‖g‖² − 2q·g would lose all digits of the small distances of a nearly
    # collapsed embedding. Rounded to float32 at the end, which the tie tolerance covers.
    # The next block overwrites the one before.
    half_square_G = np.square(gallery_GD).sum(axis=1) / 2
    half_square_Q = np.square(queries_QD).sum(axis=1) / 2
    # The two buffers are used for all blocks: touching fresh memory costs as much as the product.
    block_rows = min(_BLOCK_ROWS, max(_BLOCK_PAIRS // len(gallery_GD), 1), len(queries_QD))
    squares_BG = np.empty((block_rows, len(gallery_GD)))
    distances_BG = np.empty((block_rows, len(gallery_GD)), dtype=np.float32)
    for first in range(0, len(queries_QD), block_rows):
        block = slice(first, first + block_rows)
        num_rows = len(queries_QD[block])
        squares, distances = squares_BG[:num_rows], distances_BG[:num_rows]
        np.matmul(queries_QD[block], gallery_GD.T, out=squares)
        np.subtract(half_square_G, squares, out=squares)
        squares += half_square_Q[block, None]
        np.maximum(squares, 0, out=squares)
        distances[:] = squares
        distances *= 2
        np.sqrt(distances, out=distances)
        rows = np.flatnonzero(self_Q[block] >= 0)
        distances[rows, self_Q[block][rows]] = np.inf
        yield first, distances


def _check_dimensions(queries_QD: npt.NDArray[Any], gallery_GD: npt.NDArray[Any]) -> None:
    if queries_QD.shape[1] != gallery_GD.shape[1]:
        raise InputError(
            f"query_embeddings_QD, gallery_embeddings_GD: {queries_QD.shape[1]} and {gallery_GD.shape[1]} dimensions; "
            "use embeddings of one model for both"
        )


def _checked_groups(
    query_groups_Q: npt.ArrayLike | None, gallery_groups_G: npt.ArrayLike | None, num_queries: int, num_gallery: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None:
    """Return group numbers of queries and gallery, −1 for none; None without groups."""
    if query_groups_Q is None and gallery_groups_G is None:
        return None
    if query_groups_Q is None or gallery_groups_G is None:
        raise InputError("query_groups_Q, gallery_groups_G: one without the other; give both or neither")
    names_Q = checked_labels(query_groups_Q, "query_groups_Q", num_queries)
    names_G = checked_labels(gallery_groups_G, "gallery_groups_G", num_gallery)
    codes_Q, codes_G = class_codes(names_Q, names_G)
    none_Q, none_G = (names == "" if names.dtype.kind == "U" else names == -1 for names in (names_Q, names_G))
    return np.where(none_Q, -1, codes_Q), np.where(none_G, -1, codes_G)


def _checked_self_indices(values: npt.ArrayLike | None, num_queries: int, num_gallery: int) -> npt.NDArray[np.int64]:
    if values is None:
        return np.full(num_queries, -1, dtype=np.int64)
    indices = np.asarray(values)
    if indices.shape != (num_queries,) or indices.dtype.kind not in "iu":
        raise InputError(
            f"self_indices_Q: shape {indices.shape} and type {indices.dtype}; "
            f"give one integer for each of the {num_queries} queries"
        )
    wrong = np.flatnonzero((indices < -1) | (indices >= num_gallery))
    if len(wrong):
        raise InputError(
            f"self_indices_Q: {indices[wrong[0]]} of query {wrong[0]} is not in [-1, {num_gallery}); "
            "give an index of the gallery, or -1 for a query that is not in it"
        )
    return indices.astype(np.int64)
