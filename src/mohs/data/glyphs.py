"""The built-in set: Unicode characters drawn with the typefaces that matplotlib brings along. No download."""

import importlib.util
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import final

import numpy as np
from fontTools.ttLib import TTFont  # type: ignore[import-untyped]  # comes with matplotlib; no stubs
from PIL import Image, ImageFont

from mohs.artefacts import disk_named
from mohs.checks import require, wrong_whole
from mohs.data.dataset import Dataset
from mohs.data.images import ImagePolicy
from mohs.data.multi_label import joined_sets
from mohs.data.table import BUILT_IN, Table, write_table
from mohs.errors import InputError, Problem

__all__ = ["CATALOG_FACE", "draw_glyphs", "export_glyphs"]

CATALOG_FACE = "DejaVuSans"

# Which characters are one class is decided at this size (pixels), so that every size has the same classes.
REFERENCE_SIZE = 32


def draw_glyphs(
    size: int = REFERENCE_SIZE,
    *,
    merge_homoglyphs: bool = True,
    channels: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Return the built-in set: one class per character, one item per typeface; uint8 [N, size, size, channels].

    The faces are matplotlib's DejaVu Sans, Sans Mono and Serif and STIX General, each in four styles. A character
    is taken if at least two faces draw it; spaces, control, format and private-use characters are not. It is drawn
    dark on white, antialiased, centred, with type as high as the picture less a border of `max(1, size // 16)`
    pixels; a drawing that is larger than that is set in smaller type.

    With `merge_homoglyphs`, characters with identical drawings in one face are one class (Latin A, Greek Alpha and
    Cyrillic A), each different drawing of a class is kept once, and classes with fewer than two are left out: about
    5,200 classes and 39,000 pictures. Without, each character is a class of its own and every face is kept: about
    6,800 classes and 53,600 pictures, many with the same pixels and different labels.

    Labels are the lowest code point of the class (`"U+0041"`), files are virtual (`"DejaVuSans/U+0041.png"`). The
    role is catalog for one drawing a class by the regular DejaVu Sans, where it has one, sample for the others.
    Items are in order of label, the catalog's first, then of face and code point. The same installation always gives
    the same set; another release of FreeType (inside Pillow) may draw a few pixels differently. `progress(done, total)`
    counts the faces that are drawn.

    Raises `InputError` for a wrong `size` or `channels` (as `ImagePolicy`) or if matplotlib's fonts are missing.
    """
    ImagePolicy(size=size, channels=channels)
    faces = _find_faces()
    drawings = _draw_all(faces, progress)
    if merge_homoglyphs:
        class_of = _merge(drawings)
        kept = _distinct(drawings, class_of)
    else:
        class_of = {code: code for _, code in drawings}
        kept = list(drawings)
    order = {name: i for i, name in enumerate(faces)}
    kept.sort(key=lambda item: (class_of[item[1]], order[item[0]], item[1]))
    pen = _Pen(faces, size)
    ink_NHW = np.zeros((len(kept), size, size), np.uint8)
    for picture, item in zip(ink_NHW, kept, strict=True):
        drawing = drawings[item] if size == REFERENCE_SIZE else pen.draw(*item)
        if drawing is not None:
            height, width = drawing.shape
            top, left = (size - height) // 2, (size - width) // 2
            picture[top : top + height, left : left + width] = drawing
    np.subtract(255, ink_NHW, out=ink_NHW)
    pictures = ink_NHW[..., np.newaxis]
    return Dataset(_make_table(kept, class_of), np.repeat(pictures, 3, axis=-1) if channels == 3 else pictures)


def export_glyphs(
    folder: str | Path,
    size: int = REFERENCE_SIZE,
    *,
    num_classes: int | None = None,
    merge_homoglyphs: bool = True,
    drawing: Callable[[int, int], None] | None = None,
    writing: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the built-in set as PNG files with `images.csv` and `catalog.csv`, and return `folder`.

    `num_classes` takes the first classes in order of code point, `merge_homoglyphs` is as for `draw_glyphs`. The folder
    must be new or empty. `drawing(done, total)` counts faces, `writing(done, total)` pictures.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(Problem(str(folder), "not an empty folder", "name a new one"))
    require(None if num_classes is None else wrong_whole("num_classes", num_classes))
    dataset = draw_glyphs(size, merge_homoglyphs=merge_homoglyphs, progress=drawing)
    if num_classes is not None:
        dataset = dataset.take(dataset.labels_id < num_classes)
    folder.mkdir(parents=True, exist_ok=True)
    for num_before, (file, pixels_HWC) in enumerate(zip(dataset.table.files, dataset.pictures, strict=True)):
        if writing is not None:
            writing(num_before, len(dataset))
        path = folder / file
        path.parent.mkdir(exist_ok=True)
        # Plainly: the tables, which come last, say that the set is whole.
        with disk_named(path):
            Image.fromarray(pixels_HWC[:, :, 0]).save(path)
    table = replace(dataset.table, root=folder, source=str(folder))
    write_table(table.take(table.roles == "catalog"), folder / "catalog.csv")
    write_table(table.take(table.roles == "sample"), folder / "images.csv")
    return folder


@final
class _Pen:
    """Draws characters at one size, keeping the fonts it has opened."""

    def __init__(self, faces: dict[str, Path], size: int) -> None:
        self._faces = faces
        self._inner = size - 2 * max(1, size // 16)
        self._fonts: dict[tuple[str, int], ImageFont.FreeTypeFont] = {}

    def draw(self, face: str, code: int) -> np.ndarray | None:
        """Return the ink of a character, uint8 [height, width] cut to its edges (255 is black), None if blank."""
        type_size = self._inner
        while True:
            font = self._fonts.get((face, type_size))
            if font is None:
                font = ImageFont.truetype(self._faces[face], type_size, layout_engine=ImageFont.Layout.BASIC)
                self._fonts[face, type_size] = font
            mask = font.getmask(chr(code), "L")
            width, height = mask.size
            ink = np.frombuffer(bytes(mask), np.uint8).reshape(height, width)
            rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
            if not rows.size:
                return None
            ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            longest = max(ink.shape)
            if longest <= self._inner or type_size == 1:
                return ink[: self._inner, : self._inner]
            type_size = max(1, min(type_size - 1, type_size * self._inner // longest))


def _find_faces() -> dict[str, Path]:
    # find_spec rather than an import, which takes a second and sets up back ends.
    spec = importlib.util.find_spec("matplotlib")
    folder = Path(spec.origin if spec and spec.origin else "").parent / "mpl-data" / "fonts" / "ttf"
    paths = [path for path in folder.glob("*.ttf") if path.name.startswith(("DejaVu", "STIXGeneral"))]
    faces = {path.stem: path for path in paths if "Display" not in path.name}
    if CATALOG_FACE not in faces or len(faces) < 2:
        raise InputError(
            Problem("glyphs", f"matplotlib's DejaVu fonts are not in {folder}", "install matplotlib from its wheel")
        )
    return {name: faces[name] for name in sorted(faces, key=lambda name: (name != CATALOG_FACE, name))}


def _draw_all(faces: dict[str, Path], progress: Callable[[int, int], None] | None) -> dict[tuple[str, int], np.ndarray]:
    """Return the drawing of each (face, code point) that is drawn by two faces or more, in order of both."""
    covered: dict[str, list[int]] = {}
    for name, path in faces.items():
        with TTFont(path, lazy=True) as font:
            codes = font.getBestCmap()
        covered[name] = sorted(code for code in codes if unicodedata.category(chr(code))[0] not in "CZ")
    num_faces = Counter(code for codes in covered.values() for code in codes)
    pen = _Pen(faces, REFERENCE_SIZE)
    drawings: dict[tuple[str, int], np.ndarray] = {}
    for num_done, (name, codes) in enumerate(covered.items(), start=1):
        # A noncharacter: what the face draws for anything it does not know.
        unknown = pen.draw(name, 0x10FFFF)
        for code in codes:
            if num_faces[code] > 1:
                drawing = pen.draw(name, code)
                if drawing is not None and not (unknown is not None and np.array_equal(drawing, unknown)):
                    drawings[name, code] = drawing
        if progress is not None:
            progress(num_done, len(covered))
    num_faces = Counter(code for _, code in drawings)
    return {item: drawing for item, drawing in drawings.items() if num_faces[item[1]] > 1}


def _merge(drawings: dict[tuple[str, int], np.ndarray]) -> dict[int, int]:
    """Return the class of each code point: the lowest one it is joined to by identical drawings in one face."""
    first: dict[tuple[str, tuple[int, ...], bytes], int] = {}
    joined = joined_sets(
        (first.setdefault((name, drawing.shape, drawing.tobytes()), code), code)
        for (name, code), drawing in drawings.items()
    )
    lowest = {id(own): min(own) for own in joined.values()}
    return {code: lowest[id(own)] for code, own in joined.items()}


def _distinct(drawings: dict[tuple[str, int], np.ndarray], class_of: dict[int, int]) -> list[tuple[str, int]]:
    """Return the first item of each different drawing of a class, for the classes that have two or more."""
    seen: set[tuple[int, tuple[int, ...], bytes]] = set()
    items: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for item, drawing in drawings.items():
        key = (class_of[item[1]], drawing.shape, drawing.tobytes())
        if key not in seen:
            seen.add(key)
            items[key[0]].append(item)
    return [item for group in items.values() if len(group) > 1 for item in group]


def _make_table(items: list[tuple[str, int]], class_of: dict[int, int]) -> Table:
    # Items come in order of class and face, the catalog's face first.
    labels = np.array([class_of[code] for _, code in items])
    is_first = np.append(True, labels[1:] != labels[:-1])
    is_catalog = is_first & np.array([face == CATALOG_FACE for face, _ in items])
    return Table(
        files=tuple(f"{face}/U+{code:04X}.png" for face, code in items),
        labels=np.array([f"U+{code:04X}" for code in labels.tolist()], dtype=np.str_),
        roles=np.where(is_catalog, "catalog", "sample"),
        splits=np.full(len(items), "", dtype="<U10"),
        root=Path(),
        source=BUILT_IN,
    )
