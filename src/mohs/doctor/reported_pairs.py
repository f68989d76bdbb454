"""A table of pairs: a score of each, and whether both are of one class, whichever way round its column says it."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias, final, get_args

import numpy as np

from mohs.data.rows import decimal_points, read_rows
from mohs.errors import InputError, Problem, at_most_20
from mohs.evaluation.checked import Bools, Float64

__all__ = ["OneMeans", "ReportedPairs", "check_one_means", "read_reported_pairs", "read_same_column"]

OneMeans: TypeAlias = Literal["same", "different"]

# What 1 means in a column of that name; None: nobody knows.
_MEANING: dict[str, OneMeans | None] = {
    **dict.fromkeys(
        ("same", "same_class", "match", "matched", "matching", "equal", "genuine", "similar", "duplicate"), "same"
    ),
    **dict.fromkeys(("different", "diff", "mismatch", "impostor", "dissimilar"), "different"),
    **dict.fromkeys(
        ("label", "labels", "y", "y_true", "target", "targets", "pair_label", "ground_truth", "gt", "class"), None
    ),
}
# A word says itself what it means, whatever the column is called.
_WORDS = {
    **dict.fromkeys(("same", "match", "equal", "genuine", "similar", "duplicate", "positive"), True),
    **dict.fromkeys(("different", "mismatch", "impostor", "dissimilar", "negative"), False),
}
_FLAGS = {
    **dict.fromkeys(("1", "1.0", "true", "yes", "t", "y"), True),
    **dict.fromkeys(("0", "0.0", "-1", "-1.0", "false", "no", "f", "n"), False),
}
_SURE = 0.6


@final
@dataclass(frozen=True, eq=False)
class SameColumn:
    """A column of P flags.

    Attributes:
        path: of the table, for messages.
        name: of the column.
        one_P: whether the cell is 1, true or yes, bool [P]; of a word, whether it means the same.
        word_P: whether the cell is a word, which needs no meaning, bool [P].
        one_means: what 1 means; None if neither the name nor the caller says it.
    """

    path: Path
    name: str
    one_P: Bools
    word_P: Bools
    one_means: OneMeans | None

    def same(self, one_means: OneMeans) -> Bools:
        """Return whether each pair is of one class if 1 means that, bool [P]."""
        same: Bools = np.where(self.word_P, self.one_P, self.one_P == (one_means == "same"))
        return same

    def ask(self, why: str) -> InputError:
        """Return the question which way round the column is, as an error."""
        what = f"1 may mean the same or different{why}"
        fix = "say which with one_means, or name the column 'same' or 'different'"
        return InputError(Problem(f"column {self.name!r}", what, fix, file=str(self.path), mentions=("one_means",)))


def check_one_means(one_means: str | None) -> None:
    """Raise `InputError` if it is neither None nor one of `OneMeans`."""
    if one_means is not None and one_means not in get_args(OneMeans):
        raise InputError(Problem("one_means", f"{one_means!r} is not 'same' or 'different'", "say what 1 means"))


def read_same_column(
    path: Path, columns: Mapping[str, Sequence[str]], rows: Sequence[int], *, one_means: OneMeans | None = None
) -> SameColumn:
    """Return the column of a table that says which pairs are of one class.

    Names are taken in capitals, too, with blanks or dashes for `_`, and with `is_` in front. `same`, `match`, `similar`
    and the like mean that 1 is the same; `different`, `mismatch` that 1 is different; `label`, `y`, `y_true` or
    `target` do not say it: then `one_means` must, or a caller that knows more. A column whose name says it goes first.
    Cells are 1/0 (or 1/-1, 1.0/0.0), true/false, yes/no, or words as same/different, match/mismatch, positive/negative.

    Args:
        path: of the table, for messages.
        columns: the cells of each column, as text.
        rows: the number of each row, for messages.
        one_means: "same" or "different", for a name that does not say it.

    Raises:
        InputError: no column or several, `one_means` against the name, or a line for each cell that is none of these.
    """
    check_one_means(one_means)
    plain = {name: _plain(name) for name in columns}
    named = [name for name in columns if plain[name] in _MEANING]
    clear = [name for name in named if _MEANING[plain[name]] is not None]
    found = clear or named
    if len(found) != 1:
        raise InputError(f"{path}: {len(found)} columns say whether a pair is of one class; name one 'same'")
    name = found[0]
    meaning = _MEANING[plain[name]]
    if meaning is not None and one_means not in (None, meaning):
        what = f"column {name!r} says that 1 means {meaning}, and one_means is {one_means!r}"
        fix = "leave one_means out, or rename the column"
        raise InputError(Problem(str(path), what, fix, mentions=("one_means",)))
    cells = [cell.strip().lower() for cell in columns[name]]
    if len(cells) != len(rows):
        raise InputError(f"{path}: column {name!r} holds neither text, whole numbers nor flags; store it as 1 and 0")
    problems = [
        f"{path}: row {row}: column {name!r}: {cell!r} is neither 1 nor 0 (nor true, false, same, different)"
        for row, cell in zip(rows, columns[name], strict=True)
        if cell.strip().lower() not in _WORDS and cell.strip().lower() not in _FLAGS
    ]
    if problems:
        raise InputError(*problems)
    word_P = np.array([cell in _WORDS for cell in cells], dtype=np.bool_)
    one_P = np.array([_WORDS[cell] if cell in _WORDS else _FLAGS[cell] for cell in cells], dtype=np.bool_)
    known = meaning or one_means or ("same" if word_P.all() else None)
    return SameColumn(path, name, one_P, word_P, known)


def _plain(name: str) -> str:
    """Return a name in small letters, with _ for blanks and dashes, and without "is" in front."""
    return re.sub(r"[ -]", "_", name.strip().lower()).removeprefix("is").lstrip("_")


ScoreKind: TypeAlias = Literal["distance", "similarity", "score"]

_VALUE_NAMES: dict[ScoreKind, tuple[str, ...]] = {
    "distance": ("distance", "dist", "d", "l2", "euclidean"),
    "similarity": ("similarity", "sim", "cosine", "cos"),
    "score": ("score", "output", "prediction", "pred", "y_pred", "probability"),
}


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
    it is read as the same if distances or similarities say so (`_told_by_distances`; `ReportedPairs.reading` then holds
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
    if column.one_means is None and kind == "score":
        raise column.ask(f", and {value_column!r} has no direction that would tell")
    pairs = ReportedPairs(str(path), np.array(values), column.same(column.one_means or "same"), kind)
    return _told_by_distances(column, pairs) if column.one_means is None else pairs


def _told_by_distances(column: SameColumn, pairs: ReportedPairs) -> ReportedPairs:
    """Return the pairs, whose 1 was read as the same, with the line that says how their scores tell that it is.

    Pairs of one class are closer. 1 is the same if pairs of 1 are closer than pairs of 0 with a probability (AUC) of
    0.6 or more, by three standard errors above one half (Hanley and McNeil 1982, at one half).

    Raises `InputError` if the scores do not say it, or say that 1 means different: that may as well be a mistake.
    """
    auc = pairs.auc()[0] if pairs.kind == "distance" else 1 - pairs.auc()[0]
    num_one, num_zero = int(pairs.same.sum()), int((~pairs.same).sum())
    error = float(np.sqrt((num_one + num_zero + 1) / (12.0 * num_one * num_zero)))
    if abs(auc - 0.5) <= 3 * error or abs(auc - 0.5) < _SURE - 0.5:
        raise column.ask(f", and the distances do not tell (pairs of 1 are the closer ones in {auc:.0%} of the cases)")
    if auc < 0.5:
        raise column.ask(
            f": pairs of 1 are the farther ones in {1 - auc:.1%} of the cases, so 1 means different, or distances or "
            "labels are the wrong way round"
        )
    closer = f"pairs of 1 are the closer ones in {auc:.1%} of the cases"
    reading = f"{column.path}: column {column.name!r}: read as 1 = same, since {closer}"
    return replace(pairs, reading=reading)
