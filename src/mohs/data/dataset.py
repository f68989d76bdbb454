"""A table together with its decoded pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import final

import numpy as np

from mohs.checks import require, wrong_kind
from mohs.data.cache import load_pictures
from mohs.data.images import ImagePolicy
from mohs.data.multi_label import MultiLabel
from mohs.data.quarantine import BadPicture, Reading
from mohs.data.reading import read_table
from mohs.data.stored_pictures import Pictures, StoredPictures
from mohs.data.table import BUILT_IN, Table, as_indices
from mohs.errors import InputError, Problem

__all__ = ["Dataset", "open_dataset"]


@final
@dataclass(frozen=True, eq=False)
class Dataset:
    """N items and their pictures.

    `pictures` is uint8 [N, H, W, C], C = 1 or 3, often a read-only memory map, or read from a file as it is indexed:
    index it with as many rows as needed.
    `bad` are the items that were set aside because their pictures could not be read.
    """

    table: Table
    pictures: Pictures
    bad: tuple[BadPicture, ...] = ()

    def __post_init__(self) -> None:
        found = self.pictures.shape
        if self.pictures.dtype != np.uint8 or len(found) != 4 or found[0] != len(self.table) or found[3] not in (1, 3):
            what = f"{self.pictures.dtype}{found} is not uint8 [{len(self.table)}, H, W, 1 or 3]"
            raise InputError(Problem("pictures", what, "give one picture an item, channels last"))

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        set_aside = f", {len(self.bad):,} set aside" if self.bad else ""
        return f"Dataset({self.table!r}, pictures {self.pictures.shape[1:]}{set_aside})"

    @property
    def left_out(self) -> tuple[str, ...]:
        """A line for each item that was set aside."""
        return tuple(each.message for each in self.bad)

    @property
    def reading(self) -> Reading:
        """What became of the pictures that were read, if these are all that were not set aside."""
        return Reading(len(self), self.bad)

    @property
    def labels(self) -> np.ndarray:
        """Class of each item, str [N]."""
        return self.table.labels

    @property
    def roles(self) -> np.ndarray:
        """Role of each item, `"sample"` or `"catalog"`, str [N]."""
        return self.table.roles

    @cached_property
    def labels_id(self) -> np.ndarray:
        """Class number of each item, int64 [N]: the position of its label among the sorted labels of this dataset."""
        return np.unique(self.table.labels, return_inverse=True)[1].astype(np.int64)

    def take(self, indices: Sequence[int] | np.ndarray) -> "Dataset":
        """Return the items `indices` (int [K] or a bool [N] mask).

        Rows that follow one another stay a view of the memory map; others are copied into memory. Of pictures that are
        read as they are indexed, none is read.
        """
        rows = as_indices(indices, len(self))
        if isinstance(self.pictures, StoredPictures):
            return Dataset(self.table.take(rows), self.pictures.take(rows), self.bad)
        if rows.size and np.array_equal(rows, np.arange(rows[0], rows[0] + rows.size)):
            pictures = self.pictures[rows[0] : rows[0] + rows.size]
        else:
            pictures = np.asarray(self.pictures[rows])
        return Dataset(self.table.take(rows), pictures, self.bad)


def open_dataset(
    source: str | Path,
    *,
    catalog: str | Path | None = None,
    policy: ImagePolicy,
    cache_dir: Path | None = None,
    file_column: str = "file",
    class_column: str = "class",
    group_column: str = "group",
    multi_label: MultiLabel = "error",
    max_bad_images: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Return the dataset of a table or folder (see `read_table`), its pictures decoded once and cached.

    `"glyphs"` is the built-in set, drawn at `policy.size` (a folder of that name is `"./glyphs"`). With
    `max_bad_images` above 0, up to that many items whose pictures cannot be read are set aside, and named in
    `Dataset.bad`. `progress(done, total)` is called from time to time while pictures are decoded.

    Warns of and raises what `read_table` and `load_pictures` do.

    >>> open_dataset("glyphs", policy=ImagePolicy(size=32, channels=1)).pictures.shape[1:]
    (32, 32, 1)
    """
    require(wrong_kind("policy", policy, ImagePolicy, "give mohs.ImagePolicy(size=64, channels=3)"))
    if isinstance(source, str) and source == BUILT_IN:
        if catalog is not None:
            raise InputError(
                Problem("catalog", f"{str(catalog)!r} with 'glyphs', which has its own", "leave catalog out")
            )
        if group_column not in ("", "group"):
            raise InputError(
                Problem("group_column", f"{group_column!r} with 'glyphs', which has no groups", "leave it out")
            )
        from mohs.data.glyphs import draw_glyphs

        return draw_glyphs(policy.size, channels=policy.channels, progress=progress)
    table = read_table(
        source,
        catalog=catalog,
        file_column=file_column,
        class_column=class_column,
        group_column=group_column,
        multi_label=multi_label,
    )
    loaded = load_pictures(table, policy, cache_dir=cache_dir, max_bad_images=max_bad_images, progress=progress)
    if loaded.bad:
        table = table.take(np.setdiff1d(np.arange(len(table)), [bad.index for bad in loaded.bad]))
    return Dataset(table, loaded.pictures, loaded.bad)
