"""An accuracy of pairs that is read at a threshold which does not fit their scores."""

from dataclasses import dataclass
from typing import final

import numpy as np

from mohs.doctor.findings import Finding
from mohs.doctor.of_pairs import AS_REPORTED, BETTER, DEFAULT_THRESHOLD, USELESS, ReportedPairs
from mohs.evaluation.checked import Bools, Float64
from mohs.evaluation.intervals import wilson_interval
from mohs.randomness import generator

__all__ = ["find_fixed_threshold", "why_no_threshold"]

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
    read = _read_at(pairs, DEFAULT_THRESHOLD if threshold is None else threshold)
    if read is None or read.low < read.fixed + BETTER * pairs.open_share:
        return None
    was_reported = reported is not None and abs(reported - read.fixed) <= AS_REPORTED
    if threshold is None and not was_reported:
        return None
    prior, low, high = pairs.one_answer, float(pairs.value.min()), float(pairs.value.max())
    said = "" if reported is None else f" (the training reported {reported:.3f})"
    contradicted = reported is not None and reported > read.fixed + BETTER * pairs.open_share
    useless = read.fixed <= prior + USELESS * pairs.open_share
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
        + ("in the middle of a probability, not" if read.threshold == DEFAULT_THRESHOLD else "not in the middle")
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
    read = _read_at(pairs, DEFAULT_THRESHOLD)
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
