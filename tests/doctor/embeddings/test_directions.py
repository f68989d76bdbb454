"""Two kinds of pictures, one column, one direction: each told, and not taken for a collapse."""

import numpy as np
import pytest

import mohs
from mohs.doctor.embeddings.directions import find_domain_gap, find_dominating_direction
from mohs.evaluation.embedded import Embedded


def unit(x_ND):
    return x_ND / np.linalg.norm(x_ND, axis=-1, keepdims=True)


def of(x_ND, labels):
    return Embedded.of(x_ND, labels, source="x.npy")


def told(embedded):
    found = mohs.diagnose(embeddings=embedded.x_ND, labels=embedded.labels).findings
    return {each.cause: each.severity for each in found}


def two_kinds(num_classes=80, *, signal=0.25, dim=32, sizes=(1, 1), seed=0):
    """x = unit(signal · class + kind), as many of each kind in each class as `sizes` say."""
    random = np.random.default_rng(seed)
    class_CD, kind_KD = unit(random.normal(size=(num_classes, dim))), unit(random.normal(size=(len(sizes), dim)))
    kind_N = np.tile(np.repeat(np.arange(len(sizes)), sizes), num_classes)
    labels = np.repeat(np.arange(num_classes), sum(sizes))
    own = 0.02 * random.normal(size=(len(labels), dim))
    return of(unit(signal * class_CD[labels] + kind_KD[kind_N] + own), labels), kind_N


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("dim", [16, 64])
@pytest.mark.parametrize("sizes", [(1, 1), (1, 3), (2, 1, 1)])
def test_two_kinds_of_pictures_are_a_domain_gap_and_no_collapse(dim, sizes, seed):
    embedded, kind_N = two_kinds(dim=dim, sizes=sizes, seed=seed)
    found = find_domain_gap(embedded)
    assert (found.cause, found.severity, found.numbers["num_kinds"]) == ("domain-gap", "warning", len(sizes))
    assert found.numbers["recall_centred"] > 0.9 > found.numbers["recall"]
    # The split that it names is the right one.
    for kind in range(len(sizes)):
        rows = np.flatnonzero(kind_N == kind)
        assert f"{len(rows):,}, rows {', '.join(map(str, rows[:3]))}, …" in found.what
    assert told(embedded) == {"domain-gap": "warning"} | {
        cause: severity for cause, severity in told(embedded).items() if cause == "narrow-cone"
    }


def test_the_smaller_the_gap_the_less_it_costs_and_then_nothing():
    lost = []
    for signal in (0.25, 0.5, 1.0, 3.0):
        embedded, _ = two_kinds(signal=signal, sizes=(2, 2), dim=16)
        found = find_domain_gap(embedded)
        lost.append(0.0 if found is None else found.numbers["gain"])
    assert lost == sorted(lost, reverse=True)
    assert lost[-1] == 0.0


def test_kinds_that_the_network_does_not_bring_together_are_told_too():
    random = np.random.default_rng(0)
    x_ND = np.concatenate([random.normal(size=(60, 16)) + 3, random.normal(size=(60, 16)) - 3])
    found = find_domain_gap(of(x_ND, np.tile(np.arange(60), 2)))
    assert found.numbers["recall_centred"] < 0.1
    assert found.why.startswith("The network sees how a picture was made, and does not know")


def test_families_of_classes_are_no_kinds(clusters):
    embedded = clusters(60, 4, dim=32, noise=0.5)
    shift_ND = 3 * np.eye(32)[:1] * (embedded.codes % 2)[:, None]
    assert find_domain_gap(of(embedded.x_ND + shift_ND, embedded.labels)) is None


@pytest.mark.parametrize("labels", [np.repeat(np.arange(60), 4), np.arange(240) % 2])
def test_noise_is_of_one_kind(labels):
    x_ND = np.random.default_rng(0).normal(size=(240, 16))
    assert find_domain_gap(of(x_ND, labels)) is None
    assert find_dominating_direction(of(x_ND, labels)) is None


# one-dimension-dominates


@pytest.mark.parametrize("is_unit", [False, True])
@pytest.mark.parametrize("scale", [20.0, 50.0, 1000.0])
def test_one_column_of_another_scale(clusters, scale, is_unit):
    embedded = clusters(60, 4, dim=32, noise=0.7)
    x_ND = embedded.x_ND.copy()
    x_ND[:, 5] *= scale
    given = of(unit(x_ND) if is_unit else x_ND, embedded.labels)
    found = find_dominating_direction(given)
    assert (found.cause, found.severity) == ("one-dimension-dominates", "warning")
    assert found.what.startswith("Column 5 holds")
    assert found.numbers["recall_without"] > given.recall.value + 0.05
    if not is_unit:
        assert found.numbers["recall_without"] == pytest.approx(embedded.recall.value, abs=0.05)
        assert found.numbers["scale_ratio"] == pytest.approx(scale, rel=0.2)
    assert told(given)["one-dimension-dominates"] == "warning"
    assert "collapsed" not in told(given)


def test_a_direction_that_is_no_column(clusters):
    embedded = clusters(60, 4, dim=32, noise=0.7)
    random = np.random.default_rng(1)
    along_ND = np.outer(5 * random.normal(size=240), unit(random.normal(size=32)))
    found = find_dominating_direction(of(embedded.x_ND + along_ND, embedded.labels))
    assert found.what.startswith("One direction, which is no single column, holds")


def test_a_large_column_that_knows_the_classes_may_stay(clusters):
    embedded = clusters(10, 6, dim=8, noise=0.3)
    x_ND = embedded.x_ND.copy()
    x_ND[:, 0] += 10 * embedded.codes
    assert find_dominating_direction(of(x_ND, embedded.labels)) is None


def test_a_line_that_hides_nothing_has_collapsed():
    random = np.random.default_rng(0)
    x_ND = 0.02 * random.normal(size=(240, 16))
    x_ND[:, 3] += random.normal(size=240)
    assert told(of(x_ND, np.repeat(np.arange(60), 4))) == {"collapsed": "error"}
