"""The optimisers of the settings; Muon for matrices, with AdamW for all else."""

from typing import Any, Protocol, final

import torch
from torch import nn

from mohs.config import RunConfig
from mohs.training.muon import Muon

__all__ = ["MuonWithAdamW", "Optimizer", "build_optimizer", "shorten_gradient"]


class Optimizer(Protocol):
    """What the loop needs of an optimiser: torch's own have it.

    `param_groups` hold "params", "lr" and what else they were given; rates are set there before each step.
    """

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups, as they were given."""
        ...

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients."""
        ...

    def step(self) -> Any:
        """Change the parameters by their gradients."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        ...


def build_optimizer(groups: list[dict[str, Any]], config: RunConfig) -> Optimizer:
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


def shorten_gradient(optimizer: Optimizer, max_norm: float) -> float:
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

    One rate serves both, see `Muon`. Parameters of a group whose "matrices" is False are AdamW's, whatever their shape.
    """

    def __init__(self, groups: list[dict[str, Any]], *, learning_rate: float) -> None:
        self._groups = [{"lr": learning_rate, **group} for group in groups]
        inner: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
        # For each inner group the one whose rate it follows.
        self._follow: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
        for group in self._groups:
            by_muon = [p for p in group["params"] if p.ndim >= 2 and group.get("matrices", True)]
            by_adamw = [p for p in group["params"] if p.ndim < 2 or not group.get("matrices", True)]
            for parameters, own, follow in zip((by_muon, by_adamw), inner, self._follow, strict=True):
                if parameters:
                    own.append({"params": parameters, "weight_decay": group.get("weight_decay", 0.0)})
                    follow.append(group)
        self._inner: tuple[torch.optim.Optimizer | None, torch.optim.Optimizer | None] = (
            Muon(inner[0], lr=learning_rate) if inner[0] else None,
            torch.optim.AdamW(inner[1], lr=learning_rate) if inner[1] else None,
        )

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups as they were given, each with its "lr"."""
        return self._groups

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients."""
        for optimizer in self._inner:
            if optimizer is not None:
                optimizer.zero_grad(set_to_none)

    def step(self) -> None:
        """Change the parameters by their gradients; one without a gradient stays as it is."""
        for optimizer, follow in zip(self._inner, self._follow, strict=True):
            if optimizer is not None:
                for own, leader in zip(optimizer.param_groups, follow, strict=True):
                    own["lr"] = leader["lr"]
                optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the states of both, by place."""
        return {str(i): each.state_dict() for i, each in enumerate(self._inner) if each is not None}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        for i, each in enumerate(self._inner):
            if each is not None:
                each.load_state_dict(state_dict[str(i)])
