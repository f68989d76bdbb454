"""What training lowers: triplet losses on the plan's own triplets, in-batch losses by pytorch-metric-learning."""

from dataclasses import dataclass
from typing import Protocol, final

import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import SupConLoss, TripletMarginLoss
from pytorch_metric_learning.miners import TripletMarginMiner
from torch import Tensor, nn

from mohs.config import LossConfig

__all__ = ["InBatchLoss", "Loss", "LossValue", "TripletLoss", "build_loss"]


@final
@dataclass(frozen=True)
class LossValue:
    """A mean loss and the share of triplets (or of anchors, in-batch) that are active: that still pull and push.

    Both are scalars; `active_fraction` is detached.
    """

    loss: Tensor
    active_fraction: Tensor


class Loss(Protocol):
    """A loss on the embeddings of one batch.

    `anchor_BD`, `positive_BD` and, unless `in_batch`, `negative_BD` are unit vectors in plan order; `class_B` numbers
    the anchors' classes.
    """

    def __call__(
        self, anchor_BD: Tensor, positive_BD: Tensor, negative_BD: Tensor | None, class_B: Tensor
    ) -> LossValue:
        """Return the loss of the batch."""
        ...


@final
@dataclass(frozen=True)
class TripletLoss:
    """Mean over triplets of max(0, d_ap − d_an + margin), or of ln(1 + exp(d_ap − d_an)) if `soft`.

    d is the Euclidean distance or, if `squared`, its square (in [0, 4] on unit vectors, so a margin above 4 can never
    be met). A triplet is active if its term is above 0; with the soft margin, if d_ap ≥ d_an.
    Source: Schroff et al., "FaceNet" (2015), eq. 3 (squared); Hermans et al., "In Defense of the Triplet Loss" (2017),
    eq. 5 and section 2 (plain and soft). A collapsed network sits at loss = margin, or ln 2 if soft.

    >>> a, p, n = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([[-1.0, 0.0]])
    >>> float(TripletLoss(margin=0.2)(a, p, n, torch.tensor([0])).loss)
    0.0
    >>> round(float(TripletLoss(margin=0.2)(a, n, p, torch.tensor([0])).loss), 4)
    2.2
    """

    margin: float
    squared: bool = True
    soft: bool = False

    def __call__(
        self,
        anchor_BD: Tensor,
        positive_BD: Tensor,
        negative_BD: Tensor | None,
        class_B: Tensor,  # noqa: ARG002
    ) -> LossValue:
        """Return the loss of the batch; `class_B` is not used, since the plan names every negative."""
        assert negative_BD is not None, "the triplet loss needs the plan's negatives"
        gap_B = self._distance(anchor_BD, positive_BD) - self._distance(anchor_BD, negative_BD)
        if self.soft:
            return LossValue(nn.functional.softplus(gap_B).mean(), (gap_B.detach() >= 0).float().mean())
        term_B = torch.relu(gap_B + self.margin)
        return LossValue(term_B.mean(), (term_B.detach() > 0).float().mean())

    def _distance(self, a_BD: Tensor, b_BD: Tensor) -> Tensor:
        difference_BD = a_BD - b_BD
        # vector_norm has gradient 0, not NaN, where two embeddings coincide.
        return difference_BD.square().sum(1) if self.squared else torch.linalg.vector_norm(difference_BD, dim=1)


@final
class InBatchLoss:
    """A pytorch-metric-learning loss (with a miner, if any) on anchors and positives; negatives come from the batch.

    An anchor is active if some picture of another class in the batch is nearer to it than its positive (plus
    `active_margin`, in Euclidean distance or, if `squared`, its square).
    """

    def __init__(
        self, loss: nn.Module, miner: nn.Module | None = None, *, active_margin: float = 0.0, squared: bool = True
    ) -> None:
        self._loss = loss
        self._miner = miner
        self._active_margin = active_margin
        self._squared = squared

    def __call__(
        self,
        anchor_BD: Tensor,
        positive_BD: Tensor,
        negative_BD: Tensor | None,  # noqa: ARG002
        class_B: Tensor,
    ) -> LossValue:
        """Return the loss of the batch; `negative_BD` is not used."""
        embeddings_MD = torch.cat([anchor_BD, positive_BD])
        class_M = torch.cat([class_B, class_B])
        triplets = None if self._miner is None else self._miner(embeddings_MD, class_M)
        loss: Tensor = self._loss(embeddings_MD, class_M, triplets)
        with torch.no_grad():
            distance_BM = torch.cdist(anchor_BD, embeddings_MD, compute_mode="donot_use_mm_for_euclid_dist")
            own_BM = class_B[:, None] == class_M[None, :]
            nearest_B = distance_BM.masked_fill(own_BM, torch.inf).amin(1)
            positive_B = torch.linalg.vector_norm(anchor_BD - positive_BD, dim=1)
            power = 2 if self._squared else 1
            active = (nearest_B**power <= positive_B**power + self._active_margin).float().mean()
        return LossValue(loss, active)


def build_loss(config: LossConfig) -> Loss:
    """Return the loss that `config` names."""
    match config.name:
        case "triplet":
            return TripletLoss(margin=config.margin, squared=config.squared)
        case "soft-triplet":
            return TripletLoss(margin=config.margin, squared=config.squared, soft=True)
        case "infonce":
            # With one positive per anchor SupCon is InfoNCE (NT-Xent), term by term, in a B x B matrix; the library's
            # NTXentLoss builds one of pairs x negatives, which costs more than the network here.
            return InBatchLoss(SupConLoss(temperature=config.temperature))
        case "semi-hard":
            distance = LpDistance(power=2 if config.squared else 1)
            return InBatchLoss(
                TripletMarginLoss(margin=config.margin, distance=distance),
                TripletMarginMiner(margin=config.margin, type_of_triplets="semihard", distance=distance),
                active_margin=config.margin,
                squared=config.squared,
            )
