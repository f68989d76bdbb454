"""Where rows lie for a matrix product: moved to the middle of the bank and scaled, with a bound on the rounding."""

from dataclasses import dataclass, replace
from typing import TypeAlias, final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Frame", "unit_of"]

Float32: TypeAlias = NDArray[np.float32]
Float64: TypeAlias = NDArray[np.float64]

_UNIT_ROUNDOFF = 2.0**-24
_SMALLEST = 2.0**-149


@final
@dataclass(frozen=True, eq=False)
class Frame:
    """Rows are moved to the bank's mean and scaled by a power of two: distances change by that factor only.

    The key of a pair, half_norm(b) − a·b, orders candidates b by their distance from a; in these units
    d² = ‖a‖² + 2·key. Centred rows are as short as the spread of the bank, and so is the product's rounding error: a
    nearly collapsed bank is mined as exactly as a healthy one.

    Attributes:
        shift_D, unit: row = (embedding − shift_D)·unit.
        max_norm: the largest ‖b‖, or more.
    """

    shift_D: Float32
    unit: np.float32
    max_norm: float

    def centred(self, embedding_RD: Float32) -> Float32:
        """Return the rows of embeddings, which are overwritten."""
        embedding_RD -= self.shift_D
        embedding_RD *= self.unit
        return embedding_RD

    def reaching(self, half_norm: float) -> "Frame":
        """Return the same frame for candidates whose largest ‖b‖²/2, as float32, is this."""
        return replace(self, max_norm=float(np.sqrt(2.0 * half_norm * (1.0 + 2.0**-20))))

    @property
    def square(self) -> float:
        """What d² is multiplied by for ‖a‖²/2 + key."""
        return float(self.unit) ** 2 / 2

    def key_of(self, distance_R: Float64, half_norm_R: Float64) -> Float64:
        """Return the keys at which items at these distances from anchors of these ‖a‖²/2 lie."""
        return (float(self.unit) * distance_R) ** 2 / 2 - half_norm_R

    def key_error(self, norm_R: Float64) -> Float64:
        """Return a bound on |key as computed − key that the float32 distance implies| for anchors of these norms.

        A dot product of D float32 terms is off by at most D·u·‖a‖·‖b‖. The second term is for rows that were rounded
        when they were centred, and for distances that tie once they are rounded to float32. The last is for distances
        near 1e-44, which float32 rounds to whole steps of its smallest number, not to a share of themselves.
        """
        num_terms = self.shift_D.size + 8
        reach_R = norm_R + self.max_norm
        step = float(self.unit) * _SMALLEST
        return _UNIT_ROUNDOFF * (num_terms * self.key_bound(norm_R) + 4 * reach_R**2) + step * (reach_R + step)

    def key_bound(self, norm_R: Float64) -> Float64:
        """Return a bound on |key| for anchors of these norms."""
        return norm_R * self.max_norm + self.max_norm**2 / 2


def unit_of(largest: float, dim: int) -> np.float32:
    """Return the power of two for a bank whose largest number is this: no square of a row over- or underflows."""
    exponent = np.frexp(largest * np.sqrt(dim))[1]
    return np.float32(2.0 ** -np.clip(exponent, -126, 126))
