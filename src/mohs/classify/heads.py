"""Heads: from embeddings to a score for each class, larger is likelier.

A head is fitted on embeddings that were computed once; the embedder takes no part. What a score is worth as a
probability is decided afterwards, by calibration: p_c = softmax(score_c / T).
"""

from dataclasses import dataclass
from typing import Protocol, final

import numpy as np
import torch
from torch import nn

from mohs.distances import unit_rows
from mohs.errors import InputError, TrainingError
from mohs.evaluation.checked import Array, Float32, Float64, Index
from mohs.evaluation.exact_neighbours import nearest
from mohs.randomness import generator, torch_seeded

__all__ = ["Head", "LinearHead", "LinearTraining", "ReferenceHead", "Scores", "fit_linear", "head_of"]

_BATCH_SIZE = 256
_ROWS_PER_BLOCK = 4096

# Wu et al. 2018, section 3.4.
_VOTE_TEMPERATURE = 0.07


@final
@dataclass(frozen=True, eq=False)
class Scores:
    """What a head says of N pictures.

    `scores_NC` is float64 [N, C], larger is likelier. `similarity_N` is the cosine similarity of each picture to the
    nearest reference of the class with its largest score, float64 [N]; None if the head keeps no references.
    """

    scores_NC: Float64
    similarity_N: Float64 | None


class Head(Protocol):
    """A score for each class, from embeddings."""

    def score(self, x_ND: Float64) -> Scores:
        """Return the scores of embeddings float64[N, D]."""
        ...

    def tensors(self) -> dict[str, Array]:
        """Return what the head consists of, by name, for a file."""
        ...


@final
@dataclass(frozen=True, eq=False)
class LinearHead:
    """Scores z = W x + b. `weight_CD` is float32 [C, D], `bias_C` float32 [C]."""

    weight_CD: Float32
    bias_C: Float32

    def score(self, x_ND: Float64) -> Scores:
        """Return W x + b in float64."""
        return Scores(x_ND @ self.weight_CD.T.astype(np.float64) + self.bias_C, None)

    def tensors(self) -> dict[str, Array]:
        """Return weights and biases."""
        return {"weight_CD": self.weight_CD, "bias_C": self.bias_C}


@final
@dataclass(frozen=True, eq=False)
class ReferenceHead:
    """Scores by cosine similarity s to reference pictures that are kept.

    `references_MD` are unit vectors, float32 [M, D]; `class_M` is the class number of each, 0 to C − 1, ascending, so
    that every class has a reference. Without `num_neighbours` the score of a class is the largest s, in [−1, 1].

    With `num_neighbours` k the k nearest references vote with weight exp(s/0.07) for their classes (Wu et al.,
    "Unsupervised feature learning via non-parametric instance discrimination", 2018, section 3.4; of equally near
    references the earlier ones are taken, and all if there are fewer than k). The score of a class is
    0.07·ln(its vote): its largest s if one reference voted, more if several did. A class without a vote has no such
    score; its largest s takes that place, which is never above the score of a class with a vote. So every class has a
    finite score, and beyond the k neighbours classes are in the order of their nearest reference.
    """

    references_MD: Float32
    class_M: Index
    num_neighbours: int | None = None

    @classmethod
    def fit(cls, x_MD: Float64, class_M: Index, num_neighbours: int | None = None) -> "ReferenceHead":
        """Return the head whose references are these embeddings; raise `InputError` for a row of norm 0."""
        order = np.argsort(class_M, kind="stable")
        return cls(unit_rows(x_MD[order], name="X"), class_M[order], num_neighbours)

    def score(self, x_ND: Float64) -> Scores:
        """Return votes, or without `num_neighbours` similarities; raise `InputError` for a row of norm 0."""
        unit_ND = unit_rows(x_ND, name="X")
        similarity_NC = self._similarities(unit_ND)
        if self.num_neighbours is None:
            return Scores(similarity_NC, similarity_NC.max(axis=1))
        scores_NC = np.maximum(self._log_votes(unit_ND, self.num_neighbours), similarity_NC)
        return Scores(scores_NC, similarity_NC[np.arange(len(unit_ND)), scores_NC.argmax(axis=1)])

    def tensors(self) -> dict[str, Array]:
        """Return references and their classes."""
        return {"references_MD": self.references_MD, "class_M": self.class_M}

    @property
    def _num_classes(self) -> int:
        return int(self.class_M[-1]) + 1

    def _similarities(self, unit_ND: Float32) -> Float64:
        """Return the largest cosine similarity to a reference of each class, [N, C]."""
        references_MD = self.references_MD.astype(np.float64)
        first_C = np.searchsorted(self.class_M, np.arange(self._num_classes))
        similarity_NC = np.empty((len(unit_ND), self._num_classes))
        for start in range(0, len(unit_ND), _ROWS_PER_BLOCK):
            block = slice(start, start + _ROWS_PER_BLOCK)
            similarity_BM = unit_ND[block].astype(np.float64) @ references_MD.T
            similarity_NC[block] = np.maximum.reduceat(similarity_BM, first_C, axis=1)
        # Rows are of unit length but for their rounding.
        return np.clip(similarity_NC, -1.0, 1.0)

    def _log_votes(self, unit_ND: Float32, k: int) -> Float64:
        """Return 0.07·ln(vote) of each class, [N, C]; -Inf without a vote."""
        index_Nk, distance_Nk = nearest(unit_ND, self.references_MD, min(k, len(self.references_MD)))
        # On unit vectors d² = 2 − 2s. Of exp(s/0.07) the factor exp(1/0.07) is put back after the logarithm.
        weight_Nk = np.exp(-np.square(distance_Nk.astype(np.float64)) / (2 * _VOTE_TEMPERATURE))
        votes_NC = np.zeros((len(unit_ND), self._num_classes))
        np.add.at(votes_NC, (np.arange(len(unit_ND))[:, None], self.class_M[index_Nk]), weight_Nk)
        with np.errstate(divide="ignore"):
            return np.asarray(1 + _VOTE_TEMPERATURE * np.log(votes_NC))


def head_of(tensors: dict[str, Array], num_neighbours: int | None, *, num_classes: int, num_features: int) -> Head:
    """Return the head that consists of these tensors; raise `InputError` if it is not of so many classes and features.

    `KeyError` tells of a tensor that is not there.
    """
    if "weight_CD" in tensors:
        _require_shape(tensors, "weight_CD", (num_classes, num_features))
        _require_shape(tensors, "bias_C", (num_classes,))
        return LinearHead(tensors["weight_CD"], tensors["bias_C"])
    class_M = tensors["class_M"]
    _require_shape(tensors, "class_M", (len(class_M),), kind="i")
    _require_shape(tensors, "references_MD", (len(class_M), num_features))
    if not np.array_equal(np.unique(class_M), np.arange(num_classes)) or (np.diff(class_M) < 0).any():
        raise InputError(f"class_M is not ascending over all {num_classes} classes")
    return ReferenceHead(tensors["references_MD"], class_M, num_neighbours)


def _require_shape(tensors: dict[str, Array], name: str, shape: tuple[int, ...], *, kind: str = "f") -> None:
    found = tensors[name]
    if found.shape != shape or found.dtype.kind != kind:
        what = "whole numbers" if kind == "i" else "floats"
        raise InputError(f"{name} is {found.dtype}{list(found.shape)}, not {what} {list(shape)}")


@final
@dataclass(frozen=True)
class LinearTraining:
    """How a linear head is trained; `learning_rate` is the peak of AdamW, falling to 0 as a cosine."""

    dropout: float
    num_epochs: int
    learning_rate: float
    weight_decay: float
    balanced: bool


def fit_linear(
    x_ND: Float64,
    class_N: Index,
    num_classes: int,
    training: LinearTraining,
    *,
    seed: int,
    device: torch.device | None = None,
) -> LinearHead:
    """Return a linear head trained on fixed embeddings: dropout, linear, log-softmax, cross-entropy.

    Each epoch shows every embedding once, in random order, in batches of 256. AdamW; the rate falls from its peak to 0
    as a cosine over all steps. With `training.balanced` an item of class c weighs N / (C·N_c), so that each class
    counts alike; otherwise each item does, and a class with few pictures is predicted less.

    The embeddings x are trained on as (x − m)/r, with their mean m and r² the mean of the squared deviations over all
    elements, and the head returned has both folded in: W/r and b − W m/r. Without that the right learning rate would
    depend on D and on how far the embedder has spread out its vectors (an untrained one hardly has).

    Args:
        x_ND: embeddings, float64 [N, D].
        class_N: class numbers 0 to C − 1, int64 [N]; each class has an item.
        num_classes: C.
        training: see `LinearTraining`.
        seed: of the initial weights, the order and the dropout. The same seed gives the same weights on one machine.
        device: where to train; none is the CPU.

    Raises:
        TrainingError: the loss became NaN or Inf.
    """
    device = device or torch.device("cpu")
    mean_D = x_ND.mean(axis=0)
    spread = float(np.sqrt(np.square(x_ND - mean_D).mean())) or 1.0  # 0: all embeddings are equal
    x = torch.from_numpy(((x_ND - mean_D) / spread).astype(np.float32)).to(device)
    target = torch.from_numpy(class_N).to(device)
    weight_N = np.ones(len(x_ND))
    if training.balanced:
        weight_N = (len(x_ND) / (num_classes * np.bincount(class_N)))[class_N]
    weight = torch.from_numpy(weight_N.astype(np.float32)).to(device)
    batches = -(-len(x) // _BATCH_SIZE)
    random = generator(seed, "order of the classifier's batches")
    with torch_seeded(seed, "classifier"):
        linear = nn.Linear(x.shape[1], num_classes)
        layers = nn.Sequential(nn.Dropout(training.dropout), linear, nn.LogSoftmax(dim=1)).to(device)
        optimizer = torch.optim.AdamW(
            layers.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.num_epochs * batches)
        for epoch in range(training.num_epochs):
            total = torch.zeros((), device=device)
            for rows in np.array_split(random.permutation(len(x_ND)), batches):
                chosen = torch.from_numpy(rows).to(device)
                loss_B = nn.functional.nll_loss(layers(x[chosen]), target[chosen], reduction="none")
                loss = (loss_B * weight[chosen]).mean()
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
                total += loss.detach()
            if not torch.isfinite(total):
                raise TrainingError(
                    f"classifier: the loss is {float(total)} in epoch {epoch + 1} of {training.num_epochs}; "
                    f"the learning rate {training.learning_rate:g} is too high for these embeddings: lower it"
                )
    weight_CD = linear.weight.detach().cpu().numpy().astype(np.float64) / spread
    bias_C = linear.bias.detach().cpu().numpy() - weight_CD @ mean_D
    return LinearHead(weight_CD.astype(np.float32), bias_C.astype(np.float32))
