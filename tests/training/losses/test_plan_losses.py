"""Losses on the plan's triplets against numpy by hand, their gradients, and the direction in which they push."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mohs.training.losses.plan_losses import ContrastiveLoss, SelectiveTripletLoss, TripletLoss
from mohs.training.losses.protocol import Loss

LOSSES: dict[str, Loss] = {
    "triplet": TripletLoss(margin=1.0),
    "triplet-plain": TripletLoss(margin=1.0, squared=False),
    "triplet-swap": TripletLoss(margin=1.0, swap=True),
    "soft": TripletLoss(margin=1.0, soft=True),
    "soft-plain": TripletLoss(margin=1.0, soft=True, squared=False),
    "selective": SelectiveTripletLoss(),
    "contrastive": ContrastiveLoss(margin=1.5),
}
ALL = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def unit(seed: int, num: int, dim: int = 5) -> Tensor:
    x = torch.randn(num, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(x, dim=1)


def norm(a: Tensor, b: Tensor) -> np.ndarray:
    return np.asarray(np.sqrt(((a.numpy() - b.numpy()) ** 2).sum(1)))


@given(seed=st.integers(0, 1000), margin=st.floats(0.01, 3), squared=st.booleans(), soft=st.booleans())
def test_swap_takes_the_nearer_of_anchor_and_positive(seed: int, margin: float, squared: bool, soft: bool) -> None:
    a, p, n = (unit(3 * seed + i, 7) for i in range(3))
    power = 2 if squared else 1
    gap = norm(a, p) ** power - np.minimum(norm(a, n), norm(p, n)) ** power
    terms = np.log1p(np.exp(gap)) if soft else np.maximum(0, gap + margin)
    value = TripletLoss(margin=margin, squared=squared, soft=soft, swap=True)(a, p, n, torch.arange(7))
    assert float(value.loss) == pytest.approx(terms.mean(), abs=1e-12)
    assert float(value.active_fraction) == pytest.approx((gap >= 0 if soft else terms > 0).mean())
    plain = TripletLoss(margin=margin, squared=squared, soft=soft)(a, p, n, torch.arange(7))
    assert float(value.loss) >= float(plain.loss)


@given(seed=st.integers(0, 1000), temperature=st.floats(0.05, 2), weight=st.floats(0.1, 3))
def test_selective_triplet_loss_is_its_formula(seed: int, temperature: float, weight: float) -> None:
    a, p, n = (unit(3 * seed + i, 7) for i in range(3))
    terms, hard = [], []
    for i in range(7):
        s_ap, s_an = float(a[i] @ p[i]), float(a[i] @ n[i])
        share = math.exp(s_ap / temperature) / (math.exp(s_ap / temperature) + math.exp(s_an / temperature))
        terms.append(weight * s_an if s_an > s_ap else -math.log(share))
        hard.append(s_an >= s_ap)
    value = SelectiveTripletLoss(temperature=temperature, hard_weight=weight)(a, p, n, torch.arange(7))
    assert float(value.loss) == pytest.approx(np.mean(terms), abs=1e-9)
    assert float(value.active_fraction) == pytest.approx(np.mean(hard))


def test_selective_triplet_loss_leaves_the_positive_of_a_hard_triplet_alone() -> None:
    a, p, n = (unit(i, 40).requires_grad_() for i in range(3))
    hard = ((a * n).sum(1) > (a * p).sum(1)).numpy()
    assert 0 < hard.sum() < 40
    value = SelectiveTripletLoss()(a, p, n, torch.arange(40))
    gradient_a, gradient_p, gradient_n = (g.numpy() for g in torch.autograd.grad(value.loss, [a, p, n]))
    assert (gradient_p[hard] == 0).all()
    assert (gradient_p[~hard] != 0).any(axis=1).all()
    # What is left is the similarity to the negative, and that alone.
    np.testing.assert_allclose(gradient_n[hard], a.detach().numpy()[hard] / 40)
    np.testing.assert_allclose(gradient_a[hard], n.detach().numpy()[hard] / 40)


@given(seed=st.integers(0, 1000), margin=st.floats(0.01, 2))
def test_contrastive_loss_is_its_formula(seed: int, margin: float) -> None:
    a, p, n = (unit(3 * seed + i, 7) for i in range(3))
    terms = norm(a, p) ** 2 + np.maximum(0, margin - norm(a, n)) ** 2
    value = ContrastiveLoss(margin=margin)(a, p, n, torch.arange(7))
    assert float(value.loss) == pytest.approx(terms.mean(), abs=1e-12)
    assert float(value.active_fraction) == pytest.approx((norm(a, n) < margin).mean())
    # Hadsell's own, averaged over the pairs, is a quarter.
    hadsell = [*(0.5 * norm(a, p) ** 2), *(0.5 * np.maximum(0, margin - norm(a, n)) ** 2)]
    assert 4 * np.mean(hadsell) == pytest.approx(float(value.loss), abs=1e-12)


@ALL
def test_gradients_are_right(loss: Loss) -> None:
    parts = [unit(i, 6).requires_grad_() for i in range(3)]
    assert torch.autograd.gradcheck(lambda a, p, n: loss(a, p, n, torch.arange(6)).loss, parts)


@ALL
def test_swapping_positive_and_negative_raises_the_loss(loss: Loss) -> None:
    anchor = unit(0, 8)
    near = torch.nn.functional.normalize(anchor + 0.1 * unit(1, 8), dim=1)
    right, wrong = (
        loss(anchor, *others, torch.arange(8)) for others in ((near, near.roll(1, 0)), (near.roll(1, 0), near))
    )
    assert float(right.loss) < float(wrong.loss)
    assert float(right.active_fraction) < float(wrong.active_fraction) or float(wrong.active_fraction) == 1.0


@ALL
def test_a_step_downhill_moves_negatives_away(loss: Loss) -> None:
    anchor, positive, negative = (unit(i, 30).requires_grad_() for i in range(3))
    value = loss(anchor, positive, negative, torch.arange(30))
    gradients = torch.autograd.grad(value.loss, [anchor, positive, negative])
    with torch.no_grad():
        a, p, n = (x - 1e-3 * g for x, g in zip((anchor, positive, negative), gradients, strict=True))
        assert float(loss(a, p, n, torch.arange(30)).loss) < float(value.loss)
        from_anchor, from_positive = (
            torch.linalg.vector_norm(x - n, dim=1) - torch.linalg.vector_norm(x - negative, dim=1)
            for x in (anchor, positive)
        )
        if loss == LOSSES["triplet-swap"]:  # away from the one that is nearer
            from_anchor = torch.maximum(from_anchor, from_positive)
        assert bool((from_anchor >= 0).all())
        assert float(from_anchor.mean()) > 1e-6


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("triplet", 1.0),
        ("triplet-plain", 1.0),
        ("triplet-swap", 1.0),
        ("soft", math.log(2)),
        ("soft-plain", math.log(2)),
        ("selective", math.log(2)),
        ("contrastive", 2.25),
    ],
)
@pytest.mark.parametrize("num", [1, 8])
def test_a_collapsed_network_pays_what_the_loss_says(name: str, expected: float, num: int) -> None:
    x = unit(5, 1).expand(num, 5).contiguous()
    value = LOSSES[name](x, x, x, torch.arange(num))
    assert float(value.loss) == pytest.approx(expected)
    assert LOSSES[name].collapsed_loss(num) == pytest.approx(expected)
    assert float(value.active_fraction) == 1.0


def test_a_nearly_collapsed_network_pays_between_the_two_cases_of_the_selective_loss() -> None:
    a, p, n = (torch.nn.functional.normalize(unit(0, 1) + 1e-4 * unit(i, 50), dim=1) for i in (1, 2, 3))
    assert math.log(2) < float(SelectiveTripletLoss()(a, p, n, torch.arange(50)).loss) < 1.0


@ALL
def test_gradients_are_finite_where_embeddings_coincide(loss: Loss) -> None:
    x = unit(0, 4).requires_grad_()
    value = loss(x, x * 1.0, x * 1.0, torch.arange(4))
    assert bool(torch.autograd.grad(value.loss, x)[0].isfinite().all())
    assert not value.active_fraction.requires_grad
