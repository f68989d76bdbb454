"""Threads for mining, one matrix product each, none of them spinning; and how far it has come."""

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cache
from itertools import islice
from typing import Any, TypeAlias, final

from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

__all__ = ["Meter", "Progress", "for_each", "num_threads", "one_blas_thread"]


_WAITING = 16  # values a thread, begun or waiting: enough that none idles behind one that takes long


def num_threads() -> int:
    """Return how many threads mine: OMP_NUM_THREADS if it is set, else the processors this process may use."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def one_blas_thread() -> AbstractContextManager[Any]:
    """Keep numpy's matrix products on the thread that asks for them, while the context lasts.

    Mining threads multiply side by side; a product that spreads over threads of its own would wait, spinning, for
    processors that are busy.
    """
    return _openblas().limit(limits=1)  # type: ignore[no-any-return]


def for_each(
    work: Callable[[int], None], values: Sequence[int], threads: int, tick: Callable[[int, int], None] | None = None
) -> None:
    """Call `work` with each value, on several threads; an error or Ctrl-C stops what has not begun.

    `tick` is called with (values done, values) from the calling thread; an error that it raises stops the work too.
    """
    if threads == 1:
        for count, value in enumerate(values, 1):
            work(value)
            if tick is not None:
                tick(count, len(values))
        return
    pool = ThreadPoolExecutor(threads)
    # Few wait at a time: the pairs of tiles of a sweep grow with N², and each that waits takes a kilobyte.
    waiting: deque[Future[None]] = deque()
    rest = iter(values)
    try:
        for count in range(1, len(values) + 1):
            waiting.extend(pool.submit(work, value) for value in islice(rest, _WAITING * threads - len(waiting)))
            waiting.popleft().result()
            if tick is not None:
                tick(count, len(values))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@cache
def _openblas() -> Any:
    return ThreadpoolController().select(internal_api="openblas")


Progress: TypeAlias = Callable[[int, int], None]
"""Called with (done, in all)."""


@final
class Meter:
    """Reports (anchors done, anchors in all) while stages of work, each with a number of tasks, follow each other.

    What is reported never falls. A stage is worth a number of anchors: those it serves, or a part of them where several
    stages serve the same ones.

    >>> meter = Meter(lambda done, total: print(done, "of", total), 10)
    >>> tick = meter.stage(4)
    >>> tick(1, 2)
    2 of 10
    >>> meter.stage()(3, 3)
    10 of 10
    """

    def __init__(self, report: Progress | None, num_anchors: int) -> None:
        self._report = report
        self._total = num_anchors
        self._done = 0

    @property
    def left(self) -> int:
        """Anchors that no stage has accounted for so far."""
        return self._total - self._done

    def stage(self, num_anchors: int | None = None) -> Progress:
        """Return what a stage worth so many anchors (None: all that are left) calls with (tasks done, tasks)."""
        first, span = self._done, self.left if num_anchors is None else min(num_anchors, self.left)

        def tick(done: int, total: int) -> None:
            self._tell(first + span * done // total)

        return tick

    def finish(self) -> None:
        """Report that all is done, unless that has been said."""
        if self.left:
            self._tell(self._total)

    def _tell(self, done: int) -> None:
        self._done = done
        if self._report is not None:
            self._report(self._done, self._total)
