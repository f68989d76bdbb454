"""From a plan to batches: nothing lost, nothing twice, the order as told."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mohs.training.plan_segment import batch_slices, segment_bounds


@given(st.integers(1, 500), st.integers(1, 60), st.integers(1, 12))
def test_segments_tile_the_run_and_cycles_are_whole_segments(num: int, segments: int, cycles: int) -> None:
    bounds = segment_bounds(num, segments, cycles)
    assert bounds[0][0] == 0
    assert bounds[-1][1] == num
    assert all(stop == start for (_, stop), (start, _) in itertools.pairwise(bounds))
    lengths = [stop - start for start, stop in bounds]
    assert min(lengths) >= min(num, 2) >= 1
    assert max(lengths) - min(lengths) <= 1
    wanted = -(-segments // cycles) * cycles
    assert len(bounds) == max(1, min(wanted, num // 2))


@given(st.integers(1, 500), st.integers(1, 60))
def test_batches_tile_the_segment_in_near_equal_lengths(num: int, size: int) -> None:
    slices = batch_slices(num, size)
    assert np.concatenate([np.arange(num)[piece] for piece in slices]).tolist() == list(range(num))
    lengths = [piece.stop - piece.start for piece in slices]
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1
    assert len(slices) == -(-num // size)
