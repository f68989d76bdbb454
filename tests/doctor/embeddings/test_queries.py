"""Queries that do not go with their gallery, and those that do."""

import numpy as np
import pytest

import mohs
from mohs.doctor.embeddings.queries import find_foreign_queries, find_queries_in_gallery
from mohs.evaluation.embedded import Embedded


def of(x_ND, labels):
    return Embedded.of(x_ND, labels, source="x.npy")


@pytest.fixture(params=[(100, 4, 32), (300, 2, 64)])
def sets(request, clusters):
    """A gallery, and queries of the same classes by the same network."""
    num_classes, per_class, dim = request.param
    both = clusters(num_classes, per_class + 1, dim=dim, noise=0.7)
    is_query = np.arange(len(both)) % (per_class + 1) == 0
    return both.take(np.flatnonzero(~is_query)), both.take(np.flatnonzero(is_query))


def rotation(dim, seed=1):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))[0]


def told(gallery, queries):
    found = mohs.diagnose(
        embeddings=gallery.x_ND,
        labels=gallery.labels,
        query_embeddings=queries.x_ND,
        query_labels=queries.labels,
    ).findings
    return {each.cause: each.severity for each in found}


def test_queries_of_the_same_network(sets):
    assert find_foreign_queries(*sets) is None
    assert told(*sets) == {}


@pytest.mark.parametrize("turn", ["rotation", "columns"])
def test_queries_of_another_network(sets, turn):
    gallery, queries = sets
    dim = gallery.x_ND.shape[1]
    matrix = rotation(dim) if turn == "rotation" else np.eye(dim)[np.random.default_rng(1).permutation(dim)]
    foreign = of(queries.x_ND @ matrix, queries.labels)
    found = find_foreign_queries(gallery, foreign)
    assert found.cause == "other-network"
    assert "turned by a rotation fitted on other classes" in found.what
    assert found.numbers["recall_alone"] > 0.9 > 0.6 > found.numbers["recall"]
    assert told(gallery, foreign)["other-network"] == found.severity


def test_a_gallery_of_one_picture_each_has_queries_to_stand_by(sets):
    gallery, queries = sets
    single = gallery.take(np.unique(gallery.labels, return_index=True)[1])
    rest = gallery.take(np.setdiff1d(np.arange(len(gallery)), np.unique(gallery.labels, return_index=True)[1]))
    foreign = of(np.concatenate([queries.x_ND, rest.x_ND]) @ rotation(32 if len(gallery) == 400 else 64),
                 np.concatenate([queries.labels, rest.labels]))  # fmt: skip
    found = find_foreign_queries(single, foreign)
    assert (found.cause, found.severity) == ("other-network", "error")
    assert "for the queries by themselves" in found.what
    assert find_foreign_queries(single, queries) is None


def test_queries_that_are_shifted_as_a_whole(sets):
    gallery, queries = sets
    shift_D = np.random.default_rng(2).normal(size=gallery.x_ND.shape[1])
    shifted_ND = queries.x_ND + 3 * shift_D / np.linalg.norm(shift_D)
    shifted = of(shifted_ND / np.linalg.norm(shifted_ND, axis=1, keepdims=True), queries.labels)
    found = find_foreign_queries(gallery, shifted)
    assert found.cause == "domain-gap"
    assert found.numbers["recall_centred"] > 0.9


@pytest.mark.parametrize("how", ["rows", "names"])
def test_labels_of_queries_that_do_not_fit(sets, how):
    gallery, queries = sets
    random = np.random.default_rng(3)
    names = np.unique(queries.labels)
    labels = (
        random.permutation(queries.labels)
        if how == "rows"
        else random.permutation(names)[np.searchsorted(names, queries.labels)]
    )
    found = find_foreign_queries(gallery, of(queries.x_ND, labels))
    assert (found.cause, found.severity) == ("label-order", "error")


def test_queries_that_know_nothing(sets):
    gallery, queries = sets
    noise_ND = np.random.default_rng(4).normal(size=queries.x_ND.shape)
    noise_ND /= np.linalg.norm(noise_ND, axis=1, keepdims=True)
    found = find_foreign_queries(gallery, of(noise_ND, queries.labels))
    assert (found.cause, found.severity) == ("other-network", "error")
    assert "another preprocessing" in found.why


def test_what_cannot_be_told_apart_is_said(clusters):
    # Classes so wide that a row of one is as near to others: where queries lie says nothing.
    both = clusters(100, 5, dim=32, noise=1.3)
    gallery = both.take(np.flatnonzero(np.arange(500) % 5 > 0))
    queries = both.take(np.arange(0, 500, 5))
    shuffled = of(queries.x_ND, np.random.default_rng(0).permutation(queries.labels))
    found = find_foreign_queries(gallery, shuffled)
    assert found.cause == "at-chance"
    assert found.why.startswith("Another network, another preprocessing, or labels that do not fit")
    assert find_foreign_queries(gallery, queries) is None


def test_harder_queries_are_not_foreign(sets):
    gallery, queries = sets
    noise_ND = np.random.default_rng(4).normal(size=queries.x_ND.shape) / gallery.x_ND.shape[1] ** 0.5
    assert find_foreign_queries(gallery, of(queries.x_ND + 0.5 * noise_ND, queries.labels)) is None


# self-match


@pytest.mark.parametrize("form", [np.float16, np.float32, lambda x: x.round(4)])
def test_queries_that_are_rows_of_the_gallery(form):
    random = np.random.default_rng(0)
    x_ND, labels = random.normal(size=(300, 32)), np.arange(300) % 150
    queries = of(form(x_ND[:150]), labels[:150])
    found = find_queries_in_gallery(of(x_ND, labels), queries)
    assert (found.cause, found.severity) == ("self-match", "error")
    assert found.numbers["share"] == found.numbers["recall"] == 1.0
    assert found.numbers["recall_without"] < 0.05
    assert told(of(x_ND, labels), queries)["self-match"] == "error"
    # The gallery by itself is at chance, which is told as well.
    assert told(of(x_ND, labels), queries)["at-chance"] == "error"


@pytest.mark.parametrize(("num", "severity"), [(0, None), (1, "warning"), (4, "warning"), (5, "error")])
def test_the_share_of_copies_decides(clusters, num, severity):
    both = clusters(100, 4, dim=32, noise=0.7)
    gallery, queries = both.take(np.flatnonzero(np.arange(400) % 4 > 0)), both.take(np.arange(0, 400, 4))
    x_ND = queries.x_ND.copy()
    x_ND[:num] = gallery.x_ND[::3][:num]
    found = find_queries_in_gallery(gallery, of(x_ND, queries.labels))
    assert (None if found is None else found.severity) == severity
