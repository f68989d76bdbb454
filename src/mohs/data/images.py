"""Picture files as arrays of one shape; pictures of more than 8 bits, and what is odd about their values."""

import contextlib
import io
import os
import stat
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, final, get_args

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mohs.checks import is_whole, require, wrong_choice, wrong_number, wrong_whole
from mohs.data.colour import as_srgb
from mohs.data.depth import Depth, depth_of, depth_warning, reduced_bits
from mohs.data.folder import picture_formats, why_not_read
from mohs.data.frames import frames_warning, num_frames
from mohs.data.names import find_as_written
from mohs.errors import DataWarning, InputError, Problem

__all__ = [
    "Decoded",
    "ImagePolicy",
    "decode_all",
    "decode_bytes",
    "decode_image",
    "decode_images",
    "decode_untrusted",
    "open_picture",
    "picture_warnings",
    "prepare_image",
]

Fit = Literal["pad", "stretch", "crop"]

# Pillow's own limit, kept here because its variable can be changed by any other library.
MAX_PIXELS = 89_478_485
# Encoders make about ten.
_MAX_SCANS = 100
# Tags of TIFF.
_PHOTOMETRIC, _BITS_PER_SAMPLE = 262, 258


@final
@dataclass(frozen=True)
class ImagePolicy:
    """How pictures become arrays of one shape, uint8 [size, size, channels].

    `size` is in pixels, 8 to 2,048. `channels` is 3 (RGB) or 1 (grey, ITU-R 601 luma). `fit` says what happens to a
    picture that is not square: `"pad"` keeps it whole, centred, and fills the rest with the median colour of its
    border; `"crop"` keeps the centre; `"stretch"` distorts it. `white_level` is the value of white in grey pictures of
    more than 8 bits, whose values v become ⌊255·v / white_level⌉, at most 255: 4095 for 12 bits in files of 16, 1 for
    floats in [0, 1]; None: 65,535, by v // 256, and floats are refused.

    >>> ImagePolicy(size=0)
    Traceback (most recent call last):
    mohs.errors.InputError: size: 0 is not a whole number in [8, 2048]; use for example 64 (pixels)
    """

    size: int = 64
    channels: int = 3
    fit: Fit = "pad"
    white_level: float | None = None

    def __post_init__(self) -> None:
        is_grey_or_rgb = is_whole(self.channels) and self.channels in (1, 3)
        require(
            wrong_whole("size", self.size, at_least=8, at_most=2048, example="64 (pixels)"),
            None if is_grey_or_rgb else Problem("channels", f"{self.channels!r} is not 1 (grey) or 3 (RGB)", "use 3"),
            wrong_choice("fit", self.fit, get_args(Fit)),
            None if self.white_level is None else wrong_number("white_level", self.white_level, above=0, example=4095),
        )


@final
@dataclass(frozen=True, eq=False)
class Decoded:
    """A picture uint8 [H, W, C], or None and the `problem`; `depth` of one of more than 8 bits; how many frames."""

    pixels_HWC: np.ndarray | None
    problem: str = ""
    depth: Depth | None = None
    num_frames: int = 1


def decode_image(path: str | Path, policy: ImagePolicy) -> np.ndarray:
    """Return the picture in `path` as uint8 [H, W, C], H = W = `policy.size`, C = `policy.channels`.

    EXIF orientation is applied, colours become sRGB if a profile says that they are not (`mohs.data.colour`),
    transparency is flattened on white, 16 bits become 8 (see `ImagePolicy.white_level`), an animation gives its first
    frame. Resizing is antialiased (Lanczos); a large JPEG is first reduced while it is decoded. Formats are those of
    `mohs.data.folder`.

    Warns (`DataWarning`) of 16 bits that use a quarter of their range at most, which come out nearly black, and of
    several frames or pages. Raises `InputError` if the file is missing, no regular file, truncated, no picture, or has
    more than 89,478,485 pixels.
    """
    picture = decode_images([path], policy)[0]
    if isinstance(picture, str):
        raise InputError(Problem(f"{str(path)!r}", str(picture), "replace the file"))
    return picture


def decode_bytes(data: bytes, policy: ImagePolicy) -> np.ndarray:
    """Return the picture in the bytes of a file, as `decode_image` does."""
    with _quiet:
        decoded = _decode(data, policy)
    for line in picture_warnings([decoded], lambda _: "the picture", policy):
        warnings.warn(line, DataWarning, stacklevel=2)
    if decoded.pixels_HWC is None:
        raise InputError(f"{decoded.problem}; send another picture")
    return decoded.pixels_HWC


def prepare_image(image: Image.Image, policy: ImagePolicy) -> np.ndarray:
    """Return a Pillow image as `decode_image` returns a file; raise `InputError` if it cannot be prepared."""
    try:
        pixels_HWC = _to_array(image, policy).pixels_HWC
    except (ValueError, OSError) as error:
        raise InputError(f"cannot be prepared ({error}); give another picture") from None
    assert pixels_HWC is not None
    return pixels_HWC


def decode_images(
    paths: Sequence[str | Path], policy: ImagePolicy, *, pool: ThreadPoolExecutor | None = None
) -> list[np.ndarray | str]:
    """Return, for each path, the picture as in `decode_image`, or a string that says why it cannot be read."""
    decoded = decode_all(paths, policy, pool=pool)
    for line in picture_warnings(decoded, lambda i: repr(str(paths[i])), policy):
        warnings.warn(line, DataWarning, stacklevel=3)
    return [picture.problem if picture.pixels_HWC is None else picture.pixels_HWC for picture in decoded]


def picture_warnings(decoded: Sequence[Decoded], name_of: Callable[[int], str], policy: ImagePolicy) -> list[str]:
    """Return a line for each thing to look at: pictures of more than 8 bits, and of several frames or pages.

    `name_of` gives the name of a picture by its position. The pixels are not looked at, and may be left out.
    """
    depths, frames = [picture.depth for picture in decoded], [picture.num_frames for picture in decoded]
    lines = depth_warning(depths, name_of, policy.white_level), frames_warning(frames, name_of)
    return [line for line in lines if line]


def decode_all(
    paths: Sequence[str | Path], policy: ImagePolicy, *, pool: ThreadPoolExecutor | None = None
) -> list[Decoded]:
    """Return what became of each path; warns of nothing."""
    with _quiet:
        if pool is None:
            return [_decode(path, policy) for path in paths]
        return list(pool.map(_decode, paths, [policy] * len(paths)))


def decode_untrusted(data: bytes, policy: ImagePolicy, max_pixels: int) -> Decoded:
    """Return what became of the bytes of a file that anybody may have sent; warns of nothing.

    Frames are not counted: an animation can take minutes for it. A JPEG of very many scans is refused for the same
    reason: each of them goes over the whole picture.
    """
    # In the data of a scan 0xff is followed by 0, so this is found as a marker only.
    if data.startswith(b"\xff\xd8") and data.count(b"\xff\xda") > _MAX_SCANS:
        return Decoded(None, f"has more than {_MAX_SCANS} scans")
    with _quiet:
        return _decode(data, policy, max_pixels, count_frames=False)


@final
class _Quiet:
    """Keeps Pillow's warnings back while any thread is decoding.

    `warnings.catch_warnings` changes the state of the process, so that two threads which leave it in the wrong order
    would leave the filter behind; here the first one in sets it and the last one out takes it away.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_inside = 0
        self._filters = contextlib.ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if self._num_inside == 0:
                self._filters.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
            self._num_inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._num_inside -= 1
            if self._num_inside == 0:
                self._filters.close()


_quiet = _Quiet()


@contextlib.contextmanager
def open_picture(source: str | Path | bytes) -> Iterator[Image.Image]:
    """Open a picture file, or the bytes of one: the only place where Pillow is given either.

    Only formats of `mohs.data.folder.picture_formats` are tried. Only regular files are opened: a FIFO or device would
    be waited for without end. Raises `InputError` for another kind of file and an empty one, and what Pillow and the
    system raise.
    """
    if isinstance(source, bytes):
        if not source:
            raise InputError("empty file")
        with Image.open(io.BytesIO(source), formats=picture_formats()[0]) as image:
            yield image
        return
    _require_regular(os.stat(source))  # noqa: PTH116 - a Path costs ten times as much, for every picture
    # Without waiting, and looked at again: what was a file may be a FIFO by now.
    handle = os.open(source, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as file:
        _require_regular(os.fstat(handle))
        with Image.open(file, formats=picture_formats()[0]) as image:
            yield image


def _require_regular(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise InputError("cannot be opened (is a directory)")
    if not stat.S_ISREG(status.st_mode):
        kinds = ((stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"))
        raise InputError(
            f"is {next((kind for is_kind, kind in kinds if is_kind(status.st_mode)), 'a device')}, no file"
        )
    if not status.st_size:
        raise InputError("empty file")


def _decode(
    path: str | Path | bytes, policy: ImagePolicy, max_pixels: int | None = None, *, count_frames: bool = True
) -> Decoded:
    max_pixels = MAX_PIXELS if max_pixels is None else max_pixels
    try:
        with open_picture(path) as image:
            if image.width * image.height > max_pixels:
                return Decoded(None, f"too large ({image.width} x {image.height}; at most {max_pixels:,} pixels)")
            frames = num_frames(image, lambda: open_picture(path)) if count_frames else 1
            return replace(_to_array(image, policy), num_frames=frames)
    except InputError as error:
        return Decoded(None, str(error))
    except FileNotFoundError:
        if not isinstance(path, bytes) and os.path.islink(path):  # noqa: PTH114
            return Decoded(None, f"no such file: a link that leads nowhere ({os.readlink(path)!r})")  # noqa: PTH115
        return Decoded(None, "no such file" + _hint(str(path)))
    except (IsADirectoryError, PermissionError) as error:
        return Decoded(None, f"cannot be opened ({(error.strerror or '').lower()})")
    except UnidentifiedImageError:
        why = "" if isinstance(path, bytes) else why_not_read(path)
        return Decoded(None, why or "not a picture of a known format")
    except Image.DecompressionBombError:
        return Decoded(None, f"too large (more than {max_pixels:,} pixels)")
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise almost anything on a broken file.
        reason = "truncated file" if "truncated" in str(error).lower() else str(error) or type(error).__name__
        return Decoded(None, f"cannot be decoded ({reason})")


def _hint(path: str | Path) -> str:
    if "\\" in str(path):
        return "; write / rather than \\ in paths"
    alike = find_as_written(Path(path))
    return f"; there is {', '.join(repr(str(each)) for each in alike[:2])}" if alike else ""


def _to_array(image: Image.Image, policy: ImagePolicy) -> Decoded:
    size = policy.size
    cut_to_8_bits = any(";16" in str(part.args) or "16" in part.codec_name for part in getattr(image, "tile", ()))
    if policy.fit == "pad":
        # The longer side is what counts; draft() looks at both.
        shrink = max(image.size) / (2 * size)
        image.draft(None, (max(1, int(image.width / shrink)), max(1, int(image.height / shrink))))
    else:
        image.draft(None, (2 * size, 2 * size))
    image.load()
    inverted_from = _white_is_zero(image)
    ImageOps.exif_transpose(image, in_place=True)
    depth = None
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values, transparent = np.asarray(image), image.info.get("transparency")
        if inverted_from and values.dtype.kind in "iu":
            values = np.maximum((policy.white_level or inverted_from) - values.astype(np.int64), 0)
        pixels_HW, depth = reduced_bits(values, policy.white_level), depth_of(values)
        if isinstance(transparent, int):
            pixels_HW = np.where(values == transparent, np.uint8(255), pixels_HW)
        image = Image.fromarray(pixels_HW)
    elif cut_to_8_bits:
        depth = _colour_depth(image)
        if policy.white_level is not None:
            raise ValueError("white_level is of grey pictures, and colour of 16 bits is read as 8; save it with 8 bits")
        transparent = image.info.get("transparency")
        if isinstance(transparent, tuple):  # given in 16 bits
            image.info["transparency"] = tuple(value >> 8 for value in transparent)
    picture = _without_transparency(as_srgb(image)).convert("L" if policy.channels == 1 else "RGB")
    if policy.fit == "stretch":
        picture = picture.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=3.0)
    elif policy.fit == "crop":
        picture = ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS)
    else:
        scale = size / max(picture.size)
        shape = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        picture = picture.resize(shape, Image.Resampling.LANCZOS, reducing_gap=3.0)
    pixels_HWC = np.asarray(picture).reshape(picture.height, picture.width, policy.channels)
    if pixels_HWC.shape[:2] != (size, size):
        pixels_HWC = _pad(pixels_HWC, size)
    return Decoded(pixels_HWC, depth=depth)


def _white_is_zero(image: Image.Image) -> int:
    """Return the largest value of a grey TIFF of more than 8 bits whose white is 0; 0 for others."""
    tags = getattr(image, "tag_v2", {})
    if tags.get(_PHOTOMETRIC) != 0 or not (image.mode == "I" or image.mode.startswith("I;16")):
        return 0
    bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]
    return int(2**bits) - 1


def _colour_depth(image: Image.Image) -> Depth:
    """Return 256 times the largest values of the channels that are colours."""
    bands = zip(image.getbands(), image.split(), strict=True)
    found = [depth_of(np.asarray(band)) for name, band in bands if name != "A"]
    peak, level = max(each.peak for each in found), max(each.level for each in found)
    return Depth(256 * peak, 256 * level, is_colour=image.mode != "L")


def _without_transparency(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    colours = image.convert("RGBA")
    white = Image.new("RGBA", colours.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, colours)


def _pad(pixels_HWC: np.ndarray, size: int) -> np.ndarray:
    height, width, channels = pixels_HWC.shape
    border = [pixels_HWC[0], pixels_HWC[-1], pixels_HWC[:, 0], pixels_HWC[:, -1]]
    colour = np.median(np.concatenate(border), axis=0).astype(np.uint8)
    padded = np.empty((size, size, channels), np.uint8)
    padded[:] = colour
    top, left = (size - height) // 2, (size - width) // 2
    padded[top : top + height, left : left + width] = pixels_HWC
    return padded
