import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mohs.doctor.precision import top_pairs
from mohs.doctor.precision.top_pairs import find_top_pairs
from mohs.errors import InputError


def all_pairs(x_ND, labels_N, query_N=None):
    """Every pair by brute force: (similarity, first, second, same), most similar first."""
    x_ND = np.asarray(x_ND, dtype=np.float64)
    x_ND = (x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True)).astype(np.float32).astype(np.float64)
    count = len(x_ND)
    pairs = []
    for a in range(count):
        for b in range(count):
            meet = a < b if query_N is None else query_N[a] and not query_N[b]
            if meet:
                pairs.append((-round(float(x_ND[a] @ x_ND[b]), 6), a, b, labels_N[a] == labels_N[b]))
    return [(-s, a, b, same) for s, a, b, same in sorted(pairs)]


def as_rows(pairs):
    columns = (pairs.similarity_P, pairs.first_P, pairs.second_P, pairs.same_P)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@given(st.integers(0, 10_000), st.booleans(), st.sampled_from([0.05, 0.3, 1.0]), st.integers(1, 2))
@settings(max_examples=60, deadline=None)
def test_equals_brute_force_with_ties(seed, with_gallery, recall, spread):
    random = np.random.default_rng(seed)
    num = int(random.integers(4, 40))
    # Few directions, so that many pairs tie.
    x_ND = random.integers(-spread, spread + 1, (num, 3)) + 0.5
    labels_N = random.integers(0, 4, num)
    query_N = random.random(num) < 0.5 if with_gallery else None
    every = all_pairs(x_ND, labels_N, query_N)
    if with_gallery and (query_N.all() or not query_N.any()):
        return
    num_positive = sum(same for *_, same in every)
    if not num_positive:
        with pytest.raises(InputError, match="no two items that meet"):
            find_top_pairs(x_ND, labels_N, query_N=query_N)
        return
    found = find_top_pairs(x_ND, labels_N, query_N=query_N, recall=recall)
    true = [s for s, *_, same in every if same]
    threshold = true[int(np.ceil(recall * num_positive - 1e-9)) - 1] if recall < 1 else true[-1]
    expected = [row for row in every if row[0] >= threshold]
    assert [row[0] for row in as_rows(found)] == pytest.approx([row[0] for row in expected], abs=2e-6)
    assert {row[1:] for row in as_rows(found)} == {row[1:] for row in expected}
    assert (found.num_positive, found.num_pairs) == (num_positive, len(every))
    assert (found.num_true_left_out, found.num_false_left_out) == (0, 0)


def test_blocks_do_not_change_the_pairs(monkeypatch):
    random = np.random.default_rng(0)
    x_ND, labels_N = random.normal(size=(300, 5)), random.integers(0, 30, 300)
    whole = find_top_pairs(x_ND, labels_N, recall=0.4)
    monkeypatch.setattr(top_pairs, "_BLOCK_ROWS", 7)
    monkeypatch.setattr(top_pairs, "_PAIRS_AT_ONCE", 11)
    assert as_rows(find_top_pairs(x_ND, labels_N, recall=0.4)) == as_rows(whole)
    marked = random.random(300) < 0.3
    parts = find_top_pairs(x_ND, labels_N, query_N=marked, threshold=0.8)
    monkeypatch.undo()
    assert as_rows(find_top_pairs(x_ND, labels_N, query_N=marked, threshold=0.8)) == as_rows(parts)


def test_the_most_similar_are_kept_where_there_are_too_many():
    random = np.random.default_rng(1)
    x_ND, labels_N = random.normal(size=(120, 4)), random.integers(0, 20, 120)
    every = as_rows(find_top_pairs(x_ND, labels_N, recall=1.0))
    few = find_top_pairs(x_ND, labels_N, recall=1.0, max_pairs=50)
    false = [row for row in every if not row[3]]
    assert few.threshold == false[49][0]
    assert as_rows(few) == [row for row in every if row[0] >= few.threshold]


def test_a_collapsed_embedding_is_counted_but_not_stored():
    x_ND, labels_N = np.ones((60, 3)), np.repeat(np.arange(20), 3)
    found = find_top_pairs(x_ND, labels_N, max_pairs=40)
    assert len(found) == 80
    assert (found.num_true_left_out, found.num_false_left_out) == (60 - 40, 60 * 59 // 2 - 60 - 40)


def test_before_recall_keeps_ties():
    x_ND = [[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.1, 1.0]]
    found = find_top_pairs(x_ND, ["a", "a", "b", "b", "a"], recall=1.0)
    top = found.before_recall(0.01)
    assert as_rows(top) == [(1.0, 0, 1, True), (1.0, 0, 2, False), (1.0, 1, 2, False)]
    assert (top.num_positive, top.threshold) == (4, 1.0)
    assert len(found.before_recall(1.0)) == len(found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recall": 0.0}, "recall: 0.0 is not a number in (0, 1]; use for example 0.1"),
        ({"threshold": 1.5}, "threshold: 1.5 is not a number in [-1, 1]; use for example 0.9"),
        ({"max_pairs": 0}, "max_pairs: 0 is not a whole number of at least 1; use for example 1000000"),
        ({"query_N": np.ones(4, bool)}, "query_N: 4 of 4 items are queries; leave query_N out, or mark some"),
        ({"query_N": np.ones(4)}, "query_N: float64(4,) is not bool [4]; mark the queries"),
        ({"labels_N": np.arange(4)}, "labels_N: no two items that meet have the same label, so nothing can be found;"),
    ],
)
def test_wrong_arguments(change, message):
    arguments = {"embeddings_ND": np.eye(4), "labels_N": np.array([0, 0, 1, 1])} | change
    with pytest.raises(InputError) as error:
        find_top_pairs(**arguments)
    assert str(error.value).startswith(message)
