"""From a table of pictures to the rows of an index: vectors, thumbnails, and the table's other columns."""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from mohs.checks import require, wrong_text
from mohs.data.dataset import open_dataset
from mohs.data.images import ImagePolicy, decode_images
from mohs.data.picture_input import prepare_pictures
from mohs.data.quarantine import BadPicture, bad_picture, refuse
from mohs.data.rows import decimal_points, read_rows
from mohs.data.table import BUILT_IN, Table
from mohs.errors import InputError, Problem, at_most_20
from mohs.index.store import FIXED_COLUMNS, item_schema
from mohs.model.embedder import Embedder

__all__ = [
    "ITEMS_AT_ONCE",
    "THUMBNAIL",
    "EmbeddedItems",
    "NewItem",
    "item_ids",
    "item_rows",
    "other_columns",
    "picture_rows",
    "thumbnail_png",
]

THUMBNAIL = ImagePolicy(size=96, channels=3, fit="pad")
ITEMS_AT_ONCE = 256
_THREADS = 4
# Columns that the table of items has for itself.
_READ = ("class", "file", "group", "label", "path", "role", "split")


@final
@dataclass(frozen=True, eq=False)
class NewItem:
    """A picture, in any form that `prepare_pictures` takes, with its id, its class and cells of other columns."""

    id: str
    label: str
    picture: Any
    cells: Mapping[str, Any]


@final
@dataclass(frozen=True, eq=False)
class EmbeddedItems:
    """Items of a table whose pictures were read and embedded.

    Attributes:
        rows: which items these are, ascending; those whose pictures cannot be read are not among them.
        paths: where their pictures are.
        x_BD: their vectors.
        thumbnails: their pictures, small, as PNG.
        num_done: items of the table that are done with these.
    """

    rows: Sequence[int]
    paths: Sequence[str]
    x_BD: NDArray[np.float32]
    thumbnails: Sequence[bytes]
    num_done: int


def picture_rows(
    items: Sequence[NewItem], embedder: Embedder, schema: pa.Schema, id_column: str | None = None
) -> pa.Table:
    """Return the rows of pictures that are in no table; their file is their id, and they have no path.

    The cells of `id_column` are the ids.

    Raises `InputError` for pictures that cannot be read, empty ids and classes, cells that are no columns of the
    schema's own beyond the fixed ones, and cells of another type; other cells are null.
    """
    others = [field.name for field in schema if field.name not in FIXED_COLUMNS]
    problems = []
    for i, item in enumerate(items):
        place = f"items[{i}]"
        problems += [
            Problem(place, f"{name} is empty", "give one") for name in ("id", "label") if not getattr(item, name)
        ]
        unknown = [name for name in item.cells if name not in others]
        if unknown:
            what = f"columns {', '.join(map(repr, unknown))} are not in the index"
            problems.append(Problem(place, what, f"its other columns are {', '.join(map(repr, others)) or 'none'}"))
    require(*at_most_20(problems))
    pictures = [item.picture for item in items]
    cells: dict[str, list[Any]] = {
        "id": [item.id for item in items],
        "file": [item.id for item in items],
        "path": [""] * len(items),
        "class": [item.label for item in items],
        "role": ["sample"] * len(items),
        "vector": list(embedder.embed(pictures)),
        "thumbnail": [thumbnail_png(picture) for picture in prepare_pictures(pictures, THUMBNAIL)],
    }
    arrays = []
    for field in schema:
        values = cells.get(field.name) or [item.cells.get(field.name) for item in items]
        try:
            if field.name == id_column and field.name not in cells:
                arrays.append(pa.array(cells["id"]).cast(field.type))
            else:
                arrays.append(pa.array(values, field.type))
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise InputError(
                Problem("items", f"column {field.name!r}: {error}", f"the index holds {field.type} there")
            ) from None
    return pa.Table.from_arrays(arrays, schema=schema)


def item_ids(table: Table, columns: Mapping[str, pa.Array], id_column: str | None) -> list[str]:
    """Return the id of each item: the cell of `id_column`, or the file as it is written.

    Raises `InputError` for a column that is not there, empty cells, and ids that are there twice.
    """
    if id_column is not None:
        require(wrong_text("id_column", id_column, example="'sku'"))
    if id_column is None:
        ids = list(table.files)
    elif id_column in columns:
        ids = ["" if cell is None else str(cell) for cell in columns[id_column].to_pylist()]
    else:
        known = ", ".join(map(repr, columns)) or "none"
        raise InputError(Problem("id_column", f"{id_column!r} is no column of {table.source}", f"others are {known}"))
    seen: dict[str, int] = {}
    problems = []
    for i, item in enumerate(ids):
        if not item:
            problems.append(f"{table.place(i)}: column {id_column!r} is empty; give each item an id")
        elif item in seen:
            problems.append(f"{table.place(i)}: id {item!r} is that of {table.place(seen[item])}; ids are of one item")
        seen.setdefault(item, i)
    require(*at_most_20(problems))
    return ids


def other_columns(table: Table) -> dict[str, pa.Array]:
    """Return the columns of the table's files that are not the items' own, by name, a cell for each item.

    Cells of a Parquet file keep their type. A column of a CSV is of integers if all its cells are, else of numbers, or
    of text; empty cells are null. Items of another file that lacks a column have null there.
    """
    places = [place.rpartition(": row ") for place in table.places]
    if not places:
        return {}
    cells: dict[str, list[Any]] = {}
    for source in dict.fromkeys(file for file, _, _ in places):
        found, first = _cells_of(Path(source))
        for name, values in found.items():
            column = cells.setdefault(name, [None] * len(places))
            for i, (file, _, row) in enumerate(places):
                if file == source:
                    column[i] = values[first[int(row)]]
    return {name: pa.array(values) for name, values in cells.items()}


def _cells_of(path: Path) -> tuple[dict[str, list[Any]], dict[int, int]]:
    """Return the cells of a file's other columns, and the position of each row's cells."""
    if path.suffix.lower() in (".parquet", ".pq"):
        whole = pq.ParquetFile(path).read()
        columns = {name: whole.column(name).to_pylist() for name in whole.column_names if name not in _READ}
        return columns, {row: row - 1 for row in range(1, whole.num_rows + 1)}
    text, rows = read_rows(path)
    columns = {name: _typed(values) for name, values in text.items() if name and name not in _READ}
    return columns, {row: i for i, row in enumerate(rows)}


def _typed(cells: Sequence[str]) -> list[Any]:
    for kind in (int, float):
        try:
            return [kind(cell) if cell.strip() else None for cell in decimal_points(cells)]
        except ValueError:
            continue
    return [cell or None for cell in cells]


def item_rows(
    table: Table,
    embedder: Embedder,
    ids: Sequence[str],
    columns: Mapping[str, pa.Array],
    *,
    embedded: Iterable[EmbeddedItems] | None = None,
    max_bad_images: int = 0,
    set_aside: Callable[[BadPicture], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Return the schema and the rows of a table's items, embedded batch by batch as they are taken.

    Of `embedded` items that is done already. Else this process does it: up to `max_bad_images` items whose pictures
    cannot be read get no row, and are given to `set_aside`. Raises
    `InputError` for a column named as one of the index's own; and, as rows are taken, an error that names up to 20
    pictures that cannot be read, where they are too many (`mohs.data.quarantine.refuse`).
    """
    taken = [name for name in columns if name in FIXED_COLUMNS and name != "id"]
    if taken:
        raise InputError(
            Problem(table.source, f"columns {', '.join(map(repr, taken))} have names of the index's own", "rename them")
        )
    extras = [pa.field(name, column.type) for name, column in columns.items() if name != "id"]
    schema = item_schema(embedder.embedding_dim, extras)
    if embedded is None:
        embedded = embedded_here(table, embedder, max_bad_images=max_bad_images, set_aside=set_aside)
    return schema, _batches(table, ids, columns, schema, embedded, progress)


def embedded_here(
    table: Table,
    embedder: Embedder,
    *,
    max_bad_images: int = 0,
    set_aside: Callable[[BadPicture], None] | None = None,
) -> Iterator[EmbeddedItems]:
    """Yield the items of a table in order, 256 at a time, read and embedded by this process."""
    bad: list[BadPicture] = []
    drawn = None
    if table.source == BUILT_IN:
        # It is drawn and not read: what the network sees is shown, too.
        whole = open_dataset(BUILT_IN, policy=embedder.policy)
        place = {file: i for i, file in enumerate(whole.table.files)}
        drawn = whole.pictures[[place[file] for file in table.files]]
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(table), ITEMS_AT_ONCE):
            rows = list(range(start, min(start + ITEMS_AT_ONCE, len(table))))
            done = rows[-1] + 1
            if drawn is None:
                decoded = decode_images([table.path(i) for i in rows], embedder.policy, pool=pool)
                found = [
                    bad_picture(table, i, each) for i, each in zip(rows, decoded, strict=True) if isinstance(each, str)
                ]
                bad += found
                if len(bad) > max_bad_images or len(bad) == len(table):
                    refuse(bad, len(table), max_bad_images)
                if set_aside is not None:
                    for each in found:
                        set_aside(each)
                pictures = [each for each in decoded if not isinstance(each, str)]
                rows = [i for i, each in zip(rows, decoded, strict=True) if not isinstance(each, str)]
                thumbnails = decode_images([table.path(i) for i in rows], THUMBNAIL, pool=pool)
            else:
                pictures = list(drawn[rows[0] : done])
                thumbnails = [*pictures]
            paths = ["" if drawn is not None else str(table.path(i).absolute()) for i in rows]
            x_BD = embedder.embed(np.stack(pictures)) if rows else np.empty((0, embedder.embedding_dim), np.float32)
            yield EmbeddedItems(rows, paths, x_BD, [thumbnail_png(picture) for picture in thumbnails], done)


def _batches(
    table: Table,
    ids: Sequence[str],
    columns: Mapping[str, pa.Array],
    schema: pa.Schema,
    embedded: Iterable[EmbeddedItems],
    progress: Callable[[int, int], None] | None,
) -> Iterator[pa.RecordBatch]:
    for items in embedded:
        if items.rows:
            cells = {
                "id": [ids[i] for i in items.rows],
                "file": [table.files[i] for i in items.rows],
                "path": items.paths,
                "class": table.labels[items.rows].tolist(),
                "role": table.roles[items.rows].tolist(),
                "thumbnail": items.thumbnails,
            }
            arrays = [
                pa.FixedSizeListArray.from_arrays(pa.array(items.x_BD.ravel()), items.x_BD.shape[1])
                if field.name == "vector"
                else pa.array(cells[field.name], field.type)
                if field.name in cells
                else columns[field.name].take(pa.array(items.rows)).cast(field.type)
                for field in schema
            ]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)
        if progress is not None:
            progress(items.num_done, len(table))


def thumbnail_png(picture: NDArray[np.uint8] | str) -> bytes:
    """Return the bytes of a picture that an index keeps; none of one that cannot be read."""
    buffer = io.BytesIO()
    if not isinstance(picture, str):
        Image.fromarray(picture.squeeze()).save(buffer, format="PNG")
    return buffer.getvalue()
