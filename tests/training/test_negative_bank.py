"""The bank of negatives: its loss against the sum written out, who may be a column, and how it is kept."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_metric_learning.losses import SupConLoss
from torch import Tensor, nn

from mohs.data.dataset import Dataset
from mohs.data.images import ImagePolicy
from mohs.errors import InputError
from mohs.model.embedder import Embedder
from mohs.settings.config import DataConfig, LossConfig, MemoryConfig, ModelConfig, RunConfig, TrainingConfig
from mohs.training.events import Event, SegmentEvent, StepEvent
from mohs.training.loop import fit
from mohs.training.negative_bank import NegativeBank, check_negative_bank, extra_negatives

MODEL = ModelConfig(widths=(4, 8), hidden_dim=16, embedding_dim=8)
NO_PAIRS = np.empty((0, 2), dtype=np.int64)


def unit(seed: int, num: int, dim: int = 8) -> Tensor:
    x = torch.randn(num, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return nn.functional.normalize(x, dim=1)


def new_memory(
    class_N: list[int], *, pairs: np.ndarray = NO_PAIRS, num_negatives: int = 5, momentum: float = 0.9
) -> tuple[NegativeBank, Embedder]:
    embedder = Embedder.create(MODEL, ImagePolicy(16, 1), seed=0)
    config = RunConfig(model=MODEL, memory=MemoryConfig(num_negatives=num_negatives, momentum=momentum))
    return NegativeBank(embedder, np.array(class_N), pairs, config, torch.device("cpu")), embedder


def brute_force(x_MD: Tensor, class_M: list[int], bank_CD: Tensor, allowed: list[list[bool]], t: float) -> float:
    """The loss with all columns in its sum, term by term."""
    losses = []
    for i in range(len(x_MD)):
        others = [j for j in range(len(x_MD)) if j != i]
        total = sum(math.exp(float(x_MD[i] @ x_MD[j]) / t) for j in others)
        total += sum(math.exp(float(x_MD[i] @ bank_CD[c]) / t) for c in range(len(bank_CD)) if allowed[i][c])
        positives = [j for j in others if class_M[j] == class_M[i]]
        losses.append(math.log(total) - sum(float(x_MD[i] @ x_MD[p]) / t for p in positives) / len(positives))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [0.05, 0.1, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_term_puts_the_columns_into_the_sum(temperature: float, seed: int) -> None:
    x, bank = unit(seed, 10), unit(seed + 100, 7)
    class_M = [0, 1, 2, 3, 0, 0, 1, 2, 3, 0]  # class 0 is in the batch twice
    allowed = torch.rand(10, 7, generator=torch.Generator().manual_seed(seed)) > 0.4
    allowed[3] = False
    inside = SupConLoss(temperature=temperature)(x, torch.tensor(class_M))
    whole = float(inside + extra_negatives(x, bank, allowed, temperature))
    assert whole == pytest.approx(brute_force(x, class_M, bank, allowed.tolist(), temperature), rel=1e-9)


def test_columns_push_away_and_none_push_nothing() -> None:
    x, bank = unit(0, 6), unit(1, 4).requires_grad_()
    everything = torch.ones(6, 4, dtype=torch.bool)
    (apart,) = torch.autograd.grad(extra_negatives(x, bank, everything, 0.1), bank)
    nearest = x[(bank.detach() @ x.T).argmax(1)]
    assert bool(((apart * nearest).sum(1) > 0).all())  # a step against the gradient takes them apart
    moved = [bank.detach() + step * apart for step in (0.05, 0.0, -0.05)]
    costs = [float(extra_negatives(x, bank_CD, everything, 0.1)) for bank_CD in moved]
    assert costs[0] > costs[1] > costs[2]
    x.requires_grad_()
    for none in (extra_negatives(x, bank, ~everything, 0.1), extra_negatives(x, bank[:0], everything[:, :0], 0.1)):
        (gradient,) = torch.autograd.grad(none, x)
        assert (float(none.detach()), float(gradient.abs().max())) == (0.0, 0.0)


def test_only_items_of_other_classes_that_are_known_trusted_and_not_in_the_batch_are_columns() -> None:
    class_N = [0, 0, 0, 1, 1, 2, 2, 3, 3, 4]
    pairs = np.array([[5, 8], [8, 5], [0, 9], [9, 0], [5, 9], [9, 5]])
    memory, _ = new_memory(class_N, pairs=pairs, num_negatives=99)
    bank = unit(5, 10).float()
    known = np.array([1, 2, 3, 6, 7, 8, 9])
    memory.write(known, bank[known], step=0)
    items = np.array([0, 3, 5, 1, 4, 6])  # anchors, then positives
    columns = memory.columns(items, step=1)
    assert columns.tolist() == [2, 7, 8, 9]
    allowed = [
        [class_N[i] != class_N[c] and [i, c] not in pairs.tolist() for c in columns.tolist()] for i in items.tolist()
    ]
    assert allowed[0] == [False, True, True, False]
    assert allowed[2] == [True, True, False, False]
    x = unit(6, 6).float()
    term = memory.term(x, items, step=1)
    assert float(term.loss) == pytest.approx(float(extra_negatives(x, bank[columns], torch.tensor(allowed), 0.1)))
    assert term.num_kept_apart == 3  # (0, 9), (5, 8) and (5, 9)
    assert term.collapsed_loss == pytest.approx(np.mean([math.log(5 + sum(row)) for row in allowed]) - math.log(5))


def test_columns_are_drawn_by_seed_and_step() -> None:
    memory, _ = new_memory(list(range(40)), num_negatives=12)
    assert memory.columns(np.array([0]), step=0).tolist() == []
    assert float(memory.term(unit(0, 4).float(), np.array([0, 1, 0, 1]), step=0).loss) == 0.0
    memory.write(np.arange(40), unit(0, 40).float(), step=0)
    drawn = [memory.columns(np.array([3, 4]), step) for step in range(60)]
    for columns in drawn:
        assert len(columns) == len(set(columns.tolist())) == 12
        assert columns.tolist() == sorted(columns.tolist())
        assert not {3, 4} & set(columns.tolist())
    assert set(np.concatenate(drawn).tolist()) == set(range(40)) - {3, 4}
    assert memory.columns(np.array([3, 4]), 7).tolist() == drawn[7].tolist() != drawn[8].tolist()


def test_the_newest_embedding_stays_and_of_two_the_last() -> None:
    memory, _ = new_memory([0, 1, 2, 3])
    old, new, again = unit(0, 4).float(), unit(1, 3).float(), unit(2, 4).float()
    memory.write(np.arange(4), old, step=0)
    memory.write(np.array([1, 2, 1]), new, step=5)
    torch.testing.assert_close(memory.state()["bank"], torch.stack([old[0], new[2], new[1], old[3]]))
    memory.write(np.arange(4), again, step=4)  # by a network of before
    torch.testing.assert_close(memory.state()["bank"], torch.stack([again[0], new[2], new[1], again[3]]))
    memory.write(np.array([1]), again[1:2], step=5)
    torch.testing.assert_close(memory.state()["bank"][1], again[1])


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_the_encoder_follows_with_its_momentum(momentum: float) -> None:
    memory, embedder = new_memory([0, 1], momentum=momentum)
    began = {name: value.clone() for name, value in embedder.state_dict().items()}
    with torch.no_grad():
        for parameter in embedder.parameters():
            parameter.add_(1.0)
        embedder.head[1].num_batches_tracked += 3
    for _ in range(3):
        memory.follow(embedder)
    for name, value in memory.state()["encoder"].items():
        now = embedder.state_dict()[name]
        expected = now if not now.is_floating_point() else now + momentum**3 * (began[name] - now)
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    assert not any(value.requires_grad for value in memory._encoder.parameters())


def test_state_there_and_back() -> None:
    memory, embedder = new_memory([0, 1, 2])
    memory.write(np.array([0, 2]), unit(0, 2).float(), step=3)
    with torch.no_grad():
        embedder.head[0].weight.mul_(2.0)
    memory.follow(embedder)
    other, _ = new_memory([0, 1, 2])
    other.restore(memory.state())
    memory.write(np.array([1]), unit(1, 1).float(), step=9)
    assert other.columns(np.array([9]), 0).tolist() == [0, 2]
    assert torch.equal(other._encoder.head[0].weight, memory._encoder.head[0].weight)
    other.write(np.array([2]), torch.zeros(1, 8), step=2)
    assert float(other.state()["bank"][2].norm()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("loss", "what"),
    [
        (LossConfig(name="triplet"), "'triplet'"),
        (LossConfig(name="semi-hard"), "'semi-hard'"),
        (LossConfig(name="ContrastiveLoss"), "'ContrastiveLoss'"),
        (LossConfig(miner="batch-hard"), "'infonce' and the miner 'batch-hard'"),
    ],
)
def test_losses_without_such_a_sum_are_refused(glyphs: Dataset, loss: LossConfig, what: str) -> None:
    config = RunConfig(model=MODEL, loss=loss, memory=MemoryConfig(num_negatives=9))
    message = (
        f"memory.num_negatives: 9 with the loss {what}; the bank's negatives are for infonce and supcon without a "
        "miner: set it to 0, or take such a loss"
    )
    with pytest.raises(InputError) as caught:
        fit(Embedder.create(MODEL, ImagePolicy(16, 1)), glyphs, config)
    assert str(caught.value) == message
    check_negative_bank(config.model_copy(update={"memory": MemoryConfig()}))
    check_negative_bank(config.model_copy(update={"loss": LossConfig(name="supcon")}))


def go(dataset: Dataset, **memory: Any) -> tuple[Embedder, list[StepEvent]]:
    config = RunConfig(
        data=DataConfig(size=16, channels=1),
        model=MODEL,
        # With a bank, segments are always embedded anew.
        training=TrainingConfig(num_triplets=96, batch_triplets=12, num_segments=2, device="cpu", embed_anew=True),
        memory=MemoryConfig(**memory),
    )
    embedder, events = Embedder.create(MODEL, ImagePolicy(16, 1)), list[Event]()
    fit(embedder, dataset, config, listeners=(events.append,))
    assert sum(isinstance(event, SegmentEvent) for event in events) == 2
    return embedder, [event for event in events if isinstance(event, StepEvent)]


def test_the_bank_is_used_from_its_share_of_the_run_on(glyphs: Dataset) -> None:
    without, plain = go(glyphs)
    never, same = go(glyphs, num_negatives=50, from_progress=1.0)
    for name, value in without.state_dict().items():
        assert torch.equal(value, never.state_dict()[name]), name
    assert [event.loss for event in plain] == [event.loss for event in same]
    _, half = go(glyphs, num_negatives=50, from_progress=0.5)
    assert [event.loss for event in plain[:4]] == [event.loss for event in half[:4]]
    collapsed = math.log(2 * 12 - 1)
    assert [event.collapsed_loss for event in half[:4]] == pytest.approx([collapsed] * 4)
    # 50 columns but for those of a row's own class.
    for event, before in zip(half[4:], plain[4:], strict=True):
        assert collapsed < event.collapsed_loss <= math.log(2 * 12 - 1 + 50)
        assert event.loss > before.loss


def test_a_collapsed_network_pays_the_collapsed_loss() -> None:
    memory, _ = new_memory(list(range(12)), num_negatives=6)
    point = unit(0, 1).float()
    memory.write(np.arange(12), point.expand(12, 8), step=0)
    items = np.array([0, 1, 2, 0, 1, 2])
    term = memory.term(point.expand(6, 8), items, step=1)
    assert float(term.loss) == pytest.approx(term.collapsed_loss, rel=1e-5)
    assert term.collapsed_loss == pytest.approx(math.log(5 + 6) - math.log(5))
