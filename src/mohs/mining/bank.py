"""The candidates' embeddings in the form that a matrix product wants, and how far that product can be trusted.

Tiles of a float32 bank in memory are made once and kept: that is one copy. Tiles of other banks (half precision, or
mapped from a file) are made again each time they are multiplied, in a buffer of the thread, so that nothing grows with
N·D. Making one takes as long as its product with 40 to 80 anchors; blocks have 128 to 512.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np
from numpy.typing import NDArray

from mohs.mining import kernels
from mohs.mining.frame import Frame, unit_of
from mohs.mining.problem import Float32, Float64, MiningProblem
from mohs.mining.stored import StoredBank
from mohs.mining.threads import for_each

__all__ = ["TILE", "CentredBank", "bank_bytes", "centred_bank", "centred_items", "tile_buffer_shape"]

TILE = 512
"""Candidates in a tile; a product of 512 × 512 stays in a core's cache."""

_PIECES = 1024  # sums of so many parts of the bank are kept, in an order that no thread changes


@final
@dataclass(frozen=True, eq=False)
class CentredBank:
    """The candidates, moved to their mean and scaled (`mohs.mining.frame`).

    Attributes:
        tiles: the tiles that are kept, float32[D, C] each (see `tile`); empty if they are made as they are needed.
        bank_ND, item_M: the bank, and the items in the columns of the tiles: those of `MiningProblem.candidates_M`.
        half_norm_M: ‖b‖²/2, float32[M].
        frame: how rows were moved and scaled.
    """

    tiles: list[Float32]
    bank_ND: StoredBank
    item_M: NDArray[np.int64]
    half_norm_M: Float32
    frame: Frame

    @property
    def num_tiles(self) -> int:
        """The number of tiles."""
        return -(-len(self.half_norm_M) // TILE)

    def tile_buffer(self) -> Float32:
        """Return what a thread gives to `tile`; of no size if tiles are kept."""
        return np.empty(tile_buffer_shape(len(self.frame.shift_D), bool(self.tiles)), dtype=np.float32)

    def tile(self, number: int, buffer: Float32) -> Float32:
        """Return a tile, float32[D, C], C = `TILE` but for the last; it holds until the buffer is used again."""
        if self.tiles:
            return self.tiles[number]
        item_C = self.item_M[number * TILE : (number + 1) * TILE]
        row_CD = buffer[: len(item_C)]
        kernels.centred_rows(self.bank_ND.readable, item_C, self.frame.shift_D, self.frame.unit, row_CD)
        return row_CD.T

    def each_tile(self) -> Iterator[Float32]:
        """Yield the tiles in order; each holds until the next."""
        buffer = self.tile_buffer()
        return (self.tile(number, buffer) for number in range(self.num_tiles))

    def rows(self, item_R: NDArray[np.int64]) -> Float32:
        """Return centred rows of any items, float32[R, D]."""
        return self.frame.centred(self.bank_ND[item_R])

    def key_moments(self, rows_RD: Float32) -> tuple[Float64, Float64]:
        """Return mean and standard deviation of the keys of each row over all candidates."""
        rows = rows_RD.astype(np.float64)
        half_mean, half_variance, mean_D, cross_D, covariance_DD = self._moments
        variance_R = np.einsum("rd,rd->r", rows @ covariance_DD - 2 * cross_D, rows) + half_variance
        return half_mean - rows @ mean_D, np.sqrt(np.maximum(variance_R, 0.0))

    @cached_property
    def _moments(self) -> tuple[float, float, Float64, Float64, Float64]:
        """Mean and variance of ‖b‖²/2, mean of b, their covariance, covariance of b."""
        num_candidates, dim = len(self.half_norm_M), len(self.frame.shift_D)
        half_M = self.half_norm_M.astype(np.float64)
        mean_D, cross_D, square_DD = np.zeros(dim), np.zeros(dim), np.zeros((dim, dim))
        for t, tile in enumerate(self.each_tile()):
            mean_D += tile.sum(axis=1, dtype=np.float64)
            cross_D += tile @ self.half_norm_M[t * TILE : (t + 1) * TILE]
            square_DD += tile @ tile.T
        mean_D /= num_candidates
        half_mean = float(half_M.mean())
        covariance_DD = square_DD / num_candidates - np.outer(mean_D, mean_D)
        return half_mean, float(half_M.var()), mean_D, cross_D / num_candidates - half_mean * mean_D, covariance_DD


def bank_bytes(num_candidates: int, dim: int, keeps_tiles: bool) -> int:
    """Return what a centred bank takes."""
    pieces = min(_PIECES, -(-num_candidates // TILE))
    kept = 4 * num_candidates * dim if keeps_tiles else 0
    return kept + 4 * num_candidates + 8 * pieces * dim


def tile_buffer_shape(dim: int, keeps_tiles: bool) -> tuple[int, int]:
    """Return the shape of `CentredBank.tile_buffer`, float32."""
    return (0 if keeps_tiles else TILE), dim


def centred_bank(problem: MiningProblem, threads: int) -> CentredBank:
    """Return the candidates of `problem` as tiles."""
    return centred_items(problem.bank_ND, problem.candidates_M, threads)


def centred_items(bank_ND: StoredBank, item_M: NDArray[np.int64], threads: int) -> CentredBank:
    """Return these items of a bank as tiles, in this order."""
    num_candidates, dim = len(item_M), bank_ND.shape[1]
    starts = range(0, num_candidates, TILE)
    piece = -(-len(starts) // _PIECES) * TILE
    pieces = range(0, num_candidates, piece)
    sum_KD, largest_K = np.zeros((len(pieces), dim)), np.zeros(len(pieces), dtype=np.float32)

    def measure(first: int) -> None:
        k = first // piece
        for start in range(first, min(first + piece, num_candidates), TILE):
            rows = bank_ND[item_M[start : start + TILE]]
            sum_KD[k] += rows.sum(axis=0, dtype=np.float64)
            largest_K[k] = max(largest_K[k], np.abs(rows).max())

    for_each(measure, pieces, threads)
    shift_D = (sum_KD.sum(axis=0) / num_candidates).astype(np.float32)
    frame = Frame(shift_D, unit_of(float(largest_K.max()), dim), 0.0)
    kept = starts if bank_ND.is_float32_in_memory else []
    tiles = [np.empty((dim, min(TILE, num_candidates - start)), dtype=np.float32) for start in kept]
    half_norm_M = np.empty(num_candidates, dtype=np.float32)

    def centre(start: int) -> None:
        rows = frame.centred(bank_ND[item_M[start : start + TILE]])
        if tiles:
            tiles[start // TILE][:] = rows.T
        half_norm_M[start : start + TILE] = np.einsum("cd,cd->c", rows, rows, dtype=np.float64) / 2

    for_each(centre, starts, threads)
    return CentredBank(tiles, bank_ND, item_M, half_norm_M, frame.reaching(float(half_norm_M.max())))
