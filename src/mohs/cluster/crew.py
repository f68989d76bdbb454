"""Actors of a Ray cluster that share tasks: who dies is started again, and its task is done once more."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, final

from mohs.errors import InputError, MohsError, Problem, ResourceError, reason_of

__all__ = ["Cost", "Crew", "Done", "cluster", "timed"]

_WAIT_S: Final = 600.0  # for the first actor to begin
_MOST_TRIES_AGAIN: Final = 5  # of a task whose actor dies
_MOST_RESTARTS: Final = 20  # of an actor: more than of a task, as machines may come and go


@final
@dataclass
class Cost:
    """What actors have taken so far.

    Attributes:
        actor_s: seconds in which an actor worked, summed over actors.
        num_bytes: read from files, or sent between machines by the driver.
        num_restarts: how often an actor was started again and has done something since.
    """

    actor_s: float = 0.0
    num_bytes: int = 0
    num_restarts: int = 0

    def __str__(self) -> str:
        again = f", {self.num_restarts} actors started again" if self.num_restarts else ""
        return f"{self.actor_s:,.1f} actor seconds, {self.num_bytes / 1e6:,.1f} MB{again}"


@final
@dataclass(frozen=True)
class Done:
    """What an actor answers: a value, what it took, and in which process."""

    value: Any
    seconds: float
    num_bytes: int
    process: str


def timed(value: Any, began_s: float, num_bytes: int) -> Done:
    """Return an answer that took as long as since `began_s`, of `time.perf_counter`."""
    import os
    import socket

    return Done(value, time.perf_counter() - began_s, num_bytes, f"{socket.gethostname()}:{os.getpid()}")


@contextmanager
def cluster(address: str | None) -> Iterator[Any]:
    """Yield Ray's module, connected: to a cluster at an address ("auto": the one here), or to one started for this.

    A connection that was there stays. Raises `InputError` where Ray is not installed or the address answers nothing.
    """
    try:
        import ray
    except ImportError:
        raise InputError(Problem("--engine", "Ray is not installed", "pip install 'mohs[ray]'")) from None
    is_there = ray.is_initialized()
    if not is_there:
        try:
            # Without an address Ray would join what RAY_ADDRESS or the last 'ray start' says.
            ray.init(address=address or "local", log_to_driver=False, include_dashboard=False, logging_level="error")
        except Exception as error:  # of several kinds, and bare where a node starts too slowly
            reason = reason_of(error)
            if address is None:
                raise InputError(Problem("--engine", f"Ray does not start here ({reason})", "try again")) from None
            fix = "start one with 'ray start --head', or leave --address out"
            raise InputError(Problem("--address", f"{address!r} is no cluster ({reason})", fix)) from None
    try:
        yield ray
    finally:
        if not is_there:
            ray.shutdown()


@final
class Crew:
    """Actors of one kind. A task goes to whichever is free; one that dies comes back, and does its task again.

    Used in a `with`, they end there, and others may have their processors.
    """

    def __init__(self, ray: Any, kind: type, arguments: Sequence[Any], num_actors: int) -> None:
        self._ray = ray
        self._arguments = arguments  # held: an actor that is started again is given them again
        actor = ray.remote(kind).options(max_restarts=_MOST_RESTARTS, max_task_retries=_MOST_TRIES_AGAIN, num_cpus=1)
        self.actors = [actor.remote(*arguments) for _ in range(num_actors)]
        self._coming = {actor.ready.remote(): actor for actor in self.actors}
        self._free: list[Any] = []
        self.cost = Cost()
        self.processes: set[str] = set()

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *_: object) -> None:
        self.dismiss()

    def share(self, method: str, tasks: Iterable[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
        """Yield (number of the task, its value) as tasks are done, in any order; what a task is given is made last.

        Only actors that have begun are given tasks: one for which the cluster has no processor would keep its task for
        ever. Raises `InputError` if none has begun after ten minutes, and `ResourceError` for a task whose actor dies
        again and again.
        """
        rest = enumerate(tasks)
        following = next(rest, None)
        working: dict[Any, tuple[int, Any]] = {}
        while following is not None or working:
            while following is not None and self._free:
                number, arguments = following
                following = next(rest, None)
                actor = self._free.pop()
                working[getattr(actor, method).remote(*arguments)] = (number, actor)
            coming = [] if following is None else list(self._coming)
            found, _ = self._ray.wait([*working, *coming], num_returns=1, timeout=None if working else _WAIT_S)
            if not found:
                what = f"none of {len(self.actors)} actors has begun after {_WAIT_S:.0f} s"
                fix = "see 'ray status': free processors of the cluster, or add some"
                raise InputError(Problem("--actors", what, fix))
            (ready,) = found
            if ready in self._coming:
                self._value(ready, "the start of an actor")
                self._free.append(self._coming.pop(ready))
                continue
            number, actor = working.pop(ready)
            value = self._value(ready, f"task {number + 1} ({method})")
            self._free.append(actor)
            yield number, value

    def dismiss(self) -> None:
        """End the actors: others may have their processors."""
        for actor in self.actors:
            self._ray.kill(actor)

    def _value(self, ready: Any, what: str) -> Any:
        try:
            done = self._ray.get(ready)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, MohsError):
                raise error.cause from None
            raise
        except self._ray.exceptions.RayError as error:  # also what Ray says where memory was short
            reason = reason_of(error)
            fix = "give actors more memory, or fewer of them to a machine"
            raise ResourceError(f"{what}: its actor died {_MOST_TRIES_AGAIN + 1} times ({reason}); {fix}") from None
        self.processes.add(done.process)
        self.cost.actor_s += done.seconds
        self.cost.num_bytes += done.num_bytes
        self.cost.num_restarts = max(0, len(self.processes) - (len(self.actors) - len(self._coming)))
        return done.value
