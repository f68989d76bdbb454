"""Losses that take their negatives from the batch: any loss, and miner, of pytorch-metric-learning."""

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, Final, TypeAlias, final

import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import SupConLoss, TripletMarginLoss
from pytorch_metric_learning.miners import TripletMarginMiner
from pytorch_metric_learning.utils import loss_and_miner_utils as library
from torch import Tensor, nn

from mohs.errors import TrainingError
from mohs.randomness import check_seed, torch_seeded
from mohs.settings.config import LossConfig
from mohs.settings.loss_records import INFONCE, SEMI_HARD, SUPCON, LossRecord
from mohs.training.losses.library import find_miner
from mohs.training.losses.protocol import LossValue

__all__ = ["CLASS_VECTORS", "IN_BATCH_LOSSES", "InBatchLoss", "active_fraction", "build_miner"]

CLASS_VECTORS = "a vector of each class"

Found: TypeAlias = tuple[Tensor, ...]
"""What a miner returns: anchors, positives, negatives; or anchors and positives, then anchors and negatives."""


@final
class InBatchLoss(nn.Module):
    """A pytorch-metric-learning loss (with a miner, if any) on anchors and positives; negatives come from the batch.

    The loss is called with the 2B embeddings (anchors, then positives), their class numbers, and what the miner
    returned for them. An anchor is active if some picture of another class in the batch is nearer to it than its
    positive (plus `active_margin`, in Euclidean distance or, if `squared`, its square); it is not if there is none.

    It is an `nn.Module`: parameters of the loss are its parameters, and `state_dict` holds these and the number of
    calls. What a loss or miner draws at random comes from (`seed`, "in-batch loss", number of calls), not from torch's
    global state.

    Pairs that are kept apart (`apart_MM`) leave what the loss sees: the triplets or pairs of the miner, of which the
    miner sees them as far apart as any, or else all triplets or pairs. Without such pairs the loss is called as it is.

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
        apart_MM: Tensor | None = None,
    ) -> LossValue:
        """Return the loss of the batch; `negative_BD` is not used."""
        embeddings_MD = torch.cat([anchor_BD, positive_BD])
        class_M = torch.cat([class_B, class_B])
        with torch_seeded(self._seed, "in-batch loss", int(self.num_calls)):
            loss = self._call(embeddings_MD, class_M, apart_MM)
        self.num_calls += 1
        active = active_fraction(
            anchor_BD, positive_BD, class_B, margin=self._active_margin, squared=self._squared, apart_MM=apart_MM
        )  # fmt: skip
        return LossValue(loss, active)

    @cached_property
    def compares_with(self) -> str | None:
        """What the loss compares pictures with, where it cannot keep single pairs apart; None where it can.

        It can if what it makes of a batch, but for some pairs, does not change when pictures turn that are in those
        pairs alone. Tried on a small batch, on a copy of the loss.
        """
        if any(parameter.dim() > 1 for parameter in self.loss.parameters()):
            return CLASS_VECTORS
        return None if all(_leaves_out_pairs(self.loss, seed) for seed in range(3)) else "the whole batch at once"

    def collapsed_loss(
        self, num_triplets: int, class_B: Tensor | None = None, apart_MM: Tensor | None = None
    ) -> float | None:
        """Return the loss of a batch of so many triplets whose embeddings are all the same.

        Each is of another class, unless `class_B` says otherwise. It is measured on a copy of the loss (where no pairs
        are kept apart, once for each number): ln(2B − 1) for InfoNCE and SupCon. None where there is no one value: with
        a miner (what it finds among equal embeddings is chance), with parameters (they move), and where the loss fails.
        """
        if apart_MM is not None:
            return self._measure_collapsed(num_triplets, class_B, apart_MM)
        if num_triplets not in self._collapsed:
            self._collapsed[num_triplets] = self._measure_collapsed(num_triplets, None, None)
        return self._collapsed[num_triplets]

    @torch.no_grad()
    def _measure_collapsed(self, num_triplets: int, class_B: Tensor | None, apart_MM: Tensor | None) -> float | None:
        if self.miner is not None or any(True for _ in self.parameters()):
            return None
        device = self.num_calls.device
        point_MD = torch.tensor([[1.0, 0.0]], device=device).expand(2 * num_triplets, 2).contiguous()
        class_M = (torch.arange(num_triplets, device=device) if class_B is None else class_B).repeat(2)
        try:
            with torch_seeded(self._seed, "in-batch loss"):
                loss = copy.deepcopy(self.loss)
                found = None if apart_MM is None else _without(_all_pairs(loss, class_M), apart_MM, loss)
                value = float(loss(point_MD, class_M, found))
        except Exception:  # the library's classes raise any kind
            return None
        return value if math.isfinite(value) else None

    def _call(self, embeddings_MD: Tensor, class_M: Tensor, apart_MM: Tensor | None) -> Tensor:
        try:
            found: Found | None = None
            if self.miner is not None:
                with _seen_as_far(self.miner, apart_MM):
                    found = self.miner(embeddings_MD, class_M)
            if apart_MM is not None:
                found = _without(_all_pairs(self.loss, class_M) if found is None else found, apart_MM, self.loss)
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


def _all_pairs(loss: nn.Module, class_M: Tensor) -> Found:
    """Return what a loss takes where no miner says: all pairs, or as many triplets as it is set to take."""
    per_anchor = getattr(loss, "triplets_per_anchor", None)
    found: Found = (
        library.get_all_pairs_indices(class_M)
        if per_anchor is None
        else library.convert_to_triplets(None, class_M, class_M, per_anchor)
    )
    return found


def _without(found: Found, apart_MM: Tensor, loss: nn.Module) -> Found:
    """Return pairs or triplets without negatives that are kept apart from their anchor.

    A loss with `swap` compares positive and negative, too.
    """
    if len(found) == 3:
        anchor, positive, negative = found
        apart = apart_MM[anchor, negative]
        if getattr(loss, "swap", False):
            apart = apart | apart_MM[positive, negative]
        return anchor[~apart], positive[~apart], negative[~apart]
    *positives, anchor, negative = found
    apart = apart_MM[anchor, negative]
    return *positives, anchor[~apart], negative[~apart]


@contextlib.contextmanager
def _seen_as_far(miner: nn.Module, apart_MM: Tensor | None) -> Iterator[None]:
    """Let a miner see pairs that are kept apart as the farthest of the batch: it then picks other hard negatives."""
    distance: Any = getattr(miner, "distance", None)
    if apart_MM is None or not isinstance(distance, nn.Module):
        yield
        return

    def far(module: Any, _: Any, matrix: Tensor) -> Tensor | None:
        if matrix.shape != apart_MM.shape:
            return None
        return torch.where(apart_MM, module.largest_dist(matrix), matrix)

    hook = distance.register_forward_hook(far)
    try:
        yield
    finally:
        hook.remove()


def _leaves_out_pairs(loss: nn.Module, seed: int) -> bool:
    """Return whether a loss takes no negatives but those it is given: see `InBatchLoss.compares_with`."""
    with torch_seeded(seed, "trial of pairs"):
        x_MD = nn.functional.normalize(torch.randn(6, 8), dim=1)
    class_M = torch.arange(3).repeat(2)
    apart_MM = (class_M[:, None] == 1) | (class_M == 1)  # class 1 has positives alone
    # Both of its pictures turn, so that they are to each other as they were.
    turned_MD = torch.where((class_M == 1)[:, None], -x_MD.flip(1), x_MD)
    gradients = []
    for embedding_MD in (x_MD, turned_MD):
        embedding_MD.requires_grad_()
        try:
            own = copy.deepcopy(loss).cpu()
            with torch_seeded(seed, "trial of pairs, draws"):
                value = own(embedding_MD, class_M, _without(_all_pairs(own, class_M), apart_MM, own))
            (gradient_MD,) = torch.autograd.grad(value, embedding_MD)
        except Exception:  # the library's classes raise any kind
            return False
        gradients.append(gradient_MD[class_M != 1])
    as_it_was, turned = gradients
    return torch.allclose(as_it_was, turned, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def active_fraction(
    anchor_BD: Tensor,
    positive_BD: Tensor,
    class_B: Tensor,
    *,
    margin: float = 0.0,
    squared: bool = True,
    apart_MM: Tensor | None = None,
) -> Tensor:
    """Return the share of anchors, a scalar, for which a picture of another class is about as near as their positive.

    That is, some picture n of another class in the batch, anchor or positive, has d(a, n) ≤ d(a, p) + margin, where d
    is the Euclidean distance or its square; a picture that is kept apart from the anchor (`apart_MM`) does not count.
    `anchor_BD` and `positive_BD` are float [B, D], `class_B` integer [B].

    >>> active_fraction(torch.tensor([[0.0], [5.0]]), torch.tensor([[9.0], [6.0]]), torch.tensor([0, 1])).item()
    0.5
    """
    embeddings_MD = torch.cat([anchor_BD, positive_BD])
    distance_BM = torch.cdist(anchor_BD, embeddings_MD, compute_mode="donot_use_mm_for_euclid_dist")
    own_BM = class_B[:, None] == torch.cat([class_B, class_B])[None, :]
    if apart_MM is not None:
        own_BM = own_BM | apart_MM[: len(anchor_BD)]
    nearest_B = distance_BM.masked_fill(own_BM, torch.inf).amin(1)
    positive_B = torch.linalg.vector_norm(anchor_BD - positive_BD, dim=1)
    power = 2 if squared else 1
    active_B: Tensor = nearest_B**power <= positive_B**power + margin
    return active_B.float().mean()


def build_miner(config: LossConfig) -> nn.Module | None:
    """Return the miner that `loss.miner` names; None without one."""
    if config.miner is None:
        return None
    return find_miner(config.miner).build(config.miner_options, num_classes=0, embedding_dim=0)


def _semi_hard(config: LossConfig, seed: int) -> InBatchLoss:  # noqa: ARG001
    distance = LpDistance(power=2 if config.squared else 1)
    return InBatchLoss(
        TripletMarginLoss(margin=config.margin, distance=distance),
        TripletMarginMiner(margin=config.margin, type_of_triplets="semihard", distance=distance),
        active_margin=config.margin,
        squared=config.squared,
    )


def _infonce(config: LossConfig, seed: int) -> InBatchLoss:
    # With one positive per anchor SupCon is InfoNCE (NT-Xent), term by term, in a B x B matrix; the library's
    # NTXentLoss builds one of pairs x negatives, which costs more than the network here.
    return InBatchLoss(SupConLoss(temperature=config.temperature), build_miner(config), seed=seed)


IN_BATCH_LOSSES: Final[Mapping[LossRecord, Callable[[LossConfig, int], InBatchLoss]]] = {
    INFONCE: _infonce,
    SUPCON: _infonce,
    SEMI_HARD: _semi_hard,
}
"""How settings and seed build those that are not the library's under its own name."""
