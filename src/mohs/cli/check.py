"""`mohs check`: what a table and its pictures are, and what is wrong with them, before training."""

from __future__ import annotations

import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mohs.cli import options
from mohs.cli.console import print_json, require_file_place, say
from mohs.cli.pictures_read import beside, tell_pictures
from mohs.cli.progress import decoding_progress
from mohs.errors import DataWarning, InputError

if TYPE_CHECKING:
    from mohs.data.check import CheckResult
    from mohs.data.table import Table
    from mohs.settings.config import DataConfig

__all__ = ["check"]


def check(
    source: options.TableOfFiles,
    catalog: options.Catalog = None,
    file_column: options.FileColumn = None,
    class_column: options.ClassColumn = None,
    group_column: options.GroupColumn = None,
    multi_label: options.MultiLabelOption = None,
    white_level: options.WhiteLevel = None,
    fixes: Annotated[
        Path | None,
        typer.Option(help="Write corrections for 'mohs fix' to this CSV; --multi-label decides what they do."),
    ] = None,
    write: Annotated[
        Path | None, typer.Option(help="Write the table to this CSV, without pictures that cannot be read.")
    ] = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Read a table and every picture of it; say what is there and what is wrong."""
    data = options.read_settings(None, locals()).config.data
    from mohs.data.check import check_table
    from mohs.data.fixes import listing_fixes, write_fixes
    from mohs.data.quarantine import Reading
    from mohs.data.table import BUILT_IN

    if fixes is not None:
        require_file_place(fixes, "--fixes")
    if write is not None:
        require_file_place(write, "--write")
    if data.source == BUILT_IN:
        raise InputError(
            "SOURCE: 'glyphs' has no files to check; write them with 'mohs glyphs FOLDER' and check FOLDER"
        )
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", DataWarning)
        listing = data.read_listing()
        table, repeated = _with_one_class_each(listing, data)
    with decoding_progress(quiet=quiet) as progress:
        result = check_table(table, white_level=data.white_level, progress=progress)
    lines = [str(warning.message) for warning in said]
    result = replace(result, table_problems=(*repeated, *result.table_problems), warnings=(*lines, *result.warnings))
    if fixes is not None:
        found = listing_fixes(listing, data.multi_label)
        write_fixes(found, fixes)
        say(f"written: {fixes} ({len(found):,} rows; next: look at it, then mohs fix SOURCE {fixes} --out NEW.csv)")
    reading = Reading(len(table) - len(result.bad), result.bad)
    if write is not None:
        _write_clean(table, result, write)
        tell_pictures(reading, beside(write), quiet=as_json)
    if as_json:
        print_json({**asdict(result), "problems": result.problems, "pictures_read": reading.as_record()})
    else:
        if write is None:
            say(str(reading))
        say(
            f"{result.num_samples:,} samples and {result.num_catalog:,} catalog pictures "
            f"of {result.num_classes:,} classes"
        )
        say(
            f"pictures of a class: {result.smallest_class} to {result.largest_class}, median {result.median_class:g}; "
            f"{result.num_singletons:,} classes have one"
        )
        for line in result.warnings:
            say(f"warning: {line}")
    # What was set aside is named already, and is in the table that was written no more.
    problems = result.problems if write is None else result.table_problems
    if problems:
        raise InputError(*problems)


def _write_clean(table: Table, result: CheckResult, path: Path) -> None:
    """Write the rows whose pictures can be read; raise `BadImagesError` if there is none."""
    from mohs.data.quarantine import refuse
    from mohs.data.table import write_table

    refuse(result.bad, len(table), len(table))
    bad = {each.index for each in result.bad}
    write_table(table.take([i for i in range(len(table)) if i not in bad]), path)
    say(f"written: {path} ({len(table) - len(bad):,} of {len(table):,} rows)")


def _with_one_class_each(listing: Table, data: DataConfig) -> tuple[Table, tuple[str, ...]]:
    """Return the table, and what stands against it; pictures are looked at even if they are under several classes."""
    from mohs.data.multi_label import first_rows, one_class_each

    try:
        return one_class_each(listing, data.multi_label), ()
    except InputError as error:
        return listing.take(sorted(first_rows(listing).values())), error.problems
