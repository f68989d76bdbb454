"""The same picture twice: equal pixels, or equal but for a small shift, change of size, brightness and contrast."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mohs.errors import InputError

__all__ = ["picture_difference", "picture_numbers", "small_pictures"]

SMALL = 32
"""Side, in pixels, at which pictures are compared."""

_MAX_SHIFT = 2
_NUM_STEPS = 3
_PAIRS_AT_ONCE = 1024

_Pictures: TypeAlias = npt.NDArray[np.float32]


def picture_numbers(pictures_NHWC: npt.NDArray[np.uint8] | Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.int64]:
    """Return a number for each picture, int64 [N]: the same for equal pixels (BLAKE2b-128), in order of appearance.

    >>> picture_numbers(np.uint8([[[[1]]], [[[2]]], [[[1]]]])).tolist()
    [0, 1, 0]
    """
    seen: dict[bytes, int] = {}
    numbers = np.empty(len(pictures_NHWC), dtype=np.int64)
    for i, picture in enumerate(pictures_NHWC):
        digest = blake2b(np.ascontiguousarray(picture).data, digest_size=16).digest()
        numbers[i] = seen.setdefault(digest, len(seen))
    return numbers


def small_pictures(pictures_NHWC: npt.NDArray[np.uint8]) -> _Pictures:
    """Return pictures averaged down to at most 32 × 32, float32 [N, C, h, w] in [0, 1]; smaller ones keep their size.

    Row i of the small picture holds the rows from ⌊i·H/h⌋ up to ⌊(i+1)·H/h⌋ of the picture.
    """
    pictures = np.asarray(pictures_NHWC)
    if pictures.ndim != 4 or pictures.dtype != np.uint8 or 0 in pictures.shape[1:]:
        raise InputError(
            f"pictures_NHWC: {pictures.dtype}{pictures.shape} is not uint8 [N, H, W, C]; give such pictures"
        )
    small: npt.NDArray[np.floating[Any]] = pictures.transpose(0, 3, 1, 2).astype(np.float32) / 255
    for axis in (2, 3):
        size = small.shape[axis]
        if size > SMALL:
            edges = np.arange(SMALL + 1) * size // SMALL
            shape = [1, 1, 1, 1]
            shape[axis] = SMALL
            small = np.add.reduceat(small, edges[:-1], axis=axis) / np.diff(edges).reshape(shape)
    return small.astype(np.float32)


def picture_difference(
    pictures_NHWC: npt.NDArray[np.uint8], first_P: npt.NDArray[np.int64], second_P: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Return how different the pictures of each pair are after the best small change of the second, float64 [P].

    Both are averaged down to 32 × 32 and over 3 × 3 pixels. The second is shifted by whole pixels (up to 2, 6% of the
    side), then shift, size, contrast and brightness are fitted by three Gauss–Newton steps (shift to 3 pixels, size to
    10%). What then remains is divided by the contrast of the first: its root mean square over the standard deviation.
    0 is the same picture; about 1 means that the second tells nothing about the first, and a picture of one colour has
    1 against any other. Copies that were moved, rescaled or compressed a little stay under 0.15, and so do drawings
    that differ in a fine stroke: a small difference is a reason to look, not a proof.

    >>> picture = np.zeros((12, 12, 1), np.uint8)
    >>> picture[3:8, 4:7] = 200
    >>> pictures = np.stack([picture, np.roll(picture, 1, axis=1) // 2, np.roll(picture, 3, axis=0).swapaxes(0, 1)])
    >>> picture_difference(pictures, np.array([0, 0]), np.array([1, 2])).round(2).tolist()
    [0.0, 0.56]
    """
    difference = np.empty(len(first_P))
    for start in range(0, len(first_P), _PAIRS_AT_ONCE):
        block = slice(start, start + _PAIRS_AT_ONCE)
        items, place = np.unique(np.concatenate([first_P[block], second_P[block]]), return_inverse=True)
        small = _blurred(small_pictures(np.asarray(pictures_NHWC[items])))
        one, other = small[place[: len(place) // 2]], small[place[len(place) // 2 :]]
        difference[block] = _difference(one, other)
    return difference


def _difference(one: _Pictures, other: _Pictures) -> npt.NDArray[np.float64]:
    contrast = one.std(axis=(1, 2, 3))
    dy, dx = _best_shift(one, other)
    scale = np.ones(len(one), dtype=np.float32)
    height, width = one.shape[2:]
    y = (np.arange(height, dtype=np.float32) - (height - 1) / 2)[:, None]
    x = (np.arange(width, dtype=np.float32) - (width - 1) / 2)[None, :]
    target = one.reshape(len(one), -1)
    error = target
    for step in range(_NUM_STEPS + 1):
        moved = _moved(other, dy, dx, scale)
        slope_y, slope_x = np.gradient(moved, axis=(2, 3)) if min(height, width) > 1 else (0 * moved, 0 * moved)
        columns = [-slope_y, -slope_x, -(slope_y * y + slope_x * x), moved, np.ones_like(moved)]
        a = np.stack(columns, axis=-1).reshape(len(one), -1, 5)
        if step == _NUM_STEPS:
            a = a[..., 3:]
        normal = np.matmul(a.transpose(0, 2, 1), a).astype(np.float64)
        # A little ridge: a picture of one colour has no slopes, and its brightness and contrast are one.
        normal += 1e-6 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(a.shape[-1])
        right = np.matmul(a.transpose(0, 2, 1), target[..., None]).astype(np.float64)
        solved = np.linalg.solve(normal, right)[..., 0].astype(np.float32)
        error = target - np.matmul(a, solved[..., None])[..., 0]
        if step < _NUM_STEPS:
            gain = np.where(np.abs(solved[:, 3]) < 0.1, 1.0, solved[:, 3])
            dy = np.clip(dy + np.clip(solved[:, 0] / gain, -1, 1), -3, 3)
            dx = np.clip(dx + np.clip(solved[:, 1] / gain, -1, 1), -3, 3)
            scale = np.clip(scale + np.clip(solved[:, 2] / gain, -0.05, 0.05), 0.9, 1.1)
    left = np.sqrt(np.mean(np.square(error, dtype=np.float64), axis=1))
    # A step of grey is 0.004: fainter pictures have no contrast to speak of.
    flat = (contrast < 1e-3) | (other.std(axis=(1, 2, 3)) < 1e-3)
    return np.where(flat, 1.0, left / np.maximum(contrast, 1e-3))


def _best_shift(one: _Pictures, other: _Pictures) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the whole shift (rows, columns) of `other` that brings it nearest to `one`, over the part they share."""
    best = np.full(len(one), np.inf, dtype=np.float32)
    shift = np.zeros((2, len(one)), dtype=np.float32)
    shifts = range(-_MAX_SHIFT, _MAX_SHIFT + 1)
    # The smallest shift first, so that ties do not move a picture.
    for down, right in sorted(
        ((v, u) for v in shifts for u in shifts), key=lambda pair: (abs(pair[0]) + abs(pair[1]), pair)
    ):
        rows, other_rows = _overlap(down, one.shape[2])
        columns, other_columns = _overlap(right, one.shape[3])
        apart = one[:, :, rows, columns] - other[:, :, other_rows, other_columns]
        error = np.einsum("pchw,pchw->p", apart, apart) / apart[0].size
        better = error < best
        best[better] = error[better]
        shift[:, better] = [[down], [right]]
    return shift[0], shift[1]


def _overlap(shift: int, size: int) -> tuple[slice, slice]:
    return slice(max(0, shift), size + min(0, shift)), slice(max(0, -shift), size + min(0, -shift))


def _moved(
    pictures: _Pictures, dy: npt.NDArray[np.float32], dx: npt.NDArray[np.float32], scale: npt.NDArray[np.float32]
) -> _Pictures:
    """Return pictures scaled about their centre, then shifted; bilinear, the border goes on for ever."""
    moved = pictures
    for axis, shift in ((2, dy), (3, dx)):
        size = pictures.shape[axis]
        centre = (size - 1) / 2
        wanted = (np.arange(size, dtype=np.float32) - centre - shift[:, None]) / scale[:, None] + centre
        wanted = np.clip(wanted, 0, size - 1)
        low = np.minimum(wanted.astype(np.int64), max(0, size - 2))
        shape = (len(pictures), 1, size, 1) if axis == 2 else (len(pictures), 1, 1, size)
        part = (wanted - low).astype(np.float32).reshape(shape)
        before = np.take_along_axis(moved, low.reshape(shape), axis=axis)
        after = np.take_along_axis(moved, np.minimum(low + 1, size - 1).reshape(shape), axis=axis)
        moved = before + part * (after - before)
    return moved


def _blurred(pictures: _Pictures) -> _Pictures:
    """Return the mean of each 3 × 3 pixels, the border repeated."""
    padded = np.pad(pictures, [(0, 0), (0, 0), (1, 1), (1, 1)], mode="edge")
    rows = padded[:, :, :-2] + padded[:, :, 1:-1] + padded[:, :, 2:]
    blurred: _Pictures = (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]) / np.float32(9)
    return blurred
