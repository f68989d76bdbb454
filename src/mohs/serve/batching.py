"""Queries that come at the same time are embedded together; a queue that is full says so."""

import asyncio
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from mohs.model.embedder import Embedder
from mohs.serve.metrics import Metrics

__all__ = ["Batcher", "QueueFullError", "QueuePlaces"]


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


class _Waiting(NamedTuple):
    embedder: Embedder
    picture_HWC: NDArray[np.uint8]
    answer: asyncio.Future[NDArray[np.float32]]


@final
class Batcher:
    """Embeds in one thread; while a batch is under way the next one gathers, so nothing waits for company."""

    def __init__(self, max_batch: int, metrics: Metrics) -> None:
        self._max_batch = max_batch
        self._metrics = metrics
        self._waiting: deque[_Waiting] = deque()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="embed")
        self._running: asyncio.Task[None] | None = None

    async def embed(self, embedder: Embedder, picture_HWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the unit vector float32[D] of a picture that is prepared by the embedder's policy."""
        answer: asyncio.Future[NDArray[np.float32]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(embedder, picture_HWC, answer))
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
                pictures_BHWC = np.stack([each.picture_HWC for each in batch])
                try:
                    x_BD = await asyncio.get_running_loop().run_in_executor(
                        self._pool, batch[0].embedder.embed, pictures_BHWC
                    )
                except Exception as error:
                    for each in batch:
                        if not each.answer.done():
                            each.answer.set_exception(error)
                    continue
                self._metrics.batch_size.observe(len(batch))
                for each, x_D in zip(batch, x_BD, strict=True):
                    if not each.answer.done():
                        each.answer.set_result(x_D)
        finally:
            self._running = None

    def _next_batch(self) -> list[_Waiting]:
        """Return the queries that have waited longest and are for one embedder; those that gave up are left out."""
        batch: list[_Waiting] = []
        while self._waiting and len(batch) < self._max_batch:
            if batch and self._waiting[0].embedder is not batch[0].embedder:
                break
            each = self._waiting.popleft()
            if not each.answer.done():
                batch.append(each)
        return batch
