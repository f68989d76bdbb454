"""Vectors in shards on disk, for a bank larger than memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mohs.artefacts import fingerprint
from mohs.data.dataset import Dataset
from mohs.data.table import Table
from mohs.errors import InputError, Problem
from mohs.model.embedder import Embedder
from mohs.model.shared_embedding import embed_items
from mohs.peers import ALONE, Peers
from mohs.shards import ShardLayout, Shards, open_shards, write_shards
from mohs.sums import arrays_sum

__all__ = ["about_vectors", "require_files_of", "write_shard_folder"]


def about_vectors(embedder: Embedder, table: Table) -> dict[str, str]:
    """Return what tells the vectors of one embedder and table from those of others."""
    return {
        "of": "embeddings",
        "embedder_sha256": arrays_sum(b"", {name: x.cpu().numpy() for name, x in embedder.state_dict().items()}),
        "pictures": repr(embedder.policy),
        "files_fingerprint": fingerprint(np.array(table.files)),
        "data_fingerprint": fingerprint(np.array(table.files), table.labels),
    }


def require_files_of(table: Table, shards: Shards) -> None:
    """Raise `InputError` unless shards are the vectors of a table's files, row by row; classes may be others.

    Shards that do not say of which files they are (`mohs.shards.write_shards`) are taken as they come.
    """
    place = str(shards.folder)
    if len(shards) != len(table):
        what = f"{len(shards)} rows for {len(table)} items in the table"
        raise InputError(Problem(place, what, "embed this table"))
    expected = shards.about.get("files_fingerprint")
    if expected is not None and expected != fingerprint(np.array(table.files)):
        what = f"has vectors of other files than {table.source}, or in another order"
        raise InputError(Problem(place, what, "embed this table"))


def write_shard_folder(
    folder: str | Path,
    embedder: Embedder,
    dataset: Dataset,
    *,
    rows_per_shard: int,
    dtype: Literal["float32", "float16"] = "float32",
    progress: Callable[[int, int], None] | None = None,
    peers: Peers = ALONE,
) -> tuple[Shards, int] | None:
    """Embed a dataset shard by shard into a folder (`mohs.shards`); return the bank, and how many shards were there.

    A run that takes up another's work embeds what is missing, if embedder, files and classes are the same. Memory holds
    one shard of vectors. Of processes that call this together (`peers`) each embeds a part of every shard; the first
    one writes, and the others return None. Raises what `mohs.shards.write_shards` does.
    """
    if peers.rank > 0:
        while (span := peers.from_first(None)) is not None:
            embed_items(embedder, dataset.pictures, np.arange(*span), peers=peers)
        return None
    about = about_vectors(embedder, dataset.table)
    layout = ShardLayout(len(dataset), (embedder.embedding_dim,), dtype, rows_per_shard)

    def make_rows(start: int, stop: int) -> NDArray[np.floating]:
        peers.from_first((start, stop))
        x_ND = embed_items(embedder, dataset.pictures, np.arange(start, stop), peers=peers)
        return x_ND.astype(dtype)  # of unit length: no number overflows

    num_there = write_shards(folder, layout, about, make_rows, progress=progress)
    peers.from_first(None)
    return open_shards(folder, check=False), num_there
