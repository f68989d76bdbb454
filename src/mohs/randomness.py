"""The only source of random numbers: each comes from (seed, purpose, step), never from global state."""

import contextlib
import hashlib
from collections.abc import Iterator

import numpy as np

from mohs.checks import is_whole
from mohs.errors import InputError, Problem

__all__ = ["check_seed", "derived_seed", "generator", "torch_seeded"]


def check_seed(seed: int) -> int:
    """Return `seed` if it is an integer in [0, 2**63); raise `InputError` otherwise."""
    if not is_whole(seed) or not 0 <= seed < 2**63:
        raise InputError(Problem("seed", f"{seed!r:.60} is not an integer in [0, 2**63)", "use for example seed=0"))
    return int(seed)


def derived_seed(seed: int, purpose: str, step: int = 0) -> int:
    """Return a 63-bit seed for one purpose and step.

    It is the first 8 bytes of SHA-256("seed/purpose/step"), little endian, top bit cleared.

    Streams of different purposes or steps are independent, and adding a new purpose never changes an old one.

    >>> derived_seed(0, "anchors", 3) == derived_seed(0, "anchors", 3) != derived_seed(0, "positives", 3)
    True
    """
    digest = hashlib.sha256(f"{check_seed(seed)}/{purpose}/{step}".encode()).digest()
    return int.from_bytes(digest[:8], "little") & (2**63 - 1)


def generator(seed: int, purpose: str, step: int = 0) -> np.random.Generator:
    """Return a numpy generator (PCG64) seeded with `derived_seed(seed, purpose, step)`."""
    return np.random.Generator(np.random.PCG64(derived_seed(seed, purpose, step)))


@contextlib.contextmanager
def torch_seeded(seed: int, purpose: str, step: int = 0) -> Iterator[None]:
    """Run a block with torch's generators (CPU and all CUDA devices) seeded, and give them back as they were.

    For code that can only draw from torch's global state: initial weights, dropout, torchvision's transforms.
    """
    import torch

    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        # torch.manual_seed does the same, and for each kind of device that is not there writes down the stack: .6 ms.
        derived = derived_seed(seed, purpose, step)
        torch.default_generator.manual_seed(derived)
        if torch.cuda.is_available():
            torch.cuda.manual_seed_all(derived)
        if torch.backends.mps.is_available():
            torch.mps.manual_seed(derived)
        yield
