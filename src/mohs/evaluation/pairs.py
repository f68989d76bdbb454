"""Pairs of items to verify: all of them, or drawn by a law that says how many pairs each stands for.

A pair is *positive* if both items are of one class, *negative* if not; it has no order, and no item is paired with
itself. N items have N(N − 1)/2 pairs, too many to look at from some thousands of items on.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import numpy.typing as npt

from mohs.checks import class_labels, plain_array, require, wrong_whole
from mohs.errors import InputError
from mohs.evaluation.checked import (
    Array,
    Bools,
    Float32,
    Float64,
    Index,
    checked_embeddings,
    class_codes,
)
from mohs.evaluation.exact_neighbours import nearest_negatives, paired_distances
from mohs.randomness import generator

__all__ = ["Pairs", "cross_pairs", "pair_distances", "sample_pairs"]


@final
@dataclass(frozen=True, eq=False)
class Pairs:
    """P pairs among N items.

    Attributes:
        first_P: item indices, int64 [P].
        second_P: the other items, int64 [P].
        class_N: class number of each item, int64 [N], 0..C−1.
        weight_P: float64 [P], how many pairs of the population each stands for; 1 if it is there on its own account.
        law: how the pairs were chosen, one sentence.
    """

    first_P: Index
    second_P: Index
    class_N: Index
    weight_P: Float64
    law: str

    def __len__(self) -> int:
        return len(self.first_P)

    @property
    def same(self) -> Bools:
        """Whether each pair is positive, bool [P]."""
        same: Bools = self.class_N[self.first_P] == self.class_N[self.second_P]
        return same


def sample_pairs(
    labels_N: npt.ArrayLike,
    *,
    embeddings_ND: npt.ArrayLike | None = None,
    num_nearest: int = 0,
    num_negatives: int = 500_000,
    max_positives: int = 100_000,
    max_positives_per_class: int = 1000,
    seed: int = 0,
) -> Pairs:
    """Return pairs by this law, all without replacement; all pairs if they are not more than allowed.

    - **Positives**: of each class the same number at most, uniformly from its pairs; the number is the largest, up to
      `max_positives_per_class`, with which there are at most `max_positives` in all (if even one from each class is too
      many, from that many classes drawn uniformly). So large classes do not decide alone.
    - **Negatives**: the `num_nearest` closest of all negative pairs (`nearest_negatives`; needs the embeddings), and
      `num_negatives` uniformly from all others.

    The weights are such that those of the positives add up to the number of all positive pairs, that each of the
    closest negatives counts 1, and that the drawn ones stand for all others. A weighted share of negatives is thus an
    unbiased estimate of the share of all negative pairs, with no noise at all among the closest, where thresholds are
    (stratified sampling; Cochran 1977, chapter 5). With 650,000 pairs, this takes about 60 MB.

    Args:
        labels_N: integers or strings [N].
        embeddings_ND: numbers [N, D], for `num_nearest`.
        num_nearest: at least 0.
        num_negatives: at least 0; with `num_nearest` at least 1.
        max_positives: at least 1.
        max_positives_per_class: at least 1; a class of n items has n(n − 1)/2 pairs.
        seed: integer in [0, 2**63).

    Raises:
        InputError: no class has two items, only one class, or a parameter out of range.

    >>> pairs = sample_pairs(["a", "a", "b"])
    >>> pairs.first_P.tolist(), pairs.second_P.tolist(), pairs.same.tolist()
    ([0, 0, 1], [1, 2, 2], [True, False, False])
    """
    labels = class_labels("labels_N", labels_N)
    require(wrong_whole("num_nearest", num_nearest, at_least=0, example=50_000))
    require(
        wrong_whole("num_negatives", num_negatives, at_least=0 if num_nearest else 1, example=500_000),
        wrong_whole("max_positives", max_positives, example=100_000),
        wrong_whole("max_positives_per_class", max_positives_per_class, example=1000),
    )
    if num_nearest and embeddings_ND is None:
        raise InputError(_NO_EMBEDDINGS)
    [class_N] = class_codes(labels)
    count_C = np.bincount(class_N)
    num_positive, num_negative = _num_pairs(count_C)
    if not num_positive or not num_negative:
        raise InputError(
            f"labels_N: {len(count_C)} {'class' if len(count_C) == 1 else 'classes'}, "
            f"{int((count_C > 1).sum())} of them with two items; pairs of one class and of two are both needed"
        )
    random = generator(seed, "verification pairs")
    positive_P2 = _positives(class_N, count_C, max_positives, max_positives_per_class, random)
    nearest_P2 = _NONE
    if num_negative <= num_nearest + num_negatives:
        drawn_P2 = _all_pairs(class_N, positive=False)
    else:
        if num_nearest:
            nearest_P2 = _nearest_negatives(embeddings_ND, num_nearest, labels)
        drawn_P2 = _drawn_negatives(class_N, count_C, num_negatives, nearest_P2, random)
    return _pairs(class_N, (positive_P2, nearest_P2, drawn_P2), num_positive, num_negative)


def cross_pairs(
    labels_N: npt.ArrayLike,
    query_N: npt.ArrayLike,
    *,
    embeddings_ND: npt.ArrayLike | None = None,
    num_nearest: int = 0,
    num_negatives: int = 500_000,
    max_positives: int = 100_000,
    seed: int = 0,
) -> Pairs:
    """Return pairs of a query and an item that is none, all without replacement; all of them if they are not too many.

    Positive pairs are drawn uniformly if they are more than `max_positives`. Negative pairs are the `num_nearest`
    closest and `num_negatives` drawn uniformly from all others. Weights are as in `sample_pairs`: they add up to the
    number of all such pairs, and each of the closest counts 1.

    Args:
        labels_N: integers or strings [N], of queries and gallery together.
        query_N: bool [N], which items are queries; the others are the gallery.
        embeddings_ND: numbers [N, D], for `num_nearest`.
        num_nearest: at least 0.
        num_negatives: at least 1.
        max_positives: at least 1.
        seed: integer in [0, 2**63).

    Raises:
        InputError: no query, no gallery, or no pair of one class or of two.

    >>> pairs = cross_pairs(["a", "b", "a"], [False, False, True])
    >>> pairs.first_P.tolist(), pairs.second_P.tolist(), pairs.same.tolist()
    ([2, 2], [0, 1], [True, False])
    """
    labels = class_labels("labels_N", labels_N)
    query = plain_array("query_N", query_N)
    if query.shape != labels.shape or query.dtype != np.bool_:
        raise InputError(
            f"query_N: shape {query.shape} and type {query.dtype}; give True or False for each of the {len(labels)} "
            "items"
        )
    [class_N] = class_codes(labels)
    queries, gallery = np.flatnonzero(query), np.flatnonzero(~query)
    # The gallery by class, so that the partners of a query are one slice.
    gallery = gallery[np.argsort(class_N[gallery], kind="stable")]
    count_C = np.bincount(class_N[gallery], minlength=int(class_N.max()) + 1) if len(labels) else np.zeros(1, np.int64)
    count_Q, start_Q = count_C[class_N[queries]], (np.cumsum(count_C) - count_C)[class_N[queries]]
    num_positive = int(count_Q.sum())
    num_negative = len(queries) * len(gallery) - num_positive
    if not num_positive or not num_negative:
        raise InputError(
            f"labels_N, query_N: {len(queries):,} queries and {len(gallery):,} others have {num_positive:,} pairs of "
            f"one class and {num_negative:,} of two; both are needed"
        )
    random = generator(seed, "pairs of queries and gallery")
    places = np.arange(num_positive)
    if num_positive > max_positives:
        places = np.sort(random.choice(num_positive, size=max_positives, replace=False))
    end_Q = np.cumsum(count_Q)
    of_query = np.searchsorted(end_Q, places, side="right")
    positive_P2 = np.stack(
        [queries[of_query], gallery[start_Q[of_query] + places - (end_Q - count_Q)[of_query]]], axis=1
    )
    nearest_P2 = _NONE
    if num_negative <= num_nearest + num_negatives:
        drawn_P2 = _all_cross_negatives(queries, gallery, class_N)
    else:
        if num_nearest:
            nearest_P2 = _nearest_negatives(embeddings_ND, num_nearest, labels, query)
            swapped = ~query[nearest_P2[:, 0]]
            nearest_P2[swapped] = nearest_P2[swapped][:, ::-1]
        drawn_P2 = _drawn_cross_negatives(queries, gallery, class_N, num_negatives, nearest_P2, random)
    pairs = _pairs(class_N, (positive_P2, nearest_P2, drawn_P2), num_positive, num_negative)
    told = f"each of one of {len(queries):,} queries and one of {len(gallery):,} items of the gallery"
    return replace(pairs, law=f"{pairs.law}; {told}")


def pair_distances(embeddings_ND: npt.ArrayLike, pairs: Pairs) -> Float32:
    """Return the Euclidean distance of each pair, float32 [P]: float64 arithmetic, rounded once.

    >>> pair_distances([[0.0], [2.0], [5.0]], sample_pairs(["a", "a", "b"])).tolist()
    [2.0, 5.0, 3.0]
    """
    x_ND = checked_embeddings(embeddings_ND, "embeddings_ND")
    if len(x_ND) != len(pairs.class_N):
        raise InputError(
            f"embeddings_ND: {len(x_ND)} rows, but the pairs are of {len(pairs.class_N)} items; give the same"
        )
    return paired_distances(x_ND, pairs.first_P, pairs.second_P)


_NO_EMBEDDINGS = "embeddings_ND: none, but num_nearest is above 0; give the embeddings, or num_nearest=0"
_NONE = np.empty((0, 2), dtype=np.int64)


def _pairs(class_N: Index, parts: tuple[Index, Index, Index], num_positive: int, num_negative: int) -> Pairs:
    """Return positive pairs, the closest negative ones and those drawn of the others, [P, 2] each, with weights."""
    positive_P2, nearest_P2, drawn_P2 = parts
    num_others = num_negative - len(nearest_P2)
    pairs_P2 = np.concatenate(parts)
    weight_P = np.concatenate(
        [
            np.full(len(positive_P2), num_positive / len(positive_P2)),
            np.ones(len(nearest_P2)),
            np.full(len(drawn_P2), num_others / max(1, len(drawn_P2))),
        ]
    )
    of_class = "all" if len(positive_P2) == num_positive else f"{len(positive_P2):,} drawn of"
    others = f"all {num_negative:,} of two classes"
    if len(drawn_P2) < num_others:
        closest = f"the {len(nearest_P2):,} closest and " if len(nearest_P2) else ""
        others = f"{closest}{len(drawn_P2):,} drawn of {'the other ' if closest else ''}{num_others:,} of two classes"
    law = f"{of_class} {num_positive:,} pairs of one class; {others}"
    return Pairs(pairs_P2[:, 0], pairs_P2[:, 1], class_N, weight_P, law)


def _nearest_negatives(
    embeddings_ND: npt.ArrayLike | None, num_nearest: int, labels_N: Array, query_N: Bools | None = None
) -> Index:
    if embeddings_ND is None:
        raise InputError(_NO_EMBEDDINGS)
    return nearest_negatives(embeddings_ND, labels_N, num_nearest, query_N=query_N)


def _num_pairs(count_C: Index) -> tuple[int, int]:
    num_items = int(count_C.sum())
    num_positive = int((count_C * (count_C - 1) // 2).sum())
    return num_positive, num_items * (num_items - 1) // 2 - num_positive


def _all_pairs(class_N: Index, *, positive: bool) -> Index:
    """Return all pairs of one kind, int64 [P, 2], smaller index first, ascending."""
    # In class order, the partners that come after an item are one slice: the rest of its class, or all behind it.
    order_N = np.argsort(class_N, kind="stable")
    end_N = np.cumsum(np.bincount(class_N))[class_N[order_N]]
    place_N = np.arange(len(class_N))
    start_N, stop_N = (place_N + 1, end_N) if positive else (end_N, np.full_like(end_N, len(class_N)))
    count_N = stop_N - start_N
    first_P = np.repeat(place_N, count_N)
    second_P = np.arange(len(first_P)) - np.repeat(np.cumsum(count_N) - count_N - start_N, count_N)
    pairs_P2 = np.sort(np.stack([order_N[first_P], order_N[second_P]], axis=1), axis=1)
    return pairs_P2[np.lexsort((pairs_P2[:, 1], pairs_P2[:, 0]))]


def _positives(
    class_N: Index, count_C: Index, max_positives: int, max_per_class: int, random: np.random.Generator
) -> Index:
    num_C = count_C * (count_C - 1) // 2
    cap = _largest_cap(num_C, max_positives, max_per_class)
    if num_C.max() <= cap:
        return _all_pairs(class_N, positive=True)
    order_N = np.argsort(class_N, kind="stable")
    start_C = np.cumsum(count_C) - count_C
    classes = np.flatnonzero(num_C)
    if cap == 0:
        cap, classes = 1, np.sort(random.choice(classes, size=max_positives, replace=False))
    parts = []
    for c in classes.tolist():
        number_P = np.arange(num_C[c]) if num_C[c] <= cap else random.choice(num_C[c], size=cap, replace=False)
        # Pair number j(j − 1)/2 + i is of places i < j.
        second_P = ((1 + np.sqrt(1 + 8 * number_P)) / 2).astype(np.int64)
        first_P = number_P - second_P * (second_P - 1) // 2
        parts.append(start_C[c] + np.stack([first_P, second_P], axis=1))
    pairs_P2 = np.sort(order_N[np.concatenate(parts)], axis=1)
    return pairs_P2[np.lexsort((pairs_P2[:, 1], pairs_P2[:, 0]))]


def _largest_cap(num_C: Index, max_positives: int, max_per_class: int) -> int:
    """Return the largest cap ≤ max_per_class with Σ min(num, cap) ≤ max_positives; 0 if not even 1 has."""
    low, high = 0, max_per_class
    while low < high:
        middle = (low + high + 1) // 2
        if np.minimum(num_C, middle).sum() <= max_positives:
            low = middle
        else:
            high = middle - 1
    return low


def _drawn_negatives(
    class_N: Index, count_C: Index, num_drawn: int, left_out_P2: Index, random: np.random.Generator
) -> Index:
    """Return `num_drawn` different negative pairs, uniformly from those not left out, ascending."""
    num_items = len(class_N)
    if _num_pairs(count_C)[1] <= 4 * (num_drawn + len(left_out_P2)):
        return _drawn_of_few(_all_pairs(class_N, positive=False), num_drawn, left_out_P2, num_items, random)
    # An item with the probability of its number of partners, then a partner: each pair is as likely as any other.
    order_N = np.argsort(class_N, kind="stable")
    start_C = np.cumsum(count_C) - count_C
    class_share_C = np.cumsum(count_C * (num_items - count_C))

    def draw(num: int) -> Index:
        size = num + num_drawn // 8 + 16
        class_P = np.searchsorted(class_share_C, random.integers(class_share_C[-1], size=size), side="right")
        first_P = start_C[class_P] + random.integers(count_C[class_P])
        second_P = random.integers(num_items - count_C[class_P])
        # Places before the class stay, places from it on jump over it.
        second_P += np.where(second_P >= start_C[class_P], count_C[class_P], 0)
        first_P, second_P = order_N[first_P], order_N[second_P]
        return _codes(np.sort(np.stack([first_P, second_P], axis=1), axis=1), num_items)

    return _different(draw, num_drawn, left_out_P2, num_items)


def _codes(pairs_P2: Index, num_items: int) -> Index:
    """Return the number i·N + j of each pair."""
    code_P: Index = pairs_P2[:, 0] * num_items + pairs_P2[:, 1]
    return code_P


def _all_cross_negatives(queries: Index, gallery: Index, class_N: Index) -> Index:
    first_P, second_P = np.repeat(queries, len(gallery)), np.tile(gallery, len(queries))
    other_P = class_N[first_P] != class_N[second_P]
    return np.stack([first_P[other_P], second_P[other_P]], axis=1)


def _drawn_cross_negatives(
    queries: Index, gallery: Index, class_N: Index, num_drawn: int, left_out_P2: Index, random: np.random.Generator
) -> Index:
    """Return `num_drawn` different negative pairs, uniformly from those not left out; there are more of them."""
    num_items = len(class_N)
    if len(queries) * len(gallery) <= 4 * (num_drawn + len(left_out_P2)):
        all_P2 = _all_cross_negatives(queries, gallery, class_N)
        return _drawn_of_few(all_P2, num_drawn, left_out_P2, num_items, random)

    def draw(num: int) -> Index:
        size = 2 * num + 16
        first_P, second_P = random.choice(queries, size=size), random.choice(gallery, size=size)
        other_P = class_N[first_P] != class_N[second_P]
        return _codes(np.stack([first_P[other_P], second_P[other_P]], axis=1), num_items)

    return _different(draw, num_drawn, left_out_P2, num_items)


def _drawn_of_few(
    all_P2: Index, num_drawn: int, left_out_P2: Index, num_items: int, random: np.random.Generator
) -> Index:
    """Return some of all pairs: where these are few, most single draws would be repeats."""
    others_P2 = all_P2[~np.isin(_codes(all_P2, num_items), _codes(left_out_P2, num_items))]
    return others_P2[np.sort(random.choice(len(others_P2), size=min(num_drawn, len(others_P2)), replace=False))]


def _different(draw: Callable[[int], Index], num_drawn: int, left_out_P2: Index, num_items: int) -> Index:
    """Return `num_drawn` different pairs, ascending; `draw` gives codes i·N + j, and is asked for as many as lack."""
    codes = np.empty(0, dtype=np.int64)
    left_out = _codes(left_out_P2, num_items)
    while len(codes) < num_drawn:
        new = draw(num_drawn - len(codes))
        codes = np.concatenate([codes, new[~np.isin(new, left_out)]])
        # Each pair where it was drawn first, so that those kept are the first num_drawn different ones.
        codes = codes[np.sort(np.unique(codes, return_index=True)[1])]
    chosen = np.sort(codes[:num_drawn])
    return np.stack([chosen // num_items, chosen % num_items], axis=1)
