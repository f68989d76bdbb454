"""The loop over segments: embed, mine, train in plan order, look, go on."""

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from mohs.artefacts import EventLog, sha256_file
from mohs.config import RunConfig
from mohs.curves import schedule
from mohs.data.dataset import Dataset
from mohs.errors import InputError, TrainingError
from mohs.mining import choose_positives, compile_kernels
from mohs.model.embedder import Embedder
from mohs.plan import TripletPlan
from mohs.sequence import anchor_sequence
from mohs.training.batches import batch_slices, segment_bounds
from mohs.training.checkpoint import Checkpoint, save_checkpoint
from mohs.training.controller import Control, HardnessController
from mohs.training.devices import choose_device
from mohs.training.events import Event, GuardEvent, Listener, SegmentEvent, StepEvent, as_record
from mohs.training.false_negatives import Dropped, append_review, cut_review, review_bytes
from mohs.training.guard import BankHealth, CollapseGuard, Verdict
from mohs.training.losses import Loss, build_loss
from mohs.training.planning import Planned, Planner, Segment
from mohs.training.pretrained import blend_weights, start_with_principal_components
from mohs.training.processes import Processes
from mohs.training.shared_batch_norm import share_batch_norms
from mohs.training.steps import Stepper
from mohs.training.warm_up import warm_up

__all__ = ["FitResult", "Folder", "fit"]

_POINTS_PER_SEGMENT = 200
_LOWER_HARDNESS, _CUT_RATE = 0.5, 0.3


@final
@dataclass(frozen=True)
class FitResult:
    """What a run cost and saw. `plans` are the segments' plans that this process trained on, in order."""

    plans: tuple[TripletPlan, ...]
    num_steps: int
    num_pictures: int
    embed_s: float
    mine_s: float
    train_s: float


@final
@dataclass(frozen=True)
class Folder:
    """Where a run leaves its files: `plans/`, `checkpoints/`, `review.csv`, and events in a log that is open.

    Processes other than the first one read there, and have no log.
    """

    path: Path
    log: EventLog | None


def fit(
    embedder: Embedder,
    dataset: Dataset,
    config: RunConfig,
    *,
    listeners: Sequence[Listener] = (),
    folder: Folder | None = None,
    resume: Checkpoint | None = None,
    loss: Loss | None = None,
    peers: Processes | None = None,
) -> FitResult:
    """Train `embedder` in place on all items of `dataset` and return what it took.

    For each segment of K triplets: (1) embed the items that the segment may use, in evaluation mode; (2) mine one
    negative per anchor at the hardness that the curve or the closed loop asks for (`planning.py`); (3) train on the
    triplets in plan order, `batch_triplets` at a time (`steps.py`), while the guard looks on (`guard.py`).

    Every random choice comes from `config.seed`; on the CPU the same inputs give the same weights for the same number
    of threads. `loss` takes the place of the one that `config.loss` names, which still says by its name whether the
    plan's negatives are shown. With a `folder`, events, plans, reviews and checkpoints go there; `resume` goes on from
    a checkpoint of the same run and ends with the same weights and plans, bit for bit.

    Raises `InputError` for fewer than two classes, `TrainingError` if numbers become NaN or Inf or if the guard stops a
    collapse.
    """
    labels = dataset.labels
    num_classes = len(np.unique(labels))
    if num_classes < 2:
        raise InputError(
            f"{dataset.table.source}: {num_classes} class to train on; similarity learning needs 2 or more"
        )
    peers = Processes() if peers is None else peers
    device = choose_device(config.training.device)
    embedder.to(device)
    if peers.num_ranks > 1:
        share_batch_norms(embedder)
    if loss is None:
        loss = build_loss(
            config.loss,
            num_classes=num_classes,
            embedding_dim=config.model.embedding_dim,
            seed=config.seed,
            margin_is_mined=_margin_is_mined(config),
        )
    compile_kernels(config.hardness.scale)  # once after an installation; the seconds of mining leave it out
    run = _Run(embedder, dataset, config, loss, device, peers, listeners, folder)
    if resume is None:
        if config.finetune.head == "pca":
            start_with_principal_components(embedder, dataset, peers, seed=config.seed)
        run.keep_start()
        warm_up(embedder, dataset, config, device, peers, emit=run.emit)
        run.begin_segment()
    else:
        assert folder is not None, "a checkpoint belongs to a folder"
        run.restore(resume, folder)
    while run.segment is not None:
        run.train_segment()
        run.begin_segment()
    run.stepper.check_weights()
    if run.start is not None:
        blend_weights(embedder, run.start, config.finetune.trained_share)
    embedder.eval()
    return FitResult(
        tuple(run.plans),
        run.stepper.step,
        run.pictures,
        run.seconds["embed"],
        run.seconds["mine"],
        run.seconds["train"],
    )


@final
class _Run:
    """The state of one run: where it is in the sequence of triplets, and what the guard has changed."""

    def __init__(
        self,
        embedder: Embedder,
        dataset: Dataset,
        config: RunConfig,
        loss: Loss,
        device: torch.device,
        peers: Processes,
        listeners: Sequence[Listener],
        folder: Folder | None,
    ) -> None:
        self.embedder = embedder
        self.dataset = dataset
        self.config = config
        self.peers = peers
        self.listeners = listeners
        self.folder = folder if peers.is_first else None
        self.stepper = Stepper(embedder, dataset, config, loss, device, peers)
        self.planner = Planner(dataset, config, peers)
        # Two threads must not talk to the other processes at once, each in its own order: who plans ahead plans alone.
        self.planner_ahead = (
            Planner(dataset, config, Processes()) if config.training.overlap and peers.num_ranks > 1 else self.planner
        )
        self.guard = CollapseGuard()
        by_margin = config.loss.name in ("triplet", "semi-hard", "contrastive")
        self.controller = (
            HardnessController(config.hardness, margin=config.loss.margin if by_margin else 0.0)
            if config.hardness.curve == "closed-loop"
            else None
        )
        self.waiting = deque(_all_segments(dataset, config))
        self.stepper.num_steps = self._steps_left()
        self.segment: Segment | None = None
        self.planned: Planned | None = None
        self.row = 0  # triplets of the segment that have been trained on
        self.active: list[float] = []  # of the segment's steps
        self.ahead: Future[Planned] | None = None
        self.ahead_weights: dict[str, Any] | None = None
        self.start: dict[str, Any] | None = None
        self.before: dict[str, Any] | None = None  # the last state in which the bank was healthy
        self.num_plans = 0
        self.num_dropped = 0
        self.control_state: dict[str, Any] | None = None
        self.num_actions = 0
        self.hardness_factor = 1.0
        self.triplets = 0
        self.pictures = 0
        self.seconds = {"embed": 0.0, "mine": 0.0, "train": 0.0}
        self.segment_train_s = 0.0
        self.saved_at = time.monotonic()
        self.plans: list[TripletPlan] = []

    def keep_start(self) -> None:
        """Keep the weights as they are now, if a share of them is wanted at the end."""
        if self.config.finetune.trained_share < 1.0:
            state = self.embedder.state_dict()
            self.start = {name: value.detach().to("cpu", copy=True) for name, value in state.items()}

    def begin_segment(self) -> None:
        """Plan the next segment, save where the run is, and begin to plan the one after if that is to overlap."""
        if not self.waiting:
            self.segment = None
            return
        self.segment = replace(self.waiting.popleft(), number=self.num_plans, hardness_factor=self.hardness_factor)
        self.num_plans += 1
        ahead, self.ahead = self.ahead, None
        self.planned = self._plan(self.planner, self.segment, self.embedder) if ahead is None else ahead.result()
        self.num_dropped = len(self.planned.dropped.anchor_R)
        self.row, self.active, self.segment_train_s = 0, [], 0.0
        self.plans.append(self.planned.plan)
        self.seconds["embed"] += self.planned.embed_s
        self.seconds["mine"] += self.planned.mine_s
        if self.folder is not None:
            self.planned.plan.save(self._plan_file())
            append_review(self.folder.path / "review.csv", self.planned.dropped, self.dataset, self.segment.number)
        verdict = self.guard.after_bank(self.planned.health) if self.config.guard.enabled else None
        if verdict is None:
            self.before = self.stepper.state() if self.config.guard.action == "roll-back" else None
        elif self._act(verdict):
            self.begin_segment()
            return
        self.control_state = None if self.controller is None else self.controller.state()
        self._look_ahead()
        self._save()

    def train_segment(self) -> None:
        """Train on the plan from the row where it stands; the guard may end the segment early."""
        assert self.segment is not None
        assert self.planned is not None
        plan = self.planned.plan
        for piece in batch_slices(len(plan), self.config.training.batch_triplets):
            if piece.start < self.row:
                continue  # before the checkpoint
            self.stepper.begin(self.triplets / self.config.training.num_triplets)
            batch = plan.take(piece)
            stepped = self.stepper.train(batch)
            self.row = piece.stop
            self.triplets += len(batch)
            self.pictures += stepped.num_pictures
            self.segment_train_s += stepped.took_s
            self.active.append(stepped.health.active_fraction)
            self.emit(
                StepEvent(
                    step=self.stepper.step,
                    num_steps=self.stepper.num_steps,
                    triplets=self.triplets,
                    pictures=self.pictures,
                    hardness=float(batch.hardness.mean()),
                    learning_rate=stepped.learning_rate,
                    pictures_per_s=stepped.num_pictures / stepped.took_s,
                    **asdict(stepped.health),
                )
            )
            verdict = self.guard.after_step(stepped.health) if self.config.guard.enabled else None
            if verdict is not None and self._act(verdict):
                break
            if time.monotonic() - self.saved_at >= self.config.training.checkpoint_s and self.row < len(plan):
                self._save()
        self._end_segment()

    def emit(self, event: Event) -> None:
        """Write an event to the log and tell the listeners."""
        if self.folder is not None and self.folder.log is not None:
            self.folder.log.write(*as_record(event))
        for listener in self.listeners:
            listener(event)

    def _end_segment(self) -> None:
        assert self.segment is not None
        assert self.planned is not None
        plan, health, control = self.planned.plan, self.planned.health, self.planned.control
        self.seconds["train"] += self.segment_train_s
        active = float(np.mean(self.active)) if self.active else 0.0
        if self.ahead is not None:
            self.ahead.result()  # what was planned ahead must not see what is observed now
        if self.controller is not None and self.active:
            self.controller.observe(active)
        shown = np.unique(np.linspace(0, len(plan) - 1, min(_POINTS_PER_SEGMENT, len(plan))).astype(np.int64))
        self.emit(
            SegmentEvent(
                segment=self.segment.number,
                triplets=self.segment.first,
                triplet_index=tuple((self.segment.first + shown).tolist()),
                hardness_asked=tuple(np.round(plan.hardness[shown].astype(float), 5).tolist()),
                hardness_achieved=tuple(np.round(plan.achieved_hardness[shown].astype(float), 5).tolist()),
                anchor_positive_distance=float(plan.anchor_positive_distance.mean()),
                anchor_negative_distance=float(plan.anchor_negative_distance.mean()),
                spread=health.spread,
                effective_rank=health.effective_rank,
                recall=health.recall,
                num_queries=health.num_queries,
                active_fraction=active,
                control=None if control is None else asdict(control),
                num_dropped=self.num_dropped,
                trainable=self.stepper.trainable(),
                embed_s=self.planned.embed_s,
                mine_s=self.planned.mine_s,
                train_s=self.segment_train_s,
            )
        )

    def _act(self, verdict: Verdict) -> bool:
        """Do what the settings say; return whether the rest of the segment must be planned again."""
        action = self.config.guard.action if verdict.level == "collapse" else "warn"
        if action != "warn":
            self.num_actions += 1
            if self.num_actions > self.config.guard.max_actions:
                action = "stop"
        self.emit(
            GuardEvent(
                step=self.stepper.step,
                triplets=self.triplets,
                level=verdict.level,
                signal=verdict.signal,
                cause=verdict.cause,
                action="none" if action == "warn" else action,
                numbers=verdict.numbers,
            )
        )
        if action == "warn":
            return False
        if action == "stop":
            raise TrainingError(self._diagnosis(verdict))
        if action == "cut-rate":
            self.stepper.rate_scale *= _CUT_RATE
            self.guard.acted()
            return False
        self.hardness_factor *= _LOWER_HARDNESS
        if action == "roll-back" and self.before is not None:
            self.stepper.restore(self.before)
        self.guard.acted()
        self._put_back()
        return True

    def _diagnosis(self, verdict: Verdict) -> str:
        training, hardness = self.config.training, self.config.hardness
        after = f" after {self.num_actions - 1} corrections" if self.num_actions > 1 else ""
        return (
            f"training: collapsed at step {self.stepper.step} of {self.stepper.num_steps}{after}: {verdict.cause}; "
            f"lower training.learning_rate ({training.learning_rate:.2g}) or hardness.cap ({hardness.cap:.2g}), use "
            "hardness.curve closed-loop or loss.name infonce, or let the guard correct it (guard.action "
            "lower-hardness, cut-rate or roll-back); guard.enabled false trains on regardless"
        )

    def _put_back(self) -> None:
        """Make what the segment has not trained on wait again, as a segment of its own."""
        assert self.segment is not None
        assert self.planned is not None
        plan, segment = self.planned.plan, self.segment
        if self.ahead is not None:  # planned by a network that is no longer trusted
            self.ahead.result()
            self.ahead = None
        self.plans[-1] = plan.take(slice(0, self.row))
        if self.folder is not None:
            self.plans[-1].save(self._plan_file())
        if self.row < len(plan):
            rest = plan.take(slice(self.row, None))
            # The plan may be in another order than the segment; the hardness asked for is in it before the factor.
            asked = rest.hardness.astype(np.float64) / segment.hardness_factor
            self.waiting.appendleft(
                Segment(
                    number=0,
                    first=segment.first + self.row,
                    anchor_K=rest.anchor,
                    positive_K=rest.positive,
                    origin_K=rest.positive_origin,
                    hardness_K=np.clip(asked, 0.0, 1.0),
                )
            )
        self.stepper.num_steps = self.stepper.step + self._steps_left()

    def _plan(self, planner: Planner, segment: Segment, embedder: Embedder) -> Planned:
        try:
            with self.stepper.autocast():
                return planner.plan(segment, embedder, self.controller)
        except TrainingError as error:
            raise self.stepper.broken(error.problems[0]) from None

    def _look_ahead(self, weights: dict[str, Any] | None = None) -> None:
        """Begin to plan the next segment by a copy of the network as it is now (or was, after a resume)."""
        if not self.config.training.overlap or not self.waiting:
            return
        network = deepcopy(self.embedder)
        if weights is not None:
            network.load_state_dict(weights)
        self.ahead_weights = {name: value.detach().to("cpu", copy=True) for name, value in network.state_dict().items()}
        following = replace(self.waiting[0], number=self.num_plans, hardness_factor=self.hardness_factor)
        pool = ThreadPoolExecutor(1)
        self.ahead = pool.submit(self._plan, self.planner_ahead, following, network)
        pool.shutdown(wait=False)  # the future is what is waited for

    def _steps_left(self) -> int:
        size = self.config.training.batch_triplets
        return sum(len(batch_slices(len(segment.anchor_K), size)) for segment in self.waiting)

    def _plan_file(self) -> Path:
        assert self.folder is not None
        assert self.segment is not None
        return self.folder.path / "plans" / f"segment-{self.segment.number:03d}.parquet"

    def _save(self) -> None:
        """Write a checkpoint, if there is a folder: after each segment's plan, and from time to time."""
        self.saved_at = time.monotonic()
        if self.folder is None or self.segment is None or self.planned is None:
            return
        tensors = self.stepper.state()
        if self.before is not None:
            tensors["before"] = self.before
        if self.start is not None:
            tensors["start"] = self.start
        if self.ahead is not None:
            tensors["ahead"] = self.ahead_weights
        control = self.planned.control
        values = {
            "segment": {
                "number": self.segment.number,
                "first": self.segment.first,
                "hardness_factor": self.segment.hardness_factor,
                "row": self.row,
                "plan_sha256": sha256_file(self._plan_file()),
                "health": asdict(self.planned.health),
                "control": None if control is None else asdict(control),
                "num_dropped": self.num_dropped,
                "active": self.active,
                "embed_s": self.planned.embed_s,
                "mine_s": self.planned.mine_s,
                "train_s": self.segment_train_s,
            },
            "num_waiting": len(self.waiting),
            "num_steps": self.stepper.num_steps,
            "num_plans": self.num_plans,
            "num_actions": self.num_actions,
            "hardness_factor": self.hardness_factor,
            "rate_scale": self.stepper.rate_scale,
            "triplets": self.triplets,
            "pictures": self.pictures,
            "seconds": self.seconds,
            "guard": self.guard.state(),
            # What is planned ahead decides again after a resume, from the state before it did.
            "controller": self.control_state,
            "log_bytes": 0 if self.folder.log is None else self.folder.log.num_bytes(),
            "review_bytes": review_bytes(self.folder.path / "review.csv"),
            "num_threads": torch.get_num_threads(),
        }
        save_checkpoint(self.folder.path / "checkpoints", Checkpoint(self.stepper.step, tensors, values))

    def restore(self, checkpoint: Checkpoint, folder: Folder) -> None:
        """Take the run up where a checkpoint left it; every process reads, the first one cuts what came after."""
        values, place = checkpoint.values, checkpoint.values["segment"]
        self.stepper.restore(checkpoint.tensors)
        self.stepper.step, self.stepper.num_steps = checkpoint.step, values["num_steps"]
        self.stepper.rate_scale, self.hardness_factor = values["rate_scale"], values["hardness_factor"]
        self.num_plans, self.num_actions = values["num_plans"], values["num_actions"]
        self.triplets, self.pictures, self.seconds = values["triplets"], values["pictures"], dict(values["seconds"])
        self.guard.restore(values["guard"])
        if self.controller is not None:
            self.control_state = values["controller"]
            self.controller.restore(values["controller"])
        self.before, self.start = checkpoint.tensors.get("before"), checkpoint.tensors.get("start")
        while len(self.waiting) > values["num_waiting"]:
            self.waiting.popleft()
        none = np.empty(0, dtype=np.int64)
        self.segment = Segment(
            place["number"], place["first"], none, none, none.astype(np.uint8), none.astype(float),
            place["hardness_factor"],
        )  # fmt: skip
        plans = folder.path / "plans"
        file = plans / f"segment-{place['number']:03d}.parquet"
        if not file.is_file() or sha256_file(file) != place["plan_sha256"]:
            raise InputError(f"{file}: not the plan that the checkpoint belongs to; train again into another folder")
        self.plans = [TripletPlan.load(plans / f"segment-{number:03d}.parquet") for number in range(self.num_plans)]
        nothing = Dropped(none, none, none.astype(np.float32), none.astype(np.float32))
        control = None if place["control"] is None else Control(**place["control"])
        self.planned = Planned(
            self.plans[-1], BankHealth(**place["health"]), control, nothing, place["embed_s"], place["mine_s"]
        )
        self.row, self.active, self.num_dropped = place["row"], list(place["active"]), place["num_dropped"]
        self.segment_train_s = place["train_s"]
        if self.folder is not None and self.folder.log is not None:
            self.folder.log.cut(values["log_bytes"])
            cut_review(self.folder.path / "review.csv", values["review_bytes"])
        self._look_ahead(checkpoint.tensors.get("ahead"))


def _margin_is_mined(config: RunConfig) -> bool:
    """Return whether mining reads the loss's margin and power, whatever the loss."""
    hardness = config.hardness
    return hardness.scale == "margin" or hardness.curve == "closed-loop" or config.negatives.min_distance_ratio > 0


def _all_segments(dataset: Dataset, config: RunConfig) -> list[Segment]:
    """Return the whole run: who is anchor when, with which positive, at which hardness."""
    training, labels = config.training, dataset.labels
    class_N = dataset.labels_id
    catalog_N = dataset.roles == "catalog"
    # Catalog pictures are anchors only in classes that have nothing else.
    anchor_N = ~catalog_N | ~np.isin(class_N, class_N[~catalog_N])
    sample_items = np.flatnonzero(anchor_N)
    anchor_T = sample_items[anchor_sequence(labels[sample_items], training.num_triplets, seed=config.seed)]
    positive_T, origin_T = choose_positives(
        labels, anchor_T, seed=config.seed, catalog_N=catalog_N, prefer=training.prefer_positive
    )
    hardness_T = schedule(config.hardness.build(), training.num_triplets)
    segments = []
    for start, stop in segment_bounds(training.num_triplets, training.num_segments, config.hardness.cycles):
        part = slice(start, stop)
        segments.append(Segment(0, start, anchor_T[part], positive_T[part], origin_T[part], hardness_T[part]))
    return segments
