"""Losses that take their negatives from the batch: any loss, and miner, of pytorch-metric-learning."""

import copy
import math
from typing import final

import torch
from torch import Tensor, nn

from mohs.errors import TrainingError
from mohs.randomness import check_seed, torch_seeded
from mohs.training.loss_value import LossValue

__all__ = ["InBatchLoss", "active_fraction"]


@final
class InBatchLoss(nn.Module):
    """A pytorch-metric-learning loss (with a miner, if any) on anchors and positives; negatives come from the batch.

    The loss is called with the 2B embeddings (anchors, then positives), their class numbers, and what the miner
    returned for them. An anchor is active if some picture of another class in the batch is nearer to it than its
    positive (plus `active_margin`, in Euclidean distance or, if `squared`, its square); it is not if there is none.

    It is an `nn.Module`: parameters of the loss are its parameters, and `state_dict` holds these and the number of
    calls. What a loss or miner draws at random comes from (`seed`, "in-batch loss", number of calls), not from torch's
    global state.

    Args:
        loss: called as loss(embeddings, labels, indices_tuple), returns a scalar.
        miner: called as miner(embeddings, labels), returns the indices_tuple; None: the loss sees all pairs.
        active_margin: for `active_fraction` only.
        squared: for `active_fraction` only.
        seed: in [0, 2**63).

    Raises `TrainingError` if the loss or the miner fails on a batch, which some do where embeddings coincide.

    >>> from pytorch_metric_learning.losses import ContrastiveLoss
    >>> loss = InBatchLoss(ContrastiveLoss(neg_margin=0.5))
    >>> value = loss(torch.eye(2), torch.eye(2), None, torch.arange(2))
    >>> float(value.loss), float(value.active_fraction)
    (0.0, 0.0)
    """

    num_calls: Tensor

    def __init__(
        self,
        loss: nn.Module,
        miner: nn.Module | None = None,
        *,
        active_margin: float = 0.0,
        squared: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.loss = loss
        self.miner = miner
        self._active_margin = active_margin
        self._squared = squared
        self._collapsed: dict[int, float | None] = {}
        self._seed = check_seed(seed)
        # In the state, so that a run that goes on from a checkpoint draws what it would have drawn.
        self.register_buffer("num_calls", torch.zeros((), dtype=torch.int64))

    def forward(
        self,
        anchor_BD: Tensor,
        positive_BD: Tensor,
        negative_BD: Tensor | None,  # noqa: ARG002
        class_B: Tensor,
    ) -> LossValue:
        """Return the loss of the batch; `negative_BD` is not used."""
        embeddings_MD = torch.cat([anchor_BD, positive_BD])
        class_M = torch.cat([class_B, class_B])
        with torch_seeded(self._seed, "in-batch loss", int(self.num_calls)):
            loss = self._call(embeddings_MD, class_M)
        self.num_calls += 1
        active = active_fraction(
            anchor_BD, positive_BD, class_B, margin=self._active_margin, squared=self._squared
        )  # fmt: skip
        return LossValue(loss, active)

    def collapsed_loss(self, num_triplets: int) -> float | None:
        """Return the loss of a batch of so many triplets, each of another class, whose embeddings are all the same.

        It is measured, once for each number, on a copy of the loss: ln(2B − 1) for InfoNCE and SupCon. None where there
        is no one value: with a miner (what it finds among equal embeddings is chance), with parameters (they move), and
        where the loss fails.
        """
        if num_triplets not in self._collapsed:
            self._collapsed[num_triplets] = self._measure_collapsed(num_triplets)
        return self._collapsed[num_triplets]

    @torch.no_grad()
    def _measure_collapsed(self, num_triplets: int) -> float | None:
        if self.miner is not None or any(True for _ in self.parameters()):
            return None
        device = self.num_calls.device
        point_MD = torch.tensor([[1.0, 0.0]], device=device).expand(2 * num_triplets, 2).contiguous()
        class_M = torch.arange(num_triplets, device=device).repeat(2)
        try:
            with torch_seeded(self._seed, "in-batch loss"):
                value = float(copy.deepcopy(self.loss)(point_MD, class_M, None))
        except Exception:  # the library's classes raise any kind
            return None
        return value if math.isfinite(value) else None

    def _call(self, embeddings_MD: Tensor, class_M: Tensor) -> Tensor:
        try:
            found = None if self.miner is None else self.miner(embeddings_MD, class_M)
            loss: Tensor = self.loss(embeddings_MD, class_M, found)
        except (TrainingError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # the library's classes raise any kind
            names = type(self.loss).__name__ + ("" if self.miner is None else f" with {type(self.miner).__name__}")
            reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            raise TrainingError(
                f"loss: {names} failed on a batch of {len(class_M)} pictures ({reason}); change loss.name, "
                "loss.options or loss.miner"
            ) from error
        return loss


@torch.no_grad()
def active_fraction(
    anchor_BD: Tensor, positive_BD: Tensor, class_B: Tensor, *, margin: float = 0.0, squared: bool = True
) -> Tensor:
    """Return the share of anchors, a scalar, for which a picture of another class is about as near as their positive.

    That is, some picture n of another class in the batch, anchor or positive, has d(a, n) ≤ d(a, p) + margin, where d
    is the Euclidean distance or its square. `anchor_BD` and `positive_BD` are float [B, D], `class_B` integer [B].

    >>> active_fraction(torch.tensor([[0.0], [5.0]]), torch.tensor([[9.0], [6.0]]), torch.tensor([0, 1])).item()
    0.5
    """
    embeddings_MD = torch.cat([anchor_BD, positive_BD])
    distance_BM = torch.cdist(anchor_BD, embeddings_MD, compute_mode="donot_use_mm_for_euclid_dist")
    own_BM = class_B[:, None] == torch.cat([class_B, class_B])[None, :]
    nearest_B = distance_BM.masked_fill(own_BM, torch.inf).amin(1)
    positive_B = torch.linalg.vector_norm(anchor_BD - positive_BD, dim=1)
    power = 2 if squared else 1
    active_B: Tensor = nearest_B**power <= positive_B**power + margin
    return active_B.float().mean()
