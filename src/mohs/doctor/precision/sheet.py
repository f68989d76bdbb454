"""Pairs of pictures side by side, with their classes and how similar they are: one PNG to look through."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from mohs.errors import InputError
from mohs.evaluation.checked import Index

__all__ = ["SheetPair", "contact_sheet", "spread_pairs"]

_PICTURE = 72
_GAP = 4
_TEXT = 13
_MARGIN = 10
_COLUMNS = 6
_INK, _FAINT, _PAPER, _CELL = (20, 20, 20), (105, 105, 105), (255, 255, 255), (242, 242, 242)


@final
@dataclass(frozen=True, eq=False)
class SheetPair:
    """Two pictures (uint8 [H, W, C]), their classes and a line about the pair."""

    first: npt.NDArray[np.uint8]
    second: npt.NDArray[np.uint8]
    first_label: str
    second_label: str
    note: str


def spread_pairs(class_2P: Index, rows: Index, num_pairs: int) -> Index:
    """Return up to `num_pairs` of the rows in their order, the first of each two classes before any second one.

    >>> spread_pairs(np.array([[0, 1, 0], [1, 0, 2]]), np.array([0, 1, 2]), 2).tolist()
    [0, 2]
    """
    low, high = np.sort(class_2P[:, rows], axis=0)
    _, first = np.unique(np.stack([low, high]), axis=1, return_index=True)
    new = np.zeros(len(rows), dtype=bool)
    new[first] = True
    return np.sort(np.concatenate([rows[new], rows[~new]])[:num_pairs])


def contact_sheet(title: str, pairs: Sequence[SheetPair]) -> Image.Image:
    """Return a picture with the pairs in rows of six, each over its two classes and its note.

    Pictures are drawn 72 pixels wide and high; smaller ones keep hard edges. Labels that do not fit are cut.
    """
    if not pairs:
        raise InputError("pairs: none; give at least one pair")
    font, bold = _fonts()
    cell_width = 2 * _PICTURE + 3 * _GAP
    cell_height = _PICTURE + 2 * _GAP + 2 * (_TEXT + 3)
    columns = min(_COLUMNS, len(pairs))
    rows = -(-len(pairs) // _COLUMNS)
    top = 2 * _MARGIN + _TEXT + 4
    width = max(_MARGIN + columns * (cell_width + _MARGIN), int(bold.getlength(title)) + 2 * _MARGIN)
    sheet = Image.new("RGB", (width, top + rows * (cell_height + _MARGIN)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN), title, font=bold, fill=_INK)
    for number, pair in enumerate(pairs):
        x = _MARGIN + number % _COLUMNS * (cell_width + _MARGIN)
        y = top + number // _COLUMNS * (cell_height + _MARGIN)
        draw.rectangle((x, y, x + cell_width - 1, y + cell_height - 1), fill=_CELL)
        for place, (picture, label) in enumerate(((pair.first, pair.first_label), (pair.second, pair.second_label))):
            left = x + _GAP + place * (_PICTURE + _GAP)
            sheet.paste(_picture(picture), (left, y + _GAP))
            text = _cut(label, font, _PICTURE)
            draw.text((left, y + _PICTURE + 2 * _GAP), text, font=font, fill=_INK)
        note = _cut(pair.note, font, cell_width - 2 * _GAP)
        draw.text((x + _GAP, y + _PICTURE + 2 * _GAP + _TEXT + 2), note, font=font, fill=_FAINT)
    return sheet


def _picture(pixels_HWC: npt.NDArray[np.uint8]) -> Image.Image:
    pixels = np.asarray(pixels_HWC)
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
    small = max(image.size) <= _PICTURE // 2
    return image.resize((_PICTURE, _PICTURE), Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS)


def _cut(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    line = " ".join(text.split())
    if font.getlength(line) <= width:
        return line
    while line and font.getlength(line + "…") > width:
        line = line[:-1]
    return line + "…"


def _fonts() -> tuple[ImageFont.FreeTypeFont, ImageFont.FreeTypeFont]:
    """Return DejaVu Sans, which matplotlib brings along: it has more scripts than Pillow's own."""
    from matplotlib import get_data_path

    folder = f"{get_data_path()}/fonts/ttf"
    return (
        ImageFont.truetype(f"{folder}/DejaVuSans.ttf", _TEXT - 2),
        ImageFont.truetype(f"{folder}/DejaVuSans-Bold.ttf", _TEXT),
    )
