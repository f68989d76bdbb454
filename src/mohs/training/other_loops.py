"""Mohs in someone else's training loop: batch samplers for torch, and a miner for pytorch-metric-learning.

A plan; dataset[i] is (picture, class) of item i:

    sampler, miner = PlanSampler(plan, 32), PlanMiner()
    loader = DataLoader(dataset, batch_sampler=sampler)
    for pictures, classes in loader:
        embeddings = network(pictures)
        loss = triplet_loss(embeddings, classes, miner(embeddings, classes))

`examples/plan_in_another_loop.py` is a whole program. Batches that hold near classes:

    sampler = NeighbourhoodSampler(labels, 96)
    loader = DataLoader(dataset, batch_sampler=sampler)
    for number in range(10):
        sampler.set_pass(number, embed(dataset) if number else None)
        for pictures, classes in loader:
            loss = SupConLoss()(network(pictures), classes)
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import final

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from pytorch_metric_learning.miners import BaseMiner
from torch import Tensor
from torch.utils.data import BatchSampler, Sampler

from mohs.checks import class_labels, is_whole, require, wrong_number, wrong_whole
from mohs.distances import check_embeddings
from mohs.errors import InputError, Problem
from mohs.mining import mine
from mohs.mining.positives import choose_positives
from mohs.plan import TripletPlan
from mohs.randomness import check_seed, generator
from mohs.sequence import anchor_sequence
from mohs.training.cliques import find_cliques
from mohs.training.plan_segment import batch_slices

__all__ = ["NeighbourhoodSampler", "PlanMiner", "PlanSampler"]


class _BatchSampler(Sampler[list[int]], ABC):
    """Batches of items, the same in each iteration; to be given to a torch `DataLoader` as `batch_sampler`."""

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches; raise `InputError` if torch's own `BatchSampler` began this: it takes each for an index.

        `DataLoader(dataset, sampler=…)` puts the sampler into one. What fails then lies far from the mistake, or
        nothing fails and pictures come with an axis too many. A sampler is not told how it is used; who begins its
        iteration is all there is to see.
        """
        if sys._getframe(1).f_code is BatchSampler.__iter__.__code__:
            what = f"{type(self).__name__} yields batches, and was given as the sampler of single items"
            fix = "give it as batch_sampler: DataLoader(dataset, batch_sampler=...), without batch_size and shuffle"
            raise InputError(Problem("sampler", what, fix))
        return self._batches()

    @abstractmethod
    def _batches(self) -> Iterator[list[int]]:
        """Yield the batches."""


@final
class PlanSampler(_BatchSampler):
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
            what = (
                f"{self._batch_triplets} gives batches of {smallest} triplets from a plan of {len(plan)}, fewer "
                f"than {self._num_ranks} processes"
            )
            raise InputError(Problem("batch_triplets", what, "use more triplets a batch"))
        self._plan = plan
        self._slices = [self._own(piece) for piece in slices]

    def __len__(self) -> int:
        """Return the number of batches of the plan."""
        return len(self._slices)

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
            what = (
                f"triplet {row} has the classes {classes[0]}, {classes[1]} and {classes[2]}, not a, a and b: the "
                "batch is not in plan order"
            )
            raise InputError(Problem("labels", what, fix))
        return anchor, positive, negative


@final
class NeighbourhoodSampler(_BatchSampler):
    """A torch batch sampler that shows every class once a pass, in batches of cliques of near classes.

    A batch of B classes is 2B indices: B anchors, then their B positives. The rule of the cliques is that of
    `mohs.training.cliques`, on the embeddings that `set_pass` was given last; without any, batches are random
    classes. Batches are consecutive and of near-equal size, at most `batch_classes`. An anchor that is alone in its
    class is its own positive, so the dataset should augment at random.

    It holds no random state: everything is drawn by (seed, number of the pass), and an iteration that is begun again
    yields the same.

    Args:
        labels_N: one class per item, strings or integers, two classes or more.
        batch_classes: the most classes in a batch, at least 2.
        size: the most classes in a clique; 1: batches are random classes.
        hardness: on the scale log-rank, in [0, 1]: 1 takes the nearest classes, less passes over the nearest ones.
        seed: in [0, 2**63).

    Raises `InputError` for numbers out of range, for labels of one class, and when a `DataLoader` that has it as
    `sampler` asks for its first batch.

    >>> sampler = NeighbourhoodSampler(["a", "a", "b", "b", "c", "c", "d", "d"], 2, size=2)
    >>> sampler.set_pass(1, np.float32([[0], [0], [9], [9], [1], [1], [8], [8]]))
    >>> [sorted("aabbccdd"[item] for item in batch) for batch in sampler]
    [['a', 'a', 'c', 'c'], ['b', 'b', 'd', 'd']]
    """

    def __init__(
        self, labels_N: ArrayLike, batch_classes: int, *, size: int = 8, hardness: float = 1.0, seed: int = 0
    ) -> None:
        require(
            wrong_whole("batch_classes", batch_classes, at_least=2),
            wrong_whole("size", size),
            wrong_number("hardness", hardness, at_least=0, at_most=1),
        )
        self._labels_N = class_labels("labels_N", labels_N)
        self._class_N = np.unique(self._labels_N, return_inverse=True)[1]
        self._num_classes = int(self._class_N.max(initial=-1)) + 1
        if self._num_classes < 2:
            what = f"{self._num_classes} class"
            raise InputError(Problem("labels_N", what, "give items of two classes or more"))
        self._batch_classes, self._size, self._hardness = int(batch_classes), int(size), float(hardness)
        self._seed = check_seed(seed)
        self.set_pass(0)

    def set_pass(self, number: int, embeddings_ND: ArrayLike | None = None) -> None:
        """Begin a pass, counted from 0; with embeddings of all items, its batches are composed of cliques."""
        require(wrong_whole("number", number, at_least=0))
        whole = anchor_sequence(self._labels_N, (number + 1) * self._num_classes, seed=self._seed)
        anchor_K = whole[number * self._num_classes :]
        positive_K = choose_positives(self._labels_N, whole, seed=self._seed)[0][number * self._num_classes :]
        order_K = np.arange(self._num_classes)
        if embeddings_ND is not None:
            order_K = self._in_cliques(check_embeddings(embeddings_ND), anchor_K, number)
        pairs_K2 = np.stack([anchor_K, positive_K], axis=1)[order_K]
        self._pairs_B2: list[NDArray[np.int64]] = [
            pairs_K2[piece] for piece in batch_slices(len(pairs_K2), self._batch_classes)
        ]

    def __len__(self) -> int:
        """Return the number of batches of a pass."""
        return len(self._pairs_B2)

    def _batches(self) -> Iterator[list[int]]:
        for pair_B2 in list(self._pairs_B2):
            yield pair_B2.T.ravel().tolist()

    def _in_cliques(
        self, embeddings_ND: NDArray[np.float32], anchor_K: NDArray[np.int64], number: int
    ) -> NDArray[np.int64]:
        if len(embeddings_ND) != len(self._labels_N):
            what = f"{len(embeddings_ND)} rows for {len(self._labels_N)} labels"
            raise InputError(Problem("embeddings_ND", what, "give one row per item"))

        def mine_among(rows_R: NDArray[np.int64], among_A: NDArray[np.int64], num: int) -> TripletPlan:
            return mine(
                embeddings_ND,
                self._labels_N,
                anchors_T=anchor_K[rows_R],
                positives_T=anchor_K[rows_R],
                hardness_T=self._hardness,
                scale="log-rank",
                candidates=among_A,
                num_negatives=num,
            )

        found, _ = find_cliques(anchor_K, self._class_N[anchor_K], self._size, mine_among)
        shuffled = generator(self._seed, "cliques", number).permutation(len(found)).tolist()
        return np.array([t for at in shuffled for t in found[at].triplets], dtype=np.int64)
