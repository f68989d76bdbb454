"""Negatives that are not: pictures that look alike because they show the same thing under two names."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os.path import normpath
from pathlib import Path
from typing import Protocol, final

import numpy as np
from numpy.typing import NDArray

from mohs.bounds import PAIRS
from mohs.data.dataset import Dataset
from mohs.data.equal_pictures import file_numbers, picture_numbers
from mohs.data.table import Table
from mohs.errors import InputError, Problem, at_most_20
from mohs.plan import TripletPlan
from mohs.settings.config import NegativesConfig
from mohs.shown import csv_cell, from_csv_cell

__all__ = [
    "Dropped",
    "distrusted_pairs",
    "duplicate_file_pairs",
    "duplicate_pairs",
    "pairs_of_files",
    "passed_over",
    "read_review_list",
    "read_review_rows",
    "replace_false_negatives",
]

_NUM_NAMED = 3


@final
@dataclass(frozen=True, eq=False)
class Dropped:
    """Negatives that were found and not used: R pairs with their distance and that of the anchor's positive."""

    anchor_R: NDArray[np.int64]
    negative_R: NDArray[np.int64]
    distance_R: NDArray[np.float32]
    positive_distance_R: NDArray[np.float32]

    def of_items(self, items_M: NDArray[np.int64]) -> "Dropped":
        """Return the same with positions in `items_M` replaced by the items there."""
        return Dropped(items_M[self.anchor_R], items_M[self.negative_R], self.distance_R, self.positive_distance_R)

    def and_also(self, other: "Dropped") -> "Dropped":
        """Return these pairs and then those."""
        return Dropped(
            np.concatenate([self.anchor_R, other.anchor_R]),
            np.concatenate([self.negative_R, other.negative_R]),
            np.concatenate([self.distance_R, other.distance_R]),
            np.concatenate([self.positive_distance_R, other.positive_distance_R]),
        )


class MineRows(Protocol):
    """Mine the triplets at some rows, at the hardness asked for or, instead, the nearest beyond the positive."""

    def __call__(self, rows: NDArray[np.int64], *, beyond_positive: bool = False) -> TripletPlan:
        """Return a plan of those rows; where no negative is beyond the positive, it has the farthest."""
        ...


def replace_false_negatives(
    mined: MineRows, num_triplets: int, min_distance_ratio: float
) -> tuple[TripletPlan, Dropped]:
    """Return a plan of all rows without suspiciously near negatives, and the negatives that were dropped.

    A negative is dropped if d_an < ratio·d_ap: nearer than the positive should be, it is likelier a picture of the same
    thing. The nearest negative that is no nearer than the positive takes its place; where there is none, the farthest
    of all, though it may be dropped by the rule itself. Achieved hardness of a replacement is that on the scale
    "margin", whatever the plan's own. After Moreira et al., "NV-Retriever" (2024), who drop by a share of the
    positive's score; a positive that is an augmentation of the anchor has distance 0 and drops nothing.
    """
    plan = mined(np.arange(num_triplets))
    near = np.flatnonzero(plan.anchor_negative_distance < min_distance_ratio * plan.anchor_positive_distance)
    dropped = Dropped(
        plan.anchor[near],
        plan.negative[near],
        plan.anchor_negative_distance[near],
        plan.anchor_positive_distance[near],
    )
    if near.size:
        other = mined(near, beyond_positive=True)
        columns = {}
        for name in ("negative", "anchor_negative_distance", "achieved_hardness"):
            columns[name] = getattr(plan, name).copy()
            columns[name][near] = getattr(other, name)
        plan = replace(plan, header={**plan.header, "num_false_negatives": int(near.size)}, **columns)
    return plan, dropped


def distrusted_pairs(dataset: Dataset, config: NegativesConfig) -> NDArray[np.int64]:
    """Return the pairs of items that must never be anchor and negative, both ways, int64[P, 2]."""
    pairs = [np.empty((0, 2), dtype=np.int64)]
    if config.drop_duplicates:
        pairs.append(duplicate_pairs(dataset))
    if config.review_list is not None:
        pairs.append(read_review_list(Path(config.review_list), dataset.table.files))
    return np.unique(np.concatenate(pairs), axis=0)


def duplicate_pairs(dataset: Dataset) -> NDArray[np.int64]:
    """Return the pairs of items of different classes whose prepared pictures are equal, both ways, int64[P, 2].

    Raises `InputError` with the name of a picture if they are more than `mohs.bounds.PAIRS`.
    """
    return _pairs_of_classes(picture_numbers(dataset.pictures), dataset.table)


def duplicate_file_pairs(table: Table) -> NDArray[np.int64]:
    """Return the pairs of items of different classes whose files have equal bytes, both ways, as `duplicate_pairs`."""
    return _pairs_of_classes(file_numbers([table.path(i) for i in range(len(table))]), table)


def _pairs_of_classes(picture_N: NDArray[np.int64], table: Table) -> NDArray[np.int64]:
    """Return the pairs of items of one picture and different classes, by their first item, then by their second.

    A picture with many items has pairs in their square, so that they are counted before they are made.
    """
    order_N = np.argsort(picture_N, kind="stable")
    _, first, count = np.unique(picture_N[order_N], return_index=True, return_counts=True)
    pairs, num_pairs = [np.empty((0, 2), dtype=np.int64)], 0
    for begin, size in zip(first[count > 1].tolist(), count[count > 1].tolist(), strict=True):
        item_G = order_N[begin : begin + size]
        _, class_G, size_C = np.unique(table.labels[item_G], return_inverse=True, return_counts=True)
        num_pairs += size**2 - int((size_C**2).sum())
        if num_pairs > PAIRS.value():
            what = f"this picture occurs {size:,} times, under {len(size_C):,} classes, as a placeholder would"
            fix = f"remove its rows, or set MOHS_MAX_PAIRS={num_pairs} or more if that is meant"
            raise InputError(Problem(table.place(int(item_G[0])), what, fix))
        one, other = np.nonzero(class_G[:, None] != class_G)
        pairs.append(np.stack([item_G[one], item_G[other]], axis=1))
    found_P2 = np.concatenate(pairs)
    return found_P2[np.lexsort(found_P2.T[::-1])]


def read_review_list(path: Path, files: Sequence[str]) -> NDArray[np.int64]:
    """Return the pairs in a CSV with the columns `file` and `other`, both ways, int64[P, 2].

    It is the `review.csv` of a run once a person has deleted the rows that are true negatives. Pairs with a file that
    is not among the training items are passed over. Raises `InputError` if the file cannot be read or a column is
    missing.
    """
    return pairs_of_files(read_review_rows(path), files)


def read_review_rows(path: Path, *, name: str = "negatives.review_list") -> list[tuple[str, str]]:
    """Return the two files of each row of a review list; `name` is the setting or flag that messages name.

    Where a column `verdict` says "different", the pair is of different things after all, and is left out; of several
    rows on a pair the last one counts.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
            names = rows[0].keys() if rows else ("file", "other")
    except FileNotFoundError:
        raise InputError(Problem(name, f"{path}: no such file", "check the path")) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(Problem(name, f"{path}: not a CSV file ({error})")) from None
    missing = [column for column in ("file", "other") if column not in names]
    if missing:
        raise InputError(*(f"{name}: {path}: no column {column!r}; use the review.csv of a run" for column in missing))
    empty = [
        f"{name}: {path}: row {number}: {column} is empty; give both files, or delete the row"
        for number, row in enumerate(rows, start=2)
        for column in ("file", "other")
        if not row[column]
    ]
    unknown = [
        f"{name}: {path}: row {number}: verdict {row['verdict']!r} is not one of 'same', 'different', ''; correct it"
        for number, row in enumerate(rows, start=2)
        if row.get("verdict") not in (None, "", "same", "different")
    ]
    if empty or unknown:
        raise InputError(*at_most_20([*empty, *unknown]))
    for row in rows:
        row.update({column: from_csv_cell(row[column]) for column in ("file", "other")})
    last = {frozenset((normpath(row["file"]), normpath(row["other"]))): row.get("verdict") for row in rows}
    differ = {pair for pair, verdict in last.items() if verdict == "different"}
    pairs = [(row["file"], row["other"]) for row in rows]
    return [pair for pair in pairs if frozenset(map(normpath, pair)) not in differ]


def pairs_of_files(rows: Sequence[tuple[str, str]], files: Sequence[str]) -> NDArray[np.int64]:
    """Return those pairs whose files are both among the N `files`, as items, both ways, int64[P, 2].

    >>> pairs_of_files([("./a.png", "c.png"), ("a.png", "other.png")], ["a.png", "b.png", "c.png"])
    array([[0, 2],
           [2, 0]])
    """
    item_of: Mapping[str, int] = {normpath(file): item for item, file in enumerate(files)}
    pairs = [(item_of.get(normpath(file)), item_of.get(normpath(other))) for file, other in rows]
    found = [(one, other) for one, other in pairs if one is not None and other is not None]
    pair_P2 = np.array(found, dtype=np.int64).reshape(-1, 2)
    return np.concatenate([pair_P2, pair_P2[:, ::-1]])


def passed_over(rows: Sequence[tuple[str, str]], files: Sequence[str]) -> str:
    """Return a line about the pairs that name a file which is not among `files`, with the first three; "" if none.

    >>> passed_over([("a.png", "b.png"), ("a.png", "c.png")], ["a.png", "b.png"])
    "1 of 2 pairs passed over, since the table does not have their files ('c.png')"
    """
    known = {normpath(file) for file in files}
    unknown = [[file for file in pair if normpath(file) not in known] for pair in rows]
    num = sum(map(bool, unknown))
    if not num:
        return ""
    names = list(dict.fromkeys(file for pair in unknown for file in pair))
    more = f" and {len(names) - _NUM_NAMED:,} more" if len(names) > _NUM_NAMED else ""
    return (
        f"{num:,} of {len(rows):,} pairs passed over, since the table does not have their files "
        f"({', '.join(map(repr, names[:_NUM_NAMED]))}{more})"
    )


def append_review(path: Path, dropped: Dropped, dataset: Dataset, segment: int) -> None:
    """Add what a segment dropped to a CSV, for a person to look through; nothing is written for nothing."""
    if not len(dropped.anchor_R):
        return
    new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        if new:
            writer.writerow(("file", "other", "class", "other_class", "distance", "positive_distance", "segment"))
        files, labels = dataset.table.files, dataset.labels
        for anchor, negative, distance, positive in zip(
            dropped.anchor_R, dropped.negative_R, dropped.distance_R, dropped.positive_distance_R, strict=True
        ):
            writer.writerow(
                (
                    *(
                        csv_cell(str(name))
                        for name in (files[anchor], files[negative], labels[anchor], labels[negative])
                    ),
                    distance,
                    positive,
                    segment,
                )
            )


def review_bytes(path: Path) -> int:
    """Return the length of a review list, 0 if there is none."""
    return path.stat().st_size if path.exists() else 0


def cut_review(path: Path, num_bytes: int) -> None:
    """Take back what was added to a review list after it had this length."""
    if path.exists():
        with path.open("rb+") as stream:
            stream.truncate(num_bytes)
        if num_bytes == 0:
            path.unlink()
