"""The baselines: the loop that a user of pytorch-metric-learning writes, with its sampler, losses and miners.

    sampler = MPerClassSampler(labels, m=2, batch_size=192)
    optimizer = Adam(network.parameters(), lr=...)  # or Muon, as of the default
    for pictures, labels in batches:
        embeddings = network(pictures)
        loss = loss_function(embeddings, labels, miner(embeddings, labels))
        loss.backward(); optimizer.step(); scheduler.step()

Nothing of Mohs decides which pictures meet, what is lost or how it is lowered, but where a strategy says so: on cliques
(`online_cliques`) the batches are those of `mohs.NeighbourhoodSampler`, by what training has seen last. The network,
the augmentation, what of a pretrained network learns and the shape of the learning rate over time are those of the
other strategies. So are the head at the start, and at the end the blend of weights and a whitening that is asked for,
but for the plain ones. Muon is that of runs of Mohs, with the same parameters: matrices are its own, biases, norms and
what a loss learns are left to AdamW.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_metric_learning import losses, miners
from pytorch_metric_learning.samplers import MPerClassSampler
from pytorch_metric_learning.utils import common_functions
from torch import Tensor, nn

from mohs.compare.budget import Budget
from mohs.compare.strategies import OnlineLoss, OnlineOptimizer, Strategy
from mohs.data.augment import AugmentPolicy, augment_batch
from mohs.data.dataset import Dataset
from mohs.errors import InputError, TrainingError
from mohs.model.embedder import Embedder
from mohs.randomness import generator, torch_seeded
from mohs.settings.config import RunConfig
from mohs.training.last_seen import LastSeen
from mohs.training.losses.in_batch import active_fraction
from mohs.training.optimizers import MuonWithAdamW, Optimizer
from mohs.training.other_loops import NeighbourhoodSampler
from mohs.training.processes import choose_device
from mohs.training.step import Descent, rate_factor, training_policy

__all__ = ["OnlineStep", "train_online"]

# Class vectors start at random and have a step or two a pass; ten times the network's rate is the usual remedy.
_OWN_RATE = 10.0


@final
@dataclass(frozen=True)
class OnlineStep:
    """What one step showed: pictures so far, loss, the spread of the batch's embeddings, and its active share.

    Active are, as of Mohs's in-batch losses, anchors with another class's picture in the batch that is not farther than
    their positive.
    """

    pictures: int
    loss: float
    spread: float
    active_fraction: float


def train_online(
    embedder: Embedder,
    dataset: Dataset,
    config: RunConfig,
    strategy: Strategy,
    *,
    parameter: float,
    budget: Budget,
    listen: Callable[[OnlineStep], None] = lambda _: None,
) -> None:
    """Train `embedder`, which is on its device, in place: batches of two pictures of each class in it.

    The loss and the optimiser are those of the strategy, an online one; `parameter` is that of the loss. Read of
    `config` are the seed, what learns (`finetune`), the augmentation, the peak and shape of the learning rate, and
    `memory.size` for the loss that has a memory.

    Raises `InputError` for a batch of more pictures than two of each class, `TrainingError` if the loss or the
    weights become NaN or Inf.
    """
    assert strategy.online is not None
    num_steps, batch_pictures = budget.num_steps, budget.batch_pictures
    device = choose_device(config.training.device)
    num_classes = int(dataset.labels_id.max()) + 1
    if batch_pictures > 2 * num_classes:
        raise InputError(
            f"batch_pictures: {batch_pictures} are more than two of each of {num_classes} classes; lower it"
        )
    with torch_seeded(config.seed, "online loss"):
        # As many as the bank of a run has, but no picture twice: a memory of a whole pass is the most that is new.
        memory_size = max(batch_pictures, min(config.memory.size, len(dataset)))
        loss_function, miner = _build(strategy.online, parameter, num_classes, embedder.embedding_dim, memory_size)
    loss_function.to(device)
    build = partial(_optimizer, strategy.online_optimizer, learning_rate=config.training.learning_rate)
    descent = Descent(embedder, config, device, loss=loss_function, loss_rate=_OWN_RATE, weight_decay=0.0, build=build)
    seen = LastSeen(len(dataset), embedder.embedding_dim) if strategy.online_cliques else None
    if seen is None:
        batches = _batches(dataset, batch_pictures, num_steps, seed=config.seed)
    else:
        batches = itertools.islice(_cliques(dataset, batch_pictures, seen, seed=config.seed), num_steps)
    for step, items in enumerate(batches):
        descent.begin(step / num_steps)
        pictures = _augmented(embedder.to_input(dataset.pictures[items]), items, config, step)
        labels = torch.from_numpy(dataset.labels_id[items]).to(device)
        with torch_seeded(config.seed, "online step", step):
            embeddings = descent.embed(pictures)
            found = None if miner is None else miner(embeddings, labels)
            value: Tensor = loss_function(embeddings, labels, found)
        rate = config.training.learning_rate * rate_factor(step, num_steps, config.training)
        descent.step(value, rate=rate, num_rows=len(items), broken=partial(_broken, at=f"step {step} of {num_steps}"))
        x_BD = embeddings.detach()
        if seen is not None:
            seen.write(items, x_BD)
        spread = float(x_BD.var(0, correction=0).sum().sqrt())
        active = active_fraction(x_BD[::2], x_BD[1::2], labels[::2])
        listen(OnlineStep((step + 1) * batch_pictures, float(value.detach()), spread, float(active)))
    embedder.eval()
    if not descent.weights_are_finite():
        raise TrainingError("training: weights are NaN or Inf")


def _broken(what: str, *, at: str) -> TrainingError:
    return TrainingError(f"training: {what} at {at}")


def _optimizer(name: OnlineOptimizer, groups: list[dict[str, Any]], *, learning_rate: float) -> Optimizer:
    match name:
        case "adam":
            return torch.optim.Adam(groups, lr=learning_rate)
        case "muon":
            return MuonWithAdamW(groups, learning_rate=learning_rate)


def _build(
    name: OnlineLoss, value: float, num_classes: int, dim: int, memory_size: int
) -> tuple[nn.Module, nn.Module | None]:
    """Return the loss, with the parameter that is tuned, and the miner, if any."""
    match name:
        case "triplet semi-hard":
            miner = miners.TripletMarginMiner(margin=value, type_of_triplets="semihard")
            return losses.TripletMarginLoss(margin=value), miner
        case "triplet batch-hard":
            return losses.TripletMarginLoss(margin=value), miners.BatchHardMiner()
        case "multi-similarity":
            return losses.MultiSimilarityLoss(alpha=2, beta=50, base=value), miners.MultiSimilarityMiner(epsilon=0.1)
        case "nt-xent":
            return losses.NTXentLoss(temperature=value), None
        case "supcon":
            return losses.SupConLoss(temperature=value), None
        case "arcface":
            return losses.ArcFaceLoss(num_classes, dim, scale=value), None
        case "proxy-anchor":
            return losses.ProxyAnchorLoss(num_classes, dim, alpha=value), None
        case "cross-batch memory":
            # With the library's NTXentLoss, the same formula for one positive, a step takes seconds: it lists all pairs
            # of a positive and a negative, of which the memory makes a hundred million.
            inner = losses.SupConLoss(temperature=value)
            return losses.CrossBatchMemory(inner, embedding_size=dim, memory_size=memory_size), None


def _batches(dataset: Dataset, batch: int, num_steps: int, *, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield the sampler's batches, int64 [B]: two items of one class, two of the next, and so on."""
    with _seeded_library(seed):
        sampler = MPerClassSampler(dataset.labels_id, m=2, batch_size=batch, length_before_new_iter=batch * num_steps)
        items = iter(sampler)
    for _ in range(num_steps):
        yield np.fromiter(itertools.islice(items, batch), dtype=np.int64, count=batch)


def _cliques(dataset: Dataset, batch: int, seen: LastSeen, *, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield without end batches like those of `_batches`, of cliques of near classes from the second pass on.

    A pass is composed by `seen` as it is when the pass begins; an item that was not shown yet counts as the first one
    of its class that was. Its last batch is filled up with the pairs that it began with.
    """
    sampler = NeighbourhoodSampler(dataset.labels, batch // 2, seed=seed)
    for number in itertools.count():
        if number:
            known = seen.of(np.arange(len(dataset)))
            shown_M = np.flatnonzero(known.known_M)
            first_C = shown_M[np.unique(dataset.labels_id[shown_M], return_index=True)[1]]  # every class was shown
            known.x_MD[~known.known_M] = known.x_MD[first_C[dataset.labels_id[~known.known_M]]]
            sampler.set_pass(number, known.x_MD)
        pairs_K2 = np.concatenate([np.array(items).reshape(2, -1).T for items in sampler])
        num_batches = -(-len(pairs_K2) // (batch // 2))
        whole_K2 = np.resize(pairs_K2, (num_batches * (batch // 2), 2))
        yield from whole_K2.reshape(num_batches, batch)


@contextlib.contextmanager
def _seeded_library(seed: int) -> Iterator[None]:
    """Let the library draw from a generator of (seed, "sampler") in this block, instead of numpy's global state."""
    before = common_functions.NUMPY_RANDOM
    common_functions.NUMPY_RANDOM = generator(seed, "sampler")
    try:
        yield
    finally:
        common_functions.NUMPY_RANDOM = before


def _augmented(pictures_BCHW: Tensor, item_B: NDArray[np.int64], config: RunConfig, step: int) -> Tensor:
    """Return the pictures changed at random as in a run of Mohs; an item drawn twice becomes two views of it."""
    policy = training_policy(config.training, num_draws=8)
    changed = torch.empty_like(pictures_BCHW)
    for part in range(2):
        changed[part::2] = augment_batch(pictures_BCHW[part::2], policy, seed=config.seed, step=2 * step + part)
    if not policy.warps:
        # As there: a class of one picture has no other positive.
        place = torch.from_numpy(2 * np.flatnonzero(item_B[::2] == item_B[1::2]) + 1)
        if len(place):
            changed[place] = augment_batch(changed[place], AugmentPolicy(num_draws=8), seed=config.seed, step=step)
    return changed
