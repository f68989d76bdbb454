"""When two distances count as equal, and who then comes first: one rule for every metric.

Two rows that are the same vector can come out of a matrix product, or of a network run in another batch, a rounding
error apart. A metric that trusted such differences would give a collapsed embedding (all rows equal) a score by
luck or by the order of the file. So distances that differ by no more than float32 can tell are *tied*, and ties are
*pessimistic*: the wrong item comes first.
"""

import numpy as np
import numpy.typing as npt

__all__ = ["TIE_TOLERANCE", "tie_limit"]

TIE_TOLERANCE = 1e-6
"""Relative size of what counts as rounding: about 8 units in the last place of float32."""


def tie_limit(distance: npt.NDArray[np.floating], query_norm: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the largest distance that is still tied with `distance`: d + 1e-6 · (d + ‖query‖).

    An item is farther than another only if its distance exceeds the other's limit. d + ‖query‖ bounds the norm of the
    item at distance d, so the rule does not change when all embeddings are multiplied by a number, and the limit grows
    with d, so limits never cross.

    >>> float(tie_limit(np.array(0.5), 1.0))
    0.5000015
    """
    distance = np.asarray(distance, dtype=np.float64)
    return distance + TIE_TOLERANCE * (distance + np.asarray(query_norm, dtype=np.float64))
