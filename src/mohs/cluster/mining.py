"""A bank that is mined where it is: actors stream its shards, and what they find is merged exactly.

The shards are in a folder that every machine sees, or in Ray's object store, which spills to disk what it has no room
for. `mohs.mine` takes either for a bank, and gives the plan of the same bank in memory: see `mohs.mining.streamed`.
"""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from mohs.cluster.crew import Crew, Done, timed
from mohs.mining.frame import Frame
from mohs.mining.problem import Index, MiningProblem
from mohs.mining.questions import Queries, Question
from mohs.mining.stored import StoredBank
from mohs.mining.stream import Reach, candidate_mask, frame_from, pieces_of, reach_of, stream
from mohs.mining.threads import Progress, one_blas_thread
from mohs.shards import RowsInPieces, ShardLayout

__all__ = ["ClusterBank", "MiningActor", "StoreRows"]


@final
@dataclass(frozen=True, eq=False)
class StoreRows(RowsInPieces):
    """Rows in shards in the object store; see `mohs.shards.Shards`.

    Attributes:
        references: of the shards, in order.
        layout: how rows lie in them.
    """

    references: Sequence[Any]
    layout: ShardLayout

    def __getitem__(self, index: slice | NDArray[np.int64]) -> NDArray[Any]:
        """Return rows, in memory: of a slice without a step, or of indices in any order."""
        import ray

        rows = np.arange(*index.indices(len(self))) if isinstance(index, slice) else np.asarray(index)
        return self._taken(rows, lambda number: ray.get(self.references[number]))


@final
class MiningActor:
    """Has pieces of a bank looked at, with one thread."""

    def __init__(self, rows: RowsInPieces) -> None:
        self._rows = rows

    def ready(self) -> Done:
        """Return nothing: the actor has begun."""
        return timed(None, time.perf_counter(), 0)

    def reach(self, divides: bool, pieces: Sequence[tuple[int, int]], frame: Frame | None) -> Done:
        """Return what the frame of all pieces is made from."""
        began = time.perf_counter()
        return timed(reach_of(self._bank(divides), pieces, frame), began, self._num_bytes(pieces))

    def look(
        self,
        divides: bool,
        pieces: Sequence[tuple[int, int]],
        is_candidate_N: NDArray[np.bool_] | None,
        frame: Frame,
        queries: Queries,
        questions: Sequence[Question],
    ) -> Done:
        """Return the questions with what these pieces answer."""
        began = time.perf_counter()
        # What comes out of the object store cannot be written to.
        frame, queries, questions = copy.deepcopy((frame, queries, questions))
        with one_blas_thread():
            stream(self._bank(divides), pieces, is_candidate_N, frame, queries, questions, threads=1)
        return timed(questions, began, self._num_bytes(pieces) + sum(map(_answer_bytes, questions)))

    def _bank(self, divides: bool) -> StoredBank:
        return StoredBank(self._rows, is_mapped=True, divides=divides)

    def _num_bytes(self, pieces: Sequence[tuple[int, int]]) -> int:
        return sum(stop - start for start, stop in pieces) * self._rows.layout.row_bytes


@final
class ClusterBank(RowsInPieces):
    """Rows for `mohs.mine`, looked at by actors: rows in shards that bring their own way of being asked."""

    def __init__(self, ray: Any, rows: RowsInPieces, num_actors: int) -> None:
        self._ray = ray
        self._rows = rows
        self._num_actors = num_actors
        self.layout = rows.layout
        self.crew: Crew | None = None

    def __str__(self) -> str:
        """Return what mining has cost."""
        return "nothing" if self.crew is None else f"{len(self.crew.actors)} actors, {self.crew.cost}"

    def __getitem__(self, index: slice | NDArray[np.int64]) -> NDArray[Any]:
        return self._rows[index]

    def scan(self, problem: MiningProblem) -> "_ClusterScan":
        """Return who asks the actors; see `mohs.mining.stream.ScanSource`."""
        if self.crew is None:
            self.crew = Crew(self._ray, MiningActor, (self._rows,), self._num_actors)
        return _ClusterScan(self._ray, self.crew, problem)


@final
class _ClusterScan:
    """See `mohs.mining.stream.Scan`."""

    def __init__(self, ray: Any, crew: Crew, problem: MiningProblem) -> None:
        self._ray, self._crew = ray, crew
        self._divides = problem.bank_ND.divides  # not of the actors: they are asked again, by another metric
        is_candidate_N = candidate_mask(problem)
        self._is_candidate_N = None if is_candidate_N is None else ray.put(is_candidate_N)
        pieces = pieces_of(problem.bank_ND)
        # One for each actor: what a task answers of many anchors, counts, is sent and may be 64 MB.
        num_tasks = min(len(pieces), len(crew.actors))
        cuts = [number * len(pieces) // num_tasks for number in range(num_tasks + 1)]
        self._tasks = [pieces[first:last] for first, last in pairwise(cuts)]
        frame = frame_from(self._reaches(None), None)
        self.frame = frame_from(self._reaches(frame), frame)

    def ask(self, queries: Queries, questions: Sequence[Question], tick: Progress | None) -> None:
        """See `Scan`."""
        shared = [self._ray.put(value) for value in (self.frame, _compact(queries), list(questions))]
        tasks = [(self._divides, pieces, self._is_candidate_N, *shared) for pieces in self._tasks]
        for count, (_, answers) in enumerate(self._crew.share("look", tasks), 1):
            for question, answer in zip(questions, answers, strict=True):
                question.merge(answer)
            if tick is not None:
                tick(count, len(tasks))

    def _reaches(self, frame: Frame | None) -> list[Reach]:
        found = dict(self._crew.share("reach", [(self._divides, pieces, frame) for pieces in self._tasks]))
        return [found[number] for number in range(len(found))]


def _answer_bytes(question: Question) -> int:
    return sum(value.nbytes for value in vars(question).values() if isinstance(value, np.ndarray))


def _compact(queries: Queries) -> Queries:
    """Return the same queries with no more items of classes than are theirs."""
    spans_U2, at_Q = np.unique(queries.own_Q2, axis=0, return_inverse=True)
    length_U = spans_U2[:, 1] - spans_U2[:, 0]
    end_U = np.cumsum(length_U)
    own_S: Index = np.concatenate([queries.own_S[start:stop] for start, stop in spans_U2.tolist()])
    return replace(queries, own_Q2=np.stack([end_U - length_U, end_U], axis=1)[at_Q.ravel()], own_S=own_S)
