"""The pairs that a model is surest of: the most similar ones, down to a recall, over all pairs and exact.

A *similarity* is the dot product of unit rows, computed in float64 and rounded to six decimals, so that pairs of equal
pictures tie whatever batch they were embedded in. Pairs are unordered: (a, b) with a < b, or query and gallery item.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import numpy.typing as npt

from mohs.checks import require, wrong_number, wrong_whole
from mohs.distances import check_embeddings, unit_rows
from mohs.errors import InputError
from mohs.evaluation.checked import Bools, Float32, Float64, Index, checked_labels, class_codes

__all__ = ["TopPairs", "find_top_pairs"]


MAX_PAIRS = 1_000_000
DECIMALS = 6

# Fixed, so that a result never depends on the machine: 1,024 rows against 50,000 are 200 MB in float32.
_BLOCK_ROWS = 1024
_PAIRS_AT_ONCE = 2**20
# Float32 products of unit rows are within this of the truth; they only narrow the candidates.
_PRODUCT_ERROR = 1e-5


@final
@dataclass(frozen=True, eq=False)
class TopPairs:
    """The P most similar pairs, by (similarity, first, second), most similar first.

    Attributes:
        first_P, second_P: items of each pair; with queries and a gallery, the query and the gallery item.
        similarity_P: float64, in [-1, 1].
        same_P: bool, whether the labels are the same: a true match.
        threshold: every pair at least this similar is here, but for those that did not fit in.
        num_positive: pairs with the same label among all pairs, here or not.
        num_pairs: all pairs.
        num_true_left_out, num_false_left_out: pairs as similar as the last one here that did not fit in; 0 unless more
            than `max_pairs` tie, as in a collapsed embedding.
    """

    first_P: Index
    second_P: Index
    similarity_P: Float64
    same_P: Bools
    threshold: float
    num_positive: int
    num_pairs: int
    num_true_left_out: int = 0
    num_false_left_out: int = 0

    def __len__(self) -> int:
        return len(self.first_P)

    def take(self, rows: Bools | Index) -> "TopPairs":
        """Return some of the pairs; the counts stay those of all pairs."""
        names = ("first_P", "second_P", "similarity_P", "same_P")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    def before_recall(self, recall: float) -> "TopPairs":
        """Return the pairs at least as similar as the true match at which `recall` is reached (all, if it is not)."""
        similarity = self.similarity_P[self.same_P]
        place = max(1, math.ceil(recall * self.num_positive - 1e-9))
        if place > len(similarity):
            return self
        threshold = float(similarity[place - 1])
        return replace(self.take(self.similarity_P >= threshold), threshold=threshold)


def find_top_pairs(
    embeddings_ND: npt.ArrayLike,
    labels_N: npt.ArrayLike,
    *,
    query_N: npt.ArrayLike | None = None,
    recall: float = 0.5,
    threshold: float | None = None,
    normalise: bool = True,
    max_pairs: int = MAX_PAIRS,
) -> TopPairs:
    """Return the most similar pairs: all with a similarity of at least a threshold, true and false matches alike.

    The threshold is the similarity of the true match at which `recall` of all true matches is reached. At most
    `max_pairs` true and `max_pairs` false matches are kept: where there are more, the threshold is raised to the last
    one kept (beyond it the labels say little about the top). Exact; memory is O(1,024 · N + max_pairs), not O(N²).

    Args:
        embeddings_ND: numbers [N, D]; rows are divided by their norms.
        labels_N: integers or strings [N].
        query_N: bool [N]. None: each item with each other one. Else: each item marked here (a query) with each other
            item (the gallery).
        recall: share of the true matches, in (0, 1].
        threshold: similarity in [-1, 1] to use instead of the one that `recall` gives.
        normalise: False ranks by the dot product of the rows as they are (all divided by the largest norm).
        max_pairs: at least 1.

    Raises:
        InputError: shapes that do not fit, NaN or Inf, a row of norm 0, no true match at all, a value out of range.

    >>> x_ND = [[1.0, 0.0], [1.0, 0.01], [0.0, 1.0], [1.0, 0.02]]
    >>> pairs = find_top_pairs(x_ND, ["a", "a", "b", "b"], threshold=0.99)
    >>> list(zip(pairs.first_P.tolist(), pairs.second_P.tolist(), pairs.same_P.tolist()))
    [(0, 1, True), (1, 3, False), (0, 3, False)]
    """
    x_ND = unit_rows(embeddings_ND) if normalise else _below_one(embeddings_ND)
    [class_N] = class_codes(checked_labels(labels_N, "labels_N", len(x_ND)))
    require(
        wrong_number("recall", recall, above=0, at_most=1, example=0.1),
        None if threshold is None else wrong_number("threshold", threshold, at_least=-1, at_most=1, example=0.9),
        wrong_whole("max_pairs", max_pairs, example=MAX_PAIRS),
    )
    queries, gallery = _sides(query_N, len(x_ND))
    num_positive = _count_positive(class_N, queries, gallery)
    if num_positive == 0:
        raise InputError("labels_N: no two items that meet have the same label, so nothing can be found; add pictures")
    if threshold is None:
        wanted = _Top(min(max(1, math.ceil(recall * num_positive - 1e-9)), max_pairs), -1.0)
        for block in _true_blocks(class_N, queries, gallery):
            wanted.add(*block, _similarity(x_ND, *block))
        threshold = float(wanted.columns()[2][-1])
    true, false = _Top(max_pairs, threshold), _Top(max_pairs, threshold)
    for block in _true_blocks(class_N, queries, gallery):
        true.add(*block, _similarity(x_ND, *block))
    for block in _false_blocks(x_ND, class_N, queries, gallery, false):
        false.add(*block, _similarity(x_ND, *block))
    columns = [np.concatenate(both) for both in zip(true.columns(), false.columns(), strict=True)]
    same = np.arange(len(columns[0])) < len(true.columns()[0])
    order = np.lexsort((columns[1], columns[0], -columns[2]))
    last = max(true.floor, false.floor)
    order = order[columns[2][order] >= last]
    num_left_out = [0, 0]
    if true.cut or false.cut:
        similar = _Top(max_pairs, last)
        for block in _true_blocks(class_N, queries, gallery):
            num_left_out[0] += int((_similarity(x_ND, *block) >= last).sum())
        for block in _false_blocks(x_ND, class_N, queries, gallery, similar):
            num_left_out[1] += int((_similarity(x_ND, *block) >= last).sum())
        num_left_out[0] -= int(same[order].sum())
        num_left_out[1] -= int((~same[order]).sum())
    return TopPairs(
        columns[0][order],
        columns[1][order],
        columns[2][order],
        same_P=same[order],
        threshold=last,
        num_positive=num_positive,
        num_pairs=len(queries) * (len(queries) - 1) // 2 if gallery is None else len(queries) * len(gallery),
        num_true_left_out=num_left_out[0],
        num_false_left_out=num_left_out[1],
    )


@final
class _Top:
    """The `size` most similar of the pairs added so far; pairs below `floor` are not wanted (any more)."""

    def __init__(self, size: int, floor: float) -> None:
        self._size = size
        self._parts: list[tuple[Index, Index, Float64]] = []
        self._num_held = 0
        self.floor = floor
        self.cut = False

    def add(self, first: Index, second: Index, similarity: Float64) -> None:
        kept = similarity >= self.floor
        self._parts.append((first[kept], second[kept], similarity[kept]))
        self._num_held += int(kept.sum())
        if self._num_held >= 2 * self._size:
            self.columns()

    def columns(self) -> tuple[Index, Index, Float64]:
        """Return first, second and similarity of the pairs held, by (similarity, first, second)."""
        first, second, similarity = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        order = np.lexsort((second, first, -similarity))
        if len(order) > self._size:
            order, self.cut = order[: self._size], True
            self.floor = float(similarity[order[-1]])
        self._parts = [(first[order], second[order], similarity[order])]
        self._num_held = len(order)
        return self._parts[0]


def _sides(query_N: npt.ArrayLike | None, num_items: int) -> tuple[Index, Index | None]:
    """Return the queries and the gallery; no gallery if all items are both."""
    if query_N is None:
        return np.arange(num_items), None
    marked = np.asarray(query_N)
    if marked.shape != (num_items,) or marked.dtype != np.bool_:
        raise InputError(f"query_N: {marked.dtype}{marked.shape} is not bool [{num_items}]; mark the queries")
    if marked.all() or not marked.any():
        raise InputError(
            f"query_N: {int(marked.sum())} of {num_items} items are queries; leave query_N out, or mark some"
        )
    return np.flatnonzero(marked), np.flatnonzero(~marked)


def _below_one(embeddings_ND: npt.ArrayLike) -> Float32:
    x_ND = check_embeddings(embeddings_ND)
    largest = float(np.sqrt(np.einsum("nd,nd->n", x_ND, x_ND, dtype=np.float64).max()))
    if largest == 0.0:
        raise InputError("embeddings_ND: every row has norm 0; they cannot be ranked")
    below_one_ND: Float32 = x_ND / np.float32(largest)
    return below_one_ND


def _count_positive(class_N: Index, queries: Index, gallery: Index | None) -> int:
    num_classes = int(class_N.max()) + 1
    query_C = np.bincount(class_N[queries], minlength=num_classes)
    if gallery is None:
        return int((query_C * (query_C - 1) // 2).sum())
    return int((query_C * np.bincount(class_N[gallery], minlength=num_classes)).sum())


def _similarity(x_ND: Float32, first: Index, second: Index) -> Float64:
    similarity = np.empty(len(first))
    for start in range(0, len(first), 65536):
        block = slice(start, start + 65536)
        similarity[block] = np.einsum("pd,pd->p", x_ND[first[block]], x_ND[second[block]], dtype=np.float64)
    rounded: Float64 = np.clip(np.round(similarity, DECIMALS), -1.0, 1.0)
    return rounded


def _true_blocks(class_N: Index, queries: Index, gallery: Index | None) -> Iterator[tuple[Index, Index]]:
    """Yield the pairs of one class: of many small classes at once, of a large one in parts."""
    others = queries if gallery is None else gallery
    order = others[np.argsort(class_N[others], kind="stable")]
    stop_Q = np.searchsorted(class_N[order], class_N[queries], side="right")
    if gallery is None:  # a pair is met once, at its first item
        place_N = np.empty(len(class_N), dtype=np.int64)
        place_N[order] = np.arange(len(order))
        start_Q = place_N[queries] + 1
    else:
        start_Q = np.searchsorted(class_N[order], class_N[queries], side="left")
    count_Q = stop_Q - start_Q
    total_Q = np.cumsum(count_Q)
    begin = 0
    while begin < len(queries):
        done = total_Q[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(total_Q, done + _PAIRS_AT_ONCE, side="right")))
        count = count_Q[begin:end]
        first = np.repeat(queries[begin:end], count)
        offset = np.arange(len(first)) - np.repeat(np.cumsum(count) - count, count)
        yield first, order[np.repeat(start_Q[begin:end], count) + offset]
        begin = end


def _false_blocks(
    x_ND: Float32, class_N: Index, queries: Index, gallery: Index | None, top: _Top
) -> Iterator[tuple[Index, Index]]:
    """Yield the pairs of different classes that may be as similar as `top.floor`, which may rise meanwhile."""
    others = queries if gallery is None else gallery
    query_QD = x_ND if gallery is None else x_ND[queries]
    other_GD = x_ND if gallery is None else x_ND[gallery]
    for begin in range(0, len(queries), _BLOCK_ROWS):
        rows = slice(begin, begin + _BLOCK_ROWS)
        skip = begin if gallery is None else 0
        similarity_BG = query_QD[rows] @ other_GD[skip:].T
        flat = np.flatnonzero(similarity_BG >= np.float32(top.floor - _PRODUCT_ERROR))
        row, column = np.divmod(flat, similarity_BG.shape[1])
        first, second = queries[rows][row], others[skip:][column]
        wanted = class_N[first] != class_N[second]
        if gallery is None:
            wanted &= first < second
        yield first[wanted], second[wanted]
