"""The items of an index as SQL for PostgreSQL with pgvector."""

import math
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mohs.artefacts import atomic_path
from mohs.errors import InputError, Problem
from mohs.index.index import Index

__all__ = ["export_to_pgvector"]

_BATCH = 200
_NAME_BYTES = 63
# (what the column is, in Arrow; its type in SQL)
_TYPES: Final = (
    (pa.types.is_boolean, "boolean"),
    (pa.types.is_integer, "bigint"),
    (pa.types.is_floating, "double precision"),
    (pa.types.is_string, "text"),
    (pa.types.is_large_string, "text"),
    (pa.types.is_date, "date"),
    (pa.types.is_timestamp, "timestamp"),
)


def export_to_pgvector(index: Index, path: str | Path, *, table: str = "items") -> int:
    """Write all items of an index as a file of SQL, and return how many; `psql --file` runs it.

    It makes a table in one transaction: the item's columns, `id` the primary key, and `vector`; thumbnails are left
    out. Distances as in Mohs are Euclidean, pgvector's `<->`, so that the index's thresholds hold.

    Args:
        index: any.
        path: of the new file, whole or absent.
        table: must not exist in the database, which says so.

    Raises `InputError` for names longer than PostgreSQL's 63 bytes, for columns of a type that has no place there, and
    for text with a NUL.
    """
    snapshot = index.snapshot()
    rows, x_ND = snapshot.rows, snapshot.vectors.x_ND
    kinds = {field.name: _type(field) for field in rows.schema}
    for name in (table, *kinds):
        if not 1 <= len(name.encode()) <= _NAME_BYTES or "\0" in name:
            place = "table" if name == table else "columns"
            raise InputError(Problem(place, f"{name!r} is no name of 1 to {_NAME_BYTES} bytes", "use a shorter one"))
    own = ",\n".join(f"  {_name(name)} {kind}{' PRIMARY KEY' if name == 'id' else ''}" for name, kind in kinds.items())
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write("SET standard_conforming_strings = on;\nBEGIN;\nCREATE EXTENSION IF NOT EXISTS vector;\n")
        file.write(f'CREATE TABLE {_name(table)} (\n{own},\n  "vector" vector({x_ND.shape[1]}) NOT NULL\n);\n')
        for line in _inserts(rows, x_ND, table):
            file.write(line)
        file.write("COMMIT;\n")
    return len(rows)


def _inserts(rows: pa.Table, x_ND: NDArray[np.float32], table: str) -> Iterator[str]:
    names = rows.schema.names
    into = f'INSERT INTO {_name(table)} ({", ".join(map(_name, names))}, "vector") VALUES\n'
    for start in range(0, len(rows), _BATCH):
        cells = rows.slice(start, _BATCH).to_pylist()
        values = [
            f"  ({', '.join(_literal(name, row[name]) for name in names)}, '[{','.join(f'{x:.9g}' for x in x_D)}]')"
            for row, x_D in zip(cells, x_ND[start : start + _BATCH].tolist(), strict=True)
        ]
        yield into + ",\n".join(values) + ";\n"


def _type(field: pa.Field) -> str:
    for is_one, kind in _TYPES:
        if is_one(field.type):
            return kind
    raise InputError(
        Problem("columns", f"{field.name!r} is {field.type}, which has no place in the table", "leave it out")
    )


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(name: str, value: Any) -> str:
    match value:
        case None:
            return "NULL"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return repr(value) if math.isfinite(value) else f"'{value}'::double precision"
        case datetime() | date():
            return f"'{value.isoformat()}'"
    text = str(value)
    if "\0" in text:
        raise InputError(
            Problem("columns", f"{name!r} has text with a NUL ({text[:20]!r})", "remove it from the table")
        )
    return "'" + text.replace("'", "''") + "'"
