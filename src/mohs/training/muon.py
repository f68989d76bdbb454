"""Muon: an optimiser under which all directions of a layer learn at the same speed."""

from collections.abc import Iterable
from typing import Any, final

import torch
from torch import Tensor

__all__ = ["Muon", "orthogonalised"]

# The quintic of Jordan et al.: after five rounds singular values from 1.5e-3 to 1 lie between 0.67 and 1.21.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_NUM_ROUNDS = 5
_SIZE = 0.8


@final
class Muon(torch.optim.Optimizer):
    """Nesterov momentum whose step is made orthogonal, for weights of two dimensions and more.

    With g the gradient, M ← μM + (1−μ)g, u = (1−μ)g + μM, O ≈ (uuᵀ)^(−1/2) u and a weight of shape [R, C]:

        w ← (1 − rate·decay)·w − rate · 0.8·√max(R, C) · O

    A gradient of a small network has a few large singular values and many small ones, and what tells classes apart is
    often among the small ones; O has them all near 1. Jordan et al. 2024 (kellerjordan.github.io/posts/muon). At
    0.2·√max(R, C) a step is as large as AdamW's (Liu et al. 2025, "Muon is Scalable for LLM Training", section 2.2);
    small networks learnt best at four times that rate, so the factor is 0.8 and one rate serves both. They also learnt
    best with a short memory: μ of 0.8 rather than 0.95 (docs/lab-book.md). A convolution [O, I, H, W] is the matrix
    [O, I·H·W].

    torch's own Muon computes in bfloat16, which takes 30 times as long on a CPU that has no bfloat16 arithmetic (3.1 s
    a step for the small network), and takes matrices only.

    Args:
        groups: parameters, or {"params", and any of "lr", "weight_decay"}; a parameter without gradient stays as it is.
        lr: the rate.
        momentum: μ, in [0, 1).
        weight_decay: decoupled.

    >>> weight = torch.nn.Parameter(torch.zeros(2, 2))
    >>> weight.grad = torch.diag(torch.tensor([100.0, 1.0]))
    >>> Muon([weight], lr=1.0).step()
    >>> bool((weight.diagonal() < -0.6).all())
    True
    """

    def __init__(
        self, groups: Iterable[Any], *, lr: float = 1e-3, momentum: float = 0.8, weight_decay: float = 0.0
    ) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Change the parameters by their gradients; one without a gradient stays as it is."""
        for group in self.param_groups:
            rate, momentum = group["lr"], group["momentum"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                mean = state.setdefault("mean", torch.zeros_like(weight))
                mean.lerp_(weight.grad, 1.0 - momentum)
                ahead = weight.grad.lerp(mean, momentum)
                rows = len(weight)
                step_RC = orthogonalised(ahead.reshape(rows, -1))
                size = _SIZE * max(step_RC.shape) ** 0.5
                weight.mul_(1.0 - rate * group["weight_decay"])
                weight.add_(step_RC.reshape(weight.shape), alpha=-rate * size)


def orthogonalised(matrix_RC: Tensor) -> Tensor:
    """Return the matrix with its singular values moved near 1 (between 0.67 and 1.21 from 1.5e-3 of its norm on).

    Five rounds of X ← aX + b(XXᵀ)X + c(XXᵀ)²X, begun at X = M/‖M‖. Every X is Q·M/‖M‖ with Q a polynomial of XXᵀ, so
    the rounds are done on the small square matrices alone, and M is multiplied twice rather than ten times. A matrix
    of zeros stays zero.

    >>> values = torch.linalg.svdvals(orthogonalised(torch.diag(torch.tensor([3.0, 1.0, 0.1]))))
    >>> bool(values.min() > 0.6), bool(values.max() < 1.2)
    (True, True)
    """
    wide = matrix_RC.shape[0] <= matrix_RC.shape[1]
    x_SL = matrix_RC if wide else matrix_RC.T
    x_SL = x_SL / (torch.linalg.matrix_norm(x_SL) + 1e-7)
    gram_SS = x_SL @ x_SL.T
    unit_SS = torch.eye(len(x_SL), dtype=x_SL.dtype, device=x_SL.device)
    factor_SS = unit_SS
    for _ in range(_NUM_ROUNDS):
        round_SS = _A * unit_SS + _B * gram_SS + _C * (gram_SS @ gram_SS)
        factor_SS = round_SS @ factor_SS
        gram_SS = round_SS @ gram_SS @ round_SS
    result: Tensor = factor_SS @ x_SL
    return result if wide else result.T
