"""What a network of a comparison is worth: unseen classes among each other, and queries in the catalog of training."""

from dataclasses import dataclass, fields
from typing import final

import numpy as np
from numpy.typing import NDArray

from mohs.compare.protocols import ComparisonData
from mohs.evaluation.collapse import spread
from mohs.evaluation.pair_curves import pair_curves
from mohs.evaluation.pairs import pair_distances, sample_pairs
from mohs.evaluation.retrieval import evaluate_all_against_all, evaluate_retrieval
from mohs.evaluation.triplets import triplet_accuracy, triplet_accuracy_of
from mohs.model.embedder import Embedder
from mohs.plan import TripletPlan

__all__ = ["METRIC_NAMES", "Measured", "Metrics", "measure", "measure_embeddings"]

_NUM_NEGATIVE_PAIRS = 200_000


@final
@dataclass(frozen=True)
class Metrics:
    """Numbers of one network; NaN where something cannot be measured. All but `spread` are better if larger.

    Attributes:
        unseen_recall_1, unseen_recall_10, unseen_top_50: share of test queries with a picture of their class among the
            1, 10, 50 nearest other test pictures. `unseen_top_50` is the published "Top-50 validation accuracy".
        unseen_map_at_r, unseen_mrr: MAP@R and mean reciprocal rank of the same queries.
        unseen_ap, unseen_tpr: of pairs of test pictures: average precision at the share of positive pairs there is,
            and true positive rate at a false positive rate of 1e-3.
        unseen_triplets: accuracy on random triplets of test pictures.
        seen_recall_1, seen_recall_10, seen_top_50, seen_mrr: of catalog queries against the catalog.
        train_triplets: accuracy on random triplets of training pictures.
        mined_triplets: accuracy on the very triplets that were trained on, by the network at the end; those of Mohs.
        spread: of the test embeddings, 0 (collapsed) to 1.
        effective_rank: of the same.
    """

    unseen_recall_1: float
    unseen_recall_10: float
    unseen_top_50: float
    unseen_map_at_r: float
    unseen_mrr: float
    unseen_ap: float
    unseen_tpr: float
    unseen_triplets: float
    seen_recall_1: float
    seen_recall_10: float
    seen_top_50: float
    seen_mrr: float
    train_triplets: float
    mined_triplets: float
    spread: float
    effective_rank: float


METRIC_NAMES = tuple(field.name for field in fields(Metrics))
"""Names of the metrics, in order."""


@final
@dataclass(frozen=True, eq=False)
class Measured:
    """Metrics, and two numbers of each query of both protocols, in the order of the data, int64 [Q].

    The rank is that of its first match, from 1; -1 stands for a query without a match, which counts nowhere. The wrong
    classes are those with a picture that is not farther than the first match: the expected R@1 of smaller galleries
    follows from them and from the number of classes of the whole one (`mohs.evaluation.gallery_size`).
    """

    metrics: Metrics
    unseen_rank: NDArray[np.int64]
    seen_rank: NDArray[np.int64]
    unseen_wrong_classes: NDArray[np.int64]
    seen_wrong_classes: NDArray[np.int64]
    unseen_num_classes: int
    seen_num_classes: int


def measure(embedder: Embedder, data: ComparisonData, plan: TripletPlan | None = None, *, seed: int = 0) -> Measured:
    """Return what an embedder is worth on the pictures of a comparison; `seed` draws triplets and pairs."""
    x_ND, held_QD, test_ND = (embedder.embed(part.pictures) for part in (data.train, data.held_out, data.test))
    return measure_embeddings(x_ND, held_QD, test_ND, data, plan, seed=seed)


def measure_embeddings(
    train_ND: NDArray[np.float32],
    held_out_QD: NDArray[np.float32],
    test_ND: NDArray[np.float32],
    data: ComparisonData,
    plan: TripletPlan | None = None,
    *,
    seed: int = 0,
) -> Measured:
    """Return the same of embeddings of the three parts; rows with NaN or Inf count as 0, which is a collapse."""
    train_ND, held_out_QD, test_ND = (
        np.nan_to_num(x, posinf=0.0, neginf=0.0) for x in (train_ND, held_out_QD, test_ND)
    )
    labels, test_labels = data.train.labels, data.test.labels
    ks = (1, 10, 50)
    unseen = evaluate_all_against_all(test_ND, test_labels, ks=ks)
    seen = evaluate_retrieval(held_out_QD, data.held_out.labels, train_ND[data.catalog], labels[data.catalog], ks=ks)
    pairs = sample_pairs(test_labels, num_negatives=_NUM_NEGATIVE_PAIRS, seed=seed)
    curves = pair_curves(pairs.same, distance_P=pair_distances(test_ND, pairs), weight_P=pairs.weight_P, fprs=(1e-3,))
    tpr = curves.tpr_at_fpr[0].tpr
    mined = None if plan is None else triplet_accuracy_of(train_ND, *_own_triplets(plan))
    spreading = spread(test_ND)
    metrics = Metrics(
        unseen_recall_1=unseen.recall[1],
        unseen_recall_10=unseen.recall[10],
        unseen_top_50=unseen.recall[50],
        unseen_map_at_r=unseen.map_at_r,
        unseen_mrr=unseen.mean_reciprocal_rank,
        unseen_ap=curves.average_precision,
        unseen_tpr=np.nan if tpr is None else tpr,
        unseen_triplets=triplet_accuracy(test_ND, test_labels, seed=seed).accuracy,
        seen_recall_1=seen.recall[1],
        seen_recall_10=seen.recall[10],
        seen_top_50=seen.recall[50],
        seen_mrr=seen.mean_reciprocal_rank,
        train_triplets=_train_triplets(train_ND, labels, seed),
        mined_triplets=np.nan if mined is None else mined.accuracy,
        spread=spreading.std_sqrt_dim,
        effective_rank=spreading.effective_rank,
    )
    return Measured(
        metrics, unseen.first_match_rank, seen.first_match_rank, unseen.num_wrong_classes, seen.num_wrong_classes,
        len(np.unique(test_labels)), len(data.catalog),
    )  # fmt: skip


def _own_triplets(plan: TripletPlan) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the triplets with a positive that is another picture: an augmentation is not among the embeddings."""
    whole = plan.anchor != plan.positive
    whole = whole if whole.any() else np.ones(len(plan), dtype=bool)
    return plan.anchor[whole], plan.positive[whole], plan.negative[whole]


def _train_triplets(x_ND: NDArray[np.float32], labels: NDArray[np.str_], seed: int) -> float:
    if np.unique(labels, return_counts=True)[1].max() < 2:
        return np.nan
    return triplet_accuracy(x_ND, labels, seed=seed).accuracy
