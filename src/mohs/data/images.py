"""Picture files as arrays of one shape; pictures of more than 8 bits, and what is odd about their values."""

import contextlib
import io
import math
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, final, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from mohs.checks import require, wrong_choice, wrong_number, wrong_whole
from mohs.data.folder import picture_formats, why_not_read
from mohs.data.frames import frames_warning, num_frames
from mohs.data.names import find_as_written
from mohs.errors import DataWarning, InputError, Problem

__all__ = [
    "Decoded",
    "Depth",
    "ImagePolicy",
    "decode_all",
    "decode_bytes",
    "decode_image",
    "decode_images",
    "depth_of",
    "depth_warning",
    "picture_warnings",
    "prepare_image",
    "reduced_bits",
]


_FULL = 65_535
# Files of 16 bits often hold 10, 12 or 14: a quarter of the range at most.
_DARK = 4
# Hot pixels of a sensor are fewer than this share; a picture has more of its white.
_FEW = 1000


@final
@dataclass(frozen=True)
class Depth:
    """The values of a picture of more than 8 bits.

    `peak` is the largest, and `level` the largest but for one pixel in 1,000 and no less than one: a hot pixel does not
    change it. `is_colour` tells whether Pillow has cut the picture to 8 bits already, so that no white level can bring
    its values back: both are multiples of 256 then.
    """

    peak: float
    level: float
    is_colour: bool = False


def depth_of(values_HW: npt.NDArray[np.number]) -> Depth:
    """Return the largest values of a grey picture.

    >>> depth_of(np.array([[7, 65535], [9, 8]]))
    Depth(peak=65535.0, level=9.0, is_colour=False)
    """
    flat = values_HW.ravel()
    place = max(0, flat.size - 1 - max(1, flat.size // _FEW))
    return Depth(float(flat.max()), float(np.partition(flat, place)[place]))


def reduced_bits(values_HW: npt.NDArray[np.number], white_level: float | None) -> npt.NDArray[np.uint8]:
    """Return grey values of more than 8 bits as uint8 [H, W].

    With a white level they are ⌊255·v / white_level⌉, at most 255. Without one integers are of 16 bits: v // 256.
    Raises `ValueError` for floats without a white level, for NaN and values below 0, and for integers beyond 16 bits
    without a white level; where there are values, the message says the largest.

    >>> reduced_bits(np.array([[0, 2048, 4095]]), 4095).tolist(), reduced_bits(np.array([[0, 4095]]), None).tolist()
    ([[0, 128, 255]], [[0, 15]])
    """
    if white_level is None and values_HW.dtype.kind == "f":
        finite = values_HW[np.isfinite(values_HW)]
        largest = f", the largest here {_told(float(finite.max()))}" if finite.size else ""
        raise ValueError(
            f"floating-point pixels have no fixed range{largest}; save it with 8 or 16 bits, or set --white-level "
            "(data.white_level), such as 1 for pixels in [0, 1]"
        )
    low, high = values_HW.min(), values_HW.max()
    if not (low >= 0 and math.isfinite(high)):
        raise ValueError("pixels below 0, infinite or not a number; save it with 8 or 16 bits")
    if white_level is not None:
        return np.minimum(np.rint(values_HW.astype(np.float64) * (255 / white_level)), 255).astype(np.uint8)
    if high > _FULL:
        raise ValueError(
            f"32-bit integer pixels, the largest here {_told(float(high))}; save it with 8 or 16 bits, or set "
            "--white-level (data.white_level)"
        )
    return (values_HW.astype(np.int64) >> 8).astype(np.uint8)


def depth_warning(depths: Sequence[Depth | None], name_of: Callable[[int], str], white_level: float | None) -> str:
    """Return a line about pictures of more than 8 bits whose values are not spread as white says; "" if all is well.

    Files of 16 bits often hold 10, 12 or 14: then the largest value is a quarter of the range or less, and pictures
    come out nearly black. Without a white level such pictures are named, all or some; with one, those with values above
    it, and all if none comes near it. Pictures of nothing but 0 say nothing.

    A hot pixel hides nothing: if no picture has more than one pixel in 1,000 above a quarter of white, all of them are
    dark. Where others are bright, a dark picture with a few bright pixels is what it is, a night.

    Args:
        depths: of each picture; None for those of 8 bits.
        name_of: of a position, for an example.
        white_level: what white was taken for; None for 65,535.

    >>> depth_warning([Depth(4095.0, 4000.0), None], str, None).partition("; ")[2]
    'if it holds 12 bits, set --white-level 4095 (data.white_level)'
    """
    deep = {i: depth for i, depth in enumerate(depths) if depth is not None and depth.peak > 0}
    if not deep:
        return ""
    white = float(_FULL) if white_level is None else white_level
    above = [i for i, depth in deep.items() if white_level is not None and depth.level > white]
    # Without a white level every picture that is read has 16 bits; with one, it may have any number.
    kind = "16 bits" if white_level is None else "more than 8 bits"
    if above:
        top = max(_without_hot(deep[i], _DARK * deep[i].level) for i in above)
        return (
            f"{_of(len(above), len(deep), kind)} values above the white level {_told(white)}, up to {_told(top)} "
            f"(for example {name_of(above[0])}), which became white; set --white-level {top:.10g} or more "
            "(data.white_level)"
        )
    dark = [i for i, depth in deep.items() if _DARK * depth.level < white]
    if len(dark) < len(deep):
        dark = [i for i in dark if _DARK * deep[i].peak < white]
    if not dark or (white_level is not None and len(dark) < len(deep)):
        return ""
    is_hot = any(_DARK * deep[i].peak >= white for i in dark)
    top = max(_without_hot(deep[i], white / _DARK) for i in dark)
    num_bits = next((bits for bits in (10, 12, 14) if top < 2**bits), 16)
    one = len(dark) == 1
    seen = (
        f"{_of(len(dark), len(deep), kind)} no value above {_told(top)} of {_told(white)}"
        f"{', but for 1 pixel in 1,000 or fewer' if is_hot else ''} (for example {name_of(dark[0])}) "
        f"and {'comes' if one else 'come'} out nearly black; "
    )
    if any(deep[i].is_colour for i in dark):
        return f"{seen}Pillow reads colour of 16 bits as 8: save {'it' if one else 'them'} with 8 bits, white as 255"
    if white_level is not None:
        return f"{seen}set --white-level to the value of white (data.white_level)"
    holds = "it holds" if one else "they hold"
    if len(dark) < len(deep):
        return f"{seen}if {holds} {num_bits} bits, save all with one range, such as 8 bits"
    return f"{seen}if {holds} {num_bits} bits, set --white-level {2**num_bits - 1} (data.white_level)"


def _without_hot(depth: Depth, limit: float) -> float:
    """Return the largest value of a picture, its few brightest pixels left out if they reach a limit."""
    return depth.level if depth.peak >= limit else depth.peak


def _told(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"


def _of(num: int, num_all: int, kind: str) -> str:
    if num == num_all:
        return f"{num:,} picture{'' if num == 1 else 's'} of {kind} {'has' if num == 1 else 'have'}"
    return f"{num:,} of {num_all:,} pictures of {kind} {'has' if num == 1 else 'have'}"


Fit = Literal["pad", "stretch", "crop"]

# Pillow's own limit, kept here because its variable can be changed by any other library.
MAX_PIXELS = 89_478_485


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
        is_grey_or_rgb = self.channels in (1, 3) and not isinstance(self.channels, bool)
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

    EXIF orientation is applied, transparency is flattened on white, 16 bits become 8 (see `ImagePolicy.white_level`),
    an animation gives its first frame. Resizing is antialiased (Lanczos); a large JPEG is first reduced while it is
    decoded. Formats are those of `mohs.data.folder`.

    Warns (`DataWarning`) of 16 bits that use a quarter of their range at most, which come out nearly black, and of
    several frames or pages. Raises `InputError` if the file is missing, truncated, no picture, or has more than
    89,478,485 pixels.
    """
    picture = decode_images([path], policy)[0]
    if isinstance(picture, str):
        raise InputError(f"{str(path)!r}: {picture}; replace the file")
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


def _decode(path: str | Path | bytes, policy: ImagePolicy) -> Decoded:
    try:
        file = io.BytesIO(path) if isinstance(path, bytes) else path
        with Image.open(file, formats=picture_formats()[0]) as image:
            if image.width * image.height > MAX_PIXELS:
                return Decoded(None, f"too large ({image.width} x {image.height}; at most {MAX_PIXELS:,} pixels)")
            frames = num_frames(image, io.BytesIO(path) if isinstance(path, bytes) else path)
            return replace(_to_array(image, policy), num_frames=frames)
    except FileNotFoundError:
        return Decoded(None, "no such file" + _hint(str(path)))
    except (IsADirectoryError, PermissionError) as error:
        return Decoded(None, f"cannot be opened ({(error.strerror or '').lower()})")
    except UnidentifiedImageError:
        if not (len(path) if isinstance(path, bytes) else Path(path).stat().st_size):
            return Decoded(None, "empty file")
        why = "" if isinstance(path, bytes) else why_not_read(path)
        return Decoded(None, why or "not a picture of a known format")
    except Image.DecompressionBombError:
        return Decoded(None, f"too large (more than {MAX_PIXELS:,} pixels)")
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
    ImageOps.exif_transpose(image, in_place=True)
    depth = None
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image)
        image = Image.fromarray(reduced_bits(values, policy.white_level))
        depth = depth_of(values)
    elif cut_to_8_bits:
        depth = _colour_depth(image)
        if policy.white_level is not None:
            raise ValueError("white_level is of grey pictures, and colour of 16 bits is read as 8; save it with 8 bits")
    picture = _without_transparency(image).convert("L" if policy.channels == 1 else "RGB")
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
