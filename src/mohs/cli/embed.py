"""`mohs embed`: the vectors of pictures, in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mohs.cli.console import decoding_progress, require_file_place, say
from mohs.cli.options import Catalog, ClassColumn, FileColumn, MaxBad, Quiet, naming_flags
from mohs.cli.pictures_read import beside, tell_pictures
from mohs.errors import InputError

__all__ = ["embed"]


def embed(
    embedder: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder, or folder of a saved embedder.")],
    source: Annotated[str, typer.Argument(metavar="TABLE", help="CSV, Parquet, folder of class folders, or 'glyphs'.")],
    out: Annotated[
        Path,
        typer.Option(
            help="The vectors: .npy, .parquet, .csv (as FiftyOne takes them) or .tsv (TensorBoard's projector)."
        ),
    ],
    catalog: Catalog = None,
    file_column: FileColumn = None,
    class_column: ClassColumn = None,
    max_bad: MaxBad = None,
    quiet: Quiet = False,
) -> None:
    """Write the vectors of all pictures of a table, float32 [items, dimensions], of unit length."""
    from mohs.export.vector_files import SUFFIXES, write_vectors

    if out.suffix.lower() not in SUFFIXES:
        raise InputError(f"--out: {out}: not one of {', '.join(SUFFIXES)}; name it so")
    require_file_place(out, "--out")
    from mohs.data.dataset import open_dataset
    from mohs.model.embedder import Embedder

    network = Embedder.from_pretrained(embedder)
    flags = {"max_bad_images": "--max-bad"}
    with naming_flags(flags), decoding_progress(quiet=quiet) as progress:
        dataset = open_dataset(
            source,
            catalog=catalog,
            policy=network.policy,
            file_column=file_column or "file",
            class_column=class_column or "class",
            max_bad_images=max_bad or 0,
            progress=progress,
        )
    tell_pictures(dataset.reading, beside(out), quiet=quiet)
    x_ND = network.embed(dataset.pictures)
    files = write_vectors(out, dataset.table, x_ND)
    say(f"{len(x_ND):,} vectors of {x_ND.shape[1]} dimensions: {' and '.join(map(str, files))}")
