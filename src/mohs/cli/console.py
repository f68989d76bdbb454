"""What a command shows and where its results go, which is found out before any work is done.

It is imported by every command, and what takes long to import only where it is used.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mohs.errors import InputError, ResourceError
from mohs.peers import ALONE, Peers
from mohs.shown import printable

__all__ = [
    "among_processes",
    "free_bytes",
    "held_run",
    "in_bytes",
    "is_first",
    "print_json",
    "print_lines",
    "print_table",
    "require_file_place",
    "require_folder_place",
    "require_memory",
    "say",
]


def require_file_place(path: Path, flag: str) -> None:
    """Raise `InputError` if a result file cannot be written at `path`; an older file there may be replaced."""
    if path.is_dir():
        raise InputError(f"{flag}: {path} is a folder; name a file in it")
    _require_writable_parent(path, flag)


def require_folder_place(path: Path, flag: str) -> None:
    """Raise `InputError` if no folder can be made at `path`; whether one may be there already is not asked."""
    _require_writable_parent(path, flag)


def _require_writable_parent(path: Path, flag: str) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise InputError(f"{flag}: {str(path)!a} is not UTF-8; name another place") from None
    if _ADDRESS.match(str(path)):
        raise InputError(f"{flag}: {path} is an address, and results are written to a disk; name a folder, and copy it")
    place = path.parent
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise InputError(f"{flag}: {path} cannot be written, because {place} is a file; name another place")
    from mohs.artefacts import why_not_writable

    if why := why_not_writable(place):
        raise InputError(f"{flag}: {path} cannot be written (in {place}: {why}); name another place")


# Of two letters at least: C:/ is a disk.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")

# Version 2 of control groups, then version 1: limit, use, and pages of files, which count as used but are given back.
_GROUPS = (
    ("", "memory.max", "memory.current", ("inactive_file", "active_file")),
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file")),
)


def free_bytes(root: Path = Path("/")) -> int | None:
    """Return what this process may still take: of the machine, and of the containers it runs in, the least.

    Linux only, from /proc and /sys below `root`; None where nothing can be found out.
    """
    found = [*_of_machine(root), *_of_containers(root)]
    return max(0, min(found)) if found else None


def require_memory(num_bytes: int, what: str, fix: str) -> None:
    """Raise `ResourceError` if so much memory is not free; where nothing is known, nothing is refused."""
    free = free_bytes()
    if free is not None and num_bytes > free:
        raise ResourceError(f"memory: {what} takes about {in_bytes(num_bytes)}, and {in_bytes(free)} are free; {fix}")


def in_bytes(num_bytes: int) -> str:
    """Return a number of bytes for a person.

    >>> in_bytes(1_234_567), in_bytes(45_600_000_000)
    ('1 MB', '45.6 GB')
    """
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 10**9 else f"{num_bytes / 1e6:,.0f} MB"


def _of_machine(root: Path) -> Iterator[int]:
    for line in _file_lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024


def _of_containers(root: Path) -> Iterator[int]:
    # A line is number:controllers:path; inside a container the path may be the host's, and its own is the root.
    paths = {line.split(":", 2)[1]: line.split(":", 2)[2].strip("/") for line in _file_lines(root / "proc/self/cgroup")}
    for controller, limit_file, used_file, given_back in _GROUPS:
        for path in {paths.get(controller, ""), ""}:
            folder = root / "sys/fs/cgroup" / controller / path
            limit, used = _number(folder / limit_file), _number(folder / used_file)
            if limit is not None and used is not None:
                pages = dict(line.split() for line in _file_lines(folder / "memory.stat"))
                yield limit - used + sum(int(pages.get(name, 0)) for name in given_back)


def _number(path: Path) -> int | None:
    lines = _file_lines(path)
    return int(lines[0]) if lines and lines[0].isdigit() else None  # "max" is no limit


def _file_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


_stderr = Console(stderr=True, highlight=False)
_stdout = Console(highlight=False)


def is_first() -> bool:
    """Return whether this is the process that speaks: of those that torchrun starts, rank 0."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def among_processes(device: str) -> Iterator[Peers]:
    """Yield this process among those that torchrun has started for the command, or alone; none leaves before all have.

    `device` is what they compute on, as torch names it, or "auto"; it decides how they talk.
    """
    if "RANK" not in os.environ:
        yield ALONE
        return
    import torch

    from mohs.training.processes import choose_device, processes

    with processes(choose_device("auto") if device == "auto" else torch.device(device)) as peers:
        yield peers
        peers.gather(None)


@contextmanager
def held_run(folder: Path, doing: str) -> Iterator[bool]:
    """Hold a run's folder and yield True; where it can only be read, say so before any work, and yield False.

    What is no finished run is not looked at: opening it says what is wrong.
    """
    from mohs.artefacts import why_not_writable
    from mohs.lock import only_writer

    if not (folder / "run.json").is_file():
        yield True
    elif why := why_not_writable(folder):
        say(f"warning: {folder} cannot be written ({why}); the numbers are printed, and no files are written there")
        yield False
    else:
        with only_writer(folder, doing):
            yield True


def say(text: str) -> None:
    """Print a line for a person, on stderr."""
    if is_first():
        _stderr.print(printable(text), markup=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print a JSON value for a machine, on stdout; in ASCII, so that it passes through every terminal and pipe."""
    if is_first():
        print(json.dumps(value, indent=2, allow_nan=False))


def print_lines(lines: Sequence[str]) -> None:
    """Print lines on stdout; what a terminal or pipe of another encoding cannot show becomes "?"."""
    encoding = sys.stdout.encoding or "utf-8"
    for line in lines if is_first() else ():
        print(printable(line).encode(encoding, "replace").decode(encoding))


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], *, strong: int | None = None) -> None:
    """Print a table on stdout; the first column names the row, row `strong` is bold."""
    if not is_first():
        return
    table = Table(title=Text(printable(title)), title_justify="left", title_style="bold")
    for column, name in enumerate(header):
        table.add_column(name, justify="left" if column == 0 else "right", no_wrap=True)
    for index, row in enumerate(rows):
        table.add_row(*(Text(printable(cell)) for cell in row), style="bold" if index == strong else None)
    # A file or a pipe has no width of its own: do not cut the table there.
    console = _stdout if _stdout.is_terminal else Console(highlight=False, width=200)
    console.print(table)
