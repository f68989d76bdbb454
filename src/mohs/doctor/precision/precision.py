"""Precision at the top: why the most confident matches are wrong, cause by cause, and what each one costs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt

from mohs.distances import check_embeddings, unit_rows
from mohs.doctor.findings import Diagnosis, Finding, ranked
from mohs.doctor.precision.attribution import CAUSES, PICTURE_CAUSES, Attribution, Cause, attribute
from mohs.doctor.precision.evidence import TripletMargin, check_margin
from mohs.doctor.precision.findings import cause_finding, dip_finding, margin_finding, norm_finding
from mohs.doctor.precision.suggestions import ItemFix, suggest_fixes
from mohs.doctor.precision.top_curve import TopCurve, top_curve
from mohs.doctor.precision.top_pairs import TopPairs, find_top_pairs
from mohs.errors import InputError
from mohs.evaluation.checked import Bools, Float32, Index, checked_labels

__all__ = ["AS_IT_IS", "WITHOUT_ALL", "PrecisionDiagnosis", "diagnose_precision"]

AS_IT_IS = "as it is"
WITHOUT_ALL = "without all of them"

# The curve is drawn down to here; pairs that much farther down say nothing about the top.
_CURVE_RECALL = 0.5


@final
@dataclass(frozen=True, eq=False)
class PrecisionDiagnosis:
    """What `diagnose_precision` found.

    Attributes:
        diagnosis: findings, worst first.
        pairs: the most similar pairs; the first `num_top` of them are *the top* that findings are about.
        num_top: how many.
        recall: the recall that the top reaches.
        classes_C: the labels by class code.
        attribution: the cause of each pair, and the evidence about each item.
        fixes: corrections, those that explain most first.
        curves: "as it is", "without CAUSE" for each cause that was found, "without all of them" (but look-alikes).
    """

    diagnosis: Diagnosis
    pairs: TopPairs
    num_top: int
    recall: float
    classes_C: npt.NDArray[Any]
    attribution: Attribution
    fixes: tuple[ItemFix, ...]
    curves: Mapping[str, TopCurve]

    @property
    def num_false(self) -> int:
        """How many false matches the top has."""
        return int((~self.pairs.same_P[: self.num_top]).sum())

    def false_pairs(self, cause: Cause) -> Index:
        """Return the rows of the top's false matches with this cause, most similar first."""
        top = slice(self.num_top)
        return np.flatnonzero(self.attribution.of(cause)[top] & ~self.pairs.same_P[top])

    def as_record(self) -> dict[str, Any]:
        """Return the numbers as JSON values."""
        return {
            "recall": self.recall,
            "threshold": float(self.pairs.similarity_P[self.num_top - 1]) if self.num_top else None,
            "num_pairs": self.num_top,
            "num_false": self.num_false,
            "num_all_pairs": self.pairs.num_pairs,
            "num_true_matches": self.pairs.num_positive,
            **self.diagnosis.as_record(),
            "curves": {name: curve.as_record() for name, curve in self.curves.items()},
        }


def diagnose_precision(
    embeddings_ND: npt.ArrayLike,
    labels_N: npt.ArrayLike,
    *,
    pictures_NHWC: npt.NDArray[np.uint8] | None = None,
    longer_side: Callable[[int], int] | None = None,
    query_N: Bools | None = None,
    recall: float = 0.1,
    threshold: float | None = None,
    margin: TripletMargin | None = None,
) -> PrecisionDiagnosis:
    """Return why pairs of different classes are among the most similar ones, and what to do.

    The top is every pair at least as similar as the true match at which `recall` is reached (or a given `threshold`),
    over all pairs, exact. Each false match in it gets one cause (`attribute`), each cause a finding with its share, and
    the curve as it would be if those pairs did not exist. A cause is an "error" if without it precision would be higher
    by 0.05 or more somewhere in the top (at the recalls of `RECALLS`), a "warning" from 0.005 on, else a "note".

    Args:
        embeddings_ND: numbers [N, D]; similarity is the dot product of their unit rows.
        labels_N: integers or strings [N].
        pictures_NHWC: uint8, the prepared pictures; without them causes that need pictures are not checked.
        longer_side: gives the longer side of an item's file in pixels, 0 if unknown.
        query_N: bool [N], queries; the others are the gallery. None: all items against all others.
        recall: how far down the top reaches, in (0, 0.5].
        threshold: similarity down to which the top reaches, instead.
        margin: of a triplet loss, to be held against the distances there are.

    Raises:
        InputError: what `find_top_pairs` refuses, or a `recall` out of range.
    """
    raw_ND = check_embeddings(embeddings_ND)
    x_ND = unit_rows(raw_ND)
    if not 0.0 < recall <= _CURVE_RECALL:
        raise InputError(f"recall: {recall!r} is not in (0, {_CURVE_RECALL}]; use for example 0.1")
    classes_C, class_N = np.unique(checked_labels(labels_N, "labels_N", len(x_ND)), return_inverse=True)
    class_N = class_N.astype(np.int64)
    pairs, num_top = _top(x_ND, class_N, query_N, recall, threshold)
    top = pairs.take(np.arange(num_top))
    found = attribute(
        pairs, num_top, x_ND, class_N, pictures_NHWC=pictures_NHWC, longer_side=longer_side, query_N=query_N
    )
    reached = float(top.same_P.sum()) / pairs.num_positive
    fixes = suggest_fixes(top, found, x_ND, class_N, query_N=query_N)
    as_it_is = top_curve(pairs)
    curves, query = {AS_IT_IS: as_it_is}, query_N is not None
    findings: list[Finding | None] = []
    for cause in CAUSES:
        of_cause_P = found.of(cause)
        if of_cause_P[:num_top].any():
            curves[f"without {cause}"] = without = top_curve(pairs, without_P=of_cause_P)
            of_curves = {"as_it_is": as_it_is, "without": without}
            findings.append(cause_finding(cause, top, found, fixes, recall=reached, query=query, **of_curves))
    removed_P = (found.cause_P >= 0) & ~found.of("look-alikes")
    curves[WITHOUT_ALL] = top_curve(pairs, without_P=removed_P if query else removed_P & ~pairs.same_P)
    findings.append(dip_finding(as_it_is))
    findings.append(norm_finding(raw_ND, class_N, as_it_is, query_N=query_N, recall=reached))
    not_checked: dict[str, str] = {}
    if pictures_NHWC is None:
        not_checked = dict.fromkeys(PICTURE_CAUSES, "there are no pictures; give a table whose files are there")
    if margin is None:
        not_checked["margin-too-large"] = "the margin of no triplet loss is known"
    else:
        reachable = check_margin(x_ND, class_N, margin)
        findings.append(margin_finding(reachable, margin))
    names = (*CAUSES, "too-few-pairs", "unnormalised", "margin-too-large")
    return PrecisionDiagnosis(
        diagnosis=Diagnosis(
            findings=ranked(finding for finding in findings if finding is not None),
            checked=tuple(name for name in names if name not in not_checked),
            not_checked=not_checked,
        ),
        pairs=pairs,
        num_top=num_top,
        recall=reached,
        classes_C=classes_C,
        attribution=found,
        fixes=fixes,
        curves=curves,
    )


def _top(
    x_ND: Float32, class_N: Index, query_N: Bools | None, recall: float, threshold: float | None
) -> tuple[TopPairs, int]:
    """Return the pairs of the curves, and how many of them are the top: down to the recall, or to the threshold."""
    pairs = find_top_pairs(x_ND, class_N, query_N=query_N, recall=_CURVE_RECALL)
    if threshold is None:
        return pairs, len(pairs.before_recall(recall))
    if threshold < pairs.threshold:
        pairs = find_top_pairs(x_ND, class_N, query_N=query_N, threshold=threshold)
    return pairs, int((pairs.similarity_P >= threshold).sum())
