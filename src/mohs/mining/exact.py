"""Exact mining on the CPU: a matrix product filters, exact distances decide.

Anchors are taken in blocks against all candidates (`blocks.py`). Where nearly all items are anchors, and all of them
candidates, the scales that need no ranks are mined in sweeps over the tiles of the bank (`sweep.py`), which take half
the products.

Extra memory: one copy of the candidates' embeddings (none of half precision or of a memory map), and for each thread a
buffer of 54 MB (up to 200,000 candidates) or of 256 bytes per candidate (beyond). It never grows with N²; `memory.py`
estimates it.
"""

from collections.abc import Iterator

import numpy as np

from mohs.hardness.scales import (
    achieved_by_distance,
    achieved_by_margin,
    achieved_by_rank,
    margin_threshold,
    range_threshold,
    rank_of,
)
from mohs.mining import kernels
from mohs.mining.bank import CentredBank, centred_bank
from mohs.mining.blocks import for_each_block
from mohs.mining.kernels import Block
from mohs.mining.problem import Float32, Float64, Index, MiningProblem, distances_of
from mohs.mining.stream import LocalScan, ScanSource
from mohs.mining.streamed import mine_streamed
from mohs.mining.sweep import farthest, nearest_from, place_of_items, sweep
from mohs.mining.threads import Meter, Progress, num_threads, one_blas_thread
from mohs.mining.window import window_of

__all__ = ["SWEEP_SHARE", "SWEEP_SHARE_RANGE", "mine_exact", "threads_for"]

_SMALL = 10**6  # pairs; fewer are not worth a thread
SWEEP_SHARE = 0.6  # of the items; with fewer anchors, blocks do less work than a sweep
SWEEP_SHARE_RANGE = 0.95  # two sweeps


def mine_exact(
    problem: MiningProblem, positive_distance_T: Float32, meter: Meter | None = None
) -> tuple[Index, Float32, Float64]:
    """Return the K negatives of each anchor, their distances, and the achieved hardness in [0, 1].

    The shapes are int64[T, K], float32[T, K] and float64[T, K], K = `problem.num_wanted`. The result is that of the
    definition (`tests/mining/oracle.py`), index for index: it depends neither on the number of threads nor on how the
    matrix product rounds.
    """
    threads = threads_for(len(problem.anchors_T), len(problem.candidates_M), num_threads())
    meter = meter or Meter(None, len(problem.anchors_T))
    if (rows := problem.bank_ND.shards) is not None:
        scan = rows.scan(problem) if isinstance(rows, ScanSource) else LocalScan(problem, threads)
        return mine_streamed(problem, scan, positive_distance_T, meter)
    with one_blas_thread():
        bank = centred_bank(problem, threads)
        match problem.rule.needs:
            case "extremes":
                return _mine_range(problem, bank, threads, meter)
            case "margin":
                return _mine_margin(problem, bank, threads, meter, positive_distance_T)
            case "ranks":
                return _mine_rank(problem, bank, threads, meter)


def threads_for(num_anchors: int, num_candidates: int, threads: int) -> int:
    """Return how many of so many threads exact mining uses."""
    return threads if num_anchors * num_candidates > _SMALL else 1


def _mine_range(p: MiningProblem, bank: CentredBank, threads: int, meter: Meter) -> tuple[Index, Float32, Float64]:
    found_TK = np.full((len(p.anchors_T), p.num_wanted), -1)
    extreme_T2 = np.empty((len(p.anchors_T), 2), dtype=np.float32)
    waves = list(_waves(p, SWEEP_SHARE_RANGE))
    if waves:
        # All sweeps of the anchors that they serve take about the same time.
        worth = sum(map(len, waves)) // (1 + len(waves))
        searches = [nearest_from(bank, np.zeros(len(p.bank_ND))), farthest(bank)]
        extremes = [distance_N for _, distance_N in sweep(p, bank, searches, threads, meter.stage(worth))]
        extreme_T2[:] = np.stack(extremes, axis=1)[place_of_items(p)[p.anchors_T]]
        tau_T = range_threshold(extreme_T2[:, 0], extreme_T2[:, 1], p.hardness_T)
        for wave in waves:
            found_TK[wave, 0] = _sweep_nearest(p, bank, threads, meter.stage(worth), wave, tau_T[wave])

    def select(block: Block, position_R: Index) -> None:
        found_R, extreme_R2 = np.empty(len(position_R), np.int64), np.empty((len(position_R), 2), np.float32)
        kernels.select_range(block, p.hardness_T[position_R], found_R, extreme_R2)
        found_TK[position_R], extreme_T2[position_R] = window_of(p, block, position_R, found_R), extreme_R2

    for_each_block(p, bank, np.flatnonzero(found_TK[:, 0] < 0), select, threads, meter.stage())
    distance_TK = distances_of(p, found_TK)
    achieved_TK = achieved_by_distance(distance_TK, extreme_T2[:, 1:], extreme_T2[:, :1], p.hardness_T[:, None])
    return found_TK, distance_TK, achieved_TK


def _mine_margin(
    p: MiningProblem, bank: CentredBank, threads: int, meter: Meter, positive_distance_T: Float32
) -> tuple[Index, Float32, Float64]:
    assert p.margin is not None
    found_TK = np.full((len(p.anchors_T), p.num_wanted), -1)
    tau_T = margin_threshold(positive_distance_T, p.hardness_T, p.margin, p.squared).astype(np.float64)
    waves = list(_waves(p, SWEEP_SHARE))
    # Anchors may have to be asked again, for their farthest: the sweeps are worth half of what is left.
    worth = meter.left // (2 * max(len(waves), 1))
    for wave in waves:
        found_TK[wave, 0] = _sweep_nearest(p, bank, threads, meter.stage(worth), wave, tau_T[wave])
    rest = np.concatenate([wave[found_TK[wave, 0] < 0] for wave in waves]) if waves else np.arange(0)
    # One sweep serves an item however often it is an anchor.
    if len(np.unique(p.anchors_T[rest])) >= SWEEP_SHARE * len(p.bank_ND):
        farthest_N = sweep(p, bank, [farthest(bank)], threads, meter.stage(worth))[0][0]
        found_TK[rest, 0] = farthest_N[place_of_items(p)[p.anchors_T[rest]]]

    def select(block: Block, position_R: Index) -> None:
        found_R = np.empty(len(position_R), np.int64)
        kernels.select_nearest(block, tau_T[position_R], found_R)
        found_TK[position_R] = window_of(p, block, position_R, found_R)

    for_each_block(p, bank, np.flatnonzero(found_TK[:, 0] < 0), select, threads, meter.stage())
    distance_TK = distances_of(p, found_TK)
    achieved_TK = achieved_by_margin(distance_TK, positive_distance_T[:, None], p.margin, p.squared)
    return found_TK, distance_TK, achieved_TK


def _mine_rank(p: MiningProblem, bank: CentredBank, threads: int, meter: Meter) -> tuple[Index, Float32, Float64]:
    found_TK = np.empty((len(p.anchors_T), p.num_wanted), dtype=np.int64)
    rank_T = np.minimum(rank_of(p.scale, p.hardness_T, p.num_negatives_T), p.num_negatives_T - p.num_wanted)
    # If keys were normally distributed, the rank would lie at z standard deviations and `peak_T` items around each.
    z_T = _normal_quantile((rank_T + 0.5) / p.num_negatives_T)
    peak_T = p.num_negatives_T * np.exp(-(z_T**2) / 2) / np.sqrt(2 * np.pi)

    def select(block: Block, position_R: Index) -> None:
        found_R = np.empty(len(position_R), np.int64)
        guess_R = block.mean_R + z_T[position_R] * block.spread_R
        kernels.select_rank(block, rank_T[position_R], guess_R, peak_T[position_R] / block.spread_R, found_R)
        found_TK[position_R] = window_of(p, block, position_R, found_R)

    for_each_block(p, bank, np.arange(len(p.anchors_T)), select, threads, meter.stage())
    rank_TK = rank_T[:, None] + np.arange(p.num_wanted)
    achieved_TK = achieved_by_rank(p.scale, rank_TK, p.num_negatives_T[:, None], p.hardness_T[:, None])
    return found_TK, distances_of(p, found_TK), achieved_TK


def _waves(p: MiningProblem, share: float) -> Iterator[Index]:
    """Yield the positions of anchors that a sweep should serve, in waves in which no item is an anchor twice."""
    num_items = len(p.bank_ND)
    # A sweep keeps one find per item.
    if p.num_wanted > 1 or len(p.candidates_M) < num_items or len(p.anchors_T) < share * num_items:
        return
    order = np.argsort(p.anchors_T, kind="stable")
    anchor = p.anchors_T[order]
    first = np.flatnonzero(np.r_[True, anchor[1:] != anchor[:-1]])
    turn = np.arange(len(anchor)) - np.repeat(first, np.diff(np.r_[first, len(anchor)]))
    for wave in range(int(turn.max()) + 1):
        chosen = order[turn == wave]
        if len(chosen) < share * num_items:
            return
        yield chosen


def _sweep_nearest(
    p: MiningProblem, bank: CentredBank, threads: int, tick: Progress, wave: Index, tau_R: Float64
) -> Index:
    """Return for each anchor of a wave its nearest item with distance ≥ tau, or −1."""
    place_R = place_of_items(p)[p.anchors_T[wave]]
    tau_N = np.full(len(p.bank_ND), np.inf)
    tau_N[place_R] = tau_R
    found_N, _ = sweep(p, bank, [nearest_from(bank, tau_N)], threads, tick)[0]
    return found_N[place_R]


def _normal_quantile(probability: Float64) -> Float64:
    """Return Φ⁻¹ to about 5e-4 (Abramowitz and Stegun, 26.2.23): it only starts a search."""
    tail = np.minimum(probability, 1.0 - probability)
    t = np.sqrt(-2.0 * np.log(np.maximum(tail, 1e-300)))
    z = t - (2.515517 + t * (0.802853 + t * 0.010328)) / (1.0 + t * (1.432788 + t * (0.189269 + t * 0.001308)))
    return np.where(probability < 0.5, -z, z)
