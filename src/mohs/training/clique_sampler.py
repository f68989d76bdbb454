"""Neighbourhoods in someone else's training loop: a batch sampler for torch whose batches hold near classes.

As in this loop; dataset[i] is (picture, class) of item i:

    sampler = NeighbourhoodSampler(labels, 96)
    loader = DataLoader(dataset, batch_sampler=sampler)
    for number in range(10):
        sampler.set_pass(number, embed(dataset) if number else None)
        for pictures, classes in loader:
            loss = SupConLoss()(network(pictures), classes)
"""

from collections.abc import Iterator
from typing import final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import Sampler

from mohs.checks import class_labels, require, wrong_number, wrong_whole
from mohs.distances import check_embeddings
from mohs.errors import InputError, Problem
from mohs.mining import mine
from mohs.mining.positives import choose_positives
from mohs.plan import TripletPlan
from mohs.randomness import check_seed, generator
from mohs.sequence import anchor_sequence
from mohs.training.cliques import find_cliques
from mohs.training.loader_use import require_batch_sampler
from mohs.training.plan_segment import batch_slices

__all__ = ["NeighbourhoodSampler"]


@final
class NeighbourhoodSampler(Sampler[list[int]]):
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

    def __iter__(self) -> Iterator[list[int]]:
        require_batch_sampler(type(self).__name__)
        return self._batches()

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
