"""The classification warm-up: tell the training classes apart, before distances are learnt."""

import math
from collections.abc import Callable

import numpy as np
import torch

from mohs.config import RunConfig
from mohs.data.augment import augment_batch
from mohs.data.dataset import Dataset
from mohs.errors import TrainingError
from mohs.model.embedder import Embedder
from mohs.model.finetune import Finetuning
from mohs.randomness import torch_seeded
from mohs.sequence import anchor_sequence
from mohs.training.augmentation import training_policy
from mohs.training.batches import batch_slices
from mohs.training.classification import ClassificationLoss
from mohs.training.devices import use_bfloat16
from mohs.training.events import ClassificationEvent
from mohs.training.false_negatives import distrusted_pairs
from mohs.training.kept_apart import by_first_item, pairs_between
from mohs.training.optimizers import build_optimizer, shorten_gradient
from mohs.training.processes import Processes
from mohs.training.steps import rate_factor

__all__ = ["warm_up"]


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
        vectors = embedder.embed(dataset.pictures[catalog])
        known = dict(zip(class_N[catalog].tolist(), vectors, strict=True))
    loss = ClassificationLoss(
        settings, num_classes=int(class_N.max()) + 1, embedding_dim=embedder.embedding_dim, known=known, seed=seed
    ).to(device)
    distrusted_P2 = distrusted_pairs(dataset, config.negatives)
    item_class_P2 = by_first_item(np.stack([distrusted_P2[:, 0], class_N[distrusted_P2[:, 1]]], axis=1))
    item_class_P2 = item_class_P2[class_N[item_class_P2[:, 0]] != item_class_P2[:, 1]]
    classes_C, apart = np.arange(int(class_N.max()) + 1), len(item_class_P2) > 0
    finetuning = Finetuning(embedder, config.finetune, pretrained=config.model.weights is not None)
    peak = settings.learning_rate or training.learning_rate
    groups = finetuning.parameter_groups(training.weight_decay)
    groups.append({"params": list(loss.parameters()), "rate_factor": 1.0, "name": "class weights", "matrices": False})
    optimizer = build_optimizer(groups, config)
    finetuning.at(0.0)
    augment = training_policy(training)
    bfloat16 = use_bfloat16(training.precision, device)
    pieces = batch_slices(len(items_P), 2 * training.batch_triplets)

    def broken(what: str, value: float, step: int) -> TrainingError:
        return TrainingError(
            f"training: {what} is {value} at step {step} of {len(pieces)} of the classification warm-up (rate "
            f"{peak:.2g}); lower classification.learning_rate (try {peak / 10:.1g})"
        )

    for step, piece in enumerate(pieces):
        finetuning.train_mode()
        items = items_P[piece]
        rows = peers.share(len(items))
        rate = peak * rate_factor(step, len(pieces), training)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["rate_factor"]
        x = embedder.to_input(dataset.pictures[items[rows]])
        if not augment.is_identity:
            # Steps below 0 are no triplets' steps: the draws are the warm-up's own.
            x = augment_batch(x, augment, seed=seed, step=-1 - step, first=rows.start, of=len(items))
        with (
            torch_seeded(seed, "warm-up dropout", step),
            torch.autocast(device.type, torch.bfloat16, enabled=bfloat16),
        ):
            own_BD = embedder(x).float()
        embedding_BD = peers.gather_rows(own_BD, len(items))
        # A picture that may not be a negative of another is no negative of its class, either.
        apart_BC = torch.from_numpy(pairs_between(item_class_P2, items, classes_C)).to(device) if apart else None
        value, accuracy = loss(embedding_BD, torch.from_numpy(class_N[items]).to(device), apart_BC)
        if not bool(torch.isfinite(value)):
            raise broken("loss", float(value.detach()), step)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        peers.sum_gradients(embedder, len(items))
        norm = shorten_gradient(optimizer, training.max_gradient_norm)
        if not math.isfinite(norm):
            raise broken("gradient", norm, step)
        optimizer.step()
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
