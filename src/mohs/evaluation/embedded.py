"""Checks of what metrics take: embeddings and labels, as numpy arrays or torch tensors."""

import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt

from mohs.data.rows import read_rows
from mohs.errors import DataWarning, InputError, at_most_20

__all__ = [
    "EmbeddedItems",
    "ItemLabels",
    "as_numpy",
    "checked_embeddings",
    "checked_float32",
    "checked_labels",
    "class_codes",
    "read_embedded_items",
    "read_item_labels",
    "read_npy",
]


# Squares of longer rows would come near the end of float32's range.
_LARGEST_NORM = 1e18


def checked_embeddings(values: npt.ArrayLike, name: str) -> npt.NDArray[np.float64]:
    """Return embeddings [N, D] as float64, rows checked; CPU and GPU torch tensors are taken too.

    Raises `InputError` naming `name` if they are not a non-empty table of numbers, or if a row holds NaN, Inf or is
    longer than 1e18 (all such rows are counted, the first one is named).

    >>> checked_embeddings([[1, 0], [0, 1]], "embeddings_ND").dtype
    dtype('float64')
    """
    x_ND = np.ascontiguousarray(_table(values, name), dtype=np.float64)
    _check_rows(x_ND, name)
    return x_ND


def checked_float32(values: npt.ArrayLike, name: str) -> npt.NDArray[np.float32]:
    """Return embeddings [N, D] rounded to float32, rows checked as in `checked_embeddings`; no copy if they are that.

    >>> checked_float32([[1, 0], [0, 1]], "embeddings_ND").dtype
    dtype('float32')
    """
    array = _table(values, name)
    _check_rows(array, name)  # before rounding, which makes some of them infinite
    return np.ascontiguousarray(array, dtype=np.float32)


def checked_labels(values: npt.ArrayLike, name: str, num_items: int) -> npt.NDArray[Any]:
    """Return labels [N] as an array of integers or strings; raise `InputError` for another type, shape or length.

    >>> checked_labels(["a", "b"], "labels_N", 2).tolist()
    ['a', 'b']
    """
    array = as_numpy(values)
    if array.ndim != 1:
        raise InputError(f"{name}: shape {array.shape} is not one label for each item; give a flat array")
    if len(array) != num_items:
        raise InputError(f"{name}: {len(array)} labels for {num_items} embeddings; give one label for each row")
    if array.dtype.kind in "OT" and all(isinstance(label, str) for label in array):
        array = array.astype(np.str_)
    if array.dtype.kind not in "iuU":
        raise InputError(f"{name}: labels of type {array.dtype}; use integers or strings, all of one kind")
    return array


def class_codes(*labels: Sequence[Any] | npt.NDArray[Any]) -> list[npt.NDArray[np.int64]]:
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


def _table(values: npt.ArrayLike, name: str) -> npt.NDArray[Any]:
    array = as_numpy(values)
    if array.ndim != 2 or array.dtype.kind not in "fiu" or 0 in array.shape:
        raise InputError(
            f"{name}: shape {array.shape} and type {array.dtype} are not a table of numbers; "
            "give at least one row and one column, [items, dimensions]"
        )
    return array


def _check_rows(x_ND: npt.NDArray[Any], name: str) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        bad_N = ~(np.einsum("nd,nd->n", x_ND, x_ND, dtype=np.float64) <= _LARGEST_NORM**2)
    if bad_N.any():
        first = int(np.flatnonzero(bad_N)[0])
        raise InputError(
            f"{name}: row {first} holds NaN, Inf or is longer than {_LARGEST_NORM:g} "
            f"({int(bad_N.sum())} of {len(x_ND)} rows do); every embedding must be finite"
        )


def as_numpy(values: Any) -> npt.NDArray[Any]:
    """Return an array of what may be a torch tensor, with gradients, on a GPU or in bfloat16 (then as float64)."""
    # Tensors that carry gradients, lie on a GPU or are bfloat16 have no direct numpy form (torch is not imported here).
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if str(values.dtype) in ("torch.float16", "torch.bfloat16"):
            values = values.float()  # exact
        values = values.numpy()
    return np.asarray(values)


_ROLES = ("sample", "catalog")
_CLASS_COLUMNS = ("class", "label", "labels", "y", "target")


@final
@dataclass(frozen=True, eq=False)
class EmbeddedItems:
    """Embeddings and what is known of them, as the files hold them.

    Attributes:
        embeddings_ND: float32 [N, D].
        labels_N: str [N].
        roles_N: str [N], "sample" or "catalog".
        files: the picture of each item; none if the table has no such column.
        groups_N: str [N], the group of each item, "" for none; none if the table has no such column.
    """

    embeddings_ND: np.ndarray
    labels_N: np.ndarray
    roles_N: np.ndarray
    files: tuple[str, ...] | None
    groups_N: np.ndarray | None = None


@final
@dataclass(frozen=True, eq=False)
class ItemLabels:
    """What a file of classes holds: str [N]; roles, files and groups are None where it has no such column."""

    labels_N: np.ndarray
    roles_N: np.ndarray | None
    files: tuple[str, ...] | None
    groups_N: np.ndarray | None = None

    def check_rows(self, num_rows: int, embeddings: Path, labels: Path, *, flag: str) -> None:
        """Raise `InputError` unless there is a class for each row; `flag` is the option that gave the classes."""
        if len(self.labels_N) != num_rows:
            raise InputError(
                f"{flag}: {labels} has {len(self.labels_N):,} classes for the {num_rows:,} rows of {embeddings}; "
                "give one for each row, in the same order"
            )


def read_embedded_items(
    embeddings: Path,
    labels: Path,
    *,
    flag: str,
    class_column: str | None = None,
    file_column: str | None = None,
    group_column: str | None = None,
) -> EmbeddedItems:
    """Return the rows of a .npy file and their classes, from a file that `read_item_labels` takes.

    Raises `InputError` naming the file, the row and the fix; `flag` is the option that gave the classes.
    """
    embeddings_ND = checked_float32(read_npy(embeddings, "numbers"), str(embeddings))
    found = read_item_labels(
        labels,
        class_column=class_column,
        file_column=file_column,
        group_column=group_column,
        class_flag="--class-column",
    )
    found.check_rows(len(embeddings_ND), embeddings, labels, flag=flag)
    roles_N = np.full(len(found.labels_N), "sample") if found.roles_N is None else found.roles_N
    return EmbeddedItems(embeddings_ND, found.labels_N, roles_N, found.files, found.groups_N)


def read_npy(path: Path, what: str) -> np.ndarray:
    """Return the array in a .npy file; raise `InputError` for another file (`what` it should hold, for the message)."""
    with path.open("rb") as file:
        start = file.read(6)
    if start[:4] == b"PK\x03\x04":
        raise InputError(f"{path}: an archive, perhaps of several arrays; write the one of {what} with numpy.save")
    if start != b"\x93NUMPY":
        raise InputError(f"{path}: not a .npy file; write the {what} with numpy.save")
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (ValueError, EOFError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(f"{path}: cannot be read ({reason}); write the {what} with numpy.save again") from None


def read_item_labels(
    path: Path,
    *,
    class_column: str | None = None,
    file_column: str | None = None,
    group_column: str | None = None,
    class_flag: str = "",
) -> ItemLabels:
    """Return the classes in a file, as text.

    A table (CSV or Parquet) with a column `class` or, without one, `label`, `labels`, `y` or `target` (in capitals
    too), and perhaps `file`, `role` and `group`; a .npy file of text or whole numbers; or a .txt file with a class on
    each line. Warns (`DataWarning`) of a file that stands under several classes.

    Raises `InputError` naming the file, the row and the fix; `class_flag` is the option that names the column.
    """
    kind = path.suffix.lower()
    if kind in (".npy", ".txt") and (class_column or file_column or group_column):
        flags = "--class-column and --file-column" if class_column or file_column else "--group-column"
        raise InputError(f"{path}: has no columns; leave out {flags}, or give a table")
    if kind == ".npy":
        array = read_npy(path, "classes")
        if array.dtype.kind == "f" and np.isfinite(array).all() and (array == np.rint(array)).all():
            array = array.astype(np.int64)  # 3.0 is class 3
        if array.ndim != 1 or array.dtype.kind not in "iuU":
            raise InputError(
                f"{path}: {array.dtype} of shape {array.shape} are no classes; give integers or text, one for each row"
            )
        return ItemLabels(array.astype(np.str_), None, None)
    if kind == ".txt":
        try:
            names = path.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not UTF-8 text ({error.reason}); save it as UTF-8") from None
        problems = _empty_names(path, "line", range(1, len(names) + 1), names, "")
        if problems:
            raise InputError(*at_most_20(problems))
        return ItemLabels(np.array(names, dtype=np.str_), None, None)
    columns, rows = read_rows(path)
    name = class_column or _class_column(path, columns, class_flag)
    by_name = f"name the right one with {class_flag}" if class_flag else "name the right one 'class'"
    problems = [
        f"{path}: no column {wanted!r}; the columns are {', '.join(map(repr, columns))}; {fix}"
        for wanted, fix in (
            (name, by_name),
            (file_column, "name the right one with --file-column"),
            (group_column, "name the right one with --group-column"),
        )
        if wanted is not None and wanted not in columns
    ]
    problems += [
        f"{path}: column {each!r} holds neither text nor integers; store it as text"
        for each in (name, "role")
        if each in columns and len(columns[each]) != len(rows)
    ]
    if problems:
        raise InputError(*problems)
    roles = [role or "sample" for role in columns["role"]] if "role" in columns else None
    problems = _empty_names(path, "row", rows, columns[name], f"column {name!r} ")
    problems += [
        f"{path}: row {row}: role {role!r} is not 'sample' or 'catalog'; change it"
        for row, role in zip(rows, roles or (), strict=roles is not None)
        if role not in _ROLES
    ]
    if problems:
        raise InputError(*at_most_20(problems))
    files, groups = columns.get(file_column or "file"), columns.get(group_column or "group")
    if files is not None and len(files) == len(rows) and (line := _of_several_classes(files, columns[name], rows)):
        warnings.warn(f"{path}: {line}", DataWarning, stacklevel=2)
    return ItemLabels(
        np.array(columns[name], dtype=np.str_),
        None if roles is None else np.array(roles),
        tuple(files) if files is not None and len(files) == len(rows) else None,
        np.array(groups, dtype=np.str_) if groups is not None and len(groups) == len(rows) else None,
    )


def _class_column(path: Path, columns: Iterable[str], class_flag: str) -> str:
    """Return the column that holds the classes; "class" if there is none."""
    named = {name: name.strip().lower() for name in columns if name.strip().lower() in _CLASS_COLUMNS}
    plain = [name for name, lower in named.items() if lower == "class"]
    found = plain or list(named)
    if len(found) > 1:
        fix = f"name the right one with {class_flag}" if class_flag else "name the right one 'class'"
        raise InputError(f"{path}: columns {', '.join(map(repr, found))} may hold the classes; {fix}")
    return found[0] if found else "class"


def _of_several_classes(files: Sequence[str], classes: Sequence[str], rows: Sequence[int]) -> str:
    """Return a line on files that stand under several classes, with the first of them; "" if there are none."""
    seen: dict[str, dict[str, int]] = defaultdict(dict)
    for file, label, row in zip(files, classes, rows, strict=True):
        seen[file].setdefault(label, row)
    double = {file: found for file, found in seen.items() if len(found) > 1 and file}
    if not double:
        return ""
    file, found = next(iter(double.items()))
    (one, row), (other, other_row) = list(found.items())[:2]
    return (
        f"{len(double):,} file{'s stand' if len(double) > 1 else ' stands'} under several classes, such as {file!r} "
        f"under {one!r} (row {row}) and {other!r} (row {other_row}); a search counts each as wrong for the other: keep "
        "one class for each file"
    )


def _empty_names(path: Path, what: str, rows: Sequence[int], names: Sequence[str], column: str) -> list[str]:
    return [
        f"{path}: {what} {row}: {column}is empty; name the class, or remove the {what} and its embedding"
        for row, name in zip(rows, names, strict=True)
        if not name.strip()
    ]
