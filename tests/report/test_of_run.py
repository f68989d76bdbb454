from types import SimpleNamespace

import numpy as np
import pytest

from mohs.evaluation.summary import SearchSet, measure
from mohs.report.of_run import _verdicts
from mohs.report.of_run_pictures import _one_per_class
from mohs.report.words import METRIC_HEADER, metric_row


def test_examples_are_of_different_classes_best_first():
    labels = np.array(["a", "a", "b", "b", "c"])
    assert _one_per_class(np.array([3, 1, 2, 4, 0]), labels).tolist() == [3, 1, 4]
    assert _one_per_class(np.array([], dtype=int), labels).tolist() == []
    assert len(_one_per_class(np.arange(20), np.arange(20).astype(str))) == 6


LABELS = np.arange(100).repeat(2)


def made_up(num_hits, **more):
    """A measurement of 200 queries of 100 classes, of which the first `num_hits` find their class first."""
    hit_Q = np.arange(200) < num_hits
    share = num_hits / 200
    macro = SimpleNamespace(metrics={"recall@1": share}, num_classes=100)
    retrieval = SimpleNamespace(
        recall={1: share, 5: 0.9},
        intervals={"recall@1": (share - 0.1, share + 0.1)},
        macro=macro,
        num_counted=200,
        hit_at_1=hit_Q,
        counted=np.ones(200, dtype=bool),
    )
    measured = {"retrieval": retrieval, "catalog": None, "spread": SimpleNamespace(std_sqrt_dim=0.9), "notes": ()}
    return SimpleNamespace(**(measured | more))


def verdicts_of(**measured):
    queries = np.arange(200)
    evaluation = SimpleNamespace(
        measured=measured, dataset=SimpleNamespace(labels=LABELS), query_and_gallery=lambda: (queries, queries)
    )
    return [(verdict.level, verdict.text) for verdict in _verdicts(evaluation, [])]


def test_the_verdict_is_a_sentence_for_a_shop_and_never_good():
    found = verdicts_of(trained=made_up(74), untrained=made_up(20), pixels=made_up(30))
    assert found == [
        (
            "result",
            "Of 100 searches, 37 find a picture of the right class first, and 90 among the first five. "
            "For other classes like these 100, expect 27 to 47 of 100 first (95% interval).",
        ),
        ("result", "The untrained network finds 10 of 100, comparing pixels finds 15 of 100 first."),
    ]


@pytest.mark.parametrize(
    ("num_hits", "level", "text"),
    [
        (98, "note", "The untrained network finds 49 of 100 first, fewer by less than chance would explain (95% "),
        (100, "bad", "The untrained network finds as many: 50 of 100 first (95% interval of the difference -0."),
        (102, "bad", "The untrained network finds as many: 51 of 100 first (95% interval of the difference -0."),
        (140, "bad", "The untrained network finds more: 70 of 100 first (95% interval of the difference -0."),
    ],
)
def test_a_verdict_says_whether_training_helped(num_hits, level, text):
    result, beaten, verdict = verdicts_of(trained=made_up(100), untrained=made_up(num_hits), pixels=made_up(20))
    assert (result[0], beaten[0]) == ("result", "result")
    assert beaten[1] == "Comparing pixels finds 10 of 100 first."
    assert verdict[0] == level
    assert verdict[1].startswith(text)


def test_large_classes_that_carry_the_mean_are_told():
    trained = made_up(158)
    trained.retrieval.macro = SimpleNamespace(metrics={"recall@1": 0.148}, num_classes=72)
    text = verdicts_of(trained=trained, untrained=made_up(20), pixels=made_up(20))[0][1]
    assert "Counted by class it is 15 of 100 first: classes with many pictures are found more often." in text


def test_a_row_of_numbers_fits_its_header():
    x = np.eye(4, dtype=np.float32)[[0, 0, 1, 1, 2, 2]]
    measured = measure(x, SearchSet(list("aabbcc"), ["sample"] * 6))
    cells = metric_row(measured)
    assert METRIC_HEADER[:4] == ("R@1", "95% interval", "by class", "95% interval")
    assert cells[:4] == ["1.000", "0.110 to 1.000", "1.000", "0.110 to 1.000"]
    row = dict(zip(METRIC_HEADER, cells, strict=True))
    assert (row["R@1"], row["95% interval"], row["mAP"], row["catalog"]) == ("1.000", "0.110 to 1.000", "1.000", "-")
    assert row["triplets"] == "1.000"
