"""What `mohs classify` shows: the fit, predictions, measurements."""

import csv
import io
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape

from mohs.classify.measure import Measurement
from mohs.cli.console import print_table, say

__all__ = ["print_predictions", "tell_fit", "tell_measurement"]

_NUM_WORST = 10


def tell_fit(record: Mapping[str, Any]) -> None:
    """Say on stderr what was fitted."""
    calibration = record["calibration"]
    say(
        f"{record['method']} on {record['num_pictures']:,} pictures of {record['num_classes']:,} classes: "
        f"read {record['read_s']:.1f} s, embed {record['embed_s']:.1f} s, fit {record['fit_s']:.1f} s"
    )
    if calibration["source"] != "none":
        say(
            f"calibrated by {calibration['source']} on {calibration['num_pictures']:,} pictures: "
            f"temperature {calibration['temperature']:.3g}"
        )
    threshold = record["threshold"]
    if threshold is not None:
        shares = {"coverage": "coverage", "precision": "precision", "false_acceptance": "false acceptance"}
        known = [f"{name} {threshold[key]:.3f}" for key, name in shares.items() if threshold[key] is not None]
        say(
            f"'none of these' below {threshold['value']:.4g}: {', '.join(known)} "
            f"(on {threshold['num_known']:,} pictures of known and {threshold['num_unseen']:,} of unseen classes)"
        )
    say(f"classifier: {record['classifier']}")


def _interval(interval: tuple[float, float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def tell_measurement(found: Measurement, method: str) -> None:
    """Print the accuracy, the reliability and the worst classes."""
    header = ["", "accuracy", "95% interval", "by class", "95% interval", "top-5", "NLL", "ECE"]
    row = [
        method,
        f"{found.accuracy:.3f}",
        _interval(found.interval),
        f"{found.accuracy_by_class:.3f}",
        _interval(found.interval_by_class),
        f"{found.top5_accuracy:.3f}",
        f"{found.negative_log_likelihood:.3f}",
        f"{found.expected_calibration_error:.3f}",
    ]
    if found.at_threshold is not None:
        header += ["threshold", "coverage", "accuracy of accepted", "accepted of unknown"]
        at = found.at_threshold
        row += [f"{at.threshold:.4g}", f"{at.coverage:.3f}", _share(at.accuracy), _share(at.false_acceptance)]
    print_table(f"{found.num_pictures:,} pictures, {found.num_classes:,} classes", header, [row])
    print_table(
        "reliability",
        ["largest probability", "pictures", "mean probability", "accuracy", "95% interval"],
        [
            [
                f"{each.low:.2f} to {each.high:.2f}",
                f"{each.num_cases:,}",
                _share(each.mean_probability),
                _share(each.frequency),
                _interval(each.interval),
            ]
            for each in found.reliability
            if each.num_cases
        ],
    )
    worst = sorted(found.per_class, key=lambda each: (each.accuracy, each.mean_probability))[:_NUM_WORST]
    print_table(
        f"the {len(worst)} worst of {len(found.per_class):,} classes (--json has all)",
        ["class", "pictures", "accuracy", "mean probability"],
        [
            [escape(str(each.label)), f"{each.num_pictures:,}", f"{each.accuracy:.3f}", f"{each.mean_probability:.3f}"]
            for each in worst
        ],
    )


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def print_predictions(found: Sequence[Mapping[str, Any]]) -> None:
    """Print predictions as CSV, one row for each class of a picture's list."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "predicted", "confidence", "rank", "class", "probability"])
    for picture in found:
        for rank, each in enumerate(picture["top"], start=1):
            first = [picture["file"], picture["predicted"], f"{picture['confidence']:.6g}"]
            writer.writerow([*first, rank, each["class"], f"{each['probability']:.6g}"])
    # UTF-8 whatever the terminal: a table of files and classes must not depend on it.
    sys.stdout.flush()
    sys.stdout.buffer.write(text.getvalue().encode())
    sys.stdout.buffer.flush()
