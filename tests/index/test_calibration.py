"""When an index says "unknown", and whether it keeps what it promises."""

import numpy as np
import pytest

from mohs.errors import InputError
from mohs.index.calibration import Calibration, calibrate
from mohs.index.exact_search import Vectors, nearest_items


def world(seed, *, num_classes, dim=24, noise=0.5):
    """Unit vectors: centres of classes, and a function that takes pictures of some of them."""
    random = np.random.default_rng(seed)
    centre_CD = random.normal(size=(num_classes, dim))

    def pictures(classes, per_class):
        class_N = np.repeat(classes, per_class)
        x_ND = centre_CD[class_N] + noise * random.normal(size=(len(class_N), dim))
        x_ND = (x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True)).astype(np.float32)
        return x_ND, np.array([f"c{c}" for c in class_N], dtype=object)

    return pictures


def index_of(x_ND, class_N):
    return Vectors(np.array([f"i{i:05d}" for i in range(len(x_ND))], dtype=object), class_N, x_ND)


def accepted(vectors, x_QD, threshold):
    return np.mean([distance[0] < threshold for _, distance in nearest_items(vectors, x_QD, 1)])


def test_false_acceptance_is_kept_and_its_interval_holds():
    inside, reached = 0, []
    for seed in range(40):
        pictures = world(seed, num_classes=1300)
        vectors = index_of(*pictures(np.arange(200), 2))
        held_x, held_class = pictures(np.arange(200, 300), 2)
        found = calibrate(vectors, held_x, held_class, [[]] * len(held_x), max_false_acceptance=0.05, seed=seed)
        # Pictures of classes that neither the index nor the calibration has seen.
        true = accepted(vectors, pictures(np.arange(300, 1300), 1)[0], found.threshold_distance)
        low, high = found.false_acceptance_interval
        inside += low <= true <= high
        reached.append(true)
    assert np.mean(reached) == pytest.approx(0.05, abs=0.01)
    assert inside >= 36


def test_what_a_threshold_of_ones_own_reaches_is_measured():
    inside, reached = 0, []
    for seed in range(20):
        pictures = world(seed, num_classes=1300)
        vectors = index_of(*pictures(np.arange(200), 2))
        held_x, held_class = pictures(np.arange(100, 300), 1)
        found = calibrate(vectors, held_x, held_class, [[]] * len(held_x), threshold_distance=0.93)
        assert (found.max_false_acceptance, found.threshold_distance) == (None, 0.93)
        assert found.found + found.wrong + found.unknown == pytest.approx(1)
        true = accepted(vectors, pictures(np.arange(300, 1300), 1)[0], 0.93)
        low, high = found.false_acceptance_interval
        inside += low <= true <= high
        reached.append(found.false_acceptance - true)
        assert Calibration.of_record(found.as_record()) == found
    assert inside >= 17
    assert np.mean(reached) == pytest.approx(0, abs=0.02)


def test_known_pictures_are_found_and_do_not_find_themselves():
    pictures = world(0, num_classes=100)
    x_ND, class_N = pictures(np.arange(100), 3)
    vectors = index_of(x_ND, class_N)
    itself = calibrate(vectors, x_ND, class_N, [[i] for i in range(len(x_ND))])
    assert itself.num_known == len(x_ND)
    assert itself.found + itself.wrong + itself.unknown == pytest.approx(1)
    careless = calibrate(vectors, x_ND, class_N, [[]] * len(x_ND))
    # Were a picture to find itself, all would be right.
    assert careless.found == 1.0
    assert itself.found < 1.0


def test_probabilities_mean_what_they_say():
    pictures = world(1, num_classes=400, noise=0.7)
    vectors = index_of(*pictures(np.arange(400), 1))
    held_x, held_class = pictures(np.arange(400), 1)
    found = calibrate(vectors, held_x, held_class, [[]] * len(held_x))
    new_x, new_class = pictures(np.arange(400), 1)
    matches = nearest_items(vectors, new_x, 10)
    p = np.concatenate([found.probability(distance) for _, distance in matches])
    same = np.concatenate([vectors.class_N[items] == c for (items, _), c in zip(matches, new_class, strict=True)])
    assert p.mean() == pytest.approx(same.mean(), abs=0.01)
    for low in (0.2, 0.5):
        some = (p >= low) & (p < low + 0.3)
        assert p[some].mean() == pytest.approx(same[some].mean(), abs=0.12)
    # Nearer is likelier.
    assert found.probability(0.2) > found.probability(0.8) > found.probability(1.4)


def test_few_pictures_allow_nothing_and_unknown_classes_tell_no_probability():
    pictures = world(2, num_classes=60)
    vectors = index_of(*pictures(np.arange(50), 1))
    held_x, held_class = pictures(np.arange(50, 55), 2)
    found = calibrate(vectors, held_x, held_class, [[]] * 10, max_false_acceptance=0.05)
    assert found.threshold_distance == 0.0
    assert (found.num_known, found.found, found.probability(0.5)) == (0, None, None)
    assert calibrate(vectors, held_x, held_class, [[]] * 10, max_false_acceptance=0.2).threshold_distance > 0.5
    assert Calibration.of_record(found.as_record()) == found


def test_what_cannot_be_learned_is_refused():
    pictures = world(3, num_classes=5)
    x_ND, class_N = pictures(np.arange(5), 2)
    vectors = index_of(x_ND, class_N)
    with pytest.raises(InputError, match=r"max_false_acceptance: 1 is not a number in \(0, 1\); use for example 0.05"):
        calibrate(vectors, x_ND, class_N, [[]] * 10, max_false_acceptance=1)
    with pytest.raises(InputError, match=r"threshold_distance: 2.5 is not a number in \(0, 2\]; use for example 0.5"):
        calibrate(vectors, x_ND, class_N, [[]] * 10, threshold_distance=2.5)
    with pytest.raises(InputError, match="threshold_distance: max_false_acceptance is given, too, which chooses"):
        calibrate(vectors, x_ND, class_N, [[]] * 10, threshold_distance=0.5, max_false_acceptance=0.1)
    with pytest.raises(InputError, match="pictures: 1 class; calibrate on pictures of two classes"):
        calibrate(vectors, x_ND[:2], class_N[:2], [[]] * 2)
    with pytest.raises(InputError, match="index: its items are of one class"):
        calibrate(index_of(x_ND[:2], class_N[:2]), x_ND, class_N, [[]] * 10)
