"""The classification loss against numpy by hand, where it starts, and the way it pushes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_metric_learning.losses import ArcFaceLoss
from torch import Tensor

from mohs.errors import InputError
from mohs.settings.config import ClassificationConfig
from mohs.training.class_warm_up import ClassificationLoss


def unit(seed: int, num: int, dim: int = 5) -> Tensor:
    x = torch.randn(num, dim, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(x, dim=1)


def make(seed: int = 0, num_classes: int = 7, **settings: object) -> ClassificationLoss:
    return ClassificationLoss(
        ClassificationConfig.model_validate(settings), num_classes=num_classes, embedding_dim=5, seed=seed
    )


def by_hand(loss: ClassificationLoss, x_BD: Tensor, class_B: Tensor) -> float:
    weight = loss.weight.detach().double().numpy()
    cosine = x_BD.double().numpy() @ (weight / np.linalg.norm(weight, axis=1, keepdims=True)).T
    terms = []
    for row, y in zip(cosine, class_B.tolist(), strict=True):
        if loss.config.loss == "arcface":
            angle, margin = math.acos(row[y]), loss.config.margin
            row[y] = math.cos(angle + margin) if angle + margin <= math.pi else row[y] - margin * math.sin(margin)
        logits = row / loss.config.temperature
        terms.append(math.log(np.exp(logits).sum()) - logits[y])
    return float(np.mean(terms))


@given(
    seed=st.integers(0, 500),
    kind=st.sampled_from(["cross-entropy", "arcface"]),
    temperature=st.floats(0.05, 2),
    margin=st.floats(0, 1.59),
)
def test_it_is_its_formula(seed: int, kind: str, temperature: float, margin: float) -> None:
    loss = make(seed, loss=kind, temperature=temperature, margin=margin)
    with torch.no_grad():
        loss.weight.mul_(3.0)  # only directions count
    x, classes = unit(seed + 1, 9), torch.from_numpy(np.random.default_rng(seed).integers(0, 7, 9))
    value, accuracy = loss(x, classes)
    assert float(value.detach()) == pytest.approx(by_hand(loss, x, classes), rel=2e-3, abs=1e-4)
    nearest = (x @ torch.nn.functional.normalize(loss.weight, dim=1).T).argmax(1)
    assert float(accuracy) == pytest.approx(float((nearest == classes).float().mean()))
    assert not accuracy.requires_grad


def test_arcface_is_the_librarys() -> None:
    loss = make(loss="arcface", temperature=1 / 16, margin=0.3)
    library = ArcFaceLoss(num_classes=7, embedding_size=5, margin=math.degrees(0.3), scale=16)
    with torch.no_grad():
        library.W.copy_(loss.weight.T)
    x, classes = unit(3, 20), torch.arange(20) % 7
    ours, theirs = loss(x, classes)[0], library(x, classes)
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=1e-5)


def test_without_a_margin_arcface_is_cross_entropy() -> None:
    x, classes = unit(3, 20), torch.arange(20) % 7
    values = [float(make(loss=kind, margin=0.0)(x, classes)[0].detach()) for kind in ("arcface", "cross-entropy")]
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    assert float(make(loss="arcface", margin=0.3)(x, classes)[0].detach()) > values[0]


@pytest.mark.parametrize("kind", ["cross-entropy", "arcface"])
def test_embeddings_at_another_class_cost_more(kind: str) -> None:
    loss = make(loss=kind)
    x, classes = loss.weight.detach(), torch.arange(7)
    right, right_accuracy = loss(x, classes)
    wrong, wrong_accuracy = loss(x, classes.roll(1))
    assert float(right.detach()) < float(wrong.detach())
    assert (float(right_accuracy), float(wrong_accuracy)) == (1.0, 0.0)


@pytest.mark.parametrize("kind", ["cross-entropy", "arcface"])
def test_gradients_are_right_and_finite_on_a_class_weight(kind: str) -> None:
    loss = make(loss=kind).double()
    x, classes = unit(0, 4).double().requires_grad_(), torch.tensor([0, 3, 6, 3])
    assert torch.autograd.gradcheck(lambda y: loss(y, classes)[0], x)
    on_weight = loss.weight.detach().clone().requires_grad_()
    for sign in (1.0, -1.0):
        gradients = torch.autograd.grad(loss(sign * on_weight, torch.arange(7))[0], [on_weight, loss.weight])
        assert all(bool(gradient.isfinite().all()) for gradient in gradients)
        assert float(gradients[0].abs().max()) < 1e3


@pytest.mark.parametrize("kind", ["cross-entropy", "arcface"])
def test_a_step_downhill_brings_embeddings_to_their_classes(kind: str) -> None:
    loss = make(loss=kind, temperature=1.0)
    x, classes = unit(0, 7).requires_grad_(), torch.arange(7)
    gradient_x, gradient_w = torch.autograd.grad(loss(x, classes)[0], [x, loss.weight])
    with torch.no_grad():
        before = torch.nn.functional.cosine_similarity(x, loss.weight)
        after = torch.nn.functional.cosine_similarity(x - 0.01 * gradient_x, loss.weight - 0.01 * gradient_w)
    assert bool((after > before).all())


def test_classes_start_at_what_is_known_and_the_others_at_random() -> None:
    known = {2: np.array([0.0, 3.0, 0.0, 0.0, 4.0], dtype=np.float32), 5: [1.0, 0.0, 0.0, 0.0, 0.0]}
    config = ClassificationConfig()
    loss = ClassificationLoss(config, num_classes=7, embedding_dim=5, known=known, seed=4)
    assert torch.allclose(loss.weight[2], torch.tensor([0.0, 0.6, 0.0, 0.0, 0.8]))
    assert torch.allclose(loss.weight[5], torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0]))
    unknown = ClassificationLoss(config, num_classes=7, embedding_dim=5, seed=4)
    others = [0, 1, 3, 4, 6]
    assert torch.equal(loss.weight[others], unknown.weight[others])
    assert torch.allclose(torch.linalg.vector_norm(unknown.weight, dim=1), torch.ones(7))
    assert not torch.equal(make(seed=5).weight, unknown.weight)
    assert torch.equal(make(seed=4).weight, unknown.weight)
    assert [tuple(parameter.shape) for parameter in loss.parameters()] == [(7, 5)]


def test_random_weights_leave_torchs_generator_alone() -> None:
    state = torch.get_rng_state()
    make()
    assert torch.equal(torch.get_rng_state(), state)


def test_known_vectors_that_cannot_be_are_refused_together() -> None:
    known = {
        7: np.ones(5),
        -1: np.ones(5),
        0: np.ones(4),
        1: np.zeros(5),
        2: np.array([1.0, np.nan, 0.0, 0.0, 0.0]),
        3: np.ones(5),
    }
    with pytest.raises(InputError) as refusal:
        ClassificationLoss(ClassificationConfig(), num_classes=7, embedding_dim=5, known=known, seed=0)
    assert list(refusal.value.problems) == [
        "known: class 7 is not in 0 … 6",
        "known: class -1 is not in 0 … 6",
        "known: class 0: shape (4,) is not (5,)",
        "known: class 1: NaN, Inf or nothing but 0; give an embedding",
        "known: class 2: NaN, Inf or nothing but 0; give an embedding",
    ]
