"""Where to compute, and in which precision."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mohs.data.augment import AugmentPolicy, augment_batch
from mohs.data.dataset import Dataset
from mohs.errors import InputError, TrainingError
from mohs.model.embedder import Embedder
from mohs.model.finetune import Finetuning
from mohs.plan import POSITIVE_ORIGINS, TripletPlan
from mohs.randomness import torch_seeded
from mohs.settings.config import RunConfig, TrainingConfig
from mohs.training.guard import StepHealth
from mohs.training.kept_apart import Apart, by_first_item, may_be_negatives, pairs_in_batch
from mohs.training.losses.loss import LossValue
from mohs.training.losses.registry import Loss
from mohs.training.negative_bank import Memory
from mohs.training.optimizers import build_optimizer, shorten_gradient
from mohs.training.processes import Processes

__all__ = ["Stepped", "Stepper", "choose_device", "rate_factor", "training_policy", "use_bfloat16"]


def choose_device(name: Literal["auto", "cpu", "cuda", "mps"]) -> torch.device:
    """Return the device: for "auto" CUDA, else MPS, else the CPU; raise `InputError` for one this machine lacks."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device in ("cuda", "mps", "cpu") if available[device]))
    if not available[name]:
        raise InputError(f"training.device: {name!r} is not available here; use 'auto' or 'cpu'")
    return torch.device(name)


def use_bfloat16(precision: Literal["auto", "float32", "bfloat16"], device: torch.device) -> bool:
    """Return whether forward passes run in bfloat16: as told, or for "auto" on CUDA cards that compute in it.

    On a CPU "auto" stays with float32: the small network gains a fifth there, and its results are no longer the same
    on processors with and without bfloat16 instructions.
    """
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "bfloat16"


_FULL_COLOUR = 0.4


def training_policy(training: TrainingConfig, *, num_draws: int = AugmentPolicy.num_draws) -> AugmentPolicy:
    """Return the random changes of training pictures that the settings ask for.

    `augment` scales rotation, shift, size and shear; `mirror` is the probability of a mirrored picture; brightness and
    contrast change by at most ±40% times `colour`.

    >>> training_policy(TrainingConfig(augment=0.0, mirror=0.5, colour=0.5)).brightness
    0.2
    """
    colour = _FULL_COLOUR * training.colour
    return replace(
        AugmentPolicy.of_strength(training.augment),
        horizontal_flip=training.mirror,
        brightness=colour,
        contrast=colour,
        num_draws=num_draws,
    )


_AUGMENTATION = POSITIVE_ORIGINS.index("augmentation")


@final
@dataclass(frozen=True)
class Stepped:
    """What a step did: its health, pictures shown (by all processes), learning rate of the head, seconds.

    `num_kept_apart` counts pairs of pictures that the loss did not take for negatives (`mohs.training.kept_apart`).
    """

    health: StepHealth
    num_pictures: int
    num_kept_apart: int
    learning_rate: float
    took_s: float


@final
class Stepper:
    """The network, its loss and its optimiser. Steps are counted here; every random draw comes from (seed, step).

    `memory` adds negatives to the loss, if there is one; it is set once the network is as metric learning finds it.
    """

    def __init__(
        self,
        embedder: Embedder,
        dataset: Dataset,
        config: RunConfig,
        loss: Loss,
        device: torch.device,
        peers: Processes,
        distrusted_P2: NDArray[np.int64] | None = None,
    ) -> None:
        self.step = 0
        self.num_steps = 0
        self.rate_scale = 1.0
        self.ramp_from = 0  # the step at which the rate last began to rise
        self.memory: Memory | None = None
        self._progress = 0.0
        self._embedder = embedder
        self._dataset = dataset
        self._config = config
        self._loss = loss
        self._device = device
        self._peers = peers
        self._class_N = dataset.labels_id
        self._distrusted_P2 = by_first_item(np.empty((0, 2), np.int64) if distrusted_P2 is None else distrusted_P2)
        self._catalog_N = None if may_be_negatives(dataset, config).all() else dataset.roles == "catalog"
        self._bfloat16 = use_bfloat16(config.training.precision, device)
        # Draws are for each part of a batch: anchors, positives, negatives.
        self._augment = training_policy(config.training, num_draws=8)
        self._second_view = AugmentPolicy(num_draws=8)
        if isinstance(loss, nn.Module):
            loss.to(device)
        self._finetuning = Finetuning(embedder, config.finetune, pretrained=config.model.weights is not None)
        groups = self._finetuning.parameter_groups(config.training.weight_decay)
        if isinstance(loss, nn.Module) and any(True for _ in loss.parameters()):
            wanted = config.loss.learning_rate or config.training.learning_rate
            factor = wanted / config.training.learning_rate
            groups.append({"params": list(loss.parameters()), "rate_factor": factor, "name": "loss", "matrices": False})
        self._optimizer = build_optimizer(groups, config)

    def begin(self, progress: float) -> None:
        """Make the network ready to train at this share of the run: what learns, what is in evaluation mode."""
        self._progress = progress
        self._finetuning.at(progress)
        self._finetuning.train_mode()

    def ramp_again(self) -> None:
        """Let the rate rise once more, as long as at the start: an optimiser begun anew needs it as much."""
        self.ramp_from = self.step

    def trainable(self) -> tuple[str, ...]:
        """Return the names of the stages that learn now."""
        return self._finetuning.trainable()

    def train(self, batch: TripletPlan) -> Stepped:
        """Take one step on a batch; raise `TrainingError` if its loss or its gradient is NaN or Inf."""
        began = time.perf_counter()
        training = self._config.training
        rate = training.learning_rate * self.rate_scale * self._rate_factor()
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["rate_factor"]
        rows = self._peers.share(len(batch))
        x, num_parts = self._pictures(batch, rows)
        # Dropout is the network's only use of torch's generator; the run's seed and step decide it.
        with torch_seeded(self._config.seed, "dropout", self.step), self.autocast():
            embeddings = self._embedder(x).float()
        parts = [self._peers.gather_rows(part, len(batch)) for part in embeddings.chunk(num_parts)]
        classes = torch.from_numpy(self._class_N[batch.anchor]).to(self._device)
        negative_BD = parts[2] if num_parts == 3 else None
        items = np.concatenate([batch.anchor, batch.positive, *([batch.negative] if num_parts == 3 else [])])
        apart = self._apart(items, parts)
        if apart is None:
            value = self._loss(parts[0], parts[1], negative_BD, classes)
            collapsed_loss = self._loss.collapsed_loss(len(batch))
        else:
            value = self._loss(parts[0], parts[1], negative_BD, classes, apart.all_MM)
            collapsed_loss = self._loss.collapsed_loss(len(batch), classes, apart.fixed_MM)
        num_kept_apart = 0 if apart is None else apart.num_pairs
        memory = self.memory if self._progress >= self._config.memory.from_progress else None
        if memory is not None:
            term = memory.term(torch.cat(parts), items, self.step, apart)
            value = LossValue(value.loss + term.loss, value.active_fraction)
            collapsed_loss = None if collapsed_loss is None else collapsed_loss + term.collapsed_loss
            num_kept_apart += term.num_kept_apart
        loss = float(value.loss.detach())
        if not math.isfinite(loss):
            raise self.broken(f"loss is {loss}")
        self._optimizer.zero_grad(set_to_none=True)
        value.loss.backward()  # type: ignore[no-untyped-call]
        self._peers.sum_gradients(self._embedder, len(batch))
        norm = shorten_gradient(self._optimizer, training.max_gradient_norm)
        if not math.isfinite(norm):
            raise self.broken(f"gradient is {norm}")
        self._optimizer.step()
        self.step += 1
        if self.memory is not None:
            self.memory.follow(self._embedder)
        if memory is not None:
            with self.autocast():
                written = memory.encode(x).chunk(num_parts)
            memory.write(items, torch.cat([self._peers.gather_rows(part, len(batch)) for part in written]), self.step)
        anchor_BD, positive_BD = parts[0].detach(), parts[1].detach()
        health = StepHealth(
            loss=loss,
            collapsed_loss=collapsed_loss,
            spread=float(anchor_BD.var(0, correction=0).sum().sqrt()),
            active_fraction=float(value.active_fraction),
            gradient_norm=norm,
            positive_distance=_mean_distance(anchor_BD, positive_BD),
            negative_distance=None if negative_BD is None else _mean_distance(anchor_BD, negative_BD.detach()),
        )
        return Stepped(health, num_parts * len(batch), num_kept_apart, rate, time.perf_counter() - began)

    def _apart(self, item_M: NDArray[np.int64], parts: Sequence[Tensor]) -> Apart | None:
        """Return the pairs of a batch that its loss must not take for negatives; None if there are none.

        A loss on the plan's triplets takes their negatives, which were mined by the same rules; with `swap`, it takes
        the negatives for those of the positives, too.
        """
        if not self._config.loss.in_batch and not self._config.loss.swap:
            return None
        return pairs_in_batch(
            item_M,
            self._class_N[item_M],
            torch.cat(list(parts)).detach(),
            num_triplets=len(parts[0]),
            distrusted_P2=self._distrusted_P2,
            min_distance_ratio=self._config.negatives.min_distance_ratio,
            catalog_M=None if self._catalog_N is None else self._catalog_N[item_M],
        )

    def autocast(self) -> torch.autocast:
        """Return the context in which the network computes."""
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16)

    def check_weights(self) -> None:
        """Raise `TrainingError` if the last step broke the weights; before that, the loss or the next bank tells."""
        if not all(bool(value.isfinite().all()) for value in self._embedder.state_dict().values()):
            raise self.broken("weights are NaN or Inf")

    def broken(self, what: str) -> TrainingError:
        """Return the error for numbers that are no numbers."""
        rate = self._config.training.learning_rate
        return TrainingError(
            f"training: {what} at step {self.step} of {self.num_steps} (training.learning_rate {rate:.2g}); "
            f"lower it (try {rate / 10:.1g}), or check model.weights and, with 'mohs check', the pictures"
        )

    def state(self) -> dict[str, Any]:
        """Return the tensors that a checkpoint keeps, on the CPU and not shared with the network."""
        loss = self._loss.state_dict() if isinstance(self._loss, nn.Module) else {}
        state = {"embedder": self._embedder.state_dict(), "loss": loss, "optimizer": self._optimizer.state_dict()}
        if self.memory is not None:
            state["memory"] = self.memory.state()
        copied: dict[str, Any] = _copied(state)
        return copied

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` returned."""
        self._embedder.load_state_dict(state["embedder"])
        if isinstance(self._loss, nn.Module):
            self._loss.load_state_dict(state["loss"])
        if self.memory is not None:
            self.memory.restore(state["memory"])
        # The optimiser keeps the tensors it is given.
        self._optimizer.load_state_dict(_copied(state["optimizer"]))

    def _rate_factor(self) -> float:
        num_warmup = max(1, int(self._config.training.warmup * self.num_steps))
        rise = min(1.0, (self.step - self.ramp_from + 1) / num_warmup) if self.ramp_from else 1.0
        return rise * rate_factor(self.step, self.num_steps, self._config.training)

    def _pictures(self, batch: TripletPlan, rows: slice) -> tuple[Tensor, int]:
        """Return these rows' pictures, anchors first, augmented, and how many parts of a batch they are."""
        columns = [batch.anchor, batch.positive]
        if not self._config.loss.in_batch:
            columns.append(batch.negative)
        items = np.concatenate([column[rows] for column in columns])
        x = self._embedder.to_input(self._dataset.pictures[items])
        seed = self._config.seed
        if not self._augment.is_identity:
            # A call for each part: within one call an anchor and its positive might share a draw, and two views of one
            # picture would be the same.
            views = [
                augment_batch(
                    part,
                    self._augment,
                    seed=seed,
                    step=self.step * len(columns) + i,
                    first=rows.start,
                    of=len(batch),
                )
                for i, part in enumerate(x.chunk(len(columns)))
            ]
            x = torch.cat(views)
        if not self._augment.warps:
            # A positive that is the anchor itself must still differ from it.
            augmented_B = batch.positive_origin == _AUGMENTATION
            here = np.flatnonzero(augmented_B[rows])
            if len(here):
                place = torch.from_numpy(len(x) // len(columns) + here)
                before = int(augmented_B[: rows.start].sum())
                x[place] = augment_batch(
                    x[place], self._second_view, seed=seed, step=self.step, first=before, of=int(augmented_B.sum())
                )
        return x, len(columns)


def rate_factor(step: int, num_steps: int, training: TrainingConfig) -> float:
    """Return the learning rate at a step as a share of its peak: a linear rise, then half a cosine down to 0.

    >>> [round(rate_factor(step, 5, TrainingConfig(warmup=0.4)), 3) for step in range(5)]
    [0.5, 1.0, 1.0, 0.75, 0.25]
    """
    num_warmup = int(training.warmup * num_steps)
    if step < num_warmup:
        return (step + 1) / num_warmup
    return 0.5 * (1.0 + math.cos(math.pi * (step - num_warmup) / max(1, num_steps - num_warmup)))


def _mean_distance(a_BD: Tensor, b_BD: Tensor) -> float:
    return float(torch.linalg.vector_norm(a_BD - b_BD, dim=1).mean())


def _copied(value: Any) -> Any:
    """Return nested dicts and lists with every tensor copied to the CPU, layout kept."""
    match value:
        case Tensor():
            return value.detach().to("cpu", copy=True)
        case Mapping():
            return {key: _copied(item) for key, item in value.items()}
        case list():
            return [_copied(item) for item in value]
        case _:
            return value
