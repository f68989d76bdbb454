"""The cells of a CSV or Parquet file, as text."""

import csv
from pathlib import Path
from typing import Any

from mohs.errors import InputError, at_most_20

__all__ = ["read_rows"]


def read_rows(path: Path) -> tuple[dict[str, list[str]], list[int]]:
    """Return the cells of each column by its name, as text, and the number of each row for messages.

    A `.parquet` or `.pq` file is Parquet, any other CSV (UTF-8, with or without BOM). The header of a CSV is row 1, and
    blank lines are left out but counted; the first item of a Parquet file is row 1. A Parquet column that holds neither
    text, integers nor booleans ("True", "False") has no cells: what 1.0 or NaN would be as text is not defined.

    Raises `InputError` with one line for each problem: not such a file, a row with too many or too few cells, a column
    name that appears twice.
    """
    is_parquet = path.suffix.lower() in (".parquet", ".pq")
    return _read_parquet(path) if is_parquet else _read_csv(path)


def _read_csv(path: Path) -> tuple[dict[str, list[str]], list[int]]:
    # The csv module rather than pyarrow's reader: that one guesses types, skips blank lines without counting them
    # (row numbers in messages would be wrong) and stops at the first bad row.
    problems: list[str] = []
    rows: list[int] = []
    records: list[list[str]] = []
    header: list[str] = []
    row = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for row, cells in enumerate(csv.reader(file, strict=True), start=1):
                if row == 1:
                    header = cells
                elif not cells:
                    continue
                elif len(cells) != len(header):
                    problems.append(
                        f"{path}: row {row}: {len(cells)} cells for {len(header)} columns; "
                        "put cells that hold commas in double quotes"
                    )
                else:
                    rows.append(row)
                    records.append(cells)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason}); save the table as CSV UTF-8") from None
    except csv.Error as error:
        problems.append(f"{path}: row {row + 1}: not CSV ({error}); check quotes and line ends")
    if not header:
        problems.append(f"{path}: empty file; write a header with 'file,class' and a row for each picture")
    problems += [
        f"{path}: column {name!r} appears {header.count(name)} times; rename or remove one"
        for name in sorted(set(header))
        if name and header.count(name) > 1
    ]
    if problems:
        raise InputError(*at_most_20(problems))
    columns = {name: [cells[i] for cells in records] for i, name in enumerate(header)}
    return columns, rows


def _read_parquet(path: Path) -> tuple[dict[str, list[str]], list[int]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # One file; a folder named like 'split=1' above it must not add a column.
        table = pq.ParquetFile(path).read()
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: not a Parquet file ({str(error).splitlines()[0]}); write it again") from None
    columns: dict[str, list[str]] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        # Text, integers and booleans have one written form; a float (1.0, NaN) has not: left without cells, it is
        # refused if it is one of the columns that are used.
        values: list[Any] = column.to_pylist() if _has_one_form(column.type) else []
        columns[name] = ["" if value is None else str(value) for value in values]
    return columns, list(range(1, table.num_rows + 1))


def _has_one_form(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or str(kind) == "string_view"
    return bool(text or pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind))
