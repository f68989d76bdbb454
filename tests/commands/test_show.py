from types import SimpleNamespace

import numpy as np
import pytest

from mohs.commands.show import METRIC_HEADER, _verdicts, metric_row
from mohs.commands.show_pictures import _one_per_class
from mohs.evaluation.summary import measure


def test_examples_are_of_different_classes_best_first():
    labels = np.array(["a", "a", "b", "b", "c"])
    assert _one_per_class(np.array([3, 1, 2, 4, 0]), labels).tolist() == [3, 1, 4]
    assert _one_per_class(np.array([], dtype=int), labels).tolist() == []
    assert len(_one_per_class(np.arange(20), np.arange(20).astype(str))) == 6


def made_up(recall, low, high):
    intervals = {"recall@1": (low, high)}
    retrieval = SimpleNamespace(recall={1: recall}, intervals=intervals, num_queries_without_match=0, num_queries=9)
    return SimpleNamespace(retrieval=retrieval, spread=SimpleNamespace(std_sqrt_dim=0.9), notes=())


@pytest.mark.parametrize(
    ("other", "level", "text"),
    [
        (0.30, "good", "R@1 is 0.500; the untrained network gives 0.300."),
        (0.45, "note", "R@1 is 0.500, above the untrained network (0.450) by less than its interval."),
        (0.55, "bad", "R@1 is 0.500; the untrained network is as good (0.550)."),
        (0.70, "bad", "R@1 is 0.500; the untrained network is better (0.700)."),
    ],
)
def test_a_verdict_says_whether_training_helped(other, level, text):
    measured = {
        "trained": made_up(0.5, 0.4, 0.6),
        "untrained": made_up(other, other - 0.1, other + 0.1),
        "pixels": made_up(0.1, 0.0, 0.2),
    }
    verdicts = _verdicts(SimpleNamespace(measured=measured), [])
    assert (verdicts[0].level, verdicts[0].text) == (level, text)


def test_a_row_of_numbers_fits_its_header():
    x = np.eye(4, dtype=np.float32)[[0, 0, 1, 1, 2, 2]]
    measured = measure(x, list("aabbcc"), ["sample"] * 6)
    row = dict(zip(METRIC_HEADER, metric_row(measured), strict=True))
    assert (row["R@1"], row["95% interval"], row["mAP"], row["catalog"]) == ("1.000", "0.110 to 1.000", "1.000", "-")
    assert row["triplets"] == "1.000"
