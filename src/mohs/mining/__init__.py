"""Mining: for each anchor a negative at a wanted hardness, picked over the whole bank."""

from mohs.hardness.scales import Scale
from mohs.mining.memory import estimate_peak_bytes
from mohs.mining.mine import compile_kernels, mine
from mohs.mining.positives import choose_positives

__all__ = ["Scale", "choose_positives", "compile_kernels", "estimate_peak_bytes", "mine"]
