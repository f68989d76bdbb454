"""Causes in the losses of a log: each where it is, and where something near it is not one."""

import numpy as np
import pytest

import mohs
from mohs.doctor.log.losses import find_collapsed, find_not_finite, find_stalled
from mohs.doctor.log.rising import find_learning_rate
from mohs.doctor.log.stuck_values import LossFacts

TRIPLET = LossFacts("triplet", margin=0.2)
INFONCE = LossFacts("infonce", batch=32)
CONTRASTIVE = LossFacts("contrastive", margin=1.0)
ANY = LossFacts()


def falling(first, last, num=40, noise=0.02, seed=0):
    """A healthy loss: it falls and never stands still."""
    wobble = 1 + noise * np.random.default_rng(seed).normal(size=num)
    return (last + (first - last) * np.exp(-np.arange(num) / 8)) * wobble


def causes(log, **facts):
    return [finding.cause for finding in mohs.diagnose(log=log, **facts).findings]


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"loss_name": "triplet", "margin": 0.2},
        {"loss_name": "infonce", "batch": 32},
        {"loss_name": "contrastive", "margin": 1.0},
        {"loss_name": "cross-entropy"},
        {"loss_name": "soft-triplet"},
    ],
)
def test_a_healthy_training_has_no_cause(log_of, facts):
    log = log_of(
        loss=falling(0.9, 0.1),
        val_loss=falling(0.9, 0.15, seed=1),
        accuracy=1 - falling(0.5, 0.05),
        val_accuracy=1 - falling(0.5, 0.1),
        learning_rate=np.linspace(1e-2, 0, 40),
        positive_distance=falling(1.0, 0.4),
        negative_distance=2 - falling(1.0, 0.8),
        active_fraction=falling(0.8, 0.2),
        spread=falling(0.4, 0.9),
    )
    assert causes(log, **facts) == []


def test_a_log_of_empty_cells_has_no_cause_and_no_warning(log_of):
    empty = np.full(20, np.nan)
    names = ("val_loss", "accuracy", "val_accuracy", "learning_rate", "active_fraction", "spread")
    log = log_of(loss=falling(0.9, 0.1, 20), **dict.fromkeys(names, empty))
    assert causes(log, loss_name="triplet", margin=0.2) == []
    log = log_of(loss=empty, positive_distance=empty, negative_distance=empty)
    assert causes(log, loss_name="triplet", margin=0.2) == []
    log = log_of(loss=falling(0.9, 0.1, 20), positive_distance=falling(1, 0.5, 20), negative_distance=empty)
    assert causes(log) == []


# not-finite


def test_a_loss_that_broke(log_of):
    log = log_of(loss=[0.5, 0.4, np.inf, np.inf], learning_rate=[0.1, 0.3, 0.3, 0.3])
    found = find_not_finite(log)
    assert (found.cause, found.severity, found.share) == ("not-finite", "error", 1.0)
    assert found.what == "loss is NaN or Inf from epoch 3 on"
    assert found.numbers == {"first_row": 3.0, "last_finite": 0.4}
    assert found.settings == {"training.learning_rate": 0.03, "training.max_gradient_norm": 1.0}
    assert causes(log) == ["not-finite"]


def test_a_validation_that_broke(log_of):
    found = find_not_finite(log_of(val_loss=[np.inf, np.inf, np.inf]))
    assert (found.what, found.severity) == ("val_loss is NaN or Inf from epoch 1 on", "error")
    assert (found.numbers["last_finite"], found.settings) == (0.0, {"training.max_gradient_norm": 1.0})


def test_a_training_that_goes_on_is_not_what_broke(log_of):
    found = find_not_finite(log_of(loss=[0.5, 0.4, 0.3], val_loss=[np.inf, np.inf, np.inf], learning_rate=[0.1] * 3))
    assert (found.severity, found.settings) == ("warning", {})
    assert found.what == (
        "val_loss is NaN or Inf from epoch 1 on, and the loss of the training is a number all the time"
    )
    both = log_of(loss=[0.5, np.inf, np.inf], val_loss=[0.5, np.inf, np.inf])
    assert (find_not_finite(both).severity, find_not_finite(both).what[:5]) == ("error", "loss ")


def test_a_loss_that_recovered_is_not_said_to_be_broken_from_there_on(log_of):
    log = log_of(unit="step", loss=[0.5, np.inf, 0.4, np.inf, np.nan, 0.3])
    found = find_not_finite(log)
    assert (found.what, found.severity) == ("loss is NaN or Inf in 2 of 6 rows, first at step 2", "warning")


def test_an_empty_cell_and_a_large_loss_did_not_break(log_of):
    assert find_not_finite(log_of(loss=[0.5, np.nan, 1e30], val_loss=[np.nan, 0.4, np.nan])) is None


# collapsed


def test_a_spread_that_fell(log_of):
    log = log_of(unit="step", loss=falling(0.5, 0.3), spread=np.linspace(0.9, 0.01, 40))
    found = find_collapsed(log, ANY)
    assert (found.cause, found.severity) == ("collapsed", "error")
    assert found.numbers == pytest.approx({"spread": 0.01 + 0.89 / 39 * 4.5, "largest_spread": 0.9})
    assert found.what.startswith("The spread of the embeddings fell from 0.9 to 0.113 (1 is full, 0 a point)")
    assert found.settings == {"loss.name": "infonce"}


@pytest.mark.parametrize(("last", "is_cause"), [(0.21, False), (0.19, True)])
def test_a_spread_may_fall_to_a_fifth(log_of, last, is_cause):
    log = log_of(loss=falling(0.5, 0.3), spread=[1.0] * 20 + [last] * 20)
    assert (find_collapsed(log, ANY) is not None) == is_cause


@pytest.mark.parametrize(("spread", "is_cause"), [(0.025, False), (0.015, True)])
def test_a_spread_that_never_rose_is_one_only_at_a_point(log_of, spread, is_cause):
    log = log_of(loss=falling(0.5, 0.3), spread=[spread] * 40)
    assert (find_collapsed(log, ANY) is not None) == is_cause


def test_distances_that_both_vanish(log_of):
    log = log_of(loss=falling(0.5, 0.3), positive_distance=falling(1.0, 0.02), negative_distance=falling(1.2, 0.03))
    found = find_collapsed(log, ANY)
    assert found.what.startswith("The distance to negatives fell from 1.2")
    assert found.numbers["negative_distance"] < 0.1 * found.numbers["largest_negative_distance"]


@pytest.mark.parametrize(
    ("positive", "negative", "spread"),
    [
        (falling(0.5, 0.02), falling(1.2, 0.10), None),  # small, but in order
        (falling(1.0, 0.10), falling(1.2, 0.15), None),  # no tenth of what it was
        (2 - falling(1.0, 0.6), falling(1.2, 0.03), None),  # swapped: positives are far, so it is no point
        (falling(1.0, 0.05), falling(1.2, 0.04), 0.9),  # ever nearer negatives are mined in a space as wide as before
    ],
)
def test_negatives_that_come_near_are_no_collapse(log_of, positive, negative, spread):
    columns = {} if spread is None else {"spread": [spread] * 40}
    log = log_of(loss=falling(0.5, 0.3), positive_distance=positive, negative_distance=negative, **columns)
    assert find_collapsed(log, ANY) is None


@pytest.mark.parametrize(
    ("facts", "value", "says"),
    [
        (TRIPLET, 0.2, "positive and negative are equally far (triplet loss, margin 0.2)"),
        (LossFacts("triplet"), 0.3, "positive and negative are equally far (triplet loss, margin 0.3)"),
        (LossFacts("soft-triplet"), np.log(2), "positive and negative are equally far (soft margin)"),
        (INFONCE, np.log(63), "each of 63 other pictures is equally near"),
        (INFONCE, np.log(32), "each of 32 candidates is equally near"),
    ],
)
def test_a_loss_that_rests_where_one_point_is(log_of, facts, value, says):
    log = log_of(loss=[*falling(1.3 * value, 1.1 * value, 10), *[value] * 10], learning_rate=[0.02] * 20)
    found = find_collapsed(log, facts)
    assert found.what == (
        f"Loss rests at {value:.4g} (±0.01%) from epoch 11 on, the value of one answer for everything: {says}"
    )
    assert found.numbers == pytest.approx({"loss": value, "collapsed_loss": value, "num_rows": 10, "noise": 0})
    # A loss alone is no proof: other reasons are told, and what would tell them apart.
    assert found.severity == "warning"
    assert ("a mean over active triplets alone" in found.why) == (facts.name == "triplet")
    assert found.fix.startswith("To tell, give the embeddings, or log d_ap and d_an. ")
    assert found.settings == {}
    assert find_stalled(log, facts) is None


@pytest.mark.parametrize(
    ("facts", "loss", "accuracy"),
    [
        (TRIPLET, [0.5] * 10 + [0.204] * 10, 0.5),  # 2% off
        (TRIPLET, [0.5] * 10 + [0.2, 0.21] * 5, 0.5),  # does not rest
        (TRIPLET, [0.5] * 10 + [0.2] * 10, 0.9),  # something was learned
        (CONTRASTIVE, [0.5] * 20, 0.5),  # every distance 0 or a saturated output: stalled
        (ANY, [0.9] * 10 + [0.45] * 10, 0.5),
    ],
)
def test_a_loss_near_that_of_a_point_is_no_collapse(log_of, facts, loss, accuracy):
    assert find_collapsed(log_of(loss=loss, accuracy=[accuracy] * 20), facts) is None


# stalled


def test_a_loss_that_never_moved(log_of):
    log = log_of(loss=falling(0.45, 0.43), val_loss=[0.43] * 40, val_accuracy=[0.5] * 40, learning_rate=[0.1] * 40)
    found = find_stalled(log, ANY)
    assert (found.cause, found.severity) == ("stalled", "error")
    assert found.what == (
        "val_loss is 0.43 (±0.01%) from epoch 1 on, 40 rows long; accuracy is 0.500, no better than it began"
    )
    assert found.why.startswith("The weights do not move")
    numbers = {"val_loss": 0.43, "from": 1.0, "num_rows": 40, "accuracy": 0.5, "learning_rate": 0.1, "noise": 0}
    assert found.numbers == pytest.approx(numbers)
    assert found.settings == {"training.learning_rate": 0.01}


@pytest.mark.parametrize(
    ("facts", "value", "says", "why"),
    [
        (CONTRASTIVE, 0.5, "every distance is 0", "All embeddings are the same"),
        (CONTRASTIVE, 0.25, "every distance is 0 (a loss with a factor of 1/2)", "All embeddings are the same"),
        (
            LossFacts("contrastive", margin=2.0),
            1.25,
            "every output is 0.5, the sigmoid of the distance 0",
            "A sigmoid of a distance",
        ),
        (LossFacts("cross-entropy"), np.log(2), "every pair has probability 0.5", "All embeddings are the same"),
    ],
)
def test_a_loss_that_fell_to_where_every_answer_is_the_same(log_of, facts, value, says, why):
    log = log_of(loss=[*np.linspace(2 * value, value, 10), *[value * 1.0005, value] * 5])
    found = find_stalled(log, facts)
    assert f", the value of one answer for everything: {says}" in found.what
    assert found.severity == "warning"
    assert found.why.startswith(why)


@pytest.mark.parametrize(
    "columns",
    [
        {"loss": [1.0] * 10 + [0.31] * 10},  # converged below where it began
        {"loss": [0.6] * 10 + [0.5] * 10, "accuracy": [0.9] * 20},  # rests where nothing is left to learn
        {"loss": [0.3] * 10 + [0.0] * 10},
        {"loss": [0.43, 0.45] * 10},  # too noisy to tell a slow change
        {"loss": [0.43] * 4},
        {"loss": [0.9] * 16 + [0.88] * 4},  # four rows are no rest
    ],
)
def test_a_loss_at_rest_elsewhere_is_not_stalled(log_of, columns):
    assert find_stalled(log_of(**columns), CONTRASTIVE) is None


def test_a_validation_that_turned_and_rests_is_not_stalled(log_of):
    val_loss = [*np.linspace(0.7, 0.5, 10), *np.linspace(0.5, 0.9, 20), *[0.9] * 20]
    log = log_of(loss=falling(0.7, 0.01, 50), val_loss=val_loss)
    assert causes(log) == ["overfitting"]


def test_a_training_that_stands_still_is_stalled_whatever_its_noise(log_of):
    noisy = 0.45 * (1 + 0.01 * np.random.default_rng(0).normal(size=40))
    assert causes(log_of(loss=noisy, val_loss=[0.43] * 40)) == ["stalled"]


# learning-rate-too-high


def test_a_loss_that_leapt_up_and_rests(log_of):
    log = log_of(loss=[0.6, 6.0, *[0.5] * 18], learning_rate=[0.1] * 20)
    found = find_learning_rate(log, CONTRASTIVE)
    assert (found.cause, found.severity) == ("learning-rate-too-high", "warning")
    assert found.what == (
        "The loss went up from 0.6 to 6 before it came to rest at 0.5, although one and the same answer for everything "
        "costs no more than that; the learning rate was up to 0.1"
    )
    assert found.numbers == pytest.approx(
        {"first_loss": 0.6, "largest_loss": 6.0, "rests_at": 0.5, "learning_rate": 0.1}
    )
    assert found.settings == {"training.learning_rate": 0.01}
    # It comes before what followed from it.
    assert causes(log, loss_name="contrastive", margin=1.0) == ["learning-rate-too-high", "stalled"]


@pytest.mark.parametrize(
    ("facts", "loss"),
    [
        (CONTRASTIVE, [0.6, 0.55, *[0.5] * 18]),  # came to rest without a leap
        (CONTRASTIVE, [0.6, 6.0, *[0.31] * 18]),  # a bad first step, and then learning
        (CONTRASTIVE, [0.5] * 20),
        (ANY, [0.6, 6.0, *falling(0.9, 0.3, 18)]),
    ],
)
def test_a_loss_at_rest_without_a_leap(log_of, facts, loss):
    assert find_learning_rate(log_of(loss=loss), facts) is None


@pytest.mark.parametrize(
    ("facts", "first", "last", "is_cause"),
    [
        (INFONCE, 4.0, 1.22 * np.log(63), True),
        (INFONCE, 4.0, 1.18 * np.log(63), False),
        (INFONCE, 5.0, 5.5, False),  # it began there
        (INFONCE, 5.0, 6.2, True),
        (TRIPLET, 0.2, 0.7, True),
        (TRIPLET, 0.2, 0.55, False),  # mined triplets may cost more than a margin
        (LossFacts("triplet"), 0.2, 9.0, True),  # nobody knows what a point costs, but 45 times is far
        (LossFacts("triplet"), 0.4, 1.5, True),
        (LossFacts("triplet"), 0.4, 1.1, False),  # mined triplets may cost more than at first
        (CONTRASTIVE, 0.4, 0.7, True),
        (CONTRASTIVE, 40.0, 20.0, False),  # distances are long, and the loss falls
    ],
)
def test_a_loss_that_rises_above_one_answer_for_all(log_of, facts, first, last, is_cause):
    noise = 1 + 0.005 * np.random.default_rng(0).normal(size=40)
    loss = np.linspace(first, last, 40)
    loss[-10:] = last
    loss[1:] *= noise[1:]
    found = find_learning_rate(log_of(loss=loss), facts)
    assert (found is not None) == is_cause
    if found is not None:
        assert found.numbers["last_loss"] == pytest.approx(last, rel=0.01)
        assert found.numbers["first_loss"] == first


def test_a_broken_loss_is_not_told_twice(log_of):
    assert find_learning_rate(log_of(loss=[0.5, 5.0, 50.0, np.inf]), CONTRASTIVE) is None
