"""Several processes on one run: torchrun starts them, each takes its slice of every batch, and all see one plan.

Every process holds the whole network and the whole plan. What is divided is work: blocks of pictures to embed, rows of
a batch to train on. Embeddings of a batch are gathered, so that an in-batch loss sees the whole batch; each process has
gradients for its own rows, and their sum over the processes is the gradient of the whole batch. Batch norm over the
whole batch: `shared_batch_norm.py`. One process is the same code with nothing to send.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, final

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from mohs.errors import InputError, TrainingError

__all__ = ["Processes", "processes"]

_TIMEOUT_S = 45
"""A peer that says nothing for so long is taken for dead."""


@final
class Processes:
    """One process among `num_ranks`; `rank` counts from 0, and rank 0 is the one that writes files.

    Banks are gathered in `bank_group`: they may be planned in a thread beside training, and within one group messages
    of both would be taken for each other's.
    """

    def __init__(
        self,
        rank: int = 0,
        num_ranks: int = 1,
        store: Any | None = None,
        bank_group: Any | None = None,
        *,
        launched: bool | None = None,
    ) -> None:
        self.rank = rank
        self.num_ranks = num_ranks
        # A launched run computes in the same way with any number of processes, with one too.
        self.launched = num_ranks > 1 if launched is None else launched
        self._store = store
        self._bank_group = bank_group

    @property
    def is_first(self) -> bool:
        """Whether this process writes the run's files and speaks."""
        return self.rank == 0

    def share(self, num_rows: int) -> slice:
        """Return this process's rows of a batch: near-equal consecutive slices; all rows where some would have < 2.

        Every process then computes the same, which is right too (see `sum_gradients`), and batch norm has its two rows.
        """
        if not self.splits(num_rows):
            return slice(0, num_rows)
        return slice(self.rank * num_rows // self.num_ranks, (self.rank + 1) * num_rows // self.num_ranks)

    def splits(self, num_rows: int) -> bool:
        """Return whether a batch of so many rows is divided."""
        return self.num_ranks > 1 and num_rows >= 2 * self.num_ranks

    def gather_rows(self, own_BD: Tensor, num_rows: int) -> Tensor:
        """Return the rows of all processes in order, [num_rows, D]; only this process's carry a gradient."""
        if not self.splits(num_rows):
            return own_BD
        longest = -(-num_rows // self.num_ranks)
        padded = own_BD.new_zeros(longest, *own_BD.shape[1:])
        padded[: len(own_BD)] = own_BD.detach()
        parts = [torch.empty_like(padded) for _ in range(self.num_ranks)]
        with self._watched("gather embeddings"):
            dist.all_gather(parts, padded)
        bounds = [rank * num_rows // self.num_ranks for rank in range(self.num_ranks + 1)]
        rows = [part[: bounds[r + 1] - bounds[r]] for r, part in enumerate(parts)]
        rows[self.rank] = own_BD
        return torch.cat(rows)

    def sum_gradients(self, module: nn.Module, num_rows: int) -> None:
        """Add up the gradients of all processes, in place; nothing to do where each has computed the whole batch."""
        if not self.splits(num_rows):
            return
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        if not gradients:
            return
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        with self._watched("sum gradients"):
            dist.all_reduce(flat)
        sizes = [gradient.numel() for gradient in gradients]
        for gradient, part in zip(gradients, torch.split(flat, sizes), strict=True):
            gradient.copy_(part.view_as(gradient))

    def gather_blocks(self, blocks: dict[int, NDArray[np.float32]], num_blocks: int) -> list[NDArray[np.float32]]:
        """Return all blocks in order; each process gives those with number % num_ranks == rank."""
        if self.num_ranks == 1:
            return [blocks[i] for i in range(num_blocks)]
        own = [torch.from_numpy(blocks[i]) for i in sorted(blocks)]
        gathered: list[Any] = [None] * self.num_ranks
        with self._watched("gather the bank"):
            dist.all_gather_object(gathered, [block.numpy() for block in own], group=self._bank_group)
        return [gathered[i % self.num_ranks][i // self.num_ranks] for i in range(num_blocks)]

    def from_first(self, value: Any) -> Any:
        """Return rank 0's value, on every rank."""
        if self.num_ranks == 1:
            return value
        box = [value]
        with self._watched("hear from rank 0"):
            dist.broadcast_object_list(box, src=0)
        return box[0]

    @contextlib.contextmanager
    def _watched(self, what: str) -> Iterator[None]:
        """Turn what goes wrong between processes into one line that names the silent ranks."""
        if self._store is not None:
            self._store.set(f"mohs/alive/{self.rank}", str(time.time()))
        try:
            yield
        except RuntimeError as error:
            raise TrainingError(
                f"training: rank {self.rank} could not {what}: {self._silent()} gone or silent for {_TIMEOUT_S} s "
                f"({str(error).splitlines()[0][:160]}); see that rank's own output, then start again with --resume"
            ) from None

    def _silent(self) -> str:
        """Name the ranks that have said nothing since this one last did."""
        others = [rank for rank in range(self.num_ranks) if rank != self.rank]
        try:
            assert self._store is not None
            said = {rank: float(self._store.get(f"mohs/alive/{rank}")) for rank in (*others, self.rank)}
            oldest = min(said[rank] for rank in others)
            silent = [rank for rank in others if said[rank] < said[self.rank] - 1.0 or said[rank] == oldest]
        except (RuntimeError, AssertionError, ValueError):
            silent = others  # the store was rank 0's and died with it
        return ("rank " if len(silent) == 1 else "ranks ") + ", ".join(map(str, silent))


@contextlib.contextmanager
def processes(device: torch.device) -> Iterator[Processes]:
    """Yield this process among those that torchrun started (NCCL on CUDA, else gloo), or alone.

    Raises `InputError` if torchrun's environment variables are there but make no sense.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield Processes()
        return
    try:
        rank, num_ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    except ValueError:
        raise InputError(
            f"RANK, WORLD_SIZE: {os.environ['RANK']!r}, {os.environ['WORLD_SIZE']!r} are not whole numbers; start the "
            "command with torchrun, or unset them"
        ) from None
    if num_ranks == 1:
        yield Processes(launched=True)
        return
    timeout = timedelta(seconds=_TIMEOUT_S)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timeout)
    try:
        store = dist.distributed_c10d._get_default_store()
        yield Processes(rank, num_ranks, store, dist.new_group(timeout=timeout))
    finally:
        with contextlib.suppress(RuntimeError):
            dist.destroy_process_group()
