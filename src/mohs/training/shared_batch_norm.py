"""Batch norm over the rows of all processes, so that training does not depend on how a batch is divided.

torch's own SyncBatchNorm does this on CUDA only. Sums are float64, in two passes: on the CPU this is more exact than
torch's batch norm, whose one-pass float32 sums over 100,000 white pixels put gradients of the small network off by up
to 6% (against float64). A run that torchrun started uses it with one process too, so that one and two processes agree.
It costs more time than torch's, so a run that nobody divides does without.
"""

from typing import Any, final

import torch
import torch.distributed as dist
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

__all__ = ["share_batch_norms"]


def share_batch_norms(network: nn.Module) -> None:
    """Make every batch norm of a network use the statistics of all processes' rows while it trains, in place.

    mean = Σx / n and var = Σ(x − mean)² / n over all processes; gradients flow through both. Running statistics are
    kept as torch keeps them (variance × n / (n − 1)), and are the same on every process. Parameters, buffers and their
    names stay as they are.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.forward = _SharedForward(module)  # type: ignore[method-assign, assignment]


@final
class _Normalise(torch.autograd.Function):
    """x̂ = (x − mean) / √(variance + eps) over all processes' rows; returns (x̂, mean, variance, n), float64 but for x̂.

    With g the gradient of x̂, that of x is (g − Σg / n − x̂ · Σ(g x̂) / n) / √(variance + eps), Σ over all processes
    (Ioffe and Szegedy 2015, section 3). All sums are float64: a mean that is off by its last digit is off for every
    pixel alike, and where pixels hardly differ that is all that the layer before hears of.
    """

    @staticmethod
    def forward(context: Any, x: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return x̂ and what it was made with."""
        others = [d for d in range(x.ndim) if d != 1]
        shape = [1, -1, *([1] * (x.ndim - 2))]
        num_rows = torch.full((1,), x.numel() / x.shape[1], dtype=torch.float64, device=x.device)
        total = _summed(torch.cat([x.sum(others, dtype=torch.float64), num_rows]))
        count = total[-1]
        mean_C = total[:-1] / count
        centred = x - mean_C.to(x.dtype).view(shape)
        variance_C = _summed(centred.square().sum(others, dtype=torch.float64)) / count
        scale_C = torch.rsqrt(variance_C + eps).to(x.dtype)
        y = centred.mul_(scale_C.view(shape))
        context.save_for_backward(y, scale_C, count)
        context.mark_non_differentiable(mean_C, variance_C, count)
        return y, mean_C, variance_C, count

    @staticmethod
    def backward(context: Any, gradient: Tensor, *_: Any) -> tuple[Tensor, None]:
        """Return the gradient of all processes' losses with respect to this process's rows."""
        y, scale_C, count = context.saved_tensors
        others = [d for d in range(y.ndim) if d != 1]
        shape = [1, -1, *([1] * (y.ndim - 2))]
        sums = torch.stack([gradient.sum(others, dtype=torch.float64), (gradient * y).sum(others, dtype=torch.float64)])
        mean_2C = (_summed(sums) / count).to(y.dtype)
        gradient = gradient - mean_2C[0].view(shape) - y * mean_2C[1].view(shape)
        return gradient.mul_(scale_C.view(shape)), None


def _summed(x: Tensor) -> Tensor:
    if not dist.is_initialized():
        return x  # a single process
    total = x.clone()
    dist.all_reduce(total)
    return total


@final
class _SharedForward:
    """The forward pass of one batch norm."""

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        self._norm = norm
        self._alone = norm.forward

    def __call__(self, x_BC: Tensor) -> Tensor:
        norm = self._norm
        if not norm.training:
            return self._alone(x_BC)
        y, mean_C, variance_C, count = _Normalise.apply(x_BC if x_BC.dtype == torch.float64 else x_BC.float(), norm.eps)
        if norm.weight is not None:
            shape = [1, -1, *([1] * (x_BC.ndim - 2))]
            y = y * norm.weight.view(shape) + norm.bias.view(shape)
        if norm.track_running_stats and norm.running_mean is not None and norm.running_var is not None:
            with torch.no_grad():
                assert norm.num_batches_tracked is not None
                norm.num_batches_tracked.add_(1)
                share = 1.0 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
                norm.running_mean.lerp_(mean_C.to(norm.running_mean.dtype), share)
                norm.running_var.lerp_((variance_C * count / (count - 1)).to(norm.running_var.dtype), share)
        y = y.to(x_BC.dtype)
        # timm's batch norms hold the activation that follows.
        out: Tensor = norm.act(norm.drop(y)) if isinstance(norm, BatchNormAct2d) else y
        return out
