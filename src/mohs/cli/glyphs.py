"""`mohs glyphs`: the built-in set as files."""

from pathlib import Path
from typing import Annotated

import typer

from mohs.cli import options
from mohs.cli.console import print_json, require_folder_place, say
from mohs.cli.progress import counting_progress
from mohs.errors import InputError, Problem

__all__ = ["glyphs"]


def glyphs(
    folder: Annotated[Path, typer.Argument(help="New folder for the pictures, images.csv and catalog.csv.")],
    size: Annotated[int, typer.Option(help="Side of the pictures, pixels.")] = 64,
    classes: Annotated[int | None, typer.Option(help="Only the first classes.")] = None,
    keep_homoglyphs: Annotated[
        bool,
        typer.Option(
            "--keep-homoglyphs",
            help="Keep characters that look the same, such as Latin A and Greek Alpha, as two classes.",
        ),
    ] = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Write the built-in set of characters as files, to try the other commands on."""
    from mohs.data.glyphs import export_glyphs

    if classes is not None and classes < 2:
        raise InputError(Problem("--classes", f"{classes} is below 2", "leave it out for all of them"))
    require_folder_place(folder, "FOLDER")
    with (
        counting_progress("drawing, faces", quiet=quiet) as drawing,
        counting_progress("writing, pictures", quiet=quiet) as writing,
    ):
        export_glyphs(
            folder,
            size,
            num_classes=classes,
            merge_homoglyphs=not keep_homoglyphs,
            drawing=drawing,
            writing=writing,
        )
    table, catalog = str(folder / "images.csv"), str(folder / "catalog.csv")
    if as_json:
        print_json({"table": table, "catalog": catalog})
    else:
        say(f"table: {table}, catalog: {catalog}")
