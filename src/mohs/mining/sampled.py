"""Mining by ranks in a random sample of the candidates: far fewer products, ranks that are nearly the wanted ones.

The anchors are taken in blocks, each with a sample of its own; `sampled_kernels.py` says which sampled item stands for
a rank. Anchors whose negative is near the top, where a sample says little, are mined exactly.
"""

import threading
from dataclasses import dataclass
from typing import final

import numpy as np

from mohs.hardness.scales import achieved_by_rank, rank_of
from mohs.mining.by_anchor import mine_by_anchor
from mohs.mining.exact import mine_exact
from mohs.mining.frame import unit_of
from mohs.mining.problem import Float32, Float64, Index, MiningProblem, distances_of
from mohs.mining.sampled_kernels import select_sampled, select_sampled_window
from mohs.mining.threads import Meter, Progress, for_each, num_threads, one_blas_thread
from mohs.peers import ALONE, Peers, exchange_rows
from mohs.randomness import generator

__all__ = ["AUTO_PAIRS", "TAIL", "Sampled", "auto_method", "mine_sampled", "sample_bytes"]


TAIL = 32
"""Sampled negatives that must be expected nearer than the wanted one; with fewer, the anchor is mined exactly."""

AUTO_PAIRS = 3 * 10**10
"""Pairs of anchor and candidate from which `method="auto"` samples: about a minute of exact mining (D = 128, 2 cores).
"""

_AUTO_SHARE = 8
_BLOCK = 1024
_ROWS = 256  # of a block at once: their keys to 4,096 items are 4 MB
_PIECE = 4096
_GROUP = 64  # products of pieces that wait to be added
_MOMENTS = 2**18
_SMALL = 10**6


@final
@dataclass(frozen=True, eq=False)
class Sampled:
    """What sampling found.

    Attributes:
        negative_TK: int64[T, K].
        distance_TK: exact distances of the negatives, float32[T, K], not falling within a row.
        achieved_TK: hardness at the estimated rank, or at the exact one where the anchor was mined exactly,
            float64[T, K].
        num_sampled: items in a sample.
        num_anchors_exact: anchors that were mined exactly.
        rank_error_sd_T: √(q(1 − q)/n), the standard deviation of an anchor's rank fraction without the calibration,
            which about halves it; 0 where the anchor was mined exactly. float64[T].
    """

    negative_TK: Index
    distance_TK: Float32
    achieved_TK: Float64
    num_sampled: int
    num_anchors_exact: int
    rank_error_sd_T: Float64


@final
@dataclass(frozen=True, eq=False)
class _Frame:
    """Where candidates lie: rows are (embedding − shift)·unit, with ‖row‖²/2 as one more column, so D + 1 columns.

    An anchor a with the row (−a, 1) has as product with a candidate's row its key: d² = ‖a‖² + 2·key.

    Attributes:
        shift_D, unit: see above; unit is a power of two.
        mean_E, covariance_EE: of the candidates' rows, E = D + 1; of `_MOMENTS` of them if there are more.
    """

    shift_D: Float32
    unit: np.float32
    mean_E: Float64
    covariance_EE: Float64


def auto_method(problem: MiningProblem, num_sampled: int) -> str:
    """Return what `method="auto"` means: "sampled" if it is wanted and pays.

    It is where the scale is `rank` or `log-rank`, T·M is more than `AUTO_PAIRS` (M candidates), and M is at least 8
    samples.
    """
    pairs = len(problem.anchors_T) * len(problem.candidates_M)
    pays = pairs > AUTO_PAIRS and len(problem.candidates_M) >= _AUTO_SHARE * num_sampled
    return "sampled" if pays and not problem.rule.exact_only else "exact"


def mine_sampled(
    problem: MiningProblem,
    positive_distance_T: Float32,
    *,
    num_sampled: int,
    seed: int,
    meter: Meter | None = None,
    peers: Peers = ALONE,
) -> Sampled:
    """Return negatives at about the wanted ranks; the same for one seed, however many threads and processes."""
    p = problem
    num_anchors, num_candidates = len(p.anchors_T), len(p.candidates_M)
    meter = meter or Meter(None, num_anchors)
    size = min(num_sampled, num_candidates)
    rank_T = rank_of(p.scale, p.hardness_T, p.num_negatives_T)
    expected_T = size * (p.num_negatives_T / num_candidates)
    share_T = rank_T / np.maximum(p.num_negatives_T - 1, 1)
    exact_T = (share_T * expected_T < TAIL) | (size == num_candidates) | (p.exclusions.counts(p.anchors_T) > 0)
    negative_TK, estimate_TK = np.full((num_anchors, p.num_wanted), -1), np.zeros((num_anchors, p.num_wanted))

    sampled = np.flatnonzero(~exact_T)
    if sampled.size:
        order = sampled[generator(seed, "mined sample order").permutation(sampled.size)]
        with one_blas_thread():
            _sample(p, order, rank_T, size, seed, negative_TK, estimate_TK, peers, meter.stage(order.size))
        exact_T |= negative_TK[:, 0] < 0  # a sample with too few negatives
    last_T1 = p.num_negatives_T[:, None] - 1
    estimated_TK = np.clip(np.rint(estimate_TK), 0, last_T1).astype(np.int64)
    achieved_TK = achieved_by_rank(p.scale, estimated_TK, last_T1 + 1, p.hardness_T[:, None])

    tail = np.flatnonzero(exact_T)
    if tail.size:
        negative_TK[tail], _, achieved_TK[tail] = mine_by_anchor(
            p.part(tail), positive_distance_T[tail], peers, lambda part, distance_T: mine_exact(part, distance_T, meter)
        )
    distance_TK = distances_of(p, negative_TK)
    if p.num_wanted > 1:  # keys are rounded: neighbours may have changed places
        order_TK = np.lexsort((negative_TK, distance_TK), axis=1)
        negative_TK, distance_TK = (np.take_along_axis(x, order_TK, axis=1) for x in (negative_TK, distance_TK))
    return Sampled(
        negative_TK=negative_TK,
        distance_TK=distance_TK,
        achieved_TK=achieved_TK,
        num_sampled=size,
        num_anchors_exact=tail.size,
        rank_error_sd_T=np.where(exact_T, 0.0, np.sqrt(share_T * (1.0 - share_T) / expected_T)),
    )


def _sample(
    p: MiningProblem,
    order: Index,
    rank_T: Index,
    size: int,
    seed: int,
    negative_TK: Index,
    estimate_TK: Float64,
    peers: Peers,
    tick: Progress | None = None,
) -> None:
    """Write negatives and estimated ranks of the anchors at the positions in `order`, block by block.

    A process samples for every n-th block, and has the rest from the others.
    """
    num_candidates = len(p.candidates_M)
    threads = num_threads() if order.size * size > _SMALL else 1
    frame = _frame(p, seed, threads)
    local = threading.local()

    def work(block: int) -> None:
        if not hasattr(local, "key_Rm"):
            local.key_Rm = np.empty((_ROWS, size), dtype=np.float32)
        draw = generator(seed, "mined sample", block)
        # Candidates are in the order of their classes; sorted, a class is a slice of the sample.
        drawn_m = np.sort(draw.choice(num_candidates, size, replace=False, shuffle=False))
        row_mE = _rows(p.bank_ND[p.candidates_M[drawn_m]], frame.shift_D, frame.unit)
        position_B = order[block * _BLOCK : (block + 1) * _BLOCK]
        for start in range(0, len(position_B), _ROWS):
            position_R = position_B[start : start + _ROWS]
            anchor_RE = _rows(p.bank_ND[p.anchors_T[position_R]], frame.shift_D, frame.unit)
            np.negative(anchor_RE, out=anchor_RE)
            anchor_RE[:, -1] = 1.0
            key_Rm = local.key_Rm[: len(position_R)]
            np.matmul(anchor_RE, row_mE.T, out=key_Rm)
            wide_RE = anchor_RE.astype(np.float64)
            variance_R = np.einsum("re,re->r", wide_RE @ frame.covariance_EE, wide_RE)
            class_R = p.class_N[p.anchors_T[position_R]]
            own_R2 = np.searchsorted(drawn_m, np.stack([p.class_start_C1[class_R], p.class_start_C1[class_R + 1]], 1))
            column_R, estimate_R = np.empty(len(position_R), np.int64), np.empty(len(position_R))
            select_sampled(
                key_Rm, own_R2, rank_T[position_R], p.num_negatives_T[position_R], wide_RE @ frame.mean_E,
                np.sqrt(np.maximum(variance_R, 0.0)), column_R, estimate_R,
            )  # fmt: skip
            column_RK, estimate_RK = column_R[:, None], estimate_R[:, None]
            if p.num_wanted > 1:
                shape = len(position_R), p.num_wanted
                column_RK, estimate_RK = np.empty(shape, np.int64), np.empty(shape)
                select_sampled_window(
                    key_Rm, own_R2, p.num_negatives_T[position_R], column_R, estimate_R, column_RK, estimate_RK
                )
            negative_TK[position_R] = np.where(column_RK < 0, -1, p.candidates_M[drawn_m[column_RK]])
            estimate_TK[position_R] = estimate_RK

    own = range(peers.rank, -(-order.size // _BLOCK), peers.num_ranks)
    for_each(work, own, threads, tick)
    own_R = np.concatenate([order[:0], *(order[block * _BLOCK : (block + 1) * _BLOCK] for block in own)])
    exchange_rows(peers, own_R, negative_TK, estimate_TK)


def sample_bytes(num_candidates: int, dim: int, num_sampled: int, threads: int) -> int:
    """Return what sampling takes, without the exact mining of anchors near the top."""
    size, width = min(num_sampled, num_candidates), dim + 1
    pieces = min(_GROUP, -(-min(num_candidates, _MOMENTS) // _PIECE))
    frame = 4 * pieces * width**2 + 4 * threads * min(_PIECE, num_candidates) * (dim + width)
    # Keys; rows as gathered and as centred; anchors, once in float32 and thrice in float64.
    block = 4 * _ROWS * size + 4 * size * (dim + width) + 28 * _ROWS * width
    return 24 * width**2 + max(frame, threads * block)


def _frame(p: MiningProblem, seed: int, threads: int) -> _Frame:
    bank_ND, item_K = p.bank_ND, p.candidates_M
    if len(item_K) > _MOMENTS:
        draw = generator(seed, "mined sample moments")
        item_K = np.sort(item_K[draw.choice(len(item_K), _MOMENTS, replace=False, shuffle=False)])
    num_items, dim = len(item_K), bank_ND.shape[1]
    starts = range(0, num_items, _PIECE)
    bank_starts = range(0, len(bank_ND), _PIECE)
    sum_KD, largest_K = np.zeros((len(starts), dim)), np.zeros(len(bank_starts))

    def measure_size(start: int) -> None:
        rows = bank_ND[start : start + _PIECE]
        largest_K[start // _PIECE] = max(float(rows.max()), -float(rows.min()))

    def measure_sum(start: int) -> None:
        rows = bank_ND[item_K[start : start + _PIECE]]
        # Any point near the mean serves as shift; scaled beforehand, sums of large rows do not overflow.
        sum_KD[start // _PIECE] = np.full(len(rows), np.float32(1 / _PIECE)) @ rows

    for_each(measure_size, bank_starts, threads)
    for_each(measure_sum, starts, threads)
    shift_D = (sum_KD.sum(axis=0) * (_PIECE / num_items)).astype(np.float32)
    unit = unit_of(float(largest_K.max()), dim)
    sum_KE = np.zeros((len(starts), dim + 1))
    square_EE, lock = {}, threading.Lock()

    def accumulate(start: int) -> None:
        row_RE = _rows(bank_ND[item_K[start : start + _PIECE]], shift_D, unit)
        sum_KE[start // _PIECE] = np.ones(len(row_RE), dtype=np.float32) @ row_RE
        product_EE = row_RE.T @ row_RE
        with lock:
            square_EE[start // _PIECE] = product_EE

    # In groups, so that few products wait to be added, in an order of their own.
    total_EE = np.zeros((dim + 1, dim + 1))
    group = _GROUP * _PIECE
    for first in range(0, num_items, group):
        for_each(accumulate, range(first, min(first + group, num_items), _PIECE), threads)
        for k in sorted(square_EE):
            total_EE += square_EE[k]
        square_EE.clear()
    mean_E = sum_KE.sum(axis=0) / num_items
    return _Frame(shift_D, unit, mean_E, total_EE / num_items - np.outer(mean_E, mean_E))


def _rows(embedding_RD: Float32, shift_D: Float32, unit: np.float32) -> Float32:
    dim = len(shift_D)
    row_RE = np.empty((len(embedding_RD), dim + 1), dtype=np.float32)
    row_RD = row_RE[:, :dim]
    np.subtract(embedding_RD, shift_D, out=row_RD)
    row_RD *= unit
    row_RE[:, dim] = np.einsum("rd,rd->r", row_RD, row_RD) / 2
    return row_RE
