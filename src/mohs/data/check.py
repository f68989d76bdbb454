"""What is in a table, and what is wrong with it, before any time is spent on training."""

from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from os import cpu_count
from typing import final

import numpy as np

from mohs.data.equal_pictures import file_numbers, find_near_duplicates
from mohs.data.images import Decoded, ImagePolicy, decode_all, picture_warnings
from mohs.data.names import file_name_warning
from mohs.data.quarantine import BadPicture, bad_picture
from mohs.data.table import Table
from mohs.errors import at_most_20
from mohs.randomness import generator

__all__ = ["CheckResult", "check_table"]

_MAX_COMPARED = 4096


@final
@dataclass(frozen=True)
class CheckResult:
    """Counts of a table, and one line for each thing to look at.

    `class_sizes` holds pairs (items in a class, how many classes have that many), ascending. A singleton is a class
    of one item: it has no positive pair. `duplicates` are groups of files with the same bytes, as item positions.
    `problems` must be solved before training (or allowed with `max_bad_images`); `warnings` should be looked at.
    Both list at most 20 items a kind. `bad` are all the pictures that are missing or cannot be read, and
    `table_problems` the problems that are none of theirs.
    """

    num_items: int
    num_samples: int
    num_catalog: int
    num_classes: int
    class_sizes: tuple[tuple[int, int], ...]
    smallest_class: int
    median_class: float
    largest_class: int
    num_singletons: int
    num_classes_without_catalog: int
    num_classes_without_sample: int
    missing: tuple[int, ...]
    unreadable: tuple[int, ...]
    one_colour: tuple[int, ...]
    duplicates: tuple[tuple[int, ...], ...]
    duplicates_across_classes: tuple[tuple[int, ...], ...]
    bad: tuple[BadPicture, ...]
    table_problems: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """All problems, those of pictures first."""
        return (*at_most_20([each.message for each in self.bad]), *self.table_problems)


def check_table(
    table: Table, *, white_level: float | None = None, progress: Callable[[int, int], None] | None = None
) -> CheckResult:
    """Return what is in `table` after reading every file: counts, missing and broken pictures, duplicates.

    Every picture is decoded in full, because a truncated JPEG shows in no other way, by one thread per core. Files
    are duplicates if their bytes are equal (SHA-256). Near-duplicates (`mohs.data.equal_pictures`) are told where they
    are common: across the splits where the table has them, and never within a group. So are files whose names look the
    same. `progress(done, total)` is called from time to time.
    """
    found = _check_pictures(table, ImagePolicy(32, 3, "stretch", white_level), progress)
    missing, unreadable, one_colour = found.missing, found.unreadable, found.one_colour
    problems = []
    near = _near_duplicates(table, found) if len(found.kept) > 1 else ""
    labels, sizes = np.unique(table.labels, return_counts=True)
    names: list[str] = labels.tolist()
    with_catalog = set(table.labels[table.roles == "catalog"].tolist())
    with_sample = set(table.labels[table.roles == "sample"].tolist())
    duplicates = _find_duplicates(table, set(missing))
    across = tuple(group for group in duplicates if len({table.labels[i] for i in group}) > 1)
    within = [group for group in duplicates if group not in set(across)]
    if len(names) < 2:
        problems.append(f"{table.source}: {len(names)} class; similarity learning needs at least 2; add other classes")
    warnings = [
        *at_most_20([f"{table.place(i)}: one colour only; look at it" for i in one_colour]),
        *at_most_20([f"{_join(table, group)}: the same picture in different classes; keep one" for group in across]),
        *at_most_20([f"{_join(table, group)}: the same picture again; keep one" for group in within]),
        *(f"{table.source}: {line}" for line in found.warnings),
        *([f"{table.source}: {near}"] if near else []),
    ]
    warnings += at_most_20(_outer_spaces(table))
    if names_alike := file_name_warning(table.files):
        warnings.append(f"{table.source}: {names_alike}")
    num_singletons = int(np.sum(sizes == 1))
    if num_singletons:
        warnings.append(f"{table.source}: {num_singletons} of {len(names)} classes have one item: no positive pair")
    return CheckResult(
        num_items=len(table),
        num_samples=int(np.sum(table.roles == "sample")),
        num_catalog=int(np.sum(table.roles == "catalog")),
        num_classes=len(names),
        class_sizes=tuple(sorted(Counter(sizes.tolist()).items())),
        smallest_class=int(sizes.min(initial=len(table))),
        median_class=float(np.median(sizes)) if sizes.size else 0.0,
        largest_class=int(sizes.max(initial=0)),
        num_singletons=num_singletons,
        num_classes_without_catalog=len(with_sample - with_catalog),
        num_classes_without_sample=len(with_catalog - with_sample),
        missing=tuple(missing),
        unreadable=tuple(unreadable),
        one_colour=tuple(one_colour),
        duplicates=tuple(duplicates),
        duplicates_across_classes=across,
        bad=tuple(found.bad),
        table_problems=tuple(problems),
        warnings=tuple(warnings),
    )


@final
@dataclass(frozen=True, eq=False)
class _Pictures:
    """What reading every picture showed; items by position, and lines about what the pictures are."""

    missing: list[int]
    unreadable: list[int]
    one_colour: list[int]
    bad: list[BadPicture]
    warnings: list[str]
    kept: np.ndarray
    kept_pictures: np.ndarray


def _check_pictures(table: Table, policy: ImagePolicy, progress: Callable[[int, int], None] | None) -> _Pictures:
    missing: list[int] = []
    unreadable: list[int] = []
    one_colour: list[int] = []
    bad: list[BadPicture] = []
    decoded: list[Decoded] = []
    wanted = _compared(table)
    kept: list[int] = []
    kept_pictures: list[np.ndarray] = []
    num_workers = cpu_count() or 1
    step = max(4 * num_workers, min(1024, len(table) // 100))
    with ThreadPoolExecutor(num_workers) as pool:
        for first in range(0, len(table), step):
            last = min(first + step, len(table))
            pictures = decode_all([table.path(j) for j in range(first, last)], policy, pool=pool)
            for i, picture in enumerate(pictures, start=first):
                if picture.pixels_HWC is None:
                    (missing if not table.path(i).is_file() else unreadable).append(i)
                    bad.append(bad_picture(table, i, picture.problem))
                elif np.all(picture.pixels_HWC == picture.pixels_HWC[0, 0]):
                    one_colour.append(i)
                elif i in wanted:
                    kept.append(i)
                    kept_pictures.append(picture.pixels_HWC)
                decoded.append(replace(picture, pixels_HWC=None))
            if progress is not None:
                progress(last, len(table))
    said = picture_warnings(decoded, table.place, policy)
    stacked = np.stack(kept_pictures) if kept else np.empty((0, policy.size, policy.size, 3), np.uint8)
    return _Pictures(missing, unreadable, one_colour, bad, said, np.array(kept, dtype=np.int64), stacked)


def _compared(table: Table) -> set[int]:
    """Return the items that are looked at for near-duplicates: all of whole classes, up to about 4,000."""
    names, class_of_item, sizes = np.unique(table.labels, return_inverse=True, return_counts=True)
    order = generator(0, "check near-duplicates").permutation(len(names))
    num = int(np.searchsorted(np.cumsum(sizes[order]), _MAX_COMPARED)) + 1
    return set(np.flatnonzero(np.isin(class_of_item, order[:num])).tolist())


def _near_duplicates(table: Table, found: _Pictures) -> str:
    """Return a line about near-duplicates, across the splits where the table has them, or ""."""
    kept = found.kept
    splits = table.splits[kept]
    test = np.flatnonzero(splits == "test") if (splits == "test").any() else np.flatnonzero(splits == "validation")
    train = np.flatnonzero(splits == "train")
    across = bool(len(test) and len(train))
    near = find_near_duplicates(
        found.kept_pictures,
        table.labels[kept],
        query_Q=test if across else None,
        gallery_G=train if across else None,
        groups_N=None if table.groups is None else table.groups[kept],
    )
    if not near.is_common:
        return ""
    pairs = [f"{table.files[kept[one]]!r} and {table.files[kept[other]]!r}" for one, other in near.pairs()[:3]]
    where = "in training" if across else "in the set"
    what = "test pictures" if across else "pictures"
    fix = "what" if table.groups is None else "more of what"
    return (
        f"{len(near.query_P):,} of {near.num_looked:,} {what} looked at have a near-duplicate {where}, as frames of "
        f"one recording are (for example {', '.join(pairs)}): a search finds it first, and a split by item divides "
        f"them. A column 'group' that says {fix} was taken together keeps them on one side, and mohs evaluate "
        "--exclude-same-group leaves them out"
    )


def _find_duplicates(table: Table, missing: set[int]) -> list[tuple[int, ...]]:
    """Return the positions of files of equal bytes, a group each."""
    there = [i for i in range(len(table)) if i not in missing]
    same: dict[int, list[int]] = defaultdict(list)
    for i, number in zip(there, file_numbers([table.path(i) for i in there]).tolist(), strict=True):
        same[number].append(i)
    return [tuple(positions) for positions in same.values() if len(positions) > 1]


def _outer_spaces(table: Table) -> list[str]:
    """Return a line for each class whose name has white space at an end, with its first row: it is part of the name."""
    rows_of: dict[str, list[int]] = defaultdict(list)
    for i, label in enumerate(table.labels.tolist()):
        if label != label.strip():
            rows_of[label].append(i)
    return [
        f"{table.place(rows[0])}: class {label!r} has spaces at its {_ends(label)}, which are part of its name"
        + (f" ({len(rows):,} rows)" if len(rows) > 1 else "")
        + "; remove them if they are not meant"
        for label, rows in sorted(rows_of.items())
    ]


def _ends(label: str) -> str:
    return " and ".join(end for end, cut in (("beginning", label.lstrip()), ("end", label.rstrip())) if cut != label)


def _join(table: Table, group: tuple[int, ...]) -> str:
    shown = [f"{table.place(i)} ({table.labels[i]!s})" for i in group[:4]]
    return " = ".join(shown) + (f" = {len(group) - 4} more" if len(group) > 4 else "")
