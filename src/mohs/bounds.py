"""How much a file may make Mohs allocate: bounds that no honest file reaches, and how each is lifted.

A bound is read from the environment, never from a file: what comes from a stranger must not lift it.

    >>> ROWS.check("plan.parquet", 60_000_000)
    Traceback (most recent call last):
    mohs.errors.InputError: plan.parquet: 60,000,000 rows are more than 10,000,000; if that is meant, set \
    MOHS_MAX_ROWS=60000000
"""

import os
from dataclasses import dataclass
from typing import Final, final

from mohs.errors import InputError, Problem

__all__ = ["CELL_BYTES", "LABEL_CHARACTERS", "PAIRS", "PARAMETERS", "ROWS", "STAGES", "TRIPLETS", "Bound"]


@final
@dataclass(frozen=True)
class Bound:
    """A largest number of something, by default and by the environment variable that replaces it."""

    variable: str
    default: int
    what: str

    def value(self) -> int:
        """Return the largest number that is allowed; raise `InputError` if the variable is no whole number above 0."""
        text = os.environ.get(self.variable, "").strip()
        if not text:
            return self.default
        if not text.isdecimal() or not int(text):
            raise InputError(Problem(self.variable, f"{text!r} is not a whole number above 0", "unset it"))
        return int(text)

    def check(self, place: str, found: int) -> None:
        """Raise `InputError` if so many at a place are more than is allowed."""
        allowed = self.value()
        if found > allowed:
            what = f"{found:,} {self.what} are more than {allowed:,}"
            raise InputError(Problem(place, what, f"if that is meant, set {self.variable}={found}"))


ROWS: Final = Bound("MOHS_MAX_ROWS", 10_000_000, "rows")
"""Of a table, or triplets of a plan."""
CELL_BYTES: Final = Bound("MOHS_MAX_CELL_BYTES", 2**31, "bytes of cells")
"""Of the columns of a Parquet table, decoded: a few kilobytes of a file can hold any number of them."""
LABEL_CHARACTERS: Final = Bound("MOHS_MAX_LABEL_CHARACTERS", 1_000, "characters")
"""Of the name of a class or group."""
PAIRS: Final = Bound("MOHS_MAX_PAIRS", 10_000_000, "pairs")
"""Of equal pictures under two classes, both ways: one picture under 3,000 classes has nine million."""
PARAMETERS: Final = Bound("MOHS_MAX_PARAMETERS", 2_000_000_000, "parameters")
"""Of a network."""
STAGES: Final = Bound("MOHS_MAX_STAGES", 32, "stages")
"""Of the small network; each halves its picture, so that the eleventh of the largest one has nothing left to see."""
TRIPLETS: Final = Bound("MOHS_MAX_TRIPLETS", 100_000_000, "triplets")
"""Of a sequence of anchors, which takes some 32 bytes for each."""
