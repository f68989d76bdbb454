"""Causes in one set of embeddings, each both ways."""

import numpy as np
import pytest

import mohs
from mohs.doctor.embeddings.causes import (
    find_collapsed_embeddings,
    find_equal_positives,
    find_failed_pictures,
    find_narrow_cone,
    find_swapped_embeddings,
    find_unnormalised,
)
from mohs.evaluation.embedded import Embedded


def of(x_ND, labels):
    return Embedded.of(x_ND, labels, source="x.npy")


def causes(embedded):
    return [each.cause for each in mohs.diagnose(embeddings=embedded.x_ND, labels=embedded.labels).findings]


@pytest.mark.parametrize("noise", [0.1, 0.6, 1.2])
@pytest.mark.parametrize("dim", [2, 16, 128])
def test_healthy_classes_have_no_cause(clusters, noise, dim):
    # On a circle such wide classes are as good as a guess: R@1 0.05, chance 0.025.
    assert causes(clusters(noise=noise, dim=dim)) == (["at-chance"] if (dim, noise) == (2, 1.2) else [])


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (np.repeat([0, 1], 20), ["at-chance"]),
        (np.zeros(40, int), ["single-class"]),
        (np.arange(40), ["too-few-positives"]),
    ],
)
def test_numbers_in_one_dimension(labels, expected):
    random = np.random.default_rng(0)
    assert causes(of(random.normal(size=(40, 1)), labels)) == expected


# collapsed


@pytest.mark.parametrize(("noise", "is_cause"), [(0.015, True), (0.025, False)])
@pytest.mark.parametrize("scale", [1.0, 1e-4, 300.0])
def test_embeddings_at_one_point(noise, is_cause, scale):
    random = np.random.default_rng(0)
    x_ND = scale * (np.r_[1.0, np.zeros(15)] + noise / 4 * random.normal(size=(400, 16)))
    found = find_collapsed_embeddings(of(x_ND, np.arange(400) % 40))
    assert (found is not None) == is_cause
    if found is not None:
        assert (found.cause, found.severity) == ("collapsed", "error")
        assert found.numbers["relative_spread"] == pytest.approx(noise, rel=0.05)
        assert found.what.startswith("The embeddings have collapsed to a point")
        assert found.settings == {"loss.name": "infonce", "model.batch_norm": True}


def on_a_line(num_classes, dim, thickness=0.02):
    random = np.random.default_rng(0)
    x_ND = thickness * random.normal(size=(400, dim))
    x_ND[:, 0] += random.normal(size=400)
    return of(x_ND, np.arange(400) % num_classes)


def test_embeddings_on_one_line():
    found = find_collapsed_embeddings(on_a_line(40, 16))
    assert found.what.startswith("The embeddings of 40 classes lie on a line: effective rank 1.0")
    assert 1.0 < found.numbers["effective_rank"] < 2.0
    assert causes(on_a_line(40, 16)) == ["collapsed"]


@pytest.mark.parametrize(("num_classes", "dim", "thickness"), [(7, 16, 0.02), (40, 7, 0.02), (40, 16, 0.3)])
def test_few_classes_or_dimensions_may_lie_on_a_line(num_classes, dim, thickness):
    assert find_collapsed_embeddings(on_a_line(num_classes, dim, thickness)) is None


def test_one_class_or_one_picture_may_be_a_point():
    assert causes(of(np.ones((20, 8)), np.zeros(20, int))) == ["single-class"]
    assert find_collapsed_embeddings(of([[1.0, 2.0]], [0])) is None
    assert causes(of(np.ones((20, 8)), np.arange(20) % 2)) == ["collapsed"]
    assert causes(of(np.zeros((20, 8)), np.arange(20) % 2)) == ["collapsed"]


def at_points(num_points, noise, *, num_classes=100, dim=64):
    """Four rows of each class, around as many points as asked for."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(num_classes), 4)
    point_PD = random.normal(size=(num_points, dim)) / dim**0.5
    return of(point_PD[labels % num_points] + noise / dim**0.5 * random.normal(size=(len(labels), dim)), labels)


@pytest.mark.parametrize("noise", [0.0, 1e-4, 0.02, 0.1])
@pytest.mark.parametrize("num_points", [2, 4, 12])
def test_many_classes_at_a_few_points(num_points, noise):
    embedded = at_points(num_points, noise)
    found = find_collapsed_embeddings(embedded)
    assert (found.cause, found.severity) == ("collapsed", "error")
    assert (found.numbers["num_points"], found.numbers["share"]) == (num_points, 1.0)
    assert f"of 100 classes, lie at {num_points} points" in found.what
    assert causes(embedded) == ["collapsed"]


def test_a_part_of_the_classes_at_one_point(clusters):
    embedded = clusters(60, 4, dim=64)
    x_ND = embedded.x_ND.copy()
    x_ND[:160] = x_ND[0] + 1e-3 * x_ND[:160]
    assert find_collapsed_embeddings(of(x_ND, embedded.labels)) is None  # within the point the classes are there
    x_ND[:160] = x_ND[0] + 1e-3 * np.random.default_rng(0).normal(size=(160, 64))
    found = find_collapsed_embeddings(of(x_ND, embedded.labels))
    assert (found.numbers["num_points"], found.numbers["num_classes"]) == (1.0, 40.0)


def test_tight_classes_in_families_are_no_points(clusters):
    # Twelve families, as close as points are, whose classes can be told apart all the same.
    embedded, families = clusters(96, 4, dim=64, noise=0.2), at_points(12, 0.0, num_classes=96)
    assert find_collapsed_embeddings(of(0.05 * embedded.x_ND + families.x_ND, embedded.labels)) is None


# narrow-cone


@pytest.mark.parametrize("scale", [0.2, 0.01, 1e-3])
def test_a_narrow_cone_with_all_its_classes_is_a_note(clusters, scale):
    embedded = clusters(60, 4, dim=32)
    cone = of(scale * embedded.x_ND + np.eye(32)[0], embedded.labels)
    found = find_narrow_cone(cone)
    assert (found.cause, found.severity, found.numbers["recall"]) == ("narrow-cone", "note", 1.0)
    assert found.numbers["mean_cosine"] == pytest.approx(1 / (1 + scale**2), abs=0.02)
    assert causes(cone) == ["narrow-cone"]


def test_what_spreads_is_no_cone(clusters):
    assert find_narrow_cone(clusters(60, 4, dim=32)) is None
    embedded = clusters(60, 4, dim=32)
    assert find_narrow_cone(of(embedded.x_ND + np.eye(32)[0], embedded.labels)) is None


# failed-pictures


@pytest.mark.parametrize(("share", "severity"), [(0.0, None), (0.02, "warning"), (0.2, "error")])
@pytest.mark.parametrize("vector", [0.0, 0.3])
def test_pictures_that_failed(clusters, share, severity, vector):
    embedded = clusters(100, 4, dim=32)
    failed = np.random.default_rng(1).permutation(400)[: round(share * 400)]
    x_ND = embedded.x_ND.copy()
    x_ND[failed] = vector
    found = find_failed_pictures(of(x_ND, embedded.labels))
    assert (None if found is None else found.severity) == severity
    if found is not None:
        assert found.numbers["num_failed"] == len(failed)
        assert found.numbers["num_zero"] == (len(failed) if vector == 0 else 0)
        assert found.numbers["recall_without"] == 1.0 > found.numbers["recall"]
    # And nothing else is said of them.
    assert causes(of(x_ND, embedded.labels)) == ([] if severity is None else ["failed-pictures"])


# swapped


def test_classes_that_are_as_far_apart_as_can_be():
    random = np.random.default_rng(0)
    x_ND = random.normal(size=(40, 16))
    x_ND /= np.linalg.norm(x_ND, axis=1, keepdims=True)
    both = of(np.concatenate([x_ND, -x_ND]), np.tile(np.arange(40), 2))
    found = find_swapped_embeddings(both)
    assert (found.cause, found.severity) == ("swapped", "error")
    assert found.numbers == pytest.approx({"farthest_recall": 1.0, "difference": 1.0, "triplet_accuracy": 0.0})
    assert "swapped" in causes(both)


def two_kinds(knows):
    """A catalog picture and a photo of each class, far from each other; `knows` that they are one, or not."""
    random = np.random.default_rng(0)
    catalog_CD, photo_CD = random.normal(size=(40, 16)), random.normal(size=(40, 16))
    if knows:
        photo_CD = catalog_CD + 0.3 * photo_CD
    return of(np.concatenate([catalog_CD + 8, photo_CD - 8]), np.tile(np.arange(40), 2))


@pytest.mark.parametrize("knows", [True, False])
def test_two_kinds_of_pictures_are_not_swapped(knows):
    assert find_swapped_embeddings(two_kinds(knows)) is None


def test_without_pairs_nothing_is_swapped():
    x_ND = np.random.default_rng(0).normal(size=(20, 4))
    assert find_swapped_embeddings(of(x_ND, np.arange(20))) is None
    assert find_swapped_embeddings(of(x_ND, np.zeros(20, int))) is None


# normalisation-missing


def with_lengths(embedded, length_N):
    return of(embedded.x_ND * length_N[:, None], embedded.labels)


def test_lengths_that_say_nothing(clusters):
    embedded = clusters(noise=0.5)
    found = find_unnormalised(with_lengths(embedded, np.random.default_rng(1).lognormal(0, 1, len(embedded))))
    assert (found.cause, found.severity) == ("normalisation-missing", "warning")
    numbers = found.numbers
    assert 0 < numbers["low"] < numbers["gain"] < numbers["high"]
    assert numbers["gain"] > 0.1
    assert numbers["variation"] > 0.5


def test_lengths_that_do_no_harm(clusters):
    embedded = clusters(noise=0.3)
    random = np.random.default_rng(1)
    assert find_unnormalised(embedded) is None
    assert find_unnormalised(with_lengths(embedded, 1 + 0.009 * random.normal(size=len(embedded)))) is None
    assert find_unnormalised(with_lengths(embedded, 1 + 0.03 * random.normal(size=len(embedded)))) is None


def test_lengths_that_say_what_is_shown_are_not_to_be_taken_away(clusters):
    embedded = clusters(noise=2.0, per_class=6)
    assert find_unnormalised(with_lengths(embedded, 1.0 + embedded.codes)) is None


# dead-positives


@pytest.mark.parametrize(("num_copied", "severity"), [(0, None), (4, None), (12, "warning"), (70, "error")])
def test_classes_of_copies(clusters, num_copied, severity):
    embedded = clusters(100, 2, noise=0.5)
    x_ND = embedded.x_ND.copy()
    x_ND[1 : 2 * num_copied : 2] = x_ND[0 : 2 * num_copied : 2]
    found = find_equal_positives(of(x_ND, embedded.labels))
    assert (None if found is None else found.severity) == severity
    if found is not None:
        assert found.cause == "dead-positives"
        assert found.numbers["dead_share"] == pytest.approx(num_copied / 100, abs=0.02)
        assert found.numbers["equal_across_classes"] == 0.0


def test_copies_across_classes_are_no_dead_positives():
    assert find_equal_positives(of(np.ones((40, 8)), np.arange(40) % 4)) is None
    # Binary codes with few values.
    codes = np.random.default_rng(0).integers(0, 2, (200, 3)).astype(float)
    assert find_equal_positives(of(codes, np.arange(200) % 20)) is None


def test_pictures_that_are_nearly_equal_are_two(clusters):
    assert find_equal_positives(clusters(noise=1e-4)) is None


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_more_than_half_of_the_pictures_failed(clusters, value):
    embedded = clusters(60, 6)
    x_ND = embedded.x_ND.copy()
    x_ND[np.random.default_rng(0).permutation(360)[:216]] = value
    failed = of(x_ND, embedded.labels)
    assert causes(failed) == ["failed-pictures"]
    found = find_failed_pictures(failed)
    assert found.what.startswith("216 of 360 rows (60.0%) hold nothing")
    assert found.why.endswith("or a network that has died for these pictures.")
