"""The processes of a run: where each computes, what they share, and whether the others are alive.

That is told by beats in the store that they all can reach. A process that is killed closes its connections, and those
that wait for it get an error at once. One that is stopped, or whose machine or network is gone, closes nothing: the
others would wait for ever, inside a call that nothing can end. So each process says every second that it is alive,
whatever it is busy with, and listens for the others.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, Literal, TypeVar, final

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mohs.checks import require
from mohs.errors import InputError, MohsError, Problem, TrainingError
from mohs.shown import printable

__all__ = ["Heartbeat", "Processes", "choose_device", "name_ranks", "processes", "use_bfloat16"]


def choose_device(name: Literal["auto", "cpu", "cuda", "mps"]) -> torch.device:
    """Return the device: for "auto" CUDA, else MPS, else the CPU; raise `InputError` for one this machine lacks."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device in ("cuda", "mps", "cpu") if available[device]))
    if not available[name]:
        raise InputError(Problem("training.device", f"{name!r} is not available here", "use 'auto' or 'cpu'"))
    return torch.device(name)


def use_bfloat16(precision: Literal["auto", "float32", "bfloat16"], device: torch.device) -> bool:
    """Return whether forward passes run in bfloat16: as told, or for "auto" on CUDA cards that compute in it.

    On a CPU "auto" stays with float32: the small network gains a fifth there, and its results are no longer the same
    on processors with and without bfloat16 instructions.
    """
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "bfloat16"


_Read = TypeVar("_Read")

_BEAT_S = 1.0
_LATE_S = 8.0
"""How long beats are waited for after a connection has broken."""


@final
class Heartbeat:
    """Beats of this process, and what is heard of the others. Clocks are not compared: a beat counts when it is heard.

    The store is that of torchrun, or of rank 0 where there is none; if it no longer answers, rank 0 is taken for gone.

    Args:
        rank: this process, from 0.
        num_ranks: how many there are.
        silent_s: a process not heard for so many seconds is taken for gone, and this one ends with exit code 5.
        join_s: the same until `all_are_here` is called.
    """

    def __init__(self, rank: int, num_ranks: int, *, silent_s: float, join_s: float) -> None:
        self._rank = rank
        self._silent_s = silent_s
        self._others = [other for other in range(num_ranks) if other != rank]
        # As if heard in the future: another process may still have to start.
        self._heard = dict.fromkeys(self._others, time.monotonic() + max(0.0, join_s - silent_s))
        self._num_heard = dict.fromkeys(self._others, 0)
        self._store_is_gone = False
        self._stop = threading.Event()
        # One may be stuck in a store that does not answer, and the other sees that nothing was heard.
        self._beating = threading.Thread(target=self._beat, daemon=True)
        self._watching = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Heartbeat":
        """Connect and begin; raise `TrainingError` if the store, where all have just met, is gone since."""
        self._watching.start()  # at once: a store that is stopped, not gone, takes the call below and never answers
        # An own connection: a command that waits for another process blocks a connection for that long. It is made
        # here and not in a thread, since Python aborts if a thread comes back from there while the process ends. torch
        # tries for more than twice the timeout.
        try:
            self._store = dist.TCPStore(  # type: ignore[attr-defined]
                os.environ["MASTER_ADDR"],
                int(os.environ["MASTER_PORT"]),
                is_master=False,
                wait_for_workers=False,
                timeout=timedelta(seconds=self._silent_s / 2),
            )
        except RuntimeError as error:
            self.__exit__()
            reason = f"its store does not answer: {(str(error).splitlines() or [''])[0][:160]}"
            if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
                raise TrainingError(
                    f"processes: torchrun is gone ({reason}); see its output, then start it again (a training with "
                    "--resume)"
                ) from None
            raise name_ranks([0], reason) from None
        self._store.set_timeout(timedelta(seconds=self._silent_s))
        self._beating.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for the threads, but not for ever: one may be with a store that is stopped."""
        self._stop.set()
        for thread in (self._watching, self._beating):
            if thread.ident is not None:
                thread.join(timeout=_LATE_S + 2 * _BEAT_S)

    def all_are_here(self) -> None:
        """Count silence from now on: every process has been heard of, if not by its beats."""
        self._heard = dict.fromkeys(self._others, time.monotonic())

    def wait_for_silent(self) -> list[int]:
        """Return the ranks that are gone, after an error that may be due to that; empty if all go on beating."""
        began, before = time.monotonic(), dict(self._num_heard)
        missing = list(self._others)
        while missing and time.monotonic() - began < _LATE_S:
            if self._store_is_gone:
                return [0]
            time.sleep(0.05)
            # One beat that was not heard yet can be left of a dead process, two cannot.
            missing = [rank for rank in self._others if self._num_heard[rank] < before[rank] + 2]
        # Who noticed earlier has left, too, as late as this process will: the cause is silent for longer.
        first = min((self._heard[rank] for rank in missing), default=0.0)
        return [rank for rank in missing if self._heard[rank] < first + _LATE_S / 2]

    def _beat(self) -> None:
        try:
            before: dict[int, bytes] = {}
            number = 0
            while not self._stop.wait(_BEAT_S if number else 0.0):
                number += 1
                self._store.set(_key(self._rank), str(number))
                for other in self._others:
                    said = self._store.get(_key(other)) if self._store.check([_key(other)]) else None
                    if said is not None and said != before.get(other):
                        before[other] = said
                        self._heard[other] = time.monotonic()
                        self._num_heard[other] += 1
        except RuntimeError:
            self._store_is_gone = True

    def _watch(self) -> None:
        """End the process when another is silent for too long: where it waits, no error would reach it."""
        while not self._stop.wait(_BEAT_S):
            now = time.monotonic()
            silent = [rank for rank, heard in self._heard.items() if now - heard > self._silent_s]
            if silent and not self._stop.is_set():
                # Nothing is heard of anybody through a store that does not answer, and the store is with rank 0.
                gone = [0] if 0 in silent else silent
                [line] = name_ranks(gone, f"silent for {self._silent_s:.0f} s").problems
                print(printable(f"mohs: {line}"), file=sys.stderr, flush=True)
                os._exit(TrainingError.exit_code)


def name_ranks(ranks: Sequence[int], what: str) -> TrainingError:
    """Return the error for ranks that are gone."""
    names = ("rank " if len(ranks) == 1 else "ranks ") + ", ".join(map(str, ranks))
    return TrainingError(
        f"processes: {names} {'is' if len(ranks) == 1 else 'are'} gone ({what}); see the output there, then "
        "start all processes again (a training with --resume)"
    )


def _key(rank: int) -> str:
    # torchrun's store outlives the processes that it starts again.
    return f"mohs/alive/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{rank}"


_SILENT_S = 40.0
_JOIN_S = 300.0
_PATIENCE = timedelta(days=7)
"""How long a living process is waited for: it may have far more to do than this one."""


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
        bank_group: Any | None = None,
        *,
        launched: bool | None = None,
    ) -> None:
        self.rank = rank
        self.num_ranks = num_ranks
        # A launched run computes in the same way with any number of processes, with one too.
        self.launched = num_ranks > 1 if launched is None else launched
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
        dist.all_reduce(flat)
        sizes = [gradient.numel() for gradient in gradients]
        for gradient, part in zip(gradients, torch.split(flat, sizes), strict=True):
            gradient.copy_(part.view_as(gradient))

    def gather(self, own: Any) -> list[Any]:
        """Return what each process gave, by rank."""
        if self.num_ranks == 1:
            return [own]
        gathered: list[Any] = [None] * self.num_ranks
        dist.all_gather_object(gathered, own, group=self._bank_group)
        return gathered

    def from_first(self, value: Any) -> Any:
        """Return rank 0's value, on every rank."""
        if self.num_ranks == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def first_here_first(self, read: Callable[[], _Read]) -> _Read:
        """Return what `read` returns here, once the first process of this machine is done with it.

        So that one of them fills the cache of decoded pictures, and the others find it full. Where it fails, it says
        so, and the others end with its exit code.
        """
        found: list[_Read] = []
        failure: MohsError | None = None
        if os.environ.get("LOCAL_RANK", str(self.rank)) == "0":
            try:
                found.append(read())
            except MohsError as error:
                failure = error
        failures = [code for code in self.gather(None if failure is None else failure.exit_code) if code]
        if failure is not None:
            raise failure
        if failures:
            raise SystemExit(failures[0])
        return found[0] if found else read()


@contextlib.contextmanager
def processes(device: torch.device, *, silent_s: float = _SILENT_S, join_s: float = _JOIN_S) -> Iterator[Processes]:
    """Yield this process among those of the run (NCCL on CUDA, else gloo), or alone.

    The environment says which: RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, as torchrun sets them or a person does,
    and on CUDA LOCAL_RANK (0 if not set), the number of the GPU on this machine that is this process's own.
    All processes must come within `join_s` seconds of each other. One that is killed is noticed at once, one that is
    not heard of for `silent_s` seconds is taken for gone; then this process ends, too, with one line that names it.
    Raises `InputError` if the environment makes no sense and `TrainingError` if another process is gone. Where this one
    waits for it and no error can be raised, it exits with the code of a `TrainingError`.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield Processes()
        return
    rank, num_ranks = _read_environment()
    if num_ranks == 1:
        yield Processes(launched=True)
        return
    try:
        store, *_ = next(dist.rendezvous("env://", timeout=timedelta(seconds=join_s)))  # type: ignore[attr-defined]
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0][:160]
        raise TrainingError(
            f"processes: rank {rank} did not meet all {num_ranks} processes at "
            f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']} ({reason}); start the same command in each"
        ) from None
    if device.type == "cuda":
        _take_own_gpu()
    with Heartbeat(rank, num_ranks, silent_s=silent_s, join_s=join_s) as heartbeat:
        try:
            dist.init_process_group(
                "nccl" if device.type == "cuda" else "gloo",
                store=dist.PrefixStore("mohs", store),  # type: ignore[attr-defined]
                rank=rank,
                world_size=num_ranks,
                timeout=_PATIENCE,
            )
            heartbeat.all_are_here()
            yield Processes(rank, num_ranks, dist.new_group(timeout=_PATIENCE))
        except RuntimeError:
            # Whatever was being sent: a gradient, a bank, the sums of a batch norm on the way back.
            if gone := heartbeat.wait_for_silent():
                raise name_ranks(gone, "its connection broke") from None
            raise
        finally:
            if dist.is_initialized():
                with contextlib.suppress(RuntimeError):
                    dist.destroy_process_group()


def _take_own_gpu() -> None:
    """Make "cuda" mean this process's own GPU, the LOCAL_RANK-th of the machine: NCCL refuses two ranks on one."""
    text, available = os.environ.get("LOCAL_RANK", "0"), torch.cuda.device_count()
    if not text.isdecimal() or int(text) >= available:
        what = f"{text!r} is not a GPU of this machine, which has {available}"
        fix = "start one process for each GPU with torchrun (--nproc-per-node), or use --device cpu"
        raise InputError(Problem("LOCAL_RANK", what, fix))
    torch.cuda.set_device(int(text))


def _read_environment() -> tuple[int, int]:
    """Return rank and number of processes; raise `InputError` if the variables make no sense."""
    names = ("RANK", "WORLD_SIZE", "MASTER_PORT")
    found = {name: os.environ.get(name, "") for name in names}
    problems = [
        f"{name}: {value!r} is not a whole number; start the command with torchrun, or unset RANK and WORLD_SIZE"
        for name, value in found.items()
        if not value.isdecimal() and (name != "MASTER_PORT" or found["WORLD_SIZE"] != "1")
    ]
    if not problems and found["WORLD_SIZE"] != "1" and not os.environ.get("MASTER_ADDR"):
        problems.append("MASTER_ADDR: not set; give the address of the machine of rank 0, or use torchrun")
    if not problems and int(found["RANK"]) >= int(found["WORLD_SIZE"]):
        problems.append(f"RANK: {found['RANK']} is not below WORLD_SIZE, {found['WORLD_SIZE']}; ranks count from 0")
    require(*problems)
    return int(found["RANK"]), int(found["WORLD_SIZE"])
