"""How often intervals and thresholds of pairs hold on classes they were not chosen on: benchmarks/coverage_pairs.py."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from mohs.evaluation.operating_points import pair_intervals
from mohs.evaluation.thresholds import best_threshold

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "coverage_pairs.py"


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("coverage_pairs", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("unequal", "num_classes", "level", "prevalence", "repeats"),
    [
        # Fitted to these very pairs, and measured on them, 53% and 69% held.
        (0.3, 40, 0.95, None, 100),
        (0.0, 40, 0.95, None, 100),
        (0.3, 40, 0.8, None, 100),
        (0.3, 40, 0.95, 0.5, 60),
        (0.0, 100, 0.95, None, 30),
        (0.3, 100, 0.8, None, 30),
    ],
)
def test_what_a_threshold_reaches_is_in_its_interval(program, unequal, num_classes, level, prevalence, repeats):
    found = program.simulate(
        program.Classes(unequal=unequal),
        num_classes,
        ("precision", level),
        repeats=repeats,
        prevalence=prevalence,
        seed=1,
    )
    assert found.told == repeats
    assert found.reached >= 0.93 * repeats
    assert found.auc >= 0.93 * repeats
    assert found.accuracy >= 0.93 * repeats
    # The fitted threshold flatters; the safe one does not, and there is one unless pairs are too few.
    assert found.safe_kept >= 0.93 * found.safe
    assert (found.safe >= 0.6 * repeats) == (level == 0.8 or prevalence == 0.5)
    if prevalence is None:
        assert found.kept < 0.7 * repeats


def test_false_positive_rates_hold_likewise(program):
    found = program.simulate(program.Classes(unequal=0.3), 40, ("false positive rate", 0.01), repeats=60, seed=2)
    assert found.reached >= 0.93 * 60
    assert found.kept < 0.7 * 60
    assert (found.safe, found.safe_kept >= 0.93 * 60) == (60, True)


def test_the_simulation_knows_the_truth(program):
    """With many classes, what is measured is what the distributions say."""
    classes = program.Classes(unequal=0.3)
    scores, class_2P = classes.pairs(400, np.random.default_rng(0))
    found = pair_intervals(scores, class_2P, precisions=(0.8,), num_resamples=20)
    assert found.auc[0] < classes.auc() < found.auc[1]
    assert found.auc[1] - found.auc[0] < 0.02
    best = best_threshold(scores, class_2P)
    assert best.accuracy == pytest.approx(classes.accuracy(best.threshold), abs=0.02)
    [point] = found.operating_points
    share = 1 / 799
    assert classes.reached(point.threshold, ("precision", 0.8), share) == pytest.approx(0.8, abs=0.08)
    assert classes.reached(point.safe_threshold, ("precision", 0.8), share) > 0.8


def test_the_other_intervals_hold_on_few_classes(program):
    """Average precision, equal error rate and TPR: percentiles of 40 classes held fewer."""
    classes, covered = program.Classes(unequal=0.3), np.zeros(3)
    _, tpr, fpr = classes.rates
    share, repeats = 0.1, 60
    precision = share * tpr / (share * tpr + (1 - share) * fpr + 1e-300)
    average_precision = float(np.diff(tpr, prepend=0.0) @ precision)
    equal = float(np.interp(1.0, fpr + tpr, fpr))
    random = np.random.default_rng(3)
    for seed in range(repeats):
        scores, class_2P = classes.pairs(40, random)
        found = pair_intervals(scores, class_2P, prevalence=share, fprs=(0.02,), num_resamples=60, seed=seed)
        # At 0.02 of all negative pairs; the TPR of a threshold that is chosen in the same way.
        truths = (average_precision, equal, float(np.interp(0.02, fpr, tpr)))
        [point] = found.operating_points
        ends = (found.average_precision, found.equal_error_rate, point.tpr_interval)
        covered += [low <= truth <= high for truth, (low, high) in zip(truths, ends, strict=True)]
    assert (covered >= 0.93 * repeats).all(), covered / repeats


def test_few_and_no_failures_are_no_certainty(program):
    """Pairs that are all right: a sample of 5 classes says less than one of 200."""
    classes = program.Classes(width=0.05)
    for num_classes, low in ((5, 0.3), (40, 0.85), (200, 0.97)):
        scores, class_2P = classes.pairs(num_classes, np.random.default_rng(0))
        found = pair_intervals(scores, class_2P, prevalence=0.5, precisions=(0.9,), num_resamples=40)
        [point] = found.operating_points
        for interval in (found.auc, found.average_precision, point.tpr_interval, point.reached_interval):
            assert low < interval[0] < interval[1] == 1.0
        assert found.equal_error_rate[0] == 0.0
        assert found.equal_error_rate[1] > 0.0
    best = best_threshold(*classes.pairs(40, np.random.default_rng(0)))
    assert (best.accuracy, best.standard_error) == (1.0, 0.0)
    assert 0.85 < best.interval[0] < best.interval[1] == 1.0
