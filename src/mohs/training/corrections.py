"""What a verdict of the guard brings: an event, and what the settings say is to be done."""

from typing import Any

import numpy as np

from mohs.errors import TrainingError
from mohs.training.events import GuardEvent
from mohs.training.guard import Verdict
from mohs.training.planning import Segment
from mohs.training.run_state import RunState

__all__ = ["act_on", "remember"]

_LOWER_HARDNESS, _CUT_RATE = 0.5, 0.3


def act_on(run: RunState, verdict: Verdict) -> bool:
    """Do what the settings say; return whether the rest of the segment must be planned again."""
    action = run.config.guard.action if verdict.level == "collapse" else "warn"
    if action != "warn":
        run.num_actions += 1
        if run.num_actions > run.config.guard.max_actions:
            action = "stop"
    run.emit(
        GuardEvent(
            step=run.stepper.step,
            triplets=run.triplets,
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
        run.stepper.rate_scale *= _CUT_RATE
    if action == "cut-rate":
        run.guard.acted()
        return False
    run.hardness_factor *= _LOWER_HARDNESS
    _put_back(run)
    if action == "roll-back" and run.before is not None:
        _go_back(run, run.before)
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
        run.hardness_factor = min(1.0, run.hardness_factor / _LOWER_HARDNESS)
    if run.config.guard.action == "roll-back":
        run.before = run.ahead_state if ahead else run.stepper.state()
        run.before_memory = run.ahead_memory if ahead else run.memory_of_now()


def _go_back(run: RunState, before: dict[str, Any]) -> None:
    """Take up the last healthy state. What guard and loop have seen since is of another network: it is forgotten."""
    run.stepper.restore(before)
    run.stepper.ramp_again()
    run.guard.restore(run.before_memory["guard"])
    if run.controller is not None:
        run.controller.restore(run.before_memory["controller"])
    run.rolled_back = True


def _diagnosis(run: RunState, verdict: Verdict) -> str:
    training, hardness = run.config.training, run.config.hardness
    after = f" after {run.num_actions - 1} corrections" if run.num_actions > 1 else ""
    return (
        f"training: collapsed at step {run.stepper.step} of {run.stepper.num_steps}{after}: {verdict.cause}; "
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
    run.plans[-1] = plan.take(slice(0, run.row))
    if run.folder is not None:
        run.plans[-1].save(run.plan_file())
    if run.row < len(plan):
        rest = plan.take(slice(run.row, None))
        # The plan may be in another order than the segment; the hardness asked for is in it before the factor.
        asked = rest.hardness.astype(np.float64) / segment.hardness_factor
        run.waiting.appendleft(
            Segment(
                number=0,
                first=segment.first + run.row,
                anchor_K=rest.anchor,
                positive_K=rest.positive,
                origin_K=rest.positive_origin,
                hardness_K=np.clip(asked, 0.0, 1.0),
            )
        )
    run.stepper.num_steps = run.stepper.step + run.steps_left()
