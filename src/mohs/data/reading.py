"""Tables and folders as `Table`: CSV, Parquet, or a folder per class, with a catalog beside it."""

import os
import re
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import numpy as np

from mohs.bounds import LABEL_CHARACTERS
from mohs.checks import path_of, require, wrong_text
from mohs.data.folder import read_class_folders
from mohs.data.multi_label import MultiLabel, one_class_each, repeat_problems
from mohs.data.names import find_as_written, is_text, joined_warning, name_warning
from mohs.data.packed import unpacked
from mohs.data.rows import read_rows
from mohs.data.table import ROLES, SPLITS, RowPlaces, Table, concatenate
from mohs.errors import DataWarning, InputError, Problem, at_most_20

__all__ = ["read_listing", "read_table"]

# Bytes: of Linux, macOS and Windows alike, and of Linux, which allows the most.
_LONGEST_NAME, _LONGEST_PATH = 255, 4000
_FIXED_WIDTH_BYTES = 2**28


def read_table(
    source: str | Path,
    *,
    catalog: str | Path | None = None,
    file_column: str = "file",
    class_column: str = "class",
    group_column: str = "group",
    multi_label: MultiLabel = "error",
) -> Table:
    """Return the table of a CSV or Parquet file, or of a folder.

    - A `.parquet` file, or a CSV: UTF-8 (with or without BOM), commas, a header; quotes and CRLF are fine. Columns
      `file` (relative to the table) and `class`; optional `role` (sample, catalog; empty is sample), `split`
      (train, validation, test or empty) and `group` (see `Table.groups`). Other columns are ignored. If `file` and
      `class` are absent, `path` and `label` are taken (the table of OpenMetricLearning).
    - A folder that holds `images.csv`: that table; a `catalog.csv` beside it is the catalog unless `catalog` is given.
    - Any other folder: a class per sub-folder, holding pictures of the kinds in `mohs.data.folder` in order of name.
      Hidden files are ignored.
    - A `.tar` by WebDataset or a folder of these, a folder by `save_to_disk` of Hugging Face's `datasets`, or a Parquet
      file with pictures in it: unpacked once into the cache (`mohs.data.packed`), and read as a table from there.

    `catalog` is one more table or folder whose items get the role catalog. An item listed in both is one item, with
    the role catalog. Row numbers in messages count the header as row 1 (in Parquet, the first item is row 1).
    `group_column` "" reads no groups; one with another name than "group" must be in the table, though not in the
    catalog. `multi_label` says what becomes of a picture that is listed under several classes
    (`mohs.data.multi_label`). A file whose name on disk has its accents composed otherwise is found there, and its name
    is that on disk.

    Warns (`DataWarning`), a line each: files in a folder that are passed over; classes or groups whose names differ in
    accents, capitals, spaces or the like only, or seem to hold several; a catalog without a class in
    common; files that are written otherwise on disk; pictures under several classes and what became of them.

    Raises `InputError` with one line for each problem: no such file, no items, a missing column, an empty cell, an
    unknown role or split, a file that is listed twice.
    """
    columns = {"file_column": file_column, "class_column": class_column, "group_column": group_column}
    return one_class_each(read_listing(source, catalog=catalog, **columns), multi_label)


def read_listing(
    source: str | Path,
    *,
    catalog: str | Path | None = None,
    file_column: str = "file",
    class_column: str = "class",
    group_column: str = "group",
) -> Table:
    """Return what `read_table` does, with every row: a file that is listed twice is there twice."""
    names = {"file_column": file_column, "class_column": class_column, "group_column": group_column}
    require(*(wrong_text(name, value, example=repr(name[:-7])) for name, value in names.items()))
    source, catalog = path_of("source", source), None if catalog is None else path_of("catalog", catalog)
    for given in (source, *(() if catalog is None else (catalog,))):
        if not is_text(str(given)):
            raise InputError(f"{str(given)!a}: the path is not UTF-8; rename it, or link to it by another name")
    path = unpacked(Path(source)) or Path(source)
    if path.is_dir() and (path / "images.csv").is_file():
        if catalog is None and (path / "catalog.csv").is_file():
            catalog = path / "catalog.csv"
        path = path / "images.csv"
    columns = _Columns(file_column, class_column, group_column)
    table = _read_one(path, columns, default_role="sample")
    if catalog is not None:
        path = unpacked(Path(catalog)) or Path(catalog)
        if path.is_dir() and (path / "catalog.csv").is_file():
            path = path / "catalog.csv"
        table = concatenate(table, _read_one(path, columns, default_role="catalog"))
    lines = [name_warning(table.labels.tolist(), "classes"), joined_warning(table.labels.tolist()), _far_catalog(table)]
    if table.groups is not None:
        lines.append(name_warning((name for name in table.groups.tolist() if name), "groups"))
    for line in filter(None, lines):
        warnings.warn(f"{table.source}: {line}", DataWarning, stacklevel=3)
    return table


def _far_catalog(table: Table) -> str:
    """Return a line if a catalog has no class with a sample, which is hardly meant; "" otherwise."""
    catalog = set(table.labels[table.roles == "catalog"].tolist())
    if len(catalog) < 2:  # one class may be a mistake of its own
        return ""
    samples = set(table.labels[table.roles == "sample"].tolist())
    if not samples or catalog & samples:
        return ""
    return (
        f"none of the {len(catalog):,} classes of the catalog has a sample (it has {min(catalog)!r}, samples have "
        f"{min(samples)!r}); write the classes as in the other table"
    )


@final
@dataclass(frozen=True)
class _Columns:
    """Names of the columns to read."""

    file: str
    label: str
    group: str


def _read_one(path: Path, wanted: _Columns, *, default_role: str) -> Table:
    if path.is_dir():
        if wanted.group not in ("", "group") and default_role == "sample":
            raise InputError(
                Problem(str(path), f"a folder has no column {wanted.group!r}", "write a table with 'file,class,group'")
            )
        files, labels, passed_over = read_class_folders(path)
        if bad := [file for file in files if not is_text(file)]:
            fix = "rename it, for example with convmv"
            raise InputError(*at_most_20([f"{path}: {file!a}: the name is not UTF-8; {fix}" for file in bad]))
        if passed_over:
            warnings.warn(passed_over, DataWarning, stacklevel=5)
        return _make_table(files, labels, [default_role] * len(files), [""] * len(files), root=path, source=str(path))
    if not path.is_file():
        raise InputError(
            Problem(str(path), "no such file or folder", "give a CSV or Parquet table, or a folder with one per class")
        )
    columns, rows = read_rows(path)
    wanted = _choose_columns(path, list(columns), wanted, is_catalog=default_role == "catalog")
    if not rows:
        raise InputError(Problem(str(path), "no items", "add a row for each picture"))
    return _check_cells(path, rows, columns, wanted, default_role=default_role)


def _choose_columns(path: Path, columns: list[str], wanted: _Columns, *, is_catalog: bool) -> _Columns:
    """Return the names of columns that are there; no group if there is none."""
    group = wanted.group if wanted.group in columns else ""
    is_usual = (wanted.file, wanted.label) == ("file", "class")
    if is_usual and not {"file", "class"} & set(columns) and {"path", "label"} <= set(columns):
        wanted = replace(wanted, file="path", label="label")
    named = {wanted.file: "--file-column", wanted.label: "--class-column"}
    if wanted.group not in ("", "group") and not is_catalog:
        named[wanted.group] = "--group-column"
    exist = ", ".join(map(repr, columns))
    problems = [
        f"{path}: no column {name!r}; the columns are {exist}; name the right one with {flag}"
        for name, flag in named.items()
        if name not in columns
    ]
    require(*problems)
    return replace(wanted, group=group)


def _check_cells(
    path: Path, rows: Sequence[int], columns: dict[str, list[str]], wanted: _Columns, *, default_role: str
) -> Table:
    empty = [""] * len(rows)
    cells = {
        wanted.file: columns[wanted.file],
        wanted.label: columns[wanted.label],
        "role": columns.get("role", empty),
        "split": columns.get("split", empty),
        **({wanted.group: columns[wanted.group]} if wanted.group else {}),
    }
    problems = [
        f"{path}: column {name!r} holds neither text nor integers; store it as text"
        for name, values in cells.items()
        if len(values) != len(rows)
    ]
    require(*problems)
    labels, roles, splits = cells[wanted.label], cells["role"], cells["split"]
    for name in filter(None, (wanted.label, wanted.group)):
        sizes = list(map(len, cells[name]))
        longest = max(sizes)
        LABEL_CHARACTERS.check(f"{path}: row {rows[sizes.index(longest)]}: column {name!r}", longest)
    files = _as_on_disk(path, cells[wanted.file])
    places = RowPlaces(str(path), rows)
    allowed_roles = ROLES if default_role == "sample" else ("catalog",)
    of_row: dict[int, list[str]] = {}
    for i, (file, label, role, split) in enumerate(zip(files, labels, roles, splits, strict=True)):
        found: list[str] = []
        if not file.strip():
            found.append(f"column {wanted.file!r} is empty; name a picture or remove the row")
        elif long := _long_name(file):
            found.append(f"{long}; correct the cell or remove the row")
        if not label.strip():
            found.append(f"column {wanted.label!r} is empty; name the class or remove the row")
        if role and role not in allowed_roles:
            found.append(f"role {role!r} is not {' or '.join(map(repr, allowed_roles))}; change it")
        if split and split not in SPLITS:
            found.append(f"split {split!r} is not 'train', 'validation' or 'test'; change it")
        if found:
            of_row[i] = [f"{places[i]}: {what}" for what in found]
    if of_row:
        # All that is wrong is told together: what would be told next, too.
        pictures = [os.path.normpath(file) if file.strip() else i for i, file in enumerate(files)]
        for i, line in repeat_problems(pictures, labels, roles, places, files).items():
            of_row.setdefault(i, []).insert(0, line)
        raise InputError(*at_most_20([line for i in sorted(of_row) for line in of_row[i]]))
    return _make_table(
        files,
        labels,
        [role or default_role for role in roles],
        splits,
        root=path.parent,
        source=str(path),
        places=places,
        groups=[name if name.strip() else "" for name in cells[wanted.group]] if wanted.group else None,
    )


def _long_name(file: str) -> str:
    """Return what is wrong with a name that no file can have, which the system refuses even to look for; "" if not."""
    if len(file) <= _LONGEST_NAME // 4:  # as UTF-8 a character takes at most 4 bytes
        return ""
    num_bytes = max(len(os.fsencode(part)) for part in re.split(r"[/\\]" if os.name == "nt" else "/", file))
    if num_bytes > _LONGEST_NAME:
        return f"the file {file[:40]!r}… has a name of {num_bytes:,} bytes, more than {_LONGEST_NAME}"
    if len(os.fsencode(file)) > _LONGEST_PATH:
        return f"the file {file[:40]!r}… has a path of more than {_LONGEST_PATH:,} bytes"
    return ""


def _as_on_disk(path: Path, files: Sequence[str]) -> list[str]:
    """Return the files under the names that they have on disk, where accents are composed otherwise there."""
    found = list(files)
    changed: list[int] = []
    for i, file in enumerate(files):
        # Names in ASCII have one way to be written, and are most: they cost no system call.
        if file.isascii() or os.path.lexists(path.parent / file):
            continue
        alike = find_as_written(path.parent / file)
        if len(alike) != 1:
            continue
        same = alike[0]
        name = str(same) if Path(file).is_absolute() else os.path.relpath(same, path.parent)
        if unicodedata.normalize("NFC", os.path.normpath(file)) == unicodedata.normalize("NFC", name):
            found[i] = name
            changed.append(i)
    if changed:
        one, shown = len(changed) == 1, changed[0]
        warnings.warn(
            f"{path}: {len(changed):,} file{' has its' if one else 's have their'} accents composed otherwise on disk, "
            f"and {'was' if one else 'were'} found there "
            f"({'' if one else 'for example '}{files[shown]!a} is {found[shown]!a})",
            DataWarning,
            stacklevel=6,
        )
    return found


def _make_table(
    files: Sequence[str],
    labels: Sequence[str],
    roles: Sequence[str],
    splits: Sequence[str],
    *,
    root: Path,
    source: str,
    places: Sequence[str] = (),
    groups: Sequence[str] | None = None,
) -> Table:
    columns = _text_array(labels), np.array(roles, dtype="<U7"), np.array(splits, dtype="<U10")
    of_group = None if groups is None or not any(groups) else _text_array(groups)
    return Table(tuple(files), *columns, root, source, places, of_group)


def _text_array(texts: Sequence[str]) -> np.ndarray:
    """Return names as an array: of one width, or, where a long one among many would make that large, of objects."""
    num_bytes = 4 * len(texts) * max(map(len, texts), default=0)
    return np.array(texts, dtype=np.str_ if num_bytes <= _FIXED_WIDTH_BYTES else object)
