"""A service that runs in a thread of the test."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from mohs.serve.app import create_app
from mohs.serve.server import bind, make_server
from mohs.serve.settings import read_settings


@contextlib.contextmanager
def served(folder: Path, make: Callable[..., FastAPI] = create_app, **given: Any) -> Iterator[int]:
    """Yield the port of a service for an index, or of what else is made of a folder."""
    settings = read_settings({"port": 0, **given})
    listener = bind(settings)
    server = make_server(make(folder, settings))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        until = time.monotonic() + 20
        while not server.started and time.monotonic() < until:
            time.sleep(0.01)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
