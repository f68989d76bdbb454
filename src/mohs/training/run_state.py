"""A run while it lasts: where it is in the sequence of triplets, and what was changed on the way."""

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import torch

from mohs.artefacts import EventLog
from mohs.config import RunConfig
from mohs.data.dataset import Dataset
from mohs.errors import TrainingError
from mohs.model.embedder import Embedder
from mohs.plan import TripletPlan
from mohs.training.batches import batch_slices
from mohs.training.controller import HardnessController
from mohs.training.events import Event, Listener, as_record
from mohs.training.guard import BankHealth, CollapseGuard
from mohs.training.losses import Loss
from mohs.training.memory import Memory
from mohs.training.planning import Planned, Planner, Segment
from mohs.training.processes import Processes
from mohs.training.segments import all_segments
from mohs.training.steps import Stepper

__all__ = ["Folder", "RunState"]


@final
@dataclass(frozen=True)
class Folder:
    """Where a run leaves its files: `plans/`, `checkpoints/`, `review.csv`, and events in a log that is open.

    Processes other than the first one read there, and have no log.
    """

    path: Path
    log: EventLog | None


@final
class RunState:
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
        self.device = device
        self.peers = peers
        self.listeners = listeners
        self.folder = folder if peers.is_first else None
        self.planner = Planner(dataset, config, peers)
        self.stepper = Stepper(embedder, dataset, config, loss, device, peers, self.planner.distrusted_P2)
        self.guard = CollapseGuard()
        by_margin = config.loss.name in ("triplet", "semi-hard", "contrastive")
        self.controller = (
            HardnessController(config.hardness, margin=config.loss.margin if by_margin else 0.0)
            if config.hardness.curve == "closed-loop"
            else None
        )
        self.waiting = deque(all_segments(dataset, config))
        self.stepper.num_steps = self.steps_left()
        self.segment: Segment | None = None
        self.planned: Planned | None = None
        self.row = 0  # triplets of the segment that have been trained on
        self.active: list[float] = []  # of the segment's steps
        self.ahead: Future[Planned] | None = None
        self.ahead_state: dict[str, Any] | None = None  # what is planned ahead is planned from, and may be gone back to
        self.ahead_memory: dict[str, Any] = {}  # what guard and controller knew then
        self.ahead_step = 0  # steps taken by then
        self.before: dict[str, Any] | None = None  # the last state in which the bank was healthy
        self.start: dict[str, Any] | None = None  # the weights to be blended with those at the end
        self.before_memory: dict[str, Any] = {}  # what guard and controller knew then
        self.rolled_back = False  # in this segment
        self.num_plans = 0
        self.num_dropped = 0
        self.control_state: dict[str, Any] | None = None
        self.num_actions = 0
        self.hardness_factor = 1.0
        self.triplets = 0
        self.pictures = 0
        self.num_kept_apart = 0
        self.seconds = {"embed": 0.0, "mine": 0.0, "train": 0.0}
        self.segment_train_s = 0.0
        self.saved_at = time.monotonic()
        self.plans: list[TripletPlan] = []

    def emit(self, event: Event) -> None:
        """Write an event to the log and tell the listeners."""
        if self.folder is not None and self.folder.log is not None:
            self.folder.log.write(*as_record(event))
        for listener in self.listeners:
            listener(event)

    def keep_start(self) -> None:
        """Keep the weights as they are now, if a share of them is wanted at the end."""
        if self.config.finetune.trained_share < 1.0:
            state = self.embedder.state_dict()
            self.start = {name: value.detach().to("cpu", copy=True) for name, value in state.items()}

    def begin_memory(self) -> None:
        """Give the stepper a memory, if there is to be one, whose encoder begins as the network is now."""
        if self.config.memory.num_negatives:
            planner = self.planner
            self.stepper.memory = Memory(
                self.embedder,
                self.dataset.labels_id,
                planner.distrusted_P2,
                self.config,
                self.device,
                planner.negative_N,
            )

    def make_plan(self, segment: Segment, embedder: Embedder) -> Planned:
        """Return the plan of a segment by this network."""
        try:
            with self.stepper.autocast():
                return self.planner.plan(segment, embedder, self.controller)
        except TrainingError as error:
            raise self.stepper.broken(error.problems[0]) from None

    def look(self, plan: TripletPlan) -> BankHealth:
        """Return the health of the network on the items of a plan."""
        try:
            with self.stepper.autocast():
                return self.planner.look(plan, self.embedder)
        except TrainingError as error:
            raise self.stepper.broken(error.problems[0]) from None

    def look_ahead(self, *, resumed: bool = False) -> None:
        """Begin to plan the next segment by a copy of the network as it is now (or was, where a run is taken up)."""
        if not self.config.training.overlap or not self.waiting:
            return
        network = deepcopy(self.embedder)
        if resumed:
            assert self.ahead_state is not None
            network.load_state_dict(self.ahead_state["embedder"])
        else:
            self.ahead_step, self.ahead_state = self.stepper.step, self.stepper.state()
            self.ahead_memory = self.memory_of_now()
        following = replace(self.waiting[0], number=self.num_plans, hardness_factor=self.hardness_factor)
        pool = ThreadPoolExecutor(1)
        self.ahead = pool.submit(self.make_plan, following, network)
        pool.shutdown(wait=False)  # the future is what is waited for

    def memory_of_now(self) -> dict[str, Any]:
        """Return what guard and controller know, as JSON."""
        controller = None if self.controller is None else self.controller.state()
        return {"guard": self.guard.state(), "controller": controller}

    def steps_left(self) -> int:
        """Return the steps of the segments that wait."""
        size = self.config.training.batch_triplets
        return sum(len(batch_slices(len(segment.anchor_K), size)) for segment in self.waiting)

    def plan_file(self) -> Path:
        """Return where the plan of the segment lies."""
        assert self.folder is not None
        assert self.segment is not None
        return self.folder.path / "plans" / f"segment-{self.segment.number:03d}.parquet"
