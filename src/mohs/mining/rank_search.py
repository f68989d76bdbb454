"""Where wanted ranks lie in a bank that is streamed: narrowed pass by pass until few negatives are left, then ordered.

For each rank it is proven, and not assumed, between which keys, or codes, its negative lies. A pass that counts keys in
cells says in which cell the rank lies as keys are computed; by the definition it lies there too, but for the error of a
key. A pass that counts codes has no error. A pass that collects ends the search.
"""

from collections.abc import Iterator
from enum import IntEnum
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from mohs.mining.frame import Float64, Frame
from mohs.mining.problem import Index
from mohs.mining.questions import LEAST_WIDTH, NUM_CELLS, CodeCounts, CodesWithin, KeyCounts, Queries, Question

__all__ = ["MOST_ROOM_BYTES", "ROOM_BYTES", "RankSearch"]

_MOST_CODES: Final = 2**14  # collected for a rank
ROOM_BYTES: Final = 2**26
"""Of the codes that are collected in a pass."""
_SPARE: Final = 32
MOST_ROOM_BYTES: Final = 8 * (_MOST_CODES + _SPARE)
"""Of those of one rank."""
_LEARNT: Final = 1024  # ranks at a time: their counts are added up as int64, twice as large as they are
_NARROW: Final = 16.0  # times the error of a key: then cells of keys say no more


class _Next(IntEnum):
    """What a rank waits for."""

    COUNT_KEYS = 0
    COUNT_CODES = 1
    COLLECT = 2
    NOTHING = 3


@final
class RankSearch:
    """The search for the negatives of some ranks.

    `code_R` are the codes that were found, int64[R], −1 before that.
    """

    def __init__(
        self,
        queries: Queries,
        frame: Frame,
        query_R: Index,
        rank_R: Index,
        guess_R2: Float64,
        num_items: int,
    ) -> None:
        """Search ranks of queries, of one perhaps several; `guess_R2` are keys between which they are thought to be."""
        self._queries, self._frame, self._num_items = queries, frame, num_items
        self._query_R, self._rank_R = query_R, rank_R
        self._slack_R = queries.slack_Q[query_R]
        # No key is beyond its bound, nor below −‖a‖²/2, where the distance is 0.
        bound_R = 1.01 * queries.bound_Q[query_R]
        self._low_R = np.maximum(-bound_R, -queries.half_norm_Q[query_R]) - self._slack_R
        self._high_R = bound_R + self._slack_R
        self._start_R = np.maximum(guess_R2[:, 0], self._low_R - self._slack_R)
        self._end_R = np.minimum(guess_R2[:, 1], self._high_R + self._slack_R)
        self._code_R2 = np.zeros((len(query_R), 2), dtype=np.int64)
        self._room_R = np.zeros(len(query_R), dtype=np.int64)
        self._next_R = np.full(len(query_R), _Next.COUNT_KEYS, dtype=np.int64)
        self.code_R = np.full(len(query_R), -1, dtype=np.int64)
        self._asked: list[tuple[Index, Question]] = []
        self._turn_to_codes(np.flatnonzero(self._is_narrow(np.arange(len(query_R)))))

    @property
    def is_done(self) -> bool:
        """Whether every rank is found."""
        return bool((self._next_R == _Next.NOTHING).all())

    def questions(self) -> list[Question]:
        """Return what the next pass is to ask; `learn` reads the answers."""
        self._asked = []
        at = np.flatnonzero(self._next_R == _Next.COUNT_KEYS)
        if at.size:
            self._asked.append((at, KeyCounts.ask(self._query_R[at], self._start_R[at], self._end_R[at])))
        at = np.flatnonzero(self._next_R == _Next.COUNT_CODES)
        of_bank = self._queries, self._frame
        if at.size:
            question: Question = CodeCounts.ask(*of_bank, self._query_R[at], self._code_R2[at], self._num_items)
            self._asked.append((at, question))
        at = np.flatnonzero(self._next_R == _Next.COLLECT)
        # What has no room in this pass waits for the next.
        at = at[np.cumsum(self._room_R[at]) <= max(ROOM_BYTES // 8, _MOST_CODES + _SPARE)]
        if at.size:
            question = CodesWithin.ask(
                *of_bank, self._query_R[at], self._code_R2[at], self._num_items, self._room_R[at]
            )
            self._asked.append((at, question))
        return [question for _, question in self._asked]

    def learn(self) -> None:
        """Narrow the search by what the questions found."""
        for at, question in self._asked:
            match question:
                case KeyCounts():
                    for a in _parts(len(at)):
                        counts = question.below_R[a], question.cells_RB[a]
                        self._learn_keys(at[a], question.line_R3[a].astype(np.float64), *counts)
                case CodeCounts():
                    for a in _parts(len(at)):
                        counts = question.below_R[a], question.cells_RB[a]
                        self._learn_codes(at[a], question.shift_R[a], *counts)
                case CodesWithin():
                    self._collect(at, question)
        self._asked = []

    def _learn_keys(self, at: Index, line_A3: Float64, below_A: Index, cells_AB: NDArray[np.uint32]) -> None:
        slack_A = self._slack_R[at]
        start_A, end_A, step_A = line_A3.T
        upto_AB = np.cumsum(cells_AB, axis=1, dtype=np.int64)
        upto_AB += below_A[:, None]
        cell_A = (upto_AB <= self._rank_R[at, None]).sum(axis=1)
        before_A, after_A = self._rank_R[at] < below_A, cell_A == NUM_CELLS
        # The rank is in a cell by computed keys: an edge of it may be off by one error.
        edge_A, next_edge_A = start_A + cell_A / step_A, start_A + (cell_A + 1) / step_A
        low_A = np.where(before_A, -np.inf, np.where(after_A, end_A, edge_A))
        next_edge_A = np.where(cell_A == NUM_CELLS - 1, end_A, next_edge_A)
        high_A = np.where(before_A, start_A, np.where(after_A, np.inf, next_edge_A))
        self._low_R[at] = np.maximum(self._low_R[at], low_A - slack_A)
        self._high_R[at] = np.minimum(self._high_R[at], high_A + slack_A)
        self._start_R[at], self._end_R[at] = self._low_R[at] - slack_A, self._high_R[at] + slack_A
        # How many negatives are to be expected there; what lies beyond the cells that were counted is not known.
        first_A = np.clip(np.floor((self._start_R[at] - start_A) * step_A), 0, NUM_CELLS - 1).astype(np.int64)
        last_A = np.clip(np.floor((self._end_R[at] - start_A) * step_A), 0, NUM_CELLS - 1).astype(np.int64)
        rows = np.arange(len(at))
        num_A = upto_AB[rows, last_A] - upto_AB[rows, first_A] + cells_AB[rows, first_A]
        missed_A = before_A | after_A
        few_A = ~missed_A & (num_A <= _MOST_CODES)
        narrow_A = ~few_A & self._is_narrow(at)
        self._turn_to_codes(at[few_A | narrow_A])
        self._next_R[at[few_A]], self._room_R[at[few_A]] = _Next.COLLECT, num_A[few_A] + _SPARE

    def _is_narrow(self, at: Index) -> NDArray[np.bool_]:
        """Return where keys cannot be told apart any more: for their error, or as float32."""
        width_A = self._high_R[at] - self._low_R[at]
        narrow_A: NDArray[np.bool_] = (width_A <= _NARROW * self._slack_R[at]) | (width_A <= LEAST_WIDTH)
        return narrow_A

    def _turn_to_codes(self, at: Index) -> None:
        """Take the codes between the keys for the window."""
        half_norm_A, unit = self._queries.half_norm_Q[self._query_R[at]], float(self._frame.unit)
        with np.errstate(over="ignore"):
            low_A, high_A = (
                (np.sqrt(np.maximum(2.0 * (key_R[at] + half_norm_A), 0.0)) / unit).astype(np.float32)
                for key_R in (self._low_R, self._high_R)
            )
        for _ in range(2):  # what was rounded on the way
            low_A = np.maximum(np.nextafter(low_A, np.float32(-np.inf)), np.float32(0.0))
            high_A = np.nextafter(high_A, np.float32(np.inf))
        bits_A2 = np.stack([low_A, high_A], axis=1).view(np.uint32).astype(np.int64)
        self._code_R2[at] = bits_A2 * self._num_items + np.array([0, self._num_items - 1])
        self._next_R[at] = _Next.COUNT_CODES

    def _learn_codes(self, at: Index, shift_A: Index, below_A: Index, cells_AB: NDArray[np.uint32]) -> None:
        upto_AB = np.cumsum(cells_AB, axis=1, dtype=np.int64)
        upto_AB += below_A[:, None]
        cell_A = (upto_AB <= self._rank_R[at, None]).sum(axis=1)
        inside_A = (cell_A < NUM_CELLS) & (self._rank_R[at] >= below_A)
        assert inside_A.all(), "a rank left its window"
        first_A = self._code_R2[at, 0] + (cell_A << shift_A)
        last_A = np.minimum(self._code_R2[at, 1], first_A + (1 << shift_A) - 1)
        self._code_R2[at] = np.stack([first_A, last_A], axis=1)
        num_A = cells_AB[np.arange(len(at)), cell_A].astype(np.int64)
        few_A = num_A <= _MOST_CODES
        self._next_R[at[few_A]], self._room_R[at[few_A]] = _Next.COLLECT, num_A[few_A]

    def _collect(self, at: Index, found: CodesWithin) -> None:
        for a, r in enumerate(at.tolist()):
            codes = found.codes(a)
            if codes is None:
                self._next_R[r] = _Next.COUNT_CODES
                continue
            rank = int(self._rank_R[r] - found.below_R[a])
            assert 0 <= rank < len(codes), "a rank left its window"
            self.code_R[r], self._next_R[r] = codes[rank], _Next.NOTHING


def _parts(num: int) -> Iterator[slice]:
    return (slice(start, start + _LEARNT) for start in range(0, num, _LEARNT))
