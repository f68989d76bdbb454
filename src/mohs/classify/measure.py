"""How good a classifier is, on pictures that it was not fitted on."""

from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt

from mohs.classify.classifier import Classifier
from mohs.errors import InputError, Problem
from mohs.evaluation.checked import Array, Bools, Float64, checked_labels
from mohs.evaluation.intervals import class_interval, class_means
from mohs.evaluation.pair_calibration import ReliabilityBin, expected_calibration_error, reliability_table

__all__ = ["ClassScore", "Measurement", "ThresholdScore", "measure_classifier"]

# Of probabilities: relative, so that classes of equal score but for rounding count as tied.
_TIE_TOLERANCE = 1e-6


@final
@dataclass(frozen=True)
class ClassScore:
    """One class: how many pictures, the share of them in the right, and the mean probability of the right class."""

    label: str | int
    num_pictures: int
    accuracy: float
    mean_probability: float


@final
@dataclass(frozen=True)
class ThresholdScore:
    """What the threshold of "none of these" did.

    Attributes:
        threshold: a picture of confidence below it has no class.
        coverage: share of the pictures of known classes that were given a class.
        accuracy: share of right classes among those; None if there are none.
        false_acceptance: share of the pictures of unknown classes that were given a class; None if there are none.
    """

    threshold: float
    coverage: float
    accuracy: float | None
    false_acceptance: float | None


@final
@dataclass(frozen=True)
class Measurement:
    """What `measure_classifier` found, over the pictures of known classes but for `at_threshold`.

    Attributes:
        num_pictures: of classes that the classifier knows.
        num_unknown: pictures of other classes; they count in `at_threshold` alone.
        num_classes: how many classes it knows.
        accuracy: share of pictures whose class has the largest probability, whatever the threshold. Ties are
            pessimistic: a class as probable as the right one comes first.
        interval: 95% interval of it over classes; None if the pictures are of one class.
        accuracy_by_class: the same with each class counting the same: the mean over its pictures, then over classes.
        interval_by_class: 95% interval of that; None if the pictures are of one class.
        top5_accuracy: share whose class is among the five most probable, ties likewise.
        negative_log_likelihood: mean of −ln p(right class), in nats; ln C is chance.
        expected_calibration_error: over 15 bins, in [0, 1], 0 is best.
        reliability: the bins.
        at_threshold: None if the classifier has no threshold.
        per_class: each class of the pictures, in order.
        calibration_warning: the classifier's, "" if none.
    """

    num_pictures: int
    num_unknown: int
    num_classes: int
    accuracy: float
    interval: tuple[float, float] | None
    accuracy_by_class: float
    interval_by_class: tuple[float, float] | None
    top5_accuracy: float
    negative_log_likelihood: float
    expected_calibration_error: float
    reliability: tuple[ReliabilityBin, ...]
    at_threshold: ThresholdScore | None
    per_class: tuple[ClassScore, ...]
    calibration_warning: str

    def as_record(self) -> dict[str, Any]:
        """Return the numbers as JSON values."""
        return asdict(self)


def measure_classifier(classifier: Classifier, X: Any, y: npt.ArrayLike) -> Measurement:
    """Measure a fitted classifier on pictures (or embeddings, or files) that it was not fitted on.

    Args:
        classifier: fitted.
        X: as everywhere in `Classifier`.
        y: classes, [N], strings or integers as in `fit`; those that the classifier does not know are unknown pictures,
            whose right answer is "none of these".

    Raises:
        InputError: no picture of a known class, or input that cannot be used.

    >>> x_ND = np.random.default_rng(0).normal(size=(60, 4)) + 4 * np.eye(4)[np.arange(60) % 3]
    >>> labels = np.array(["a", "b", "c"])[np.arange(60) % 3]
    >>> fitted = Classifier(method="nearest-neighbours").fit(x_ND[:30], labels[:30])
    >>> found = measure_classifier(fitted, x_ND[30:], labels[30:])
    >>> found.accuracy > 0.9, found.top5_accuracy, found.at_threshold
    (True, 1.0, None)
    """
    log_proba_NC = classifier.log_proba(X)
    labels_N = checked_labels(y, "y", len(log_proba_NC))
    known_N = np.isin(labels_N, classifier.classes_)
    if not known_N.any():
        num_given, num_known = len(np.unique(labels_N)), len(classifier.classes_)
        what = f"none of the {num_given} classes is one of the {num_known} that the classifier knows"
        raise InputError(Problem("y", what, "give pictures of those classes"))
    log_proba_KC, labels_K = log_proba_NC[known_N], labels_N[known_N]
    class_K = np.searchsorted(classifier.classes_, labels_K)
    log_true_K = log_proba_KC[np.arange(len(class_K)), class_K]
    rank_K = (log_proba_KC >= log_true_K[:, None] - _TIE_TOLERANCE).sum(axis=1)
    correct_K = rank_K == 1
    table = reliability_table(np.exp(log_proba_KC.max(axis=1)), correct_K)
    several = len(np.unique(labels_K)) > 1
    at_threshold = None
    if classifier.threshold is not None:
        accepted_N = classifier.confidence(X) >= classifier.threshold
        accepted_K = accepted_N[known_N]
        at_threshold = ThresholdScore(
            threshold=classifier.threshold,
            coverage=float(accepted_K.mean()),
            accuracy=float(correct_K[accepted_K].mean()) if accepted_K.any() else None,
            false_acceptance=None if known_N.all() else float(accepted_N[~known_N].mean()),
        )
    return Measurement(
        num_pictures=len(class_K),
        num_unknown=int((~known_N).sum()),
        num_classes=len(classifier.classes_),
        accuracy=float(correct_K.mean()),
        interval=class_interval(correct_K, labels_K) if several else None,
        accuracy_by_class=class_means([correct_K], labels_K)[0],
        interval_by_class=class_interval(correct_K, labels_K, over="classes") if several else None,
        top5_accuracy=float((rank_K <= 5).mean()),
        negative_log_likelihood=float(-log_true_K.mean()),
        expected_calibration_error=expected_calibration_error(table),
        reliability=table,
        at_threshold=at_threshold,
        per_class=_per_class(labels_K, correct_K, np.exp(log_true_K)),
        calibration_warning=classifier.calibration_.warning,
    )


def _per_class(labels_K: Array, correct_K: Bools, probability_K: Float64) -> tuple[ClassScore, ...]:
    labels, code_K = np.unique(labels_K, return_inverse=True)
    count = np.bincount(code_K)
    accuracy = np.bincount(code_K, weights=correct_K) / count
    probability = np.bincount(code_K, weights=probability_K) / count
    rows = zip(labels.tolist(), count.tolist(), accuracy.tolist(), probability.tolist(), strict=True)
    return tuple(ClassScore(*row) for row in rows)
