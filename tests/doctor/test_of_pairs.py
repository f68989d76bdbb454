"""Causes in the scores of pairs, each both ways."""

import numpy as np
import pytest

import mohs
from mohs.doctor.of_pairs import (
    find_constant_scores,
    find_fixed_threshold,
    find_sigmoid_on_distance,
    find_swapped_scores,
)
from mohs.doctor.reported_pairs import ReportedPairs


def pairs_of(apart=2.0, *, middle=1.0, width=0.1, num=200, share=0.5, kind="distance", seed=0):
    """Distances of pairs: of one class around `middle` − `apart`/2 · `width`, of two above it by as much."""
    random = np.random.default_rng(seed)
    same = np.arange(num) < share * num
    value = middle + width * (random.normal(size=num) + np.where(same, -apart / 2, apart / 2))
    return ReportedPairs("pairs.csv", value, same, kind)


def changed(pairs, change, kind=None):
    return ReportedPairs(pairs.source, change(pairs.value), pairs.same, pairs.kind if kind is None else kind)


def sigmoid(value):
    return 1 / (1 + np.exp(-value))


def causes(pairs, **more):
    return [each.cause for each in mohs.diagnose(pairs=pairs, **more).findings]


@pytest.mark.parametrize("apart", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("kind", ["distance", "score"])
def test_distances_read_in_their_middle_have_no_cause(apart, kind):
    assert causes(pairs_of(apart, kind=kind), threshold=1.0) == ([] if apart else ["at-chance"])


@pytest.mark.parametrize("apart", [0.0, 1.0, 4.0])
def test_similarities_and_probabilities_have_no_cause(apart):
    similarity = changed(pairs_of(apart, middle=0.5), lambda d: 1 - d, kind="similarity")
    chance = [] if apart else ["at-chance"]
    assert causes(similarity) == chance
    probability = changed(pairs_of(apart, middle=0.0, width=1.5), lambda d: sigmoid(-d), kind="score")
    assert causes(probability) == chance


# swapped


def test_a_distance_that_is_larger_for_one_class():
    found = find_swapped_scores(pairs_of(-1.0))
    assert (found.cause, found.severity, found.share) == ("swapped", "error", 1.0)
    value, same = pairs_of(-1.0).value, pairs_of(-1.0).same
    auc = (value[same][:, None] < value[~same]).mean()
    assert found.numbers["auc"] == pytest.approx(auc)
    assert found.what.startswith(f"The distance is larger for pairs of one class: AUC {auc:.3f} (")


def test_a_similarity_that_is_smaller_for_one_class():
    found = find_swapped_scores(pairs_of(1.0, kind="similarity"))
    assert found.what.startswith("The similarity is smaller for pairs of one class: AUC 0.2")
    assert find_swapped_scores(pairs_of(-1.0, kind="similarity")) is None


@pytest.mark.parametrize(
    ("apart", "num", "kind"),
    [
        (1.0, 200, "distance"),
        (0.0, 200, "distance"),
        (-0.25, 2000, "distance"),  # AUC 0.43: sure, and no more than bad
        (-0.5, 30, "distance"),  # AUC 0.36 of few pairs
        (-2.0, 200, "score"),  # a score has no direction
    ],
)
def test_scores_that_are_not_swapped(apart, num, kind):
    assert find_swapped_scores(pairs_of(apart, num=num, kind=kind)) is None


def test_the_error_of_an_auc_is_that_of_many_draws():
    found = np.array([pairs_of(1.0, num=60, seed=seed).auc() for seed in range(300)])
    assert found[:, 1].mean() == pytest.approx(found[:, 0].std(), rel=0.15)
    # Where all are in order an error is left.
    assert pairs_of(40.0).auc()[0] == 1.0
    assert pairs_of(40.0).auc()[1] > 0


# sigmoid-on-distance


def around(same, different, *, width=(0.03, 0.04), num=400, seed=0, kind="distance"):
    """Scores of pairs of one class around `same`, of two around `different`."""
    random = np.random.default_rng(seed)
    flag = np.arange(num) % 2 == 0
    value = np.where(flag, random.normal(same, width[0], num), random.normal(different, width[1], num))
    return ReportedPairs("pairs.csv", value, flag, kind)


def sigmoid_of(same, different, *, num=400, share=0.5, seed=0):
    """Scores σ(d); distances are |normal| around 0 for one class, and normal around `different` for two."""
    random = np.random.default_rng(seed)
    flag = np.arange(num) < share * num
    distance = np.abs(np.where(flag, same * random.normal(size=num), different + random.normal(size=num)))
    return ReportedPairs("pairs.csv", sigmoid(distance), flag, "score")


def test_healthy_distances_in_the_range_of_a_sigmoid_have_no_cause():
    """Distances around 0.62 and 0.88, read at 0.75 with an accuracy of 0.9975."""
    pairs = around(0.62, 0.88)
    assert ((pairs.value < 0.75) == pairs.same).mean() > 0.99
    assert causes(pairs, threshold=0.75) == []


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("width", [0.03, 0.1, 0.3])  # well separated to hardly
@pytest.mark.parametrize(
    ("kind", "same", "different", "low", "high"),
    [
        ("distance", 0.62, 0.88, 0.5, 1.0),
        ("distance", 0.1, 0.3, 0.0, 0.5),
        ("distance", 0.4, 0.8, 0.0, 1.0),
        ("distance", 0.7, 1.3, 0.0, 2.0),
        ("distance", 0.5, 1.8, 0.0, 4.0),  # squared
        ("similarity", 0.85, 0.6, 0.5, 1.0),
        ("similarity", 0.7, 0.2, -1.0, 1.0),
        ("similarity", 0.35, 0.1, 0.0, 0.5),
        ("score", 0.62, 0.88, 0.5, 1.0),
        ("score", 0.88, 0.62, 0.5, 1.0),
        ("score", 0.1, 0.4, 0.0, 0.5),
        ("score", 0.4, 0.1, 0.0, 0.5),
        ("score", 0.9, 0.1, 0.0, 1.0),
        ("score", -3.0, -8.0, -20.0, 0.0),
    ],
)
def test_healthy_pairs_of_every_kind_have_no_cause(kind, same, different, low, high, width, seed, log_of):
    scale = abs(different - same)
    plain = around(same, different, width=(width * scale, width * scale), seed=seed, kind=kind)
    pairs = changed(plain, lambda value: np.clip(value, low + 1e-3 * scale, high - 1e-3 * scale))
    middle = (same + different) / 2
    assert causes(pairs, threshold=middle) == []
    assert causes(pairs) == []
    closer = pairs.value < middle if same < different else pairs.value > middle
    accuracy = (closer == pairs.same).mean()
    log = log_of(loss=np.geomspace(0.8, 0.3, 20), val_accuracy=[accuracy] * 20)
    assert causes(pairs, log=log) == []


def test_nothing_learned_is_no_sigmoid():
    for kind in ("distance", "similarity", "score"):
        assert causes(around(0.75, 0.75, kind=kind), threshold=0.75) == ["at-chance"]
        assert causes(around(0.75, 0.75, kind=kind)) == ["at-chance"]
        assert causes(around(0.75, 0.75, kind=kind), threshold=0.5) == ["at-chance"]


def test_distances_of_features_without_a_sign_are_pressed_at_1_and_are_no_sigmoid():
    # 1 − cosine of sparse features: most pairs of two classes are exactly 1 apart.
    pairs = changed(around(0.7, 1.1, width=(0.06, 0.04)), lambda d: np.minimum(d, 1.0), kind="score")
    assert causes(pairs, threshold=0.9) == []
    assert causes(pairs) == []
    assert causes(pairs, threshold=0.5) == ["fixed-threshold"]


def test_a_sigmoid_of_a_distance():
    pairs = sigmoid_of(0.3, 2.0, share=0.3)
    found = find_sigmoid_on_distance(pairs, threshold=0.5)
    assert (found.cause, found.severity) == ("sigmoid-on-distance", "error")
    assert found.numbers["accuracy_at_half"] == pytest.approx(0.7)
    assert found.numbers["auc"] == pytest.approx(pairs.auc()[0])
    assert found.numbers["smallest"] >= 0.5
    assert "σ(d) never crosses 0.5" in found.why
    assert found.why.endswith(
        "it is a score that is read where it does not fit: look at the last layers of the network."
    )
    assert found.settings == {"loss.name": "contrastive"}
    # At 0.5 nothing fits, and this is why: one cause is told.
    assert causes(pairs, threshold=0.5) == ["sigmoid-on-distance"]
    # Read where it fits, it is harmless; where it is read is not known, it cannot be judged.
    assert causes(pairs, threshold=found.numbers["smallest"] + 0.15) == []
    assert causes(pairs) == []


def test_an_accuracy_in_the_log_tells_where_scores_are_read(log_of):
    pairs = sigmoid_of(0.3, 2.0)
    loss = np.geomspace(0.8, 0.3, 20)
    assert causes(pairs, log=log_of(loss=loss, val_accuracy=[0.5] * 20)) == ["sigmoid-on-distance"]
    assert causes(pairs, log=log_of(loss=loss, val_accuracy=[0.95] * 20)) == []
    # A range without the shape: scores that are read where they do not fit, for whatever reason.
    plain = around(0.62, 0.88, kind="score")
    assert causes(plain, log=log_of(loss=loss, val_accuracy=[0.5] * 20)) == ["fixed-threshold"]
    found = mohs.diagnose(pairs=plain, threshold=0.5).first
    assert (found.cause, found.severity) == ("fixed-threshold", "error")
    assert "Or it is a sigmoid of a distance" in found.why


def test_a_sigmoid_of_a_negative_distance():
    pairs = changed(sigmoid_of(0.3, 2.0), lambda s: 1 - s)
    found = find_sigmoid_on_distance(pairs, threshold=0.5)
    assert "σ(−d) never crosses 0.5" in found.why
    assert found.what.startswith("All 400 scores are at 0.5 or below (")


def test_a_saturated_sigmoid_says_nothing_about_order():
    pairs = changed(pairs_of(0.0, middle=30.0, width=3.0), sigmoid, kind="score")
    found = find_sigmoid_on_distance(pairs, threshold=0.5)
    assert "and their order says nothing" in found.what
    assert found.why.endswith(
        "it is a network that answers the same whatever it sees: look at the last layers of the network."
    )
    assert found.severity == "error"
    assert causes(pairs) == ["sigmoid-on-distance"]
    some_order = changed(pairs_of(0.0, middle=9.0, width=1.0), sigmoid, kind="score")
    assert find_sigmoid_on_distance(some_order).severity == "warning"  # where it is read is not known


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda s: s, "distance"),  # a column called a distance is one
        (lambda s: s, "similarity"),
        (lambda s: 4 * s - 2, "score"),  # beyond 1
        (lambda s: s - 0.1, "score"),  # on both sides of 0.5
        (lambda s: 1.5 - s, "score"),  # above 0.5, but larger for one class: a confident network
        (lambda s: 0.55 + 0.9 * (s - 0.5), "score"),  # not from 0.5 on
    ],
)
def test_scores_without_a_sigmoid_on_a_distance(change, kind):
    pairs = sigmoid_of(0.3, 2.0)
    assert find_sigmoid_on_distance(pairs, threshold=0.5) is not None
    assert find_sigmoid_on_distance(changed(pairs, change, kind=kind), threshold=0.5) is None


@pytest.mark.parametrize("apart", [0.0, -2.0])
def test_small_distances_in_no_or_the_wrong_order_are_no_sigmoid(apart):
    pairs = pairs_of(apart, middle=0.2, width=0.02)
    assert find_sigmoid_on_distance(pairs) is None
    assert causes(pairs, threshold=0.2) == ["swapped" if apart else "at-chance"]


# collapsed


def test_scores_that_are_all_the_same():
    found = find_constant_scores(changed(pairs_of(), lambda d: 0.3 + 1e-8 * d))
    assert (found.cause, found.severity) == ("collapsed", "error")
    assert found.what == "All 200 pairs have the same distance, 0.3"
    assert causes(changed(pairs_of(), np.zeros_like)) == ["collapsed"]


def test_scores_that_differ_a_little_are_not_the_same():
    assert find_constant_scores(changed(pairs_of(), lambda d: 0.3 + 1e-5 * d)) is None


# fixed-threshold


def test_a_threshold_that_fits_nothing():
    pairs = pairs_of(3.0, middle=5.0, num=2000)
    found = find_fixed_threshold(pairs, threshold=0.5)
    assert (found.cause, found.severity) == ("fixed-threshold", "error")
    numbers = found.numbers
    assert (numbers["accuracy"], numbers["one_answer"], numbers["threshold"]) == (0.5, 0.5, 0.5)
    assert numbers["best_threshold"] == pytest.approx(5.0, abs=0.05)
    right = (pairs.value < 5.0) == pairs.same
    assert numbers["best_accuracy"] == pytest.approx(right.mean(), abs=0.02)
    assert numbers["low"] < numbers["best_accuracy"] < numbers["high"]
    assert found.share == pytest.approx(1.0)
    assert causes(pairs, threshold=0.5) == ["fixed-threshold"]


def test_a_threshold_that_nobody_named_is_asked_for():
    pairs = pairs_of(3.0, middle=5.0, num=2000)
    found = mohs.diagnose(pairs=pairs)
    assert found.findings == ()
    best = find_fixed_threshold(pairs, threshold=0.5).numbers
    assert found.not_checked["fixed-threshold"] == (
        f"the threshold in use is not known: accuracy is 0.500 at 0.5 and {best['best_accuracy']:.3f} at "
        f"{best['best_threshold']:.4g}, the best; give it"
    )
    nothing = mohs.diagnose(pairs=pairs_of(0.0)).not_checked["fixed-threshold"]
    assert nothing == "the threshold in use is not known; give it"


def test_an_accuracy_that_the_training_reported_weighs_against_the_threshold(log_of):
    pairs = pairs_of(4.0, middle=5.0, num=2000)
    log = log_of(loss=np.geomspace(0.8, 0.3, 20), val_accuracy=[0.97] * 20)
    assert causes(pairs, log=log) == []
    found = mohs.diagnose(pairs=pairs, log=log, threshold=0.5).first
    assert (found.cause, found.severity) == ("fixed-threshold", "warning")
    assert "accuracy is 0.500 (the training reported 0.970); at" in found.what
    assert found.why.endswith("Or the training read at another threshold than is given here.")


def test_a_threshold_that_fits_badly_is_a_warning():
    pairs = pairs_of(3.0, middle=0.5)
    found = find_fixed_threshold(pairs, threshold=0.38)
    assert found.severity == "warning"
    assert found.numbers["accuracy"] == ((pairs.value < 0.38) == pairs.same).mean() > 0.6


def test_what_the_training_reported_was_read_there(log_of):
    pairs = pairs_of(3.0, middle=0.5)
    read = find_fixed_threshold(pairs, threshold=0.38).numbers["accuracy"]
    found = find_fixed_threshold(pairs, threshold=0.38, reported=read + 0.009)
    assert found.severity == "error"
    assert f"(the training reported {read + 0.009:.3f})" in found.what
    assert find_fixed_threshold(pairs, threshold=0.38, reported=read + 0.02).severity == "warning"
    log = log_of(loss=np.geomspace(0.8, 0.3, 20), val_accuracy=[read] * 20)
    assert mohs.diagnose(log=log, pairs=pairs, threshold=0.38).first.severity == "error"


def test_a_similarity_is_the_same_above_the_threshold():
    pairs = changed(pairs_of(3.0, middle=0.1), lambda d: 1 - d, kind="similarity")
    found = find_fixed_threshold(pairs, threshold=0.3)
    assert found.numbers["accuracy"] == 0.5
    assert found.numbers["best_threshold"] == pytest.approx(0.9, abs=0.05)
    assert find_fixed_threshold(pairs, threshold=0.9) is None


def test_a_score_is_taken_the_way_it_is_better():
    pairs = changed(pairs_of(3.0, middle=5.0), lambda d: -d, kind="score")
    assert find_fixed_threshold(pairs, threshold=-5.0) is None
    assert find_fixed_threshold(pairs, threshold=0.5).numbers["best_threshold"] == pytest.approx(-5.0, abs=0.05)


@pytest.mark.parametrize(
    ("apart", "threshold"),
    [
        (3.0, 0.5),
        (3.0, 0.51),
        (0.0, 0.9),  # no threshold would be better
        (-3.0, 0.9),
        (0.5, 0.5),
    ],
)
def test_a_threshold_that_is_good_enough(apart, threshold):
    assert find_fixed_threshold(pairs_of(apart, middle=0.5), threshold=threshold) is None


# reading
