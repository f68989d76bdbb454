"""Which kinds of picture files are read, and why the others are not."""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from PIL import Image

from mohs.checks import require
from mohs.errors import InputError, Problem, at_most_20

__all__ = ["is_picture_name", "picture_formats", "read_class_folders", "why_not_read"]


# Formats of Pillow that are not decoded, whatever a file's name: reading EPS starts a program (Ghostscript), and of the
# others Pillow reads the header alone, or only where another program or library is set up.
_REFUSED = {
    "EPS": "Pillow would start a program for it",
    "PDF": "it is a document",
    "WMF": "it is a drawing, not pixels",
    "MPEG": "it is a film",
    "GRIB": "Pillow cannot decode it",
    "BUFR": "Pillow cannot decode it",
    "HDF5": "Pillow cannot decode it",
}
_HEIF_EXTENSIONS = (".heic", ".heics", ".heif", ".heifs", ".hif")
_AVIF_EXTENSIONS = (".avif", ".avifs")
# Pillow reads these files by the other format.
_OPENED_AS = {"MPO": "JPEG"}


@cache
def picture_formats() -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the formats that are decoded, by Pillow's names, and the extensions of files that hold them.

    These are all that Pillow can decode here (AVIF and JPEG 2000 where it was built with them) but for the refused
    ones, and HEIC where pillow-heif is installed (the extra `heif`). Files are told by their contents: an extension
    only says which files of a folder are pictures. Those of HEIC and AVIF are among them in any case, so that such a
    picture is named as one that cannot be read, and not passed over.

    >>> formats, extensions = picture_formats()
    >>> "EPS" in formats, {".jpg", ".jfif", ".ppm", ".heic"} <= extensions, ".eps" in extensions
    (False, True, False)
    """
    Image.init()
    _register_heif()
    formats = tuple(name for name in Image.ID if name in Image.OPEN and name not in _REFUSED)
    of_format = Image.registered_extensions()
    extensions = {kind for kind, name in of_format.items() if _OPENED_AS.get(name, name) in formats}
    return formats, frozenset({*extensions, *_HEIF_EXTENSIONS, *_AVIF_EXTENSIONS})


def is_picture_name(name: str) -> bool:
    """Return whether the extension of a file's name is that of a picture.

    >>> is_picture_name("IMG_0001.HEIC"), is_picture_name("notes.txt")
    (True, False)
    """
    return Path(name).suffix.lower() in picture_formats()[1]


def why_not_read(path: str | Path) -> str:
    """Return why a file of no known format is not read, as its extension tells; "" if that tells nothing.

    >>> why_not_read("a.eps")
    'EPS is not read, since Pillow would start a program for it; save it as PNG'
    """
    kind = Path(path).suffix.lower()
    picture_formats()
    if kind in _HEIF_EXTENSIONS and "HEIF" not in Image.OPEN:
        return "HEIC needs the extra 'heif': pip install 'mohs[heif]'"
    if kind in _AVIF_EXTENSIONS and kind not in Image.registered_extensions():
        return "this Pillow was built without AVIF; install a newer one"
    name = Image.registered_extensions().get(kind, "")
    if name in _REFUSED:
        return f"{name} is not read, since {_REFUSED[name]}; save it as PNG"
    return ""


def _register_heif() -> None:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return
    register_heif_opener()


def read_class_folders(folder: Path) -> tuple[list[str], list[str], str]:
    """Return the pictures relative to the folder, their classes, and a line about what is passed over, or "".

    Passed over are files that are no pictures, and folders without a picture. Pictures are told by their
    extension (`mohs.data.folder`), in order of class and name. Hidden files, and files beside the class folders that
    are no pictures, are no part of the set and not in the line.

    Raises `InputError` with a line for each problem: pictures outside the class folders or two folders deep, no picture
    at all.
    """
    problems: list[str] = []
    files: list[str] = []
    labels: list[str] = []
    others: list[Path] = []
    bare: list[str] = []
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(".") or entry.name == "__MACOSX":  # the latter is left by archives of macOS
            continue
        if _leads_back(entry, folder):
            others.append(entry)
            continue
        if not entry.is_dir():
            if _kind(entry) in (_LINK, _SPECIAL):
                others.append(entry)
            elif is_picture_name(entry.name):
                problems.append(f"{entry}: a picture outside the class folders; move it into the folder of its class")
            continue
        num_before = len(files)
        for child in sorted(entry.iterdir()):
            if child.name.startswith("."):
                continue
            if _leads_back(child, folder):
                others.append(child)
            elif child.is_dir():
                inner = [file for file in child.rglob("*") if not file.name.startswith(".") and not file.is_dir()]
                if any(is_picture_name(file.name) for file in inner):
                    problems.append(
                        f"{child}: pictures two folders deep; give the folder that holds the class folders, "
                        "or write a table with columns 'file,class'"
                    )
                else:
                    others += sorted(inner)
            # A link that leads nowhere is a picture that cannot be read, and is named as such later.
            elif is_picture_name(child.name):
                files.append(f"{entry.name}/{child.name}")
                labels.append(entry.name)
            else:
                others.append(child)
        if len(files) == num_before:
            bare.append(entry.name)
    require(*at_most_20(problems))
    found = _passed_over(folder, others, len(files) + len(others)) if others else ""
    if bare and files:
        one = len(bare) == 1
        line = f"{len(bare):,} folder{' has' if one else 's have'} no picture: {', '.join(map(repr, bare[:3]))}"
        found = "; ".join(filter(None, [found, line + (f" and {len(bare) - 3} more" if len(bare) > 3 else "")]))
    if not files:
        seen = f"; {found}" if found else ""
        what = "no pictures (jpg, png, webp, tif and others)"
        raise InputError(Problem(str(folder), what, f"put those of each class in a sub-folder named after it{seen}"))
    return files, labels, f"{folder}: {found}" if found else ""


_LINK, _SPECIAL = "a link that leads nowhere", "a pipe, socket or device"


def _leads_back(entry: Path, folder: Path) -> bool:
    """Return whether a link leads to the folder that it is in, or to one around it: its pictures would come again."""
    return entry.is_symlink() and entry.is_dir() and folder.resolve().is_relative_to(entry.resolve())


def _kind(file: Path) -> str:
    """Return what is told of a file that is passed over: its extension, or what it is if it is no file."""
    if file.is_dir():
        return "a link to a folder around it"
    if file.is_symlink() and not file.exists():
        return _LINK
    if not file.is_file():
        return _SPECIAL
    return file.suffix.lower() or "without an extension"


def _passed_over(folder: Path, others: Sequence[Path], num_all: int) -> str:
    kinds = Counter(map(_kind, others))
    named = ", ".join(f"{number:,} {kind}" for kind, number in sorted(kinds.items(), key=lambda each: (-each[1], each)))
    examples = ", ".join(repr(file.relative_to(folder).as_posix()) for file in others[:3])
    reasons = sorted({why for file in others if (why := why_not_read(file))})
    one = len(others) == 1
    return (
        f"{len(others):,} of {num_all:,} files {'is no picture' if one else 'are no pictures'} that Mohs reads and "
        f"{'is' if one else 'are'} passed over: {named} ({'' if one else 'for example '}{examples})"
    ) + "".join(f"; {why}" for why in reasons)
