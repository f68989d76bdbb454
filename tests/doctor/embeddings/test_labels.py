"""Causes in the labels, each both ways."""

import numpy as np
import pytest

import mohs
from mohs.doctor.embeddings.labels import (
    find_chance,
    find_dominating_class,
    find_few_positives,
    find_mixed_labels,
    find_shifted_labels,
    find_single_class,
)
from mohs.evaluation.embedded import Embedded


def labels_of(*counts):
    return np.repeat([f"class {c}" for c in range(len(counts))], counts)


@pytest.mark.parametrize(
    ("num_large", "num_small", "severity"),
    [(19, 81, None), (20, 80, "warning"), (49, 51, "warning"), (50, 50, "error")],
)
def test_a_class_with_far_more_than_its_part(num_large, num_small, severity):
    labels = labels_of(num_large, *[1] * num_small)
    found = find_dominating_class(labels)
    assert (None if found is None else found.severity) == severity
    if found is not None:
        assert found.cause == "one-class-dominates"
        assert (found.numbers["share"], found.numbers["num_classes"]) == (num_large / 100, num_small + 1)
        assert found.what.startswith(f"{num_large}% of the 100 pictures are of the class 'class 0', one of ")


def test_they_count_like_so_many_equal_classes():
    share_C = np.array([0.5, *[0.05] * 10])
    found = find_dominating_class(labels_of(50, *[5] * 10))
    assert found.numbers["effective_classes"] == pytest.approx(np.prod(share_C**-share_C))
    assert found.settings == {"data.per_class": 5}
    assert find_dominating_class(labels_of(60, *[1] * 40)).settings == {"data.per_class": 2}
    assert find_dominating_class(labels_of(60, *[1] * 40), of="mined negatives").settings == {}


@pytest.mark.parametrize("counts", [(100,), (60, 40), (60, 20, 20), (24, *[19] * 4), (40, *[10] * 6), (3,) * 40])
def test_few_classes_are_large_without_dominating(counts):
    assert find_dominating_class(labels_of(*counts)) is None


@pytest.mark.parametrize(("num_single", "is_cause"), [(49, False), (50, True)])
def test_classes_without_a_second_picture(num_single, is_cause):
    labels = labels_of(*[1] * num_single, *[2] * (100 - num_single))
    found = find_few_positives(labels)
    assert (found is not None) == is_cause
    if found is not None:
        assert (found.cause, found.severity) == ("too-few-positives", "warning")
        assert found.numbers == {"share": 0.5, "num_classes": 100.0, "num_with_pair": 50.0}
        assert found.settings == {"training.augment": 1.0}
        assert found.what == "50% of the 100 training classes have one picture; 50 have two or more"


@pytest.mark.parametrize(("num_with_pair", "severity"), [(20, "warning"), (19, "error"), (0, "error")])
def test_a_test_without_answers(num_with_pair, severity):
    labels = labels_of(*[1] * 80, *[2] * num_with_pair)
    found = find_few_positives(labels, of="test")
    assert (found.severity, found.settings) == (severity, {})
    # In training they are augmented.
    assert find_few_positives(labels).severity == "warning"


def test_a_catalog_of_one_picture_each_is_fine_where_queries_are_searched_in_it():
    random = np.random.default_rng(0)
    catalog_CD = random.normal(size=(60, 16))
    query_class = np.repeat(np.arange(60), 2)
    query_QD = catalog_CD[query_class] + 0.2 * random.normal(size=(120, 16))
    found = mohs.diagnose(embeddings=catalog_CD, labels=np.arange(60)).findings
    assert [(each.cause, each.severity) for each in found] == [("too-few-positives", "error")]
    both = mohs.diagnose(
        embeddings=catalog_CD, labels=np.arange(60), query_embeddings=query_QD, query_labels=query_class
    )
    assert both.findings == ()
    assert both.not_checked["too-few-positives"] == "queries have their answers in the gallery"


def test_one_class_alone():
    found = find_single_class(["ring"] * 3)
    assert (found.cause, found.severity, found.what) == ("single-class", "error", "All 3 rows are of one class, 'ring'")
    assert find_single_class(["ring", "ring", "lamp"]) is None


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


def exchanged(embedded, share, seed=0):
    """Return the rows with this share of the labels in random order."""
    random = np.random.default_rng(seed)
    labels = embedded.labels.copy()
    some = random.choice(len(labels), round(share * len(labels)), replace=False)
    labels[some] = random.permutation(labels[some])
    return Embedded.of(embedded.x_ND, labels, source="x.npy"), some


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("share", [0.2, 0.3, 0.4])
def test_part_of_the_labels_exchanged(clusters, seed, share):
    embedded = clusters(100, 6, dim=24, noise=0.6, seed=seed)
    assert find_mixed_labels(embedded) is None
    mixed, some = exchanged(embedded, share, seed)
    found = find_mixed_labels(mixed)
    assert (found.cause, found.severity) == ("mixed-labels", "warning")
    told = mohs.diagnose(embeddings=mixed.x_ND, labels=mixed.labels).findings
    assert [each.cause for each in told] == ["mixed-labels"]
    # The rows to look at are among those whose label changed.
    rows = found.fix.partition("rows ")[2].partition(", …")[0].split(", ")
    assert len(rows) == 5
    assert {int(row) for row in rows} <= set(some.tolist())


def test_look_alike_classes_are_no_wrong_labels():
    # Classes in pairs at nearly one point: half of the rows lie amid the other class of their pair.
    random = np.random.default_rng(0)
    class_N = np.repeat(np.arange(60), 6)
    centre_CD = random.normal(size=(30, 24))[np.arange(60) // 2] + 0.05 * random.normal(size=(60, 24))
    x_ND = centre_CD[class_N] + 0.3 * random.normal(size=(360, 24))
    embedded = Embedded.of(x_ND, class_N, source="x.npy")
    assert embedded.recall.value < 0.7
    assert find_mixed_labels(embedded) is None


@pytest.mark.parametrize("noise", [1.2, 1.6, 2.0])
def test_a_weak_network_has_no_wrong_labels(clusters, noise):
    assert find_mixed_labels(clusters(100, 6, dim=24, noise=noise)) is None


def test_few_classes_say_nothing(clusters):
    mixed, _ = exchanged(clusters(9, 40), 0.3)
    assert find_mixed_labels(mixed) is None
