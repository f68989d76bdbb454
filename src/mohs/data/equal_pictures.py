"""The same picture twice: equal pixels, or equal but for a small shift, change of size, brightness and contrast."""

import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeAlias, final

import numpy as np
import numpy.typing as npt

from mohs.artefacts import sha256_file
from mohs.data.stored_pictures import Pictures
from mohs.errors import InputError, Problem
from mohs.neighbour_search import nearest_rows
from mohs.randomness import generator

__all__ = [
    "NearDuplicates",
    "file_numbers",
    "find_near_duplicates",
    "picture_difference",
    "picture_digest",
    "picture_numbers",
    "small_pictures",
]


SMALL = 32
"""Side, in pixels, at which pictures are compared."""

_MAX_SHIFT = 2
_NUM_STEPS = 3
_PAIRS_AT_ONCE = 1024

_Pictures: TypeAlias = npt.NDArray[np.float32]


def picture_digest(picture_HWC: npt.NDArray[np.uint8], num_bytes: int = 16) -> bytes:
    """Return the BLAKE2b digest of a picture's pixels: the same for equal pixels, whatever their place in memory.

    >>> picture_digest(np.zeros((2, 2, 1), np.uint8), 4).hex()
    'bdc5da67'
    """
    return blake2b(np.ascontiguousarray(picture_HWC).data, digest_size=num_bytes).digest()


def picture_numbers(pictures_NHWC: Pictures | Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.int64]:
    """Return a number for each picture, int64 [N]: the same for equal pixels, in order of appearance.

    >>> picture_numbers(np.uint8([[[[1]]], [[[2]]], [[[1]]]])).tolist()
    [0, 1, 0]
    """
    seen: dict[bytes, int] = {}
    numbers = (seen.setdefault(picture_digest(picture), len(seen)) for picture in pictures_NHWC)
    return np.fromiter(numbers, dtype=np.int64, count=len(pictures_NHWC))


def file_numbers(paths: Sequence[Path]) -> npt.NDArray[np.int64]:
    """Return a number for each file, int64 [N]: the same for files of equal bytes, in order of appearance.

    Only files of one length are read. One that cannot be read equals no other but itself.
    """
    keys: list[tuple[str, Any]] = []
    for path in paths:
        try:
            status = path.stat()
            keys.append(("length", status.st_size) if stat.S_ISREG(status.st_mode) else ("path", str(path)))
        except (OSError, ValueError):
            keys.append(("path", str(path)))
    count = Counter(keys)
    for i, path in enumerate(paths):
        if keys[i][0] == "length" and count[keys[i]] > 1:
            try:
                keys[i] = ("content", sha256_file(path))
            except OSError:
                keys[i] = ("path", str(path))
    seen: dict[tuple[str, Any], int] = {}
    return np.fromiter((seen.setdefault(key, len(seen)) for key in keys), dtype=np.int64, count=len(keys))


def small_pictures(pictures_NHWC: npt.NDArray[np.uint8]) -> _Pictures:
    """Return pictures averaged down to at most 32 × 32, float32 [N, C, h, w] in [0, 1]; smaller ones keep their size.

    Row i of the small picture holds the rows from ⌊i·H/h⌋ up to ⌊(i+1)·H/h⌋ of the picture.
    """
    pictures = np.asarray(pictures_NHWC)
    if pictures.ndim != 4 or pictures.dtype != np.uint8 or 0 in pictures.shape[1:]:
        what = f"{pictures.dtype}{pictures.shape} is not uint8 [N, H, W, C]"
        raise InputError(Problem("pictures_NHWC", what, "give such pictures"))
    small: npt.NDArray[np.floating[Any]] = pictures.transpose(0, 3, 1, 2).astype(np.float32) / 255
    for axis in (2, 3):
        if small.shape[axis] > SMALL:
            small = _cell_means(small, axis, SMALL)
    return small.astype(np.float32)


def _cell_means(values: npt.NDArray[Any], axis: int, num_cells: int) -> npt.NDArray[np.floating[Any]]:
    """Return the means in so many cells along an axis, cell i from ⌊i·n/num⌋ of n on; one without a pixel has that."""
    edges = np.arange(num_cells) * values.shape[axis] // num_cells
    num_C = np.diff(edges, append=values.shape[axis]).clip(1)
    shape = [-1 if each == axis else 1 for each in range(values.ndim)]
    means: npt.NDArray[np.floating[Any]] = np.add.reduceat(values, edges, axis=axis) / num_C.reshape(shape)
    return means


def picture_difference(
    pictures_NHWC: Pictures, first_P: npt.NDArray[np.int64], second_P: npt.NDArray[np.int64]
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


Index = npt.NDArray[np.int64]

MAX_QUERIES = 300
"""So many pictures are compared with all others; of more, a random sample."""

# Copies that were moved by a pixel, rescaled, brightened or compressed differ by 0.01 to 0.2, their nearest of a few by
# less than this; emoji of one name by other artists, and photographs of one kind, by more.
NEAR_DIFFERENCE = 0.08
NEAR_SHARE = 0.02
_NUM_CANDIDATES = 16
_SIDE = 16


@final
@dataclass(frozen=True, eq=False)
class NearDuplicates:
    """What was found among `num_looked` pictures.

    Attributes:
        num_looked: how many pictures were compared with the others.
        query_P: those that have a near-duplicate, int64 [P].
        other_P: the near-duplicate of each, int64 [P].
        difference_P: `picture_difference` of the two, float64 [P].
        why_not: why nothing can be said, or "".
    """

    num_looked: int
    query_P: Index
    other_P: Index
    difference_P: npt.NDArray[np.float64]
    why_not: str = ""

    @property
    def share(self) -> float:
        """Share of the pictures looked at that have a near-duplicate."""
        return len(self.query_P) / max(1, self.num_looked)

    @property
    def is_common(self) -> bool:
        """Whether there are enough to tell: 2% of the pictures, and three or more."""
        return self.share >= NEAR_SHARE and len(self.query_P) >= 3

    def pairs(self) -> list[tuple[int, int]]:
        """Return (query, other), each pair once: two pictures are often each other's near-duplicate."""
        found: dict[frozenset[int], tuple[int, int]] = {}
        for one, other in zip(self.query_P.tolist(), self.other_P.tolist(), strict=True):
            found.setdefault(frozenset((one, other)), (one, other))
        return list(found.values())


def find_near_duplicates(
    pictures_NHWC: Pictures,
    labels_N: npt.NDArray[Any],
    *,
    query_Q: Index | None = None,
    gallery_G: Index | None = None,
    groups_N: npt.NDArray[np.str_] | None = None,
    max_queries: int = MAX_QUERIES,
    seed: int = 0,
) -> NearDuplicates:
    """Return which pictures have a near-duplicate among others, itself and its own group left out.

    Candidates are the nearest by the mean greys of 16 × 16 cells, each picture's mean and contrast taken away. Two are
    near-duplicates if `picture_difference` is at most 0.08, and at most half of what the nearest pictures of *other*
    classes differ by (their 5% quantile): where unrelated pictures look alike, as products on white or aligned faces
    do, they are no evidence. Of line drawings (two tones, no colours) nothing is said: two people draw an "o" alike.

    Args:
        pictures_NHWC: uint8 [N, H, W, 1 or 3].
        labels_N: classes, as text or numbers.
        query_Q: pictures to look at; none: all. Of more than `max_queries` a random sample.
        gallery_G: where to look for theirs; none: among all.
        groups_N: "" for none.
        max_queries: see `query_Q`.
        seed: of the sample.
    """
    query_Q = np.arange(len(labels_N)) if query_Q is None else query_Q
    gallery_G = np.arange(len(labels_N)) if gallery_G is None else gallery_G
    empty = np.empty(0, dtype=np.int64)
    if len(query_Q) > max_queries:
        chosen = generator(seed, "near-duplicates").permutation(len(query_Q))[:max_queries]
        query_Q = query_Q[np.sort(chosen)]
    if not len(query_Q) or not len(gallery_G):
        return NearDuplicates(0, empty, empty, np.empty(0), "no pictures to compare")
    # What pictures are like in general is seen on some of them.
    if _share_of_line_drawings(np.asarray(pictures_NHWC[_some(query_Q)])) >= 0.5:
        return NearDuplicates(len(query_Q), empty, empty, np.empty(0), "line drawings, which are alike by nature")
    candidates_QK = gallery_G[
        nearest_rows(_rows(pictures_NHWC, query_Q), _rows(pictures_NHWC, gallery_G), _NUM_CANDIDATES, by="similarity")
    ]
    allowed_QK = candidates_QK != query_Q[:, None]
    if groups_N is not None:
        own_Q1 = groups_N[query_Q][:, None]
        allowed_QK &= (own_Q1 == "") | (groups_N[candidates_QK] != own_Q1)
    other_QK = allowed_QK & (labels_N[candidates_QK] != labels_N[query_Q][:, None])
    nearest_Q, found_Q = _first(candidates_QK, allowed_QK)
    unrelated_Q, compared_Q = _first(candidates_QK, other_QK)
    difference_P = picture_difference(pictures_NHWC, query_Q[found_Q], nearest_Q[found_Q])
    limit = NEAR_DIFFERENCE
    if compared_Q.any():
        compared = _some(np.flatnonzero(compared_Q))
        apart = picture_difference(pictures_NHWC, query_Q[compared], unrelated_Q[compared])
        limit = min(limit, float(np.quantile(apart, 0.05)) / 2)
    near_P = difference_P <= limit
    return NearDuplicates(len(query_Q), query_Q[found_Q][near_P], nearest_Q[found_Q][near_P], difference_P[near_P])


def _some(items: Index) -> Index:
    """Return every k-th item, as many as are looked at where a sample will do."""
    return items[:: -(-len(items) // MAX_QUERIES)] if len(items) else items


def _rows(pictures_NHWC: Pictures, items: Index) -> npt.NDArray[np.float32]:
    """Return unit rows of the mean greys in 16 × 16 cells, the mean of each picture taken away."""
    rows = np.empty((len(items), _SIDE * _SIDE), dtype=np.float32)
    for start in range(0, len(items), 1024):
        small = small_pictures(np.asarray(pictures_NHWC[items[start : start + 1024]])).mean(axis=1)
        cells = _cell_means(_cell_means(small, 1, _SIDE), 2, _SIDE)
        rows[start : start + 1024] = cells.reshape(len(small), -1)
    rows -= rows.mean(axis=1, keepdims=True)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-6))
    return rows


def _first(candidates_QK: Index, allowed_QK: npt.NDArray[np.bool_]) -> tuple[Index, npt.NDArray[np.bool_]]:
    """Return the first allowed candidate of each query, and whether there is one."""
    first_Q: Index = candidates_QK[np.arange(len(candidates_QK)), allowed_QK.argmax(axis=1)]
    any_Q: npt.NDArray[np.bool_] = np.any(allowed_QK, axis=1)
    return first_Q, any_Q


def _share_of_line_drawings(pictures_NHWC: npt.NDArray[np.uint8]) -> float:
    """Return the share of pictures without colours, with two thirds of the pixels near the darkest or lightest."""
    small = small_pictures(pictures_NHWC)
    is_grey = (small.max(axis=1) - small.min(axis=1)).mean(axis=(1, 2)) < 0.01
    grey = small.mean(axis=1).reshape(len(small), -1)
    low, high = grey.min(axis=1, keepdims=True), grey.max(axis=1, keepdims=True)
    near = np.minimum(grey - low, high - grey) <= 0.15 * (high - low)
    return float((is_grey & (near.mean(axis=1) >= 2 / 3)).mean())
