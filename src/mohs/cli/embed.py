"""`mohs embed`: the vectors of pictures, in a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mohs.checks import require, wrong_whole
from mohs.cli.console import among_processes, is_first, require_file_place, require_folder_place, say
from mohs.cli.on_cluster import Actors, Address, Engine, check_engine, cluster_table, embed_on_cluster
from mohs.cli.options import Catalog, ClassColumn, FileColumn, MaxBad, Quiet, naming_flags
from mohs.cli.pictures_read import beside, tell_pictures
from mohs.cli.progress import counting_progress, decoding_progress
from mohs.errors import InputError
from mohs.peers import Peers

if TYPE_CHECKING:
    from mohs.data.dataset import Dataset
    from mohs.model.embedder import Embedder

__all__ = ["embed"]

_SHARD_ROWS = 2**16  # whole batches of the embedder, so that the vectors are those of one file


def embed(
    embedder: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder, or folder of a saved embedder.")],
    source: Annotated[str, typer.Argument(metavar="TABLE", help="CSV, Parquet, folder of class folders, or 'glyphs'.")],
    out: Annotated[
        Path,
        typer.Option(
            help="The vectors: .npy, .parquet, .csv (as FiftyOne takes them) or .tsv (TensorBoard's projector); with "
            "--shards a folder."
        ),
    ],
    shards: Annotated[
        bool,
        typer.Option(
            "--shards",
            help="Write a folder of shards, for more vectors than fit in memory; a second run goes on where "
            "the first stopped.",
        ),
    ] = False,
    half: Annotated[bool, typer.Option("--half", help="With --shards: store float16, in half the space.")] = False,
    shard_rows: Annotated[int | None, typer.Option(help="With --shards: vectors in a shard; default 65,536.")] = None,
    catalog: Catalog = None,
    file_column: FileColumn = None,
    class_column: ClassColumn = None,
    max_bad: MaxBad = None,
    engine: Engine = None,
    address: Address = None,
    actors: Actors = None,
    quiet: Quiet = False,
) -> None:
    """Write the vectors of all pictures of a table, float32 [items, dimensions], of unit length."""
    from mohs.export.vector_files import SUFFIXES, write_vectors

    rows_per_shard = _SHARD_ROWS if shard_rows is None else shard_rows
    if shards:
        require_folder_place(out, "--out")
        require(wrong_whole("--shard-rows", rows_per_shard, example=_SHARD_ROWS))
    elif half or shard_rows is not None:
        raise InputError(f"{'--half' if half else '--shard-rows'}: is for a bank in shards; add --shards")
    elif out.suffix.lower() not in SUFFIXES:
        raise InputError(f"--out: {out}: not one of {', '.join(SUFFIXES)}; name it so, or add --shards for a folder")
    else:
        require_file_place(out, "--out")
    check_engine(engine, address, actors)
    from mohs.artefacts import require_disk
    from mohs.data.dataset import open_dataset
    from mohs.model.embedder import Embedder, embed_items
    from mohs.training.processes import choose_device

    network = Embedder.from_pretrained(embedder)
    if engine is not None:
        from mohs.cluster.crew import cluster

        if max_bad is not None:
            raise InputError("--max-bad: not with --engine ray; set pictures aside with 'mohs check --write'")
        table = cluster_table(source, catalog, file_column, class_column)
        rows_in_shard = rows_per_shard if shards else None
        with cluster(address) as ray:
            dtype = "float16" if half else "float32"
            embed_on_cluster(
                ray, network, table, out, actors=actors, shard_rows=rows_in_shard, dtype=dtype, quiet=quiet
            )
        return

    def read() -> Dataset:
        with naming_flags({"max_bad_images": "--max-bad"}), decoding_progress(quiet=quiet) as progress:
            return open_dataset(
                source,
                catalog=catalog,
                policy=network.policy,
                file_column=file_column or "file",
                class_column=class_column or "class",
                max_bad_images=max_bad or 0,
                progress=progress,
            )

    with among_processes("auto") as peers:
        dataset = peers.first_here_first(read)
        if is_first():
            tell_pictures(dataset.reading, beside(out), quiet=quiet)
        network.to(choose_device("auto"))
        if shards:
            _embed_shards(out, network, dataset, peers, rows_per_shard, half=half, quiet=quiet)
            return
        if is_first():
            require_disk(out, _bytes_of_item(out.suffix.lower(), network.embedding_dim) * len(dataset), "embedding")
        with counting_progress("embedding", quiet=quiet) as progress:
            x_ND = embed_items(network, dataset.pictures, peers=peers, progress=progress)
        if is_first():
            files = write_vectors(out, dataset.table, x_ND)
            say(f"{len(x_ND):,} vectors of {x_ND.shape[1]} dimensions: {' and '.join(map(str, files))}")


def _bytes_of_item(suffix: str, embedding_dim: int) -> int:
    """Return about what an item takes in a file of vectors, without its name: as text a number has 12 characters."""
    return (12 if suffix in (".csv", ".tsv") else 4) * embedding_dim


def _embed_shards(
    out: Path, network: Embedder, dataset: Dataset, peers: Peers, rows_per_shard: int, *, half: bool, quiet: bool
) -> None:
    """Write a bank in shards, and say how much of it was there."""
    from mohs.export.vector_files import write_shard_folder

    with counting_progress("embedding", quiet=quiet) as progress:
        written = write_shard_folder(
            out,
            network,
            dataset,
            rows_per_shard=rows_per_shard,
            dtype="float16" if half else "float32",
            progress=progress,
            peers=peers,
        )
    if written is None:  # the first process has written, and says so
        return
    found, num_there = written
    if num_there:
        say(f"{num_there:,} of {found.layout.num_shards:,} shards were there already")
    say(f"{len(found):,} vectors of {found.shape[1]} dimensions, {found.dtype}: {out}")
