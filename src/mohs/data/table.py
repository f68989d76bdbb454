"""The table of items: which picture files there are, and the class, role, split and group of each."""

import csv
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final, overload

import numpy as np

from mohs.artefacts import atomic_path
from mohs.errors import InputError, Problem
from mohs.shown import csv_cell

__all__ = [
    "BUILT_IN",
    "ROLES",
    "SPLITS",
    "RowPlaces",
    "Table",
    "concatenate",
    "require_classes",
    "table_bytes",
    "write_table",
]

ROLES = ("sample", "catalog")
SPLITS = ("train", "validation", "test")

# The source of the built-in set; its files are names only.
BUILT_IN = "glyphs"


@final
@dataclass(frozen=True)
class RowPlaces(Sequence[str]):
    """The names of rows in messages, each made when it is asked for: a million of them take 100 MB.

    >>> places = RowPlaces("images.csv", range(2, 5))
    >>> places[1], len(places), places[1:]
    ('images.csv: row 3', 3, ('images.csv: row 3', 'images.csv: row 4'))
    """

    source: str
    rows: Sequence[int]

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(len(self))[index])
        return f"{self.source}: row {self.rows[index]}"


@final
@dataclass(frozen=True, eq=False)
class Table:
    """Items, one a row: N files with their classes, roles and splits.

    `labels` are strings as written (`"007"`, `"NA"`, `"1.0"`), never numbers. `roles` holds `"sample"` or `"catalog"`
    (a reference picture of its class); `splits` holds `""`, `"train"`, `"validation"` or `"test"`. `files` are
    relative to `root` (or absolute). `source` names the table in messages, `places` each row of it
    (`"images.csv: row 7"`); without `places` an item is named by its source. `groups` holds what an item was taken with
    (a session, a camera, a product family; `""` for none), and is None if that is known of no item.

    >>> table = Table(("a.png", "b.png"), np.array(["007", "NA"]), np.array(["sample"] * 2), np.array(["", ""]))
    >>> len(table), table.num_classes, table.take([1]).labels.tolist()
    (2, 2, ['NA'])
    >>> table
    Table('table': 2 items of 2 classes)
    """

    files: tuple[str, ...]
    labels: np.ndarray
    roles: np.ndarray
    splits: np.ndarray
    root: Path = Path()
    source: str = "table"
    places: Sequence[str] = ()
    groups: np.ndarray | None = None

    def __post_init__(self) -> None:
        num_items = len(self.files)
        for name in ("labels", "roles", "splits", *(["groups"] if self.groups is not None else [])):
            column = getattr(self, name)
            if not isinstance(column, np.ndarray) or column.shape != (num_items,) or column.dtype.kind not in "UO":
                found = f"{column.dtype}{column.shape}" if isinstance(column, np.ndarray) else type(column).__name__
                raise InputError(
                    Problem(name, f"{found} is not an array of strings [{num_items}]", "give one string a file")
                )
        if len(self.places) not in (0, num_items):
            raise InputError(
                Problem("places", f"{len(self.places)} names for {num_items} files", "give one a file, or none")
            )

    def __len__(self) -> int:
        return len(self.files)

    def __repr__(self) -> str:
        num_catalog = int((self.roles == "catalog").sum())
        catalog = f", {num_catalog:,} of them catalog pictures" if num_catalog else ""
        return f"Table({self.source!r}: {len(self):,} items of {self.num_classes:,} classes{catalog})"

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
        return replace(
            self,
            files=tuple(self.files[i] for i in positions),
            labels=self.labels[rows],
            roles=self.roles[rows],
            splits=self.splits[rows],
            places=tuple(self.places[i] for i in positions) if self.places else (),
            groups=None if self.groups is None else self.groups[rows],
        )


def as_indices(indices: Sequence[int] | np.ndarray, num_items: int) -> np.ndarray:
    """Return int64 [K] from indices or from a bool [N] mask; raise `InputError` if they do not fit `num_items`."""
    rows = np.asarray(indices)
    if rows.dtype == np.bool_:
        if rows.shape != (num_items,):
            raise InputError(
                Problem("indices", f"a mask of shape {rows.shape} for {num_items} items", "give one flag an item")
            )
        return np.flatnonzero(rows)
    if rows.size == 0:
        return np.empty(0, np.int64)
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise InputError(Problem("indices", f"{rows.dtype}{rows.shape} is not int [K]", "give item positions"))
    if rows.min() < 0 or rows.max() >= num_items:
        what = f"{int(rows.min())} to {int(rows.max())} for {num_items} items"
        raise InputError(Problem("indices", what, f"stay in [0, {num_items})"))
    return rows.astype(np.int64)


def concatenate(first: Table, second: Table) -> Table:
    """Return the items of `first` followed by those of `second`, under the root and source of `first`.

    Where the roots differ, the files of `second` become absolute.
    """
    files = second.files
    if first.root.absolute() != second.root.absolute():
        files = tuple(str(second.path(i).absolute()) for i in range(len(second)))
    groups = None
    if first.groups is not None or second.groups is not None:
        groups = np.concatenate([np.full(len(t), "") if t.groups is None else t.groups for t in (first, second)])
    return replace(
        first,
        files=first.files + files,
        labels=np.concatenate([first.labels, second.labels]),
        roles=np.concatenate([first.roles, second.roles]),
        splits=np.concatenate([first.splits, second.splits]),
        places=tuple(place for table in (first, second) for place in table.places or (table.source,) * len(table)),
        groups=groups,
    )


def require_classes(table: Table, minimum: int = 2) -> None:
    """Raise `InputError` if the table has fewer than `minimum` classes."""
    names = sorted(set(table.labels.tolist()))
    if len(names) < minimum:
        shown = ", ".join(map(repr, names)) or "none"
        what = (
            f"{len(names)} {'class' if len(names) == 1 else 'classes'} ({shown}); similarity learning needs at "
            f"least {minimum}"
        )
        raise InputError(Problem(table.source, what, "add pictures of other classes"))


def write_table(table: Table, path: str | Path) -> None:
    """Write `table` as CSV, atomically: file, class, role, split, and group if there are any.

    Names that a spreadsheet would take for formulas are written by `mohs.shown.csv_cell`, and read back as they were.

    Files become relative to the folder of `path`; those of the built-in set, which are names only, stay as they are.
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
    columns = {"class": table.labels, "role": table.roles, "split": table.splits}
    if table.groups is not None:
        columns["group"] = table.groups
    writer.writerow(["file", *columns])
    cells = [map(csv_cell, column) for column in (files, *(column.tolist() for column in columns.values()))]
    writer.writerows(zip(*cells, strict=True))
    return text.getvalue().encode("utf-8")


def _relative(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive
        return str(path.absolute())
