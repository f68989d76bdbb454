import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from mohs.errors import InputError
from mohs.evaluation.exact_neighbours import nearest
from mohs.evaluation.retrieval import LeftOut, RetrievalResult, evaluate_all_against_all, evaluate_retrieval


def unit_clusters(num_classes, per_class, *, noise, dimensions=16, seed=0):
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(num_classes), per_class)
    x = random.normal(size=(num_classes, dimensions))[labels] + noise * random.normal(size=(len(labels), dimensions))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), labels


def pessimistic_oracle(queries, query_labels, gallery, gallery_labels, own):
    """One query after the other, one definition after the other; ties: the irrelevant item first."""
    rows = []
    for q, label, me in zip(queries, query_labels, own, strict=True):
        items = [
            (float(np.sqrt(((g - q) ** 2).sum())), bool(other == label))
            for i, (g, other) in enumerate(zip(gallery, gallery_labels, strict=True))
            if i != me
        ]
        ranked = [match for _, match in sorted(items)]  # False sorts before True
        R = sum(ranked)
        if R == 0:
            rows.append(None)
            continue
        precisions = [sum(ranked[: i + 1]) / (i + 1) for i in range(len(ranked))]
        rows.append(
            {
                "first": ranked.index(True) + 1,
                "ap": sum(p for p, match in zip(precisions, ranked, strict=True) if match) / R,
                "map@r": sum(p for p, match in zip(precisions[:R], ranked[:R], strict=True) if match) / R,
                "rp": sum(ranked[:R]) / R,
            }
        )
    return rows


def assert_is_oracle(result: RetrievalResult, rows):
    counted = [row for row in rows if row]
    assert result.counted.tolist() == [row is not None for row in rows]
    assert result.num_queries_without_match == len(rows) - len(counted)
    assert result.first_match_rank.tolist() == [row["first"] if row else -1 for row in rows]
    np.testing.assert_allclose(result.average_precision, [row["ap"] if row else np.nan for row in rows], rtol=1e-12)
    for k, value in result.recall.items():
        assert value == pytest.approx(np.mean([row["first"] <= k for row in counted]))
    assert result.mean_average_precision == pytest.approx(np.mean([row["ap"] for row in counted]))
    assert result.map_at_r == pytest.approx(np.mean([row["map@r"] for row in counted]))
    assert result.r_precision == pytest.approx(np.mean([row["rp"] for row in counted]))
    assert result.mean_reciprocal_rank == pytest.approx(np.mean([1 / row["first"] for row in counted]))


def test_average_precision_is_that_of_scikit_learn_without_ties():
    x, labels = unit_clusters(12, 5, noise=1.0)
    result = evaluate_all_against_all(x, labels)
    for i in range(len(x)):
        others = np.arange(len(x)) != i
        distances = np.linalg.norm(x[others].astype(float) - x[i], axis=1)
        assert len(np.unique(distances.round(5))) > len(x) / 2  # really untied
        expected = average_precision_score(labels[others] == labels[i], -distances)
        assert result.average_precision[i] == pytest.approx(expected, abs=1e-6)
    assert 0.1 < result.mean_average_precision < 0.9


# Points of a small grid: many exact ties, and exact arithmetic, so that the oracle needs no tolerance.
grid_cases = st.integers(1, 14).flatmap(
    lambda n: st.tuples(
        st.lists(st.lists(st.integers(-2, 2), min_size=2, max_size=2), min_size=n, max_size=n),
        st.lists(st.sampled_from("abcd"), min_size=n, max_size=n),
        st.integers(1, n),
    )
)


@settings(max_examples=150, deadline=None)
@given(grid_cases)
def test_all_metrics_with_ties_are_those_of_the_pessimistic_oracle(case):
    points, labels, num_queries = case
    x = np.array(points, dtype=np.float32)
    rows = pessimistic_oracle(x.astype(float), labels, x.astype(float), labels, range(len(x)))
    if not any(rows):
        with pytest.raises(InputError, match="none of the"):
            evaluate_all_against_all(x, labels, ks=(1, 3))
    else:
        assert_is_oracle(evaluate_all_against_all(x, labels, ks=(1, 3)), rows)
    queries, query_labels, own = x[:num_queries], labels[:num_queries], [-1] * num_queries
    rows = pessimistic_oracle(queries.astype(float), query_labels, x.astype(float), labels, own)
    assert_is_oracle(evaluate_retrieval(queries, query_labels, x, labels, ks=(1, 2)), rows)


def test_results_do_not_depend_on_the_border_of_a_block():
    x, labels = unit_clusters(700, 3, noise=0.8)
    whole = evaluate_all_against_all(x, labels)
    assert len(x) > 2 * 1024
    for query in (0, 1023, 1024, 2047, 2048, len(x) - 1):
        one = evaluate_retrieval(x[[query]], labels[[query]], x, labels, left_out=LeftOut([query]))
        assert one.first_match_rank[0] == whole.first_match_rank[query]
        assert one.average_precision[0] == whole.average_precision[query]


@pytest.mark.parametrize("noise", [0.0, 1e-8], ids=["equal", "equal to rounding"])
def test_a_collapsed_embedding_has_the_worst_score_there_is(noise):
    labels = np.repeat(np.arange(30), 4)
    row = np.random.default_rng(1).normal(size=64)
    row /= np.linalg.norm(row)
    x = (row + noise * np.random.default_rng(2).normal(size=(120, 64))).astype(np.float32)
    result = evaluate_all_against_all(x, labels)
    worst_ranks = np.arange(1, 4) + 116
    assert (result.first_match_rank == 117).all()
    assert result.recall == {1: 0.0, 5: 0.0, 10: 0.0, 50: 0.0}
    assert result.mean_average_precision == pytest.approx((np.arange(1, 4) / worst_ranks).mean())
    assert result.map_at_r == result.r_precision == 0.0
    assert result.mean_reciprocal_rank == pytest.approx(1 / 117)


def test_copies_of_a_row_tie_wherever_they_stand_in_the_gallery():
    # A query whose own copy is there under many wrong classes: the right one must come last of them.
    random = np.random.default_rng(0)
    gallery = random.normal(size=(999, 100)).astype(np.float32)
    places = np.arange(0, 999, 37)
    gallery[places] = gallery[5]
    labels = np.arange(999)
    labels[places[3]] = 5
    result = evaluate_retrieval(gallery[[5]], [5], np.delete(gallery, 5, axis=0), np.delete(labels, 5))
    assert result.first_match_rank.tolist() == [len(places)]


def test_a_small_but_real_difference_is_not_a_tie():
    result = evaluate_retrieval([[1.0, 0.0]], [0], [[1.0, 0.001], [1.0, 0.00101]], [0, 1], ks=(1,))
    assert result.recall[1] == 1.0
    swapped = evaluate_retrieval([[1.0, 0.0]], [0], [[1.0, 0.001], [1.0, 0.00101]], [1, 0], ks=(1,))
    assert swapped.recall[1] == 0.0


def test_closer_is_better():
    queries = np.array([[0.0], [10.0]])
    near = evaluate_retrieval(queries, ["a", "b"], [[1.0], [9.0]], ["a", "b"], ks=(1,))
    far = evaluate_retrieval(queries, ["a", "b"], [[9.0], [1.0]], ["a", "b"], ks=(1,))
    names = ["recall@1", "precision@1", "mAP", "MAP@R", "R-precision", "MRR"]
    assert near.metrics == dict.fromkeys(names, 1.0)
    assert far.metrics == {**dict.fromkeys(names, 0.0), "mAP": 0.5, "MRR": 0.5}


def test_more_noise_is_worse_in_every_metric():
    scores = [evaluate_all_against_all(*unit_clusters(40, 4, noise=noise)).metrics for noise in (0.3, 1.0, 3.0)]
    for name in ("recall@1", "precision@5", "mAP", "MAP@R", "R-precision", "MRR"):
        assert scores[0][name] > scores[1][name] > scores[2][name]


def test_length_matters_since_distances_are_euclidean_and_scale_does_not():
    gallery = np.array([[5.0, 0.0], [0.5, 0.5]])
    assert evaluate_retrieval([[1.0, 0.0]], [0], gallery, [0, 1], ks=(1,)).recall[1] == 0.0
    x, labels = unit_clusters(20, 3, noise=1.0)
    x *= np.linspace(0.5, 2, len(x))[:, None]
    for factor in (1e-6, 1e6):
        scaled = evaluate_all_against_all(x * factor, labels)
        assert scaled.metrics == evaluate_all_against_all(x, labels).metrics


def test_an_item_is_left_out_by_its_index_and_its_duplicates_stay():
    x = [[0.0], [0.0], [3.0], [9.0]]
    result = evaluate_all_against_all(x, ["a", "a", "b", "b"], ks=(1,))
    assert result.first_match_rank.tolist() == [1, 1, 3, 1]
    assert result.num_gallery == 4
    # Queries that are not in the gallery have index -1.
    mixed = evaluate_retrieval(x, ["a", "a", "b", "b"], x, ["a", "a", "b", "b"], left_out=LeftOut([0, 1, -1, -1]))
    assert mixed.first_match_rank.tolist() == [1, 1, 1, 1]


def test_a_query_that_is_filed_under_another_class_in_the_gallery_is_left_out_too():
    result = evaluate_retrieval([[0.0]], ["a"], [[0.0], [1.0], [2.0]], ["b", "b", "a"], left_out=LeftOut([0]))
    assert (result.first_match_rank[0], result.average_precision[0], result.r_precision) == (2, 0.5, 0.0)


def test_queries_without_a_match_are_counted_and_change_no_mean():
    x, labels = unit_clusters(20, 3, noise=1.0)
    lonely, _ = unit_clusters(5, 1, noise=1.0, seed=9)
    base = evaluate_retrieval(x[::3], labels[::3], x[1::3], labels[1::3])
    more = evaluate_retrieval(
        np.concatenate([lonely, x[::3]]), np.concatenate([np.full(5, 999), labels[::3]]), x[1::3], labels[1::3]
    )
    assert (base.num_queries_without_match, more.num_queries_without_match) == (0, 5)
    assert more.num_queries == 25
    assert more.metrics == base.metrics
    assert more.intervals == base.intervals
    assert np.isnan(more.average_precision[:5]).all()
    assert not more.counted[:5].any()
    assert not more.hit_at_1[:5].any()


def test_intervals_hold_the_means():
    x, labels = unit_clusters(60, 3, noise=1.2)
    result = evaluate_all_against_all(x, labels)
    assert list(result.intervals) == list(result.metrics) == list(result.chance)
    for name, value in result.metrics.items():
        low, high = result.intervals[name]
        assert low < value <= high < low + 0.4
        assert value > result.chance[name]
    assert evaluate_retrieval(x[:2], labels[:2], x[2:], labels[2:]).intervals == {}


def test_means_over_classes_stand_beside_those_over_queries():
    # 12 large classes are found and 60 small ones are lost: over queries that looks well.
    random = np.random.default_rng(0)
    sizes = np.array([40] * 12 + [2] * 60)
    labels = np.arange(72).repeat(sizes)
    centres = 10 * random.normal(size=(72, 8))
    x = centres[labels] + 0.1 * random.normal(size=(len(labels), 8))
    x[480:] = random.permutation(x[480:])  # small classes in disorder
    result = evaluate_all_against_all(x, labels)
    hit_C = np.bincount(labels, weights=result.hit_at_1) / sizes
    assert result.macro.metrics["recall@1"] == pytest.approx(hit_C.mean())
    assert result.recall[1] > 0.75 > 0.25 > result.macro.metrics["recall@1"]
    for name, value in result.macro.metrics.items():
        low, high = result.macro.intervals[name]
        assert low <= value <= high
    assert result.macro.intervals["recall@1"][1] < 0.35
    assert result.macro.num_classes == 72
    # Chance is lower over classes, too: the small ones have fewer pictures to find.
    assert result.macro.chance["recall@1"] == pytest.approx(((sizes - 1) / (len(labels) - 1)).mean())
    record = result.as_record()["macro"]
    assert (record["recall@1"], record["num_classes"]) == (result.macro.metrics["recall@1"], 72)


def test_queries_without_a_match_are_in_no_count_or_class():
    x = np.array([[0.0], [0.1], [5.0], [5.1], [9.0], [20.0]])
    result = evaluate_all_against_all(x, list("aabbcd"))
    assert (result.num_queries, result.num_counted, result.macro.num_classes) == (6, 4, 2)
    assert result.as_record()["num_counted_queries"] == 4
    one = evaluate_all_against_all(x, list("aabcde"))
    assert (one.macro.num_classes, one.intervals, one.macro.intervals) == (1, {}, {})


def test_strings_integers_and_tensors_are_taken():
    x, labels = unit_clusters(10, 3, noise=1.0)
    expected = evaluate_all_against_all(x, labels).metrics
    assert evaluate_all_against_all(x, [f"{label:03d}" for label in labels]).metrics == expected
    assert evaluate_all_against_all(x, np.array([f"{label:03d}" for label in labels], dtype=object)).metrics == expected
    tensor = torch.tensor(x, requires_grad=True)
    assert evaluate_all_against_all(tensor, torch.tensor(labels)).metrics == expected
    assert evaluate_all_against_all(tensor.bfloat16(), labels).recall[1] == pytest.approx(expected["recall@1"], abs=0.2)


def test_the_shared_memory_of_arguments_is_left_alone():
    x, labels = unit_clusters(10, 3, noise=1.0)
    x = x.astype(np.float64)
    before = x.copy()
    evaluate_all_against_all(x, labels)
    nearest(x, x, 2, self_indices_Q=np.arange(30))
    np.testing.assert_array_equal(x, before)


def test_nearest_is_the_order_of_distance_then_index():
    random = np.random.default_rng(0)
    gallery = random.integers(-2, 3, size=(60, 2)).astype(np.float32)
    queries = random.integers(-2, 3, size=(20, 2)).astype(np.float32)
    indices, distances = nearest(queries, gallery, 7)
    assert (indices.dtype, distances.dtype) == (np.int64, np.float32)
    for q, row_indices, row_distances in zip(queries, indices, distances, strict=True):
        d = np.linalg.norm(gallery - q, axis=1)
        expected = sorted(range(60), key=lambda i: (d[i], i))[:7]
        assert row_indices.tolist() == expected
        np.testing.assert_allclose(row_distances, d[expected], rtol=1e-6)


def test_nearest_of_equal_rows_is_the_order_of_indices_and_leaves_itself_out():
    x = np.tile(np.random.default_rng(0).normal(size=50), (40, 1))
    indices, distances = nearest(x, x, 3, self_indices_Q=np.arange(40))
    assert indices[:4].tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]
    assert (distances == 0).all()
    indices, _ = nearest(x[:1], x, 40)
    assert indices.tolist() == [list(range(40))]


def message(call) -> str:
    with pytest.raises(InputError) as caught:
        call()
    return str(caught.value)


def test_messages():
    x, y = np.eye(4), [0, 0, 1, 1]
    broken = x.copy()
    broken[2, 1] = np.nan
    broken[3, 0] = np.inf
    assert message(lambda: evaluate_retrieval(x, y, broken, y)) == (
        "gallery_embeddings_GD: row 2 holds NaN, Inf or is longer than 1e+18 (2 of 4 rows do); "
        "every embedding must be finite"
    )
    assert message(lambda: evaluate_retrieval(x[:, :3], y, x, y)) == (
        "query_embeddings_QD, gallery_embeddings_GD: 3 and 4 dimensions; use embeddings of one model for both"
    )
    assert message(lambda: evaluate_all_against_all(x, y[:3])) == (
        "labels_N: 3 labels for 4 embeddings; give one label for each row"
    )
    assert message(lambda: evaluate_all_against_all(x[0], y)) == (
        "embeddings_ND: shape (4,) and type float64 are not a table of numbers; "
        "give at least one row and one column, [items, dimensions]"
    )
    assert message(lambda: evaluate_retrieval(x, y, x, list("aabb"))) == (
        "labels: strings in one array and integers in another never match; use one kind for both"
    )
    assert message(lambda: evaluate_all_against_all(x, [0.5, 1, 2, 3])) == (
        "labels_N: 0.5 at position 0 is neither text nor a whole number; give class names or numbers"
    )
    assert message(lambda: evaluate_all_against_all(x, [0, 1, 2, 3])) == (
        "query_labels_Q: none of the 4 queries has another item of its class in the gallery; "
        "check that both label arrays come from the same table, or add pictures"
    )
    assert message(lambda: evaluate_all_against_all(x, y, ks=(0,))) == (
        "ks: [0] is not a list of integers >= 1; use for example (1, 5, 10)"
    )
    assert message(lambda: evaluate_retrieval(x, y, x, y, left_out=LeftOut([0, 1, 4, 3]))) == (
        "self_indices_Q: 4 of query 2 is not in [-1, 4); "
        "give an index of the gallery, or -1 for a query that is not in it"
    )
    assert message(lambda: evaluate_retrieval(x, y, x, y, left_out=LeftOut([0]))) == (
        "self_indices_Q: shape (1,) and type int64; give one integer for each of the 4 queries"
    )
    assert message(lambda: nearest(x, x, 4, self_indices_Q=range(4))) == (
        "k: 4 is not in [1, 3], the number of gallery items a query can have"
    )
