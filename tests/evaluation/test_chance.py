from itertools import combinations

import numpy as np
import pytest

from mohs.evaluation.chance import chance_levels
from mohs.evaluation.retrieval import evaluate_all_against_all, evaluate_retrieval

KS = (1, 2, 4, 9)


@pytest.mark.parametrize(("num_relevant", "num_ranked"), [(1, 1), (1, 5), (2, 6), (3, 6), (5, 6), (6, 6)])
def test_chance_is_the_mean_over_all_orders(num_relevant, num_ranked):
    # Only the places of the relevant items matter, and all sets of places are as likely.
    gallery = np.arange(1, num_ranked + 1)[:, None]
    each = []
    for places in combinations(range(num_ranked), num_relevant):
        labels = np.isin(np.arange(num_ranked), places).astype(int)
        each.append(evaluate_retrieval([[0.0]], [1], gallery, labels, ks=KS).metrics)
    found = chance_levels(np.array([num_relevant]), np.array([num_ranked]), KS)
    assert list(found) == list(each[0])
    for name, value in found.items():
        assert value == pytest.approx(np.mean([metrics[name] for metrics in each]), abs=1e-12), name


def test_chance_is_a_mean_over_queries():
    R, M = np.array([1, 1, 3]), np.array([9, 9, 8])
    both = chance_levels(R, M, KS)
    one, other = chance_levels(R[:1], M[:1], KS), chance_levels(R[2:], M[2:], KS)
    for name, value in both.items():
        assert value == pytest.approx((2 * one[name] + other[name]) / 3)


def test_an_embedding_that_knows_nothing_is_at_chance():
    random = np.random.default_rng(0)
    result = evaluate_all_against_all(random.normal(size=(1500, 6)), random.integers(0, 40, 1500))
    for name, value in result.metrics.items():
        assert value == pytest.approx(result.chance[name], rel=0.15, abs=0.002), name
