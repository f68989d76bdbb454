"""One writer at a time: a lock on a folder or a file that ends with the process, however that ends."""

import contextlib
import errno
import os
import socket
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from mohs.errors import DataWarning, InputError

if sys.platform == "win32":

    def _flock(handle: int) -> None:  # noqa: ARG001
        raise OSError(errno.ENOSYS, "this system has no flock")
else:
    import fcntl

    def _flock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


__all__ = ["LOCK_NAME", "is_locked", "lock_handle", "only_writer"]

LOCK_NAME = ".lock"
"""The file in a folder that is locked; it is removed at the end, and what a kill leaves of it holds nobody up."""

_TAKEN = (errno.EWOULDBLOCK, errno.EACCES)
_AGAIN_S = 0.05


@contextlib.contextmanager
def only_writer(place: str | Path, doing: str, *, of_file: bool = False, wait_s: float = 0.0) -> Iterator[bool]:
    """Hold a folder (made if it is not there), or with `of_file` a file, against all other writers.

    The lock is the operating system's (flock), on a file beside what is written: it ends with the process, by a kill or
    a loss of power, too. Where a file system keeps no locks, a `DataWarning` says so in one line, and False is yielded.
    A folder that was made for the lock and that is empty at the end is removed.

    Args:
        place: what is written.
        doing: what the holder does, for the message of others, such as "training".
        of_file: `place` is a file.
        wait_s: how long to wait for the holder.

    Raises `InputError` that names the holder's process and machine.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, only_writer(folder, "training"):
    ...     sorted(os.listdir(folder))
    ['.lock']
    """
    place = Path(place)
    made = [] if of_file else _make_folder(place)
    file = place.parent / f".{place.name}{LOCK_NAME}" if of_file else place / LOCK_NAME
    try:
        handle = _locked(place, file, doing, wait_s)
        try:
            yield handle is not None
        finally:
            if handle is not None:
                # Removed while it is held: whoever opened it meanwhile sees that it is gone, and makes a new one.
                file.unlink(missing_ok=True)
                os.close(handle)
    finally:
        with contextlib.suppress(OSError):  # not empty: so it is to be
            for folder in made:
                folder.rmdir()


def is_locked(file: Path) -> bool:
    """Return whether a process holds this file open under a lock; True where that cannot be found out."""
    try:
        handle = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        _flock(handle)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def lock_handle(handle: int) -> bool:
    """Lock an open file until it is closed; return False if another process has it. No locks here: True."""
    try:
        _flock(handle)
    except OSError as error:
        return error.errno not in _TAKEN
    return True


def _make_folder(folder: Path) -> list[Path]:
    """Make a folder and return those that were made, the innermost first."""
    missing = []
    for each in (folder, *folder.parents):
        if each.exists():
            break
        missing.append(each)
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _locked(place: Path, file: Path, doing: str, wait_s: float) -> int | None:
    """Return the handle of the locked file; None where no lock can be had."""
    until = time.monotonic() + wait_s
    while True:
        try:
            handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:  # the one that made the folder left it, empty, and removed it
            file.parent.mkdir(parents=True, exist_ok=True)
            continue
        try:
            _flock(handle)
        except OSError as error:
            holder = _read(handle)
            os.close(handle)
            if error.errno not in _TAKEN:
                _say_unlocked(place, file, error)
                return None
            if time.monotonic() < until:
                time.sleep(_AGAIN_S)
                continue
            raise InputError(
                f"{place}: in use by {holder or 'another process'}; wait for its end, or give another place"
            ) from None
        if _is_at(handle, file):
            _write(handle, doing)
            return handle
        os.close(handle)  # its holder removed it in between


def _say_unlocked(place: Path, file: Path, error: OSError) -> None:
    file.unlink(missing_ok=True)
    warnings.warn(
        f"{place}: no lock on this file system ({error.strerror}); take care that nothing else writes there meanwhile",
        DataWarning,
        stacklevel=5,
    )


def _is_at(handle: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), file.stat())
    except FileNotFoundError:
        return False


def _read(handle: int) -> str:
    """Return who the holder is; it writes that just after it has the lock."""
    for _ in range(10):
        if told := os.pread(handle, 1000, 0).decode(errors="replace").strip():
            return told
        time.sleep(_AGAIN_S)
    return ""


def _write(handle: int, doing: str) -> None:
    began = time.strftime("%Y-%m-%d %H:%M:%S")
    with contextlib.suppress(OSError):  # a full disk: the lock holds without a name
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()} ({doing} since {began})\n".encode(), 0)
