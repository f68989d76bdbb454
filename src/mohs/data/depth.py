"""Pictures of more than 8 bits: how their values become 0 to 255, and what is odd about them."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["depth_warning", "reduced_bits"]

_FULL = 65_535
# Files of 16 bits often hold 10, 12 or 14: a quarter of the range at most.
_DARK = 4


def reduced_bits(values_HW: npt.NDArray[np.number], white_level: float | None) -> npt.NDArray[np.uint8]:
    """Return grey values of more than 8 bits as uint8 [H, W].

    With a white level they are ⌊255·v / white_level⌉, at most 255. Without one integers are of 16 bits: v // 256.
    Raises `ValueError` for floats without a white level, for NaN and values below 0, and for integers beyond 16 bits
    without a white level.

    >>> reduced_bits(np.array([[0, 2048, 4095]]), 4095).tolist(), reduced_bits(np.array([[0, 4095]]), None).tolist()
    ([[0, 128, 255]], [[0, 15]])
    """
    if white_level is None and values_HW.dtype.kind == "f":
        raise ValueError(
            "floating-point pixels have no fixed range; save it with 8 or 16 bits, or set data.white_level, "
            "such as 1 for pixels in [0, 1]"
        )
    low, high = values_HW.min(), values_HW.max()
    if not (low >= 0 and math.isfinite(high)):
        raise ValueError("pixels below 0, infinite or not a number; save it with 8 or 16 bits")
    if white_level is not None:
        return np.minimum(np.rint(values_HW.astype(np.float64) * (255 / white_level)), 255).astype(np.uint8)
    if high > _FULL:
        raise ValueError("32-bit integer pixels; save it with 8 or 16 bits, or set data.white_level")
    return (values_HW.astype(np.int64) >> 8).astype(np.uint8)


def depth_warning(
    peaks: Sequence[float | None], is_colour: Sequence[bool], name_of: Callable[[int], str], white_level: float | None
) -> str:
    """Return a line about pictures of more than 8 bits whose values are not spread as white says; "" if all is well.

    Files of 16 bits often hold 10, 12 or 14: then the largest value is a quarter of the range or less, and pictures
    come out nearly black. Without a white level such pictures are named, all or some; with one, those with values above
    it, and all if none comes near it. Pictures of nothing but 0 say nothing.

    Args:
        peaks: the largest value of each picture of more than 8 bits; None for others.
        is_colour: whether its colours were cut to 8 bits already, so that no white level can bring them back.
        name_of: of a position, for an example.
        white_level: what white was taken for; None for 65,535.

    >>> depth_warning([4095.0, None], [False, False], str, None).partition("; ")[2]
    'if it holds 12 bits, set data.white_level=4095'
    """
    deep = [i for i, peak in enumerate(peaks) if peak]
    if not deep:
        return ""
    largest = [float(peaks[i] or 0) for i in range(len(peaks))]
    white = float(_FULL) if white_level is None else white_level
    above = [i for i in deep if white_level is not None and largest[i] > white]
    if above:
        top = max(largest[i] for i in above)
        return (
            f"{_of(len(above), len(deep))} values above the white level {white:,g}, up to {top:,g} "
            f"(for example {name_of(above[0])}), which became white; set data.white_level={top:g} or more"
        )
    dark = [i for i in deep if _DARK * largest[i] < white]
    if not dark or (white_level is not None and len(dark) < len(deep)):
        return ""
    top = max(largest[i] for i in dark)
    num_bits = next((bits for bits in (10, 12, 14) if top < 2**bits), 16)
    one = len(dark) == 1
    seen = (
        f"{_of(len(dark), len(deep))} no value above {top:,g} of {white:,g} (for example {name_of(dark[0])}) "
        f"and {'comes' if one else 'come'} out nearly black; "
    )
    if any(is_colour[i] for i in dark):
        return f"{seen}Pillow reads colour of 16 bits as 8: save {'it' if one else 'them'} with 8 bits, white as 255"
    if white_level is not None:
        return f"{seen}set data.white_level to the value of white"
    holds = "it holds" if one else "they hold"
    if len(dark) < len(deep):
        return f"{seen}if {holds} {num_bits} bits, save all with one range, such as 8 bits"
    return f"{seen}if {holds} {num_bits} bits, set data.white_level={2**num_bits - 1}"


def _of(num: int, num_all: int) -> str:
    if num == num_all:
        return f"{num:,} picture{'' if num == 1 else 's'} of 16 bits {'has' if num == 1 else 'have'}"
    return f"{num:,} of {num_all:,} pictures of 16 bits {'has' if num == 1 else 'have'}"
