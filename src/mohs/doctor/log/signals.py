"""Causes that a training log shows beside its losses: nothing to learn from, dead or swapped positives, overfitting."""

import math

import numpy as np

from mohs.doctor.findings import Finding, Severity
from mohs.doctor.log.evidence import CLUSTERING, NOTHING_BESIDE, Beside, ends_high, metrics, rose
from mohs.doctor.log.rest import end_mean, finite, finite_tail, number_noise
from mohs.doctor.log.stuck_values import LossFacts
from mohs.doctor.log.training_log import Column, TrainingLog

__all__ = ["find_dead_positives", "find_never_better", "find_nothing_active", "find_overfitting", "find_swapped"]

_INACTIVE, _LEFT = 0.02, 0.05
_GAP = 0.15
_FEW_ROWS = 6


def find_nothing_active(log: TrainingLog, loss: LossFacts, beside: Beside = NOTHING_BESIDE) -> Finding | None:
    """Find training without gradient: few triplets active at the end, or a loss of nothing.

    That is under 2% of the triplets, or a loss below a thousandth of the margin; none where the loss is above a
    twentieth of the margin (of its start, where that is not known), since it has then another gradient (InfoNCE, a mean
    over others). It is a note where the result is good (accuracy or R@1 of 0.9, or search that is far better than
    chance), or in the last half only; an error if it was so for nine tenths of the training, and accuracy or R@1 of the
    embeddings is at chance.
    """
    if log.active_fraction is not None:
        active_T, limit, name = log.active_fraction, _INACTIVE, "share of active triplets"
    elif log.loss is not None and loss.margin is not None:
        active_T, limit, name = log.loss, 1e-3 * loss.margin, "loss"
    else:
        return None
    if name != "loss" and log.loss is not None and len(left := finite_tail(log.loss, 0.25)):
        of = abs(float(finite(log.loss)[0])) if loss.margin is None else loss.margin
        if float(left.mean()) > _LEFT * of:
            return None
    active_T = finite(active_T)
    tail = finite_tail(active_T, 0.25)
    if not len(tail) or float(tail.mean()) >= limit:
        return None
    # Idle since the last time that the running mean was above the limit.
    width = max(1, len(active_T) // 20)
    busy = np.flatnonzero(_running_means(active_T, width)[0] >= limit)
    share = 1.0 - (int(busy[-1]) + width if busy.size else 0) / len(active_T)
    accuracy = log.last_accuracy()
    good = accuracy is not None and accuracy >= 0.9
    high, up = ends_high(log, beside), rose(log)
    well = bool(high.holds) and high.of != "accuracy"
    good = good or well or (bool(up.holds) and log.retrieval is not None)
    severity: Severity = "warning"
    if good or share < 0.5:
        severity = "note"
    elif share > 0.9 and (beside.says_chance or (accuracy is not None and accuracy < 0.6)):
        severity = "error"
    numbers = {"last": float(tail.mean()), "idle_share": share}
    said = beside.says_chance or (high.says if well else "")
    said = f"; {said}" if said else ""
    if accuracy is not None:
        numbers["accuracy"] = accuracy
        said += f"; accuracy is {accuracy:.3f}"
    return Finding(
        cause="nothing-active",
        severity=severity,
        what=f"The {name} is {tail.mean():.2g} at the end and has been below {limit:.2g} for {share:.0%} of the "
        f"training{said}",
        why="A triplet beyond the margin has no gradient: the pictures shown taught nothing"
        + (" more. The result is good." if good else "."),
        fix="Ask for harder negatives, or let the closed loop hold half of the triplets active; stop where the result "
        "is good enough.",
        settings={"hardness.curve": "closed-loop"},
        numbers=numbers,
        share=share,
    )


def find_dead_positives(log: TrainingLog) -> Finding | None:
    """Find positives that are their anchors: d_ap is 0 in nine rows of ten while d_an is not."""
    if log.positive_distance is None:
        return None
    positive = finite(log.positive_distance)
    scale = 1.0
    if log.negative_distance is not None:
        negative = finite(log.negative_distance)
        scale = float(np.median(negative)) if len(negative) else 0.0
    if not len(positive) or scale <= 0:
        return None
    dead = float((positive <= 1e-6 * scale).mean())
    if dead < 0.9:
        return None
    return Finding(
        cause="dead-positives",
        severity="error",
        what=f"The distance from anchor to positive is 0 in {dead:.0%} of the rows, and to the negative {scale:.3g}",
        why="The positive is the anchor itself, or an equal copy: nothing is pulled together, and any network solves "
        "such triplets.",
        fix="Draw the positive from the other pictures of the class; where there is none, augment it.",
        numbers={"dead_share": dead, "negative_distance": scale},
        share=dead,
    )


def find_swapped(log: TrainingLog, loss: LossFacts) -> Finding | None:
    """Find a loss that falls while positives move away: by 30% or more, with d_ap above d_an by a tenth at the end.

    Whatever its margin, a triplet loss rises as d_an − d_ap falls; so does the contrastive loss. None where a measure
    rose: the distances are then of the hardest positives and negatives.
    """
    loss_T, positive_T, negative_T = log.loss, log.positive_distance, log.negative_distance
    in_batch = loss.record is not None and loss.record.in_batch
    if rose(log).holds or loss_T is None or positive_T is None or negative_T is None or in_batch:
        return None
    gap_T = negative_T - positive_T
    both = np.isfinite(gap_T) & np.isfinite(loss_T)
    if both.sum() < _FEW_ROWS:
        return None
    k = max(2, int(both.sum()) // 5)
    head_gap, tail_gap = float(gap_T[both][:k].mean()), float(gap_T[both][-k:].mean())
    head_loss, tail_loss = float(loss_T[both][:k].mean()), float(loss_T[both][-k:].mean())
    # At one point, which of the two distances is the larger is chance.
    slack = 0.1 * float(negative_T[both][-k:].mean())
    if not (tail_loss < 0.7 * head_loss and tail_gap < -slack and tail_gap < head_gap):
        return None
    return Finding(
        cause="swapped",
        severity="error",
        what=f"The loss fell from {head_loss:.3g} to {tail_loss:.3g} while d_an − d_ap fell from {head_gap:.3g} to "
        f"{tail_gap:.3g}: positives are pushed away",
        why="Positive and negative, or distance and similarity, have changed places in the loss.",
        fix="Lower d_ap − d_an + margin (distances), or s_an − s_ap + margin (similarities).",
        numbers={"first_loss": head_loss, "last_loss": tail_loss, "first_gap": head_gap, "last_gap": tail_gap},
        share=1.0,
    )


def find_overfitting(log: TrainingLog) -> Finding | None:
    """Find a validation that turns while training goes on.

    What is measured on held-out pictures outranks their loss: a validation accuracy or a measure of search that fell
    from its best (by 0.02 and 3 times the noise between neighbours), or that never rose while the accuracy of training
    did, by 0.15. Without such a measure, a validation loss whose last values lie above its best by 10% and by 3 times
    the noise. The training loss must have gone on falling. If the measure neither rose nor fell while the validation
    loss turned, it is a note: answers are too sure of themselves, not worse.
    """
    held_out = {name: values for name, values in metrics(log).items() if name != "accuracy"}
    severity: Severity = "warning"
    why = "The network learns the training pictures by heart; what it adds does not carry over to others."
    found = next((each for item in held_out.items() if (each := _measure_fell(log, *item))), None)
    found = found or (_never_rose(log) if held_out else None)
    if found is None and (turned := _turned(log)) is not None:
        what, numbers, share, best_row = turned
        changes = [_change_since(values, best_row) for values in held_out.values()]
        if any(change is not None and change > 0 for change in changes):
            return None
        if any(change is not None for change in changes):
            severity = "note"
            what += f", and {next(iter(held_out))} does not fall"
            why = "The network grows too sure of its answers: probabilities get worse, the order does not."
        found = what, numbers, share
    if found is None:
        return None
    what, numbers, share = found
    return Finding(
        cause="overfitting",
        severity=severity,
        what=what,
        why=why,
        fix="Keep the weights of the best epoch, and stop there; more classes help most.",
        numbers=numbers,
        share=share,
    )


def find_never_better(log: TrainingLog, beside: Beside = NOTHING_BESIDE) -> Finding | None:
    """Find held-out answers that stay poor while the loss of training falls to less than half.

    None where a measure rose or is far better than chance (`rose`, `ends_high`), or where `find_overfitting` tells why.
    """
    held_out = {name: values for name, values in metrics(log).items() if name not in ("accuracy", CLUSTERING)}
    loss_T = np.zeros(0) if log.loss is None else finite(log.loss)
    if not held_out or len(loss_T) < _FEW_ROWS:
        return None
    halved = float(np.median(loss_T[-max(3, len(loss_T) // 10) :])) < 0.5 * float(np.median(loss_T[:3]))
    if not halved or rose(log).holds or ends_high(log, beside).holds or find_overfitting(log) is not None:
        return None
    name, values = next(iter(held_out.items()))
    last = end_mean(values)
    if last is None or np.isfinite(values).sum() < _FEW_ROWS:
        return None
    return Finding(
        cause="at-chance",
        severity="warning",
        what=f"The loss falls, and {name} stays at {last:.3f}",
        why="Perhaps the triplets or pairs of training are so easy that nothing is learned from them. Perhaps the "
        "network learns them by heart. Or what is measured is not what was trained: other weights, another mode, a "
        "threshold that does not fit.",
        fix="To tell, give embeddings of training and of held-out pictures with their labels.",
        numbers={"last": last},
        share=0.3,
    )


def _turned(log: TrainingLog) -> tuple[str, dict[str, float], float, int] | None:
    if log.loss is None or log.val_loss is None:
        return None
    rows = np.flatnonzero(np.isfinite(log.val_loss))
    if len(rows) < _FEW_ROWS:
        return None
    values, noise = log.val_loss[rows], number_noise(log.val_loss[rows])
    # The smallest of many single numbers is luck.
    means, middle = _running_means(values, max(1, len(values) // 20))
    best, last = int(means.argmin()) + middle, float(values[-max(3, len(values) // 20) :].mean())
    lowest = float(means.min())
    rise = last - lowest
    # A turn is far more than what neighbours differ by.
    if best >= len(values) - 3 or rise <= max(3 * noise, 0.1 * abs(lowest)):
        return None
    row = int(rows[best])
    falling = _went_on(log, row)
    if falling is None:
        return None
    position = float(log.position[row])
    numbers = {
        "best_at": position,
        "best_val_loss": lowest,
        "last_val_loss": last,
        "last_loss": falling,
        "noise": noise,
    }
    what = (
        f"val_loss rose from {lowest:.4g} at {log.unit} {position:g} to {last:.4g} at the end, while the loss "
        f"fell to {falling:.4g}"
    )
    return what, numbers, min(1.0, rise / abs(last)), row


def _went_on(log: TrainingLog, row: int) -> float | None:
    """Return where the training loss ends, if it fell since this row; None if not."""
    since = np.zeros(0) if log.loss is None else finite(log.loss[row:])
    return float(since[-3:].mean()) if len(since) >= 3 and since[-3:].mean() < since[:3].mean() else None


def _measure_fell(log: TrainingLog, name: str, values_T: Column) -> tuple[str, dict[str, float], float] | None:
    rows = np.flatnonzero(np.isfinite(values_T))
    if len(rows) < _FEW_ROWS:
        return None
    values, k = values_T[rows], max(3, len(rows) // 20)
    means, middle = _running_means(values, k)
    best, last, noise = int(means.argmax()), float(means[-1]), number_noise(values) / math.sqrt(k)
    fall = float(means[best]) - last
    falling = _went_on(log, int(rows[best]))
    # The best of many means is above the truth.
    if fall <= max(0.02, 5 * noise) or falling is None:
        return None
    position = float(log.position[rows[best + middle]])
    what = (
        f"{name} fell from {means[best]:.3f} around {log.unit} {position:g} to {last:.3f} at the end, while the loss "
        f"fell to {falling:.4g}"
    )
    numbers = {"best_at": position, "best": float(means[best]), "last": last, "last_loss": falling, "noise": noise}
    return what, numbers, min(1.0, fall / float(means[best]))


def _never_rose(log: TrainingLog) -> tuple[str, dict[str, float], float] | None:
    """Return that the accuracy of training rose and that of validation did not, and how far they are apart."""
    if log.accuracy is None or log.val_accuracy is None or rose(log).holds is None:
        return None
    both = np.isfinite(log.accuracy) & np.isfinite(log.val_accuracy)
    train, held_out = log.accuracy[both], log.val_accuracy[both]
    if len(train) < _FEW_ROWS:
        return None
    k = max(3, len(train) // 5)
    gained = float(train[-k:].mean() - train[:k].mean())
    kept = float(held_out[-k:].mean() - held_out[:k].mean())
    gap = train[-k:] - held_out[-k:]
    half_width = 1.96 * float(gap.std(ddof=1)) / math.sqrt(k)
    middle = float(gap.mean())
    if gained < _GAP or middle - half_width <= _GAP or kept > max(0.02, 3 * number_noise(held_out) / math.sqrt(k)):
        return None
    what = (
        f"Accuracy rose by {gained:.3f} in training and by {kept:.3f} in validation; it ends {middle:.3f} apart (95% "
        f"interval over the last {k} rows {middle - half_width:.3f} to {middle + half_width:.3f})"
    )
    return what, {"gap": middle, "low": middle - half_width, "high": middle + half_width}, min(1.0, middle)


def _running_means(values: Column, width: int) -> tuple[Column, int]:
    """Return the means of so many neighbours, and how far the middle of each is from its first."""
    return np.convolve(values, np.full(width, 1.0 / width), mode="valid"), width // 2


def _change_since(values_T: Column, row: int) -> float | None:
    """Return the change of a measure from around a row to the end; 0 if it is below 0.01 or within its noise."""
    before, after = finite(values_T[max(0, row - 1) : row + 2]), end_mean(values_T)
    if not len(before) or after is None:
        return None
    change = after - float(before.mean())
    noise = number_noise(finite(values_T)) / math.sqrt(3)
    return change if abs(change) > max(0.01, 2 * noise) else 0.0
