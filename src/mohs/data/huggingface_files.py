"""What Hugging Face's `datasets` leaves on a disk: a folder by `save_to_disk`, or Parquet files with pictures in them.

A picture is a struct {bytes, path}. A class is the column `class` or `label`, or else the one of type ClassLabel, whose
numbers are written as their names. The splits of a DatasetDict become the column `split`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from mohs.data.packed_item import PackedItem
from mohs.errors import InputError, Problem, reason_of

__all__ = ["huggingface_files", "read_huggingface"]

_STATE, _DICT = "state.json", "dataset_dict.json"
_ROWS: Final = 256
_SPLITS: Final = {"train": "train", "validation": "validation", "valid": "validation", "test": "test"}


def huggingface_files(path: Path) -> list[tuple[Path, str]]:
    """Return the files of a set at a path, each with its split ("" for none); [] if it is no such set.

    Raises `InputError` for a folder by `save_to_disk` that is not whole.
    """
    if path.is_file():
        return [(path, "")] if path.suffix.lower() in (".parquet", ".pq") and _has_pictures(path) else []
    if (path / _STATE).is_file():
        return [(file, "") for file in _data_files(path)]
    if (path / _DICT).is_file():
        names = _json(path / _DICT).get("splits", [])
        return [(file, _SPLITS.get(str(name), "")) for name in names for file in _data_files(path / str(name))]
    return []


def read_huggingface(files: Sequence[tuple[Path, str]]) -> Iterator[PackedItem]:
    """Yield the items of such files, in order.

    Raises `InputError` for files that cannot be read, and a set without pictures, without a class column or with
    several that could be it.
    """
    for file, split in files:
        try:
            yield from _items(file, split)
        except (pa.ArrowException, OSError) as error:
            raise InputError(Problem(str(file), f"cannot be read ({reason_of(error)})", "write it again")) from None


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(Problem(str(path), f"cannot be read ({reason_of(error)})", "save the set again")) from None
    return found if isinstance(found, dict) else {}


def _data_files(folder: Path) -> list[Path]:
    """Return the Arrow files that a folder by `save_to_disk` names."""
    state = _json(folder / _STATE)
    if state.get("_indices_data_files"):
        raise InputError(
            Problem(str(folder), "holds a selection of rows", "save it by 'dataset.flatten_indices().save_to_disk'")
        )
    named = [str(each.get("filename", "")) for each in state.get("_data_files", []) if isinstance(each, dict)]
    if not named or any(Path(name).name != name for name in named):
        raise InputError(Problem(str(folder / _STATE), "names no data files beside it", "save the set again"))
    return [folder / name for name in named]


def _has_pictures(path: Path) -> bool:
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        return False  # told by whoever reads the table
    return bool(_picture_columns(schema))


def _picture_columns(schema: pa.Schema) -> list[str]:
    return [field.name for field in schema if pa.types.is_struct(field.type) and _is_picture(field.type)]


def _is_picture(kind: pa.StructType) -> bool:
    at = kind.get_field_index("bytes")
    return at >= 0 and bool(pa.types.is_binary(kind.field(at).type) or pa.types.is_large_binary(kind.field(at).type))


def _items(file: Path, split: str) -> Iterator[PackedItem]:
    row = 0
    with _batches(file) as (schema, batches):
        pictures = _picture_columns(schema)
        if len(pictures) != 1:
            found = ", ".join(map(repr, pictures)) or "none"
            raise InputError(Problem(str(file), f"has not one column of pictures, but {found}", "keep one"))
        names = _class_names(schema)
        label = _class_column(file, schema, names)
        plain = [
            field.name
            for field in schema
            if field.name != "file" and (pa.types.is_string(field.type) or pa.types.is_integer(field.type))
        ]
        for batch in batches:
            for cells in batch.select([*pictures, *plain]).to_pylist():
                row += 1
                yield _item(f"{file}: row {row}", file.parent, cells, pictures[0], label, names, split)


def _item(
    place: str,
    folder: Path,
    row: Mapping[str, Any],
    picture: str,
    label: str,
    names: Mapping[str, Sequence[str]],
    split: str,
) -> PackedItem:
    cells = {name: _text(value, names.get(name)) for name, value in row.items() if name != picture}
    cells["class"] = cells[label]
    if split:
        cells["split"] = split
    found = row[picture] or {}
    content, path = found.get("bytes"), str(found.get("path") or "")
    if content is None:
        try:
            content = (folder / path).read_bytes() if path else b""
        except OSError:
            content = b""
    if not content:
        raise InputError(Problem(place, "has no picture", "save the set with the bytes of its pictures in it"))
    return PackedItem(place, content, Path(path).suffix, cells)


def _text(value: Any, names: Sequence[str] | None) -> str:
    if value is None:
        return ""
    if names is not None and isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    return str(value)


@contextmanager
def _batches(file: Path) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    """Yield the schema of a Parquet file or an Arrow stream, and its batches."""
    if file.suffix.lower() in (".parquet", ".pq"):
        with pq.ParquetFile(file) as opened:
            yield opened.schema_arrow, opened.iter_batches(_ROWS)
        return
    with pa.OSFile(str(file)) as source, pa.ipc.open_stream(source) as reader:
        yield reader.schema, iter(reader)


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Return the names of the classes of columns of type ClassLabel, as the schema's notes tell them."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return {
            name: [str(each) for each in feature["names"]]
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _class_column(file: Path, schema: pa.Schema, names: Mapping[str, Sequence[str]]) -> str:
    for name in ("class", "label"):
        if name in schema.names:
            return name
    if len(names) == 1:
        return next(iter(names))
    found = ", ".join(map(repr, schema.names))
    fix = "rename one to 'class'"
    raise InputError(Problem(str(file), f"has no column 'class' or 'label'; the columns are {found}", fix))
