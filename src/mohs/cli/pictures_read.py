"""What is said of the pictures that a command was given: how many were used, and which were set aside, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mohs.cli.console import say
from mohs.errors import ResourceError, at_most_20

if TYPE_CHECKING:
    from mohs.data.quarantine import Reading

__all__ = ["QUARANTINE", "beside", "tell_pictures"]

QUARANTINE = Path("quarantine.csv")
"""Where pictures that were set aside are listed, for a command that has no folder of its own."""


def beside(out: Path) -> Path:
    """Return where those of a result file are listed. In a run it is this: its own list is what it was trained without.

    >>> beside(Path("plans/shop.parquet")).as_posix()
    'plans/shop.quarantine.csv'
    """
    return out.with_name(f"{out.stem}.{QUARANTINE}")


def tell_pictures(reading: Reading, place: Path = QUARANTINE, *, quiet: bool) -> None:
    """Say what became of the pictures, name those set aside, and write them to a CSV.

    Without bad pictures no file is written, and with `quiet` nothing is said. Where the file cannot be written, that is
    said, and the command goes on: its result is not in this file.
    """
    if not quiet:
        say(str(reading))
    if not reading.bad:
        return
    from mohs.data.quarantine import write_quarantine

    for line in at_most_20([each.message for each in reading.bad]):
        say(f"set aside: {line}")
    try:
        write_quarantine(place, reading.bad)
    except (OSError, ResourceError) as error:
        say(f"warning: {place}: not written ({error})")
    else:
        say(f"all that is set aside: {place}")
