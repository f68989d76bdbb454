"""Momentum pairs: an in-batch loss with the nearest of what was shown lately for negatives, seen by a momentum encoder.

A batch holds a sliver of the data set; of what is near to a picture it mostly holds nothing. A bank keeps an embedding
of each item that was shown lately, and every picture of a batch has the nearest of them for negatives, though they are
not shown. What makes such a bank fail is that networks of before wrote it: to push away from where an item was a
hundred steps ago teaches nothing. So

- **a momentum encoder** writes it: weights w' ← m·w' + (1 − m)·w after each step, w being the network's. It moves
  slowly, so that embeddings written at different steps fit each other, 1 / (1 − m) steps behind the network: a tenth of
  the run and at most 100, if nothing is said;
- **it sees the positive and the other pictures of the batch, too**: only so do positive and negatives of a row lie in
  one space;
- **it sees them changed in another way** than the network, where training changes pictures: then a row's own picture is
  one more positive, and costs no picture more;
- **only what was shown lately counts**, and of bank and batch **only the nearest**: a sum over all is one over
  thousands that are far away, and these push as much as the few that matter.

With e the network's embeddings of a batch, k the encoder's, s_ia = e_i · k_a and t the temperature, a row i pays

    mean over its positives p of ln(1 + Σ_a exp((s_ia − s_ip) / t) + Σ_j exp((s_ij − s_ip) / t))

p: the other pictures of its class in the batch, and its own one if the encoder saw it changed in another way; a: the K
pictures of other classes in the batch that are most similar to it; j: K items of the bank, at the hardness h that the
schedule has for the row. On the scale log-rank, of C columns that may be its negatives, the C^(1 − h) − 1 most similar
ones are passed over, and the next K count; at h = 1, as in the default, these are the nearest. Neither a nor j are
items that are kept apart from i (`mohs.training.kept_apart`); j are no items of its class or of the batch.

Sources: He et al., "Momentum Contrast" (2020), section 3.2, for encoder, queue and the own picture as a positive; Du et
al., "Semi-Siamese Training for Shallow Face Learning" (2020), section 3, for positives from it. That only the nearest
count is ours, and is what made it pay (docs/lab-book.md). Unlike in a queue, no item is there twice.
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
from mohs.settings.config import RunConfig
from mohs.settings.loss_records import LOSSES, listed
from mohs.training.kept_apart import Apart, by_first_item, own_positive_distance, pairs_between

__all__ = ["BankLoss", "NegativeBank", "check_negative_bank", "columns_at", "momentum_pairs"]

_NOTHING = -1
_BLOCK = 32
"""Columns whose maximum is taken at once, see `_largest`."""
_NO_COLUMN = -1e9
"""Similarity / temperature of a pair that is not to count; finite, so that a row without any column has a gradient."""


def check_negative_bank(config: RunConfig, *, own_loss: bool = False) -> None:
    """Raise `InputError` if a bank is asked for where it cannot be.

    That is with a loss without a sum over negatives that it could extend, and in the closed loop: what that reads does
    not change with the bank's hardness.

    `own_loss`: the loss is not the one of the settings.

    >>> from mohs.settings.config import LossConfig, MemoryConfig
    >>> check_negative_bank(RunConfig(loss=LossConfig(name="triplet"), memory=MemoryConfig(num_negatives=32)))
    Traceback (most recent call last):
    mohs.errors.InputError: memory.num_negatives: 32 with the loss 'triplet'; the bank's negatives are for infonce and
    supcon without a miner: set it to 0, or take such a loss
    """
    loss, num_negatives = config.loss, config.memory.num_negatives
    if num_negatives and config.hardness.curve == "closed-loop":
        problem = f"{num_negatives} with hardness.curve 'closed-loop', which reads triplets and not the bank"
        raise InputError(Problem("memory.num_negatives", f"{problem}: set it to 0, or take another curve"))
    if num_negatives and (own_loss or not loss.extends_to_bank):
        what = "a loss of your own" if own_loss else f"the loss {loss.name!r}"
        what += "" if loss.miner is None or own_loss else f" and the miner {loss.miner!r}"
        losses = listed(record for record in LOSSES if record.extends_to_bank)
        problem = f"{num_negatives} with {what}; the bank's negatives are for {losses} without a miner"
        raise InputError(Problem("memory.num_negatives", f"{problem}: set it to 0, or take such a loss"))


@final
@dataclass(frozen=True, eq=False)
class BankLoss:
    """The loss of a batch with the bank's negatives: today, and if all embeddings were the same.

    `num_kept_apart` counts the pairs (picture of the batch, item of the bank of another class) that are kept apart.
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
        device: where the bank lies and is compared.
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
        self._num_negatives = config.num_bank_negatives
        self._momentum = config.bank_momentum
        self._skipped = config.negatives.skip_nearest
        self._temperature = config.loss.temperature
        self._at_once = config.training.pictures_at_once
        self._class_N = class_N
        self._distrusted_P2 = by_first_item(distrusted_P2)
        self._ratio = config.negatives.min_distance_ratio
        self._negative_N = np.ones(len(class_N), dtype=bool) if negative_N is None else negative_N
        self._encoder = deepcopy(embedder).requires_grad_(False).eval()
        num_places = min(config.memory.size, len(class_N))
        self._key_SD = torch.zeros(num_places, embedder.embedding_dim, device=device)
        self._item_S = np.full(num_places, _NOTHING)
        self._next = 0

    def columns(self, item_M: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which places of the bank a batch of the items `item_M` may have for negatives, but for its classes.

        There are items there, which may be negatives, and they are none of the batch.
        """
        in_batch_N = np.zeros(len(self._class_N), dtype=bool)
        in_batch_N[item_M] = True
        may_be_N: NDArray[np.bool_] = self._negative_N & ~in_batch_N
        return np.where(self._item_S == _NOTHING, False, may_be_N[self._item_S])

    def loss(
        self,
        embedding_MD: Tensor,
        key_MD: Tensor,
        item_M: NDArray[np.int64],
        *,
        hardness_M: NDArray[np.float32] | None = None,
        apart: Apart | None = None,
        other_views: bool = False,
    ) -> BankLoss:
        """Return the loss of a batch, see the top.

        `embedding_MD` and `key_MD` are the network's and the encoder's embeddings of the items `item_M`, anchors and
        then positives; `hardness_M` is 1 for all if it is not given; `apart` are pairs among them that are kept apart.
        `other_views` says that the encoder saw the pictures changed in another way.
        """
        device = embedding_MD.device
        class_M = self._class_N[item_M]
        column_S = self.columns(item_M)
        own_P2 = self._own_class(class_M, column_S)
        apart_P2 = self._distrusted(item_M, column_S)
        # They are few among millions of pairs: tables of all took as long as the search.
        out_P2 = np.concatenate([own_P2, apart_P2])
        bank_SD = self._key_SD.to(device)
        reach_M = None
        if self._ratio > 0:
            positive_M = own_positive_distance(item_M, embedding_MD, len(item_M) // 2)
            reach_M = 1.0 - (self._ratio * positive_M).square() / 2  # the similarity of unit vectors at that distance
        hardness = torch.ones(len(item_M)) if hardness_M is None else torch.from_numpy(hardness_M)
        column_MK, counts_MK, num_near = columns_at(
            embedding_MD, bank_SD, self._num_negatives,
            out_C=torch.from_numpy(np.flatnonzero(~column_S)).to(device), out_P2=torch.from_numpy(out_P2).to(device),
            hardness_M=hardness.to(device), skipped=self._skipped, reach_M=reach_M,
        )  # fmt: skip
        if column_MK.shape[1] == len(bank_SD):  # picked out for each row, all of it would be gigabytes
            outside_MK = embedding_MD @ bank_SD.T
        else:
            outside_MK = torch.einsum("md,mkd->mk", embedding_MD, bank_SD[column_MK])
        same_MM = class_M[:, None] == class_M
        value = momentum_pairs(
            embedding_MD,
            key_MD,
            torch.from_numpy(same_MM).to(device),
            outside_MK,
            counts_MK,
            self._temperature,
            num_inside=self._num_negatives,
            apart_MM=None if apart is None else apart.all_MM,
            other_views=other_views,
        )
        # Where all is the same, no column is nearer than a positive, and as many count as there may.
        fixed_MM = np.zeros_like(same_MM) if apart is None else apart.fixed_MM.cpu().numpy()
        num_inside_M = np.minimum((~same_MM & ~fixed_MM).sum(axis=1), self._num_negatives)
        num_out_M = np.bincount(out_P2[:, 0], minlength=len(item_M))
        num_columns_M = np.minimum(int(column_S.sum()) - num_out_M, self._num_negatives)
        num_kept_apart = len(apart_P2) + num_near
        return BankLoss(value, float(np.log1p(num_inside_M + num_columns_M).mean()), num_kept_apart)

    def _own_class(self, class_M: NDArray[np.int64], column_S: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the pairs (row, column) of one class, int64[P, 2]; columns of the batch's classes are few."""
        in_batch = np.zeros(int(self._class_N.max()) + 1, dtype=bool)
        in_batch[class_M] = True
        few_C = np.flatnonzero(column_S & in_batch[self._class_N[self._item_S]])
        row_P, at_P = np.nonzero(class_M[:, None] == self._class_N[self._item_S[few_C]])
        return np.stack([row_P, few_C[at_P]], axis=1)

    def _distrusted(self, item_M: NDArray[np.int64], column_S: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the pairs (row, column) of two classes that are distrusted, int64[P, 2]."""
        if not len(self._distrusted_P2):
            return np.empty((0, 2), np.int64)
        row_P, place_P = np.nonzero(pairs_between(self._distrusted_P2, item_M, self._item_S))
        others_P = self._class_N[item_M[row_P]] != self._class_N[self._item_S[place_P]]
        counts_P = column_S[place_P] & others_P
        return np.stack([row_P[counts_P], place_P[counts_P]], axis=1)

    @torch.no_grad()
    def follow(self, embedder: Embedder) -> None:
        """Move the encoder's weights and statistics a step towards those of the network."""
        theirs = embedder.state_dict()
        for name, own in self._encoder.state_dict().items():
            if own.is_floating_point():
                own.lerp_(theirs[name], 1.0 - self._momentum)
            else:
                own.copy_(theirs[name])

    @torch.no_grad()
    def encode(self, x_BCHW: Tensor) -> Tensor:
        """Return the encoder's embeddings, in evaluation mode: of `training.pictures_at_once` after the other."""
        pieces = torch.split(x_BCHW, self._at_once or max(1, len(x_BCHW)))
        return torch.cat([self._encoder(piece).float() for piece in pieces])

    def write(self, item_M: NDArray[np.int64], key_MD: Tensor) -> None:
        """Put items in the bank, for those that are there longest; of an item that comes twice, the last counts.

        Where there is room for all items, each has its own place: in a ring one that is shown again would leave a hole.
        """
        last = len(item_M) - 1 - np.unique(item_M[::-1], return_index=True)[1]
        row_W = np.sort(last)[-len(self._item_S) :]
        holds_all = len(self._item_S) == len(self._class_N)
        place_W = item_M[row_W] if holds_all else (self._next + np.arange(len(row_W))) % len(self._item_S)
        self._item_S[np.isin(self._item_S, item_M)] = _NOTHING
        self._item_S[place_W] = item_M[row_W]
        key_WD = key_MD[torch.from_numpy(row_W).to(key_MD.device)]
        self._key_SD[torch.from_numpy(place_W).to(self._key_SD.device)] = key_WD.to(self._key_SD.device)
        self._next = (self._next + len(row_W)) % len(self._item_S)

    def state(self) -> dict[str, Any]:
        """Return the tensors that a checkpoint keeps; they are the bank's own, and change with it."""
        return {
            "keys": self._key_SD,
            "items": torch.from_numpy(self._item_S),
            "next": torch.tensor(self._next),
            "encoder": self._encoder.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` returned."""
        self._key_SD.copy_(state["keys"])
        self._item_S[:] = state["items"].numpy()
        self._next = int(state["next"])
        self._encoder.load_state_dict(state["encoder"])


@torch.no_grad()
def columns_at(
    embedding_MD: Tensor,
    bank_CD: Tensor,
    num: int,
    *,
    out_C: Tensor,
    out_P2: Tensor,
    hardness_M: Tensor,
    skipped: int = 0,
    reach_M: Tensor | None = None,
) -> tuple[Tensor, Tensor, int]:
    """Return for each row its columns at a hardness, int64[M, K], nearest first, and which of them count, bool[M, K].

    Columns in `out_C` are nobody's, pairs (row, column) in `out_P2` are not to be. Of the C columns that are left to a
    row, max(C^(1 − h) − 1, `skipped`) are passed over (rounded, but so that K are left), and the next K count. K is
    `num`, or the number of columns if that is smaller: then they come in their own order. A row to which fewer are left
    has some that do not count. Columns more similar than `reach_M` are not to be either; the third value says how many
    these are.

    >>> row, bank = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8], [0.0, 1.0], [1.0, 0.0]])
    >>> out = {"out_C": torch.tensor([2]), "out_P2": torch.empty(0, 2, dtype=torch.int64)}
    >>> [columns_at(row, bank, 1, **out, hardness_M=torch.tensor([h]))[0].tolist() for h in (1.0, 0.0)]
    [[[0]], [[1]]]
    """
    score_MC = embedding_MD @ bank_CD.T
    score_MC[:, out_C] = _NO_COLUMN
    score_MC[out_P2[:, 0], out_P2[:, 1]] = _NO_COLUMN
    num_near = 0
    if reach_M is not None:
        near_MC = score_MC > reach_M[:, None]
        num_near = int(near_MC.sum())
        score_MC.masked_fill_(near_MC, _NO_COLUMN)
    most = min(num, len(bank_CD))
    if most == len(bank_CD):
        return torch.arange(most, device=score_MC.device).expand(score_MC.shape), score_MC > _NO_COLUMN / 2, num_near
    first_M = torch.full_like(hardness_M, skipped, dtype=torch.int64)
    if bool((hardness_M < 1).any()) or skipped:
        num_M = (score_MC > _NO_COLUMN / 2).sum(dim=1)
        by_hardness_M = (num_M ** (1.0 - hardness_M)).round().to(torch.int64) - 1
        first_M = torch.minimum(first_M.maximum(by_hardness_M), num_M - most).clamp(min=0)
    value_MK, column_MK = _largest(score_MC, int(first_M.max()) + most)
    window_MK = first_M[:, None] + torch.arange(most, device=first_M.device)
    return column_MK.gather(1, window_MK), value_MK.gather(1, window_MK) > _NO_COLUMN / 2, num_near


def _largest(score_MC: Tensor, num: int) -> tuple[Tensor, Tensor]:
    """Return the `num` largest values of each row, largest first, and their columns, both [M, `num`].

    They lie in the `num` blocks with the largest maxima, and in what is left over of the last block. So of few, only
    those blocks are sorted, which takes a third of the time.
    """
    num_blocks = score_MC.shape[1] // _BLOCK
    if num_blocks <= 4 * num:
        found = score_MC.topk(num, dim=1)
        return found.values, found.indices
    whole = num_blocks * _BLOCK
    largest_MB = score_MC[:, :whole].reshape(len(score_MC), num_blocks, _BLOCK).amax(dim=2)
    block_MB = largest_MB.topk(num, dim=1, sorted=False).indices
    inside = torch.arange(_BLOCK, device=score_MC.device)
    rest = torch.arange(whole, score_MC.shape[1], device=score_MC.device).expand(len(score_MC), -1)
    at_MA = torch.cat([(block_MB[:, :, None] * _BLOCK + inside).flatten(1), rest], dim=1)
    found = score_MC.gather(1, at_MA).topk(num, dim=1)
    return found.values, at_MA.gather(1, found.indices)


def momentum_pairs(
    embedding_MD: Tensor,
    key_MD: Tensor,
    same_MM: Tensor,
    outside_MK: Tensor,
    counts_MK: Tensor,
    temperature: float,
    *,
    num_inside: int,
    apart_MM: Tensor | None = None,
    other_views: bool = False,
) -> Tensor:
    """Return the mean over rows of the loss at the top; no gradient goes into keys and columns.

    `same_MM` says which pictures of the batch are of one class, `counts_MK` which columns count, `apart_MM` which
    pictures of the batch are kept apart. Of the others, the `num_inside` most similar ones count. With `other_views` a
    row's own key is a positive. Rows and keys are unit vectors, `outside_MK` the similarities to the columns.

    >>> row = torch.eye(2).repeat(2, 1)  # two classes, each shown twice
    >>> same = torch.tensor([0, 1, 0, 1])[:, None] == torch.tensor([0, 1, 0, 1])
    >>> none = torch.zeros(4, 0), torch.zeros(4, 0, dtype=torch.bool)
    >>> round(float(momentum_pairs(row, row, same, *none, 1.0, num_inside=9)), 4)  # ln(1 + 2 / e)
    0.5514
    >>> round(float(momentum_pairs(row, row, same, *none, 1.0, num_inside=1)), 4)  # ln(1 + 1 / e)
    0.3133
    """
    score_MM = embedding_MD @ key_MD.T / temperature
    no_negative_MM = same_MM if apart_MM is None else same_MM | apart_MM
    inside_MM = score_MM.masked_fill(no_negative_MM, _NO_COLUMN)
    if num_inside < len(inside_MM):
        inside_MM = inside_MM.topk(num_inside, dim=1).values
    outside_MK = (outside_MK / temperature).masked_fill(~counts_MK, _NO_COLUMN)
    against_M1 = torch.cat([inside_MM, outside_MK], dim=1).logsumexp(dim=1, keepdim=True)
    positive_MM = same_MM.to(score_MM.dtype)
    if not other_views:
        positive_MM = positive_MM - torch.eye(len(positive_MM), dtype=positive_MM.dtype, device=positive_MM.device)
    lost_MM = nn.functional.softplus(against_M1 - score_MM)
    return ((lost_MM * positive_MM).sum(dim=1) / positive_MM.sum(dim=1)).mean()
