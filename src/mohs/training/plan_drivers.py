"""A plan in someone else's training loop: a batch sampler for torch and a miner for pytorch-metric-learning.

    sampler, miner = PlanSampler(plan, 32), PlanMiner()
    loader = DataLoader(dataset, batch_sampler=sampler)          # dataset[i] is (picture, class) of item i
    for pictures, classes in loader:
        embeddings = network(pictures)
        loss = triplet_loss(embeddings, classes, miner(embeddings, classes))

`examples/plan_in_another_loop.py` is a whole program.
"""

from collections.abc import Iterator
from typing import final

import numpy as np
import torch
from pytorch_metric_learning.miners import BaseMiner
from torch import Tensor
from torch.utils.data import Sampler

from mohs.checks import is_whole, require, wrong_whole
from mohs.errors import InputError, Problem
from mohs.plan import TripletPlan
from mohs.training.loader_use import require_batch_sampler
from mohs.training.plan_segment import batch_slices

__all__ = ["PlanMiner", "PlanSampler"]


@final
class PlanSampler(Sampler[list[int]]):
    """A torch batch sampler that yields the batches of a plan, in plan order, as lists of item indices.

    A batch of B triplets is 3B indices: the B anchors, then their B positives, then their B negatives, each in plan
    order. An item may be in a batch more than once; a positive that is to be an augmentation of its anchor has the
    anchor's index, so the dataset should augment at random. Batches are consecutive, of near-equal size and at most
    `batch_triplets` triplets (`mohs.training.plan_segment.batch_slices`).

    With several processes, each takes its own slice of every batch: process r of R gets triplets ⌊rB/R⌋ to
    ⌊(r+1)B/R⌋ − 1 of it. All processes have the same number of batches. A trainer must not put a distributed sampler of
    its own around this one.

    Give it to `DataLoader` as `batch_sampler`. It holds no random state: each iteration yields the same.

    Args:
        plan: the triplets, at least 1.
        batch_triplets: largest number of triplets in a batch, of all processes together.
        rank: this process's number, in [0, num_ranks).
        num_ranks: number of processes.

    Raises `InputError` for numbers out of range, a plan without triplets, batches of fewer triplets than processes, and
    when a `DataLoader` that has it as `sampler` asks for its first batch.

    >>> plan = TripletPlan.of([0, 2, 4], [1, 3, 5], [2, 4, 0])
    >>> list(PlanSampler(plan, 2)), len(PlanSampler(plan, 2))
    ([[0, 1, 2], [2, 4, 3, 5, 4, 0]], 2)
    >>> list(PlanSampler(plan, 3, rank=1, num_ranks=2))
    [[2, 4, 3, 5, 4, 0]]
    """

    def __init__(self, plan: TripletPlan, batch_triplets: int, *, rank: int = 0, num_ranks: int = 1) -> None:
        require(wrong_whole("batch_triplets", batch_triplets), wrong_whole("num_ranks", num_ranks))
        if not is_whole(rank) or not 0 <= rank < num_ranks:
            raise InputError(Problem("rank", f"{rank!r} is not in [0, {num_ranks})", "processes are numbered from 0"))
        self._batch_triplets = int(batch_triplets)
        self._rank = int(rank)
        self._num_ranks = int(num_ranks)
        self.set_plan(plan)

    def set_plan(self, plan: TripletPlan) -> None:
        """Take another plan, for the next segment. An iteration that is under way goes on with the one before."""
        if not isinstance(plan, TripletPlan):
            raise InputError(
                Problem("plan", f"{type(plan).__name__} is not a TripletPlan", "give one, as mohs.mine returns it")
            )
        if len(plan) == 0:
            raise InputError(Problem("plan", "has no triplets", "mine a plan with one or more"))
        slices = batch_slices(len(plan), self._batch_triplets)
        smallest = min(piece.stop - piece.start for piece in slices)
        if smallest < self._num_ranks:
            raise InputError(
                Problem(
                    "batch_triplets",
                    f"{self._batch_triplets} gives batches of {smallest} triplets from a plan of {len(plan)}, fewer "
                    f"than {self._num_ranks} processes",
                    "use more triplets a batch",
                )
            )
        self._plan = plan
        self._slices = [self._own(piece) for piece in slices]

    def __len__(self) -> int:
        """Return the number of batches of the plan."""
        return len(self._slices)

    def __iter__(self) -> Iterator[list[int]]:
        require_batch_sampler(type(self).__name__)
        return self._batches()

    def _batches(self) -> Iterator[list[int]]:
        plan = self._plan
        for piece in self._slices:
            columns = (plan.anchor[piece], plan.positive[piece], plan.negative[piece])
            yield np.concatenate(columns).tolist()

    def _own(self, piece: slice) -> slice:
        size = piece.stop - piece.start
        edges = [piece.start + rank * size // self._num_ranks for rank in (self._rank, self._rank + 1)]
        return slice(*edges)


@final
class PlanMiner(BaseMiner):  # type: ignore[misc]  # the library is untyped
    """A pytorch-metric-learning miner that returns the plan's triplets, for batches in `PlanSampler`'s order.

    Called as miner(embeddings, labels) with 3B rows it returns (anchors, positives, negatives), int64[B] each: row i,
    row B + i, row 2B + i. It looks at no embedding. Any loss of the library that takes triplets then trains on just
    these, and one that takes pairs on their pairs. Gather no rows of other processes in between: each process has
    triplets of its own.

    Raises `InputError` if the rows are no multiple of 3, if `labels` show that they are not in that order (a positive
    of another class than its anchor, a negative of the same one), or for other reference embeddings, as a memory bank
    has.

    >>> anchors, positives, negatives = PlanMiner()(torch.zeros(6, 4), torch.tensor([7, 8, 7, 8, 8, 9]))
    >>> anchors.tolist(), positives.tolist(), negatives.tolist()
    ([0, 1], [2, 3], [4, 5])
    """

    def __init__(self) -> None:
        super().__init__()

    def forward(
        self, embeddings: Tensor, labels: Tensor, ref_emb: Tensor | None = None, ref_labels: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the triplets, as called by a loss or a loop; see the class."""
        for name, value, dim in (("embeddings", embeddings, 2), ("labels", labels, 1)):
            if not isinstance(value, Tensor) or value.ndim != dim:
                what = f"{type(value).__name__}{list(getattr(value, 'shape', ()))} is no tensor of {dim} axes"
                raise InputError(Problem(name, what, "give embeddings [3B, D] and labels [3B]"))
        if len(embeddings) != len(labels):
            what = f"{len(labels)} for {len(embeddings)} rows"
            raise InputError(Problem("labels", what, "give one for each row"))
        triplets: tuple[Tensor, Tensor, Tensor] = super().forward(embeddings, labels, ref_emb, ref_labels)
        return triplets

    def mine(
        self,
        embeddings: Tensor,
        labels: Tensor,
        ref_emb: Tensor,
        ref_labels: Tensor,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the triplets; called by the library, with `ref_emb` the embeddings themselves."""
        fix = "use PlanSampler as the batch_sampler and pass its batches on whole"
        if ref_emb is not embeddings:
            raise InputError(Problem("ref_emb", "a plan's triplets lie within the batch", "leave ref_emb out"))
        num_rows = len(labels)
        if num_rows == 0 or num_rows % 3:
            raise InputError(Problem("embeddings", f"{num_rows} rows are not anchors, positives and negatives", fix))
        anchor, positive, negative = torch.arange(num_rows, device=embeddings.device).chunk(3)
        wrong = (labels[anchor] != labels[positive]) | (labels[anchor] == labels[negative])
        if bool(wrong.any()):
            row = int(wrong.nonzero()[0])
            classes = [labels[part[row]].item() for part in (anchor, positive, negative)]
            raise InputError(
                Problem(
                    "labels",
                    f"triplet {row} has the classes {classes[0]}, {classes[1]} and {classes[2]}, not a, a and b: the "
                    "batch is not in plan order",
                    fix,
                )
            )
        return anchor, positive, negative
