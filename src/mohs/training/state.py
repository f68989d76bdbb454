"""The state of a run: where it is, what the guard has changed, how it is saved and taken up again."""

import time
import warnings
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar, final

import numpy as np
import torch

from mohs.artefacts import EventLog, fingerprint, sha256_file
from mohs.data.dataset import Dataset
from mohs.errors import InputError, Problem, TrainingError
from mohs.model.embedder import Embedder
from mohs.plan import TripletPlan
from mohs.settings.config import RunConfig
from mohs.training.checkpoint import Checkpoint, save_checkpoint
from mohs.training.closed_loop import Control, HardnessController
from mohs.training.events import Event, Listener, as_record
from mohs.training.false_negatives import Dropped, cut_review, review_bytes
from mohs.training.guard import BankHealth, CollapseGuard
from mohs.training.held_out import Best, copied_weights
from mohs.training.last_seen import Seen
from mohs.training.losses.protocol import Loss
from mohs.training.negative_bank import NegativeBank
from mohs.training.plan_segment import Planned, Planner, Segment, all_segments, batch_slices
from mohs.training.processes import Processes
from mohs.training.step import Pace, Stepper

__all__ = [
    "Folder",
    "Moment",
    "RunState",
    "restore_run",
    "save_run",
]


_Kept = TypeVar("_Kept", "Tally", "InSegment", Pace, Best)


@final
@dataclass(frozen=True)
class Folder:
    """Where a run leaves its files: `plans/`, `checkpoints/`, `review.csv`, and events in a log that is open.

    Processes other than the first one read there, and have no log. `resume` is the checkpoint, of the same run, that it
    goes on from, if it is not to begin.
    """

    path: Path
    log: EventLog | None
    resume: Checkpoint | None = None


@final
@dataclass
class Tally:
    """What a run has done so far, and what the guard has left of its hardness; saved under these names."""

    triplets: int = 0
    pictures: int = 0
    num_kept_apart: int = 0
    num_plans: int = 0
    num_actions: int = 0
    hardness_factor: float = 1.0
    seconds: dict[str, float] = field(default_factory=lambda: {"embed": 0.0, "mine": 0.0, "train": 0.0})


@final
@dataclass
class InSegment:
    """What a run has done of its segment: triplets trained on, active shares of its steps; saved under these names."""

    row: int = 0
    active: list[float] = field(default_factory=list)
    num_dropped: int = 0
    train_s: float = 0.0


@final
@dataclass(frozen=True, eq=False)
class Moment:
    """A state to plan from or to go back to: the stepper's tensors, what guard and controller knew, steps taken.

    `seen` is what training had shown of the segment that is planned from it.
    """

    tensors: dict[str, Any] | None = None
    known: dict[str, Any] = field(default_factory=dict)
    step: int = 0
    seen: Seen | None = None


@final
class RunState:
    """The state of one run: where it is in the sequence of triplets, and what the guard has changed.

    Attributes:
        tally, here: what has been done, of the run and of its segment.
        waiting: the segments that are still to be planned.
        segment, planned: the one that is trained on, and its plan.
        plans: those of all segments so far.
        control_state: what the controller knew before it planned ahead.
        ahead, ahead_from: the plan of the next segment, while it is made, and what it is made from.
        before: the last state in which the bank was healthy.
        start: the weights to be blended with those at the end.
        best, best_weights: the best measurement on held-out classes, and the network at it, with early stopping.
        rolled_back: whether the guard went back in this segment.
    """

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
        has_margin = config.loss.record.margin is not None
        self.controller = (
            HardnessController(config.asked_hardness, margin=config.loss.margin if has_margin else 0.0)
            if config.hardness.curve == "closed-loop"
            else None
        )
        self.waiting = deque(all_segments(dataset, config))
        self.stepper.pace.num_steps = self.steps_left()
        self.tally, self.here = Tally(), InSegment()
        self.segment: Segment | None = None
        self.planned: Planned | None = None
        self.plans: list[TripletPlan] = []
        self.control_state: dict[str, Any] | None = None
        self.ahead: Future[Planned] | None = None
        self.ahead_from = Moment()
        self.before = Moment()
        self.start: dict[str, Any] | None = None
        self.best = Best()
        self.best_weights: dict[str, Any] | None = None
        self.rolled_back = False
        self.saved_at = time.monotonic()

    def emit(self, event: Event) -> None:
        """Write an event to the log and tell the listeners."""
        if self.folder is not None and self.folder.log is not None:
            self.folder.log.write(*as_record(event))
        for listener in self.listeners:
            listener(event)

    def keep_start(self) -> None:
        """Keep the weights as they are now, if a share of them is wanted at the end."""
        if self.config.finetune.trained_share < 1.0:
            self.start = copied_weights(self.embedder)

    def begin_negative_bank(self) -> None:
        """Give the stepper a bank of negatives, if there is to be one, whose encoder begins as the network is now."""
        if self.config.num_bank_negatives:
            class_N, planner = self.dataset.labels_id, self.planner
            self.stepper.negative_bank = NegativeBank(
                self.embedder, class_N, planner.distrusted_P2, self.config, self.device, planner.negative_N
            )

    def seen(self, segment: Segment) -> Seen | None:
        """Return what training has shown of a segment; None where its pictures are embedded anew."""
        if self.stepper.last_seen is None:
            return None
        return self.stepper.last_seen.of(self.planner.items(segment))

    def make_plan(self, segment: Segment, embedder: Embedder, seen: Seen | None) -> Planned:
        """Return the plan of a segment by this network, and by what training has shown of it."""
        try:
            with self.stepper.descent.autocast():
                return self.planner.plan(segment, embedder, self.controller, seen)
        except TrainingError as error:
            raise self.stepper.broken(error.problems[0]) from None

    def look(self, plan: TripletPlan) -> BankHealth:
        """Return the health of the network on the items of a plan."""
        try:
            with self.stepper.descent.autocast():
                return self.planner.look(plan, self.embedder)
        except TrainingError as error:
            raise self.stepper.broken(error.problems[0]) from None

    def look_ahead(self, *, resumed: bool = False) -> None:
        """Begin to plan the next segment by a copy of the network as it is now (or was, where a run is taken up)."""
        if not self.config.training.overlap or not self.waiting:
            return
        network = deepcopy(self.embedder)
        following = self.numbered(self.waiting[0])
        if resumed:
            assert self.ahead_from.tensors is not None
            network.load_state_dict(self.ahead_from.tensors["embedder"])
        else:
            self.ahead_from = replace(self.now(), seen=self.seen(following))
        pool = ThreadPoolExecutor(1)
        self.ahead = pool.submit(self.make_plan, following, network, _copy_of(self.ahead_from.seen))
        pool.shutdown(wait=False)  # the future is what is waited for

    def now(self) -> Moment:
        """Return the state as it is, to be gone back to."""
        controller = None if self.controller is None else self.controller.state()
        return Moment(self.stepper.state(), {"guard": self.guard.state(), "controller": controller}, self.stepper.step)

    def numbered(self, segment: Segment) -> Segment:
        """Return a segment that waited as the next one to be planned."""
        return replace(segment, number=self.tally.num_plans, hardness_factor=self.tally.hardness_factor)

    def steps_left(self) -> int:
        """Return the steps of the segments that wait."""
        size = self.config.training.batch_triplets
        return sum(len(batch_slices(len(segment.anchor_K), size)) for segment in self.waiting)

    def plan_file(self) -> Path:
        """Return where the plan of the segment lies."""
        assert self.folder is not None
        assert self.segment is not None
        return self.folder.path / "plans" / f"segment-{self.segment.number:03d}.parquet"


def save_run(run: RunState) -> None:
    """Write a checkpoint, if there is a folder: after each segment's plan, and from time to time."""
    run.saved_at = time.monotonic()
    if run.folder is None or run.segment is None or run.planned is None:
        return
    tensors = run.stepper.state()
    others = {
        "before": run.before.tensors,
        "start": run.start,
        "best": run.best_weights,
        "ahead": run.ahead and run.ahead_from.tensors,
    }
    if run.stepper.last_seen is not None:
        others["last_seen"] = run.stepper.last_seen.state()
    if run.ahead and run.ahead_from.seen is not None:
        seen = run.ahead_from.seen
        others["ahead_seen"] = {"x": torch.from_numpy(seen.x_MD), "known": torch.from_numpy(seen.known_M)}
    tensors |= {name: other for name, other in others.items() if other is not None}
    control = run.planned.control
    values = {
        "segment": {
            **asdict(run.here),
            "number": run.segment.number,
            "first": run.segment.first,
            "hardness_factor": run.segment.hardness_factor,
            "plan_sha256": sha256_file(run.plan_file()),
            "health": asdict(run.planned.health),
            "control": None if control is None else asdict(control),
            "embed_s": run.planned.embed_s,
            "mine_s": run.planned.mine_s,
        },
        **asdict(run.tally),
        **asdict(run.stepper.pace),
        "num_waiting": len(run.waiting),
        "ahead_step": run.ahead_from.step,
        "ahead_memory": run.ahead_from.known,
        "before": run.before.known,
        "best": asdict(run.best),
        "guard": run.guard.state(),
        # What is planned ahead decides again after a resume, from the state before it did.
        "controller": run.control_state,
        "log_bytes": 0 if run.folder.log is None else run.folder.log.num_bytes(),
        "review_bytes": review_bytes(run.folder.path / "review.csv"),
        "num_threads": torch.get_num_threads(),
        "distrusted": fingerprint(run.planner.distrusted_P2),
    }
    save_checkpoint(run.folder.path / "checkpoints", Checkpoint(run.stepper.step, tensors, values))


def restore_run(run: RunState, checkpoint: Checkpoint, folder: Folder) -> None:
    """Take the run up where a checkpoint left it; every process reads, the first one cuts what came after."""
    values, place = checkpoint.values, checkpoint.values["segment"]
    if fingerprint(run.planner.distrusted_P2) != values["distrusted"]:
        what = (
            "the pairs that may not be anchor and negative are not those that the run began with: equal "
            f"pictures or the review list ({run.config.negatives.review_list}) have changed"
        )
        raise InputError(Problem("negatives", what, "restore them, or train into another folder"))
    if torch.get_num_threads() != values["num_threads"]:
        warnings.warn(
            f"training: the run was begun with {values['num_threads']} threads and goes on with "
            f"{torch.get_num_threads()}; its weights will not be those of a run that was never stopped, bit for bit",
            stacklevel=2,
        )
    tensors = checkpoint.tensors
    run.stepper.restore(tensors)
    run.stepper.step, run.stepper.pace = checkpoint.step, _read(Pace, values)
    run.tally, run.here = _read(Tally, values), _read(InSegment, place)
    run.guard.restore(values["guard"])
    if run.controller is not None:
        run.control_state = values["controller"]
        run.controller.restore(values["controller"])
    run.start = tensors.get("start")
    run.best, run.best_weights = _read(Best, values.get("best", {})), tensors.get("best")
    run.before = Moment(tensors.get("before"), values["before"])
    if run.stepper.last_seen is not None:
        run.stepper.last_seen.restore(tensors["last_seen"])
    seen = tensors.get("ahead_seen")
    ahead_seen = None if seen is None else Seen(seen["x"].numpy(), seen["known"].numpy())
    run.ahead_from = Moment(tensors.get("ahead"), values["ahead_memory"], values["ahead_step"], ahead_seen)
    while len(run.waiting) > values["num_waiting"]:
        run.waiting.popleft()
    none = np.empty(0, dtype=np.int64)
    run.segment = Segment(
        place["number"], place["first"], none, none, none.astype(np.uint8), none.astype(float),
        place["hardness_factor"],
    )  # fmt: skip
    plans = folder.path / "plans"
    file = plans / f"segment-{place['number']:03d}.parquet"
    if not file.is_file() or sha256_file(file) != place["plan_sha256"]:
        raise InputError(
            Problem(str(file), "not the plan that the checkpoint belongs to", "train again into another folder")
        )
    run.plans = [TripletPlan.load(plans / f"segment-{number:03d}.parquet") for number in range(run.tally.num_plans)]
    nothing = Dropped(none, none, none.astype(np.float32), none.astype(np.float32))
    control = None if place["control"] is None else Control(**place["control"])
    run.planned = Planned(
        run.plans[-1], BankHealth(**place["health"]), control, nothing, place["embed_s"], place["mine_s"]
    )
    if run.folder is not None and run.folder.log is not None:
        run.folder.log.cut(values["log_bytes"])
        cut_review(run.folder.path / "review.csv", values["review_bytes"])
    run.look_ahead(resumed=True)


def _copy_of(seen: Seen | None) -> Seen | None:
    return None if seen is None else Seen(seen.x_MD.copy(), seen.known_M.copy())


def _read(kind: type[_Kept], values: Mapping[str, Any]) -> _Kept:
    """Return a record from the values of its names; what older checkpoints have none of is as at the start."""
    return kind(**{one.name: values[one.name] for one in fields(kind) if one.name in values})
