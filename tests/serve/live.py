"""A service that runs in a thread of the test."""

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mohs.serve.server import bind, make_server
from mohs.serve.settings import read_settings


@contextlib.contextmanager
def served(folder: Path, **given: Any) -> Iterator[int]:
    """Yield the port of a service for an index."""
    settings = read_settings({"port": 0, **given})
    listener = bind(settings)
    server = make_server(folder, settings)
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
