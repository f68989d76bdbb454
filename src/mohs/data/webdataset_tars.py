"""WebDataset's shards: tars in which the files of a sample follow one another and have its key for a name.

`shop/0001.jpg`, `shop/0001.cls` and `shop/0001.json` are one sample with the key `shop/0001`: what stands before the
first point of a file's name. The class is the text of `cls`, or else `class` or `label` in `json`; other plain values
of `json` become columns.
"""

import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from mohs.data.folder import picture_formats
from mohs.data.packed_item import PackedItem
from mohs.errors import InputError, Problem, reason_of

__all__ = ["read_tars", "tars_of"]

_MOST_BYTES: Final = 2**28
"""Of a file in a tar; larger ones are no pictures."""


def tars_of(path: Path) -> list[Path]:
    """Return the shards at a path: a tar, or those of a folder without a table and without folders; [] for others."""
    if path.is_file():
        return [path] if path.suffix.lower() == ".tar" else []
    if not path.is_dir() or (path / "images.csv").is_file():
        return []
    entries = [entry for entry in sorted(path.iterdir()) if not entry.name.startswith(".")]
    tars = [entry for entry in entries if entry.suffix.lower() == ".tar" and entry.is_file()]
    return tars if tars and not any(entry.is_dir() for entry in entries) else []


def read_tars(tars: Sequence[Path]) -> Iterator[PackedItem]:
    """Yield the samples that have a picture, in order.

    Raises `InputError` for a file that is no tar or is cut short, a sample without a class or with two pictures, and
    `json` that is none.
    """
    for tar in tars:
        try:
            # As a stream: names, links and owners in it are never given to the file system.
            with tarfile.open(tar, mode="r|") as opened:
                yield from _samples(tar, opened)
        except (tarfile.TarError, EOFError, OSError) as error:
            raise InputError(Problem(str(tar), f"not a whole tar ({reason_of(error)})", "write it again")) from None


def _samples(tar: Path, opened: tarfile.TarFile) -> Iterator[PackedItem]:
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
            yield from _item(tar, key, files)
            key, files = folder + slash + stem, {}
        content = opened.extractfile(member)
        if content is not None:
            files[kind.lower()] = content.read()
    yield from _item(tar, key, files)


def _item(tar: Path, key: str, files: dict[str, bytes]) -> Iterator[PackedItem]:
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
    yield PackedItem(place, files[kinds[0]], f".{kinds[0]}", cells)


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
