"""Pictures in a cache file that is larger than memory should hold: read as they are asked for, and never mapped.

The file is a .npy of uint8 [N, H, W, C]. Of each 16 MiB of pictures, a *block*, the SHA-256 is known; a block is read
whole and compared when the first of its pictures is asked for. So opening costs nothing, nothing grows with N but an
index, and a damaged picture is never returned.

Pictures that are announced are read by a thread before they are asked for: the disk works while the network does.
"""

import contextlib
import hashlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from mohs.errors import ResourceError

__all__ = ["Pictures", "ReadAhead", "StoredPictures", "block_sums", "read_in_turn", "rows_per_block"]

_BLOCK_BYTES = 2**24


class Pictures(Protocol):
    """Pictures uint8 [N, H, W, C]: an array in memory, a memory map, or `StoredPictures`. Indexed, it is an array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, C)."""

    @property
    def dtype(self) -> Any:
        """uint8."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...

    def __iter__(self) -> Iterator[Any]: ...

    def __array__(self) -> NDArray[Any]: ...


def rows_per_block(row_bytes: int) -> int:
    """Return how many pictures a block has.

    >>> rows_per_block(224 * 224 * 3)
    111
    """
    return max(1, _BLOCK_BYTES // max(1, row_bytes))


def block_sums(path: Path, offset: int, num_rows: int, row_bytes: int) -> list[str]:
    """Return the SHA-256 of each block of pictures in a file; threads share the work, as hashing lets others run."""
    num_blocks = -(-num_rows // rows_per_block(row_bytes))
    return _sums(_OpenFile(path), offset, num_rows, row_bytes, range(num_blocks))


@final
@dataclass(frozen=True, eq=False)
class StoredPictures:
    """Pictures of a file, all of them or those that were taken, in that order.

    Attributes:
        path, offset: the file, and where in it the first picture begins.
        stored_shape: (N, H, W, C) of all that the file holds.
        sums: SHA-256 of each block.
        row_M: the pictures that were taken, int64 [M]; None: all.
    """

    path: Path
    offset: int
    stored_shape: tuple[int, int, int, int]
    sums: Sequence[str]
    row_M: NDArray[np.int64] | None = None
    _checked: set[int] = field(default_factory=set, repr=False)
    _file: "_OpenFile | None" = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self._file is None:
            object.__setattr__(self, "_file", _OpenFile(self.path))

    def __len__(self) -> int:
        return self.stored_shape[0] if self.row_M is None else len(self.row_M)

    @property
    def shape(self) -> tuple[int, ...]:
        """(M, H, W, C)."""
        return (len(self), *self.stored_shape[1:])

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """uint8."""
        return np.dtype(np.uint8)

    def take(self, row_M: NDArray[np.int64]) -> "StoredPictures":
        """Return these pictures, of which none is read yet."""
        return replace(self, row_M=self._stored(row_M))

    def __getitem__(self, index: int | slice | NDArray[Any] | Sequence[int]) -> NDArray[np.uint8]:
        """Return pictures in memory: of one number, a slice, numbers in any order, or a mask.

        Raises `IndexError` for a number out of range, and `ResourceError` if a picture is not as it was written.
        """
        if isinstance(index, (int, np.integer)):
            picture: NDArray[np.uint8] = self._read(self._stored(np.array([range(len(self))[index]])))[0]
            return picture
        if isinstance(index, slice):
            return self._read(self._stored(np.arange(*index.indices(len(self)))))
        wanted = np.asarray(index)
        if wanted.dtype == np.bool_:
            if wanted.shape != (len(self),):
                raise IndexError(f"a mask of shape {wanted.shape} for {len(self)} pictures")
            wanted = np.flatnonzero(wanted)
        elif wanted.size and wanted.dtype.kind not in "iu":
            raise IndexError(f"{wanted.dtype} numbers are no numbers of pictures; give whole ones")
        return self._read(self._stored(wanted))

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        step = rows_per_block(self._row_bytes)
        for start in range(0, len(self), step):
            yield from self[start : start + step]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return all of them in memory."""
        return self[:].astype(dtype or np.uint8, copy=False)

    @property
    def _row_bytes(self) -> int:
        return int(np.prod(self.stored_shape[1:]))

    def _stored(self, place_K: NDArray[Any]) -> NDArray[np.int64]:
        """Return the rows of the file at these places among the pictures taken."""
        place_K = np.where(place_K < 0, place_K + len(self), place_K).astype(np.int64)
        if place_K.size and not 0 <= int(place_K.min()) <= int(place_K.max()) < len(self):
            raise IndexError(f"a picture of {len(self)} is asked for that is not there")
        return place_K if self.row_M is None else self.row_M[place_K]

    def _read(self, row_K: NDArray[np.int64]) -> NDArray[np.uint8]:
        self._check(np.unique(row_K // rows_per_block(self._row_bytes)).tolist())
        found = np.empty((len(row_K), *self.stored_shape[1:]), dtype=np.uint8)
        order_K = np.argsort(row_K, kind="stable")  # the file is read forwards
        assert self._file is not None
        rows = row_K[order_K].tolist()
        for row in rows:
            self._file.announce(self.offset + row * self._row_bytes, self._row_bytes)
        for place, row in zip(order_K.tolist(), rows, strict=True):
            self._file.read(self.offset + row * self._row_bytes, found[place])
        return found

    def _check(self, blocks: Sequence[int]) -> None:
        """Compare the blocks that no picture was asked of so far."""
        new = [block for block in blocks if block not in self._checked]
        if not new:
            return
        assert self._file is not None
        found = _sums(self._file, self.offset, self.stored_shape[0], self._row_bytes, new)
        for block, sum_now in zip(new, found, strict=True):
            if sum_now != self.sums[block]:
                # Without its notes the file is not used again.
                self.path.with_suffix(".json").unlink(missing_ok=True)
                first = block * rows_per_block(self._row_bytes)
                raise ResourceError(
                    f"{self.path}: decoded pictures from number {first} on are not as they were written; "
                    "start again, and they are decoded anew"
                )
        self._checked.update(new)


@final
class _OpenFile:
    """A file that stays open while its pictures may be asked for: it may be deleted meanwhile."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def __reduce__(self) -> tuple[type["_OpenFile"], tuple[Path]]:
        return _OpenFile, (self._path,)

    def announce(self, offset: int, num_bytes: int) -> None:
        """Say what will be read: the disk then has all of it before it, not one after the other."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._descriptor, offset, num_bytes, os.POSIX_FADV_WILLNEED)

    def read(self, offset: int, out: NDArray[np.uint8]) -> None:
        """Fill an array with the bytes from an offset on; threads may do so at once."""
        part = out.reshape(-1).data
        while part:
            num_read = os.preadv(self._descriptor, [part], offset)
            if not num_read:
                raise ResourceError(f"{self._path}: ends before the last picture; remove it, and it is written anew")
            part, offset = part[num_read:], offset + num_read


def _sums(file: _OpenFile, offset: int, num_rows: int, row_bytes: int, blocks: Sequence[int]) -> list[str]:
    """Return the SHA-256 of these blocks of pictures, of which the first begins at `offset`."""
    step = rows_per_block(row_bytes)

    def sum_of(number: int) -> str:
        block = np.empty(row_bytes * min(step, num_rows - number * step), dtype=np.uint8)
        file.read(offset + number * step * row_bytes, block)
        return hashlib.sha256(block.data).hexdigest()

    with ThreadPoolExecutor(min(max(1, len(blocks)), os.cpu_count() or 1)) as pool:
        return list(pool.map(sum_of, blocks))


_Items: TypeAlias = NDArray[np.int64]


@final
class ReadAhead:
    """Pictures, of which the next ones are announced; what comes back is the same with and without that.

    Only pictures that stay in their file are read ahead. Memory holds those that were announced and not yet taken.

    >>> pictures = ReadAhead(np.zeros((9, 2, 2, 3), dtype=np.uint8))
    >>> pictures.announce(np.array([3, 1]))
    >>> pictures.take(np.array([3, 1])).shape
    (2, 2, 2, 3)
    """

    def __init__(self, pictures: Pictures) -> None:
        self._pictures = pictures
        self._threads = ThreadPoolExecutor(1, "pictures") if isinstance(pictures, StoredPictures) else None
        self._waiting: deque[tuple[_Items, Future[NDArray[np.uint8]]]] = deque()

    def announce(self, item_K: _Items) -> None:
        """Begin to read pictures that will be asked for, after those that were announced before."""
        if self._threads is not None:
            self._waiting.append((item_K, self._threads.submit(self._pictures.__getitem__, item_K)))

    def take(self, item_K: _Items) -> NDArray[np.uint8]:
        """Return pictures, uint8 [K, H, W, C]. What was announced before them and is not asked for is given up.

        Raises what indexing them raises.
        """
        while self._waiting:
            announced_K, found = self._waiting.popleft()
            if np.array_equal(announced_K, item_K):
                return found.result()
            found.cancel()
        return np.asarray(self._pictures[item_K])

    def close(self) -> None:
        """Give up what was announced, and end the thread; pictures can be asked for, but not announced, after it."""
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
            self._threads = None
            self._waiting.clear()


def read_in_turn(pictures: Pictures, batches: Sequence[_Items]) -> Iterator[NDArray[np.uint8]]:
    """Yield the pictures of each batch, while those of the next one are read."""
    with contextlib.closing(ReadAhead(pictures)) as ahead:
        for number, item_K in enumerate(batches):
            if number == 0:
                ahead.announce(item_K)
            if number + 1 < len(batches):
                ahead.announce(batches[number + 1])
            yield ahead.take(item_K)
