"""R@1 at chance: always a finding, and as much of the reason as there is evidence for."""

import numpy as np
import pytest

import mohs
from mohs.doctor.embeddings.label_order import find_chance, find_shifted_labels
from mohs.evaluation.embedded import Embedded


def of(x_ND, labels):
    return Embedded.of(x_ND, labels, source="x.npy")


def told(embedded):
    found = mohs.diagnose(embeddings=embedded.x_ND, labels=embedded.labels).findings
    return {each.cause: each.severity for each in found}


@pytest.mark.parametrize(("num_classes", "per_class", "noise"), [(100, 4, 0.3), (300, 2, 0.7), (20, 10, 0.5)])
def test_labels_shuffled_against_rows_that_hold_groups(clusters, num_classes, per_class, noise):
    embedded = clusters(num_classes, per_class, dim=32, noise=noise)
    assert find_chance(embedded) is None
    shuffled = of(embedded.x_ND, np.random.default_rng(1).permutation(embedded.labels))
    found = find_chance(shuffled)
    assert (found.cause, found.severity) == ("at-chance", "error")
    assert "The rows hold groups" in found.what
    assert found.why.startswith("The labels are in another order than the rows, or of other rows; or the network")
    assert told(shuffled) == {"at-chance": "error"}


@pytest.mark.parametrize(("num_classes", "per_class"), [(100, 4), (500, 2), (3, 40), (15, 2)])
@pytest.mark.parametrize("dim", [4, 64])
@pytest.mark.parametrize("seed", [0, 1])
def test_noise(num_classes, per_class, dim, seed):
    x_ND = np.random.default_rng(seed).normal(size=(num_classes * per_class, dim))
    embedded = of(x_ND, np.repeat(np.arange(num_classes), per_class))
    found = find_chance(embedded)
    assert "no groups of rows can be seen" in found.what
    assert "Labels in another order than the rows cannot be ruled out." in found.why
    assert set(told(embedded)) == {"at-chance"}


def test_few_queries_are_no_proof():
    x_ND = np.random.default_rng(0).normal(size=(10, 8))
    assert find_chance(of(x_ND, np.repeat(np.arange(5), 2))).severity == "warning"


@pytest.mark.parametrize("noise", [1.2, 2.0])
def test_little_is_more_than_chance(clusters, noise):
    embedded = clusters(300, 4, dim=64, noise=noise)
    assert 0.02 < embedded.recall.value < 0.9
    assert told(embedded) == {}


@pytest.mark.parametrize("shift", [1, -1, 2])
@pytest.mark.parametrize("per_class", [2, 3])
def test_labels_a_row_off(clusters, shift, per_class):
    embedded = clusters(100, per_class, dim=32)
    found = find_shifted_labels(of(embedded.x_ND, np.roll(embedded.labels, shift)))
    if (shift, per_class) == (2, 2):  # pairs stay pairs
        assert found is None
        return
    assert (found.cause, found.severity, found.numbers["recall_moved"]) == ("label-order", "error", 1.0)
    assert told(of(embedded.x_ND, np.roll(embedded.labels, shift))) == {"label-order": "error"}


def test_labels_in_reverse(clusters):
    embedded = clusters(60, 3, dim=32)
    order = np.random.default_rng(0).permutation(180)
    mixed = embedded.take(order)
    assert find_shifted_labels(mixed) is None
    assert "in reverse" in find_shifted_labels(of(mixed.x_ND, mixed.labels[::-1])).what


def test_rows_too_coarse_for_a_search_are_not_at_fault_for_their_labels():
    """R@1 is a guess's, and yet two of three random triplets are in order: the labels are right, the network coarse."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(300), 2)
    centre_C1 = random.normal(size=(300, 1))
    x_ND = np.column_stack([2.5 * centre_C1[labels], random.normal(size=(600, 30))])
    found = find_chance(Embedded.of(x_ND, labels, source="coarse"))
    assert (found.cause, found.severity) == ("at-chance", "warning")
    assert found.numbers["triplets"] > 0.6
    assert "the labels are those of the rows" in found.fix
    shuffled = find_chance(Embedded.of(x_ND, random.permutation(labels), source="shuffled"))
    assert (shuffled.cause, shuffled.severity) == ("at-chance", "error")


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("side", ["labels", "rows"])
def test_rows_counted_as_text_on_one_side(clusters, first, side):
    embedded = clusters(60, 6)
    text = sorted(range(len(embedded)), key=lambda row: str(row + first))
    x_ND, labels = embedded.x_ND, embedded.labels
    wrong = of(x_ND, labels[text]) if side == "labels" else of(x_ND[text], labels)
    found = find_shifted_labels(wrong)
    sorted_as = "numbers" if side == "labels" else "text"
    assert found.what.endswith(f"1.000 with the labels of rows counted from {first} sorted as {sorted_as}")
    assert told(wrong)["label-order"] == "error"
    assert find_shifted_labels(embedded) is None


@pytest.mark.parametrize("side", ["labels", "rows"])
def test_classes_sorted_as_text_on_one_side(side):
    random = np.random.default_rng(0)
    class_N = np.repeat(np.arange(60), random.integers(2, 9, 60))
    x_ND = random.normal(size=(60, 16))[class_N] + 0.1 * random.normal(size=(len(class_N), 16))
    names = np.array([f"class {label}" for label in class_N])
    text = np.argsort(names, kind="stable")
    wrong = of(x_ND, names[text]) if side == "labels" else of(x_ND[text], names)
    found = find_shifted_labels(wrong)
    assert found.what.endswith(f"with the labels of classes sorted {'by number' if side == 'labels' else 'as text'}")
    assert find_shifted_labels(of(x_ND, names)) is None
