from statistics import NormalDist

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from sklearn.metrics import average_precision_score, roc_auc_score

from mohs.evaluation.checked import class_codes
from mohs.evaluation.pair_curves import pair_curves_of
from mohs.evaluation.pair_scores import pair_scores
from mohs.evaluation.ranked_pairs import class_bootstrap, percentile_interval, rank_pairs


def all_pairs_of(labels, similarity_of, weight=None):
    """Scores and classes of all pairs of items, `similarity_of(first, second)`."""
    first, second = np.triu_indices(len(labels), 1)
    same = labels[first] == labels[second]
    scores = pair_scores(same, similarity_P=similarity_of(first, second), weight_P=weight)
    return scores, np.stack(class_codes(labels[first], labels[second]))


def tied_case(seed, *, num_classes=6):
    random = np.random.default_rng(seed)
    labels = np.sort(np.concatenate([np.arange(num_classes), random.integers(0, num_classes, 10)]))
    levels = int(random.choice([2, 5, 1000]))
    table = np.round(levels * random.random((len(labels), len(labels)))) / levels
    num_pairs = len(labels) * (len(labels) - 1) // 2
    weight = random.integers(1, 4, num_pairs).astype(float) if seed % 2 else None
    scores, class_2P = all_pairs_of(labels, lambda i, j: table[i, j] + 0.3 * (labels[i] == labels[j]), weight)
    return scores, class_2P, random


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_counts_give_what_the_curves_give(seed):
    scores, class_2P, _ = tied_case(seed)
    curves = pair_curves_of(scores)
    rates = rank_pairs(scores, class_2P).rates()
    assert rates.average_precision(curves.prevalence) == pytest.approx(curves.average_precision)
    assert rates.auc() == pytest.approx(curves.auc)
    assert rates.equal_error_rate() == pytest.approx(curves.equal_error_rate)
    assert rates.tpr_U[-1] == pytest.approx(1)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_multiplicities_are_copies_of_classes(seed):
    """A resample, made item by item: each copy of a class has items of its own, pairs of two copies are left out."""
    scores, class_2P, random = tied_case(seed)
    times = random.integers(0, 4, class_2P.max() + 1)
    ranked = rank_pairs(scores, class_2P)
    copies = np.array([times[c] if c == d else times[c] * times[d] for c, d in class_2P.T])
    again = np.repeat(np.arange(len(copies)), copies)
    same = scores.same_P[again]
    rates = ranked.rates(times.astype(float), ranked.scratch())
    if same.all() or not same.any():
        assert rates is None
        return
    similarity, weight = scores.value_P[again], scores.weight_P[again]
    prevalence = weight[same].sum() / weight.sum()
    assert rates.auc() == pytest.approx(roc_auc_score(same, similarity, sample_weight=weight))
    assert rates.average_precision(prevalence) == pytest.approx(
        average_precision_score(same, similarity, sample_weight=weight)
    )
    longer = pair_scores(same, similarity_P=similarity, weight_P=weight)
    assert rates.equal_error_rate() == pytest.approx(pair_curves_of(longer).equal_error_rate)
    for level in (0.05, 0.3, 0.7):
        # Thresholds are of pairs that are there.
        def fpr(t):
            return weight[(similarity >= t) & ~same].sum() / weight[~same].sum()

        keeping = [t for t in np.unique(similarity) if fpr(t) <= level + 1e-12]
        expected = -min(keeping) if keeping else np.nan
        assert ranked.farness_at_fpr(rates, level) == pytest.approx(expected, nan_ok=True)
        u = rates.last_with_precision(level, prevalence)
        right = [t for t in np.unique(similarity[same]) if same_share(similarity, same, weight, t) >= level - 1e-12]
        assert (u >= 0) == bool(right)
        if right:
            assert -ranked.farness_U[u] == min(right)


def same_share(similarity, same, weight, threshold):
    accepted = similarity >= threshold
    return weight[accepted & same].sum() / weight[accepted].sum()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_what_a_score_accepts(seed):
    scores, class_2P, random = tied_case(seed)
    ranked = rank_pairs(scores, class_2P)
    rates = ranked.rates()
    for threshold in (*random.choice(scores.value_P, 4), -1.0, 2.0, 0.5):
        accepted = scores.value_P >= threshold
        expected = [
            scores.weight_P[accepted & kind].sum() / scores.weight_P[kind].sum()
            for kind in (scores.same_P, ~scores.same_P)
        ]
        assert ranked.accepted(rates, -threshold) == pytest.approx(tuple(expected))


def gaussian_pairs(num_classes, random, *, class_noise=0.6, per_class=3):
    """Items whose class makes them all easier or harder: pairs of a class are alike, as are those of two classes."""
    labels = np.repeat(np.arange(num_classes), per_class)
    ease = random.normal(size=num_classes)
    noise = random.normal(size=(len(labels), len(labels)))

    def similarity(i, j):
        positive = labels[i] == labels[j]
        return 2.0 * positive + class_noise * (ease[labels[i]] + ease[labels[j]]) / 2**0.5 + noise[i, j]

    return all_pairs_of(labels, similarity)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    # Similarity is normal with mean 2 and 0; classes and noise add up to variances of 1.72 and 1.36.
    positive, negative = NormalDist(2, 1.72**0.5), NormalDist(0, 1.36**0.5)
    auc = NormalDist().cdf(2 / (1.72 + 1.36) ** 0.5)
    threshold = min(np.linspace(-1, 3, 4001), key=lambda t: abs(positive.cdf(t) - (1 - negative.cdf(t))))
    truth = np.array([auc, positive.cdf(threshold)])

    def statistic(rates):
        return np.array([rates.auc(), rates.equal_error_rate()])

    random = np.random.default_rng(0)
    covered, spreads, found, trials = np.zeros(2), [], [], 120
    for seed in range(trials):
        ranked = rank_pairs(*gaussian_pairs(40, random, per_class=2))
        resamples_BK = class_bootstrap(ranked, statistic, num_resamples=100, seed=seed)
        ends = [percentile_interval(values) for values in resamples_BK.T]
        covered += [low <= value <= high for (low, high), value in zip(ends, truth, strict=True)]
        found.append(statistic(ranked.rates()))
        spreads.append(resamples_BK.std(axis=0))
    # 200 trials of 40 and of 100 classes had 91% to 95%.
    assert (covered >= 0.86 * trials).all(), covered
    assert (covered <= 0.99 * trials).all(), covered
    np.testing.assert_allclose(np.mean(spreads, axis=0), np.std(found, axis=0), rtol=0.2)


def test_classes_are_resampled_not_pairs():
    widths = {}
    for per_class in (2, 6):
        random = np.random.default_rng(1)
        labels = np.repeat(np.arange(40), per_class)
        ease = random.normal(size=40)
        scores, class_2P = all_pairs_of(
            labels, lambda i, j, labels=labels, ease=ease: ease[labels[i]] + ease[labels[j]] + (labels[i] == labels[j])
        )
        ranked = rank_pairs(scores, class_2P)
        found = class_bootstrap(ranked, lambda rates: np.array([rates.auc()]), num_resamples=200, seed=0)
        low, high = percentile_interval(found[:, 0])
        widths[per_class] = high - low
    # 15 times as many pairs of the same 40 classes tell nothing new.
    assert widths[6] == pytest.approx(widths[2], rel=0.05)


def test_resamples_without_a_kind_are_left_out_and_the_seed_decides():
    scores, class_2P = all_pairs_of(np.array([0, 0, 1]), lambda i, j: 1.0 * i + j)
    ranked = rank_pairs(scores, class_2P)

    def auc(rates):
        return np.array([rates.auc()])

    found = class_bootstrap(ranked, auc, num_resamples=200, seed=0)
    # Both classes must be drawn: half of the resamples.
    assert 70 < len(found) < 130
    scores, class_2P, _ = tied_case(3)
    ranked = rank_pairs(scores, class_2P)
    once, again, other = (class_bootstrap(ranked, auc, num_resamples=30, seed=seed) for seed in (1, 1, 2))
    assert once.tolist() == again.tolist() != other.tolist()


def test_percentiles():
    assert percentile_interval(np.arange(19.0)) is None
    values = np.arange(1000.0)
    assert percentile_interval(values) == (24.975, 974.025)
    values[:25] = np.nan
    assert percentile_interval(values) == pytest.approx((49.35, 974.65))
    values[:26] = np.nan
    assert percentile_interval(values) is None
