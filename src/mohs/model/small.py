"""The small built-in convolutional network: trains on two cores at thousands of pictures a second."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

__all__ = ["SmallNetwork"]

_GRID = 4


@final
class SmallNetwork(nn.Module):
    """Stages of 3×3 convolution, batch norm, ReLU and 2×2 max pooling; the first convolution has stride 2.

    Takes float pictures [B, C, H, W] with H, W ≥ 8 and returns features [B, 16·W_last]: the last stage averaged to a
    4×4 grid and flattened, because where a stroke lies tells classes of drawings and parts apart. Any input size works.
    """

    def __init__(self, channels: int, widths: Sequence[int], *, batch_norm: bool = True) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        width_in = channels
        for stage, width in enumerate(widths):
            stride = 2 if stage == 0 else 1
            stages.append(nn.Conv2d(width_in, width, 3, stride=stride, padding=1, bias=not batch_norm))
            if batch_norm:
                stages.append(nn.BatchNorm2d(width))
            stages.append(nn.ReLU(inplace=True))
            # ceil_mode keeps tiny inputs from shrinking to nothing.
            stages.append(nn.MaxPool2d(2, ceil_mode=True))
            width_in = width
        self.stages = nn.Sequential(*stages)
        self.num_features = width_in * _GRID * _GRID

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return features [B, F]."""
        pooled: Tensor = nn.functional.adaptive_avg_pool2d(self.stages(x_BCHW), _GRID)
        return torch.flatten(pooled, 1)
