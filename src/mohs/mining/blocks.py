"""Blocks of anchors against all candidates: a matrix product tile by tile, kept as bins until a row is whole."""

import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mohs.mining import kernels
from mohs.mining.bank import TILE, CentredBank
from mohs.mining.exclusions import mark_in_bins
from mohs.mining.kernels import Block
from mohs.mining.problem import Float32, MiningProblem
from mohs.mining.threads import Progress, for_each

__all__ = ["buffer_shapes", "for_each_block", "rows_per_block"]

_BLOCK_BYTES = 54 * 10**6
_MIN_ROWS, _MAX_ROWS = 128, 512
_NEAR_SPREADS, _FAR_SPREADS = 24.0, 8.0
"""Bins cover this many standard deviations of the keys to either side of their mean; keys beyond share the end bins."""


def for_each_block(
    problem: MiningProblem,
    bank: CentredBank,
    positions: NDArray[np.int64],
    select: Callable[[Block, NDArray[np.int64]], None],
    threads: int,
    tick: Progress | None = None,
) -> None:
    """Bin the anchors at `positions` block by block, and hand each block with its positions to `select`.

    `tick` is called with (blocks done, blocks) from the calling thread.
    Every thread has a buffer of `_BLOCK_BYTES` at most, or 256 bytes per candidate where that is more.
    """
    if not positions.size:
        return
    num_candidates = len(problem.candidates_M)
    block_rows = rows_per_block(num_candidates, len(positions), threads)
    local = threading.local()

    def work(start: int) -> None:
        if not hasattr(local, "bins_RM"):
            shapes = buffer_shapes(block_rows, num_candidates)
            local.bins_RM, local.product_RC = (np.empty(shape, dtype) for shape, dtype in shapes)
            local.tile = bank.tile_buffer()
        position_R = positions[start : start + block_rows]
        anchor_R = problem.anchors_T[position_R]
        select(_binned(problem, bank, anchor_R, local.bins_RM, local.product_RC, local.tile), position_R)

    for_each(work, range(0, len(positions), block_rows), threads, tick)


def rows_per_block(num_candidates: int, num_anchors: int, threads: int) -> int:
    """Return how many anchors a block has at most."""
    rows = _BLOCK_BYTES // (2 * num_candidates) // 32 * 32
    return min(max(rows, _MIN_ROWS), _MAX_ROWS, -(-num_anchors // threads))


def buffer_shapes(block_rows: int, num_candidates: int) -> tuple[tuple[tuple[int, int], type[np.generic]], ...]:
    """Return shape and dtype of a thread's bins and products."""
    return ((block_rows, num_candidates), np.uint16), ((block_rows, TILE), np.float32)


def _binned(
    problem: MiningProblem,
    bank: CentredBank,
    anchor_R: NDArray[np.int64],
    bins_RM: NDArray[np.uint16],
    product_RC: Float32,
    tile_buffer: Float32,
) -> Block:
    num_rows = len(anchor_R)
    rows_RD = bank.rows(anchor_R)
    half_norm_R = np.einsum("rd,rd->r", rows_RD, rows_RD, dtype=np.float64) / 2
    norm_R = np.sqrt(2 * half_norm_R)
    mean_R, spread_R = bank.key_moments(rows_RD)
    error_R = bank.frame.key_error(norm_R)
    spread_R = np.maximum(spread_R, np.maximum(error_R, 1e-30))
    # No key is below −‖a‖²/2, where d = 0.
    low_R = np.maximum(mean_R - _NEAR_SPREADS * spread_R, -half_norm_R - spread_R / 8)
    step_R = (kernels.TOP + 1) / (mean_R + _FAR_SPREADS * spread_R - low_R)
    # The line from keys to bins is rounded to float32 too.
    error_R += 2.0**-22 * (bank.frame.key_bound(norm_R) + np.abs(low_R))
    step32_R, start32_R = step_R.astype(np.float32), (-low_R * step_R).astype(np.float32)

    bins_RM = bins_RM[:num_rows]
    for t in range(bank.num_tiles):
        tile_DC = bank.tile(t, tile_buffer)
        first, width = t * TILE, tile_DC.shape[1]
        # The last tile is narrower: its product is the front of the buffer.
        product = product_RC.ravel()[: num_rows * width].reshape(num_rows, width)
        np.matmul(rows_RD, tile_DC, out=product)
        kernels.bin_tile(product, bank.half_norm_M[first : first + width], step32_R, start32_R, bins_RM, first)
    if len(problem.exclusions):
        mark_in_bins(bins_RM, problem.exclusions.spans(anchor_R), problem.exclusions.column_E)

    class_R = problem.class_N[anchor_R]
    return Block(
        bins_RM=bins_RM,
        anchor_R=anchor_R,
        own_R2=np.stack([problem.class_start_C1[class_R], problem.class_start_C1[class_R + 1]], axis=1),
        line_R3=np.stack([error_R * step_R + 0.05, half_norm_R + low_R, step_R], axis=1),
        square=bank.frame.square,
        mean_R=(mean_R - low_R) * step_R,
        spread_R=spread_R * step_R,
        bank_ND=problem.bank_ND.readable,
        item_M=problem.candidates_M,
    )
