"""What a checkpoint holds of a run, and how a run is taken up from it."""

import time
import warnings
from dataclasses import asdict

import numpy as np
import torch

from mohs.artefacts import fingerprint, sha256_file
from mohs.errors import InputError
from mohs.plan import TripletPlan
from mohs.training.checkpoint import Checkpoint, save_checkpoint
from mohs.training.controller import Control
from mohs.training.false_negatives import Dropped, cut_review, review_bytes
from mohs.training.guard import BankHealth
from mohs.training.planning import Planned, Segment
from mohs.training.run_state import Folder, RunState

__all__ = ["restore_run", "save_run"]


def save_run(run: RunState) -> None:
    """Write a checkpoint, if there is a folder: after each segment's plan, and from time to time."""
    run.saved_at = time.monotonic()
    if run.folder is None or run.segment is None or run.planned is None:
        return
    tensors = run.stepper.state()
    if run.before is not None:
        tensors["before"] = run.before
    if run.start is not None:
        tensors["start"] = run.start
    if run.ahead is not None:
        tensors["ahead"] = run.ahead_state
    control = run.planned.control
    values = {
        "segment": {
            "number": run.segment.number,
            "first": run.segment.first,
            "hardness_factor": run.segment.hardness_factor,
            "row": run.row,
            "plan_sha256": sha256_file(run.plan_file()),
            "health": asdict(run.planned.health),
            "control": None if control is None else asdict(control),
            "num_dropped": run.num_dropped,
            "active": run.active,
            "embed_s": run.planned.embed_s,
            "mine_s": run.planned.mine_s,
            "train_s": run.segment_train_s,
        },
        "num_waiting": len(run.waiting),
        "num_steps": run.stepper.num_steps,
        "num_plans": run.num_plans,
        "num_actions": run.num_actions,
        "ahead_step": run.ahead_step,
        "ahead_memory": run.ahead_memory,
        "hardness_factor": run.hardness_factor,
        "rate_scale": run.stepper.rate_scale,
        "ramp_from": run.stepper.ramp_from,
        "before": run.before_memory,
        "triplets": run.triplets,
        "pictures": run.pictures,
        "num_kept_apart": run.num_kept_apart,
        "seconds": run.seconds,
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
        raise InputError(
            "negatives: the pairs that may not be anchor and negative are not those that the run began with: equal "
            f"pictures or the review list ({run.config.negatives.review_list}) have changed; restore them, or train "
            "into another folder"
        )
    if torch.get_num_threads() != values["num_threads"]:
        warnings.warn(
            f"training: the run was begun with {values['num_threads']} threads and goes on with "
            f"{torch.get_num_threads()}; its weights will not be those of a run that was never stopped, bit for bit",
            stacklevel=2,
        )
    run.stepper.restore(checkpoint.tensors)
    run.stepper.step, run.stepper.num_steps = checkpoint.step, values["num_steps"]
    run.stepper.rate_scale, run.stepper.ramp_from = values["rate_scale"], values["ramp_from"]
    run.hardness_factor = values["hardness_factor"]
    run.num_plans, run.num_actions = values["num_plans"], values["num_actions"]
    run.triplets, run.pictures, run.seconds = values["triplets"], values["pictures"], dict(values["seconds"])
    run.num_kept_apart = values.get("num_kept_apart", 0)  # checkpoints of this format once had none
    run.guard.restore(values["guard"])
    if run.controller is not None:
        run.control_state = values["controller"]
        run.controller.restore(values["controller"])
    run.start = checkpoint.tensors.get("start")
    run.before, run.before_memory = checkpoint.tensors.get("before"), values["before"]
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
        raise InputError(f"{file}: not the plan that the checkpoint belongs to; train again into another folder")
    run.plans = [TripletPlan.load(plans / f"segment-{number:03d}.parquet") for number in range(run.num_plans)]
    nothing = Dropped(none, none, none.astype(np.float32), none.astype(np.float32))
    control = None if place["control"] is None else Control(**place["control"])
    run.planned = Planned(
        run.plans[-1], BankHealth(**place["health"]), control, nothing, place["embed_s"], place["mine_s"]
    )
    run.row, run.active, run.num_dropped = place["row"], list(place["active"]), place["num_dropped"]
    run.segment_train_s = place["train_s"]
    if run.folder is not None and run.folder.log is not None:
        run.folder.log.cut(values["log_bytes"])
        cut_review(run.folder.path / "review.csv", values["review_bytes"])
    run.ahead_step, run.ahead_memory = values["ahead_step"], values["ahead_memory"]
    run.ahead_state = checkpoint.tensors.get("ahead")
    run.look_ahead(resumed=True)
