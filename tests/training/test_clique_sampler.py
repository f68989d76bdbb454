"""The sampler: a pass shows each class once, near classes together, and the same again when asked again."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import mohs
from mohs.errors import InputError

LABELS = np.repeat(np.arange(40), 3)
# Classes 0 … 39 on a line, in fives far apart from each other.
PLACE = np.arange(40) % 5 + 100.0 * (np.arange(40) // 5)
BANK = (PLACE[LABELS] + 0.01 * np.tile(np.arange(3), 40))[:, None].astype(np.float32)


def test_a_pass_shows_every_class_once_with_a_positive() -> None:
    sampler = mohs.NeighbourhoodSampler(LABELS, 8, size=5, seed=3)
    for number, bank in ((0, None), (1, BANK), (5, BANK)):
        sampler.set_pass(number, bank)
        batches = list(sampler)
        assert len(batches) == len(sampler) == 5
        assert batches == list(sampler)
        anchors = np.concatenate([np.array(batch).reshape(2, -1)[0] for batch in batches])
        positives = np.concatenate([np.array(batch).reshape(2, -1)[1] for batch in batches])
        assert sorted(LABELS[anchors].tolist()) == list(range(40))
        np.testing.assert_array_equal(LABELS[anchors], LABELS[positives])
        assert (anchors != positives).all()


def test_near_classes_are_together_only_with_embeddings() -> None:
    sampler = mohs.NeighbourhoodSampler(LABELS, 5, size=5)
    num_fives = []
    for bank in (None, BANK):
        sampler.set_pass(1, bank)
        num_fives.append(sum(len(set((LABELS[batch] // 5).tolist())) == 1 for batch in sampler))
    assert num_fives == [0, 8]


def test_passes_and_seeds_differ() -> None:
    sampler, other = (mohs.NeighbourhoodSampler(LABELS, 8, seed=seed) for seed in (0, 1))
    first = list(sampler)
    sampler.set_pass(1)
    assert list(sampler) != first != list(other)


def test_in_a_loader() -> None:
    dataset = TensorDataset(torch.arange(120), torch.from_numpy(LABELS))
    loader = DataLoader(dataset, batch_sampler=mohs.NeighbourhoodSampler(LABELS, 8))
    seen = torch.cat([classes for _, classes in loader])
    assert torch.bincount(seen).tolist() == [2] * 40


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_classes": 1}, "batch_classes: 1 is not a whole number of at least 2"),
        ({"size": 0}, "size: 0 is not a whole number of at least 1"),
        ({"hardness": 1.5}, "hardness: 1.5 is not a number in [0, 1]"),
        ({"labels_N": ["a", "a"]}, "labels_N: 1 class; give items of two classes or more"),
        ({"labels_N": []}, "labels_N: shape (0,) is not [N] with N >= 1; give one label per item"),
    ],
)
def test_wrong_numbers(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as error:
        mohs.NeighbourhoodSampler(**{"labels_N": LABELS, "batch_classes": 8, **change})  # type: ignore[arg-type]
    assert str(error.value) == message


def test_a_bank_of_other_items() -> None:
    with pytest.raises(InputError, match=r"^embeddings_ND: 3 rows for 120 labels; give one row per item$"):
        mohs.NeighbourhoodSampler(LABELS, 8).set_pass(0, BANK[:3])
