"""The bank of negatives: its loss against the sum written out, who may be a column, and how it is kept."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_metric_learning.losses import SupConLoss
from torch import Tensor, nn

from mohs.data.dataset import Dataset
from mohs.data.images import ImagePolicy
from mohs.errors import InputError
from mohs.model.embedder import Embedder
from mohs.settings import config as settings_module
from mohs.settings.config import (
    DataConfig,
    HardnessConfig,
    LossConfig,
    MemoryConfig,
    ModelConfig,
    NegativesConfig,
    RunConfig,
    TrainingConfig,
)
from mohs.training import negative_bank as module
from mohs.training.events import Event, SegmentEvent, StepEvent
from mohs.training.loop import fit
from mohs.training.losses.build import build_loss
from mohs.training.negative_bank import NegativeBank, check_negative_bank, columns_at, momentum_pairs
from mohs.training.step import Descent

MODEL = ModelConfig(widths=(4, 8), hidden_dim=16, embedding_dim=8)
NO_PAIRS = np.empty((0, 2), dtype=np.int64)


def unit(seed: int, num: int, dim: int = 8) -> Tensor:
    x = torch.randn(num, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return nn.functional.normalize(x, dim=1)


def new_memory(
    class_N: list[int], *, pairs: np.ndarray = NO_PAIRS, ratio: float = 0.0, **memory: Any
) -> tuple[NegativeBank, Embedder]:
    embedder = Embedder.create(MODEL, ImagePolicy(16, 1), seed=0)
    config = RunConfig(
        model=MODEL,
        memory=MemoryConfig(**{"num_negatives": 5, "momentum": 0.9, **memory}),
        negatives=NegativesConfig(min_distance_ratio=ratio),
    )
    return NegativeBank(embedder, np.array(class_N), pairs, config, torch.device("cpu")), embedder


def brute_force(
    x_MD: Tensor,
    key_MD: Tensor,
    class_M: list[int],
    bank_CD: Tensor,
    allowed: list[list[bool]],
    num: int,
    t: float,
    *,
    other_views: bool = False,
) -> float:
    """The loss of the top of the module, term by term, with the nearest allowed columns."""
    losses = []
    for i in range(len(x_MD)):
        strangers = [float(x_MD[i] @ key_MD[j]) for j in range(len(x_MD)) if class_M[j] != class_M[i]]
        columns = [float(x_MD[i] @ bank_CD[c]) for c in range(len(bank_CD)) if allowed[i][c]]
        against = sorted(strangers, reverse=True)[:num] + sorted(columns, reverse=True)[:num]
        positives = [j for j in range(len(x_MD)) if class_M[j] == class_M[i] and (other_views or j != i)]
        terms = []
        for p in positives:
            own = float(x_MD[i] @ key_MD[p])
            terms.append(math.log(1 + sum(math.exp((s - own) / t) for s in against)))
        losses.append(sum(terms) / len(terms))
    return sum(losses) / len(losses)


def outside(allowed: Tensor) -> dict[str, Tensor]:
    """Return what `columns_at` is told of pairs that are not allowed: a column that is nobody's, and pairs."""
    nobodys = (~allowed.any(dim=0)).nonzero()[:, 0]
    return {"out_C": nobodys, "out_P2": (~allowed).nonzero()}


def whole_loss(
    x: Tensor, keys: Tensor, class_M: list[int], bank: Tensor, allowed: Tensor, num: int, temperature: float, **how: Any
) -> Tensor:
    nearest, counts, _ = columns_at(x, bank, num, **outside(allowed), hardness_M=torch.ones(len(x)))
    classes = torch.tensor(class_M)
    similarity = torch.einsum("md,mkd->mk", x, bank[nearest])
    same_MM = classes[:, None] == classes
    return momentum_pairs(x, keys, same_MM, similarity, counts, temperature, **{"num_inside": num, **how})


@pytest.mark.parametrize("other_views", [False, True])
@pytest.mark.parametrize("temperature", [0.05, 0.1, 1.0])
@pytest.mark.parametrize("num", [1, 3, 7, 20])
def test_the_loss_is_the_sum_over_the_nearest_of_the_batch_and_the_columns(
    temperature: float, num: int, other_views: bool
) -> None:
    x, keys, bank = unit(num, 10), unit(num + 50, 10), unit(num + 100, 7)
    class_M = [0, 1, 2, 3, 0, 0, 1, 2, 3, 0]  # class 0 is in the batch twice
    allowed = torch.rand(10, 7, generator=torch.Generator().manual_seed(num)) > 0.4
    allowed[3] = False
    found = float(whole_loss(x, keys, class_M, bank, allowed, num, temperature, other_views=other_views))
    expected = brute_force(x, keys, class_M, bank, allowed.tolist(), num, temperature, other_views=other_views)
    assert found == pytest.approx(expected, rel=1e-9)


def test_without_columns_and_with_the_network_as_its_own_encoder_it_is_supcon() -> None:
    x, class_M = unit(3, 8), [0, 1, 2, 3, 0, 1, 2, 3]
    none = torch.zeros(8, 0, dtype=torch.bool)
    found = whole_loss(x, x, class_M, unit(4, 0), none, 5, 0.1, num_inside=8)
    assert float(found) == pytest.approx(float(SupConLoss(temperature=0.1)(x, torch.tensor(class_M))), rel=1e-9)


def test_a_row_is_drawn_to_its_positive_and_pushed_from_its_columns() -> None:
    x, keys, bank = unit(0, 4), unit(1, 4), unit(2, 3)
    class_M, everything = [0, 1, 0, 1], torch.ones(4, 3, dtype=torch.bool)
    loss = float(whole_loss(x, keys, class_M, bank, everything, 3, 0.1))

    def moved(row: int, towards: Tensor) -> float:
        there = x.clone()
        there[row] = nn.functional.normalize(there[row] + 0.01 * towards, dim=0)
        return float(whole_loss(there, keys, class_M, bank, everything, 3, 0.1))

    assert moved(0, keys[2]) < loss < moved(0, bank[(x[0] @ bank.T).argmax()])
    # Positive and negative swapped: a step that was good is bad.
    swapped = float(whole_loss(x, keys[[1, 0, 3, 2]], class_M, bank, everything, 3, 0.1))
    there = x.clone()
    there[0] = nn.functional.normalize(x[0] + 0.01 * keys[2], dim=0)
    assert float(whole_loss(there, keys[[1, 0, 3, 2]], class_M, bank, everything, 3, 0.1)) > swapped


def test_with_other_views_a_row_is_drawn_to_its_own_key() -> None:
    x, keys, bank = unit(0, 4).requires_grad_(), unit(1, 4), unit(2, 9)
    pulls = {}
    for other_views in (False, True):
        given = (x, keys, [0, 1, 0, 1], bank, torch.ones(4, 9, dtype=torch.bool), 2, 1.0)
        (gradient,) = torch.autograd.grad(whole_loss(*given, other_views=other_views), x)
        pulls[other_views] = -(gradient * keys).sum(dim=1)
    assert bool((pulls[True] > pulls[False]).all())


def test_only_the_network_learns_from_it() -> None:
    x, keys, bank = unit(0, 4).requires_grad_(), unit(1, 4), unit(2, 9)
    loss = whole_loss(x, keys, [0, 1, 0, 1], bank, torch.ones(4, 9, dtype=torch.bool), 2, 0.1)
    (gradient,) = torch.autograd.grad(loss, x)
    assert bool(gradient.isfinite().all())
    assert float(gradient.norm()) > 0


def test_only_items_of_other_classes_that_are_known_trusted_and_not_in_the_batch_are_columns() -> None:
    class_N = [0, 0, 0, 1, 1, 2, 2, 3, 3, 4]
    pairs = np.array([[5, 8], [8, 5], [0, 9], [9, 0], [5, 9], [9, 5]])
    memory, _ = new_memory(class_N, pairs=pairs, num_negatives=2)
    bank = unit(5, 10).float()
    known = np.array([1, 2, 3, 6, 7, 8, 9])
    memory.write(known, bank[known])
    items = np.array([0, 3, 5, 1, 4, 6])  # anchors, then positives
    columns = np.flatnonzero(memory.columns(items))  # there is room for all, so an item has its own place
    assert columns.tolist() == [2, 7, 8, 9]
    allowed = [
        [class_N[i] != class_N[c] and [i, c] not in pairs.tolist() for c in columns.tolist()] for i in items.tolist()
    ]
    assert allowed[0] == [False, True, True, False]
    assert allowed[2] == [True, True, False, False]
    x, keys = unit(6, 6).float(), unit(7, 6).float()
    found = memory.loss(x, keys, items)
    class_M = [class_N[i] for i in items.tolist()]
    assert float(found.loss) == pytest.approx(brute_force(x, keys, class_M, bank[columns], allowed, 2, 0.1), rel=1e-5)
    assert found.num_kept_apart == 3  # (0, 9), (5, 8) and (5, 9)
    assert found.collapsed_loss == pytest.approx(np.mean([math.log(1 + 2 + min(2, sum(row))) for row in allowed]))


def test_columns_nearer_than_a_share_of_the_positive_are_passed_over() -> None:
    memory, _ = new_memory([0, 0, 1, 2, 3], num_negatives=9, ratio=0.5)
    x = torch.zeros(2, 8)
    x[0, 0] = 1.0
    x[1, 0], x[1, 1] = 0.6, 0.8  # its positive, at distance sqrt(0.8)
    bank = torch.zeros(5, 8)
    for item, cosine in ((2, 0.91), (3, 0.89), (4, -0.9)):  # half of the distance is at a cosine of 0.9
        bank[item, 0], bank[item, 2] = cosine, (1 - cosine**2) ** 0.5
    memory.write(np.arange(5), bank)
    found = memory.loss(x, x, np.array([0, 1]))
    assert found.num_kept_apart == 1
    others = [[False, True, True], [True, True, True]]
    assert float(found.loss) == pytest.approx(brute_force(x, x, [0, 0], bank[2:], others, 9, 0.1), rel=1e-5)


@pytest.mark.parametrize("skipped", [0, 3])
@pytest.mark.parametrize("seed", range(3))
def test_columns_at_a_hardness_are_those_of_the_ranks_written_out(seed: int, skipped: int) -> None:
    x, bank = unit(seed, 12), unit(seed + 9, 40)
    allowed = torch.rand(12, 40, generator=torch.Generator().manual_seed(seed)) > 0.5
    allowed[3, 2:] = False  # two or less are left
    hardness = torch.rand(12, generator=torch.Generator().manual_seed(seed + 5))
    hardness[:3] = torch.tensor([1.0, 0.0, 0.5])
    found, counts, _ = columns_at(x, bank, 4, **outside(allowed), hardness_M=hardness, skipped=skipped)
    for row in range(12):
        near = [c for c in (x[row] @ bank.T).argsort(descending=True).tolist() if allowed[row, c]]
        first = max(round(len(near) ** (1 - float(hardness[row]))) - 1, skipped) if near else 0
        first = max(0, min(first, len(near) - 4))
        assert found[row][counts[row]].tolist() == near[first : first + 4]


def test_where_as_many_are_asked_for_as_there_are_all_columns_count_whatever_the_hardness() -> None:
    x, bank = unit(0, 6), unit(1, 30)
    allowed = torch.rand(6, 30, generator=torch.Generator().manual_seed(0)) > 0.5
    for hardness in (0.0, 0.5, 1.0):
        found, counts, _ = columns_at(
            x, bank, 10**9, **outside(allowed), hardness_M=torch.full((6,), hardness), skipped=2
        )
        assert [sorted(found[row][counts[row]].tolist()) for row in range(6)] == [
            allowed[row].nonzero()[:, 0].tolist() for row in range(6)
        ]


@pytest.mark.parametrize("num_columns", [31, 32, 700, 1000, 1024])
@pytest.mark.parametrize("num", [1, 5])
def test_the_largest_are_those_of_all_in_their_order(num_columns: int, num: int) -> None:
    score = torch.rand(9, num_columns, generator=torch.Generator().manual_seed(num_columns))
    score[0] = score[0].sort().values  # the largest are in the last block, or in what is left over of it
    score[1] = score[1].sort(descending=True).values
    values, columns = module._largest(score, num)
    assert torch.equal(values, score.sort(dim=1, descending=True).values[:, :num])
    assert torch.equal(score.gather(1, columns), values)


def test_harder_columns_are_nearer() -> None:
    x, bank, everything = unit(0, 6), unit(1, 500), torch.ones(6, 500, dtype=torch.bool)
    means = []
    for hardness in (0.0, 0.3, 0.6, 1.0):
        found, _, _ = columns_at(x, bank, 5, **outside(everything), hardness_M=torch.full((6,), hardness))
        means.append(float(torch.einsum("md,mkd->mk", x, bank[found]).mean()))
    assert means == sorted(means)
    assert means[0] < 0 < means[-1]


def test_the_hardness_of_the_schedule_is_that_of_the_columns(glyphs: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Tensor] = []
    plain = module.columns_at

    def watched(*given: Any, hardness_M: Tensor, **how: Any) -> Any:
        asked.append(hardness_M)
        return plain(*given, hardness_M=hardness_M, **how)

    monkeypatch.setattr(module, "columns_at", watched)
    _, events = go(glyphs, num_negatives=5)
    assert [float(hardness.min()) for hardness in asked] == [1.0] * 8
    asked.clear()
    _, events = go(glyphs, HardnessConfig(curve="linear", cap=1.0), num_negatives=5)
    assert [float(hardness.mean()) for hardness in asked] == pytest.approx([event.hardness for event in events])
    assert float(asked[0].min()) == 0.0
    assert all(bool((hardness[:12] == hardness[12:]).all()) for hardness in asked)


def held(memory: NegativeBank) -> dict[int, Tensor]:
    """What the bank has, by item."""
    state = memory.state()
    return {int(item): key for item, key in zip(state["items"], state["keys"], strict=True) if item >= 0}


def test_what_was_shown_last_is_in_the_bank() -> None:
    memory, _ = new_memory(list(range(40)), size=12)
    assert not memory.columns(np.array([0])).any()
    for step in range(10):
        memory.write(np.arange(4 * step, 4 * step + 4), unit(step, 4).float())
    assert set(held(memory)) == set(range(28, 40))
    assert memory.columns(np.array([0, 1, 2, 3])).sum() == 12
    assert memory.columns(np.array([0, 1, 38, 39])).sum() == 10  # none of the batch
    torch.testing.assert_close(held(memory)[33], unit(8, 4).float()[1])
    small, _ = new_memory(list(range(40)), size=3)
    small.write(np.arange(8), unit(0, 8).float())
    assert set(held(small)) == {5, 6, 7}


@given(shown=st.lists(st.lists(st.integers(0, 11), min_size=1, max_size=6), max_size=12), size=st.integers(1, 14))
def test_the_bank_has_the_last_key_of_an_item_once_or_nothing(shown: list[list[int]], size: int) -> None:
    memory, last = new_memory(list(range(12)), size=size)[0], dict[int, Tensor]()
    for step, items in enumerate(shown):
        keys = unit(step, len(items)).float()
        memory.write(np.array(items), keys)
        last |= dict(zip(items, keys, strict=True))
        found = held(memory)
        assert len(found) == int((memory.state()["items"] >= 0).sum()) <= size
        assert items[-1] in found
        for item, key in found.items():
            assert torch.equal(key, last[item])


def test_a_loss_of_ones_own_has_no_bank(glyphs: Dataset) -> None:
    def own(*_: Any) -> Any:
        raise AssertionError

    config = RunConfig(model=MODEL, memory=MemoryConfig(num_negatives=9))
    message = "memory.num_negatives: 9 with a loss of your own; the bank's negatives are for infonce and supcon"
    with pytest.raises(InputError, match=message):
        fit(Embedder.create(MODEL, ImagePolicy(16, 1)), glyphs, config, loss=own)  # type: ignore[arg-type]


def test_a_usual_bank_gives_way_to_a_loss_of_ones_own(glyphs: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings_module, "FEWEST_CLASSES_OF_BANK", 2)
    config = RunConfig(
        data=DataConfig(size=16, channels=1),
        model=MODEL,
        training=TrainingConfig(num_triplets=24, batch_triplets=12, num_segments=1, device="cpu"),
    )
    assert config.for_classes(2).num_bank_negatives > 0
    own = build_loss(config.loss, num_classes=2, embedding_dim=8)
    result = fit(Embedder.create(MODEL, ImagePolicy(16, 1)), glyphs, config, loss=own)
    assert result.num_steps == 2
    assert int(own.num_calls) == 2  # type: ignore[call-overload, attr-defined]


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
    memory, embedder = new_memory([0, 1, 2], size=3)
    memory.write(np.array([0, 2]), unit(0, 2).float())
    with torch.no_grad():
        embedder.head[0].weight.mul_(2.0)
    memory.follow(embedder)
    other, _ = new_memory([0, 1, 2], size=3)
    other.restore(memory.state())
    memory.write(np.array([1]), unit(1, 1).float())
    assert set(held(other)) == {0, 2}  # two banks, not one
    assert torch.equal(other._encoder.head[0].weight, memory._encoder.head[0].weight)
    other.write(np.array([1]), unit(1, 1).float())
    torch.testing.assert_close(other.state()["keys"], memory.state()["keys"])
    assert torch.equal(other.state()["items"], memory.state()["items"])


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


def test_the_closed_loop_has_no_bank() -> None:
    loop = HardnessConfig(curve="closed-loop")
    with pytest.raises(InputError) as caught:
        check_negative_bank(RunConfig(hardness=loop, memory=MemoryConfig(num_negatives=9)))
    assert str(caught.value) == (
        "memory.num_negatives: 9 with hardness.curve 'closed-loop', which reads triplets and not the bank: set it to "
        "0, or take another curve"
    )
    assert RunConfig(hardness=loop).for_classes(10**6).num_bank_negatives == 0
    assert RunConfig().for_classes(10**6).num_bank_negatives == 8


def test_a_bank_with_room_for_all_items_holds_them_all() -> None:
    memory, _ = new_memory([0, 1, 2, 3, 4, 5], size=12)
    random = np.random.default_rng(0)
    memory.write(np.arange(6), unit(0, 6).float())
    for seed in range(20):
        memory.write(random.permutation(6)[:2], unit(seed, 2).float())
        assert memory.columns(np.array([], dtype=np.int64)).sum() == 6


def go(
    dataset: Dataset, hardness: HardnessConfig | None = None, augment: float | None = None, **memory: Any
) -> tuple[Embedder, list[StepEvent]]:
    config = RunConfig(
        hardness=hardness or HardnessConfig(),
        data=DataConfig(size=16, channels=1),
        model=MODEL,
        training=TrainingConfig(
            num_triplets=96, batch_triplets=12, num_segments=2, device="cpu", neighbourhood=1, augment=augment
        ),
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
    batch = math.log(2 * 12 - 1)
    assert [event.collapsed_loss for event in half[:4]] == pytest.approx([batch] * 4)
    assert half[4].collapsed_loss == pytest.approx(batch)  # the bank is empty yet, and has room for the batch
    for event in half[5:]:
        assert batch < event.collapsed_loss <= math.log(2 * 12 - 1 + 50)


@pytest.mark.parametrize("augment", [0.0, 0.4])
def test_the_encoder_sees_the_pictures_changed_in_another_way(
    glyphs: Dataset, monkeypatch: pytest.MonkeyPatch, augment: float
) -> None:
    shown: list[Tensor] = []
    seen: list[Tensor] = []
    told: list[bool] = []
    embed, encode, loss = Descent.embed, NegativeBank.encode, NegativeBank.loss

    def watched_embed(self: Descent, x: Tensor) -> Tensor:
        shown.append(x.clone())
        return embed(self, x)

    def watched_encode(self: NegativeBank, x: Tensor) -> Tensor:
        seen.append(x.clone())
        return encode(self, x)

    def watched_loss(self: NegativeBank, *given: Any, other_views: bool, **how: Any) -> Any:
        told.append(other_views)
        return loss(self, *given, other_views=other_views, **how)

    monkeypatch.setattr(Descent, "embed", watched_embed)
    monkeypatch.setattr(NegativeBank, "encode", watched_encode)
    monkeypatch.setattr(NegativeBank, "loss", watched_loss)
    go(glyphs, augment=augment)
    without_bank = shown.copy()
    shown.clear()
    go(glyphs, augment=augment, num_negatives=5)
    assert len(without_bank) == len(shown) == len(seen) == len(told) == 8
    for plain, x, x_of_keys in zip(without_bank, shown, seen, strict=True):
        assert torch.equal(plain, x)  # what the network is shown does not depend on the bank
        differ_M = (x != x_of_keys).flatten(1).any(dim=1)
        assert bool(differ_M.all() if augment else not differ_M.any())
    assert told == [augment > 0] * 8


def test_a_collapsed_network_pays_the_collapsed_loss() -> None:
    for num, inside in ((6, 4), (3, 3)):
        memory, _ = new_memory(list(range(12)), num_negatives=num)
        point = unit(0, 1).float()
        memory.write(np.arange(12), point.expand(12, 8))
        items = np.array([0, 1, 2, 0, 1, 2])
        for other_views in (False, True):
            found = memory.loss(point.expand(6, 8), point.expand(6, 8), items, other_views=other_views)
            assert float(found.loss) == pytest.approx(found.collapsed_loss, rel=1e-5)
            assert found.collapsed_loss == pytest.approx(math.log(1 + inside + num))


def test_the_encoder_sees_no_more_pictures_at_once_than_the_network(torch_as_it_was: None) -> None:
    embedder = Embedder.create(MODEL, ImagePolicy(16, 1), seed=0)
    config = RunConfig(
        model=MODEL, training=TrainingConfig(pictures_at_once=4), memory=MemoryConfig(num_negatives=5, momentum=0.9)
    )
    bank = NegativeBank(embedder, np.arange(10), NO_PAIRS, config, torch.device("cpu"))
    sizes: list[int] = []
    bank._encoder.register_forward_pre_hook(lambda _, pictures: sizes.append(len(pictures[0])))
    pictures = torch.rand(10, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    keys = bank.encode(pictures)
    assert sizes == [4, 4, 2]
    torch.testing.assert_close(keys, embedder.eval()(pictures), rtol=1e-5, atol=1e-6)
