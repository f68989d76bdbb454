"""Causes that scores of pairs show: the wrong way round, all the same, at chance, a sigmoid on a distance."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, final

import numpy as np

from mohs.data.rows import decimal_points, read_rows
from mohs.doctor.findings import Finding
from mohs.doctor.same_column import OneMeans, read_same_column, told_by_distances
from mohs.errors import InputError, Problem, at_most_20
from mohs.evaluation.checked import Bools, Float64

__all__ = [
    "ReportedPairs", "ScoreKind", "find_constant_scores", "find_scores_at_chance", "find_sigmoid_on_distance",
    "find_swapped_scores", "read_reported_pairs",
]  # fmt: skip

ScoreKind: TypeAlias = Literal["distance", "similarity", "score"]

_VALUE_NAMES: dict[ScoreKind, tuple[str, ...]] = {
    "distance": ("distance", "dist", "d", "l2", "euclidean"),
    "similarity": ("similarity", "sim", "cosine", "cos"),
    "score": ("score", "output", "prediction", "pred", "y_pred", "probability"),
}
# Of accuracy where half of the pairs are of one class; elsewhere as a share of what one answer for all leaves open.
USELESS, BETTER = 0.02, 0.05
AS_REPORTED = 0.01
_FLAT = 1e-3
_AT_CHANCE = 0.65
# Of scores at the end of a sigmoid of distances near 0.
_NEAR_EDGE, _AT_EDGE = 0.02, 0.01
DEFAULT_THRESHOLD = 0.5


@final
@dataclass(frozen=True, eq=False)
class ReportedPairs:
    """P pairs: a number for each, float64[P], and whether both pictures are of one class, bool[P].

    `kind` says what the number is: a distance (smaller for the same), a similarity (larger for the same), or a score of
    which that is not known. `reading` is the line that says how a column that may be either way round was read.
    """

    source: str
    value: Float64
    same: Bools
    kind: ScoreKind = "score"
    reading: str = ""

    def __post_init__(self) -> None:
        if self.value.shape != self.same.shape or self.value.ndim != 1:
            raise InputError(
                Problem(self.source, f"{self.value.shape} values for {self.same.shape} pairs", "give one each")
            )
        if not np.isfinite(self.value).all():
            row = int(np.flatnonzero(~np.isfinite(self.value))[0])
            problem = f"pair {row}: {self.value[row]} is not a finite number"
            raise InputError(Problem(self.source, problem, "leave it out"))
        num_same, num_other = int(self.same.sum()), int((~self.same).sum())
        if min(num_same, num_other) < 10:
            problem = f"{num_same} pairs of one class and {num_other} of two"
            raise InputError(Problem(self.source, problem, "give at least 10 of each"))

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

    @property
    def sign(self) -> float:
        """1 if smaller is the same, −1 if larger is; of a score, whichever is better."""
        return 1.0 if self.kind == "distance" or (self.kind == "score" and self.auc()[0] >= 0.5) else -1.0

    def accuracy_at(self, threshold: float) -> float:
        """Return the share of pairs that are right at a threshold."""
        return float(((self.sign * self.value < self.sign * threshold) == self.same).mean())

    @property
    def constant(self) -> bool:
        """Whether all scores are the same, within a millionth of the largest."""
        return bool(np.ptp(self.value) <= 1e-6 * np.abs(self.value).max())

    @property
    def one_answer(self) -> float:
        """Accuracy of one answer for all pairs."""
        num_same = int(self.same.sum())
        return max(num_same, len(self.same) - num_same) / len(self.same)

    @property
    def open_share(self) -> float:
        """What that leaves open, as a share of what it leaves where half of the pairs are of one class."""
        return 2 * (1 - self.one_answer)


def _kind(name: str) -> ScoreKind | None:
    """Return what a column of that name holds: by the whole name, else by its last word ("cosine distance")."""
    plain = name.strip().lower().replace(" ", "_").replace("-", "_")
    for part in (plain, plain.rpartition("_")[2]):
        for kind, names in _VALUE_NAMES.items():
            if part in names and (part == plain or kind != "score"):
                return kind
    return None


def read_reported_pairs(path: str | Path, *, one_means: OneMeans | None = None) -> ReportedPairs:
    """Return the pairs of a CSV with a column `same` and one of `distance`, `similarity` or `score`.

    The names and cells of `read_same_column` are taken. In a column such as `label`, `y` or `target` 1 may be either:
    it is read as the same if distances or similarities say so (`told_by_distances`; `ReportedPairs.reading` then holds
    the line to show), or as `one_means` says.

    Raises `InputError`, a line for each problem, if it is no CSV, if a column is missing or there twice, if a cell is
    not a number (or none of those that say the same or different), if nothing says what 1 means, or if there are fewer
    than 10 pairs of one class or of two.
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
    value_columns = [(kind, name) for name in cells if (kind := _kind(name)) is not None]
    problems: list[str] = []
    column = None
    try:
        column = read_same_column(path, cells, rows, one_means=one_means)
    except InputError as error:
        problems += error.problems
    if len(value_columns) != 1:
        problems.append(
            f"{path}: {len(value_columns)} columns hold scores; name one 'distance', 'similarity' or 'score'"
        )
        raise InputError(*at_most_20(problems))
    kind, value_column = value_columns[0]
    values = []
    for row, cell in zip(rows, decimal_points(cells[value_column]), strict=True):
        try:
            values.append(float(cell))
        except ValueError:
            values.append(math.nan)
        if not math.isfinite(values[-1]):
            problems.append(
                f"{path}: row {row}: column {value_column!r}: {cell!r} is not a finite number; leave the row out"
            )
    if problems or column is None:
        raise InputError(*at_most_20(problems))
    value_P, reading = np.array(values, dtype=np.float64), ""
    if column.one_means is not None:
        return ReportedPairs(str(path), value_P, column.same(column.one_means), kind)
    if kind == "score":
        raise column.ask(f", and {value_column!r} has no direction that would tell")
    same = ReportedPairs(str(path), value_P, column.same("same"), kind).same  # refused if there are too few
    same, reading = told_by_distances(column, value_P if kind == "distance" else -value_P)
    return ReportedPairs(str(path), value_P, same, kind, reading)


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
    if reported is not None and reported > one_answer + BETTER * open_share:
        return None
    no_order = abs(auc - 0.5) <= 3 * error
    fixed = pairs.accuracy_at(DEFAULT_THRESHOLD if threshold is None else threshold)
    known = threshold is not None or (reported is not None and abs(reported - fixed) <= AS_REPORTED)
    if fixed > one_answer + USELESS * open_share if known else not no_order:
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
