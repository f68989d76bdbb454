"""What is refused before anything is done: foreign hosts and origins, bodies too large or too slow."""

import asyncio
import json
from typing import Final, final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mohs.serve.metrics import Metrics
from mohs.serve.settings import ServeSettings

__all__ = ["Limits"]

_HEADERS: Final = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        b"form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
"""What every answer says, if it says nothing else of the same name; names are in small letters, as ASGI has them."""


@final
class _RefusedError(Exception):
    def __init__(self, status: int, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.reason, self.detail = status, reason, detail


@final
class Limits:
    """ASGI middleware: the app behind it is given whole bodies within the limits, and its answers get safe headers.

    A body is counted while it comes in, whatever its Content-Length says, and must be there by a deadline. All bodies
    together have a limit, too, so that memory is bounded.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings, metrics: Metrics) -> None:
        self._app = app
        self._settings = settings
        self._hosts = settings.hosts
        self._metrics = metrics
        self._buffered_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have it answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                # By hand: Starlette's headers are looked through for each name anew, which takes as long as routing.
                given = list(message["headers"])
                names = {name for name, _ in given}
                message = {**message, "headers": given + [each for each in _HEADERS if each[0] not in names]}
            await send(message)

        held = [0]
        try:
            self._check_host(Headers(scope=scope))
            body = await self._read(Headers(scope=scope), receive, held)
            await self._app(scope, _replay(body, receive), send_safely)
        except _RefusedError as refused:
            self._metrics.refused.labels(refused.reason).inc()
            await _answer(refused, send_safely)
        finally:
            self._buffered_bytes -= held[0]

    def _check_host(self, headers: Headers) -> None:
        host = headers.get("host", "")
        name = _host_name(host)
        if name is None or name not in self._hosts:
            raise _RefusedError(
                400, "host", f"host: {host[:100]!r} is not a name of this service; allow it with --allow-host"
            )
        origin = headers.get("origin")
        # A page of another site could otherwise send what a form can send.
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            what = f"origin: {origin[:100]!r} is another site; ask from the service's own page"
            raise _RefusedError(403, "origin", what)

    async def _read(self, headers: Headers, receive: Receive, held: list[int]) -> bytes:
        limit = self._settings.max_body_bytes
        too_large = _RefusedError(413, "body size", f"body: more than {limit:,} bytes; send a smaller picture")
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > limit:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self._settings.body_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _RefusedError(400, "disconnect", "body: ended early; send it whole")
                    part = message.get("body", b"")
                    if len(body) + len(part) > limit:
                        raise too_large
                    if self._buffered_bytes + len(part) > self._settings.max_buffered_bytes:
                        raise _RefusedError(503, "memory", "busy: too much is being sent at once; try again")
                    self._buffered_bytes += len(part)
                    held[0] += len(part)
                    body += part
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise _RefusedError(
                408, "body time", f"body: not there after {self._settings.body_s:g} s; send it faster"
            ) from None


def _host_name(host: str) -> str | None:
    """Return the name in a Host header without its port, None if it is none."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _answer(refused: _RefusedError, send: Send) -> None:
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    if refused.status == 503:
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps({"detail": refused.detail}).encode()})
