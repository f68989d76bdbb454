"""Causes beside the losses of a log, each both ways."""

import numpy as np
import pytest

import mohs
from mohs.doctor.log.signals import find_dead_positives, find_nothing_active, find_overfitting, find_swapped
from mohs.doctor.log.stuck_values import LossFacts

TRIPLET = LossFacts("triplet", margin=0.2)
ANY = LossFacts()


def noisy(values, share=0.02, seed=0):
    values = np.asarray(values, dtype=np.float64)
    return values * (1 + share * np.random.default_rng(seed).normal(size=len(values)))


def causes(log, **facts):
    return [finding.cause for finding in mohs.diagnose(log=log, **facts).findings]


# nothing-active


def test_triplets_that_are_all_solved(log_of):
    found = find_nothing_active(log_of(active_fraction=[0.5] * 8 + [0.0] * 32), ANY)
    assert (found.cause, found.severity) == ("nothing-active", "warning")
    # Rows 8 and 9 together are above the limit still: 31 of 40 rows came after them.
    assert found.numbers == pytest.approx({"last": 0.0, "idle_share": 31 / 40})
    assert found.what == (
        "The share of active triplets is 0 at the end and has been below 0.02 for 78% of the training"
    )
    assert found.settings == {"hardness.curve": "closed-loop"}


@pytest.mark.parametrize(
    ("num_busy", "accuracy", "severity"),
    [
        (2, None, "warning"),  # of nothing but the loss
        (2, 0.55, "error"),
        (2, 0.7, "warning"),
        (2, 0.95, "note"),
        (8, 0.55, "warning"),
        (24, 0.55, "note"),
    ],
)
def test_how_bad_it_is_that_nothing_is_active(log_of, num_busy, accuracy, severity):
    columns = {} if accuracy is None else {"accuracy": [accuracy] * 40}
    log = log_of(active_fraction=[0.5] * num_busy + [0.0] * (40 - num_busy), **columns)
    assert find_nothing_active(log, ANY).severity == severity


@pytest.mark.parametrize(("last", "is_cause"), [(0.019, True), (0.021, False)])
def test_two_in_a_hundred_active_triplets_are_enough(log_of, last, is_cause):
    assert (find_nothing_active(log_of(active_fraction=[0.5] * 20 + [last] * 20), ANY) is not None) == is_cause


@pytest.mark.parametrize(("last", "is_cause"), [(1.9e-4, True), (2.1e-4, False)])
def test_the_loss_tells_it_where_the_margin_is_known(log_of, last, is_cause):
    log = log_of(loss=[0.2] * 20 + [last] * 20)
    assert (find_nothing_active(log, TRIPLET) is not None) == is_cause
    assert find_nothing_active(log, ANY) is None


@pytest.mark.parametrize(("last", "is_cause"), [(0.0, True), (0.02, True), (0.03, False), (0.4, False)])
def test_a_loss_that_is_left_has_a_gradient(log_of, last, is_cause):
    # Of InfoNCE every negative pulls, also beyond the margin at which a triplet counts as active.
    log = log_of(loss=[0.5] * 8 + [last] * 32, active_fraction=[0.5] * 8 + [0.0] * 32)
    assert (find_nothing_active(log, LossFacts("infonce", batch=32)) is not None) == is_cause


def test_a_loss_of_nothing_with_active_triplets_is_fine(log_of):
    log = log_of(loss=[0.2] * 20 + [1e-5] * 20, active_fraction=[0.5] * 40)
    assert find_nothing_active(log, TRIPLET) is None


# dead-positives


def test_positives_that_are_their_anchors(log_of):
    log = log_of(
        loss=noisy(np.linspace(0.2, 0.1, 20)), positive_distance=[0.0] * 19 + [0.3], negative_distance=[0.8] * 20
    )
    found = find_dead_positives(log)
    assert (found.cause, found.severity) == ("dead-positives", "error")
    assert found.numbers == pytest.approx({"dead_share": 0.95, "negative_distance": 0.8})
    assert found.what == "The distance from anchor to positive is 0 in 95% of the rows, and to the negative 0.8"
    assert causes(log) == ["dead-positives"]


@pytest.mark.parametrize(
    ("positive", "negative"),
    [
        ([0.0] * 17 + [0.3] * 3, [0.8] * 20),
        ([1e-5] * 20, [0.8] * 20),  # near, but another picture
        ([0.0] * 20, [0.0] * 20),  # a point
        ([0.0] * 20, [np.nan] * 20),
        ([np.nan] * 20, [0.8] * 20),
    ],
)
def test_positives_that_are_near_are_not_dead(log_of, positive, negative):
    assert find_dead_positives(log_of(positive_distance=positive, negative_distance=negative)) is None


# swapped


def test_positives_that_are_pushed_away(log_of):
    log = log_of(
        loss=noisy(np.linspace(0.5, 0.02, 20)),
        positive_distance=noisy(np.linspace(0.9, 1.4, 20), seed=1),
        negative_distance=noisy(np.linspace(1.1, 0.1, 20), seed=2),
    )
    found = find_swapped(log, TRIPLET)
    assert (found.cause, found.severity, found.share) == ("swapped", "error", 1.0)
    numbers = found.numbers
    assert numbers["first_loss"] > 0.4 > numbers["last_loss"]
    assert numbers["first_gap"] > 0 > numbers["last_gap"]
    assert numbers["last_gap"] == pytest.approx(np.linspace(1.1, 0.1, 20)[-4:].mean() - 1.36, abs=0.05)
    assert causes(log, loss_name="triplet", margin=0.2) == ["swapped"]


@pytest.mark.parametrize(
    ("loss", "positive", "negative"),
    [
        (np.linspace(0.5, 0.1, 20), np.linspace(0.9, 0.4, 20), np.linspace(1.0, 1.3, 20)),  # learns
        (np.linspace(0.3, 0.4, 20), np.linspace(0.9, 0.8, 20), np.linspace(1.1, 0.6, 20)),  # ever harder negatives
        (np.linspace(0.5, 0.4, 20), np.linspace(0.9, 1.1, 20), np.linspace(1.1, 0.8, 20)),  # fell by a fifth
        (np.linspace(0.5, 0.1, 20), np.linspace(1.2, 0.9, 20), np.linspace(1.0, 0.8, 20)),  # the gap closes
    ],
)
def test_distances_that_change_otherwise_are_not_swapped(log_of, loss, positive, negative):
    log = log_of(loss=loss, positive_distance=positive, negative_distance=negative)
    assert find_swapped(log, TRIPLET) is None


def test_long_embeddings_that_collapse_are_not_swapped(log_of):
    # At a point, which distance is the larger is chance.
    shrink = 10 * np.exp(-np.arange(40) / 3) + 1e-3
    log = log_of(loss=0.2 + shrink, positive_distance=0.95 * shrink + 8e-5, negative_distance=shrink)
    assert find_swapped(log, TRIPLET) is None
    assert "swapped" not in causes(log, loss_name="triplet", margin=0.2)
    assert causes(log, loss_name="triplet", margin=0.2) == ["collapsed"]


def test_infonce_and_short_logs_are_not_judged(log_of):
    columns = {
        "loss": np.linspace(0.5, 0.02, 20),
        "positive_distance": np.linspace(0.9, 1.4, 20),
        "negative_distance": np.linspace(1.1, 0.1, 20),
    }
    assert find_swapped(log_of(**columns), LossFacts("infonce")) is None
    assert find_swapped(log_of(**{name: values[::4] for name, values in columns.items()}), TRIPLET) is None


# overfitting


def turned(rise, num=30, noise=0.002):
    fall = np.linspace(0.6, 0.4, num // 2)
    return noisy([*fall, *np.linspace(0.4, 0.4 * (1 + rise), num - num // 2)], noise)


def test_a_validation_that_turns(log_of):
    log = log_of(loss=noisy(np.linspace(0.6, 0.05, 30)), val_loss=turned(0.4))
    found = find_overfitting(log)
    assert (found.cause, found.severity) == ("overfitting", "warning")
    assert found.numbers["best_at"] == pytest.approx(15, abs=1)
    assert found.numbers["best_val_loss"] == pytest.approx(0.4, abs=0.005)
    assert found.numbers["last_val_loss"] == pytest.approx(0.4 * 1.4, abs=0.02)
    assert found.settings == {}
    assert causes(log) == ["overfitting"]


@pytest.mark.parametrize(
    ("loss", "val_loss"),
    [
        (np.linspace(0.6, 0.05, 30), turned(0.08)),  # less than a tenth
        (np.linspace(0.6, 0.9, 30), turned(0.4)),  # both rise: it diverges
        (np.linspace(0.6, 0.05, 30), noisy(np.linspace(0.6, 0.4, 30), 0.2)),  # a noisy validation
        (np.linspace(0.6, 0.05, 30), np.linspace(0.9, 0.7, 30)),  # a gap alone
        (np.linspace(0.6, 0.05, 5), np.linspace(0.4, 0.7, 5)),  # too few rows
    ],
)
def test_a_validation_that_does_not_turn(log_of, loss, val_loss):
    assert find_overfitting(log_of(loss=loss, val_loss=val_loss)) is None


@pytest.mark.parametrize(
    ("measure", "expected"),
    [
        (np.linspace(0.6, 0.89, 30), None),  # it goes on getting better
        (np.r_[np.linspace(0.6, 0.8, 15), [0.8] * 15], "note"),  # too sure of its answers, not worse
        (np.r_[np.linspace(0.6, 0.8, 15), np.linspace(0.8, 0.7, 15)], "warning"),
    ],
)
@pytest.mark.parametrize("name", ["val_accuracy", "retrieval"])
def test_a_measure_outranks_the_loss(log_of, name, measure, expected):
    columns = {"loss": noisy(np.linspace(0.6, 0.05, 30)), "val_loss": turned(0.9), name: noisy(measure, 0.002)}
    found = find_overfitting(log_of(**columns))
    assert (None if found is None else found.severity) == expected
    if expected == "warning":
        assert found.what.startswith(f"{name} fell from 0.79")
        assert found.numbers["best"] - found.numbers["last"] == pytest.approx(0.1, abs=0.015)


def test_a_measure_that_falls_is_enough_and_a_noisy_one_is_not(log_of):
    fall = np.r_[np.linspace(0.5, 0.8, 15), np.linspace(0.8, 0.7, 15)]
    loss = noisy(np.linspace(0.6, 0.05, 30))
    assert find_overfitting(log_of(loss=loss, retrieval=noisy(fall, 0.005))).severity == "warning"
    assert find_overfitting(log_of(loss=loss, retrieval=noisy(np.full(30, 0.7), 0.1))) is None
    assert find_overfitting(log_of(loss=loss[::-1], retrieval=fall)) is None  # all of it gets worse


def test_accuracies_that_part(log_of):
    log = log_of(accuracy=noisy(np.linspace(0.6, 0.99, 30), 0.01), val_accuracy=noisy([0.6] * 30, 0.01, seed=1))
    found = find_overfitting(log)
    assert found.severity == "warning"
    assert found.numbers["gap"] == pytest.approx(0.35, abs=0.03)
    assert 0.15 < found.numbers["low"] < found.numbers["gap"] < found.numbers["high"]


@pytest.mark.parametrize(
    ("train", "validation"),
    [
        ([0.95] * 30, [0.70] * 30),  # a gap alone
        (np.linspace(0.6, 0.99, 30), np.linspace(0.6, 0.7, 30)),  # less is gained, but gained
        (np.linspace(0.6, 0.8, 30), [0.7] * 30),
        ([0.7] * 30, [0.95] * 30),
        (np.linspace(0.8, 0.95, 30), [0.70, 0.95] * 15),
        ([0.95] * 2, [0.5] * 2),
    ],
)
def test_accuracies_that_may_be_alike(log_of, train, validation):
    assert find_overfitting(log_of(accuracy=train, val_accuracy=validation)) is None
