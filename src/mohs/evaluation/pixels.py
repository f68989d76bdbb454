"""The baseline without a model: small grey pictures as embeddings."""

from typing import Any

import numpy as np
import numpy.typing as npt

from mohs.checks import plain_array
from mohs.data.stored_pictures import Pictures, StoredPictures
from mohs.errors import InputError
from mohs.evaluation.checked import Float32, Float64

__all__ = ["pixel_embeddings"]

# ITU-R BT.601 luma, as in Pillow's "L".
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def pixel_embeddings(pictures_NHWC: Pictures, size: int = 16) -> Float32:
    """Return float32 [N, size²]: the pictures averaged down to size × size grey, mean removed, L2-normalised.

    Two pictures are as close as their correlation is high: ‖a − b‖² = 2 − 2·corr(a, b), so brightness and contrast do
    not count. A blank picture, which has no direction, gets the same fixed unit vector (all components equal,
    1/size) as every other blank one; it is orthogonal to all pictures that are not blank. A model that does not beat
    this baseline has learned nothing about its classes.

    Args:
        pictures_NHWC: uint8 [N, H, W, C] with C 1 (grey) or 3 (RGB), or [N, H, W] (grey).
        size: rows and columns of the small picture, 2 up to the smaller of H and W. Cells are as even as whole pixels
            allow: row i of them holds the rows from ⌊i·H/size⌋ up to ⌊(i+1)·H/size⌋ of the picture.

    Raises:
        InputError: another type or shape, or a size out of range.

    >>> pictures = np.zeros((2, 32, 32, 1), dtype=np.uint8)
    >>> pictures[0, :16] = 255
    >>> pixel_embeddings(pictures, size=2).tolist()
    [[0.5, 0.5, -0.5, -0.5], [0.5, 0.5, 0.5, 0.5]]
    """
    # Of pictures that are read as they are asked for, a few are in memory at a time.
    is_stored = isinstance(pictures_NHWC, StoredPictures)
    pictures: Any = pictures_NHWC if is_stored else plain_array("pictures_NHWC", pictures_NHWC)
    if len(pictures.shape) == 3:
        pictures = pictures[..., None]
    if (
        len(pictures.shape) != 4
        or pictures.dtype != np.uint8
        or pictures.shape[-1] not in (1, 3)
        or 0 in pictures.shape
    ):
        raise InputError(
            f"pictures_NHWC: shape {pictures.shape} and type {pictures.dtype}; "
            "give uint8 pictures [N, H, W, C] with 1 or 3 channels"
        )
    height, width = pictures.shape[1:3]
    if not 2 <= size <= min(height, width):
        raise InputError(
            f"size: {size!r} is not in [2, {min(height, width)}], the size of the pictures; use a smaller one"
        )
    small_NSS = np.stack([_shrunk(picture, size) for picture in pictures])
    x_ND = small_NSS.reshape(len(pictures), size * size).astype(np.float64)
    x_ND -= x_ND.mean(axis=1, keepdims=True)
    norm_N = np.linalg.norm(x_ND, axis=1)
    # A blank picture keeps rounding noise of about 1e-13; the faintest real one (one pixel, one step) has far more.
    blank_N = norm_N < 1e-6
    x_ND[blank_N] = 1.0 / size
    x_ND[~blank_N] /= norm_N[~blank_N, None]
    return x_ND.astype(np.float32)


def _shrunk(picture_HWC: npt.NDArray[np.uint8], size: int) -> Float64:
    height, width, channels = picture_HWC.shape
    grey_HW = picture_HWC[..., 0].astype(np.float64) if channels == 1 else picture_HWC @ _LUMA.astype(np.float64)
    row_edges = np.arange(size + 1) * height // size
    column_edges = np.arange(size + 1) * width // size
    sums = np.add.reduceat(np.add.reduceat(grey_HW, row_edges[:-1], axis=0), column_edges[:-1], axis=1)
    result: Float64 = sums / np.outer(np.diff(row_edges), np.diff(column_edges))
    return result
