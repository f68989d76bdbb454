"""Which classes meet in a batch: ways of composing the classes of a pass, on vectors of classes.

`lab_neighbours.py` tries them; what won is `mohs.training.cliques`.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]

SEEDS_AT_ONCE = 64


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _nearest_free(similarity_F: Any, free_F: Any, taken_C: Any, ceiling: float, found_k: Any) -> int:
    """Write the most similar free classes into `found_k`, nearest first, and return how many there are."""
    count = 0
    best_k = np.empty(len(found_k), np.float32)
    for place in range(len(free_F)):
        value = similarity_F[place]
        if taken_C[free_F[place]] or value > ceiling or (count == len(found_k) and value <= best_k[-1]):
            continue
        at = min(count, len(found_k) - 1)
        while at > 0 and best_k[at - 1] < value:
            best_k[at] = best_k[at - 1]
            found_k[at] = found_k[at - 1]
            at -= 1
        best_k[at] = value
        found_k[at] = free_F[place]
        count = min(count + 1, len(found_k))
    return count


def cliques(
    vector_CD: Vectors, pool: Ids, size: int, random: np.random.Generator, *, skip: int = 0, ceiling_C: Vectors | None
) -> list[list[int]]:
    """Return the classes of `pool` in cliques: one at random, with the `size` − 1 nearest free ones after `skip`.

    With `ceiling_C` a class more similar than that to the first one is passed over.
    """
    taken_C = np.zeros(len(vector_CD), dtype=bool)
    order = random.permutation(pool)
    found_k = np.empty(size - 1 + skip, np.int64)
    groups: list[list[int]] = []
    at = 0
    while at < len(order):
        seeds: list[int] = []
        while at < len(order) and len(seeds) < SEEDS_AT_ONCE:
            if not taken_C[order[at]]:
                seeds.append(int(order[at]))
            at += 1
        free_F = order[~taken_C[order]]
        similarity_SF = vector_CD[seeds] @ vector_CD[free_F].T
        for row, seed in enumerate(seeds):
            if taken_C[seed]:
                continue
            taken_C[seed] = True
            ceiling = np.inf if ceiling_C is None else float(ceiling_C[seed])
            count = _nearest_free(similarity_SF[row], free_F, taken_C, ceiling, found_k)
            chosen = found_k[:count][min(skip, max(0, count - (size - 1))) :]
            taken_C[chosen] = True
            groups.append([seed, *chosen.tolist()])
    return groups


def chains(vector_CD: Vectors, pool: Ids, size: int, random: np.random.Generator) -> list[list[int]]:
    """Return the classes of `pool` in chains: each class the nearest free one of the one before."""
    taken_C = np.zeros(len(vector_CD), dtype=bool)
    order = random.permutation(pool)
    found_1 = np.empty(1, np.int64)
    groups: list[list[int]] = []
    for seed in order.tolist():
        if taken_C[seed]:
            continue
        taken_C[seed] = True
        group = [seed]
        while len(group) < size:
            count = _nearest_free(vector_CD[order] @ vector_CD[group[-1]], order, taken_C, np.inf, found_1)
            if not count:
                break
            taken_C[found_1[0]] = True
            group.append(int(found_1[0]))
        groups.append(group)
    return groups


def walks(
    vector_CD: Vectors, pool: Ids, size: int, random: np.random.Generator, *, restart: float, num_edges: int = 100
) -> list[list[int]]:
    """Return the classes of `pool` in groups that a random walk with restart meets first, among nearest neighbours.

    From the seed, a step goes to one of the `num_edges` nearest free classes of where it stands, at random; with
    probability `restart` it goes back to the seed first.
    """
    taken_C = np.zeros(len(vector_CD), dtype=bool)
    order = random.permutation(pool)
    near_E = np.empty(num_edges, np.int64)
    groups: list[list[int]] = []
    for seed in order.tolist():
        if taken_C[seed]:
            continue
        taken_C[seed] = True
        group, here = [seed], seed
        while len(group) < size:
            here = seed if random.random() < restart else here
            count = _nearest_free(vector_CD[order] @ vector_CD[here], order, taken_C, np.inf, near_E)
            if not count:
                break
            here = int(near_E[random.integers(count)])
            taken_C[here] = True
            group.append(here)
        groups.append(group)
    return groups


def communities(vector_CD: Vectors, size: int, *, num_near: int = 100) -> list[list[int]]:
    """Return all classes in groups of about `size` that cut few edges between near neighbours, by METIS.

    Edges join each class with its `num_near` nearest ones. Needs the package pymetis, which Mohs does not need.
    """
    import pymetis

    near_CK = np.empty((len(vector_CD), num_near), np.int64)
    for first in range(0, len(vector_CD), 1024):
        similarity_SC = vector_CD[first : first + 1024] @ vector_CD.T
        rows = np.arange(len(similarity_SC))
        similarity_SC[rows, first + rows] = -np.inf
        near_CK[first : first + 1024] = np.argpartition(-similarity_SC, num_near, axis=1)[:, :num_near]
    # An edge counts from both ends; METIS wants it in both lists, once.
    ends_E2 = np.stack([np.repeat(np.arange(len(near_CK)), num_near), near_CK.ravel()], axis=1)
    ends_E2 = np.unique(np.concatenate([ends_E2, ends_E2[:, ::-1]]), axis=0)
    starts = np.searchsorted(ends_E2[:, 0], np.arange(len(near_CK) + 1))
    _, part_C = pymetis.part_graph(max(2, len(near_CK) // size), xadj=starts, adjncy=ends_E2[:, 1])
    order = np.argsort(part_C, kind="stable")
    return [group.tolist() for group in np.split(order, np.flatnonzero(np.diff(np.array(part_C)[order])) + 1)]
