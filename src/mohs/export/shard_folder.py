"""Vectors in shards on disk, for a bank larger than memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mohs.artefacts import fingerprint
from mohs.data.dataset import Dataset
from mohs.model.embedder import Embedder
from mohs.shards import ShardLayout, Shards, open_shards, write_shards
from mohs.sums import arrays_sum

__all__ = ["write_shard_folder"]


def write_shard_folder(
    folder: str | Path,
    embedder: Embedder,
    dataset: Dataset,
    *,
    rows_per_shard: int,
    dtype: Literal["float32", "float16"] = "float32",
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Shards, int]:
    """Embed a dataset shard by shard into a folder (`mohs.shards`); return the bank, and how many shards were there.

    A run that takes up another's work embeds what is missing, if embedder, files and classes are the same. Memory holds
    one shard of vectors. Raises what `mohs.shards.write_shards` does.
    """
    table = dataset.table
    about = {
        "of": "embeddings",
        "embedder_sha256": arrays_sum(b"", {name: x.cpu().numpy() for name, x in embedder.state_dict().items()}),
        "pictures": repr(embedder.policy),
        "data_fingerprint": fingerprint(np.array(table.files), table.labels),
    }
    layout = ShardLayout(len(table), (embedder.embedding_dim,), dtype, rows_per_shard)

    def make_rows(start: int, stop: int) -> NDArray[np.floating]:
        return embedder.embed(dataset.pictures[start:stop]).astype(dtype)  # of unit length: no number overflows

    num_there = write_shards(folder, layout, about, make_rows, progress=progress)
    return open_shards(folder, check=False), num_there
