"""Sets whose pictures do not lie in a file each: unpacked once, into the cache, as files with a table.

Everything else in Mohs reads a picture by its path: its time says whether it changed, a page shows it, an index names
it. So a packed set becomes such files. WebDataset's tars and what Hugging Face's `datasets` saves are plain formats,
which Python and pyarrow read; the libraries would bring pickle (`dill`) and addresses that run programs (`pipe:`).

*WebDataset.* Tars in which the files of a sample follow one another and have its key for a name. `shop/0001.jpg`,
`shop/0001.cls` and `shop/0001.json` are one sample with the key `shop/0001`: what stands before the first point of a
file's name. The class is the text of `cls`, or else `class` or `label` in `json`; other plain values of `json` become
columns.

*Hugging Face.* A folder by `save_to_disk`, or Parquet files with pictures in them. A picture is a struct {bytes, path}.
A class is the column `class` or `label`, or else the one of type ClassLabel, whose numbers are written as their names.
The splits of a DatasetDict become the column `split`.
"""

import hashlib
import json
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import pyarrow as pa
import pyarrow.parquet as pq

from mohs.artefacts import atomic_folder, require_disk
from mohs.data.cache import default_cache_dir
from mohs.data.folder import picture_formats
from mohs.errors import InputError, Problem, reason_of

__all__ = ["unpacked"]

_TABLE: Final = "images.parquet"
_FORMAT: Final = 1
_PER_FOLDER: Final = 1000


@final
@dataclass(frozen=True)
class _Packed:
    """A picture of a packed set.

    Attributes:
        place: where it is, for messages.
        picture: the bytes of its file.
        suffix: of its name, such as ".jpg"; "" if there is none.
        cells: text by column; among them "class".
    """

    place: str
    picture: bytes
    suffix: str
    cells: Mapping[str, str]


def unpacked(path: Path) -> Path | None:
    """Return the table of a packed set, unpacked if it was not, or None if `path` is no such set.

    A set is a `.tar` by WebDataset, a folder of these, a folder by `save_to_disk` of Hugging Face's `datasets`, or a
    Parquet file with pictures in it. The table has the columns file, class and those that the set has, all of text.
    The folder in the cache is named by the paths, sizes and times of the files. Deleted, it is made again.

    Raises `InputError` for sets that cannot be read, `ResourceError` if the disk is full.
    """
    tars = _tars_of(path)
    files = [] if tars else _huggingface_files(path)
    if not tars and not files:
        return None
    sources = tars or [file for file, _ in files]
    folder = default_cache_dir() / "unpacked" / _name(sources)
    if not (folder / _TABLE).is_file():
        require_disk(folder, sum(file.stat().st_size for file in sources), f"unpacking {path}")
        items = _read_tars(tars) if tars else _read_huggingface(files)
        with atomic_folder(folder) as place:
            _write(path, items, place)
    return folder / _TABLE


def _name(files: Iterable[Path]) -> str:
    digest = hashlib.blake2b(repr(_FORMAT).encode(), digest_size=16)
    for file in files:
        try:
            status = file.stat()
        except OSError:
            raise InputError(Problem(str(file), "no such file", "write the set again")) from None
        digest.update(f"{file.absolute()}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogatepass"))
    return digest.hexdigest()


def _write(path: Path, items: Iterable[_Packed], folder: Path) -> None:
    """Write the pictures of a set and their table; names of files are ours, not the set's."""
    columns: dict[str, list[str]] = {"file": [], "class": []}
    for number, item in enumerate(items):
        suffix = item.suffix.lower() if re.fullmatch(r"\.[A-Za-z0-9]{1,5}", item.suffix) else ""
        file = f"{number // _PER_FOLDER:06d}/{number:09d}{suffix}"
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(item.picture)
        for name in item.cells.keys() - columns.keys():
            columns[name] = [""] * number
        for name, cells in columns.items():
            cells.append(file if name == "file" else item.cells.get(name, ""))
    if not columns["file"]:
        raise InputError(Problem(str(path), "no pictures", "give a set that has some"))
    ordered = {name: columns[name] for name in ("file", "class", *sorted(columns.keys() - {"file", "class"}))}
    pq.write_table(pa.table({name: pa.array(cells, pa.string()) for name, cells in ordered.items()}), folder / _TABLE)


_MOST_BYTES: Final = 2**28
"""Of a file in a tar; larger ones are no pictures."""


def _tars_of(path: Path) -> list[Path]:
    """Return the shards at a path: a tar, or those of a folder without a table and without folders; [] for others."""
    if path.is_file():
        return [path] if path.suffix.lower() == ".tar" else []
    if not path.is_dir() or (path / "images.csv").is_file():
        return []
    entries = [entry for entry in sorted(path.iterdir()) if not entry.name.startswith(".")]
    tars = [entry for entry in entries if entry.suffix.lower() == ".tar" and entry.is_file()]
    return tars if tars and not any(entry.is_dir() for entry in entries) else []


def _read_tars(tars: Sequence[Path]) -> Iterator[_Packed]:
    """Yield the samples that have a picture, in order.

    Raises `InputError` for a file that is no tar or is cut short, a sample without a class or with two pictures, and
    `json` that is none.
    """
    for tar in tars:
        try:
            # As a stream: names, links and owners in it are never given to the file system.
            with tarfile.open(tar, mode="r|") as opened:
                yield from _samples_of(tar, opened)
        except (tarfile.TarError, EOFError, OSError) as error:
            raise InputError(Problem(str(tar), f"not a whole tar ({reason_of(error)})", "write it again")) from None


def _samples_of(tar: Path, opened: tarfile.TarFile) -> Iterator[_Packed]:
    key = ""
    files: dict[str, bytes] = {}
    for member in opened:
        if not member.isreg() or Path(member.name).name.startswith("."):
            continue
        if member.size > _MOST_BYTES:
            what = f"{member.name!r} has {member.size:,} bytes, more than {_MOST_BYTES:,}"
            raise InputError(Problem(str(tar), what, "leave it out"))
        folder, slash, name = member.name.rpartition("/")
        stem, _, kind = name.partition(".")
        if folder + slash + stem != key:
            yield from _sample(tar, key, files)
            key, files = folder + slash + stem, {}
        content = opened.extractfile(member)
        if content is not None:
            files[kind.lower()] = content.read()
    yield from _sample(tar, key, files)


def _sample(tar: Path, key: str, files: dict[str, bytes]) -> Iterator[_Packed]:
    place = f"{tar}: sample {key!r}"
    kinds = [kind for kind in files if f".{kind}" in picture_formats()[1]]
    if not kinds:
        return
    if len(kinds) > 1:
        raise InputError(Problem(place, f"has {len(kinds)} pictures ({', '.join(kinds)})", "keep one"))
    cells = {**_json_cells(place, files.get("json")), "key": key}
    if "cls" in files:
        cells["class"] = files["cls"].decode(errors="replace").strip()
    elif "class" not in cells and "label" in cells:
        cells["class"] = cells["label"]
    if not cells.get("class"):
        raise InputError(Problem(place, "has no class", "add a file 'cls', or 'class' to its 'json'"))
    yield _Packed(place, files[kinds[0]], f".{kinds[0]}", cells)


def _json_cells(place: str, text: bytes | None) -> dict[str, str]:
    """Return the plain values of a sample's json as text."""
    if text is None:
        return {}
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(Problem(place, f"its json cannot be read ({reason_of(error)})", "correct it")) from None
    if not isinstance(found, dict):
        raise InputError(Problem(place, f"its JSON is a {type(found).__name__}, no object", "correct it"))
    return {name: str(value) for name, value in found.items() if isinstance(value, str | int) and name != "file"}


_STATE, _DICT = "state.json", "dataset_dict.json"
_ROWS_AT_ONCE: Final = 256
_SPLITS: Final = {"train": "train", "validation": "validation", "valid": "validation", "test": "test"}


def _huggingface_files(path: Path) -> list[tuple[Path, str]]:
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


def _read_huggingface(files: Sequence[tuple[Path, str]]) -> Iterator[_Packed]:
    """Yield the items of such files, in order.

    Raises `InputError` for files that cannot be read, and a set without pictures, without a class column or with
    several that could be it.
    """
    for file, split in files:
        try:
            yield from _rows_of(file, split)
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


def _rows_of(file: Path, split: str) -> Iterator[_Packed]:
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
                yield _row(f"{file}: row {row}", file.parent, cells, pictures[0], label, names, split)


def _row(
    place: str,
    folder: Path,
    row: Mapping[str, Any],
    picture: str,
    label: str,
    names: Mapping[str, Sequence[str]],
    split: str,
) -> _Packed:
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
    return _Packed(place, content, Path(path).suffix, cells)


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
            yield opened.schema_arrow, opened.iter_batches(_ROWS_AT_ONCE)
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
