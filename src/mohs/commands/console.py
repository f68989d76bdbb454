"""What a person sees while a command works: progress on stderr, so that stdout holds results alone."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from mohs.training.events import Event, Listener, StepEvent

__all__ = [
    "counting_progress",
    "decoding_progress",
    "print_json",
    "print_lines",
    "print_table",
    "say",
    "training_progress",
]

_stderr = Console(stderr=True, highlight=False)
_stdout = Console(highlight=False)


def say(text: str) -> None:
    """Print a line for a person, on stderr."""
    _stderr.print(text, markup=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print a JSON value for a machine, on stdout; in ASCII, so that it passes through every terminal and pipe."""
    print(json.dumps(value, indent=2, allow_nan=False))


def print_lines(lines: Sequence[str]) -> None:
    """Print lines on stdout; what a terminal or pipe of another encoding cannot show becomes "?"."""
    encoding = sys.stdout.encoding or "utf-8"
    for line in lines:
        print(line.encode(encoding, "replace").decode(encoding))


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], *, strong: int | None = None) -> None:
    """Print a table on stdout; the first column names the row, row `strong` is bold."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for column, name in enumerate(header):
        table.add_column(name, justify="left" if column == 0 else "right", no_wrap=True)
    for index, row in enumerate(rows):
        table.add_row(*row, style="bold" if index == strong else None)
    # A file or a pipe has no width of its own: do not cut the table there.
    console = _stdout if _stdout.is_terminal else Console(highlight=False, width=200)
    console.print(table)


@contextmanager
def decoding_progress(*, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Yield a `progress(done, total)` for decoding pictures; none if quiet or if stderr is not a terminal."""
    with counting_progress("reading pictures", quiet=quiet) as progress:
        yield progress


@contextmanager
def counting_progress(name: str, *, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Yield a `progress(done, total)` that draws a bar; none if quiet or if stderr is not a terminal."""
    if quiet or not _stderr.is_terminal:
        yield None
        return
    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_stderr, transient=True) as progress:
        task = progress.add_task("", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def training_progress(name: str, *, quiet: bool) -> Iterator[Sequence[Listener]]:
    """Yield the listeners that show a run: a live line on a terminal, one line every ten seconds elsewhere."""
    if quiet:
        yield ()
    elif not _stderr.is_terminal:
        yield (_lines(name),)
    else:
        text = (
            "{task.description}  loss {task.fields[loss]}  active {task.fields[active]}  spread {task.fields[spread]}"
        )
        columns = (
            TextColumn(text),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]} pictures/s"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=_stderr, transient=True) as progress:
            task = progress.add_task(name, total=None, loss="-", active="-", spread="-", rate="-")
            yield (_live(progress, task),)


def _live(progress: Progress, task: TaskID) -> Listener:
    def listener(event: Event) -> None:
        if isinstance(event, StepEvent):
            progress.update(
                task,
                total=event.num_steps,
                completed=event.step,
                loss=f"{event.loss:.3f}",
                active=f"{event.active_fraction:.0%}",
                spread=f"{event.spread:.2f}",
                rate=f"{event.pictures_per_s:,.0f}",
            )

    return listener


def _lines(name: str) -> Listener:
    last = began = time.monotonic()

    def listener(event: Event) -> None:
        nonlocal last
        now = time.monotonic()
        if isinstance(event, StepEvent) and (now - last >= 10.0 or event.step == event.num_steps):
            last = now
            left_s = (now - began) / event.step * (event.num_steps - event.step)
            say(
                f"{name}: step {event.step}/{event.num_steps}  loss {event.loss:.3f}  "
                f"active {event.active_fraction:.0%}  spread {event.spread:.2f}  "
                f"{event.pictures_per_s:,.0f} pictures/s  {left_s:.0f} s left"
            )

    return listener
