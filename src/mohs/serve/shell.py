"""What every service of Mohs has: its limits, its counters, its page, and failures as one line."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.routing import Match, Route

from mohs import __version__
from mohs.errors import InputError, ResourceError
from mohs.serve.batching import QueueFullError
from mohs.serve.limits import Limits
from mohs.serve.messages import Failure
from mohs.serve.metrics import Counting, Metrics
from mohs.serve.queries import NoItemError
from mohs.serve.settings import ServeSettings

__all__ = ["make_shell"]

_PAGES: Final = Path(__file__).parent / "page"
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}

# What is no HTTP never reaches the application: uvicorn answers it, in plain text.
_BAD_REQUEST: Final[dict[str, Any]] = {
    "model": Failure,
    "description": "a host that is not allowed, a body that ended early; as text: no HTTP, or a header over 32 KiB",
    "content": {"text/plain": {"schema": {"type": "string"}}},
}


def make_shell(
    settings: ServeSettings,
    metrics: Metrics,
    life: Callable[[FastAPI], AbstractAsyncContextManager[None]],
    *,
    page: str,
    summary: str,
) -> FastAPI:
    """Return a service that has a page, counters and limits, and answers nothing else yet."""
    app = FastAPI(
        title="Mohs",
        version=__version__,
        summary=summary,
        docs_url=None,  # its page is fetched from another host
        redoc_url=None,
        lifespan=life,
        responses={**{code: {"model": Failure} for code in (403, 408, 413, 422, 503, 504)}, 400: _BAD_REQUEST},
    )
    app.state.metrics, app.state.settings = metrics, settings
    _add_page(app, page)
    _add_metrics(app, metrics)
    _add_failures(app)
    app.add_middleware(Counting, metrics=metrics)
    app.add_middleware(Limits, settings=settings, metrics=metrics)
    return app


def _add_metrics(app: FastAPI, metrics: Metrics) -> None:
    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}}, tags=["state"])
    async def counters() -> Response:
        """Return counters for Prometheus."""
        return Response(metrics.as_text(), media_type="text/plain; version=0.0.4")


def _add_page(app: FastAPI, first: str) -> None:
    # Read once: no address ever becomes a file's name.
    files = {path.name: path.read_bytes() for path in sorted(_PAGES.iterdir()) if path.suffix in _TYPES}

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return Response(files[first], headers={"content-type": _TYPES[".html"], "cache-control": "no-cache"})

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
