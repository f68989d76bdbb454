"""How a batch sampler is given to a torch `DataLoader`: as `batch_sampler`, and not as `sampler`."""

import sys
from typing import Final

from torch.utils.data import BatchSampler

from mohs.errors import InputError, Problem

__all__ = ["require_batch_sampler"]

_CALLER: Final = 2


def require_batch_sampler(name: str) -> None:
    """Raise `InputError` if the iteration that calls this was begun by torch's own `BatchSampler`; to be called in it.

    `DataLoader(dataset, sampler=…)` puts the sampler into a `BatchSampler`, which takes each batch for one index. What
    fails then lies far from the mistake, or nothing fails and pictures come with an axis too many. A sampler is not
    told how it is used; who begins its iteration is all there is to see.
    """
    if sys._getframe(_CALLER).f_code is BatchSampler.__iter__.__code__:
        what = f"{name} yields batches, and was given as the sampler of single items"
        fix = "give it as batch_sampler: DataLoader(dataset, batch_sampler=...), without batch_size and shuffle"
        raise InputError(Problem("sampler", what, fix))
