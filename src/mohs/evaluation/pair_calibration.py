"""Whether a probability of 0.8 is right 8 times in 10."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, final

import numpy as np
import numpy.typing as npt
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from mohs.checks import numbers, require, truths, wrong_choice, wrong_number, wrong_whole
from mohs.errors import InputError
from mohs.evaluation.checked import Bools, Float64, Index
from mohs.evaluation.intervals import wilson_interval
from mohs.evaluation.pair_scores import PairScores, ScoreKind, folds_of

__all__ = [
    "CalibrationMethod",
    "PairCalibration",
    "ReliabilityBin",
    "ScoreToProbability",
    "calibrate_pairs",
    "expected_calibration_error",
    "fit_probability",
    "reliability_table",
]


@final
@dataclass(frozen=True)
class ReliabilityBin:
    """Cases (pictures, pairs) whose probability lies in (low, high]; in the first bin, in [0, high].

    Attributes:
        low: lower edge.
        high: upper edge.
        num_cases: how many there are.
        share: their share of all cases, by weight.
        mean_probability: by weight; None in an empty bin.
        frequency: share of them that were right, by weight; None in an empty bin.
        interval: 95% Wilson interval of the frequency, with the effective number of cases (Σw)²/Σw² (Kish 1965), which
            is the number of cases if all weigh the same; None in an empty bin.
    """

    low: float
    high: float
    num_cases: int
    share: float
    mean_probability: float | None
    frequency: float | None
    interval: tuple[float, float] | None


def reliability_table(
    probability_N: npt.ArrayLike, correct_N: npt.ArrayLike, *, num_bins: int = 15, weight_N: npt.ArrayLike | None = None
) -> tuple[ReliabilityBin, ...]:
    """Return `num_bins` bins of equal width over [0, 1], lowest first.

    `probability_N` is the probability that each case was given (of a classifier the largest one of each picture, of a
    pair that it is of one class), `correct_N` whether it came true. If probabilities are calibrated, mean probability
    and frequency are equal in every bin. `weight_N` says how much each case counts, 1 if there is none. Raises
    `InputError` for lengths that differ, no case, a probability outside of [0, 1], a weight that is not above 0, or
    fewer than one bin.

    >>> table = reliability_table([0.9, 0.8, 0.3], [True, False, False], num_bins=2)
    >>> [(b.num_cases, round(b.mean_probability, 2), b.frequency) for b in table]
    [(1, 0.3, 0.0), (2, 0.85, 0.5)]
    """
    p_N = numbers("probability_N", probability_N).astype(np.float64)
    correct = truths("correct_N", correct_N)
    if p_N.ndim != 1 or p_N.shape != correct.shape or not p_N.size:
        raise InputError(
            f"probability_N, correct_N: shapes {p_N.shape} and {correct.shape}; give one of each for a case"
        )
    # Softmax may exceed 1 by its rounding.
    if not ((p_N >= 0) & (p_N <= 1 + 1e-9)).all():
        raise InputError("probability_N: a value is not in [0, 1]; give probabilities")
    w_N = np.ones_like(p_N) if weight_N is None else numbers("weight_N", weight_N).astype(np.float64)
    if w_N.shape != p_N.shape or not ((w_N > 0) & np.isfinite(w_N)).all():
        raise InputError(f"weight_N: shape {w_N.shape}, or a value that is not above 0; give one weight for each case")
    require(wrong_whole("num_bins", num_bins, at_most=100_000, example=15))
    edges = np.linspace(0.0, 1.0, num_bins + 1)
    bin_N = np.clip(np.searchsorted(edges, p_N, side="left") - 1, 0, num_bins - 1)
    num_B = np.bincount(bin_N, minlength=num_bins)
    weight_B, square_B, probability_B, right_B = (
        np.bincount(bin_N, weights=values, minlength=num_bins) for values in (w_N, w_N**2, w_N * p_N, w_N * correct)
    )
    table = []
    for i in range(num_bins):
        filled = bool(num_B[i])
        # Sums of the same numbers in another order may differ in the last place.
        frequency = min(1.0, float(right_B[i] / weight_B[i])) if filled else None
        effective = float(weight_B[i] ** 2 / square_B[i]) if filled else 0.0
        table.append(
            ReliabilityBin(
                low=float(edges[i]),
                high=float(edges[i + 1]),
                num_cases=int(num_B[i]),
                share=float(weight_B[i] / w_N.sum()),
                mean_probability=float(probability_B[i] / weight_B[i]) if filled else None,
                frequency=frequency,
                interval=None if frequency is None else wilson_interval(frequency * effective, effective),
            )
        )
    return tuple(table)


def expected_calibration_error(table: tuple[ReliabilityBin, ...]) -> float:
    """Return ECE = Σ_b share_b |frequency_b − mean probability_b|, in [0, 1], 0 is best.

    Guo et al., "On calibration of modern neural networks", 2017, eq. 3. It grows with the number of bins and, at few
    cases, is above 0 for calibrated probabilities too.

    >>> expected_calibration_error(reliability_table([0.9, 0.9], [True, False]))
    0.4
    """
    return sum(
        each.share * abs(each.frequency - each.mean_probability)
        for each in table
        if each.frequency is not None and each.mean_probability is not None
    )


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
    score_K: Float64
    probability_K: Float64
    slope: float
    intercept: float

    def __call__(self, score_P: npt.ArrayLike, *, prevalence: float | None = None) -> Float64:
        """Return the probability of each score, float64 [P].

        With `prevalence` π', the odds are multiplied by π'/(1 − π') · (1 − π)/π (Bayes): for another share of positive
        pairs than the map was fitted for. Probabilities of exactly 0 and 1, which "isotonic" gives beyond the scores
        where both kinds occurred, stay.
        """
        score: Float64 = numbers("score_P", score_P).astype(np.float64)
        if self.method == "isotonic":
            p: Float64 = np.interp(score, self.score_K, self.probability_K)
        else:
            p = _sigmoid(self.slope * score + self.intercept)
        if prevalence is None:
            return p
        require(wrong_number("prevalence", prevalence, above=0, below=1, example=0.5))
        factor = prevalence / (1 - prevalence) * (1 - self.prevalence) / self.prevalence
        shifted: Float64 = factor * p / (factor * p + 1 - p)
        return shifted


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
    class_2P: Index,
    method: CalibrationMethod,
    *,
    prevalence: float = 0.5,
    num_folds: int = 5,
    seed: int = 0,
) -> PairCalibration:
    """Return the calibration of pair scores, cross-fitted over classes.

    For each fold of classes (`folds_of`) the map is fitted on the pairs without a class of the fold, and gives the
    probabilities of the fold's own pairs; reliability, ECE and Brier score are of these. Kinds are weighed so that
    positive pairs have the share `prevalence`, on each side.

    Args:
        scores: from `pair_scores`.
        class_2P: classes of both items of each pair, int64 [2, P], from 0 on.
        method: "isotonic" or "Platt", see `fit_probability`.
        prevalence: in (0, 1): how many of the pairs that you will ask about are of one class.
        num_folds: at least 2; each needs two classes with a positive pair.
        seed: of the folds.

    Raises:
        InputError: too few classes for the folds, a fold without negative pairs, or a parameter out of range.
    """
    require(
        wrong_choice("method", method, ("isotonic", "Platt")),
        wrong_number("prevalence", prevalence, above=0, below=1, example=0.5),
    )
    probabilities, outcomes, weights = [], [], []
    for others, own in folds_of(scores, class_2P, num_folds, seed=seed):
        probabilities.append(fit_probability(others, method, prevalence=prevalence)(own.value_P))
        outcomes.append(own.same_P)
        weights.append(own.weights_at(prevalence))
    p_P, weight_P = np.concatenate(probabilities), np.concatenate(weights)
    same_P: Bools = np.concatenate(outcomes)
    table = reliability_table(p_P, same_P, weight_N=weight_P)
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
    middle, scale = float(scores.value_P.mean()), float(scores.value_P.std())
    if scale == 0:
        # Scores that are all the same say nothing: the probability is the mean of the targets.
        mean = float(weight_P @ target_P)
        return ScoreToProbability(method, scores.kind, prevalence, none, none, 0.0, float(np.log(mean / (1 - mean))))
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


def _sigmoid(x: Float64) -> Float64:
    # The exponent is never positive, so nothing overflows.
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))
