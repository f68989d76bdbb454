"""A picture in any form that people have one in, as the array that a network takes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mohs.checks import plain_array, require
from mohs.data.images import ImagePolicy, decode_bytes, decode_image, prepare_image
from mohs.errors import InputError

__all__ = ["prepare_pictures"]


def prepare_pictures(pictures: Sequence[Any], policy: ImagePolicy, *, first: int = 0) -> NDArray[np.uint8]:
    """Return pictures as uint8 [N, H, W, C], prepared as `policy` says.

    Each is a file name, the bytes of a file, an open binary file, a Pillow image, or an array or tensor of uint8:
    [H, W], [H, W, C] or, as torch has them, [C, H, W], with C of 1, 3 or 4.

    Raises `InputError` that says which of them are bad, and why: a file by its name, others by their number, counted
    from `first`.

    >>> prepare_pictures([np.zeros((40, 30, 3), dtype=np.uint8)], ImagePolicy(size=16)).shape
    (1, 16, 16, 3)
    """
    prepared = np.empty((len(pictures), policy.size, policy.size, policy.channels), dtype=np.uint8)
    problems: list[str] = []
    for i, picture in enumerate(pictures):
        try:
            prepared[i] = _prepared(picture, policy)
        except InputError as error:
            named = isinstance(picture, str | Path)
            problems += error.problems if named else [f"pictures[{first + i}]: {line}" for line in error.problems]
    require(*problems)
    return prepared


def _prepared(picture: Any, policy: ImagePolicy) -> NDArray[np.uint8]:
    if isinstance(picture, str | Path):
        return decode_image(picture, policy)
    if hasattr(picture, "read"):
        picture = picture.read()
    if isinstance(picture, bytes | bytearray | memoryview):
        return decode_bytes(bytes(picture), policy)
    if isinstance(picture, Image.Image):
        return prepare_image(picture.copy(), policy)
    if hasattr(picture, "detach"):
        picture = plain_array("picture", picture)
    if isinstance(picture, np.ndarray):
        return prepare_image(_as_image(picture), policy)
    raise InputError(
        f"{type(picture).__name__} is no picture; give a file name, bytes, an open file, a Pillow image or an array"
    )


def _as_image(array: NDArray[Any]) -> Image.Image:
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    fits = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if array.dtype != np.uint8 or not fits or 0 in array.shape:
        raise InputError(f"{array.dtype}{array.shape} is no picture; give uint8 [H, W], [H, W, C] or [C, H, W]")
    return Image.fromarray(np.ascontiguousarray(array))
