"""A plan driven by torch and pytorch-metric-learning: nothing lost, nothing added, the order as told."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_metric_learning.losses import ContrastiveLoss, CrossBatchMemory, MultipleLosses, TripletMarginLoss
from torch.utils.data import DataLoader, Dataset

from mohs.errors import InputError
from mohs.plan import TripletPlan
from mohs.training.losses.plan_losses import TripletLoss
from mohs.training.plan_drivers import PlanMiner, PlanSampler
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
