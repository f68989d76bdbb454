"""Classes that are perhaps one, and look-alikes that are not."""

import numpy as np
import pytest

import mohs
from mohs.doctor.embeddings.split_classes import find_split_classes, find_split_ids
from mohs.evaluation.embedded import Embedded


def products(num_split, *, num=150, per_class=2, dim=64, noise=0.5, apart=0.0, seed=0):
    """Classes 0 to num − 1, and of the first ones a second id; `apart` moves its centre by so much of the noise."""
    random = np.random.default_rng(seed)
    centre_CD = random.normal(size=(num, dim))
    second_CD = centre_CD[:num_split] + apart * noise * random.normal(size=(num_split, dim))
    class_N = np.repeat(np.arange(num + num_split), per_class)
    x_ND = np.concatenate([centre_CD, second_CD])[class_N] + noise * random.normal(size=(len(class_N), dim))
    return x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True), class_N


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("per_class", "dim", "noise"), [(2, 64, 0.5), (3, 32, 0.5), (4, 32, 0.8), (2, 128, 0.8)])
def test_ten_products_with_two_ids(per_class, dim, noise, seed):
    x_ND, class_N = products(10, per_class=per_class, dim=dim, noise=noise, seed=seed)
    found = find_split_classes(x_ND, class_N)
    right = found.second_P - 150 == found.first_P
    assert right.sum() >= 6
    assert (~right).sum() <= 1
    assert found.ratio_P.tolist() == sorted(found.ratio_P.tolist())
    assert found.ratio_P.max() < 1.6 < found.usual


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("apart", [2.0, 3.0])
def test_look_alikes_that_can_be_told_apart_are_two(apart, seed):
    x_ND, class_N = products(10, apart=apart, seed=seed)
    assert len(find_split_classes(x_ND, class_N)) == 0


@pytest.mark.parametrize("noise", [0.3, 1.0, 2.0])
def test_without_second_ids_nothing_is_found(noise):
    num = sum(len(find_split_classes(*products(0, noise=noise, seed=seed))) for seed in range(8))
    assert num <= 2


def test_single_pictures_are_judged_by_the_spread_of_the_others():
    x_ND, class_N = products(10, per_class=2)
    # The second ids have one picture each.
    keep = (class_N < 150) | (np.arange(len(class_N)) % 2 == 0)
    found = find_split_classes(x_ND[keep], class_N[keep])
    assert (found.second_P - 150 == found.first_P).sum() >= 7


def test_few_classes_and_no_pairs_say_nothing():
    x_ND, class_N = products(2, num=10)
    assert len(find_split_classes(x_ND, class_N)) == 0
    x_ND, class_N = products(10, per_class=1)
    assert len(find_split_classes(x_ND, class_N)) == 0
    assert len(find_split_classes(np.ones((100, 4)), np.arange(100) // 2)) == 0


def test_the_doctor_says_perhaps_one_class():
    x_ND, class_N = products(10)
    found = find_split_ids(Embedded.of(x_ND, [f"id{code:03d}" for code in class_N], source="x"))
    assert found.cause == "perhaps-one-class"
    assert found.fix == "Look at both, and join the classes if they are one."
    first, second = found.what.split(": ")[1].split(", ")[0].split(" and ")
    assert int(second[3:6]) - 150 == int(first[3:6])
    causes = [each.cause for each in mohs.diagnose(embeddings=x_ND, labels=class_N).findings]
    assert causes == ["perhaps-one-class"]


def test_it_is_a_warning_only_if_the_other_classes_are_told_apart():
    x_ND, class_N = products(10)
    clear = find_split_ids(Embedded.of(x_ND, class_N, source="x"))
    assert clear.severity == "warning"
    assert clear.numbers["recall_of_others"] > 0.95
    # A quarter of the pictures of the other classes lie anywhere: this embedder sees little.
    x_ND, class_N = products(10, per_class=4)
    astray = (class_N >= 10) & (class_N < 150) & (np.arange(len(class_N)) % 4 == 0)
    x_ND[astray] = np.random.default_rng(9).normal(size=(astray.sum(), 64)) / 8
    confused = find_split_ids(Embedded.of(x_ND, class_N, source="x"))
    assert confused.numbers["share"] >= 0.01 >= confused.numbers["false_share"]
    assert confused.numbers["recall_of_others"] < 0.9
    assert confused.severity == "note"
