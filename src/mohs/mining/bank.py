"""The candidates' embeddings in the form that a matrix product wants, and how far that product can be trusted."""

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from mohs.mining.problem import Problem
from mohs.mining.threads import for_each

__all__ = ["TILE", "CentredBank", "centred_bank"]

TILE = 512
"""Candidates in a tile; a product of 512 × 512 stays in a core's cache."""

_UNIT_ROUNDOFF = 2.0**-24

Float32: TypeAlias = NDArray[np.float32]
Float64: TypeAlias = NDArray[np.float64]


@final
@dataclass(frozen=True, eq=False)
class CentredBank:
    """The candidates, moved to their mean and scaled by a power of two: distances change by that factor only.

    The key of a pair, half_norm(b) − a·b, orders candidates b by their distance from a; in these units
    d² = ‖a‖² + 2·key. Centred rows are as short as the spread of the bank, and so is the product's rounding error: a
    nearly collapsed bank is mined as exactly as a healthy one.

    Attributes:
        tiles: float32[D, C] each, C = `TILE` but for the last, columns in the order of `Problem.candidates_M`.
        half_norm_M: ‖b‖²/2, float32[M].
        shift_D, unit: row = (embedding − shift_D)·unit.
        max_norm: the largest ‖b‖.
    """

    tiles: list[Float32]
    half_norm_M: Float32
    shift_D: Float32
    unit: np.float32
    max_norm: float

    def rows(self, bank_ND: Float32, item_R: NDArray[np.int64]) -> Float32:
        """Return centred rows of any items, float32[R, D]."""
        return _centred(bank_ND, item_R, self.shift_D, self.unit)

    def key_of(self, distance_R: Float64, half_norm_R: Float64) -> Float64:
        """Return the keys at which items at these distances from anchors of these ‖a‖²/2 lie."""
        return (float(self.unit) * distance_R) ** 2 / 2 - half_norm_R

    def key_error(self, norm_R: Float64) -> Float64:
        """Return a bound on |key as computed − key that the float32 distance implies| for anchors of these norms.

        A dot product of D float32 terms is off by at most D·u·‖a‖·‖b‖. The second term is for rows that were rounded
        when they were centred, and for distances that tie once they are rounded to float32.
        """
        num_terms = self.shift_D.size + 8
        reach_R = norm_R + self.max_norm
        return _UNIT_ROUNDOFF * (num_terms * self.key_bound(norm_R) + 4 * reach_R**2)

    def key_bound(self, norm_R: Float64) -> Float64:
        """Return a bound on |key| for anchors of these norms."""
        return norm_R * self.max_norm + self.max_norm**2 / 2

    def key_moments(self, rows_RD: Float32) -> tuple[Float64, Float64]:
        """Return mean and standard deviation of the keys of each row over all candidates."""
        rows = rows_RD.astype(np.float64)
        half_mean, half_variance, mean_D, cross_D, covariance_DD = self._moments
        variance_R = np.einsum("rd,rd->r", rows @ covariance_DD - 2 * cross_D, rows) + half_variance
        return half_mean - rows @ mean_D, np.sqrt(np.maximum(variance_R, 0.0))

    @cached_property
    def _moments(self) -> tuple[float, float, Float64, Float64, Float64]:
        """Mean and variance of ‖b‖²/2, mean of b, their covariance, covariance of b."""
        num_candidates, dim = len(self.half_norm_M), len(self.shift_D)
        half_M = self.half_norm_M.astype(np.float64)
        mean_D, cross_D, square_DD = np.zeros(dim), np.zeros(dim), np.zeros((dim, dim))
        for t, tile in enumerate(self.tiles):
            mean_D += tile.sum(axis=1, dtype=np.float64)
            cross_D += tile @ self.half_norm_M[t * TILE : (t + 1) * TILE]
            square_DD += tile @ tile.T
        mean_D /= num_candidates
        half_mean = float(half_M.mean())
        covariance_DD = square_DD / num_candidates - np.outer(mean_D, mean_D)
        return half_mean, float(half_M.var()), mean_D, cross_D / num_candidates - half_mean * mean_D, covariance_DD


def centred_bank(problem: Problem, threads: int) -> CentredBank:
    """Return the candidates of `problem` as tiles."""
    bank_ND, item_M = problem.bank_ND, problem.candidates_M
    num_candidates, dim = len(item_M), bank_ND.shape[1]
    starts = range(0, num_candidates, TILE)
    sum_KD, largest_K = np.zeros((len(starts), dim)), np.zeros(len(starts), dtype=np.float32)

    def measure(start: int) -> None:
        rows = bank_ND[item_M[start : start + TILE]]
        sum_KD[start // TILE] = rows.sum(axis=0, dtype=np.float64)
        largest_K[start // TILE] = np.abs(rows).max()

    for_each(measure, starts, threads)
    shift_D = (sum_KD.sum(axis=0) / num_candidates).astype(np.float32)
    exponent = np.frexp(float(largest_K.max()) * np.sqrt(dim))[1]
    unit = np.float32(2.0 ** -np.clip(exponent, -126, 126))
    tiles = [np.empty((dim, min(TILE, num_candidates - start)), dtype=np.float32) for start in starts]
    half_norm_M = np.empty(num_candidates, dtype=np.float32)

    def centre(start: int) -> None:
        rows = _centred(bank_ND, item_M[start : start + TILE], shift_D, unit)
        tiles[start // TILE][:] = rows.T
        half_norm_M[start : start + TILE] = np.einsum("cd,cd->c", rows, rows, dtype=np.float64) / 2

    for_each(centre, starts, threads)
    largest_half = float(half_norm_M.max()) * (1.0 + 2.0**-20)
    return CentredBank(tiles, half_norm_M, shift_D, unit, max_norm=float(np.sqrt(2.0 * largest_half)))


def _centred(bank_ND: Float32, item_R: NDArray[np.int64], shift_D: Float32, unit: np.float32) -> Float32:
    rows_RD = bank_ND[item_R]
    rows_RD -= shift_D
    rows_RD *= unit
    return rows_RD
