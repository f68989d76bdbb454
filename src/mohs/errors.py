"""Every error that Mohs raises on purpose.

    MohsError                 what a caller catches to catch them all
    ├── InputError            2   the data, a file, a parameter or a flag is wrong (also a ValueError)
    ├── BadImagesError        3   more pictures could not be read than the caller allowed
    ├── ResourceError         4   out of memory, disk or another resource
    └── TrainingError         5   training collapsed or produced NaN

The number is the exit code of the command line. A message is one line for each problem, and each line names the
place (parameter, or file, row and column), the value found, the rule it breaks and the fix.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

__all__ = [
    "BadImagesError",
    "DataWarning",
    "InputError",
    "MohsError",
    "Problem",
    "ResourceError",
    "TrainingError",
    "at_most_20",
    "reason_of",
]


@final
class DataWarning(UserWarning):
    """Something about tables or pictures that is to be looked at; one line, and the command line says it as such."""


@final
class Problem(str):
    """One line of a message that knows its parts: the place, what is wrong there, and the fix.

    It is the line "file: place: problem; fix" (without what is not given), so that it may stand wherever a line may.

    Attributes:
        place: the parameter, setting, flag or column.
        problem: the value found and the rule that it breaks.
        fix: what to do about it; "" where the rule says it.
        file: the file and row, where there is one.
        mentions: other parameters that `problem` or `fix` name.

    >>> problem = Problem("data.size", "4 is less than 8", "use for example 64")
    >>> problem
    'data.size: 4 is less than 8; use for example 64'
    >>> problem.at("--size")
    '--size: 4 is less than 8; use for example 64'
    >>> Problem("x_labels", "without x; give both", mentions=("x",)).named({"x_labels": "--labels", "x": "--x"})
    '--labels: without --x; give both'
    """

    __slots__ = ("file", "fix", "mentions", "place", "problem")

    place: str
    problem: str
    fix: str
    file: str
    mentions: tuple[str, ...]

    def __new__(
        cls, place: str, problem: str, fix: str = "", *, file: str = "", mentions: tuple[str, ...] = ()
    ) -> "Problem":
        """Return the line and keep its parts."""
        head = f"{file}: " if file else ""
        line = super().__new__(cls, f"{head}{place}: {problem}" + (f"; {fix}" if fix else ""))
        line.place, line.problem, line.fix, line.file, line.mentions = place, problem, fix, file, mentions
        return line

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what copies and pickles are made of: the parts."""
        return _problem, (self.place, self.problem, self.fix, self.file, self.mentions)

    def at(self, place: str, *, file: str = "") -> "Problem":
        """Return the same problem at another place, as a caller knows it: a flag for a setting."""
        return Problem(place, self.problem, self.fix, file=file, mentions=self.mentions)

    def named(self, names: Mapping[str, str]) -> "Problem":
        """Return the problem as its user knows the parameters in `names`, whether they are its place or mentioned.

        A place may be several parameters, with commas between; at one that is in `names` the file is not told.
        """
        place = ", ".join(names.get(name, name) for name in self.place.split(", "))
        problem, fix = self.problem, self.fix
        for name in self.mentions:
            problem, fix = (text.replace(name, names.get(name, name)) for text in (problem, fix))
        return Problem(place, problem, fix, file=self.file if place == self.place else "")


def _problem(place: str, problem: str, fix: str, file: str, mentions: tuple[str, ...]) -> Problem:
    return Problem(place, problem, fix, file=file, mentions=mentions)


class MohsError(Exception):
    """Base of all errors raised on purpose; never raised itself."""

    exit_code: ClassVar[int] = 1

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems: tuple[str, ...] = problems


@final
class InputError(MohsError, ValueError):
    """Bad input: `problems` holds one line for each thing that is wrong, all of a file together.

    A line may be a `Problem`, so that a caller can say the place as its user knows it.

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


def reason_of(error: BaseException) -> str:
    r"""Return the first line of what another library's error says, for a message; the error's name if it says nothing.

    What cannot be printed, such as a tab or a byte of the file it read, is written as its escape.

    >>> reason_of(ValueError("don't know what type: \x0e\nat 0x7f")), reason_of(MemoryError())
    ("don't know what type: \\x0e", 'MemoryError')
    """
    line = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
