"""The one pass against a brute-force oracle that knows only the definition: 500 random cases, most with ties."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from mohs.errors import InputError
from mohs.evaluation import ranks
from mohs.evaluation.retrieval import LeftOut, evaluate_all_against_all, evaluate_retrieval

KS = (1, 3, 10)


def rows_of_kind(random, kind, num_rows):
    """Return rows of which many are tied, or nearly so, or of very different lengths."""
    dim = int(random.integers(1, 40))
    normal = random.normal(size=(num_rows, dim))
    if kind == "grid":
        rows = random.integers(-2, 3, size=(num_rows, int(random.integers(1, 4))))
    elif kind == "duplicates":
        rows = normal[random.integers(0, max(num_rows // 3, 1), num_rows)]
    elif kind == "fine grid":
        rows = np.round(normal * 2) / 8
    elif kind == "collapsed":
        rows = np.ones(dim) + 1e-7 * np.round(normal)
    elif kind == "far away":
        rows = 1000 + np.round(normal * 4) / 64
    elif kind == "all lengths":
        rows = normal * 10.0 ** random.uniform(-3, 3, size=(num_rows, 1))
    else:
        rows = normal / np.linalg.norm(normal, axis=1, keepdims=True)
    return rows.astype(np.float32)


KINDS = ("grid", "duplicates", "fine grid", "collapsed", "far away", "all lengths", "sphere")


def case(number):
    """Return queries, their labels, gallery, its labels, and where the queries are in it."""
    random = np.random.default_rng([7, number])
    num_rows = int(random.integers(2, 60)) if number % 25 else int(random.integers(600, 1100))
    x = rows_of_kind(random, KINDS[number % len(KINDS)], num_rows)
    # A few large classes, and many of one item.
    num_classes = int(random.integers(1, num_rows + 1))
    labels = (num_classes * random.random(num_rows) ** random.uniform(1, 4)).astype(int)
    if number % 2:
        return x, labels, x, labels, np.arange(num_rows)
    queries = random.integers(0, num_rows, size=min(num_rows, 40))
    # Some queries are not in the gallery, some are there under another class.
    own = np.where(random.random(len(queries)) < 0.5, queries, -1)
    query_labels = np.where(random.random(len(queries)) < 0.8, labels[queries], labels[queries[::-1]])
    return x[queries], query_labels, x, labels, own


def oracle(query, label, gallery, gallery_labels, own):
    """Return what one query's ranks come to, or none without a match."""
    q, rows = query.astype(np.float64), gallery.astype(np.float64)
    distance = np.sqrt(((rows - q) ** 2).sum(axis=1))
    others = np.arange(len(rows)) != own
    relevant = np.sort(distance[others & (gallery_labels == label)])
    wrong = np.flatnonzero(others & (gallery_labels != label))
    nearest = wrong[np.lexsort((wrong, gallery_labels[wrong], distance[wrong]))[:1]]
    found = {"nearest wrong": int(nearest[0]) if len(nearest) else -1, "R": len(relevant)}
    if len(relevant) == 0:
        return found
    limits = relevant + 1e-6 * (relevant + np.linalg.norm(q))
    rank = np.array([i + (distance[wrong] <= limit).sum() for i, limit in enumerate(limits, 1)])
    share = np.arange(1, len(rank) + 1) / rank
    return found | {
        "first": rank[0],
        "ap": share.mean(),
        "map@r": share[rank <= len(rank)].sum() / len(rank),
        "rp": (rank <= len(rank)).mean(),
        "wrong classes": len(np.unique(gallery_labels[wrong][distance[wrong] <= limits[0]])),
        **{f"p@{k}": (rank <= k).sum() / min(k, others.sum()) for k in KS},
    }


@pytest.mark.parametrize("number", range(0, 500, 50))
def test_all_metrics_are_those_of_the_oracle(number, monkeypatch):
    num_measured = 0
    for n in range(number, number + 50):
        # A row with a grid does what a row without one does; normally only rows with many relevant items have one.
        monkeypatch.setattr(ranks, "_FEW", 0 if n % 3 == 0 else 12)
        monkeypatch.setattr(ranks, "_MANY", 5 if n % 4 == 0 else 200)
        queries, query_labels, gallery, gallery_labels, own = case(n)
        rows = [
            oracle(query, label, gallery, gallery_labels, me)
            for query, label, me in zip(queries, query_labels, own, strict=True)
        ]
        counted = [row for row in rows if row["R"]]
        arguments = queries, query_labels, gallery, gallery_labels
        if not counted:
            with pytest.raises(InputError, match="none of the"):
                evaluate_retrieval(*arguments, ks=KS, left_out=LeftOut(own))
            continue
        num_measured += 1
        result = evaluate_retrieval(*arguments, ks=KS, left_out=LeftOut(own))
        assert result.num_relevant.tolist() == [row["R"] for row in rows], n
        assert result.nearest_wrong.tolist() == [row["nearest wrong"] for row in rows], n
        assert result.first_match_rank[result.counted].tolist() == [row["first"] for row in counted], n
        assert result.num_wrong_classes[result.counted].tolist() == [row["wrong classes"] for row in counted], n
        np.testing.assert_allclose(result.average_precision[result.counted], [row["ap"] for row in counted], 1e-12)
        means = {
            "mAP": np.mean([row["ap"] for row in counted]),
            "MAP@R": np.mean([row["map@r"] for row in counted]),
            "R-precision": np.mean([row["rp"] for row in counted]),
            "MRR": np.mean([1 / row["first"] for row in counted]),
            **{f"recall@{k}": np.mean([row["first"] <= k for row in counted]) for k in KS},
            **{f"precision@{k}": np.mean([row[f"p@{k}"] for row in counted]) for k in KS},
        }
        assert result.metrics == pytest.approx(means, abs=1e-12), n
    assert num_measured > 40


def test_average_precision_is_that_of_scikit_learn_where_nothing_is_tied():
    num_compared = 0
    for seed in range(15):
        random = np.random.default_rng(seed)
        x = random.normal(size=(60, 5)).astype(np.float32)
        labels = random.integers(0, 7, 60)
        result = evaluate_all_against_all(x, labels)
        for i in range(60):
            others = np.arange(60) != i
            distances = np.linalg.norm(x[others].astype(float) - x[i], axis=1)
            if np.diff(np.sort(distances)).min() < 2e-5:
                continue  # tied, as near as float32 can tell
            num_compared += 1
            expected = average_precision_score(labels[others] == labels[i], -distances)
            assert result.average_precision[i] == pytest.approx(expected, abs=1e-6)
    assert num_compared > 400
    # scikit-learn takes tied items all at once; here the wrong one comes first.
    tied = evaluate_retrieval([[0.0]], [0], [[1.0], [-1.0]], [0, 1], ks=(1,))
    assert (tied.mean_average_precision, average_precision_score([True, False], [-1, -1])) == (0.5, 0.5)
    tied = evaluate_retrieval([[0.0]], [0], [[1.0], [-1.0], [-1.0]], [0, 1, 1], ks=(1,))
    assert tied.mean_average_precision == 1 / 3


def test_results_depend_neither_on_threads_nor_on_blocks(monkeypatch):
    random = np.random.default_rng(0)
    labels = random.integers(0, 300, 2000)
    x = (random.normal(size=(300, 24))[labels] + 1.5 * random.normal(size=(2000, 24))).astype(np.float32)
    x[random.integers(0, 2000, 300)] = x[0]

    def found():
        result = evaluate_all_against_all(x, labels)
        return result.metrics, result.average_precision, result.nearest_wrong, result.num_wrong_classes

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    expected = found()
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    for rows, grid_rows, limits in ((512, 128, 2**19), (64, 64, 2**19), (512, 128, 40)):
        for name, value in (("_BLOCK_ROWS", rows), ("_GRID_ROWS", grid_rows), ("_BLOCK_LIMITS", limits)):
            monkeypatch.setattr(ranks, name, value)
        metrics, *arrays = found()
        assert metrics == expected[0]
        for array, wanted in zip(arrays, expected[1:], strict=True):
            np.testing.assert_array_equal(array, wanted)


def test_order_of_queries_and_gallery_does_not_matter():
    random = np.random.default_rng(1)
    x = np.round(random.normal(size=(400, 3)), 1)
    labels = random.integers(0, 60, 400)
    base = evaluate_all_against_all(x, labels)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(400)
        other = evaluate_all_against_all(x[order], labels[order])
        np.testing.assert_array_equal(other.first_match_rank, base.first_match_rank[order])
        np.testing.assert_array_equal(other.average_precision, base.average_precision[order])
        np.testing.assert_array_equal(labels[order][other.nearest_wrong], labels[base.nearest_wrong[order]])
        assert other.metrics == pytest.approx(base.metrics, abs=1e-12)


def test_moving_a_match_farther_away_never_helps():
    random = np.random.default_rng(2)
    for _ in range(50):
        gallery = random.normal(size=(30, 4))
        labels = random.integers(0, 4, 30)
        query, label = random.normal(size=(1, 4)), labels[:1]
        before = evaluate_retrieval(query, label, gallery, labels)
        gallery[0] = query[0] + 1.5 * (gallery[0] - query[0])
        after = evaluate_retrieval(query, label, gallery, labels)
        assert all(after.metrics[name] <= value for name, value in before.metrics.items())
        swapped = evaluate_retrieval(query, label, gallery, np.where(labels == label, -1, label))
        assert swapped.num_relevant[0] + after.num_relevant[0] == 30
        assert (swapped.recall[1] == 1) == (after.recall[1] == 0)


def test_one_class_may_be_the_whole_gallery_and_one_query_a_class():
    random = np.random.default_rng(3)
    x = random.normal(size=(700, 6))
    result = evaluate_all_against_all(x, np.zeros(700, dtype=int))
    assert result.metrics == dict.fromkeys(result.metrics, 1.0)
    assert (result.nearest_wrong == -1).all()
    assert np.isinf(result.nearest_wrong_distance).all()
    assert result.intervals == {}


def test_a_class_of_thousands_is_ranked_exactly():
    random = np.random.default_rng(4)
    labels = np.repeat([0, 1, 2], [2500, 300, 200])
    x = (random.normal(size=(3, 8))[labels] + random.normal(size=(3000, 8))).astype(np.float32)
    result = evaluate_all_against_all(x, labels, ks=(1, 100))
    for i in (0, 1234, 2700, 2999):
        expected = oracle(x[i], labels[i], x, labels, i)
        assert result.first_match_rank[i] == expected["first"]
        assert result.average_precision[i] == pytest.approx(expected["ap"], abs=1e-12)


def test_queries_of_another_scale_are_refused():
    with pytest.raises(InputError) as caught:
        evaluate_retrieval([[1e17, 0.0]], [0], [[1e-20, 0.0], [0.0, 1e-20]], [0, 1])
    assert str(caught.value) == (
        "query_embeddings_QD: row 0 is more than 1e+30 times as long as the gallery's longest; use embeddings of one "
        "model for both"
    )


def test_progress_ends_with_all_blocks():
    calls = []
    x = np.random.default_rng(0).normal(size=(1100, 4))
    evaluate_all_against_all(x, np.arange(1100) // 2, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]
