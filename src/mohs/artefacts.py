"""Files and folders that are either whole or absent: atomic writes, full disks, hashes, event logs."""

import contextlib
import errno
import glob
import hashlib
import json
import os
import re
import shutil
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, final

import numpy as np

from mohs.errors import InputError, MohsError, ResourceError
from mohs.lock import is_locked, lock_handle, only_writer

__all__ = [
    "DAMAGED_ARRAYS",
    "DISK_FULL",
    "EventLog",
    "atomic_folder",
    "atomic_path",
    "disk_named",
    "file_stamp",
    "fingerprint",
    "json_text",
    "read_events",
    "read_json",
    "remove_left_over",
    "require_disk",
    "rows_fingerprint",
    "sha256_file",
    "why_not_writable",
    "write_json",
    "write_text",
]

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Numbers of errors that say of a disk, a share of it, or a file that nothing more goes in."""

_HASHED_BYTES = 2**24
_PROBE_BYTES = 2**16
_MARK = ".tmp-"


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed to disk and takes `path`'s place in one step.

    If the block raises (Ctrl-C too), the temporary file is removed and an older `path` stays as it was. What a kill
    leaves goes when `path` is written the next time, or by `remove_left_over`. Raises `ResourceError` where the disk is
    full, whatever the block raised.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_unheld(path.parent, f"{path.name}{_MARK}")
    handle, temporary = _new_temporary(path)
    try:
        with disk_named(path, temporary):
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            # mkstemp makes private files; a result is as readable as any other new file.
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)


@contextlib.contextmanager
def atomic_folder(folder: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside `folder` that takes its place in one step, or is removed if the block raises.

    One process at a time makes this folder (`mohs.lock`), and it removes what killed ones left of theirs. Raises
    `InputError` if there is something at `folder`, or if another process is making it, `ResourceError` where the disk
    is full.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with only_writer(folder, "making it", of_file=True) as is_held:
        if folder.exists():
            raise InputError(f"{folder}: exists already; name another folder, or remove it")
        for left in folder.parent.glob(f".{glob.escape(folder.name)}{_MARK}*") if is_held else ():
            shutil.rmtree(left, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}{_MARK}", dir=folder.parent))
        try:
            with disk_named(folder, temporary / "probe"):
                yield temporary
                temporary.chmod(0o777 & ~_umask())
                temporary.rename(folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def remove_left_over(folder: Path) -> int:
    """Remove the temporary files of `atomic_path` in a folder whose processes are gone; return how many they were.

    A process holds its own under a lock. Where a file system keeps no locks, nothing is removed.
    """
    return _remove_unheld(folder)


@contextlib.contextmanager
def disk_named(place: str | Path, probe: Path | None = None) -> Iterator[None]:
    """Have a full disk told as a `ResourceError` of one line that names the place, whatever the block raises for it.

    Libraries say it in many ways, and some not at all: then a file `probe` that cannot grow any more says it.
    """
    try:
        yield
    except MohsError:
        raise
    except Exception as error:
        reason = _full_reason(error) or (None if probe is None else _cannot_grow(probe))
        if reason is None:
            raise
        raise ResourceError(
            f"{place}: cannot be written ({reason}); free some space, or write to another disk"
        ) from error


def require_disk(place: str | Path, num_bytes: int, what: str) -> None:
    """Raise `ResourceError` if the disk of `place`, which need not be there yet, has not so much room."""
    folder = Path(place).absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise ResourceError(
            f"{place}: {what} takes about {num_bytes / 1e6:,.0f} MB of the disk, and {free / 1e6:,.0f} MB are free; "
            "free some space, or write to another disk"
        )


def why_not_writable(folder: str | Path) -> str:
    """Return why no file can be made in a folder that is there, in the system's words; "" if one can.

    It is tried, since permissions say little: of a disk that is mounted to be read, or to the superuser.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f".{_MARK}", dir=folder)
    except OSError as error:
        return error.strerror or str(error)
    os.close(handle)
    Path(name).unlink()
    return ""


def _new_temporary(path: Path) -> tuple[int, Path]:
    """Return an open file beside `path` and its name; it is held until it is closed."""
    while True:
        try:
            handle, name = tempfile.mkstemp(prefix=f".{path.name}{_MARK}", suffix=path.suffix, dir=path.parent)
        except OSError as error:
            error.filename = str(path)  # nobody knows the temporary one
            raise
        # Between the making and the lock somebody may have taken it for left over.
        if lock_handle(handle) and os.fstat(handle).st_nlink:
            return handle, Path(name)
        os.close(handle)


def _remove_unheld(folder: Path, of: str = "") -> int:
    # Names alone are looked at first: folders may hold a million pictures. A temporary file may have one of its own.
    names = [name for name in os.listdir(folder) if name.startswith(".") and _MARK in name]  # noqa: PTH208
    names = [name for name in names if name.lstrip(".").startswith(of.lstrip("."))]
    left = [file for name in names if (file := folder / name).is_file() and not is_locked(file)]
    for file in left:
        file.unlink(missing_ok=True)
    return len(left)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def _full_reason(error: Exception) -> str | None:
    """Return what an error says of a full disk, or of a file that may not grow; None if it says nothing of it."""
    if isinstance(error, OSError):
        number = error.errno
    else:  # libraries in Rust have the number in their text
        found = re.search(r"\(os error (\d+)\)", str(error))
        number = int(found[1]) if found else None
    return os.strerror(number) if number in DISK_FULL else None


def _cannot_grow(probe: Path) -> str | None:
    was_there = probe.exists()
    try:
        with probe.open("ab") as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
    except OSError as error:
        return _full_reason(error)
    finally:
        if not was_there:
            probe.unlink(missing_ok=True)
    return None


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically. NaN and Inf are refused (they are not JSON)."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """Return what `write_json` writes."""
    return json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def write_text(path: str | Path, text: str) -> None:
    """Write a text as UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


DAMAGED_ARRAYS: Final = (
    OSError, EOFError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError, SyntaxError, RecursionError,
    NotImplementedError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What `numpy.load` raises of a .npy or .npz file that is damaged: also what zipfile, zlib and Python's reader do."""


def read_json(path: str | Path) -> Any:
    """Return the JSON value in `path`; raise `InputError` naming the file (and line) if it is missing or not JSON."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not JSON ({error}); write it again or use another file") from None
    except RecursionError:
        raise InputError(f"{path}: not JSON (nested too deep); write it again or use another file") from None


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
            text = "\0".join(map(str, array.ravel().tolist()))
            digest.update(text.encode(errors="surrogatepass"))  # names of files that are not UTF-8
        else:
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            rows = np.atleast_1d(array)
            step = max(1, _HASHED_BYTES * len(rows) // max(1, rows.nbytes))
            for start in range(0, len(rows), step):
                digest.update(np.ascontiguousarray(rows[start : start + step]).data)
    return digest.hexdigest()


def rows_fingerprint(dtype: np.dtype[Any], shape: tuple[int, ...], blocks: Iterable[np.ndarray]) -> str:
    """Return the `fingerprint` of an array that is not in memory, from all its rows, in order, block by block."""
    digest = hashlib.blake2b(f"{dtype.str}{shape}".encode(), digest_size=16)
    for block in blocks:
        digest.update(np.ascontiguousarray(block).data)
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
    """Return the events of a JSONL file, oldest first; a torn last line (a killed run) is left out.

    Raises `InputError` that names the line for one that is not an object with the name of an event.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a run folder made by 'mohs train'")
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason}); restore the file or use another run") from None
    events: list[dict[str, Any]] = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            event = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}: line {number}: not JSON ({error.msg}); delete the line or the run") from None
        except RecursionError:
            raise InputError(f"{path}: line {number}: nested too deep; delete the line or the run") from None
        if not isinstance(event, dict) or not isinstance(event.get("event"), str):
            raise InputError(f"{path}: line {number}: no object with an 'event'; delete the line or the run")
        events.append(event)
    return events
