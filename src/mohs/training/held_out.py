"""The held-out curve: R@1 of a few test pictures after each segment, to be looked at and nothing else.

It decides nothing: no weights, no rate and no moment to stop are chosen by it. Else the test would not be a test.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from mohs.data.dataset import Dataset
from mohs.model.embedder import Embedder
from mohs.randomness import generator
from mohs.settings.config import RunConfig

__all__ = ["HeldOut", "choose_held_out"]

_MOST_CLASSES, _FEWEST_CLASSES = 200, 32
_SHARE = 0.2
_MIN_CLASSES = 10


@final
@dataclass(frozen=True, eq=False)
class HeldOut:
    """Pairs of pictures of C classes: query c searches among all other pictures, and match c is the right one.

    `matches_trained` says whether the matches are training pictures, as in a test of seen classes.
    """

    query_CHWC: NDArray[np.uint8]
    match_CHWC: NDArray[np.uint8]
    matches_trained: bool

    def hits(self, embedder: Embedder) -> NDArray[np.bool_]:
        """Return whether each query finds its match first, bool[C]; a tie counts against it, and so does NaN."""
        num = len(self.query_CHWC)
        x_ND = embedder.embed(np.concatenate([self.query_CHWC, self.match_CHWC])).astype(np.float64)
        query_CD, match_CD = x_ND[:num], x_ND[num:]
        # The gallery of seen classes is known pictures; of unseen classes, all others.
        gallery_GD = match_CD if self.matches_trained else np.concatenate([match_CD, query_CD])
        similarity_CG = query_CD @ gallery_GD.T
        here = np.arange(num)
        right_C = similarity_CG[here, here].copy()
        similarity_CG[here, here] = -np.inf
        if not self.matches_trained:
            similarity_CG[here, num + here] = -np.inf
        hits_C: NDArray[np.bool_] = right_C > similarity_CG.max(axis=1) + 1e-6
        return hits_C


def choose_held_out(
    dataset: Dataset, train_N: NDArray[np.bool_], test_N: NDArray[np.bool_], config: RunConfig
) -> HeldOut | None:
    """Return pairs of pictures of up to 200 test classes, drawn by the run's seed; None for fewer than 10.

    Of each class one test picture is the query. Its match is a training picture where test classes are trained on,
    else another test picture. There are at most so many classes that a segment shows five times their pictures to the
    network (but 32 in any case): a picture that is only embedded costs a third, so that the curve takes 7% of the
    training at most, and 3% by default.
    """
    training = config.training
    draw = generator(config.seed, "held-out curve")
    priority_N = draw.random(len(dataset))
    class_N = dataset.labels_id
    seen = bool(np.isin(class_N[test_N], class_N[train_N]).any())
    queries = _first_of_class(class_N, np.flatnonzero(test_N), priority_N)
    pool_N = train_N if seen else test_N & ~np.isin(np.arange(len(dataset)), queries)
    matches = _first_of_class(class_N, np.flatnonzero(pool_N), priority_N)
    shared, at_query, at_match = np.intersect1d(class_N[queries], class_N[matches], return_indices=True)
    if len(shared) < _MIN_CLASSES:
        return None
    pictures = config.for_classes(len(np.unique(class_N[train_N]))).training.length * config.loss.pictures_per_triplet
    most = max(_FEWEST_CLASSES, min(_MOST_CLASSES, int(_SHARE * pictures / training.num_segments / 2)))
    chosen = np.sort(draw.permutation(len(shared))[:most])
    query, match = queries[at_query[chosen]], matches[at_match[chosen]]
    return HeldOut(np.asarray(dataset.pictures[query]), np.asarray(dataset.pictures[match]), seen)


def _first_of_class(
    class_N: NDArray[np.int64], items: NDArray[np.int64], priority_N: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return of each class among the items the one of lowest priority number, ascending by class."""
    order = items[np.lexsort((priority_N[items], class_N[items]))]
    return order[np.unique(class_N[order], return_index=True)[1]]
