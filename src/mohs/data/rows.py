"""The cells of a CSV or Parquet file, as text, and how a CSV is written."""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mohs.artefacts import atomic_path
from mohs.bounds import CELL_BYTES, ROWS
from mohs.checks import require
from mohs.errors import InputError, Problem, at_most_20, reason_of
from mohs.shown import from_csv_cell

__all__ = ["decimal_points", "read_rows", "write_rows"]

_ROWS_AT_ONCE = 2**16
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(e[+-]?\d+)?%?")


def read_rows(path: Path) -> tuple[dict[str, list[str]], Sequence[int]]:
    """Return the cells of each column by its name, as text, and the number of each row for messages.

    A `.parquet` or `.pq` file is Parquet, any other CSV (UTF-8, with or without BOM), its cells apart by whichever of
    comma, semicolon and tab is in its header most. Rows of a CSV are counted from its first line, 1. Left out are blank
    lines, lines that begin with `#` above the header, the header where it is there again (a file that was appended to),
    and empty cells beyond the last column; a ' before what a spreadsheet would take for a formula is none of the cell
    (`mohs.shown.from_csv_cell`). The first item of a Parquet file is row 1. A Parquet column that holds neither text,
    integers nor booleans ("True", "False") has no cells: what 1.0 or NaN would be as text is not defined.

    Raises `InputError` with one line for each problem: not such a file, more rows or bytes than `mohs.bounds` allows, a
    row with too many or too few cells, a column name that appears twice, a NUL in a cell (it would end a file's name,
    and numpy cuts it off the end of a class's).
    """
    is_parquet = path.suffix.lower() in (".parquet", ".pq")
    return _read_parquet(path) if is_parquet else _read_csv(path)


def write_rows(path: str | Path, header: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a header and rows of cells as CSV, atomically; the lines end in CRLF, as RFC 4180 says."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def _read_csv(path: Path) -> tuple[dict[str, list[str]], Sequence[int]]:
    # The csv module rather than pyarrow's reader: that one guesses types, skips blank lines without counting them
    # (row numbers in messages would be wrong) and stops at the first bad row.
    problems: list[str] = []
    rows: list[int] = []
    records: list[list[str]] = []
    header: list[str] = []
    row = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = _without_comments(list(file))
        first = next((line for line in lines if line.strip()), "")
        if "\0" in first:
            what = "its header holds a NUL, as UTF-16 does"
            raise InputError(Problem(str(path), what, "save the table as CSV UTF-8"))
        delimiter = max(",;\t", key=first.count)
        for row, cells in enumerate(csv.reader(lines, delimiter=delimiter, strict=True), start=1):
            if not cells or cells == header:
                continue
            if not header:
                header = cells
            elif len(cells) < len(header) or any(cells[len(header) :]):
                problems.append(
                    f"{path}: row {row}: {len(cells)} cells for {len(header)} columns; "
                    + ("put cells that hold commas in double quotes" if delimiter == "," else "correct the row")
                )
            else:
                rows.append(row)
                records.append([from_csv_cell(cell) for cell in cells[: len(header)]])
    except UnicodeDecodeError:
        raise InputError(_not_utf8(path)) from None
    except csv.Error as error:
        problems.append(f"{path}: row {row + 1}: not CSV ({reason_of(error)}); check quotes and line ends")
    if not header:
        problems.append(f"{path}: empty file; write a header with 'file,class' and a row for each picture")
    problems += _repeated(path, header)
    require(*at_most_20(problems))
    ROWS.check(str(path), len(rows))
    columns = {name: [cells[i] for cells in records] for i, name in enumerate(header)}
    _refuse_nul(path, columns, rows)
    return columns, rows


def _not_utf8(path: Path) -> Problem:
    """Return what is wrong with a file that is no UTF-8: the row of the first byte, and what Latin-1 makes of it."""
    content = path.read_bytes()
    try:
        content.decode()
    except UnicodeDecodeError as error:
        row = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start : error.start + 1]
        read = f" ({byte.decode('latin-1')!r} in Latin-1)" if byte >= b"\xa0" else ""
        what = f"byte 0x{byte.hex().upper()}{read} is not UTF-8 text"
        return Problem(f"row {row}", what, "save the table as CSV UTF-8", file=str(path))
    return Problem(str(path), "not UTF-8 text", "save the table as CSV UTF-8")  # it changed meanwhile


def _repeated(path: Path, names: Sequence[str]) -> list[str]:
    return [
        f"{path}: column {name!r} appears {names.count(name)} times; rename or remove one"
        for name in sorted(set(names))
        if name and names.count(name) > 1
    ]


def _refuse_nul(path: Path, columns: Mapping[str, Sequence[str]], rows: Sequence[int]) -> None:
    problems = [
        Problem(f"row {row}", f"column {name!r}: {cell!r:.60} holds a NUL", "correct the cell", file=str(path))
        for name, cells in columns.items()
        for row, cell in zip(rows, cells, strict=False)  # a column that is not read has no cells
        if "\0" in cell
    ]
    require(*at_most_20(problems))


def _without_comments(lines: Sequence[str]) -> list[str]:
    """Return the lines with those blank that begin with # above the header.

    The last of them is the header itself if numbers follow it in as many cells, as numpy writes it.
    """
    num = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    if not num:
        return list(lines)
    named = lines[num - 1].removeprefix("# ")
    below = re.split(r"[,;\t]", lines[num].strip()) if num < len(lines) else []
    is_header = len(below) == len(re.split(r"[,;\t]", named)) and any(re.fullmatch(r"[\d.eE+-]+", c) for c in below)
    return ["\n"] * (num - 1) + [named if is_header else "\n"] + list(lines[num:])


def decimal_points(cells: Sequence[str]) -> list[str]:
    """Return the cells of a column of numbers with a point for a decimal comma.

    A comma is a decimal one if some cell of the column shows it: no thousands look like "0,25" or "12,5".

    >>> decimal_points(["0,25", "1,125"]), decimal_points(["1,125", "7"])
    (['0.25', '1.125'], ['1,125', '7'])
    """
    commas = [cell for cell in map(str.strip, cells) if "," in cell]
    shown = any(not _THOUSANDS.fullmatch(cell) for cell in commas)
    decimal = shown and all(_DECIMAL_COMMA.fullmatch(cell.lower()) for cell in commas)
    return [cell.replace(",", ".") for cell in cells] if decimal else list(cells)


def _read_parquet(path: Path) -> tuple[dict[str, list[str]], Sequence[int]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # One file; a folder named like 'split=1' above it must not add a column.
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            if problems := _repeated(path, schema.names):
                raise InputError(*at_most_20(problems))
            num_rows = int(file.metadata.num_rows)
            ROWS.check(str(path), num_rows)
        # Text that is there again is held once, as in the file: a kilobyte can hold a name a million times.
        texts = [field.name for field in schema if _is_text(field.type)]
        # Text, integers and booleans have one written form; a float (1.0, NaN) has not: left without cells, it is
        # refused if it is one of the columns that are used.
        columns: dict[str, list[str]] = {name: [] for name in schema.names}
        num_bytes = 0
        with pq.ParquetFile(path, read_dictionary=texts) as file:
            # Piece by piece, and bytes counted as they come: what the file says of its pieces may be anything, and
            # asking for it can end the process. One column after the other, so that one dictionary is held at a time.
            for name in (field.name for field in schema if _has_one_form(field.type)):
                for batch in file.iter_batches(_ROWS_AT_ONCE, columns=[name]):
                    texts_of_chunk, chunk_bytes = _texts(batch.column(name))
                    num_bytes += chunk_bytes
                    CELL_BYTES.check(str(path), num_bytes)
                    columns[name] += texts_of_chunk
                pa.default_memory_pool().release_unused()
    except (FileNotFoundError, InputError):
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = reason_of(error)
        raise InputError(Problem(str(path), f"not a Parquet file ({reason})", "write it again")) from None
    rows = range(1, num_rows + 1)
    _refuse_nul(path, columns, rows)
    return columns, rows


def _texts(chunk: Any) -> tuple[list[str], int]:
    """Return the written forms of a piece of a column, and its bytes; equal text of a dictionary is one object."""
    import pyarrow as pa

    chunk.validate(full=True)  # places in a damaged dictionary, and text that is no UTF-8
    if not isinstance(chunk, pa.DictionaryArray):
        return ["" if value is None else str(value) for value in chunk.to_pylist()], chunk.nbytes
    # A piece may have few words of a dictionary of all.
    used = chunk.indices.unique().drop_null()
    taken = chunk.dictionary.take(used)
    words: dict[Any, str] = {None: ""}
    for place, word in zip(used.to_pylist(), taken.to_pylist(), strict=True):
        words[place] = "" if word is None else str(word)
    return [words[place] for place in chunk.indices.to_pylist()], taken.nbytes + chunk.indices.nbytes


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _has_one_form(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or str(kind) == "string_view"
    return bool(text or pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind))
