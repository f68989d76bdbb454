"""Embeddings with their classes, and R@1 of them."""

import numpy as np
import pytest

from mohs.errors import InputError
from mohs.evaluation.embedded import Embedded, hits_at_1


def of(x_ND, labels):
    return Embedded.of(x_ND, labels, source="x.npy")


@pytest.mark.parametrize("farthest", [False, True])
@pytest.mark.parametrize("same_items", [False, True])
def test_hits_equal_brute_force(farthest, same_items):
    random = np.random.default_rng(3)
    # Few values, so that distances tie.
    gallery = of(random.integers(0, 4, (60, 2)).astype(float), random.integers(0, 8, 60))
    queries = gallery if same_items else of(random.integers(0, 4, (700, 2)).astype(float), random.integers(0, 10, 700))
    hit_Q, counted_Q = hits_at_1(queries, gallery, same_items=same_items, farthest=farthest)
    for q in range(len(queries)):
        square_G = ((queries.x_ND[q] - gallery.x_ND) ** 2).sum(axis=1)
        own_G = gallery.labels == queries.labels[q]
        others = square_G[~own_G]
        if same_items:
            own_G = own_G & (np.arange(60) != q)
        assert counted_Q[q] == own_G.any()
        expected = False
        if own_G.any():
            own = square_G[own_G]
            expected = own.max() > others.max() if farthest else own.min() < others.min()
        assert hit_Q[q] == expected, q


def test_a_sample_takes_whole_classes():
    embedded = of(np.arange(200.0)[:, None], np.repeat(np.arange(50), 4))
    items = embedded.sample_items(seed=0, max_items=30)
    assert len(items) == 32
    assert (np.bincount(embedded.codes[items])[np.unique(embedded.codes[items])] == 4).all()
    assert embedded.sample_items(seed=1, max_items=30).tolist() != items.tolist()
    assert embedded.sample_items(seed=0, max_items=200).tolist() == list(range(200))


def test_embeddings_that_cannot_be_taken():
    with pytest.raises(InputError, match=r"^labels of x.npy: 3 labels for 2 embeddings; give one label for each row$"):
        of(np.ones((2, 2)), [1, 2, 3])
    with pytest.raises(InputError, match=r"^x.npy: row 1 holds NaN, Inf or "):
        of([[1.0], [np.nan]], [1, 2])
