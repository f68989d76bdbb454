"""Causes that scores of pairs show: the wrong way round, all the same, at chance, a sigmoid, a threshold off."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from mohs.doctor.findings import Finding
from mohs.doctor.reported_pairs import ReportedPairs
from mohs.evaluation.checked import Bools, Float64
from mohs.evaluation.intervals import wilson_interval
from mohs.randomness import generator

__all__ = [
    "find_constant_scores", "find_fixed_threshold", "find_scores_at_chance", "find_sigmoid_on_distance",
    "find_swapped_scores", "why_no_threshold",
]  # fmt: skip

# Of accuracy where half of the pairs are of one class; elsewhere as a share of what one answer for all leaves open.
_USELESS, _BETTER = 0.02, 0.05
_AS_REPORTED = 0.01
_FLAT = 1e-3
_AT_CHANCE = 0.65
# Of scores at the end of a sigmoid of distances near 0.
_NEAR_EDGE, _AT_EDGE = 0.02, 0.01
_DEFAULT_THRESHOLD = 0.5


def find_swapped_scores(pairs: ReportedPairs) -> Finding | None:
    """Find a distance that is larger for the same class, or a similarity that is smaller, by AUC: 0.4 or less.

    And by 3 standard errors below 0.5. A score without a direction cannot be swapped.
    """
    if pairs.kind == "score":
        return None
    auc, error = pairs.auc()
    right = auc if pairs.kind == "distance" else 1.0 - auc
    if right > 0.4 or right + 3 * error >= 0.5:
        return None
    larger = "larger" if pairs.kind == "distance" else "smaller"
    low, high = max(0.0, right - 1.96 * error), right + 1.96 * error
    return Finding(
        cause="swapped",
        severity="error",
        what=f"The {pairs.kind} is {larger} for pairs of one class: AUC {right:.3f} ({low:.3f} to {high:.3f}); "
        f"0.5 is chance",
        why="Distance and similarity have changed places, in the loss or where pairs are compared, or same and "
        "different have in the labels.",
        fix="Compare with < for distances and with > for similarities, and see that 1 means the same in the loss too.",
        numbers={"auc": right, "standard_error": error},
        share=1.0,
    )


def find_sigmoid_on_distance(
    pairs: ReportedPairs,
    *,
    threshold: float | None = None,
    reported: float | None = None,
    lower_rate: Mapping[str, Any] | None = None,
) -> Finding | None:
    """Find a sigmoid on a distance: scores that have its range, its shape, and its fault.

    Range: every score lies in [0.5, 1], and none is smaller for different classes (AUC ≥ ½); or, for σ(−d), in
    [0, 0.5], and none is larger. Any distance may lie there, so that is no proof. Shape: one score in a hundred or more
    lies within 0.02 of 0.5, where distances begin, and none beyond; or half of them lie where the slope of the sigmoid
    is below 0.001 (for σ(−d) without a score of exactly 0, which similarities often are). Fault: the accuracy at the
    threshold in use is that of one answer for all; if none is known, the order of the scores says nothing. A threshold
    or an accuracy that is better than that contradicts the cause. A column that is called a distance or a similarity is
    taken for one.

    Args:
        pairs: scores without a direction; others have no such cause.
        threshold: the one in use; None if it is not known: 0.5 if `reported` is what accuracy is there.
        reported: an accuracy that the training wrote down.
        lower_rate: the settings against steps that are too large, if the rate is known.
    """
    low, high = float(pairs.value.min()), float(pairs.value.max())
    auc, error = pairs.auc()
    slack = 1e-6
    upper = low >= 0.5 - slack and high <= 1.0 + slack and auc >= 0.5 - 3 * error
    lower = low >= -slack and high <= 0.5 + slack and auc <= 0.5 + 3 * error
    if pairs.kind != "score" or not (upper or lower):
        return None
    flat = float((pairs.value * (1.0 - pairs.value) < _FLAT).mean())
    thrown = flat >= 0.5 and (upper or low > 0.0)
    edge = float((np.abs(pairs.value - 0.5) < _NEAR_EDGE).mean()) >= _AT_EDGE and high - low > slack
    if not (thrown or edge):
        return None
    one_answer, open_share = pairs.one_answer, pairs.open_share
    if reported is not None and reported > one_answer + _BETTER * open_share:
        return None
    no_order = abs(auc - 0.5) <= 3 * error
    fixed = pairs.accuracy_at(_DEFAULT_THRESHOLD if threshold is None else threshold)
    known = threshold is not None or (reported is not None and abs(reported - fixed) <= _AS_REPORTED)
    if fixed > one_answer + _USELESS * open_share if known else not no_order:
        return None
    prior = float((~pairs.same).mean())
    named = "σ(d)" if upper else "σ(−d)"
    where = f"at {'0.5 or above' if upper else '0.5 or below'} ({low:.4f} to {high:.4f})"
    learned = f"their order is right in {max(auc, 1 - auc):.1%} of the cases, though"
    if no_order:
        learned = "and their order says nothing"
    other = (
        "a network that answers the same whatever it sees" if no_order else "a score that is read where it does not fit"
    )
    numbers = {
        "smallest": low, "largest": high, "accuracy_at_half": prior, "auc": max(auc, 1 - auc), "flat_share": flat,
    }  # fmt: skip
    return Finding(
        cause="sigmoid-on-distance",
        severity="error" if known or high - low <= slack else "warning",
        what=f"All {len(pairs.same):,} scores are {where}: read at 0.5, every pair is different, and accuracy is the "
        f"share of different pairs, {prior:.3f}; {learned}"
        + (f"; {flat:.0%} of the scores are where the sigmoid has no slope left" if thrown else ""),
        why=f"A distance is never negative, so {named} never crosses 0.5. It has no slope where distances are "
        "large: the loss loses its gradient there"
        + (", and steps that were too large have thrown the pictures that far apart." if thrown else ".")
        + f" If there is no sigmoid, it is {other}: look at the last layers of the network.",
        fix="Train on the distance itself, without the sigmoid, "
        + ("at a tenth of the learning rate, from fresh weights, " if thrown else "")
        + "and choose the threshold on held-out pairs.",
        settings={"loss.name": "contrastive", **((lower_rate or {}) if thrown else {})},
        numbers=numbers,
        share=1.0,
    )


def find_constant_scores(pairs: ReportedPairs) -> Finding | None:
    """Find scores that are all the same, within a millionth of the largest."""
    low, high = float(pairs.value.min()), float(pairs.value.max())
    if not pairs.constant:
        return None
    return Finding(
        cause="collapsed",
        severity="error",
        what=f"All {len(pairs.value):,} pairs have the same {pairs.kind}, {high:.6g}",
        why="The network maps every picture to one point, or its output is saturated.",
        fix="Begin again from fresh weights with a tenth of the learning rate and easier negatives.",
        numbers={"smallest": low, "largest": high},
        share=0.5,
    )


def find_scores_at_chance(pairs: ReportedPairs) -> Finding | None:
    """Find scores whose order says nothing: an AUC within 3 standard errors of 0.5, and surely below 0.65.

    None for scores that are all the same.
    """
    auc, error = pairs.auc()
    right = 1 - auc if pairs.kind == "similarity" else auc
    low, high = max(0.0, right - 1.96 * error), min(1.0, right + 1.96 * error)
    if pairs.constant or abs(auc - 0.5) > 3 * error or max(high, 1 - low) > _AT_CHANCE:
        return None
    return Finding(
        cause="at-chance",
        severity="error",
        what=f"The {pairs.kind} says nothing of whether a pair is of one class: AUC {right:.3f} ({low:.3f} to "
        f"{high:.3f}); 0.5 is chance",
        why="Either the network has learned nothing or all pictures are at one point, or scores and labels are not of "
        "the same pairs.",
        fix="To tell, give the embeddings with their labels, and check a few pairs by hand.",
        numbers={"auc": right, "low": low, "high": high},
        share=0.4,
    )


_PERHAPS_SIGMOID = " Or it is a sigmoid of a distance, which never crosses 0.5: look at the last layers of the network."


def find_fixed_threshold(
    pairs: ReportedPairs, *, threshold: float | None = None, reported: float | None = None
) -> Finding | None:
    """Find an accuracy read at a threshold that does not fit the scores.

    The accuracy at `threshold` is below that at the best one by 0.05 or more, at the lower end of its 95% interval,
    where half of the pairs are of one class; else by a tenth of what one answer for all leaves open. The best threshold
    is chosen on four fifths of the pairs and measured on the others, five times, so that it does not flatter. It is an
    error if the accuracy at `threshold` is hardly above that of one answer for all (by 0.02, or 4% of what that leaves
    open), or if it is what the training reported; but no error if the training reported better.

    Args:
        pairs: scores of any kind; a score without a direction is taken the way in which it is better.
        threshold: the one in use; None if it is not known: 0.5 if `reported` is what accuracy is there.
        reported: an accuracy that the training wrote down.
    """
    read = _read_at(pairs, _DEFAULT_THRESHOLD if threshold is None else threshold)
    if read is None or read.low < read.fixed + _BETTER * pairs.open_share:
        return None
    was_reported = reported is not None and abs(reported - read.fixed) <= _AS_REPORTED
    if threshold is None and not was_reported:
        return None
    prior, low, high = pairs.one_answer, float(pairs.value.min()), float(pairs.value.max())
    said = "" if reported is None else f" (the training reported {reported:.3f})"
    contradicted = reported is not None and reported > read.fixed + _BETTER * pairs.open_share
    useless = read.fixed <= prior + _USELESS * pairs.open_share
    numbers = {
        "accuracy": read.fixed, "threshold": read.threshold, "best_accuracy": read.best_accuracy,
        "best_threshold": read.best, "low": read.low, "high": read.high, "one_answer": prior,
    }  # fmt: skip
    return Finding(
        cause="fixed-threshold",
        severity="error" if (useless and not contradicted) or was_reported else "warning",
        what=f"Read at {read.threshold:g}, accuracy is {read.fixed:.3f}{said if was_reported or contradicted else ''}; "
        f"at {read.best:.4g} it is {read.best_accuracy:.3f} ({read.low:.3f} to {read.high:.3f}); one answer for all "
        f"gives {prior:.3f}",
        why=f"A {pairs.kind} has no natural threshold: {read.threshold:g} is "
        + ("in the middle of a probability, not" if read.threshold == _DEFAULT_THRESHOLD else "not in the middle")
        + f" of these numbers ({low:.3g} to {high:.3g})."
        + (" Or the training read at another threshold than is given here." if contradicted else "")
        + (_PERHAPS_SIGMOID if pairs.kind == "score" and not (low < 0.5 < high) and low >= 0.0 and high <= 1.0 else ""),
        fix=f"Choose the threshold on held-out pairs (here {read.best:.4g}), or report AUC or recall@k, which need "
        "none.",
        numbers=numbers,
        share=min(1.0, (read.best_accuracy - read.fixed) / max(read.best_accuracy - 0.5, 1e-9)),
    )


def why_no_threshold(pairs: ReportedPairs) -> str:
    """Return why a threshold that is not known cannot be judged, with the accuracy at 0.5 and at the best one."""
    read = _read_at(pairs, _DEFAULT_THRESHOLD)
    numbers = ""
    if read is not None:
        numbers = (
            f": accuracy is {read.fixed:.3f} at {read.threshold:g} and {read.best_accuracy:.3f} at {read.best:.4g}, "
            "the best"
        )
    return f"the threshold in use is not known{numbers}; give it"


@final
@dataclass(frozen=True)
class _Reading:
    """Accuracies at a threshold and at the best one, with the 95% interval of the latter."""

    threshold: float
    fixed: float
    best: float
    best_accuracy: float
    low: float
    high: float


def _read_at(pairs: ReportedPairs, threshold: float) -> _Reading | None:
    """Return the accuracies; None if the scores say nothing, or say it the wrong way round."""
    auc, error = pairs.auc()
    sign = pairs.sign
    if (auc if sign > 0 else 1.0 - auc) <= 0.5 + 3 * error:
        return None
    value, num = sign * pairs.value, len(pairs.value)
    correct, chosen = 0, []
    fold = generator(0, "folds of pairs").permutation(num) % 5
    for k in range(5):
        best = _best_threshold(value[fold != k], pairs.same[fold != k])
        chosen.append(best)
        correct += int(((value[fold == k] < best) == pairs.same[fold == k]).sum())
    low, high = wilson_interval(correct, num)
    best = sign * float(np.median(chosen))
    return _Reading(threshold, pairs.accuracy_at(threshold), best, correct / num, low, high)


def _best_threshold(value: Float64, same: Bools) -> float:
    """Return the threshold t with the most right answers of "same if value < t": midway between two values."""
    order = np.argsort(value, kind="stable")
    ordered, same_ordered = value[order], same[order]
    # right[i]: the first i are called the same.
    right = np.concatenate([[0], np.cumsum(same_ordered)]) + (~same_ordered).sum()
    right = right - np.concatenate([[0], np.cumsum(~same_ordered)])
    cut = np.concatenate([[True], ordered[1:] > ordered[:-1], [True]])
    i = int(np.argmax(np.where(cut, right, -1)))
    if i == 0:
        return float(ordered[0]) - 1e-12 * max(1.0, abs(float(ordered[0])))
    if i == len(ordered):
        return float(np.nextafter(ordered[-1], np.inf))
    return float((ordered[i - 1] + ordered[i]) / 2)
