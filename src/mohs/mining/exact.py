"""Exact mining on the CPU: a matrix product filters, exact distances decide.

The bank is centred first (distances do not change), so that the product's rounding error is relative to the spread of
the embeddings and not to their offset: a nearly collapsed bank is mined as exactly as a healthy one. Each thread takes
blocks of anchors against all candidates, tile by tile, into a buffer of its own that holds 2 bytes per pair
(`kernels.py` says how).

Extra memory: one copy of the candidates' embeddings, and for each thread a buffer of at most 54 MB up to 200,000
candidates and 256 bytes per candidate beyond. It never grows with N².
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from mohs.distances import exact_distance
from mohs.mining import kernels
from mohs.mining.problem import Problem
from mohs.mining.scales import achieved_by_distance, achieved_by_rank, margin_threshold, rank_of
from mohs.mining.threads import for_each, num_threads, one_blas_thread

__all__ = ["mine_exact"]

_TILE_COLUMNS = 512
_BLOCK_BYTES = 54 * 10**6
_MIN_ROWS, _MAX_ROWS = 128, 512
_SMALL = 10**6  # pairs; fewer are not worth a thread
_NEAR_SPREADS, _FAR_SPREADS = 24.0, 8.0
"""Bins cover this many standard deviations of the keys to either side of their mean; keys beyond share the end bins."""
_UNIT_ROUNDOFF = 2.0**-24

Float64: TypeAlias = NDArray[np.float64]


def mine_exact(problem: Problem, positive_distance_T: NDArray[np.float32]) -> tuple[NDArray[np.int64], Float64]:
    """Return the negatives, int64[T], and the achieved hardness, float64[T] in [0, 1].

    The result is that of the definition (`oracle.py`), index for index: it depends neither on the number of threads
    nor on how the matrix product rounds.
    """
    if problem.scale == "range":
        return _mine_range(problem)
    if problem.scale == "margin":
        return _mine_margin(problem, positive_distance_T)
    return _mine_rank(problem)


def _mine_range(p: Problem) -> tuple[NDArray[np.int64], Float64]:
    found_T = np.empty(len(p.anchors_T), dtype=np.int64)
    extreme_T2 = np.empty((len(p.anchors_T), 2), dtype=np.float32)

    def select(rows: slice, block: "_Block") -> None:
        kernels.select_range(
            block.bins_RM, block.anchor_R, block.own_R2, block.line_R3, block.square,
            p.hardness_T[rows], p.bank_ND, p.candidates_M, found_T[rows], extreme_T2[rows],
        )  # fmt: skip

    _for_each_block(p, select)
    distance_T = _distance(p, found_T)
    return found_T, achieved_by_distance(distance_T, extreme_T2[:, 1], extreme_T2[:, 0], p.hardness_T)


def _mine_margin(p: Problem, positive_distance_T: NDArray[np.float32]) -> tuple[NDArray[np.int64], Float64]:
    assert p.margin is not None
    found_T = np.empty(len(p.anchors_T), dtype=np.int64)
    enough_T = margin_threshold(positive_distance_T, p.hardness_T, p.margin, p.squared)
    farther_T = np.nextafter(positive_distance_T, np.float32(np.inf))
    tau_TK = np.stack([enough_T, farther_T, np.zeros_like(farther_T)], axis=1).astype(np.float64)

    def select(rows: slice, block: "_Block") -> None:
        kernels.select_nearest(
            block.bins_RM, block.anchor_R, block.own_R2, block.line_R3, block.square,
            tau_TK[rows], p.bank_ND, p.candidates_M, found_T[rows],
        )  # fmt: skip

    _for_each_block(p, select)
    key_T, positive_key_T = _distance(p, found_T).astype(np.float64), positive_distance_T.astype(np.float64)
    if p.squared:
        key_T, positive_key_T = key_T**2, positive_key_T**2
    return found_T, np.clip(1.0 - (key_T - positive_key_T) / p.margin, 0.0, 1.0)


def _mine_rank(p: Problem) -> tuple[NDArray[np.int64], Float64]:
    assert p.scale in ("rank", "log-rank")
    found_T = np.empty(len(p.anchors_T), dtype=np.int64)
    rank_T = rank_of(p.scale, p.hardness_T, p.num_negatives_T)
    # If keys were normally distributed, the rank would lie at z standard deviations and `peak_T` items around each.
    z_T = _normal_quantile((rank_T + 0.5) / p.num_negatives_T)
    peak_T = p.num_negatives_T * np.exp(-(z_T**2) / 2) / np.sqrt(2 * np.pi)

    def select(rows: slice, block: "_Block") -> None:
        kernels.select_rank(
            block.bins_RM, block.anchor_R, block.own_R2, block.line_R3, rank_T[rows],
            block.mean_R + z_T[rows] * block.spread_R, peak_T[rows] / block.spread_R,
            p.bank_ND, p.candidates_M, found_T[rows],
        )  # fmt: skip

    _for_each_block(p, select)
    return found_T, achieved_by_rank(p.scale, rank_T, p.num_negatives_T, p.hardness_T)


@final
@dataclass(frozen=True, eq=False)
class _Block:
    """Bins of R anchors against all candidates; `line_R3` is (slack, zero, step) of each anchor's bins.

    A distance d lies at (square·d² − zero)·step; mean and spread (standard deviation) are in bins too.
    """

    bins_RM: NDArray[np.uint16]
    anchor_R: NDArray[np.int64]
    own_R2: NDArray[np.int64]
    line_R3: Float64
    square: float
    mean_R: Float64
    spread_R: Float64


@final
class _Candidates:
    """The candidates' embeddings, centred and scaled by a power of two to norms below 1, as tiles [D, C]."""

    def __init__(self, p: Problem) -> None:
        num_candidates, dim = len(p.candidates_M), p.bank_ND.shape[1]
        self.mean_D = _mean(p.bank_ND, p.candidates_M)
        self.half_norm_M = np.empty(num_candidates, dtype=np.float32)
        self.tiles = [
            np.empty((dim, min(_TILE_COLUMNS, num_candidates - start)), dtype=np.float32)
            for start in range(0, num_candidates, _TILE_COLUMNS)
        ]
        largest = max(float(np.abs(p.bank_ND[item] - self.mean_D).max()) for item in _parts(p.candidates_M))
        self.unit = 2.0 ** -np.frexp(largest * np.sqrt(dim))[1] if largest > 0 else 1.0
        moment, sum_D, cross_D, half_sum, half_square = np.zeros((dim, dim)), 0.0, 0.0, 0.0, 0.0
        for item, tile, start in zip(
            _parts(p.candidates_M), self.tiles, range(0, num_candidates, _TILE_COLUMNS), strict=True
        ):
            rows = self.centred(p.bank_ND, item)
            tile[:] = rows.T
            half = np.einsum("cd,cd->c", rows, rows, dtype=np.float64) / 2
            self.half_norm_M[start : start + len(item)] = half
            moment += rows.T @ rows
            sum_D += rows.sum(axis=0, dtype=np.float64)
            cross_D += half @ rows
            half_sum += half.sum()
            half_square += half @ half
        m = num_candidates
        self.sum_D = sum_D / m
        self.half_mean = half_sum / m
        self.covariance_DD = moment / m - np.outer(self.sum_D, self.sum_D)
        self.cross_D = cross_D / m - self.half_mean * self.sum_D
        self.half_variance = max(half_square / m - self.half_mean**2, 0.0)
        self.max_norm = float(np.sqrt(2.0 * self.half_norm_M.max(initial=0.0).astype(np.float64)))

    def centred(self, bank_ND: NDArray[np.float32], item: NDArray[np.int64]) -> NDArray[np.float32]:
        return ((bank_ND[item] - self.mean_D) * self.unit).astype(np.float32)

    def key_moments(self, rows_RD: NDArray[np.float32]) -> tuple[Float64, Float64]:
        """Return mean and standard deviation of the keys of each row."""
        rows = rows_RD.astype(np.float64)
        mean_R = self.half_mean - rows @ self.sum_D
        variance_R = (
            np.einsum("rd,rd->r", rows @ self.covariance_DD, rows) - 2 * rows @ self.cross_D + self.half_variance
        )
        return mean_R, np.sqrt(np.maximum(variance_R, 0.0))


def _for_each_block(p: Problem, select: Callable[[slice, _Block], None]) -> None:
    """Bin blocks of anchors against all candidates and hand each to `select`, on several threads."""
    num_anchors, num_candidates = len(p.anchors_T), len(p.candidates_M)
    threads = num_threads() if num_anchors * num_candidates > _SMALL else 1
    rows_per_block = _BLOCK_BYTES // (2 * num_candidates) // 32 * 32
    rows_per_block = min(max(rows_per_block, _MIN_ROWS), _MAX_ROWS, -(-num_anchors // threads))
    local = threading.local()

    def work(start: int) -> None:
        if not hasattr(local, "bins_RM"):
            local.bins_RM = np.empty((rows_per_block, num_candidates), dtype=np.uint16)
            local.product_RC = np.empty((rows_per_block, _TILE_COLUMNS), dtype=np.float32)
        rows = slice(start, min(start + rows_per_block, num_anchors))
        select(rows, _block(p, candidates, rows, local.bins_RM, local.product_RC))

    starts = range(0, num_anchors, rows_per_block)
    with one_blas_thread():
        candidates = _Candidates(p)
        for_each(work, starts, threads)


def _block(
    p: Problem,
    candidates: _Candidates,
    rows: slice,
    bins_RM: NDArray[np.uint16],
    product_RC: NDArray[np.float32],
) -> _Block:
    anchor_R = p.anchors_T[rows]
    rows_RD = candidates.centred(p.bank_ND, anchor_R)
    bins_RM, product_RC = bins_RM[: len(anchor_R)], product_RC[: len(anchor_R)]
    square_R = np.einsum("rd,rd->r", rows_RD, rows_RD, dtype=np.float64)
    norm_R, dim = np.sqrt(square_R), rows_RD.shape[1]
    mean_R, spread_R = candidates.key_moments(rows_RD)

    # |a·b| ≤ ‖a‖·‖b‖ bounds the sum of the products' sizes too, whose rounding grows with D at worst. The last term is
    # for rows rounded after centring and for distances that tie once they are float32.
    key_bound_R = norm_R * candidates.max_norm + candidates.max_norm**2 / 2
    error_R = _UNIT_ROUNDOFF * ((dim + 8) * key_bound_R + 4 * (norm_R + candidates.max_norm) ** 2)
    spread_R = np.maximum(spread_R, np.maximum(error_R, 1e-30))
    # No key is below −‖a‖²/2, where d = 0.
    low_R = np.maximum(mean_R - _NEAR_SPREADS * spread_R, -square_R / 2 - spread_R / 8)
    scale_R = (kernels.TOP + 1) / (mean_R + _FAR_SPREADS * spread_R - low_R)
    error_R += _UNIT_ROUNDOFF * 4 * (key_bound_R + np.abs(low_R))

    scale32_R, offset32_R = scale_R.astype(np.float32), (-low_R * scale_R).astype(np.float32)
    for t, tile in enumerate(candidates.tiles):
        first, width = t * _TILE_COLUMNS, tile.shape[1]
        product = (
            product_RC if width == _TILE_COLUMNS else product_RC.ravel()[: len(anchor_R) * width].reshape(-1, width)
        )
        np.matmul(rows_RD, tile, out=product)
        kernels.bin_tile(product, candidates.half_norm_M[first : first + width], scale32_R, offset32_R, bins_RM, first)

    class_R = p.class_N[anchor_R]
    return _Block(
        bins_RM=bins_RM,
        anchor_R=anchor_R,
        own_R2=np.stack([p.class_start_C1[class_R], p.class_start_C1[class_R + 1]], axis=1),
        line_R3=np.stack([error_R * scale_R + 0.05, square_R / 2 + low_R, scale_R], axis=1),
        square=candidates.unit**2 / 2,
        mean_R=(mean_R - low_R) * scale_R,
        spread_R=spread_R * scale_R,
    )


def _parts(item_M: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [item_M[start : start + _TILE_COLUMNS] for start in range(0, len(item_M), _TILE_COLUMNS)]


def _mean(bank_ND: NDArray[np.float32], item_M: NDArray[np.int64]) -> Float64:
    total = np.zeros(bank_ND.shape[1])
    for item in _parts(item_M):
        total += bank_ND[item].sum(axis=0, dtype=np.float64)
    return total / len(item_M)


def _distance(p: Problem, found_T: NDArray[np.int64]) -> NDArray[np.float32]:
    parts = [slice(start, start + 8192) for start in range(0, len(found_T), 8192)]
    return np.concatenate([exact_distance(p.bank_ND[p.anchors_T[part]], p.bank_ND[found_T[part]]) for part in parts])


def _normal_quantile(probability: Float64) -> Float64:
    """Return Φ⁻¹ to about 5e-4 (Abramowitz and Stegun, 26.2.23): it only starts a search."""
    tail = np.minimum(probability, 1.0 - probability)
    t = np.sqrt(-2.0 * np.log(np.maximum(tail, 1e-300)))
    z = t - (2.515517 + t * (0.802853 + t * 0.010328)) / (1.0 + t * (1.432788 + t * (0.189269 + t * 0.001308)))
    return np.where(probability < 0.5, -z, z)
