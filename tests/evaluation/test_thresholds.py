import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from mohs.errors import InputError
from mohs.evaluation.checked import class_codes
from mohs.evaluation.intervals import fold_of_class, pairs_of_fold
from mohs.evaluation.pair_scores import pair_scores
from mohs.evaluation.thresholds import best_threshold


def clustered(num_classes, per_class, *, seed=0, spread=1.0, decimals=2, kind="distance_P"):
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(num_classes), per_class)
    x = 2 * random.normal(size=(num_classes, 4))[labels] + spread * random.normal(size=(len(labels), 4))
    first, second = np.triu_indices(len(labels), 1)
    distance = np.round(np.linalg.norm(x[first] - x[second], axis=1), decimals)
    same = labels[first] == labels[second]
    value = distance if kind == "distance_P" else 10 - distance
    return pair_scores(same, **{kind: value}), np.stack(class_codes(labels[first], labels[second])), distance, same


@settings(max_examples=40, deadline=None)
@given(num_classes=st.integers(4, 40), num_folds=st.integers(2, 10), seed=st.integers(0, 100))
def test_folds_share_no_class_and_differ_by_one(num_classes, num_folds, seed):
    random = np.random.default_rng(seed)
    per_class = random.integers(1, 4, num_classes)
    labels = np.repeat(np.arange(num_classes), per_class)
    first, second = np.triu_indices(len(labels), 1)
    class_2P, same = np.stack([labels[first], labels[second]]), labels[first] == labels[second]
    several = int((per_class > 1).sum())
    if several < 2 * num_folds:
        with pytest.raises(InputError) as caught:
            fold_of_class(class_2P, same, num_folds, seed=seed)
        assert str(caught.value) == (
            f"num_folds: {num_folds} folds need {2 * num_folds} classes with a positive pair, and there are {several}; "
            "use fewer folds or more classes"
        )
        return
    fold = fold_of_class(class_2P, same, num_folds, seed=seed)
    assert len(fold) == num_classes
    assert np.ptp(np.bincount(fold)) <= 1
    assert np.ptp(np.bincount(fold[per_class > 1], minlength=num_folds)) <= 1
    for k in range(num_folds):
        others, own = pairs_of_fold(class_2P, fold, k)
        assert not set(class_2P[:, others].ravel()) & set(class_2P[:, own].ravel())
        assert set(class_2P[:, own].ravel()) == set(np.flatnonzero(fold == k))
        assert same[own].any()
        assert not same[own].all()
    assert (fold_of_class(class_2P, same, num_folds, seed=seed) == fold).all()


@pytest.mark.parametrize("kind", ["distance_P", "similarity_P"])
@pytest.mark.parametrize("prevalence", [0.5, 0.05])
def test_each_fold_is_measured_at_the_threshold_of_the_others(kind, prevalence):
    scores, class_2P, distance, same = clustered(30, 3, kind=kind)
    found = best_threshold(scores, class_2P, num_folds=5, prevalence=prevalence, seed=3)
    fold = fold_of_class(class_2P, same, 5, seed=3)

    def accuracy(which, threshold):
        accepted = distance[which] <= threshold
        tpr, fpr = accepted[same[which]].mean(), accepted[~same[which]].mean()
        return prevalence * tpr + (1 - prevalence) * (1 - fpr)

    def best(which):
        values = np.concatenate([[-1], np.unique(distance[which])])
        accuracies = [accuracy(which, t) for t in values]
        first = int(np.flatnonzero(np.array(accuracies) >= max(accuracies) - 1e-12)[0])
        return (values[first] + values[first + 1]) / 2 if first else values[1] - 1e-9

    for k in range(5):
        others, own = pairs_of_fold(class_2P, fold, k)
        threshold = found.fold_threshold[k] if kind == "distance_P" else 10 - found.fold_threshold[k]
        assert threshold == pytest.approx(best(others), abs=1e-6)
        assert found.fold_accuracy[k] == pytest.approx(accuracy(own, best(others)))
    assert found.accuracy == pytest.approx(np.mean(found.fold_accuracy))
    assert found.standard_error == pytest.approx(np.std(found.fold_accuracy, ddof=1) / 5**0.5)
    whole = found.threshold if kind == "distance_P" else 10 - found.threshold
    assert whole == pytest.approx(best(np.ones(len(same), dtype=bool)), abs=1e-6)
    # Six classes a fold: 5 · (18 · 17 / 2) pairs of the 90 · 89 / 2.
    assert found.num_left_out == 4005 - 765


def test_nothing_learned_is_a_half_and_apart_is_one():
    random = np.random.default_rng(0)
    scores, class_2P, _, same = clustered(40, 3)
    noise = pair_scores(same, similarity_P=random.normal(size=len(same)))
    found = best_threshold(noise, class_2P)
    assert abs(found.accuracy - 0.5) < 4 * found.standard_error + 0.02
    apart = pair_scores(same, distance_P=np.where(same, 1.0, 2.0))
    found = best_threshold(apart, class_2P)
    assert (found.accuracy, found.standard_error, found.threshold) == (1.0, 0.0, 1.5)
    # The wrong direction accepts nothing, or everything: one half, never less by choice.
    wrong = pair_scores(same, similarity_P=np.where(same, 1.0, 2.0))
    assert best_threshold(wrong, class_2P).accuracy == 0.5
    assert best_threshold(wrong, class_2P).threshold == np.nextafter(2.0, 3.0)
    assert best_threshold(scores, class_2P).accuracy > 0.8


def test_neighbouring_numbers_have_no_middle():
    _, class_2P, _, same = clustered(8, 3)
    low = 0.1
    for _ in range(2):  # the middle is rounded to the even one of the two
        high = float(np.nextafter(low, 1))
        close = pair_scores(same, distance_P=np.where(same, low, high))
        assert best_threshold(close, class_2P, num_folds=2).threshold == low
        low = high


def test_weights_count_as_repeated_pairs():
    scores, class_2P, _, same = clustered(20, 3)
    times = np.random.default_rng(0).integers(1, 4, len(same))
    again = np.repeat(np.arange(len(same)), times)
    weighted = pair_scores(same, distance_P=scores.value_P, weight_P=times)
    longer = pair_scores(same[again], distance_P=scores.value_P[again])
    found = best_threshold(weighted, class_2P, num_folds=4)
    expected = best_threshold(longer, class_2P[:, again], num_folds=4)
    assert found.fold_accuracy == pytest.approx(expected.fold_accuracy)
    assert found.fold_threshold == expected.fold_threshold


def test_messages():
    scores, class_2P, _, same = clustered(20, 2)
    with pytest.raises(InputError, match=r"prevalence: 1 is not a number in \(0, 1\); use for example 0.5"):
        best_threshold(scores, class_2P, prevalence=1)
    with pytest.raises(InputError, match="num_folds: 1 is not a whole number of at least 2; use for example 10"):
        best_threshold(scores, class_2P, num_folds=1)
    # Only pairs of neighbouring classes: some fold has none.
    few = same | (class_2P == np.array([[0], [1]])).all(axis=0)
    with pytest.raises(InputError) as caught:
        best_threshold(scores.taken(few), class_2P[:, few])
    assert str(caught.value).endswith("of 10 has no negative pair; use fewer folds or more negative pairs")
