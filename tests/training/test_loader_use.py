"""Batch samplers given to a loader: rightly, and as the sampler of single items."""

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, Sampler, TensorDataset

import mohs
from mohs.errors import InputError

LABELS = np.repeat(np.arange(6), 2)
DATASET = TensorDataset(torch.arange(12), torch.from_numpy(LABELS))
PLAN = mohs.TripletPlan.of([0, 2, 4], [1, 3, 5], [2, 4, 0])


@pytest.mark.parametrize("sampler", [mohs.PlanSampler(PLAN, 2), mohs.NeighbourhoodSampler(LABELS, 3)])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_batch_sampler_as_sampler_is_told(sampler: Sampler[list[int]], batch_size: int) -> None:
    # Workers make no difference, samplers are read by the loader; but torch leaves theirs in disorder when it raises.
    loader = DataLoader(DATASET, sampler=sampler, batch_size=batch_size)
    with pytest.raises(InputError) as refusal:
        next(iter(loader))
    assert refusal.value.problems == (
        f"sampler: {type(sampler).__name__} yields batches, and was given as the sampler of single items; give it as "
        "batch_sampler: DataLoader(dataset, batch_sampler=...), without batch_size and shuffle",
    )


@pytest.mark.parametrize("sampler", [mohs.PlanSampler(PLAN, 2), mohs.NeighbourhoodSampler(LABELS, 3)])
def test_every_right_use_goes_on(sampler: Sampler[list[int]]) -> None:
    whole = list(sampler)
    assert [items.tolist() for items, _ in DataLoader(DATASET, batch_sampler=sampler)] == whole
    # Without batches of its own a loader passes on what the sampler yields.
    assert [items.tolist() for items, _ in DataLoader(DATASET, sampler=sampler, batch_size=None)] == whole
    assert next(iter(BatchSampler(range(3), 2, drop_last=False))) == [0, 1]
