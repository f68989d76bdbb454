import numpy as np
import pytest

from mohs.errors import InputError
from mohs.evaluation.intervals import wilson_interval
from mohs.evaluation.triplets import sample_triplets, triplet_accuracy, triplet_accuracy_of

LABELS = np.array(["b", "a", "c", "a", "b", "b", "d"])  # "c" and "d" have one item


def clusters(noise, seed=0):
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(50), 4)
    return random.normal(size=(50, 8))[labels] + noise * random.normal(size=(200, 8)), labels


def test_samples_are_triplets_and_every_choice_is_uniform():
    anchors, positives, negatives = sample_triplets(LABELS, 60_000, seed=0)
    assert anchors.dtype == positives.dtype == negatives.dtype == np.int64
    assert (anchors != positives).all()
    assert (LABELS[anchors] == LABELS[positives]).all()
    assert (LABELS[anchors] != LABELS[negatives]).all()
    # Half of the anchors are of "a" (2 items), half of "b" (3 items).
    shares = np.bincount(anchors, minlength=7) / 60_000
    np.testing.assert_allclose(shares, [1 / 6, 1 / 4, 0, 1 / 4, 1 / 6, 1 / 6, 0], atol=0.01)
    of_item_0 = anchors == 0
    np.testing.assert_allclose(np.bincount(positives[of_item_0]) / of_item_0.sum(), [0, 0, 0, 0, 0.5, 0.5], atol=0.02)
    np.testing.assert_allclose(
        np.bincount(negatives[of_item_0]) / of_item_0.sum(), [0, 0.25, 0.25, 0.25, 0, 0, 0.25], atol=0.02
    )


def test_samples_are_seeded():
    same, again, other = (np.stack(sample_triplets(LABELS, 50, seed=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(same, again)
    assert (same != other).any()


def test_accuracy_of_given_triplets_and_its_direction():
    x = [[0.0], [1.0], [3.0]]
    right = triplet_accuracy_of(x, [0, 0, 2], [1, 1, 1], [2, 2, 0])
    assert (right.accuracy, right.num_triplets, right.num_tied) == (1.0, 3, 0)
    wrong = triplet_accuracy_of(x, [0, 0, 2], [2, 2, 0], [1, 1, 1])
    assert (wrong.accuracy, wrong.num_tied) == (0.0, 0)
    assert right.interval == wilson_interval(3, 3)


def test_blocks_leave_no_triplet_out():
    x, labels = clusters(1.0)
    anchors, positives, negatives = sample_triplets(labels, 10_001, seed=0)
    d_ap = np.linalg.norm(x[anchors] - x[positives], axis=1)
    d_an = np.linalg.norm(x[anchors] - x[negatives], axis=1)
    result = triplet_accuracy(x, labels, num_triplets=10_001, seed=0)
    assert result.accuracy == pytest.approx((d_ap < d_an).mean(), abs=1e-9)
    assert result.num_triplets == 10_001
    assert 0.7 < result.interval[0] < result.accuracy < result.interval[1] < 1


@pytest.mark.parametrize("noise", [0.0, 1e-8])
def test_collapsed_is_zero_and_random_is_a_half(noise):
    _, labels = clusters(0)
    random = np.random.default_rng(3)
    collapsed = (np.full((200, 8), 8**-0.5) + noise * random.normal(size=(200, 8))).astype(np.float32)
    result = triplet_accuracy(collapsed, labels, num_triplets=2000)
    assert (result.accuracy, result.num_tied) == (0.0, 2000)
    unrelated = triplet_accuracy(random.normal(size=(200, 8)), labels)
    assert unrelated.accuracy == pytest.approx(0.5, abs=0.05)
    assert unrelated.num_tied == 0


def test_noise_makes_it_worse():
    scores = [triplet_accuracy(*clusters(noise)).accuracy for noise in (0.2, 1.0, 5.0)]
    assert scores[0] > scores[1] > scores[2]


def test_mined_negatives_are_those_of_the_wanted_rank():
    x, labels = clusters(1.5)
    x = x.astype(np.float32)
    anchors, positives, _ = sample_triplets(labels, 3000, seed=2)
    distance = np.linalg.norm(x[:, None].astype(float) - x[None], axis=2)
    # Of the 196 negatives of an anchor: the nearest, and the one of rank √196, counted from 1.
    of_others = np.sort(np.where(labels[:, None] == labels[None], np.inf, distance), axis=1)
    for negatives, rank in (("hard", 0), ("semi-hard", 13)):
        expected = (distance[anchors, positives] < of_others[anchors, rank]).mean()
        result = triplet_accuracy(x, labels, negatives=negatives, num_triplets=3000, seed=2)
        assert result.accuracy == pytest.approx(expected, abs=1e-9)
        assert result.chance == pytest.approx((rank + 1) / 197)
        assert result.interval[0] < result.accuracy < result.interval[1]


def test_harder_negatives_are_harder_and_chance_is_what_noise_has():
    x, labels = clusters(1.5)
    kinds = ("random", "semi-hard", "hard")
    scores = [triplet_accuracy(x, labels, negatives=negatives).accuracy for negatives in kinds]
    assert scores[0] > scores[1] > scores[2]
    unrelated = np.random.default_rng(5).normal(size=(200, 8))
    for negatives in kinds:
        result = triplet_accuracy(unrelated, labels, negatives=negatives)
        assert result.accuracy == pytest.approx(result.chance, abs=0.05)


def test_the_interval_is_over_classes():
    # Half of the classes are perfect, half tie with each other: 40 facts, whatever the number of triplets.
    x = np.zeros((160, 41))
    labels = np.repeat(np.arange(40), 4)
    x[np.arange(160), labels] = np.where(labels % 2, 10.0, 0.0)
    result = triplet_accuracy(x, labels, num_triplets=20_000)
    assert result.accuracy == pytest.approx(0.75, abs=0.02)
    assert result.interval[1] - result.interval[0] > 0.1
    triplets = sample_triplets(labels, 20_000, seed=0)
    known = triplet_accuracy_of(x, *triplets, labels_N=labels)
    assert (known.interval, known.chance) == (result.interval, None)
    unknown = triplet_accuracy_of(x, *triplets)
    assert unknown.accuracy == result.accuracy
    assert unknown.interval[1] - unknown.interval[0] < 0.02


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: sample_triplets(["a", "b"], 5, seed=0),
            "labels_N: 2 classes, 0 of them with two items; a triplet needs two items of one class and one of another",
        ),
        (
            lambda: sample_triplets([1, 1, 1], 5, seed=0),
            "labels_N: 1 classes, 1 of them with two items; a triplet needs two items of one class and one of another",
        ),
        (
            lambda: sample_triplets([], 5, seed=0),
            "labels_N: shape (0,) is not [N] with N >= 1; give one label per item",
        ),
        (
            lambda: sample_triplets([1, 1, 2], 0, seed=0),
            "num_triplets: 0 is not a whole number of at least 1; use for example 10000",
        ),
        (
            lambda: triplet_accuracy([[0.0], [1.0], [2.0]], [0, 0, 1], negatives="easy"),
            "negatives: 'easy' is not one of 'random', 'semi-hard', 'hard'",
        ),
        (
            lambda: triplet_accuracy_of([[0.0], [1.0]], [0], [1], [2]),
            "negatives_T: 2 at position 0 is not an item index in [0, 2) (1 such values)",
        ),
        (
            lambda: triplet_accuracy_of([[0.0], [1.0]], [0, 0], [1], [1]),
            "anchors_T, positives_T, negatives_T: lengths 2, 1 and 1; give one of each for every triplet",
        ),
        (
            lambda: triplet_accuracy_of([[0.0], [1.0]], [0.0], [1], [1]),
            "anchors_T: float64[1] is not a list of item indices; give integers [T]",
        ),
    ],
)
def test_messages(call, message):
    with pytest.raises(InputError) as caught:
        call()
    assert str(caught.value) == message
