"""Recall against the size of the gallery: what to expect of more or fewer classes than were tested."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt

from mohs.errors import InputError
from mohs.evaluation.checked import Float64, Index, checked_labels
from mohs.evaluation.intervals import class_intervals
from mohs.evaluation.retrieval import RetrievalResult

__all__ = ["GallerySizes", "expected_ranks", "gallery_sizes", "recall_by_gallery_size"]


@final
@dataclass(frozen=True)
class GallerySizes:
    """Recall@1 against the number of classes in the gallery.

    Attributes:
        num_classes: the sizes, ascending; the last is that of the whole gallery.
        recall_at_1: expected recall@1 at each size.
        intervals: 95% intervals of it over classes; empty if the queries that count are of one class only.
    """

    num_classes: tuple[int, ...]
    recall_at_1: tuple[float, ...]
    intervals: tuple[tuple[float, float], ...]

    def as_record(self) -> dict[str, Any]:
        """Return the curve as JSON values."""
        return {
            "num_classes": list(self.num_classes),
            "recall@1": list(self.recall_at_1),
            "intervals": [list(interval) for interval in self.intervals],
        }


def recall_by_gallery_size(
    result: RetrievalResult,
    query_labels_Q: npt.ArrayLike,
    gallery_labels_G: npt.ArrayLike,
    *,
    sizes: Sequence[int] | None = None,
) -> GallerySizes:
    """Return the expected recall@1 of galleries of m classes: the query's own and m − 1 others drawn at random.

    All sets of others are as likely, and the expectation over them has a closed form, so that nothing is drawn and no
    noise of drawing is added. Of the C classes of the gallery let w have an item that is not farther than the query's
    first match. The query is a hit if none of these is drawn,

        P(hit) = binomial(C − 1 − w, m − 1) / binomial(C − 1, m − 1),

    and the mean over the queries with a match is returned. Classes are drawn, not items, for that is how a catalog
    grows. Beyond C nothing is extrapolated: new classes may be nearer to each other than those tested.

    Args:
        result: of the same queries and gallery.
        query_labels_Q: classes of the queries.
        gallery_labels_G: classes of the gallery.
        sizes: the m, each from 1 to C; none: 2, 5, 10, 20, 50 and so on below C, and C.

    >>> from mohs.evaluation.retrieval import evaluate_all_against_all
    >>> labels = ["a", "a", "b", "b", "c", "c"]
    >>> result = evaluate_all_against_all([[0.0], [2.0], [1.0], [1.05], [1.2], [9.0]], labels)
    >>> [round(recall, 3) for recall in recall_by_gallery_size(result, labels, labels, sizes=[1, 2, 3]).recall_at_1]
    [1.0, 0.417, 0.333]
    """
    labels_Q = checked_labels(query_labels_Q, "query_labels_Q", result.num_queries)
    num_classes = len(np.unique(checked_labels(gallery_labels_G, "gallery_labels_G", result.num_gallery)))
    chosen = gallery_sizes(num_classes) if sizes is None else sorted({int(size) for size in sizes})
    if not chosen or not 1 <= chosen[0] <= chosen[-1] <= num_classes:
        raise InputError(
            f"sizes: {list(sizes or ())!r} are not in [1, {num_classes}], the number of classes in the gallery"
        )
    wrong_Q = result.num_wrong_classes[result.counted]
    hits_SQ = np.stack([expected_ranks(wrong_Q, num_classes, size)[0] for size in chosen])
    intervals: list[tuple[float, float]] = []
    counted_labels_Q = labels_Q[result.counted]
    if (counted_labels_Q != counted_labels_Q[0]).any():
        intervals = class_intervals(hits_SQ, counted_labels_Q)
    return GallerySizes(tuple(chosen), tuple(hits_SQ.mean(axis=1).tolist()), tuple(intervals))


def gallery_sizes(num_classes: int) -> list[int]:
    """Return 2, 5, 10, 20, 50 and so on below a number of classes, and the number.

    >>> gallery_sizes(60)
    [2, 5, 10, 20, 50, 60]
    """
    steps = (step * 10**power for power in range(len(str(num_classes))) for step in (1, 2, 5))
    return [size for size in steps if 2 <= size < num_classes] + [num_classes]


def expected_ranks(wrong_Q: Index, num_classes: int, size: int) -> tuple[Float64, Float64]:
    """Return the expected hit and the expected reciprocal rank of each query in a gallery of `size` classes.

    The gallery has the query's class and size − 1 of the C − 1 others, all sets of them as likely. Of the others w are
    not farther than the query's class. With n = size − 1 drawn of N = C − 1 the first, as in `recall_by_gallery_size`,
    is the chance that none of the w is drawn. The second is the mean of 1 / (1 + k), k being those drawn of the w, that
    is the reciprocal rank of the query's class among classes; it has a closed form, too:

        (N + 1) / ((n + 1) (w + 1)) · (1 − binomial(N − w, n + 1) / binomial(N + 1, n + 1))

    Args:
        wrong_Q: int64 [Q], the w, from 0 to C − 1.
        num_classes: C.
        size: from 1 to C. None of these is checked.

    >>> hit, rank = expected_ranks(np.array([0, 1, 2]), 3, 2)
    >>> hit.round(3).tolist(), rank.round(3).tolist()
    ([1.0, 0.5, 0.0], [1.0, 0.75, 0.5])
    """
    others, drawn = num_classes - 1, size - 1
    hit_Q = _share_without(others, wrong_Q, drawn)
    # Without the w and one more: the same of N + 1 of which w + 1 are not to be drawn.
    none_Q = _share_without(others + 1, wrong_Q + 1, drawn + 1)
    rank_Q = (others + 1) / ((drawn + 1) * (wrong_Q + 1.0)) * (1.0 - none_Q)
    return hit_Q, np.minimum(rank_Q, 1.0)


def _share_without(num: int, wrong_Q: Index, num_drawn: int) -> Float64:
    """Return binomial(num − wrong, drawn) / binomial(num, drawn)."""
    log_factorial_n = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, num + 1)))])
    right_Q = num - wrong_Q
    none_Q = right_Q < num_drawn
    left_Q = np.where(none_Q, 0, right_Q - num_drawn)
    log_Q = log_factorial_n[right_Q] - log_factorial_n[left_Q]
    log_Q -= log_factorial_n[num] - log_factorial_n[num - num_drawn]
    return np.where(none_Q, 0.0, np.exp(np.minimum(log_Q, 0.0)))
