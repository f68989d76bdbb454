"""Sampled ranks against the true ones: how far off, never of the own class, and exact where a sample cannot tell."""

import numpy as np
import pytest

from mohs.errors import InputError
from mohs.hardness.scales import achieved_by_rank, rank_of
from mohs.mining import mine, sampled

NUM_ITEMS = 5000
PAIRS = np.arange(NUM_ITEMS) // 2
ANCHORS = np.random.default_rng(9).permutation(NUM_ITEMS)
HARDNESS = np.random.default_rng(8).random(NUM_ITEMS) * 0.85


def random_bank():
    rows = np.random.default_rng(0).normal(size=(NUM_ITEMS, 32))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def clustered_bank():
    """Clusters of very unequal sizes: keys have several modes and heavy tails."""
    rng = np.random.default_rng(1)
    cluster = np.minimum(rng.geometric(0.15, NUM_ITEMS), 25)
    rows = 2.0 * rng.normal(size=(26, 32))[cluster] + rng.normal(size=(NUM_ITEMS, 32))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def rank_errors(bank, labels, plan, scale="rank", candidates=None):
    """Signed errors of the rank fraction, 0 for anything tied with the wanted rank."""
    allowed = np.ones(len(bank), dtype=bool) if candidates is None else candidates
    rows = bank.astype(np.float64)
    error = np.empty(len(plan))
    for t, (anchor, negative) in enumerate(zip(plan.anchor, plan.negative, strict=True)):
        distance = np.linalg.norm(rows - rows[anchor], axis=1).astype(np.float32)
        negatives = distance[allowed & (labels != labels[anchor])]
        wanted = rank_of(scale, plan.hardness[t : t + 1].astype(np.float64), np.array([len(negatives)]))[0]
        low, high = (negatives < distance[negative]).sum(), (negatives <= distance[negative]).sum() - 1
        error[t] = (max(low - wanted, 0) + min(high - wanted, 0)) / len(negatives)
    return error


def plain_sd(hardness, num_sampled):
    return np.sqrt(hardness * (1 - hardness) / num_sampled)


@pytest.mark.parametrize("num_moments", [NUM_ITEMS, 4000])
@pytest.mark.parametrize("make_bank", [random_bank, clustered_bank])
def test_rank_errors_are_well_below_those_of_plain_sampling(make_bank, num_moments, monkeypatch):
    monkeypatch.setattr(sampled, "_MOMENTS", num_moments)
    bank, anchors, hardness = make_bank(), ANCHORS[:1200], HARDNESS[:1200]
    plan = mine(
        bank, PAIRS, anchors_T=anchors, hardness_T=hardness, scale="rank", method="sampled", num_sampled=512
    )  # fmt: skip
    error = rank_errors(bank, PAIRS, plan)
    relative = error / plain_sd(hardness, 512)
    middle = np.abs(hardness - 0.5) < 0.3
    # Errors of plain sampling have the root mean square 1 (0.95 where a tenth of the bank is drawn).
    assert np.sqrt(np.mean(relative[middle] ** 2)) < 0.75
    assert np.abs(relative[middle]).max() < 5
    assert abs(relative[middle].mean()) < 0.2
    # The hardness that the plan reports lies no farther from the truth.
    reported = np.abs(plan.achieved_hardness - hardness)
    assert reported.max() < 2.5 / 512


def test_more_samples_are_better():
    bank, anchors, hardness = random_bank(), ANCHORS[:400], HARDNESS[:400]
    error = [
        np.abs(
            rank_errors(
                bank,
                PAIRS,
                mine(
                    bank, PAIRS, anchors_T=anchors, hardness_T=hardness, scale="rank", method="sampled", num_sampled=m
                ),
            )
        ).mean()
        for m in (256, 2048)
    ]
    assert error[1] < 0.5 * error[0]


@pytest.mark.parametrize("kind", ["one point", "outlier", "huge", "tiny", "collapsed", "duplicates", "far cluster"])
def test_awkward_banks_cost_no_more_than_plain_sampling_would(kind):
    rng = np.random.default_rng(2)
    bank = rng.normal(size=(3000, 8))
    if kind == "one point":
        bank[:] = bank[0]
    elif kind == "outlier":
        bank[17] *= 1e4
    elif kind == "huge":
        bank *= 1e18
    elif kind == "tiny":
        bank *= 1e-30
    elif kind == "collapsed":
        bank = 1.0 + bank * 1e-4
    elif kind == "duplicates":
        bank = bank[rng.integers(0, 300, 3000)]
    else:
        bank = 5.0 + bank * 1e-3
        bank[:10] = rng.normal(size=(10, 8))
    bank = bank.astype(np.float32)
    labels, anchors, hardness = np.arange(3000), np.arange(300), rng.random(300)
    plan = mine(
        bank, labels, anchors_T=anchors, hardness_T=hardness, scale="rank", method="sampled", num_sampled=512
    )  # fmt: skip
    error = np.abs(rank_errors(bank, labels, plan))
    assert (error <= 5 * plain_sd(hardness, 512) + 3 / 512).all()
    assert np.sqrt(np.mean(error**2)) < 1.1 * np.sqrt(np.mean(plain_sd(hardness, 512) ** 2))


@pytest.mark.parametrize("factor", [10, 30, 100])
@pytest.mark.parametrize("num_outliers", [1, 10])
@pytest.mark.parametrize("seed", range(8))
def test_a_few_far_items_do_not_mislead(factor, num_outliers, seed):
    """Some samples hold them and some do not: moments that rest on a few items must not be trusted."""
    rng = np.random.default_rng(seed)
    bank = rng.normal(size=(3000, 8))
    bank[17 : 17 + num_outliers] *= factor
    bank, labels, hardness = bank.astype(np.float32), np.arange(3000), rng.random(300)
    plan = mine(
        bank, labels, anchors_T=np.arange(100, 400), hardness_T=hardness, scale="rank", method="sampled",
        num_sampled=512, seed=seed,
    )  # fmt: skip
    error = rank_errors(bank, labels, plan)
    assert np.sqrt(np.mean(error**2)) < 1.4 * np.sqrt(np.mean(plain_sd(hardness, 512) ** 2))


@pytest.mark.parametrize("labels_kind", ["pairs", "few", "most", "all but few"])
def test_negatives_are_candidates_of_other_classes(labels_kind):
    rng = np.random.default_rng(3)
    bank = clustered_bank()
    labels = {
        "pairs": PAIRS,
        "few": rng.integers(0, 3, NUM_ITEMS),
        "most": np.where(rng.random(NUM_ITEMS) < 0.9, 0, 1 + PAIRS),
        "all but few": np.where(np.arange(NUM_ITEMS) < 4990, 0, np.arange(NUM_ITEMS)),
    }[labels_kind]
    if labels_kind == "few":  # a class is a region: what is left out is the near part
        labels = np.digitize(bank[:, 0], np.quantile(bank[:, 0], [0.3, 0.6]))
    candidates = rng.random(NUM_ITEMS) < 0.8
    candidates[-10:] = True
    anchors, hardness = ANCHORS[:600], HARDNESS[:600]
    plan = mine(
        bank, labels, anchors_T=anchors, hardness_T=hardness, scale="rank", candidates=candidates,
        method="sampled", num_sampled=512,
    )  # fmt: skip
    assert (labels[plan.negative] != labels[plan.anchor]).all()
    assert candidates[plan.negative].all()
    share = np.array([np.mean(labels[candidates] != labels[a]) for a in anchors])
    error = np.abs(rank_errors(bank, labels, plan, candidates=candidates))
    bound = plain_sd(hardness, 512 * share)
    assert (error <= 5 * bound + 3 / (512 * share)).all()
    assert np.sqrt(np.mean(error**2)) < np.sqrt(np.mean(bound**2))


@pytest.mark.parametrize("scale", ["rank", "log-rank"])
def test_the_hard_tail_is_exact(scale):
    bank = random_bank()
    hardness = np.linspace(0.0, 1.0, 200)
    options = {"anchors_T": ANCHORS[:200], "hardness_T": hardness, "scale": scale}
    plan = mine(bank, PAIRS, **options, method="sampled", num_sampled=512)
    exact = mine(bank, PAIRS, **options)
    rank = rank_of(scale, hardness, np.full(200, NUM_ITEMS - 2))
    tail = rank / (NUM_ITEMS - 3) * 512 * ((NUM_ITEMS - 2) / NUM_ITEMS) < 32
    assert 10 < tail.sum() < 190
    assert plan.header["num_anchors_exact"] == tail.sum()
    np.testing.assert_array_equal(plan.negative[tail], exact.negative[tail])
    np.testing.assert_array_equal(plan.achieved_hardness[tail], exact.achieved_hardness[tail])
    assert (plan.negative[~tail] != exact.negative[~tail]).mean() > 0.5  # others are not


def test_a_sample_of_everything_is_exact():
    bank, options = random_bank(), {"anchors_T": ANCHORS[:100], "hardness_T": HARDNESS[:100], "scale": "rank"}
    plan = mine(bank, PAIRS, **options, method="sampled", num_sampled=10**6)
    np.testing.assert_array_equal(plan.negative, mine(bank, PAIRS, **options).negative)
    assert plan.header["num_sampled"] == NUM_ITEMS
    assert plan.header["rank_error_sd_max"] == 0.0


@pytest.mark.parametrize("scale", ["rank", "log-rank"])
def test_harder_is_closer(scale):
    bank = clustered_bank()
    distance = [
        mine(
            bank, PAIRS, anchors_T=ANCHORS[:500], hardness_T=h, scale=scale, method="sampled", num_sampled=512
        ).anchor_negative_distance.mean()
        for h in (0.0, 0.3, 0.6, 1.0)
    ]
    assert (np.diff(distance) < -0.01).all()


def test_the_plan_depends_on_the_seed_and_not_on_threads(monkeypatch, tmp_path):
    bank, files = random_bank(), []
    options = {"anchors_T": ANCHORS, "hardness_T": HARDNESS, "scale": "rank", "method": "sampled", "num_sampled": 512}
    for threads in (1, 2, 5):
        monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
        plan = mine(bank, PAIRS, **options)
        plan.save(tmp_path / "plan.parquet")
        files.append((tmp_path / "plan.parquet").read_bytes())
    assert files[0] == files[1] == files[2]
    assert (mine(bank, PAIRS, **options, seed=1).negative != plan.negative).mean() > 0.5


def test_every_block_draws_its_own_sample_by_the_seed():
    bank, anchor = random_bank(), np.zeros(1100, dtype=np.int64)  # one anchor, in two blocks

    def negatives(seed):
        plan = mine(
            bank, PAIRS, anchors_T=anchor, positives_T=anchor + 1, hardness_T=0.5, scale="rank", method="sampled",
            num_sampled=512, seed=seed,
        )  # fmt: skip
        values, counts = np.unique(plan.negative, return_counts=True)
        return dict(zip(counts.tolist(), values.tolist(), strict=True))

    first, second = negatives(0), negatives(1)
    assert first.keys() == second.keys() == {1024, 76}
    assert first[1024] != second[1024]
    assert first[76] != second[76]


@pytest.mark.parametrize("k", [2, 5, 40])
def test_several_negatives_are_neighbours_in_the_sample(k):
    hardness = np.where(np.arange(300) < 20, 0.0, HARDNESS[:300])  # at 0 nothing is farther: the window is moved
    options = {"anchors_T": ANCHORS[:300], "hardness_T": hardness, "scale": "rank", "method": "sampled"}
    bank = clustered_bank()
    plan = mine(bank, PAIRS, **options, num_sampled=512, num_negatives=k)
    first = mine(bank, PAIRS, **options, num_sampled=512)
    negative_TK, distance_TK = plan.negative.reshape(300, k), plan.anchor_negative_distance.reshape(300, k)
    assert (np.sort(negative_TK, axis=1)[:, 1:] > np.sort(negative_TK, axis=1)[:, :-1]).all()  # all different
    assert (PAIRS[plan.negative] != PAIRS[plan.anchor]).all()
    assert (np.diff(distance_TK, axis=1) >= 0).all()
    # The one negative of a plan with k = 1 comes first, unless too few follow it in the sample.
    achieved_TK = plan.achieved_hardness.reshape(300, k)
    moved = achieved_TK[:, 0] > first.achieved_hardness + 1e-6
    assert (moved == (hardness < (k - 1.5) / 512)).mean() > 0.95
    assert (negative_TK[~moved, 0] == first.negative[~moved]).mean() > 0.99  # but for ties of rounded keys
    assert (negative_TK == first.negative[:, None]).any(axis=1).all()
    # Nothing of the sample lies between them, so the ranks are about M / 512 apart.
    steps = -np.diff(achieved_TK, axis=1)[hardness > 0.1]
    assert steps.mean() == pytest.approx(1 / 512, rel=0.05)
    wanted = hardness[:, None] - np.arange(k) / 512
    error = achieved_TK[~moved] - wanted[~moved]
    assert np.abs(error).max() < 0.01
    true = plan.hardness[::k] - rank_errors(bank, PAIRS, plan.take(slice(k - 1, None, k)))
    assert np.sqrt(np.mean((true - wanted[:, -1])[~moved] ** 2)) < 0.02  # a rank too far is a hardness too low


def test_anchors_with_excluded_pairs_are_mined_exactly():
    bank, options = random_bank(), {"anchors_T": ANCHORS[:100], "hardness_T": 0.5, "scale": "rank", "num_negatives": 3}
    exact = mine(bank, PAIRS, **options)
    excluded = np.stack([exact.anchor[:60], exact.negative[:60]], axis=1)  # of 20 anchors
    plan = mine(bank, PAIRS, **options, method="sampled", num_sampled=512, excluded_pairs=excluded)
    again = mine(bank, PAIRS, **options, excluded_pairs=excluded)
    assert plan.header["num_anchors_exact"] == 20
    np.testing.assert_array_equal(plan.negative[:60], again.negative[:60])
    assert (plan.negative[60:] != exact.negative[60:]).mean() > 0.5
    assert not set(zip(plan.anchor, plan.negative, strict=True)) & set(map(tuple, excluded))


def test_a_sample_with_too_few_negatives_is_replaced_by_exact_mining():
    labels = np.where(np.arange(NUM_ITEMS) < 4000, 0, np.arange(NUM_ITEMS))
    options = {"anchors_T": ANCHORS[:200], "hardness_T": 0.2, "scale": "rank", "num_negatives": 300}
    plan = mine(random_bank(), labels, **options, method="sampled", num_sampled=512)
    exact = mine(random_bank(), labels, **options)
    few = np.repeat(labels[ANCHORS[:200]] == 0, 300)  # about 102 of 512 are of other classes
    assert 0 < few.sum() < few.size
    np.testing.assert_array_equal(plan.negative[few], exact.negative[few])
    assert plan.header["num_anchors_exact"] == few.sum() // 300


def test_distances_are_exact_and_achieved_hardness_is_that_of_the_estimated_rank():
    bank = random_bank()
    plan = mine(
        bank, PAIRS, anchors_T=ANCHORS[:300], hardness_T=HARDNESS[:300], scale="log-rank", method="sampled",
        num_sampled=1024,
    )  # fmt: skip
    difference = bank[plan.anchor].astype(np.float64) - bank[plan.negative].astype(np.float64)
    np.testing.assert_array_equal(plan.anchor_negative_distance, np.linalg.norm(difference, axis=1).astype(np.float32))
    num_negatives = np.full(300, NUM_ITEMS - 2)
    rank = rank_of("log-rank", plan.achieved_hardness.astype(np.float64), num_negatives)
    again = achieved_by_rank("log-rank", rank, num_negatives, HARDNESS[:300])
    np.testing.assert_allclose(plan.achieved_hardness, again, atol=2e-4)  # a whole rank
    assert np.abs(plan.achieved_hardness - plan.hardness).max() < 0.02


def test_the_header_bounds_the_error():
    hardness = np.array([0.2, 0.5, 1.0])
    plan = mine(
        random_bank(), PAIRS, anchors_T=[0, 1, 2], hardness_T=hardness, scale="rank", method="sampled", num_sampled=512
    )
    header = plan.header
    assert (header["method"], header["num_sampled"], header["num_anchors_exact"]) == ("sampled", 512, 1)
    sd = plain_sd(hardness, 512 * (NUM_ITEMS - 2) / NUM_ITEMS)
    assert header["rank_error_sd_max"] == pytest.approx(sd[1], rel=1e-3)
    assert header["rank_error_sd_mean"] == pytest.approx(sd.mean(), rel=1e-3)  # the last one is exact: 0


def test_auto_samples_only_what_would_take_long(monkeypatch):
    bank, options = random_bank(), {"anchors_T": ANCHORS[:100], "hardness_T": 0.5, "method": "auto"}

    def method(scale, num_sampled=512, **more):
        return mine(bank, PAIRS, scale=scale, num_sampled=num_sampled, **options, **more).header["method"]

    assert method("rank") == "exact"
    monkeypatch.setattr(sampled, "AUTO_PAIRS", 100 * NUM_ITEMS - 1)
    assert method("rank") == method("log-rank") == "sampled"
    assert method("rank", num_sampled=626) == "exact"  # less than eight samples
    assert method("range") == method("margin", margin=0.2) == "exact"
    monkeypatch.setattr(sampled, "AUTO_PAIRS", 100 * NUM_ITEMS)
    assert method("rank") == "exact"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"scale": "range"},
            "method: 'sampled': range is exact only: sampling its extremes fails; use the method exact, or the scale "
            "rank or log-rank",
        ),
        (
            {"scale": "margin", "margin": 0.2},
            "method: 'sampled': margin is exact only: the nearest negative beyond the positive is rarely in a sample; "
            "use the method exact, or the scale rank or log-rank",
        ),
        (
            {"num_sampled": 255},
            "num_sampled: 255 is not a whole number of at least 256; use for example 4096",
        ),
        (
            {"num_sampled": 512.0},
            "num_sampled: 512.0 is not a whole number of at least 256; use for example 4096",
        ),
    ],
)
def test_bad_input_is_named(change, message):
    options = {"anchors_T": [0], "hardness_T": 0.5, "scale": "rank", "method": "sampled", **change}
    with pytest.raises(InputError) as caught:
        mine(random_bank(), PAIRS, **options)
    assert str(caught.value) == message
