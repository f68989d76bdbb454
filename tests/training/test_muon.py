"""Muon against what it stands for: a step by the nearest orthogonal matrix."""

import numpy as np
import pytest
import torch
from torch import nn

from mohs.settings.config import LossConfig, ModelConfig, RunConfig, TrainingConfig
from mohs.training.optimizers import Muon, MuonWithAdamW, build_optimizer, orthogonalised


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


@pytest.mark.parametrize("shape", [(3, 50), (50, 3), (20, 20), (1, 7), (7, 1), (32, 9)])
def test_singular_values_come_near_one_and_directions_stay(shape: tuple[int, int]) -> None:
    matrix = random(*shape)
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonalised(matrix)
    inside = u.T @ found @ vh.T
    assert 0.6 < float(inside.diagonal().min()) <= float(inside.diagonal().max()) < 1.2
    assert float((inside - torch.diag(inside.diagonal())).abs().max()) < 0.02
    assert torch.allclose(u @ inside @ vh, found, atol=1e-4)


def test_the_rounds_are_the_published_ones() -> None:
    """The same as the plain iteration on the whole matrix."""
    x = random(8, 30).double()
    expected = x / torch.linalg.matrix_norm(x)
    for _ in range(5):
        gram = expected @ expected.T
        expected = 3.4445 * expected + (-4.7750 * gram + 2.0315 * gram @ gram) @ expected
    assert torch.allclose(orthogonalised(x), expected, atol=1e-6)


def test_the_size_of_a_gradient_does_not_matter_and_zero_stays_zero() -> None:
    matrix = random(4, 6)
    assert torch.allclose(orthogonalised(matrix), orthogonalised(1e3 * matrix), atol=1e-4)
    assert torch.equal(orthogonalised(torch.zeros(4, 6)), torch.zeros(4, 6))


def test_a_step_is_rate_times_size_times_the_orthogonal_matrix_and_decays_apart() -> None:
    weight = nn.Parameter(random(4, 2, 3, 3, seed=1))
    before, weight.grad = weight.detach().clone(), random(4, 2, 3, 3, seed=2)
    Muon([weight], lr=0.1, weight_decay=0.5).step()
    # The first mean is a fifth of the gradient; what is ahead of it points the same way.
    move = 0.1 * 0.8 * 18**0.5 * orthogonalised(weight.grad.reshape(4, 18)).reshape(weight.shape)
    assert torch.allclose(weight.detach(), before * (1 - 0.05) - move, atol=1e-5)


def test_vectors_and_a_losss_own_rows_are_adamws_and_the_head_is_muons() -> None:
    matrix, bias, proxies = (nn.Parameter(random(*shape)) for shape in ((6, 4), (6,), (5, 4)))
    groups = [
        {"params": [matrix, bias], "name": "head", "rate_factor": 1.0, "weight_decay": 0.0},
        {"params": [proxies], "name": "loss", "rate_factor": 1.0, "matrices": False},
    ]
    optimizer = build_optimizer(groups, RunConfig(training=TrainingConfig(optimizer="muon")))
    assert isinstance(optimizer, MuonWithAdamW)
    before = [p.detach().clone() for p in (matrix, bias, proxies)]
    for parameter in (matrix, bias, proxies):
        parameter.grad = random(*parameter.shape, seed=3)
    optimizer.param_groups[0]["lr"], optimizer.param_groups[1]["lr"] = 1e-2, 1e-3
    optimizer.step()
    moved = [(p.detach() - b).abs() for p, b in zip((matrix, bias, proxies), before, strict=True)]
    assert torch.allclose(moved[1], torch.full_like(moved[1], 1e-2), rtol=1e-3)  # AdamW's first step is its rate
    assert torch.allclose(moved[2], torch.full_like(moved[2], 1e-3), rtol=1e-2)
    assert not torch.allclose(moved[0], torch.full_like(moved[0], 1e-2), rtol=0.05)
    optimizer.zero_grad()
    assert all(p.grad is None for p in (matrix, bias, proxies))


def test_a_parameter_without_gradient_stays() -> None:
    weight = nn.Parameter(random(3, 3))
    before = weight.detach().clone()
    Muon([weight], lr=1.0, weight_decay=0.5).step()
    assert torch.equal(weight.detach(), before)


def test_its_state_goes_on_where_it_was() -> None:
    def steps(optimizer: MuonWithAdamW, weight: nn.Parameter, seeds: range) -> None:
        for seed in seeds:
            weight.grad = random(4, 3, seed=seed)
            optimizer.step()

    def new() -> tuple[nn.Parameter, MuonWithAdamW]:
        weight = nn.Parameter(random(4, 3))
        return weight, MuonWithAdamW([{"params": [weight], "weight_decay": 0.1}], learning_rate=0.01)

    whole, optimizer = new()
    steps(optimizer, whole, range(1, 7))
    first, optimizer = new()
    steps(optimizer, first, range(1, 4))
    state, (second, fresh) = optimizer.state_dict(), new()
    second.data.copy_(first.data)
    fresh.load_state_dict(state)
    steps(fresh, second, range(4, 7))
    assert torch.equal(whole, second)


def test_auto_is_muon_for_a_new_network_under_an_in_batch_loss_and_nowhere_else() -> None:
    triplet, pretrained = LossConfig(name="triplet"), ModelConfig(weights="weights.safetensors")
    assert RunConfig().optimizer == "muon"
    assert RunConfig(loss=triplet).optimizer == "adamw"
    assert RunConfig(model=pretrained).optimizer == "adamw"
    assert RunConfig(model=pretrained, training=TrainingConfig(optimizer="muon")).optimizer == "muon"
    assert RunConfig(training=TrainingConfig(optimizer="sgd")).optimizer == "sgd"
