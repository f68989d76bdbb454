"""The tables of docs/reliability.md: tests make them, and fail where the committed ones differ.

MOHS_WRITE_TABLES=1 writes them anew.
"""

import os
from collections.abc import Sequence
from pathlib import Path

__all__ = ["check_table_of"]

DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"


def check_table_of(name: str, header: Sequence[object], rows: Sequence[Sequence[object]]) -> None:
    """Compare a table with that of its name in the document, between two comments; the last row is the sum."""
    sums = ["all", *(sum(row[i] for row in rows) for i in range(1, len(header)))]  # type: ignore[misc]
    lines = [" | ".join(map(str, row)) for row in (header, ["---"] * len(header), *rows, sums)]
    table = "\n".join(f"| {line} |" for line in lines)
    begin, end = f"<!-- table: {name} -->\n", f"\n<!-- end: {name} -->"
    text = DOCUMENT.read_text(encoding="utf-8")
    head, _, rest = text.partition(begin)
    before, _, tail = rest.partition(end)
    if os.environ.get("MOHS_WRITE_TABLES"):
        DOCUMENT.write_text(head + begin + table + end + tail, encoding="utf-8")
    else:
        assert before == table, f"docs/reliability.md: table {name!r} is not what the tests make"
