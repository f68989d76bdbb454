"""Queries that come at the same time are answered together; a queue that is full says so."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Generic, NamedTuple, TypeVar, final

from mohs.serve.metrics import Metrics

__all__ = ["Batcher", "QueueFullError", "QueuePlaces"]

G = TypeVar("G")
Q = TypeVar("Q")
A = TypeVar("A")


@final
class QueueFullError(Exception):
    """As many queries as may be are under way."""


@final
class QueuePlaces:
    """At most `num` queries under way, from their admission to their answer."""

    def __init__(self, num: int, metrics: Metrics) -> None:
        self._num = num
        self._taken = 0
        self._metrics = metrics

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place; raise `QueueFullError` if there is none."""
        if self._taken >= self._num:
            raise QueueFullError
        self._taken += 1
        self._metrics.under_way.set(self._taken)
        try:
            yield
        finally:
            self._taken -= 1
            self._metrics.under_way.set(self._taken)


class _Waiting(NamedTuple, Generic[G, Q, A]):
    group: G
    query: Q
    answer: asyncio.Future[A]


@final
class Batcher(Generic[G, Q, A]):
    """Answers queries of one group together, in one thread; `work` returns an answer for each query.

    While a batch is under way the next one gathers, so nothing waits for company.
    """

    def __init__(self, work: Callable[[G, Sequence[Q]], Sequence[A]], max_batch: int, metrics: Metrics) -> None:
        self._work = work
        self._max_batch = max_batch
        self._metrics = metrics
        self._waiting: deque[_Waiting[G, Q, A]] = deque()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="embed")
        self._running: asyncio.Task[None] | None = None

    async def ask(self, group: G, query: Q) -> A:
        """Return the answer to a query; what is not the same group is never in one batch."""
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(group, query, answer))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await answer

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch = self._next_batch()
                if not batch:
                    continue
                try:
                    answers = await asyncio.get_running_loop().run_in_executor(
                        self._pool, self._work, batch[0].group, [each.query for each in batch]
                    )
                except Exception as error:
                    for each in batch:
                        if not each.answer.done():
                            each.answer.set_exception(error)
                    continue
                self._metrics.batch_size.observe(len(batch))
                for each, answer in zip(batch, answers, strict=True):
                    if not each.answer.done():
                        each.answer.set_result(answer)
        finally:
            self._running = None

    def _next_batch(self) -> list[_Waiting[G, Q, A]]:
        """Return the queries that have waited longest and are of one group; those that gave up are left out."""
        batch: list[_Waiting[G, Q, A]] = []
        while self._waiting and len(batch) < self._max_batch:
            if batch and self._waiting[0].group is not batch[0].group:
                break
            each = self._waiting.popleft()
            if not each.answer.done():
                batch.append(each)
        return batch
