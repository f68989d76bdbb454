"""The column of a table of pairs that says whether both items are of one class, and which way round it is."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, final, get_args

import numpy as np

from mohs.errors import InputError, Problem
from mohs.evaluation.checked import Bools, Float64

__all__ = ["OneMeans", "SameColumn", "check_one_means", "read_same_column", "told_by_distances"]

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


def told_by_distances(column: SameColumn, farness_P: Float64) -> tuple[Bools, str]:
    """Return which pairs are the same, bool [P], and the line that says how that was told.

    Pairs of one class are closer. 1 is read as the same if pairs of 1 are closer than pairs of 0 with a probability
    (AUC) of 0.6 or more, by three standard errors above one half (Hanley and McNeil 1982, at one half).

    Args:
        column: whose `one_means` is not known.
        farness_P: float64 [P], larger is farther: distances, or similarities with their sign turned.

    Raises:
        InputError: the distances do not say it, or say that 1 means different: that may as well be a mistake.
    """
    from sklearn.metrics import roc_auc_score

    one_P = column.same("same")
    num_one, num_zero = int(one_P.sum()), int((~one_P).sum())
    if not num_one or not num_zero:
        raise column.ask(", and all cells are alike")
    auc = float(roc_auc_score(~one_P, farness_P))
    error = float(np.sqrt((num_one + num_zero + 1) / (12.0 * num_one * num_zero)))
    if abs(auc - 0.5) <= 3 * error or abs(auc - 0.5) < _SURE - 0.5:
        raise column.ask(f", and the distances do not tell (pairs of 1 are the closer ones in {auc:.0%} of the cases)")
    if auc < 0.5:
        raise column.ask(
            f": pairs of 1 are the farther ones in {1 - auc:.1%} of the cases, so 1 means different, or distances or "
            "labels are the wrong way round"
        )
    closer = f"pairs of 1 are the closer ones in {auc:.1%} of the cases"
    return one_P, f"{column.path}: column {column.name!r}: read as 1 = same, since {closer}"
