"""What a command shows while it works: a live line on a terminal, a line now and then elsewhere, and the time left."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from mohs.cli.console import is_first, say

if TYPE_CHECKING:
    from mohs.training.events import Event, HeldOutEvent, Listener

__all__ = ["TimeLeft", "counting_progress", "decoding_progress", "in_time", "training_progress", "working"]

_EVERY_S = 10.0
"""Seconds between two lines where there is no terminal."""


@contextmanager
def decoding_progress(*, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Yield a `progress(done, total)` for decoding pictures: see `counting_progress`."""
    with counting_progress("reading pictures", quiet=quiet) as progress:
        yield progress


@contextmanager
def counting_progress(name: str, *, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Yield a `progress(done, total)` that draws a bar, or without a terminal says a line every ten seconds.

    None if quiet, or in another process than the first.
    """
    console = Console(stderr=True, highlight=False)
    if quiet or not is_first():
        yield None
        return
    left = TimeLeft()
    if not console.is_terminal:
        yield _counted_lines(name, left)
        return
    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"))
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=None, left="")

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, left=in_time(left.at(done, total, time.monotonic())))

        yield show


def _counted_lines(name: str, left: TimeLeft) -> Callable[[int, int], None]:
    last_s = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        left_s = left.at(done, total, now_s)
        if now_s - last_s >= _EVERY_S and done < total:
            last_s = now_s
            say("  ".join(part for part in (f"{name}: {done:,} of {total:,}", in_time(left_s)) if part))

    return show


@contextmanager
def working(name: str, *, quiet: bool) -> Iterator[None]:
    """Show on a terminal that something is being done whose end is not known, and for how long it has been."""
    console = Console(stderr=True, highlight=False)
    if quiet or not console.is_terminal or not is_first():
        yield
        return
    columns = (SpinnerColumn(), TextColumn(name), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        progress.add_task("", total=None)
        yield


@contextmanager
def training_progress(name: str, *, quiet: bool) -> Iterator[Sequence[Listener]]:
    """Yield the listeners that show a run: a live line on a terminal, one line every ten seconds elsewhere."""
    console = Console(stderr=True, highlight=False)
    if quiet:
        yield ()
    elif not console.is_terminal:
        yield (_lines(name),)
    else:
        text = (
            "{task.description}  loss {task.fields[loss]}  active {task.fields[active]}  spread {task.fields[spread]}"
            "{task.fields[recall]}"
        )
        columns = (
            TextColumn(text),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]} pictures/s  {task.fields[left]}"),
        )
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task(name, total=None, loss="-", active="-", spread="-", rate="-", left="", recall="")
            yield (_live(progress, task),)


def _live(progress: Progress, task: TaskID) -> Listener:
    from mohs.training.events import HeldOutEvent, StepEvent

    left = TimeLeft()

    def listener(event: Event) -> None:
        if isinstance(event, HeldOutEvent):
            progress.update(task, recall=f"  held-out R@1 {event.recall:.3f}")
        if isinstance(event, StepEvent):
            progress.update(
                task,
                total=event.num_steps,
                completed=event.step,
                loss=f"{event.loss:.3f}",
                active=f"{event.active_fraction:.0%}",
                spread=f"{event.spread:.2f}",
                rate=f"{event.pictures_per_s:,.0f}",
                left=in_time(left.at(event.step, event.num_steps, time.monotonic())),
            )

    return listener


def _lines(name: str) -> Listener:
    from mohs.training.events import HeldOutEvent, StepEvent

    left = TimeLeft()
    last_s = time.monotonic()

    def listener(event: Event) -> None:
        nonlocal last_s
        if isinstance(event, HeldOutEvent) and event.of == "validation":
            say(f"{name}: {_measured(event)}")
        if not isinstance(event, StepEvent):
            return
        now_s = time.monotonic()
        left_s = left.at(event.step, event.num_steps, now_s)
        if now_s - last_s < _EVERY_S and event.step < event.num_steps:
            return
        last_s = now_s
        line = (
            f"{name}: step {event.step}/{event.num_steps}  loss {event.loss:.3f}  "
            f"active {event.active_fraction:.0%}  spread {event.spread:.2f}  {event.pictures_per_s:,.0f} pictures/s"
        )
        ending = in_time(left_s) if event.step < event.num_steps else ""
        say(f"{line}  {ending}".rstrip())

    return listener


def _measured(event: HeldOutEvent) -> str:
    return (
        f"after {event.triplets:,} triplets, R@1 on {event.num_queries:,} held-out classes {event.recall:.3f} "
        f"({event.low:.3f} to {event.high:.3f})"
    )


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
