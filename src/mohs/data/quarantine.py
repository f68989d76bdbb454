"""Pictures that are set aside since they cannot be read: each with its reason, and counted, so that none is lost."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

from mohs.data.rows import write_rows
from mohs.data.table import Table
from mohs.errors import BadImagesError, InputError, at_most_20
from mohs.shown import csv_cell

__all__ = ["BadPicture", "Reading", "bad_picture", "refuse", "write_quarantine"]

_COLUMNS = ("path", "row", "reason", "stage")


@final
@dataclass(frozen=True)
class BadPicture:
    """An item whose picture cannot be used.

    Attributes:
        index: its row in the table as it was read.
        path: where its file should be.
        row: its place in the table, such as "images.csv: row 7"; "" in a folder.
        reason: what is wrong, in words.
        stage: where that came out: "open" (there is no such file) or "decode".
        message: a line for the user, with the fix.
    """

    index: int
    path: str
    row: str
    reason: str
    stage: Literal["open", "decode"]
    message: str


def bad_picture(table: Table, index: int, reason: str) -> BadPicture:
    """Return what is told of item `index`, whose picture cannot be read for this reason."""
    row = table.places[index] if table.places else ""
    fix = f"replace the file or remove the {'row' if row else 'picture'}"
    stage: Literal["open", "decode"] = "open" if reason.startswith("no such file") else "decode"
    return BadPicture(index, str(table.path(index)), row, reason, stage, f"{table.place(index)}: {reason}; {fix}")


def refuse(bad: Sequence[BadPicture], num_items: int, max_bad_images: int) -> None:
    """Raise `InputError` for any bad picture if none is allowed, `BadImagesError` for too many, or for nothing else."""
    lines = at_most_20([picture.message for picture in bad])
    if bad and max_bad_images == 0:
        raise InputError(*lines)
    if len(bad) > max_bad_images:
        raise BadImagesError(f"{len(bad)} of {num_items} pictures cannot be read; allowed are {max_bad_images}", *lines)
    if len(bad) == num_items:
        raise BadImagesError("no picture can be read", *lines)


@final
@dataclass(frozen=True)
class Reading:
    """What became of the pictures that a command was given: read = used + set aside + not chosen.

    `num_not_chosen` are those that a setting leaves out (`data.per_class`, `data.max_classes`).
    """

    num_used: int
    bad: tuple[BadPicture, ...] = ()
    num_not_chosen: int = 0

    @property
    def num_read(self) -> int:
        """All pictures."""
        return self.num_used + len(self.bad) + self.num_not_chosen

    def as_record(self) -> dict[str, int]:
        """Return the counts, as JSON values."""
        return {
            "read": self.num_read,
            "used": self.num_used,
            "set_aside": len(self.bad),
            "not_chosen": self.num_not_chosen,
        }

    def __str__(self) -> str:
        """Return the counts as a line.

        >>> str(Reading(12))
        'pictures: 12 read = 12 used + 0 set aside'
        """
        chosen = f" + {self.num_not_chosen:,} not chosen" if self.num_not_chosen else ""
        return f"pictures: {self.num_read:,} read = {self.num_used:,} used + {len(self.bad):,} set aside{chosen}"


def write_quarantine(path: Path, bad: Sequence[BadPicture]) -> None:
    """Write a CSV of bad pictures, atomically: path, row, reason, stage, in the form of `csv_cell`."""
    write_rows(path, _COLUMNS, ([csv_cell(getattr(each, name)) for name in _COLUMNS] for each in bad))
