"""All strategies take the same steps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mohs.compare.budget import Budget, common_segments, trial_budget, whole_budget
from mohs.compare.strategies import STRATEGIES
from mohs.errors import InputError
from mohs.training.plan_segment import batch_slices, segment_bounds


@given(
    pictures=st.integers(60, 100_000),
    batch=st.integers(6, 600),
    segments=st.integers(1, 10),
    cycles=st.integers(1, 10),
    num_classes=st.integers(3, 5000),
)
def test_a_run_in_segments_takes_the_steps_of_a_plain_loop(pictures, batch, segments, cycles, num_classes):
    count = -(-segments // cycles) * cycles
    if pictures < 6 * count:
        return
    budget = whole_budget(pictures, batch, count, num_classes=num_classes)
    assert 0 < budget.num_pictures <= pictures
    assert budget.num_steps * budget.batch_pictures == budget.num_pictures
    assert budget.batch_pictures <= min(batch, 2 * num_classes)
    # Half of the pictures, or half of the batch, is the most that is lost.
    largest = min(batch, 2 * num_classes, pictures // count) // 6 * 6
    assert budget.num_pictures * budget.batch_pictures * 2 > pictures * largest - 12 * budget.num_steps * largest
    for shown in (2, 3):
        triplets, own_batch = budget.num_pictures // shown, budget.batch_pictures // shown
        bounds = segment_bounds(triplets, segments, cycles)
        sizes = [piece.stop - piece.start for a, b in bounds for piece in batch_slices(b - a, own_batch)]
        assert sizes == [own_batch] * budget.num_steps


@given(steps=st.integers(1, 200), segments=st.integers(1, 10), share=st.floats(0.01, 1.0))
def test_a_trial_has_steps_of_the_same_size_in_whole_segments(steps, segments, share):
    budget = Budget(steps * segments * 48, 48)
    trial = trial_budget(budget, share, segments)
    assert trial.batch_pictures == 48
    assert trial.num_steps % segments == 0
    assert segments <= trial.num_steps <= budget.num_steps
    assert trial_budget(budget, 1.0, segments) == budget


def test_segments_of_all_strategies_go_into_the_steps():
    strategies = list(STRATEGIES.values())
    assert common_segments(strategies, {"training.num_segments": 4}) == 20  # ten cycles, four segments
    assert common_segments([STRATEGIES["default"]], {"training.num_segments": 4}) == 4
    assert common_segments([STRATEGIES["random"], STRATEGIES["online supcon"]], {"training.num_segments": 4}) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (59, 192, 10, 100),
            "--pictures: 59 are too few: each of 10 segments needs 6; give 60 or more, or lower training.num_segments",
        ),
        ((600, 192, 10, 2), "2 classes to train on at once; a comparison needs 3 or more"),
        ((600, 4, 10, 100), "training.batch_triplets: 2 is below 3; a step of a comparison shows 6 pictures or more"),
    ],
)
def test_too_little_for_a_step_is_refused(arguments, message):
    *numbers, num_classes = arguments
    with pytest.raises(InputError) as caught:
        whole_budget(*numbers, num_classes=num_classes)
    assert caught.value.problems == (message,)
