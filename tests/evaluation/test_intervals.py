import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mohs.errors import InputError
from mohs.evaluation.intervals import (
    class_difference_interval,
    class_interval,
    class_intervals,
    class_means,
    difference_and_interval,
    share_and_interval,
    wilson_interval,
)

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def simulation():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("bench_coverage")
    sys.modules.pop("bench_coverage", None)


def test_wilson_agrees_with_published_values():
    # Newcombe 1998, table I: 81/263, 15/148, 0/20, 1/29 by the score method without continuity correction.
    for successes, trials, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (1, 29, 0.0061, 0.1718)):
        assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=6e-5)
    assert wilson_interval(0, 20) == pytest.approx((0, 0.1611), abs=6e-5)
    assert wilson_interval(20, 20) == pytest.approx((1 - 0.1611, 1), abs=6e-5)
    with pytest.raises(InputError, match="3 of 2 is not a share"):
        wilson_interval(3, 2)


@pytest.mark.parametrize("num_classes", [5, 10, 20, 50, 100, 500])
def test_intervals_hold_the_truth(simulation, num_classes):
    """At least 93% at R@1 of 0.5, 0.9 and 0.99, whatever the correlation in a class, and not wider than need be."""
    trials = 1000 if num_classes < 500 else 500
    found = simulation.figures(
        simulation.ours, ("hit", "reciprocal rank"), simulation.MEANS, num_classes, num_trials=trials
    )
    assert min(each.coverage for each in found) >= 0.93
    if num_classes >= 100:
        assert np.median([each.relative_width for each in found]) < 1.2
        assert max(each.relative_width for each in found) < 4


@pytest.mark.parametrize("num_classes", [5, 10, 20, 50, 100, 500])
def test_intervals_of_differences_hold_the_truth(simulation, num_classes):
    kinds = (simulation.ours_of_differences, ("difference",), simulation.MEANS, num_classes)
    found = simulation.figures(*kinds, num_trials=1000 if num_classes < 500 else 500)
    assert min(each.coverage for each in found) >= 0.93
    if num_classes >= 100:
        assert np.median([each.relative_width for each in found]) < 1.2


def test_the_simulation_tells_a_bootstrap_of_few_classes(simulation):
    # What was in use before: a truth of 0.9 lies in 44% of its intervals with 5 classes, 65% with 10, 86% with 20.
    for num_classes, below in ((5, 0.5), (10, 0.7), (20, 0.9)):
        found = simulation.figures(simulation.percentiles, ("hit",), (0.9,), num_classes, num_trials=300)
        assert min(each.coverage for each in found) < below


def test_six_of_six_in_three_classes_is_not_certain():
    low, high = class_interval(np.ones(6), [0, 0, 1, 1, 2, 2])
    assert high == 1
    assert low < 0.4
    # Six classes tell more, and sixty more again.
    lows = [class_interval(np.ones(2 * num), np.arange(num).repeat(2))[0] for num in (3, 6, 60)]
    assert lows == sorted(lows)
    assert lows[-1] > 0.9


def test_many_classes_of_one_query_are_wilsons_trials():
    values = np.arange(1000) < 371
    found = class_interval(values, np.arange(1000))
    assert found == pytest.approx(wilson_interval(371, 1000), abs=1e-3)


def test_a_thousand_queries_of_two_classes_are_two_facts():
    values = np.arange(1000) < 500
    low, high = class_interval(values, np.arange(1000) // 500)
    assert high - low > 0.9


def test_classes_count_not_items():
    labels = np.repeat(np.arange(20), 50)
    values = (labels % 2).astype(float)  # all items of a class agree: 20 facts, not 1,000
    low, high = class_interval(values, labels)
    assert high - low > 0.35
    low, high = class_interval(values, np.arange(1000))
    assert high - low < 0.08


def test_the_mean_is_over_queries_or_over_classes():
    # 10 of the 110 classes hold 91% of the items; they are found, the small ones are not.
    labels = np.concatenate([np.arange(1, 101), np.arange(101, 111).repeat(100)])
    values = (labels > 100).astype(float)
    low, high = class_interval(values, labels)
    assert low < values.mean() < high
    assert class_means([values], labels) == pytest.approx([10 / 110])
    low, high = class_interval(values, labels, over="classes")
    assert 0 < low < 10 / 110 < high < 0.2


def test_equal_numbers_of_queries_have_one_mean():
    values, labels = np.random.default_rng(0).random(90), np.repeat(np.arange(30), 3)
    assert class_interval(values, labels) == pytest.approx(class_interval(values, labels, over="classes"))


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(0, 1), min_size=2, max_size=40),
    num_classes=st.integers(2, 12),
    over=st.sampled_from(["queries", "classes"]),
)
def test_any_interval_is_in_range_holds_its_mean_and_has_a_mirror(values, num_classes, over):
    labels = np.arange(len(values)) % num_classes
    mean = np.mean(values) if over == "queries" else class_means([values], labels)[0]
    low, high = class_interval(values, labels, over=over)
    assert 0 <= low <= mean + 1e-12
    assert mean - 1e-12 <= high <= 1
    assert high - low > 1e-3
    assert class_interval(1 - np.array(values), labels, over=over) == pytest.approx((1 - high, 1 - low), abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.floats(-1, 1), min_size=2, max_size=40), num_classes=st.integers(2, 12))
def test_any_difference_is_in_range_holds_its_mean_and_has_a_mirror(values, num_classes):
    labels = np.arange(len(values)) % num_classes
    low, high = class_difference_interval(values, labels)
    assert -1 <= low <= np.mean(values) + 1e-12
    assert np.mean(values) - 1e-12 <= high <= 1
    assert class_difference_interval(-np.array(values), labels) == pytest.approx((-high, -low), abs=1e-9)


def test_a_difference_is_paired():
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(60), 2)
    hard = random.random(60)[labels] < 0.5
    first, second = hard | (random.random(120) < 0.25), hard
    low, high = class_difference_interval(first.astype(float) - second, labels)
    assert low > 0
    loose_low, loose_high = class_difference_interval(first.astype(float) - second[::-1], labels)
    assert loose_high - loose_low > 1.5 * (high - low)


def test_equal_hits_are_a_difference_of_about_nothing():
    widths = []
    for num in (5, 20, 500):
        low, high = class_difference_interval(np.zeros(2 * num), np.arange(num).repeat(2))
        assert low == -high < 0
        widths.append(high)
    assert widths[0] > 0.4
    assert widths[2] < 0.01


def test_confidence_widens_and_several_metrics_are_one_each():
    random = np.random.default_rng(0)
    values, labels = random.random((3, 90)), np.repeat(np.arange(30), 3)
    narrow = class_interval(values[0], labels, confidence=0.5)
    wide = class_interval(values[0], labels, confidence=0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    # A product of one row and one of three may round differently, in the last digit.
    found, alone = class_intervals(values, labels), [class_interval(each, labels) for each in values]
    np.testing.assert_allclose(np.array(found, float), np.array(alone, float), rtol=1e-12)
    # The order of queries does not matter.
    order = random.permutation(90)
    assert class_interval(values[0][order], labels[order]) == pytest.approx(class_interval(values[0], labels))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, np.nan], [0, 1]), "values_Q: not a flat array of finite numbers"),
        (([1.0, 1.0], [0, 0]), "labels_Q: 1 class; an interval over classes needs at least two"),
        (([1.0, 0.0], [0]), "labels_Q: 1 labels for 2 embeddings"),
        (([1.5, 0.0], [0, 1]), r"values_Q: 1.5 is not in \[0, 1\]; the interval is for values in that range"),
        (([0.5, -0.5], [0, 1]), r"values_Q: -0.5 is not in \[0, 1\]"),
    ],
)
def test_messages(arguments, message):
    with pytest.raises(InputError, match=message):
        class_interval(*arguments)


def test_parameter_messages():
    with pytest.raises(InputError, match=r"confidence: 95 is not a number in \(0, 1\); use for example 0.95"):
        class_interval([1.0, 0.0], [0, 1], confidence=95)
    with pytest.raises(InputError, match="over: 'items' is not 'queries' or 'classes'"):
        class_interval([1.0, 0.0], [0, 1], over="items")
    with pytest.raises(InputError, match=r"values_Q: -1.5 is not in \[-1, 1\]"):
        class_difference_interval([-1.5, 0.0], [0, 1])


def test_one_class_tells_nothing_of_others():
    assert share_and_interval([True, False], ["a", "a"]) == (0.5, 0.0, 1.0)
    assert difference_and_interval([1.0, 0.0], ["a", "a"]) == (0.5, -1.0, 1.0)
    mean, low, high = share_and_interval([True, True, False, False], ["a", "a", "b", "c"])
    assert 0 < low < mean == 0.5 < high < 1
    assert difference_and_interval([0.0, 0.0, 0.0], ["a", "b", "c"])[1] < 0
