"""In-batch losses: what the library is called with, what a collapsed network pays, and where chance comes from."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_metric_learning import losses, miners
from torch import Tensor, nn

from mohs.errors import TrainingError
from mohs.settings.config import LossConfig
from mohs.training.losses.build import build_loss
from mohs.training.losses.in_batch import InBatchLoss


def unit(seed: int, num: int, dim: int = 6) -> Tensor:
    x = torch.randn(num, dim, generator=torch.Generator().manual_seed(seed))
    return nn.functional.normalize(x, dim=1)


class Recorder(nn.Module):
    """A loss and a miner that note their arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, ...]] = []

    def forward(self, embeddings: Tensor, *others: Any) -> Any:
        self.calls.append((embeddings, *others))
        return ("what the miner found",) if len(others) == 1 else embeddings.sum()


class Broken(nn.Module):
    """A loss that fails."""

    def forward(self, *_: Any) -> Tensor:
        raise IndexError("out of bins\nand more")


def test_loss_and_miner_see_anchors_then_positives_and_their_classes() -> None:
    loss, miner = Recorder(), Recorder()
    a, p, classes = unit(0, 3), unit(1, 3), torch.tensor([5, 2, 5])
    InBatchLoss(loss, miner)(a, p, None, classes)
    for call in (loss.calls[0], miner.calls[0]):
        assert torch.equal(call[0], torch.cat([a, p]))
        assert call[1].tolist() == [5, 2, 5, 5, 2, 5]
    assert loss.calls[0][2] == ("what the miner found",)
    InBatchLoss(loss)(a, p, None, classes)
    assert loss.calls[1][2] is None


def test_a_miner_changes_what_the_loss_sees() -> None:
    """Batch-hard by hand: the triplet loss on each picture's positive and its nearest picture of another class."""
    a, p = unit(0, 8), unit(1, 8)
    x, label = torch.cat([a, p]).double().numpy(), np.tile(np.arange(8), 2)
    distance = np.linalg.norm(x[:, None] - x[None], axis=2)
    terms = []
    for i in range(16):
        positive = distance[i, (i + 8) % 16]
        negative = distance[i, label != label[i]].min()
        terms.append(max(0.0, positive - negative + 0.05))
    config = LossConfig(name="TripletMarginLoss", miner="batch-hard")
    value = build_loss(config)(a, p, None, torch.arange(8))
    assert float(value.loss) == pytest.approx(np.mean([term for term in terms if term > 0]), rel=1e-4)
    unmined = build_loss(LossConfig(name="TripletMarginLoss"))(a, p, None, torch.arange(8))
    assert float(unmined.loss) != pytest.approx(float(value.loss), rel=1e-2)


def test_multi_similarity_is_its_formula() -> None:
    """Wang et al. 2019, eq. 15, without its mining."""
    a, p = unit(0, 6), unit(1, 6)
    x, label = torch.cat([a, p]).double().numpy(), np.tile(np.arange(6), 2)
    similarity = x @ x.T
    terms = []
    for i in range(12):
        own = (label == label[i]) & (np.arange(12) != i)
        pull = math.log1p(np.exp(-3 * (similarity[i, own] - 0.4)).sum()) / 3
        push = math.log1p(np.exp(20 * (similarity[i, label != label[i]] - 0.4)).sum()) / 20
        terms.append(pull + push)
    config = LossConfig(name="multi-similarity", options={"alpha": 3, "beta": 20, "base": 0.4})
    assert float(build_loss(config)(a, p, None, torch.arange(6)).loss) == pytest.approx(np.mean(terms), rel=1e-5)


def test_infonce_and_supcon_are_one_loss() -> None:
    a, p, classes = unit(0, 6), unit(1, 6), torch.tensor([0, 1, 0, 3, 4, 5])
    values = [
        float(build_loss(LossConfig(name=name, temperature=0.3))(a, p, None, classes).loss)
        for name in ("infonce", "supcon")
    ]
    assert values[0] == values[1]


@pytest.mark.parametrize("num", [2, 8, 96])
def test_a_collapsed_network_pays_what_the_loss_says(num: int) -> None:
    x = torch.eye(5)[:1].expand(num, 5)
    for config in (LossConfig(), LossConfig(name="supcon"), LossConfig(name="multi-similarity")):
        loss = build_loss(config)
        value = float(loss(x, x, None, torch.arange(num)).loss)
        assert loss.collapsed_loss(num) == pytest.approx(value, rel=1e-5)
    assert build_loss(LossConfig()).collapsed_loss(num) == pytest.approx(math.log(2 * num - 1), rel=1e-6)
    # However often a class is in the batch, all others are as near.
    repeated = build_loss(LossConfig())(x, x, None, torch.arange(num) % max(2, num // 2))
    assert float(repeated.loss) == pytest.approx(math.log(2 * num - 1), rel=1e-5)


def test_no_one_value_of_a_collapsed_network() -> None:
    with_miner = build_loss(LossConfig(miner="batch-hard"))
    with_parameters = build_loss(LossConfig(name="arcface"), num_classes=4, embedding_dim=6)
    fails = InBatchLoss(Broken())
    assert [loss.collapsed_loss(8) for loss in (with_miner, with_parameters, fails)] == [None] * 3
    assert build_loss(LossConfig(name="semi-hard")).collapsed_loss(8) is None


def test_measuring_it_leaves_the_loss_as_it_was() -> None:
    module = losses.CrossBatchMemory(losses.ContrastiveLoss(), embedding_size=2, memory_size=64)
    before = copy.deepcopy(module.state_dict())
    assert InBatchLoss(module).collapsed_loss(4) is not None
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("name", ["proxy-anchor", "arcface", "SoftTripleLoss"])
def test_parameters_are_the_losss_and_learn(name: str) -> None:
    loss = build_loss(LossConfig(name=name), num_classes=5, embedding_dim=6)
    assert isinstance(loss, InBatchLoss)
    parameters = list(loss.parameters())
    assert [parameter.numel() % 30 for parameter in parameters] == [0]
    a, p = unit(0, 5), unit(1, 5)
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    values = []
    for _ in range(20):
        value = loss(a, p, None, torch.arange(5)).loss
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        values.append(float(value.detach()))
    assert values[-1] < values[0]
    other = build_loss(LossConfig(name=name), num_classes=5, embedding_dim=6)
    other.load_state_dict(loss.state_dict())
    assert torch.equal(other(a, p, None, torch.arange(5)).loss, loss(a, p, None, torch.arange(5)).loss)


def test_parameters_come_from_the_seed_and_not_from_torchs_state() -> None:
    def weights(seed: int) -> Tensor:
        loss = build_loss(LossConfig(name="proxy-anchor"), num_classes=5, embedding_dim=6, seed=seed)
        assert isinstance(loss, nn.Module)
        return next(loss.parameters())

    state = torch.get_rng_state()
    first = weights(1)
    assert torch.equal(torch.get_rng_state(), state)
    with torch.random.fork_rng():
        torch.manual_seed(99)
        assert torch.equal(weights(1), first)
    assert not torch.equal(weights(2), first)


def test_what_a_miner_draws_comes_from_seed_and_call_and_goes_on_from_a_checkpoint() -> None:
    a, p, classes = unit(0, 24), unit(1, 24), torch.arange(24)

    def make(seed: int = 3) -> InBatchLoss:
        miner = miners.DistanceWeightedMiner(cutoff=0.1, nonzero_loss_cutoff=2.0)
        return InBatchLoss(losses.TripletMarginLoss(margin=1.0), miner, seed=seed)

    def take(loss: InBatchLoss, num: int) -> list[float]:
        return [float(loss(a, p, None, classes).loss) for _ in range(num)]

    state = torch.get_rng_state()
    straight = take(make(), 4)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(set(straight)) == 4  # each call draws anew
    assert take(make(seed=4), 4) != straight
    first = make()
    begun = take(first, 2)
    second = make()
    second.load_state_dict(first.state_dict())
    assert begun + take(second, 2) == straight


def test_a_failure_in_the_library_is_one_line() -> None:
    x = torch.eye(4)
    with pytest.raises(TrainingError) as failure:
        InBatchLoss(Broken(), miners.MultiSimilarityMiner(epsilon=3.0))(x, x, None, torch.arange(4))
    assert failure.value.problems == (
        "loss: Broken with MultiSimilarityMiner failed on a batch of 8 pictures (IndexError: out of bins); change "
        "loss.name, loss.options or loss.miner",
    )


def test_anchors_without_strangers_are_not_active() -> None:
    x = unit(0, 4)
    value = InBatchLoss(losses.SupConLoss())(x, x, None, torch.zeros(4, dtype=torch.long))
    assert float(value.active_fraction) == 0.0
