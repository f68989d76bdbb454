"""From a plan to batches: nothing lost, nothing twice, the order as told."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mohs.errors import InputError
from mohs.training.plan_segment import batch_slices, neighbourhood_order, segment_bounds

CLASSES = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=60)


@given(CLASSES, st.integers(1, 8))
def test_neighbourhood_order_is_a_permutation(classes: list[tuple[int, int]], size: int) -> None:
    order = neighbourhood_order([a for a, _ in classes], [n for _, n in classes], size)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(len(classes)))


@given(CLASSES)
def test_size_one_keeps_the_order(classes: list[tuple[int, int]]) -> None:
    order = neighbourhood_order([a for a, _ in classes], [n for _, n in classes], 1)
    assert order.tolist() == list(range(len(classes)))


@given(CLASSES, st.integers(2, 8))
def test_neighbourhoods_follow_the_rule(classes: list[tuple[int, int]], size: int) -> None:
    """Step by step: the first waiting triplet of the last negative's class, or else the first waiting one."""
    order = neighbourhood_order([a for a, _ in classes], [n for _, n in classes], size).tolist()
    waiting = list(range(len(classes)))
    together = 0
    for place, t in enumerate(order):
        negative = classes[order[place - 1]][1] if place else None
        linked = [w for w in waiting if classes[w][0] == negative]
        if 0 < together < size and linked:
            assert t == linked[0]
            together += 1
        else:
            assert t == waiting[0]
            together = 1
        waiting.remove(t)


def test_classes_that_name_each_other_stand_together() -> None:
    """60 classes in pairs, one pass each: with size 2 every pair is together, though the plan had them far apart."""
    rng = np.random.default_rng(0)
    anchor = rng.permutation(60)
    ordered = anchor[neighbourhood_order(anchor, anchor ^ 1, 2)]
    assert np.array_equal(ordered[0::2] ^ 1, ordered[1::2])


def test_columns_of_different_length() -> None:
    with pytest.raises(InputError, match=r"^negative_class_T: 1 values for 2 anchors; give one per triplet$"):
        neighbourhood_order([0, 1], [1], 2)


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
