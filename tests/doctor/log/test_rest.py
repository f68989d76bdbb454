"""The end of a column, and what losses pay when every answer is the same."""

import math

import numpy as np
import pytest

from mohs.doctor.log.rest import at_stuck_values, finite_tail, resting_tail
from mohs.doctor.log.stuck_values import LOSS_NAMES, LossFacts, stuck_values
from mohs.errors import InputError


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        (range(20), 0.25, [15, 16, 17, 18, 19]),
        (range(20), 0.01, [17, 18, 19]),
        ([1, math.nan, 2], 0.5, [1, 2]),
        ([math.inf, math.nan], 0.5, []),
        ([], 0.5, []),
    ],
)
def test_the_last_finite_numbers(values, share, expected):
    assert finite_tail(np.array(list(values), dtype=np.float64), share).tolist() == expected


def test_where_a_column_comes_to_rest():
    found = resting_tail(np.array([0.9, np.nan, 0.8, 0.7, 0.5, np.nan, 0.5, 0.5005, 0.5, 0.4998]))
    assert (found.first_row, found.num_rows, found.first_value, found.largest_before) == (4, 5, 0.9, 0.9)
    assert found.value == pytest.approx(0.50006)


@pytest.mark.parametrize(
    ("values", "num_rows"),
    [
        ([0.5] * 4, None),
        ([0.5] * 5, 5),
        ([0.9] * 16 + [0.5] * 5, None),  # under a quarter of 21
        ([0.9] * 15 + [0.5] * 5, 5),
        ([0.5 * 1.0015, 0.5, 0.5, 0.5, 0.5], 5),  # ±0.075%
        ([0.5 * 1.0025, 0.5, 0.5, 0.5, 0.5], None),
        ([-0.5] * 6, 6),
        ([0.0] * 6, 6),
        ([math.nan] * 9, None),
        ([], None),
    ],
)
def test_what_counts_as_rest(values, num_rows):
    found = resting_tail(np.array(values, dtype=np.float64))
    assert (None if found is None else found.num_rows) == num_rows


@pytest.mark.parametrize("noise", [0.0001, 0.001, 0.005, 0.01])
@pytest.mark.parametrize("num", [20, 200, 5000])
def test_a_rest_is_seen_through_its_noise(num, noise):
    random = np.random.default_rng(0)
    fall = np.linspace(0.31, 0.21, num)
    found = resting_tail(np.r_[fall, 0.2 * (1 + noise * random.normal(size=num))])
    assert found.value == pytest.approx(0.2, rel=0.003)
    assert found.noise == pytest.approx(noise, rel=0.5)
    assert found.num_rows == pytest.approx(num, rel=0.1)


@pytest.mark.parametrize("noise", [0.0, 0.001, 0.005])
@pytest.mark.parametrize("fall", [0.05, 0.3])
def test_a_slow_fall_is_no_rest(noise, fall):
    random = np.random.default_rng(0)
    found = resting_tail(np.linspace(1.0, 1.0 - fall, 200) * (1 + noise * random.normal(size=200)))
    assert found is None or found.share < 0.4


def test_a_column_that_always_rested_has_nothing_before():
    assert math.isnan(resting_tail(np.full(8, 0.3)).largest_before)


@pytest.mark.parametrize("margin", [0.2, 1.0, 3.0])
def test_the_stuck_values_of_triplets_and_pairs_are_what_one_answer_costs(margin):
    distance_P = np.zeros(8)
    same_P = np.arange(8) % 2 == 0

    def contrastive(d_P):
        return np.where(same_P, d_P**2, np.maximum(0, margin - d_P) ** 2).mean()

    triplet = np.maximum(0, distance_P - distance_P + margin).mean()
    assert [stuck.value for stuck in stuck_values(LossFacts("triplet", margin=margin))] == [triplet]
    found = {stuck.says: stuck.value for stuck in stuck_values(LossFacts("contrastive", margin=margin))}
    zero, halved, sigmoid_of_0, sigmoid_of_far = found.values()
    assert zero == pytest.approx(contrastive(distance_P))
    assert halved == pytest.approx(contrastive(distance_P) / 2)
    assert sigmoid_of_0 == pytest.approx(contrastive(1 / (1 + np.exp(-distance_P))))
    assert sigmoid_of_far == pytest.approx(contrastive(1 / (1 + np.exp(-(distance_P + 50)))))


def test_the_stuck_values_of_logarithms():
    logit_BB = np.zeros((6, 6))
    infonce = -np.log(np.exp(logit_BB) / np.exp(logit_BB).sum(axis=1, keepdims=True))[0, 0]
    first, second = stuck_values(LossFacts("infonce", batch=6))
    assert first.value == pytest.approx(infonce)
    assert second.value == pytest.approx(math.log(11))
    assert stuck_values(LossFacts("infonce")) == ()
    for name in ("soft-triplet", "cross-entropy"):
        assert [stuck.value for stuck in stuck_values(LossFacts(name))] == [math.log(2)]


def test_an_unknown_loss_has_all_values_and_the_first_is_told():
    known = [stuck.value for stuck in stuck_values(LossFacts())]
    usual = [0.5, 0.25, 0.25, 0.5, 0.2, 0.3, 0.5, 1.0, math.log(2), math.log(2)]
    assert known[: len(usual)] == usual  # a new loss comes after
    assert at_stuck_values(0.5, LossFacts())[0].says == "every distance is 0"


@pytest.mark.parametrize(
    ("loss", "noise", "near", "far"),
    [
        (LossFacts("triplet", margin=0.2), 0.0, 0.2019, 0.2021),
        (LossFacts(margin=0.2), 0.0, 0.1981, 0.1979),
        (LossFacts("triplet", margin=0.2), 0.014, 0.2041, 0.2043),
        (LossFacts(), 0.0, 0.2009, 0.2011),
        (LossFacts(), 0.009, 0.2009, 0.2011),
    ],
)
def test_what_is_near(loss, noise, near, far):
    assert at_stuck_values(near, loss, noise=noise)[0].value == 0.2
    assert not at_stuck_values(far, loss, noise=noise)


def test_nothing_is_near_a_noise():
    assert not at_stuck_values(0.2, LossFacts("triplet", margin=0.2), noise=0.016)
    assert not at_stuck_values(0.2, LossFacts(), noise=0.011)


def test_facts_that_cannot_be():
    with pytest.raises(InputError) as error:
        LossFacts("hinge", margin=0.0, batch=1)
    assert error.value.problems == (
        f"loss_name: 'hinge' is not one of {', '.join(LOSS_NAMES)}; leave it out for others",
        "margin: 0.0 is not a number above 0; use for example 0.2",
        "batch: 1 is not a whole number of at least 2; use for example 96",
    )
    for margin in (math.nan, math.inf, -1.0):
        with pytest.raises(InputError, match=r"^margin: "):
            LossFacts(margin=margin)
