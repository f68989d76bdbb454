"""Approximate search: what it finds is measured, and whatever it answers is exact in distance and order."""

import numpy as np
import pyarrow as pa
import pytest

from mohs.errors import InputError
from mohs.index.approximate_search import Approximation, build_approximation
from mohs.index.index import Index
from mohs.index.snapshot import Snapshot
from mohs.index.store import Store, item_schema

NUM, DIM = 3000, 16


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """One store of clustered vectors as an exact and as an approximate snapshot."""
    random = np.random.default_rng(0)
    x_ND = np.repeat(random.normal(size=(NUM // 10, DIM)), 10, axis=0) + 0.4 * random.normal(size=(NUM, DIM))
    x_ND = (x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True)).astype(np.float32)
    schema = item_schema(DIM, [pa.field("price", pa.int64())])
    text = pa.array([f"{i:05d}" for i in range(NUM)])
    cells = {
        "class": pa.array([f"c{i // 10}" for i in range(NUM)]),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(x_ND.ravel()), DIM),
        "thumbnail": pa.array([b"png"] * NUM),
        "price": pa.array(list(range(NUM))),
    }
    rows = pa.table({name: cells.get(name, text) for name in schema.names}, schema=schema)
    store = Store.create(tmp_path_factory.mktemp("i"), rows.to_batches(), schema)
    found = build_approximation(store)
    query_QD = x_ND[random.choice(NUM, 40, replace=False)] + 0.1 * random.normal(size=(40, DIM)).astype(np.float32)
    query_QD /= np.linalg.norm(query_QD, axis=1, keepdims=True)
    return Snapshot.read(store.newest(), None), Snapshot.read(store.newest(), None, found), query_QD


def ids(answers):
    return [[match.id for match in answer.matches] for answer in answers]


def test_recall_is_as_measured_and_distances_are_exact(both):
    exact, some, query_QD = both
    assert some.resident is None
    assert some.approximation.recall >= 0.95
    assert some.approximation.num_probes < some.approximation.num_partitions == 55
    wanted, found = exact.search(query_QD), some.search(query_QD, thumbnails=False)
    share = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(ids(wanted), ids(found), strict=True)])
    assert share == pytest.approx(some.approximation.recall, abs=0.05)
    distance = {(q, match.id): match.distance for q, answer in enumerate(wanted) for match in answer.matches}
    for q, answer in enumerate(found):
        distances = [match.distance for match in answer.matches]
        assert distances == sorted(distances)
        assert len(distances) == 10
        for match in answer.matches:
            assert match.distance == distance.get((q, match.id), match.distance)
            assert match.columns["price"] == int(match.id)


def test_filters_and_classes_are_exact(both):
    exact, some, query_QD = both
    for options in ({"where": "price < 40"}, {"one_of_a_class": True}, {"where": "price < 95", "one_of_a_class": True}):
        assert ids(some.search(query_QD, **options)) == ids(exact.search(query_QD, **options))
    assert [answer.matches for answer in some.search(query_QD[:1], where="price < 0")] == [()]


def test_one_vector_and_all(both):
    exact, some, _ = both
    np.testing.assert_array_equal(some.vector(7), exact.vector(7))
    np.testing.assert_array_equal(some.vectors.x_ND, exact.vectors.x_ND)
    assert len(some) == NUM


def test_an_index_becomes_approximate_and_exact_again(shop, embedder, table_of, tmp_path):
    index = Index.build(tmp_path / "i", shop / "shop.csv", embedder, id_column="article", exact_up_to=20)
    found = index.approximation
    assert found == Approximation(**index.info()["approximation"])
    assert (found.num_items, found.num_queries) == (60, 60)
    index.remove(["A070"])
    index.replace(table_of("two.csv", [16, 17]))
    answer = index.search([shop / "08-1.png"], num_matches=3)[0]
    assert answer.matches[0].id == "A081"
    assert index.snapshot().resident is None
    index.compact()
    assert index.approximation is None
    assert index.snapshot().resident is not None
    assert index.search([shop / "08-1.png"], num_matches=3)[0].matches[0].id == "A081"
    with pytest.raises(InputError, match="exact_up_to: 3 is not a whole number of at least 20; use for example 200000"):
        index.compact(exact_up_to=3)
