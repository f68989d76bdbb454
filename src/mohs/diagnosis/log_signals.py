"""Causes that a training log shows beside its losses: nothing to learn from, dead or swapped positives, overfitting."""

import math

import numpy as np

from mohs.diagnosis.findings import Finding, Severity
from mohs.diagnosis.known_losses import LossFacts
from mohs.diagnosis.stuck import finite_tail
from mohs.diagnosis.training_log import Column, TrainingLog

__all__ = ["find_dead_positives", "find_nothing_active", "find_overfitting", "find_swapped"]

_INACTIVE = 0.02
_GAP = 0.15


def find_nothing_active(log: TrainingLog, loss: LossFacts) -> Finding | None:
    """Find training without gradient: under 2% of the triplets active at the end, or a loss below a thousandth of the
    margin.
    """  # noqa: D205
    if log.active_fraction is not None:
        active_T, limit, name = log.active_fraction, _INACTIVE, "share of active triplets"
    elif log.loss is not None and loss.margin is not None:
        active_T, limit, name = log.loss, 1e-3 * loss.margin, "loss"
    else:
        return None
    active_T = active_T[np.isfinite(active_T)]
    tail = finite_tail(active_T, 0.25)
    if not len(tail) or float(tail.mean()) >= limit:
        return None
    share = _idle_share(active_T, limit)
    accuracy = log.last_accuracy()
    learned = accuracy is not None and accuracy >= 0.9
    severity: Severity = "warning"
    if learned or share < 0.5:
        severity = "note"
    elif share > 0.9 and (accuracy is None or accuracy < 0.6):
        severity = "error"
    numbers = {"last": float(tail.mean()), "idle_share": share}
    said = ""
    if accuracy is not None:
        numbers["accuracy"] = accuracy
        said = f"; accuracy is {accuracy:.3f}"
    return Finding(
        cause="nothing-active",
        severity=severity,
        what=f"The {name} is {tail.mean():.2g} at the end and has been below {limit:.2g} for {share:.0%} of the "
        f"training{said}",
        why="A triplet beyond the margin has no gradient: the pictures shown taught nothing.",
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
    positive = log.positive_distance[np.isfinite(log.positive_distance)]
    scale = 1.0
    if log.negative_distance is not None:
        negative = log.negative_distance[np.isfinite(log.negative_distance)]
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

    Whatever its margin, a triplet loss rises as d_an − d_ap falls; so does the contrastive loss.
    """
    if log.loss is None or log.positive_distance is None or log.negative_distance is None or loss.name == "infonce":
        return None
    gap_T = log.negative_distance - log.positive_distance
    loss_T = log.loss
    both = np.isfinite(gap_T) & np.isfinite(loss_T)
    if both.sum() < 6:
        return None
    k = max(2, int(both.sum()) // 5)
    head_gap, tail_gap = float(gap_T[both][:k].mean()), float(gap_T[both][-k:].mean())
    head_loss, tail_loss = float(loss_T[both][:k].mean()), float(loss_T[both][-k:].mean())
    # At one point, which of the two distances is the larger is chance.
    slack = 0.1 * float(log.negative_distance[both][-k:].mean())
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

    The last validation losses lie above the best by 10% and by more than 3 times the noise between neighbours, and the
    training loss has gone on falling; or the last accuracies of training and validation differ by more than 0.15, at
    the lower end of a 95% interval over the rows.
    """
    found = _turned(log) or _apart(log)
    if found is None:
        return None
    what, numbers, share = found
    return Finding(
        cause="overfitting",
        severity="warning",
        what=what,
        why="The network learns the training pictures by heart; what it adds does not carry over to others.",
        fix="Keep the weights of the best epoch, augment more, show fewer pictures, or get more classes.",
        settings={"training.augment": 1.0},
        numbers=numbers,
        share=share,
    )


def _turned(log: TrainingLog) -> tuple[str, dict[str, float], float] | None:
    if log.loss is None or log.val_loss is None:
        return None
    rows = np.flatnonzero(np.isfinite(log.val_loss))
    if len(rows) < 6:
        return None
    values = log.val_loss[rows]
    best = int(values.argmin())
    last = float(values[-3:].mean())
    # Half of all differences between neighbours are smaller; a turn is far more than that.
    noise = float(np.median(np.abs(np.diff(values))))
    rise = last - float(values[best])
    if best >= len(values) - 3 or rise <= max(3 * noise, 0.1 * abs(float(values[best]))):
        return None
    since = log.loss[rows[best] :]
    since = since[np.isfinite(since)]
    if len(since) < 3 or since[-3:].mean() >= since[:3].mean():
        return None
    position = float(log.position[rows[best]])
    numbers = {
        "best_at": position,
        "best_val_loss": float(values[best]),
        "last_val_loss": last,
        "last_loss": float(since[-3:].mean()),
        "noise": noise,
    }
    what = (
        f"val_loss rose from {values[best]:.4g} at {log.unit} {position:g} to {last:.4g} at the end, while the loss "
        f"fell to {since[-3:].mean():.4g}"
    )
    return what, numbers, min(1.0, rise / abs(last))


def _apart(log: TrainingLog) -> tuple[str, dict[str, float], float] | None:
    if log.accuracy is None or log.val_accuracy is None:
        return None
    both = np.isfinite(log.accuracy) & np.isfinite(log.val_accuracy)
    gap = finite_tail(np.where(both, log.accuracy - log.val_accuracy, np.nan), 0.2)
    if len(gap) < 3:
        return None
    half_width = 1.96 * float(gap.std(ddof=1)) / math.sqrt(len(gap))
    middle = float(gap.mean())
    if middle - half_width <= _GAP:
        return None
    what = (
        f"Accuracy is {middle:.3f} higher in training than in validation (95% interval over the last {len(gap)} rows "
        f"{middle - half_width:.3f} to {middle + half_width:.3f})"
    )
    return what, {"gap": middle, "low": middle - half_width, "high": middle + half_width}, min(1.0, middle)


def _idle_share(values_T: Column, limit: float) -> float:
    """Return the share of a column after the last time that its running mean (over a twentieth) was above the limit."""
    width = max(1, len(values_T) // 20)
    means = np.convolve(values_T, np.full(width, 1.0 / width), mode="valid")
    above = np.flatnonzero(means >= limit)
    last = int(above[-1]) + width if above.size else 0
    return 1.0 - last / len(values_T)
