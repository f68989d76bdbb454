"""Steps that were too large, by the loss: it leapt up, it ends far above its start, or it jumps about."""

import math
from typing import TypeAlias

import numpy as np

from mohs.doctor.findings import Finding, Severity
from mohs.doctor.log.evidence import NOTHING_BESIDE, Beside, ends_high, one_point, rose
from mohs.doctor.log.rest import at_stuck_values, finite, number_noise, resting_tail
from mohs.doctor.log.stuck_values import LossFacts
from mohs.doctor.log.training_log import Column, TrainingLog

__all__ = ["find_learning_rate"]

_WORSE_THAN_STUCK = 1.2
# Beyond what harder negatives, a curriculum or a larger scale do to a loss that nobody named, and beyond any of it.
_MINED, _BEYOND = 3.0, 1000.0
_SMALLEST_START = 0.2
_JUMP, _JUMP_OF_FEW = 0.5, 0.8
# Of three numbers drawn at random the middle one is the largest or smallest in two of three cases.
_TURNS = 0.25


def find_learning_rate(log: TrainingLog, loss: LossFacts, beside: Beside = NOTHING_BESIDE) -> Finding | None:
    """Find steps that were too large; none where a measure rose (`rose`), unless the loss left every scale.

    - It rose to 1.2 times its start or more (3 times for triplet losses and those without a name), and then came to
      rest at what one answer for everything costs.
    - It jumps about: neighbours differ by half of the level (0.8 of it under 20 rows), and it does not fall; or it is
      back above twice its start at least 3 times in the last two thirds.
    - It ends above its start and above what one answer for everything costs: by 1.2 times, and by 3 times for
      triplet losses and where that cost is not known, since harder negatives do that too.

    A fall is no rise, wherever the loss ends. It is an error if the loss ends a thousand times above its start, or if
    the embeddings are at one point (`one_point`).
    """
    values = log.loss if log.loss is not None else log.val_loss
    if values is None or np.isinf(values).any():
        return None
    loss_T = finite(values)
    if len(loss_T) < 3:
        return None
    # A loss may leave its start at once: then that is where it starts.
    head = loss_T[: max(3, len(loss_T) // 20)]
    start = float(head[0]) if len(loss_T) < 60 and head[0] == head.min() else float(np.median(head))
    learned = rose(log).holds is True
    found = _leapt(loss_T, loss) if not (learned or ends_high(log, beside).holds) else None
    found = found or (_jumps(loss_T, start) if not learned and log.loss is not None else None)
    found = found or _ends_above(loss_T, start, loss, validation_alone=log.loss is None, learned=learned)
    if found is None:
        return None
    what, numbers, severity, either = found
    rate = log.peak_rate()
    if rate is not None:
        numbers["learning_rate"] = rate
        what += f"; the learning rate was up to {rate:.2g}"
    if severity == "warning" and one_point(log, loss, beside).holds:
        severity = "error"
    return Finding(
        cause="learning-rate-too-high",
        severity=severity,
        what=what,
        why="Each step overshoots: it leaves the network worse than one that has learned nothing, often with units "
        f"that stay at 0 for every picture (dead units).{either}",
        fix="Lower the learning rate to a tenth, let it rise over the first steps, and begin again from fresh weights."
        + (" To tell, log a measure on held-out pictures." if either else ""),
        settings=log.lower_rate(),
        numbers=numbers,
        share=0.9,
    )


_Rise: TypeAlias = tuple[str, dict[str, float], Severity, str]


def _leapt(loss_T: Column, loss: LossFacts) -> _Rise | None:
    rest = resting_tail(loss_T)
    if rest is None or not at_stuck_values(rest.value, loss, noise=rest.noise):
        return None
    before = loss_T[: len(loss_T) - rest.num_rows]
    # Negatives that became harder raise the loss of triplets, too.
    factor = _MINED if loss.record is None or loss.record.of_triplets else _WORSE_THAN_STUCK
    if not len(before) or rest.largest_before <= factor * max(rest.value, float(loss_T[0])):
        return None
    numbers = {"first_loss": float(loss_T[0]), "largest_loss": rest.largest_before, "rests_at": rest.value}
    what = (
        f"The loss went up from {loss_T[0]:.4g} to {rest.largest_before:.4g} before it came to rest at "
        f"{rest.value:.4g}, although one and the same answer for everything costs no more than that"
    )
    return what, numbers, "warning", ""


def _ends_above(
    loss_T: Column, start: float, loss: LossFacts, *, validation_alone: bool, learned: bool
) -> _Rise | None:
    last = float(np.median(loss_T[-max(3, len(loss_T) // 10) :]))
    if abs(loss_T[-1]) > _BEYOND * max(float(np.abs(loss_T[:-1]).max()), _SMALLEST_START):
        last = float(loss_T[-1])
    known = None if loss.record is None else loss.record.most_stuck(loss.margin, loss.batch)
    if known is not None:
        # Mined triplets may cost more than a collapsed network pays, and no step is to blame for it.
        factor = _MINED if loss.record is not None and loss.record.of_triplets else _WORSE_THAN_STUCK
        above = last >= factor * max(known, start)
    else:
        scale = max(abs(start), _SMALLEST_START)
        above = last - start >= (_MINED - 1) * scale
    beyond = last >= _BEYOND * max(abs(start), _SMALLEST_START)
    # A validation loss may rise a long way by learning by heart.
    if not (beyond or (above and not learned and not validation_alone)):
        return None
    numbers = {"first_loss": start, "last_loss": last}
    what = f"The loss rose from {start:.4g} to {last:.4g}"
    if known is not None:
        numbers["one_answer"] = known
        what += f"; one and the same answer for everything would cost {known:.4g}"
    either = "" if beyond else " Or the task was made harder on the way: harder negatives, a larger margin or scale."
    return what, numbers, "error" if beyond else "warning", either


def _jumps(loss_T: Column, start: float) -> _Rise | None:
    if len(loss_T) < 10:
        return None
    later = loss_T[len(loss_T) // 3 :]
    level = float(np.median(later))
    if level <= 0:
        return None
    jump = float(np.median(np.abs(np.diff(loss_T)))) / level
    third = len(loss_T) // 3
    first, last = float(np.median(loss_T[:third])), float(np.median(loss_T[-third:]))
    chance = 3 * number_noise(loss_T) * math.sqrt(2 / third)
    falls = last < 0.8 * first and first - last > chance
    high = later > 2 * max(start, level)
    comes_back = int((np.diff(high.astype(int)) == 1).sum()) + int(high[0])
    leaps = comes_back >= 3 and float(high.mean()) >= 0.05 and float(later[high].max()) > 5 * level
    turns = float((np.diff(np.sign(np.diff(loss_T))) != 0).mean())
    if falls or turns < _TURNS or not (jump >= (_JUMP if len(loss_T) >= 20 else _JUMP_OF_FEW) or leaps):
        return None
    numbers = {"jump": jump, "smallest": float(later.min()), "largest": float(later.max()), "median": level}
    what = (
        f"The loss jumps about: {later.min():.3g} to {later.max():.3g} around {level:.3g} in the last two thirds, "
        f"typically by {jump:.0%} from one row to the next, and does not fall"
    )
    return what, numbers, "warning", " Or each row is of so few pictures that chance rules it: take means over more."
