"""Processes that share a task, as a function sees them: which of them this one is, and what the others found."""

from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar, final

import numpy as np
from numpy.typing import NDArray

__all__ = ["ALONE", "Alone", "Peers", "exchange_rows", "own_rows"]


_EXCHANGED_BYTES: Final = 2**26  # in a round, of all processes

_Read = TypeVar("_Read")


class Peers(Protocol):
    """One process among several, all of which call the same functions in the same order."""

    @property
    def rank(self) -> int:
        """Which one this is, from 0; rank 0 writes files and speaks."""

    @property
    def num_ranks(self) -> int:
        """How many there are."""

    def gather(self, own: Any) -> list[Any]:
        """Return what each process gave, by rank."""

    def from_first(self, value: Any) -> Any:
        """Return rank 0's value, on every rank."""

    def first_here_first(self, read: Callable[[], _Read]) -> _Read:
        """Return what `read` returns here, once the first process of this machine is done with it."""


@final
class Alone:
    """The only process."""

    rank: int = 0
    num_ranks: int = 1

    def gather(self, own: Any) -> list[Any]:
        """Return what was given."""
        return [own]

    def from_first(self, value: Any) -> Any:
        """Return the value."""
        return value

    def first_here_first(self, read: Callable[[], _Read]) -> _Read:
        """Return what `read` returns."""
        return read()


ALONE: Final = Alone()


def own_rows(peers: Peers, num_rows: int, at_once: int) -> slice:
    """Return this process's rows: consecutive, in groups of `at_once` rows (the last may be less), as even as may be.

    Groups begin at the same rows whatever the number of processes. A process may have none.

    >>> own_rows(ALONE, 10, 4)
    slice(0, 10, None)
    """
    num_groups = -(-num_rows // at_once)
    first, last = (at_once * (rank * num_groups // peers.num_ranks) for rank in (peers.rank, peers.rank + 1))
    return slice(min(first, num_rows), min(last, num_rows))


def exchange_rows(peers: Peers, own_R: NDArray[np.int64], *arrays: NDArray[Any]) -> None:
    """Fill in the rows of arrays that other processes know; this one knows the rows `own_R`, and each row is known."""
    if peers.num_ranks == 1:
        return
    row_bytes = sum(array[:1].nbytes for array in arrays) + own_R.itemsize
    # In rounds: what is exchanged is packed, sent and unpacked whole, and takes three times itself.
    at_once = max(1, _EXCHANGED_BYTES // (row_bytes * peers.num_ranks))
    num_rounds = 1 if len(arrays[0]) <= at_once else max(peers.gather(-(-len(own_R) // at_once)))
    for start in range(0, num_rounds * at_once, at_once):
        part_R = own_R[start : start + at_once]
        for rank, (row_R, values) in enumerate(peers.gather((part_R, [array[part_R] for array in arrays]))):
            if rank != peers.rank:
                for array, value in zip(arrays, values, strict=True):
                    array[row_R] = value
