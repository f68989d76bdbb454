"""Verification: are these two pictures of one class? Curves, thresholds, probabilities and intervals, in one call."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar, final

import numpy as np
import numpy.typing as npt

from mohs.checks import require, wrong_kind
from mohs.distances import similarity_at_distance
from mohs.errors import InputError
from mohs.evaluation.checked import checked_embeddings
from mohs.evaluation.operating_points import PairIntervals, pair_intervals
from mohs.evaluation.pair_calibration import CalibrationMethod, PairCalibration, calibrate_pairs
from mohs.evaluation.pair_curves import FPRS, PairCurves, pair_curves_of
from mohs.evaluation.pair_scores import PairScores, ScoreHistogram, pair_scores, score_histogram
from mohs.evaluation.pairs import Pairs, cross_pairs, pair_distances, sample_pairs
from mohs.evaluation.thresholds import BestThreshold, best_threshold
from mohs.evaluation.top_precision import TopPrecision, top_precision

__all__ = ["NUM_NEAREST", "VerificationResult", "evaluate_pairs"]

NUM_NEAREST = 50_000
"""How many of the closest negative pairs `evaluate_pairs` looks at, besides those that it draws."""

# A row counts as of unit length if its norm is off by no more than half precision makes it.
_UNIT_TOLERANCE = 1e-3

_T = TypeVar("_T")


@final
@dataclass(frozen=True, eq=False)
class VerificationResult:
    """What `evaluate_pairs` found. Scores and thresholds are Euclidean distances, but for `calibration`.

    What could not be measured is None (or left out of `calibration`), with the reason in `not_measured`.

    Attributes:
        law: which pairs, one sentence.
        unit_length: whether all rows have length 1 (to 0.001): a distance d then is a cosine similarity of 1 − d²/2
            (`mohs.distances.similarity_at_distance`).
        curves: precision-recall and ROC curve, average precision, AUC, equal error rate, TPR at FPR.
        intervals: of all of these; thresholds of wanted precisions and false positive rates with theirs; bands.
        best: threshold of best accuracy at as many positive as negative pairs, by 10-fold cross-validation over
            classes.
        calibration: "isotonic" and "Platt", at as many positive as negative pairs; of the similarity if rows have unit
            length, otherwise of the distance.
        top: precision among the closest pairs, as far as all pairs that close were looked at.
        histogram: of the distances of both kinds.
        not_measured: what is missing, by name, and why.
    """

    law: str
    unit_length: bool
    curves: PairCurves
    intervals: PairIntervals | None
    best: BestThreshold | None
    calibration: Mapping[str, PairCalibration]
    top: TopPrecision | None
    histogram: ScoreHistogram
    not_measured: Mapping[str, str]

    def as_record(self) -> dict[str, Any]:
        """Return the numbers as JSON values, curves thinned."""
        return {
            "law": self.law,
            "unit_length": self.unit_length,
            "curves": self.curves.as_record(),
            "intervals": None if self.intervals is None else self.intervals.as_record(),
            "best_accuracy": None if self.best is None else self.best.as_record(),
            "calibration": {name: found.as_record() for name, found in self.calibration.items()},
            "top": None if self.top is None else self.top.as_record(),
            "histogram": self.histogram.as_record(),
            "not_measured": dict(self.not_measured),
        }


def evaluate_pairs(
    embeddings_ND: npt.ArrayLike,
    labels_N: npt.ArrayLike | None,
    *,
    seed: int = 0,
    pairs: Pairs | None = None,
    query_N: npt.ArrayLike | None = None,
    prevalence: float | None = None,
    precisions: Sequence[float] = (0.9, 0.95, 0.99),
    fprs: Sequence[float] = FPRS,
    num_folds: int = 10,
    num_resamples: int = 400,
    num_ranks: int = 1000,
) -> VerificationResult:
    """Return how well the distance of two embeddings tells whether they are of one class.

    Pairs are those given, or `sample_pairs` with its defaults and the 50,000 closest negative pairs: up to about 1,000
    items that is all of them, beyond that the closest and a sample. Distances are Euclidean; divide rows by their norms
    first if you compare by cosine. Precision is that among *all* pairs of the items unless you say otherwise: among
    few of one class and very many of two, which makes it low; see `prevalence`.

    This signature up to `seed` and the names in the result are stable; arguments and attributes may be added.

    Args:
        embeddings_ND: numbers [N, D], numpy or torch.
        labels_N: integers or strings [N]; not read, and may be None, if pairs are given.
        seed: of the pairs, folds and resamples.
        pairs: from `sample_pairs`, or your own; none: as said above.
        query_N: bool [N], which items are queries: pairs are then of a query and an item that is none (`cross_pairs`),
            as in a search; none: any two items.
        prevalence: share of positive pairs that precision is for, in (0, 1); none: that of all pairs of the items,
            or of the given pairs.
        precisions: wanted precisions, each with its threshold.
        fprs: wanted false positive rates, each with its threshold.
        num_folds: of the threshold of best accuracy.
        num_resamples: of the classes; 1,000 would make the ends of intervals smoother.
        num_ranks: how many of the closest pairs `top` covers at most.

    Raises:
        InputError: embeddings or labels that cannot be used, no positive or no negative pair, or a parameter out of
            range.

    >>> x_ND = np.random.default_rng(0).normal(size=(60, 8)) + 6 * np.eye(8)[np.arange(60) % 6]
    >>> found = evaluate_pairs(x_ND, np.arange(60) % 6, num_folds=3, num_resamples=50)
    >>> found.law
    'all 270 pairs of one class; all 1,500 of two classes'
    >>> found.curves.auc > 0.9, found.best.accuracy > 0.8, found.intervals.auc[0] < found.curves.auc
    (True, True, True)
    """
    x_ND = checked_embeddings(embeddings_ND, "embeddings_ND")
    if pairs is None:
        pairs = _closest_and_drawn(x_ND, labels_N, query_N, seed=seed)
    require(wrong_kind("pairs", pairs, Pairs, "give Pairs(...) of mohs.evaluation.pairs, or leave it out"))
    scores = pair_scores(pairs.same, distance_P=pair_distances(x_ND, pairs), weight_P=pairs.weight_P)
    class_2P = np.stack([pairs.class_N[pairs.first_P], pairs.class_N[pairs.second_P]])
    unit_length = bool((np.abs(np.linalg.norm(x_ND, axis=1) - 1) <= _UNIT_TOLERANCE).all())
    similar = (
        replace(scores, value_P=similarity_at_distance(scores.value_P), kind="similarity") if unit_length else None
    )
    not_measured: dict[str, str] = {}

    def measured(name: str, measure: Callable[[], _T]) -> _T | None:
        try:
            return measure()
        except InputError as error:
            not_measured[name] = str(error)
            return None

    curves = pair_curves_of(scores, prevalence=prevalence, fprs=fprs)
    intervals = None
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
        not_measured["intervals"] = "positive pairs are of one class only; resampling classes needs two"
    methods: tuple[CalibrationMethod, ...] = ("isotonic", "Platt")
    calibrated = {
        method: measured(
            f"calibration, {method}", partial(calibrate_pairs, similar or scores, class_2P, method, seed=seed)
        )
        for method in methods
    }
    return VerificationResult(
        law=pairs.law,
        unit_length=unit_length,
        curves=curves,
        intervals=intervals,
        best=measured("best_accuracy", lambda: best_threshold(scores, class_2P, num_folds=num_folds, seed=seed)),
        calibration={method: found for method, found in calibrated.items() if found is not None},
        top=measured("top", lambda: _top(scores, num_ranks)),
        histogram=score_histogram(scores),
        not_measured=not_measured,
    )


def _closest_and_drawn(
    x_ND: npt.ArrayLike, labels_N: npt.ArrayLike | None, query_N: npt.ArrayLike | None, *, seed: int
) -> Pairs:
    """Return all pairs of few items, and of many the closest negative ones and a sample."""
    if labels_N is None:
        raise InputError("labels_N: none, and no pairs either; give one of them")
    if query_N is None:
        return sample_pairs(labels_N, embeddings_ND=x_ND, num_nearest=NUM_NEAREST, seed=seed)
    return cross_pairs(labels_N, query_N, embeddings_ND=x_ND, num_nearest=NUM_NEAREST, seed=seed)


def _top(scores: PairScores, num_ranks: int) -> TopPrecision:
    # A pair that stands for others says that others as close may not have been looked at.
    sampled_P = scores.weight_P != 1
    nearest = scores.value_P[sampled_P].min() if sampled_P.any() else np.inf
    whole = scores.taken(scores.value_P < nearest)
    if not len(whole.value_P):
        raise InputError(
            "weight_P: the closest pair has a weight other than 1, so pairs as close may be missing; look at all "
            "of the closest pairs"
        )
    return top_precision(whole.same_P, distance_P=whole.value_P, num_ranks=num_ranks)
