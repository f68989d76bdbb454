"""Losses against numpy by hand, and the direction in which they push."""

import math
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mohs.settings.config import LossConfig
from mohs.training.losses.build import build_loss
from mohs.training.losses.plan_losses import TripletLoss

Name = Literal["triplet", "soft-triplet", "infonce", "semi-hard"]


def unit(seed: int, num: int, dim: int = 5) -> Tensor:
    x = torch.randn(num, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(x, dim=1)


def distance(a: np.ndarray, b: np.ndarray, squared: bool) -> np.ndarray:
    square = ((a - b) ** 2).sum(1)
    return square if squared else np.sqrt(square)


@given(seed=st.integers(0, 1000), margin=st.floats(0.01, 3), squared=st.booleans(), soft=st.booleans())
def test_triplet_losses_are_their_formulas(seed: int, margin: float, squared: bool, soft: bool) -> None:
    a, p, n = (unit(3 * seed + i, 7) for i in range(3))
    name: Name = "soft-triplet" if soft else "triplet"
    value = build_loss(LossConfig(name=name, margin=margin, squared=squared))(a, p, n, torch.arange(7))
    gap = distance(a.numpy(), p.numpy(), squared) - distance(a.numpy(), n.numpy(), squared)
    term = np.log1p(np.exp(gap)) if soft else np.maximum(0, gap + margin)
    assert float(value.loss) == pytest.approx(term.mean(), abs=1e-12)
    active = gap >= 0 if soft else term > 0
    assert float(value.active_fraction) == pytest.approx(active.mean())


@pytest.mark.parametrize("name", ["triplet", "soft-triplet", "infonce", "semi-hard"])
@pytest.mark.parametrize("squared", [True, False])
def test_near_positives_and_far_negatives_lower_the_loss(name: Name, squared: bool) -> None:
    """Swapping what is near and what is far must raise it."""
    anchor, near = unit(0, 8), torch.nn.functional.normalize(unit(0, 8) + 0.1 * unit(1, 8), dim=1)
    far = near.roll(1, 0)
    # A wide margin: semi-hard triplets exist only inside it.
    loss = build_loss(LossConfig(name=name, squared=squared, margin=1.0))
    right = loss(anchor, near, far, torch.arange(8))
    wrong = loss(anchor, far, near, torch.arange(8))
    if name == "semi-hard":  # it learns nothing from positives that are farther than every negative
        assert float(wrong.active_fraction) == 1.0
    else:
        assert float(right.loss) < float(wrong.loss)
    assert float(right.active_fraction) <= float(wrong.active_fraction)


@pytest.mark.parametrize("name", ["triplet", "soft-triplet", "infonce", "semi-hard"])
@pytest.mark.parametrize("squared", [True, False])
def test_a_step_downhill_brings_positives_nearer_and_negatives_farther(name: Name, squared: bool) -> None:
    anchor, positive, negative = (unit(i, 6).requires_grad_() for i in range(3))
    loss = build_loss(LossConfig(name=name, margin=2.0, squared=squared))
    loss(anchor, positive, negative, torch.arange(6)).loss.backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        moved = [
            torch.nn.functional.normalize(x - 1e-3 * (torch.zeros_like(x) if x.grad is None else x.grad), dim=1)
            for x in (anchor, positive, negative)
        ]
        own = (moved[0] * moved[1]).sum() - (anchor * positive).sum()
        assert float(own) > 0
        if name in ("triplet", "soft-triplet"):
            assert float((moved[0] * moved[2]).sum() - (anchor * negative).sum()) < 0
        else:
            others = ~torch.eye(6, dtype=torch.bool)
            assert float((moved[0] @ moved[1].T)[others].sum() - (anchor @ positive.T)[others].sum()) < 0


@pytest.mark.parametrize("temperature", [0.07, 0.1, 1.0])
def test_infonce_is_its_formula(temperature: float) -> None:
    """One positive each: −log of its share in a softmax over the 2B − 1 other pictures, averaged over all 2B."""
    a, p = unit(0, 6).float(), unit(1, 6).float()
    x = np.concatenate([a.numpy(), p.numpy()]).astype(np.float64)
    logits = x @ x.T / temperature
    np.fill_diagonal(logits, -np.inf)
    partner = (np.arange(12) + 6) % 12
    expected = np.mean([math.log(np.exp(row).sum()) - row[j] for row, j in zip(logits, partner, strict=True)])
    value = build_loss(LossConfig(temperature=temperature))(a, p, None, torch.arange(6))
    assert float(value.loss) == pytest.approx(expected, rel=1e-5)


def test_infonce_counts_no_picture_of_the_own_class_as_a_negative() -> None:
    """Two anchors of one class: SupCon (Khosla et al. 2020, eq. 2) with three positives each."""
    a, p = unit(0, 4).float(), unit(1, 4).float()
    classes = np.array([0, 1, 0, 2])
    x = np.concatenate([a.numpy(), p.numpy()]).astype(np.float64)
    label = np.concatenate([classes, classes])
    logits = x @ x.T / 0.1
    terms = []
    for i in range(8):
        others = [k for k in range(8) if k != i]
        log_all = math.log(np.exp(logits[i, others]).sum())
        terms.append(np.mean([log_all - logits[i, k] for k in others if label[k] == label[i]]))
    value = build_loss(LossConfig(temperature=0.1))(a, p, None, torch.from_numpy(classes))
    assert float(value.loss) == pytest.approx(np.mean(terms), rel=1e-5)


@pytest.mark.parametrize("squared", [True, False])
def test_semi_hard_is_the_mean_over_semi_hard_triplets(squared: bool) -> None:
    a, p = unit(0, 6).float(), unit(1, 6).float()
    x, label = torch.cat([a, p]).double().numpy(), np.tile(np.arange(6), 2)
    terms = []
    for i in range(12):
        for j in range(12):
            for k in range(12):
                if i != j and label[i] == label[j] and label[i] != label[k]:
                    d = distance(x[[i, i]], x[[j, k]], squared)
                    if 0 < d[1] - d[0] <= 0.4:
                        terms.append(d[0] - d[1] + 0.4)
    assert len(terms) > 3
    value = build_loss(LossConfig(name="semi-hard", margin=0.4, squared=squared))(a, p, None, torch.arange(6))
    assert float(value.loss) == pytest.approx(np.mean(terms), rel=1e-4)


@pytest.mark.parametrize("name", ["infonce", "semi-hard"])
def test_active_anchors_have_a_nearer_stranger(name: Name) -> None:
    a, p = unit(0, 9).float(), unit(1, 9).float()
    classes = torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 0])
    margin = 0.3 if name == "semi-hard" else 0.0
    x, label = torch.cat([a, p]).numpy(), torch.cat([classes, classes]).numpy()
    active = []
    for i in range(9):
        strangers = distance(x[i], x[label != label[i]], squared=True)
        active.append(strangers.min() <= distance(x[i], x[i + 9][None], squared=True)[0] + margin)
    assert 0 < np.mean(active) < 1
    value = build_loss(LossConfig(name=name, margin=0.3))(a, p, None, classes)
    assert float(value.active_fraction) == pytest.approx(np.mean(active))


def test_a_positive_on_the_far_side_is_still_nearer_than_a_stranger_opposite() -> None:
    a = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    p = torch.tensor([[-0.5, 0.75**0.5], [-1.0, 0.0]])
    assert float(build_loss(LossConfig())(a[:1], p[:1], None, torch.tensor([0])).active_fraction) == 0.0
    assert float(build_loss(LossConfig())(a, p, None, torch.arange(2)).active_fraction) == 0.0


def test_collapsed_networks_sit_at_the_known_values() -> None:
    x = torch.tensor([[1.0, 0.0]]).repeat(8, 1)
    classes = torch.arange(8)
    assert float(TripletLoss(margin=0.2)(x, x, x, classes).loss) == pytest.approx(0.2)
    assert float(TripletLoss(margin=0.2, soft=True)(x, x, x, classes).loss) == pytest.approx(math.log(2))
    infonce = build_loss(LossConfig())(x, x, None, classes)
    assert float(infonce.loss) == pytest.approx(math.log(15), rel=1e-5)
    assert float(infonce.active_fraction) == 1.0


@pytest.mark.parametrize("name", ["triplet", "soft-triplet", "infonce", "semi-hard"])
@pytest.mark.parametrize("squared", [True, False])
def test_gradients_are_finite_where_embeddings_coincide(name: Name, squared: bool) -> None:
    x = torch.nn.functional.normalize(torch.ones(4, 3), dim=1).requires_grad_()
    value = build_loss(LossConfig(name=name, squared=squared))(x, x * 1.0, x * 1.0, torch.arange(4))
    value.loss.backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())
    assert not value.active_fraction.requires_grad


def test_semi_hard_without_such_triplets_is_zero_and_has_a_gradient() -> None:
    x = torch.eye(4).requires_grad_()
    value = build_loss(LossConfig(name="semi-hard"))(x, x * 1.0, None, torch.arange(4))
    value.loss.backward()  # type: ignore[no-untyped-call]
    assert float(value.loss.detach()) == 0.0
    assert float(value.active_fraction) == 0.0
    assert x.grad is not None
    assert bool((x.grad == 0).all())
