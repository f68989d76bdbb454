"""What is given with a loss is weighed with it: a cause is named only where nothing that was given contradicts it."""

import numpy as np
import pytest

import mohs

TRIPLET = {"loss_name": "triplet", "margin": 0.2}


def random():
    return np.random.default_rng(0)


def unit(num=200, dim=64):
    x_ND = random().normal(size=(num, dim))
    return x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True)


def pairs_of_pictures(x_ND):
    return {"embeddings": x_ND, "labels": np.arange(len(x_ND)) // 2}


NO_CLASSES = pairs_of_pictures(unit())
ONE_POINT = pairs_of_pictures(1.0 + random().normal(0, 5e-4, (80, 16)))
GOOD = pairs_of_pictures(np.repeat(unit(60, 16), 2, axis=0) + random().normal(0, 0.01, (120, 16)))


def found_in(log, **material):
    return {finding.cause: finding for finding in mohs.diagnose(log=log, **material).findings}


# A loss alone is no proof.


@pytest.mark.parametrize("facts", [{"margin": 0.2}, TRIPLET])
@pytest.mark.parametrize("rate", [1e-9, 0.0, 1e-3])
@pytest.mark.parametrize("beside", [{}, NO_CLASSES])
def test_distances_disprove_a_collapse(log_of, facts, rate, beside):
    flat = np.ones(40)
    log = log_of(
        loss=0.2 * flat, positive_distance=1.41 * flat, negative_distance=1.41 * flat, learning_rate=rate * flat
    )
    found = found_in(log, **facts, **beside)
    assert "collapsed" not in found
    assert found["stalled"].severity == "error"
    if rate < 1e-3:
        assert found["stalled"].what.startswith(f"The learning rate is {rate:.2g} from epoch 1 on, 40 of 40 rows")
        assert found["stalled"].settings == {"training.learning_rate": 1e-3}
    else:
        assert "d_an is 1.41 all the time" in found["stalled"].what
        assert "it is no collapse" in found["stalled"].what
        assert found["stalled"].why.startswith("The weights do not move: the optimiser holds other parameters")
        assert found["stalled"].settings == {}


def test_embeddings_disprove_a_collapse(log_of):
    found = found_in(log_of(loss=[0.2] * 40), **TRIPLET, **NO_CLASSES)
    assert "collapsed" not in found
    assert "it is no collapse, since the spread of the embeddings is 1 of their length" in found["stalled"].what
    assert found["stalled"].severity == "error"  # R@1 is at chance, too


@pytest.mark.parametrize("margin", [0.2, 0.3, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("num", [20, 60, 400])
def test_distances_as_long_as_ever_disprove_it_at_any_margin(log_of, margin, num):
    noise = 1 + 0.003 * random().normal(size=num)
    log = log_of(loss=margin * noise, positive_distance=1.38 * noise, negative_distance=1.38 * noise)
    assert set(found_in(log, loss_name="triplet", margin=margin)) == {"stalled"}


def test_distances_of_a_quarter_of_the_margin_prove_nothing(log_of):
    log = log_of(loss=[0.2] * 40, positive_distance=[0.05] * 40, negative_distance=[0.05] * 40)
    found = found_in(log, **TRIPLET)
    assert [(each.cause, each.severity) for each in found.values()] == [("collapsed", "warning")]


@pytest.mark.parametrize("noise", [0.03, 0.05])
def test_a_network_that_is_not_trained_has_the_noise_of_its_batches(log_of, noise):
    loss = 0.43 * (1 + noise * random().normal(size=400))
    found = found_in(log_of(loss=loss, learning_rate=[1e-3] * 400))
    assert [(each.cause, each.severity) for each in found.values()] == [("stalled", "warning")]
    assert "the optimiser holds other parameters" in found["stalled"].why
    assert found_in(log_of(loss=loss * np.linspace(1.05, 0.95, 400))) == {}


def test_what_cannot_be_told_apart_is_one_finding(log_of):
    found = found_in(log_of(loss=[0.2] * 40), **TRIPLET)
    assert list(found) == ["collapsed"]
    assert found["collapsed"].severity == "warning"
    assert "weights that do not move" in found["collapsed"].why
    assert "a mean over active triplets alone" in found["collapsed"].why
    assert found["collapsed"].fix.startswith("To tell, give the embeddings, or log d_ap and d_an.")


# A rest is seen through its noise, and an error needs direct evidence.


@pytest.mark.parametrize(
    ("loss", "facts"),
    [
        (0.5 * (1 + np.abs(random().normal(0, 0.005, 60))), {"loss_name": "triplet", "margin": 0.5}),
        (0.5 * (1 + np.abs(random().normal(0, 0.005, 60))), {"margin": 0.5}),
        (np.r_[0.30, 0.25, 0.21, 0.2009 + random().normal(0, 1e-4, 57)], TRIPLET),
        (0.2 + random().normal(0, 1e-3, 60), TRIPLET),
        (0.2 + random().normal(0, 1e-3, 60), {}),
        (0.3 * (1 + random().normal(0, 0.01, 200)), {"loss_name": "triplet", "margin": 0.3}),
        (np.r_[np.linspace(1.9, 1.0, 30), 1.0 + random().normal(0, 4e-3, 60)], {"loss_name": "triplet", "margin": 1.0}),
        (np.log(2) + random().normal(0, 3e-3, 60), {"loss_name": "soft-triplet"}),
        (np.log(63) * (1 + random().normal(0, 2e-3, 60)), {"loss_name": "infonce", "batch": 32}),
    ],
)
def test_real_collapses_are_seen_and_hedged(log_of, loss, facts):
    found = found_in(log_of(loss=loss), **facts)
    assert list(found) == ["collapsed"]
    assert found["collapsed"].severity == "warning"
    assert "the value of one answer for everything" in found["collapsed"].what
    assert found["collapsed"].fix.startswith("To tell, ")


def test_pairs_with_one_probability_are_seen_and_hedged(log_of):
    found = found_in(log_of(loss=np.log(2) + random().normal(0, 3e-3, 60)), loss_name="cross-entropy")
    assert list(found) == ["stalled"]
    assert "the value of one answer for everything: every pair has probability 0.5" in found["stalled"].what
    assert (found["stalled"].severity, found["stalled"].fix[:8]) == ("warning", "To tell,")


@pytest.mark.parametrize(
    ("columns", "beside"),
    [
        ({"spread": np.r_[0.7, 0.4, 0.1, [0.002] * 57]}, {}),
        ({"positive_distance": np.geomspace(1, 1e-3, 60), "negative_distance": np.geomspace(1.1, 1.1e-3, 60)}, {}),
        ({"positive_distance": [0.002] * 60, "negative_distance": [0.002] * 60}, {}),
        ({"retrieval": np.r_[0.3, 0.2, [0.005] * 58]}, {}),
        ({}, ONE_POINT),
    ],
)
def test_direct_evidence_makes_it_an_error(log_of, columns, beside):
    loss = np.r_[0.30, 0.25, 0.21, 0.2009 + random().normal(0, 1e-4, 57)]
    found = found_in(log_of(loss=loss, **columns), **TRIPLET, **beside)
    assert found["collapsed"].severity == "error"
    assert "stalled" not in found


@pytest.mark.parametrize(
    ("columns", "beside"),
    [
        ({"spread": [0.8] * 60}, {}),
        ({"negative_distance": [1.2] * 60, "positive_distance": np.linspace(1.1, 0.5, 60)}, {}),
        ({"retrieval": np.linspace(0.2, 0.7, 60)}, {}),
        ({"val_accuracy": np.linspace(0.5, 0.9, 60)}, {}),
        ({}, GOOD),
    ],
)
def test_evidence_against_it_leaves_no_collapse(log_of, columns, beside):
    loss = np.r_[0.30, 0.25, 0.21, 0.2 + random().normal(0, 1e-4, 57)]
    assert "collapsed" not in found_in(log_of(loss=loss, **columns), **TRIPLET, **beside)


# A fall is no rise; a rise is one, whatever the loss is called.


@pytest.mark.parametrize("first", [0.25, 0.3018, 0.9, 6.0])
@pytest.mark.parametrize("num_fall", [1, 8, 20])
def test_a_fall_is_no_rise(log_of, first, num_fall):
    rest = 0.2005 + random().normal(0, 1e-4, 60)
    log = log_of(
        loss=np.r_[first, np.linspace(first, 0.2005, num_fall + 1)[1:], rest], learning_rate=[1e-3] * (61 + num_fall)
    )
    assert list(found_in(log, **TRIPLET)) == ["collapsed"]


def test_harder_negatives_before_a_rest_are_no_overshooting(log_of):
    loss = np.r_[0.1, 0.2, 0.3, 0.25, 0.21, 0.2005 + random().normal(0, 1e-4, 30)]
    assert list(found_in(log_of(loss=loss), **TRIPLET)) == ["collapsed"]
    loss[2] = 3.0
    assert list(found_in(log_of(loss=loss), **TRIPLET)) == ["learning-rate-too-high", "collapsed"]


@pytest.mark.parametrize(
    ("loss", "severity"),
    [
        ([0.7, 12, 5e5], "error"),
        (np.geomspace(0.7, 5e5, 40), "error"),
        (np.geomspace(0.7, 5e5, 6), "error"),
        (np.r_[np.linspace(0.7, 0.3, 20), np.geomspace(0.3, 5e5, 5)], "error"),
        (np.r_[np.linspace(0.7, 0.3, 20), np.geomspace(0.3, 8.0, 20)], "warning"),
        (np.geomspace(0.7, 50, 500) * (1 + 0.1 * random().normal(size=500)), "warning"),
        (np.r_[-0.5 * np.ones(10), np.geomspace(1, 900, 20)], "error"),
    ],
)
@pytest.mark.parametrize("facts", [{}, {"loss_name": "infonce"}, TRIPLET])
def test_divergence_needs_no_name(log_of, loss, severity, facts):
    found = found_in(log_of(loss=loss), **facts)
    assert list(found) == ["learning-rate-too-high"]
    assert found["learning-rate-too-high"].severity == severity
    assert ("harder negatives" in found["learning-rate-too-high"].why) == (severity == "warning")


def test_a_validation_alone_that_diverges(log_of):
    assert list(found_in(log_of(val_loss=np.geomspace(0.7, 5e5, 40)))) == ["learning-rate-too-high"]
    assert found_in(log_of(val_loss=np.linspace(0.7, 6, 40))) == {}  # it may be learning by heart


@pytest.mark.parametrize(
    "loss",
    [
        random().uniform(0.1, 5, 60),
        0.5 * np.exp(random().normal(0, 1.2, 60)),
        np.tile([0.2, 2.0], 30),
        np.where(np.arange(60) % 6 == 5, 8.0, 0.4) + 0.02 * random().normal(size=60),
        np.abs(random().normal(1, 2, 2000)),
    ],
)
@pytest.mark.parametrize("facts", [{}, TRIPLET, {"loss_name": "infonce", "batch": 32}])
def test_a_loss_that_jumps_about(log_of, loss, facts):
    found = found_in(log_of(loss=loss), **facts)
    assert list(found) == ["learning-rate-too-high"]
    assert found["learning-rate-too-high"].what.startswith("The loss jumps about: ")
    assert found["learning-rate-too-high"].severity == "warning"
    assert "few pictures" in found["learning-rate-too-high"].why
    assert found_in(log_of(loss=loss, retrieval=np.linspace(0.1, 0.6, len(loss))), **facts) == {}


# A rate of 0


@pytest.mark.parametrize("noise", [1e-4, 0.03])
@pytest.mark.parametrize("facts", [{}, TRIPLET, {"loss_name": "infonce", "batch": 32}])
def test_a_rate_that_ends_too_early(log_of, noise, facts):
    loss = np.r_[np.linspace(0.9, 0.45, 5), 0.45 * (1 + noise * random().normal(size=35))]
    found = found_in(log_of(loss=loss, learning_rate=[1e-3] * 5 + [0.0] * 35), **facts)
    assert list(found) == ["stalled"]
    assert found["stalled"].severity == "warning"
    assert found["stalled"].what.startswith("The learning rate is 0 from epoch 6 on, 35 of 40 rows, and the loss stays")
    assert "schedule is as long as the training" in found["stalled"].fix


@pytest.mark.parametrize("facts", [{}, TRIPLET, {"loss_name": "infonce", "batch": 32}])
def test_a_loss_that_falls_and_then_is_ever_the_same(log_of, facts):
    loss = np.r_[np.linspace(0.9, 0.45, 5), 0.45 * (1 + 1e-4 * random().normal(size=35))]
    found = found_in(log_of(loss=loss), **facts)
    assert list(found) == ["stalled"]
    assert found["stalled"].severity == "warning"
    assert found["stalled"].what.startswith("Loss fell from 0.9 and is 0.45 from epoch 5 on, 36 rows long")
    assert "Either the learning rate has become 0, or no gradient is left" in found["stalled"].why
    # Written with two decimals, it may change without being seen to.
    assert found_in(log_of(loss=loss.round(2)), **facts) == {}


@pytest.mark.parametrize("num_zero", [0, 1, 7])
def test_a_schedule_that_ends_at_0_is_in_order(log_of, num_zero):
    rate = np.r_[np.linspace(1e-3, 0, 40 - num_zero, endpoint=False), np.zeros(num_zero)]
    loss = 0.2 + 0.8 * np.exp(-np.arange(40) / 8) + 0.01 * random().normal(size=40)
    assert found_in(log_of(loss=loss, learning_rate=rate)) == {}


# Measures of search, accuracies and embeddings


def test_a_loss_of_0_with_good_embeddings_is_a_note(log_of):
    log = log_of(loss=[0.0] * 60)
    found = found_in(log, margin=0.2, **GOOD)
    assert [(f.cause, f.severity) for f in found.values()] == [("nothing-active", "note")]
    assert "R@1 of the embeddings is 1.000" in found["nothing-active"].what
    assert found_in(log, margin=0.2)["nothing-active"].severity == "warning"
    assert found_in(log, margin=0.2, **NO_CLASSES)["nothing-active"].severity == "error"


@pytest.mark.parametrize("name", ["val_mAP", "recall@1", "R@1", "precision_at_1", "map@r", "hit@10", "top-1", "Rank-1"])
@pytest.mark.parametrize("percent", [False, True])
def test_a_search_that_gets_better_is_learning(tmp_path, name, percent):
    values = np.linspace(0.16, 0.74, 40) * (100 if percent else 1)
    rows = [
        f"{t + 1},{loss},{value}" for t, (loss, value) in enumerate(zip(np.linspace(1.004, 1, 40), values, strict=True))
    ]
    (tmp_path / "log.csv").write_text("\n".join([f"epoch,loss,{name}", *rows]) + "\n")
    assert found_in(tmp_path / "log.csv", loss_name="triplet", margin=1.0) == {}


def test_a_search_that_stays_where_it_was_is_none(log_of):
    log = log_of(loss=np.linspace(1.004, 1, 40), retrieval=0.02 * (1 + 0.1 * random().normal(size=40)))
    assert list(found_in(log, loss_name="triplet", margin=1.0)) == ["collapsed"]


@pytest.mark.parametrize("last", [0.68, 2.0])
def test_a_validation_loss_may_rise_while_the_accuracy_does(log_of, last):
    log = log_of(
        loss=np.linspace(0.9, 0.05, 40),
        val_loss=np.r_[np.linspace(0.6, 0.35, 10), np.linspace(0.35, last, 30)],
        val_accuracy=np.linspace(0.60, 0.89, 40),
    )
    assert found_in(log) == {}


def test_pairs_in_order_disprove_that_every_answer_is_the_same(log_of, tmp_path):
    rows = [f"{i % 2},{1.2 - 0.8 * (i % 2) + 0.001 * i}" for i in range(100)]
    (tmp_path / "pairs.csv").write_text("\n".join(["same,distance", *rows]) + "\n")
    loss = np.r_[0.30, 0.25, 0.21, 0.2 + random().normal(0, 1e-4, 57)]
    pairs = {"pairs": tmp_path / "pairs.csv", "threshold": 0.8}
    assert found_in(log_of(loss=loss), **TRIPLET, **pairs) == {}


def test_embeddings_that_the_log_contradicts_are_perhaps_of_other_weights(log_of):
    log = log_of(loss=np.linspace(0.2, 0.05, 40), retrieval=np.linspace(0.2, 0.7, 40))
    found = found_in(log, **TRIPLET, **ONE_POINT)["collapsed"]
    assert found.severity == "error"
    assert "although retrieval rose from 0.245 to 0.655" in found.what
    assert found.why.startswith("Either these are of other weights or of batch norm in another mode")
    assert found.settings == {}
    assert "although" not in found_in(log_of(loss=np.linspace(0.2, 0.05, 40)), **TRIPLET, **ONE_POINT)["collapsed"].what
