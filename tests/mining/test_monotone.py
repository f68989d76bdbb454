"""A lower hardness never gives a nearer negative: every scale, every method, with ties, exclusions and several each."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle import oracle_negatives

from mohs.hardness.scales import SCALES
from mohs.mining import mine
from mohs.mining.on_device import mine_on_device
from mohs.mining.positives import choose_positives
from mohs.mining.problem import Hardness, make_problem, pair_distance


def bank_of(rng, num_items, dim, kind):
    bank = rng.normal(size=(num_items, dim))
    if kind == "ties":
        bank = np.rint(bank)
    elif kind == "duplicates":
        bank = bank[rng.integers(0, max(1, num_items // 4), num_items)]
    elif kind == "one point":
        bank[:] = bank[0]
    elif kind == "collapsed":
        bank = bank * 1e-4 + rng.normal(size=dim)
    return bank.astype(np.float32)


@st.composite
def cases(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num_items = draw(st.integers(4, 120))
    kind = draw(st.sampled_from(["plain", "ties", "duplicates", "one point", "collapsed"]))
    bank = bank_of(rng, num_items, draw(st.integers(1, 8)), kind)
    labels = rng.integers(0, draw(st.sampled_from([3, num_items])), num_items)
    labels[:2] = (0, 1)
    anchors = rng.permutation(num_items) if draw(st.booleans()) else rng.integers(0, num_items, 5)
    positives, _ = choose_positives(labels, anchors, seed=0)
    excluded = np.empty((0, 2), dtype=np.int64)
    if draw(st.booleans()):
        excluded = rng.integers(0, num_items, (num_items, 2))
        excluded = excluded[(excluded > 1).all(axis=1)]  # an item of either class stays for everyone
    k = 1
    if draw(st.booleans()):
        left = [
            np.setdiff1d(np.flatnonzero(labels != labels[a]), excluded[excluded[:, 0] == a, 1]).size for a in anchors
        ]
        k = min(3, *left)
    options = {
        "scale": draw(st.sampled_from(SCALES)),
        "num_negatives": k,
        "excluded_pairs": excluded,
    }
    if options["scale"] == "margin":
        reach = float(np.ptp(bank, axis=0).max()) + 1e-6
        options |= {"margin": reach * draw(st.sampled_from([1e-3, 0.1, 0.5, 3.0])), "squared": draw(st.booleans())}
    return bank, labels, anchors, positives, options


def assert_falls_with_hardness(distance_HTK):
    """Distances for rising hardness: none is farther than the one before it."""
    assert (np.diff(distance_HTK, axis=0) <= 0).all()


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases(), st.lists(st.floats(0, 1), max_size=8))
def test_exact_mining_is_monotone_in_hardness(case, more):
    bank, labels, anchors, positives, options = case
    asked = np.sort([0.0, 0.1, 0.5, 0.9, 1.0, *more])
    distances, negatives = [], []
    for hardness in asked:
        plan = mine(bank, labels, anchors_T=anchors, positives_T=positives, hardness_T=hardness, **options)
        distances.append(plan.anchor_negative_distance.reshape(len(anchors), -1))
        negatives.append(plan.negative)
    assert_falls_with_hardness(np.stack(distances))
    # One plan with all hardnesses at once says the same: sweeps and blocks agree.
    together = mine(
        bank, labels, anchors_T=np.tile(anchors, len(asked)), positives_T=np.tile(positives, len(asked)),
        hardness_T=np.repeat(asked, len(anchors)), **options,
    )  # fmt: skip
    np.testing.assert_array_equal(together.negative, np.concatenate(negatives))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases())
def test_the_oracle_is_monotone_in_hardness(case):
    bank, labels, anchors, positives, options = case
    distances = []
    for hardness in np.linspace(0, 1, 9):
        found, _ = oracle_negatives(
            bank, labels, anchors_T=anchors, positives_T=positives, hardness_T=np.full(len(anchors), hardness),
            **options,
        )  # fmt: skip
        difference = bank[np.repeat(anchors, options["num_negatives"])].astype(np.float64) - bank[found]
        distances.append(np.sqrt((difference**2).sum(axis=1)).astype(np.float32))
    assert_falls_with_hardness(np.stack(distances))


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases())
def test_a_device_is_monotone_in_hardness(case):
    bank, labels, anchors, positives, options = case
    distances = []
    for hardness in np.linspace(0, 1, 9):
        problem = make_problem(
            bank, labels, anchors_T=anchors,
            wanted=Hardness(hardness, options["scale"], options.get("margin"), options.get("squared", False)),
        )  # fmt: skip
        distances.append(mine_on_device(problem, pair_distance(problem, positives), torch.device("cpu"))[1])
    assert_falls_with_hardness(np.stack(distances))


@pytest.mark.parametrize("scale", ["rank", "log-rank"])
@pytest.mark.parametrize("num_negatives", [1, 4])
def test_sampled_mining_is_monotone_within_its_error(scale, num_negatives):
    """A plan's blocks draw samples of their own: what rises may do so by a few standard deviations of a rank only."""
    rng = np.random.default_rng(0)
    bank = rng.normal(size=(6000, 8)).astype(np.float32)
    bank[:500] = bank[500:1000]  # ties
    labels = rng.integers(0, 3000, 6000)
    anchors = rng.permutation(6000)[:300]
    asked = np.linspace(0, 1, 11)
    excluded = rng.integers(0, 6000, (2000, 2))
    plans = [
        mine(
            bank, labels, anchors_T=anchors, hardness_T=hardness, scale=scale, method="sampled", num_sampled=512,
            num_negatives=num_negatives, excluded_pairs=excluded,
        )
        for hardness in asked
    ]  # fmt: skip
    distance_HTK = np.stack([plan.anchor_negative_distance.reshape(len(anchors), -1) for plan in plans])
    assert (np.diff(distance_HTK.mean(axis=(1, 2))) < 0).all()
    error = plans[0].header["rank_error_sd_max"], *(plan.header["rank_error_sd_max"] for plan in plans[1:])
    all_NN = np.linalg.norm(bank[anchors][:, None].astype(np.float64) - bank[None], axis=2)
    rank_HT = np.stack([(all_NN < row[:, :1]).mean(axis=1) for row in distance_HTK])
    assert (np.diff(rank_HT, axis=0) <= 6 * max(error) + 4 / 512).all()


def test_the_margin_scale_at_the_two_distances_of_the_report():
    bank = np.float32([[0.0], [-1.0], [1.01], [1.9]])
    asked = np.linspace(1, 0, 11)
    plan = mine(
        bank, ["a", "a", "b", "c"], anchors_T=[0] * 11, positives_T=[1] * 11, hardness_T=asked, scale="margin",
        margin=1.0,
    )  # fmt: skip
    assert plan.negative.tolist() == [2] + [3] * 10


def test_where_most_anchors_reach_no_threshold_sweeps_and_blocks_give_their_farthest():
    rng = np.random.default_rng(1)
    bank = rng.normal(size=(1500, 8)).astype(np.float32)
    bank[700:740] = bank[1200:1240]
    labels = np.arange(1500) // 2
    for anchors in (rng.permutation(1500), rng.integers(0, 1500, 200), np.r_[np.arange(1500), np.arange(100)]):
        plan = mine(bank, labels, anchors_T=anchors, hardness_T=0.0, scale="margin", margin=100.0)
        farthest = mine(bank, labels, anchors_T=anchors, hardness_T=0.0, scale="range")
        np.testing.assert_array_equal(plan.negative, farthest.negative)
        assert (plan.anchor_negative_distance == farthest.anchor_negative_distance).all()
