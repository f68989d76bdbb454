"""Pictures of more than 8 bits: how their values become 0 to 255, and what is odd about them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

__all__ = ["Depth", "depth_of", "depth_warning", "reduced_bits"]

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
