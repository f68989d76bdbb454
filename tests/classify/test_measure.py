import json

import numpy as np
import pytest

from mohs.classify.classifier import Classifier
from mohs.classify.measure import measure_classifier
from mohs.errors import InputError
from mohs.evaluation.intervals import class_interval


def blobs(num_classes=8, per_class=10, *, seed=0, spread=1.0):
    random = np.random.default_rng(seed)
    class_N = np.repeat(np.arange(num_classes), per_class)
    centres = np.random.default_rng(99).normal(size=(num_classes, 6))
    return centres[class_N] + spread * random.normal(size=(len(class_N), 6)), np.array(list("abcdefgh"))[class_N]


@pytest.fixture(scope="module")
def fitted():
    x, y = blobs()
    known = np.isin(y, list("abcdef"))
    return Classifier(method="nearest-neighbours", min_similarity=0.8, num_folds=2).fit(x[known], y[known])


def test_numbers_as_defined(fitted):
    x, y = blobs(seed=1)
    found = measure_classifier(fitted, x, y)
    known = np.isin(y, list("abcdef"))
    proba, truth = fitted.predict_proba(x[known]), y[known]
    best = fitted.classes_[proba.argmax(axis=1)]
    order = fitted.classes_[np.argsort(-proba, axis=1)]
    assert (found.num_pictures, found.num_unknown, found.num_classes) == (60, 20, 6)
    assert found.accuracy == (best == truth).mean()
    assert found.top5_accuracy == (order[:, :5] == truth[:, None]).any(axis=1).mean()
    of_truth = proba[np.arange(60), np.searchsorted(fitted.classes_, truth)]
    assert found.negative_log_likelihood == pytest.approx(-np.log(of_truth).mean())
    assert found.interval == class_interval(best == truth, truth)
    of_class = [(best == truth)[truth == name].mean() for name in np.unique(truth)]
    assert found.accuracy_by_class == pytest.approx(np.mean(of_class))
    assert found.interval_by_class == class_interval(best == truth, truth, over="classes")
    assert sum(each.num_cases for each in found.reliability) == 60
    accepted = fitted.confidence(x) >= 0.8
    at = found.at_threshold
    assert at.coverage == accepted[known].mean()
    assert at.accuracy == (best == truth)[accepted[known]].mean()
    assert at.false_acceptance == accepted[~known].mean()
    assert [each.label for each in found.per_class] == list("abcdef")
    assert np.mean([each.accuracy for each in found.per_class]) == pytest.approx(found.accuracy)
    assert np.mean([each.mean_probability for each in found.per_class]) == pytest.approx(of_truth.mean())
    assert json.loads(json.dumps(found.as_record(), allow_nan=False))["accuracy"] == found.accuracy


def test_wrong_labels_make_every_number_worse(fitted):
    x, y = blobs(num_classes=6, seed=1)
    right, wrong = measure_classifier(fitted, x, y), measure_classifier(fitted, x, np.roll(y, 10))
    assert right.accuracy > wrong.accuracy
    assert right.top5_accuracy > wrong.top5_accuracy
    assert right.negative_log_likelihood < wrong.negative_log_likelihood
    assert right.expected_calibration_error < wrong.expected_calibration_error
    assert right.at_threshold.accuracy > wrong.at_threshold.accuracy
    assert right.at_threshold.false_acceptance is None


def test_a_collapsed_embedding_is_never_right():
    same, y = np.ones((30, 4)), np.array(list("abcdef"))[np.arange(30) % 6]
    found = measure_classifier(Classifier(method="nearest-catalog", num_folds=2).fit(same, y), same, y)
    assert (found.accuracy, found.top5_accuracy) == (0.0, 0.0)
    assert found.negative_log_likelihood == pytest.approx(np.log(6))
    assert found.calibration_warning.startswith("on 30 held-out pictures the true class scores no more than")
    assert found.at_threshold is None


def test_one_class_has_no_interval_and_unknown_ones_no_number(fitted):
    x, y = blobs()
    assert measure_classifier(fitted, x[:10], y[:10]).interval is None
    with pytest.raises(InputError) as caught:
        measure_classifier(fitted, x[60:], y[60:])
    assert str(caught.value) == (
        "y: none of the 2 classes is one of the 6 that the classifier knows; give pictures of those classes"
    )
