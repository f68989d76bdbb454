"""Files that are either whole or absent: atomic writes, hashes, event logs."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, final

import numpy as np

from mohs.errors import InputError

__all__ = [
    "EventLog",
    "atomic_path",
    "file_stamp",
    "fingerprint",
    "read_events",
    "read_json",
    "sha256_file",
    "write_json",
]

_HASHED_BYTES = 2**24


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed to disk and takes `path`'s place in one step.

    If the block raises (Ctrl-C too), the temporary file is removed and an older `path` stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        # mkstemp makes private files; a result is as readable as any other new file.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically. NaN and Inf are refused (they are not JSON)."""
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """Return the JSON value in `path`; raise `InputError` naming the file (and line) if it is missing or not JSON."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not JSON ({error}); write it again or use another file") from None


def file_stamp(path: str | Path) -> tuple[int, ...] | None:
    """Return what changes when a file is written or replaced: inode, time and length; None if there is none."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def sha256_file(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(*arrays: np.ndarray) -> str:
    """Return 32 hex digits (BLAKE2b-128) of the arrays' dtypes, shapes and bytes.

    Arrays of strings are hashed through their UTF-8 forms, so object and fixed-width string arrays agree. Others are
    read in blocks of rows: an array that is not in C order, or lies in a file, is never copied whole.
    """
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        if array.dtype.kind in "OUST":
            digest.update(f"str{array.shape}".encode())
            digest.update("\0".join(map(str, array.ravel().tolist())).encode())
        else:
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            rows = np.atleast_1d(array)
            step = max(1, _HASHED_BYTES * len(rows) // max(1, rows.nbytes))
            for start in range(0, len(rows), step):
                digest.update(np.ascontiguousarray(rows[start : start + step]).data)
    return digest.hexdigest()


@final
class EventLog:
    """An append-only JSONL file: one event a line, flushed as it is written, so that a killed run keeps its log."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = self.path.open("a", encoding="utf-8")

    def write(self, event: str, values: Mapping[str, Any]) -> None:
        """Append `{"event": event, **values}`."""
        self._file.write(json.dumps({"event": event, **values}, allow_nan=False) + "\n")
        self._file.flush()

    def num_bytes(self) -> int:
        """Return the length of what has been written."""
        return self.path.stat().st_size

    def cut(self, num_bytes: int) -> None:
        """Take back what was written after the file had this length."""
        self._file.flush()
        self._file.truncate(num_bytes)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "EventLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_events(path: str | Path) -> list[dict[str, Any]]:
    """Return the events of a JSONL file, oldest first; a torn last line (a killed run) is left out."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a run folder made by 'mohs train'")
    lines = path.read_text(encoding="utf-8").split("\n")
    events: list[dict[str, Any]] = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise InputError(f"{path}: line {number}: not JSON ({error.msg}); delete the line or the run") from None
    return events
