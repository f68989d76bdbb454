"""Several negatives: what follows the first one, by exact distances where bins are in the wrong order."""

import numpy as np
import pytest

from mohs.errors import InputError
from mohs.hardness.scales import SCALES
from mohs.mining import kernels, mine
from mohs.mining.window import select_window

BANK = np.float32([[0.0], [1.0], [1.0000002], [2.0], [2.0000005], [1.5]])
STEP = 1000.0
"""Bins of this file: a distance d lies at d² · 1000."""


def window(bins, slack, first, k, num_negatives=5):
    bins = np.array([[kernels.EXCLUDED, *bins]], dtype=np.uint16)
    found = np.empty((1, k), np.int64)
    block = kernels.Block(
        bins, np.array([0]), np.array([[0, 1]]), np.array([[slack, 0.0, STEP]]), 1.0,
        np.array([2000.0]), np.array([900.0]), BANK, np.arange(6),
    )  # fmt: skip
    select_window(block, np.array([num_negatives]), np.array([first]), found)
    return found[0].tolist()


@pytest.mark.parametrize("bins", [(1000, 1000, 4000, 4000, 2250), (1001, 999, 4001, 3999, 2249)])
def test_exact_distances_order_what_bins_do_not(bins):
    assert window(bins, 1.5, 1, 2) == [1, 2]
    assert window(bins, 1.5, 2, 2) == [2, 5]
    assert window(bins, 1.5, 5, 3) == [5, 3, 4]
    assert window(bins, 1.5, 1, 5) == [1, 2, 5, 3, 4]


@pytest.mark.parametrize("bins", [(1000, 1000, 4000, 4000, 2250), (0, 0, 65534, 65534, 0), (7, 7, 7, 7, 7)])
def test_the_window_moves_where_too_few_follow(bins):
    slack = 1.5 if bins[4] == 2250 else 1e5
    assert window(bins, slack, 4, 2) == [3, 4]
    assert window(bins, slack, 3, 4) == [2, 5, 3, 4]
    assert window(bins, slack, 4, 5) == [1, 2, 5, 3, 4]


def test_excluded_columns_never_follow():
    assert window((1000, kernels.EXCLUDED, 4000, 4000, 2250), 1.5, 1, 2, num_negatives=4) == [1, 5]
    assert window((1000, 1000, 4000, kernels.EXCLUDED, 2250), 1.5, 3, 2, num_negatives=4) == [5, 3]


@pytest.mark.parametrize("slack", [0.5, 30.0])
@pytest.mark.parametrize("k", [2, 9, 200])
def test_a_thousand_bins_off_by_their_slack(slack, k):
    rng = np.random.default_rng(k)
    bank = np.concatenate([[0.0], rng.gamma(4.0, 0.3, 1000)]).astype(np.float32)[:, None]
    bank[500:600] = bank[600:700]
    order = np.argsort(bank[1:, 0], kind="stable") + 1
    value = bank[:, 0].astype(np.float64) ** 2 * STEP
    bins = np.clip(value + rng.uniform(-slack, slack, 1001), 0, 5000).astype(np.uint16)  # the far ones share a bin
    bins[bins == 5000] = kernels.TOP
    bins[0] = kernels.EXCLUDED
    ranks = np.r_[0:40, 300:340, 1000 - 2 * k : 1000]
    found = np.empty((len(ranks), k), np.int64)
    block = kernels.Block(
        np.repeat(bins[None], len(ranks), 0), np.zeros(len(ranks), int), np.tile([0, 1], (len(ranks), 1)),
        np.tile([slack, 0.0, STEP], (len(ranks), 1)), 1.0,
        np.full(len(ranks), value.mean()), np.full(len(ranks), value.std()), bank, np.arange(1001),
    )  # fmt: skip
    select_window(block, np.full(len(ranks), 1000), order[ranks], found)
    expected = [order[min(rank, 1000 - k) : min(rank, 1000 - k) + k] for rank in ranks]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("scale", SCALES)
def test_the_first_is_the_only_one_of_k_1_and_the_others_follow(scale):
    """Sorted by distance, no negative of the anchor lies between two that it gets."""
    rng = np.random.default_rng(0)
    bank, labels, anchors = rng.normal(size=(2000, 8)).astype(np.float32), np.arange(2000) // 2, np.arange(0, 2000, 7)
    hardness = rng.random(len(anchors))
    hardness[:10] = 0.0
    options = {"anchors_T": anchors, "hardness_T": hardness, "scale": scale, "seed": 4}
    options |= {"margin": 1.0} if scale == "margin" else {}
    one, four = mine(bank, labels, **options), mine(bank, labels, **options, num_negatives=4)
    distance_TK = four.anchor_negative_distance.reshape(-1, 4)
    assert (np.diff(distance_TK, axis=1) >= 0).all()
    assert (np.diff(four.achieved_hardness.reshape(-1, 4), axis=1) <= 0).all()
    moved = distance_TK[:, 0] < one.anchor_negative_distance
    assert (four.negative.reshape(-1, 4)[~moved, 0] == one.negative[~moved]).all()
    assert moved.sum() >= (10 if scale != "margin" else 0)
    assert (four.negative.reshape(-1, 4) == one.negative[:, None]).any(axis=1).all()
    for t, anchor in enumerate(anchors):
        far = np.linalg.norm(bank.astype(np.float64) - bank[anchor], axis=1).astype(np.float32)[
            labels != labels[anchor]
        ]
        assert ((far >= distance_TK[t, 0]) & (far <= distance_TK[t, 3])).sum() == 4
        assert moved[t] == ((far >= one.anchor_negative_distance[t]).sum() < 4)
    for name in ("anchor", "positive", "hardness", "anchor_positive_distance", "positive_origin"):
        np.testing.assert_array_equal(getattr(four, name), np.repeat(getattr(one, name), 4))
    assert (one.header["num_negatives"], four.header["num_negatives"]) == (1, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_negatives": 0}, "num_negatives: 0 is not a whole number of at least 1; use for example 4"),
        ({"num_negatives": 2.0}, "num_negatives: 2.0 is not a whole number of at least 1; use for example 4"),
        (
            {"num_negatives": True},
            "num_negatives: True is not a whole number of at least 1; use for example 4",
        ),
        (
            {"num_negatives": 3},
            "num_negatives: anchor 1 (position 1) of class 'a' has only 2 negatives of the 3 asked for (2 such "
            "anchors); ask for fewer, add candidates of other classes or leave these anchors out",
        ),
        (
            {"num_negatives": 3, "excluded_pairs": [[2, 3]]},
            "num_negatives: anchor 2 (position 0) of class 'b' has only 2 negatives of the 3 asked for (3 such "
            "anchors); ask for fewer, add candidates of other classes or leave these anchors out",
        ),
    ],
)
def test_bad_input_is_named(change, message):
    bank = np.float32([[0.0], [1.0], [2.0], [3.0]])
    with pytest.raises(InputError) as caught:
        mine(bank, ["a", "a", "b", "c"], anchors_T=[2, 1, 0], hardness_T=0.5, **change)
    assert str(caught.value) == message
