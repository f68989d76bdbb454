"""The embedding that each item had when training last showed it: what an in-batch plan is made from, at no cost.

To plan a segment by the network as it is, its pictures must be embedded: one more forward pass of every picture that is
shown. Training has embedded each of them before, one pass ago. Those vectors are older, of augmented pictures, and of
batch norm over a batch; what cliques made from them gain is in docs/lab-book.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["LastSeen", "Seen"]


@final
@dataclass(frozen=True, eq=False)
class Seen:
    """Embeddings float32[M, D] of some items, and which of these training has shown, bool[M]."""

    x_MD: NDArray[np.float32]
    known_M: NDArray[np.bool_]


@final
class LastSeen:
    """A row for each item of the training set: state that a checkpoint keeps.

    >>> seen = LastSeen(3, 2)
    >>> seen.write(np.array([2, 0]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    >>> seen.of(np.array([0, 1])).known_M.tolist()
    [True, False]
    """

    def __init__(self, num_items: int, embedding_dim: int) -> None:
        self._x_ND = np.zeros((num_items, embedding_dim), dtype=np.float32)
        self._known_N = np.zeros(num_items, dtype=bool)

    def write(self, item_M: NDArray[np.int64], embedding_MD: Tensor) -> None:
        """Put the embeddings of a step in their places; of an item that comes twice, the last counts."""
        self._x_ND[item_M] = embedding_MD.detach().float().cpu().numpy()
        self._known_N[item_M] = True

    def of(self, item_M: NDArray[np.int64]) -> Seen:
        """Return a copy of what is known of some items."""
        return Seen(self._x_ND[item_M], self._known_N[item_M])

    def forget(self) -> None:
        """Know nothing: what was seen is of a network that is no longer trusted."""
        self._known_N[:] = False

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that a checkpoint keeps; they are the rows themselves, and change with them."""
        return {"x": torch.from_numpy(self._x_ND), "known": torch.from_numpy(self._known_N)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` returned."""
        self._x_ND[:] = state["x"].numpy()
        self._known_N[:] = state["known"].numpy()
