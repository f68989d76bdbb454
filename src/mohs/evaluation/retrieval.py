"""Retrieval metrics: whether a query finds items of its own class first.

Distances are Euclidean, smaller is closer, of rows rounded to float32. The ranking rule for all metrics, chosen so that
a collapsed embedding cannot look good: ties are pessimistic (`mohs.evaluation.ranks`). The i-th closest relevant item
of a query has

    rank_i = i + number of irrelevant gallery items that are not farther than it

so with all embeddings equal every relevant item comes after every irrelevant one: the worst score there is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt

from mohs.checks import is_whole
from mohs.errors import InputError, Problem
from mohs.evaluation.chance import chance_levels
from mohs.evaluation.checked import (
    Bools,
    Float64,
    Index,
    check_dimensions,
    checked_float32,
    checked_labels,
    checked_self_indices,
    class_codes,
)
from mohs.evaluation.intervals import Interval, Over, class_intervals, class_means
from mohs.evaluation.ranks import Ranks, Side, rank_relevant
from mohs.mining.threads import Progress
from mohs.peers import ALONE, Peers

__all__ = ["LeftOut", "MacroMetrics", "RetrievalResult", "evaluate_all_against_all", "evaluate_retrieval"]


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
    first_match_rank: Index
    average_precision: Float64
    hit_at_1: Bools
    counted: Bools
    num_relevant: Index
    num_wrong_classes: Index
    nearest_wrong: Index
    nearest_wrong_distance: Float64

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


@final
@dataclass(frozen=True, eq=False)
class LeftOut:
    """What is left out of the gallery for each query: itself, and what was taken with it.

    Attributes:
        self_indices_Q: int [Q], the gallery index of the query itself; -1 if the query is not in the gallery. None: no
            query is in the gallery.
        query_groups_Q: what each query was taken with (session, camera, product family), integers or strings [Q]: the
            gallery items of its own group are left out for that query. -1 and "" are no group. None: nothing is.
        gallery_groups_G: groups [G] of the same kind.
    """

    self_indices_Q: npt.ArrayLike | None = None
    query_groups_Q: npt.ArrayLike | None = None
    gallery_groups_G: npt.ArrayLike | None = None


_NOTHING = LeftOut()


def evaluate_retrieval(
    query_embeddings_QD: npt.ArrayLike,
    query_labels_Q: npt.ArrayLike,
    gallery_embeddings_GD: npt.ArrayLike,
    gallery_labels_G: npt.ArrayLike,
    *,
    ks: Sequence[int] = (1, 5, 10, 50),
    left_out: LeftOut = _NOTHING,
    progress: Progress | None = None,
    peers: Peers = ALONE,
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
        left_out: gallery items that a query does not find, itself for one; by default there are none.
        progress: called with (blocks of queries done, blocks in all) from the calling thread.
        peers: processes that call this together with the same arguments: each ranks a part of the queries, and all
            return the same.

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
    check_dimensions(queries_QD, gallery_GD)
    num_queries, num_gallery = len(queries_QD), len(gallery_GD)
    query_codes_Q, gallery_codes_G = class_codes(
        checked_labels(query_labels_Q, "query_labels_Q", num_queries),
        checked_labels(gallery_labels_G, "gallery_labels_G", num_gallery),
    )
    if not ks or any(not is_whole(k) or not 1 <= k < 2**63 for k in ks):
        raise InputError(f"ks: {list(ks)!r} is not a list of integers >= 1; use for example (1, 5, 10)")
    self_Q = checked_self_indices(left_out.self_indices_Q, num_queries, num_gallery)
    group_Q, group_G = _checked_groups(left_out, num_queries, num_gallery)
    self_is_relevant_Q = (self_Q >= 0) & (gallery_codes_G[self_Q] == query_codes_Q)
    if not (np.bincount(gallery_codes_G, minlength=query_codes_Q.max() + 1)[query_codes_Q] > self_is_relevant_Q).any():
        raise InputError(
            f"query_labels_Q: none of the {num_queries} queries has another item of its class in the gallery; "
            "check that both label arrays come from the same table, or add pictures"
        )
    ranks = rank_relevant(
        Side(queries_QD, query_codes_Q, group_Q),
        Side(gallery_GD, gallery_codes_G, group_G),
        self_Q=self_Q,
        ks=tuple(map(int, ks)),
        progress=progress,
        peers=peers,
    )
    if not ranks.num_relevant.any():
        what = f"none of the {num_queries} queries has an item of its class outside its own group"
        fix = "check that groups are sessions or the like, and not the classes"
        raise InputError(Problem("query_groups_Q", what, fix))
    return _result(ranks, query_codes_Q, num_gallery, tuple(map(int, ks)))


def _result(ranks: Ranks, query_codes_Q: Index, num_gallery: int, ks: tuple[int, ...]) -> RetrievalResult:
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


def _intervals(of_queries: dict[str, Float64], codes_Q: Index, over: Over) -> dict[str, Interval]:
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
    peers: Peers = ALONE,
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
        left_out=LeftOut(np.arange(len(labels_N)), groups_N, groups_N),
        progress=progress,
        peers=peers,
    )


def _checked_groups(left_out: LeftOut, num_queries: int, num_gallery: int) -> tuple[Index, Index]:
    """Return group numbers of queries and gallery, −1 for none."""
    query_groups_Q, gallery_groups_G = left_out.query_groups_Q, left_out.gallery_groups_G
    if query_groups_Q is None and gallery_groups_G is None:
        return np.full(num_queries, -1, dtype=np.int64), np.full(num_gallery, -1, dtype=np.int64)
    if query_groups_Q is None or gallery_groups_G is None:
        raise InputError("query_groups_Q, gallery_groups_G: one without the other; give both or neither")
    names_Q = checked_labels(query_groups_Q, "query_groups_Q", num_queries)
    names_G = checked_labels(gallery_groups_G, "gallery_groups_G", num_gallery)
    codes_Q, codes_G = class_codes(names_Q, names_G)
    none_Q, none_G = (names == "" if names.dtype.kind == "U" else names == -1 for names in (names_Q, names_G))
    return np.where(none_Q, -1, codes_Q), np.where(none_G, -1, codes_G)
