"""What every run of a comparison is given: pictures, in the same number of equal steps, whatever cuts them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from mohs.compare.strategies import Strategy
from mohs.errors import InputError
from mohs.settings.config import override_config

__all__ = ["Budget", "common_segments", "trial_budget", "whole_budget"]

# A step shows pairs or triplets: both must go into it without a rest.
_WHOLE = 6


@final
@dataclass(frozen=True)
class Budget:
    """Pictures that a strategy shows to the network, and how many a step: the same for all of a comparison."""

    num_pictures: int
    batch_pictures: int = 192

    @property
    def num_steps(self) -> int:
        """How many steps that is."""
        return self.num_pictures // self.batch_pictures


def common_segments(strategies: Sequence[Strategy], settings: Any) -> int:
    """Return a number that the segments of every strategy divide: steps in multiples of it cut no batch short.

    A run of Mohs plans in segments, and a segment is cut into batches of its own: were it no whole number of batches,
    its batches would be smaller and more than those of a library loop. A cycle of a curve is a whole number of
    segments.
    """
    counts = [1]
    for strategy in strategies:
        if strategy.online is None and not strategy.random_negatives:
            config = override_config(None, (), {**settings, **strategy.settings})
            cycles = config.hardness.cycles
            counts.append(math.ceil(config.training.num_segments / cycles) * cycles)
    return math.lcm(*counts)


def whole_budget(num_pictures: int, batch_pictures: int, num_segments: int, *, num_classes: int) -> Budget:
    """Return a budget within `num_pictures` that all strategies spend in the same steps.

    Steps are a multiple of `num_segments`. A batch is a multiple of 6 (pairs and triplets), at most `batch_pictures`
    and at most two pictures of each of `num_classes` classes. So either some pictures are left out, or batches are
    smaller than they might be; it is done in the way that keeps the larger share.

    >>> whole_budget(24_000, 192, 10, num_classes=4000)
    Budget(num_pictures=23040, batch_pictures=192)
    >>> whole_budget(3_800, 192, 10, num_classes=4000)
    Budget(num_pictures=3720, batch_pictures=186)

    Raises `InputError` if that leaves no batch.
    """
    largest = min(batch_pictures, 2 * num_classes) // _WHOLE * _WHOLE
    if num_pictures // num_segments < _WHOLE:
        raise InputError(
            f"--pictures: {num_pictures} are too few: each of {num_segments} segments needs {_WHOLE}; give "
            f"{_WHOLE * num_segments} or more, or lower training.num_segments"
        )
    if largest < _WHOLE and 2 * num_classes < _WHOLE:
        raise InputError(f"{num_classes} classes to train on at once; a comparison needs {_WHOLE // 2} or more")
    if largest < _WHOLE:
        raise InputError(
            f"training.batch_triplets: {batch_pictures // 2} is below {_WHOLE // 2}; a step of a comparison shows "
            f"{_WHOLE} pictures or more"
        )
    # As many batches as there is room for, or one more for each segment with smaller ones: what takes less away.
    rounds = num_pictures // (largest * num_segments)
    smaller = num_pictures // ((rounds + 1) * num_segments) // _WHOLE * _WHOLE
    if rounds == 0 or smaller * num_pictures > rounds * num_segments * largest * largest:
        return Budget((rounds + 1) * num_segments * smaller, smaller)
    return Budget(rounds * num_segments * largest, largest)


def trial_budget(budget: Budget, share: float, num_segments: int) -> Budget:
    """Return the budget of a trial: about `share` of the steps, of the same size, in a multiple of `num_segments`.

    >>> trial_budget(Budget(23_040), 0.25, 10).num_steps
    30
    """
    steps = max(1, round(share * budget.num_steps / num_segments)) * num_segments
    return Budget(steps * budget.batch_pictures, budget.batch_pictures)
