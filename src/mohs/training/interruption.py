"""Ctrl-C and SIGTERM while a run trains: the step is finished, a checkpoint is written, and then the run stops."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, final

__all__ = ["Interruption"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@final
class Interruption:
    """Holds signals back while a step is taken, so that what is saved is of one moment.

    Used around the steps of a run, in the main thread (elsewhere it does nothing, since signals go to that one). What
    a signal did before is done in the end: KeyboardInterrupt for Ctrl-C. A signal between steps is not held back, nor
    is a second one.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._in_step = False
        self._heard: int | None = None

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                # Ignored stays ignored, as nohup and shells want it.
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    @property
    def is_asked(self) -> bool:
        """Whether a signal waits for the end of the step."""
        return self._heard is not None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold a signal back in this block; after it, the signal goes on."""
        self._in_step = True
        try:
            yield
        finally:
            self._in_step = False
        if self._heard is not None:
            self._go_on(self._heard, None)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._in_step and self._heard is None:
            self._heard = number
        else:
            self._go_on(number, frame)

    def _go_on(self, number: int, frame: FrameType | None) -> None:
        before = self._before[number]
        if callable(before):
            before(number, frame)
        else:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
