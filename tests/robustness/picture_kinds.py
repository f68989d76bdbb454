"""Kinds of picture files, good and bad: what a catalog of years and a stranger's folder hold."""

import io
import os
import random
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

__all__ = ["GROUPS", "make_kinds", "swapped_profile"]

_SIDE = 40
_SAVED: dict[str, tuple[str, ...]] = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"),
    "GIF": ("L", "P", "RGB"),
    "BMP": ("1", "L", "P", "RGB", "RGBA"),
    "WEBP": ("L", "RGB", "RGBA"),
    "PPM": ("1", "L", "RGB", "I;16"),
    "TGA": ("L", "P", "RGB", "RGBA"),
    "PCX": ("1", "L", "P", "RGB"),
    "JPEG2000": ("L", "RGB", "RGBA"),
    "AVIF": ("RGB", "RGBA"),
    "ICO": ("RGBA",),
    "SGI": ("L", "RGB", "RGBA"),
    "DDS": ("RGB", "RGBA"),
    "DIB": ("RGB",),
    "QOI": ("RGB", "RGBA"),
}
_BROKEN = ("PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP", "PPM", "JPEG2000", "AVIF", "TGA")

GROUPS = (
    "formats and modes", "orientations", "colours and depth", "shapes", "cut short", "damaged", "other files",
    "no regular files",
)  # fmt: skip
"""The groups of kinds, in the order of the table."""


def picture(mode: str, size: tuple[int, int] = (_SIDE, _SIDE)) -> Image.Image:
    """Return a picture with an edge and a gradient."""
    width, height = size
    x = np.linspace(0, 255, width)[None, :] * np.ones((height, 1))
    rgb = np.stack([x, x[:, ::-1], np.full_like(x, 128)], axis=-1).astype(np.uint8)
    if mode == "I;16":
        return Image.fromarray((x * 257).astype(np.uint16))
    if mode in ("I", "F"):
        return Image.fromarray((x * 100).astype(np.int32 if mode == "I" else np.float32))
    return Image.fromarray(rgb).convert(mode)


def encoded(mode: str, kind: str, size: tuple[int, int] = (_SIDE, _SIDE), **options: object) -> bytes:
    """Return the bytes of a file."""
    buffer = io.BytesIO()
    picture(mode, size).save(buffer, kind, **options)
    return buffer.getvalue()


def png(colour_type: int, depth: int, width: int, height: int, raw: bytes, extra: bytes = b"") -> bytes:
    """Return a PNG of kinds that Pillow does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    transparent = chunk(b"tRNS", extra) if extra else b""
    body = chunk(b"IDAT", zlib.compress(raw))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + transparent + body + chunk(b"IEND", b"")


def swapped_profile() -> bytes:
    """Return an ICC profile like that of sRGB in which the first number is blue and the third red."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    places = {bytes(data[at : at + 4]): at for at in range(132, 132 + 12 * struct.unpack(">I", data[128:132])[0], 12)}
    red, blue = places[b"rXYZ"] + 4, places[b"bXYZ"] + 4
    data[red : red + 8], data[blue : blue + 8] = data[blue : blue + 8], data[red : red + 8]
    return bytes(data)


def _formats() -> Iterator[tuple[str, bytes]]:
    for kind, modes in _SAVED.items():
        for mode in modes:
            yield f"{kind} {mode}", encoded(mode, kind)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield f"TIFF {compression}", encoded("RGB", "TIFF", compression=compression)
    yield "JPEG progressive", encoded("RGB", "JPEG", progressive=True)
    yield "WEBP lossless", encoded("RGB", "WEBP", lossless=True)
    frames = [picture("P"), picture("P").rotate(90)]
    for kind in ("GIF", "TIFF", "PNG", "WEBP"):
        buffer = io.BytesIO()
        frames[0].convert("RGB").save(buffer, kind, save_all=True, append_images=[frames[1].convert("RGB")])
        yield f"{kind} of two frames", buffer.getvalue()


def _orientations() -> Iterator[tuple[str, bytes]]:
    for kind in ("JPEG", "PNG", "TIFF"):
        for orientation in (1, 3, 6, 8):
            exif = Image.Exif()
            exif[274] = orientation
            yield f"{kind} turned {orientation}", encoded("RGB", kind, exif=exif)
    yield "EXIF that is none", encoded("RGB", "JPEG", exif=b"Exif\0\0garbage" * 9)


def _colours() -> Iterator[tuple[str, bytes]]:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for name, profile in (("sRGB", srgb), ("swapped", swapped_profile()), ("garbage", b"x" * 500), ("cut", srgb[:300])):
        for kind in ("JPEG", "PNG"):
            yield f"{kind} with profile {name}", encoded("RGB", kind, icc_profile=profile)
    yield "PNG P with profile", encoded("P", "PNG", icc_profile=swapped_profile())
    yield "PNG L with a colour profile", encoded("L", "PNG", icc_profile=swapped_profile())
    yield "JPEG CMYK with a colour profile", encoded("CMYK", "JPEG", icc_profile=swapped_profile())
    yield "TIFF 16 bits, white is 0", encoded("I;16", "TIFF", tiffinfo={262: 0})
    yield "TIFF 8 bits, white is 0", encoded("L", "TIFF", tiffinfo={262: 0})
    rows = b"".join(b"\0" + struct.pack(">8H", *range(0, 64000, 8000)) for _ in range(8))
    yield "PNG 16 bits", png(0, 16, 8, 8, rows)
    yield "PNG 16 bits with a transparent grey", png(0, 16, 8, 8, rows, struct.pack(">H", 8000))
    colour = b"".join(b"\0" + struct.pack(">24H", *range(0, 48000, 2000)) for _ in range(8))
    yield "PNG colour of 16 bits", png(2, 16, 8, 8, colour)
    yield "PNG colour of 16 bits with a transparent one", png(2, 16, 8, 8, colour, struct.pack(">3H", 0, 2000, 4000))


def _shapes() -> Iterator[tuple[str, bytes]]:
    for size in ((1, 1), (1, 500), (500, 1), (3, 2), (8000, 2)):
        yield f"{size[0]} x {size[1]}", encoded("RGB", "PNG", size)
    yield "says 60,000 x 60,000", png(2, 8, 60_000, 60_000, b"\0" * 64)
    yield "says 2,147,483,647 wide", png(2, 8, 2**31 - 1, 1, b"\0" * 64)
    yield "says 0 wide", png(2, 8, 0, 5, b"")
    yield "unpacks to 100 times its size", png(0, 8, 2000, 500, b"\0" * (2001 * 500))


def _cut() -> Iterator[tuple[str, bytes]]:
    for kind in _BROKEN:
        whole = encoded("RGB", kind)
        for percent in (5, 50, 95):
            yield f"{kind} cut at {percent}%", whole[: len(whole) * percent // 100]


def _damaged() -> Iterator[tuple[str, bytes]]:
    draw = random.Random(0)
    for kind in _BROKEN:
        whole = encoded("RGB", kind)
        for number in range(2):
            data = bytearray(whole)
            for _ in range(20):
                data[draw.randrange(8, len(data))] = draw.randrange(256)
            yield f"{kind} damaged {number}", bytes(data)
    jpeg = encoded("RGB", "JPEG")
    yield "JPEG with bytes behind it", jpeg + b"\0" * 1000
    yield "JPEG behind other bytes", b"\0" * 10 + jpeg
    yield "JPEG of 200 scans", jpeg[:-2] + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" * 200 + b"\xff\xd9"


def _others() -> Iterator[tuple[str, bytes]]:
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    yield "EPS", eps
    yield "PDF", b"%PDF-1.4\n1 0 obj <<>> endobj\ntrailer <<>>\n%%EOF\n"
    yield "WMF", b"\xd7\xcd\xc6\x9a" + b"\0" * 60
    yield "SVG", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    yield "HTML", b"<html><body>404</body></html>"
    yield "text", b"not a picture\n"
    yield "zip", b"PK\x03\x04" + b"\0" * 100
    yield "gzip", b"\x1f\x8b\x08\0" + b"\0" * 40
    yield "HDF5", b"\x89HDF\r\n\x1a\n" + b"\0" * 100
    yield "GRIB", b"GRIB" + b"\0\0\0\1" + b"\0" * 40
    yield "MPEG", b"\0\0\x01\xb3" + b"\0" * 40
    yield "pickle", b"\x80\x04cos\nsystem\n(S'true'\ntR."
    yield "zeros", b"\0" * 5000
    yield "ones", b"\xff" * 5000
    yield "empty", b""
    yield "one byte", b"\x89"
    yield "a header alone", b"\x89PNG\r\n\x1a\n"


def _special(folder: Path) -> Iterator[tuple[str, Path]]:
    def at(name: str, make: Callable[[Path], object]) -> tuple[str, Path]:
        path = folder / f"{name.replace(' ', '-')}.jpg"
        make(path)
        return name, path

    yield at("FIFO", os.mkfifo)
    yield at("link to a FIFO", lambda path: path.symlink_to(folder / "FIFO.jpg"))
    yield at("folder", lambda path: path.mkdir())
    yield at("link to a device", lambda path: path.symlink_to("/dev/zero"))
    yield at("link to a terminal", lambda path: path.symlink_to("/dev/tty"))
    yield at("link to nowhere", lambda path: path.symlink_to(folder / "gone.jpg"))
    yield at("link to itself", lambda path: path.symlink_to(path))
    yield at("file of the kernel", lambda path: path.symlink_to("/proc/self/mem"))

    def listen(path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as server:
            here = Path.cwd()
            os.chdir(path.parent)  # an address may have 107 bytes
            try:
                server.bind(path.name)
            finally:
                os.chdir(here)

    yield at("socket", listen)


def make_kinds(folder: Path) -> dict[str, dict[str, Path]]:
    """Write every kind as a .jpg of its own below a folder; return the files by group and kind."""
    written = (_formats, _orientations, _colours, _shapes, _cut, _damaged, _others)
    found: dict[str, dict[str, Path]] = {}
    for group, make in zip(GROUPS, written, strict=False):
        found[group] = {}
        for kind, data in make():
            path = folder / f"{kind.replace(' ', '-').replace('%', '').replace(',', '')}.jpg"
            path.write_bytes(data)
            found[group][kind] = path
    found[GROUPS[-1]] = dict(_special(folder))
    return found
