"""Rows in shards on disk: arrays larger than memory, written shard by shard, continued after a kill, read in pieces.

A folder holds `manifest.json` and one .npy file a shard, `shard-000000.npy` and so on. All shards have as many rows,
but for the last. The manifest says rows, their shape and dtype, what the rows are of (`about`), and the SHA-256 of
every shard that is finished; a shard that it does not name is not there yet. numpy reads each shard by itself.
"""

import mmap
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from mohs.artefacts import DAMAGED_ARRAYS, atomic_path, remove_left_over, require_disk, sha256_file
from mohs.checks import path_of, require, wrong_choice, wrong_whole
from mohs.errors import InputError, Problem, at_most_20
from mohs.lock import only_writer
from mohs.sums import check_files, check_format, read_summed, write_summed

__all__ = [
    "MANIFEST",
    "RowsInPieces",
    "ShardLayout",
    "Shards",
    "is_shards",
    "open_shards",
    "shard_writer",
    "write_shards",
]

MANIFEST: Final = "manifest.json"
_FORMAT: Final = 1
_DTYPES: Final = ("float32", "float16", "uint8")
_MOST_SHARDS: Final = 10**6
_AGAIN: Final = "make it again, or copy it whole"


@final
@dataclass(frozen=True)
class ShardLayout:
    """How rows lie in shards.

    Attributes:
        num_rows: N, in all shards together.
        row_shape: of one row: [D] for vectors, [H, W, C] for pictures.
        dtype: "float32", "float16" or "uint8".
        rows_per_shard: of every shard but the last, which may have fewer.

    >>> layout = ShardLayout(10, (2,), "float16", 4)
    >>> layout.num_shards, layout.span(2), layout.row_bytes
    (3, (8, 10), 4)
    """

    num_rows: int
    row_shape: tuple[int, ...]
    dtype: str
    rows_per_shard: int

    @property
    def num_shards(self) -> int:
        """The number of shards."""
        return -(-self.num_rows // self.rows_per_shard)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return prod(self.row_shape) * np.dtype(self.dtype).itemsize

    def span(self, number: int) -> tuple[int, int]:
        """Return the first row of a shard, and the one after its last."""
        first = number * self.rows_per_shard
        return first, min(first + self.rows_per_shard, self.num_rows)

    def pieces(self, rows_per_piece: int) -> Iterator[tuple[int, int]]:
        """Yield (start, stop) of pieces of at most so many rows, in order; none of them crosses a shard."""
        for number in range(self.num_shards):
            first, last = self.span(number)
            for start in range(first, last, rows_per_piece):
                yield start, min(start + rows_per_piece, last)

    def file_name(self, number: int) -> str:
        """Return the name of a shard's file."""
        return f"shard-{number:06d}.npy"

    def file_names(self) -> list[str]:
        """Return the names of all shards, in order."""
        return [self.file_name(number) for number in range(self.num_shards)]

    def problems(self, place: str) -> list[Problem | None]:
        """Return what is wrong with the numbers."""
        return [
            wrong_whole(f"{place}: rows", self.num_rows),
            wrong_whole(f"{place}: rows_per_shard", self.rows_per_shard, example=100_000),
            wrong_choice(f"{place}: dtype", self.dtype, _DTYPES),
            *(wrong_whole(f"{place}: row_shape", length) for length in self.row_shape),
        ]


class RowsInPieces(ABC):
    """Rows that are too many for memory, wherever they are, in shards as `layout` says."""

    layout: ShardLayout

    @abstractmethod
    def __getitem__(self, index: slice | NDArray[np.int64]) -> NDArray[Any]:
        """Return rows as stored, in memory: of a slice without a step, or of indices in any order."""

    def __len__(self) -> int:
        return self.layout.num_rows

    @property
    def shape(self) -> tuple[int, ...]:
        """N and the shape of a row."""
        return self.layout.num_rows, *self.layout.row_shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """As stored."""
        return np.dtype(self.layout.dtype)

    def pieces(self, rows_per_piece: int) -> Iterator[tuple[int, int]]:
        """See `ShardLayout.pieces`."""
        return self.layout.pieces(rows_per_piece)

    def _taken(self, index: NDArray[np.int64], shard: Callable[[int], NDArray[Any]]) -> NDArray[Any]:
        """Return rows of indices in any order, out of shards by their number: each is asked for once."""
        found = np.empty((len(index), *self.layout.row_shape), dtype=self.dtype)
        order = np.argsort(index, kind="stable")
        shard_R = index[order] // self.layout.rows_per_shard
        for number in np.unique(shard_R).tolist():
            at = order[np.searchsorted(shard_R, number) : np.searchsorted(shard_R, number, side="right")]
            found[at] = shard(number)[index[at] - self.layout.span(number)[0]]
        return found


@final
@dataclass(frozen=True, eq=False)
class Shards(RowsInPieces):
    """Rows in the shards of a folder; see `open_shards`. `shards[index]` are rows, for slices and arrays of indices.

    Attributes:
        folder: where they lie.
        layout: how.
        about: what the rows are of, as the one who wrote them says. JSON values.
    """

    folder: Path
    layout: ShardLayout
    about: Mapping[str, Any]
    _offset: dict[int, int] = field(default_factory=dict, repr=False)  # where rows begin in a file, once it was checked

    def __repr__(self) -> str:
        return f"Shards({str(self.folder)!r}, {self.dtype}{list(self.shape)}, {self.layout.num_shards} shards)"

    @property
    def nbytes(self) -> int:
        """Of all rows."""
        return self.layout.num_rows * self.layout.row_bytes

    def __getitem__(self, index: slice | NDArray[np.int64]) -> NDArray[Any]:
        """Return rows as stored, in memory: of a slice without a step, or of indices in any order."""
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            assert step == 1
            return self.read(start, max(start, stop))
        # Mapped for as long as it takes: pages that were read are not kept in this process.
        return self._taken(np.asarray(index), self._rows)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows start … stop − 1 as stored, read from their files (not mapped)."""
        found = np.empty((stop - start, *self.layout.row_shape), dtype=self.dtype)
        at = start
        while at < stop:
            number = at // self.layout.rows_per_shard
            first, last = self.layout.span(number)
            upto = min(stop, last)
            offset = self._checked_offset(number)
            with self._path(number).open("rb", buffering=0) as file:
                file.seek(offset + (at - first) * self.layout.row_bytes)
                _read_whole(file, found[at - start : upto - start].data.cast("B"))
            at = upto
        return found

    def _path(self, number: int) -> Path:
        return self.folder / self.layout.file_name(number)

    def _rows(self, number: int) -> NDArray[Any]:
        """Return the rows of a shard, mapped; its head is read when it is opened first: that takes most of the time."""
        offset, (first, last) = self._checked_offset(number), self.layout.span(number)
        num_bytes = (last - first) * self.layout.row_bytes
        with self._path(number).open("rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size < offset + num_bytes:
                raise InputError(Problem(file.name, "shorter than it was", _AGAIN))
            mapped = mmap.mmap(file.fileno(), offset + num_bytes, access=mmap.ACCESS_READ)
        values = np.frombuffer(mapped, dtype=np.uint8, count=num_bytes, offset=offset)
        return values.view(self.dtype).reshape(last - first, *self.layout.row_shape)

    def _checked_offset(self, number: int) -> int:
        """Return where the rows of a shard begin in its file; raise `InputError` unless it holds what it should."""
        if number not in self._offset:
            self._offset[number] = self._check(number)
        return self._offset[number]

    def _check(self, number: int) -> int:
        path = self._path(number)
        first, last = self.layout.span(number)
        try:
            found: np.memmap[Any, Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        except DAMAGED_ARRAYS as error:
            raise InputError(Problem(str(path), f"cannot be read ({error})", _AGAIN)) from None
        expected = (last - first, *self.layout.row_shape)
        is_array = isinstance(found, np.memmap)  # an archive of arrays is none
        if not is_array or (found.dtype, found.shape) != (self.dtype, expected) or not found.flags.c_contiguous:
            what = f"holds {found.dtype}{list(found.shape)}" if is_array else "holds no array"
            raise InputError(Problem(str(path), f"{what}, not {self.dtype}{list(expected)}", _AGAIN))
        return int(found.offset)


def is_shards(path: str | Path) -> bool:
    """Return whether there is a folder of shards at a path, finished or not."""
    return (Path(path) / MANIFEST).is_file()


def open_shards(folder: str | Path, *, check: bool = True) -> Shards:
    """Return the rows that `write_shards` wrote into a folder; every shard is read once, to compare its SHA-256.

    `check=False` leaves that out, for one who has compared them before. Raises `InputError` that names the file: no
    manifest, one of another format, shards that are not there yet, and such as are damaged or have been changed.
    """
    folder = path_of("folder", folder)
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(Problem(str(folder), f"no bank in shards (no {MANIFEST})", "make one: 'mohs embed --shards'"))
    values = read_summed(path)
    layout, about = _read_layout(path, values)
    if missing := [name for name in layout.file_names() if name not in values["files"]]:
        what = f"{len(missing):,} of {layout.num_shards:,} shards are not there yet"
        raise InputError(
            Problem(str(folder), what, "run the command that writes them again; it continues where it stopped")
        )
    shards = Shards(folder, layout, about)
    problems: list[str] = []
    for number in range(layout.num_shards):
        file = folder / layout.file_name(number)
        try:
            if not file.is_file():
                raise InputError(Problem(str(file), "no such file", _AGAIN))
            shards._checked_offset(number)
        except InputError as error:
            problems.extend(error.problems)
    require(*at_most_20(problems))
    if check:
        check_files(path, values)
    return shards


@final
class ShardWriter:
    """A folder that is being filled; see `shard_writer`.

    Attributes:
        missing: the numbers of the shards that are not there yet.
        num_there: how many were there from the start, from a run that was killed.
    """

    def __init__(self, folder: Path, layout: ShardLayout, about: Mapping[str, Any], files: dict[str, str]) -> None:
        self._folder, self._layout, self._about, self._files = folder, layout, about, files
        self.num_there = len(files)
        self.missing = [number for number, name in enumerate(layout.file_names()) if name not in files]
        self._write_manifest()

    def write(self, number: int, rows: NDArray[Any]) -> None:
        """Write a shard that is missing, in any order; once the manifest names it, it is whole."""
        first, last = self._layout.span(number)
        expected = np.dtype(self._layout.dtype), (last - first, *self._layout.row_shape)
        assert (rows.dtype, rows.shape) == expected, f"{rows.dtype}{rows.shape} is not {expected}"
        file = self._folder / self._layout.file_name(number)
        with atomic_path(file) as temporary:
            np.save(temporary, rows, allow_pickle=False)
        self._files[file.name] = sha256_file(file)
        self._write_manifest()

    def _write_manifest(self) -> None:
        layout = self._layout
        values = {
            "format": _FORMAT,
            "rows": layout.num_rows,
            "row_shape": list(layout.row_shape),
            "dtype": layout.dtype,
            "rows_per_shard": layout.rows_per_shard,
            "about": dict(self._about),
            "files": dict(sorted(self._files.items())),
        }
        write_summed(self._folder / MANIFEST, values)


@contextmanager
def shard_writer(folder: str | Path, layout: ShardLayout, about: Mapping[str, Any]) -> Iterator[ShardWriter]:
    """Yield who fills a folder with shards, or goes on where a killed run was; nobody else writes there meanwhile.

    A shard is whole or absent, and the manifest names it once it is whole.

    Args:
        folder: where to; it is made if it is not there.
        layout: how.
        about: what the rows are of: JSON values that tell one bank from another, such as fingerprints.

    Raises `InputError` for a folder that holds other things, or shards of another layout or of something else;
    `ResourceError` if the disk is full.
    """
    folder = Path(folder)
    require(*layout.problems("layout"))
    with only_writer(folder, "writing shards"):
        remove_left_over(folder)  # what a kill in the middle of a shard has left is as large as the shard
        path = folder / MANIFEST
        if path.is_file():
            files = _finished(path, layout, about)
        else:
            if foreign := sorted(file.name for file in folder.iterdir() if not file.name.startswith(".")):
                what = f"holds {foreign[0]!r} and no {MANIFEST}"
                raise InputError(Problem(str(folder), what, "name another folder"))
            files = {}
        share = 1 - len(files) / layout.num_shards
        require_disk(folder, int(layout.num_rows * layout.row_bytes * share), "the bank")
        yield ShardWriter(folder, layout, about, files)


def write_shards(
    folder: str | Path,
    layout: ShardLayout,
    about: Mapping[str, Any],
    make_rows: Callable[[int, int], NDArray[Any]],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write rows shard by shard; return how many shards were there already, from a run that was killed.

    A run that takes up another's work makes only what is missing. Memory holds one shard. `make_rows` is called with
    (start, stop) and returns these rows in the dtype of the layout; `progress` with (shards done, shards in all). The
    rest is that of `shard_writer`.
    """
    with shard_writer(folder, layout, about) as writer:
        for count, number in enumerate(writer.missing, 1):
            writer.write(number, make_rows(*layout.span(number)))
            if progress is not None:
                progress(writer.num_there + count, layout.num_shards)
    return writer.num_there


def _finished(path: Path, layout: ShardLayout, about: Mapping[str, Any]) -> dict[str, str]:
    """Return the SHA-256 of the shards that are whole, if they are of what is to be written."""
    values = read_summed(path)
    found = _read_layout(path, values)
    if found != (layout, dict(about)):
        of = "layout" if found[0] != layout else "content: pictures, embedder or table"
        raise InputError(Problem(str(path.parent), f"holds shards of another {of}", "name another folder"))
    whole = {}
    for name in layout.file_names():
        file, expected = path.parent / name, values["files"].get(name)
        if expected is not None and file.is_file() and sha256_file(file) == expected:
            whole[name] = expected
    return whole


def _read_layout(path: Path, values: Mapping[str, Any]) -> tuple[ShardLayout, dict[str, Any]]:
    """Return the layout in a manifest and what the rows are of; raise `InputError` for what is no manifest."""
    check_format(path, values.get("format"), _FORMAT)
    shape, about, files = values.get("row_shape"), values.get("about"), values.get("files")
    if not (isinstance(shape, list) and shape and isinstance(about, dict) and isinstance(files, dict)):
        raise InputError(Problem(str(path), "no manifest of shards (row_shape, about or files)", _AGAIN))
    layout = ShardLayout(values.get("rows", 0), tuple(shape), values.get("dtype", ""), values.get("rows_per_shard", 0))
    require(*layout.problems(str(path)))
    require(wrong_whole(f"{path}: shards", layout.num_shards, at_most=_MOST_SHARDS))
    if unknown := set(files) - set(layout.file_names()):
        raise InputError(Problem(str(path), f"files: {min(unknown)!r} is none of its shards", _AGAIN))
    return layout, about


def _read_whole(file: Any, part: memoryview) -> None:
    while len(part):
        num_bytes = file.readinto(part)
        if not num_bytes:
            raise InputError(Problem(file.name, "shorter than it was", _AGAIN))
        part = part[num_bytes:]
