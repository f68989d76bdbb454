"""Verification: are these two pictures of one class? Curves, thresholds and their intervals, in one call."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt

from mohs.errors import InputError
from mohs.evaluation.best_threshold import BestThreshold, best_threshold
from mohs.evaluation.inputs import checked_embeddings
from mohs.evaluation.operating_points import PairIntervals, pair_intervals
from mohs.evaluation.pair_curves import FPRS, PairCurves, pair_curves_of
from mohs.evaluation.pair_scores import pair_scores
from mohs.evaluation.pairs import Pairs, pair_distances, sample_pairs

__all__ = ["VerificationResult", "evaluate_pairs"]


@final
@dataclass(frozen=True, eq=False)
class VerificationResult:
    """What `evaluate_pairs` found. Scores are Euclidean distances.

    Attributes:
        law: which pairs, one sentence.
        curves: precision-recall and ROC curve, average precision, AUC, equal error rate, TPR at FPR.
        intervals: of all of these, with the thresholds of wanted precisions and false positive rates; None with a
            reason in `not_measured` if the classes are too few.
        best: threshold of best accuracy by cross-validation over classes; None likewise.
        not_measured: what is missing, by name, and why.
    """

    law: str
    curves: PairCurves
    intervals: PairIntervals | None
    best: BestThreshold | None
    not_measured: Mapping[str, str]

    def as_record(self) -> dict[str, Any]:
        """Return the numbers as JSON values."""
        return {
            "law": self.law,
            "curves": self.curves.as_record(),
            "intervals": None if self.intervals is None else self.intervals.as_record(),
            "best_accuracy": None if self.best is None else self.best.as_record(),
            "not_measured": dict(self.not_measured),
        }


def evaluate_pairs(
    embeddings_ND: npt.ArrayLike,
    labels_N: npt.ArrayLike,
    *,
    seed: int = 0,
    pairs: Pairs | None = None,
    prevalence: float | None = None,
    precisions: Sequence[float] = (0.9, 0.95, 0.99),
    fprs: Sequence[float] = FPRS,
    num_folds: int = 10,
    num_resamples: int = 400,
) -> VerificationResult:
    """Return how well the distance of two embeddings tells whether they are of one class.

    Stable: this signature up to `seed`, and of the result `law`, `curves`, `intervals`, `best`, `not_measured` and
    `as_record`; attributes may be added.
    """
    x_ND = checked_embeddings(embeddings_ND, "embeddings_ND")
    if pairs is None:
        pairs = sample_pairs(labels_N, embeddings_ND=x_ND, num_nearest=50_000, seed=seed)
    scores = pair_scores(pairs.same, distance_P=pair_distances(x_ND, pairs), weight_P=pairs.weight_P)
    class_2P = np.stack([pairs.class_N[pairs.first_P], pairs.class_N[pairs.second_P]])
    not_measured = {}
    intervals, best = None, None
    if len(np.unique(class_2P[0, scores.same_P])) > 1:
        intervals = pair_intervals(
            scores,
            class_2P,
            prevalence=prevalence,
            precisions=precisions,
            fprs=fprs,
            num_resamples=num_resamples,
            seed=seed,
        )
    else:
        not_measured["intervals"] = "positive pairs are of one class only; classes cannot be resampled"
    try:
        best = best_threshold(scores, class_2P, num_folds=num_folds, seed=seed)
    except InputError as error:
        not_measured["best_accuracy"] = str(error)
    return VerificationResult(
        pairs.law, pair_curves_of(scores, prevalence=prevalence, fprs=fprs), intervals, best, not_measured
    )
