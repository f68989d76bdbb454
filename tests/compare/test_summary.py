"""Paired intervals; those over seeds are in test_seeds.py."""

import numpy as np
import pytest

from mohs.compare.summary import paired_difference, recall_interval
from mohs.evaluation.intervals import class_difference_interval


@pytest.fixture
def hits():
    random = np.random.default_rng(0)
    labels = np.repeat([f"c{c:02d}" for c in range(40)], random.integers(1, 4, 40))
    difficulty = random.random(len(labels))
    one = np.array([(difficulty < 0.6 + 0.05 * s).astype(float) for s in range(3)])
    two = np.array([(difficulty < 0.4 + 0.05 * s).astype(float) for s in range(3)])
    return one, two, labels


def test_with_one_seed_the_interval_is_that_over_classes_and_nothing_is_clear(hits):
    one, two, labels = hits
    found = paired_difference(one[:1], two[:1], labels, to="two")
    difference = one[0] - two[0]
    assert found.mean == pytest.approx(difference.mean())
    assert found.interval == pytest.approx(class_difference_interval(difference, labels))
    assert found.interval[0] > 0
    assert (found.to, found.num_seeds, found.is_clear) == ("two", 1, False)


def test_better_is_positive_and_the_other_way_round_is_its_mirror(hits):
    one, two, labels = hits
    found = paired_difference(one, two, labels, to="two")
    back = paired_difference(two, one, labels, to="one")
    assert found.mean == pytest.approx(np.mean(one) - np.mean(two))
    assert found.mean > 0
    assert found.is_clear
    assert back.mean == pytest.approx(-found.mean)
    assert back.interval == pytest.approx((-found.interval[1], -found.interval[0]))


def test_pairing_takes_out_what_is_hard_for_both(hits):
    one, two, labels = hits
    paired = paired_difference(one, two, labels, to="two")
    # Without pairing: the second one's queries in another order of classes.
    order = np.random.default_rng(1).permutation(len(labels))
    loose = paired_difference(one, two[:, order], labels, to="two")
    assert paired.interval[1] - paired.interval[0] < loose.interval[1] - loose.interval[0]


def test_a_strategy_against_itself_differs_by_nothing(hits):
    one, _, labels = hits
    found = paired_difference(one, one, labels, to="one")
    assert (found.mean, found.is_clear) == (0.0, False)
    assert found.interval[0] < 0 < found.interval[1]


def test_strategies_may_have_different_numbers_of_seeds(hits):
    one, two, labels = hits
    assert paired_difference(one, two[:2], labels, to="two").num_seeds == 2


def test_queries_without_a_match_count_nowhere(hits):
    one, two, labels = hits
    extra = [np.column_stack([side, np.full(len(side), np.nan)]) for side in (one, two)]
    more = np.append(labels, "alone")
    assert paired_difference(*extra, more, to="two") == paired_difference(one, two, labels, to="two")
    assert recall_interval(extra[0], more) == recall_interval(one, labels)


def test_an_interval_of_a_share_is_one_of_shares():
    """Two seeds of very different luck: Student's quantile alone would reach beyond 0 and 1."""
    random = np.random.default_rng(0)
    hits_SQ = (random.random((2, 80)) < np.array([[0.5], [0.9]])).astype(float)
    assert recall_interval(hits_SQ, np.repeat(np.arange(40), 2)) == (0.0, 1.0)
