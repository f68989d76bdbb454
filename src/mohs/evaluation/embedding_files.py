"""Files of embeddings and of their classes: what every command that takes such files reads them with."""

import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from mohs.artefacts import DAMAGED_ARRAYS
from mohs.data.reading import read_table
from mohs.data.rows import read_rows
from mohs.errors import DataWarning, InputError, Problem, at_most_20, reason_of
from mohs.evaluation.checked import Array, checked_embeddings, checked_float32
from mohs.evaluation.embedded import Embedded
from mohs.sums import check_array_sum

__all__ = ["read_embedded", "read_npy"]

_ROLES = ("sample", "catalog")
_CLASS_COLUMNS = ("class", "label", "labels", "y", "target")


# Classes, and roles, files and groups where the file has them; str [N] each.
_Known: TypeAlias = tuple[NDArray[np.str_], NDArray[np.str_] | None, NDArray[np.str_] | None, NDArray[np.str_] | None]


@final
@dataclass(frozen=True)
class _Columns:
    """The names of columns, where they were given, and the option that names the one of classes."""

    label: str | None
    file: str | None
    group: str | None
    class_flag: str


def read_embedded(
    embeddings: str | Path,
    labels: str | Path,
    *,
    flag: str = "labels",
    class_column: str | None = None,
    file_column: str | None = None,
    group_column: str | None = None,
    class_flag: str = "",
) -> Embedded:
    """Return the rows of a .npy file with what another file says of them, in the same order.

    They are float32, or float64 if they are not exact as float32.

    The classes, as text, are in a table (CSV or Parquet) with a column `class` or, without one, `label`, `labels`, `y`
    or `target` (in capitals too), and perhaps `file` (or `path`), `role` and `group`; in a folder of pictures that
    `mohs.data.reading.read_table` takes; in a .npy file of text or whole numbers; or
    in a .txt file with a class on each line. `flag` is what gave that file, `class_flag` the option that names its
    column. Warns (`DataWarning`) of a file that stands under several classes.

    Raises `InputError` naming the file, the row and the fix: files that cannot be read, rows with NaN or Inf, a column
    that is not there, or numbers of rows that differ.
    """
    embeddings, labels = Path(embeddings), Path(labels)
    x_ND = read_npy(embeddings, "numbers")
    try:
        known = _read_classes(labels, _Columns(class_column, file_column, group_column, class_flag))
    except FileNotFoundError:
        raise InputError(Problem(str(labels), "no such file", "check the path")) from None
    if not x_ND.ndim:
        raise InputError(Problem(str(embeddings), "holds one number", "give a table of numbers, [items, dimensions]"))
    x_ND = (checked_float32 if x_ND.dtype in (np.float16, np.float32) else checked_embeddings)(x_ND, str(embeddings))
    if len(known[0]) != len(x_ND):
        raise InputError(
            Problem(
                flag,
                f"{labels} has {len(known[0]):,} classes for the {len(x_ND):,} rows of {embeddings}",
                "give one for each row, in the same order",
            )
        )
    return Embedded(str(embeddings), x_ND, *known)


def read_npy(path: Path, what: str, *, mapped: bool = False) -> Array:
    """Return the array in a .npy file; `mapped` leaves it in the file, to be read as it is needed.

    Raises `InputError` for another file, and for one that does not match the SHA-256 that Mohs wrote behind the array;
    `what` it should hold is for the message.
    """
    try:
        with path.open("rb") as file:
            start = file.read(6)
    except FileNotFoundError:
        raise InputError(Problem(str(path), "no such file", "check the path")) from None
    except IsADirectoryError:
        raise InputError(Problem(str(path), "a folder", "give a file")) from None
    if start[:4] == b"PK\x03\x04":
        raise InputError(
            Problem(str(path), "an archive, perhaps of several arrays", f"write the one of {what} with numpy.save")
        )
    if start != b"\x93NUMPY":
        raise InputError(Problem(str(path), "not a .npy file", f"write the {what} with numpy.save"))
    try:
        # Left in the file at first: what a damaged header asks for is not allocated.
        with np.errstate(over="raise"):  # a shape beyond 2⁶³ is one
            found: np.memmap[Any, Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (*DAMAGED_ARRAYS, MemoryError) as error:
        reason = reason_of(error)
        raise InputError(
            Problem(str(path), f"cannot be read ({reason})", f"write the {what} with numpy.save again")
        ) from None
    check_array_sum(path, found.offset + found.nbytes)
    return found if mapped else np.array(found)


def _read_classes(path: Path, columns: _Columns) -> _Known:
    """Return the classes in a file, as text, and what else it says."""
    if path.is_dir():
        table = read_table(path)
        return table.labels, table.roles, np.array(table.files), table.groups
    kind = path.suffix.lower()
    if kind not in (".npy", ".txt"):
        return _read_table(path, columns)
    if columns.label or columns.file or columns.group:
        flags = "--class-column and --file-column" if columns.label or columns.file else "--group-column"
        raise InputError(Problem(str(path), "has no columns", f"leave out {flags}, or give a table"))
    if kind == ".npy":
        array = read_npy(path, "classes")
        if array.dtype.kind == "f" and np.isfinite(array).all() and (array == np.rint(array)).all():
            array = array.astype(np.int64)  # 3.0 is class 3
        if array.ndim != 1 or array.dtype.kind not in "iuU":
            raise InputError(
                Problem(
                    str(path),
                    f"{array.dtype} of shape {array.shape} cannot be classes",
                    "give integers or text, one for each row",
                )
            )
        return array.astype(np.str_), None, None, None
    try:
        names = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(Problem(str(path), f"not UTF-8 text ({error.reason})", "save it as UTF-8")) from None
    problems = _empty_names(path, "line", range(1, len(names) + 1), names, "")
    if problems:
        raise InputError(*at_most_20(problems))
    return np.array(names, dtype=np.str_), None, None, None


def _read_table(path: Path, wanted: _Columns) -> _Known:
    columns, rows = read_rows(path)
    by_name = "name the right one " + (f"with {wanted.class_flag}" if wanted.class_flag else "'class'")
    name = wanted.label or _class_column(path, columns, by_name)
    problems = [
        Problem(str(path), f"no column {each!r}; the columns are {', '.join(map(repr, columns))}", fix)
        for each, fix in (
            (name, by_name),
            (wanted.file, "name the right one with --file-column"),
            (wanted.group, "name the right one with --group-column"),
        )
        if each is not None and each not in columns
    ]
    problems += [
        Problem(str(path), f"column {each!r} holds neither text nor integers", "store it as text")
        for each in (name, "role")
        if each in columns and len(columns[each]) != len(rows)
    ]
    if problems:
        raise InputError(*problems)
    roles = [role or "sample" for role in columns["role"]] if "role" in columns else None
    problems = _empty_names(path, "row", rows, columns[name], f"column {name!r} ")
    problems += [
        Problem(f"row {row}", f"role {role!r} is not 'sample' or 'catalog'", "change it", file=str(path))
        for row, role in zip(rows, roles or (), strict=roles is not None)
        if role not in _ROLES
    ]
    if problems:
        raise InputError(*at_most_20(problems))

    def column(given: str | None, usual: str) -> NDArray[np.str_] | None:
        cells = columns.get(given or usual)
        return np.array(cells, dtype=np.str_) if cells is not None and len(cells) == len(rows) else None

    files = column(wanted.file, "file" if "file" in columns else "path")
    if files is not None and (line := _of_several_classes(files.tolist(), columns[name], rows)):
        warnings.warn(f"{path}: {line}", DataWarning, stacklevel=4)
    return (
        np.array(columns[name], dtype=np.str_),
        None if roles is None else np.array(roles, dtype=np.str_),
        files,
        column(wanted.group, "group"),
    )


def _class_column(path: Path, columns: Iterable[str], by_name: str) -> str:
    """Return the column that holds the classes; "class" if there is none."""
    named = {name: name.strip().lower() for name in columns if name.strip().lower() in _CLASS_COLUMNS}
    plain = [name for name, lower in named.items() if lower == "class"]
    found = plain or list(named)
    if len(found) > 1:
        raise InputError(Problem(str(path), f"columns {', '.join(map(repr, found))} may hold the classes", by_name))
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


def _empty_names(path: Path, what: str, rows: Sequence[int], names: Sequence[str], column: str) -> list[Problem]:
    return [
        Problem(
            f"{what} {row}",
            f"{column}is empty",
            f"name the class, or remove the {what} and its embedding",
            file=str(path),
        )
        for row, name in zip(rows, names, strict=True)
        if not name.strip()
    ]
