"""How compiled code reads a stored bank: float32 as it is, 16-bit numbers through a table of what each of them means.

numba has no half precision on the CPU. One table of 65,536 float32 (256 KB) serves float16 and bfloat16 alike, so that
kernels are compiled for two kinds of bank, not three; it costs about what moving the bits would.

`row_of` and `value_of` are for other kernels; numba chooses by the type of the bank (`StoredBank.readable`). They
become part of those kernels, whose machine code on disk does not notice a change here: delete `*.nbi` after one.
"""

from typing import Any, TypeAlias

from numba import types
from numba.extending import overload

__all__ = ["row_of", "value_of"]

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
