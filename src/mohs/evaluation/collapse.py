"""Spread: how much of its space an embedding uses; and the one rule of when that is a collapse."""

from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from mohs.evaluation.checked import checked_embeddings

__all__ = ["Spread", "at_one_point", "spread"]


@final
@dataclass(frozen=True)
class Spread:
    """How spread out a set of embeddings is.

    Attributes:
        std_sqrt_dim: √(Σ_d Var_d), the root mean square distance to the mean vector; "std·√D" if all dimensions vary
            alike. For unit vectors in [0, 1]: 1 spread evenly over the sphere, 0 collapsed to a point. It equals
            √(1 − ‖mean vector‖²) there.
        effective_rank: exp of the entropy of λ_d / Σλ, the normalised eigenvalues of the covariance (Roy and Vetterli
            2007): between 1 (all on a line) and D (all directions alike). 0 if nothing varies at all.
        mean_norm: mean of ‖x‖; 1 for unit vectors.
    """

    std_sqrt_dim: float
    effective_rank: float
    mean_norm: float


def at_one_point(spread: float, *, largest: float = 0.0) -> bool:
    """Return whether a spread (of unit vectors, or over the mean norm) is that of one point, where all is the same.

    That is below 0.02, or below a fifth of the `largest` that there was. This is the rule of the collapse guard, and of
    whoever says afterwards that embeddings have collapsed.

    >>> at_one_point(0.01), at_one_point(0.15), at_one_point(0.15, largest=0.9)
    (True, False, True)
    """
    return spread < max(0.2 * largest, 0.02)


def spread(embeddings_ND: npt.ArrayLike) -> Spread:
    """Return the `Spread` of embeddings [N, D], numpy or torch; variances divide by N.

    The effective rank is at most min(N − 1, D): take more items than dimensions. Variation below the rounding of
    float32 (std_sqrt_dim under 1e-7 of the mean norm) counts as none.

    >>> spread([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    Spread(std_sqrt_dim=1.0, effective_rank=2.0, mean_norm=1.0)
    >>> spread([[1.0, 0.0], [1.0, 0.0]])
    Spread(std_sqrt_dim=0.0, effective_rank=0.0, mean_norm=1.0)
    """
    x_ND = checked_embeddings(embeddings_ND, "embeddings_ND")
    mean_norm = float(np.linalg.norm(x_ND, axis=1).mean())
    centred_ND = x_ND - x_ND.mean(axis=0)
    covariance_DD = centred_ND.T @ centred_ND / len(x_ND)
    std_sqrt_dim = float(np.sqrt(np.trace(covariance_DD)))
    if std_sqrt_dim <= 1e-7 * mean_norm:
        return Spread(std_sqrt_dim=0.0, effective_rank=0.0, mean_norm=mean_norm)
    eigenvalues = np.linalg.eigvalsh(covariance_DD)
    share = eigenvalues[eigenvalues > 0] / eigenvalues[eigenvalues > 0].sum()
    return Spread(
        std_sqrt_dim=std_sqrt_dim, effective_rank=float(np.exp(-(share * np.log(share)).sum())), mean_norm=mean_norm
    )
