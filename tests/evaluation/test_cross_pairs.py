import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from mohs.errors import InputError
from mohs.evaluation.pairs import cross_pairs, pair_distances
from mohs.evaluation.verification import evaluate_pairs


def items(seed, num=40, num_classes=6):
    random = np.random.default_rng(seed)
    labels = np.concatenate([random.integers(num_classes, size=num - 4), [0, 0, 1, 1]])
    query = random.random(num) < random.choice([0.1, 0.5, 0.8])
    query[-4:] = [True, False, True, False]
    return random.normal(size=(num, 3)) + labels[:, None], labels, query


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_all_pairs_are_each_query_with_each_other_item(seed):
    _, labels, query = items(seed)
    pairs = cross_pairs(labels, query)
    expected = {(q, g) for q in np.flatnonzero(query) for g in np.flatnonzero(~query)}
    found = list(zip(pairs.first_P.tolist(), pairs.second_P.tolist(), strict=True))
    assert (set(found), len(found)) == (expected, len(expected))
    assert (pairs.same == (labels[pairs.first_P] == labels[pairs.second_P])).all()
    assert (pairs.weight_P == 1).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), num_nearest=st.sampled_from([0, 1, 20]), num_drawn=st.sampled_from([1, 7, 60]))
def test_a_sample_stands_for_all_and_holds_the_closest(seed, num_nearest, num_drawn):
    x, labels, query = items(seed)
    whole = cross_pairs(labels, query)
    pairs = cross_pairs(
        labels, query, embeddings_ND=x, num_nearest=num_nearest, num_negatives=num_drawn, max_positives=5, seed=seed
    )
    assert pairs.weight_P[pairs.same].sum() == pytest.approx(whole.same.sum())
    assert pairs.weight_P[~pairs.same].sum() == pytest.approx((~whole.same).sum())
    assert len({*zip(pairs.first_P.tolist(), pairs.second_P.tolist(), strict=True)}) == len(pairs)
    assert query[pairs.first_P].all()
    assert not query[pairs.second_P].any()
    if len(pairs) < len(whole) and num_nearest:
        distance = np.sort(pair_distances(x, whole)[~whole.same])
        nearest = pair_distances(x, pairs)[~pairs.same][:num_nearest]
        np.testing.assert_array_equal(np.sort(nearest), distance[:num_nearest])
    again = cross_pairs(
        labels, query, embeddings_ND=x, num_nearest=num_nearest, num_negatives=num_drawn, max_positives=5, seed=seed
    )
    assert (again.first_P.tolist(), again.second_P.tolist()) == (pairs.first_P.tolist(), pairs.second_P.tolist())


def test_a_large_set_is_drawn_without_listing_all():
    random = np.random.default_rng(0)
    labels, query = random.integers(100, size=900), np.arange(900) < 300
    x = random.normal(size=(100, 8))[labels] + 0.5 * random.normal(size=(900, 8))
    pairs = cross_pairs(labels, query, embeddings_ND=x, num_nearest=500, num_negatives=20_000)
    assert "the 500 closest and 20,000 drawn of the other 17" in pairs.law
    whole = cross_pairs(labels, query)
    limit = float(np.quantile(pair_distances(x, whole)[~whole.same], 0.05))
    share = (pair_distances(x, whole)[~whole.same] <= limit).mean()
    near = pair_distances(x, pairs)[~pairs.same] <= limit
    weight = pairs.weight_P[~pairs.same]
    assert weight[near].sum() / weight.sum() == pytest.approx(share, abs=0.004)
    few = cross_pairs(labels[::9], query[::9], num_negatives=10)
    found = evaluate_pairs(x[::9], labels[::9], query_N=query[::9], num_resamples=20)
    assert found.curves.prevalence == pytest.approx(few.weight_P[few.same].sum() / few.weight_P.sum())


def test_messages():
    with pytest.raises(
        InputError, match=r"query_N: shape \(3,\) and type int64; give True or False for each of the 3 items"
    ):
        cross_pairs(["a", "b", "a"], [0, 1, 0])
    with pytest.raises(InputError, match="1 queries and 2 others have 0 pairs of one class and 2 of two; both"):
        cross_pairs(["a", "b", "b"], [True, False, False])
    with pytest.raises(InputError, match="embeddings_ND: none, but num_nearest is above 0"):
        cross_pairs(["a", "b", "a"] * 9, [True, False, False] * 9, num_nearest=1, num_negatives=1)
