"""The segment loop: embed, mine, train in plan order, repeat."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mohs.artefacts import fingerprint
from mohs.config import RunConfig, TrainingConfig
from mohs.curves import schedule
from mohs.data.augment import AugmentPolicy, augment_batch
from mohs.data.dataset import Dataset
from mohs.errors import InputError, TrainingError
from mohs.evaluation.spread import spread as spread_of
from mohs.mining import choose_positives, compile_kernels, mine
from mohs.model.embedder import Embedder
from mohs.plan import POSITIVE_ORIGINS, TripletPlan
from mohs.randomness import torch_seeded
from mohs.sequence import anchor_sequence
from mohs.training.batches import batch_slices, neighbourhood_order, segment_bounds
from mohs.training.devices import choose_device, use_bfloat16
from mohs.training.events import Listener, SegmentEvent, StepEvent
from mohs.training.losses import build_loss

__all__ = ["FitResult", "fit"]

_POINTS_PER_SEGMENT = 200
_ITEMS_AT_ONCE = 8192
_AUGMENTATION = POSITIVE_ORIGINS.index("augmentation")


@final
@dataclass(frozen=True)
class FitResult:
    """What a run cost and saw. `plans` are the segments' plans in the order they were trained on."""

    plans: tuple[TripletPlan, ...]
    num_steps: int
    num_pictures: int
    embed_s: float
    mine_s: float
    train_s: float


def fit(
    embedder: Embedder,
    dataset: Dataset,
    config: RunConfig,
    *,
    listeners: Sequence[Listener] = (),
    plans_folder: Path | None = None,
) -> FitResult:
    """Train `embedder` in place on all items of `dataset` and return what it took.

    For each segment of K triplets: (1) embed the items that the segment may use, in evaluation mode; (2) mine one
    negative per anchor at the curve's hardness; (3) train on the triplets in plan order, `batch_triplets` at a time.
    Triplet losses mine over all items. In-batch losses show anchors and positives only, so just the segment's anchors
    and positives are embedded, negatives are mined among its anchors, and the plan is put into neighbourhood order.

    Every random choice comes from `config.seed`; on the CPU the same inputs give the same weights for the same number
    of threads. Raises `InputError` for fewer than two classes, `TrainingError` if the loss becomes NaN or Inf.
    """
    labels = dataset.labels
    num_classes = len(np.unique(labels))
    if num_classes < 2:
        raise InputError(
            f"{dataset.table.source}: {num_classes} class to train on; similarity learning needs 2 or more"
        )
    training = config.training
    device = choose_device(training.device)
    embedder.to(device)
    run = _Run(embedder, dataset, config, device)
    sample_items = np.flatnonzero(run.anchor_mask)
    anchors_T = sample_items[anchor_sequence(labels[sample_items], training.num_triplets, seed=config.seed)]
    positives_T, origin_T = choose_positives(
        labels, anchors_T, seed=config.seed, catalog_N=run.catalog_mask, prefer=training.prefer_positive
    )
    hardness_T = schedule(config.hardness.build(), training.num_triplets)
    bounds = segment_bounds(training.num_triplets, training.num_segments, config.hardness.cycles)
    compile_kernels(config.hardness.scale)  # once after an installation; the seconds of mining leave it out
    run.num_steps = sum(len(batch_slices(stop - start, training.batch_triplets)) for start, stop in bounds)

    plans = []
    for segment, (start, stop) in enumerate(bounds):
        plan, event = run.plan_segment(
            segment, start, anchors_T[start:stop], positives_T[start:stop], origin_T[start:stop], hardness_T[start:stop]
        )
        if plans_folder is not None:
            plan.save(plans_folder / f"segment-{segment:03d}.parquet")
        plans.append(plan)
        event = replace(event, train_s=run.train_segment(plan, listeners))
        for listener in listeners:
            listener(event)
    run.check_weights()
    embedder.eval()
    return FitResult(tuple(plans), run.step, run.pictures, run.embed_s, run.mine_s, run.train_s)


@final
class _Run:
    """The state of one run: optimiser, position, seconds spent."""

    def __init__(self, embedder: Embedder, dataset: Dataset, config: RunConfig, device: torch.device) -> None:
        self.embedder = embedder
        self.dataset = dataset
        self.config = config
        self.device = device
        self.class_N = dataset.labels_id
        self.catalog_mask = dataset.roles == "catalog"
        # Catalog pictures are anchors only in classes that have nothing else.
        has_sample = np.isin(self.class_N, self.class_N[~self.catalog_mask])
        self.anchor_mask = ~self.catalog_mask | ~has_sample
        self.data_fingerprint = fingerprint(np.array(dataset.table.files), dataset.labels)
        self.loss = build_loss(config.loss)
        self.optimizer = torch.optim.AdamW(
            embedder.parameters(), lr=config.training.learning_rate, weight_decay=config.training.weight_decay
        )
        self.bfloat16 = use_bfloat16(config.training.precision, device)
        # Draws are for each part of a batch: anchors, positives, negatives.
        self.augment = replace(AugmentPolicy.of_strength(config.training.augment), num_draws=8)
        self.second_view = AugmentPolicy(num_draws=8)
        self.num_steps = 0
        self.step = 0
        self.triplets = 0
        self.pictures = 0
        self.embed_s = self.mine_s = self.train_s = 0.0

    def plan_segment(
        self,
        segment: int,
        start: int,
        anchors_K: NDArray[np.int64],
        positives_K: NDArray[np.int64],
        origin_K: NDArray[np.uint8],
        hardness_K: NDArray[np.float64],
    ) -> tuple[TripletPlan, SegmentEvent]:
        """Embed, mine and order one segment."""
        used = np.concatenate([anchors_K, positives_K])
        # A short segment may hold one class only; its negatives then come from everywhere.
        in_batch = self.config.loss.in_batch and len(np.unique(self.class_N[anchors_K])) > 1
        items_M = np.unique(used) if in_batch else np.arange(len(self.dataset))
        scale = self.config.hardness.scale
        by_margin = scale == "margin"
        began = time.perf_counter()
        bank_MD = self._embed(items_M)
        embedded = time.perf_counter()
        local_anchors_K = np.searchsorted(items_M, anchors_K)
        mined = mine(
            bank_MD,
            self.class_N[items_M],
            anchors_T=local_anchors_K,
            hardness_T=hardness_K,
            scale=scale,
            positives_T=np.searchsorted(items_M, positives_K),
            positive_origin_T=origin_K,
            candidates=np.unique(local_anchors_K) if in_batch else None,
            margin=self.config.loss.margin if by_margin else None,
            squared=self.config.loss.squared and by_margin,
            seed=self.config.seed,
        )
        plan = replace(
            mined,
            anchor=anchors_K,
            positive=positives_K,
            negative=items_M[mined.negative],
            # What the miner says of its bank is of the items it was given: for in-batch losses not all.
            header={
                **{f"mined_{name}" if name.startswith("num_") else name: v for name, v in mined.header.items()},
                "num_items": len(self.dataset),
                "num_classes": int(self.class_N.max()) + 1,
                "data_fingerprint": self.data_fingerprint,
                "curve": self.config.hardness.model_dump(mode="json"),
                "segment": segment,
                "first_triplet": start,
                "run_seed": self.config.seed,
            },
        )
        if in_batch and start >= self.config.training.neighbourhood_from * self.config.training.num_triplets:
            size = self.config.training.neighbourhood
            plan = plan.take(neighbourhood_order(self.class_N[plan.anchor], self.class_N[plan.negative], size))
        finished = time.perf_counter()
        self.embed_s += embedded - began
        self.mine_s += finished - embedded
        spread = spread_of(bank_MD)
        shown = np.unique(np.linspace(0, len(plan) - 1, min(_POINTS_PER_SEGMENT, len(plan))).astype(np.int64))
        event = SegmentEvent(
            segment=segment,
            triplets=start,
            triplet_index=tuple((start + shown).tolist()),
            hardness_asked=tuple(np.round(plan.hardness[shown].astype(float), 5).tolist()),
            hardness_achieved=tuple(np.round(plan.achieved_hardness[shown].astype(float), 5).tolist()),
            anchor_positive_distance=float(plan.anchor_positive_distance.mean()),
            anchor_negative_distance=float(plan.anchor_negative_distance.mean()),
            spread=spread.std_sqrt_dim,
            effective_rank=spread.effective_rank,
            embed_s=embedded - began,
            mine_s=finished - embedded,
            train_s=0.0,
        )
        return plan, event

    def _embed(self, items_M: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the embeddings of the items, reading their pictures a few thousand at a time."""
        pieces = [items_M[start : start + _ITEMS_AT_ONCE] for start in range(0, len(items_M), _ITEMS_AT_ONCE)]
        with self._autocast():
            bank_MD = np.concatenate([self.embedder.embed(self.dataset.pictures[piece]) for piece in pieces])
        if not np.isfinite(bank_MD).all():
            raise self._broken("embeddings are NaN or Inf")
        return bank_MD

    def check_weights(self) -> None:
        """Raise `TrainingError` if the last step broke the weights; before that, the loss or the next bank tells."""
        if not all(bool(value.isfinite().all()) for value in self.embedder.state_dict().values()):
            raise self._broken("weights are NaN or Inf")

    def _broken(self, what: str) -> TrainingError:
        rate = self.config.training.learning_rate
        return TrainingError(
            f"training: {what} at step {self.step} of {self.num_steps} (training.learning_rate {rate:.2g}); "
            f"lower it (try {rate / 10:.1g}), or check model.weights and, with 'mohs check', the pictures"
        )

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)

    def train_segment(self, plan: TripletPlan, listeners: Sequence[Listener]) -> float:
        """Train on a plan, in its order, and return the seconds it took."""
        self.embedder.train()
        began = time.perf_counter()
        for piece in batch_slices(len(plan), self.config.training.batch_triplets):
            step_began = time.perf_counter()
            event = self._train_batch(plan.take(piece), step_began)
            # What listeners do (drawing, writing) is not training time.
            paused = time.perf_counter()
            for listener in listeners:
                listener(event)
            began += time.perf_counter() - paused
        took_s = time.perf_counter() - began
        self.train_s += took_s
        return took_s

    def _train_batch(self, batch: TripletPlan, began: float) -> StepEvent:
        x, num_parts = self._pictures(batch)
        rate = self.config.training.learning_rate * _rate_factor(self.step, self.num_steps, self.config.training)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        # Dropout is the network's only use of torch's generator; the run's seed and step decide it.
        with torch_seeded(self.config.seed, "dropout", self.step), self._autocast():
            embeddings = self.embedder(x).float()
        parts = embeddings.chunk(num_parts)
        classes = torch.from_numpy(self.class_N[batch.anchor]).to(self.device)
        value = self.loss(parts[0], parts[1], parts[2] if num_parts == 3 else None, classes)
        loss = float(value.loss.detach())
        if not math.isfinite(loss):
            raise self._broken(f"loss is {loss}")
        self.optimizer.zero_grad(set_to_none=True)
        value.loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.step += 1
        self.triplets += len(batch)
        self.pictures += len(x)
        variance_D = parts[0].detach().var(0, correction=0)
        return StepEvent(
            step=self.step,
            num_steps=self.num_steps,
            triplets=self.triplets,
            pictures=self.pictures,
            loss=loss,
            active_fraction=float(value.active_fraction),
            hardness=float(batch.hardness.mean()),
            spread=float(variance_D.sum().sqrt()),
            learning_rate=rate,
            pictures_per_s=len(x) / (time.perf_counter() - began),
        )

    def _pictures(self, batch: TripletPlan) -> tuple[Tensor, int]:
        """Return the batch's pictures, anchors first, augmented, and how many parts of B they are."""
        columns = [batch.anchor, batch.positive]
        if not self.config.loss.in_batch:
            columns.append(batch.negative)
        items = np.concatenate(columns)
        x = self.embedder.to_input(self.dataset.pictures[items])
        if self.config.training.augment > 0:
            # A call for each part: within one call an anchor and its positive might share a draw, and two views of one
            # picture would be the same.
            views = [
                augment_batch(part, self.augment, seed=self.config.seed, step=self.step * len(columns) + i)
                for i, part in enumerate(x.chunk(len(columns)))
            ]
            x = torch.cat(views)
        else:
            # A positive that is the anchor itself must still differ from it.
            rows = torch.from_numpy(len(batch) + np.flatnonzero(batch.positive_origin == _AUGMENTATION))
            if len(rows):
                x[rows] = augment_batch(x[rows], self.second_view, seed=self.config.seed, step=self.step)
        return x, len(columns)


def _rate_factor(step: int, num_steps: int, training: TrainingConfig) -> float:
    """Return the learning rate at a step as a share of its peak: a linear rise, then half a cosine down to 0."""
    num_warmup = int(training.warmup * num_steps)
    if step < num_warmup:
        return (step + 1) / num_warmup
    return 0.5 * (1.0 + math.cos(math.pi * (step - num_warmup) / max(1, num_steps - num_warmup)))
