"""Intervals over seeds and classes, by simulation: a strategy against itself differs in 5% of the comparisons."""

import numpy as np
import pytest
from scipy import stats

from mohs.compare.summary import seeds_and_classes_interval
from mohs.evaluation.intervals import class_difference_interval

NUM_PER_CLASS = 2


def draw(random, difficulty_C, num_seeds, spread):
    """Hits of one strategy [S, Q]: a chance for each class, shifted for each seed, and each answer by luck."""
    chance_SC = difficulty_C + random.normal(0, spread, (num_seeds, 1))
    chance_SQ = np.repeat(chance_SC, NUM_PER_CLASS, axis=1)
    return (random.random(chance_SQ.shape) < chance_SQ).astype(float)


def share_outside(num_seeds, num_classes, spread, *, paired=True, num_runs=400):
    """Return how many intervals leave out the truth: of a strategy minus itself, or of a single strategy's R@1."""
    random = np.random.default_rng([num_classes, *num_seeds, int(1e4 * spread), paired])
    labels_Q = np.repeat(np.arange(num_classes), NUM_PER_CLASS)
    outside = 0
    for _ in range(num_runs):
        difficulty_C = random.normal(0.5, 0.12, num_classes)
        sides = [draw(random, difficulty_C, count, spread) for count in num_seeds]
        truth = 0.0 if paired else 0.5
        low, high = seeds_and_classes_interval(sides if paired else sides[:1], labels_Q)
        outside += not low <= truth <= high
    return outside / num_runs


# 400 runs at 5% have a standard error of 1.1%.
@pytest.mark.parametrize("spread", [0.0, 0.01, 0.03, 0.1])
@pytest.mark.parametrize(("num_seeds", "num_classes"), [((3, 3), 400), ((5, 5), 400), ((5, 5), 40), ((5, 3), 100)])
def test_a_strategy_against_itself_is_clear_in_five_percent(num_seeds, num_classes, spread):
    assert share_outside(num_seeds, num_classes, spread) <= 0.085


@pytest.mark.parametrize("spread", [0.0, 0.03, 0.1])
@pytest.mark.parametrize(("num_seeds", "num_classes"), [((3,), 400), ((5,), 400), ((5,), 40)])
def test_the_interval_of_one_strategy_holds_the_mean_over_all_seeds(num_seeds, num_classes, spread):
    assert share_outside(num_seeds, num_classes, spread, paired=False) <= 0.085


def test_the_interval_is_not_so_wide_that_it_always_holds():
    """Where seeds decide, it is Welch's; where they do not matter, little wider than that over classes."""
    assert share_outside((5, 5), 400, 0.1) >= 0.02
    random = np.random.default_rng(1)
    labels_Q = np.repeat(np.arange(400), NUM_PER_CLASS)
    ratios = []
    for _ in range(100):
        difficulty_C = random.normal(0.5, 0.12, 400)
        sides = [draw(random, difficulty_C, 5, 0.0) for _ in range(2)]
        low, high = seeds_and_classes_interval(sides, labels_Q)
        value_Q = sides[0].mean(axis=0) - sides[1].mean(axis=0)
        only_low, only_high = class_difference_interval(value_Q, labels_Q)
        ratios.append((high - low) / (only_high - only_low))
    assert np.mean(ratios) < 1.35


def test_without_the_seeds_a_strategy_differs_from_itself():
    """The fault that this is for: with classes alone, the same draws are clear in a third of the comparisons."""

    def classes_alone(sides, labels_Q):
        return class_difference_interval(sides[0].mean(axis=0) - sides[1].mean(axis=0), labels_Q)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "seeds_and_classes_interval", classes_alone)
        assert share_outside((3, 3), 400, 0.03) > 0.25


def test_many_classes_and_a_few_seeds_are_welchs_interval():
    """With the noise of classes gone, what is left is the two-sample interval of the seeds' means."""
    one_S, two_S = np.array([0.50, 0.52, 0.57]), np.array([0.40, 0.41, 0.39, 0.42, 0.40])
    one_SQ, two_SQ = (np.tile(side[:, None], 20_000) for side in (one_S, two_S))
    found = seeds_and_classes_interval([one_SQ, two_SQ], np.arange(20_000))
    variances = one_S.var(ddof=1) / 3, two_S.var(ddof=1) / 5
    freedom = sum(variances) ** 2 / (variances[0] ** 2 / 2 + variances[1] ** 2 / 4)
    assert 2 < freedom < 3
    reach = stats.t.ppf(0.975, freedom) * np.sqrt(sum(variances))
    mean = one_S.mean() - two_S.mean()
    assert found == pytest.approx((mean - reach, mean + reach), abs=1e-5)


def test_one_seed_has_the_interval_over_classes():
    random = np.random.default_rng(0)
    labels_Q = np.repeat(np.arange(30), 2)
    sides = [draw(random, np.full(30, 0.5), 1, 0.0) for _ in range(2)]
    alone = class_difference_interval(sides[0][0] - sides[1][0], labels_Q)
    assert seeds_and_classes_interval(sides, labels_Q) == alone
    # Two seeds that agree in every answer add nothing either.
    doubled = [np.concatenate([side, side]) for side in sides]
    assert seeds_and_classes_interval(doubled, labels_Q) == alone


def test_seeds_that_differ_more_give_a_wider_interval_and_the_mirror_is_the_mirror():
    random = np.random.default_rng(0)
    labels_Q = np.repeat(np.arange(200), 2)
    difficulty_C = np.full(200, 0.5)
    other = draw(random, difficulty_C, 5, 0.0)
    widths = []
    for spread in (0.0, 0.1, 0.3):
        side = (np.full((5, 400), 0.5) + spread * np.array([-1, -0.5, 0, 0.5, 1])[:, None] > random.random(400)) * 1.0
        low, high = seeds_and_classes_interval([side, other], labels_Q)
        back_low, back_high = seeds_and_classes_interval([other, side], labels_Q)
        assert (back_low, back_high) == pytest.approx((-high, -low))
        widths.append(high - low)
    assert widths == sorted(widths)


def test_the_order_of_seeds_does_not_matter():
    """A number that two strategies share as their seed pairs nothing."""
    random = np.random.default_rng(0)
    labels_Q = np.repeat(np.arange(40), 2)
    one, two = (draw(random, random.normal(0.5, 0.1, 40), 5, 0.05) for _ in range(2))
    assert seeds_and_classes_interval([one, two], labels_Q) == pytest.approx(
        seeds_and_classes_interval([one, two[::-1]], labels_Q)
    )
