"""Pictures that show too little to be told apart: blank, blurred, or tiny before they were enlarged."""

from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from mohs.data.stored_pictures import Pictures, StoredPictures
from mohs.errors import InputError
from mohs.evaluation.checked import Float64

__all__ = ["PictureInformation", "picture_information"]

BLANK_STD = 3.0
BLURRED_SHARE = 0.1
TINY_SHARE = 0.25


@final
@dataclass(frozen=True, eq=False)
class PictureInformation:
    """How much each picture shows.

    Attributes:
        sharpness_N: energy of the Laplacian over the variance, both of grey values: 0 for a picture without any
            detail, about 20 for noise; it does not depend on contrast.
        why_N: "blank", "blurred", "tiny" or "" (nothing wrong), str [N].
    """

    sharpness_N: Float64
    why_N: npt.NDArray[np.str_]


def picture_information(pictures_NHWC: Pictures, *, longer_side_N: npt.ArrayLike | None = None) -> PictureInformation:
    """Return how much each picture shows, and which show too little.

    The first of these that holds: "blank" if the standard deviation of the grey values is under 3 of 255; "tiny" if the
    file's longer side has less than a quarter of the pixels of the prepared picture's, so that it was enlarged more
    than four times; "blurred" if its sharpness is under a tenth of the median of all pictures. The Laplacian is the
    mean of the four neighbours minus the pixel, times 4, without the border (Pech-Pacheco et al. 2000).

    Args:
        pictures_NHWC: uint8 [N, H, W, C], H and W at least 3.
        longer_side_N: pixels of the longer side of each file, 0 if unknown; None: "tiny" is not looked for.

    >>> pictures = np.zeros((2, 8, 8, 1), np.uint8)
    >>> pictures[1, 2:4, 3:6] = 255
    >>> picture_information(pictures).why_N.tolist()
    ['blank', '']
    """
    is_array = isinstance(pictures_NHWC, np.ndarray | StoredPictures)
    pictures = pictures_NHWC if is_array else np.asarray(pictures_NHWC)
    if len(pictures.shape) != 4 or pictures.dtype != np.uint8 or min(pictures.shape[1:3]) < 3:
        raise InputError(f"pictures_NHWC: {pictures.dtype}{pictures.shape} is not uint8 [N, H, W, C], 3 x 3 or larger")
    num_pictures = len(pictures)
    std_N, sharpness_N = np.zeros(num_pictures), np.zeros(num_pictures)
    for i, picture in enumerate(pictures):
        grey_HW = picture.mean(axis=-1, dtype=np.float32)
        middle = grey_HW[1:-1, 1:-1]
        around = grey_HW[:-2, 1:-1] + grey_HW[2:, 1:-1] + grey_HW[1:-1, :-2] + grey_HW[1:-1, 2:]
        variance = float(grey_HW.var(dtype=np.float64))
        std_N[i] = variance**0.5
        sharpness_N[i] = float(np.square(around - 4 * middle).mean(dtype=np.float64)) / variance if variance else 0.0
    why_N = np.full(num_pictures, "", dtype="<U7")
    blank_N = std_N < BLANK_STD
    if not blank_N.all():
        why_N[sharpness_N < BLURRED_SHARE * np.median(sharpness_N[~blank_N])] = "blurred"
    if longer_side_N is not None:
        side_N = np.asarray(longer_side_N)
        why_N[(side_N > 0) & (side_N < TINY_SHARE * max(pictures.shape[1:3]))] = "tiny"
    why_N[blank_N] = "blank"
    return PictureInformation(sharpness_N, why_N)
