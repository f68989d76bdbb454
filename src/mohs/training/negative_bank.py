"""A bank of the whole training set as extra negatives of an in-batch loss, written by a momentum encoder.

A batch holds a sliver of the data set; the bank holds an embedding of every item. What makes such a bank fail is age:
an embedding that the network of a hundred steps ago gave says little of where the item lies today, and pushing away
from there teaches nothing. Three things are done against it:

- **A momentum encoder** writes it: weights w' ← m·w' + (1 − m)·w after each step, w being the network's. It moves
  slowly, so that embeddings written at different steps fit each other.
- **Refreshing**: each item that is shown is written anew, and at the start of a segment so is every item that was
  embedded for mining, unless it has been shown since.
- **A warm-up**: the bank is used from a share of the run on, when the network moves less.

From there on each step draws columns from the bank, the same for all rows of the batch. With s the cosine similarity
and t the temperature, a row i of the batch that pays InfoNCE (or SupCon) as

    −mean over its positives p of s_ip / t  +  ln Σ_a exp(s_ia / t),  a over all other pictures of the batch

then has the columns j in the sum as well. What is added is, exactly,

    softplus(ln Σ_j exp(s_ij / t) − ln Σ_a exp(s_ia / t))

No column of row i are items of its own class, items of the batch itself, and items that are kept apart from it
(`mohs.training.kept_apart`); pictures of the batch that are kept apart from row i are no a either.

Sources: He et al., "Momentum Contrast" (2020), section 3.2; Wang et al., "Cross-Batch Memory" (2020), section 3.3, for
the warm-up. Unlike a queue, the bank has one place for each item, so that no item is twice in it.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mohs.errors import InputError, Problem
from mohs.model.embedder import Embedder
from mohs.randomness import generator
from mohs.settings.config import RunConfig
from mohs.settings.losses import LOSSES, listed
from mohs.training.kept_apart import Apart, by_first_item, near_pairs, own_positive_distance, pairs_between

__all__ = ["BankTerm", "NegativeBank", "check_negative_bank", "extra_negatives"]

_NEVER = -1
_NO_COLUMN = -1e9
"""Similarity / temperature of a pair that is not to count; finite, so that a row without any column has a gradient."""


def check_negative_bank(config: RunConfig) -> None:
    """Raise `InputError` if a bank is asked for and the loss has no sum over negatives that it could extend.

    >>> from mohs.settings.config import LossConfig, MemoryConfig
    >>> check_negative_bank(RunConfig(loss=LossConfig(name="triplet"), memory=MemoryConfig(num_negatives=256)))
    Traceback (most recent call last):
    mohs.errors.InputError: memory.num_negatives: 256 with the loss 'triplet'; the bank's negatives are for infonce and
    supcon without a miner: set it to 0, or take such a loss
    """
    loss, num_negatives = config.loss, config.memory.num_negatives
    if num_negatives and (not loss.record.extends_to_bank or loss.miner is not None):
        what = repr(loss.name) if loss.miner is None else f"{loss.name!r} and the miner {loss.miner!r}"
        losses = listed(record for record in LOSSES if record.extends_to_bank)
        problem = f"{num_negatives} with the loss {what}; the bank's negatives are for {losses} without a miner"
        raise InputError(Problem("memory.num_negatives", f"{problem}: set it to 0, or take such a loss"))


@final
@dataclass(frozen=True, eq=False)
class BankTerm:
    """What the bank adds to the loss of a batch: today, and if all embeddings were the same.

    `num_kept_apart` counts the pairs (picture of the batch, column of another class) that are kept apart.
    """

    loss: Tensor
    collapsed_loss: float
    num_kept_apart: int


@final
class NegativeBank:
    """The bank and the momentum encoder: state that a checkpoint keeps.

    Args:
        embedder: the network that trains; it is copied.
        class_N: class number of each item.
        distrusted_P2: pairs of items that are never anchor and negative, both ways.
        config: of the run.
        device: where the bank lies and the columns are compared.
        negative_N: True for items that may be negatives, bool[N]; None: all may.
    """

    def __init__(
        self,
        embedder: Embedder,
        class_N: NDArray[np.int64],
        distrusted_P2: NDArray[np.int64],
        config: RunConfig,
        device: torch.device,
        negative_N: NDArray[np.bool_] | None = None,
    ) -> None:
        self._config = config.memory
        self._temperature = config.loss.temperature
        self._seed = config.seed
        self._class_N = class_N
        self._distrusted_P2 = by_first_item(distrusted_P2)
        self._ratio = config.negatives.min_distance_ratio
        self._negative_N = np.ones(len(class_N), dtype=bool) if negative_N is None else negative_N
        self._encoder = deepcopy(embedder).requires_grad_(False).eval()
        self._bank_ND = torch.zeros(len(class_N), embedder.embedding_dim, device=device)
        self._written_N = np.full(len(class_N), _NEVER)

    def columns(self, item_M: NDArray[np.int64], step: int) -> NDArray[np.int64]:
        """Return the items, of those in the bank, that a step has for columns, drawn by (seed, step); ascending.

        Items of the batch, `item_M`, are no columns.
        """
        known = np.setdiff1d(np.flatnonzero((self._written_N != _NEVER) & self._negative_N), item_M)
        draw = generator(self._seed, "memory", step)
        return np.sort(draw.choice(known, min(self._config.num_negatives, len(known)), replace=False))

    def term(self, embedding_MD: Tensor, item_M: NDArray[np.int64], step: int, apart: Apart | None = None) -> BankTerm:
        """Return what the bank adds to the loss of a batch.

        `embedding_MD` are all the batch's embeddings, of the items `item_M`, anchors and then positives; `apart` are
        the pairs among them that are kept apart.
        """
        column_C = self.columns(item_M, step)
        other_class_MC = self._class_N[item_M][:, None] != self._class_N[column_C]
        allowed_MC = other_class_MC
        if len(self._distrusted_P2):
            allowed_MC = other_class_MC & ~pairs_between(self._distrusted_P2, item_M, column_C)
        bank_CD = self._bank_ND[torch.from_numpy(column_C).to(self._bank_ND.device)]
        allowed = torch.from_numpy(allowed_MC).to(self._bank_ND.device)
        num_others_M = np.full(len(item_M), len(item_M) - 1)
        if apart is not None:
            num_others_M -= apart.fixed_MM.sum(dim=1).cpu().numpy()
        # Where all is the same, no column is nearer than a positive.
        collapsed = float(np.log1p(allowed_MC.sum(axis=1) / num_others_M).mean())
        if self._ratio > 0:
            positive_M = own_positive_distance(item_M, embedding_MD, len(item_M) // 2)
            allowed &= ~near_pairs(embedding_MD, bank_CD, positive_M, self._ratio)
        num_kept_apart = int(other_class_MC.sum()) - int(allowed.sum())
        inside_MM = None if apart is None else apart.all_MM
        added = extra_negatives(embedding_MD, bank_CD, allowed, self._temperature, apart_MM=inside_MM)
        return BankTerm(added, collapsed, num_kept_apart)

    @torch.no_grad()
    def follow(self, embedder: Embedder) -> None:
        """Move the encoder's weights and statistics a step towards those of the network."""
        theirs = embedder.state_dict()
        for name, own in self._encoder.state_dict().items():
            if own.is_floating_point():
                own.lerp_(theirs[name], 1.0 - self._config.momentum)
            else:
                own.copy_(theirs[name])

    @torch.no_grad()
    def encode(self, x_BCHW: Tensor) -> Tensor:
        """Return the encoder's embeddings, in evaluation mode."""
        embedding_BD: Tensor = self._encoder(x_BCHW).float()
        return embedding_BD

    def write(self, item_M: NDArray[np.int64], embedding_MD: Tensor, step: int) -> None:
        """Put items in their places, as of a step; of an item that comes twice, the last counts.

        What the bank has from a later step stays.
        """
        last = len(item_M) - 1 - np.unique(item_M[::-1], return_index=True)[1]
        last = last[self._written_N[item_M[last]] <= step]
        item, row = item_M[last], torch.from_numpy(last).to(embedding_MD.device)
        place = torch.from_numpy(item).to(self._bank_ND.device)
        self._bank_ND[place] = embedding_MD[row].to(self._bank_ND.device)
        self._written_N[item] = step

    def state(self) -> dict[str, Any]:
        """Return the tensors that a checkpoint keeps; they are the bank's own, and change with it."""
        return {
            "bank": self._bank_ND,
            "written": torch.from_numpy(self._written_N),
            "encoder": self._encoder.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` returned."""
        self._bank_ND.copy_(state["bank"])
        self._written_N[:] = state["written"].numpy()
        self._encoder.load_state_dict(state["encoder"])


def extra_negatives(
    embedding_MD: Tensor,
    bank_CD: Tensor,
    allowed_MC: Tensor,
    temperature: float,
    *,
    apart_MM: Tensor | None = None,
) -> Tensor:
    """Return the mean over rows of softplus(ln Σ_j exp(s_ij / t) − ln Σ_{a≠i} exp(s_ia / t)), see the top.

    j runs over the columns that `allowed_MC` allows row i; a row without any adds 0. Rows and columns are unit vectors.
    a runs over the pictures of the batch that `apart_MM`, bool[M, M], does not keep apart from row i; None: over all.

    >>> row = torch.eye(2)
    >>> added = extra_negatives(row, row[:1], torch.tensor([[False], [True]]), 1.0)
    >>> round(float(added), 4)  # (0 + ln 2) / 2: the second row has one more of similarity 0
    0.3466
    """
    inside_MM = embedding_MD @ embedding_MD.T / temperature
    own = torch.eye(len(embedding_MD), dtype=torch.bool, device=embedding_MD.device)
    outside_MC = (embedding_MD @ bank_CD.T / temperature).masked_fill(~allowed_MC, _NO_COLUMN)
    # A column that never counts, so that there always is one.
    outside_MC = nn.functional.pad(outside_MC, (1, 0), value=_NO_COLUMN)
    left_out = own if apart_MM is None else own | apart_MM
    gap_M = outside_MC.logsumexp(1) - inside_MM.masked_fill(left_out, _NO_COLUMN).logsumexp(1)
    return nn.functional.softplus(gap_M).mean()
