"""`mine` is the definition, index for index."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle import oracle_negatives, oracle_positives

from mohs.distances import unit_rows
from mohs.hardness.scales import SCALES
from mohs.mining import blocks, choose_positives, kernels, mine, positives, sweep_kernels


def random_bank(rng, num_items, dim, kind):
    bank = rng.normal(size=(num_items, dim))
    if kind == "unit":
        bank /= np.linalg.norm(bank, axis=1, keepdims=True)
    elif kind == "grid":  # plenty of ties
        bank = np.rint(bank)
    elif kind == "duplicates":
        bank = bank[rng.integers(0, max(1, num_items // 4), num_items)]
    elif kind == "near-duplicates":
        bank = bank[rng.integers(0, max(1, num_items // 4), num_items)]
        bank *= 1 + 3e-7 * rng.normal(size=bank.shape)
    elif kind == "collapsed":
        bank = bank * 1e-4 + rng.normal(size=dim)
    elif kind == "one point":
        bank[:] = bank[0]
    elif kind == "outlier":
        bank[rng.integers(num_items)] *= 1e4
    elif kind == "huge":
        bank *= 1e18
    elif kind == "shell":  # seen from item 0, all are equally far to about the last digit
        bank *= (1 + 4e-7 * rng.random((num_items, 1))) / np.linalg.norm(bank, axis=1, keepdims=True)
        bank[0] = 0.0
    elif kind == "tiny":
        bank *= 1e-30
    return bank.astype(np.float32)


KINDS = (
    "plain",
    "unit",
    "grid",
    "duplicates",
    "near-duplicates",
    "collapsed",
    "one point",
    "outlier",
    "huge",
    "tiny",
    "shell",
)


def random_labels(rng, num_items, kind):
    """At least two classes; "pairs" are two or three a class, "few" are large classes, "single" are one a class."""
    num_classes = {"pairs": num_items // 2, "few": 3, "single": num_items}[kind]
    labels = rng.permutation(num_items) if kind == "single" else rng.integers(0, max(2, num_classes), num_items)
    labels[:2] = (0, 1) if kind != "single" else labels[:2]
    return labels


def assert_agrees(
    bank, labels, anchors, hardness, scale, candidates, margin, squared, *, k=1, excluded=None, rule="random",
    metric="euclidean",
):  # fmt: skip
    options = {"margin": margin, "squared": squared} if scale == "margin" else {}
    plan = mine(
        bank, labels, anchors_T=anchors, hardness_T=hardness, scale=scale, candidates=candidates, num_negatives=k,
        excluded_pairs=excluded, positive_rule=rule, metric=metric, **options,
    )  # fmt: skip
    rows = unit_rows(bank) if metric == "cosine" else bank
    positives = plan.positive[::k]
    negatives, achieved = oracle_negatives(
        rows,
        labels,
        anchors_T=anchors,
        positives_T=positives,
        hardness_T=hardness,
        scale=scale,
        candidates_N=candidates,
        num_negatives=k,
        excluded_pairs=() if excluded is None else excluded,
        **options,
    )
    np.testing.assert_array_equal(plan.negative, negatives)
    np.testing.assert_allclose(plan.achieved_hardness, achieved, atol=1e-6)
    np.testing.assert_array_equal(plan.anchor, np.repeat(anchors, k))
    np.testing.assert_array_equal(plan.positive, np.repeat(positives, k))
    if rule != "random":
        np.testing.assert_array_equal(positives, oracle_positives(rows, labels, anchors_T=anchors, rule=rule))


def random_exclusions(rng, labels, anchors, candidates):
    """Pairs of all sorts, many of them of the anchors and both ways; no anchor loses all its negatives."""
    num_items = len(labels)
    pairs = rng.integers(0, num_items, (int(rng.choice([0, 5, 200])), 2))
    pairs[::2, 0] = rng.choice(anchors, len(pairs[::2]))
    if rng.random() < 0.5:
        pairs = np.concatenate([pairs, pairs[: len(pairs) // 2, ::-1], pairs[: len(pairs) // 3]])
    if rng.random() < 0.2:  # nearly everything, for one anchor
        others = rng.permutation(num_items)
        pairs = np.concatenate([pairs, np.stack([np.full(num_items, anchors[0]), others], axis=1)])
    spared = np.full(num_items, -1)
    for anchor in set(anchors.tolist()):
        allowed = labels != labels[anchor]
        spared[anchor] = rng.choice(np.flatnonzero(allowed if candidates is None else allowed & candidates))
    return pairs[spared[pairs[:, 0]] != pairs[:, 1]]


def least_num_negatives(labels, anchors, candidates, excluded):
    allowed = np.ones(len(labels), dtype=bool) if candidates is None else candidates
    counts = []
    for anchor in set(anchors.tolist()):
        left = allowed & (labels != labels[anchor])
        left[excluded[excluded[:, 0] == anchor, 1]] = False
        counts.append(left.sum())
    return int(min(counts))


@st.composite
def cases(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num_items = draw(st.integers(3, 300))
    bank = random_bank(rng, num_items, draw(st.integers(1, 12)), draw(st.sampled_from(KINDS)))
    labels = random_labels(rng, num_items, draw(st.sampled_from(["pairs", "few", "single"])))
    if draw(st.integers(0, 3)) == 0:  # nearly all items, some of them twice
        anchors = rng.permutation(np.r_[np.arange(num_items), np.arange(num_items // 2)])
        anchors = anchors[: rng.integers(num_items, len(anchors) + 1)]
    else:
        anchors = rng.integers(0, num_items, draw(st.integers(1, 24)))
        anchors[rng.random(len(anchors)) < 0.3] = 0
    num_anchors = len(anchors)
    ends = draw(st.sampled_from(["any", "0", "1", "mixed"]))
    hardness = rng.random(num_anchors)
    if ends == "mixed":
        hardness = np.where(rng.random(num_anchors) < 0.5, np.rint(hardness), hardness)
    elif ends != "any":
        hardness[:] = float(ends)
    candidates = None
    if draw(st.booleans()):
        candidates = rng.random(num_items) < 0.5
        candidates[:2] = True  # two classes: every anchor has a negative
    scale = draw(st.sampled_from(SCALES))
    margin = draw(st.sampled_from([0.05, 0.2, 1.0, 3.0])) * float(np.median(np.abs(bank)) + 1e-6)
    excluded = np.empty((0, 2), dtype=np.int64)
    if draw(st.booleans()):
        excluded = random_exclusions(rng, labels, anchors, candidates)
    k = draw(st.sampled_from([1, 1, 2, 3, 7, 1000]))
    if k > 1:  # 1000: all there are
        k = min(k, least_num_negatives(labels, anchors, candidates, excluded))
    metric = draw(st.sampled_from(["euclidean", "euclidean", "cosine"]))
    if metric == "cosine":
        bank[~bank.any(axis=1)] = 1.0
    more = {"k": k, "excluded": excluded, "rule": draw(st.sampled_from(["random", "easy", "hard"])), "metric": metric}
    return (bank, labels, anchors, hardness, scale, candidates, margin, draw(st.booleans())), more


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
