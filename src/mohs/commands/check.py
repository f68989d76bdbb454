"""`mohs check` and `mohs glyphs`: data before training."""

from dataclasses import asdict
from pathlib import Path

from mohs.commands.console import decoding_progress, print_json, say
from mohs.commands.places import require_folder_place
from mohs.data.check import check_table
from mohs.data.glyphs import export_glyphs
from mohs.data.table import BUILT_IN, read_table
from mohs.errors import InputError

__all__ = ["check_command", "glyphs_command"]


def check_command(
    source: str, catalog: str | None, file_column: str, class_column: str, *, quiet: bool, as_json: bool
) -> None:
    """Read a table and every picture of it, and say what is there and what is wrong."""
    if source == BUILT_IN:
        raise InputError(
            "SOURCE: 'glyphs' has no files to check; write them with 'mohs glyphs FOLDER' and check FOLDER"
        )
    table = read_table(source, catalog=catalog, file_column=file_column, class_column=class_column)
    with decoding_progress(quiet=quiet) as progress:
        result = check_table(table, progress=progress)
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
