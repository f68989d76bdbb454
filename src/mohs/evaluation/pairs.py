"""Pairs of items to verify: all of them, or drawn by a law that says how many pairs each stands for.

A pair is *positive* if both items are of one class, *negative* if not; it has no order, and no item is paired with
itself. N items have N(N − 1)/2 pairs, too many to look at from some thousands of items on.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from mohs.distances import exact_distance
from mohs.errors import InputError
from mohs.evaluation.checked import checked_embeddings, checked_labels, class_codes
from mohs.evaluation.nearest import nearest_pairs
from mohs.randomness import generator

__all__ = ["Pairs", "pair_distances", "sample_pairs"]


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

    first_P: npt.NDArray[np.int64]
    second_P: npt.NDArray[np.int64]
    class_N: npt.NDArray[np.int64]
    weight_P: npt.NDArray[np.float64]
    law: str

    def __len__(self) -> int:
        return len(self.first_P)

    @property
    def same(self) -> npt.NDArray[np.bool_]:
        """Whether each pair is positive, bool [P]."""
        same: npt.NDArray[np.bool_] = self.class_N[self.first_P] == self.class_N[self.second_P]
        return same

    @property
    def prevalence(self) -> float:
        """The share of positive pairs in the population: by weight."""
        return float(self.weight_P[self.same].sum() / self.weight_P.sum())


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
    - **Negatives**: the `num_nearest` closest of all negative pairs (`nearest_pairs`; needs the embeddings), and
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
    labels = checked_labels(labels_N, "labels_N", np.shape(labels_N)[0] if np.ndim(labels_N) else 0)
    _check_counts(num_nearest, num_negatives, max_positives, max_positives_per_class)
    if num_nearest and embeddings_ND is None:
        raise InputError("embeddings_ND: none, but num_nearest is above 0; give the embeddings, or num_nearest=0")
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
    nearest_P2 = np.empty((0, 2), dtype=np.int64)
    if num_negative <= num_nearest + num_negatives:
        drawn_P2 = _all_pairs(class_N, positive=False)
    else:
        if num_nearest:
            x_ND = checked_embeddings(embeddings_ND, "embeddings_ND")  # type: ignore[arg-type]
            nearest = nearest_pairs(x_ND, num_nearest, labels_N=labels, among="negative")
            nearest_P2 = np.stack([nearest.first_P, nearest.second_P], axis=1)
        drawn_P2 = _drawn_negatives(class_N, count_C, num_negatives, nearest_P2, random)
    pairs_P2 = np.concatenate([positive_P2, nearest_P2, drawn_P2])
    weight_P = np.concatenate(
        [
            np.full(len(positive_P2), num_positive / len(positive_P2)),
            np.ones(len(nearest_P2)),
            np.full(len(drawn_P2), (num_negative - len(nearest_P2)) / max(1, len(drawn_P2))),
        ]
    )
    law = _law(num_positive, num_negative, len(positive_P2), len(nearest_P2), len(drawn_P2))
    return Pairs(pairs_P2[:, 0], pairs_P2[:, 1], class_N, weight_P, law)


def pair_distances(embeddings_ND: npt.ArrayLike, pairs: Pairs) -> npt.NDArray[np.float32]:
    """Return the Euclidean distance of each pair, float32 [P]: float64 arithmetic, rounded once.

    >>> pair_distances([[0.0], [2.0], [5.0]], sample_pairs(["a", "a", "b"])).tolist()
    [2.0, 5.0, 3.0]
    """
    x_ND = checked_embeddings(embeddings_ND, "embeddings_ND")
    if len(x_ND) != len(pairs.class_N):
        raise InputError(
            f"embeddings_ND: {len(x_ND)} rows, but the pairs are of {len(pairs.class_N)} items; give the same"
        )
    distance_P = np.empty(len(pairs), dtype=np.float32)
    for start in range(0, len(pairs), _PAIRS_PER_BLOCK):
        block = slice(start, start + _PAIRS_PER_BLOCK)
        distance_P[block] = exact_distance(x_ND[pairs.first_P[block]], x_ND[pairs.second_P[block]])
    return distance_P


# Two blocks of rows: 8,192 x 2,048 dimensions in float64 is 128 MB.
_PAIRS_PER_BLOCK = 8192


def _num_pairs(count_C: npt.NDArray[np.int64]) -> tuple[int, int]:
    num_items = int(count_C.sum())
    num_positive = int((count_C * (count_C - 1) // 2).sum())
    return num_positive, num_items * (num_items - 1) // 2 - num_positive


def _all_pairs(class_N: npt.NDArray[np.int64], *, positive: bool) -> npt.NDArray[np.int64]:
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
    class_N: npt.NDArray[np.int64],
    count_C: npt.NDArray[np.int64],
    max_positives: int,
    max_per_class: int,
    random: np.random.Generator,
) -> npt.NDArray[np.int64]:
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


def _largest_cap(num_C: npt.NDArray[np.int64], max_positives: int, max_per_class: int) -> int:
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
    class_N: npt.NDArray[np.int64],
    count_C: npt.NDArray[np.int64],
    num_drawn: int,
    left_out_P2: npt.NDArray[np.int64],
    random: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """Return `num_drawn` different negative pairs, uniformly from those not left out, ascending."""
    num_items = len(class_N)
    left_out = np.sort(left_out_P2[:, 0] * num_items + left_out_P2[:, 1])
    _, num_negative = _num_pairs(count_C)
    if num_negative <= 4 * (num_drawn + len(left_out)):
        all_P2 = _all_pairs(class_N, positive=False)
        others_P2 = all_P2[~np.isin(all_P2[:, 0] * num_items + all_P2[:, 1], left_out)]
        return others_P2[np.sort(random.choice(len(others_P2), size=num_drawn, replace=False))]
    # An item with the probability of its number of partners, then a partner: each pair is as likely as any other.
    order_N = np.argsort(class_N, kind="stable")
    start_C = np.cumsum(count_C) - count_C
    class_share_C = np.cumsum(count_C * (num_items - count_C))
    codes = np.empty(0, dtype=np.int64)
    while len(codes) < num_drawn:
        size = num_drawn - len(codes) + num_drawn // 8 + 16
        class_P = np.searchsorted(class_share_C, random.integers(class_share_C[-1], size=size), side="right")
        first_P = start_C[class_P] + random.integers(count_C[class_P])
        second_P = random.integers(num_items - count_C[class_P])
        # Places before the class stay, places from it on jump over it.
        second_P += np.where(second_P >= start_C[class_P], count_C[class_P], 0)
        first_P, second_P = order_N[first_P], order_N[second_P]
        new = np.minimum(first_P, second_P) * num_items + np.maximum(first_P, second_P)
        codes = np.concatenate([codes, new[~np.isin(new, left_out)]])
        # Each pair where it was drawn first, so that those kept are the first num_drawn different ones.
        codes = codes[np.sort(np.unique(codes, return_index=True)[1])]
    chosen = np.sort(codes[:num_drawn])
    return np.stack([chosen // num_items, chosen % num_items], axis=1)


def _law(num_positive: int, num_negative: int, positives: int, nearest: int, drawn: int) -> str:
    of_class = "all" if positives == num_positive else f"{positives:,} drawn of"
    if nearest + drawn == num_negative:
        others = f"all {num_negative:,} of two classes"
    else:
        closest = f"the {nearest:,} closest and " if nearest else ""
        others = (
            f"{closest}{drawn:,} drawn of {'the other ' if nearest else ''}{num_negative - nearest:,} of two classes"
        )
    return f"{of_class} {num_positive:,} pairs of one class; {others}"


def _check_counts(num_nearest: int, num_negatives: int, max_positives: int, max_positives_per_class: int) -> None:
    given = (
        ("num_nearest", num_nearest, 0, 50_000),
        ("num_negatives", num_negatives, 0, 500_000),
        ("max_positives", max_positives, 1, 100_000),
        ("max_positives_per_class", max_positives_per_class, 1, 1000),
    )
    problems = [
        f"{name}: {value!r} is not an integer >= {least}; use for example {example}"
        for name, value, least, example in given
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least
    ]
    if not problems and num_nearest + num_negatives < 1:
        problems = ["num_nearest, num_negatives: both are 0; pairs of two classes are needed: use for example 500000"]
    if problems:
        raise InputError(*problems)
