"""Labels that part of the rows do not fit, both ways."""

import numpy as np
import pytest

import mohs
from mohs.doctor.embeddings.mixed_labels import find_mixed_labels
from mohs.evaluation.embedded import Embedded


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
