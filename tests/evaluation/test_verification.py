import json

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from mohs.errors import InputError
from mohs.evaluation.pairs import Pairs, sample_pairs
from mohs.evaluation.verification import evaluate_pairs


def unit_clusters(num_classes, per_class, *, noise, seed=0, dimensions=16):
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(num_classes), per_class)
    x = random.normal(size=(num_classes, dimensions))[labels] + noise * random.normal(size=(len(labels), dimensions))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), labels


def test_a_small_set_is_measured_on_all_its_pairs():
    x, labels = unit_clusters(40, 3, noise=0.8)
    found = evaluate_pairs(torch.tensor(x), labels, num_resamples=60)
    first, second = np.triu_indices(120, 1)
    same = labels[first] == labels[second]
    similarity = (x[first].astype(np.float64) * x[second]).sum(axis=1)
    assert found.law == "all 120 pairs of one class; all 7,020 of two classes"
    assert found.curves.average_precision == pytest.approx(average_precision_score(same, similarity), abs=1e-6)
    assert found.curves.auc == pytest.approx(roc_auc_score(same, similarity), abs=1e-6)
    assert found.curves.prevalence == pytest.approx(120 / 7140)
    assert found.unit_length
    assert found.not_measured == {}
    assert 0.8 < found.best.accuracy < 1
    assert found.intervals.auc[0] < found.curves.auc < found.intervals.auc[1]
    assert [point.level for point in found.intervals.operating_points[:3]] == [0.9, 0.95, 0.99]
    assert set(found.calibration) == {"isotonic", "Platt"}
    assert all(each.probability.kind == "similarity" for each in found.calibration.values())
    assert all(each.brier < 0.2 for each in found.calibration.values())
    top = found.top
    assert top.num_accepted_T[-1] == 1000
    order = np.argsort(-similarity, kind="stable")
    assert top.num_right_T[-1] == same[order[:1000]].sum()
    assert found.histogram.kind == "distance"


def test_the_record_is_json_and_the_seed_decides():
    x, labels = unit_clusters(40, 3, noise=0.8)
    once, again, other = (evaluate_pairs(x, labels, num_resamples=30, seed=seed).as_record() for seed in (1, 1, 2))
    assert json.dumps(once, allow_nan=False) == json.dumps(again, allow_nan=False)
    assert once["curves"] == other["curves"]  # all pairs: nothing is drawn
    assert once["intervals"] != other["intervals"]
    assert once["best_accuracy"]["fold_accuracy"] != other["best_accuracy"]["fold_accuracy"]


def test_a_sample_says_what_all_pairs_say():
    x, labels = unit_clusters(150, 3, noise=0.9)
    whole = evaluate_pairs(x, labels, pairs=sample_pairs(labels, num_negatives=10**6), num_resamples=20)
    sampled = evaluate_pairs(
        x,
        labels,
        pairs=sample_pairs(labels, embeddings_ND=x, num_nearest=1000, num_negatives=5000),
        num_resamples=20,
    )
    assert whole.law.endswith("all 100,575 of two classes")
    assert sampled.law.endswith("the 1,000 closest and 5,000 drawn of the other 99,575 of two classes")
    assert sampled.curves.prevalence == pytest.approx(whole.curves.prevalence)
    assert sampled.curves.auc == pytest.approx(whole.curves.auc, abs=0.002)
    assert sampled.curves.average_precision == pytest.approx(whole.curves.average_precision, abs=0.005)
    assert sampled.best.accuracy == pytest.approx(whole.best.accuracy, abs=0.01)
    # As far down as all pairs were looked at, there is no noise at all.
    for at, expected in zip(sampled.curves.tpr_at_fpr[2:4], whole.curves.tpr_at_fpr[2:4], strict=True):
        assert at.tpr == pytest.approx(expected.tpr, abs=1e-12)
    np.testing.assert_array_equal(sampled.top.num_right_T, whole.top.num_right_T)
    precise, expected = sampled.intervals.operating_points[0], whole.intervals.operating_points[0]
    assert precise.threshold == expected.threshold


def test_swapped_labels_and_collapsed_rows_are_chance():
    x, labels = unit_clusters(40, 3, noise=0.8)
    shuffled = np.random.default_rng(0).permutation(labels)
    found = evaluate_pairs(x, shuffled, num_resamples=40)
    assert found.intervals.auc[0] < 0.5 < found.intervals.auc[1]
    assert found.best.accuracy < 0.6
    collapsed = evaluate_pairs(np.ones((120, 4)), labels, num_resamples=20)
    assert (collapsed.curves.auc, collapsed.best.accuracy) == (0.5, 0.5)
    assert collapsed.curves.average_precision == pytest.approx(120 / 7140)
    assert collapsed.top.num_accepted_T.tolist() == [7140]


def test_rows_of_any_length_are_calibrated_by_distance():
    x, labels = unit_clusters(40, 3, noise=0.3)
    found = evaluate_pairs(3 * x, labels, num_resamples=20)
    assert not found.unit_length
    assert found.calibration["Platt"].probability.kind == "distance"
    assert found.calibration["Platt"].probability.slope < 0
    # Half precision is unit length still.
    assert evaluate_pairs(x.astype(np.float16), labels, num_resamples=20).unit_length


def test_pairs_of_ones_own_need_no_labels():
    x, labels = unit_clusters(60, 2, noise=0.5)
    first = np.concatenate([np.arange(0, 120, 2), np.arange(0, 118)])
    second = np.concatenate([np.arange(1, 120, 2), np.arange(2, 120)])
    pairs = Pairs(first, second, labels, np.ones(len(first)), "178 pairs of a list")
    found = evaluate_pairs(x, None, pairs=pairs, num_resamples=20, num_folds=2)
    assert found.law == "178 pairs of a list"
    assert found.curves.prevalence == pytest.approx(60 / 178)
    assert found.curves.num_positives == 60
    assert found.top.num_accepted_T[-1] == 178


def test_what_cannot_be_measured_is_said():
    x, labels = unit_clusters(8, 3, noise=0.5)
    found = evaluate_pairs(x, labels, num_resamples=20)
    assert found.best is None
    assert found.not_measured == {
        "calibration, isotonic": "num_folds: 5 folds need 10 classes with a positive pair, and there are 8; "
        "use fewer folds or more classes",
        "calibration, Platt": "num_folds: 5 folds need 10 classes with a positive pair, and there are 8; "
        "use fewer folds or more classes",
        "best_accuracy": "num_folds: 10 folds need 20 classes with a positive pair, and there are 8; "
        "use fewer folds or more classes",
    }
    one = evaluate_pairs(x[:5], [0, 0, 1, 2, 3])
    assert one.intervals is None
    assert one.not_measured["intervals"] == "positive pairs are of one class only; resampling classes needs two"
    json.dumps(one.as_record(), allow_nan=False)
    drawn = sample_pairs(labels, num_negatives=20)
    drawn_first = evaluate_pairs(np.where(labels[:, None] < 9, 0.0 * x, x), labels, pairs=drawn, num_resamples=20)
    assert drawn_first.top is None
    assert drawn_first.not_measured["top"] == (
        "weight_P: the closest pair has a weight other than 1, so pairs as close may be missing; look at all "
        "of the closest pairs"
    )


@pytest.mark.parametrize(
    ("x", "labels", "message"),
    [
        (
            [[0.0], [1.0]],
            [0, 1],
            "labels_N: 2 classes, 0 of them with two items; pairs of one class and of two are both needed",
        ),
        (
            [[0.0], [1.0]],
            [0, 0],
            "labels_N: 1 class, 1 of them with two items; pairs of one class and of two are both needed",
        ),
        (
            [[0.0], [np.nan], [1.0]],
            [0, 0, 1],
            "embeddings_ND: row 1 holds NaN, Inf or is longer than 1e+18 (1 of 3 rows do); "
            "every embedding must be finite",
        ),
        ([[0.0], [1.0]], [0, 0, 1], "embeddings_ND: 2 rows, but the pairs are of 3 items; give the same"),
        ([[0.0], [1.0]], None, "labels_N: none, and no pairs either; give one of them"),
    ],
)
def test_messages(x, labels, message):
    with pytest.raises(InputError) as caught:
        evaluate_pairs(x, labels)
    assert str(caught.value) == message
