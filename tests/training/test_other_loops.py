"""Samplers and the miner in other loops: nothing lost, nothing added, the order as told, and misuse named."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_metric_learning.losses import ContrastiveLoss, CrossBatchMemory, MultipleLosses, TripletMarginLoss
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler, TensorDataset

import mohs
from mohs.errors import InputError
from mohs.plan import TripletPlan
from mohs.training.losses.plan_losses import TripletLoss
from mohs.training.other_loops import PlanMiner, PlanSampler
from mohs.training.plan_segment import batch_slices

CLASS_N = np.arange(60) // 2


def random_plan(num_triplets: int, seed: int = 0) -> TripletPlan:
    rng = np.random.default_rng(seed)
    anchor = rng.integers(0, 60, num_triplets)
    return TripletPlan.of(anchor, anchor ^ 1, (anchor // 2 * 2 + 2 * rng.integers(1, 30, num_triplets)) % 60)


def columns(plan: TripletPlan) -> np.ndarray:
    return np.stack([plan.anchor, plan.positive, plan.negative])


@given(st.integers(1, 300), st.integers(1, 70))
def test_batches_are_the_plan(num: int, batch: int) -> None:
    plan = random_plan(num)
    sampler = PlanSampler(plan, batch)
    batches = list(sampler)
    assert len(sampler) == len(batches) == len(batch_slices(num, batch))
    assert all(type(i) is int for items in batches for i in items)  # what torch's datasets expect
    assert max(map(len, batches)) <= 3 * batch
    assert np.array_equal(np.concatenate([np.reshape(items, (3, -1)) for items in batches], axis=1), columns(plan))
    assert list(sampler) == batches


@given(st.integers(1, 300), st.integers(1, 70), st.integers(1, 5))
def test_ranks_divide_each_batch_between_them(num: int, batch: int, ranks: int) -> None:
    plan = random_plan(num)
    try:
        samplers = [PlanSampler(plan, batch, rank=rank, num_ranks=ranks) for rank in range(ranks)]
    except InputError:
        assert min(s.stop - s.start for s in batch_slices(num, batch)) < ranks
        return
    assert len({len(sampler) for sampler in samplers}) == 1
    for whole, *parts in zip(PlanSampler(plan, batch), *samplers, strict=True):
        divided = [np.reshape(part, (3, -1)) for part in parts]
        assert all(part.shape[1] >= 1 for part in divided)
        assert max(part.shape[1] for part in divided) - min(part.shape[1] for part in divided) <= 1
        assert np.array_equal(np.concatenate(divided, axis=1), np.reshape(whole, (3, -1)))


def test_the_next_plan_begins_with_the_next_iteration() -> None:
    first, second = random_plan(10, seed=1), random_plan(7, seed=2)
    sampler = PlanSampler(first, 4)
    under_way = iter(sampler)
    got = [next(under_way)]
    sampler.set_plan(second)
    got += under_way
    assert np.array_equal(np.concatenate([np.reshape(items, (3, -1)) for items in got], axis=1), columns(first))
    assert np.array_equal(np.concatenate([np.reshape(items, (3, -1)) for items in sampler], axis=1), columns(second))
    assert len(sampler) == 2


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        ({"batch_triplets": 0}, ["batch_triplets: 0 is not a whole number of at least 1"]),
        ({"batch_triplets": 2.0}, ["batch_triplets: 2.0 is not a whole number of at least 1"]),
        ({"rank": 2, "num_ranks": 2}, ["rank: 2 is not in [0, 2); processes are numbered from 0"]),
        ({"rank": -1, "num_ranks": 2}, ["rank: -1 is not in [0, 2); processes are numbered from 0"]),
        (
            {"batch_triplets": -1, "num_ranks": 0},
            [
                "batch_triplets: -1 is not a whole number of at least 1",
                "num_ranks: 0 is not a whole number of at least 1",
            ],
        ),
        (
            {"num_ranks": 5},
            [
                "batch_triplets: 4 gives batches of 3 triplets from a plan of 10, fewer than 5 processes; "
                "use more triplets a batch"
            ],
        ),
        ({"plan": TripletPlan.of([], [], [])}, ["plan: has no triplets; mine a plan with one or more"]),
    ],
)
def test_what_cannot_be_sampled_is_refused(change: dict[str, object], messages: list[str]) -> None:
    arguments: dict[str, object] = {"plan": random_plan(10), "batch_triplets": 4, **change}
    with pytest.raises(InputError) as refusal:
        PlanSampler(**arguments)  # type: ignore[arg-type]
    assert list(refusal.value.problems) == messages


class Items(Dataset[tuple[torch.Tensor, int]]):
    """Item i is a vector that depends on i."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.x_ND = torch.nn.functional.normalize(torch.randn(60, 5, generator=generator), dim=1)

    def __len__(self) -> int:
        return 60

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.x_ND[index], int(CLASS_N[index])


def test_the_library_trains_on_the_plans_triplets_and_no_others() -> None:
    """Its triplet loss with this miner is ours on the plan's rows."""
    items, plan, miner = Items(), random_plan(50), PlanMiner()
    library = TripletMarginLoss(margin=0.3)
    start = 0
    for x, classes in DataLoader(items, batch_sampler=PlanSampler(plan, 8)):
        batch = plan.take(slice(start, start + len(x) // 3))
        start += len(batch)
        parts = [items.x_ND[i] for i in (batch.anchor, batch.positive, batch.negative)]
        ours = TripletLoss(margin=0.3, squared=False)(*parts, classes[: len(batch)])
        # The library averages over active triplets only.
        expected = float(ours.loss) / max(float(ours.active_fraction), 1e-9)
        assert float(library(x, classes, miner(x, classes))) == pytest.approx(expected, abs=1e-5)
        wrong = float(library(x, classes))  # all triplets of the batch
        assert wrong != pytest.approx(expected, abs=1e-3)
    assert start == 50


def test_it_is_a_miner_wherever_the_library_takes_one() -> None:
    items = Items()
    x, classes = next(iter(DataLoader(items, batch_sampler=PlanSampler(random_plan(8), 8))))
    miner = PlanMiner()
    alone = TripletMarginLoss()(x, classes, miner(x, classes))
    assert float(MultipleLosses([TripletMarginLoss()], miners=[miner])(x, classes)) == pytest.approx(float(alone))
    assert float(ContrastiveLoss()(x, classes, miner(x, classes))) > 0  # a loss of pairs
    assert all(part.dtype == torch.int64 for part in miner(x, classes))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            [0, 1, 2, 3],
            "embeddings: 4 rows are not anchors, positives and negatives; "
            "use PlanSampler as the batch_sampler and pass its batches on whole",
        ),
        (
            [0, 1, 0, 2, 3, 3],
            "labels: triplet 1 has the classes 1, 2 and 3, not a, a and b: the batch is not in plan order; "
            "use PlanSampler as the batch_sampler and pass its batches on whole",
        ),
        (
            [0, 1, 0, 1, 0, 3],
            "labels: triplet 0 has the classes 0, 0 and 0, not a, a and b: the batch is not in plan order; "
            "use PlanSampler as the batch_sampler and pass its batches on whole",
        ),
    ],
)
def test_batches_in_another_order_are_refused(labels: list[int], message: str) -> None:
    with pytest.raises(InputError) as refusal:
        PlanMiner()(torch.zeros(len(labels), 3), torch.tensor(labels))
    assert refusal.value.problems == (message,)


def test_a_memory_bank_is_refused() -> None:
    x, labels = torch.eye(6), torch.tensor([0, 1, 0, 1, 2, 2])
    with pytest.raises(InputError, match=r"^ref_emb: a plan's triplets lie within the batch; leave ref_emb out$"):
        CrossBatchMemory(TripletMarginLoss(), embedding_size=6, miner=PlanMiner())(x, labels)


LABEL_N = np.repeat(np.arange(40), 3)
# Classes 0 … 39 on a line, in fives far apart from each other.
PLACE = np.arange(40) % 5 + 100.0 * (np.arange(40) // 5)
BANK = (PLACE[LABEL_N] + 0.01 * np.tile(np.arange(3), 40))[:, None].astype(np.float32)


def test_a_pass_shows_every_class_once_with_a_positive() -> None:
    sampler = mohs.NeighbourhoodSampler(LABEL_N, 8, size=5, seed=3)
    for number, bank in ((0, None), (1, BANK), (5, BANK)):
        sampler.set_pass(number, bank)
        batches = list(sampler)
        assert len(batches) == len(sampler) == 5
        assert batches == list(sampler)
        anchors = np.concatenate([np.array(batch).reshape(2, -1)[0] for batch in batches])
        positives = np.concatenate([np.array(batch).reshape(2, -1)[1] for batch in batches])
        assert sorted(LABEL_N[anchors].tolist()) == list(range(40))
        np.testing.assert_array_equal(LABEL_N[anchors], LABEL_N[positives])
        assert (anchors != positives).all()


def test_near_classes_are_together_only_with_embeddings() -> None:
    sampler = mohs.NeighbourhoodSampler(LABEL_N, 5, size=5)
    num_fives = []
    for bank in (None, BANK):
        sampler.set_pass(1, bank)
        num_fives.append(sum(len(set((LABEL_N[batch] // 5).tolist())) == 1 for batch in sampler))
    assert num_fives == [0, 8]


def test_passes_and_seeds_differ() -> None:
    sampler, other = (mohs.NeighbourhoodSampler(LABEL_N, 8, seed=seed) for seed in (0, 1))
    first = list(sampler)
    sampler.set_pass(1)
    assert list(sampler) != first != list(other)


def test_in_a_loader() -> None:
    dataset = TensorDataset(torch.arange(120), torch.from_numpy(LABEL_N))
    loader = DataLoader(dataset, batch_sampler=mohs.NeighbourhoodSampler(LABEL_N, 8))
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
        mohs.NeighbourhoodSampler(**{"labels_N": LABEL_N, "batch_classes": 8, **change})  # type: ignore[arg-type]
    assert str(error.value) == message


def test_a_bank_of_other_items() -> None:
    with pytest.raises(InputError, match=r"^embeddings_ND: 3 rows for 120 labels; give one row per item$"):
        mohs.NeighbourhoodSampler(LABEL_N, 8).set_pass(0, BANK[:3])


PAIR_LABELS = np.repeat(np.arange(6), 2)
PAIRS = TensorDataset(torch.arange(12), torch.from_numpy(PAIR_LABELS))
THREE = mohs.TripletPlan.of([0, 2, 4], [1, 3, 5], [2, 4, 0])


@pytest.mark.parametrize("sampler", [mohs.PlanSampler(THREE, 2), mohs.NeighbourhoodSampler(PAIR_LABELS, 3)])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_batch_sampler_as_sampler_is_told(sampler: Sampler[list[int]], batch_size: int) -> None:
    # Workers make no difference, samplers are read by the loader; but torch leaves theirs in disorder when it raises.
    loader = DataLoader(PAIRS, sampler=sampler, batch_size=batch_size)
    with pytest.raises(InputError) as refusal:
        next(iter(loader))
    assert refusal.value.problems == (
        f"sampler: {type(sampler).__name__} yields batches, and was given as the sampler of single items; give it as "
        "batch_sampler: DataLoader(dataset, batch_sampler=...), without batch_size and shuffle",
    )


@pytest.mark.parametrize("sampler", [mohs.PlanSampler(THREE, 2), mohs.NeighbourhoodSampler(PAIR_LABELS, 3)])
def test_every_right_use_goes_on(sampler: Sampler[list[int]]) -> None:
    whole = list(sampler)
    assert [items.tolist() for items, _ in DataLoader(PAIRS, batch_sampler=sampler)] == whole
    # Without batches of its own a loader passes on what the sampler yields.
    assert [items.tolist() for items, _ in DataLoader(PAIRS, sampler=sampler, batch_size=None)] == whole
    assert next(iter(BatchSampler(range(3), 2, drop_last=False))) == [0, 1]
