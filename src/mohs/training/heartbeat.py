"""Whether the other processes of a run are alive, told by beats in the store that they all can reach.

A process that is killed closes its connections, and those that wait for it get an error at once. One that is stopped,
or whose machine or network is gone, closes nothing: the others would wait for ever, inside a call that nothing can end.
Here each process says every second that it is alive, whatever it is busy with, and listens for the others.
"""

import os
import sys
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import final

import torch.distributed as dist

from mohs.errors import TrainingError

__all__ = ["Heartbeat", "name_ranks"]

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
                    f"training: torchrun is gone ({reason}); see what was said there, then start it again with --resume"
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
                print(f"mohs: {line}", file=sys.stderr, flush=True)
                os._exit(TrainingError.exit_code)


def name_ranks(ranks: Sequence[int], what: str) -> TrainingError:
    """Return the error for ranks that are gone."""
    names = ("rank " if len(ranks) == 1 else "ranks ") + ", ".join(map(str, ranks))
    return TrainingError(
        f"training: {names} {'is' if len(ranks) == 1 else 'are'} gone ({what}); see what was said there, then start "
        "all processes again with --resume"
    )


def _key(rank: int) -> str:
    # torchrun's store outlives the processes that it starts again.
    return f"mohs/alive/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{rank}"
