"""What people say of matches, kept as a review list that mining and training honour."""

import csv
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias, final

from mohs.errors import InputError, Problem, ResourceError
from mohs.shown import csv_cell, from_csv_cell

__all__ = ["ReviewList", "ReviewPicture", "Verdict"]

Verdict: TypeAlias = Literal["same", "different"]

_COLUMNS = ("file", "other", "class", "other_class", "distance", "verdict")
_UPLOAD: Final = "upload:"


@final
@dataclass(frozen=True)
class ReviewPicture:
    """A picture in a review list: its file as the table has it, and its class; "" for what was uploaded."""

    file: str
    label: str

    @classmethod
    def of_upload(cls, sha256: str) -> "ReviewPicture":
        """Return what an uploaded picture is called, by the first digits of its hash."""
        return cls(f"{_UPLOAD}{sha256[:16]}", "")


@final
class ReviewList:
    """A CSV that grows by verdicts: `file` and `other` show the same thing, or different things.

    The last verdict on a pair counts (`mohs.training.false_negatives.read_review_rows`). An uploaded picture is in no
    table; but what it is the same as, and what it differs from, says something of items: those pairs are written, too.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        """Raise `InputError` if there is a file already that is no such list: rows of it would mean something else."""
        self.path = path
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        if self._has_rows():
            with path.open(encoding="utf-8", errors="replace", newline="") as stream:
                found = next(csv.reader(stream), [])
            if tuple(found) != _COLUMNS:
                problem = f"has the columns {','.join(found)[:80]!r}, not those of feedback"
                raise InputError(Problem(str(path), problem, "give another file with --review"))

    def last_verdicts(self) -> dict[frozenset[str], Verdict]:
        """Return the verdict that counts of each pair of files: the last one."""
        if not self._has_rows():
            return {}
        with self.path.open(encoding="utf-8", newline="") as stream:
            return {
                frozenset((from_csv_cell(row["file"]), from_csv_cell(row["other"]))): "same"
                if row["verdict"] == "same"
                else "different"
                for row in csv.DictReader(stream)
            }

    def add(self, query: ReviewPicture, item: ReviewPicture, verdict: Verdict, distance: float) -> int:
        """Write a verdict and what follows from it, and return how many rows; raise `ResourceError` if it is full."""
        with self._lock:
            rows = [(query, item, f"{distance:.6g}", verdict)]
            if query.file.startswith(_UPLOAD):
                rows += [(other, item, "", follows) for other, follows in self._follows(query, item, verdict)]
            new = not self._has_rows()
            if not new and self.path.stat().st_size > self._max_bytes:
                raise ResourceError(f"{self.path}: has {self._max_bytes:,} bytes; move it away, and go on")
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8", newline="") as stream:
                writer = csv.writer(stream)
                if new:
                    writer.writerow(_COLUMNS)
                writer.writerows(
                    (*map(csv_cell, (one.file, other.file, one.label, other.label)), cell, told)
                    for one, other, cell, told in rows
                )
                stream.flush()
                os.fsync(stream.fileno())
        return len(rows)

    def _has_rows(self) -> bool:
        return self.path.exists() and self.path.stat().st_size > 0

    def _follows(
        self, query: ReviewPicture, item: ReviewPicture, verdict: Verdict
    ) -> list[tuple[ReviewPicture, Verdict]]:
        """Return what a verdict on an upload says of items: same and same are the same, same and other differ."""
        told: dict[str, tuple[ReviewPicture, str]] = {}
        if self.path.exists():
            with self.path.open(encoding="utf-8", newline="") as stream:
                for row in csv.DictReader(stream):
                    if row["file"] == query.file:
                        told[row["other"]] = (ReviewPicture(row["other"], row["other_class"]), row["verdict"])
        told.pop(item.file, None)
        return [
            (other, "same" if before == verdict else "different")
            for other, before in told.values()
            if "same" in (before, verdict)
        ]
