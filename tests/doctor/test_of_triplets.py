"""Causes in the triplets, each both ways."""

import numpy as np
import pytest

from mohs.doctor.log.stuck_values import LossFacts
from mohs.doctor.of_triplets import (
    find_dead_triplets,
    find_easy_selection,
    find_false_negatives,
    find_forgetting,
    find_hardest_negatives,
    find_large_margin,
    reachable_distance,
)
from mohs.errors import InputError
from mohs.evaluation.embedded import Embedded

TRIPLET = LossFacts("triplet", margin=0.5)


# only-easy-triplets


def costs_of_random_triplets(embedded, margin, num=1_000_000):
    random = np.random.default_rng(5)
    a, p, n = (random.integers(0, len(embedded), num) for _ in range(3))
    labels = embedded.labels
    kept = (a != p) & (labels[a] == labels[p]) & (labels[a] != labels[n])
    a, p, n = a[kept], p[kept], n[kept]
    positive = np.linalg.norm(embedded.x_ND[a] - embedded.x_ND[p], axis=1)
    negative = np.linalg.norm(embedded.x_ND[a] - embedded.x_ND[n], axis=1)
    squared = np.maximum(0, positive**2 - negative**2 + margin).mean()
    return min(squared, np.maximum(0, positive - negative + margin).mean()), (negative <= positive).mean()


def test_a_loss_far_below_that_of_random_triplets(log_of, clusters):
    train = clusters(noise=1.5)
    log = log_of(loss=np.linspace(0.1, 0.01, 40))
    found = find_easy_selection(log, TRIPLET, train)
    assert (found.cause, found.severity) == ("only-easy-triplets", "error")
    cost, wrong = costs_of_random_triplets(train, 0.5)
    assert found.numbers["random_loss"] == pytest.approx(cost, rel=0.05)
    assert found.numbers["wrong_share"] == pytest.approx(wrong, abs=0.02)
    assert found.numbers["trained_loss"] == pytest.approx(0.0135, abs=0.002)
    assert found.numbers["low"] < found.numbers["wrong_share"] < found.numbers["high"]
    assert found.settings == {"loss.name": "triplet", "hardness.curve": "closed-loop"}


def test_a_quarter_of_what_random_triplets_cost_is_enough(log_of, clusters):
    train = clusters(noise=1.5)
    cost = find_easy_selection(log_of(loss=[0.01] * 40), TRIPLET, train).numbers["random_loss"]
    assert find_easy_selection(log_of(loss=[0.24 * cost] * 40), TRIPLET, train) is not None
    assert find_easy_selection(log_of(loss=[0.26 * cost] * 40), TRIPLET, train) is None


def test_a_small_loss_of_a_network_that_learned_is_fine(log_of, clusters):
    log = log_of(loss=[1e-4] * 40)
    assert find_easy_selection(log, TRIPLET, clusters(noise=0.2)) is None
    train = clusters(noise=0.9)
    assert 0.0 < costs_of_random_triplets(train, 0.5)[1] < 0.09
    assert find_easy_selection(log, TRIPLET, train) is None


def test_what_is_needed_to_tell_an_easy_selection(log_of, clusters):
    train, log = clusters(noise=1.5), log_of(loss=[0.01] * 40)
    assert find_easy_selection(log, LossFacts("triplet"), train) is None
    assert find_easy_selection(log_of(val_loss=[0.01] * 40), TRIPLET, train) is None
    assert find_easy_selection(log_of(loss=[np.inf] * 40), TRIPLET, train) is None
    assert find_easy_selection(log, TRIPLET, Embedded.of(train.x_ND, np.zeros(len(train), int), source="")) is None
    assert find_easy_selection(log, TRIPLET, Embedded.of(train.x_ND, np.arange(len(train)), source="")) is None


# margin-too-large


def large_margin(**changes):
    values = {
        "margin": 1.8,
        "squared": True,
        "dim": 64,
        "num_classes": 1000,
        "quantile": 0.0,
        "active_T": np.full(100, 0.99),
        "loss_T": np.full(100, 0.7),
    }
    return find_large_margin(**{**values, **changes})


def test_a_margin_without_room():
    found = large_margin()
    assert (found.cause, found.severity) == ("margin-too-large", "warning")
    room = reachable_distance(0.0, dim=64, num_classes=1000)
    assert found.numbers == pytest.approx({"margin": 1.8, "reachable": room, "active_share": 0.99, "last_loss": 0.7})
    assert found.settings == {"loss.margin": 0.6}
    assert "squared distances of 1.25" in found.what
    assert large_margin(collapsed=True).severity == "error"


@pytest.mark.parametrize(
    "changes",
    [
        {"margin": 1.2},
        {"margin": 1.8, "quantile": 0.5},  # random negatives are 2 away
        {"margin": 1.8, "num_classes": 60},  # few classes have room
        {"active_T": np.r_[np.full(75, 1.0), np.full(25, 0.94)]},  # it did learn, in the end
        {"active_T": np.full(100, np.nan)},
    ],
)
def test_a_margin_with_room(changes):
    assert large_margin(**changes) is None


def test_plain_distances_have_less_room():
    assert large_margin(margin=1.15, squared=False).numbers["reachable"] == pytest.approx(1.25**0.5, abs=0.01)
    assert large_margin(margin=1.15) is None


def test_one_dimension_is_not_judged():
    assert large_margin(dim=1) is None


def test_random_points_on_a_sphere_are_as_far_as_said():
    random = np.random.default_rng(0)
    x_ND = random.normal(size=(3000, 24))
    x_ND /= np.linalg.norm(x_ND, axis=1, keepdims=True)
    square_N = ((x_ND[0] - x_ND[1:]) ** 2).sum(axis=1)
    for quantile in (0.01, 0.1, 0.5, 0.9):
        said = reachable_distance(quantile, dim=24, num_classes=3000)
        assert said == pytest.approx(np.quantile(square_N, quantile), rel=0.04)


def test_few_classes_have_the_corners_of_a_simplex_or_an_octahedron():
    # A regular simplex: centred unit vectors.
    corner = np.eye(5) - 0.2
    corner /= np.linalg.norm(corner, axis=1, keepdims=True)
    assert reachable_distance(0.0, dim=4, num_classes=5) == pytest.approx(((corner[0] - corner[1]) ** 2).sum())
    assert reachable_distance(0.0, dim=4, num_classes=6) == reachable_distance(0.0, dim=4, num_classes=8) == 2.0
    assert reachable_distance(0.0, dim=4, num_classes=9) < 2.0
    assert reachable_distance(0.0, dim=4, num_classes=8, squared=False) == pytest.approx(2**0.5)


@pytest.mark.parametrize("values", [(-0.1, 4, 4), (1.1, 4, 4), (0.5, 1, 4), (0.5, 4, 1), (np.nan, 4, 4)])
def test_a_sphere_that_is_none(values):
    quantile, dim, num_classes = values
    with pytest.raises(InputError, match=r"^quantile, dim, num_classes: "):
        reachable_distance(quantile, dim=dim, num_classes=num_classes)


# hardest-negatives


@pytest.mark.parametrize(("num_wrong", "is_cause"), [(49, False), (50, True), (90, True)])
def test_triplets_that_are_mostly_the_wrong_way_round(num_wrong, is_cause):
    positive_T = np.full(100, 0.5)
    negative_T = np.where(np.arange(100) < num_wrong, 0.4, 0.9)
    found = find_hardest_negatives(
        positive_T=positive_T, negative_T=negative_T, achieved_T=np.full(100, 0.95), at="When the run collapsed"
    )
    assert (found is not None) == is_cause
    if found is not None:
        assert (found.cause, found.severity, found.share) == ("hardest-negatives", "error", num_wrong / 100)
        assert found.numbers["wrong_share"] == num_wrong / 100
        assert (found.numbers["hardness"], found.numbers["positive_distance"]) == pytest.approx((0.95, 0.5))
        assert found.settings == {"hardness.curve": "closed-loop", "model.batch_norm": True}


def test_equal_distances_are_no_wrong_order():
    same = np.full(100, 0.5)
    assert find_hardest_negatives(positive_T=same, negative_T=same, achieved_T=same, at="") is None
    none = np.zeros(0)
    assert find_hardest_negatives(positive_T=none, negative_T=none, achieved_T=none, at="") is None


# dead-positives


@pytest.mark.parametrize(("num_dead", "severity"), [(4, None), (5, "warning"), (49, "warning"), (50, "error")])
def test_positives_that_are_copies(num_dead, severity):
    positive_T = np.where(np.arange(100) < num_dead, 0.0, 0.4)
    found = find_dead_triplets(positive_T, np.full(100, 0.8))
    assert (None if found is None else found.severity) == severity
    if found is not None:
        assert found.numbers == {"dead_share": num_dead / 100, "num_triplets": 100.0}
        assert (found.cause, found.settings) == ("dead-positives", {"training.augment": 1.0})


@pytest.mark.parametrize(
    ("positive", "negative"),
    [(0.0, 0.0), (1e-5, 0.8)],  # a point; near, but another picture
)
def test_positives_that_are_no_copies(positive, negative):
    assert find_dead_triplets(np.full(100, positive), np.full(100, negative)) is None


def test_no_triplets_have_no_dead_positives():
    assert find_dead_triplets(np.zeros(0), np.zeros(0)) is None


# false-negatives


@pytest.mark.parametrize(
    ("num_near", "severity"), [(200, None), (219, None), (240, "warning"), (520, "warning"), (560, "error")]
)
def test_negatives_that_could_not_be_pushed_away(num_near, severity):
    positive_T = np.linspace(0.2, 1.0, 1000)
    negative_T = np.where(np.arange(1000) < num_near, 0.1, 0.9)
    found = find_false_negatives(positive_T, negative_T)
    assert (None if found is None else found.severity) == severity
    if found is not None:
        assert found.cause == "false-negatives"
        assert found.numbers["limit"] == pytest.approx(0.24)
        assert found.numbers["low"] < found.numbers["share"] == num_near / 1000
        assert found.settings == {"negatives.min_distance_ratio": 0.5}


def test_negatives_as_near_as_positives_are_not_false():
    # A network that knows nothing: both kinds of distance are alike.
    random = np.random.default_rng(0)
    assert find_false_negatives(random.normal(1.4, 0.1, 1000), random.normal(1.4, 0.1, 1000)) is None


def test_too_few_triplets_and_dead_ones_are_not_judged():
    assert find_false_negatives(np.linspace(0.2, 1.0, 39), np.zeros(39)) is None
    assert find_false_negatives(np.linspace(0.2, 1.0, 40), np.zeros(40)) is not None
    assert find_false_negatives(np.zeros(100), np.zeros(100)) is None


# forgetting


def hits(recent, old, num=400):
    """Hits of queries, and how long ago their class was shown: the middle half is at random."""
    hit_N, quarter = np.random.default_rng(0).random(num) < 0.5, num // 4
    hit_N[:quarter] = np.arange(quarter) < round(recent * quarter)
    hit_N[-quarter:] = np.arange(quarter) < round(old * quarter)
    order = np.random.default_rng(1).permutation(num)
    return hit_N[order], np.arange(num, dtype=np.float64)[order]


def test_classes_that_decay():
    found = find_forgetting(*hits(0.9, 0.5))
    assert (found.cause, found.severity) == ("forgetting", "warning")
    error = (0.9 * 0.1 / 100 + 0.5 * 0.5 / 100) ** 0.5
    assert found.numbers == pytest.approx({"recent": 0.9, "old": 0.5, "standard_error": error})


@pytest.mark.parametrize(
    ("recent", "old", "num", "is_cause"),
    [
        (0.5, 0.9, 400, False),
        (0.9, 0.74, 400, True),
        (0.9, 0.8, 400, False),  # within 3 standard errors
        (0.9, 0.81, 8000, False),  # sure, but under a tenth
        (0.9, 0.79, 8000, True),
        (0.9, 0.5, 76, False),
    ],
)
def test_how_much_decay_counts(recent, old, num, is_cause):
    assert (find_forgetting(*hits(recent, old, num)) is not None) == is_cause


def test_classes_shown_at_one_time_cannot_have_decayed():
    hit_N, _ = hits(0.9, 0.1)
    assert find_forgetting(hit_N, np.ones(400)) is None


def test_pictures_of_one_class_share_their_luck():
    """Two pictures that are both found or both not are one observation: 60 classes a quarter are too few for 0.2."""
    hit_C, age_C = hits(0.85, 0.65, 240)
    assert find_forgetting(np.repeat(hit_C, 2), np.repeat(age_C, 2)) is None
    hit_C, age_C = hits(0.85, 0.65, 960)
    assert find_forgetting(np.repeat(hit_C, 2), np.repeat(age_C, 2)) is not None
