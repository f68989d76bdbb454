"""How compiled code reads a stored bank: float32 as it is, 16-bit numbers through a table of what each of them means.

numba has no half precision on the CPU. One table of 65,536 float32 (256 KB) serves float16 and bfloat16 alike, so that
kernels are compiled for two kinds of bank, not three; it costs about what moving the bits would.

`row_of` and `value_of` are for other kernels; numba chooses by the type of the bank (`StoredBank.readable`). They
become part of those kernels, whose machine code on disk does not notice a change here: delete `*.nbi` after one.
"""

import mmap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import Any, TypeAlias, final

import numpy as np
from numba import types
from numba.extending import overload
from numpy.typing import ArrayLike, NDArray

from mohs.artefacts import rows_fingerprint
from mohs.distances import check_embeddings, check_rows, unit_rows
from mohs.errors import InputError, Problem
from mohs.shards import RowsInPieces

__all__ = ["StoredBank", "row_of", "shard_bank", "stored_bank", "value_of"]

_ROWS_PER_CHECK = 8192


Bank: TypeAlias = Any
Scalar: TypeAlias = Any


def row_of(bank_ND: Bank, item: Scalar) -> Any:
    """Return a row as it is stored."""
    raise NotImplementedError("for compiled code only")


def value_of(bank_ND: Bank, stored: Scalar) -> Scalar:
    """Return what an element of a row is, as float32."""
    raise NotImplementedError("for compiled code only")


def _row_of(bank_ND: Bank, item: Scalar) -> Any:  # noqa: ARG001
    if isinstance(bank_ND, types.BaseTuple):
        return lambda bank_ND, item: bank_ND[0][item]
    return lambda bank_ND, item: bank_ND[item]


def _value_of(bank_ND: Bank, stored: Scalar) -> Any:  # noqa: ARG001
    if isinstance(bank_ND, types.BaseTuple):
        return lambda bank_ND, stored: bank_ND[1][stored]
    return lambda bank_ND, stored: stored  # noqa: ARG005


# Not strict: numba would compare annotations, which a lambda cannot have.
overload(row_of, strict=False)(_row_of)
overload(value_of, strict=False)(_value_of)


@final
@dataclass(frozen=True, eq=False)
class StoredBank:
    """Checked embeddings; `bank[index]` are float32 rows, for indices and slices.

    Attributes:
        values_ND: float32 or float16, or bfloat16 as uint16, which numpy lacks; C-contiguous. Or shards on disk.
        is_mapped: the values lie in a file that is mapped into memory, or in shards.
        divides: rows of shards are divided by their norms as they are read.
    """

    values_ND: NDArray[Any] | RowsInPieces
    is_mapped: bool
    divides: bool = False

    def __len__(self) -> int:
        return len(self.values_ND)

    def __getitem__(self, index: Any) -> NDArray[np.float32]:
        rows = _float32(self.values_ND[index])
        return unit_rows(rows) if self.divides else rows

    @property
    def shards(self) -> RowsInPieces | None:
        """The shards that hold the rows, if the bank is not to be held in memory."""
        return None if isinstance(self.values_ND, np.ndarray) else self.values_ND

    @property
    def shape(self) -> tuple[int, ...]:
        """N and D."""
        return self.values_ND.shape

    @property
    def is_float32_in_memory(self) -> bool:
        """Whether a float32 copy at most doubles what the bank takes in memory; then mining makes one."""
        return self.values_ND.dtype == np.float32 and not self.is_mapped

    def fingerprint(self, is_wanted: Callable[[], bool] = lambda: True) -> str:
        """Return the fingerprint of the rows (`mohs.artefacts.fingerprint`): as given, or divided by their norms.

        It has no meaning once `is_wanted`, asked before each block of rows, says no: no more rows are then read.
        """
        rows: Any = self if self.divides else self.values_ND
        dtype = np.dtype(np.float32) if self.divides else self.values_ND.dtype
        pieces: Iterable[tuple[int, int]]
        if isinstance(self.values_ND, np.ndarray):
            starts = range(0, len(self), _ROWS_PER_CHECK)
            pieces = ((start, min(start + _ROWS_PER_CHECK, len(self))) for start in starts)
        else:
            pieces = self.values_ND.pieces(_ROWS_PER_CHECK)
        wanted = takewhile(lambda _: is_wanted(), pieces)
        return rows_fingerprint(dtype, self.shape, (rows[start:stop] for start, stop in wanted))

    @cached_property
    def readable(self) -> Any:
        """The bank as compiled code reads it (`stored_kernels.py`).

        float32[N, D]; or the bits, uint16[N, D], with what they mean, float32[65536]. Shards are streamed instead.
        """
        assert isinstance(self.values_ND, np.ndarray)
        if self.values_ND.dtype == np.float32:
            return _seen_as_writable(self.values_ND)
        meaning = _float32(np.arange(2**16, dtype=np.uint16).view(self.values_ND.dtype))
        return _seen_as_writable(self.values_ND.view(np.uint16)), meaning


def stored_bank(embeddings_ND: ArrayLike | RowsInPieces, *, name: str = "embeddings_ND") -> StoredBank:
    """Return the embeddings, read in place if they can be.

    Raises `InputError` for what `check_embeddings` refuses and for memory maps that cannot be read in place.

    >>> bank = stored_bank(np.float16([[0.5, 1.0], [2.0, 4.0]]))
    >>> bank[[1]]
    array([[2., 4.]], dtype=float32)
    """
    if isinstance(embeddings_ND, RowsInPieces):
        return shard_bank(embeddings_ND, divides=False, name=name)
    bank = _in_place(embeddings_ND, name)
    if bank is None:
        return StoredBank(check_embeddings(embeddings_ND, name=name), is_mapped=False)
    check_rows(bank, name=name)
    return bank


def shard_bank(shards: RowsInPieces, *, divides: bool, name: str = "embeddings_ND") -> StoredBank:
    """Return shards as a bank, once they are known to hold vectors; `divides`: by their norms.

    Raises `InputError` for shards of other things, rows with NaN or Inf and, where they are divided, of norm zero.
    """
    if len(shards.shape) != 2 or shards.dtype == np.uint8:
        what = f"{shards.dtype}{list(shards.shape)} in shards are no vectors"
        raise InputError(Problem(name, what, "write them with 'mohs embed --shards'"))
    bank = StoredBank(shards, is_mapped=True)
    check_rows(bank, name=name)
    if divides:
        for start, stop in shards.pieces(_ROWS_PER_CHECK):
            zero = start + np.flatnonzero(~bank[start:stop].any(axis=1))
            if zero.size:
                what = f"row {zero[0]} has norm 0 and cannot be normalised"
                raise InputError(Problem(name, what, "leave it out or use plain Euclidean distances"))
    return StoredBank(shards, is_mapped=True, divides=divides)


def _in_place(embeddings_ND: ArrayLike, name: str) -> StoredBank | None:
    if isinstance(embeddings_ND, np.ma.MaskedArray):
        return None  # to be looked at
    if hasattr(embeddings_ND, "detach"):
        given: Any = embeddings_ND
        if str(given.layout) != "torch.strided" or given.is_meta:
            return None
        tensor = given.detach().cpu()
        if str(tensor.dtype) == "torch.float16":
            return StoredBank(tensor.contiguous().numpy(), is_mapped=False)
        if str(tensor.dtype) == "torch.bfloat16":
            import torch

            return StoredBank(tensor.contiguous().view(torch.int16).numpy().view(np.uint16), is_mapped=False)
        return None
    if not isinstance(embeddings_ND, np.ndarray):
        return None
    array = np.asarray(embeddings_ND)
    is_mapped = _is_mapped(array)
    if is_mapped and not (array.dtype in (np.float32, np.float16) and array.flags.c_contiguous):
        order = "in C order" if array.flags.c_contiguous else "out of C order"
        fix = (
            "write it block by block to numpy.lib.format.open_memmap(path, 'w+', 'float32', shape), or load it into "
            "memory"
        )
        what = f"memory map of {array.dtype}{list(array.shape)} {order} cannot be read in place"
        raise InputError(Problem(name, what, fix))
    if not is_mapped and array.dtype != np.float16:
        return None
    return StoredBank(np.ascontiguousarray(array) if array.ndim else array, is_mapped)


def _is_mapped(array: NDArray[Any]) -> bool:
    base: Any = array
    while isinstance(base, (np.ndarray, memoryview)):
        base = base.obj if isinstance(base, memoryview) else base.base
    return isinstance(base, mmap.mmap)


def _float32(values: NDArray[Any]) -> NDArray[np.float32]:
    if values.dtype == np.float32:
        return values
    if values.dtype == np.float16:
        return values.astype(np.float32)
    return (values.astype(np.uint32) << 16).view(np.float32)


@final
class _Writable:
    """An array's memory, said to be writable."""

    def __init__(self, array: NDArray[Any]) -> None:
        address, _ = array.__array_interface__["data"]
        self.array = array  # keeps the memory
        self.__array_interface__ = {**array.__array_interface__, "data": (address, False)}


def _seen_as_writable(array: NDArray[Any]) -> Any:
    """Return the same memory as a writable array: numba would compile everything again for a read-only one."""
    return array if array.flags.writeable else np.asarray(_Writable(array))
