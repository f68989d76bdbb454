import numpy as np
import pytest

from mohs.errors import InputError
from mohs.evaluation.intervals import class_bootstrap_interval, wilson_interval


def test_wilson_agrees_with_published_values():
    # Newcombe 1998, table I: 81/263, 15/148, 0/20, 1/29 by the score method without continuity correction.
    for successes, trials, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (1, 29, 0.0061, 0.1718)):
        assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=6e-5)
    assert wilson_interval(0, 20) == pytest.approx((0, 0.1611), abs=6e-5)
    assert wilson_interval(20, 20) == pytest.approx((1 - 0.1611, 1), abs=6e-5)
    with pytest.raises(InputError, match="3 of 2 is not a share"):
        wilson_interval(3, 2)


def test_the_bootstrap_covers_the_true_mean_about_as_often_as_it_says():
    random = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        labels = np.repeat(np.arange(60), 5)
        values = random.normal(size=60)[labels] + 0.1 * random.normal(size=300)
        low, high = class_bootstrap_interval(values, labels, seed=trial, num_resamples=300)
        covered += low <= 0 <= high
    assert 180 <= covered <= 199


def test_classes_are_resampled_not_items():
    labels = np.repeat(np.arange(20), 50)
    values = (labels % 2).astype(float)  # all items of a class agree: 20 facts, not 1,000
    low, high = class_bootstrap_interval(values, labels, seed=0)
    assert high - low > 0.35
    low, high = class_bootstrap_interval(values, np.arange(1000), seed=0)
    assert high - low < 0.08


def test_the_mean_is_over_items_so_large_classes_weigh_more():
    # 10 of the 110 classes hold 91% of the items.
    labels = np.concatenate([np.arange(1, 101), np.arange(101, 111).repeat(100)])
    values = (labels > 100).astype(float)
    low, high = class_bootstrap_interval(values, labels, seed=0)
    assert 0.7 < low < values.mean() < high < 1
    assert values.mean() == pytest.approx(0.909, abs=1e-3)


def test_confidence_widens_and_resamples_are_seeded():
    values, labels = np.random.default_rng(0).normal(size=90), np.repeat(np.arange(30), 3)
    narrow = class_bootstrap_interval(values, labels, confidence=0.5, seed=1)
    wide = class_bootstrap_interval(values, labels, confidence=0.99, seed=1)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    assert class_bootstrap_interval(values, labels, seed=1) == class_bootstrap_interval(values, labels, seed=1)
    assert class_bootstrap_interval(values, labels, seed=1) != class_bootstrap_interval(values, labels, seed=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, np.nan], [0, 1]), "values_Q: not a flat array of finite numbers"),
        (([1.0, 2.0], [0, 0]), "labels_Q: 1 class; an interval over classes needs at least two"),
        (([1.0, 2.0], [0]), "labels_Q: 1 labels for 2 embeddings"),
    ],
)
def test_messages(arguments, message):
    with pytest.raises(InputError, match=message):
        class_bootstrap_interval(*arguments, seed=0)


def test_parameter_messages():
    with pytest.raises(InputError, match=r"confidence: 95 is not in \(0, 1\); use for example 0.95"):
        class_bootstrap_interval([1.0, 2.0], [0, 1], confidence=95, seed=0)
    with pytest.raises(InputError, match="num_resamples: 0 is less than 1; use for example 1000"):
        class_bootstrap_interval([1.0, 2.0], [0, 1], num_resamples=0, seed=0)
