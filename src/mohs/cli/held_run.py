"""A run's folder while a command writes there: held against other writers, or told that it cannot be written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mohs.cli.console import say

__all__ = ["held_run"]


@contextmanager
def held_run(folder: Path, doing: str) -> Iterator[bool]:
    """Hold a run's folder and yield True; where it can only be read, say so before any work, and yield False.

    What is no finished run is not looked at: opening it says what is wrong.
    """
    from mohs.artefacts import why_not_writable
    from mohs.lock import only_writer

    if not (folder / "run.json").is_file():
        yield True
    elif why := why_not_writable(folder):
        say(f"warning: {folder} cannot be written ({why}); the numbers are printed, and no files are written there")
        yield False
    else:
        with only_writer(folder, doing):
            yield True
