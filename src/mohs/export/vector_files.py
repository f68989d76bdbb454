"""Vectors and what they are of, as files: numpy, Parquet, CSV for FiftyOne, TSV for TensorBoard's projector.

For a bank larger than memory they go into shards (`mohs.shards`).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mohs.artefacts import atomic_path, fingerprint
from mohs.data.dataset import Dataset
from mohs.data.rows import write_rows
from mohs.data.table import Table
from mohs.errors import InputError, Problem
from mohs.model.embedder import Embedder, embed_items
from mohs.peers import ALONE, Peers
from mohs.shards import ShardLayout, Shards, open_shards, write_shards
from mohs.sums import add_array_sum, arrays_sum

__all__ = ["SUFFIXES", "about_vectors", "require_files_of", "write_shard_folder", "write_vectors"]

SUFFIXES: Final = (".npy", ".parquet", ".csv", ".tsv")


def write_vectors(path: str | Path, table: Table, x_ND: NDArray[np.float32]) -> tuple[Path, ...]:
    """Write the vectors of a table's items, rows as in the table, and return the files; each is whole or absent.

    The suffix of `path` says how:

    - `.npy`: float32 [N, D]; behind it its SHA-256, which numpy passes over.
    - `.parquet`: columns file, class, role and vector.
    - `.csv`: columns filepath (absolute), class, role and embedding (a JSON list), as FiftyOne can take them.
    - `.tsv`: what TensorBoard's projector loads: the vectors, tabs between, and beside them NAME.metadata.tsv with the
      columns class, file and role. A tab or a new line in a name becomes a space there, which the format demands.

    Numbers in text have 9 digits, which give the same float32 again. Raises `InputError` for another suffix.
    """
    path = Path(path)
    match path.suffix.lower():
        case ".npy":
            with atomic_path(path) as temporary:
                np.save(temporary, x_ND)
                add_array_sum(temporary)
        case ".parquet":
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(x_ND.ravel()), x_ND.shape[1])
            cells = {"file": list(table.files), "class": table.labels.tolist(), "role": table.roles.tolist()}
            with atomic_path(path) as temporary:
                pq.write_table(pa.table({**cells, "vector": vectors}), temporary)
        case ".csv":
            _write_csv(path, table, x_ND)
        case ".tsv":
            return _write_tsv(path, table, x_ND)
        case _:
            raise InputError(Problem("path", f"{path} is not one of {', '.join(SUFFIXES)}", "name it so"))
    return (path,)


def _write_csv(path: Path, table: Table, x_ND: NDArray[np.float32]) -> None:
    cells = zip(table.labels.tolist(), table.roles.tolist(), x_ND, strict=True)
    rows = (
        (str(table.path(i).absolute()), label, role, f"[{', '.join(_texts(x_D))}]")
        for i, (label, role, x_D) in enumerate(cells)
    )
    write_rows(path, ("filepath", "class", "role", "embedding"), rows)


def _write_tsv(path: Path, table: Table, x_ND: NDArray[np.float32]) -> tuple[Path, Path]:
    about = path.with_suffix(".metadata.tsv")
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for x_D in x_ND:
            file.write("\t".join(_texts(x_D)) + "\n")
    with atomic_path(about) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write("class\tfile\trole\n")
        for cells in zip(table.labels.tolist(), table.files, table.roles.tolist(), strict=True):
            file.write("\t".join(" ".join(cell.splitlines()).replace("\t", " ") for cell in cells) + "\n")
    return path, about


def _texts(x_D: NDArray[np.float32]) -> list[str]:
    return [f"{value:.9g}" for value in x_D.tolist()]


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
