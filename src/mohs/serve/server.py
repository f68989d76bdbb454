"""The service on a socket."""

import errno
import functools
import socket

import uvicorn
from fastapi import FastAPI

from mohs.errors import InputError, Problem
from mohs.serve.connections import Connection
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
