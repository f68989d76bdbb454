"""`mine` is the definition, index for index."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mining_cases import KINDS, assert_agrees, cases, random_bank, random_labels

from mohs.hardness.scales import SCALES
from mohs.mining import blocks, choose_positives, kernels, mine, positives, sweep_kernels


@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases())
def test_mine_equals_the_oracle(case):
    arguments, more = case
    assert_agrees(*arguments, **more)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases())
def test_it_does_so_where_keys_saturate(case):
    """A scale of bins that covers little of the keys only costs time."""
    arguments, more = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_NEAR_SPREADS", 0.3)
        patch.setattr(blocks, "_FAR_SPREADS", 0.3)
        patch.setattr(positives, "_LARGE_CLASS", 40)
        patch.setattr(positives, "_MANY_ANCHORS", 1)
        assert_agrees(*arguments, **more)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases(), st.integers(0, 2**32 - 1))
def test_it_does_so_whatever_rounds_the_product(case, seed):
    """Products off by as much as float32 rounding may cost change nothing: only exact distances decide."""
    arguments, more = case
    noise = np.random.default_rng(seed)

    def noisy(kernel):
        def with_noise(product, *others):
            finite = np.isfinite(product)  # a sweep marks pairs of one class by infinity
            product[finite] *= (1 + noise.uniform(-8, 8, finite.sum()) * 2.0**-24).astype(np.float32)
            kernel(product, *others)

        return with_noise

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "bin_tile", noisy(kernels.bin_tile))
        patch.setattr(sweep_kernels, "search_tile", noisy(sweep_kernels.search_tile))
        patch.setattr(positives, "_LARGE_CLASS", 40)
        patch.setattr(positives, "_MANY_ANCHORS", 1)
        assert_agrees(*arguments, **more)


@pytest.mark.parametrize("seed", range(20))
def test_five_thousand_items_with_planted_duplicates(seed):
    rng = np.random.default_rng(seed)
    num_items, scale = 5000, SCALES[seed % 4]
    bank = random_bank(rng, num_items, int(rng.integers(2, 96)), KINDS[seed % len(KINDS)])
    twins = rng.permutation(num_items)
    bank[twins[:1000]] = bank[twins[1000:2000]]
    bank[twins[2000:2100]] = bank[twins[2100]]
    labels = random_labels(rng, num_items, ["pairs", "few", "single"][seed % 3])
    candidates = None if seed % 2 else rng.random(num_items) < 0.9
    anchors = np.concatenate([twins[:20], rng.integers(0, num_items, 20)])
    assert_agrees(bank, labels, anchors, rng.random(40), scale, candidates, 0.3, seed % 8 < 4)


@pytest.mark.parametrize("seed", range(20))
def test_several_negatives_and_exclusions_among_five_thousand(seed):
    rng = np.random.default_rng(100 + seed)
    num_items, scale = 5000, SCALES[seed % 4]
    bank = random_bank(rng, num_items, int(rng.integers(2, 96)), KINDS[seed % len(KINDS)])
    twins = rng.permutation(num_items)
    bank[twins[:1000]] = bank[twins[1000:2000]]
    bank[twins[2000:2100]] = bank[twins[2100]]
    labels = random_labels(rng, num_items, ["pairs", "few", "single"][seed % 3])
    anchors = np.concatenate([twins[:20], rng.integers(0, num_items, 20)])
    hardness = np.where(rng.random(40) < 0.2, 0.0, rng.random(40))
    excluded = np.stack([rng.choice(anchors, 4000), rng.integers(0, num_items, 4000)], axis=1)
    excluded = np.concatenate([excluded, np.stack([twins[:1000], twins[1000:2000]], axis=1)])
    candidates = None if seed % 2 else rng.random(num_items) < 0.9
    rule = ("easy", "hard")[seed % 2]
    assert_agrees(
        bank, labels, anchors, hardness, scale, candidates, 0.3, seed % 8 < 4, k=4, excluded=excluded, rule=rule
    )


@pytest.mark.parametrize("scale", ["range", "margin"])
@pytest.mark.parametrize("one_way", [True, False])
def test_exclusions_in_sweeps_over_several_tiles(scale, one_way):
    """The nearest and farthest pairs go, so that a pair that is missed, or lost the other way, shows."""
    rng = np.random.default_rng(8)
    bank = random_bank(rng, 1500, 8, "unit")
    chosen = rng.permutation(1500)[:700]
    order = (bank[chosen] @ -bank.T).argsort(axis=1)
    excluded = np.concatenate([np.stack([chosen, order[:, rank]], axis=1) for rank in (1, 2, 40, -1)])
    if not one_way:
        excluded = np.concatenate([excluded, excluded[:, ::-1]])
    hardness = np.where(rng.random(1500) < 0.2, 0.0, rng.random(1500))
    labels = random_labels(rng, 1500, "pairs")
    anchors = rng.permutation(1500)
    assert_agrees(bank, labels, anchors, hardness, scale, None, 1.5, False, excluded=excluded)
    hardness[:] = 1.0  # the nearest of all
    assert_agrees(bank, labels, anchors, hardness, scale, None, 1e-6, False, excluded=excluded)


@pytest.mark.parametrize("scale", ["range", "margin"])
@pytest.mark.parametrize("labels_kind", ["pairs", "few", "single"])
def test_all_items_as_anchors_over_several_tiles(scale, labels_kind):
    """A sweep serves both items of a pair; classes of a third of the bank cross its tiles."""
    rng = np.random.default_rng(7)
    bank = random_bank(rng, 1500, 8, "unit")
    bank[100:150] = bank[1200:1250]
    labels = random_labels(rng, 1500, labels_kind)
    hardness = np.where(rng.random(1500) < 0.1, 0.0, rng.random(1500))
    assert_agrees(bank, labels, rng.permutation(1500), hardness, scale, None, 1.5, False)


@pytest.mark.parametrize("scale", SCALES)
def test_a_far_cluster_and_a_few_neighbours(scale):
    """Nearly all keys lie together, and what is wanted lies dozens of standard deviations away."""
    rng = np.random.default_rng(0)
    bank = rng.normal(size=(4000, 6)) * 1e-3 + 5.0
    bank[:40] = rng.normal(size=(40, 6))
    hardness = np.concatenate([np.linspace(0, 1, 30), 1 - np.geomspace(1e-6, 1, 30)])
    anchors = np.arange(60) % 50
    assert_agrees(bank.astype(np.float32), np.arange(4000), anchors, hardness, scale, None, 1.0, False)


@pytest.mark.parametrize("scale", SCALES)
def test_distances_that_are_a_few_of_the_smallest_steps(scale):
    """Near 1e-44 a float32 distance is off by up to half a step, which is no small share of it."""
    for seed in range(40):
        rng, num_items = np.random.default_rng(seed), (12, 40)[seed % 2]
        bank = (rng.integers(0, 3, (num_items, 1 + seed % 8)) * 1e-44).astype(np.float32)
        labels, anchors = random_labels(rng, num_items, "few"), rng.integers(0, num_items, 8)
        assert_agrees(bank, labels, anchors, np.linspace(0, 1, 8), scale, None, 1e-44, False)
        assert_agrees(bank, labels, np.arange(num_items), rng.random(num_items), scale, None, 1e-44, False)


@pytest.mark.parametrize("scale", SCALES)
def test_a_shell_seen_from_its_centre(scale):
    """Distances within a few units in the last place: products cannot tell them apart, exact distances must."""
    for seed in range(30):
        rng = np.random.default_rng(seed)
        bank = rng.normal(size=(400, 24))
        bank *= (1 + 4e-7 * rng.random((400, 1))) / np.linalg.norm(bank, axis=1, keepdims=True)
        bank[0] = 0.0
        bank += rng.normal(size=24)
        hardness = np.array([0.0, 1.0, 0.5, 0.99])
        assert_agrees(bank.astype(np.float32), np.arange(400), np.zeros(4, int), hardness, scale, None, 1.0, False)


def test_positives_come_from_their_own_draw():
    labels = np.arange(20) // 2
    bank = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    plan = mine(bank, labels, anchors_T=np.arange(20), hardness_T=0.5, seed=3)
    positives, origin = choose_positives(labels, np.arange(20), seed=3)
    np.testing.assert_array_equal(plan.positive, positives)
    np.testing.assert_array_equal(plan.positive_origin, origin)
