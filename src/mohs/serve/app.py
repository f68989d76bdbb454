"""The service of an index: what is asked under which address."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError, create_model

from mohs.index.places import Place, place_of
from mohs.serve import alike, changes, pictures
from mohs.serve.alike import WhyAlike
from mohs.serve.editions import Editions
from mohs.serve.feedback import ReviewList
from mohs.serve.messages import About, Failure, Found, Health, about
from mohs.serve.metrics import Metrics
from mohs.serve.queries import Queries, SearchOptions
from mohs.serve.settings import ServeSettings
from mohs.serve.shell import make_shell

__all__ = ["create_app"]

Where = Annotated[str | None, Query(description="only items for which this holds: price < 100 AND note = 'new'")]
OneOfAClass = Annotated[bool, Query(description="only the nearest item of each class")]


_RELOAD_BUCKET_S = 10.0


def create_app(folder: str | Path, settings: ServeSettings | None = None) -> FastAPI:
    """Return the service for the index in a folder or at an address, as an ASGI application.

    Feedback on an index in a bucket goes to a file of its name here, unless the settings name another.

    Raises `InputError` as `Index.open` does.
    """
    settings = settings or ServeSettings()
    metrics = Metrics()
    place = place_of(folder)
    editions = Editions(place, metrics)
    queries = Queries(editions, settings, metrics)
    why = WhyAlike(editions, queries, settings)
    review = ReviewList(Path(settings.review_list or _review_list(place)), settings.max_review_bytes)

    @contextlib.asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(editions.watch(_reload_s(place, settings)))
        try:
            yield
        finally:
            watching.cancel()
            queries.close()
            why.close()
            editions.close()

    app = make_shell(settings, metrics, life, page="index.html", summary="Search by picture.")
    app.state.editions = editions
    _add_searches(app, queries, settings)
    _add_state(app, editions, settings)
    # Before those of items by id, whose ids may have slashes.
    pictures.add_routes(app, queries)
    changes.add_routes(app, editions, queries, review, settings, metrics)
    alike.add_routes(app, why)
    return app


def _review_list(place: Place) -> Path:
    """Return the review list in the folder of an index or, since a bucket's objects do not grow, in this folder."""
    if isinstance(place.folder, Path):
        return place.folder / "review.csv"
    return Path(f"{place.uri.rpartition('/')[2]}.review.csv")


def _reload_s(place: Place, settings: ServeSettings) -> float:
    """Return how often to look for a new version: seldom in a bucket, where each look is paid for, unless it is set."""
    return (
        _RELOAD_BUCKET_S
        if isinstance(place.folder, str) and "reload_s" not in settings.model_fields_set
        else settings.reload_s
    )


def _add_searches(app: FastAPI, queries: Queries, settings: ServeSettings) -> None:
    top = Query(ge=1, le=settings.max_matches, description="matches")
    asked = create_model(
        "Asked", top=(Annotated[int, top], 10), where=(Where, None), one_of_a_class=(OneOfAClass, False)
    )

    @app.post(
        "/search",
        response_model=Found,
        openapi_extra={**pictures.PICTURE_BODY, "parameters": _parameters(asked)},
        responses={415: {"model": Failure}},
        tags=["search"],
    )
    async def search_by_picture(request: Request) -> Response:
        """Find the items nearest to a picture: one file of a form, or the bytes themselves."""
        # The address is read here and the answer sent as it is: FastAPI would take as long for either as a search does.
        try:
            given = asked.model_validate(dict(request.query_params)).model_dump()
        except ValidationError as error:
            raise RequestValidationError(
                [{**each, "loc": ("query", *each["loc"])} for each in error.errors()]
            ) from None
        options = SearchOptions(given["top"], given["where"] or None, given["one_of_a_class"])
        told = await queries.by_picture(await pictures.read_picture(request), options)
        return Response(told.model_dump_json(by_alias=True), media_type="application/json")

    @app.get("/search", responses={404: {"model": Failure}}, tags=["search"])
    async def search_by_id(
        id: Annotated[str, Query(min_length=1, max_length=1000)],  # noqa: A002
        top: Annotated[int, top] = 10,
        where: Where = None,
        one_of_a_class: OneOfAClass = False,
    ) -> Found:
        """Find the items nearest to an item, itself first."""
        return await queries.by_id(id, SearchOptions(top, where or None, one_of_a_class))


def _parameters(asked: type[BaseModel]) -> list[dict[str, Any]]:
    """Return how OpenAPI describes the parameters of an address."""
    return [
        {"name": name, "in": "query", "required": False, "schema": schema, "description": schema["description"]}
        for name, schema in asked.model_json_schema()["properties"].items()
    ]


def _add_state(app: FastAPI, editions: Editions, settings: ServeSettings) -> None:
    @app.get("/about", tags=["state"])
    async def tell_about() -> About:
        """Say what the index is: items, columns, and what to expect of each threshold."""
        return about(editions.current, changes=settings.token is not None)

    @app.get("/health", tags=["state"])
    async def health() -> Health:
        """Say that the service answers, and from which version."""
        edition = editions.current
        num = len(edition.snapshot)
        return Health(status="ok", version=edition.version, num_items=num, problem=editions.problem)
