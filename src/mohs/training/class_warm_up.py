"""The classification warm-up: before metric learning, tell the training classes apart by their direction."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import final

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from mohs.checks import require
from mohs.data.augment import augment_batch
from mohs.data.dataset import Dataset
from mohs.data.stored_pictures import read_in_turn
from mohs.errors import TrainingError
from mohs.model.embedder import Embedder, embed_items
from mohs.randomness import torch_seeded
from mohs.sequence import anchor_sequence
from mohs.settings.config import ClassificationConfig, RunConfig
from mohs.training.events import ClassificationEvent
from mohs.training.false_negatives import distrusted_pairs
from mohs.training.kept_apart import by_first_item, pairs_between
from mohs.training.plan_segment import batch_slices
from mohs.training.processes import Processes
from mohs.training.step import Descent, rate_factor, training_policy

__all__ = ["ClassificationLoss", "warm_up"]


# Keeps the slope of sin θ = √(1 − cos² θ) finite where an embedding lies on its class weight.
_SMALLEST_SQUARE = 1e-6


@final
class ClassificationLoss(nn.Module):
    """Cross-entropy over the cosine similarities of unit embeddings and class weights, divided by `temperature`.

    Each class has a weight vector w_c, a parameter, of which only the direction counts: cos θ_c = x · w_c / |w_c|. With
    C classes, label y and temperature t:

    - "cross-entropy": −ln(exp(cos θ_y / t) / Σ_c exp(cos θ_c / t)).
    - "arcface": the same with cos(θ_y + margin) in place of cos θ_y, so that an embedding must be nearer to its class
      by an angle; where θ_y + margin > π, with cos θ_y − margin · sin(margin), which goes on falling.

    A network that maps everything to one point can do no better than ln C (cross-entropy, classes equally frequent).

    Source: Wang et al., "NormFace" (2017) for the cosine softmax, whose scale is 1/t; Deng et al., "ArcFace" (2019),
    eq. 3, with the continuation of the authors' code. pytorch-metric-learning's ArcFaceLoss takes no given weights for
    some of the classes, and its gradient is infinite where an embedding lies on its class weight, which is where a
    catalog picture starts.

    Args:
        config: loss, temperature and margin.
        num_classes: C, at least 1.
        embedding_dim: D, at least 1.
        known: where the weights of some classes start, by class number: float[D], any length but 0. The others start as
            unit vectors in random directions, the same whichever classes are known.
        seed: in [0, 2**63).

    Raises `InputError` for a class number outside 0 … C − 1, and for a vector of another length, with NaN or Inf, or
    all 0.

    >>> config = ClassificationConfig(temperature=1.0)
    >>> loss = ClassificationLoss(config, num_classes=2, embedding_dim=2, known={0: [2.0, 0.0], 1: [0.0, 1.0]}, seed=0)
    >>> value, accuracy = loss(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    >>> round(float(value.detach()), 4), float(accuracy)  # ln(1 + exp(−1))
    (0.3133, 1.0)
    """

    def __init__(
        self,
        config: ClassificationConfig,
        *,
        num_classes: int,
        embedding_dim: int,
        known: Mapping[int, ArrayLike] | None = None,
        seed: int,
    ) -> None:
        super().__init__()
        self.config = config
        with torch_seeded(seed, "class weights"):
            weight_CD = nn.functional.normalize(torch.randn(num_classes, embedding_dim), dim=1)
        known = {} if known is None else known
        _check_known(known, num_classes, embedding_dim)
        for class_number, vector_D in known.items():
            vector = torch.from_numpy(np.array(vector_D, dtype=np.float32))
            weight_CD[class_number] = nn.functional.normalize(vector, dim=0)
        self.weight = nn.Parameter(weight_CD)

    def forward(self, embedding_BD: Tensor, class_B: Tensor, apart_BC: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the mean loss and the accuracy: the share of embeddings to which their own class's weight is nearest.

        Both are scalars, the accuracy detached and without the margin. `class_B` is int64 in 0 … C − 1. Classes that
        an embedding is kept apart from, bool `apart_BC`, are not in its sum, nor can they be the nearest.
        """
        cosine_BC = embedding_BD @ nn.functional.normalize(self.weight, dim=1).T
        if apart_BC is not None:
            cosine_BC = cosine_BC.masked_fill(apart_BC, -torch.inf)
        accuracy = (cosine_BC.detach().argmax(1) == class_B).float().mean()
        if self.config.loss == "arcface":
            own_B1 = class_B[:, None]
            cosine_BC = cosine_BC.scatter(1, own_B1, _with_margin(cosine_BC.gather(1, own_B1), self.config.margin))
        return nn.functional.cross_entropy(cosine_BC / self.config.temperature, class_B), accuracy


def _with_margin(cosine: Tensor, margin: float) -> Tensor:
    """Return cos(θ + margin), continued where θ + margin > π."""
    sine = (1.0 - cosine.square()).clamp_min(_SMALLEST_SQUARE).sqrt()
    moved = cosine * math.cos(margin) - sine * math.sin(margin)
    return torch.where(cosine > math.cos(math.pi - margin), moved, cosine - margin * math.sin(margin))


def _check_known(known: Mapping[int, ArrayLike], num_classes: int, embedding_dim: int) -> None:
    problems = []
    for class_number, vector_D in known.items():
        vector = np.asarray(vector_D)
        if not 0 <= class_number < num_classes:
            problems.append(f"known: class {class_number} is not in 0 … {num_classes - 1}")
        elif vector.shape != (embedding_dim,):
            problems.append(f"known: class {class_number}: shape {vector.shape} is not ({embedding_dim},)")
        elif not np.isfinite(vector).all() or not vector.any():
            problems.append(f"known: class {class_number}: NaN, Inf or nothing but 0; give an embedding")
    require(*problems)


def warm_up(
    embedder: Embedder,
    dataset: Dataset,
    config: RunConfig,
    device: torch.device,
    peers: Processes,
    *,
    emit: Callable[[ClassificationEvent], None],
) -> None:
    """Train `embedder` in place to classify all items, for `classification.num_pictures` pictures; 0 does nothing.

    Items come in the order of an anchor sequence, every class once a pass, two batches' worth of triplets at a time.
    The class weights start at the embeddings of catalog pictures where a class has one, and are thrown away afterwards.
    Classes of pictures that an item must not have for negatives are not told apart from it. Stopped in the middle, the
    warm-up starts anew: checkpoints begin after it.
    """
    settings, training, seed = config.classification, config.training, config.seed
    if settings.num_pictures == 0:
        return
    class_N = dataset.labels_id
    items_P = anchor_sequence(dataset.labels, settings.num_pictures, seed=seed)
    known: dict[int, np.ndarray] = {}
    catalog = np.flatnonzero(dataset.roles == "catalog") if settings.from_catalog else np.empty(0, dtype=np.int64)
    if catalog.size:
        catalog = catalog[np.unique(class_N[catalog], return_index=True)[1]]
        vectors = embed_items(embedder, dataset.pictures, catalog)
        known = dict(zip(class_N[catalog].tolist(), vectors, strict=True))
    loss = ClassificationLoss(
        settings, num_classes=int(class_N.max()) + 1, embedding_dim=embedder.embedding_dim, known=known, seed=seed
    ).to(device)
    distrusted_P2 = distrusted_pairs(dataset, config.negatives)
    item_class_P2 = by_first_item(np.stack([distrusted_P2[:, 0], class_N[distrusted_P2[:, 1]]], axis=1))
    item_class_P2 = item_class_P2[class_N[item_class_P2[:, 0]] != item_class_P2[:, 1]]
    classes_C, apart = np.arange(int(class_N.max()) + 1), len(item_class_P2) > 0
    peak = settings.learning_rate or training.learning_rate
    descent = Descent(embedder, config, device, loss=loss, peers=peers)
    augment = training_policy(training)
    pieces = batch_slices(len(items_P), 2 * training.batch_triplets)
    own = [items_P[piece][peers.share(piece.stop - piece.start)] for piece in pieces]
    for step, (piece, read) in enumerate(zip(pieces, read_in_turn(dataset.pictures, own), strict=True)):
        descent.begin(0.0)
        items = items_P[piece]
        rows = peers.share(len(items))
        rate = peak * rate_factor(step, len(pieces), training)
        x = embedder.to_input(read)
        if not augment.is_identity:
            # Steps below 0 are no triplets' steps: the draws are the warm-up's own.
            x = augment_batch(x, augment, seed=seed, step=-1 - step, first=rows.start, of=len(items))
        with torch_seeded(seed, "warm-up dropout", step):
            own_BD = descent.embed(x)
        embedding_BD = peers.gather_rows(own_BD, len(items))
        # A picture that may not be a negative of another is no negative of its class, either.
        apart_BC = torch.from_numpy(pairs_between(item_class_P2, items, classes_C)).to(device) if apart else None
        value, accuracy = loss(embedding_BD, torch.from_numpy(class_N[items]).to(device), apart_BC)
        at = f"step {step} of {len(pieces)}"
        descent.step(value, rate=rate, num_rows=len(items), broken=partial(_broken, at=at, peak=peak))
        emit(
            ClassificationEvent(
                step=step + 1,
                num_steps=len(pieces),
                pictures=piece.stop,
                loss=float(value.detach()),
                accuracy=float(accuracy),
                learning_rate=rate,
            )
        )


def _broken(what: str, *, at: str, peak: float) -> TrainingError:
    return TrainingError(
        f"training: {what} at {at} of the classification warm-up (rate {peak:.2g}); lower "
        f"classification.learning_rate (try {peak / 10:.1g})"
    )
