import numpy as np
import pytest

from mohs.evaluation.collapse import spread


def unit_rows(n, d, seed=0):
    x = np.random.default_rng(seed).normal(size=(n, d))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_unit_vectors_all_over_the_sphere():
    result = spread(unit_rows(5000, 16))
    assert result.std_sqrt_dim == pytest.approx(1, abs=0.002)
    assert result.effective_rank == pytest.approx(16, abs=0.1)
    assert result.mean_norm == pytest.approx(1)


def test_the_formula():
    x = np.random.default_rng(0).normal(size=(300, 5)) * [3, 1, 1, 0.1, 0.01] + 7
    result = spread(x)
    assert result.std_sqrt_dim == pytest.approx(np.sqrt(x.var(axis=0).sum()))
    share = np.linalg.svd(x - x.mean(axis=0), compute_uv=False) ** 2
    share /= share.sum()
    assert result.effective_rank == pytest.approx(np.exp(-(share * np.log(share)).sum()))


def test_spread_falls_with_collapse_and_rank_with_lost_dimensions():
    x = unit_rows(2000, 32)
    centre = x[0]
    values = []
    for share in (0.0, 0.9, 0.999, 1.0):
        y = share * centre + (1 - share) * x
        values.append(spread(y / np.linalg.norm(y, axis=1, keepdims=True)).std_sqrt_dim)
    assert values[0] > values[1] > values[2] > 0 == values[3]
    flat = x.copy()
    flat[:, 4:] = 0
    assert spread(flat).effective_rank == pytest.approx(4, abs=0.1)


def test_rounding_is_not_spread():
    x = np.tile(unit_rows(1, 64), (100, 1)) + 1e-9 * unit_rows(100, 64)
    assert spread(x).std_sqrt_dim == 0
    assert spread(x).effective_rank == 0
    assert spread(np.zeros((3, 4))).mean_norm == 0
