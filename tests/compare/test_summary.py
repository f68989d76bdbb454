"""Paired intervals against brute force."""

import numpy as np
import pytest

from mohs.compare.summary import mean_hits, paired_difference
from mohs.randomness import generator


def brute_force(difference_Q, labels_Q, num_resamples=1000):
    """Draw whole classes anew, item by item, as the rule says."""
    names = np.unique(labels_Q)
    random = generator(0, "class bootstrap")
    means = []
    for _ in range(num_resamples):
        drawn = random.integers(len(names), size=len(names))
        values = np.concatenate([difference_Q[labels_Q == names[c]] for c in drawn])
        means.append(values.mean())
    return np.quantile(means, [0.025, 0.975])


@pytest.fixture
def hits():
    random = np.random.default_rng(0)
    labels = np.repeat([f"c{c:02d}" for c in range(40)], random.integers(1, 4, 40))
    difficulty = random.random(len(labels))
    one = [(difficulty < 0.6 + 0.05 * s).astype(float) for s in range(3)]
    two = [(difficulty < 0.4 + 0.05 * s).astype(float) for s in range(3)]
    return one, two, labels


def test_the_interval_is_about_that_of_drawing_classes(hits):
    one, two, labels = hits
    found = paired_difference(mean_hits(one), mean_hits(two), labels, to="two")
    difference = np.mean(one, axis=0) - np.mean(two, axis=0)
    assert found.mean == pytest.approx(difference.mean())
    low, high = brute_force(difference, labels)
    assert found.interval[0] < low < high < found.interval[1]
    assert found.interval == pytest.approx((low, high), abs=0.05)
    assert found.to == "two"


def test_better_is_positive_and_the_other_way_round_is_its_mirror(hits):
    one, two, labels = hits
    found = paired_difference(mean_hits(one), mean_hits(two), labels, to="two")
    back = paired_difference(mean_hits(two), mean_hits(one), labels, to="one")
    assert found.mean > 0
    assert found.is_clear
    assert back.mean == -found.mean
    assert back.interval == pytest.approx((-found.interval[1], -found.interval[0]))


def test_pairing_takes_out_what_is_hard_for_both(hits):
    one, two, labels = hits
    paired = paired_difference(mean_hits(one), mean_hits(two), labels, to="two")
    # Without pairing: the second one's queries in another order of classes.
    order = np.random.default_rng(1).permutation(len(labels))
    loose = paired_difference(mean_hits(one), mean_hits(two)[order], labels, to="two")
    assert paired.interval[1] - paired.interval[0] < loose.interval[1] - loose.interval[0]


def test_a_strategy_against_itself_differs_by_nothing(hits):
    one, _, labels = hits
    found = paired_difference(mean_hits(one), mean_hits(one), labels, to="one")
    assert (found.mean, found.is_clear) == (0.0, False)
    assert found.interval[0] == -found.interval[1]
    assert 0 < found.interval[1] < 0.15


def test_queries_without_a_match_count_nowhere(hits):
    one, two, labels = hits
    extra = np.append(mean_hits(one), np.nan), np.append(mean_hits(two), np.nan)
    assert paired_difference(*extra, np.append(labels, "alone"), to="two") == paired_difference(
        mean_hits(one), mean_hits(two), labels, to="two"
    )
