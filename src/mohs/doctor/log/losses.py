"""Causes that a training log shows in its losses: it broke, it stands where one answer for everything stands.

A loss alone is no proof: what was given beside it is asked first (`evidence.py`), and an error needs direct evidence.
"""

import numpy as np

from mohs.doctor.findings import Finding, Severity
from mohs.doctor.log.evidence import NOTHING_BESIDE, Beside, Sign, ends_high, one_point, rose
from mohs.doctor.log.rest import Rest, at_stuck_values, end_mean, finite, finite_tail, resting_tail
from mohs.doctor.log.stuck_values import LossFacts
from mohs.doctor.log.training_log import TrainingLog
from mohs.settings.loss_records import INFONCE, StuckValue

__all__ = ["find_collapsed", "find_not_finite", "find_stalled", "loss_at_rest"]

# A loss that starts far above a stuck value of a loss that nobody named falls to it by chance.
_MOST_FALL_UNKNOWN = 2.5
_FROM_START = 0.8
_HIGH_RATE, _NO_RATE = 1e-2, 1e-6
_USUAL_RATE = 1e-3
_GONE_SHARE, _GONE_ROWS = 0.2, 3


def find_not_finite(log: TrainingLog) -> Finding | None:
    """Find a loss that became NaN or Inf.

    A warning if it was a number again at the end, or if only the validation broke: the weights are then sound.
    """
    for name, values in (("loss", log.loss), ("val_loss", log.val_loss)):
        if values is None or not np.isinf(values).any():
            continue
        broken = np.flatnonzero(np.isinf(values))
        row, before = int(broken[0]), finite(values[: broken[0]])
        where = f"from {log.unit} {log.position[row]:g} on"
        if np.isfinite(values[row:]).any():
            where = f"in {len(broken)} of {len(values)} rows, first at {log.unit} {log.position[row]:g}"
        if name == "val_loss" and log.loss is not None and np.isfinite(log.loss[row:]).any():
            return Finding(
                cause="not-finite",
                severity="warning",
                what=f"{name} is NaN or Inf {where}, and the loss of the training is a number all the time",
                why="The weights are sound, since training goes on. It is the validation that breaks: a set without "
                "pairs, a division by 0, or statistics of batch norm that are not finite.",
                fix="Compute the loss of one batch of the validation by hand; the learning rate is not to blame.",
                numbers={"first_row": float(log.position[row]), "num_rows": float(len(broken))},
                share=0.5,
            )
        return Finding(
            cause="not-finite",
            severity="warning" if np.isfinite(values[broken[-1] :]).any() else "error",
            what=f"{name} is NaN or Inf {where}",
            why="The steps were so large that numbers left the range of floating point, or a square root or logarithm "
            "was taken of 0.",
            fix="Lower the learning rate to a tenth, shorten long gradients, and add 1e-12 under square roots.",
            settings={**log.lower_rate(), "training.max_gradient_norm": 1.0},
            numbers={"first_row": float(log.position[row]), "last_finite": float(before[-1]) if len(before) else 0.0},
            share=1.0,
        )
    return None


def find_collapsed(log: TrainingLog, loss: LossFacts, beside: Beside = NOTHING_BESIDE) -> Finding | None:
    """Find a network that maps everything to one point.

    An error where there is direct evidence of it (`one_point`), and none where there is such evidence against it. A
    loss of triplets or InfoNCE that rests at what such a network pays is a warning: it is not the only reason for it.
    """
    point = one_point(log, loss, beside)
    if point.holds is False:
        return None
    name, rest = loss_at_rest(log) or ("", None)
    stuck = _stuck(rest, loss)
    # A loss that nobody named has several values there; what they have in common is told.
    at_point = any(known.one_point for known in stuck)
    # Steps of nothing are a reason of their own.
    at_point = at_point and not (_no_rate(log) and rest is not None and _stood(log, rest))
    numbers = dict(point.numbers)
    rests = ""
    if rest is not None and at_point:
        numbers |= {name: rest.value, "collapsed_loss": stuck[0].value, "num_rows": float(rest.num_rows)}
        numbers["noise"] = rest.noise
        rests = (
            f"{name} rests at {rest.value:.4g} ({rest.within}) from {log.unit} {log.position[rest.first_row]:g} on, "
            f"the value of one answer for everything: {_says(stuck)}"
        )
    if point.holds:
        return Finding(
            cause="collapsed",
            severity="error",
            what=_upper("; ".join(part for part in (point.says, rests) if part)),
            why="Training ends at one point for every picture if its triplets cannot be solved, or if its steps are "
            "too large. Gradients vanish there.",
            fix="Take easier negatives at first, lower the learning rate to a tenth, or use batch norm; InfoNCE "
            "withstands hard negatives.",
            settings=log.lower_rate() if loss.record is INFONCE else {"loss.name": INFONCE.name},
            numbers=numbers,
            share=0.5,
        )
    if not rests or rest is None:
        return None
    fell = _fell_search(log)
    others = ["weights that do not move"] if _stood(log, rest) else []
    if loss.record is None or loss.record.is_hinge_of_triplets:
        others.append("a mean over active triplets alone, which may be in order")
    if any(known.saturated for known in stuck):
        others.append("a sigmoid of a distance, where it has no slope left")
    if loss.name is None and loss.margin is None:
        others.append("another loss that has converged there")
    or_else = f"; so may {', or '.join(others)}" if others else ""
    return Finding(
        cause="collapsed",
        severity="error" if fell else "warning",
        what=_upper(rests + fell),
        why=f"A network that maps every picture to one point has this loss{or_else}.",
        fix="To tell, give the embeddings, or log d_ap and d_an. If they are at one point: easier negatives at first, "
        "a tenth of the learning rate, or batch norm.",
        settings=log.lower_rate() if fell else {},
        numbers=numbers,
        share=0.5,
    )


def find_stalled(log: TrainingLog, loss: LossFacts, beside: Beside = NOTHING_BESIDE) -> Finding | None:
    """Find a loss that rests where nothing has been learned.

    None where a measure rose (`rose`), and none that `find_collapsed` finds; a loss of 0 is another cause. Else, in
    this order:

    - the learning rate is 0 (a hundred-thousandth of its peak, or 1e-6) for the last fifth or more, and the loss falls
      no more: an error if it was so all the time;
    - the loss rests (`resting_tail`) from the start, or ends no lower than 95% of where it began, within ±0.1%;
    - it rests at a value that it has when all answers are the same (`known_losses`), and the end is no better than
      chance (`ends_high`);
    - it fell and then is the same within ±0.1%, as no training is: a note.

    A loss alone is a warning; it is an error with direct evidence: a rate of 0, distances or accuracies that do not
    move either, or embeddings at chance. If the end is far better than chance it is a note.
    """
    if rose(log).holds:
        return None
    gone = _rate_is_gone(log, beside)
    if gone is not None:
        return gone
    found = loss_at_rest(log)
    if found is None or find_collapsed(log, loss, beside) is not None:
        return None
    name, rest = found
    high = ends_high(log, beside)
    stuck = _stuck(rest, loss)
    stood = _stood(log, rest)
    if not stood and (not stuck or high.holds):
        return None if stuck else _still(log, name, rest, high.holds is True)
    if high.holds and not _no_rate(log) and rest.half_range > 1e-3:
        return None  # a plateau where it does well
    proof = _does_not_move(log, beside)
    severity: Severity = "error" if proof.holds or (_no_rate(log) and log.peak_rate() == 0) else "warning"
    values = f", the value of one answer for everything: {_says(stuck)}" if stuck else ""
    numbers = {name: rest.value, "from": float(log.position[rest.first_row]), "num_rows": float(rest.num_rows)}
    numbers |= {"noise": rest.noise}
    accuracy = log.last_accuracy()
    if accuracy is not None:
        numbers["accuracy"] = accuracy
        values += f"; accuracy is {accuracy:.3f}"
    values += proof.says
    rate = log.peak_rate()
    if rate is not None:
        numbers["learning_rate"] = rate
        values += f"; the learning rate is up to {rate:.2g}" if _no_rate(log) else ""
    point = one_point(log, loss, beside)
    if point.holds is False and stuck:
        stuck, stood = (), True
        told = proof.of == point.of == "distances"
        values += ", so it is no collapse" if told else f"; it is no collapse, since {point.says}"
    why, fix = _why_stalled(stuck, stood, no_rate=_no_rate(log), high_rate=rate is None or rate >= _HIGH_RATE)
    settings = log.lower_rate() if rate is not None and rate >= _HIGH_RATE else {}
    return Finding(
        cause="stalled",
        severity="note" if high.holds else severity,
        what=f"{_upper(name)} is {rest.value:.4g} ({rest.within}) from {log.unit} {log.position[rest.first_row]:g} on, "
        f"{rest.num_rows} rows long{values}",
        why=why,
        fix=fix,
        settings={"training.learning_rate": _USUAL_RATE} if _no_rate(log) else settings,
        numbers=numbers,
        share=0.5,
    )


def loss_at_rest(log: TrainingLog) -> tuple[str, Rest] | None:
    """Return the column that rests above 0, the validation's first: it is always of the same pairs."""
    for name, values_T in (("val_loss", log.val_loss), ("loss", log.loss)):
        found = None if values_T is None else resting_tail(values_T)
        if found is None and values_T is not None:
            # A shorter rest, of a tenth, where the loss rose to it at last: that is no slow end of learning.
            late = resting_tail(values_T, at_least=0.1)
            found = None if late is None or late.value < 1.2 * late.median_before else late
        if found is not None and found.value > 1e-4:
            return name, found
    return None


def _stuck(rest: Rest | None, loss: LossFacts) -> tuple[StuckValue, ...]:
    """Return what a loss that rests there says, likeliest first."""
    if rest is None:
        return ()
    if loss.name is None and loss.margin is None and rest.first_value > _MOST_FALL_UNKNOWN * rest.value:
        return ()
    return at_stuck_values(rest.value, loss, noise=rest.noise)


def _says(stuck: tuple[StuckValue, ...]) -> str:
    return "; or ".join(dict.fromkeys(known.says for known in stuck))


def _stood(log: TrainingLog, rest: Rest) -> bool:
    """Return whether a loss rests from the start, or within ±0.1% no lower than 95% of where it began."""
    if rest.value < 0.95 * rest.first_value:
        return False
    known = np.zeros(0) if log.loss is None else finite(log.loss)
    fell = bool(len(known)) and float(np.median(finite_tail(known, 0.1))) < 0.95 * float(known[0])
    return rest.share >= _FROM_START or (rest.half_range <= 1e-3 and not fell)


def _still(log: TrainingLog, name: str, rest: Rest, high: bool) -> Finding | None:
    """Return that a loss which fell does not change at all any more."""
    if not rest.quiet or rest.share < 0.4 or rest.value >= 0.95 * rest.first_value:
        return None
    if name == "val_loss" and log.loss is not None and resting_tail(log.loss) is None:
        return None
    rate = "" if log.learning_rate is None else ", although the learning rate is not 0"
    return Finding(
        cause="stalled",
        severity="note" if high or name == "val_loss" else "warning",
        what=f"{_upper(name)} fell from {rest.first_value:.4g} and is {rest.value:.4g} from {log.unit} "
        f"{log.position[rest.first_row]:g} on, {rest.num_rows} rows long, the same within ±{rest.half_range:.2%}{rate}",
        why="Losses that still learn differ from row to row. Either the learning rate has become 0, or no gradient is "
        "left, or all that these pictures can teach is learned.",
        fix="To tell, log the learning rate and the length of the gradient. A schedule may be shorter than the "
        "training.",
        numbers={
            name: rest.value,
            "from": float(log.position[rest.first_row]),
            "num_rows": float(rest.num_rows),
            "half_range": rest.half_range,
        },
        share=0.3,
    )


def _rate_is_gone(log: TrainingLog, beside: Beside) -> Finding | None:
    peak = log.peak_rate()
    if peak is None or log.learning_rate is None:
        return None
    rows = np.flatnonzero(np.isfinite(log.learning_rate))
    rates = log.learning_rate[rows]
    alive = np.flatnonzero(rates > max(1e-5 * peak, 0.0 if peak > _NO_RATE else peak))
    first = int(alive[-1]) + 1 if alive.size else 0
    num = len(rates) - first
    if num < max(_GONE_ROWS, _GONE_SHARE * len(rates)):
        return None
    values = log.loss if log.loss is not None else log.val_loss
    there = np.zeros(0) if values is None else finite(values[rows[first] :])
    k = max(1, len(there) // 3)
    if len(there) and there[-k:].mean() < 0.98 * there[:k].mean():
        return None  # the column is not what moves the weights
    always = first == 0
    before = "" if values is None or always else f", and the loss stays at {there.mean():.4g}"
    if values is not None and always:
        before = f"; the loss is {there.mean():.4g} from first to last"
    where = f"from {log.unit} {log.position[rows[first]]:g} on, {num} of {len(rates)} rows"
    return Finding(
        cause="stalled",
        severity="error" if always and (peak == 0 or _does_not_move(log, beside).holds) else "warning",
        what=f"The learning rate is {rates[first:].max():.2g} {where}{before}",
        why="Steps of such a length change nothing: training changed nothing from there on.",
        fix="See that the schedule is as long as the training, in the unit in which it is stepped (steps or epochs)."
        if not always
        else f"Give a learning rate: {_USUAL_RATE:g} is usual for Adam. See also that the optimiser holds the "
        "network's parameters.",
        settings={"training.learning_rate": _USUAL_RATE} if always else {},
        numbers={
            "learning_rate": float(rates[first:].max()),
            "peak_learning_rate": peak,
            "from": float(log.position[rows[first]]),
            "num_rows": float(num),
        },
        share=num / len(rates),
    )


def _no_rate(log: TrainingLog) -> bool:
    peak = log.peak_rate()
    return peak is not None and peak <= _NO_RATE


def _does_not_move(log: TrainingLog, beside: Beside) -> Sign:
    """Return what else says that nothing is learned: columns that stand still, R@1 at chance."""
    both = log.positive_distance, log.negative_distance
    if all(values is not None for values in both):
        rests = [resting_tail(values) for values in both if values is not None]
        if all(rest is not None and rest.share >= _FROM_START for rest in rests):
            positive, negative = (rest.value for rest in rests if rest is not None)
            return Sign(True, f"; d_ap is {positive:.3g} and d_an is {negative:.3g} all the time", of="distances")
    accuracy = log.last_accuracy()
    if accuracy is not None and accuracy <= 0.6:
        return Sign(True, ", no better than it began")
    return Sign(True, f"; {beside.says_chance}") if beside.says_chance else Sign(None)


def _fell_search(log: TrainingLog) -> str:
    """Return that a measure of search fell to a quarter of its best; "" if not."""
    if log.retrieval is None or (last := end_mean(log.retrieval)) is None:
        return ""
    best = float(np.nanmax(log.retrieval))
    return f"; {log.retrieval_name} fell from {best:.3f} to {last:.3f}" if best > 0.1 and last < best / 4 else ""


def _upper(text: str) -> str:
    return text if text.startswith("val_") else f"{text[0].upper()}{text[1:]}"


def _why_stalled(stuck: tuple[StuckValue, ...], stood: bool, *, no_rate: bool, high_rate: bool) -> tuple[str, str]:
    if no_rate:
        return (
            "The weights do not move: steps of such a length change nothing.",
            f"Raise the learning rate: {_USUAL_RATE:g} is usual for Adam. See also that the optimiser holds the "
            "network's parameters.",
        )
    check = "see that the optimiser holds the network's parameters and that gradients reach them"
    again = "begin again from fresh weights at a tenth of the learning rate"
    if stuck and stuck[0].saturated:
        return (
            "A sigmoid of a distance is never below 0.5 and has no slope where the distance is large; at both ends "
            "nothing is left to learn from, and one step that is too large gets there.",
            f"Take no sigmoid of a distance, and {again}.",
        )
    if stuck and not stood:
        return (
            "All embeddings are the same, so that every pair gets one answer; a step that is too large gets there, and "
            "no gradient leads back. A mean over active pairs alone may stand there, too.",
            f"To tell, give the embeddings. If they are at one point, {again}; take no sigmoid of a distance.",
        )
    if stuck:
        sigmoid = ", a sigmoid of a distance has no slope left" if any(known.saturated for known in stuck) else ""
        return (
            "All embeddings are the same (a step that is too large gets there), or the weights do not move (an "
            f"optimiser that holds other parameters, a rate far too low){sigmoid}.",
            f"To tell, give the embeddings. If they are at one point, {again}; if not, {check}.",
        )
    return (
        "The weights do not move: the optimiser holds other parameters, the learning rate is far too low, or all "
        "gradients are 0 (a saturated output, units that no picture wakes).",
        f"{_upper(check)}" + ("; if one large step has thrown it there, " + again if high_rate else "") + ".",
    )
