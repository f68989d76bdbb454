"""A map of what makes two pictures alike shows the part that does, and its deletion test tells a map from noise."""

import numpy as np
import pytest

from mohs.model.occlusion import occlusion


def corner_embedder(pictures):
    """See the mean of the upper left corner, and the rest but for a little."""
    x = pictures.astype(np.float64).mean(axis=3) / 255
    seen = np.stack([x[:, :8, :8].mean(axis=(1, 2)), 0.1 + 0.01 * x[:, 8:].mean(axis=(1, 2))], axis=1)
    return (seen / np.linalg.norm(seen, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def picture():
    pixels = np.zeros((32, 32, 3), dtype=np.uint8)
    pixels[:8, :8] = 255
    return pixels


def test_the_part_that_counts_is_marked(picture):
    other = corner_embedder(picture[None])[0]
    found = occlusion(corner_embedder, picture, other)
    assert found.similarity == pytest.approx(1)
    assert found.cost_GG.shape == (8, 8)
    assert set(np.flatnonzero(found.cost_GG.ravel() > 0.3 * found.cost_GG.max()).tolist()) <= {
        0,
        1,
        2,
        8,
        9,
        10,
        16,
        17,
        18,
    }
    assert found.cost_GG.argmax() in (0, 1, 8, 9)
    assert found.marked_cost > 0.1
    assert found.marked_cost > 3 * found.random_cost


def test_a_network_that_sees_nothing_has_no_map(picture):
    def blind(pictures):
        return np.tile(np.array([[1.0, 0.0]], dtype=np.float32), (len(pictures), 1))

    found = occlusion(blind, picture, np.array([1.0, 0.0], dtype=np.float32))
    assert np.abs(found.cost_GG).max() == 0
    assert (found.marked_cost, found.random_cost) == (0, 0)


def test_what_tells_them_apart_costs_less_than_nothing(picture):
    other = np.array([0.0, 1.0], dtype=np.float32)
    found = occlusion(corner_embedder, picture, other)
    # Hiding the corner makes the picture more like one that has none.
    assert found.cost_GG[0, 0] < 0
    assert occlusion(corner_embedder, picture, other, seed=1).random_cost != found.random_cost
