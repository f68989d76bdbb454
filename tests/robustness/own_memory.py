"""What memory this process takes for a piece of work, as Linux counts it."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

__all__ = ["with_peak"]

_T = TypeVar("_T")


def _bytes(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(field)) * 1024


def with_peak(work: Callable[[], _T]) -> tuple[_T, int]:
    """Return what the work returns, and the bytes that it took at most, above what was taken before; elsewhere 0."""
    reset = Path("/proc/self/clear_refs")
    if not reset.exists():
        return work(), 0
    reset.write_text("5")  # the peak is what is taken now
    before = _bytes("VmRSS")
    found = work()
    return found, _bytes("VmHWM") - before
