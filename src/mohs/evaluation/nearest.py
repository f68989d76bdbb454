"""The closest pairs of all: where a verification threshold lies, and where precision at the top is decided."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, final

import numpy as np
import numpy.typing as npt

from mohs.distances import exact_distance
from mohs.errors import InputError
from mohs.evaluation.checked import checked_embeddings, checked_labels, class_codes

__all__ = ["Among", "NearestPairs", "nearest_pairs"]

Among: TypeAlias = Literal["all", "positive", "negative"]

# A tile of 1,024 x 1,024 float32 is 4 MB. Fixed, so that results never depend on the machine.
_TILE = 1024
_PAIRS_PER_BLOCK = 8192


@final
@dataclass(frozen=True, eq=False)
class NearestPairs:
    """Pairs of items, closest first.

    Attributes:
        first_P: item indices, int64 [P], the smaller of each pair.
        second_P: the other items, int64 [P].
        distance_P: Euclidean, float32 [P], ascending.
        same_P: bool [P], whether the pair is of one class; all False without labels.
    """

    first_P: npt.NDArray[np.int64]
    second_P: npt.NDArray[np.int64]
    distance_P: npt.NDArray[np.float32]
    same_P: npt.NDArray[np.bool_]


def nearest_pairs(
    embeddings_ND: npt.ArrayLike,
    num_pairs: int,
    *,
    labels_N: npt.ArrayLike | None = None,
    among: Among = "all",
    query_N: npt.NDArray[np.bool_] | None = None,
) -> NearestPairs:
    """Return the `num_pairs` pairs of items that are closest to one another, out of all N(N − 1)/2; fewer if fewer are.

    They are ordered by (distance, smaller index, larger index). Candidates, an eighth more than asked for, come from
    float32 products of the centred rows, tile by tile (4 MB); the exact distance (float64, rounded to float32)
    orders them. A pair can be missed only if products are off by more than the distance to the last candidate, which
    takes that eighth of pairs to lie within rounding of each other.

    Args:
        embeddings_ND: numbers [N, D].
        num_pairs: at least 1.
        labels_N: integers or strings [N].
        among: "all" pairs, or "positive" (of one class) or "negative" ones only, which need labels.
        query_N: bool [N]: only pairs of an item that is marked and one that is not.

    Raises:
        InputError: fewer than two items, no such pair, or a parameter out of range.

    >>> found = nearest_pairs([[0.0], [5.0], [1.0]], 2)
    >>> found.first_P.tolist(), found.second_P.tolist(), found.distance_P.tolist()
    ([0, 1], [2, 2], [1.0, 4.0])
    """
    x_ND = checked_embeddings(embeddings_ND, "embeddings_ND")
    if isinstance(num_pairs, bool) or not isinstance(num_pairs, int | np.integer) or num_pairs < 1:
        raise InputError(f"num_pairs: {num_pairs!r} is not an integer >= 1; use for example 1000")
    if among not in ("all", "positive", "negative"):
        raise InputError(f"among: {among!r} is not one of 'all', 'positive', 'negative'; use for example 'all'")
    if labels_N is None:
        if among != "all":
            raise InputError(f"labels_N: none, but among={among!r} needs them; give one label for each row")
        class_N = np.arange(len(x_ND))
    else:
        [class_N] = class_codes(checked_labels(labels_N, "labels_N", len(x_ND)))
    candidates = _candidates(x_ND, class_N, num_pairs + num_pairs // 8 + 64, among, query_N)
    if not len(candidates):
        raise InputError(f"embeddings_ND: no {'' if among == 'all' else among + ' '}pair among {len(x_ND)} items")
    first_P, second_P = candidates // len(x_ND), candidates % len(x_ND)
    distance_P = np.empty(len(candidates), dtype=np.float32)
    for start in range(0, len(candidates), _PAIRS_PER_BLOCK):
        block = slice(start, start + _PAIRS_PER_BLOCK)
        distance_P[block] = exact_distance(x_ND[first_P[block]], x_ND[second_P[block]])
    order = np.lexsort((candidates, distance_P))[:num_pairs]
    first_P, second_P = first_P[order], second_P[order]
    return NearestPairs(first_P, second_P, distance_P[order], class_N[first_P] == class_N[second_P])


def _candidates(
    x_ND: npt.NDArray[np.float64],
    class_N: npt.NDArray[np.int64],
    num_kept: int,
    among: Among,
    query_N: npt.NDArray[np.bool_] | None,
) -> npt.NDArray[np.int64]:
    """Return the codes i·N + j, i < j, of the closest pairs by float32 products."""
    num_items = len(x_ND)
    # Centred and scaled, rounding is relative to the spread of the embeddings, and squares stay in range.
    centred_ND = x_ND - x_ND.mean(axis=0)
    scale = float(np.abs(centred_ND).max())
    centred_ND /= scale or 1.0
    half_square_N = np.einsum("nd,nd->n", centred_ND, centred_ND) / 2
    # Two more columns, and the product of a row of the left and one of the right is |a|²/2 + |b|²/2 − a·b = d²/2.
    ones_N = np.ones(num_items)
    left_NE = np.column_stack([-centred_ND, half_square_N, ones_N]).astype(np.float32)
    right_NE = np.column_stack([centred_ND, ones_N, half_square_N]).astype(np.float32)
    buffer = np.empty(_TILE**2, dtype=np.float32)
    kept_code, kept_value = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
    limit = np.float32(np.inf)
    for top in range(0, num_items, _TILE):
        rows = slice(top, min(top + _TILE, num_items))
        for left in range(top, num_items, _TILE):
            columns = slice(left, min(left + _TILE, num_items))
            if query_N is not None and np.ptp(np.concatenate([query_N[rows], query_N[columns]]).astype(np.int64)) == 0:
                continue  # all on one side
            num_rows, num_columns = rows.stop - rows.start, columns.stop - columns.start
            tile = buffer[: num_rows * num_columns]
            np.matmul(left_NE[rows], right_NE[columns].T, out=tile.reshape(num_rows, num_columns))
            flat = np.flatnonzero(tile < limit)
            first, second = flat // num_columns + top, flat % num_columns + left
            wanted = first < second
            if query_N is not None:
                wanted &= query_N[first] != query_N[second]
            if among != "all":
                wanted &= (class_N[first] == class_N[second]) == (among == "positive")
            kept_code = np.concatenate([kept_code, (first * num_items + second)[wanted]])
            kept_value = np.concatenate([kept_value, tile[flat[wanted]]])
            if len(kept_code) > 2 * num_kept:
                nearest = np.argpartition(kept_value, num_kept - 1)[:num_kept]
                kept_code, kept_value = kept_code[nearest], kept_value[nearest]
                limit = kept_value.max()
    if len(kept_code) > num_kept:
        nearest = np.argpartition(kept_value, num_kept - 1)[:num_kept]
        kept_code = kept_code[nearest]
    return kept_code
