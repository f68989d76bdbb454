"""Recorded things as text that is the same in every recording of the same behaviour.

Text has what changes from run to run replaced: paths, seconds, speeds, free memory, versions of libraries. Everything
else becomes a line for each part (a column, a tensor, an array) with the SHA-256 of its values, so that a difference
names the part. Each rule here says why it is needed: what a rule hides, a golden run cannot see.
"""

import csv
import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image
from safetensors import safe_open

__all__ = ["file_text", "normalised"]

# Measured seconds and speeds by their names in JSON, events and CSV. Named one by one: `checkpoint_s` is a setting.
MEASURED = (
    "compile_s", "embed_s", "mine_s", "train_s", "total_s", "evaluate_s", "read_s", "fit_s", "draw_s", "cpu_s",
    "pictures_per_s",
)  # fmt: skip
# Columns of tables for people that hold the same.
MEASURED_COLUMNS = ("pictures/s", "seconds", "CPU s")

_NUMBER = r"-?\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?"
_RULES: Sequence[tuple[re.Pattern[str], str]] = (
    # JSON: a measured number, or a list or an object of them (a mean with its interval).
    (re.compile(rf'"({"|".join(MEASURED)})": (?:{_NUMBER}|\[[^\]]*\]|\{{[^}}]*\}})'), r'"\1": <measured>'),
    # "mine 0.1 s", "59 s left": how long it took. "302 pictures/s": how fast.
    (re.compile(rf"\b{_NUMBER} s\b"), "<number> s"),
    (re.compile(rf"\b{_NUMBER} pictures/s"), "<number> pictures/s"),
    # What else is running decides how much memory is free.
    (re.compile(rf"\b{_NUMBER} [GM]B (are|is) free"), r"<number> GB \1 free"),
    # On a slow machine a line of progress comes every ten seconds; the last step's comes always.
    (re.compile(r"^\w[^\n]*: step (\d+)/(?!\1 )\d+  loss [^\n]*\n", re.MULTILINE), ""),
    # The report's page: seconds among the facts, and the table of them.
    (re.compile(r"(<dt>seconds</dt><dd>)[^<]*"), r"\1<measured>"),
    (re.compile(r"(<caption>Seconds of each run).*?</table>", re.DOTALL), r"\1 <measured></table>"),
    # Libraries may be renewed between two recordings; figures that change by it are differences all the same.
    (re.compile(r'("(?:python|torch|torchvision|timm|numpy|numba|pytorch-metric-learning|pillow|mohs)": )"[\w.+]+"'),
     r'\1"<version>"'),
)  # fmt: skip
_IMAGE = re.compile(r"(data:image/\w+;base64,)([A-Za-z0-9+/=]+)")
_SVG = re.compile(r"<svg.*?</svg>", re.DOTALL)
_TABLE = re.compile(r"<table.*?</table>", re.DOTALL)


def normalised(text: str, places: Mapping[str, str]) -> str:
    """Return text without what changes from run to run; `places` are folders and what stands for them."""
    for place, name in sorted(places.items(), key=lambda item: -len(item[0])):
        text = text.replace(place, name)
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    text = _IMAGE.sub(lambda found: found[1] + _sha256(found[2].encode()), text)
    # The figure of speed is drawn from measured seconds.
    text = _SVG.sub(lambda found: "<svg of speed>" if "pictures-per-s" in found[0] else found[0], text)
    text = _TABLE.sub(lambda found: _without_html_columns(found[0]), text)
    return _without_text_columns(text)


def file_text(path: Path, places: Mapping[str, str]) -> str:
    """Return a file as text to compare: see the module."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _parquet_text(path)
    if suffix == ".safetensors":
        return _tensors_text(path)
    if suffix in (".npy", ".npz"):
        return _arrays_text(path)
    if suffix == ".png":
        with Image.open(path) as picture:  # pixels: a PNG also holds the version of the library that wrote it
            return f"{picture.mode} {picture.size} {_sha256(picture.tobytes())}\n"
    if suffix == ".jsonl":
        lines = path.read_text(encoding="utf-8").splitlines()
        return normalised("".join(json.dumps(json.loads(line), indent=1) + "\n" for line in lines), places)
    if suffix == ".csv":
        return normalised(_without_csv_columns(path.read_text(encoding="utf-8")), places)
    try:
        return normalised(path.read_text(encoding="utf-8"), places)
    except UnicodeDecodeError:
        return _sha256(path.read_bytes()) + "\n"


def _sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _array_line(name: str, array: np.ndarray[Any, Any]) -> str:
    data = repr(array.tolist()).encode() if array.dtype.kind in "OUS" else np.ascontiguousarray(array).tobytes()
    return f"{name}: {array.dtype} {array.shape} {_sha256(data)}\n"


def _parquet_text(path: Path) -> str:
    table = pq.read_table(path)
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    lines = [f"{table.num_rows} rows\n", *(f"{key}: {value}\n" for key, value in sorted(metadata.items()))]
    for field, column in zip(table.schema, table.columns, strict=True):
        lines.append(f"{field.name}: {field.type} {_sha256(repr(column.to_pylist()).encode())}\n")
    return "".join(lines)


def _tensors_text(path: Path) -> str:
    with safe_open(path, "numpy") as file:
        metadata = json.dumps(file.metadata(), sort_keys=True)
        return f"{metadata}\n" + "".join(_array_line(key, file.get_tensor(key)) for key in sorted(file.keys()))


def _arrays_text(path: Path) -> str:
    loaded = np.load(path, allow_pickle=False)
    arrays = {"array": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    # A cell of a comparison holds the seconds that it took.
    return "".join(
        f"{name}: <measured>\n" if name in MEASURED else _array_line(name, arrays[name]) for name in sorted(arrays)
    )


def _without_csv_columns(text: str) -> str:
    rows = list(csv.reader(io.StringIO(text)))
    columns = [index for index, name in enumerate(rows[0] if rows else ()) if name in MEASURED]
    if not columns:
        return text
    out = io.StringIO()
    for number, row in enumerate(rows):
        kept = ["<measured>" if number and index in columns else cell for index, cell in enumerate(row)]
        csv.writer(out, lineterminator="\n").writerow(kept)
    return out.getvalue()


def _without_text_columns(text: str) -> str:
    """Replace the measured columns of tables of Markdown and of the terminal."""
    lines, columns, mark = text.split("\n"), [], "|"
    for number, line in enumerate(lines):
        mark = "│" if "│" in line else "┃" if "┃" in line else "|"
        cells = line.split(mark)
        if len(cells) < 3:
            # A rule between head and rows keeps the columns of the head; any other line ends the table.
            columns = columns if line[:1] in "┡├" and line else []
            continue
        head = [index for index, cell in enumerate(cells) if cell.strip() in MEASURED_COLUMNS]
        if head:
            # The width of a column is that of its widest number.
            columns = head
            lines[number] = mark.join(cell.strip() for cell in cells)
        elif columns and not set(line) <= set("|-: "):
            lines[number] = mark.join("<measured>" if i in columns else c.strip() for i, c in enumerate(cells))
    return "\n".join(lines)


def _without_html_columns(table: str) -> str:
    columns: list[int] = []

    def row(found: re.Match[str]) -> str:
        nonlocal columns
        cells = re.findall(r"<t[hd].*?</t[hd]>", found[0], re.DOTALL)
        texts = [re.sub(r"<[^>]*>", "", cell).strip() for cell in cells]
        head = [index for index, cell in enumerate(texts) if cell in MEASURED_COLUMNS]
        if head:
            columns = head
            return found[0]
        return "".join("<td>measured</td>" if index in columns else cell for index, cell in enumerate(cells))

    return re.sub(r"<tr.*?</tr>", row, table, flags=re.DOTALL)
