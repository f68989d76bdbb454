import json

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from sklearn.isotonic import IsotonicRegression

from mohs.errors import InputError
from mohs.evaluation.checked import class_codes
from mohs.evaluation.pair_calibration import calibrate_pairs, fit_probability
from mohs.evaluation.pair_scores import pair_scores


def logistic_pairs(num_classes, *, per_class=4, seed=0, ease=0.0):
    """Similarities s = m + noise with m = 1 for positive pairs, 0 for negative ones: the log-odds are linear in s."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(num_classes), per_class)
    first, second = np.triu_indices(len(labels), 1)
    same = labels[first] == labels[second]
    own = ease * random.normal(size=num_classes)
    similarity = same + 0.5 * random.normal(size=len(same)) + own[labels[first]] + own[labels[second]]
    return pair_scores(same, similarity_P=similarity), np.stack(class_codes(labels[first], labels[second]))


def true_probability(similarity, prevalence):
    # ln p/(1 − p) = ln π/(1 − π) + (s − ½) / σ², σ = ½.
    odds = prevalence / (1 - prevalence) * np.exp((similarity - 0.5) / 0.25)
    return odds / (1 + odds)


@pytest.mark.parametrize("method", ["isotonic", "Platt"])
@pytest.mark.parametrize("prevalence", [0.5, 0.1])
def test_the_probability_that_drew_the_pairs_is_found(method, prevalence):
    scores, _ = logistic_pairs(120)
    found = fit_probability(scores, method, prevalence=prevalence)
    grid = np.linspace(-0.5, 1.5, 21)
    np.testing.assert_allclose(
        found(grid), true_probability(grid, prevalence), atol=0.1 if method == "isotonic" else 0.03
    )
    # Distances give the same.
    turned = fit_probability(pair_scores(scores.same_P, distance_P=9 - scores.value_P), method, prevalence=prevalence)
    np.testing.assert_allclose(turned(9 - grid), found(grid), atol=1e-6)
    assert (np.diff(found(np.linspace(-3, 4, 500))) >= -1e-12).all()
    assert (np.diff(turned(np.linspace(0, 12, 500))) <= 1e-12).all()


def test_another_prevalence_shifts_the_odds():
    scores, _ = logistic_pairs(120)
    half, tenth = (fit_probability(scores, "Platt", prevalence=p) for p in (0.5, 0.1))
    grid = np.linspace(-0.5, 1.5, 21)
    np.testing.assert_allclose(half(grid, prevalence=0.1), tenth(grid), atol=0.01)
    np.testing.assert_allclose(tenth(grid, prevalence=0.5), half(grid), atol=0.01)
    np.testing.assert_allclose(tenth(grid, prevalence=0.1), tenth(grid))
    assert (half(grid, prevalence=0.9) > half(grid)).all()
    isotonic = fit_probability(scores, "isotonic", prevalence=0.5)
    assert isotonic(np.array([-9.0, 9.0]), prevalence=0.01) == pytest.approx([0.0, 1.0])
    with pytest.raises(InputError, match=r"prevalence: 0 is not a number in \(0, 1\); use for example 0.5"):
        half(grid, prevalence=0)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_isotonic_is_scikit_learns(seed):
    random = np.random.default_rng(seed)
    same = np.arange(40) % 3 == 0
    value = np.round(random.random(40) + 0.3 * same, 1)
    scores = pair_scores(same, similarity_P=value)
    expected = IsotonicRegression(out_of_bounds="clip").fit(value, same, sample_weight=scores.weights_at(0.5))
    grid = np.linspace(-1, 2, 50)
    np.testing.assert_allclose(fit_probability(scores, "isotonic", prevalence=0.5)(grid), expected.predict(grid))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1e-3, 1.0, 1e4]))
def test_platt_is_of_least_cross_entropy_whatever_the_units(seed, scale):
    random = np.random.default_rng(seed)
    same = np.arange(40) % 3 == 0
    value = scale * (random.normal(size=40) + same)
    scores = pair_scores(same, similarity_P=value)
    found = fit_probability(scores, "Platt", prevalence=0.5)
    target = np.where(same, 15 / 16, 1 / 28)
    weight = scores.weights_at(0.5)

    def loss(slope, intercept):
        z = slope * value + intercept
        return float(weight @ (np.logaddexp(0, z) - target * z))

    least = loss(found.slope, found.intercept)
    for a, b in ((1.02, 0), (0.98, 0), (1, 0.02), (1, -0.02), (1.01, -0.02)):
        assert loss(a * found.slope, found.intercept + b) > least


def test_a_perfect_separation_does_not_prove_certainty():
    same = np.arange(20) < 10
    found = fit_probability(pair_scores(same, similarity_P=same + 0.0), "Platt", prevalence=0.5)
    assert found(np.array([0.0, 1.0])) == pytest.approx([1 / 12, 11 / 12], abs=1e-3)
    assert found(np.array([-1e6, 1e6])).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("method", ["isotonic", "Platt"])
def test_probabilities_of_unseen_classes_are_measured(method):
    scores, class_2P = logistic_pairs(150)
    found = calibrate_pairs(scores, class_2P, method)
    p = true_probability(scores.value_P, 0.5)
    brier = float(scores.weights_at(0.5) @ np.square(p - scores.same_P))
    assert found.brier == pytest.approx(brier, abs=0.01)
    assert found.expected_calibration_error < 0.03
    assert found.brier_of_prevalence == 0.25
    # 30 classes of 4 a fold.
    assert found.num_measured == 5 * 120 * 119 // 2
    assert sum(each.num_cases for each in found.reliability) == found.num_measured
    assert sum(each.share for each in found.reliability) == pytest.approx(1)
    for each in found.reliability:
        if each.num_cases > 200:
            assert each.interval[0] - 0.05 < each.mean_probability < each.interval[1] + 0.05
    assert calibrate_pairs(scores, class_2P, method).as_record() == found.as_record()
    json.dumps(found.as_record(), allow_nan=False)


def test_it_is_not_measured_on_what_it_was_fitted_on():
    # Scores say nothing, in few and alike pairs: a fit by heart looks better than chance, a cross-fit does not.
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(20), 2)
    first, second = np.triu_indices(40, 1)
    same = labels[first] == labels[second]
    class_2P = np.stack(class_codes(labels[first], labels[second]))
    chosen = same | (random.random(len(same)) < 0.2)
    scores = pair_scores(same[chosen], similarity_P=random.normal(size=chosen.sum()))
    by_heart = fit_probability(scores, "isotonic", prevalence=0.5)
    brier = float(scores.weights_at(0.5) @ np.square(by_heart(scores.value_P) - scores.same_P))
    found = calibrate_pairs(scores, class_2P[:, chosen], "isotonic")
    assert brier < 0.24 < 0.25 < found.brier


def test_swapped_directions_are_useless():
    scores, class_2P = logistic_pairs(60)
    right = calibrate_pairs(scores, class_2P, "isotonic")
    wrong = calibrate_pairs(pair_scores(scores.same_P, similarity_P=-scores.value_P), class_2P, "isotonic")
    assert right.brier < 0.15 < 0.24 < wrong.brier
    platt = fit_probability(pair_scores(scores.same_P, similarity_P=-scores.value_P), "Platt", prevalence=0.5)
    assert platt.slope < 0  # it says so


def test_messages():
    scores, class_2P = logistic_pairs(12)
    with pytest.raises(InputError, match="method: 'beta' is not one of 'isotonic', 'Platt'"):
        calibrate_pairs(scores, class_2P, "beta")
    with pytest.raises(InputError, match=r"prevalence: 1.0 is not a number in \(0, 1\); use for example 0.5"):
        calibrate_pairs(scores, class_2P, "Platt", prevalence=1.0)
    with pytest.raises(InputError, match="num_folds: 7 folds need 14 classes with a positive pair, and there are 12"):
        calibrate_pairs(scores, class_2P, "Platt", num_folds=7)
