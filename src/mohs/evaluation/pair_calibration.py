"""From the score of a pair to the probability that it is of one class, measured on classes it was not fitted on."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, final

import numpy as np
import numpy.typing as npt
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from mohs.errors import InputError
from mohs.evaluation.class_folds import fold_of_class, pairs_of_fold
from mohs.evaluation.inputs import as_numpy
from mohs.evaluation.pair_scores import PairScores, ScoreKind
from mohs.evaluation.reliability import ReliabilityBin, expected_calibration_error, reliability_table

__all__ = ["CalibrationMethod", "PairCalibration", "ScoreToProbability", "calibrate_pairs", "fit_probability"]

CalibrationMethod: TypeAlias = Literal["isotonic", "Platt"]


@final
@dataclass(frozen=True, eq=False)
class ScoreToProbability:
    """The probability that a pair of a given score is of one class.

    Attributes:
        method: "isotonic": straight lines between the points (score_K, probability_K), level beyond them, so never
            falling with closeness; "Platt": 1 / (1 + exp(−(slope · score + intercept))).
        kind: "distance" or "similarity".
        prevalence: share of positive pairs that it is for.
        score_K: float64 [K], ascending; empty for "Platt".
        probability_K: float64 [K]; empty for "Platt".
        slope: 0 for "isotonic".
        intercept: 0 for "isotonic".
    """

    method: CalibrationMethod
    kind: ScoreKind
    prevalence: float
    score_K: npt.NDArray[np.float64]
    probability_K: npt.NDArray[np.float64]
    slope: float
    intercept: float

    def __call__(self, score_P: npt.ArrayLike, *, prevalence: float | None = None) -> npt.NDArray[np.float64]:
        """Return the probability of each score, float64 [P].

        With `prevalence` π', the odds are multiplied by π'/(1 − π') · (1 − π)/π (Bayes): for another share of positive
        pairs than the map was fitted for. Probabilities of exactly 0 and 1, which "isotonic" gives beyond the scores
        where both kinds occurred, stay.
        """
        score: npt.NDArray[np.float64] = as_numpy(score_P).astype(np.float64)
        if self.method == "isotonic":
            p: npt.NDArray[np.float64] = np.interp(score, self.score_K, self.probability_K)
        else:
            p = _sigmoid(self.slope * score + self.intercept)
        if prevalence is None:
            return p
        if not 0 < prevalence < 1:
            raise InputError(f"prevalence: {prevalence!r} is not in (0, 1); use for example 0.5")
        factor = prevalence / (1 - prevalence) * (1 - self.prevalence) / self.prevalence
        shifted: npt.NDArray[np.float64] = factor * p / (factor * p + 1 - p)
        return shifted

    def as_record(self) -> dict[str, Any]:
        """Return the numbers as JSON values."""
        record = asdict(self)
        return record | {"score_K": self.score_K.tolist(), "probability_K": self.probability_K.tolist()}


@final
@dataclass(frozen=True, eq=False)
class PairCalibration:
    """A calibration and how good it is on classes that it was not fitted on.

    Attributes:
        probability: fitted on all pairs; the one to use.
        reliability: bins of the probabilities of folds, each fitted on the other folds' classes.
        expected_calibration_error: of these bins, in [0, 1], 0 is best.
        brier: mean of (probability − outcome)² of the same, at the same prevalence; 0 is best.
        brier_of_prevalence: of always saying the prevalence, π(1 − π); what is not below it is of no use.
        num_measured: pairs that these were measured on; those between classes of two folds are not among them.
    """

    probability: ScoreToProbability
    reliability: tuple[ReliabilityBin, ...]
    expected_calibration_error: float
    brier: float
    brier_of_prevalence: float
    num_measured: int

    def as_record(self) -> dict[str, Any]:
        """Return the numbers as JSON values; the map itself is left out if it is isotonic, since it may be long."""
        platt = self.probability.method == "Platt"
        return {
            "method": self.probability.method,
            "kind": self.probability.kind,
            "prevalence": self.probability.prevalence,
            "slope": self.probability.slope if platt else None,
            "intercept": self.probability.intercept if platt else None,
            "reliability": [asdict(each) for each in self.reliability],
            "expected_calibration_error": self.expected_calibration_error,
            "brier": self.brier,
            "brier_of_prevalence": self.brier_of_prevalence,
            "num_measured": self.num_measured,
        }


def calibrate_pairs(
    scores: PairScores,
    class_2P: npt.NDArray[np.int64],
    method: CalibrationMethod,
    *,
    prevalence: float = 0.5,
    num_folds: int = 5,
    num_bins: int = 15,
    seed: int = 0,
) -> PairCalibration:
    """Return the calibration of pair scores, cross-fitted over classes.

    For each fold of classes (`class_folds`) the map is fitted on the pairs without a class of the fold, and gives the
    probabilities of the fold's own pairs; reliability, ECE and Brier score are of these. Kinds are weighed so that
    positive pairs have the share `prevalence`, on each side.

    Args:
        scores: from `pair_scores`.
        class_2P: from `pair_classes`.
        method: "isotonic" or "Platt", see `fit_probability`.
        prevalence: in (0, 1): how many of the pairs that you will ask about are of one class.
        num_folds: at least 2; each needs two classes with a positive pair.
        num_bins: of the reliability table.
        seed: of the folds.

    Raises:
        InputError: too few classes for the folds, a fold without negative pairs, or a parameter out of range.
    """
    if method not in ("isotonic", "Platt"):
        raise InputError(f"method: {method!r} is not one of 'isotonic', 'Platt'; use for example 'isotonic'")
    if not 0 < prevalence < 1:
        raise InputError(f"prevalence: {prevalence!r} is not in (0, 1); use for example 0.5")
    fold_C = fold_of_class(class_2P, scores.same_P, num_folds, seed=seed)
    probabilities, outcomes, weights = [], [], []
    for fold in range(num_folds):
        others_P, own_P = pairs_of_fold(class_2P, fold_C, fold)
        own, others = scores.taken(own_P), scores.taken(others_P)
        if own.same_P.all():
            raise InputError(
                f"num_folds: fold {fold} of {num_folds} has no negative pair; use fewer folds or more negative pairs"
            )
        probabilities.append(fit_probability(others, method, prevalence=prevalence)(own.value_P))
        outcomes.append(own.same_P)
        weights.append(own.weights_at(prevalence))
    p_P, weight_P = np.concatenate(probabilities), np.concatenate(weights)
    same_P: npt.NDArray[np.bool_] = np.concatenate(outcomes)
    table = reliability_table(p_P, same_P, num_bins=num_bins, weight_N=weight_P)
    return PairCalibration(
        probability=fit_probability(scores, method, prevalence=prevalence),
        reliability=table,
        expected_calibration_error=expected_calibration_error(table),
        brier=float(weight_P @ np.square(p_P - same_P.astype(np.float64)) / weight_P.sum()),
        brier_of_prevalence=prevalence * (1 - prevalence),
        num_measured=len(p_P),
    )


def fit_probability(scores: PairScores, method: CalibrationMethod, *, prevalence: float) -> ScoreToProbability:
    """Return the map from score to probability, fitted by scikit-learn on all of the pairs at the given prevalence.

    "isotonic" is the non-falling step function of least squares (Zadrozny and Elkan 2002), as straight lines between
    the ends of its steps. "Platt" is a logistic regression on the score without penalty, with Platt's targets (1999):
    (K + 1)/(K + 2) for K positive and 1/(M + 2) for M negative pairs instead of 1 and 0, so that a perfect separation
    does not prove certainty.
    """
    weight_P = scores.weights_at(prevalence)
    closeness_P, same_P = scores.closeness, scores.same_P
    none = np.empty(0)
    if method == "isotonic":
        fitted = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
        fitted.fit(closeness_P, same_P.astype(np.float64), sample_weight=weight_P)
        closeness_K, probability_K = fitted.X_thresholds_, fitted.y_thresholds_
        if scores.kind == "distance":
            closeness_K, probability_K = -closeness_K[::-1], probability_K[::-1]
        return ScoreToProbability(method, scores.kind, prevalence, closeness_K, probability_K, 0.0, 0.0)
    # A target t is a case of weight t with outcome 1 and one of weight 1 − t with outcome 0.
    num_positive = int(same_P.sum())
    target_P = np.where(same_P, (num_positive + 1) / (num_positive + 2), 1 / (len(same_P) - num_positive + 2))
    middle, scale = float(scores.value_P.mean()), float(scores.value_P.std()) or 1.0
    standard_P = (scores.value_P - middle) / scale
    regression = LogisticRegression(C=np.inf, solver="newton-cholesky")
    regression.fit(
        np.concatenate([standard_P, standard_P])[:, None],
        np.repeat([1, 0], len(standard_P)),
        sample_weight=np.concatenate([weight_P * target_P, weight_P * (1 - target_P)]),
    )
    slope = float(regression.coef_[0, 0]) / scale
    intercept = float(regression.intercept_[0]) - slope * middle
    return ScoreToProbability(method, scores.kind, prevalence, none, none, slope, intercept)


def _sigmoid(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    # The exponent is never positive, so nothing overflows.
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))
