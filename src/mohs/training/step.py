"""One training step: what every training does with a network and a loss, and what a batch of triplets adds to it.

A little long, since nobody else may take a step: pictures, loss, bank and state of one stand together.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mohs.data.augment import AugmentPolicy, augment_batch
from mohs.data.dataset import Dataset
from mohs.data.stored_pictures import ReadAhead
from mohs.errors import TrainingError
from mohs.model.embedder import Embedder
from mohs.model.finetune import Finetuning, check_pictures_at_once
from mohs.plan import POSITIVE_ORIGINS, TripletPlan
from mohs.randomness import torch_seeded
from mohs.settings.config import RunConfig, TrainingConfig
from mohs.training.events import StepEvent
from mohs.training.guard import StepHealth
from mohs.training.kept_apart import Apart, by_first_item, may_be_negatives, pairs_in_batch
from mohs.training.last_seen import LastSeen
from mohs.training.losses.protocol import Loss, LossValue
from mohs.training.negative_bank import NegativeBank
from mohs.training.optimizers import Optimizer, build_optimizer, shorten_gradient
from mohs.training.processes import Processes, use_bfloat16

__all__ = ["Descent", "Pace", "Stepped", "Stepper", "rate_factor", "training_policy"]


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
        AugmentPolicy.of_strength(training.augment_strength),
        horizontal_flip=training.mirror,
        brightness=colour,
        contrast=colour,
        num_draws=num_draws,
    )


@final
class Descent:
    """A network, its loss and their optimiser: what one training step does, whatever is shown and lost.

    In turn: `begin` says what learns, `embed` shows pictures, and `step` lowers the loss of what was shown.

    Args:
        embedder: on its device; `finetune` of the settings says what of it learns.
        config: precision, decay, optimiser, bound on the gradient.
        device: the embedder's.
        loss: of its own parameters, if it is a module, `loss_rate` is the rate as a share of the network's.
        loss_rate: see there.
        weight_decay: of the network; None: that of the settings.
        build: the optimiser of parameter groups; None: that of the settings.
        peers: the processes that each have a part of a batch.
    """

    def __init__(
        self,
        embedder: Embedder,
        config: RunConfig,
        device: torch.device,
        *,
        loss: object = None,
        loss_rate: float = 1.0,
        weight_decay: float | None = None,
        build: Callable[[list[dict[str, Any]]], Optimizer] | None = None,
        peers: Processes | None = None,
    ) -> None:
        training = config.training
        self._embedder = embedder
        self._device = device
        self._peers = Processes() if peers is None else peers
        self._max_norm = training.max_gradient_norm
        self._bfloat16 = use_bfloat16(training.precision, device)
        self._finetuning = Finetuning(embedder, config.finetune, pretrained=config.model.beginning is not None)
        check_pictures_at_once(self._finetuning, config)
        self._at_once = training.pictures_at_once
        groups = self._finetuning.parameter_groups(training.weight_decay if weight_decay is None else weight_decay)
        if isinstance(loss, nn.Module) and (own := list(loss.parameters())):
            groups.append({"params": own, "rate_factor": loss_rate, "name": "loss", "matrices": False})
        self.optimizer = build_optimizer(groups, config) if build is None else build(groups)

    def begin(self, progress: float) -> None:
        """Make the network ready to train at this share of the run: what learns, what is in evaluation mode."""
        self._finetuning.at(progress)
        self._finetuning.train_mode()

    def trainable(self) -> tuple[str, ...]:
        """Return the names of the stages that learn now."""
        return self._finetuning.trainable()

    def autocast(self) -> torch.autocast:
        """Return the context in which the network computes."""
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16)

    def embed(self, x_BCHW: Tensor) -> Tensor:
        """Return the embeddings float32[B, D] of pictures, with what a gradient takes.

        With `training.pictures_at_once` pieces of the batch go through the network one after the other, and once more,
        each with its part of the gradient, on the way back: memory holds what a gradient takes of one piece. After Gao
        et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup" (2021).
        """
        with self.autocast():
            if self._at_once is None or len(x_BCHW) <= self._at_once:
                embedding_BD: Tensor = self._embedder(x_BCHW).float()
                return embedding_BD
            pieces = torch.split(x_BCHW, self._at_once)
            return torch.cat([checkpoint(self._embedder, piece, use_reentrant=False).float() for piece in pieces])

    def step(self, loss: Tensor, *, rate: float, num_rows: int, broken: Callable[[str], TrainingError]) -> float:
        """Lower the loss of a batch of so many rows at this rate; return the norm of its gradient before it was cut.

        Raises what `broken` says, of "loss is nan", where the loss or its gradient is NaN or Inf; weights are then as
        they were.
        """
        value = float(loss.detach())
        if not math.isfinite(value):
            raise broken(f"loss is {value}")
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate_factor"]
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._peers.sum_gradients(self._embedder, num_rows)
        norm = shorten_gradient(self.optimizer, self._max_norm)
        if not math.isfinite(norm):
            raise broken(f"gradient is {norm}")
        self.optimizer.step()
        return norm

    def weights_are_finite(self) -> bool:
        """Return whether all weights and statistics of the network are numbers."""
        return all(bool(value.isfinite().all()) for value in self._embedder.state_dict().values())


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
@dataclass
class Pace:
    """Steps of the run in all, what the guard has left of the rate, and the step at which it last began to rise."""

    num_steps: int = 0
    rate_scale: float = 1.0
    ramp_from: int = 0


@final
class Stepper:
    """The network, its loss and its optimiser. Steps are counted here; every random draw comes from (seed, step).

    `descent` is what each step does with them. `negative_bank`, if there is one, has negatives for the loss; it is set
    once the network is as metric learning finds it. `last_seen`, if there is one, takes note of the embeddings.
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
        self.pace = Pace()
        self.negative_bank: NegativeBank | None = None
        self.last_seen = LastSeen(len(dataset), embedder.embedding_dim) if config.plans_from_steps else None
        self._progress = 0.0
        self._embedder = embedder
        self._pictures_of = ReadAhead(dataset.pictures)
        self._config = config
        self._loss = loss
        self._device = device
        self._peers = peers
        self._class_N = dataset.labels_id
        self._distrusted_P2 = by_first_item(np.empty((0, 2), np.int64) if distrusted_P2 is None else distrusted_P2)
        self._catalog_N = None if may_be_negatives(dataset, config).all() else dataset.roles == "catalog"
        # Draws are for each part of a batch: anchors, positives, negatives.
        self._augment = training_policy(config.training, num_draws=8)
        self._second_view = AugmentPolicy(num_draws=8)
        if isinstance(loss, nn.Module):
            loss.to(device)
        wanted = config.loss.learning_rate or config.training.learning_rate
        self.descent = Descent(
            embedder, config, device, loss=loss, loss_rate=wanted / config.training.learning_rate, peers=peers
        )

    def begin(self, progress: float) -> None:
        """Make the network ready to train at this share of the run: see `Descent.begin`."""
        self._progress = progress
        self.descent.begin(progress)

    def ramp_again(self) -> None:
        """Let the rate rise once more, as long as at the start: an optimiser begun anew needs it as much."""
        self.pace.ramp_from = self.step

    def announce(self, batch: TripletPlan) -> None:
        """Have the pictures of a batch read that is to be trained on later, where they stay in their file."""
        self._pictures_of.announce(self._shown(batch, self._peers.share(len(batch))))

    def train(self, batch: TripletPlan) -> Stepped:
        """Take one step on a batch; raise `TrainingError` if its loss or its gradient is NaN or Inf."""
        began = time.perf_counter()
        rate = self._config.training.learning_rate * self.pace.rate_scale * self._rate_factor()
        rows = self._peers.share(len(batch))
        num_parts = 2 if self._config.loss.in_batch else 3
        pictures = self._embedder.to_input(self._pictures_of.take(self._shown(batch, rows)))
        x = self._changed(pictures, batch, rows, num_parts)
        # Dropout is the network's only use of torch's generator; the run's seed and step decide it.
        with torch_seeded(self._config.seed, "dropout", self.step):
            embeddings = self.descent.embed(x)
        parts = [self._peers.gather_rows(part, len(batch)) for part in embeddings.chunk(num_parts)]
        items = np.concatenate([batch.anchor, batch.positive, *([batch.negative] if num_parts == 3 else [])])
        key_MD = None
        if self.negative_bank is not None and self._progress >= self._config.memory.from_progress:
            seen = self._changed(pictures, batch, rows, num_parts, for_keys=True)
            with self.descent.autocast():
                keys = self.negative_bank.encode(seen).chunk(num_parts)
            key_MD = torch.cat([self._peers.gather_rows(part, len(batch)) for part in keys])
        value, collapsed_loss, num_kept_apart = self._lost(parts, items, batch.hardness, key_MD)
        norm = self.descent.step(value.loss, rate=rate, num_rows=len(batch), broken=self.broken)
        self.step += 1
        if self.negative_bank is not None:
            self.negative_bank.follow(self._embedder)
            if key_MD is not None:
                self.negative_bank.write(items, key_MD)
        if self.last_seen is not None:
            self.last_seen.write(items, torch.cat(parts))
        anchor_BD, positive_BD = parts[0].detach(), parts[1].detach()
        health = StepHealth(
            loss=float(value.loss.detach()),
            collapsed_loss=collapsed_loss,
            spread=float(anchor_BD.var(0, correction=0).sum().sqrt()),
            active_fraction=float(value.active_fraction),
            gradient_norm=norm,
            positive_distance=_mean_distance(anchor_BD, positive_BD),
            negative_distance=None if num_parts == 2 else _mean_distance(anchor_BD, parts[2].detach()),
        )
        return Stepped(health, num_parts * len(batch), num_kept_apart, rate, time.perf_counter() - began)

    def _lost(
        self,
        parts: Sequence[Tensor],
        item_M: NDArray[np.int64],
        hardness_B: NDArray[np.float32],
        key_MD: Tensor | None,
    ) -> tuple[LossValue, float | None, int]:
        """Return the loss of a batch, what it is if all embeddings are the same, and how many pairs are kept apart."""
        num_triplets = len(parts[0])
        negative_BD = parts[2] if len(parts) == 3 else None
        class_B = torch.from_numpy(self._class_N[item_M[:num_triplets]]).to(self._device)
        apart = self._apart(item_M, parts)
        # A caller's own loss need not know of pairs that are kept apart where there are none.
        value = self._loss(parts[0], parts[1], negative_BD, class_B, *(() if apart is None else (apart.all_MM,)))
        collapsed_loss = self._loss.collapsed_loss(num_triplets, *(() if apart is None else (class_B, apart.fixed_MM)))
        num_kept_apart = 0 if apart is None else apart.num_pairs
        if key_MD is not None:
            assert self.negative_bank is not None
            found = self.negative_bank.loss(
                torch.cat(list(parts)),
                key_MD,
                item_M,
                hardness_M=np.tile(hardness_B, len(parts)),
                apart=apart,
                other_views=not self._augment.is_identity,
            )
            value = LossValue(found.loss, value.active_fraction)
            collapsed_loss = found.collapsed_loss
            num_kept_apart += found.num_kept_apart
        return value, collapsed_loss, num_kept_apart

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

    def check_weights(self) -> None:
        """Raise `TrainingError` if the last step broke the weights; before that, the loss or the next bank tells."""
        if not self.descent.weights_are_finite():
            raise self.broken("weights are NaN or Inf")

    def event(self, stepped: Stepped, *, triplets: int, pictures: int, hardness: float) -> StepEvent:
        """Return what is told of the last step; the counts are those of the run after it."""
        return StepEvent(
            step=self.step,
            num_steps=self.pace.num_steps,
            triplets=triplets,
            pictures=pictures,
            hardness=hardness,
            learning_rate=stepped.learning_rate,
            pictures_per_s=stepped.num_pictures / stepped.took_s,
            num_kept_apart=stepped.num_kept_apart,
            **asdict(stepped.health),
        )

    def broken(self, what: str) -> TrainingError:
        """Return the error for numbers that are no numbers."""
        rate, weights = self._config.training.learning_rate, self._config.model.beginning or "model.weights"
        return TrainingError(
            f"training: {what} at step {self.step} of {self.pace.num_steps} (training.learning_rate {rate:.2g}); "
            f"lower it (try {rate / 10:.1g}), or check {weights} and, with 'mohs check', the pictures"
        )

    def state(self) -> dict[str, Any]:
        """Return the tensors that a checkpoint keeps, on the CPU and not shared with the network."""
        state = {"embedder": self._embedder.state_dict(), "optimizer": self.descent.optimizer.state_dict()}
        state["loss"] = self._loss.state_dict() if isinstance(self._loss, nn.Module) else {}
        if self.negative_bank is not None:
            state["memory"] = self.negative_bank.state()
        copied: dict[str, Any] = _copied(state)
        return copied

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` returned."""
        self._embedder.load_state_dict(state["embedder"])
        if isinstance(self._loss, nn.Module):
            self._loss.load_state_dict(state["loss"])
        if self.negative_bank is not None:
            self.negative_bank.restore(state["memory"])
        # The optimiser keeps the tensors it is given.
        self.descent.optimizer.load_state_dict(_copied(state["optimizer"]))

    def _rate_factor(self) -> float:
        num_warmup = max(1, int(self._config.training.warmup * self.pace.num_steps))
        rise = min(1.0, (self.step - self.pace.ramp_from + 1) / num_warmup) if self.pace.ramp_from else 1.0
        return rise * rate_factor(self.step, self.pace.num_steps, self._config.training)

    def _changed(
        self, x_BCHW: Tensor, batch: TripletPlan, rows: slice, num_parts: int, *, for_keys: bool = False
    ) -> Tensor:
        """Return these rows' pictures, anchors first, changed at random: once for the network, once for the keys."""
        seed = self._config.seed
        if not self._augment.is_identity:
            # A call for each part: within one call an anchor and its positive might share a draw, and two views of one
            # picture would be the same.
            views = [
                augment_batch(
                    part,
                    self._augment,
                    seed=seed,
                    step=_draw(self.step * num_parts + i, for_keys),
                    first=rows.start,
                    of=len(batch),
                )
                for i, part in enumerate(x_BCHW.chunk(num_parts))
            ]
            x_BCHW = torch.cat(views)
        if not self._augment.warps:
            # A positive that is the anchor itself must still differ from it.
            augmented_B = batch.positive_origin == _AUGMENTATION
            here = np.flatnonzero(augmented_B[rows])
            if len(here):
                place = torch.from_numpy(len(x_BCHW) // num_parts + here)
                before, num = int(augmented_B[: rows.start].sum()), int(augmented_B.sum())
                x_BCHW = x_BCHW.clone()
                x_BCHW[place] = augment_batch(
                    x_BCHW[place],
                    self._second_view,
                    seed=seed,
                    step=_draw(self.step, for_keys),
                    first=before,
                    of=num,
                )
        return x_BCHW

    def _shown(self, batch: TripletPlan, rows: slice) -> NDArray[np.int64]:
        """Return the items of these rows, anchors first."""
        columns = [batch.anchor, batch.positive, *([] if self._config.loss.in_batch else [batch.negative])]
        return np.concatenate([column[rows] for column in columns])


def rate_factor(step: int, num_steps: int, training: TrainingConfig) -> float:
    """Return the learning rate at a step as a share of its peak: a linear rise, then half a cosine down to 0.

    >>> [round(rate_factor(step, 5, TrainingConfig(warmup=0.4)), 3) for step in range(5)]
    [0.5, 1.0, 1.0, 0.75, 0.25]
    """
    num_warmup = int(training.warmup * num_steps)
    if step < num_warmup:
        return (step + 1) / num_warmup
    return 0.5 * (1.0 + math.cos(math.pi * (step - num_warmup) / max(1, num_steps - num_warmup)))


def _draw(step: int, for_keys: bool) -> int:
    """Return the step of a draw: those for keys are negative, so that they are no other's."""
    return -1 - step if for_keys else step


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
