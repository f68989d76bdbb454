"""What memory this process takes, as the system counts it."""

import resource
import sys
from pathlib import Path

__all__ = ["memory_bytes"]


def memory_bytes(field: str) -> int:
    """Return a field of Linux's /proc/self/status ("VmRSS": now, "VmHWM": the peak); elsewhere the peak so far.

    On Linux `ru_maxrss` will not do: a new process inherits there what the one that started it had taken.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 2**10)
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(field)) * 2**10
