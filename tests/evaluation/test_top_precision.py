import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given, settings

from mohs.errors import InputError
from mohs.evaluation.intervals import wilson_interval
from mohs.evaluation.top_precision import top_precision


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6))
@example(902600)  # a dip as deep as the upper end of its interval
def test_precision_and_dips_as_defined(seed):
    random = np.random.default_rng(seed)
    num = int(random.integers(2, 50))
    same = random.random(num) < 0.6
    levels = int(random.choice([1, 4, 10, 1000]))
    similarity = np.round(levels * random.random(num)) / levels
    num_ranks = int(random.integers(1, 60))
    found = top_precision(same, similarity_P=similarity, num_ranks=num_ranks)
    turned = top_precision(same, distance_P=2 - similarity, num_ranks=num_ranks)
    assert turned.precision_T.tolist() == found.precision_T.tolist()
    np.testing.assert_allclose(turned.threshold_T, 2 - found.threshold_T)
    rows = []
    for threshold in sorted(set(similarity.tolist()), reverse=True):
        accepted = similarity >= threshold
        rows.append((int(accepted.sum()), threshold, int(same[accepted].sum())))
        if accepted.sum() >= num_ranks:
            break
    assert found.num_accepted_T.tolist() == [row[0] for row in rows]
    assert found.threshold_T.tolist() == [row[1] for row in rows]
    assert found.num_right_T.tolist() == [row[2] for row in rows]
    for t, (accepted, _, right) in enumerate(rows):
        assert found.precision_T[t] == right / accepted
        assert (found.low_T[t], found.high_T[t]) == wilson_interval(right, accepted)
    depths = [max(found.precision_T[t:]) - found.precision_T[t] for t in range(len(rows))]
    assert found.deepest.depth == pytest.approx(max(depths))
    assert found.deepest.rank == rows[int(np.argmax(depths))][0]
    for dip in (found.deepest, found.surest):
        assert dip.later_precision - dip.precision == pytest.approx(dip.depth)
        assert dip.interval[0] <= dip.depth <= dip.interval[1]
    assert found.surest.interval[0] >= max(found.deepest.interval[0], 0.0) - 1e-12 or found.surest.interval[0] >= 0


def test_newcombe_s_interval_of_a_difference():
    # Newcombe 1998, table II (a): 56/70 − 48/80 is 0.0524 to 0.3339 by method 10. Here the 80 come first, and the
    # dip below rank 150 is 70/150 of that difference.
    same = np.concatenate([np.arange(80) < 48, np.arange(70) < 56])
    found = top_precision(same, similarity_P=-np.repeat([0.0, 1.0], [80, 70]))
    assert found.num_accepted_T.tolist() == [80, 150]
    assert found.deepest.depth == pytest.approx(104 / 150 - 48 / 80)
    assert found.deepest.interval == pytest.approx((0.0524 * 70 / 150, 0.3339 * 70 / 150), abs=5e-5)


def test_a_planted_dip_is_found_and_a_curve_without_one_has_none():
    random = np.random.default_rng(0)
    same = random.random(1000) < np.where(np.arange(1000) < 40, 0.3, 0.97)
    found = top_precision(same, distance_P=np.arange(1000.0))
    assert 20 <= found.surest.rank <= 60
    assert found.surest.interval[0] > 0.3
    assert found.surest.threshold == found.surest.rank - 1
    # One wrong pair on top is a deep dip, and no sure one.
    same = np.ones(1000, dtype=bool)
    same[0] = False
    found = top_precision(same, distance_P=np.arange(1000.0))
    assert found.deepest.depth == pytest.approx(0.999)
    assert found.deepest.rank == 1
    assert found.deepest.interval[0] < 0.25
    falling = top_precision(np.arange(1000) < 500, distance_P=np.arange(1000.0))
    assert falling.deepest.depth == falling.surest.depth == 0.0
    assert falling.surest.interval == (0.0, 0.0)
    # Worst first is deeper than best first.
    assert top_precision(np.arange(1000) >= 500, distance_P=np.arange(1000.0)).surest.depth > 0.4


def test_pairs_of_one_kind_and_of_one_score():
    assert top_precision([True, True], similarity_P=[1, 1]).precision_T.tolist() == [1.0]
    assert top_precision([False, False], similarity_P=[1, 0]).precision_T.tolist() == [0.0, 0.0]
    tied = top_precision([True, False, True, False], similarity_P=[1, 1, 1, 1], num_ranks=2)
    assert (tied.num_accepted_T.tolist(), tied.precision_T.tolist()) == ([4], [0.5])


def test_the_record_is_json():
    import json

    random = np.random.default_rng(0)
    found = top_precision(random.random(5000) < 0.5, similarity_P=random.random(5000), num_ranks=5000)
    record = found.as_record(num_points=50)
    assert len(json.dumps(record, allow_nan=False)) < 20_000
    assert record["num_accepted"][0] == 1
    assert record["num_accepted"][-1] == 5000
    assert len(record["num_accepted"]) == len(record["precision"]) <= 50


def test_messages():
    with pytest.raises(InputError, match="num_ranks: 0 is not a whole number of at least 1; use for example 1000"):
        top_precision([True], distance_P=[0.0], num_ranks=0)
    with pytest.raises(InputError, match="both are given"):
        top_precision([True], distance_P=[0.0], similarity_P=[1.0])
