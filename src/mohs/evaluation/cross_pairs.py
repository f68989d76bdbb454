"""Pairs of a query and an item of the gallery: those that a search in a catalog asks about."""

import numpy as np
import numpy.typing as npt

from mohs.errors import InputError
from mohs.evaluation.checked import as_numpy, checked_embeddings, checked_labels, class_codes
from mohs.evaluation.nearest import nearest_pairs
from mohs.evaluation.pairs import Pairs
from mohs.randomness import generator

__all__ = ["cross_pairs"]


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
    labels = checked_labels(labels_N, "labels_N", np.shape(labels_N)[0] if np.ndim(labels_N) else 0)
    query = as_numpy(query_N)
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
    nearest_P2 = np.empty((0, 2), dtype=np.int64)
    if num_negative <= num_nearest + num_negatives:
        drawn_P2 = _all_negatives(queries, gallery, class_N)
    else:
        if num_nearest:
            if embeddings_ND is None:
                raise InputError("embeddings_ND: none, but num_nearest is above 0; give them, or num_nearest=0")
            x_ND = checked_embeddings(embeddings_ND, "embeddings_ND")
            found = nearest_pairs(x_ND, num_nearest, labels_N=labels, among="negative", query_N=query)
            nearest_P2 = np.stack([found.first_P, found.second_P], axis=1)
            swapped = ~query[nearest_P2[:, 0]]
            nearest_P2[swapped] = nearest_P2[swapped][:, ::-1]
        drawn_P2 = _drawn_negatives(queries, gallery, class_N, num_negatives, nearest_P2, random)
    pairs_P2 = np.concatenate([positive_P2, nearest_P2, drawn_P2])
    weight_P = np.concatenate(
        [
            np.full(len(positive_P2), num_positive / len(positive_P2)),
            np.ones(len(nearest_P2)),
            np.full(len(drawn_P2), (num_negative - len(nearest_P2)) / max(1, len(drawn_P2))),
        ]
    )
    of_class = "all" if len(positive_P2) == num_positive else f"{len(positive_P2):,} drawn of"
    others = f"all {num_negative:,} of two classes"
    if len(nearest_P2) + len(drawn_P2) < num_negative:
        closest = f"the {len(nearest_P2):,} closest and " if len(nearest_P2) else ""
        others = f"{closest}{len(drawn_P2):,} drawn of {num_negative - len(nearest_P2):,} others of two classes"
    law = (
        f"{of_class} {num_positive:,} pairs of one class; {others}; each of one of {len(queries):,} queries and one of "
        f"{len(gallery):,} items of the gallery"
    )
    return Pairs(pairs_P2[:, 0], pairs_P2[:, 1], class_N, weight_P, law)


def _all_negatives(
    queries: npt.NDArray[np.int64], gallery: npt.NDArray[np.int64], class_N: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    first_P, second_P = np.repeat(queries, len(gallery)), np.tile(gallery, len(queries))
    other_P = class_N[first_P] != class_N[second_P]
    return np.stack([first_P[other_P], second_P[other_P]], axis=1)


def _drawn_negatives(
    queries: npt.NDArray[np.int64],
    gallery: npt.NDArray[np.int64],
    class_N: npt.NDArray[np.int64],
    num_drawn: int,
    left_out_P2: npt.NDArray[np.int64],
    random: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """Return `num_drawn` different negative pairs, uniformly from those not left out; there are more of them."""
    num_items = len(class_N)
    left_out = left_out_P2[:, 0] * num_items + left_out_P2[:, 1]
    # Few are there: draw places of all of them, since most draws would be repeats.
    if len(queries) * len(gallery) <= 4 * (num_drawn + len(left_out)):
        all_P2 = _all_negatives(queries, gallery, class_N)
        others_P2 = all_P2[~np.isin(all_P2[:, 0] * num_items + all_P2[:, 1], left_out)]
        return others_P2[np.sort(random.choice(len(others_P2), size=min(num_drawn, len(others_P2)), replace=False))]
    codes = np.empty(0, dtype=np.int64)
    while len(codes) < num_drawn:
        size = 2 * (num_drawn - len(codes)) + 16
        first_P, second_P = random.choice(queries, size=size), random.choice(gallery, size=size)
        new = (first_P * num_items + second_P)[class_N[first_P] != class_N[second_P]]
        codes = np.concatenate([codes, new[~np.isin(new, left_out)]])
        # Each pair where it was drawn first, so that those kept are the first num_drawn different ones.
        codes = codes[np.sort(np.unique(codes, return_index=True)[1])]
    codes = np.sort(codes[:num_drawn])
    return np.stack([codes // num_items, codes % num_items], axis=1)
