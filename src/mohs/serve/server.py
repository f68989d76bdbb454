"""The service on a socket, with deadlines: of a header that does not come, and of an answer that is not taken."""

import asyncio
import errno
import functools
import socket
from typing import Any, final

import uvicorn
from fastapi import FastAPI
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from mohs.errors import InputError, Problem
from mohs.serve.metrics import Metrics
from mohs.serve.settings import ServeSettings

__all__ = ["bind", "make_server"]

_MAX_HEADER_BYTES = 32 * 1024


def bind(settings: ServeSettings) -> socket.socket:
    """Return a socket that listens where the settings say; raise `InputError` if that is not to be had."""
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
    except (socket.gaierror, UnicodeError):
        raise InputError(Problem("host", f"{settings.host!r} is no address", "use for example 127.0.0.1")) from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(512)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise InputError(Problem("port", f"{settings.port} is in use", "give another")) from None
        if error.errno == errno.EACCES:
            raise InputError(Problem("port", f"{settings.port} is not allowed", "use one above 1023")) from None
        raise InputError(
            Problem("host", f"{settings.host!r} is no address of this machine", "use for example 127.0.0.1")
        ) from None
    return listener


def make_server(app: FastAPI) -> uvicorn.Server:
    """Return uvicorn with a service of Mohs; its `run(sockets=[...])` serves until a signal comes."""
    config = uvicorn.Config(
        app,
        http=functools.partial(Connection, settings=app.state.settings, metrics=app.state.metrics),  # type: ignore[arg-type]
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=5,
        h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
    )
    return uvicorn.Server(config)


@final
class Connection(asyncio.Protocol):
    """uvicorn's protocol behind two deadlines. uvicorn has one for idle connections only.

    A connection is cut if the header of a request is not whole `header_s` after its first byte (or after the connection
    was made), or if an answer is not taken after all that body, inference and sending may take.
    """

    def __init__(
        self,
        *,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        settings: ServeSettings,
        metrics: Metrics,
    ) -> None:
        self._inner = H11Protocol(config=config, server_state=server_state, app_state=app_state, _loop=_loop)
        self._settings = settings
        self._metrics = metrics
        self._exchange_s = settings.body_s + settings.inference_s + settings.send_s
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._busy_with: object = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or refuse one connection too many."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._inner.connection_made(transport)
        if len(self._inner.connections) > self._settings.max_connections:
            self._metrics.refused.labels("connections").inc()
            transport.abort()
        else:
            self._wait(self._settings.header_s, "header time")

    def data_received(self, data: bytes) -> None:
        """Hand bytes on, and begin the deadline of what they are the first of."""
        was_busy = self._is_busy()
        self._inner.data_received(data)
        if self._is_busy():
            if self._inner.cycle is not self._busy_with:
                self._busy_with = self._inner.cycle
                self._wait(self._exchange_s, "exchange time")
        elif was_busy or self._timer is None or self._busy_with is not None:
            self._busy_with = None
            self._wait(self._settings.header_s, "header time")

    def eof_received(self) -> None:
        """Hand the end on."""
        self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        if self._timer is not None:
            self._timer.cancel()
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """Hand on that the other side is slow."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Hand on that it took something."""
        self._inner.resume_writing()

    def _is_busy(self) -> bool:
        cycle = self._inner.cycle
        return cycle is not None and not cycle.response_complete

    def _wait(self, time_s: float, reason: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(time_s, self._late, reason)

    def _late(self, reason: str) -> None:
        self._timer = None
        assert self._transport is not None
        if reason == "exchange time" and not self._is_busy() and not self._transport.get_write_buffer_size():
            return  # answered, and taken: the connection is idle, which uvicorn looks after
        self._metrics.refused.labels(reason).inc()
        self._transport.abort()
