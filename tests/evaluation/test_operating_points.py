import json

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from mohs.errors import InputError
from mohs.evaluation.checked import class_codes
from mohs.evaluation.operating_points import pair_intervals
from mohs.evaluation.pair_curves import pair_curves_of
from mohs.evaluation.pair_scores import pair_scores


def clustered(num_classes, per_class, *, seed=0, spread=1.0, decimals=3, kind="distance_P"):
    """Scores of all pairs of points in clusters, with ties."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(num_classes), per_class)
    x = 2 * random.normal(size=(num_classes, 4))[labels] + spread * random.normal(size=(len(labels), 4))
    first, second = np.triu_indices(len(labels), 1)
    distance = np.round(np.linalg.norm(x[first] - x[second], axis=1), decimals)
    same = labels[first] == labels[second]
    value = distance if kind == "distance_P" else 10 - distance
    return pair_scores(same, **{kind: value}), np.stack(class_codes(labels[first], labels[second])), distance, same


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    decimals=st.sampled_from([0, 1, 6]),
    kind=st.sampled_from(["distance_P", "similarity_P"]),
)
def test_thresholds_keep_what_is_wanted_and_no_looser_one_does(seed, decimals, kind):
    scores, class_2P, distance, same = clustered(12, 3, seed=seed, decimals=decimals, kind=kind)
    found = pair_intervals(scores, class_2P, precisions=(0.3, 0.7, 1.0), fprs=(0.2, 0.05), num_resamples=20)
    for point in found.operating_points:
        candidates = np.unique(distance[same] if point.wanted == "precision" else distance)
        rates = {t: (same[distance <= t].mean(), (distance[~same] <= t).mean()) for t in candidates}
        kept = [
            t
            for t, (precision, fpr) in rates.items()
            if (precision >= point.level - 1e-9 if point.wanted == "precision" else fpr <= point.level + 1e-9)
        ]
        if not kept:
            assert point.threshold is None
            assert point.reason
            continue
        threshold = point.threshold if kind == "distance_P" else 10 - point.threshold
        assert threshold == pytest.approx(max(kept))
        accepted = distance <= max(kept)
        expected = (accepted[same].mean(), accepted[~same].mean(), same[accepted].mean())
        assert (point.tpr, point.fpr, point.precision) == pytest.approx(expected)
        if point.threshold_interval is not None:
            assert point.threshold_interval[0] <= point.threshold_interval[1]


def test_tpr_at_fpr_is_that_of_the_curves_and_lies_in_its_interval():
    scores, class_2P, _, _ = clustered(60, 3)
    curves = pair_curves_of(scores, fprs=(0.1, 0.01, 0.0001))
    found = pair_intervals(scores, class_2P, fprs=(0.1, 0.01, 0.0001), num_resamples=100)
    for at, point in zip(curves.tpr_at_fpr, found.operating_points, strict=True):
        assert (point.level, point.tpr, point.reason) == (at.fpr, pytest.approx(at.tpr), at.reason)
    assert found.operating_points[2].reason.startswith(
        "the negative pairs at a false positive rate of 0.0001 count as 1 (15,930 were looked at)"
    )
    for point in found.operating_points[:2]:
        assert point.tpr_interval[0] < point.tpr < point.tpr_interval[1]
        assert point.threshold_interval[0] < point.threshold < point.threshold_interval[1]
        assert point.reached_interval[0] < point.level < point.reached_interval[1]
        assert point.safe_threshold < point.threshold
        assert point.safe_tpr < point.tpr
    for value, interval in (
        (curves.average_precision, found.average_precision),
        (curves.auc, found.auc),
        (curves.equal_error_rate, found.equal_error_rate),
    ):
        assert interval[0] < value < interval[1]


def test_prevalence_moves_precision_and_its_threshold_only():
    scores, class_2P, _, _ = clustered(30, 3)
    rare, common = (
        pair_intervals(scores, class_2P, prevalence=p, precisions=(0.8,), fprs=(0.1,), num_resamples=40)
        for p in (0.01, 0.5)
    )
    assert rare.auc == common.auc
    assert rare.equal_error_rate == common.equal_error_rate
    assert rare.average_precision[1] < common.average_precision[0]
    assert rare.operating_points[0].threshold < common.operating_points[0].threshold
    assert rare.operating_points[1].threshold == common.operating_points[1].threshold
    assert rare.operating_points[1].precision < common.operating_points[1].precision


def test_bands_hold_the_curves():
    scores, class_2P, _, _ = clustered(40, 3)
    curves = pair_curves_of(scores)
    bands = pair_intervals(scores, class_2P, num_resamples=100).bands
    first = np.searchsorted(curves.recall, bands.recall - 1e-9)
    precision = curves.precision[first]
    inside = (bands.precision_low <= precision + 1e-9) & (precision <= bands.precision_high + 1e-9)
    assert inside.mean() > 0.95
    told = ~np.isnan(bands.tpr_low)
    # 10 of 6,975 negative pairs.
    assert bands.fpr[told].min() == pytest.approx(10**-2.8)
    tpr = curves.tpr[np.searchsorted(curves.fpr, bands.fpr[told] + 1e-9, side="right") - 1]
    assert ((bands.tpr_low[told] <= tpr + 1e-9) & (tpr <= bands.tpr_high[told] + 1e-9)).mean() > 0.95
    assert (np.diff(bands.tpr_low[told]) >= -1e-12).all()


def test_what_no_threshold_keeps_is_said():
    # The closest pairs are wrong ones, so that precision never exceeds one half.
    same = np.array([False, True] * 200)
    classes = np.arange(400) // 2
    scores = pair_scores(same, distance_P=np.repeat(np.arange(200.0), 2))
    class_2P = np.stack(class_codes(classes, np.where(same, classes, 200 + classes)))
    found = pair_intervals(scores, class_2P, precisions=(0.9,), num_resamples=20)
    assert found.operating_points[0].threshold is None
    assert found.operating_points[0].reason == "no threshold has a precision of 0.9; the best has 0.5"
    tied = pair_scores(same, distance_P=np.zeros(400))
    [point] = pair_intervals(tied, class_2P, fprs=(0.2,), num_resamples=20).operating_points
    assert point.reason == "even the closest pair, with those tied with it, makes a false positive rate above 0.2"
    json.dumps(found.as_record(), allow_nan=False)


def test_the_seed_decides():
    scores, class_2P, _, _ = clustered(20, 2)
    once, again, other = (
        pair_intervals(scores, class_2P, precisions=(0.8,), num_resamples=20, seed=seed).as_record()
        for seed in (1, 1, 2)
    )
    assert once == again != other


def test_messages():
    scores, class_2P, _, _ = clustered(5, 2)
    with pytest.raises(InputError) as caught:
        pair_intervals(scores, class_2P, precisions=(0.9, 1.5), fprs=(0.0,), num_resamples=10)
    assert str(caught.value).splitlines() == [
        "precisions: 1.5 is not a number in (0, 1]; use for example 0.95",
        "fprs: 0.0 is not a number in (0, 1); use for example 0.001",
        "num_resamples: 10 is not a whole number of at least 20; use for example 400",
    ]
