"""The pictures of a report: good and bad queries, mined triplets, confusable classes, a map."""

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from mohs.checks import is_whole
from mohs.data.dataset import Dataset
from mohs.errors import InputError, Problem
from mohs.evaluation.exact_neighbours import nearest
from mohs.plan import TripletPlan
from mohs.randomness import generator
from mohs.report.parts import Confusion, EmbeddingMap, Example, Hit, MinedTriplet
from mohs.runs import Evaluation, Run

__all__ = ["Found", "confusions", "embedding_map", "examples", "find", "mined_triplets"]

_NUM_EXAMPLES = 6
_NUM_RESULTS = 5
_NUM_MINED = 3
_PARTS_OF_SEGMENT = (0.1, 0.5, 0.9)
_NUM_CONFUSIONS = 8
_NUM_MAP_PICTURES = 300


@final
@dataclass(frozen=True, eq=False)
class Found:
    """The nearest gallery items of each query, as items of the evaluation's dataset: [Q], [Q, k], Euclidean [Q, k]."""

    queries_Q: np.ndarray
    items_Qk: np.ndarray
    distance_Qk: np.ndarray


def find(evaluation: Evaluation) -> Found:
    """Return the five nearest items of each test item, under the protocol of the evaluation."""
    x_ND = evaluation.embeddings_ND
    if evaluation.test_N.all():
        queries = gallery = np.arange(len(evaluation.dataset))
        self_indices = queries
    else:
        queries, gallery = np.flatnonzero(evaluation.test_N), np.flatnonzero(~evaluation.test_N)
        self_indices = None
    k = min(_NUM_RESULTS, len(gallery) - (self_indices is not None))
    found_Qk, distance_Qk = nearest(x_ND[queries], x_ND[gallery], k, self_indices_Q=self_indices)
    return Found(queries, gallery[found_Qk], distance_Qk)


def examples(evaluation: Evaluation, found: Found) -> tuple[list[Example], list[Example]]:
    """Return the surest hits and the worst misses: by the distance of the nearest, by the rank of the first match."""
    dataset = evaluation.dataset
    result = evaluation.measured["trained"].retrieval
    counted = np.flatnonzero(result.counted)
    hits = counted[result.hit_at_1[counted]]
    misses = counted[~result.hit_at_1[counted]]
    labels_Q = dataset.labels[found.queries_Q]
    queries, gallery = evaluation.query_and_gallery()
    num_C = np.bincount(dataset.labels_id[gallery], minlength=int(dataset.labels_id.max()) + 1)
    # A query is no match of itself.
    num_matches_Q = num_C[dataset.labels_id[queries]] - np.isin(queries, gallery)
    best = _one_per_class(hits[np.argsort(found.distance_Qk[hits, 0], kind="stable")], labels_Q)
    worst = _one_per_class(misses[np.argsort(-result.first_match_rank[misses], kind="stable")], labels_Q)

    def example(q: int) -> Example:
        label = str(labels_Q[q])
        hits = [
            Hit(np.asarray(dataset.pictures[item]), str(dataset.labels[item]), float(d), dataset.labels[item] == label)
            for item, d in zip(found.items_Qk[q], found.distance_Qk[q], strict=True)
        ]
        return Example(np.asarray(dataset.pictures[found.queries_Q[q]]), label, hits, int(num_matches_Q[q]))

    return [example(q) for q in best.tolist()], [example(q) for q in worst.tolist()]


def confusions(evaluation: Evaluation, found: Found) -> list[Confusion]:
    """Return the eight worst pairs (class, class of its queries' nearest item): by share of its queries, by distance.

    A pair of classes is shown once, in the direction that is worse.
    """
    dataset = evaluation.dataset
    result = evaluation.measured["trained"].retrieval
    wrong_Q = np.flatnonzero(result.counted & (dataset.labels[found.items_Qk[:, 0]] != dataset.labels[found.queries_Q]))
    if not wrong_Q.size:
        return []
    code_N = dataset.labels_id
    own_W, other_W = code_N[found.queries_Q[wrong_Q]], code_N[found.items_Qk[wrong_Q, 0]]
    pair_P2, of_W, count_P = np.unique(
        np.stack([own_W, other_W], axis=1), axis=0, return_inverse=True, return_counts=True
    )
    of_W = of_W.ravel()
    num_queries_C = np.bincount(code_N[found.queries_Q[result.counted]], minlength=int(code_N.max()) + 1)
    nearest_P = np.full(len(pair_P2), np.inf)
    np.minimum.at(nearest_P, of_W, found.distance_Qk[wrong_Q, 0])
    share_P = count_P / num_queries_C[pair_P2[:, 0]]
    chosen: list[Confusion] = []
    seen: set[frozenset[int]] = set()
    for pair in np.lexsort((nearest_P, -count_P, -share_P)).tolist():
        own, other = pair_P2[pair].tolist()
        if frozenset((own, other)) in seen:
            continue
        seen.add(frozenset((own, other)))
        members = wrong_Q[of_W == pair]
        q = int(members[np.argmin(found.distance_Qk[members, 0])])
        item, near = int(found.queries_Q[q]), int(found.items_Qk[q, 0])
        chosen.append(
            Confusion(
                str(dataset.labels[item]),
                str(dataset.labels[near]),
                int(count_P[pair]),
                int(num_queries_C[own]),
                np.asarray(dataset.pictures[item]),
                np.asarray(dataset.pictures[near]),
            )
        )
        if len(chosen) == _NUM_CONFUSIONS:
            break
    return chosen


def embedding_map(evaluation: Evaluation, *, seed: int) -> EmbeddingMap | None:
    """Return a t-SNE map (van der Maaten and Hinton 2008, by scikit-learn) of up to 300 queries of whole classes.

    Classes are drawn by `seed`. None for fewer than ten queries.
    """
    from sklearn.manifold import TSNE

    dataset = evaluation.dataset
    queries_Q = np.flatnonzero(evaluation.test_N)
    code_Q = dataset.labels_id[queries_Q]
    order = generator(seed, "classes of the map").permutation(np.unique(code_Q))
    num_C = np.bincount(code_Q, minlength=int(code_Q.max()) + 1)[order]
    kept = order[: max(1, int((np.cumsum(num_C) <= _NUM_MAP_PICTURES).sum()))]
    shown_Q = np.flatnonzero(np.isin(code_Q, kept))[:_NUM_MAP_PICTURES]
    if len(shown_Q) < 10:
        return None
    items = queries_Q[shown_Q]
    perplexity = min(30.0, (len(items) - 1) / 3)
    xy_P2 = TSNE(perplexity=perplexity, init="pca", random_state=seed % 2**32).fit_transform(
        np.ascontiguousarray(evaluation.embeddings_ND[items], dtype=np.float32)
    )
    return EmbeddingMap(
        note=f"{len(items)} test pictures of {len(kept)} classes by t-SNE: near is alike, far is not to scale.",
        xy_P2=np.asarray(xy_P2, dtype=np.float64),
        labels=[str(label) for label in dataset.labels[items]],
        pictures=[np.asarray(dataset.pictures[int(item)]) for item in items],
        is_hit=evaluation.measured["trained"].retrieval.hit_at_1[shown_Q].tolist(),
    )


def _one_per_class(ordered: np.ndarray, labels_Q: np.ndarray) -> np.ndarray:
    """Return the first queries of different classes: two pictures of a class are each other's mirror image."""
    first = np.sort(np.unique(labels_Q[ordered], return_index=True)[1])
    return np.asarray(ordered[first[:_NUM_EXAMPLES]])


def mined_triplets(name: str, run: Run, training_set: Dataset) -> list[MinedTriplet]:
    """Return triplets from the start, the middle and the end of a run, and of a segment (which may be a cycle)."""
    # A plan that the guard broke off before its first step is empty.
    plans = [plan for file in sorted((run.folder / "plans").glob("*.parquet")) if len(plan := TripletPlan.load(file))]
    if not plans:
        return []
    chosen = []
    for moment, part in zip(np.linspace(0, len(plans) - 1, _NUM_MINED), _PARTS_OF_SEGMENT, strict=True):
        plan = plans[int(moment)]
        t = int(part * len(plan))
        plan.check_items(len(training_set), source=str(run.folder / "plans"))
        pictures = [
            np.asarray(training_set.pictures[int(column[t])]) for column in (plan.anchor, plan.positive, plan.negative)
        ]
        chosen.append(
            MinedTriplet(
                anchor=pictures[0],
                positive=pictures[1],
                negative=pictures[2],
                label=str(training_set.labels[plan.anchor[t]]),
                negative_label=str(training_set.labels[plan.negative[t]]),
                hardness=float(plan.achieved_hardness[t]),
                triplet_index=_first_triplet(plan, run) + t,
                strategy=name,
            )
        )
    return chosen


def _first_triplet(plan: TripletPlan, run: Run) -> int:
    first: Any = plan.header.get("first_triplet")
    if not is_whole(first):
        what = f"first_triplet of a header is {first!r:.60}, no whole number"
        raise InputError(Problem(str(run.folder / "plans"), what, "restore the plans"))
    return int(first)
