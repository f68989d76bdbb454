"""All metrics of one embedding, under one protocol."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, final

import numpy as np
import numpy.typing as npt

from mohs.checks import plain_array, truths
from mohs.errors import InputError
from mohs.evaluation.checked import Array, Bools, Float32, checked_float32, checked_labels, class_codes
from mohs.evaluation.classes import ClassResult, ConfusablePair, class_results, confusable_pairs
from mohs.evaluation.collapse import Spread, spread
from mohs.evaluation.gallery_size import GallerySizes, recall_by_gallery_size
from mohs.evaluation.remarks import one_class_remark, remarks
from mohs.evaluation.retrieval import LeftOut, RetrievalResult, evaluate_all_against_all, evaluate_retrieval
from mohs.evaluation.triplets import Negatives, TripletAccuracy, triplet_accuracy
from mohs.evaluation.verification import VerificationResult, evaluate_pairs
from mohs.mining.threads import Progress
from mohs.peers import ALONE, Peers

__all__ = ["EmbeddingReport", "SearchProtocol", "evaluate_embeddings", "measure", "verified"]

SearchProtocol: TypeAlias = Literal[
    "unseen classes", "seen classes", "classes seen and unseen", "all against all", "queries against gallery"
]

_NUM_PAIRS = 20  # in the record


@final
@dataclass(frozen=True, eq=False)
class EmbeddingReport:
    """What `measure` and `evaluate_embeddings` found.

    Attributes:
        protocol: "unseen classes": every test item is a query against all other test items, and no test class was
            trained on. "classes seen and unseen": the same, but some were. "seen classes": every test item is a query
            against the training items. "all against all" and "queries against gallery": the same two for embeddings of
            which nothing else is known.
        retrieval: recall@k and precision@k for k of 1, 5, 10 and 50, mAP and more under that protocol.
        catalog: the same for queries of role "sample" against the catalog items alone; none without a catalog.
            Its recall@1 is the catalog accuracy.
        triplets: accuracy on random triplets of queries; none if no class has two of them.
        spread: of the queries' embeddings.
        semi_hard_triplets, hard_triplets: accuracy with negatives mined among the queries.
        classes: what each class of queries found, in the order of the labels.
        confusable: pairs of classes that are taken for each other, most misses first.
        gallery_sizes: expected recall@1 in galleries of fewer classes.
        verification: what verification on pairs found (`verified`): of two queries, or of a query and an item of the
            gallery where that is apart from them; none if it was not asked for, or if there are no such pairs.
        notes: sentences about what no metric says: one class, failed pictures, copies, ties
            (`mohs.evaluation.remarks`).
        without_own_group: whether `retrieval` and `catalog`, and what is made of them, leave a query's own group out.
    """

    protocol: SearchProtocol
    retrieval: RetrievalResult
    catalog: RetrievalResult | None
    triplets: TripletAccuracy | None
    spread: Spread
    semi_hard_triplets: TripletAccuracy | None
    hard_triplets: TripletAccuracy | None
    classes: list[ClassResult]
    confusable: list[ConfusablePair]
    gallery_sizes: GallerySizes
    verification: VerificationResult | None = None
    notes: tuple[str, ...] = ()
    without_own_group: bool = False

    @property
    def told_protocol(self) -> str:
        """The protocol in words, and whether a query's own group is left out."""
        return f"{self.protocol}, without the query's own group" if self.without_own_group else self.protocol

    def as_record(self) -> dict[str, Any]:
        """Return the numbers as JSON values; of the confusable pairs the first 20, and no classes."""
        triplets = {
            "triplet_accuracy": self.triplets,
            "semi_hard_triplet_accuracy": self.semi_hard_triplets,
            "hard_triplet_accuracy": self.hard_triplets,
        }
        return {
            "protocol": self.protocol,
            "without_own_group": self.without_own_group,
            "retrieval": self.retrieval.as_record(),
            "catalog": None if self.catalog is None else self.catalog.as_record(),
            **{name: None if found is None else found.as_record() for name, found in triplets.items()},
            "spread": {"std_sqrt_dim": self.spread.std_sqrt_dim, "effective_rank": self.spread.effective_rank},
            "confusable": [pair.as_record() for pair in self.confusable[:_NUM_PAIRS]],
            "gallery_sizes": self.gallery_sizes.as_record(),
            "verification": None if self.verification is None else self.verification.as_record(),
            "notes": list(self.notes),
        }


def evaluate_embeddings(
    embeddings_ND: npt.ArrayLike,
    labels_N: npt.ArrayLike,
    *,
    roles_N: npt.ArrayLike | None = None,
    query_embeddings_QD: npt.ArrayLike | None = None,
    query_labels_Q: npt.ArrayLike | None = None,
    groups_N: npt.ArrayLike | None = None,
    query_groups_Q: npt.ArrayLike | None = None,
    verification: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
    peers: Peers = ALONE,
) -> EmbeddingReport:
    """Return all metrics of embeddings from anywhere: a network of another library, a file, a service.

    Distances are Euclidean on the rows as they are, rounded to float32. Divide them by their norms first
    (`mohs.distances.unit_rows`) if similarity is to be the cosine.

    Args:
        embeddings_ND: numbers [N, D], numpy or torch.
        labels_N: their classes, integers or strings [N].
        roles_N: "sample" or "catalog" [N], for the catalog accuracy; none: no item is of a catalog.
        query_embeddings_QD: none: each item is a query against all others. Else numbers [Q, D]: each of them is a query
            against all N items.
        query_labels_Q: classes of the queries [Q].
        groups_N: what each item was taken with (session, camera, product family), integers or strings [N], -1 or "" for
            no group: a query does not find items of its own group. Triplets and pairs are of all items still.
        query_groups_Q: groups of the queries [Q].
        verification: whether pairs are verified too (`mohs.evaluation.verification`), which takes some seconds.
        seed: of the triplets and of the pairs.
        progress: called with (blocks of queries done, blocks in all).
        peers: processes that call this together with the same arguments: each ranks a part of the queries, and all
            return the same.

    Raises `InputError` for embeddings and labels that do not fit each other, rows with NaN or Inf, and if no query has
    an item of its class to find.

    >>> report = evaluate_embeddings([[0.0], [0.1], [5.0], [5.1]], ["a", "a", "b", "b"])
    >>> report.retrieval.recall[1], report.triplets.accuracy, report.hard_triplets.accuracy
    (1.0, 1.0, 1.0)
    """
    x_ND = checked_float32(embeddings_ND, "embeddings_ND")
    labels = checked_labels(labels_N, "labels_N", len(x_ND))
    roles = np.full(len(x_ND), "sample") if roles_N is None else plain_array("roles_N", roles_N)
    if roles.shape != (len(x_ND),) or not np.isin(roles, ("sample", "catalog")).all():
        raise InputError(
            f"roles_N: not 'sample' or 'catalog' for each of the {len(x_ND)} embeddings; give one role for each row"
        )
    if query_embeddings_QD is None:
        if query_labels_Q is not None:
            raise InputError("query_labels_Q: given without query_embeddings_QD; give both or neither")
        if query_groups_Q is not None:
            raise InputError("query_groups_Q: given without query_embeddings_QD; give groups_N alone")
        return measure(
            x_ND,
            SearchSet(labels, roles, groups_N=groups_N),
            protocol="all against all",
            verification=verification,
            seed=seed,
            progress=progress,
            peers=peers,
        )
    query_QD = checked_float32(query_embeddings_QD, "query_embeddings_QD")
    if query_labels_Q is None:
        raise InputError("query_labels_Q: missing; give the class of each query")
    query_labels = checked_labels(query_labels_Q, "query_labels_Q", len(query_QD))
    class_codes(query_labels, labels)  # of one kind, or they cannot be joined
    groups = _joined_groups(groups_N, query_groups_Q, len(x_ND), len(query_QD))
    if query_QD.shape[1] != x_ND.shape[1]:
        raise InputError(
            f"query_embeddings_QD, embeddings_ND: {query_QD.shape[1]} and {x_ND.shape[1]} dimensions; "
            "use embeddings of one model for both"
        )
    return measure(
        np.concatenate([x_ND, query_QD]),
        SearchSet(
            np.concatenate([labels, query_labels]),
            np.concatenate([roles, np.full(len(query_QD), "sample")]),
            test_N=np.arange(len(x_ND) + len(query_QD)) >= len(x_ND),
            groups_N=groups,
        ),
        protocol="queries against gallery",
        verification=verification,
        seed=seed,
        progress=progress,
        peers=peers,
    )


def _joined_groups(
    groups_N: npt.ArrayLike | None, query_groups_Q: npt.ArrayLike | None, num_items: int, num_queries: int
) -> Array | None:
    """Return the groups of all items and then of all queries, [N + Q]; None if neither has any."""
    if groups_N is None and query_groups_Q is None:
        return None
    if groups_N is None or query_groups_Q is None:
        raise InputError("groups_N, query_groups_Q: one without the other; give both or neither")
    names = checked_labels(groups_N, "groups_N", num_items)
    query_names = checked_labels(query_groups_Q, "query_groups_Q", num_queries)
    class_codes(names, query_names)
    return np.concatenate([names, query_names])


@final
@dataclass(frozen=True, eq=False)
class SearchSet:
    """What is known of N items that are searched for, and searched in, whatever embeds them.

    Attributes:
        labels_N: classes, [N].
        roles_N: "sample" or "catalog", [N].
        test_N: none: all items are test items, and each is a query against all others. Else bool [N]: those are
            queries, and the rest, training items of the same classes, is the gallery.
        groups_N: none, or the group of each item, which its own queries do not find: see `evaluate_embeddings`.
    """

    labels_N: npt.ArrayLike
    roles_N: npt.ArrayLike
    test_N: npt.ArrayLike | None = None
    groups_N: npt.ArrayLike | None = None


def measure(
    embeddings_ND: npt.ArrayLike,
    items: SearchSet,
    *,
    protocol: SearchProtocol | None = None,
    verification: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
    peers: Peers = ALONE,
) -> EmbeddingReport:
    """Return all metrics of embeddings of a test set.

    Args:
        embeddings_ND: float [N, D].
        items: their classes, and who is a query.
        protocol: what to call it; none: "unseen classes" without `test_N`, "seen classes" with it.
        verification: whether pairs of queries are verified too.
        seed: of the triplets and of the pairs.
        progress: called with (blocks of queries done, blocks in all).
        peers: processes that call this together with the same arguments: each ranks a part of the queries, and all
            return the same.

    Raises `InputError` if no query has an item of its class to find.
    """
    x_ND = checked_float32(embeddings_ND, "embeddings_ND")
    labels = checked_labels(items.labels_N, "labels_N", len(x_ND))
    catalog_N = plain_array("roles_N", items.roles_N) == "catalog"
    test_N, groups_N = items.test_N, items.groups_N
    test = np.ones(len(labels), dtype=bool) if test_N is None else truths("test_N", test_N, len(x_ND))
    gallery = test if test_N is None else ~test
    groups = None if groups_N is None else checked_labels(groups_N, "groups_N", len(x_ND))

    def found_by(query_N: Bools, in_gallery_N: Bools, progress: Progress | None = None) -> RetrievalResult:
        return evaluate_retrieval(
            x_ND[query_N],
            labels[query_N],
            x_ND[in_gallery_N],
            labels[in_gallery_N],
            left_out=LeftOut() if groups is None else LeftOut(None, groups[query_N], groups[in_gallery_N]),
            progress=progress,
            peers=peers,
        )

    if test_N is None:
        retrieval = evaluate_all_against_all(x_ND, labels, groups_N=groups, progress=progress, peers=peers)
    else:
        retrieval = found_by(test, gallery, progress)
    queries_N = test & ~catalog_N
    catalog = found_by(queries_N, catalog_N) if _have_match(labels, groups, queries_N, catalog_N) else None
    both = labels[test], labels[gallery]
    return EmbeddingReport(
        protocol=protocol or ("unseen classes" if test_N is None else "seen classes"),
        retrieval=retrieval,
        catalog=catalog,
        triplets=_triplets(x_ND[test], labels[test], "random", seed, peers),
        spread=spread(x_ND[test]),
        semi_hard_triplets=_triplets(x_ND[test], labels[test], "semi-hard", seed, peers),
        hard_triplets=_triplets(x_ND[test], labels[test], "hard", seed, peers),
        classes=class_results(retrieval, *both),
        confusable=confusable_pairs(retrieval, *both),
        gallery_sizes=recall_by_gallery_size(retrieval, *both),
        verification=verified(x_ND, labels, test_N, seed=seed) if verification else None,
        # What remarks say is by how much a number changes, and those numbers know of no groups.
        notes=one_class_remark(both[1])
        + (
            ()
            if groups is not None
            else remarks(x_ND[test], both[0], x_ND[gallery], both[1], retrieval, same_items=test_N is None)
        ),
        without_own_group=groups is not None,
    )


def _have_match(labels_N: Array, groups_N: Array | None, query_N: Bools, catalog_N: Bools) -> bool:
    """Return whether a query has a catalog item of its class, and outside its own group."""
    if groups_N is None:
        return bool(np.isin(labels_N[query_N], labels_N[catalog_N]).any())
    groups_of: dict[Any, set[Any]] = {}
    for label, group in zip(labels_N[catalog_N].tolist(), groups_N[catalog_N].tolist(), strict=True):
        groups_of.setdefault(label, set()).add(group)
    pairs = zip(labels_N[query_N].tolist(), groups_N[query_N].tolist(), strict=True)
    return any(groups_of.get(label, set()) - ({group} - {"", -1}) for label, group in pairs)


def verified(
    embeddings_ND: npt.ArrayLike, labels_N: npt.ArrayLike, test_N: npt.ArrayLike | None, *, seed: int
) -> VerificationResult | None:
    """Return what verification finds on the pairs that a search makes, with the arguments of `measure`.

    All pairs of items without `test_N`; with it, pairs of a test item and another one, since that is what a search in a
    catalog compares. None if there are no pairs of one class or none of two.
    """
    x_ND = checked_float32(embeddings_ND, "embeddings_ND")
    labels = checked_labels(labels_N, "labels_N", len(x_ND))
    test = None if test_N is None else truths("test_N", test_N, len(x_ND))
    if test is None or test.all():
        return evaluate_pairs(x_ND, labels, seed=seed) if _has_triplets(labels) else None
    # A query has a pair of one class with a gallery item of its class, and one of two unless all are of one class.
    if not np.isin(labels[test], labels[~test]).any() or len(np.unique(labels)) < 2:
        return None
    return evaluate_pairs(x_ND, labels, query_N=test, seed=seed)


def _triplets(x_ND: Float32, labels_N: Array, negatives: Negatives, seed: int, peers: Peers) -> TripletAccuracy | None:
    if not _has_triplets(labels_N):
        return None
    return triplet_accuracy(x_ND, labels_N, negatives=negatives, seed=seed, peers=peers)


def _has_triplets(labels_N: Array) -> bool:
    """Return whether there are two items of one class and one of another, so pairs of both kinds too."""
    count_C = np.unique(labels_N, return_counts=True)[1]
    return len(count_C) > 1 and bool(count_C.max() > 1)
