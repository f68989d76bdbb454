"""What changes something: items, by those who have the token, and feedback."""

import asyncio
import hmac
import json
from typing import Annotated, Any, Literal, final

from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field

from mohs.errors import InputError
from mohs.index.rows import NewItem
from mohs.serve.editions import Edition, Editions
from mohs.serve.feedback import ReviewList, ReviewPicture
from mohs.serve.messages import Failure, Stored, Told
from mohs.serve.metrics import Metrics
from mohs.serve.pictures import PICTURE_BODY, read_picture
from mohs.serve.queries import NoItemError, Queries
from mohs.serve.settings import ServeSettings

__all__ = ["add_routes"]

_BEARER = HTTPBearer(auto_error=False, description="off unless the service was given a token")
_DENIED: dict[int | str, dict[str, Any]] = {401: {"model": Failure}, 404: {"model": Failure}, 409: {"model": Failure}}


@final
class Verdict(BaseModel):
    """What somebody says of a match."""

    model_config = ConfigDict(extra="forbid", strict=True)  # true is no number

    query: str = Field(min_length=1, max_length=1000, description="as the answer has it: an id, or an upload's hash")
    item: str = Field(min_length=1, max_length=1000, description="the match's id")
    verdict: Literal["same", "different"]
    distance: float = Field(ge=0, le=2, allow_inf_nan=False)


def add_routes(
    app: FastAPI,
    editions: Editions,
    queries: Queries,
    review: ReviewList,
    settings: ServeSettings,
    metrics: Metrics,
) -> None:
    """Add the addresses that change something."""
    changing = asyncio.Lock()

    async def allowed(given: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]) -> None:
        if settings.token is None:
            raise HTTPException(403, "token: changes are off; start the service with MOHS_SERVE_TOKEN")
        wanted = settings.token.get_secret_value().encode()
        if given is None or not hmac.compare_digest(given.credentials.encode(), wanted):
            raise HTTPException(401, "token: wrong or missing; send it as a bearer", {"www-authenticate": "Bearer"})

    @app.post(
        "/items",
        status_code=201,
        dependencies=[Depends(allowed)],
        openapi_extra=PICTURE_BODY,
        responses={**_DENIED, 415: {"model": Failure}},
        tags=["items"],
    )
    async def add_item(
        request: Request,
        id: Annotated[str, Query(min_length=1, max_length=1000)],  # noqa: A002
        label: Annotated[str, Query(alias="class", min_length=1, max_length=1000)],
        cells: Annotated[
            str,
            Query(description="other columns, as a JSON object; an address has room for 32 KiB", max_length=10_000),
        ] = "{}",
    ) -> Stored:
        """Add an item, of a new class too, by its picture."""
        values = _cells(cells)
        data = await read_picture(request)
        with queries.queue.place():
            async with changing, asyncio.timeout(settings.inference_s):
                edition = await editions.refresh()
                if edition.snapshot.place(id) is not None:
                    raise HTTPException(409, "id: there is an item of this id; remove it, or give another")
                await queries.in_thread(queries.decode, data, edition.index.embedder.policy)
                item = NewItem(id, label, data, values)
                await queries.in_thread(edition.index.add_pictures, [item])
                return _stored(await editions.refresh())

    @app.delete("/items/{id:path}", dependencies=[Depends(allowed)], responses=_DENIED, tags=["items"])
    async def remove_item(id: str) -> Stored:  # noqa: A002
        """Take an item out."""
        with queries.queue.place():
            async with changing, asyncio.timeout(settings.inference_s):
                edition = await editions.refresh()
                if edition.snapshot.place(id) is None:
                    raise NoItemError
                await queries.in_thread(edition.index.remove, [id])
                return _stored(await editions.refresh())

    @app.post("/feedback", status_code=201, responses={404: {"model": Failure}}, tags=["feedback"])
    async def tell(verdict: Verdict) -> Told:
        """Keep what somebody says of a match in the review list: that it is the same thing, or another."""
        edition = editions.current
        item = _reviewed(edition, verdict.item)
        if item is None:
            raise NoItemError
        query = _reviewed(edition, verdict.query) or _upload(verdict.query)
        if query is None:
            raise HTTPException(404, "query: neither an item nor the hash of an upload; send it as the answer has it")
        num = await queries.in_thread(review.add, query, item, verdict.verdict, verdict.distance)
        metrics.feedback.labels(verdict.verdict).inc()
        return Told(num_rows=num)


def _stored(edition: Edition) -> Stored:
    return Stored(version=edition.version, num_items=len(edition.snapshot))


def _cells(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise InputError('cells: not a JSON object; send for example {"price": 9.5}')
    return values


def _reviewed(edition: Edition, item: str) -> ReviewPicture | None:
    place = edition.snapshot.place(item)
    if place is None:
        return None
    return ReviewPicture(edition.snapshot.rows.column("file")[place].as_py(), edition.snapshot.class_N[place])


def _upload(query: str) -> ReviewPicture | None:
    if len(query) != 64 or set(query) - set("0123456789abcdef"):
        return None
    return ReviewPicture.of_upload(query)
