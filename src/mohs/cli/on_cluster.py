"""What `mohs embed`, `mohs mine` and `mohs index build` do with `--engine ray`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mohs.cli.console import say
from mohs.cli.options import naming_flags
from mohs.cli.progress import counting_progress
from mohs.errors import InputError

if TYPE_CHECKING:
    from mohs.cluster.mining import ClusterBank
    from mohs.data.table import Table
    from mohs.index.index import Index
    from mohs.model.embedder import Embedder

__all__ = [
    "Actors",
    "Address",
    "Engine",
    "check_engine",
    "cluster_bank",
    "cluster_table",
    "embed_on_cluster",
    "index_on_cluster",
]

Engine = Annotated[str | None, typer.Option(help="ray: on the machines of a Ray cluster; default: on this one.")]
Address = Annotated[
    str | None, typer.Option(help="The cluster: HOST:PORT, or auto for the one here; default: one started for this.")
]
Actors = Annotated[int | None, typer.Option(help="Actors, each with a thread; default: one for each CPU.")]


def check_engine(engine: str | None, address: str | None, actors: int | None) -> None:
    """Raise `InputError` for another engine, and for options that are of one."""
    if engine not in (None, "ray"):
        raise InputError(f"--engine: {engine!r} is not 'ray'; leave it out for this machine")
    given = {"--address": address, "--actors": actors}
    for flag, value in given.items():
        if engine is None and value is not None:
            raise InputError(f"{flag}: {value!r} is for a cluster; add --engine ray")
    if actors is not None and actors < 1:
        raise InputError(f"--actors: {actors} is not a whole number of at least 1")


def num_actors_of(ray: Any, actors: int | None) -> int:
    """Return how many actors there are to be."""
    return actors or max(1, int(ray.cluster_resources().get("CPU", 1)))


def cluster_table(source: str, catalog: str | None, file_column: str | None, class_column: str | None) -> Table:
    """Return a table of any file system that fsspec knows."""
    from mohs.cluster.remote_tables import read_remote_table

    if catalog is not None:
        raise InputError("--catalog: not with --engine ray; give one table with the column 'role'")
    return read_remote_table(source, file_column=file_column or "file", class_column=class_column or "class")


def embed_on_cluster(
    ray: Any,
    network: Embedder,
    table: Table,
    out: Path,
    *,
    actors: int | None,
    shard_rows: int | None,
    dtype: str,
    quiet: bool,
) -> None:
    """Embed a table into a file, or with `shard_rows` into a folder of shards, and say what it cost."""
    from mohs.cluster import embedding
    from mohs.export.vector_files import write_vectors
    from mohs.shards import ShardLayout

    num_actors = num_actors_of(ray, actors)
    with (
        embedding.embedding_crew(ray, network, num_actors, dtype=dtype) as crew,
        counting_progress("embedding", quiet=quiet) as progress,
    ):
        if shard_rows is None:
            layout = embedding.even_layout(len(table), network.embedding_dim, num_actors)
            files = write_vectors(out, table, embedding.embed_into_memory(crew, table, layout, progress))
            where = " and ".join(map(str, files))
        else:
            layout = ShardLayout(len(table), (network.embedding_dim,), dtype, shard_rows)
            num_there = embedding.embed_into_folder(crew, network, table, out, layout, progress)
            if num_there:
                say(f"{num_there:,} of {layout.num_shards:,} shards were there already")
            where = str(out)
    say(f"{len(table):,} vectors of {network.embedding_dim} dimensions, {dtype}: {where}")
    say(f"{num_actors} actors embedded: {crew.cost}")


def index_on_cluster(
    folder: str,
    source: str,
    embedder: Path,
    *,
    address: str | None,
    actors: int | None,
    id_column: str | None,
    exact_up_to: int,
    quiet: bool,
) -> Index:
    """Build an index by actors, and say what it cost."""
    from mohs.cluster.crew import cluster
    from mohs.cluster.embedding import build_on_cluster, embedding_crew
    from mohs.model.embedder import Embedder

    network = Embedder.from_pretrained(embedder)
    with cluster(address) as ray:
        with (
            embedding_crew(ray, network, num_actors_of(ray, actors)) as crew,
            counting_progress("embedding", quiet=quiet) as progress,
            naming_flags({"exact_up_to": "--exact-up-to"}),
        ):
            made = build_on_cluster(
                crew, folder, source, network, id_column=id_column, exact_up_to=exact_up_to, progress=progress
            )
        if not quiet:
            say(f"{len(crew.actors)} actors embedded: {crew.cost}")
    return made


def cluster_bank(
    ray: Any, table: Table, bank: Path | None, make_embedder: Callable[[], Embedder], *, actors: int | None, quiet: bool
) -> ClusterBank:
    """Return a bank that actors mine: of a folder of shards or, without one, of what actors embed."""
    from mohs.cluster import embedding
    from mohs.cluster.mining import ClusterBank
    from mohs.export.vector_files import require_files_of
    from mohs.shards import is_shards, open_shards

    num_actors = num_actors_of(ray, actors)
    if bank is not None:
        if not is_shards(bank):
            raise InputError(f"--embeddings: {bank} is no folder of shards; make one with 'mohs embed --shards'")
        rows: Any = open_shards(bank.absolute())
        require_files_of(table, rows)
        return ClusterBank(ray, rows, num_actors)
    network = make_embedder()
    crew = embedding.embedding_crew(ray, network, num_actors)
    layout = embedding.even_layout(len(table), network.embedding_dim, num_actors)
    with crew, counting_progress("embedding", quiet=quiet) as progress:
        rows = embedding.embed_into_store(ray, crew, table, layout, progress)
    if not quiet:
        say(f"{num_actors} actors embedded: {crew.cost}")
    return ClusterBank(ray, rows, num_actors)
