"""Proof that a network was not changed: the hash of its weights."""

import hashlib
import json

import torch
from torch import nn

__all__ = ["weights_sha256"]


def weights_sha256(network: nn.Module) -> str:
    """Return the SHA-256 of a network's `state_dict()`, 64 hex digits: parameters and buffers, batch norm's too.

    Hashed are, in the order of the names, the name, dtype and shape of each tensor and its bytes in row-major order. So
    the hash does not depend on the device or on the memory format, and a single changed bit changes it.

    >>> network = nn.Linear(2, 1)
    >>> before = weights_sha256(network)
    >>> with torch.no_grad():
    ...     _ = network.bias.add_(1.0)
    >>> len(before), weights_sha256(network) == before
    (64, False)
    """
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        # As bytes: numpy has no bfloat16.
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
