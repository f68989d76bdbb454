"""Random changes of a batch of pictures that leave their class as it is."""

import math
from dataclasses import dataclass
from typing import final

import numpy as np
import torch

from mohs.errors import InputError
from mohs.randomness import generator

__all__ = ["AugmentPolicy", "augment_batch"]


@final
@dataclass(frozen=True)
class AugmentPolicy:
    """How far a picture may change; every picture has its own draw, each number uniform in its range.

    Rotation in ±`rotation_degrees`, shear along x in ±`shear_degrees`, shift in ±`translate` of the width and of the
    height, size times `scale` (smallest, largest). `horizontal_flip` is the probability of mirroring: leave it 0
    where left and right matter (letters). Brightness is multiplied by 1 ± `brightness`, the distance to the
    picture's mean grey by 1 ± `contrast`. `fill` is the grey of what comes in at the edges, 0 black to 1 white.

    >>> AugmentPolicy.none().is_identity
    True
    """

    rotation_degrees: float = 10.0
    translate: float = 0.08
    scale: tuple[float, float] = (0.85, 1.15)
    shear_degrees: float = 5.0
    horizontal_flip: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    fill: float = 1.0

    def __post_init__(self) -> None:
        limits = {
            "rotation_degrees": 180.0,
            "translate": 1.0,
            "shear_degrees": 80.0,
            "horizontal_flip": 1.0,
            "brightness": 1.0,
            "contrast": 1.0,
            "fill": 1.0,
        }
        problems = [
            f"{name}: {getattr(self, name)!r} is not in [0, {limit:g}]; use for example {getattr(AugmentPolicy, name)}"
            for name, limit in limits.items()
            if not 0 <= getattr(self, name) <= limit
        ]
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1] < math.inf:
            problems.append(f"scale: {self.scale!r} is not two numbers, 0 < smallest <= largest; use (0.85, 1.15)")
        if problems:
            raise InputError(*problems)

    @classmethod
    def none(cls) -> "AugmentPolicy":
        """Return the policy that changes nothing."""
        return cls(rotation_degrees=0.0, translate=0.0, scale=(1.0, 1.0), shear_degrees=0.0)

    @property
    def moves(self) -> bool:
        """Whether pictures are rotated, shifted, scaled, sheared or mirrored."""
        amounts = (self.rotation_degrees, self.translate, self.shear_degrees, self.horizontal_flip)
        return any(amounts) or tuple(self.scale) != (1.0, 1.0)

    @property
    def is_identity(self) -> bool:
        """Whether the policy changes nothing."""
        return not (self.moves or self.brightness or self.contrast)


def augment_batch(pictures_BCHW: torch.Tensor, policy: AugmentPolicy, *, seed: int, step: int) -> torch.Tensor:
    """Return changed pictures of the same shape, dtype and device; the input is left as it is.

    `pictures_BCHW` is uint8 in [0, 255] or floating-point in [0, 1]. Each picture has its own affine map, and all
    are resampled in one bilinear pass (`affine_grid`, `grid_sample`), which costs no more than sharing draws: a loop
    of torchvision transforms pays its overhead once a picture. Random numbers depend on (seed, step) alone; global
    random state is neither read nor changed. A policy that changes nothing returns the input itself.

    >>> augment_batch(torch.ones(2, 1, 8, 8), AugmentPolicy(), seed=0, step=0).shape
    torch.Size([2, 1, 8, 8])
    """
    is_uint8 = pictures_BCHW.dtype == torch.uint8
    if pictures_BCHW.ndim != 4 or not (is_uint8 or pictures_BCHW.is_floating_point()):
        raise InputError(
            f"pictures_BCHW: {pictures_BCHW.dtype}{list(pictures_BCHW.shape)} is not [B, C, H, W] of uint8 or floats; "
            "put channels second"
        )
    if policy.is_identity or pictures_BCHW.numel() == 0:
        return pictures_BCHW
    random = generator(seed, "augment", step)
    changed = pictures_BCHW.to(torch.float32)
    if is_uint8:
        changed = changed / 255
    if policy.moves:
        batch, _, height, width = pictures_BCHW.shape
        maps_B23 = torch.from_numpy(_draw_maps(random, policy, batch, height, width)).to(pictures_BCHW.device)
        grid_BHW2 = torch.nn.functional.affine_grid(maps_B23, list(changed.shape), align_corners=False)
        # What lies outside is sampled as 0, so fill is made the zero; all devices have that mode.
        changed = policy.fill + torch.nn.functional.grid_sample(
            changed - policy.fill, grid_BHW2, mode="bilinear", padding_mode="zeros", align_corners=False
        )
    if policy.brightness or policy.contrast:
        changed = _change_light(changed, random, policy)
    return (changed * 255).round_().clamp_(0, 255).to(torch.uint8) if is_uint8 else changed.to(pictures_BCHW.dtype)


def _draw_maps(random: np.random.Generator, policy: AugmentPolicy, batch: int, height: int, width: int) -> np.ndarray:
    """Return float32 [B, 2, 3]: from a place in the new picture to one in the old, both in [-1, 1]²."""
    angle, shear = random.uniform(-1, 1, (2, batch)) * np.radians([[policy.rotation_degrees], [policy.shear_degrees]])
    size = random.uniform(*policy.scale, batch)
    shift_B2 = random.uniform(-2 * policy.translate, 2 * policy.translate, (batch, 2))
    mirror = np.where(random.random(batch) < policy.horizontal_flip, -1.0, 1.0)
    # new = rotation · shear · mirror · size · old, in pixels; the picture is sampled through the inverse.
    cos, sin, tan = np.cos(angle), np.sin(angle), np.tan(shear)
    forward_B22 = np.stack([cos * mirror, cos * tan - sin, sin * mirror, sin * tan + cos], axis=1).reshape(-1, 2, 2)
    inverse_B22 = np.linalg.inv(forward_B22 * size[:, None, None])
    half = np.array([width, height]) / 2
    inverse_B22 = inverse_B22 * half[None, None, :] / half[None, :, None]
    offset_B2 = -np.einsum("bij,bj->bi", inverse_B22, shift_B2)
    return np.concatenate([inverse_B22, offset_B2[:, :, None]], axis=2).astype(np.float32)


def _change_light(pictures: torch.Tensor, random: np.random.Generator, policy: AugmentPolicy) -> torch.Tensor:
    factors = 1 + random.uniform(-1, 1, (2, len(pictures))) * [[policy.brightness], [policy.contrast]]
    brightness, contrast = (
        torch.from_numpy(values.astype(np.float32)).to(pictures.device).view(-1, 1, 1, 1) for values in factors
    )
    bright = pictures * brightness
    mean = bright.mean(dim=(1, 2, 3), keepdim=True)
    return ((bright - mean) * contrast + mean).clamp_(0, 1)
