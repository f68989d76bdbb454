"""Losses on the plan's own triplets: every negative is the one that was mined."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor, nn

from mohs.settings.config import LossConfig
from mohs.settings.loss_records import CONTRASTIVE, SELECTIVE_TRIPLET, SOFT_TRIPLET, TRIPLET, LossRecord
from mohs.training.losses.protocol import Loss, LossValue

__all__ = ["PLAN_LOSSES", "ContrastiveLoss", "PlanLoss", "SelectiveTripletLoss", "TripletLoss"]


class PlanLoss(ABC):
    """A loss that is a mean over the plan's triplets: of each a term, and whether it is active."""

    def __call__(
        self,
        anchor_BD: Tensor,
        positive_BD: Tensor,
        negative_BD: Tensor | None,
        class_B: Tensor,  # noqa: ARG002
        apart_MM: Tensor | None = None,
    ) -> LossValue:
        """Return the loss of the batch; `class_B` is not used, since the plan names every negative."""
        assert negative_BD is not None, f"{type(self).__name__} needs the plan's negatives"
        term_B, active_B = self._terms(anchor_BD, positive_BD, negative_BD, apart_MM)
        return LossValue(term_B.mean(), active_B.float().mean())

    def collapsed_loss(
        self,
        num_triplets: int,  # noqa: ARG002
        class_B: Tensor | None = None,  # noqa: ARG002
        apart_MM: Tensor | None = None,  # noqa: ARG002
    ) -> float:
        """Return the term of a triplet whose embeddings are exactly equal."""
        return self._collapsed_term()

    @abstractmethod
    def _terms(
        self, anchor_BD: Tensor, positive_BD: Tensor, negative_BD: Tensor, apart_MM: Tensor | None
    ) -> tuple[Tensor, Tensor]: ...

    @abstractmethod
    def _collapsed_term(self) -> float: ...


@final
@dataclass(frozen=True)
class TripletLoss(PlanLoss):
    """Mean over triplets of max(0, d_ap − d_an + margin), or of ln(1 + exp(d_ap − d_an)) if `soft`.

    d is the Euclidean distance or, if `squared`, its square (in [0, 4] on unit vectors, so a margin above 4 can never
    be met). With `swap`, d_an is min(d_an, d_pn): whichever of anchor and positive is nearer to the negative pushes it
    away, unless positive and negative are kept apart. A triplet is active if its term is above 0; with the soft margin,
    if d_ap ≥ d_an. A collapsed network sits at loss = margin, or ln 2 if soft.

    Source: Schroff et al., "FaceNet" (2015), eq. 3 (squared); Hermans et al., "In Defense of the Triplet Loss" (2017),
    eq. 5 and section 2 (plain and soft); Balntas et al., "Learning local feature descriptors with triplets and shallow
    convolutional neural networks" (2016), anchor swap.

    >>> a, p, n = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([[-1.0, 0.0]])
    >>> float(TripletLoss(margin=0.2)(a, p, n, torch.tensor([0])).loss)
    0.0
    >>> round(float(TripletLoss(margin=0.2)(a, n, p, torch.tensor([0])).loss), 4)
    2.2
    >>> round(float(TripletLoss(margin=0.2, swap=True)(a, p, n, torch.tensor([0])).loss), 4)  # d_pn = 2 = d_ap
    0.2
    """

    margin: float
    squared: bool = True
    soft: bool = False
    swap: bool = False

    def _terms(
        self, anchor_BD: Tensor, positive_BD: Tensor, negative_BD: Tensor, apart_MM: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        negative_distance_B = self._distance(anchor_BD, negative_BD)
        if self.swap:
            swapped_B = self._distance(positive_BD, negative_BD)
            if apart_MM is not None:
                swapped_B = torch.where(_positive_negative(apart_MM), torch.inf, swapped_B)
            negative_distance_B = torch.minimum(negative_distance_B, swapped_B)
        gap_B = self._distance(anchor_BD, positive_BD) - negative_distance_B
        if self.soft:
            return nn.functional.softplus(gap_B), gap_B.detach() >= 0
        term_B = torch.relu(gap_B + self.margin)
        return term_B, term_B.detach() > 0

    def _collapsed_term(self) -> float:
        return math.log(2) if self.soft else self.margin  # every gap is 0

    def _distance(self, a_BD: Tensor, b_BD: Tensor) -> Tensor:
        difference_BD = a_BD - b_BD
        # vector_norm has gradient 0, not NaN, where two embeddings coincide.
        return difference_BD.square().sum(1) if self.squared else torch.linalg.vector_norm(difference_BD, dim=1)


def _positive_negative(apart_MM: Tensor) -> Tensor:
    """Return which triplets' positive and negative are kept apart, bool[B]; M is 3B."""
    num = len(apart_MM) // 3
    return apart_MM[num : 2 * num, 2 * num :].diagonal()


@final
@dataclass(frozen=True)
class SelectiveTripletLoss(PlanLoss):
    """Mean over triplets of hard_weight · s_an where s_an > s_ap, else of ln(1 + exp((s_an − s_ap) / temperature)).

    s is the cosine similarity. The second case is −ln of the positive's share in a softmax over positive and negative.
    In the first, a hard triplet, the negative is pushed away and the positive is left alone: pulling it as well is what
    moves the negative along and makes a network collapse under the hardest negatives. So hard triplets may come from
    the start. The loss is discontinuous at s_an = s_ap, and below 0 for hard triplets with s_an < 0.

    A triplet is active if s_an ≥ s_ap. With all embeddings equal the loss is ln 2, where it does not rest: rounding
    makes triplets hard, and a nearly collapsed network pays between ln 2 and `hard_weight`, which pushes it apart.

    Source: Xuan et al., "Hard negative examples are hard, but useful" (2020), loss L_SC, whose λ is `hard_weight`.
    Differences from the authors' code: it takes as hard all triplets with s_an > 0.8 too, the formula does not; it
    picks positives and negatives in the batch, here they are the plan's. Its temperature is 0.1 and its λ 1, as here.

    >>> a, p, n = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.8, 0.6]]), torch.tensor([[0.6, 0.8]])
    >>> round(float(SelectiveTripletLoss()(a, p, n, torch.tensor([0])).loss), 4)  # ln(1 + exp(−2))
    0.1269
    >>> round(float(SelectiveTripletLoss()(a, n, p, torch.tensor([0])).loss), 4)  # hard
    0.8
    """

    temperature: float = 0.1
    hard_weight: float = 1.0

    def _terms(
        self,
        anchor_BD: Tensor,
        positive_BD: Tensor,
        negative_BD: Tensor,
        apart_MM: Tensor | None,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor]:
        positive_similarity_B = (anchor_BD * positive_BD).sum(1)
        negative_similarity_B = (anchor_BD * negative_BD).sum(1)
        gap_B = negative_similarity_B - positive_similarity_B
        easy_B = nn.functional.softplus(gap_B / self.temperature)
        term_B = torch.where(gap_B.detach() > 0, self.hard_weight * negative_similarity_B, easy_B)
        return term_B, gap_B.detach() >= 0

    def _collapsed_term(self) -> float:
        return math.log(2)  # see above for nearly equal embeddings


@final
@dataclass(frozen=True)
class ContrastiveLoss(PlanLoss):
    """Mean over triplets of d_ap² + max(0, margin − d_an)², the loss of a Siamese network.

    d is the Euclidean distance, so on unit vectors a margin above 2 can never be met. Each triplet gives a pair of one
    class and a pair of two. A triplet is active if d_an < margin; positives are pulled as long as d_ap > 0. A collapsed
    network sits at loss = margin².

    Source: Hadsell et al., "Dimensionality Reduction by Learning an Invariant Mapping" (2006), eq. 4, which has a ½
    before each square; here there is none. Its mean over the 2B pairs of B triplets is a quarter of this loss.

    >>> a, p, n = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.8, 0.6]]), torch.tensor([[-1.0, 0.0]])
    >>> round(float(ContrastiveLoss(margin=1.0)(a, p, n, torch.tensor([0])).loss), 4)  # 0.2² + 0.6² + 0
    0.4
    >>> round(float(ContrastiveLoss(margin=1.0)(a, n, p, torch.tensor([0])).loss), 4)  # 2² + (1 − √0.4)²
    4.1351
    """

    margin: float

    def _terms(
        self,
        anchor_BD: Tensor,
        positive_BD: Tensor,
        negative_BD: Tensor,
        apart_MM: Tensor | None,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor]:
        # vector_norm has gradient 0, not NaN, where two embeddings coincide.
        missing_B = torch.relu(self.margin - torch.linalg.vector_norm(anchor_BD - negative_BD, dim=1))
        term_B = (anchor_BD - positive_BD).square().sum(1) + missing_B.square()
        return term_B, missing_B.detach() > 0

    def _collapsed_term(self) -> float:
        return self.margin**2  # positives cost nothing, negatives lack the whole margin


PLAN_LOSSES: Final[Mapping[LossRecord, Callable[[LossConfig], Loss]]] = {
    TRIPLET: lambda config: TripletLoss(margin=config.margin, squared=config.squared, swap=config.swap),
    SOFT_TRIPLET: lambda config: TripletLoss(margin=config.margin, squared=config.squared, soft=True, swap=config.swap),
    SELECTIVE_TRIPLET: lambda config: SelectiveTripletLoss(temperature=config.temperature),
    CONTRASTIVE: lambda config: ContrastiveLoss(margin=config.margin),
}
"""How the settings build each of them."""
