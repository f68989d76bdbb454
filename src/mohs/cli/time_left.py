"""How long a job still takes, by what it has measured of itself."""

import math
from typing import final

__all__ = ["TimeLeft", "in_time"]

_SKIPPED = 3
_LEAST_S = 1.0


@final
class TimeLeft:
    """The seconds that are left, by the pace since the first few reports.

    These are left out: a job loads and compiles before they come. So is what was done before a job was taken up.
    Nothing is said until a second of what counts has gone by.

    >>> left = TimeLeft()
    >>> [left.at(done, 100, now_s) for done, now_s in ((1, 20.0), (2, 20.1), (3, 20.2), (8, 20.7), (13, 21.2))]
    [None, None, None, None, 8.7]
    """

    def __init__(self) -> None:
        self._num_reports = 0
        self._from: tuple[float, float] = (0.0, 0.0)

    def at(self, done: float, total: float, now_s: float) -> float | None:
        """Return the seconds left when `done` of `total` are done at `now_s` of any clock; None while it is not known.

        Call it with every report of the job, in order.
        """
        self._num_reports += 1
        if self._num_reports <= _SKIPPED:
            self._from = (done, now_s)
            return None
        since, took_s = done - self._from[0], now_s - self._from[1]
        if since <= 0 or took_s < _LEAST_S:
            return None
        return round(took_s / since * max(0.0, total - done), 3)


def in_time(seconds: float | None) -> str:
    """Return seconds left as a person reads them; "" if they are not known.

    >>> in_time(8.2), in_time(75), in_time(7260), in_time(None)
    ('9 s left', '1 min 15 s left', '2 h 1 min left', '')
    """
    if seconds is None:
        return ""
    whole = math.ceil(seconds)
    if whole < 60:
        return f"{whole} s left"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s left"
    return f"{whole // 3600} h {whole % 3600 // 60} min left"
