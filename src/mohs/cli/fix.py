"""`mohs fix`: the corrections of a table, made."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mohs.cli import options
from mohs.cli.console import print_json, require_file_place, say
from mohs.errors import InputError

if TYPE_CHECKING:
    from mohs.data.fixes import Applied
    from mohs.data.table import Table

__all__ = ["fix"]


def fix(
    source: Annotated[str, typer.Argument(help="The table (CSV, Parquet or folder) that was looked at.")],
    fixes: Annotated[
        Path, typer.Argument(help="fixes.csv of 'mohs doctor --precision' or 'mohs check --fixes', looked through.")
    ],
    out: Annotated[Path, typer.Option(help="The new table, CSV.")],
    catalog: options.Catalog = None,
    file_column: options.FileColumn = None,
    class_column: options.ClassColumn = None,
    group_column: options.GroupColumn = None,
    as_json: options.Json = False,
) -> None:
    """Write the table with corrections made: classes joined, pictures relabelled or left out; files stay."""
    data = options.read_settings(None, locals() | {"out": None}).config.data  # --out is no run's folder
    from mohs.data.fixes import apply_fixes, read_fixes
    from mohs.data.table import BUILT_IN, write_table

    if data.source == BUILT_IN:
        raise InputError("SOURCE: 'glyphs' has no table to correct; write one with 'mohs glyphs FOLDER'")
    if out.suffix.lower() != ".csv":
        raise InputError(f"--out: {out}: the new table is a CSV; name it so")
    require_file_place(out, "--out")
    listing = data.read_listing()
    applied = apply_fixes(listing, read_fixes(fixes), source=str(fixes))
    write_table(applied.table, out)
    if as_json:
        print_json(
            {
                "table": str(out),
                "num_items": len(applied.table),
                "num_classes": applied.table.num_classes,
                "num_merged": applied.num_merged,
                "num_relabelled": applied.num_relabelled,
                "num_dropped": applied.num_dropped,
                "num_looked": applied.num_looked,
                "num_repeated": applied.num_repeated,
                "num_unchanged": applied.num_unchanged,
                "vanished": list(applied.vanished),
                "new_classes": list(applied.new_classes),
            }
        )
    else:
        _tell(applied, listing, fixes, out)


def _tell(applied: Applied, listing: Table, fixes: Path, out: Path) -> None:
    say(
        f"joined {applied.num_merged:,} classes to others, relabelled {applied.num_relabelled:,} pictures, "
        f"left out {applied.num_dropped:,}"
    )
    if applied.num_looked:
        say(f"left alone: {applied.num_looked:,} rows that say 'look'; write 'relabel' or 'drop' where you agree")
    if applied.num_repeated:
        say(f"skipped: {_rows(applied.num_repeated)} of {fixes}, given twice")
    if applied.num_unchanged:
        say(f"left alone: {_rows(applied.num_unchanged)} of {fixes}, whose new class is the old one")
    if applied.new_classes:
        known = sorted(set(listing.labels.tolist()))
        named = ", ".join(_like_known(name, known) for name in applied.new_classes[:5])
        more = " …" if len(applied.new_classes) > 5 else ""
        say(
            f"warning: classes that {listing.source} did not have: {len(applied.new_classes):,} ({named}{more}); "
            f"correct 'to' in {fixes} if a name is mistyped"
        )
    if applied.vanished:
        named = ", ".join(map(repr, applied.vanished[:5])) + (" …" if len(applied.vanished) > 5 else "")
        say(f"warning: classes without a picture now: {len(applied.vanished):,} ({named})")
    say(f"table: {out} ({len(applied.table):,} pictures of {applied.table.num_classes:,} classes)")


def _rows(num: int) -> str:
    return f"{num:,} row{'' if num == 1 else 's'}"


def _like_known(name: str, known: Sequence[str]) -> str:
    """Return a class's name, and the known ones that it may stand for."""
    close = difflib.get_close_matches(name, known, n=2)
    return f"{name!r}, like {' and '.join(map(repr, close))}" if close else repr(name)
