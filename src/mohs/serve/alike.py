"""Why two pictures are alike, on demand: one question at a time, since each is a hundred pictures to embed."""

import asyncio
import base64
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Annotated, Any, Final, final

import numpy as np
from fastapi import FastAPI, Query, Request
from numpy.typing import NDArray

from mohs.data.images import MAX_PIXELS, decode_all, decode_untrusted
from mohs.errors import InputError
from mohs.index.rows import thumbnail_png
from mohs.model.occlusion import Occlusion, occlusion
from mohs.serve.batching import QueueFullError
from mohs.serve.editions import Edition, Editions
from mohs.serve.messages import Alike, AlikePicture, Failure
from mohs.serve.pictures import PICTURE_BODY, read_picture
from mohs.serve.queries import NoItemError, Queries
from mohs.serve.settings import ServeSettings

__all__ = ["WhyAlike", "add_routes"]

_FAILURES: Final[dict[int | str, dict[str, Any]]] = {404: {"model": Failure}, 415: {"model": Failure}}


@final
class WhyAlike:
    """Answers one question at a time, in a thread of its own."""

    def __init__(self, editions: Editions, queries: Queries, settings: ServeSettings) -> None:
        self._editions = editions
        self._queries = queries
        self._settings = settings
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="why")
        self._under_way: Future[Alike] | None = None

    async def of_picture(self, data: bytes, item: str) -> Alike:
        """Return why a picture and an item are alike.

        Raises `NoItemError`; `QueueFullError` while another question is under way; `TimeoutError`.
        """

        def prepare(edition: Edition) -> NDArray[np.uint8]:
            return self._queries.decode(data, edition.index.embedder.policy)

        return await self._ask(prepare, item)

    async def of_item(self, query: str, item: str) -> Alike:
        """Return why two items are alike; raises the same."""
        return await self._ask(lambda edition: _picture_of(edition, query), item)

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _ask(self, prepare: Callable[[Edition], NDArray[np.uint8]], item: str) -> Alike:
        # What was given up in time may be under way still.
        if self._under_way is not None and not self._under_way.done():
            raise QueueFullError
        self._under_way = self._pool.submit(_why, self._editions.current, prepare, item)
        async with asyncio.timeout(self._settings.inference_s):
            return await asyncio.wrap_future(self._under_way)


def add_routes(app: FastAPI, why: WhyAlike) -> None:
    """Add the addresses of this question."""
    item_id = Query(min_length=1, max_length=1000, description="id of an item")

    @app.post("/alike", openapi_extra=PICTURE_BODY, responses=_FAILURES, tags=["search"])
    async def why_picture_and_item(request: Request, item: Annotated[str, item_id]) -> Alike:
        """Say which parts make a picture and an item alike; it takes a second or more."""
        return await why.of_picture(await read_picture(request), item)

    @app.get("/alike", responses=_FAILURES, tags=["search"])
    async def why_two_items(query: Annotated[str, item_id], item: Annotated[str, item_id]) -> Alike:
        """Say which parts make two items alike; it takes a second or more."""
        return await why.of_item(query, item)


def _why(edition: Edition, prepare: Callable[[Edition], NDArray[np.uint8]], item: str) -> Alike:
    pictures = prepare(edition), _picture_of(edition, item)
    embed = edition.index.embedder.embed
    query_D, item_D = embed(np.stack(pictures))
    of_query = occlusion(_in_small_batches(embed), pictures[0], item_D)
    of_item = occlusion(_in_small_batches(embed), pictures[1], query_D)
    return Alike(
        version=edition.version,
        similarity=of_query.similarity,
        query=_told(pictures[0], of_query),
        item=_told(pictures[1], of_item),
    )


def _in_small_batches(embed: Callable[..., NDArray[np.float32]]) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    # Queries of others come in between.
    return lambda pictures: embed(pictures, batch_size=16)


def _told(picture_HWC: NDArray[np.uint8], found: Occlusion) -> AlikePicture:
    return AlikePicture(
        picture="data:image/png;base64," + base64.b64encode(thumbnail_png(picture_HWC)).decode("ascii"),
        cost=found.cost_GG.tolist(),
        marked_cost=found.marked_cost,
        random_cost=found.random_cost,
    )


def _picture_of(edition: Edition, item: str) -> NDArray[np.uint8]:
    """Return an item's picture, prepared: its file if it is still there, or else its thumbnail."""
    place = edition.snapshot.place(item)
    if place is None:
        raise NoItemError
    policy = edition.index.embedder.policy
    path = edition.snapshot.rows.column("path")[place].as_py()
    pixels_HWC = decode_all([path], policy)[0].pixels_HWC if path else None
    if pixels_HWC is None:
        thumbnail = edition.snapshot.store.rows([item]).column("thumbnail")[0].as_py()
        pixels_HWC = decode_untrusted(thumbnail, policy, MAX_PIXELS).pixels_HWC
    if pixels_HWC is None:
        raise InputError(f"item: {item[:100]!r} has no picture; ask for another")
    return pixels_HWC
