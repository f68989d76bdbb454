"""The service: what is asked under which address."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.routing import Match, Route

from mohs import __version__
from mohs.errors import InputError, ResourceError
from mohs.serve import alike, changes, pictures
from mohs.serve.alike import WhyAlike
from mohs.serve.batching import QueueFullError
from mohs.serve.editions import Editions
from mohs.serve.feedback import ReviewList
from mohs.serve.limits import Limits
from mohs.serve.messages import About, Failure, Found, Health, about
from mohs.serve.metrics import Counting, Metrics
from mohs.serve.queries import NoItemError, Queries, SearchOptions
from mohs.serve.settings import ServeSettings

__all__ = ["create_app"]

_PAGE = Path(__file__).parent / "page"
_TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}

Where = Annotated[str | None, Query(description="only items for which this holds: price < 100 AND note = 'new'")]
OneOfAClass = Annotated[bool, Query(description="only the nearest item of each class")]


def create_app(folder: str | Path, settings: ServeSettings | None = None) -> FastAPI:
    """Return the service for the index in a folder, as an ASGI application.

    Raises `InputError` as `Index.open` does.
    """
    settings = settings or ServeSettings()
    metrics = Metrics()
    editions = Editions(Path(folder), metrics)
    queries = Queries(editions, settings, metrics)
    why = WhyAlike(editions, queries, settings)
    review = ReviewList(Path(settings.review_list or Path(folder) / "review.csv"), settings.max_review_bytes)

    @contextlib.asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(editions.watch(settings.reload_s))
        try:
            yield
        finally:
            watching.cancel()
            queries.close()
            why.close()
            editions.close()

    app = FastAPI(
        title="Mohs",
        version=__version__,
        summary="Search by picture.",
        docs_url=None,  # its page is fetched from another host
        redoc_url=None,
        lifespan=life,
        responses={code: {"model": Failure} for code in (400, 403, 408, 413, 422, 503, 504)},
    )
    app.state.metrics, app.state.editions, app.state.settings = metrics, editions, settings
    _add_searches(app, queries, settings)
    _add_state(app, editions, metrics, settings)
    _add_page(app)
    # Before those of items by id, whose ids may have slashes.
    pictures.add_routes(app, queries)
    changes.add_routes(app, editions, queries, review, settings, metrics)
    alike.add_routes(app, why)
    _add_failures(app)
    app.add_middleware(Counting, metrics=metrics)
    app.add_middleware(Limits, settings=settings, metrics=metrics)
    return app


def _add_searches(app: FastAPI, queries: Queries, settings: ServeSettings) -> None:
    top = Query(ge=1, le=settings.max_matches, description="matches")

    @app.post("/search", openapi_extra=pictures.PICTURE_BODY, responses={415: {"model": Failure}}, tags=["search"])
    async def search_by_picture(
        request: Request,
        top: Annotated[int, top] = 10,
        where: Where = None,
        one_of_a_class: OneOfAClass = False,
    ) -> Found:
        """Find the items nearest to a picture: one file of a form, or the bytes themselves."""
        options = SearchOptions(top, where or None, one_of_a_class)
        return await queries.by_picture(await pictures.read_picture(request), options)

    @app.get("/search", responses={404: {"model": Failure}}, tags=["search"])
    async def search_by_id(
        id: Annotated[str, Query(min_length=1, max_length=1000)],  # noqa: A002
        top: Annotated[int, top] = 10,
        where: Where = None,
        one_of_a_class: OneOfAClass = False,
    ) -> Found:
        """Find the items nearest to an item, itself first."""
        return await queries.by_id(id, SearchOptions(top, where or None, one_of_a_class))


def _add_state(app: FastAPI, editions: Editions, metrics: Metrics, settings: ServeSettings) -> None:
    @app.get("/about", tags=["state"])
    async def tell_about() -> About:
        """Say what the index is: items, columns, and what to expect of each threshold."""
        return about(editions.current, changes=settings.token is not None)

    @app.get("/health", tags=["state"])
    async def health() -> Health:
        """Say that the service answers, and from which version."""
        edition = editions.current
        num = len(edition.snapshot.vectors)
        return Health(status="ok", version=edition.version, num_items=num, problem=editions.problem)

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}}, tags=["state"])
    async def counters() -> Response:
        """Return counters for Prometheus."""
        return Response(metrics.as_text(), media_type="text/plain; version=0.0.4")


def _add_page(app: FastAPI) -> None:
    # Read once: no address ever becomes a file's name.
    files = {path.name: path.read_bytes() for path in sorted(_PAGE.iterdir()) if path.suffix in _TYPES}

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return Response(files["index.html"], headers={"content-type": _TYPES[".html"], "cache-control": "no-cache"})

    @app.get("/page/{name}", include_in_schema=False)
    async def page_file(name: str) -> Response:
        if name not in files:
            return JSONResponse({"detail": "no such page"}, status_code=404)
        kind = _TYPES[Path(name).suffix]
        return Response(files[name], headers={"content-type": kind, "cache-control": "no-cache"})


def _add_failures(app: FastAPI) -> None:
    def failure(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
        return JSONResponse({"detail": detail}, status_code=status, headers=headers)

    @app.exception_handler(405)
    async def other_method(request: Request, _: Exception) -> JSONResponse:
        # The first route of a path knows its own methods alone.
        routes = [route for route in app.routes if isinstance(route, Route)]
        first = next((route.path for route in routes if route.matches(request.scope)[0] != Match.NONE), None)
        allowed = {method for route in routes if route.path == first for method in route.methods or ()}
        return failure(405, "method: not one of this address", {"allow": ", ".join(sorted(allowed))})

    @app.exception_handler(InputError)
    async def bad_input(_: Request, error: InputError) -> JSONResponse:
        return failure(422, error.problems[0])

    @app.exception_handler(RequestValidationError)
    async def bad_request(_: Request, error: RequestValidationError) -> JSONResponse:
        first: dict[str, Any] = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
        return failure(422, f"{place}: {first['msg'][:1].lower()}{first['msg'][1:]}")

    @app.exception_handler(NoItemError)
    async def no_item(_: Request, __: NoItemError) -> JSONResponse:
        return failure(404, "id: no item of this id; see the ids of a search")

    @app.exception_handler(QueueFullError)
    async def queue_full(_: Request, __: QueueFullError) -> JSONResponse:
        return failure(503, "busy: the queue is full; try again in a second", {"retry-after": "1"})

    @app.exception_handler(TimeoutError)
    async def too_late(_: Request, __: TimeoutError) -> JSONResponse:
        return failure(504, "busy: no answer in time; try again, or send a smaller picture", {"retry-after": "1"})

    @app.exception_handler(ResourceError)
    async def no_room(_: Request, error: ResourceError) -> JSONResponse:
        return failure(503, error.problems[0], {"retry-after": "60"})
