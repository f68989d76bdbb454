"""Nearest items against a comparison with every item."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mohs.distances import exact_distance
from mohs.index.exact_search import Vectors, nearest_items


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    num_items=st.integers(1, 200),
    dim=st.integers(1, 20),
    num=st.integers(1, 30),
    levels=st.integers(1, 6),
    filtered=st.booleans(),
)
def test_as_defined_with_ties_and_filters(seed, num_items, dim, num, levels, filtered):
    random = np.random.default_rng(seed)
    # Few levels make many ties.
    x_ND = random.integers(-levels, levels + 1, (num_items + 3, dim)).astype(np.float32)
    x_ND[:, 0] += np.where((x_ND == 0).all(axis=1), 1, 0)
    x_ND /= np.linalg.norm(x_ND, axis=1, keepdims=True)
    vectors = Vectors(np.arange(num_items).astype(object), np.zeros(num_items, dtype=object), x_ND[:num_items])
    allowed = random.random((1, num_items)) < 0.4 if filtered else None
    for query_D, (items, distance) in zip(
        x_ND[num_items:], nearest_items(vectors, x_ND[num_items:], num, allowed_QN=allowed), strict=True
    ):
        every = exact_distance(vectors.x_ND, np.tile(query_D, (num_items, 1)))
        expected = [i for i in np.argsort(every, kind="stable").tolist() if allowed is None or allowed[0, i]][:num]
        assert items.tolist() == expected
        assert distance.tolist() == every[expected].tolist()
