"""How far mining has come, in anchors."""

from collections.abc import Callable
from typing import TypeAlias, final

__all__ = ["Meter", "Progress"]

Progress: TypeAlias = Callable[[int, int], None]
"""Called with (done, in all)."""


@final
class Meter:
    """Reports (anchors done, anchors in all) while stages of work, each with a number of tasks, follow each other.

    What is reported never falls. A stage is worth a number of anchors: those it serves, or a part of them where several
    stages serve the same ones.

    >>> meter = Meter(lambda done, total: print(done, "of", total), 10)
    >>> tick = meter.stage(4)
    >>> tick(1, 2)
    2 of 10
    >>> meter.stage()(3, 3)
    10 of 10
    """

    def __init__(self, report: Progress | None, num_anchors: int) -> None:
        self._report = report
        self._total = num_anchors
        self._done = 0

    @property
    def left(self) -> int:
        """Anchors that no stage has accounted for so far."""
        return self._total - self._done

    def stage(self, num_anchors: int | None = None) -> Progress:
        """Return what a stage worth so many anchors (None: all that are left) calls with (tasks done, tasks)."""
        first, span = self._done, self.left if num_anchors is None else min(num_anchors, self.left)

        def tick(done: int, total: int) -> None:
            self._tell(first + span * done // total)

        return tick

    def finish(self) -> None:
        """Report that all is done, unless that has been said."""
        if self.left:
            self._tell(self._total)

    def _tell(self, done: int) -> None:
        self._done = done
        if self._report is not None:
            self._report(self._done, self._total)
