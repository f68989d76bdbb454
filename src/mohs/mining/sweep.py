"""All items as anchors at once: half the products, because each pair serves both of its items.

The bank is cut into tiles and every pair of tiles is multiplied once. A pass answers one question for every anchor:
the nearest item at or beyond a distance of its own, or the farthest item. Each thread keeps its own finds, of 12 bytes
per item, and they are merged by (distance, item index), so that the result does not depend on who found what.

Excluded pairs leave the product for both items; the few that may have each other one way only are tried one by one.
"""

import threading
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from mohs.mining import sweep_kernels
from mohs.mining.bank import TILE, CentredBank
from mohs.mining.exclusions import TilePairs
from mohs.mining.frame import Frame
from mohs.mining.problem import Float32, Float64, MiningProblem
from mohs.mining.sweep_kernels import Search
from mohs.mining.threads import Progress, for_each

__all__ = ["Asked", "farthest", "nearest_from", "place_of_items", "search_lines", "sweep", "sweep_bytes"]

_TILES_PER_TASK = 16
_FIND_BYTES = 12  # an index and a distance
_SEARCH_ITEM_BYTES = 4 + 12 + 16  # limit, `static_N3`, `exact_N2`
_SHARED_ITEM_BYTES = 8 + 16 + 40  # classes, their slices, thresholds and what waves are made from


@final
@dataclass(frozen=True, eq=False)
class Asked:
    """One question to every item; see `sweep_kernels.py` for the arrays. Items are in the order of the tiles."""

    sign: np.float32
    static_N3: Float32
    exact_N2: Float64


def nearest_from(bank: CentredBank, tau_N: Float64) -> Asked:
    """Return the question for the nearest item with distance ≥ tau, for every item; inf asks nothing of an item."""
    return _asked(bank, np.float32(1), tau_N)


def farthest(bank: CentredBank) -> Asked:
    """Return the question for the farthest item of every item."""
    return _asked(bank, np.float32(-1), np.zeros(len(bank.half_norm_M)))


def sweep(
    problem: MiningProblem, bank: CentredBank, questions: list[Asked], threads: int, tick: Progress | None = None
) -> list[tuple[NDArray[np.int64], Float32]]:
    """Return for each question the items found, int64[N] (−1 for none), and their distances, float32[N].

    Both are in the order of `problem.candidates_M`, which must be all items. `tick` is called with (tasks done, tasks)
    from the calling thread.
    """
    num_items = len(problem.candidates_M)
    class_M = problem.class_N[problem.candidates_M]
    own_N2 = np.stack([problem.class_start_C1[class_M], problem.class_start_C1[class_M + 1]], axis=1)
    # Limits are shared: whichever of two threads writes last, a limit is one that some find allows.
    limits = [np.full(num_items, sweep_kernels.NO_LIMIT) for _ in questions]
    local = threading.local()
    begun: list[list[Search]] = []

    def begin() -> list[Search]:
        begun.append(
            [
                Search(asked.sign, bank.frame.square, asked.static_N3, asked.exact_N2, limit_N, *_no_finds(num_items))
                for asked, limit_N in zip(questions, limits, strict=True)
            ]
        )
        return begun[-1]

    excluded = TilePairs(problem.exclusions, place_of_items(problem), TILE) if len(problem.exclusions) else None
    if excluded is not None and len(excluded.allowed_P2):
        for search in begin():
            sweep_kernels.try_pairs(excluded.allowed_P2, search, problem.bank_ND.readable, problem.candidates_M)

    def work(task: int) -> None:
        if not hasattr(local, "searches"):
            local.searches = begin()
            local.product_RC = np.empty(TILE * TILE, dtype=np.float32)
            local.left, local.right = bank.tile_buffer(), bank.tile_buffer()
        row = int(np.searchsorted(first_task_R, task, side="right")) - 1
        first = row + _TILES_PER_TASK * int(task - first_task_R[row])
        last = min(first + _TILES_PER_TASK, count)
        left_DR = bank.tile(row, local.left)
        for column in range(first, last):
            right_DC = bank.tile(column, local.right)
            shape = left_DR.shape[1], right_DC.shape[1]
            product_RC = local.product_RC[: shape[0] * shape[1]].reshape(shape)
            np.matmul(left_DR.T, right_DC, out=product_RC)
            for search in local.searches:
                if excluded is not None:
                    product_RC[excluded.within(row, column)] = -search.sign * np.float32(np.inf)
                sweep_kernels.search_tile(
                    product_RC, row * TILE, column * TILE, bank.half_norm_M, own_N2, search,
                    problem.bank_ND.readable, problem.candidates_M,
                )  # fmt: skip

    count = bank.num_tiles
    # A row of tiles meets itself and those after it.
    tasks_R = -(-(count - np.arange(count)) // _TILES_PER_TASK)
    first_task_R = np.cumsum(tasks_R) - tasks_R
    for_each(work, range(int(tasks_R.sum())), threads, tick)
    return [_merged([searches[k] for searches in begun]) for k in range(len(questions))]


def sweep_bytes(num_items: int, num_searches: int, threads: int) -> int:
    """Return what a sweep takes beside tiles: products, finds and limits of every search, arrays of searches."""
    per_item = _SHARED_ITEM_BYTES + num_searches * (_SEARCH_ITEM_BYTES + threads * _FIND_BYTES)
    return num_items * per_item + threads * 4 * TILE * TILE


def place_of_items(problem: MiningProblem) -> NDArray[np.int64]:
    """Return where each item stands among the candidates, which must be all items, int64[N]."""
    place_N = np.empty(len(problem.bank_ND), dtype=np.int64)
    place_N[problem.candidates_M] = np.arange(len(problem.candidates_M))
    return place_N


def _asked(bank: CentredBank, sign: np.float32, tau_N: Float64) -> Asked:
    static_N3 = np.empty((len(tau_N), 3), dtype=np.float32)
    exact_N2 = np.empty((len(tau_N), 2), dtype=np.float64)
    # Tile by tile: what the limits are computed from would take more than the search itself.
    for t, tile in enumerate(bank.each_tile()):
        items = slice(t * TILE, t * TILE + tile.shape[1])
        tau_C = tau_N[items]
        half_norm_C = np.einsum("dc,dc->c", tile, tile, dtype=np.float64) / 2
        static_N3[items], exact_N2[items] = search_lines(bank.frame, sign, tau_C, half_norm_C)
    return Asked(sign, static_N3, exact_N2)


def search_lines(frame: Frame, sign: np.float32, tau_R: Float64, half_norm_R: Float64) -> tuple[Float32, Float64]:
    """Return what a search for items at distances ≥ tau compares keys with: see `sweep_kernels.py`.

    They are (low, sure, error), float32[R, 3], and (tau, zero), float64[R, 2]. A tau of inf asks nothing.
    """
    norm_R = np.sqrt(2 * half_norm_R)
    bound_R = frame.key_bound(norm_R)
    error_R = frame.key_error(norm_R) + 2.0**-22 * bound_R
    asked_R = np.isfinite(tau_R)
    # No key is beyond its bound, so a threshold need not be either.
    key_R = frame.key_of(np.where(asked_R, tau_R, 0.0), half_norm_R)
    threshold_R = sign * np.clip(key_R, -2.0 * bound_R, 2.0 * bound_R)
    # Without a threshold every key is in reach.
    low_R = np.where(tau_R > 0, threshold_R - error_R, -1.01 * bound_R - error_R)
    low32_R = np.nextafter(low_R.astype(np.float32), np.float32(-np.inf))
    sure_R = np.where(tau_R > 0, (threshold_R + error_R - low32_R) * (1 + 2.0**-20), 0.0)
    low32_R[~asked_R] = 1e38
    static_R3 = np.stack([low32_R, sure_R, error_R * (1 + 2.0**-20)], axis=1).astype(np.float32)
    return static_R3, np.stack([tau_R, half_norm_R], axis=1)


def _no_finds(num_items: int) -> tuple[NDArray[np.int64], Float32]:
    return np.full(num_items, -1, dtype=np.int64), np.full(num_items, np.inf, dtype=np.float32)


def _merged(searches: list[Search]) -> tuple[NDArray[np.int64], Float32]:
    for other in searches[1:]:
        keep_better(searches[0], other)
    return searches[0].found_N, searches[0].distance_N


def keep_better(search: Search, other: Search) -> None:
    """Take over what was found elsewhere where it is nearer (sign −1: farther); the lower item wins ties, −1 none."""
    nearer_N = search.sign * other.distance_N < search.sign * search.distance_N
    tie_N = (other.distance_N == search.distance_N) & (other.found_N < search.found_N)
    better_N = (other.found_N >= 0) & ((search.found_N < 0) | nearer_N | tie_N)
    search.found_N[better_N], search.distance_N[better_N] = other.found_N[better_N], other.distance_N[better_N]
