"""The large set: Han characters in three typefaces, two to train on and a third that asks.

    python benchmarks/han.py han
    python benchmarks/han.py han --characters 4000 --fonts /usr/share/fonts/truetype

40,000 characters that all of TW-Sung, TW-Kai and HanaMin draw (Debian's fonts-cns11643-sung, fonts-cns11643-kai and
fonts-hanazono; all free), chosen at random with seed 0, dark on white, 32 pixels, grey. Unified ideographs only; a
character that some face draws as one chosen before is left out, for it would be one picture under two labels.

Written are `pictures.npy`, uint8 [3, C, 32, 32], in order of face (Sung, Kai, HanaMin) and of choice, and
`characters.txt`, a code point a line; so the first n characters are the same set whatever C. With `--files` also a PNG
of each, and `images.csv` with the columns file, class, role (the first face is the catalog) and face.
"""

import argparse
import csv
import hashlib
from pathlib import Path
from typing import final

import numpy as np
from fontTools.ttLib import TTFont
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

FACES = {
    "Sung": ("cns11643/TW-Sung-98_1.ttf", "cns11643/TW-Sung-Ext-B-98_1.ttf"),
    "Kai": ("cns11643/TW-Kai-98_1.ttf", "cns11643/TW-Kai-Ext-B-98_1.ttf"),
    "HanaMin": ("hanazono/HanaMinA.ttf", "hanazono/HanaMinB.ttf"),
}
# Unified ideographs: the first block, extension A, and extension B.
BLOCKS = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF))
SIZE = 32


@final
class Face:
    """A typeface in one or more files; the first that has a character draws it."""

    def __init__(self, files: list[Path]) -> None:
        self._fonts = [ImageFont.truetype(file, SIZE - 2, layout_engine=ImageFont.Layout.BASIC) for file in files]
        self._font_of: dict[int, ImageFont.FreeTypeFont] = {}
        for file, font in reversed(list(zip(files, self._fonts, strict=True))):
            with TTFont(file, lazy=True) as table:
                self._font_of.update(dict.fromkeys(table.getBestCmap(), font))

    def characters(self) -> set[int]:
        """Return the code points it draws."""
        return {code for code in self._font_of if any(first <= code <= last for first, last in BLOCKS)}

    def draw(self, code: int) -> NDArray[np.uint8] | None:
        """Return the character in the middle of a square, dark on white, uint8 [32, 32]; None if it is empty."""
        picture = Image.new("L", (SIZE, SIZE), 255)
        middle = (SIZE / 2, SIZE / 2)
        ImageDraw.Draw(picture).text(middle, chr(code), fill=0, font=self._font_of[code], anchor="mm")
        pixels = np.asarray(picture)
        return pixels if pixels.min() < 128 else None


def find_faces(fonts: Path) -> list[Face]:
    """Return the three faces; exit and say what to install where one is missing."""
    missing = [str(fonts / file) for files in FACES.values() for file in files if not (fonts / file).exists()]
    if missing:
        raise SystemExit(
            f"han: no {missing[0]}; install fonts-cns11643-sung, fonts-cns11643-kai and fonts-hanazono, or give the "
            "folder that has them with --fonts"
        )
    return [Face([fonts / file for file in files]) for files in FACES.values()]


def draw_han(num_characters: int, fonts: Path) -> tuple[NDArray[np.uint8], list[int]]:
    """Return pictures uint8 [3, C, 32, 32] and the code points of the first `num_characters` of the random order."""
    faces = find_faces(fonts)
    in_all = sorted(set.intersection(*(face.characters() for face in faces)))
    pictures, codes = np.empty((len(faces), num_characters, SIZE, SIZE), np.uint8), []
    seen: set[tuple[int, bytes]] = set()
    for code in np.random.default_rng(0).permutation(in_all).tolist():
        if len(codes) == num_characters:
            return pictures, codes
        drawn = [face.draw(code) for face in faces]
        keys = {(i, hashlib.sha256(d.tobytes()).digest()) for i, d in enumerate(drawn) if d is not None}
        if len(keys) < len(faces) or keys & seen:
            continue
        seen |= keys
        for i, drawing in enumerate(drawn):
            pictures[i, len(codes)] = drawing
        codes.append(code)
    if len(codes) < num_characters:
        raise SystemExit(f"han: these faces draw {len(codes)} different characters, not {num_characters}")
    return pictures, codes


def write_files(folder: Path, pictures: NDArray[np.uint8], codes: list[int]) -> None:
    """Write a PNG of each picture and `images.csv`."""
    with (folder / "images.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "class", "role", "face"])
        for i, face in enumerate(FACES):
            (folder / face).mkdir(exist_ok=True)
            for picture, code in zip(pictures[i], codes, strict=True):
                name = f"{face}/U+{code:05X}.png"
                Image.fromarray(picture).save(folder / name)
                rows.writerow([name, f"U+{code:05X}", "catalog" if i == 0 else "sample", face])


def main() -> None:
    """Draw and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--characters", type=int, default=40_000)
    parser.add_argument("--fonts", type=Path, default=Path("/usr/share/fonts/truetype"))
    parser.add_argument("--files", action="store_true", help="also a PNG of each picture, and a table")
    arguments = parser.parse_args()
    pictures, codes = draw_han(arguments.characters, arguments.fonts)
    arguments.out.mkdir(parents=True, exist_ok=True)
    np.save(arguments.out / "pictures.npy", pictures)
    (arguments.out / "characters.txt").write_text("".join(f"U+{code:05X}\n" for code in codes))
    if arguments.files:
        write_files(arguments.out, pictures, codes)
    print(f"{len(codes):,} characters × {len(FACES)} faces in {arguments.out}")


if __name__ == "__main__":
    main()
