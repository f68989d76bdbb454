"""Mining: for each anchor a negative at a wanted hardness, picked over the whole bank."""

from mohs.mining.entry import mine
from mohs.mining.memory import estimate_peak_bytes
from mohs.mining.positives import choose_positives
from mohs.mining.scales import Scale
from mohs.mining.warm_up import compile_kernels

__all__ = ["Scale", "choose_positives", "compile_kernels", "estimate_peak_bytes", "mine"]
