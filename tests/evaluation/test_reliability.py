import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from mohs.errors import InputError
from mohs.evaluation.pair_calibration import expected_calibration_error, reliability_table


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), num_bins=st.sampled_from([1, 4, 10, 15]))
def test_bins_and_error_as_defined(seed, num_bins):
    random = np.random.default_rng(seed)
    p = np.concatenate([random.random(30), [0.0, 1.0], np.arange(5) / 4])
    correct = random.random(len(p)) < 0.5
    table = reliability_table(p, correct, num_bins=num_bins)
    error = 0.0
    for each in table:
        inside = (p <= each.high) & ((p > each.low) | ((p == 0) & (each.low == 0)))
        assert each.num_cases == inside.sum()
        if inside.any():
            assert each.frequency == pytest.approx(correct[inside].mean())
            assert each.mean_probability == pytest.approx(p[inside].mean())
            assert each.interval[0] <= each.frequency <= each.interval[1]
            error += inside.mean() * abs(correct[inside].mean() - p[inside].mean())
        else:
            assert (each.frequency, each.mean_probability, each.interval) == (None, None, None)
    assert sum(each.num_cases for each in table) == len(p)
    assert expected_calibration_error(table) == pytest.approx(error)


def test_too_sure_is_worse():
    random = np.random.default_rng(0)
    p = random.random(5000)
    correct = random.random(5000) < p
    right, sure = (expected_calibration_error(reliability_table(q, correct)) for q in (p, np.sqrt(p)))
    assert right < 0.03 < 0.1 < sure


@pytest.mark.parametrize(
    ("p", "correct", "num_bins", "message"),
    [
        ([0.5], [True, False], 15, "probability_N, correct_N: shapes (1,) and (2,); give one of each for a case"),
        ([], [], 15, "probability_N, correct_N: shapes (0,) and (0,); give one of each for a case"),
        ([1.5], [True], 15, "probability_N: a value is not in [0, 1]; give probabilities"),
        ([float("nan")], [True], 15, "probability_N: a value is not in [0, 1]; give probabilities"),
        ([0.5], [True], 0, "num_bins: 0 is not a whole number in [1, 100000]; use for example 15"),
    ],
)
def test_bad_input(p, correct, num_bins, message):
    with pytest.raises(InputError) as caught:
        reliability_table(p, correct, num_bins=num_bins)
    assert str(caught.value) == message
