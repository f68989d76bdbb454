"""An index whose pictures actors read and embed; one process, the driver, writes it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from mohs.cluster.crew import Crew
from mohs.cluster.remote_tables import local_copy, picture_addresses
from mohs.data.reading import read_table
from mohs.data.table import Table
from mohs.index.index import Index
from mohs.index.rows import ITEMS_AT_ONCE, EmbeddedItems
from mohs.model.embedder import Embedder

__all__ = ["build_on_cluster", "embedded_by"]


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
