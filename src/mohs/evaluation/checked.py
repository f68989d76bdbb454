"""Checks of what metrics take: embeddings and labels, as numpy arrays or torch tensors."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mohs.checks import class_labels, numbers, plain_array
from mohs.errors import InputError

__all__ = [
    "Array",
    "Bools",
    "Float32",
    "Float64",
    "Index",
    "check_dimensions",
    "checked_embeddings",
    "checked_float32",
    "checked_labels",
    "checked_self_indices",
    "class_codes",
]


# Arrays by what they hold; their shapes are said where they are made.
Array: TypeAlias = npt.NDArray[Any]
Bools: TypeAlias = npt.NDArray[np.bool_]
Float32: TypeAlias = npt.NDArray[np.float32]
Float64: TypeAlias = npt.NDArray[np.float64]
Index: TypeAlias = npt.NDArray[np.int64]

# Squares of longer rows would come near the end of float32's range.
_LARGEST_NORM = 1e18


def checked_embeddings(values: npt.ArrayLike, name: str) -> Float64:
    """Return embeddings [N, D] as float64, rows checked; CPU and GPU torch tensors are taken too.

    Raises `InputError` naming `name` if they are not a non-empty table of numbers, or if a row holds NaN, Inf or is
    longer than 1e18 (all such rows are counted, the first one is named).

    >>> checked_embeddings([[1, 0], [0, 1]], "embeddings_ND").dtype
    dtype('float64')
    """
    x_ND = np.ascontiguousarray(_table(values, name), dtype=np.float64)
    _check_rows(x_ND, name)
    return x_ND


def checked_float32(values: npt.ArrayLike, name: str) -> Float32:
    """Return embeddings [N, D] rounded to float32, rows checked as in `checked_embeddings`; no copy if they are that.

    >>> checked_float32([[1, 0], [0, 1]], "embeddings_ND").dtype
    dtype('float32')
    """
    array = _table(values, name)
    _check_rows(array, name)  # before rounding, which makes some of them infinite
    return np.ascontiguousarray(array, dtype=np.float32)


def checked_labels(values: npt.ArrayLike, name: str, num_items: int) -> Array:
    """Return labels [N] as int64 or text; raise `InputError` for another type, shape or length.

    The rule is that of `mohs.checks.class_labels`.

    >>> checked_labels(["a", "b"], "labels_N", 2).tolist()
    ['a', 'b']
    """
    return class_labels(name, values, num_items)


def class_codes(*labels: Sequence[Any] | Array) -> list[Index]:
    """Return each array of labels as int64 codes 0..C-1 in sorted label order; equal labels share a code.

    Raises `InputError` if some arrays hold strings and others integers, since "7" and 7 would never or always match.

    >>> [codes.tolist() for codes in class_codes(np.array(["b", "a"]), np.array(["b"]))]
    [[1, 0], [1]]
    """
    arrays = [np.asarray(part) for part in labels]
    kinds = {"string" if part.dtype.kind == "U" else "integer" for part in arrays}
    if len(kinds) > 1:
        raise InputError("labels: strings in one array and integers in another never match; use one kind for both")
    _, codes = np.unique(np.concatenate(arrays), return_inverse=True)
    return np.split(codes.astype(np.int64), np.cumsum([len(part) for part in arrays])[:-1])


def check_dimensions(queries_QD: Array, gallery_GD: Array) -> None:
    """Raise `InputError` unless queries [Q, D] and gallery [G, D] have the same D."""
    if queries_QD.shape[1] != gallery_GD.shape[1]:
        raise InputError(
            f"query_embeddings_QD, gallery_embeddings_GD: {queries_QD.shape[1]} and {gallery_GD.shape[1]} dimensions; "
            "use embeddings of one model for both"
        )


def checked_self_indices(values: npt.ArrayLike | None, num_queries: int, num_gallery: int) -> Index:
    """Return the gallery index of each query, int64 [Q], −1 for none; raise `InputError` for another shape or range."""
    if values is None:
        return np.full(num_queries, -1, dtype=np.int64)
    indices = plain_array("self_indices_Q", values)
    if indices.shape != (num_queries,) or indices.dtype.kind not in "iu":
        raise InputError(
            f"self_indices_Q: shape {indices.shape} and type {indices.dtype}; "
            f"give one integer for each of the {num_queries} queries"
        )
    wrong = np.flatnonzero((indices < -1) | (indices >= num_gallery))
    if len(wrong):
        raise InputError(
            f"self_indices_Q: {indices[wrong[0]]} of query {wrong[0]} is not in [-1, {num_gallery}); "
            "give an index of the gallery, or -1 for a query that is not in it"
        )
    return indices.astype(np.int64)


def _table(values: npt.ArrayLike, name: str) -> Array:
    array = numbers(name, values)
    if array.ndim != 2 or 0 in array.shape:
        raise InputError(
            f"{name}: shape {array.shape} and type {array.dtype} are not a table of numbers; "
            "give at least one row and one column, [items, dimensions]"
        )
    return array


def _check_rows(x_ND: Array, name: str) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        bad_N = ~(np.einsum("nd,nd->n", x_ND, x_ND, dtype=np.float64) <= _LARGEST_NORM**2)
    if bad_N.any():
        first = int(np.flatnonzero(bad_N)[0])
        raise InputError(
            f"{name}: row {first} holds NaN, Inf or is longer than {_LARGEST_NORM:g} "
            f"({int(bad_N.sum())} of {len(x_ND)} rows do); every embedding must be finite"
        )
