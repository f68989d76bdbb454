"""Where to compute, and in which precision."""

from typing import Literal

import torch

from mohs.errors import InputError

__all__ = ["choose_device", "use_bfloat16"]


def choose_device(name: Literal["auto", "cpu", "cuda", "mps"]) -> torch.device:
    """Return the device: for "auto" CUDA, else MPS, else the CPU; raise `InputError` for one this machine lacks."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device in ("cuda", "mps", "cpu") if available[device]))
    if not available[name]:
        raise InputError(f"training.device: {name!r} is not available here; use 'auto' or 'cpu'")
    return torch.device(name)


def use_bfloat16(precision: Literal["auto", "float32", "bfloat16"], device: torch.device) -> bool:
    """Return whether forward passes run in bfloat16: as told, or for "auto" on CUDA cards that compute in it.

    On a CPU "auto" stays with float32: the small network gains a fifth there, and its results are no longer the same
    on processors with and without bfloat16 instructions.
    """
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "bfloat16"
