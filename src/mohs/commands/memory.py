"""How much memory is left, so that what cannot fit is refused and not killed half way."""

from collections.abc import Iterator
from pathlib import Path

from mohs.errors import ResourceError

__all__ = ["free_bytes", "in_bytes", "require_memory"]

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
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024


def _of_containers(root: Path) -> Iterator[int]:
    # A line is number:controllers:path; inside a container the path may be the host's, and its own is the root.
    paths = {line.split(":", 2)[1]: line.split(":", 2)[2].strip("/") for line in _lines(root / "proc/self/cgroup")}
    for controller, limit_file, used_file, given_back in _GROUPS:
        for path in {paths.get(controller, ""), ""}:
            folder = root / "sys/fs/cgroup" / controller / path
            limit, used = _number(folder / limit_file), _number(folder / used_file)
            if limit is not None and used is not None:
                pages = dict(line.split() for line in _lines(folder / "memory.stat"))
                yield limit - used + sum(int(pages.get(name, 0)) for name in given_back)


def _number(path: Path) -> int | None:
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].isdigit() else None  # "max" is no limit


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
