"""Exact mining on the CPU: a matrix product filters, exact distances decide.

The bank is centred first (distances do not change), so that the product's rounding error is relative to the spread of
the embeddings and not to their offset: a nearly collapsed bank is mined as exactly as a healthy one. Each thread takes
blocks of anchors against all candidates, in a buffer of its own.

Extra memory: two copies of the bank and `_BLOCK_BYTES` for each thread; it never grows with N².
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from mohs.distances import exact_distance
from mohs.mining import kernels
from mohs.mining.problem import Problem
from mohs.mining.scales import achieved_by_distance, achieved_by_rank, margin_threshold, rank_of

__all__ = ["mine_exact"]

_BLOCK_BYTES = 48 * 2**20
_MAX_ROWS = 256
_UNIT_ROUNDOFF = 2.0**-24


def mine_exact(
    problem: Problem, positive_distance_T: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the negatives, int64[T], and the achieved hardness, float64[T] in [0, 1].

    The result does not depend on the number of threads or on the rounding of the matrix product.
    """
    p = problem
    num_anchors = len(p.anchors_T)
    found_T = np.empty(num_anchors, dtype=np.int64)
    bank = p.bank_ND
    own_start_T, own_stop_T = p.class_start_C1[p.class_N[p.anchors_T]], p.class_start_C1[p.class_N[p.anchors_T] + 1]
    scan: Callable[[slice, NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]], None]

    if p.scale == "range":
        dmin_T, dmax_T = np.empty(num_anchors, dtype=np.float32), np.empty(num_anchors, dtype=np.float32)

        def scan(rows, keys_RM, half_norm_R, eps_R):  # type: ignore[no-untyped-def]
            kernels.scan_range(
                keys_RM,
                p.anchors_T[rows],
                own_start_T[rows],
                own_stop_T[rows],
                half_norm_R,
                eps_R,
                p.hardness_T[rows],
                bank,
                p.candidates_M,
                found_T[rows],
                dmin_T[rows],
                dmax_T[rows],
            )
    elif p.scale == "margin":
        assert p.margin is not None
        enough_T = margin_threshold(positive_distance_T, p.hardness_T, p.margin, p.squared)
        farther_T = np.nextafter(positive_distance_T, np.float32(np.inf))
        tau_KT = np.stack([enough_T, farther_T, np.zeros_like(farther_T)]).astype(np.float64)

        def scan(rows, keys_RM, half_norm_R, eps_R):  # type: ignore[no-untyped-def]
            kernels.scan_nearest(
                keys_RM,
                p.anchors_T[rows],
                own_start_T[rows],
                own_stop_T[rows],
                half_norm_R,
                eps_R,
                tau_KT[:, rows],
                bank,
                p.candidates_M,
                found_T[rows],
            )
    else:
        rank_T = rank_of(p.scale, p.hardness_T, p.num_negatives_T)

        def scan(rows, keys_RM, half_norm_R, eps_R):  # type: ignore[no-untyped-def]
            kernels.scan_rank(
                keys_RM,
                p.anchors_T[rows],
                own_start_T[rows],
                own_stop_T[rows],
                eps_R,
                rank_T[rows],
                bank,
                p.candidates_M,
                found_T[rows],
            )

    _for_each_block(p, scan)

    if p.scale == "range":
        distance_T = exact_distance(bank[p.anchors_T], bank[found_T])
        return found_T, achieved_by_distance(distance_T, dmax_T, dmin_T, p.hardness_T)
    if p.scale == "margin":
        assert p.margin is not None
        key_T, positive_key_T = (
            x.astype(np.float64) for x in (exact_distance(bank[p.anchors_T], bank[found_T]), positive_distance_T)
        )
        if p.squared:
            key_T, positive_key_T = key_T**2, positive_key_T**2
        return found_T, np.clip(1.0 - (key_T - positive_key_T) / p.margin, 0.0, 1.0)
    return found_T, achieved_by_rank(p.scale, rank_T, p.num_negatives_T, p.hardness_T)


def _for_each_block(p, scan):
    num_anchors, num_candidates = len(p.anchors_T), len(p.candidates_M)
    centred_ND, mean = _centred(p.bank_ND, p.candidates_M)
    sq = np.einsum("nd,nd->n", centred_ND, centred_ND, dtype=np.float64)
    d = centred_ND.shape[1]
    columns = np.empty((d + 1, num_candidates), dtype=np.float32)
    columns[:d] = centred_ND[p.candidates_M].T
    columns[d] = sq[p.candidates_M] / 2
    bmax2 = sq[p.candidates_M].max()
    bmax = np.sqrt(bmax2)
    rows_per_block = int(max(1, min(_MAX_ROWS, _BLOCK_BYTES // (4 * num_candidates))))
    local = threading.local()

    def work(start):
        rows = slice(start, min(start + rows_per_block, num_anchors))
        if not hasattr(local, "buffer"):
            local.buffer = np.empty((rows_per_block, num_candidates), dtype=np.float32)
        anchors = p.anchors_T[rows]
        left = np.empty((len(anchors), d + 1), dtype=np.float32)
        np.negative(centred_ND[anchors], out=left[:, :d])
        left[:, d] = 1
        keys = local.buffer[: len(anchors)]
        np.matmul(left, columns, out=keys)
        norm = np.sqrt(sq[anchors])
        eps = _UNIT_ROUNDOFF * ((d + 4) * (norm * bmax + bmax2 / 2) + 4 * (norm + bmax) ** 2)
        scan(rows, keys, sq[anchors] / 2, eps)

    threads = len(os.sched_getaffinity(0))
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, range(0, num_anchors, rows_per_block)):
            pass


def _centred(bank, candidates):
    mean = bank[candidates].mean(axis=0, dtype=np.float64)
    return (bank - mean).astype(np.float32), mean
