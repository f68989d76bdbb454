"""`mohs serve`: an index, or the triplets of a run, as a page and a service."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mohs.cli.console import require_file_place, say
from mohs.cli.options import naming_flags
from mohs.cli.progress import decoding_progress
from mohs.errors import InputError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from mohs.serve.settings import ServeSettings

__all__ = ["serve"]

_NEEDED = ("fastapi", "uvicorn", "prometheus_client", "pydantic_settings", "python_multipart")
_FLAGS = {"host": "--host", "port": "--port", "allowed_hosts": "--allow-host", "token": "MOHS_SERVE_TOKEN"}


def serve(
    folder: Annotated[
        str | None, typer.Argument(metavar="[INDEX]", help="Folder of an index, or s3://bucket/name.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Look through the triplets of this run instead.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; default: this machine alone.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; default 8000, 0: any that is free.")] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Another host name that requests may use, as in the browser's address.")
    ] = None,
    review: Annotated[
        Path | None,
        typer.Option(
            help="Where feedback goes; default: review.csv in INDEX (or, of a bucket, here), feedback.csv in RUN."
        ),
    ] = None,
) -> None:
    """Let people search an index in a browser, and programs over HTTP; or look through the triplets of a run.

    Limits are set by MOHS_SERVE_... variables.
    """
    if (folder is None) == (run is None):
        raise InputError("INDEX, --run: give one of them, an index to search or a run to look through")
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"mohs[serve]: the service needs {missing[0]}; pip install 'mohs[serve]'")
    if review is not None:
        require_file_place(review, "--review")
    from mohs.serve.server import bind, make_server
    from mohs.serve.settings import read_settings

    given = {"host": host, "port": port, "allowed_hosts": allow_host or None, "review_list": review and str(review)}
    with naming_flags(_FLAGS):
        settings = read_settings({name: value for name, value in given.items() if value is not None})
        listener = bind(settings)
    with listener:
        server = make_server(_app_of(folder, run, settings))
        name = f"[{settings.host}]" if ":" in settings.host else settings.host
        say(f"serving {folder or run} at http://{name}:{listener.getsockname()[1]} (stop with Ctrl-C)")
        server.run(sockets=[listener])


def _app_of(index: str | None, run: Path | None, settings: ServeSettings) -> FastAPI:
    if index is not None:
        from mohs.serve.app import create_app

        return create_app(index, settings)
    assert run is not None
    from mohs.serve.triplets import create_run_app

    with decoding_progress(quiet=False) as progress:
        return create_run_app(run, settings, progress=progress)
