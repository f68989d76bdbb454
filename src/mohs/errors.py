"""Every error that Mohs raises on purpose.

    MohsError                 what a caller catches to catch them all
    ├── InputError            2   the data, a file, a parameter or a flag is wrong (also a ValueError)
    ├── BadImagesError        3   more pictures could not be read than the caller allowed
    ├── ResourceError         4   out of memory, disk or another resource
    └── TrainingError         5   training collapsed or produced NaN

The number is the exit code of the command line. A message is one line for each problem, and each line names the
place (parameter, or file, row and column), the value found, the rule it breaks and the fix.
"""

from collections.abc import Sequence
from typing import ClassVar, final

__all__ = ["BadImagesError", "DataWarning", "InputError", "MohsError", "ResourceError", "TrainingError", "at_most_20"]


@final
class DataWarning(UserWarning):
    """Something about tables or pictures that is to be looked at; one line, and the command line says it as such."""


class MohsError(Exception):
    """Base of all errors raised on purpose; never raised itself."""

    exit_code: ClassVar[int] = 1

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems: tuple[str, ...] = problems


@final
class InputError(MohsError, ValueError):
    """Bad input: `problems` holds one line for each thing that is wrong, all of a file together.

    >>> raise InputError("hardness: 1.5 is not in [0, 1]; use a value between 0 (easiest) and 1 (hardest)")
    Traceback (most recent call last):
    mohs.errors.InputError: hardness: 1.5 is not in [0, 1]; use a value between 0 (easiest) and 1 (hardest)
    """

    exit_code: ClassVar[int] = 2


@final
class BadImagesError(MohsError):
    """More unreadable pictures than the caller allowed."""

    exit_code: ClassVar[int] = 3


@final
class ResourceError(MohsError):
    """The machine ran out of memory, disk or another resource."""

    exit_code: ClassVar[int] = 4


@final
class TrainingError(MohsError):
    """Training failed (collapse, NaN or Inf); the message is the diagnosis."""

    exit_code: ClassVar[int] = 5


def at_most_20(problems: Sequence[str]) -> tuple[str, ...]:
    """Return the first 20 lines, and a line "... and K more" if there are others."""
    if len(problems) <= 20:
        return tuple(problems)
    return (*problems[:20], f"... and {len(problems) - 20} more")
