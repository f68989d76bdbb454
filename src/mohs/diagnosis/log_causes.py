"""Causes that a training log shows in its losses: it broke, it collapsed, it rests, its steps were too large."""

import math

import numpy as np

from mohs.diagnosis.findings import Finding
from mohs.diagnosis.known_losses import LossFacts, StuckValue
from mohs.diagnosis.stuck import Rest, at_stuck_value, at_stuck_values, constant_tail, finite_tail
from mohs.diagnosis.training_log import Column, TrainingLog

__all__ = [
    "find_collapsed",
    "find_learning_rate",
    "find_not_finite",
    "find_stalled",
]

_DEAD_SHARE, _NO_SPREAD = 0.2, 0.02
_SHRUNK = 0.1
_WORSE_THAN_STUCK = 1.2


def find_not_finite(log: TrainingLog) -> Finding | None:
    """Find a loss that became NaN or Inf."""
    for name in ("loss", "val_loss"):
        values = getattr(log, name)
        if values is None or not np.isinf(values).any():
            continue
        broken = np.flatnonzero(np.isinf(values))
        row = int(broken[0])
        before = values[:row][np.isfinite(values[:row])]
        where = f"from {log.unit} {log.position[row]:g} on"
        if np.isfinite(values[row:]).any():
            where = f"in {len(broken)} of {len(values)} rows, first at {log.unit} {log.position[row]:g}"
        return Finding(
            cause="not-finite",
            severity="error",
            what=f"{name} is NaN or Inf {where}",
            why="The steps were so large that numbers left the range of floating point, or a square root or logarithm "
            "was taken of 0.",
            fix="Lower the learning rate to a tenth, shorten long gradients, and add 1e-12 under square roots.",
            settings={**log.lower_rate(), "training.max_gradient_norm": 1.0},
            numbers={"first_row": float(log.position[row]), "last_finite": float(before[-1]) if len(before) else 0.0},
            share=1.0,
        )
    return None


def find_collapsed(log: TrainingLog, loss: LossFacts) -> Finding | None:
    """Find a network that maps everything to one point.

    Either the spread of the last quarter is below a fifth of its largest (or below 0.02), or, where there is no spread,
    d_an and d_ap are both below a tenth of the largest d_an, and d_an is below 1.5·d_ap, or the loss of a triplet loss
    or InfoNCE rests at what such a network pays.
    """
    numbers: dict[str, float] = {}
    seen = ""
    spread = np.zeros(0) if log.spread is None else finite_tail(log.spread, 0.25)
    if log.spread is not None and len(spread):
        last, largest = float(np.median(spread)), float(np.nanmax(log.spread))
        if last < max(_DEAD_SHARE * largest, _NO_SPREAD):
            numbers |= {"spread": last, "largest_spread": largest}
            seen = f"the spread of the embeddings fell from {largest:.3g} to {last:.3g} (1 is full, 0 a point)"
    elif log.positive_distance is not None and log.negative_distance is not None:
        tails = [finite_tail(c, 0.25) for c in (log.positive_distance, log.negative_distance)]
        if all(map(len, tails)):
            positive, negative = (float(np.median(tail)) for tail in tails)
            largest = float(np.nanmax(log.negative_distance))
            if max(positive, negative) < _SHRUNK * largest and negative < 1.5 * positive:
                numbers |= {"negative_distance": negative, "largest_negative_distance": largest}
                seen = f"the distance to negatives fell from {largest:.3g} to {negative:.3g}"
    rest = _rest(log)
    stuck = None if rest is None else at_stuck_value(rest[1].value, loss)
    collapses = loss.name in ("triplet", "soft-triplet", "infonce")
    if rest is not None and stuck is not None and collapses and not log.learned():
        name, found = rest
        numbers |= {name: found.value, "collapsed_loss": stuck.value, "num_rows": float(found.num_rows)}
        rests = f"{name} rests at {found.value:.4g} from {log.unit} {log.position[found.first_row]:g} on, which is what"
        seen = f"{seen}; {rests} it is when {stuck.says}" if seen else f"{rests} it is when {stuck.says}"
    if not seen:
        return None
    return Finding(
        cause="collapsed",
        severity="error",
        what=f"{seen[0].upper()}{seen[1:]}",
        why="One point for every picture is the way out of triplets that cannot be solved, or the end of steps that "
        "were too large; at it, gradients vanish.",
        fix="Take easier negatives at first, lower the learning rate to a tenth, or use batch norm; InfoNCE withstands "
        "hard negatives.",
        settings=log.lower_rate() if loss.name == "infonce" else {"loss.name": "infonce"},
        numbers=numbers,
        share=0.5,
    )


def find_stalled(log: TrainingLog, loss: LossFacts) -> Finding | None:
    """Find a loss that rests where nothing has been learned.

    A column is at rest if its end, a quarter of it or more, is constant within ±0.1%. Nothing has been learned if it
    was so from the start, if neither it nor the loss ended lower than 95% of where it began, or if it rests within 0.5%
    of a value that the loss has when all answers are the same (`known_losses`). A loss of 0 is another cause, and so
    is a collapse.
    """
    rest = _rest(log)
    if rest is None or log.learned() or find_collapsed(log, loss) is not None:
        return None
    name, found = rest
    stuck = at_stuck_value(found.value, loss)
    if stuck is None and (found.value < 0.95 * found.first_value or _fell(log.loss)):
        return None
    says = " or ".join(known.says for known in at_stuck_values(found.value, loss))
    said = f", what the loss is when {says}" if says else ""
    accuracy = log.last_accuracy()
    numbers = {name: found.value, "from": float(log.position[found.first_row]), "num_rows": float(found.num_rows)}
    if accuracy is not None:
        numbers["accuracy"] = accuracy
        said += f"; accuracy is {accuracy:.3f}"
    return Finding(
        cause="stalled",
        severity="error",
        what=f"{name} is {found.value:.4g} from {log.unit} {log.position[found.first_row]:g} on, {found.num_rows} rows "
        f"long, to within 0.1%{said}",
        why=_why_stalled(stuck),
        fix="Lower the learning rate to a tenth and begin again from fresh weights; take no sigmoid of a distance; see "
        "that the optimiser holds the network's parameters.",
        settings=log.lower_rate(),
        numbers=numbers,
        share=0.5,
    )


def find_learning_rate(log: TrainingLog, loss: LossFacts) -> Finding | None:
    """Find steps that were too large.

    Either the loss was, before it came to rest, 1.2 times or more above where it rests and where one answer for
    everything costs as much, or it ends so far above what one answer for everything costs and above its start (3 times
    for triplet losses).
    """
    if log.loss is None or np.isinf(log.loss).any():
        return None
    rest = constant_tail(log.loss)
    numbers: dict[str, float]
    if rest is not None and not log.learned():
        stuck = at_stuck_value(rest.value, loss)
        if stuck is None or not rest.largest_before > _WORSE_THAN_STUCK * rest.value:
            return None
        numbers = {"largest_loss": rest.largest_before, "rests_at": rest.value}
        what = (
            f"The loss went up to {rest.largest_before:.4g} before it came to rest at {rest.value:.4g}, although one "
            "and the same answer for everything costs no more than that"
        )
    else:
        tail, first = finite_tail(log.loss, 0.1), log.loss[np.isfinite(log.loss)][:1]
        known = at_most_stuck(loss)
        # Mined triplets may cost more than a collapsed network pays, and no step is to blame for it.
        factor = 3.0 if loss.name in ("triplet", "soft-triplet") else _WORSE_THAN_STUCK
        if known is None or not len(first) or float(np.median(tail)) < factor * max(known, first[0]):
            return None
        numbers = {"first_loss": float(first[0]), "last_loss": float(np.median(tail)), "one_answer": known}
        what = (
            f"The loss rose from {first[0]:.4g} to {np.median(tail):.4g}; one and the same answer for everything "
            f"would cost {known:.4g}"
        )
    rate = log.peak_rate()
    if rate is not None:
        numbers["learning_rate"] = rate
        what += f"; the learning rate was up to {rate:.2g}"
    return Finding(
        cause="learning-rate-too-high",
        severity="error",
        what=what,
        why="Each step overshoots: it leaves the network worse than one that has learned nothing, often with units "
        "that no picture can wake again.",
        fix="Lower the learning rate to a tenth, let it rise over the first steps, and begin again from fresh weights.",
        settings=log.lower_rate(),
        numbers=numbers,
        share=0.9,
    )


def at_most_stuck(loss: LossFacts) -> float | None:
    """Return what one answer for everything costs at most, if the loss and its margin or batch are known."""
    match loss.name:
        case "triplet" if loss.margin is not None:
            return loss.margin
        case "contrastive":
            return 0.5 * (1.0 if loss.margin is None else loss.margin) ** 2
        case "soft-triplet" | "cross-entropy":
            return math.log(2)
        case "infonce" if loss.batch is not None:
            return math.log(2 * loss.batch - 1)
        case _:
            return None


def _rest(log: TrainingLog) -> tuple[str, Rest] | None:
    """Return the column that rests above 0, the validation's first: it is always of the same pairs."""
    for name in ("val_loss", "loss"):
        values = getattr(log, name)
        found = None if values is None else constant_tail(values)
        if found is not None and found.value > 1e-4:
            return name, found
    return None


def _fell(loss_T: Column | None) -> bool:
    if loss_T is None or not len(tail := finite_tail(loss_T, 0.1)):
        return False
    return float(np.median(tail)) < 0.95 * float(loss_T[np.isfinite(loss_T)][0])


def _why_stalled(stuck: StuckValue | None) -> str:
    if stuck is None:
        return (
            "The weights do not move: all gradients are 0 (a saturated output, units that no picture wakes), the "
            "learning rate is 0, or the optimiser was given other parameters."
        )
    if stuck.saturated:
        return (
            "A sigmoid of a distance is never below 0.5 and has no slope where the distance is large; at both ends "
            "nothing is left to learn from, and one step that is too large gets there."
        )
    return (
        "All embeddings are the same, so that every pair gets one answer; a step that is too large gets there, and no "
        "gradient leads back."
    )
