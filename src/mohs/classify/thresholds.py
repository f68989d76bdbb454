"""The threshold of "none of these", chosen from pictures of classes that the classifier does not know."""

from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from mohs.checks import numbers, require, truths, wrong_number
from mohs.errors import InputError, Problem
from mohs.evaluation.checked import Bools, Float64, Index

__all__ = ["Threshold", "check_wanted", "choose_threshold"]

# 0.29 · 100 is a little less than 29.
_ROUNDING = 1e-9


@final
@dataclass(frozen=True)
class Threshold:
    """A threshold of confidence and what it gave on the pictures that it was chosen from.

    Attributes:
        value: a picture of confidence below it is "none of these".
        coverage: share of the pictures of known classes that were accepted; None if there were none.
        precision: share of right answers among all that were accepted, pictures of unseen classes too (for them every
            answer is wrong); None if nothing was accepted, or without pictures of known classes.
        false_acceptance: share of the pictures of unseen classes that were accepted; None if there were none.
        num_known: pictures of known classes.
        num_unseen: pictures of unseen classes.
    """

    value: float
    coverage: float | None
    precision: float | None
    false_acceptance: float | None
    num_known: int
    num_unseen: int


def choose_threshold(
    known_confidence_K: npt.ArrayLike,
    known_correct_K: npt.ArrayLike,
    unseen_confidence_U: npt.ArrayLike,
    *,
    min_precision: float | None = None,
    max_false_acceptance: float | None = None,
) -> Threshold:
    """Return the smallest threshold that keeps what is asked for on these pictures.

    A picture is accepted if its confidence is at or above the threshold. The candidates are 0, every confidence that
    occurs, and the next float64 above the largest one, at which nothing is accepted. With `max_false_acceptance` at
    most that share of the unseen pictures is accepted. With `min_precision` at least that share of all accepted
    pictures (known and unseen, so that their mix counts) is right, and at least one is accepted. Both may be asked for.
    The smallest such threshold refuses the fewest pictures; since it was chosen from these pictures, it does a little
    worse on others.

    Args:
        known_confidence_K: of pictures of known classes that the classifier was not fitted on; may be empty.
        known_correct_K: whether the class predicted for each was right, bool.
        unseen_confidence_U: of pictures of classes that it does not know; may be empty for `min_precision`.
        min_precision: in (0, 1].
        max_false_acceptance: in [0, 1).

    Raises:
        InputError: nothing asked for, a share out of range, no pictures for what is asked, or no threshold keeps it.

    >>> choose_threshold([0.9, 0.6, 0.4], [True, True, False], [0.5, 0.1], max_false_acceptance=0.0).value
    0.6
    >>> choose_threshold([0.9, 0.6, 0.4], [True, True, False], [0.5, 0.1], min_precision=0.6).value
    0.5
    """
    known_K = numbers("known_confidence_K", known_confidence_K).astype(np.float64)
    correct_K = truths("known_correct_K", known_correct_K)
    unseen_U = numbers("unseen_confidence_U", unseen_confidence_U).astype(np.float64)
    check_wanted(min_precision, max_false_acceptance)
    _check(known_K, correct_K, unseen_U, min_precision, max_false_acceptance)
    confidence = np.concatenate([known_K, unseen_U])
    candidates_T = np.unique(np.concatenate([[min(0.0, confidence.min())], confidence]))
    candidates_T = np.append(candidates_T, np.nextafter(candidates_T[-1], np.inf))
    accepted_known_T = _num_at_least(known_K, candidates_T)
    accepted_right_T = _num_at_least(known_K[correct_K], candidates_T)
    accepted_unseen_T = _num_at_least(unseen_U, candidates_T)
    accepted_T = accepted_known_T + accepted_unseen_T
    kept_T = np.ones(len(candidates_T), dtype=bool)
    if max_false_acceptance is not None:
        kept_T &= accepted_unseen_T <= max_false_acceptance * len(unseen_U) + _ROUNDING
    if min_precision is not None:
        kept_T &= (accepted_T > 0) & (accepted_right_T >= min_precision * accepted_T - _ROUNDING)
    if not kept_T.any():
        # Accepting nothing keeps any rate of false acceptance, so it is the precision that cannot be kept.
        allowed_T = accepted_T > 0
        beside = ""
        if max_false_acceptance is not None:
            allowed_T &= accepted_unseen_T <= max_false_acceptance * len(unseen_U) + _ROUNDING
            beside = f" that also keeps max_false_acceptance {max_false_acceptance:g}"
        best = float((accepted_right_T[allowed_T] / accepted_T[allowed_T]).max()) if allowed_T.any() else 0.0
        what = (
            f"no threshold{beside} reaches {min_precision:g} on these {len(known_K)} pictures of known and "
            f"{len(unseen_U)} of unseen classes (the best is {best:.3f})"
        )
        raise InputError(Problem("min_precision", what, "ask for less"))
    t = int(np.flatnonzero(kept_T)[0])
    return Threshold(
        value=float(candidates_T[t]),
        coverage=_share(accepted_known_T[t], len(known_K)),
        precision=_share(accepted_right_T[t], accepted_T[t]) if len(known_K) else None,
        false_acceptance=_share(accepted_unseen_T[t], len(unseen_U)),
        num_known=len(known_K),
        num_unseen=len(unseen_U),
    )


def check_wanted(min_precision: float | None, max_false_acceptance: float | None) -> None:
    """Raise `InputError` for what `choose_threshold` refuses whatever the pictures."""
    if min_precision is None and max_false_acceptance is None:
        raise InputError(Problem("min_precision, max_false_acceptance", "neither is given", "ask for one, or for both"))
    problems = []
    if min_precision is not None:
        problems.append(wrong_number("min_precision", min_precision, above=0, at_most=1, example=0.95))
    if max_false_acceptance is not None:
        problems.append(wrong_number("max_false_acceptance", max_false_acceptance, at_least=0, below=1, example=0.01))
    require(*problems)


def _check(
    known_K: Float64,
    correct_K: Bools,
    unseen_U: Float64,
    min_precision: float | None,
    max_false_acceptance: float | None,
) -> None:
    problems = []
    if known_K.ndim != 1 or unseen_U.ndim != 1 or known_K.shape != correct_K.shape:
        what, fix = "lengths differ", "give one of each for a picture"
        problems.append(Problem("known_confidence_K, known_correct_K", what, fix))
    elif not np.isfinite(np.concatenate([known_K, unseen_U])).all():
        what = "NaN or Inf among them"
        problems.append(Problem("known_confidence_K, unseen_confidence_U", what, "give finite numbers"))
    if min_precision is not None and not known_K.size:
        what, fix = "no picture of a known class was held out", "give such pictures, or use max_false_acceptance"
        problems.append(Problem("min_precision", what, fix))
    if max_false_acceptance is not None and not unseen_U.size:
        what, fix = "no picture of an unseen class", "give such pictures, or use min_precision"
        problems.append(Problem("max_false_acceptance", what, fix))
    if problems:
        raise InputError(*problems)


def _num_at_least(values: Float64, thresholds_T: Float64) -> Index:
    return np.asarray(len(values) - np.searchsorted(np.sort(values), thresholds_T, side="left"), dtype=np.int64)


def _share(part: np.int64, whole: int | np.int64) -> float | None:
    return float(part / whole) if whole else None
