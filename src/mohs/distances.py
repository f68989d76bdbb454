"""The only place where sign, scale and squares are decided.

A *distance* is Euclidean, ‖a − b‖: 0 is identical, smaller is closer. A *similarity* is a dot product of unit vectors:
1 is identical, larger is closer; on unit vectors d² = 2 − 2s, so d lies in [0, 2] and d² in [0, 4].
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mohs.checks import numbers
from mohs.errors import InputError, Problem

__all__ = [
    "VALUES_PER_CHECK",
    "Rows",
    "check_embeddings",
    "check_rows",
    "exact_distance",
    "similarity_at_distance",
    "unit_rows",
]

_ROWS_PER_BLOCK = 8192
VALUES_PER_CHECK = 2**20


class Rows(Protocol):
    """What gives float32 rows for a slice: an array, or something that converts as it reads."""

    @property
    def shape(self) -> tuple[int, ...]:
        """N and D."""

    def __getitem__(self, index: Any, /) -> NDArray[np.float32]: ...


def check_embeddings(embeddings_ND: ArrayLike, *, name: str = "embeddings_ND") -> NDArray[np.float32]:
    """Return the embeddings as a C-contiguous float32[N, D] array (no copy if they are one already).

    Torch tensors, float16, float64 and integers are converted. Raises `InputError` if the array is not of real numbers
    (`mohs.checks.numbers`), not two-dimensional, is empty, or has a row with NaN or Inf (the first such rows are
    named).

    >>> check_embeddings([[0.0, 1.0], [np.nan, 0.0]])
    Traceback (most recent call last):
    mohs.errors.InputError: embeddings_ND: row 1 has NaN or Inf (1 row in all); leave it out or embed it again
    """
    found = numbers(name, embeddings_ND)
    with np.errstate(over="ignore"):  # what is beyond float32 becomes Inf, and is refused
        # ascontiguousarray would make a table of a single number.
        array = np.asarray(found, dtype=np.float32, order="C")
    check_rows(array, name=name)
    return array


def check_rows(rows_ND: Rows, *, name: str = "embeddings_ND") -> None:
    """Raise `InputError` unless the rows are [N, D] and finite; they are read in blocks of 4 MB.

    >>> check_rows(np.float32([[0.0, 1.0]]))
    """
    shape = rows_ND.shape
    if len(shape) != 2 or 0 in shape:
        what = f"shape {shape} is not [N, D] with N >= 1 and D >= 1"
        raise InputError(Problem(name, what, "give one row per item"))
    bad: list[int] = []
    rows_per_block = max(1, VALUES_PER_CHECK // shape[1])
    for start in range(0, shape[0], rows_per_block):
        block = rows_ND[start : start + rows_per_block]
        bad.extend((start + np.flatnonzero(~np.isfinite(block).all(axis=1))).tolist())
    if bad:
        rows = ", ".join(map(str, bad[:5])) + (", …" if len(bad) > 5 else "")
        plural = "rows" if len(bad) > 1 else "row"
        verb, them = ("have", "them") if len(bad) > 1 else ("has", "it")
        what = f"{plural} {rows} {verb} NaN or Inf ({len(bad)} {plural} in all)"
        raise InputError(Problem(name, what, f"leave {them} out or embed {them} again"))


def unit_rows(embeddings_ND: ArrayLike, *, name: str = "embeddings_ND") -> NDArray[np.float32]:
    """Return each row divided by its Euclidean norm, float32[N, D].

    Raises `InputError` for what `check_embeddings` refuses and for rows of norm zero, which have no direction.

    >>> unit_rows([[3.0, 4.0]])
    array([[0.6, 0.8]], dtype=float32)
    """
    array = check_embeddings(embeddings_ND, name=name)
    unit_ND = np.empty(array.shape, dtype=np.float32)
    norm_N = np.empty(len(array))
    rows_per_block = max(1, VALUES_PER_CHECK // array.shape[1])
    for start in range(0, len(array), rows_per_block):
        block = slice(start, start + rows_per_block)
        rows = array[block].astype(np.float64)
        norm_N[block] = np.sqrt(np.einsum("nd,nd->n", rows, rows))
        with np.errstate(divide="ignore", invalid="ignore"):  # rows of norm zero are refused below
            unit_ND[block] = rows / norm_N[block, None]
    zero = np.flatnonzero(norm_N == 0.0)
    if zero.size:
        what = f"row {zero[0]} has norm 0 ({zero.size} in all) and cannot be normalised"
        raise InputError(Problem(name, what, "leave it out or use plain Euclidean distances"))
    return unit_ND


def exact_distance(a_TD: NDArray[np.floating], b_TD: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return ‖a_t − b_t‖ of paired rows, float32[T].

    Differences, squares and their sum are float64 and rounded to float32 once, so near-duplicates keep their
    relative precision (2 − 2s would lose it) and the value does not depend on block shapes or BLAS.

    >>> exact_distance(np.float32([[1, 0]]), np.float32([[0, 1]]))
    array([1.4142135], dtype=float32)
    """
    distance_T = np.empty(len(a_TD), dtype=np.float32)
    for start in range(0, len(a_TD), _ROWS_PER_BLOCK):
        block = slice(start, start + _ROWS_PER_BLOCK)
        difference = a_TD[block].astype(np.float64) - b_TD[block].astype(np.float64)
        distance_T[block] = np.sqrt(np.einsum("td,td->t", difference, difference))
    return distance_T


def similarity_at_distance(distance: ArrayLike) -> NDArray[np.float64]:
    """Return the similarity of unit vectors at a distance, 1 − d²/2, float64.

    >>> similarity_at_distance([0.0, 2.0**0.5, 2.0]).round(6).tolist()
    [1.0, -0.0, -1.0]
    """
    similarity: NDArray[np.float64] = 1 - np.square(np.asarray(distance, dtype=np.float64)) / 2
    return similarity
