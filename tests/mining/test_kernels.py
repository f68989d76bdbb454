"""Bins that lie, within their slack: the exact distances must decide."""

import numpy as np
import pytest

from mohs.mining import kernels

BANK = np.float32([[0.0], [1.0], [1.0000002], [2.0], [2.0000005], [1.5]])
ANCHOR = np.array([0])
OWN = np.array([[0, 1]])
STEP = 1000.0
"""Bins of this file: a distance d lies at (d² − 0) · 1000 (square 1, zero 0)."""


def bins_of(*values):
    return np.array([[kernels.EXCLUDED, *values]], dtype=np.uint16)


def line(slack):
    return np.array([[slack, 0.0, STEP]])


def block(bins, lines, bank=BANK):
    """What kernels take: bins of one anchor, item 0, against all items."""
    none = np.zeros(1)
    return kernels.Block(bins, ANCHOR, OWN, lines, 1.0, none, none, bank, np.arange(len(bank)))


def run_range(bins, slack, hardness):
    found, extreme = np.empty(1, np.int64), np.empty((1, 2), np.float32)
    hardness_R = np.array([float(hardness)])
    kernels.select_range(block(bins, line(slack)), hardness_R, found, extreme)
    return found[0], extreme[0].tolist()


def test_extremes_are_exact_where_bins_are_in_the_wrong_order():
    exact = [float(BANK[1, 0]), float(BANK[4, 0])]
    # 2 seems nearer than 1, and 3 seems farther than 4.
    assert run_range(bins_of(1001, 1000, 4000, 3999, 2250), 1.0, 1.0) == (1, exact)
    assert run_range(bins_of(1001, 1000, 4000, 3999, 2250), 1.0, 0.0) == (4, exact)


def test_a_threshold_between_two_items_of_one_bin_divides_them():
    threshold = float(BANK[2, 0])  # 1 is just nearer
    found = np.empty(1, np.int64)
    for bins in (bins_of(1000, 1000, 4000, 4000, 2250), bins_of(1001, 999, 4000, 4000, 2250)):
        kernels.select_nearest(block(bins, line(1.5)), np.array([threshold]), found)
        assert found[0] == 2


def test_a_threshold_out_of_reach_gives_the_farthest():
    found = np.empty(1, np.int64)
    for bins in (bins_of(1000, 1000, 4000, 4000, 2250), bins_of(1000, 1000, 4000, 3999, 2250)):
        kernels.select_nearest(block(bins, line(1.0)), np.array([2.5]), found)
        assert found[0] == 4


@pytest.mark.parametrize(("rank", "item"), [(0, 1), (1, 2), (2, 5), (3, 3), (4, 4)])
def test_ranks_are_exact_where_bins_are_in_the_wrong_order(rank, item):
    found = np.empty(1, np.int64)
    bins = bins_of(1001, 1000, 4001, 4000, 2250)
    for guess in (0.0, 1000.0, 65_000.0):
        kernels.select_rank(block(bins, line(1.0)), np.array([rank]), np.array([guess]), np.array([0.01]), found)
        assert found[0] == item


def test_bins_saturate_at_both_ends():
    product = np.float32([[1e6, -1e6, 0.0]])
    bins = np.zeros((1, 4), dtype=np.uint16)
    one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
    kernels.bin_tile(product, np.zeros(3, np.float32), one, zero + 7.5, bins, 1)
    assert bins.tolist() == [[0, 0, kernels.TOP, 7]]


@pytest.mark.parametrize("num_items", [2, 500, 3000])
def test_any_guess_finds_the_rank(num_items):
    """A bad guess costs counts, not correctness; so do bins that all items share."""
    rng = np.random.default_rng(num_items)
    bank = np.concatenate([[0.0], rng.gamma(2.0, 1.0, num_items - 1)]).astype(np.float32)[:, None]
    order = np.argsort(bank[1:, 0], kind="stable") + 1
    found = np.empty(1, np.int64)
    for step in (1000.0, 0.1):
        bins = np.minimum(bank[:, 0].astype(np.float64) ** 2 * step, kernels.TOP).astype(np.uint16)[None]
        for rank in {0, num_items // 3, num_items - 2}:
            for guess, density in ((0.0, 1e-9), (1e9, 1e9), (-1e9, 1.0), (np.float64(bins[0, 1]), 0.1)):
                one = block(bins, np.array([[1e-3, 0.0, step]]), bank)
                kernels.select_rank(one, np.array([rank]), np.array([guess]), np.array([density]), found)
                assert found[0] == order[rank]
