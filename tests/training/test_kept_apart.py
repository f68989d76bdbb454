"""Pairs that must not be negatives never enter a loss, and what is left is the loss of a batch without them."""

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mohs.data.dataset import Dataset
from mohs.data.images import ImagePolicy
from mohs.errors import InputError
from mohs.model.embedder import Embedder
from mohs.settings.config import (
    ClassificationConfig,
    DataConfig,
    HardnessConfig,
    LossConfig,
    MemoryConfig,
    ModelConfig,
    NegativesConfig,
    RunConfig,
    TrainingConfig,
)
from mohs.training import cliques as composed
from mohs.training import plan_segment
from mohs.training import step as steps
from mohs.training.cliques import Clique, find_cliques
from mohs.training.closed_loop import SegmentBank, measure_gaps
from mohs.training.events import Event, StepEvent
from mohs.training.false_negatives import distrusted_pairs
from mohs.training.guard import bank_recall
from mohs.training.kept_apart import Apart, by_first_item, pairs_between, pairs_in_batch
from mohs.training.loop import FitResult, fit
from mohs.training.losses.build import build_loss, check_kept_apart
from mohs.training.losses.in_batch import InBatchLoss, active_fraction
from mohs.training.losses.library import REFUSED_LOSSES, LibraryClass, library_losses
from mohs.training.losses.plan_losses import TripletLoss

MODEL = ModelConfig(widths=(4, 8), hidden_dim=16, embedding_dim=8)
NO_PAIRS = np.empty((0, 2), dtype=np.int64)


def unit(seed: int, num: int, dim: int = 6) -> Tensor:
    x = torch.randn(num, dim, generator=torch.Generator().manual_seed(seed))
    return nn.functional.normalize(x, dim=1)


@pytest.fixture(scope="module")
def twice(glyphs: Dataset) -> Dataset:
    """The letters with every second class a copy of the one before it: twelve pairs of classes of equal pictures."""
    pictures = np.array(glyphs.pictures)
    for number in range(0, 24, 2):
        pictures[glyphs.labels_id == number + 1] = pictures[glyphs.labels_id == number]
    return Dataset(glyphs.table, pictures)


def config_of(loss: LossConfig | None = None, *, memory: int = 0, **more: Any) -> RunConfig:
    training = {"num_triplets": 96, "batch_triplets": 24, "num_segments": 2, "device": "cpu", "neighbourhood_from": 0.0}
    return RunConfig(
        data=DataConfig(size=16, channels=1),
        model=MODEL,
        loss=loss or LossConfig(),
        training=TrainingConfig(**{**training, **more.pop("training", {})}),
        memory=MemoryConfig(num_negatives=memory, from_progress=0.3),
        **more,
    )


def train(dataset: Dataset, config: RunConfig, **how: Any) -> tuple[Embedder, FitResult, list[StepEvent]]:
    embedder, events = Embedder.create(MODEL, ImagePolicy(16, 1), seed=0), list[Event]()
    result = fit(embedder, dataset, config, listeners=(events.append,), **how)
    return embedder, result, [event for event in events if isinstance(event, StepEvent)]


# --- which pairs


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_pairs_between_is_a_look_up(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = rng.integers(0, 12, (int(rng.integers(0, 30)), 2))
    rows, columns = rng.integers(0, 14, 9), rng.integers(0, 14, 7)
    known = {tuple(pair) for pair in pairs.tolist()}
    expected = [[(row, column) in known for column in columns.tolist()] for row in rows.tolist()]
    assert pairs_between(by_first_item(pairs), rows, columns).tolist() == expected


def test_the_three_rules_by_hand() -> None:
    items, classes = np.array([0, 1, 2, 3, 1, 5]), np.array([0, 1, 2, 0, 1, 2])  # 1 is its own positive, augmented
    x = torch.tensor([[0.0], [4.0], [1.0], [2.0], [7.0], [9.0]])
    pairs = by_first_item(np.array([[0, 5], [5, 0], [0, 3], [3, 0]]))  # (0, 3) are of one class

    def found(ratio: float = 0.0, catalog: list[bool] | None = None, pairs: np.ndarray = pairs) -> Apart | None:
        return pairs_in_batch(
            items, classes, x, num_triplets=3, distrusted_P2=pairs, min_distance_ratio=ratio,
            catalog_M=None if catalog is None else np.array(catalog),
        )  # fmt: skip

    assert found(pairs=NO_PAIRS) is None
    trusted = found()
    assert trusted is not None
    assert trusted.all_MM.nonzero().tolist() == [[0, 5], [5, 0]]
    assert trusted.num_pairs == 2
    near = found(0.6, pairs=NO_PAIRS)
    assert near is not None
    # Positives at 2 (0 and 3), 0 (item 1 twice) and 8 (2 and 5): nearer than 1.2, none, 4.8.
    expected = [[0, 2], [2, 0], [2, 1], [2, 3], [3, 2], [5, 4]]
    assert near.all_MM.nonzero().tolist() == expected
    assert near.num_pairs == 6
    assert not near.fixed_MM.any()  # a collapsed network has no near pairs
    catalog = [True, True, True, False, False, False]
    both = found(0.6, catalog)
    assert both is not None
    assert both.all_MM[:, :3].nonzero().tolist() == [[i, j] for i in range(6) for j in range(3) if classes[i] != j]
    assert both.num_pairs == 4  # (0, 5), (5, 0), (2, 3) and (5, 4): the other near ones are catalog pictures
    plain = found(catalog=catalog, pairs=NO_PAIRS)
    assert plain is not None
    assert plain.num_pairs == 0


# --- the loss without them


def infonce_without(x_MD: Tensor, class_M: Tensor, apart_MM: Tensor, t: float) -> Tensor:
    """InfoNCE of unit rows written out; those without any negative are no part of the mean, as in the library."""
    x_MD, terms = nn.functional.normalize(x_MD, dim=1), []
    for i in range(len(x_MD)):
        own = [j for j in range(len(x_MD)) if j != i and class_M[j] == class_M[i]]
        others = [j for j in range(len(x_MD)) if class_M[j] != class_M[i] and not apart_MM[i, j]]
        total = torch.stack([x_MD[i] @ x_MD[a] / t for a in own + others]).logsumexp(0)
        terms.append(total - torch.stack([x_MD[i] @ x_MD[p] / t for p in own]).mean())
    return torch.stack([term for term in terms if float(term.detach()) > 0]).mean()


def random_apart(seed: int, class_M: Tensor, share: float = 0.3) -> Tensor:
    draw = torch.rand(len(class_M), len(class_M), generator=torch.Generator().manual_seed(seed))
    return (draw < share) & (class_M[:, None] != class_M)


@pytest.mark.parametrize("seed", range(4))
def test_infonce_and_its_gradient_are_those_of_the_sum_without_the_pairs(seed: int) -> None:
    x_MD = unit(seed, 12).double()
    class_B = torch.tensor([0, 1, 2, 0, 4, 5])
    class_M = torch.cat([class_B, class_B])
    apart_MM = random_apart(seed, class_M)
    if seed == 0:
        apart_MM[1] = class_M != class_M[1]  # nothing is left to this one
    loss = build_loss(LossConfig(temperature=0.2))
    values, gradients = [], []
    for function in (
        lambda x: loss(x[:6], x[6:], None, class_B, apart_MM).loss,
        lambda x: infonce_without(x, class_M, apart_MM, 0.2),
        lambda x: loss(x[:6], x[6:], None, class_B).loss,
    ):
        own = x_MD.clone().requires_grad_()
        value = function(own)
        values.append(float(value.detach()))
        gradients.append(torch.autograd.grad(value, own)[0])
    # The library adds 1e-7 to a number of positives.
    assert values[0] == pytest.approx(values[1], rel=1e-6)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-6)
    assert values[2] != pytest.approx(values[0], rel=1e-3)


HONOURED = [
    LossConfig(),
    LossConfig(name="supcon", miner="multi-similarity"),
    LossConfig(miner="batch-hard"),
    LossConfig(miner="distance-weighted"),
    LossConfig(name="semi-hard", margin=2.0),
    LossConfig(name="multi-similarity"),
    LossConfig(name="ContrastiveLoss"),
    LossConfig(name="CircleLoss"),
    LossConfig(name="NTXentLoss"),
    LossConfig(name="LiftedStructureLoss"),
    LossConfig(name="GeneralizedLiftedStructureLoss"),
    LossConfig(name="SignalToNoiseRatioContrastiveLoss"),
    LossConfig(name="TripletMarginLoss", options={"margin": 2.0, "swap": True}),
    LossConfig(name="TripletMarginLoss", options={"margin": 2.0, "triplets_per_anchor": 3}),
    LossConfig(name="TripletMarginLoss", miner="batch-hard"),
    LossConfig(name="MarginLoss"),
    LossConfig(name="ThresholdConsistentMarginLoss", options={"margin_minus": -1.0}),
]


@pytest.mark.parametrize("config", HONOURED, ids=lambda c: f"{c.name}-{c.miner or ''}-{'-'.join(c.options)}")
def test_a_picture_that_all_others_are_kept_apart_from_feels_its_positive_alone(config: LossConfig) -> None:
    """Turned with its positive, it changes no gradient of another: no term has both of them."""
    loss = build_loss(config, num_classes=5, embedding_dim=6)
    class_B = torch.arange(5)
    class_M = torch.cat([class_B, class_B])
    apart_MM = ((class_M[:, None] == 2) | (class_M == 2)) & (class_M[:, None] != class_M)
    x_MD = unit(3, 10)
    gradients = {}
    for name, turn in (("as it was", False), ("turned", True)):
        for apart in (apart_MM, None):
            x = torch.where((class_M == 2)[:, None] & turn, -x_MD.flip(1), x_MD).requires_grad_()
            if isinstance(loss, nn.Module):
                loss.num_calls.zero_()  # the same draws
            value = loss(x[:5], x[5:], None, class_B, apart).loss
            gradients[name, apart is None] = torch.autograd.grad(value, x)[0][class_M != 2]
    torch.testing.assert_close(gradients["turned", False], gradients["as it was", False], rtol=1e-4, atol=1e-6)
    assert float((gradients["turned", True] - gradients["as it was", True]).abs().max()) > 1e-3
    assert loss.compares_with is None


def test_a_miner_picks_the_hardest_of_those_that_are_left() -> None:
    x_MD = torch.tensor([[0.0], [0.1], [3.0], [1.0], [9.0], [3.3]])  # anchors 0, 1, 2 and their positives
    config = LossConfig(name="TripletMarginLoss", miner="batch-hard", options={"margin": 0.5})
    loss = build_loss(config)
    assert isinstance(loss, InBatchLoss)
    for part in (loss.loss.distance, loss.miner.distance):
        part.normalize_embeddings = False
    class_B = torch.arange(3)
    apart_MM = torch.zeros(6, 6, dtype=torch.bool)
    apart_MM[0, 1] = apart_MM[1, 0] = True
    value = float(loss(x_MD[:3], x_MD[3:], None, class_B, apart_MM).loss)
    # Row 0 (positive at 1.0): 0.1 is out, 3.0 is next: inactive. Row 1 (positive 8.9 away): 1.0. And so on.
    gaps = [1.0 - 3.0, 8.9 - 0.9, 0.3 - 2.0, 1.0 - 0.9, 8.9 - 5.7, 0.3 - 2.3]
    terms = [gap + 0.5 for gap in gaps if gap + 0.5 > 0]
    assert value == pytest.approx(sum(terms) / len(terms), rel=1e-5)


@pytest.mark.parametrize("name", sorted(set(library_losses()) - set(REFUSED_LOSSES)))
def test_every_loss_of_the_library_either_leaves_pairs_out_or_says_that_it_cannot(name: str) -> None:
    takes = LibraryClass(name, library_losses()[name])
    needed = {key: 1.0 for key, each in takes.options.items() if each.default is each.empty}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two classes of the library warn as they are built
        loss = build_loss(LossConfig(name=name, options=needed), num_classes=5, embedding_dim=6)
    assert isinstance(loss, InBatchLoss)
    vectors = {
        "ArcFaceLoss", "CosFaceLoss", "LargeMarginSoftmaxLoss", "NormalizedSoftmaxLoss", "P2SGradLoss",
        "ProxyAnchorLoss", "ProxyNCALoss", "SoftTripleLoss", "SphereFaceLoss", "SubCenterArcFaceLoss",
    }  # fmt: skip
    whole = {"AngularLoss", "FastAPLoss", "NCALoss", "NPairsLoss", "PNPLoss", "RankedListLoss"}
    expected = "a vector of each class" if name in vectors else "the whole batch at once" if name in whole else None
    assert loss.compares_with == expected


def test_what_a_collapsed_network_pays_and_who_is_active() -> None:
    class_B = torch.arange(4)
    class_M = torch.cat([class_B, class_B])
    apart_MM = ((class_M[:, None] < 2) & (class_M < 2)) & (class_M[:, None] != class_M)
    loss = build_loss(LossConfig())
    point = torch.eye(6)[:1].expand(4, 6)
    paid = float(loss(point, point, None, class_B, apart_MM).loss)
    assert paid == pytest.approx((math.log(5) + math.log(7)) / 2, rel=1e-5)
    assert loss.collapsed_loss(4, class_B, apart_MM) == pytest.approx(paid, rel=1e-6)
    assert loss.collapsed_loss(4) == pytest.approx(math.log(7), rel=1e-6)
    anchor, positive = torch.tensor([[0.0], [0.1], [5.0]]), torch.tensor([[1.0], [9.0], [5.5]])
    active = active_fraction(anchor, positive, torch.arange(3))
    assert float(active) == pytest.approx(2 / 3)
    apart = torch.zeros(6, 6, dtype=torch.bool)
    apart[0, 1] = True
    assert float(active_fraction(anchor, positive, torch.arange(3), apart_MM=apart)) == pytest.approx(1 / 3)


def test_a_swapped_triplet_spares_a_negative_that_is_none_of_its_positive() -> None:
    a, p, n = torch.tensor([[0.0], [0.0]]), torch.tensor([[1.0], [1.0]]), torch.tensor([[1.5], [1.5]])
    loss = TripletLoss(margin=0.2, squared=False, swap=True)
    apart_MM = torch.zeros(6, 6, dtype=torch.bool)
    apart_MM[2, 4] = True  # the first triplet's positive and negative
    plain, spared = (float(loss(a, p, n, torch.arange(2), apart).loss) for apart in (None, apart_MM))
    assert (plain, spared) == pytest.approx((0.7, 0.35))


# --- in a run


@pytest.fixture
def meetings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Items of each batch, and the mask that its loss was given."""
    seen: list[tuple[np.ndarray, np.ndarray | None]] = []

    def watched(items: np.ndarray, *arguments: Any, **more: Any) -> Apart | None:
        apart = pairs_in_batch(items, *arguments, **more)
        seen.append((items, None if apart is None else apart.all_MM.numpy()))
        return apart

    monkeypatch.setattr(steps, "pairs_in_batch", watched)
    return seen


def num_forbidden(items: np.ndarray, pairs: np.ndarray, mask: np.ndarray | None) -> tuple[int, int]:
    """Return how many pairs of a batch are forbidden, and how many of these a loss would see."""
    forbidden = pairs_between(by_first_item(pairs), items, items)
    return int(forbidden.sum()), int((forbidden if mask is None else forbidden & ~mask).sum())


@pytest.mark.parametrize("loss", [LossConfig(), LossConfig(name="semi-hard"), LossConfig(miner="batch-hard")])
def test_no_pair_of_duplicated_classes_enters_the_loss_and_all_are_counted(
    twice: Dataset, loss: LossConfig, meetings: list[Any]
) -> None:
    config = config_of(loss)
    pairs = distrusted_pairs(twice, config.negatives)
    assert len(pairs) == 2 * 12 * 5
    _, result, events = train(twice, config)
    counts = [num_forbidden(items, pairs, mask) for items, mask in meetings]
    assert sum(met for met, _ in counts) > 0
    assert sum(seen for _, seen in counts) == 0
    assert [event.num_kept_apart for event in events] == [met for met, _ in counts]
    assert result.num_kept_apart == sum(met for met, _ in counts)
    trusting = config_of(loss, negatives=NegativesConfig(drop_duplicates=False))
    del meetings[:]
    assert train(twice, trusting)[1].num_kept_apart == 0
    assert all(mask is None for _, mask in meetings)


def test_nothing_forbidden_changes_nothing(glyphs: Dataset) -> None:
    assert not len(distrusted_pairs(glyphs, NegativesConfig()))
    with_it, result, events = train(glyphs, config_of())
    without, _, others = train(glyphs, config_of(negatives=NegativesConfig(drop_duplicates=False)))
    assert [event.loss for event in events] == [event.loss for event in others]
    for name, value in with_it.state_dict().items():
        assert torch.equal(value, without.state_dict()[name]), name
    assert result.num_kept_apart == 0


def test_a_review_list_protects_the_default_loss(glyphs: Dataset, tmp_path: Path, meetings: list[Any]) -> None:
    files = glyphs.table.files
    one, other = (np.flatnonzero(glyphs.labels_id == number) for number in (3, 7))
    path = tmp_path / "review.csv"
    path.write_text("file,other\n" + "".join(f"{files[a]},{files[b]}\n" for a in one for b in other))
    # In cliques the two classes would hardly meet.
    config = config_of(negatives=NegativesConfig(review_list=str(path)), training={"neighbourhood": 1})
    _, result, _ = train(glyphs, config)
    counts = [num_forbidden(items, distrusted_pairs(glyphs, config.negatives), mask) for items, mask in meetings]
    assert result.num_kept_apart == sum(met for met, _ in counts) > 0
    assert sum(seen for _, seen in counts) == 0


def test_the_ratio_acts_within_a_batch(glyphs: Dataset, meetings: list[Any]) -> None:
    config = config_of(negatives=NegativesConfig(min_distance_ratio=0.9))
    _, result, events = train(glyphs, config)
    masked = [0 if mask is None else int(mask.sum()) for _, mask in meetings]
    assert result.num_kept_apart == sum(masked) > 0
    assert all(event.active_fraction <= 1.0 for event in events)
    _, strict, _ = train(glyphs, config_of(negatives=NegativesConfig(min_distance_ratio=0.2)))
    assert strict.num_kept_apart < result.num_kept_apart


def test_forbidden_pairs_are_in_no_clique(twice: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what a clique shows, anchors and positives, no two are kept apart."""
    found: list[tuple[list[Clique], SegmentBank]] = []
    banks: list[SegmentBank] = []

    def compose(bank: SegmentBank, *given: Any, **how: Any) -> Any:
        banks.append(bank)
        return composed.compose_batches(bank, *given, **how)

    def find(*given: Any) -> Any:
        cliques, distrusted = find_cliques(*given)
        found.append((cliques, banks[-1]))
        return cliques, distrusted

    monkeypatch.setattr(plan_segment, "compose_batches", compose)
    monkeypatch.setattr(composed, "find_cliques", find)
    train(twice, config_of(training={"neighbourhood": 12, "batch_triplets": 12}))
    assert len(found) == 2
    for cliques, bank in found:
        assert max(len(clique.triplets) for clique in cliques) > 4
        for clique in cliques:
            rows = list(clique.triplets)
            items = np.r_[bank.anchor_K[rows], bank.positive_K[rows]]
            assert num_forbidden(items, bank.excluded_P2, None)[0] == 0


def test_the_bank_of_negatives_keeps_to_the_same_rules(twice: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    from mohs.training import negative_bank as memory

    columns: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    inside: list[Tensor | None] = []
    plain_columns, plain_loss = memory.columns_at, memory.momentum_pairs

    def watched_columns(x: Tensor, bank: Tensor, num: int, **how: Any) -> Any:
        found = plain_columns(x, bank, num, **how)
        columns.append((x, bank, found[0], found[1]))
        return found

    def watched_loss(*given: Any, apart_MM: Tensor | None = None, **how: Any) -> Tensor:
        inside.append(apart_MM)
        return plain_loss(*given, apart_MM=apart_MM, **how)

    monkeypatch.setattr(memory, "columns_at", watched_columns)
    monkeypatch.setattr(memory, "momentum_pairs", watched_loss)
    config = config_of(memory=60, negatives=NegativesConfig(min_distance_ratio=0.5))
    _, result, events = train(twice, config)
    assert len(columns) == len(inside) == 2
    assert all(apart is not None for apart in inside)
    for x, bank, nearest, counts in columns:
        positive = torch.linalg.vector_norm(x[:24] - x[24:], dim=1).repeat(2)
        distance = torch.linalg.vector_norm(x[:, None] - bank[nearest], dim=2)
        # A positive that is the anchor's own picture rules nothing out; here every class has others.
        assert not bool(((distance < 0.499 * positive[:, None]) & counts).any())
    assert any(bool(counts.any()) for _, _, _, counts in columns)
    assert result.num_kept_apart == sum(event.num_kept_apart for event in events)
    duplicates = config_of(memory=60)
    kept = train(twice, duplicates)[1].num_kept_apart
    assert kept > train(twice, config_of())[1].num_kept_apart > 0


def test_a_loss_with_the_bank_and_pairs_apart_is_the_sum_without_them() -> None:
    from mohs.training.negative_bank import momentum_pairs

    x, keys, columns = unit(1, 8).double(), unit(3, 8).double(), unit(2, 40).double().view(8, 5, -1)
    class_M = torch.arange(4).repeat(2)
    apart_MM = random_apart(5, class_M)
    counts = torch.rand(8, 5, generator=torch.Generator().manual_seed(1)) > 0.4
    same_MM = class_M[:, None] == class_M
    outside = torch.einsum("md,mkd->mk", x, columns)
    whole = float(momentum_pairs(x, keys, same_MM, outside, counts, 0.3, num_inside=8, apart_MM=apart_MM))
    terms = []
    for i in range(8):
        others = [keys[j] for j in range(8) if j != i and not apart_MM[i, j]]
        others += [columns[i, j] for j in range(5) if counts[i, j]]
        total = math.log(sum(math.exp(float(x[i] @ other) / 0.3) for other in others))
        terms.append(total - float(x[i] @ keys[(i + 4) % 8]) / 0.3)
    assert whole == pytest.approx(sum(terms) / 8, rel=1e-9)


def test_the_guards_recall_and_the_closed_loop_leave_them_out() -> None:
    # Classes 5 to 9 are copies of 0 to 4.
    bank = np.tile(unit(0, 5).numpy().repeat(2, axis=0), (2, 1))
    classes = np.arange(20) // 2
    rows = np.arange(20)
    pairs = np.array([(a, b) for a in rows for b in rows if a % 10 // 2 == b % 10 // 2 and a // 10 != b // 10])
    blind, _ = bank_recall(bank, classes, seed=0)
    spared, num = bank_recall(bank, classes, seed=0, apart_P2=by_first_item(pairs))
    assert blind == 0.0
    assert spared is not None
    assert (spared, num) == (1.0, 10)
    bank = bank + np.float32(0.3) * unit(1, 20).numpy()
    bank[10:] = bank[:10]
    gaps = {}
    for name, excluded, ratio in (("all", None, 0.0), ("trusted", pairs, 0.0), ("near", pairs, 1.0)):
        config = RunConfig(
            hardness=HardnessConfig(scale="rank"),
            loss=LossConfig(name="triplet"),
            negatives=NegativesConfig(min_distance_ratio=ratio),
        )
        measure = measure_gaps(
            SegmentBank(bank, classes, rows, rows ^ 1, excluded_P2=excluded), config, spread=1.0, step=0
        )
        gaps[name] = measure(np.array([1.0]))[0]
    assert (gaps["all"] > 0).all()  # a copy is as near as can be
    assert (gaps["trusted"] > 0).mean() < 0.5
    assert (gaps["near"] <= 0).all()


@pytest.mark.parametrize("loss", [LossConfig(), LossConfig(name="semi-hard", margin=1.0)])
def test_with_catalog_pictures_for_anchors_none_is_a_negative_in_the_batch(
    glyphs: Dataset, loss: LossConfig, meetings: list[Any]
) -> None:
    _, result, events = train(glyphs, config_of(loss, training={"anchors": "catalog"}))
    assert meetings
    for items, mask in meetings:
        assert mask is not None
        classes, catalog = glyphs.labels_id[items], glyphs.roles[items] == "catalog"
        assert catalog.sum() == len(items) // 2
        np.testing.assert_array_equal(mask, catalog & (classes[:, None] != classes))
    assert result.num_kept_apart == 0  # they are a matter of roles, not of trust
    if loss.name == "infonce":
        paid = []
        for items, mask in meetings:
            left = ~mask & ~np.eye(len(items), dtype=bool)
            paid.append(np.log(left.sum(axis=1)).mean())
        assert [event.collapsed_loss for event in events] == pytest.approx(paid, rel=1e-5)
        assert min(paid) >= math.log(24) - 1e-9
    memory = 30 if loss.name == "infonce" else 0
    _, with_bank, _ = train(glyphs, config_of(loss, training={"anchors": "catalog"}, memory=memory))
    assert with_bank.num_kept_apart == 0


# --- refused before training


def test_losses_that_cannot_leave_pairs_out_are_refused(twice: Dataset, glyphs: Dataset, tmp_path: Path) -> None:
    vectors = "which compares with a vector of each class"
    fix = "or take a loss on pairs or triplets, such as infonce"
    arcface = LossConfig(name="arcface")
    with pytest.raises(InputError) as caught:
        train(twice, config_of(arcface))
    assert caught.value.problems == (
        f"negatives.drop_duplicates: 60 pairs of equal pictures under two classes cannot be left out with the loss "
        f"'arcface', {vectors}; join their classes, set it to false, {fix}",
    )
    path = tmp_path / "review.csv"
    files = glyphs.table.files
    path.write_text(f"file,other\n{files[0]},{files[-1]}\nelsewhere.png,{files[0]}\n")
    negatives = NegativesConfig(review_list=str(path), min_distance_ratio=0.5)
    with pytest.raises(InputError) as caught:
        check_kept_apart(glyphs, config_of(LossConfig(name="NCALoss"), negatives=negatives))
    whole = "which compares with the whole batch at once"
    assert caught.value.problems == (
        f"negatives.review_list: 1 pairs cannot be left out with the loss 'NCALoss', {whole}; leave it out, {fix}",
        f"negatives.min_distance_ratio: 0.5 cannot leave pairs out with the loss 'NCALoss', {whole}; "
        f"set it to 0, {fix}",
    )
    with pytest.raises(
        InputError, match=r"^training\.anchors: 'catalog' is not possible with the loss 'NCALoss', which compares with"
    ):
        check_kept_apart(glyphs, config_of(LossConfig(name="NCALoss"), training={"anchors": "catalog"}))
    check_kept_apart(glyphs, config_of(arcface, training={"anchors": "catalog"}))
    check_kept_apart(glyphs, config_of(arcface))
    check_kept_apart(twice, config_of(arcface, negatives=NegativesConfig(drop_duplicates=False)))
    check_kept_apart(twice, config_of(LossConfig(name="triplet")))


def test_a_loss_of_the_callers_own_must_take_them_too(twice: Dataset, glyphs: Dataset) -> None:
    class Own:
        def __call__(self, anchor: Tensor, positive: Tensor, negative: Tensor | None, classes: Tensor) -> Any:
            return build_loss(LossConfig())(anchor, positive, negative, classes)

        def collapsed_loss(self, num_triplets: int) -> float | None:
            return math.log(2 * num_triplets - 1)

    with pytest.raises(
        InputError, match=r"^negatives\.drop_duplicates: 60 pairs .* the loss Own, which compares with "
    ):
        train(twice, config_of(), loss=Own())
    assert train(glyphs, config_of(), loss=Own())[1].num_steps == 4


def test_the_warm_up_does_not_tell_equal_pictures_apart(twice: Dataset) -> None:
    """Half the classes are copies: with their copies out of the sum, all can be told; without, half at most."""
    accuracies = []
    for kept in (True, False):
        config = config_of(
            classification=ClassificationConfig(num_pictures=960, from_catalog=True, learning_rate=0.01),
            negatives=NegativesConfig(drop_duplicates=kept),
        )
        events = list[Event]()
        embedder = Embedder.create(MODEL, ImagePolicy(16, 1), seed=0)
        fit(embedder, twice, config, listeners=(events.append,))
        found = [event.accuracy for event in events if hasattr(event, "accuracy")]
        accuracies.append(np.mean(found[-5:]))
    assert accuracies[0] > accuracies[1] + 0.05
