"""Pictures embedded by actors: each reads its pictures where it runs.

The vectors go into a folder, memory or the object store, or into an index, which one process writes: the driver.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from mohs.checks import require
from mohs.cluster.crew import Crew, Done, timed
from mohs.cluster.mining import StoreRows
from mohs.cluster.remote_tables import local_copy, picture_addresses, read_bytes
from mohs.data.images import ImagePolicy, decode_bytes
from mohs.data.reading import read_table
from mohs.data.table import Table
from mohs.errors import InputError, at_most_20
from mohs.export.vector_files import about_vectors
from mohs.index.index import Index
from mohs.index.rows import ITEMS_AT_ONCE, THUMBNAIL, EmbeddedItems, thumbnail_png
from mohs.model.embedder import BATCH, Embedder
from mohs.shards import ShardLayout, shard_writer

__all__ = [
    "EmbeddingActor",
    "build_on_cluster",
    "embed_into_folder",
    "embed_into_memory",
    "embed_into_store",
    "embedded_by",
    "embedding_crew",
    "even_layout",
]

_TASKS_PER_ACTOR = 4
_MOST_ROWS = 2**16


@final
class EmbeddingActor:
    """Embeds pictures, with one thread."""

    def __init__(self, embedder: Embedder, dtype: str) -> None:
        import torch

        torch.set_num_threads(1)
        self._embedder = embedder.eval()
        self._dtype = dtype

    def ready(self) -> Done:
        """Return nothing: the actor has begun."""
        return timed(None, time.perf_counter(), 0)

    def embed(self, addresses: Sequence[str], places: Sequence[str]) -> Done:
        """Return the vectors of pictures; raise `InputError` that names all that cannot be read."""
        began = time.perf_counter()
        x_RD, _, num_bytes = self._embed(addresses, places, None)
        return timed(x_RD, began, num_bytes)

    def embed_with_thumbnails(self, addresses: Sequence[str], places: Sequence[str]) -> Done:
        """Return the vectors of pictures, and what an index shows of them; raise as `embed` does."""
        began = time.perf_counter()
        x_RD, thumbnails, num_bytes = self._embed(addresses, places, THUMBNAIL)
        return timed((x_RD, thumbnails), began, num_bytes)

    def _embed(
        self, addresses: Sequence[str], places: Sequence[str], small: ImagePolicy | None
    ) -> tuple[NDArray[Any], list[bytes], int]:
        """Return the vectors, thumbnails by the policy `small`, and the bytes that were read."""
        num_bytes, problems, thumbnails = 0, [], []
        parts: list[NDArray[np.float32]] = []
        for start in range(0, len(addresses), BATCH):
            pixels = []
            for place, data in zip(places[start:], read_bytes(addresses[start : start + BATCH]), strict=False):
                try:
                    if isinstance(data, Exception):
                        raise InputError(f"cannot be read ({type(data).__name__})")
                    num_bytes += len(data)
                    pixels.append(decode_bytes(data, self._embedder.policy))
                    if small is not None:
                        thumbnails.append(thumbnail_png(decode_bytes(data, small)))
                except InputError as error:
                    problems += [f"{place}: {line}" for line in error.problems]
            if not problems:
                parts.append(self._embedder.embed(np.stack(pixels)))
        require(*at_most_20(problems))
        return np.concatenate(parts).astype(self._dtype), thumbnails, num_bytes


def embed_into_folder(
    crew: Crew,
    embedder: Embedder,
    table: Table,
    folder: str | Path,
    layout: ShardLayout,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write shards as `mohs.export.vector_files.write_shard_folder` does; return how many were there already."""
    with shard_writer(folder, layout, about_vectors(embedder, table)) as writer:
        _embed(crew, table, layout, writer.missing, writer.write, progress)
    return writer.num_there


def embed_into_memory(
    crew: Crew, table: Table, layout: ShardLayout, progress: Callable[[int, int], None] | None = None
) -> NDArray[Any]:
    """Return the vectors, [N, D]."""
    x_ND = np.empty((layout.num_rows, *layout.row_shape), dtype=layout.dtype)

    def take(number: int, x_RD: NDArray[Any]) -> None:
        x_ND[slice(*layout.span(number))] = x_RD

    _embed(crew, table, layout, range(layout.num_shards), take, progress)
    return x_ND


def embed_into_store(
    ray: Any, crew: Crew, table: Table, layout: ShardLayout, progress: Callable[[int, int], None] | None = None
) -> StoreRows:
    """Return the vectors as shards in the object store."""
    references: dict[int, Any] = {}

    def take(number: int, x_RD: NDArray[Any]) -> None:
        references[number] = ray.put(x_RD)

    _embed(crew, table, layout, range(layout.num_shards), take, progress)
    return StoreRows([references[number] for number in range(layout.num_shards)], layout)


def embedding_crew(ray: Any, embedder: Embedder, num_actors: int, *, dtype: str = "float32") -> Crew:
    """Return actors that embed, each with a thread."""
    return Crew(ray, EmbeddingActor, (ray.put(embedder.to("cpu")), dtype), num_actors)


def even_layout(num_items: int, dim: int, num_actors: int, *, dtype: str = "float32") -> ShardLayout:
    """Return shards of whole batches, so that vectors are those of one process, and enough of them for all actors.

    >>> even_layout(10_000, 64, 2).rows_per_shard
    1280
    """
    batches = -(-num_items // (BATCH * _TASKS_PER_ACTOR * num_actors))
    return ShardLayout(num_items, (dim,), dtype, min(_MOST_ROWS, BATCH * batches))


def _embed(
    crew: Crew,
    table: Table,
    layout: ShardLayout,
    numbers: Sequence[int],
    take: Callable[[int, NDArray[Any]], None],
    progress: Callable[[int, int], None] | None,
) -> None:
    addresses = picture_addresses(table)
    spans = (range(*layout.span(number)) for number in numbers)
    tasks = ((addresses[span.start : span.stop], [table.place(i) for i in span]) for span in spans)
    for count, (task, x_RD) in enumerate(crew.share("embed", tasks), 1):
        take(numbers[task], x_RD)
        if progress is not None:
            progress(layout.num_shards - len(numbers) + count, layout.num_shards)


def build_on_cluster(
    crew: Crew,
    folder: str | Path,
    source: str,
    embedder: Embedder,
    *,
    id_column: str | None = None,
    exact_up_to: int,
    progress: Callable[[int, int], None] | None = None,
) -> Index:
    """Return the new index of a table on any file system, item for item that of `Index.build`.

    Paths of pictures are addresses there. Raises what `Index.build` raises, and `InputError` for a table that cannot be
    opened.
    """
    with local_copy(source) as path:
        table = read_table(path)
        addresses = picture_addresses(replace(table, source=source))
        return Index.build(
            folder, table, embedder,
            id_column=id_column, exact_up_to=exact_up_to, embedded=embedded_by(crew, table, addresses),
            progress=progress,
        )  # fmt: skip


def embedded_by(crew: Crew, table: Table, addresses: list[str]) -> Iterator[EmbeddedItems]:
    """Yield the items of a table in order, as actors have embedded them; what is done too early waits."""
    starts = range(0, len(table), ITEMS_AT_ONCE)
    rows = [list(range(start, min(start + ITEMS_AT_ONCE, len(table)))) for start in starts]
    tasks = [(addresses[part[0] : part[-1] + 1], [table.place(i) for i in part]) for part in rows]
    early: dict[int, Any] = {}
    following = 0
    for number, found in crew.share("embed_with_thumbnails", tasks):
        early[number] = found
        while following in early:
            x_BD, thumbnails = early.pop(following)
            part = rows[following]
            yield EmbeddedItems(part, [addresses[i] for i in part], x_BD, thumbnails, part[-1] + 1)
            following += 1
