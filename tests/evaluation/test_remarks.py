"""What evaluate says beside its metrics, each both ways."""

import re

import numpy as np
import pytest

from mohs.evaluation import evaluate_embeddings
from mohs.evaluation.retrieval import evaluate_all_against_all
from mohs.evaluation.same_picture import failed_rows


def clusters(num_classes=50, per_class=4, noise=0.6, dim=16, seed=0):
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(num_classes), per_class)
    x_ND = random.normal(size=(num_classes, dim))[labels] + noise * random.normal(size=(len(labels), dim))
    return (x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True)).astype(np.float32), labels


def notes(x_ND, labels, **queries):
    return evaluate_embeddings(x_ND, labels, verification=False, **queries).notes


@pytest.mark.parametrize("noise", [0.1, 0.6, 2.0])
@pytest.mark.parametrize("form", [np.float32, np.float16, np.float64])
def test_nothing_is_said_of_healthy_embeddings(noise, form):
    x_ND, labels = clusters(noise=noise)
    assert notes(x_ND.astype(form), labels) == ()
    assert notes(x_ND[::2].astype(form), labels[::2], query_embeddings_QD=x_ND[1::2], query_labels_Q=labels[1::2]) == ()


# failed pictures


@pytest.mark.parametrize("vector", ["zero", "constant", "nearly constant"])
@pytest.mark.parametrize("share", [0.02, 0.2, 0.45])
def test_pictures_that_failed(vector, share):
    x_ND, labels = clusters(100)
    random = np.random.default_rng(1)
    failed = random.permutation(400)[: round(share * 400)]
    bad_ND = x_ND.copy()
    bad_ND[failed] = 0.0 if vector == "zero" else x_ND[7] * 0.9
    if vector == "nearly constant":
        bad_ND[failed] += np.float32(1e-7) * random.normal(size=(len(failed), 16)).astype(np.float32)
    assert np.flatnonzero(failed_rows(bad_ND, labels)).tolist() == sorted(failed)
    (note,) = notes(bad_ND, labels)
    kept = np.setdiff1d(np.arange(400), failed)
    honest = evaluate_all_against_all(x_ND[kept], labels[kept]).recall[1]
    given = evaluate_all_against_all(bad_ND, labels).recall[1]
    assert note.startswith(f"{len(failed)} of 400 rows hold nothing: {len(failed) if vector == 'zero' else 0} are all")
    assert note.endswith(f". R@1 is {honest:.3f} without them instead of {given:.3f}.")


def test_one_picture_under_two_classes_did_not_fail():
    x_ND, labels = clusters(100)
    x_ND[4] = x_ND[0]
    assert not failed_rows(x_ND, labels).any()
    assert notes(x_ND, labels) == ()


def test_what_collapsed_did_not_fail():
    x_ND, labels = clusters(100)
    assert not failed_rows(np.ones_like(x_ND), labels).any()
    assert not failed_rows(np.eye(4)[labels % 4], labels).any()


def test_failed_queries_and_gallery_items():
    x_ND, labels = clusters(100)
    gallery, queries = x_ND[::2].copy(), x_ND[1::2].copy()
    gallery[:10], queries[5:25] = 0.0, queries[60]
    first, second = notes(gallery, labels[::2], query_embeddings_QD=queries, query_labels_Q=labels[1::2])
    assert first.startswith("10 of 200 rows of the gallery hold nothing: 10 are all zero, 0 share")
    assert second.startswith("21 of 200 queries hold nothing: 0 are all zero, 21 share")
    assert "R@1" in second


# copies


@pytest.mark.parametrize("form", [np.float32, np.float16])
def test_queries_that_are_rows_of_the_gallery(form):
    # The measured case: 150 rows of noise among 300, two of each class; each query finds itself.
    random = np.random.default_rng(0)
    x_ND, labels = random.normal(size=(300, 32)).astype(np.float32), np.arange(300) % 150
    report = evaluate_embeddings(
        x_ND,
        labels,
        query_embeddings_QD=x_ND[:150].astype(form),
        query_labels_Q=labels[:150],
        verification=False,
    )
    assert report.retrieval.recall[1] == 1.0
    (note,) = report.notes
    assert note.startswith(
        "150 of 150 queries are rows of the gallery, but for rounding: each finds itself. R@1 is 0.0"
    )
    assert note.endswith(" with that row left out instead of 1.000.")
    honest = float(re.search(r"R@1 is ([\d.]+)", note)[1])
    assert honest == pytest.approx(evaluate_all_against_all(x_ND, labels).hit_at_1[:150].mean(), abs=0.0005)
    assert report.as_record()["notes"] == [note]


def test_queries_that_are_all_there_is_of_their_class():
    x_ND, labels = clusters(60, 1)
    (note,) = notes(x_ND, labels, query_embeddings_QD=x_ND, query_labels_Q=labels)
    assert note.endswith("each finds itself, and no other item of their class is there.")


@pytest.mark.parametrize(("num_copies", "is_told"), [(0, False), (1, False), (3, True), (100, True)])
def test_copies_in_a_class_find_each_other(num_copies, is_told):
    x_ND, labels = clusters(200, 2, noise=2.0)
    copy_ND = x_ND.copy()
    copy_ND[1 : 2 * num_copies : 2] = x_ND[: 2 * num_copies : 2].astype(np.float16)
    found = notes(copy_ND, labels)
    assert bool(found) == is_told
    if is_told:
        assert found[0].startswith(f"{num_copies} of 400 rows are copies of another row of their class")


# ties


def test_a_common_offset_makes_distances_tie():
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(200), 4)
    x_ND = (random.normal(size=(200, 16))[labels] + random.normal(size=(800, 16))).astype(np.float32)
    report = evaluate_embeddings(x_ND + np.float32(1000), labels, verification=False)
    (note,) = report.notes
    assert note.startswith(
        "Distances that differ by less than 0.004 count as tied, since the rows have a length of 4e+03"
    )
    found = re.search(r"R@(\d+) is ([\d.]+) instead of ([\d.]+)\.$", note)
    k, centred, given = int(found[1]), float(found[2]), float(found[3])
    assert given == pytest.approx(report.retrieval.recall[k], abs=0.0005)
    # What it names is what the rows have without the offset, but for the digits that float32 lost.
    assert centred == pytest.approx(evaluate_all_against_all(x_ND, labels).recall[k], abs=0.003)
    assert centred > given + 0.003


@pytest.mark.parametrize("offset", [0.0, 1.0, 10.0])
def test_a_small_offset_changes_nothing(offset):
    x_ND, labels = clusters()
    assert notes(x_ND + np.float32(offset), labels) == ()


def test_a_collapse_is_not_called_a_tie():
    x_ND, labels = clusters()
    assert not any("tied" in note for note in notes(np.ones_like(x_ND), labels))
    assert not any("tied" in note for note in notes(1 + np.float32(1e-6) * x_ND, labels))


# one class


@pytest.mark.parametrize("queries", [False, True])
@pytest.mark.parametrize("groups", [False, True])
def test_one_class_cannot_be_wrong(queries, groups):
    x_ND, _ = clusters(10)
    given = {"query_embeddings_QD": x_ND[:9], "query_labels_Q": ["ring"] * 4 + ["lamp"] * 5} if queries else {}
    if groups:
        given |= {"groups_N": np.arange(40)} | ({"query_groups_Q": np.arange(9)} if queries else {})
    report = evaluate_embeddings(x_ND, ["ring"] * 40, verification=False, **given)
    assert report.retrieval.recall[1] == 1.0
    assert report.notes[0] == (
        "All 40 items that can be found are of one class, 'ring': nothing found can be wrong, and these numbers say "
        "nothing of the embeddings. Give items of other classes too."
    )
    two = evaluate_embeddings(x_ND, ["ring"] * 20 + ["lamp"] * 20, verification=False, **given)
    assert not any("one class" in note for note in two.notes)


# many that failed, and what collapsed


@pytest.mark.parametrize("value", [0.0, 0.5])
@pytest.mark.parametrize("share", [0.6, 0.9])
def test_most_pictures_failed_and_are_no_copies(value, share):
    x_ND, labels = clusters(100)
    failed = np.random.default_rng(1).permutation(400)[: round(share * 400)]
    x_ND[failed] = value
    (note,) = notes(x_ND, labels)
    assert note.startswith(f"{len(failed)} of 400 rows hold nothing: {len(failed) if value == 0 else 0} are all zero")


def test_what_collapsed_to_points_holds_no_copies():
    _, labels = clusters(100)
    (note,) = notes(np.eye(4, dtype=np.float32)[np.arange(400) % 4], labels)
    assert note.startswith("400 of 400 rows are equal to rows of other classes: they hold 4 vectors in all. The ")


@pytest.mark.parametrize("form", [np.float32, np.float16])
def test_single_numbers_are_equal_by_chance(form):
    x_ND = np.random.default_rng(0).normal(size=(3000, 1)).astype(form)
    labels = np.repeat(np.arange(500), 6)
    assert notes(x_ND, labels) == ()
    given = {"query_embeddings_QD": x_ND[1::2], "query_labels_Q": labels[1::2]}
    assert notes(x_ND[::2], labels[::2], **given) == ()
