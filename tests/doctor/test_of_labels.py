"""Causes in the labels, each both ways."""

import numpy as np
import pytest

import mohs
from mohs.doctor.of_labels import find_dominating_class, find_few_positives, find_single_class


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
