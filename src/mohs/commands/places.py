"""Where results go: found out before any work is done, not after minutes of it."""

import os
from pathlib import Path

from mohs.errors import InputError

__all__ = ["require_file_place", "require_folder_place"]


def require_file_place(path: Path, flag: str) -> None:
    """Raise `InputError` if a result file cannot be written at `path`; an older file there may be replaced."""
    if path.is_dir():
        raise InputError(f"{flag}: {path} is a folder; name a file in it")
    _require_writable_parent(path, flag)


def require_folder_place(path: Path, flag: str) -> None:
    """Raise `InputError` if no folder can be made at `path`; whether one may be there already is not asked."""
    _require_writable_parent(path, flag)


def _require_writable_parent(path: Path, flag: str) -> None:
    place = path.parent
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise InputError(f"{flag}: {path} cannot be written, because {place} is a file; name another place")
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"{flag}: {path} cannot be written (no permission in {place}); name another place")
