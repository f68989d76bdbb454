"""Compiling the kernels before the first plan is timed."""

import time

import numpy as np

from mohs.mining.entry import mine
from mohs.mining.scales import Scale

__all__ = ["compile_kernels"]

_NUM_ITEMS = 64


def compile_kernels(scale: Scale, *, half: bool = False) -> float:
    """Compile (or load from numba's cache) all that exact mining on a scale runs, and return the seconds it took.

    The first run after an installation compiles for some ten seconds, later ones load in less than one. Without this
    call the first `mine` pays for it. `half` is for banks of float16 or bfloat16, whose kernels are others (the same
    for both).

    >>> compile_kernels("rank") > 0
    True
    """
    began = time.perf_counter()
    float32_ND = np.random.Generator(np.random.PCG64(0)).standard_normal((_NUM_ITEMS, 4), dtype=np.float32)
    bank_ND = float32_ND.astype(np.float16) if half else float32_ND
    labels_N = np.arange(_NUM_ITEMS) // 2
    margin = 1.0 if scale == "margin" else None
    # Nearly all items as anchors go one way through the code, few anchors another.
    for num_anchors in (_NUM_ITEMS, 4):
        anchors_T = np.arange(num_anchors)
        mine(bank_ND, labels_N, anchors_T=anchors_T, hardness_T=0.5, scale=scale, margin=margin)
    return time.perf_counter() - began
