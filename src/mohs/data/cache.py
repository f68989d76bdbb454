"""Decode every picture once, and keep the result as a memory-mapped file."""

import errno
import hashlib
import os
import re
import shutil
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, final

import numpy as np
import PIL

from mohs.artefacts import DAMAGED_ARRAYS, DISK_FULL, atomic_path, remove_left_over
from mohs.checks import path_of, require, wrong_whole
from mohs.data.images import Decoded, ImagePolicy, decode_all, picture_warnings
from mohs.data.quarantine import BadPicture, bad_picture, refuse
from mohs.data.stored_pictures import Pictures, StoredPictures, block_sums, rows_per_block
from mohs.data.table import Table
from mohs.errors import DataWarning, InputError, Problem, ResourceError
from mohs.sums import read_summed, write_summed

__all__ = ["LoadedPictures", "default_cache_dir", "is_cache_folder", "load_pictures"]

# Change this when decoding changes, so that older files are not used.
FORMAT_VERSION = 3
_CACHED = re.compile(r"[0-9a-f]{32}\.npy")

_MAPPED_BYTES = 2**30
"""Larger files of pictures are not mapped, and not compared with their sums when they are opened."""


@final
@dataclass(frozen=True, eq=False)
class LoadedPictures:
    """`pictures` uint8 [N - len(bad), H, W, C] in table order, without the `bad` items; `path` is the cache file.

    `warnings` are lines about what they are (`mohs.data.images.picture_warnings`).
    """

    pictures: Pictures
    bad: tuple[BadPicture, ...]
    path: Path
    warnings: tuple[str, ...] = ()


def default_cache_dir() -> Path:
    """Return `$XDG_CACHE_HOME/mohs`, or `~/.cache/mohs` if that variable is not set.

    Raises `InputError` if there is no such home.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "mohs"
    except RuntimeError:  # a user without a name, as in some containers
        raise InputError(
            Problem("HOME", "not set, and the user has no home", "set XDG_CACHE_HOME to a folder for the cache")
        ) from None


def is_cache_folder(folder: Path) -> bool:
    """Return whether a folder holds decoded pictures, or is or lies in the user's cache folder."""
    own = default_cache_dir().resolve()
    if own in (folder.resolve(), *folder.resolve().parents):
        return True
    return folder.is_dir() and any(_CACHED.fullmatch(file.name) for file in folder.glob("*.npy"))


def load_pictures(
    table: Table,
    policy: ImagePolicy,
    *,
    cache_dir: Path | None = None,
    max_bad_images: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> LoadedPictures:
    """Return the table's pictures, decoding them if no cache file holds them yet.

    Up to 1 GiB of pictures are a read-only memory map. More are read from the file as they are asked for
    (`mohs.data.stored_pictures`): memory does not grow with their number.

    The cache file is a `.npy` in `cache_dir` (default: `default_cache_dir()`), named by the paths, sizes and times of
    the files, the policy, and the versions of Pillow and of this format: a changed picture is decoded again, and all
    are if a block does not match its SHA-256. It is written whole or not at all, and several processes may do so at
    once. It is safe to delete at any time.

    Pictures are decoded by one thread per core; `progress(done, total)` is called about 100 times.

    Warns (`DataWarning`) of pictures of 16 bits that use little of their range and of several frames or pages, whether
    decoded now or before.
    Raises `InputError` naming the unreadable pictures if `max_bad_images` is 0, `BadImagesError` if there are more
    than `max_bad_images` (or no others), `ResourceError` if the disk is full.
    """
    require(wrong_whole("max_bad_images", max_bad_images, at_least=0, example=0))
    if not len(table):
        raise InputError(Problem(table.source, "no items", "add a row for each picture"))
    folder = path_of("cache_dir", cache_dir) if cache_dir is not None else default_cache_dir()
    path = folder / f"{_fingerprint(table, policy)}.npy"
    loaded = _open(table, policy, path)
    if loaded is None:
        try:
            _write(table, policy, path, max_bad_images, progress)
        except (OSError, ResourceError) as error:
            cause = error.__cause__ if isinstance(error, ResourceError) else error
            raise _explain(cause, folder, table, policy) if isinstance(cause, OSError) else error from error
        loaded = _open(table, policy, path)
        if loaded is None:
            raise ResourceError(f"{path}: the file just written cannot be read back; check the disk")
    refuse(loaded.bad, len(table), max_bad_images)
    for line in loaded.warnings:
        warnings.warn(line, DataWarning, stacklevel=2)
    return loaded


def _fingerprint(table: Table, policy: ImagePolicy) -> str:
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr((FORMAT_VERSION, PIL.__version__, policy)).encode())
    for i in range(len(table)):
        path = os.path.abspath(table.path(i))  # noqa: PTH100 - a Path costs ten times as much, for every picture
        try:
            status = os.stat(path)  # noqa: PTH116
            state = (status.st_size, status.st_mtime_ns)
        except OSError:
            state = (-1, -1)
        digest.update(f"{path}\0{state}\n".encode(errors="surrogatepass"))
    return digest.hexdigest()


def _open(table: Table, policy: ImagePolicy, path: Path) -> LoadedPictures | None:
    notes = path.with_suffix(".json")
    if not path.is_file() or not notes.is_file():
        return None
    try:
        found = read_summed(notes)
        bad = tuple(bad_picture(table, index, reason) for index, reason in found["bad_pictures"])
        with np.errstate(over="raise"):  # a shape beyond 2⁶³
            pictures = np.load(path, mmap_mode="r", allow_pickle=False)
        lines = tuple(map(str, found["warnings"]))
    except (InputError, *DAMAGED_ARRAYS):
        return None  # A damaged file is written again, and one of an older version.
    if not isinstance(pictures, np.ndarray):  # an archive of arrays
        return None
    expected = (len(table) - len(bad), policy.size, policy.size, policy.channels)
    fits = pictures.shape == expected and pictures.dtype == np.uint8
    # What is damaged, or of another name, is written again.
    row_bytes = policy.size**2 * policy.channels
    sums = found.get("sha256")
    if not (fits and found.get("name") == path.stem and isinstance(sums, list)):
        return None
    offset: int = pictures.offset  # type: ignore[attr-defined]
    if pictures.nbytes > _MAPPED_BYTES:
        fits = len(sums) == -(-len(pictures) // rows_per_block(row_bytes))
        stored = StoredPictures(path, offset, expected, tuple(map(str, sums)))
        return LoadedPictures(stored, bad, path, lines) if fits else None
    fits = sums == block_sums(path, offset, len(pictures), row_bytes)
    return LoadedPictures(pictures, bad, path, lines) if fits else None


def _write(
    table: Table, policy: ImagePolicy, path: Path, max_bad_images: int, progress: Callable[[int, int], None] | None
) -> None:
    num_items = len(table)
    shape = (policy.size, policy.size, policy.channels)
    picture_bytes = policy.size**2 * policy.channels
    num_workers = os.cpu_count() or 1
    # Some 32 MiB at a time, a few pictures for each thread, and about 100 steps of progress.
    step = max(4 * num_workers, min(2**25 // picture_bytes, num_items // 100))
    reasons: list[tuple[int, str]] = []
    decoded: list[Decoded] = []
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_left_over(path.parent)
    free = shutil.disk_usage(path.parent).free
    if free < num_items * picture_bytes:
        raise OSError(errno.ENOSPC, "not enough space")
    # Plain writes, in order: writing through a memory map kills the process when the disk is full.
    with atomic_path(path) as temporary, ThreadPoolExecutor(num_workers) as pool, temporary.open("wb") as file:
        start = _write_header(file, num_items, shape)
        for first in range(0, num_items, step):
            last = min(first + step, num_items)
            for i, each in enumerate(decode_all([table.path(j) for j in range(first, last)], policy, pool=pool)):
                if each.pixels_HWC is None:
                    reasons.append((first + i, each.problem))
                else:
                    file.write(np.ascontiguousarray(each.pixels_HWC).data)
                decoded.append(replace(each, pixels_HWC=None))
            if progress is not None:
                progress(last, num_items)
        refuse([bad_picture(table, i, reason) for i, reason in reasons], num_items, max_bad_images)
        file.seek(0)
        if _write_header(file, num_items - len(reasons), shape) != start:
            raise ResourceError(f"{path}: the header changed its length; use another version of numpy")
        # First the notes: a picture file without them is not used.
        lines = picture_warnings(decoded, table.place, policy)
        file.flush()
        notes = {
            "name": path.stem,
            "source": table.source,
            "policy": repr(policy),
            "num_items": num_items,
            "bad_pictures": reasons,
            "warnings": [f"{table.source}: {line}" for line in lines],
            "sha256": block_sums(temporary, start, num_items - len(reasons), picture_bytes),
        }
        write_summed(path.with_suffix(".json"), notes)


def _write_header(file: IO[bytes], num_items: int, shape: tuple[int, ...]) -> int:
    # numpy pads the header so that the first axis can change in place.
    header = {"descr": "|u1", "fortran_order": False, "shape": (num_items, *shape)}
    np.lib.format.write_array_header_1_0(file, header)
    return file.tell()


def _explain(error: OSError, folder: Path, table: Table, policy: ImagePolicy) -> Exception:
    if error.errno in DISK_FULL:
        num_bytes = len(table) * policy.size**2 * policy.channels
        return ResourceError(
            f"{folder}: no space for the decoded pictures ({num_bytes:,} bytes); "
            "free some, or set XDG_CACHE_HOME to another folder"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
        return InputError(
            Problem(str(folder), f"cannot be written ({error.strerror})", "set XDG_CACHE_HOME to another folder")
        )
    return error
