"""Who has which rows, and that all have all of them in the end."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mohs import peers as peers_module
from mohs.peers import ALONE, Peers, exchange_rows, own_rows
from mohs.training.processes import Processes


@given(num_rows=st.integers(0, 300), at_once=st.integers(1, 40), num_ranks=st.integers(1, 5))
def test_each_row_is_of_one_process_and_groups_are_those_of_one(num_rows: int, at_once: int, num_ranks: int) -> None:
    parts = [own_rows(Processes(rank, num_ranks), num_rows, at_once) for rank in range(num_ranks)]
    assert [row for part in parts for row in range(part.start, part.stop)] == list(range(num_rows))
    assert all(part.start % at_once == 0 or part.start == num_rows for part in parts)
    num_groups = [-(-(part.stop - part.start) // at_once) for part in parts]
    assert max(num_groups) - min(num_groups) <= 1


@pytest.mark.parametrize("num_ranks", [1, 2, 4])
def test_rows_are_exchanged(together, num_ranks: int) -> None:
    def fill(peers: Peers) -> list[np.ndarray]:
        own = np.arange(peers.rank, 7, peers.num_ranks)
        one, two = np.full(7, -1), np.full((7, 2), -1.0)
        one[own], two[own] = own, own[:, None] / 2
        exchange_rows(peers, own, one, two)
        return [one, two]

    for one, two in together(num_ranks, fill):
        assert one.tolist() == list(range(7))
        assert two.tolist() == [[i / 2, i / 2] for i in range(7)]


@pytest.mark.parametrize("num_ranks", [2, 3])
def test_large_rows_are_exchanged_in_rounds(together, monkeypatch: pytest.MonkeyPatch, num_ranks: int) -> None:
    """However unevenly they lie; what is sent at once is small."""
    monkeypatch.setattr(peers_module, "_EXCHANGED_BYTES", 200)
    sent: list[int] = []

    def fill(peers: Peers) -> np.ndarray:
        own = np.arange(3) if peers.rank == 0 else np.arange(3, 40)[peers.rank - 1 :: num_ranks - 1]
        gather = peers.gather

        def counted(value: Any) -> list[Any]:
            if isinstance(value, tuple):
                sent.append(value[0].nbytes + value[1][0].nbytes)
            return gather(value)

        rows = np.full((40, 2), -1.0)
        rows[own] = own[:, None]
        exchange_rows(Counted(peers.rank, num_ranks, counted), own, rows)
        return rows

    for rows in together(num_ranks, fill):
        assert rows.tolist() == [[i, i] for i in range(40)]
    assert max(sent) * num_ranks <= 200


@final
@dataclass
class Counted:
    """Peers of which only `gather` is used."""

    rank: int
    num_ranks: int
    gather: Callable[[Any], list[Any]]


def test_one_process_needs_nobody() -> None:
    assert ALONE.gather("x") == ["x"]
    assert ALONE.from_first("x") == ALONE.first_here_first(lambda: "x") == "x"
