"""The table of items: which picture files there are, and the class, role and split of each."""

import csv
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from mohs.artefacts import atomic_path
from mohs.data.rows import read_rows
from mohs.errors import InputError, at_most_20

__all__ = [
    "BUILT_IN",
    "PICTURE_EXTENSIONS",
    "ROLES",
    "SPLITS",
    "Table",
    "concatenate",
    "read_table",
    "require_classes",
    "table_bytes",
    "write_table",
]

PICTURE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
ROLES = ("sample", "catalog")
SPLITS = ("train", "validation", "test")

# The source of the built-in set; its files are names only.
BUILT_IN = "glyphs"


@final
@dataclass(frozen=True, eq=False)
class Table:
    """Items, one a row: N files with their classes, roles and splits.

    `labels` are strings as written (`"007"`, `"NA"`, `"1.0"`), never numbers. `roles` holds `"sample"` or `"catalog"`
    (a reference picture of its class); `splits` holds `""`, `"train"`, `"validation"` or `"test"`. `files` are
    relative to `root` (or absolute). `source` names the table in messages, `places` each row of it
    (`"images.csv: row 7"`); without `places` an item is named by its source.

    >>> table = Table(("a.png", "b.png"), np.array(["007", "NA"]), np.array(["sample"] * 2), np.array(["", ""]))
    >>> len(table), table.num_classes, table.take([1]).labels.tolist()
    (2, 2, ['NA'])
    """

    files: tuple[str, ...]
    labels: np.ndarray
    roles: np.ndarray
    splits: np.ndarray
    root: Path = Path()
    source: str = "table"
    places: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        num_items = len(self.files)
        for name in ("labels", "roles", "splits"):
            column = getattr(self, name)
            if not isinstance(column, np.ndarray) or column.shape != (num_items,) or column.dtype.kind not in "UO":
                found = f"{column.dtype}{column.shape}" if isinstance(column, np.ndarray) else type(column).__name__
                raise InputError(f"{name}: {found} is not an array of strings [{num_items}]; give one string a file")
        if len(self.places) not in (0, num_items):
            raise InputError(f"places: {len(self.places)} names for {num_items} files; give one a file, or none")

    def __len__(self) -> int:
        return len(self.files)

    @property
    def num_classes(self) -> int:
        """How many different labels there are."""
        return len(set(self.labels.tolist()))

    def path(self, index: int) -> Path:
        """Return the path of item `index`: `root / files[index]`."""
        return self.root / self.files[index]

    def place(self, index: int) -> str:
        """Return the name of item `index` for a message, such as `images.csv: row 7: 'img/x.png'`."""
        place = self.places[index] if self.places else self.source
        return f"{place}: {self.files[index]!r}"

    def take(self, indices: Sequence[int] | np.ndarray) -> "Table":
        """Return the rows `indices` (int [K], in that order) or those where a bool [N] mask is true."""
        rows = as_indices(indices, len(self))
        positions = rows.tolist()
        return Table(
            tuple(self.files[i] for i in positions),
            self.labels[rows],
            self.roles[rows],
            self.splits[rows],
            self.root,
            self.source,
            tuple(self.places[i] for i in positions) if self.places else (),
        )

    def with_splits(self, splits: np.ndarray) -> "Table":
        """Return the same items with other splits (str [N])."""
        return Table(self.files, self.labels, self.roles, splits, self.root, self.source, self.places)


def as_indices(indices: Sequence[int] | np.ndarray, num_items: int) -> np.ndarray:
    """Return int64 [K] from indices or from a bool [N] mask; raise `InputError` if they do not fit `num_items`."""
    rows = np.asarray(indices)
    if rows.dtype == np.bool_:
        if rows.shape != (num_items,):
            raise InputError(f"indices: a mask of shape {rows.shape} for {num_items} items; give one flag an item")
        return np.flatnonzero(rows)
    if rows.size == 0:
        return np.empty(0, np.int64)
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise InputError(f"indices: {rows.dtype}{rows.shape} is not int [K]; give item positions")
    if rows.min() < 0 or rows.max() >= num_items:
        raise InputError(
            f"indices: {int(rows.min())} to {int(rows.max())} for {num_items} items; stay in [0, {num_items})"
        )
    return rows.astype(np.int64)


def concatenate(first: Table, second: Table) -> Table:
    """Return the items of `first` followed by those of `second`, under the root and source of `first`.

    Where the roots differ, the files of `second` become absolute.
    """
    files = second.files
    if first.root.absolute() != second.root.absolute():
        files = tuple(str(second.path(i).absolute()) for i in range(len(second)))
    return Table(
        first.files + files,
        np.concatenate([first.labels, second.labels]),
        np.concatenate([first.roles, second.roles]),
        np.concatenate([first.splits, second.splits]),
        first.root,
        first.source,
        (first.places or (first.source,) * len(first)) + (second.places or (second.source,) * len(second)),
    )


def require_classes(table: Table, minimum: int = 2) -> None:
    """Raise `InputError` if the table has fewer than `minimum` classes."""
    names = sorted(set(table.labels.tolist()))
    if len(names) < minimum:
        shown = ", ".join(map(repr, names)) or "none"
        raise InputError(
            f"{table.source}: {len(names)} {'class' if len(names) == 1 else 'classes'} ({shown}); "
            f"similarity learning needs at least {minimum}; add pictures of other classes"
        )


def read_table(
    source: str | Path,
    *,
    catalog: str | Path | None = None,
    file_column: str = "file",
    class_column: str = "class",
) -> Table:
    """Return the table of a CSV or Parquet file, or of a folder.

    - A `.parquet` file, or a CSV: UTF-8 (with or without BOM), commas, a header; quotes and CRLF are fine. Columns
      `file` (relative to the table) and `class`; optional `role` (sample, catalog; empty is sample) and `split`
      (train, validation, test or empty). Other columns are ignored. If `file` and `class` are absent, `path` and
      `label` are taken (the table of OpenMetricLearning).
    - A folder that holds `images.csv`: that table; a `catalog.csv` beside it is the catalog unless `catalog` is given.
    - Any other folder: a class per sub-folder, holding pictures (jpg, jpeg, png, webp, bmp, gif, tif, tiff) in order
      of name. Hidden files and files of other kinds are ignored.

    `catalog` is one more table or folder whose items get the role catalog. An item listed in both is one item, with
    the role catalog. Row numbers in messages count the header as row 1 (in Parquet, the first item is row 1).

    Raises `InputError` with one line for each problem: no such file, no items, a missing column, an empty cell, an
    unknown role or split, a file that is listed twice.
    """
    path = Path(source)
    if path.is_dir() and (path / "images.csv").is_file():
        if catalog is None and (path / "catalog.csv").is_file():
            catalog = path / "catalog.csv"
        path = path / "images.csv"
    table = _read_one(path, file_column, class_column, default_role="sample")
    if catalog is None:
        return table
    path = Path(catalog)
    if path.is_dir() and (path / "catalog.csv").is_file():
        path = path / "catalog.csv"
    return _add_catalog(table, _read_one(path, file_column, class_column, default_role="catalog"))


def write_table(table: Table, path: str | Path) -> None:
    """Write `table` as CSV (file, class, role, split), atomically; files become relative to the folder of `path`.

    The files of the built-in set, which are names only, stay as they are.
    """
    path = Path(path)
    with atomic_path(path) as temporary:
        temporary.write_bytes(table_bytes(table, path.parent))


def table_bytes(table: Table, folder: Path) -> bytes:
    """Return what `write_table` writes for a file in this folder."""
    files: Iterable[str] = table.files
    if table.source != BUILT_IN and folder.absolute() != table.root.absolute():
        files = (_relative(table.path(i), folder) for i in range(len(table)))
    text = io.StringIO()
    writer = csv.writer(text)  # CRLF, as RFC 4180 says: with LF alone, a CR in a cell would not be quoted
    writer.writerow(["file", "class", "role", "split"])
    writer.writerows(zip(files, table.labels.tolist(), table.roles.tolist(), table.splits.tolist(), strict=True))
    return text.getvalue().encode("utf-8")


def _relative(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive
        return str(path.absolute())


def _read_one(path: Path, file_column: str, class_column: str, *, default_role: str) -> Table:
    if path.is_dir():
        return _read_folder(path, default_role)
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder; give a CSV or Parquet table, or a folder with one per class")
    columns, rows = read_rows(path)
    file_column, class_column = _choose_columns(path, list(columns), file_column, class_column)
    if not rows:
        raise InputError(f"{path}: no items; add a row for each picture")
    return _check_cells(
        path,
        rows,
        columns[file_column],
        columns[class_column],
        columns.get("role", [""] * len(rows)),
        columns.get("split", [""] * len(rows)),
        names=(file_column, class_column),
        default_role=default_role,
    )


def _choose_columns(path: Path, columns: list[str], file_column: str, class_column: str) -> tuple[str, str]:
    wanted = (file_column, class_column)
    if wanted == ("file", "class") and not set(wanted) & set(columns) and {"path", "label"} <= set(columns):
        return "path", "label"
    exist = ", ".join(map(repr, columns))
    problems = [
        f"{path}: no column {name!r}; the columns are {exist}; name the right one with {flag}"
        for name, flag in zip(wanted, ("--file-column", "--class-column"), strict=True)
        if name not in columns
    ]
    if problems and len(columns) == 1 and any(mark in columns[0] for mark in ";\t"):
        problems = [f"{path}: the header {columns[0]!r} holds no comma; save the table with commas between columns"]
    if problems:
        raise InputError(*problems)
    return wanted


def _check_cells(
    path: Path,
    rows: list[int],
    files: list[str],
    labels: list[str],
    roles: list[str],
    splits: list[str],
    *,
    names: tuple[str, str],
    default_role: str,
) -> Table:
    cells = {names[0]: files, names[1]: labels, "role": roles, "split": splits}
    problems = [
        f"{path}: column {name!r} holds neither text nor integers; store it as text"
        for name, values in cells.items()
        if len(values) != len(rows)
    ]
    if problems:
        raise InputError(*problems)
    allowed_roles = ROLES if default_role == "sample" else ("catalog",)
    seen: dict[str, int] = {}
    for i, (row, file, label, role, split) in enumerate(zip(rows, files, labels, roles, splits, strict=True)):
        where = f"{path}: row {row}"
        if not file.strip():
            problems.append(f"{where}: column {names[0]!r} is empty; name a picture or remove the row")
        else:
            first = seen.setdefault(os.path.normpath(file), i)
            if first != i:
                classes = f"with class {labels[first]!r} (here {label!r})" if labels[first] != label else "too"
                problems.append(f"{where}: file {file!r} is in row {rows[first]} {classes}; keep one of them")
        if not label.strip():
            problems.append(f"{where}: column {names[1]!r} is empty; name the class or remove the row")
        if role and role not in allowed_roles:
            problems.append(f"{where}: role {role!r} is not {' or '.join(map(repr, allowed_roles))}; change it")
        if split and split not in SPLITS:
            problems.append(f"{where}: split {split!r} is not 'train', 'validation' or 'test'; change it")
    if problems:
        raise InputError(*at_most_20(problems))
    return _make_table(
        files,
        labels,
        [role or default_role for role in roles],
        splits,
        root=path.parent,
        source=str(path),
        places=tuple(f"{path}: row {row}" for row in rows),
    )


def _make_table(
    files: Sequence[str],
    labels: Sequence[str],
    roles: Sequence[str],
    splits: Sequence[str],
    *,
    root: Path,
    source: str,
    places: tuple[str, ...] = (),
) -> Table:
    columns = np.array(labels, dtype=np.str_), np.array(roles, dtype="<U7"), np.array(splits, dtype="<U10")
    return Table(tuple(files), *columns, root, source, places)


def _read_folder(folder: Path, role: str) -> Table:
    problems: list[str] = []
    files: list[str] = []
    labels: list[str] = []
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if not entry.is_dir():
            if _is_picture(entry):
                problems.append(f"{entry}: a picture outside the class folders; move it into the folder of its class")
            continue
        for child in sorted(entry.iterdir()):
            if child.name.startswith("."):
                continue
            if child.is_dir():
                if any(_is_picture(inner) for inner in child.rglob("*")):
                    problems.append(
                        f"{child}: pictures two folders deep; give the folder that holds the class folders, "
                        "or write a table with columns 'file,class'"
                    )
            elif _is_picture(child):
                files.append(f"{entry.name}/{child.name}")
                labels.append(entry.name)
    if problems:
        raise InputError(*at_most_20(problems))
    if not files:
        kinds = ", ".join(kind[1:] for kind in PICTURE_EXTENSIONS)
        raise InputError(f"{folder}: no pictures ({kinds}); put those of each class in a sub-folder named after it")
    return _make_table(files, labels, [role] * len(files), [""] * len(files), root=folder, source=str(folder))


def _is_picture(path: Path) -> bool:
    return not path.name.startswith(".") and path.suffix.lower() in PICTURE_EXTENSIONS and path.is_file()


def _add_catalog(table: Table, catalog: Table) -> Table:
    # normpath without resolve(): a link to a picture is another file name, and resolving costs a system call a file.
    position = {os.path.normpath(table.path(i).absolute()): i for i in range(len(table))}
    roles = table.roles.copy()
    new: list[int] = []
    problems: list[str] = []
    for i, label in enumerate(catalog.labels.tolist()):
        same = position.get(os.path.normpath(catalog.path(i).absolute()))
        if same is None:
            new.append(i)
        elif table.labels[same] == label:
            roles[same] = "catalog"
        else:
            problems.append(
                f"{catalog.place(i)}: class {label!r}, but {str(table.labels[same])!r} in {table.place(same)}; "
                "give it one class"
            )
    if problems:
        raise InputError(*at_most_20(problems))
    table = Table(table.files, table.labels, roles, table.splits, table.root, table.source, table.places)
    return concatenate(table, catalog.take(new)) if new else table
