import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mohs.hardness.scales import achieved_by_distance, achieved_by_rank, margin_threshold, rank_of

unit = st.floats(0, 1)


@pytest.mark.parametrize("scale", ["rank", "log-rank"])
@given(hardness=st.lists(unit, min_size=1, max_size=20), num_negatives=st.integers(1, 10**7))
def test_ranks_stay_inside_and_fall_with_hardness(scale, hardness, num_negatives):
    hardness_T = np.sort(np.array([0.0, *hardness, 1.0]))
    rank = rank_of(scale, hardness_T, np.full(len(hardness_T), num_negatives))
    assert rank[0] == num_negatives - 1
    assert rank[-1] == 0
    assert (np.diff(rank) <= 0).all()


@given(hardness=unit, num_negatives=st.integers(2, 10**6))
def test_a_rank_achieves_the_hardness_that_asks_for_it(hardness, num_negatives):
    negatives, asked = np.array([num_negatives]), np.array([hardness])
    for scale in ("rank", "log-rank"):
        rank = rank_of(scale, asked, negatives)
        achieved = achieved_by_rank(scale, rank, negatives, asked)
        assert 0 <= achieved[0] <= 1
        np.testing.assert_array_equal(rank_of(scale, achieved, negatives), rank)


def test_one_negative_achieves_whatever_is_asked():
    one, asked = np.array([1, 1]), np.array([0.25, 1.0])
    for scale in ("rank", "log-rank"):
        rank = rank_of(scale, asked, one)
        assert rank.tolist() == [0, 0]
        assert achieved_by_rank(scale, rank, one, asked).tolist() == [0.25, 1.0]
    same = np.float32([2.0, 2.0])
    assert achieved_by_distance(same, same, same, asked).tolist() == [0.25, 1.0]


def test_log_rank_steps_evenly_in_the_exponent():
    hardness = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    assert rank_of("log-rank", hardness, np.full(5, 10_000)).tolist() == [9999, 999, 99, 9, 0]
    assert rank_of("rank", hardness, np.full(5, 10_001)).tolist() == [10000, 7500, 5000, 2500, 0]


@given(positive=st.floats(0, 1e6, width=32), hardness=unit, margin=st.floats(1e-6, 1e6), squared=st.booleans())
def test_the_margin_threshold_is_the_smallest_float_that_satisfies_the_rule(positive, hardness, margin, squared):
    threshold = margin_threshold(np.float32([positive]), np.array([hardness]), margin, squared)[0]
    below = np.nextafter(threshold, np.float32(-1))

    def key(distance):
        return np.float64(distance) ** 2 if squared else np.float64(distance)

    wanted = key(np.float32(positive)) + (1.0 - hardness) * margin
    assert key(threshold) >= wanted
    assert below < 0 or key(below) < wanted
