import numpy as np
import pytest

from mohs.evaluation.verification import evaluate_pairs
from mohs.report.of_run import pairs_part


@pytest.fixture(scope="module")
def found():
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(40), 4)
    x = random.normal(size=(40, 16))[labels] + 0.6 * random.normal(size=(160, 16))
    return evaluate_pairs(x / np.linalg.norm(x, axis=1, keepdims=True), labels, num_resamples=40, seed=0)


def test_the_tables_tell_what_was_measured(found):
    part = pairs_part("run", found)
    assert f"Measured on {found.law}. Of the pairs" in part.note
    facts = {row[0]: row[1:] for row in part.facts.rows}
    low, high = found.intervals.auc
    assert facts["area under the ROC curve"] == [f"{found.curves.auc:.4f}", f"{low:.4f} to {high:.4f}", "0.5"]
    at = {point.fpr: point for point in found.curves.tpr_at_fpr}
    assert facts["true positive rate at a false positive rate of 0.01"][0] == f"{at[0.01].tpr:.3f}"
    # 12,480 negative pairs are too few for one in a million.
    assert facts["true positive rate at a false positive rate of 1e-06"] == ["–", "–", "1e-06"]
    assert any("of 1e-06: too few pairs to tell." in note for note in part.facts.notes)
    thresholds = {row[0]: row[1:] for row in part.thresholds.rows}
    wanted = next(p for p in found.intervals.operating_points if p.wanted == "precision" and p.level == 0.9)
    assert thresholds["precision ≥ 0.9"][0] == f"{wanted.threshold:.4f}"
    low, high = wanted.reached_interval
    assert thresholds["precision ≥ 0.9"][5:] == [
        f"{low:.3f} to {high:.3f}",
        f"{wanted.safe_threshold:.4f}",
        f"{wanted.safe_tpr:.3f}",
    ]
    assert wanted.safe_threshold < wanted.threshold
    low, high = found.best.interval
    assert facts["best accuracy, by 10 folds of classes"][1] == f"{low:.4f} to {high:.4f}"
    assert all(len(row) == len(part.thresholds.header) for row in part.thresholds.rows)
    # No reason stands in a cell of numbers: it would make its column as wide as a sentence.
    assert all(len(cell) < 24 for table in (part.facts, part.thresholds) for row in table.rows for cell in row[1:])
    shown, more = part.thresholds.split()
    assert len(shown.header) == 7
    assert list(more.header) == ["wanted", "95% interval", "on other classes"]


def test_curves_lie_in_their_bands_and_histograms_add_up(found):
    part = pairs_part("run", found)
    for band in (*part.precision_recall, *part.roc):
        inside = np.isfinite(band.low) & np.isfinite(band.high)
        assert inside.sum() > 20
        # A percentile interval need not hold the whole sample's value everywhere, but nearly.
        assert ((band.low <= band.y + 1e-9) & (band.y <= band.high + 1e-9))[inside].mean() > 0.9
    positive, negative, edges = part.histogram.positive, part.histogram.negative, part.histogram.edges
    assert positive.sum() == pytest.approx(1)
    assert negative.sum() == pytest.approx(1)
    assert positive @ edges[1:] < negative @ edges[1:]  # pairs of one class are closer
    assert len(part.reliability) > 2
    assert all(each.interval[0] <= each.frequency <= each.interval[1] for each in part.reliability)


def test_what_was_not_measured_is_said(found):
    one_class = np.repeat(["a", "b"], [4, 1])
    bare = evaluate_pairs(np.eye(5), one_class, num_resamples=20)
    part = pairs_part("run", bare)
    assert any(note.startswith("No value for intervals") for note in part.facts.notes)
    assert not np.isnan(part.roc[0].y).any()
