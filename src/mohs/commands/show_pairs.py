"""Verification as a report shows it: facts, thresholds, curves."""

import numpy as np

from mohs.evaluation.operating_points import Interval, OperatingPoint
from mohs.evaluation.verification import VerificationResult
from mohs.report.parts import Band, Pairs, Reliability, Table

__all__ = ["pairs_part"]


def pairs_part(name: str, found: VerificationResult) -> Pairs:
    """Return the part of a report on pairs; `name` is that of the run, for its curves."""
    curves, intervals = found.curves, found.intervals
    precision_recall = Band(name, curves.recall, curves.precision)
    roc = Band(name, curves.fpr, curves.tpr)
    if intervals is not None:
        bands = intervals.bands
        precision_recall = Band(
            name,
            bands.recall,
            # As the band: the precision at the strictest threshold of at least that recall.
            curves.precision[np.minimum(np.searchsorted(curves.recall, bands.recall - 1e-12), len(curves.recall) - 1)],
            bands.precision_low,
            bands.precision_high,
        )
        last = np.searchsorted(curves.fpr, bands.fpr + 1e-12, side="right") - 1
        roc = Band(name, bands.fpr, curves.tpr[np.maximum(last, 0)], bands.tpr_low, bands.tpr_high)
    return Pairs(
        note=(
            "Two pictures are said to be of one class if their distance is at most a threshold. Measured on "
            f"{found.law}. Of the pairs that these stand for, {curves.prevalence:.2%} are of one class; precision is "
            "for that share."
        ),
        facts=_facts(found),
        thresholds=_thresholds(found),
        precision_recall=[precision_recall],
        roc=[roc],
        edges=found.histogram.edges,
        same_E=found.histogram.positive,
        different_E=found.histogram.negative,
        reliability=_reliability(found),
    )


def _facts(found: VerificationResult) -> Table:
    curves, intervals = found.curves, found.intervals
    chance = f"{curves.prevalence:.4f}"
    rows = [
        [
            "average precision",
            f"{curves.average_precision:.3f}",
            _interval(intervals and intervals.average_precision),
            chance,
        ],
        ["area under the ROC curve", f"{curves.auc:.4f}", _interval(intervals and intervals.auc, 4), "0.5"],
        [
            "equal error rate",
            f"{curves.equal_error_rate:.4f}",
            _interval(intervals and intervals.equal_error_rate, 4),
            "0.5",
        ],
    ]
    by_level = {point.level: point for point in _points(found, "false positive rate")}
    for at in curves.tpr_at_fpr:
        name = f"true positive rate at a false positive rate of {at.fpr:g}"
        if at.tpr is None:
            rows.append([name, "–", "– (too few pairs to tell)", f"{at.fpr:g}"])
            continue
        point = by_level.get(at.fpr)
        rows.append([name, f"{at.tpr:.3f}", _interval(point and point.tpr_interval), f"{at.fpr:g}"])
    if found.best is not None:
        best = found.best
        spread = _interval(best.interval, 4)
        rows.append(["best accuracy, by 10 folds of classes", f"{best.accuracy:.4f}", spread, f"{best.prevalence:g}"])
    for name, calibration in found.calibration.items():
        rows.append([f"calibration error, {name}", f"{calibration.expected_calibration_error:.4f}", "–", "–"])
    rows += [[name.replace("_", " "), "–", f"– ({reason})", "–"] for name, reason in found.not_measured.items()]
    return Table(["measure", "value", "95% interval", "chance"], rows, "Measures on pairs")


def _thresholds(found: VerificationResult) -> Table:
    header = ["wanted", "fitted: distance at most", "95% interval", "true positive rate", "false positive rate",
              "precision", "on other classes", "safe: distance at most", "true positive rate"]  # fmt: skip
    rows = []
    for point in (*_points(found, "precision"), *_points(found, "false positive rate")):
        sign = "≥" if point.wanted == "precision" else "≤"
        name = f"{point.wanted} {sign} {point.level:g}"
        if point.threshold is None:
            rows.append([name, "–", f"– ({point.reason})", *["–"] * 6])
            continue
        rows.append(
            [
                name,
                f"{point.threshold:.4f}",
                _interval(point.threshold_interval, 4),
                f"{point.tpr:.3f}",
                f"{point.fpr:.2g}",
                f"{point.precision:.3f}",
                _interval(point.reached_interval, 3 if point.wanted == "precision" else 6),
                "– (too few pairs)" if point.safe_threshold is None else f"{point.safe_threshold:.4f}",
                "–" if point.safe_tpr is None else f"{point.safe_tpr:.3f}",
            ]
        )
    curves = found.curves
    rate = f"{curves.equal_error_rate:.4f}"
    rows.append(["both errors equal", f"{curves.equal_error_threshold:.4f}", "–", "–", rate, *["–"] * 4])
    if found.best is not None:
        rows.append(["best accuracy", f"{found.best.threshold:.4f}", *["–"] * 7])
    caption = (
        "Fitted: the loosest threshold that keeps what is wanted on these pairs, and, 'on other classes', what it "
        "reaches on classes it was not chosen on (95%). Safe: the loosest one that keeps it there, too; use this one"
    )
    return Table(header, rows, caption)


def _points(found: VerificationResult, wanted: str) -> list[OperatingPoint]:
    if found.intervals is None:
        return []
    return [point for point in found.intervals.operating_points if point.wanted == wanted]


def _reliability(found: VerificationResult) -> Reliability | None:
    calibration = found.calibration.get("isotonic") or found.calibration.get("Platt")
    if calibration is None:
        return None
    bins = [each for each in calibration.reliability if each.interval is not None]
    return Reliability(
        predicted=np.array([each.mean_probability for each in bins], dtype=np.float64),
        observed=np.array([each.frequency for each in bins], dtype=np.float64),
        low=np.array([each.interval[0] for each in bins if each.interval], dtype=np.float64),
        high=np.array([each.interval[1] for each in bins if each.interval], dtype=np.float64),
        num_pairs=np.array([each.num_cases for each in bins], dtype=np.int64),
    )


def _interval(interval: Interval, digits: int = 3) -> str:
    return "–" if not interval else f"{interval[0]:.{digits}f} to {interval[1]:.{digits}f}"
