"""Causes that two sets of embeddings show, each both ways."""

import numpy as np
import pytest

import mohs
from mohs.doctor.embeddings.two_sets import (
    find_batch_norm,
    find_equal_test_items,
    find_harm,
    find_other_lengths,
    find_shared_classes,
)
from mohs.errors import InputError
from mohs.evaluation.embedded import Embedded


def of(x_ND, labels):
    return Embedded.of(x_ND, labels, source="x.npy")


def causes(**sets):
    arguments = {}
    for name, embedded in sets.items():
        arguments[f"{name}embeddings"] = embedded.x_ND
        arguments[f"{name}labels"] = embedded.labels
    return [finding.cause for finding in mohs.diagnose(**arguments).findings]


def test_healthy_sets_have_no_cause(clusters):
    train, test = clusters(seed=1, first=100), clusters(seed=2)
    assert causes(train_=train, **{"": test}) == []
    queries = test.take(np.arange(0, len(test), 2))
    gallery = test.take(np.arange(1, len(test), 2))
    assert causes(query_=queries, **{"": gallery}) == []
    assert causes(train_=train, query_=queries, **{"": gallery}) == []


# normalisation-missing


def halves(clusters, noise=0.3, **more):
    both = clusters(noise=noise, **more)
    return both.take(np.arange(0, len(both), 2)), both.take(np.arange(1, len(both), 2))


def test_queries_that_were_not_brought_to_the_gallerys_length(clusters):
    gallery, queries = halves(clusters, noise=0.8, num_classes=60)
    long = of(queries.x_ND * np.random.default_rng(0).uniform(5, 15, (len(queries), 1)), queries.labels)
    found = find_other_lengths(gallery, long)
    assert (found.cause, found.severity) == ("normalisation-missing", "warning")
    assert found.numbers["gallery_norm"] == pytest.approx(1.0)
    assert found.numbers["query_norm"] == pytest.approx(10.0, rel=0.2)
    # To a gallery at unit length the order is that of the angle, whatever the query's length; not so the other way.
    assert found.numbers["lost"] == pytest.approx(0.0)
    found = find_other_lengths(long, queries)
    assert found.severity == "error"
    assert found.numbers["lost"] == pytest.approx(found.numbers["recall_at_unit_length"] - found.numbers["recall"])
    assert found.numbers["low"] > 0


@pytest.mark.parametrize(("scale", "is_cause"), [(1.008, False), (1.02, True), (0.98, True)])
def test_lengths_of_one_are_one_within_a_hundredth(clusters, scale, is_cause):
    gallery, queries = halves(clusters)
    found = find_other_lengths(gallery, of(queries.x_ND * scale, queries.labels))
    assert (found is not None) == is_cause
    assert found is None or found.severity == "warning"


@pytest.mark.parametrize(("scale", "is_cause"), [(1.05, False), (1.15, True), (0.85, True)])
def test_lengths_of_any_size_may_differ_by_a_tenth(clusters, scale, is_cause):
    gallery, queries = halves(clusters)
    found = find_other_lengths(of(gallery.x_ND * 7, gallery.labels), of(queries.x_ND * 7 * scale, queries.labels))
    assert (found is not None) == is_cause


def test_a_single_odd_row_is_not_another_length(clusters):
    gallery, queries = halves(clusters)
    x_ND = gallery.x_ND.copy()
    x_ND[3] = 0.0  # a blank picture
    assert find_other_lengths(of(x_ND, gallery.labels), queries) is None


def test_queries_of_classes_that_are_not_there_have_lengths_too(clusters):
    gallery, queries = halves(clusters)
    found = find_other_lengths(gallery, of(queries.x_ND * 3, np.full(len(queries), "none")))
    assert (found.severity, sorted(found.numbers)) == ("warning", ["gallery_norm", "query_norm"])


# train-test-leak


@pytest.mark.parametrize(
    ("num_copied", "severity"), [(0, None), (1, None), (2, "warning"), (19, "warning"), (20, "error")]
)
def test_test_pictures_that_were_trained_on(clusters, num_copied, severity):
    train, test = clusters(100, 4, seed=1, first=100), clusters(100, 4, seed=2)
    x_ND = test.x_ND.copy()
    x_ND[5 : 5 + num_copied] = train.x_ND[70 : 70 + num_copied] + 1e-7
    found = find_equal_test_items(train, of(x_ND, test.labels))
    assert (None if found is None else found.severity) == severity
    if found is not None:
        assert found.cause == "train-test-leak"
        assert found.numbers == {"share": num_copied / 400, "num_equal": float(num_copied), "num_test": 400.0}
        assert found.settings == {"data.split_by": "class"}
        assert "train-test-leak" in causes(train_=train, **{"": of(x_ND, test.labels)})


def test_other_pictures_of_trained_classes_are_no_leak(clusters):
    both = clusters(noise=1e-3)
    assert find_equal_test_items(both.take(np.arange(0, 120, 2)), both.take(np.arange(1, 120, 2))) is None


def test_what_collapsed_is_no_leak(clusters):
    train, point = clusters(), of(np.ones((40, 16)), np.arange(40) % 4)
    assert find_equal_test_items(point, point) is None
    assert find_equal_test_items(train, point) is None


@pytest.mark.parametrize("form", [np.float16, np.float32])
@pytest.mark.parametrize("of_class", [True, False])
def test_half_of_the_test_are_training_rows_in_another_precision(clusters, form, of_class):
    # The measured case: rounded to float16, rows of unit length are 2e-4 apart.
    train, test = clusters(100, 4, dim=64, seed=1), clusters(100, 4, dim=64, seed=2, first=0 if of_class else 100)
    x_ND = test.x_ND.astype(np.float32)
    x_ND[::2] = train.x_ND[::2].astype(form)
    found = find_equal_test_items(train, of(x_ND, test.labels))
    assert (found.cause, found.severity, found.numbers["share"]) == ("train-test-leak", "error", 0.5)
    assert find_equal_test_items(train, of(test.x_ND.astype(form), test.labels)) is None


def recordings(noise, *, kinds=False, seed=0):
    """60 classes of two recordings with four frames each, a quarter of the frames for the test."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(60), 8)
    x_ND = random.normal(size=(60, 32))[labels] + np.repeat(random.normal(size=(120, 32)), 4, axis=0)
    if kinds:  # the recordings of a class differ as studio and phone do, in all classes alike
        x_ND = random.normal(size=(60, 32))[labels] + 6 * np.repeat(np.tile(np.eye(32)[:2], (60, 1)), 4, axis=0)
    x_ND += noise * random.normal(size=(480, 32))
    held = random.random(480) < 0.25
    return of(x_ND[~held], labels[~held]), of(x_ND[held], labels[held])


@pytest.mark.parametrize("noise", [0.01, 0.1, 0.2])
def test_frames_of_one_recording_on_both_sides(noise):
    train, test = recordings(noise)
    found = find_equal_test_items(train, test)
    assert (found.cause, found.severity) == ("train-test-leak", "warning")
    assert found.numbers["share"] > 0.9
    assert found.numbers["recall"] == 1.0
    # What is left for them to find is the other recording.
    assert found.numbers["recall_without"] < 0.98
    assert "far nearer to one of a training picture" in found.what


@pytest.mark.parametrize("noise", [0.7, 1.0])
def test_frames_that_differ_as_other_pictures_do_are_no_copies(noise):
    assert find_equal_test_items(*recordings(noise)) is None


@pytest.mark.parametrize("noise", [0.3, 0.7])
def test_two_kinds_of_pictures_are_no_recordings(noise):
    assert find_equal_test_items(*recordings(noise, kinds=True)) is None


# mixed-classes


@pytest.mark.parametrize(("trained", "share"), [(["a", "b", "x"], 0.5), (["d"], 0.25)])
def test_a_test_of_both_kinds_of_classes(trained, share):
    found = find_shared_classes(trained, ["a", "b", "c", "d", "a"])
    assert (found.cause, found.severity) == ("mixed-classes", "warning")
    assert found.numbers == {"share": share, "num_classes": 4.0}
    assert found.settings == {"data.split_by": "class"}


@pytest.mark.parametrize("trained", [["x", "y"], ["a", "b", "c", "d", "x"]])
def test_a_test_of_one_kind_of_classes(trained):
    assert find_shared_classes(trained, ["a", "b", "c", "d", "a"]) is None


# batch-norm-statistics


def spoiled(embedded, share, seed=0):
    """The same, with this share of the rows at random."""
    random = np.random.default_rng(seed)
    x_ND = embedded.x_ND.copy()
    chosen = random.random(len(x_ND)) < share
    x_ND[chosen] = random.normal(size=(int(chosen.sum()), x_ND.shape[1]))
    return of(x_ND, embedded.labels)


def test_statistics_that_do_not_fit(clusters):
    healthy = clusters(100, 4)
    found = find_batch_norm(spoiled(healthy, 0.4), healthy)
    assert (found.cause, found.severity) == ("batch-norm-statistics", "error")
    assert 0.1 < found.numbers["low"] < found.numbers["lost"] < found.numbers["high"]
    assert found.settings == {"finetune.batch_norm": "eval"}
    assert found.what.startswith("R@1 of 400 training pictures is 1.000 with batch norm by the batch and 0.")


def test_statistics_that_fit_well_enough(clusters):
    healthy = clusters(100, 4)
    assert find_batch_norm(healthy, healthy) is None
    assert find_batch_norm(healthy, spoiled(healthy, 0.5)) is None  # a batch is worse than what was stored
    assert find_batch_norm(spoiled(healthy, 0.05), healthy) is None
    single = of(healthy.x_ND, np.arange(400))
    assert find_batch_norm(spoiled(single, 0.5), single) is None


# worse-than-untrained


def test_training_that_did_harm(clusters):
    before = clusters(100, 4)
    found = find_harm(spoiled(before, 0.2), before, start="the untrained network")
    assert (found.cause, found.severity) == ("worse-than-untrained", "error")
    assert found.numbers["recall_before"] == 1.0
    assert found.numbers["change"] == pytest.approx(found.numbers["recall"] - 1.0)
    assert found.numbers["low"] < found.numbers["change"] < found.numbers["high"] < 0
    assert "; the untrained network gives 1.000 (change -0." in found.what


def test_training_that_did_no_harm(clusters):
    before = clusters(100, 4, noise=0.5)
    assert find_harm(before, before, start="") is None
    assert find_harm(before, spoiled(before, 0.2), start="") is None
    # As bad as before, but of other pictures.
    assert find_harm(spoiled(before, 0.3, seed=1), spoiled(before, 0.3, seed=2), start="") is None
    single = of(before.x_ND, np.arange(400))
    assert find_harm(spoiled(single, 0.5), single, start="") is None


# sets that do not go together


def test_embeddings_of_other_dimensions(clusters):
    wide, narrow = clusters(dim=16), clusters(dim=8)
    for name in ("train", "query"):
        with pytest.raises(InputError) as error:
            mohs.diagnose(
                embeddings=wide.x_ND,
                labels=wide.labels,
                **{f"{name}_embeddings": narrow.x_ND * 3, f"{name}_labels": narrow.labels},
            )
        assert error.value.problems == (
            f"{name}_embeddings: 8 columns for the 16 of embeddings; both must come from one network",
        )
