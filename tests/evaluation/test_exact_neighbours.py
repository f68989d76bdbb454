import numpy as np
import pytest

from mohs.errors import InputError
from mohs.evaluation import exact_neighbours as module
from mohs.evaluation.exact_neighbours import nearest_items, nearest_negatives


def every_negative(x, labels):
    """[i, j] of all pairs of two classes, closest first."""
    rows = []
    for i in range(len(x)):
        for j in range(i + 1, len(x)):
            if labels[i] != labels[j]:
                difference = x[i].astype(np.float64) - x[j].astype(np.float64)
                rows.append((float(np.float32(np.sqrt((difference**2).sum()))), i, j))
    return [[i, j] for _, i, j in sorted(rows)]


@pytest.mark.parametrize("tile", [7, 64])
def test_they_are_the_closest_of_all(monkeypatch, tile):
    monkeypatch.setattr(module, "_TILE", tile)
    for seed in range(6):
        random = np.random.default_rng(seed)
        x = random.normal(size=(60, 3)).astype(np.float32) + 100 * (seed % 2)
        labels = random.integers(0, 6, 60)
        assert nearest_negatives(x, labels, 40).tolist() == every_negative(x, labels)[:40]


def test_ties_break_on_the_indices_and_there_are_never_more_pairs_than_there_are():
    x = np.repeat(np.float32([[0.0], [1.0], [3.0]]), 4, axis=0)
    found = nearest_negatives(x, np.arange(12), 1000)
    assert len(found) == 66
    assert found.tolist() == every_negative(x, np.arange(12))


def test_small_distances_far_from_zero_are_told_apart():
    # Products of rows of length 10^4 lose distances of 10^-3; centred rows do not.
    random = np.random.default_rng(0)
    x = 1e4 + 1e-3 * random.normal(size=(300, 4))
    expected = sorted((np.linalg.norm(x[i] - x[j]), i, j) for i in range(300) for j in range(i + 1, 300))[:20]
    assert nearest_negatives(x, np.arange(300), 20).tolist() == [[i, j] for _, i, j in expected]


def test_a_collapsed_bank_costs_no_more(monkeypatch):
    sizes = []
    exact = module.exact_distance
    monkeypatch.setattr(module, "exact_distance", lambda a, b: (sizes.append(len(a)), exact(a, b))[1])
    assert len(nearest_negatives(np.ones((3000, 8)), np.arange(3000), 500)) == 500
    assert sum(sizes) <= 500 + 500 // 8 + 64


@pytest.mark.parametrize(
    ("x", "labels", "message"),
    [
        ([[0.0]], [0], "embeddings_ND: no negative pair among 1 items"),
        ([[0.0], [1.0]], [0, 0], "embeddings_ND: no negative pair among 2 items"),
        (
            [[0.0], [np.nan]],
            [0, 1],
            "embeddings_ND: row 1 holds NaN, Inf or is longer than 1e+18 (1 of 2 rows do); "
            "every embedding must be finite",
        ),
    ],
)
def test_messages(x, labels, message):
    with pytest.raises(InputError) as caught:
        nearest_negatives(x, labels, 5)
    assert str(caught.value) == message
    with pytest.raises(InputError, match="num_pairs: 0 is not a whole number of at least 1; use for example 1000"):
        nearest_negatives([[0.0], [1.0]], [0, 1], 0)


def test_nearest_items_equal_brute_force():
    random = np.random.default_rng(0)
    x_ND = random.normal(size=(50, 7))
    x_ND[10] = x_ND[3]
    unit_ND = x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True)
    similarity_NN = unit_ND @ unit_ND.T
    np.fill_diagonal(similarity_NN, -np.inf)
    found_NK = nearest_items(x_ND, 5)
    assert not (found_NK == np.arange(50)[:, None]).any()  # not even the item with a copy is its own neighbour
    assert (found_NK[10, 0], found_NK[3, 0]) == (3, 10)
    # Copies tie, so similarities are compared and not items.
    of_found_NK = np.take_along_axis(similarity_NN, found_NK, axis=1)
    np.testing.assert_allclose(of_found_NK, -np.sort(-similarity_NN, axis=1)[:, :5], atol=1e-6)
    query_N = random.random(50) < 0.2
    similarity_NN[query_N[:, None] == query_N] = -np.inf
    of_found_NK = np.take_along_axis(similarity_NN, nearest_items(x_ND, 5, query_N=query_N), axis=1)
    np.testing.assert_allclose(of_found_NK, -np.sort(-similarity_NN, axis=1)[:, :5], atol=1e-6)
    assert nearest_items(x_ND[:3], 4).tolist()[0][2:] == [-1, -1]
