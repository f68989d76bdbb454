"""Which kinds of picture files are read, and why the others are not."""

from functools import cache
from pathlib import Path

from PIL import Image

__all__ = ["is_picture_name", "picture_formats", "why_not_read"]

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
