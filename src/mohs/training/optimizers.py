"""Muon: an optimiser under which all directions of a layer learn at the same speed."""

from collections.abc import Iterable
from typing import Any, TypeAlias, final

import torch
from torch import Tensor, nn

from mohs.settings.config import RunConfig

__all__ = ["Muon", "MuonWithAdamW", "Optimizer", "build_optimizer", "orthogonalised", "shorten_gradient"]


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


def build_optimizer(groups: list[dict[str, Any]], config: RunConfig) -> "Optimizer":
    """Return the optimiser of the settings on parameter groups; their rates are set before each step.

    Each group is {"params", "weight_decay", "name", …}. With "muon", parameters of a group whose "matrices" is False
    (the proxies of a loss: rows that are pulled one by one) are left to AdamW.
    """
    training = config.training
    match config.optimizer:
        case "sgd":
            return torch.optim.SGD(
                groups,
                lr=training.learning_rate,
                momentum=training.momentum,
                nesterov=training.momentum > 0,
                weight_decay=training.weight_decay,
            )
        case "adamw":
            return torch.optim.AdamW(groups, lr=training.learning_rate, weight_decay=training.weight_decay)
        case "muon":
            return MuonWithAdamW(groups, learning_rate=training.learning_rate)


def shorten_gradient(optimizer: "Optimizer", max_norm: float) -> float:
    """Return the norm of the gradient of all that learns, and shorten it to `max_norm`, in place, if it is longer.

    With 0 it stays as it is. NaN and Inf are returned as they are: what they mean is the caller's to say.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    if max_norm > 0:
        return float(nn.utils.clip_grad_norm_(parameters, max_norm))
    return float(nn.utils.get_total_norm([p.grad for p in parameters]))


@final
class MuonWithAdamW:
    """Muon on weights of two dimensions and more, AdamW on the rest, behind one list of groups.

    One rate serves both, see `Muon`. `param_groups` are the groups as they were given, each with its "lr". Parameters
    of a group whose "matrices" is False are AdamW's, whatever their shape.
    """

    def __init__(self, groups: list[dict[str, Any]], *, learning_rate: float) -> None:
        self.param_groups = [{"lr": learning_rate, **group} for group in groups]
        # By place in the state: an optimiser, and for each of its groups the one whose rate it follows.
        self._inner: dict[str, tuple[torch.optim.Optimizer, list[dict[str, Any]]]] = {}
        for place, kind in enumerate((Muon, torch.optim.AdamW)):
            own, follow = [], []
            for group in self.param_groups:
                matrices = group.get("matrices", True)
                if chosen := [p for p in group["params"] if (matrices and p.ndim >= 2) == (kind is Muon)]:
                    own.append({"params": chosen, "weight_decay": group.get("weight_decay", 0.0)})
                    follow.append(group)
            if own:
                self._inner[str(place)] = kind(own, lr=learning_rate), follow

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients."""
        for optimizer, _ in self._inner.values():
            optimizer.zero_grad(set_to_none)

    def step(self) -> None:
        """Change the parameters by their gradients; one without a gradient stays as it is."""
        for optimizer, follow in self._inner.values():
            for own, leader in zip(optimizer.param_groups, follow, strict=True):
                own["lr"] = leader["lr"]
            optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the states of both, by place."""
        return {place: optimizer.state_dict() for place, (optimizer, _) in self._inner.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        for place, (optimizer, _) in self._inner.items():
            optimizer.load_state_dict(state_dict[place])


Optimizer: TypeAlias = torch.optim.Optimizer | MuonWithAdamW
"""What lowers a loss; the rates of its `param_groups` are set before each step."""
