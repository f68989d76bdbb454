"""Random changes of a batch of pictures that leave their class as it is."""

import math
from dataclasses import dataclass
from typing import Any, final

import torch
from torchvision.transforms import v2

from mohs.checks import require, wrong_number, wrong_whole
from mohs.errors import InputError, Problem
from mohs.randomness import torch_seeded

__all__ = ["AugmentPolicy", "augment_batch"]


@final
@dataclass(frozen=True)
class AugmentPolicy:
    """How far a picture may change; each number is drawn uniformly in its range.

    Rotation in ±`rotation_degrees`, shear along x in ±`shear_degrees`, shift in ±`translate` of the width and of the
    height (in whole pixels), size times `scale` (smallest, largest). `horizontal_flip` is the probability of mirroring:
    leave it 0 where left and right matter (letters). Brightness is multiplied by 1 ± `brightness`, the distance to the
    picture's mean grey by 1 ± `contrast`. `fill` is the grey of what comes in at the edges, 0 black to 1 white.
    `num_draws` is the number of draws for a batch: one of B pictures is divided at random into that many groups (B, if
    B is smaller), and the pictures of a group change alike.

    >>> AugmentPolicy.of_strength(0).is_identity
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
    num_draws: int = 16

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
        rises = len(self.scale) == 2 and 0 < self.scale[0] <= self.scale[1] < math.inf
        rule = f"{self.scale!r} is not two numbers, 0 < smallest <= largest"
        require(
            *(
                wrong_number(name, getattr(self, name), at_least=0, at_most=limit, example=getattr(AugmentPolicy, name))
                for name, limit in limits.items()
            ),
            None if rises else Problem("scale", rule, "use for example (0.85, 1.15)"),
            wrong_whole("num_draws", self.num_draws, example=16),
        )

    @classmethod
    def of_strength(cls, strength: float) -> "AugmentPolicy":
        """Return the default policy with every change scaled by `strength`: 0 changes nothing, 1 is `AugmentPolicy()`.

        >>> AugmentPolicy.of_strength(0.5).rotation_degrees
        5.0
        """
        require(wrong_number("strength", strength, at_least=0, at_most=1, example=1))
        full = cls()
        return cls(
            rotation_degrees=strength * full.rotation_degrees,
            translate=strength * full.translate,
            scale=(1.0 - strength * (1.0 - full.scale[0]), 1.0 + strength * (full.scale[1] - 1.0)),
            shear_degrees=strength * full.shear_degrees,
        )

    @property
    def warps(self) -> bool:
        """Whether pictures are rotated, shifted, scaled or sheared."""
        return any((self.rotation_degrees, self.translate, self.shear_degrees)) or tuple(self.scale) != (1.0, 1.0)

    @property
    def is_identity(self) -> bool:
        """Whether the policy changes nothing."""
        return not (self.warps or self.horizontal_flip or self.brightness or self.contrast)


def augment_batch(
    pictures_BCHW: torch.Tensor, policy: AugmentPolicy, *, seed: int, step: int, first: int = 0, of: int | None = None
) -> torch.Tensor:
    """Return changed pictures of the same shape, dtype and device; the input is left as it is.

    With `of`, the pictures are the rows `first` … `first` + B − 1 of a batch of `of` pictures, and change as they would
    in a call with the whole batch.

    `pictures_BCHW` is uint8 in [0, 255] or floating-point in [0, 1], with 1 or 3 channels. The changes are
    torchvision's `v2.RandomAffine` (bilinear), `v2.RandomHorizontalFlip` and `v2.ColorJitter`, those that the policy
    uses. They make one draw for all pictures of a call and spend most of a call on overhead, so a call a picture costs
    several times more than the network, and a call a batch would change all pictures alike. Hence the groups: the batch
    is permuted at random and cut into min(`policy.num_draws`, B) near-equal groups, one call each. Two pictures may
    share a group: augment in two calls what must differ, such as two views of one picture.

    Random numbers depend on (seed, step) alone; global random state is neither read nor changed. A policy that changes
    nothing returns the input itself.

    >>> augment_batch(torch.ones(2, 1, 8, 8), AugmentPolicy(), seed=0, step=0).shape
    torch.Size([2, 1, 8, 8])
    """
    is_uint8 = pictures_BCHW.dtype == torch.uint8
    if (
        pictures_BCHW.ndim != 4
        or pictures_BCHW.shape[1] not in (1, 3)
        or not (is_uint8 or pictures_BCHW.is_floating_point())
    ):
        what = f"{pictures_BCHW.dtype}{list(pictures_BCHW.shape)} is not [B, 1 or 3, H, W] of uint8 or floats"
        raise InputError(Problem("pictures_BCHW", what, "put channels second"))
    if policy.is_identity or pictures_BCHW.numel() == 0:
        return pictures_BCHW
    # Not every device interpolates in half precision.
    pictures = pictures_BCHW.float() / 255 if is_uint8 else pictures_BCHW.float()
    changed = torch.empty_like(pictures)
    warp, change = _build_transforms(policy)
    of = len(pictures) if of is None else of
    num_groups = min(policy.num_draws, of)
    with torch_seeded(seed, "augment", step):
        for rows in torch.randperm(of).tensor_split(num_groups):
            here = rows[(rows >= first) & (rows < first + len(pictures))].to(pictures.device) - first
            # A group without a picture here draws all the same, so that the next one draws what it would elsewhere.
            group = pictures[here] if len(here) else pictures[:1]
            # RandomAffine's own fill leaves a rim of another grey (a quarter of the way to 0); around 0 it does not.
            group = change(warp(group - policy.fill) + policy.fill if policy.warps else group)
            if len(here):
                changed[here] = group
    changed.clamp_(0, 1)  # rounding may step over by a last digit
    return (changed * 255).round_().to(torch.uint8) if is_uint8 else changed.to(pictures_BCHW.dtype)


def _build_transforms(policy: AugmentPolicy) -> tuple[Any, Any]:
    """Return the affine change and the others."""
    warp = v2.RandomAffine(
        policy.rotation_degrees,
        translate=(policy.translate, policy.translate) if policy.translate else None,
        scale=policy.scale if tuple(policy.scale) != (1.0, 1.0) else None,
        shear=policy.shear_degrees or None,
        interpolation=v2.InterpolationMode.BILINEAR,
        fill=None,
    )
    others: list[Any] = [v2.Identity()]
    if policy.horizontal_flip:
        others.append(v2.RandomHorizontalFlip(policy.horizontal_flip))
    if policy.brightness or policy.contrast:
        others.append(v2.ColorJitter(brightness=policy.brightness or None, contrast=policy.contrast or None))
    return warp, v2.Compose(others)
