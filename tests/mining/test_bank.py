import numpy as np
import pytest

from mohs.mining.bank import TILE, centred_bank
from mohs.mining.problem import Hardness, make_problem


def problem_of(bank, candidates=None):
    labels = np.arange(len(bank))
    return make_problem(
        bank,
        labels,
        anchors_T=[0],
        wanted=Hardness(0.5, "range"),
        candidates=candidates,
    )


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e18])
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_keys_are_within_their_error_of_what_the_distances_imply(size, offset):
    rng = np.random.default_rng(0)
    bank = ((rng.normal(size=(1300, 40)) * 1e-3 + offset) * size).astype(np.float32)
    candidates = np.arange(0, 1300, 2)
    problem = problem_of(bank, candidates)
    centred = centred_bank(problem, 2)
    anchors = np.arange(1, 1300, 7)
    rows = centred.rows(anchors)
    keys = np.concatenate([rows @ tile for tile in centred.tiles], axis=1)
    keys = (centred.half_norm_M - keys).astype(np.float64)

    difference = bank[anchors].astype(np.float64)[:, None] - bank[candidates].astype(np.float64)[None]
    distance = np.sqrt((difference**2).sum(axis=2)).astype(np.float32).astype(np.float64)
    half_norm = (rows.astype(np.float64) ** 2).sum(axis=1) / 2
    error = centred.frame.key_error(np.sqrt(2 * half_norm))
    assert (np.abs(keys - centred.frame.key_of(distance, half_norm[:, None])) <= error[:, None]).all()
    assert (np.abs(keys) <= centred.frame.key_bound(np.sqrt(2 * half_norm))[:, None]).all()

    mean, spread = centred.key_moments(rows)
    np.testing.assert_allclose(mean, keys.mean(axis=1), rtol=1e-3, atol=1e-3 * np.abs(keys).max())
    np.testing.assert_allclose(spread, keys.std(axis=1), rtol=1e-3)


def test_a_collapsed_bank_is_as_sharp_as_a_healthy_one():
    """What the product may be off by is relative to the spread of the bank, not to its distance from the origin."""
    rng = np.random.default_rng(0)
    healthy = rng.normal(size=(500, 16))
    sharpness = []
    for bank in (healthy, 1.0 + healthy * 1e-4):
        centred = centred_bank(problem_of(bank.astype(np.float32)), 1)
        sharpness.append(centred.frame.key_error(np.array([centred.frame.max_norm]))[0] / centred.frame.max_norm**2)
    assert sharpness[1] == pytest.approx(sharpness[0], rel=1e-3)
    assert sharpness[0] < 1e-5


def test_tiles_hold_every_candidate_once():
    bank = np.random.default_rng(0).normal(size=(2 * TILE + 3, 4)).astype(np.float32)
    centred = centred_bank(problem_of(bank), 1)
    assert [tile.shape for tile in centred.tiles] == [(4, TILE), (4, TILE), (4, 3)]
    together = np.concatenate(centred.tiles, axis=1).T
    np.testing.assert_array_equal(together, centred.rows(np.arange(len(bank))))
    np.testing.assert_allclose(together.mean(axis=0), 0, atol=1e-6)
    assert np.linalg.norm(together, axis=1).max() <= centred.frame.max_norm <= 1
