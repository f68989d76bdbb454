"""Cases of the same kinds as those of other tests, found by attack: each with its right answer."""

import numpy as np
import pytest

import mohs
from mohs.evaluation.summary import evaluate_embeddings


def unit(x_ND):
    return x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True)


def clusters(num_classes=150, per_class=2, within=0.3, dim=64):
    draw = np.random.default_rng(0)
    labels = np.repeat(np.arange(num_classes), per_class)
    mean_CD = draw.normal(size=(num_classes, dim))
    return unit(mean_CD[labels] + within * draw.normal(size=(len(labels), dim))), labels


def causes(**given):
    return {finding.cause: finding for finding in mohs.diagnose(**given).findings}


COPIES = {
    "8 bits": lambda x: np.round(x * 127).astype(np.int8),
    "8 bits at unit length": lambda x: unit(np.round(x / np.abs(x).max(axis=1, keepdims=True) * 127)),
    "three times as long": lambda x: 3 * x,
    "half as long, float16": lambda x: (x / 2).astype(np.float16),
    "embedded anew": lambda x: x + 1e-3 / 8 * np.random.default_rng(2).normal(size=x.shape),
}


@pytest.mark.parametrize("name", COPIES)
def test_queries_that_are_rows_of_the_gallery_in_another_form(name):
    draw = np.random.default_rng(1)
    labels = np.repeat(np.arange(150), 2)
    x_ND = unit(draw.normal(size=(300, 64))).astype(np.float32)
    rows = draw.permutation(300)[:150]
    queries = COPIES[name](x_ND[rows])
    found = causes(embeddings=x_ND, labels=labels, query_embeddings=queries, query_labels=labels[rows])
    assert found["self-match"].numbers["recall_without"] < 0.05
    report = evaluate_embeddings(
        x_ND, labels, query_embeddings_QD=queries, query_labels_Q=labels[rows], verification=False
    )
    assert any("with that row left out instead of 1.000" in note for note in report.notes)


@pytest.mark.parametrize("codes", [False, True])
def test_close_pictures_of_a_class_are_no_copies(codes):
    x_ND, labels = clusters(per_class=4, within=0.4 if codes else 0.05)
    if codes:
        x_ND = np.round(x_ND * 200).clip(-127, 127).astype(np.int8)
    given = {"query_embeddings": x_ND[1::2], "query_labels": labels[1::2]}
    assert not causes(embeddings=x_ND[::2], labels=labels[::2], **given)


def test_pairs_of_classes_at_one_point_each_have_collapsed():
    draw = np.random.default_rng(0)
    labels = np.repeat(np.arange(100), 2)
    point_ND = unit(draw.normal(size=(50, 64)))[labels % 50]
    found = causes(embeddings=unit(point_ND + 0.02 / 8 * draw.normal(size=(200, 64))), labels=labels)
    assert found["collapsed"].numbers["num_points"] == 50


def test_nearly_equal_blank_pictures_are_told_with_a_hedge():
    x_ND, labels = clusters()
    draw = np.random.default_rng(3)
    blank = draw.permutation(300)[:36]
    x_ND[blank] = unit(draw.normal(size=(2, 64)))[np.arange(36) % 2] + 1e-4 / 8 * draw.normal(size=(36, 64))
    found = causes(embeddings=x_ND, labels=labels)
    assert found["collapsed"].severity == "warning"
    assert "Blank or failed pictures" in found["collapsed"].why
    assert "perhaps-one-class" not in found


@pytest.mark.parametrize("scale", [10, 100])
def test_a_large_column_is_told_and_not_the_lengths_it_makes(scale):
    x_ND, labels = clusters(within=0.7)
    x_ND[:, 3] *= scale
    assert set(causes(embeddings=x_ND, labels=labels)) == {"one-dimension-dominates"}


def test_labels_that_are_a_row_off_from_some_row_on():
    x_ND, labels = clusters()
    wrong = labels.copy()
    wrong[150:-1] = labels[151:]
    found = causes(embeddings=x_ND, labels=wrong)["label-order"]
    assert "from row 1" in found.what
    assert found.numbers["recall_moved"] > 0.95


def test_zero_queries_do_not_make_their_lengths_other_ones():
    x_ND, labels = clusters(per_class=4)
    queries = x_ND[1::2].copy()
    queries[::5] = 0
    given = {"query_embeddings": queries, "query_labels": labels[1::2]}
    assert set(causes(embeddings=x_ND[::2], labels=labels[::2], **given)) == {"failed-pictures"}


def test_unequal_kinds_of_pictures_are_kinds_and_no_direction():
    draw = np.random.default_rng(0)
    kind_2D = unit(draw.normal(size=(2, 64)))
    labels = np.repeat(np.arange(120), 2)
    phone = np.zeros(240, dtype=int)
    phone[1::2] = np.arange(120) % 10 < 3
    x_ND = draw.normal(size=(120, 64))[labels] / 8 + 0.4 * draw.normal(size=(240, 64)) / 8 + 4 * kind_2D[phone]
    assert set(causes(embeddings=unit(x_ND), labels=labels)) == {"domain-gap"}
