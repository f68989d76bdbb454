"""Expected ranks in smaller galleries against all galleries there are."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mohs.evaluation.gallery_size import expected_ranks


@given(num_classes=st.integers(1, 9), data=st.data())
def test_expectations_are_means_over_all_galleries(num_classes, data):
    wrong = data.draw(st.integers(0, num_classes - 1))
    size = data.draw(st.integers(1, num_classes))
    # Others 0 … w − 1 are not farther than the query's own class.
    galleries = list(itertools.combinations(range(num_classes - 1), size - 1))
    nearer = np.array([sum(other < wrong for other in gallery) for gallery in galleries])
    hit, rank = expected_ranks(np.array([wrong]), num_classes, size)
    assert hit[0] == pytest.approx((nearer == 0).mean())
    assert rank[0] == pytest.approx((1 / (1 + nearer)).mean())


def test_the_whole_gallery_is_what_was_measured():
    wrong_Q = np.array([0, 1, 3, 999])
    hit, rank = expected_ranks(wrong_Q, 1000, 1000)
    assert hit.tolist() == [1.0, 0.0, 0.0, 0.0]
    assert rank == pytest.approx(1 / (1 + wrong_Q))


def test_more_classes_are_harder():
    wrong_Q = np.arange(50)
    found = [expected_ranks(wrong_Q, 60, size) for size in (2, 5, 20, 60)]
    for (hit, rank), (next_hit, next_rank) in itertools.pairwise(found):
        assert (hit >= next_hit).all()
        assert (rank >= next_rank - 1e-12).all()
        assert hit.mean() > next_hit.mean()
