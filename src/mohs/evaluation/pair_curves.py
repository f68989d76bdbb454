"""Verification curves: what accepting all pairs closer than a threshold gets right and wrong."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt
from sklearn.metrics import auc, precision_recall_curve, roc_curve

from mohs.checks import require, several, wrong_number
from mohs.evaluation.checked import Float64, Index
from mohs.evaluation.pair_scores import PairScores, ScoreKind, pair_scores
from mohs.evaluation.ranked_pairs import at_most, equal_error

__all__ = ["FPRS", "PairCurves", "TprAtFpr", "checked_prevalence", "pair_curves", "pair_curves_of"]

FPRS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""The false positive rates at which the true positive rate is usually given."""


@final
@dataclass(frozen=True)
class TprAtFpr:
    """The true positive rate at a false positive rate.

    Attributes:
        fpr: the rate wanted.
        tpr: the largest TPR of a threshold whose FPR is at most that; None if the sample is too small to tell.
        num_negatives: how many negative pairs that rests on: with equal weights fpr · number of negatives, otherwise
            the effective number of the closest ones (`PairScores.closest_negatives`).
        reason: why there is none, "" if there is.
    """

    fpr: float
    tpr: float | None
    num_negatives: float
    reason: str


@final
@dataclass(frozen=True, eq=False)
class PairCurves:
    """Precision-recall and ROC curve of scored pairs, loosest threshold last in both.

    Attributes:
        kind: "distance" (a pair is accepted if it is at most the threshold) or "similarity" (at least).
        prevalence: share of positive pairs for which precision is given.
        num_positives: positive pairs.
        num_negatives: negative pairs.
        average_precision: Σ (R_k − R_{k−1}) P_k (scikit-learn's rule); at chance it is the prevalence.
        auc: area under the ROC curve: the probability that a positive pair is closer than a negative one, ties ½.
        equal_error_rate: where FPR = 1 − TPR on the ROC curve, with straight lines between its points.
        equal_error_threshold: the score nearest to it: that of smallest |FPR − (1 − TPR)|, of two such the stricter.
        tpr_at_fpr: for each rate asked for.
        recall: of the PR curve, ascending. At a tie all tied pairs come in at once.
        precision: of the PR curve.
        pr_threshold: of the PR curve.
        fpr: of the ROC curve, ascending, from 0.
        tpr: of the ROC curve, ascending, from 0.
        roc_threshold: of the ROC curve; the first accepts nothing and is infinite.
    """

    kind: ScoreKind
    prevalence: float
    num_positives: int
    num_negatives: int
    average_precision: float
    auc: float
    equal_error_rate: float
    equal_error_threshold: float
    tpr_at_fpr: tuple[TprAtFpr, ...]
    recall: Float64
    precision: Float64
    pr_threshold: Float64
    fpr: Float64
    tpr: Float64
    roc_threshold: Float64

    def as_record(self, *, num_points: int = 300) -> dict[str, Any]:
        """Return the numbers as JSON values, curves thinned to about `num_points` each."""
        pr = _thinned(self.recall, num_points)
        roc = _thinned(np.log10(np.maximum(self.fpr, 1e-12)), num_points)
        roc = roc[roc > 0]  # the first threshold is infinite
        return {
            "kind": self.kind,
            "prevalence": self.prevalence,
            "num_positives": self.num_positives,
            "num_negatives": self.num_negatives,
            "average_precision": self.average_precision,
            "auc": self.auc,
            "equal_error_rate": self.equal_error_rate,
            "equal_error_threshold": self.equal_error_threshold,
            "tpr_at_fpr": [asdict(at) for at in self.tpr_at_fpr],
            "precision_recall": {
                "recall": self.recall[pr].tolist(),
                "precision": self.precision[pr].tolist(),
                "threshold": self.pr_threshold[pr].tolist(),
            },
            "roc": {
                "fpr": self.fpr[roc].tolist(),
                "tpr": self.tpr[roc].tolist(),
                "threshold": self.roc_threshold[roc].tolist(),
            },
        }


def pair_curves(
    same_P: npt.ArrayLike,
    *,
    distance_P: npt.ArrayLike | None = None,
    similarity_P: npt.ArrayLike | None = None,
    weight_P: npt.ArrayLike | None = None,
    prevalence: float | None = None,
    fprs: Sequence[float] = FPRS,
) -> PairCurves:
    """Return the curves of scored pairs, by scikit-learn; give exactly one of `distance_P` and `similarity_P`.

    Precision depends on how many positive pairs there are for each negative one, which is a choice of whoever made the
    list. `prevalence` gives it for another share π of positive pairs: π·TPR / (π·TPR + (1 − π)·FPR). ROC curve, AUC and
    EER do not depend on it.

    A TPR at FPR x is given only if at least 10 negative pairs are expected to be accepted at that rate.

    Args:
        same_P: bool [P], whether each pair is of one class.
        distance_P: numbers [P], at least 0, smaller is closer.
        similarity_P: numbers [P], larger is closer.
        weight_P: numbers [P] above 0, how many pairs each stands for.
        prevalence: in (0, 1); none: the share by weight.
        fprs: false positive rates in (0, 1).

    Raises:
        InputError: what `pair_scores` refuses, or a share out of range.

    >>> curves = pair_curves([True, True, False, False], similarity_P=[0.9, 0.4, 0.5, 0.1])
    >>> curves.auc, round(curves.average_precision, 4), curves.equal_error_rate
    (0.75, 0.8333, 0.5)
    """
    scores = pair_scores(same_P, distance_P=distance_P, similarity_P=similarity_P, weight_P=weight_P)
    return pair_curves_of(scores, prevalence=prevalence, fprs=fprs)


def pair_curves_of(scores: PairScores, *, prevalence: float | None = None, fprs: Sequence[float] = FPRS) -> PairCurves:
    """Return the curves of checked scores; the rules of `pair_curves`."""
    share = checked_prevalence(prevalence, scores)
    fprs = several("fprs", fprs, "(0.01, 0.001)")
    require(*(wrong_number("fprs", x, above=0, below=1, example=0.001) for x in fprs))
    same_P, weight_P, closeness_P = scores.same_P, scores.weights_at(share), scores.closeness
    precision, recall, pr_threshold = precision_recall_curve(
        same_P, closeness_P, sample_weight=weight_P, drop_intermediate=True
    )
    # Scikit-learn's PR curve goes from the loosest threshold to the point (recall 0, precision 1), of no threshold.
    precision, recall, pr_threshold = precision[-2::-1], recall[-2::-1], pr_threshold[::-1]
    fpr, tpr, roc_threshold = roc_curve(same_P, closeness_P, sample_weight=weight_P, drop_intermediate=False)
    sign = 1.0 if scores.kind == "similarity" else -1.0
    over = np.abs(fpr + tpr - 1)
    return PairCurves(
        kind=scores.kind,
        prevalence=share,
        num_positives=int(same_P.sum()),
        num_negatives=int((~same_P).sum()),
        average_precision=float(np.diff(recall, prepend=0.0) @ precision),
        auc=float(auc(fpr, tpr)),
        equal_error_rate=equal_error(fpr, tpr),
        equal_error_threshold=scores.in_units(roc_threshold[1 + int(np.argmin(over[1:]))]),
        tpr_at_fpr=tuple(
            TprAtFpr(x, None if reason else float(tpr[at_most(fpr, x)]), effective, reason)
            for x, (effective, reason) in zip(fprs, scores.closest_negatives(fprs), strict=True)
        ),
        recall=recall,
        precision=precision,
        pr_threshold=sign * pr_threshold,
        fpr=fpr,
        tpr=tpr,
        roc_threshold=sign * roc_threshold,
    )


def checked_prevalence(prevalence: float | None, scores: PairScores) -> float:
    """Return the share of positive pairs to use; raise `InputError` if one is given that is not in (0, 1)."""
    if prevalence is None:
        return scores.prevalence
    require(wrong_number("prevalence", prevalence, above=0, below=1, example=0.5))
    return float(prevalence)


def _thinned(position: Float64, num_points: int) -> Index:
    """Return the places of about `num_points` points, evenly along `position` (ascending), ends included."""
    if len(position) <= num_points:
        return np.arange(len(position))
    wanted = np.linspace(position[0], position[-1], num_points)
    places = np.clip(np.searchsorted(position, wanted), 0, len(position) - 1)
    return np.unique(np.concatenate([[0], places, [len(position) - 1]])).astype(np.int64)
