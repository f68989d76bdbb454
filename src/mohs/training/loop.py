"""The loop of a run: plan a segment, train on it, and do what the guard's verdicts bring."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from mohs.data.dataset import Dataset
from mohs.errors import InputError, TrainingError
from mohs.mining import compile_kernels
from mohs.model.embedder import Embedder
from mohs.plan import TripletPlan
from mohs.settings.config import RunConfig
from mohs.training.class_warm_up import warm_up
from mohs.training.events import GuardEvent, Listener, SegmentEvent
from mohs.training.false_negatives import append_review
from mohs.training.guard import StepHealth, Verdict
from mohs.training.head_start import blend_weights, start_head
from mohs.training.held_out import HeldOut, check_early_stopping, look_at_held_out, take_best
from mohs.training.interruption import Interruption
from mohs.training.losses.build import build_loss, check_kept_apart
from mohs.training.losses.protocol import Loss
from mohs.training.negative_bank import check_negative_bank
from mohs.training.plan_segment import Segment, batch_slices
from mohs.training.processes import Processes, choose_device
from mohs.training.shared_batch_norm import share_batch_norms
from mohs.training.state import Folder, InSegment, RunState, restore_run, save_run
from mohs.training.whitening import whiten_head

__all__ = ["FitResult", "Folder", "act_on", "fit", "remember"]


_LOWER_HARDNESS, _CUT_RATE = 0.5, 0.3
_POINTS_PER_SEGMENT = 200
_BATCHES_AHEAD = 2
"""Their pictures are read while a step is taken, where they stay in their file."""


def act_on(run: RunState, verdict: Verdict, *, at_end: bool = False) -> bool:
    """Do what the settings say; return whether the rest of the segment must be planned again.

    At the end of the run only going back and stopping are left: no step would be taken at a lower rate or hardness.
    """
    action = run.config.guard.action if verdict.level == "collapse" else "warn"
    if at_end and action in ("lower-hardness", "cut-rate"):
        action = "stop"
    if action != "warn":
        run.tally.num_actions += 1
        if run.tally.num_actions > run.config.guard.max_actions:
            action = "stop"
    run.emit(
        GuardEvent(
            step=run.stepper.step,
            triplets=run.tally.triplets,
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
        raise TrainingError(_diagnosis(run, verdict))
    if action != "lower-hardness":
        run.stepper.pace.rate_scale *= _CUT_RATE
    if action == "cut-rate":
        run.guard.acted()
        return False
    run.tally.hardness_factor *= _LOWER_HARDNESS
    _put_back(run)
    if action == "roll-back" and run.before.tensors is not None:
        _go_back(run, run.before.tensors)
    else:
        run.guard.acted()
    return True


def remember(run: RunState, *, ahead: bool) -> None:
    """Keep a state to go back to, if the bank is healthy; the closed loop earns its hardness back.

    It is the state that the bank is of: with a plan made `ahead` the one of a segment ago, for what the network has
    become since, no bank has shown.
    """
    if not run.config.guard.enabled or not run.guard.bank_is_healthy:
        return
    if run.controller is not None:
        run.tally.hardness_factor = min(1.0, run.tally.hardness_factor / _LOWER_HARDNESS)
    if run.config.guard.action == "roll-back":
        run.before = run.ahead_from if ahead else run.now()


def _go_back(run: RunState, before: dict[str, Any]) -> None:
    """Take up the last healthy state. What guard and loop have seen since is of another network: it is forgotten."""
    run.stepper.restore(before)
    if run.stepper.last_seen is not None:
        run.stepper.last_seen.forget()
    run.stepper.ramp_again()
    run.guard.restore(run.before.known["guard"])
    if run.controller is not None:
        run.controller.restore(run.before.known["controller"])
    run.rolled_back = True


def _diagnosis(run: RunState, verdict: Verdict) -> str:
    training, hardness = run.config.training, run.config.asked_hardness
    after = f" after {run.tally.num_actions - 1} corrections" if run.tally.num_actions > 1 else ""
    return (
        f"training: collapsed at step {run.stepper.step} of {run.stepper.pace.num_steps}{after}: {verdict.cause}; "
        f"lower training.learning_rate ({training.learning_rate:.2g}) or hardness.cap ({hardness.cap:.2g}), use "
        "hardness.curve closed-loop or loss.name infonce, or let the guard correct it (guard.action "
        "lower-hardness, cut-rate or roll-back); guard.enabled false trains on regardless"
    )


def _put_back(run: RunState) -> None:
    """Make what the segment has not trained on wait again, as a segment of its own."""
    assert run.segment is not None
    assert run.planned is not None
    plan, segment = run.planned.plan, run.segment
    if run.ahead is not None:  # planned by a network that is no longer trusted
        run.ahead.result()
        run.ahead = None
    run.plans[-1] = plan.take(slice(0, run.here.row))
    if run.folder is not None:
        run.plans[-1].save(run.plan_file())
    if run.here.row < len(plan):
        rest = plan.take(slice(run.here.row, None))
        # The plan may be in another order than the segment; the hardness asked for is in it before the factor.
        asked = rest.hardness.astype(np.float64) / segment.hardness_factor
        run.waiting.appendleft(
            Segment(
                number=0,
                first=segment.first + run.here.row,
                anchor_K=rest.anchor,
                positive_K=rest.positive,
                origin_K=rest.positive_origin,
                hardness_K=np.clip(asked, 0.0, 1.0),
            )
        )
    run.stepper.pace.num_steps = run.stepper.step + run.steps_left()


@final
@dataclass(frozen=True)
class FitResult:
    """What a run cost and saw. `plans` are the segments' plans that this process trained on, in order.

    `num_kept_apart` counts pairs of pictures that met in a batch and were not taken for negatives. `best_triplets` were
    trained on when held-out classes were found best, and the network is as it then was; None without early stopping.
    """

    plans: tuple[TripletPlan, ...]
    num_steps: int
    num_triplets: int
    num_pictures: int
    num_kept_apart: int
    embed_s: float
    mine_s: float
    train_s: float
    best_triplets: int | None = None
    best_recall: float | None = None
    stopped_early: bool = False


def fit(
    embedder: Embedder,
    dataset: Dataset,
    config: RunConfig,
    *,
    listeners: Sequence[Listener] = (),
    folder: Folder | None = None,
    loss: Loss | None = None,
    peers: Processes | None = None,
    held_out: HeldOut | None = None,
) -> FitResult:
    """Train `embedder` in place on all items of `dataset` and return what it took.

    For each segment of K triplets: (1) embed the items that the segment may use, in evaluation mode, or for in-batch
    losses take what training steps last gave (`training.embed_anew`); (2) mine one negative per anchor at the hardness
    that the curve or the closed loop asks for (`plan_segment.py`); (3) train on the
    triplets in plan order, `batch_triplets` at a time (`step.py`), while the guard looks on (`guard.py`).

    Every random choice comes from `config.seed`; on the CPU the same inputs give the same weights for the same number
    of threads. `loss` takes the place of the one that `config.loss` names, which still says by its name whether the
    plan's negatives are shown. With a `folder`, events, plans, reviews and checkpoints go there; with its `resume` the
    run goes on from a checkpoint and ends with the same weights and plans, bit for bit. `held_out` pictures are
    embedded before the first segment and after each one. With `training.stop_after` they are needed, on every process,
    and decide when the run ends and which weights it has; else they change nothing.

    Raises `InputError` for fewer than two classes, or no held-out classes to stop by; `TrainingError` if numbers become
    NaN or Inf or if the guard stops a collapse.
    """
    labels = dataset.labels
    num_classes = len(np.unique(labels))
    if loss is not None and config.memory.num_negatives is None:
        # The usual bank has negatives for the loss that the settings name.
        config = config.model_copy(update={"memory": config.memory.model_copy(update={"num_negatives": 0})})
    config = config.for_classes(num_classes)
    if num_classes < 2:
        raise InputError(
            f"{dataset.table.source}: {num_classes} class to train on; similarity learning needs 2 or more"
        )
    check_early_stopping(config, held_out)
    peers = Processes() if peers is None else peers
    device = choose_device(config.training.device)
    embedder.to(device)
    if peers.launched:
        share_batch_norms(embedder)
    check_negative_bank(config, own_loss=loss is not None)
    if loss is None:
        loss = build_loss(
            config.loss,
            num_classes=num_classes,
            embedding_dim=config.model.embedding_dim,
            seed=config.seed,
            margin_is_mined=config.margin_is_mined,
        )
    check_kept_apart(dataset, config, loss)
    compile_kernels(config.hardness.scale)  # once after an installation; the seconds of mining leave it out
    run = RunState(embedder, dataset, config, loss, device, peers, listeners, folder)
    if folder is not None and folder.resume is not None:
        run.begin_negative_bank()
        restore_run(run, folder.resume, folder)
    else:
        if config.finetune.head != "random":
            start_head(embedder, dataset, peers, way=config.finetune.head, seed=config.seed)
        run.keep_start()
        warm_up(embedder, dataset, config, device, peers, emit=run.emit)
        run.begin_negative_bank()
        look_at_held_out(run, held_out)
        _begin_segment(run)
    with Interruption() as interruption:
        while run.segment is not None:
            is_whole = _train_segment(run, interruption)
            look_at_held_out(run, held_out, counts=is_whole)
            _begin_segment(run)
    run.stepper.check_weights()
    if config.training.stop_after is not None:
        take_best(run)
    if run.start is not None:
        blend_weights(embedder, run.start, config.finetune.trained_share)
    if config.whitens:
        whiten_head(embedder, dataset, peers, seed=config.seed)
    embedder.eval()
    return FitResult(
        tuple(run.plans),
        run.stepper.step,
        run.tally.triplets,
        run.tally.pictures,
        run.tally.num_kept_apart,
        run.tally.seconds["embed"],
        run.tally.seconds["mine"],
        run.tally.seconds["train"],
        None if run.best.recall is None else run.best.triplets,
        run.best.recall,
        run.best.stopped,
    )


def _begin_segment(run: RunState) -> None:
    """Plan the next segment, save where the run is, and begin to plan the one after if that is to overlap."""
    if not run.waiting:
        _look_at_the_end(run)
        run.segment = None
        return
    run.rolled_back = False
    run.segment = run.numbered(run.waiting.popleft())
    run.tally.num_plans += 1
    ahead, run.ahead = run.ahead, None
    run.planned = run.make_plan(run.segment, run.embedder, run.seen(run.segment)) if ahead is None else ahead.result()
    run.here = InSegment(num_dropped=len(run.planned.dropped.anchor_R))
    run.plans.append(run.planned.plan)
    run.tally.seconds["embed"] += run.planned.embed_s
    run.tally.seconds["mine"] += run.planned.mine_s
    if run.folder is not None:
        run.planned.plan.save(run.plan_file())
        append_review(run.folder.path / "review.csv", run.planned.dropped, run.dataset, run.segment.number)
    verdict = run.guard.after_bank(run.planned.health) if run.config.guard.enabled else None
    if verdict is not None and act_on(run, verdict):
        _begin_segment(run)
        return
    remember(run, ahead=ahead is not None)
    run.control_state = None if run.controller is None else run.controller.state()
    run.look_ahead()
    save_run(run)


def _train_segment(run: RunState, interruption: Interruption) -> bool:
    """Train on the plan from the row where it stands; return False where the guard corrected the run."""
    assert run.segment is not None
    assert run.planned is not None
    plan, is_whole = run.planned.plan, True
    pieces = batch_slices(len(plan), run.config.training.batch_triplets)
    pieces = [piece for piece in pieces if piece.start >= run.here.row]  # the others are before the checkpoint
    for piece in pieces[:_BATCHES_AHEAD]:
        run.stepper.announce(plan.take(piece))
    for number, piece in enumerate(pieces):
        for following in pieces[number + _BATCHES_AHEAD :][:1]:
            run.stepper.announce(plan.take(following))
        with interruption.held():
            batch = plan.take(piece)
            health = _train_step(run, batch)
            run.here.row = piece.stop
            verdict = run.guard.after_step(health) if run.config.guard.enabled else None
            # With a verdict an older checkpoint is taken up: the plan may be about to change.
            if interruption.is_asked and verdict is None:
                save_run(run)
        if verdict is not None and act_on(run, verdict):
            is_whole = False
            break
        if time.monotonic() - run.saved_at >= run.config.training.checkpoint_s and run.here.row < len(plan):
            save_run(run)
    _end_segment(run)
    return is_whole


def _train_step(run: RunState, batch: TripletPlan) -> StepHealth:
    """Take a step on these triplets, count and tell it, and return what the guard is to see."""
    run.stepper.begin(run.tally.triplets / run.config.training.length)
    stepped = run.stepper.train(batch)
    run.tally.triplets += len(batch)
    run.tally.pictures += stepped.num_pictures
    run.tally.num_kept_apart += stepped.num_kept_apart
    run.here.train_s += stepped.took_s
    run.here.active.append(stepped.health.active_fraction)
    run.emit(
        run.stepper.event(
            stepped, triplets=run.tally.triplets, pictures=run.tally.pictures, hardness=float(batch.hardness.mean())
        )
    )
    return stepped.health


def _end_segment(run: RunState) -> None:
    assert run.segment is not None
    assert run.planned is not None
    health, control = run.planned.health, run.planned.control
    plan = run.planned.plan.take(slice(0, run.here.row))  # what the guard broke off waits again, for another plan
    run.tally.seconds["train"] += run.here.train_s
    active = float(np.mean(run.here.active)) if run.here.active else 0.0
    if run.ahead is not None:
        run.ahead.result()  # what was planned ahead must not see what is observed now
    if run.controller is not None and run.here.active and not run.rolled_back:
        assert control is not None
        run.controller.observe(active, control)
    shown = np.unique(np.linspace(0, len(plan) - 1, min(_POINTS_PER_SEGMENT, len(plan))).astype(np.int64))
    run.emit(
        SegmentEvent(
            segment=run.segment.number,
            triplets=run.segment.first,
            triplet_index=tuple((run.segment.first + shown).tolist()),
            hardness_asked=tuple(np.round(plan.hardness[shown].astype(float), 5).tolist()),
            hardness_achieved=tuple(np.round(plan.achieved_hardness[shown].astype(float), 5).tolist()),
            anchor_positive_distance=float(plan.anchor_positive_distance.mean()),
            anchor_negative_distance=float(plan.anchor_negative_distance.mean()),
            spread=health.spread,
            effective_rank=health.effective_rank,
            recall=health.recall,
            num_queries=health.num_queries,
            active_fraction=active,
            control=None if control is None else control.as_record(),
            num_dropped=run.here.num_dropped,
            trainable=run.stepper.descent.trainable(),
            embed_s=run.planned.embed_s,
            mine_s=run.planned.mine_s,
            train_s=run.here.train_s,
        )
    )


def _look_at_the_end(run: RunState) -> None:
    """Judge the last weights, too: a run that ends in a collapse is corrected by going back, or stopped."""
    if not run.config.guard.enabled:
        return
    assert run.planned is not None
    run.stepper.check_weights()
    began = time.perf_counter()
    verdict = run.guard.after_bank(run.look(run.planned.plan))
    run.tally.seconds["embed"] += time.perf_counter() - began
    if verdict is not None:
        act_on(run, verdict, at_end=True)
