import itertools
import json

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from mohs.errors import InputError
from mohs.evaluation.pair_curves import FPRS, pair_curves


def random_case(seed):
    """Scores with ties (or none, or nothing but ties), either direction, weights or none."""
    random = np.random.default_rng(seed)
    num = int(random.integers(2, 60))
    same = random.random(num) < random.choice([0.1, 0.5, 0.9])
    same[:2] = [True, False]
    levels = int(random.choice([1, 2, 5, 1000]))
    similarity = np.round(levels * (random.random(num) + 0.3 * same)) / levels
    weight = random.integers(1, 5, num).astype(float) if seed % 2 else None
    return same, similarity, weight


def brute_force(same, similarity, weight, prevalence):
    """All definitions, one threshold after the other."""
    weight = np.ones(len(same)) if weight is None else weight
    positive, negative = weight[same].sum(), weight[~same].sum()
    points, precisions = [(0.0, 0.0)], []
    for threshold in sorted(set(similarity.tolist()), reverse=True):
        accepted = similarity >= threshold
        tpr, fpr = weight[accepted & same].sum() / positive, weight[accepted & ~same].sum() / negative
        points.append((fpr, tpr))
        precisions.append(prevalence * tpr / (prevalence * tpr + (1 - prevalence) * fpr))
    recalls = [tpr for _, tpr in points]
    ap = sum((recalls[i + 1] - recalls[i]) * p for i, p in enumerate(precisions))
    difference = similarity[same][:, None] - similarity[~same][None, :]
    won = weight[same][:, None] * weight[~same][None, :] * ((difference > 0) + 0.5 * (difference == 0))
    auc = won.sum() / (positive * negative)
    for (f0, t0), (f1, t1) in itertools.pairwise(points):
        before, after = f0 - (1 - t0), f1 - (1 - t1)
        if before < 0 <= after:
            eer = f0 + (f1 - f0) * -before / (after - before)
    return ap, auc, eer, points


@pytest.mark.parametrize("part", range(5))
def test_500_random_cases_with_ties_agree_with_scikit_learn_and_brute_force(part):
    for seed in range(100 * part, 100 * part + 100):
        same, similarity, weight = random_case(seed)
        curves = pair_curves(same, similarity_P=similarity, weight_P=weight, fprs=(0.5, 0.2))
        assert curves.average_precision == pytest.approx(
            average_precision_score(same, similarity, sample_weight=weight), abs=1e-6
        )
        assert curves.auc == pytest.approx(roc_auc_score(same, similarity, sample_weight=weight), abs=1e-6)
        ap, auc, eer, points = brute_force(same, similarity, weight, curves.prevalence)
        assert (curves.average_precision, curves.auc) == pytest.approx((ap, auc), abs=1e-6)
        assert curves.equal_error_rate == pytest.approx(eer, abs=1e-6)
        np.testing.assert_allclose(np.stack([curves.fpr, curves.tpr], axis=1), points, atol=1e-9)
        for at in curves.tpr_at_fpr:
            assert at.num_negatives <= at.fpr * (~same).sum() + 1e-9 or weight is not None
            if at.tpr is not None:
                assert at.tpr == pytest.approx(max(tpr for fpr, tpr in points if fpr <= at.fpr + 1e-9), abs=1e-6)
        if seed % 5:
            continue
        # The same pairs as distances.
        turned = pair_curves(same, distance_P=5 - similarity, weight_P=weight)
        assert turned.auc == pytest.approx(curves.auc, abs=1e-9)
        assert turned.average_precision == pytest.approx(curves.average_precision, abs=1e-9)
        assert turned.equal_error_threshold == pytest.approx(5 - curves.equal_error_threshold)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), prevalence=st.sampled_from([0.001, 0.1, 0.5, 0.9]))
def test_another_prevalence_is_that_of_a_list_with_so_many_pairs(seed, prevalence):
    same, similarity, weight = random_case(seed)
    curves = pair_curves(same, similarity_P=similarity, weight_P=weight, prevalence=prevalence)
    ap, auc, eer, _ = brute_force(same, similarity, weight, prevalence)
    assert curves.average_precision == pytest.approx(ap, abs=1e-9)
    assert (curves.auc, curves.equal_error_rate) == pytest.approx((auc, eer), abs=1e-9)
    assert curves.prevalence == prevalence
    # Three negatives for each one there was.
    plain = pair_curves(same, similarity_P=similarity)
    tripled = np.repeat(np.arange(len(same)), np.where(same, 1, 3))
    longer = pair_curves(same[tripled], similarity_P=similarity[tripled])
    again = pair_curves(same, similarity_P=similarity, prevalence=longer.prevalence)
    assert again.average_precision == pytest.approx(longer.average_precision)
    assert longer.average_precision <= plain.average_precision + 1e-12


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_direction_and_monotone_transforms(seed):
    same, similarity, weight = random_case(seed)
    curves = pair_curves(same, similarity_P=similarity, weight_P=weight)
    negated = pair_curves(same, similarity_P=-similarity, weight_P=weight)
    swapped = pair_curves(~same, similarity_P=similarity, weight_P=weight)
    assert negated.auc == pytest.approx(1 - curves.auc)
    assert swapped.auc == pytest.approx(1 - curves.auc)
    assert negated.equal_error_rate == pytest.approx(1 - curves.equal_error_rate)
    other = pair_curves(same, similarity_P=np.exp(3 * similarity) - 7, weight_P=weight)
    for name in ("average_precision", "auc", "equal_error_rate", "prevalence", "tpr_at_fpr"):
        assert getattr(other, name) == getattr(curves, name), name
    for name in ("recall", "precision", "fpr", "tpr"):
        np.testing.assert_array_equal(getattr(other, name), getattr(curves, name))
    np.testing.assert_allclose(other.pr_threshold, np.exp(3 * curves.pr_threshold) - 7)
    assert other.equal_error_threshold == pytest.approx(np.exp(3 * curves.equal_error_threshold) - 7)


def test_thresholds_are_in_the_units_given_and_give_the_rates_said():
    random = np.random.default_rng(0)
    same = random.random(400) < 0.4
    distance = np.round(np.abs(random.normal(size=400)) + (~same), 2)
    curves = pair_curves(same, distance_P=distance)
    assert np.isposinf(-curves.roc_threshold[0])
    for fpr, tpr, threshold in zip(curves.fpr[1:], curves.tpr[1:], curves.roc_threshold[1:], strict=True):
        accepted = distance <= threshold
        assert (accepted[~same].mean(), accepted[same].mean()) == pytest.approx((fpr, tpr))
    for recall, precision, threshold in zip(curves.recall, curves.precision, curves.pr_threshold, strict=True):
        accepted = distance <= threshold
        assert (same[accepted].mean(), accepted[same].mean()) == pytest.approx((precision, recall))
    at_eer = distance <= curves.equal_error_threshold
    gaps = [abs((distance[~same] <= t).mean() - (distance[same] > t).mean()) for t in distance]
    assert abs(at_eer[~same].mean() - (~at_eer[same]).mean()) == pytest.approx(min(gaps))


def test_the_curves_are_scikit_learns():
    same, similarity, _ = random_case(10)
    curves = pair_curves(same, similarity_P=similarity)
    fpr, tpr, threshold = roc_curve(same, similarity, drop_intermediate=False)
    np.testing.assert_allclose(curves.fpr, fpr)
    np.testing.assert_allclose(curves.tpr, tpr)
    np.testing.assert_allclose(curves.roc_threshold, threshold)
    precision, recall, threshold = precision_recall_curve(same, similarity, drop_intermediate=True)
    np.testing.assert_allclose(curves.precision, precision[:-1][::-1])
    np.testing.assert_allclose(curves.recall, recall[:-1][::-1])
    np.testing.assert_allclose(curves.pr_threshold, threshold[::-1])


def test_nothing_but_ties_is_chance():
    same = np.arange(40) < 8
    curves = pair_curves(same, distance_P=np.zeros(40))
    assert (curves.auc, curves.average_precision, curves.equal_error_rate) == pytest.approx((0.5, 0.2, 0.5))


def test_a_rate_that_the_sample_is_too_small_for_is_not_given():
    random = np.random.default_rng(0)
    same = np.arange(10_100) < 100
    curves = pair_curves(same, similarity_P=random.normal(size=10_100) + 2 * same)
    assert [at.fpr for at in curves.tpr_at_fpr] == list(FPRS)
    assert [at.tpr is None for at in curves.tpr_at_fpr] == [False, False, False, True, True, True]
    assert curves.tpr_at_fpr[3].reason == (
        "the negative pairs at a false positive rate of 0.0001 count as 1 (10,000 were looked at); 10 are needed"
    )
    tprs = [at.tpr for at in curves.tpr_at_fpr[:3]]
    assert tprs == sorted(tprs, reverse=True)


def test_weights_count_as_repeated_pairs():
    same, similarity, weight = random_case(7)
    repeated = np.repeat(np.arange(len(same)), weight.astype(int))
    weighted = pair_curves(same, similarity_P=similarity, weight_P=weight)
    longer = pair_curves(same[repeated], similarity_P=similarity[repeated])
    for name in ("average_precision", "auc", "equal_error_rate", "equal_error_threshold", "prevalence"):
        assert getattr(weighted, name) == pytest.approx(getattr(longer, name)), name


def test_the_record_is_short_json_without_nan():
    random = np.random.default_rng(0)
    same = random.random(50_000) < 0.1
    curves = pair_curves(same, similarity_P=random.normal(size=50_000) + same)
    record = curves.as_record(num_points=100)
    text = json.dumps(record, allow_nan=False)
    assert len(text) < 30_000
    recall, precision = record["precision_recall"]["recall"], record["precision_recall"]["precision"]
    assert len(recall) == len(precision) <= 102
    assert recall == sorted(recall)
    assert recall[-1] == 1.0
    assert record["roc"]["fpr"][-1] == record["roc"]["tpr"][-1] == 1.0
    # Thinned points are points of the curve.
    places = np.searchsorted(curves.recall, recall)
    np.testing.assert_array_equal(curves.recall[places], recall)
    assert record["tpr_at_fpr"][0]["tpr"] == curves.tpr_at_fpr[0].tpr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"prevalence": 0.0},
            "prevalence: 0.0 is not a number in (0, 1); use for example 0.5",
        ),
        ({"fprs": (0.1, 1.0)}, "fprs: 1.0 is not a number in (0, 1); use for example 0.001"),
    ],
)
def test_bad_parameters(arguments, message):
    with pytest.raises(InputError) as caught:
        pair_curves([True, False], distance_P=[0.0, 1.0], **arguments)
    assert str(caught.value) == message
