from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from mohs.errors import InputError
from mohs.evaluation.classes import class_results, confusable_pairs
from mohs.evaluation.gallery_size import recall_by_gallery_size
from mohs.evaluation.retrieval import evaluate_all_against_all, evaluate_retrieval

NAMES = np.array([f"c{i}" for i in range(9)])


def tied_set(seed):
    random = np.random.default_rng(seed)
    return np.round(random.normal(size=(60, 2)), 1), NAMES[random.integers(0, 9, 60)]


@pytest.mark.parametrize("seed", range(5))
def test_classes_and_pairs_are_counted_query_by_query(seed):
    x, labels = tied_set(seed)
    labels = labels.astype("<U5")
    labels[0] = "alone"
    result = evaluate_all_against_all(x, labels)
    misses = Counter()
    for q in np.flatnonzero(result.counted & ~result.hit_at_1):
        misses[labels[q], labels[result.nearest_wrong[q]]] += 1
    rows = class_results(result, labels, labels)
    assert [row.label for row in rows] == sorted(set(labels.tolist()))
    for row in rows:
        of_class = (labels == row.label) & result.counted
        assert row.num_queries == of_class.sum()
        if row.label == "alone":
            assert (row.recall_at_1, row.average_precision, row.confused_with) == (None, None, None)
            continue
        assert row.recall_at_1 == pytest.approx(result.hit_at_1[of_class].mean())
        assert row.average_precision == pytest.approx(result.average_precision[of_class].mean())
        own = {found: count for (label, found), count in misses.items() if label == row.label}
        most = max(own.values(), default=0)
        assert row.num_confused == most
        assert row.confused_with == min((found for found, count in own.items() if count == most), default=None)
        if row.example is not None:
            query, found = row.example
            assert (labels[query], labels[found]) == (row.label, row.confused_with)
            assert found == result.nearest_wrong[query]
            assert not result.hit_at_1[query]
    pairs = confusable_pairs(result, labels, labels)
    assert sum(pair.num_first + pair.num_second for pair in pairs) == sum(misses.values())
    assert len({(pair.first, pair.second) for pair in pairs}) == len(pairs)
    totals = [pair.num_first + pair.num_second for pair in pairs]
    assert totals == sorted(totals, reverse=True)
    for pair in pairs:
        assert pair.first < pair.second
        assert pair.num_first == misses[pair.first, pair.second]
        assert pair.num_second == misses[pair.second, pair.first]
        assert pair.num_queries == (np.isin(labels, (pair.first, pair.second)) & result.counted).sum()
        assert {labels[i] for i in pair.example} == {pair.first, pair.second}


def test_a_class_that_is_only_in_the_gallery_can_be_confused_with():
    gallery_labels = [7, 7, 8, 5]
    result = evaluate_retrieval([[0.0]], [7], [[1.0], [2.0], [0.5], [9.0]], gallery_labels)
    [row] = class_results(result, [7], gallery_labels)
    assert (row.label, row.recall_at_1, row.confused_with, row.num_confused, row.example) == (7, 0.0, 8, 1, (0, 2))
    [pair] = confusable_pairs(result, [7], gallery_labels)
    assert (pair.first, pair.second, pair.num_first, pair.num_second, pair.num_queries) == (7, 8, 1, 0, 1)
    assert pair.as_record() == {"classes": [7, 8], "misses": [1, 0], "num_queries": 1, "example": [0, 2]}


def test_labels_must_be_those_of_the_result():
    result = evaluate_all_against_all([[0.0], [1.0], [5.0]], [0, 0, 1])
    with pytest.raises(InputError, match="query_labels_Q: 2 labels for 3 embeddings"):
        class_results(result, [0, 0], [0, 0, 1])
    with pytest.raises(InputError, match="gallery_labels_G: 4 labels for 3 embeddings"):
        class_results(result, [0, 0, 1], [0, 0, 1, 1])


def mean_recall_over_subsets(x, labels, size):
    """Recall@1 if each query searches among its own class and size − 1 others, over all choices of these."""
    names = np.unique(labels)
    distance = np.linalg.norm(x[:, None] - x[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    nearest = np.stack([distance[:, labels == name].min(axis=1) for name in names], axis=1)  # of each class
    recalls = []
    for q, label in enumerate(labels):
        own = nearest[q, names == label].item()
        if np.isinf(own):
            continue
        limit = own + 1e-6 * (own + np.linalg.norm(x[q]))
        others = nearest[q, names != label]
        subsets = combinations(range(len(others)), size - 1)
        recalls.append(np.mean([(others[list(subset)] > limit).all() for subset in subsets]))
    return np.mean(recalls)


@pytest.mark.parametrize("seed", range(3))
def test_recall_by_gallery_size_is_the_mean_over_all_subsets_of_classes(seed):
    x, labels = tied_set(seed)
    x = x.astype(np.float32).astype(float)
    result = evaluate_all_against_all(x, labels)
    sizes = recall_by_gallery_size(result, labels, labels, sizes=range(1, 10))
    assert sizes.num_classes == tuple(range(1, 10))
    assert sizes.recall_at_1[0] == 1.0
    assert sizes.recall_at_1[-1] == pytest.approx(result.recall[1], abs=1e-12)
    for size, recall, (low, high) in zip(sizes.num_classes, sizes.recall_at_1, sizes.intervals, strict=True):
        assert low <= recall <= high
        assert recall == pytest.approx(mean_recall_over_subsets(x, labels, size), abs=1e-12)


def test_default_sizes_are_steps_of_1_2_5_and_the_whole():
    x = np.random.default_rng(0).normal(size=(240, 3))
    labels = np.arange(240) // 2
    sizes = recall_by_gallery_size(evaluate_all_against_all(x, labels), labels, labels)
    assert sizes.num_classes == (2, 5, 10, 20, 50, 100, 120)
    assert sizes.as_record()["num_classes"] == [2, 5, 10, 20, 50, 100, 120]
    one = np.zeros(240, dtype=int)
    alone = recall_by_gallery_size(evaluate_all_against_all(x, one), one, one)
    assert (alone.num_classes, alone.recall_at_1, alone.intervals) == ((1,), (1.0,), ())


@pytest.mark.parametrize("sizes", [[0], [4], []])
def test_sizes_out_of_range(sizes):
    labels = [0, 0, 1, 2]
    result = evaluate_all_against_all([[0.0], [1.0], [5.0], [6.0]], labels)
    with pytest.raises(InputError) as caught:
        recall_by_gallery_size(result, labels, labels, sizes=sizes)
    assert str(caught.value) == f"sizes: {sizes} are not in [1, 3], the number of classes in the gallery"
