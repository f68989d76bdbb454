import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from mohs.classify.calibration import (
    FACTORS,
    Calibration,
    fit_calibration,
    fit_temperature,
    fit_weights,
    log_softmax,
    out_of_fold_rows,
)


def drawn(num, num_classes, temperature, *, seed=0):
    """Scores, and classes drawn with the probabilities softmax(scores / temperature)."""
    random = np.random.default_rng(seed)
    scores = random.normal(size=(num, num_classes))
    p = np.exp(log_softmax(scores, temperature))
    return scores, np.array([random.choice(num_classes, p=row) for row in p])


def cross_entropy(scores, class_K, temperature):
    """The smoothed one, term by term."""
    num, num_classes = scores.shape
    missing = 1 / (num + 2)
    total = 0.0
    for row, label in zip(scores, class_K, strict=True):
        e = np.exp((row - row.max()) / temperature)
        target = np.full(num_classes, missing / (num_classes - 1))
        target[label] = 1 - missing
        total -= float(target @ np.log(e / e.sum()))
    return total


@pytest.mark.parametrize("temperature", [0.05, 0.3, 2.0])
def test_the_temperature_that_drew_the_classes_is_found(temperature):
    scores, class_K = drawn(4000, 5, temperature)
    assert fit_temperature(scores, class_K)[0] == pytest.approx(temperature, rel=0.15)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), temperature=st.sampled_from([0.2, 1.0]))
def test_no_other_temperature_has_less_cross_entropy(seed, temperature):
    scores, class_K = drawn(30, 4, temperature, seed=seed)
    found, informative = fit_temperature(scores, class_K)
    if informative:
        least = cross_entropy(scores, class_K, found)
        for factor in (0.5, 0.97, 1.03, 2.0):
            assert cross_entropy(scores, class_K, found * factor) >= least - 1e-9


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_temperature_is_in_units_of_the_scores(scale):
    scores, class_K = drawn(200, 4, 0.5)
    assert fit_temperature(scale * scores, class_K)[0] == pytest.approx(
        scale * fit_temperature(scores, class_K)[0], 1e-3
    )


def test_right_answers_alone_do_not_prove_certainty():
    scores = np.eye(2)[np.arange(10) % 2]
    fitted = fit_calibration(scores, np.arange(10) % 2, "cross-validation")
    assert np.exp(fit_proba := fitted.log_proba(scores)).max() < 1 - 1 / 200
    assert np.exp(fit_proba).max() > 0.9


def test_scores_that_say_nothing_are_said_to():
    scores, class_K = drawn(100, 4, 0.2)
    fitted = fit_calibration(-scores, class_K, "held-out pictures")
    assert fitted.warning == (
        "on 100 held-out pictures the true class scores no more than the average class: the probabilities are uniform; "
        "use a better embedder"
    )
    assert np.exp(fitted.log_proba(-scores)) == pytest.approx(0.25, abs=1e-3)
    few = fit_calibration(scores[:20], class_K[:20], "cross-validation")
    assert few.warning == "calibrated on 20 pictures only: the probabilities are rough"
    assert (few.source, few.num_pictures) == ("cross-validation", 20)
    assert fit_calibration(scores, class_K, "cross-validation").warning == ""


def test_the_mixture_beats_one_temperature_where_some_pictures_are_hopeless():
    scores, class_K = drawn(3000, 20, 0.1)
    class_K[:1000] = np.random.default_rng(1).integers(20, size=1000)  # a third are of any class
    order = np.random.default_rng(2).permutation(3000)
    fit, test = order[:1500], order[1500:]
    fitted = fit_calibration(scores[fit], class_K[fit], "held-out pictures")
    one = Calibration.guess(fitted.temperature)

    def nll(calibration):
        return -calibration.log_proba(scores[test])[np.arange(1500), class_K[test]].mean()

    assert nll(fitted) < nll(one) - 0.1
    assert fitted.weights[-1] == pytest.approx(1 / 3, abs=0.08)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_weights_are_a_maximum(seed):
    random = np.random.default_rng(seed)
    p = random.random((12, len(FACTORS))) ** 3 + 1e-9
    weights = fit_weights(np.log(p))
    fitted = FACTORS.index(1.0)

    def posterior(w):
        return np.log(p @ w).sum() + np.log(w[fitted])

    assert weights.sum() == pytest.approx(1)
    assert weights[fitted] >= 1 / 13 - 1e-4
    for _ in range(20):
        other = 0.9 * weights + 0.1 * random.dirichlet(np.ones(len(FACTORS)))
        assert posterior(other) <= posterior(weights) + 1e-3


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_probabilities_add_up_and_keep_the_order_of_the_scores(seed):
    random = np.random.default_rng(seed)
    scores = random.normal(size=(7, 5))
    calibration = Calibration(0.5, tuple(random.dirichlet(np.ones(len(FACTORS))).tolist()), "none", 0)
    log_p = calibration.log_proba(scores)
    assert np.exp(log_p).sum(1) == pytest.approx(1)
    assert (np.argsort(log_p) == np.argsort(scores)).all()


def test_a_probability_too_small_for_a_float_has_a_logarithm():
    log_p = Calibration.guess(1e-3).log_proba(np.array([[1.0, 0.0]]))
    assert log_p.tolist() == [[0.0, -1000.0]]


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 7), min_size=2, max_size=8),
    num_folds=st.integers(2, 6),
    seed=st.integers(0, 100),
)
def test_every_item_that_can_be_is_held_out_once(sizes, num_folds, seed):
    class_N = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    held_out = []
    for fit, out in out_of_fold_rows(class_N, num_folds, seed=seed):
        assert sorted([*fit, *out]) == list(range(len(class_N)))
        assert set(class_N[fit]) == set(class_N)
        assert len(out)
        held_out += out.tolist()
    assert sorted(held_out) == np.flatnonzero(np.array(sizes)[class_N] > 1).tolist()


def test_folds_are_of_equal_size_and_drawn_by_the_seed():
    class_N = np.repeat(np.arange(200), 2)
    folds = [out for _, out in out_of_fold_rows(class_N, 5, seed=0)]
    assert all(60 < len(out) < 100 for out in folds)
    assert [out.tolist() for out in folds] == [out.tolist() for _, out in out_of_fold_rows(class_N, 5, seed=0)]
    assert [out.tolist() for out in folds] != [out.tolist() for _, out in out_of_fold_rows(class_N, 5, seed=1)]


def test_rounding_makes_no_probability_larger_than_1():
    finite = np.isfinite(FACTORS)  # a factor of Inf is a uniform share, and no class has probability 1 then
    weights = np.zeros((500, len(FACTORS)))
    weights[:, finite] = np.random.default_rng(0).dirichlet(np.ones(finite.sum()), 500)
    for row in weights:
        surest = Calibration(1e-6, tuple(row.tolist()), "none", 0).log_proba(np.array([[90.0, 0.0], [0.0, 90.0]]))
        assert (surest <= 0.0).all()
