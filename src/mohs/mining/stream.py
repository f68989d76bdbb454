"""A bank read piece by piece, with every question looking at every piece: memory holds two pieces, never the bank.

The next piece is read, and put into the frame, while threads multiply the one before with blocks of the queries.
"""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol, final, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mohs.mining.bank import TILE
from mohs.mining.frame import Float32, Float64, Frame, unit_of
from mohs.mining.problem import Index, MiningProblem
from mohs.mining.questions import Queries, Question
from mohs.mining.stored import StoredBank
from mohs.mining.streamed_kernels import Tile, mark_items
from mohs.mining.threads import Progress, for_each

__all__ = [
    "PIECE_BYTES", "LocalScan", "Reach", "Scan", "ScanSource", "candidate_mask", "frame_from", "pieces_of", "reach_of",
    "stream",
]  # fmt: skip

_ROWS = 512  # queries in a block
PIECE_BYTES = 2**24
"""Of float32 rows."""


class Scan(Protocol):
    """A bank that answers questions, wherever its rows are."""

    @property
    def frame(self) -> Frame:
        """Where its rows lie."""

    def ask(self, queries: Queries, questions: Sequence[Question], tick: Progress | None) -> None:
        """Have all rows looked at by all questions."""


@runtime_checkable
class ScanSource(Protocol):
    """A bank that brings its own way of being asked."""

    def scan(self, problem: MiningProblem) -> Scan:
        """Return it."""


@final
@dataclass(frozen=True, eq=False)
class _Piece:
    """Rows of a piece, in the stack from `first` on, and what belongs to its candidates."""

    first: int
    item_P: Index
    centred_PD: Float32
    half_P: Float32


@final
class LocalScan:
    """The shards of one machine, streamed by one process."""

    def __init__(self, problem: MiningProblem, threads: int) -> None:
        self._bank = problem.bank_ND
        self._threads = threads
        self._is_candidate_N = candidate_mask(problem)
        self._pieces = pieces_of(self._bank)
        # Read twice: for the middle, and for how far rows reach from it.
        frame = frame_from([reach_of(self._bank, self._pieces, None)], None)
        self.frame = frame_from([reach_of(self._bank, self._pieces, frame)], frame)

    def ask(self, queries: Queries, questions: Sequence[Question], tick: Progress | None) -> None:
        """See `Scan`."""
        stream(self._bank, self._pieces, self._is_candidate_N, self.frame, queries, questions, self._threads, tick)


def candidate_mask(problem: MiningProblem) -> NDArray[np.bool_] | None:
    """Return which items are candidates, bool[N]; None for all."""
    if len(problem.candidates_M) == len(problem.bank_ND):
        return None
    is_candidate_N = np.zeros(len(problem.bank_ND), dtype=bool)
    is_candidate_N[problem.candidates_M] = True
    return is_candidate_N


def pieces_of(bank: StoredBank) -> list[tuple[int, int]]:
    """Return from where to where each piece of a bank in shards goes, in order."""
    assert bank.shards is not None
    return list(bank.shards.pieces(max(TILE, PIECE_BYTES // (4 * bank.shape[1]))))


@final
@dataclass(frozen=True, eq=False)
class Reach:
    """What some pieces say of the frame of all: sum and number of rows, the largest number, the largest ‖b‖²/2."""

    sum_D: Float64
    num_rows: int
    largest: float
    half_norm: float


def reach_of(bank: StoredBank, pieces: Sequence[tuple[int, int]], frame: Frame | None) -> Reach:
    """Return what is to be known of these pieces: without a frame what it is made from; with one how far they reach."""
    sum_D, num_rows, largest, half_norm = np.zeros(bank.shape[1]), 0, 0.0, 0.0
    for start, stop in pieces:
        rows = bank[start:stop]
        if frame is None:
            sum_D += rows.sum(axis=0, dtype=np.float64)
            num_rows += stop - start
            largest = max(largest, float(rows.max()), -float(rows.min()))
        else:
            rows = frame.centred(rows)
            half_norm = max(half_norm, float(np.einsum("pd,pd->p", rows, rows, dtype=np.float64).max()) / 2)
    return Reach(sum_D, num_rows, largest, half_norm)


def frame_from(reaches: Sequence[Reach], frame: Frame | None) -> Frame:
    """Return the frame of pieces that are the bank: without a frame its middle, with one how far it reaches, too."""
    if frame is None:
        shift_D = sum(reach.sum_D for reach in reaches) / sum(reach.num_rows for reach in reaches)
        largest = max(reach.largest for reach in reaches)
        return Frame(np.asarray(shift_D, dtype=np.float32), unit_of(largest, len(reaches[0].sum_D)), 0.0)
    half_norm = np.float32(max(reach.half_norm for reach in reaches))
    return frame.reaching(float(np.nextafter(half_norm, np.float32(np.inf))))


def stream(
    bank: StoredBank,
    pieces: Sequence[tuple[int, int]],
    is_candidate_N: NDArray[np.bool_] | None,
    frame: Frame,
    queries: Queries,
    questions: Sequence[Question],
    threads: int,
    tick: Progress | None = None,
) -> None:
    """Have all candidates of these pieces looked at by all questions.

    `is_candidate_N` says which items are candidates; None: all. `tick` is called with (pieces done, pieces) from the
    calling thread.
    """
    largest = max(stop - start for start, stop in pieces)
    num_queries = len(queries)
    stack_ND = np.empty((num_queries + 2 * largest, bank.shape[1]), dtype=np.float32)
    stack_ND[:num_queries] = queries.row_QD
    tasks = [
        (question, slice(start, start + _ROWS))
        for question in questions
        for start in range(0, len(question.query_R), _ROWS)
    ]
    local = threading.local()

    def read(number: int) -> _Piece:
        start, stop = pieces[number]
        item_P = np.arange(start, stop)
        rows = bank[start:stop]
        if is_candidate_N is not None:
            item_P = start + np.flatnonzero(is_candidate_N[start:stop])
            rows = rows[item_P - start]
        first = num_queries + largest * (number % 2)
        stack_ND[first : first + len(item_P)] = rows
        centred_PD = frame.centred(rows)
        half_P = np.einsum("pd,pd->p", centred_PD, centred_PD, dtype=np.float64) / 2
        return _Piece(first, item_P, centred_PD, half_P.astype(np.float32))

    def look(piece: _Piece, task: int) -> None:
        if not hasattr(local, "product_RC"):
            local.product_RC = np.empty(_ROWS * TILE, dtype=np.float32)
        question, rows = tasks[task]
        query_R = question.query_R[rows]
        anchor_RD = queries.centred_QD[query_R]
        own_R2, excluded_R2 = queries.own_Q2[query_R], queries.excluded_Q2[query_R]
        for first in range(0, len(piece.item_P), TILE):
            item_C = piece.item_P[first : first + TILE]
            shape = len(query_R), len(item_C)
            product_RC = local.product_RC[: shape[0] * shape[1]].reshape(shape)
            np.matmul(anchor_RD, piece.centred_PD[first : first + TILE].T, out=product_RC)
            mark_items(product_RC, item_C, own_R2, queries.own_S)
            if len(queries.excluded_S):
                mark_items(product_RC, item_C, excluded_R2, queries.excluded_S)
            half_C = piece.half_P[first : first + TILE]
            question.look(rows, Tile(product_RC, half_C, item_C, piece.first + first, stack_ND))

    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(read, 0)
        for number in range(len(pieces)):
            piece = coming.result()
            if number + 1 < len(pieces):
                coming = reader.submit(read, number + 1)
            if len(piece.item_P):
                for_each(partial(look, piece), range(len(tasks)), threads)
            if tick is not None:
                tick(number + 1, len(pieces))
