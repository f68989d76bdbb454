"""The tables of docs/reliability.md: tests make them, and fail where the committed ones differ.

MOHS_WRITE_TABLES=1 writes them anew.
"""

import os
from collections.abc import Sequence
from pathlib import Path

__all__ = ["check_table_of", "record_figures"]

DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"


def check_table_of(name: str, header: Sequence[object], rows: Sequence[Sequence[object]]) -> None:
    """Compare a table with that of its name in the document, between two comments; the last row is the sum."""
    sums = ["all", *(sum(row[i] for row in rows) for i in range(1, len(header)))]  # type: ignore[misc]
    table = _table(header, [*rows, sums])
    if os.environ.get("MOHS_WRITE_TABLES"):
        _write(name, table)
    else:
        assert _parts(name)[1] == table, f"docs/reliability.md: table {name!r} is not what the tests make"


def record_figures(name: str, header: Sequence[object], rows: Sequence[Sequence[object]], *, complete: bool) -> None:
    """Write a table of figures, which differ between machines, if they are complete; else compare its names."""
    if os.environ.get("MOHS_WRITE_TABLES") and complete:
        _write(name, _table(header, rows))
        return
    head, _, *lines = _parts(name)[1].splitlines()
    assert head == _table(header, rows).splitlines()[0]
    assert [line.split(" | ")[0] for line in lines] == [f"| {row[0]}" for row in rows]


def _table(header: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    lines = [" | ".join(map(str, row)) for row in (header, ["---"] * len(header), *rows)]
    return "\n".join(f"| {line} |" for line in lines)


def _parts(name: str) -> tuple[str, str, str]:
    """Return the document up to a table, the table, and what comes after it."""
    begin, end = f"<!-- table: {name} -->\n", f"\n<!-- end: {name} -->"
    head, found, rest = DOCUMENT.read_text(encoding="utf-8").partition(begin)
    table, _, tail = rest.partition(end)
    assert found, f"docs/reliability.md has no table {name!r}"
    return head + begin, table, end + tail


def _write(name: str, table: str) -> None:
    head, _, tail = _parts(name)
    DOCUMENT.write_text(head + table + tail, encoding="utf-8")
