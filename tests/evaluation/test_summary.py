import json

import numpy as np
import pytest

from mohs.errors import InputError
from mohs.evaluation import evaluate_embeddings
from mohs.evaluation.retrieval import evaluate_all_against_all, evaluate_retrieval
from mohs.evaluation.summary import SearchSet, measure
from mohs.evaluation.triplets import triplet_accuracy
from mohs.evaluation.verification import evaluate_pairs


def clusters(num_classes=20, per_class=4, noise=1.0, seed=0):
    random = np.random.default_rng(seed)
    labels = np.repeat([f"c{i:02d}" for i in range(num_classes)], per_class)
    centres = random.normal(size=(num_classes, 6))
    x = np.repeat(centres, per_class, axis=0) + noise * random.normal(size=(len(labels), 6))
    return x.astype(np.float32), labels


def test_all_against_all():
    x, labels = clusters()
    report = evaluate_embeddings(x, labels, seed=3, verification=False)
    direct = evaluate_all_against_all(x, labels)
    assert (report.protocol, report.catalog, report.verification) == ("all against all", None, None)
    assert (report.retrieval.metrics, report.retrieval.intervals) == (direct.metrics, direct.intervals)
    assert report.hard_triplets == triplet_accuracy(x, labels, negatives="hard", seed=3)
    assert report.semi_hard_triplets == triplet_accuracy(x, labels, negatives="semi-hard", seed=3)
    assert report.triplets.accuracy > report.semi_hard_triplets.accuracy > report.hard_triplets.accuracy
    assert [each.label for each in report.classes] == sorted(set(labels))
    assert report.gallery_sizes.num_classes == (2, 5, 10, 20)
    assert report.gallery_sizes.recall_at_1[-1] == pytest.approx(direct.recall[1])


def test_pairs_of_queries_are_verified():
    x, labels = clusters()
    found = evaluate_embeddings(x, labels, seed=3).verification
    direct = evaluate_pairs(x, labels, seed=3)
    assert found.curves.average_precision == direct.curves.average_precision
    assert found.best == direct.best


def test_queries_are_verified_with_the_gallery_where_it_is_apart():
    x, labels = clusters()
    for per_class in (2, 1):  # one test item of each class is enough
        test = np.arange(len(x)) % 4 < per_class
        part = measure(x, SearchSet(labels, np.full(len(x), "sample"), test), verification=True).verification
        num, others = 20 * per_class, 20 * (4 - per_class)
        assert part.law == (
            f"all {num * (4 - per_class)} pairs of one class; all {num * others * 19 // 20:,} of two classes; each of "
            f"one of {num} queries and one of {others} items of the gallery"
        )
        square = ((x[test][:, None] - x[~test]) ** 2).sum(axis=2)
        same = labels[test][:, None] == labels[~test]
        assert part.curves.auc == pytest.approx((square[same][:, None] < square[~same]).mean(), abs=1e-4)
        assert part.intervals.auc[0] < part.curves.auc < part.intervals.auc[1]
        assert part.best is not None
    # Without a pair of one class there is nothing to verify.
    only = np.isin(labels, labels[:4])
    known = SearchSet(labels[only], np.full(4, "sample"), np.arange(4) < 2)
    assert measure(x[only], known, verification=True).verification is None


def test_queries_against_a_gallery_are_measured_by_the_indices_of_each():
    x, labels = clusters()
    queries, query_labels = x[::4], labels[::4]
    gallery, gallery_labels = np.delete(x, np.s_[::4], axis=0), np.delete(labels, np.s_[::4])
    report = evaluate_embeddings(gallery, gallery_labels, query_embeddings_QD=queries, query_labels_Q=query_labels)
    assert report.verification.law.startswith("all 60 pairs of one class; all 1,140 of two classes; each of one of 20 ")
    direct = evaluate_retrieval(queries, query_labels, gallery, gallery_labels)
    assert report.protocol == "queries against gallery"
    assert report.retrieval.metrics == direct.metrics
    np.testing.assert_array_equal(report.retrieval.nearest_wrong, direct.nearest_wrong)
    assert report.triplets is report.hard_triplets is None  # one query a class
    example = next(each.example for each in report.classes if each.example)
    assert query_labels[example[0]] != gallery_labels[example[1]]


def test_a_catalog_is_searched_by_the_samples():
    x, labels = clusters()
    roles = np.where(np.arange(len(x)) % 4 == 0, "catalog", "sample")
    report = evaluate_embeddings(x, labels, roles_N=roles, verification=False)
    samples, catalog = roles == "sample", roles == "catalog"
    direct = evaluate_retrieval(x[samples], labels[samples], x[catalog], labels[catalog])
    assert report.catalog.metrics == direct.metrics
    assert report.catalog.chance["recall@1"] == pytest.approx(1 / 20)


def test_the_record_is_json_and_holds_an_interval_and_a_chance_level_of_each_mean():
    x, labels = clusters(num_classes=40, noise=3.0)
    record = json.loads(json.dumps(evaluate_embeddings(x, labels).as_record(), allow_nan=False))
    names = {"recall@1", "precision@10", "mAP", "MAP@R", "R-precision", "MRR"}
    for part in (record["retrieval"]["intervals"], record["retrieval"]["chance"], record["retrieval"]):
        assert names <= set(part)
    for name in ("triplet_accuracy", "semi_hard_triplet_accuracy", "hard_triplet_accuracy"):
        low, high = record[name]["interval"]
        assert low < record[name]["accuracy"] < high
    assert len(record["confusable"]) == 20
    assert record["catalog"] is None
    assert record["verification"]["curves"]["average_precision"] > record["verification"]["curves"]["prevalence"]
    assert len(record["gallery_sizes"]["intervals"]) == len(record["gallery_sizes"]["num_classes"])


def test_more_noise_is_worse_everywhere():
    good, bad = (evaluate_embeddings(*clusters(noise=noise), verification=False) for noise in (0.5, 2.0))
    assert all(good.retrieval.metrics[name] > value for name, value in bad.retrieval.metrics.items() if value < 1)
    assert good.hard_triplets.accuracy > bad.hard_triplets.accuracy
    assert all(a >= b for a, b in zip(good.gallery_sizes.recall_at_1, bad.gallery_sizes.recall_at_1, strict=True))
    misses = [sum(pair.num_first + pair.num_second for pair in each.confusable) for each in (good, bad)]
    assert misses[0] < misses[1]


def test_classes_seen_in_training_are_queries_against_the_rest():
    x, labels = clusters()
    test = np.arange(len(x)) % 4 == 0
    report = measure(x, SearchSet(labels, np.full(len(x), "sample"), test))
    direct = evaluate_retrieval(x[test], labels[test], x[~test], labels[~test])
    assert (report.protocol, report.retrieval.metrics) == ("seen classes", direct.metrics)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"query_labels_Q": ["a"]}, "query_labels_Q: given without query_embeddings_QD; give both or neither"),
        ({"query_embeddings_QD": [[1.0]]}, "query_labels_Q: missing; give the class of each query"),
        (
            {"query_embeddings_QD": [[1.0, 2.0]], "query_labels_Q": ["a"]},
            "query_embeddings_QD, embeddings_ND: 2 and 1 dimensions; use embeddings of one model for both",
        ),
        (
            {"query_embeddings_QD": [[1.0]], "query_labels_Q": [3]},
            "labels: strings in one array and integers in another never match; use one kind for both",
        ),
        (
            {"roles_N": ["sample", "catalogue", "sample"]},
            "roles_N: not 'sample' or 'catalog' for each of the 3 embeddings; give one role for each row",
        ),
    ],
)
def test_messages(arguments, message):
    with pytest.raises(InputError) as caught:
        evaluate_embeddings([[0.0], [1.0], [2.0]], ["a", "a", "b"], **arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize("num_ranks", [2, 3])
def test_processes_that_share_queries_find_what_one_finds(together, num_ranks: int) -> None:
    rng = np.random.default_rng(0)
    x_ND = rng.normal(size=(1400, 6)).astype(np.float32)
    labels, groups = np.arange(1400) % 300, np.arange(1400) % 70
    given = {"groups_N": groups, "verification": False, "roles_N": np.where(np.arange(1400) < 300, "catalog", "sample")}
    alone = evaluate_embeddings(x_ND, labels, **given)
    for found in together(num_ranks, lambda peers: evaluate_embeddings(x_ND, labels, **given, peers=peers)):
        assert found.as_record() == alone.as_record()
        assert np.array_equal(found.retrieval.first_match_rank, alone.retrieval.first_match_rank)
        assert np.array_equal(found.retrieval.nearest_wrong, alone.retrieval.nearest_wrong)


def test_a_process_ranks_its_own_queries_only(together, monkeypatch: pytest.MonkeyPatch) -> None:
    from mohs.evaluation import ranks

    ranked: list[int] = []
    usual = ranks._rank_block

    def noted(gallery, query_R, *rest):
        ranked.extend(query_R.tolist())
        usual(gallery, query_R, *rest)

    monkeypatch.setattr(ranks, "_rank_block", noted)
    x_ND = np.random.default_rng(0).normal(size=(1400, 3)).astype(np.float32)
    together(3, lambda peers: evaluate_all_against_all(x_ND, np.arange(1400) // 2, peers=peers))
    assert sorted(ranked) == list(range(1400))
