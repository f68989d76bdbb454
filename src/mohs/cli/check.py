"""`mohs check` and `mohs glyphs`: data before training."""

import warnings
from dataclasses import asdict, replace
from pathlib import Path

from mohs.cli.console import decoding_progress, print_json, require_file_place, require_folder_place, say
from mohs.data.check import check_table
from mohs.data.fixes import listing_fixes, write_fixes
from mohs.data.glyphs import export_glyphs
from mohs.data.multi_label import file_keys, one_class_each
from mohs.data.table import BUILT_IN, Table
from mohs.errors import DataWarning, InputError
from mohs.settings.config import DataConfig

__all__ = ["check_command", "glyphs_command"]


def check_command(data: DataConfig, fixes: Path | None, *, quiet: bool, as_json: bool) -> None:
    """Read a table and every picture of it, and say what is there and what is wrong; write what may mend it."""
    if fixes is not None:
        require_file_place(fixes, "--fixes")
    if data.source == BUILT_IN:
        raise InputError(
            "SOURCE: 'glyphs' has no files to check; write them with 'mohs glyphs FOLDER' and check FOLDER"
        )
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", DataWarning)
        listing = data.read_listing()
        table, problems = _with_one_class_each(listing, data)
    with decoding_progress(quiet=quiet) as progress:
        result = check_table(table, white_level=data.white_level, progress=progress)
    lines = [str(warning.message) for warning in said]
    result = replace(result, problems=(*problems, *result.problems), warnings=(*lines, *result.warnings))
    if fixes is not None:
        found = listing_fixes(listing, data.multi_label)
        write_fixes(found, fixes)
        say(f"written: {fixes} ({len(found):,} rows; next: look at it, then mohs fix SOURCE {fixes} --out NEW.csv)")
    if as_json:
        print_json(asdict(result))
    else:
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
    result.raise_problems()


def _with_one_class_each(listing: Table, data: DataConfig) -> tuple[Table, tuple[str, ...]]:
    """Return the table, and what stands against it; pictures are looked at even if they are under several classes."""
    try:
        return one_class_each(listing, data.multi_label), ()
    except InputError as error:
        first = {key: row for row, key in reversed(list(enumerate(file_keys(listing))))}
        return listing.take(sorted(first.values())), error.problems


def glyphs_command(
    folder: Path, size: int, num_classes: int | None, *, merge_homoglyphs: bool = True, as_json: bool
) -> None:
    """Write the built-in set as files."""
    if num_classes is not None and num_classes < 2:
        raise InputError(f"--classes: {num_classes} is below 2; leave it out for all of them")
    require_folder_place(folder, "FOLDER")
    export_glyphs(folder, size, num_classes=num_classes, merge_homoglyphs=merge_homoglyphs)
    table, catalog = str(folder / "images.csv"), str(folder / "catalog.csv")
    if as_json:
        print_json({"table": table, "catalog": catalog})
    else:
        say(f"table: {table}, catalog: {catalog}")
