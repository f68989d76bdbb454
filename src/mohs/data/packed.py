"""Sets whose pictures do not lie in a file each: unpacked once, into the cache, as files with a table.

Everything else in Mohs reads a picture by its path: its time says whether it changed, a page shows it, an index names
it. So a packed set becomes such files. WebDataset's tars and what Hugging Face's `datasets` saves are plain formats,
which Python and pyarrow read; the libraries would bring pickle (`dill`) and addresses that run programs (`pipe:`).
"""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from mohs.artefacts import atomic_folder, require_disk
from mohs.data.cache import default_cache_dir
from mohs.data.huggingface_files import huggingface_files, read_huggingface
from mohs.data.packed_item import PackedItem
from mohs.data.webdataset_tars import read_tars, tars_of
from mohs.errors import InputError, Problem

__all__ = ["unpacked"]

_TABLE: Final = "images.parquet"
_FORMAT: Final = 1
_PER_FOLDER: Final = 1000


def unpacked(path: Path) -> Path | None:
    """Return the table of a packed set, unpacked if it was not, or None if `path` is no such set.

    A set is a `.tar` by WebDataset, a folder of these, a folder by `save_to_disk` of Hugging Face's `datasets`, or a
    Parquet file with pictures in it. The table has the columns file, class and those that the set has, all of text.
    The folder in the cache is named by the paths, sizes and times of the files. Deleted, it is made again.

    Raises `InputError` for sets that cannot be read, `ResourceError` if the disk is full.
    """
    tars = tars_of(path)
    files = [] if tars else huggingface_files(path)
    if not tars and not files:
        return None
    sources = tars or [file for file, _ in files]
    folder = default_cache_dir() / "unpacked" / _name(sources)
    if not (folder / _TABLE).is_file():
        require_disk(folder, sum(file.stat().st_size for file in sources), f"unpacking {path}")
        items = read_tars(tars) if tars else read_huggingface(files)
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


def _write(path: Path, items: Iterable[PackedItem], folder: Path) -> None:
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
