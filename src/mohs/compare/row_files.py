"""A CSV of frozen dataclasses, one a row, that may be cut short at any moment and gone on with."""

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from mohs.artefacts import atomic_path
from mohs.errors import InputError

__all__ = ["append_row", "read_rows"]

_T = TypeVar("_T")

_READS: dict[Any, Callable[[str], Any]] = {bool: lambda text: text == "True", int: int, float: float, str: str}


def append_row(path: Path, row: Any) -> None:
    """Add a dataclass of bool, int, float and str fields to a CSV, at once; the first one brings the header.

    The fields of a dataclass within it are columns like its own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="", encoding="utf-8") as stream:
        cells = _flat(asdict(row))
        writer = csv.DictWriter(stream, cells)
        if stream.tell() == 0:
            writer.writeheader()
        writer.writerow(cells)


def read_rows(path: Path, cls: type[_T]) -> list[_T]:
    """Return the rows of a CSV as objects of a dataclass; none without a file.

    A row without its end (the program was killed while it wrote) is left out, and taken off the file, so that the next
    one is not joined to it. Raises `InputError` for a table of something else.
    """
    if not path.exists():
        return []
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a table of mohs; remove the file to measure again") from None
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        with atomic_path(path) as temporary:
            temporary.write_bytes(whole.encode())
    rows = []
    for number, row in enumerate(csv.DictReader(io.StringIO(whole, newline="")), start=2):
        try:
            rows.append(_from_cells(cls, row))
        except (KeyError, TypeError, ValueError, csv.Error):
            raise InputError(
                f"{path}: row {number}: not of this version of mohs; remove the file to measure again"
            ) from None
    return rows


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= value if isinstance(value, dict) else {name: value}
    return flat


def _from_cells(cls: type[_T], row: Mapping[str, str]) -> _T:
    # A dataclass's field types are classes here: no module of this package postpones annotations.
    values: dict[str, Any] = {}
    for field in fields(cls):  # type: ignore[arg-type]
        kind: Any = field.type
        read = _READS.get(kind)
        values[field.name] = _from_cells(kind, row) if read is None else read(row[field.name])
    return cls(**values)
