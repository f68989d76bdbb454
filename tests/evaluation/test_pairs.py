import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from mohs.errors import InputError
from mohs.evaluation.pair_scores import pair_scores
from mohs.evaluation.pairs import pair_distances, sample_pairs


def as_set(pairs):
    rows = list(zip(pairs.first_P.tolist(), pairs.second_P.tolist(), strict=True))
    assert len(set(rows)) == len(rows), "a pair is there twice"
    assert all(i < j for i, j in rows)
    return set(rows)


def every_pair(labels, *, same):
    n = len(labels)
    return {(i, j) for i in range(n) for j in range(i + 1, n) if (labels[i] == labels[j]) == same}


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_all_pairs_are_taken_if_they_are_not_too_many(seed):
    labels = np.random.default_rng(seed).integers(0, 5, 25)
    pairs = sample_pairs(labels, seed=seed)
    assert as_set(pairs) == every_pair(labels, same=True) | every_pair(labels, same=False)
    assert (pairs.weight_P == 1).all()
    assert pairs.same.tolist() == [labels[i] == labels[j] for i, j in zip(pairs.first_P, pairs.second_P, strict=True)]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    num_nearest=st.integers(0, 60),
    num_negatives=st.integers(1, 120),
    max_positives=st.integers(1, 40),
    per_class=st.integers(1, 12),
)
def test_the_law(seed, num_nearest, num_negatives, max_positives, per_class):
    random = np.random.default_rng(seed)
    labels = random.choice(4, size=40, p=[0.5, 0.3, 0.1, 0.1])
    labels[:5] = [0, 0, 1, 2, 3]
    x = random.normal(size=(40, 3))
    pairs = sample_pairs(
        labels,
        embeddings_ND=x,
        num_nearest=num_nearest,
        num_negatives=num_negatives,
        max_positives=max_positives,
        max_positives_per_class=per_class,
        seed=seed,
    )
    positives, negatives = every_pair(labels, same=True), every_pair(labels, same=False)
    chosen = as_set(pairs)
    assert chosen <= positives | negatives
    taken, others = chosen & positives, chosen & negatives
    assert len(others) == min(len(negatives), num_nearest + num_negatives)
    # Positives: as many of each class, at most, as fit.
    sizes = np.bincount(labels)
    of_class = np.array([sum(labels[i] == c for i, _ in taken) for c in range(4)])
    most = sizes * (sizes - 1) // 2
    cap = max((k for k in range(per_class + 1) if np.minimum(most, k).sum() <= max_positives), default=0)
    if cap:
        assert of_class.tolist() == np.minimum(most, cap).tolist()
    else:
        assert len(taken) == max_positives
        assert of_class.max() == 1
    # Weights stand for all pairs, and those of the closest for themselves.
    assert pairs.weight_P[pairs.same].sum() == pytest.approx(len(positives))
    assert pairs.weight_P[~pairs.same].sum() == pytest.approx(len(negatives))
    if num_nearest and len(others) < len(negatives):
        distance = {pair: np.linalg.norm(x[pair[0]] - x[pair[1]]) for pair in negatives}
        closest = sorted(negatives, key=distance.get)[:num_nearest]
        weight = dict(
            zip(zip(pairs.first_P.tolist(), pairs.second_P.tolist(), strict=True), pairs.weight_P, strict=True)
        )
        assert all(weight[pair] == 1 for pair in closest)


def test_negatives_are_uniform_over_pairs_and_weights_are_unbiased():
    # One class holds most items; 10 of 879 pairs are drawn at a time, by the path that does not enumerate them.
    labels = np.repeat([0, 1, 2, 3], [40, 15, 4, 1])
    pairs_there = sorted(every_pair(labels, same=False))
    count = dict.fromkeys(pairs_there, 0)
    for seed in range(1500):
        drawn = sample_pairs(labels, num_negatives=10, max_positives=1, seed=seed)
        assert (~drawn.same).sum() == 10
        for pair in zip(drawn.first_P[~drawn.same].tolist(), drawn.second_P[~drawn.same].tolist(), strict=True):
            count[pair] += 1
    counts = np.array(list(count.values()))
    expected = 15_000 / len(pairs_there)
    chi_square = ((counts - expected) ** 2 / expected).sum()
    degrees = len(pairs_there) - 1
    assert abs(chi_square - degrees) < 4 * np.sqrt(2 * degrees)
    # The mean over pairs of some number, here by whether class 0 is in them.
    inside = np.array([labels[i] == 0 for i, _ in pairs_there])
    assert counts[inside].mean() == pytest.approx(counts[~inside].mean(), rel=0.1)


def test_positives_are_uniform_within_a_class():
    labels = np.repeat([0, 1], [8, 3])
    count = dict.fromkeys(every_pair(labels, same=True), 0)
    for seed in range(800):
        for pair in as_set(sample_pairs(labels, max_positives_per_class=3, seed=seed)) & count.keys():
            count[pair] += 1
    within = np.array([n for (i, _), n in count.items() if i < 8])
    assert within.sum() == 800 * 3
    expected = 800 * 3 / 28
    assert ((within - expected) ** 2 / expected).sum() < 27 + 4 * np.sqrt(54)
    assert all(n == 800 for (i, _), n in count.items() if i >= 8)


def test_stratified_shares_are_unbiased_and_sharper_than_uniform_ones():
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(60), 3)
    x = random.normal(size=(60, 4))[labels] + random.normal(size=(180, 4))
    whole = sample_pairs(labels)
    distance = pair_distances(x, whole)
    threshold = np.quantile(distance[~whole.same], 0.01)
    truth = (distance[~whole.same] <= threshold).mean()
    errors = {}
    for num_nearest in (0, 300):
        shares = []
        for seed in range(40):
            pairs = sample_pairs(labels, embeddings_ND=x, num_nearest=num_nearest, num_negatives=500, seed=seed)
            scores = pair_scores(pairs.same, distance_P=pair_distances(x, pairs), weight_P=pairs.weight_P)
            negative = scores.taken(~scores.same_P)
            shares.append(negative.weight_P[negative.value_P <= threshold].sum() / negative.weight_P.sum())
        errors[num_nearest] = np.std(shares)
        assert np.mean(shares) == pytest.approx(truth, abs=4 * max(np.std(shares), 1e-9) / np.sqrt(40) + 1e-12)
    assert errors[300] < 1e-12 < 0.001 < errors[0]  # all that close are among the 300 closest


def test_seeds_and_string_labels():
    labels = np.array([f"{i // 2:03d}" for i in range(3000)])
    once, again, other = (sample_pairs(labels, num_negatives=200, seed=seed) for seed in (1, 1, 2))
    assert as_set(once) == as_set(again) != as_set(other)
    assert once.law == "all 1,500 pairs of one class; 200 drawn of 4,497,000 of two classes"
    capped = sample_pairs(["a"] * 50 + ["b"] * 2, num_negatives=30, max_positives_per_class=10)
    assert capped.law == "11 drawn of 1,226 pairs of one class; 30 drawn of 100 of two classes"
    nearest = sample_pairs(labels, embeddings_ND=np.arange(3000.0)[:, None], num_nearest=7, num_negatives=200)
    assert nearest.law == (
        "all 1,500 pairs of one class; the 7 closest and 200 drawn of the other 4,496,993 of two classes"
    )


def test_a_large_set_is_not_enumerated():
    labels = np.repeat(np.arange(100), 2000)  # 2 * 10^8 positive and 2 * 10^10 negative pairs
    pairs = sample_pairs(labels, num_negatives=5000, max_positives=3000)
    assert len(as_set(pairs)) == 8000
    assert np.bincount(labels[pairs.first_P[pairs.same]]).tolist() == [30] * 100
    # Pair numbers near the last one of a class are decoded exactly.
    huge = sample_pairs(np.repeat([0, 1], [300_000, 1]), num_negatives=10, max_positives=1000)
    assert huge.same.sum() == 1000
    assert huge.second_P[huge.same].max() < 300_000
    assert huge.second_P[huge.same].max() > 290_000


def test_distances_are_those_of_the_rows():
    random = np.random.default_rng(0)
    x = random.normal(size=(200, 5))
    pairs = sample_pairs(np.arange(200) // 2)
    expected = np.linalg.norm(x[pairs.first_P] - x[pairs.second_P], axis=1)
    distance = pair_distances(torch.tensor(x), pairs)
    np.testing.assert_allclose(distance, expected, rtol=1e-6)
    assert distance.dtype == np.float32
    with pytest.raises(InputError) as caught:
        pair_distances(x[:7], pairs)
    assert str(caught.value) == "embeddings_ND: 7 rows, but the pairs are of 200 items; give the same"


@pytest.mark.parametrize(
    ("labels", "arguments", "message"),
    [
        (
            ["a", "b", "c"],
            {},
            "labels_N: 3 classes, 0 of them with two items; pairs of one class and of two are both needed",
        ),
        (
            ["a", "a"],
            {},
            "labels_N: 1 class, 1 of them with two items; pairs of one class and of two are both needed",
        ),
        ([], {}, "labels_N: shape (0,) is not [N] with N >= 1; give one label per item"),
        (
            ["a", "a", "b"],
            {"num_nearest": 5},
            "embeddings_ND: none, but num_nearest is above 0; give the embeddings, or num_nearest=0",
        ),
        (
            ["a", "a", "b"],
            {"num_negatives": 0},
            "num_negatives: 0 is not a whole number of at least 1; use for example 500000",
        ),
        (
            ["a", "a", "b"],
            {"max_positives": 0, "num_negatives": -1},
            "num_negatives: -1 is not a whole number of at least 1; use for example 500000\n"
            "max_positives: 0 is not a whole number of at least 1; use for example 100000",
        ),
    ],
)
def test_messages(labels, arguments, message):
    with pytest.raises(InputError) as caught:
        sample_pairs(labels, **arguments)
    assert str(caught.value) == message
