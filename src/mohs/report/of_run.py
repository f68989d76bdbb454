"""The page of a run, or of several beside each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from mohs.doctor.findings import Diagnosis
from mohs.doctor.run.checks import diagnose_run
from mohs.doctor.run.evidence import RunEvidence
from mohs.errors import at_most_20
from mohs.evaluation.gallery_size import recall_by_gallery_size
from mohs.evaluation.intervals import Interval, class_difference_interval
from mohs.evaluation.operating_points import OperatingPoint
from mohs.evaluation.pair_calibration import ReliabilityBin
from mohs.evaluation.summary import EmbeddingReport, verified
from mohs.evaluation.verification import VerificationResult
from mohs.report.of_run_pictures import confusions, embedding_map, examples, find, mined_triplets
from mohs.report.page import write_report
from mohs.report.parts import Band, DrawnRun, Judgement, Pairs, Report, TextTable
from mohs.report.words import METRIC_HEADER, metric_row, of_100, search_sentences
from mohs.runs import BASELINES, Evaluation, Run, versions
from mohs.settings.toml import flat_settings
from mohs.training.run_inputs import SplitData

__all__ = ["Head", "pairs_part", "write_run_report"]

# By class with its interval, R@10, triplets and spread: what a second look asks for.
_ASIDE = (3, 4, 6, 10, 11)


@final
@dataclass(frozen=True)
class Head:
    """What stands at the top of the page: its title, the command that makes it, and facts with their names."""

    title: str
    command: str
    summary: Sequence[tuple[str, str]]


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
        histogram=found.histogram,
        reliability=_reliability(found),
    )


def _facts(found: VerificationResult) -> TextTable:
    curves, intervals = found.curves, found.intervals
    chance = f"{curves.prevalence:.4f}"
    rows = [
        [
            "average precision",
            f"{curves.average_precision:.3f}",
            _pair_interval(intervals and intervals.average_precision),
            chance,
        ],
        ["area under the ROC curve", f"{curves.auc:.4f}", _pair_interval(intervals and intervals.auc, 4), "0.5"],
        [
            "equal error rate",
            f"{curves.equal_error_rate:.4f}",
            _pair_interval(intervals and intervals.equal_error_rate, 4),
            "0.5",
        ],
    ]
    unknown: list[tuple[str, str]] = []
    by_level = {point.level: point for point in _points(found, "false positive rate")}
    for at in curves.tpr_at_fpr:
        name = f"true positive rate at a false positive rate of {at.fpr:g}"
        if at.tpr is None:
            rows.append([name, "–", "–", f"{at.fpr:g}"])
            unknown.append((name, "too few pairs to tell"))
            continue
        point = by_level.get(at.fpr)
        rows.append([name, f"{at.tpr:.3f}", _pair_interval(point and point.tpr_interval), f"{at.fpr:g}"])
    if found.best is not None:
        best = found.best
        spread = _pair_interval(best.interval, 4)
        rows.append(["best accuracy, by 10 folds of classes", f"{best.accuracy:.4f}", spread, f"{best.prevalence:g}"])
    for name, calibration in found.calibration.items():
        rows.append([f"calibration error, {name}", f"{calibration.expected_calibration_error:.4f}", "–", "–"])
    notes = _reasons(unknown + [(name.replace("_", " "), reason) for name, reason in found.not_measured.items()])
    return TextTable(["measure", "value", "95% interval", "chance"], rows, "Measures on pairs", notes=notes)


def _reasons(unknown: Sequence[tuple[str, str]]) -> list[str]:
    """Return a sentence for each reason: what was not measured for it."""
    names: dict[str, list[str]] = {}
    for name, reason in unknown:
        names.setdefault(reason, []).append(name)
    return [f"No value for {', '.join(own)}: {reason}." for reason, own in names.items()]


def _thresholds(found: VerificationResult) -> TextTable:
    header = ["wanted", "fitted: distance at most", "95% interval", "true positive rate", "false positive rate",
              "precision", "on other classes", "safe: distance at most", "true positive rate"]  # fmt: skip
    rows = []
    unknown: list[tuple[str, str]] = []
    for point in (*_points(found, "precision"), *_points(found, "false positive rate")):
        sign = "≥" if point.wanted == "precision" else "≤"
        name = f"{point.wanted} {sign} {point.level:g}"
        if point.threshold is None:
            rows.append([name, *["–"] * 8])
            unknown.append((name, point.reason or "not measured"))
            continue
        rows.append(
            [
                name,
                f"{point.threshold:.4f}",
                _pair_interval(point.threshold_interval, 4),
                f"{point.tpr:.3f}",
                f"{point.fpr:.2g}",
                f"{point.precision:.3f}",
                _pair_interval(point.reached_interval, 3 if point.wanted == "precision" else 6),
                "–" if point.safe_threshold is None else f"{point.safe_threshold:.4f}",
                "–" if point.safe_tpr is None else f"{point.safe_tpr:.3f}",
            ]
        )
        if point.safe_threshold is None:
            unknown.append((f"a safe threshold for {name}", "too few pairs"))
    curves = found.curves
    rate = f"{curves.equal_error_rate:.4f}"
    rows.append(["both errors equal", f"{curves.equal_error_threshold:.4f}", "–", "–", rate, *["–"] * 4])
    if found.best is not None:
        rows.append(["best accuracy", f"{found.best.threshold:.4f}", *["–"] * 7])
    caption = (
        "Fitted: the loosest threshold that keeps what is wanted on these pairs, and, 'on other classes', what it "
        "reaches on classes it was not chosen on (95%). Safe: the loosest one that keeps it there, too; use this one"
    )
    return TextTable(header, rows, caption, aside=(2, 6), notes=_reasons(unknown))


def _points(found: VerificationResult, wanted: str) -> list[OperatingPoint]:
    if found.intervals is None:
        return []
    return [point for point in found.intervals.operating_points if point.wanted == wanted]


def _reliability(found: VerificationResult) -> list[ReliabilityBin]:
    calibration = found.calibration.get("isotonic") or found.calibration.get("Platt")
    return [] if calibration is None else [each for each in calibration.reliability if each.num_cases]


def _pair_interval(interval: Interval | None, digits: int = 3) -> str:
    return "–" if not interval else f"{interval[0]:.{digits}f} to {interval[1]:.{digits}f}"


def write_run_report(
    path: Path,
    head: Head,
    *,
    shown: str,
    runs: Mapping[str, tuple[Run, Evaluation]],
    data: SplitData,
    rows: Mapping[str, EmbeddingReport],
    highlight: str,
    verdicts: Sequence[Judgement] = (),
) -> Diagnosis:
    """Write the page, and return what the doctor found.

    The run named `shown` is shown in detail, and the curves of all `runs` are drawn.

    The evaluation of `shown` has its baselines, and `data` are its pictures; the doctor looks at it, too. `rows` are
    those of the table of results, `highlight` the one to mark; `verdicts` come after those on the run.
    """
    run, evaluation = runs[shown]
    protocol = evaluation.measured["trained"].told_protocol
    found = find(evaluation)
    test_N = evaluation.test_N
    diagnosis = diagnose_run(RunEvidence.open(run.folder, data=data))
    pairs = evaluation.measured["trained"].verification
    if pairs is None:
        pairs = verified(evaluation.embeddings_ND, evaluation.dataset.labels, test_N, seed=run.config.seed)
    best, worst = examples(evaluation, found)
    training_set = data.dataset.take(np.flatnonzero(data.train_N))
    report = Report(
        title=head.title,
        summary=[*head.summary, ("pictures read", str(data.reading).removeprefix("pictures: "))],
        verdicts=[*_verdicts(evaluation, run.events()), *verdicts, *_set_aside(data)],
        results=TextTable(
            ["", *METRIC_HEADER],
            [[name, *metric_row(measured)] for name, measured in rows.items()],
            f"Results on {protocol}: share of queries with a picture of their class among the 1, 5, 10, 50 nearest. "
            "R@1 has its 95% interval over queries and, among the other columns, by class, where each class counts "
            "the same. mAP is mean average precision; catalog and triplets are accuracies of the nearest catalog "
            "picture and of random triplets. Spread is that of the embeddings: 0 collapsed, 1 even.",
            _ASIDE,
        ),
        highlight=list(rows).index(highlight),
        highlight_mark="shown below",
        strategies=[DrawnRun(name, each.events()) for name, (each, _) in runs.items()],
        examples_best=best,
        examples_worst=worst,
        diagnosis=diagnosis,
        diagnosed=shown,
        settings=flat_settings(run.config.model_dump(mode="json")),
        gallery=[_gallery_band(name, each) for name, (_, each) in runs.items()],
        pairs=None if pairs is None else pairs_part(run.folder.name, pairs),
        confusions=confusions(evaluation, found),
        embedding_map=embedding_map(evaluation, seed=run.config.seed),
        mined=[triplet for name, (each, _) in runs.items() for triplet in mined_triplets(name, each, training_set)],
        command=head.command,
        versions=versions(),
    )
    write_report(path, report)
    return diagnosis


def _gallery_band(name: str, evaluation: Evaluation) -> Band:
    """Return recall@1 of galleries of fewer classes, with its intervals."""
    labels = evaluation.dataset.labels
    queries, gallery = evaluation.query_and_gallery()
    sizes = recall_by_gallery_size(evaluation.measured["trained"].retrieval, labels[queries], labels[gallery])
    low, high = np.array(sizes.intervals).T if sizes.intervals else (None, None)
    return Band(name, np.array(sizes.num_classes, dtype=np.float64), np.array(sizes.recall_at_1), low, high)


def _set_aside(data: SplitData) -> list[Judgement]:
    """Return a note on each picture that was set aside, up to 20."""
    return [Judgement("note", f"Set aside: {line}") for line in at_most_20(data.dataset.left_out)]


def _verdicts(evaluation: Evaluation, events: Sequence[Mapping[str, Any]]) -> list[Judgement]:
    """Return what the numbers say at first sight; the reasons are for the reader of the curves."""
    trained = evaluation.measured["trained"]
    verdicts = [Judgement("result", " ".join(search_sentences(trained))), *_beside_baselines(evaluation)]
    if trained.spread.std_sqrt_dim < 0.1:
        verdicts.append(
            Judgement("bad", f"The embeddings have collapsed: spread {trained.spread.std_sqrt_dim:.3f}, near 0.")
        )
    steps = [event for event in events if event["event"] == "step"]
    if steps and (active := float(np.mean([event["active_fraction"] for event in steps[-20:]]))) < 0.02:
        verdicts.append(
            Judgement("note", f"At the end {active:.1%} of the anchors still taught anything: raise the hardness.")
        )
    verdicts += [Judgement("note", note) for note in trained.notes]
    return verdicts


def _beside_baselines(evaluation: Evaluation) -> list[Judgement]:
    """Return how the same searches do without training, and by pixels: paired differences over classes."""
    ours = evaluation.measured["trained"].retrieval
    queries, _ = evaluation.query_and_gallery()
    labels_Q = evaluation.dataset.labels[queries][ours.counted]
    verdicts, beaten = [], []
    for name, label in BASELINES.items():
        if name not in evaluation.measured:
            continue
        theirs = evaluation.measured[name].retrieval
        gain_Q = ours.hit_at_1[ours.counted].astype(np.float64) - theirs.hit_at_1[ours.counted]
        low, high = (-1.0, 1.0)
        if ours.macro.num_classes > 1:
            low, high = class_difference_interval(gain_Q, labels_Q)
        count, interval = of_100(theirs.recall[1]), f"95% interval of the difference {low:+.3f} to {high:+.3f}"
        if low > 0:
            beaten.append(f"{label} finds {count}")
        elif gain_Q.mean() > 0:
            text = f"{label} finds {count} first, fewer by less than chance would explain ({interval})."
            verdicts.append(Judgement("note", _sentence(text)))
        else:
            degree = "more" if high < 0 else "as many"
            verdicts.append(Judgement("bad", _sentence(f"{label} finds {degree}: {count} first ({interval}).")))
    if beaten:
        verdicts.insert(0, Judgement("result", _sentence(f"{', '.join(beaten)} first.")))
    return verdicts


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
