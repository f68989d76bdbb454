"""Causes that scores of pairs show: the wrong way round, a threshold that fits nothing, a sigmoid on a distance."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from mohs.data.rows import read_rows
from mohs.diagnosis.findings import Finding
from mohs.errors import InputError, at_most_20
from mohs.evaluation.intervals import wilson_interval
from mohs.randomness import generator

__all__ = [
    "PairScores",
    "ScoreKind",
    "find_constant_scores",
    "find_fixed_threshold",
    "find_sigmoid_on_distance",
    "find_swapped_scores",
    "read_pair_scores",
]

ScoreKind: TypeAlias = Literal["distance", "similarity", "score"]

_SAME_NAMES = ("same", "is_same", "label", "match", "y", "y_true", "target")
_VALUE_NAMES: dict[ScoreKind, tuple[str, ...]] = {
    "distance": ("distance", "dist", "d"),
    "similarity": ("similarity", "sim", "cosine", "cosine_similarity"),
    "score": ("score", "output", "prediction", "pred", "y_pred", "probability"),
}
_YES, _NO = ("1", "1.0", "true", "yes", "same"), ("0", "0.0", "false", "no", "different")
_USELESS = 0.02
_BETTER = 0.05
_FLAT = 1e-3


@final
@dataclass(frozen=True, eq=False)
class PairScores:
    """P pairs: a number for each, float64[P], and whether both pictures are of one class, bool[P].

    `kind` says what the number is: a distance (smaller for the same), a similarity (larger for the same), or a score of
    which that is not known.
    """

    source: str
    value: NDArray[np.float64]
    same: NDArray[np.bool_]
    kind: ScoreKind = "score"

    def __post_init__(self) -> None:
        problems = []
        if self.value.shape != self.same.shape or self.value.ndim != 1:
            problems.append(f"{self.source}: {self.value.shape} values for {self.same.shape} pairs; give one each")
        elif not np.isfinite(self.value).all():
            row = int(np.flatnonzero(~np.isfinite(self.value))[0])
            problems.append(f"{self.source}: pair {row}: {self.value[row]} is not a finite number; leave it out")
        elif min(int(self.same.sum()), int((~self.same).sum())) < 10:
            problems.append(
                f"{self.source}: {int(self.same.sum())} pairs of one class and {int((~self.same).sum())} of two; give "
                "at least 10 of each"
            )
        if problems:
            raise InputError(*problems)

    def auc(self) -> tuple[float, float]:
        """Return the probability that a pair of one class scores below one of two (ties count half), and its error.

        1 is a perfect distance, 0 a perfect similarity. The standard error is Hanley and McNeil's (1982), with Q₁ and
        Q₂ from the AUC.
        """
        from sklearn.metrics import roc_auc_score

        auc = float(roc_auc_score(~self.same, self.value))
        num_same, num_other = int(self.same.sum()), int((~self.same).sum())
        q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
        variance = auc * (1 - auc) + (num_other - 1) * (q1 - auc**2) + (num_same - 1) * (q2 - auc**2)
        return auc, math.sqrt(max(variance, 1.0 / 12.0) / (num_same * num_other))


def read_pair_scores(path: str | Path) -> PairScores:
    """Return the pairs of a CSV with a column `same` (1 or 0) and one of `distance`, `similarity` or `score`.

    Raises `InputError`, a line for each problem, if it is no CSV, if a column is missing or there twice, if a cell is
    not a number (or not 1, 0, true, false, same, different), or if there are fewer than 10 pairs of one class or of
    two.
    """
    path = Path(path)
    if path.suffix.lower() in (".parquet", ".pq"):
        raise InputError(f"{path}: pairs are a CSV file; write them as CSV")
    try:
        cells, rows = read_rows(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        raise InputError(f"{path}: a folder; give a CSV file") from None
    plain = {name: name.strip().lower() for name in cells}
    same_columns = [name for name in cells if plain[name] in _SAME_NAMES]
    value_columns: list[tuple[ScoreKind, str]] = [
        (kind, name) for kind, names in _VALUE_NAMES.items() for name in cells if plain[name] in names
    ]
    problems = []
    if len(same_columns) != 1:
        problems.append(f"{path}: {len(same_columns)} columns say whether a pair is of one class; name one 'same'")
    if len(value_columns) != 1:
        problems.append(
            f"{path}: {len(value_columns)} columns hold scores; name one 'distance', 'similarity' or 'score'"
        )
    if problems:
        raise InputError(*problems)
    kind, value_column = value_columns[0]
    same, values = [], []
    for row, same_cell, cell in zip(rows, cells[same_columns[0]], cells[value_column], strict=True):
        answer = same_cell.strip().lower()
        if answer not in (*_YES, *_NO):
            problems.append(f"{path}: row {row}: column {same_columns[0]!r}: {same_cell!r} is neither 1 nor 0")
        same.append(answer in _YES)
        try:
            values.append(float(cell))
        except ValueError:
            problems.append(f"{path}: row {row}: column {value_column!r}: {cell!r} is not a number; leave the row out")
    if problems:
        raise InputError(*at_most_20(problems))
    return PairScores(str(path), np.array(values, dtype=np.float64), np.array(same, dtype=np.bool_), kind)


def find_swapped_scores(pairs: PairScores) -> Finding | None:
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
    return Finding(
        cause="swapped",
        severity="error",
        what=f"The {pairs.kind} is {larger} for pairs of one class: AUC {right:.3f} ({right - 1.96 * error:.3f} to "
        f"{right + 1.96 * error:.3f}); 0.5 is chance",
        why="Distance and similarity have changed places, in the loss or where pairs are compared, or same and "
        "different have in the labels.",
        fix="Compare with < for distances and with > for similarities, and see that 1 means the same in the loss too.",
        numbers={"auc": right, "standard_error": error},
        share=1.0,
    )


def find_sigmoid_on_distance(pairs: PairScores, *, lower_rate: Mapping[str, Any] | None = None) -> Finding | None:
    """Find a sigmoid on a distance: every score lies in [0.5, 1], and none is smaller for different classes (AUC ≥ ½).

    Or, for σ(−d), every score lies in [0, 0.5], and none is larger for different classes. A column that is called a
    distance is no σ(−d): distances may be small. If half of the scores or more are where the slope of the sigmoid is
    below 0.001, steps were too large as well; `lower_rate` are the settings against that, if the rate is known.
    """
    low, high = float(pairs.value.min()), float(pairs.value.max())
    auc, error = pairs.auc()
    slack = 1e-6
    upper = low >= 0.5 - slack and high <= 1.0 + slack and auc >= 0.5 - 3 * error
    lower = pairs.kind == "score" and low >= -slack and high <= 0.5 + slack and auc <= 0.5 + 3 * error
    if pairs.kind == "similarity" or not (upper or lower):
        return None
    num_same, num = int(pairs.same.sum()), len(pairs.same)
    prior = 1.0 - num_same / num
    named = "σ(d)" if upper else "σ(−d)"
    where = f"at {'0.5 or above' if upper else '0.5 or below'} ({low:.4f} to {high:.4f})"
    flat = float((pairs.value * (1.0 - pairs.value) < _FLAT).mean())
    thrown = flat >= 0.5
    learned = f"their order is right in {max(auc, 1 - auc):.1%} of the cases, though"
    if abs(auc - 0.5) <= 3 * error:
        learned = "and their order says nothing"
    return Finding(
        cause="sigmoid-on-distance",
        severity="error",
        what=f"All {num:,} scores are {where}: read at 0.5, every pair is different, and accuracy is the share of "
        f"different pairs, {prior:.3f}; {learned}"
        + (f"; {flat:.0%} of the scores are where the sigmoid has no slope left" if thrown else ""),
        why=f"A distance is never negative, so {named} never crosses 0.5, and it has no slope where distances are "
        "large: the loss loses its gradient there"
        + (", and steps that were too large have thrown the pictures that far apart." if thrown else "."),
        fix="Train on the distance itself, without the sigmoid, "
        + ("at a tenth of the learning rate, from fresh weights, " if thrown else "")
        + "and choose the threshold on held-out pairs.",
        settings={"loss.name": "contrastive", **((lower_rate or {}) if thrown else {})},
        numbers={
            "smallest": low,
            "largest": high,
            "accuracy_at_half": prior,
            "auc": max(auc, 1 - auc),
            "flat_share": flat,
        },
        share=1.0,
    )


def find_constant_scores(pairs: PairScores) -> Finding | None:
    """Find scores that are all the same, within a millionth of the largest."""
    low, high = float(pairs.value.min()), float(pairs.value.max())
    if high - low > 1e-6 * max(abs(low), abs(high)):
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


def find_fixed_threshold(pairs: PairScores, *, threshold: float = 0.5, reported: float | None = None) -> Finding | None:
    """Find an accuracy read at a threshold that does not fit the scores.

    The accuracy at `threshold` is below that at the best one by 0.05 or more, at the lower end of its 95% interval. The
    best threshold is chosen on four fifths of the pairs and measured on the others, five times, so that it does not
    flatter. It is an error if the accuracy at `threshold` is no more than 0.02 above that of one answer for all, or if
    it is what the training reported.

    Args:
        pairs: scores of any kind; a score without a direction is taken the way in which it is better.
        threshold: the one in use.
        reported: an accuracy that the training wrote down.
    """
    auc, error = pairs.auc()
    smaller_is_same = pairs.kind == "distance" or (pairs.kind == "score" and auc >= 0.5)
    if (auc if smaller_is_same else 1.0 - auc) <= 0.5 + 3 * error:
        return None
    sign = 1.0 if smaller_is_same else -1.0
    value, limit, num = sign * pairs.value, sign * threshold, len(pairs.value)
    fixed = float(((value < limit) == pairs.same).mean())
    correct, chosen = 0, []
    fold = generator(0, "folds of pairs").permutation(num) % 5
    for k in range(5):
        best = _best_threshold(value[fold != k], pairs.same[fold != k])
        chosen.append(best)
        correct += int(((value[fold == k] < best) == pairs.same[fold == k]).sum())
    low, high = wilson_interval(correct, num)
    if low < fixed + _BETTER:
        return None
    prior = max(float(pairs.same.mean()), 1.0 - float(pairs.same.mean()))
    best = sign * float(np.median(chosen))
    was_reported = reported is not None and abs(reported - fixed) <= 0.01
    said = f" (the training reported {reported:.3f})" if was_reported else ""
    return Finding(
        cause="fixed-threshold",
        severity="error" if fixed <= prior + _USELESS or was_reported else "warning",
        what=f"Read at {threshold:g}, accuracy is {fixed:.3f}{said}; at {best:.4g} it is {correct / num:.3f} "
        f"({low:.3f} to {high:.3f}); one answer for all gives {prior:.3f}",
        why=f"A {pairs.kind} has no natural threshold: {threshold:g} is in the middle of a probability, not of these "
        f"numbers ({pairs.value.min():.3g} to {pairs.value.max():.3g}).",
        fix=f"Choose the threshold on held-out pairs (here {best:.4g}), or report AUC or recall@k, which need none.",
        numbers={
            "accuracy": fixed,
            "threshold": threshold,
            "best_accuracy": correct / num,
            "best_threshold": best,
            "low": low,
            "high": high,
            "one_answer": prior,
        },
        share=min(1.0, (correct / num - fixed) / max(correct / num - 0.5, 1e-9)),
    )


def _best_threshold(value: NDArray[np.float64], same: NDArray[np.bool_]) -> float:
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
