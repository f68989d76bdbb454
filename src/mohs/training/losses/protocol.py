"""What a loss is: the protocol that training calls, and what it gets back."""

from dataclasses import dataclass
from typing import Protocol, final

from torch import Tensor

__all__ = ["Loss", "LossValue"]


@final
@dataclass(frozen=True)
class LossValue:
    """A mean loss and the share of triplets (or of anchors, in-batch) that are active: that still pull and push.

    Both are scalars; `active_fraction` is detached and in [0, 1].
    """

    loss: Tensor
    active_fraction: Tensor


class Loss(Protocol):
    """A loss on the embeddings of one batch.

    `anchor_BD`, `positive_BD` and, unless the loss is in-batch, `negative_BD` are unit vectors in plan order; `class_B`
    numbers the anchors' classes from 0. A loss with parameters of its own (proxies, class weights) is an `nn.Module`:
    whoever trains it moves it to the device, optimises its `parameters()` and saves its `state_dict()`.

    `apart_MM`, bool[M, M], is given where some pictures of the batch must not be negatives of others
    (`mohs.training.kept_apart`): rows and columns are anchors, then positives, then negatives, and at True the column
    is no negative of the row.
    """

    def __call__(
        self,
        anchor_BD: Tensor,
        positive_BD: Tensor,
        negative_BD: Tensor | None,
        class_B: Tensor,
        apart_MM: Tensor | None = None,
    ) -> LossValue:
        """Return the loss of the batch."""
        ...

    def collapsed_loss(
        self, num_triplets: int, class_B: Tensor | None = None, apart_MM: Tensor | None = None
    ) -> float | None:
        """Return the loss of a batch of so many triplets whose embeddings are all the same; None: it has no one value.

        It is what a collapsed network pays. For an in-batch loss the triplets are of different classes, unless
        `class_B` says otherwise; it is given with `apart_MM`.
        """
        ...
