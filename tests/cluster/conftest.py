"""Ray's calls, answered in this process: what the driver does, without a cluster."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, final

import pytest


class RayError(Exception):
    """As `ray.exceptions.RayError`."""


class RayTaskError(RayError):
    """As `ray.exceptions.RayTaskError`."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


@final
class Actor:
    """Calls methods when they are asked for; an actor without a processor answers nothing."""

    def __init__(self, made: Any, has_begun: bool) -> None:
        self._made, self._has_begun = made, has_begun

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._made, name)
        return SimpleNamespace(remote=lambda *arguments: Reference(self._has_begun, lambda: method(*arguments)))


@final
class Reference:
    """What will be known once an actor is done."""

    def __init__(self, is_ready: bool, work: Callable[[], Any]) -> None:
        self.is_ready, self.work = is_ready, work


@final
class OneProcessRay:
    """A cluster of this process, with a number of processors; values that were put are themselves."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, num_cpus: int) -> None:
        self._left = num_cpus
        self.killed = 0
        self.asked: dict[str, Any] = {}

    def put(self, value: Any) -> Any:
        return value

    def get(self, reference: Reference) -> Any:
        try:
            return reference.work()
        except RayError:
            raise
        except Exception as error:
            raise RayTaskError(error) from None

    def kill(self, _: Actor) -> None:
        self.killed += 1

    def wait(self, references: Sequence[Reference], *, num_returns: int, timeout: float | None) -> Any:
        ready = [reference for reference in references if reference.is_ready][:num_returns]
        assert ready or timeout is not None, "waits for ever"
        return ready, [reference for reference in references if reference not in ready]

    def remote(self, kind: type) -> Any:
        def make(*arguments: Any) -> Actor:
            self._left -= 1
            return Actor(kind(*arguments), self._left >= 0)

        def options(**asked: Any) -> Any:
            self.asked = asked
            return SimpleNamespace(remote=make)

        return SimpleNamespace(options=options)


@pytest.fixture
def ray() -> OneProcessRay:
    """A cluster of two processors."""
    return OneProcessRay(2)
