"""From the bytes of a picture, or an item's id, to what is found: decoded, embedded and searched in one edition."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, TypeVar, final

import numpy as np
from numpy.typing import NDArray

from mohs.data.images import ImagePolicy, decode_untrusted
from mohs.errors import InputError
from mohs.index.answers import Answer
from mohs.serve.batching import Batcher, QueuePlaces
from mohs.serve.editions import Edition, Editions
from mohs.serve.filters import require_plain_filter
from mohs.serve.messages import Found, found
from mohs.serve.metrics import Metrics
from mohs.serve.settings import ServeSettings

__all__ = ["NoItemError", "Queries", "SearchOptions"]

T = TypeVar("T")


@final
class NoItemError(Exception):
    """There is no item of this id."""


@final
@dataclass(frozen=True)
class SearchOptions:
    """How much a search returns, and of which items; see `Index.search`."""

    num_matches: int = 10
    where: str | None = None
    one_of_a_class: bool = False


@final
class Queries:
    """Answers queries, each from one edition: the newest when it began. `queue` has the places of all under way."""

    def __init__(self, editions: Editions, settings: ServeSettings, metrics: Metrics) -> None:
        self._editions = editions
        self._settings = settings
        self._metrics = metrics
        self.queue = QueuePlaces(settings.max_queue, metrics)
        self._batcher = Batcher(_embed_and_search, settings.max_batch, metrics)
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="decode-and-search")

    async def by_picture(self, data: bytes, options: SearchOptions) -> Found:
        """Return what is found for the bytes of a picture.

        Raises `InputError` for what is no picture, or too large a one, and for a bad filter; `QueueFullError`; and
        `TimeoutError` if it is not done in time.
        """

        async def ask(edition: Edition) -> Found:
            picture_HWC = await self.in_thread(self.decode, data, edition.index.embedder.policy)
            x_D, answer = await self._batcher.ask(edition, _Query(picture_HWC, options))
            query = hashlib.sha256(data).hexdigest()
            if answer is not None:
                return self._told(edition, query, answer)
            return await self.in_thread(self._search, edition, query, x_D, options)

        return await self._asked(ask)

    async def by_id(self, item: str, options: SearchOptions) -> Found:
        """Return what is found for an item's own picture; raise `NoItemError` if there is none of this id."""

        async def ask(edition: Edition) -> Found:
            place = edition.snapshot.place(item)
            if place is None:
                raise NoItemError
            x_D = await self.in_thread(edition.snapshot.vector, place)
            return await self.in_thread(self._search, edition, item, x_D, options)

        return await self._asked(ask)

    async def _asked(self, ask: Callable[[Edition], Awaitable[Found]]) -> Found:
        """Return what `ask` finds in the newest edition, in time and in a place of the queue."""
        with self.queue.place():
            async with asyncio.timeout(self._settings.inference_s):
                return await self.in_newest(ask)

    async def in_newest(self, ask: Callable[[Edition], Awaitable[T]]) -> T:
        """Return what `ask` makes of the current edition; if its files are gone, of the one that took its place."""
        edition = self._editions.current
        try:
            return await ask(edition)
        except InputError:
            newest = await self._editions.refresh()
            if newest is edition:
                raise
            return await ask(newest)

    async def in_thread(self, work: Callable[..., T], *given: object) -> T:
        """Return what `work` does in a thread for work that takes milliseconds."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *given)

    def decode(self, data: bytes, policy: ImagePolicy) -> NDArray[np.uint8]:
        """Return a picture prepared as `policy` says; raise `InputError` if it is none, or too large."""
        decoded = decode_untrusted(data, policy, self._settings.max_pixels)
        if decoded.pixels_HWC is None:
            raise InputError(f"picture: {decoded.problem}; send another picture")
        return decoded.pixels_HWC

    def close(self) -> None:
        """End the threads."""
        self._batcher.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _search(self, edition: Edition, query: str, x_D: NDArray[np.float32], options: SearchOptions) -> Found:
        if options.where is not None:
            # Where files lie on the disk is nobody's business, and a filter could find it out.
            columns = [name for name in edition.index.columns() if name != "path"]
            require_plain_filter(options.where, columns)
        [answer] = edition.snapshot.search(
            x_D[None],
            num_matches=options.num_matches,
            where=options.where,
            one_of_a_class=options.one_of_a_class,
            thumbnails=False,
        )
        return self._told(edition, query, answer)

    def _told(self, edition: Edition, query: str, answer: Answer) -> Found:
        told = found(edition, query, answer)
        if told.unknown:
            self._metrics.unknown.inc()
        return told


class _Query(NamedTuple):
    picture_HWC: NDArray[np.uint8]
    options: SearchOptions


def _embed_and_search(edition: Edition, queries: Sequence[_Query]) -> list[tuple[NDArray[np.float32], Answer | None]]:
    """Return the unit vector float32[D] of each query, and its answer if the search is one over all items.

    One product of matrices for all queries costs a quarter of one for each. A filter may have to read the store, for
    which other queries should not wait: those have no answer yet.
    """
    x_BD = edition.index.embedder.embed(np.stack([query.picture_HWC for query in queries]))
    answers: list[Answer | None] = [None] * len(queries)
    plain = [i for i, query in enumerate(queries) if query.options.where is None and not query.options.one_of_a_class]
    for num in {queries[i].options.num_matches for i in plain}:
        these = [i for i in plain if queries[i].options.num_matches == num]
        found_here = edition.snapshot.search(x_BD[these], num_matches=num, thumbnails=False)
        for i, answer in zip(these, found_here, strict=True):
            answers[i] = answer
    return list(zip(x_BD, answers, strict=True))
