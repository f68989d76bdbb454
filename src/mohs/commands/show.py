"""From a run and its evaluation to the page that shows them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mohs.commands.searches import of_100, search_sentences
from mohs.commands.show_pairs import pairs_part
from mohs.commands.show_pictures import confusions, embedding_map, examples, find, mined_triplets
from mohs.doctor.evidence import RunEvidence
from mohs.doctor.run_checks import diagnose_run
from mohs.evaluation.gallery_size import recall_by_gallery_size
from mohs.evaluation.intervals import Interval, class_difference_interval
from mohs.evaluation.summary import Measured, verified
from mohs.report.parts import Band, Report, Strategy, Verdict
from mohs.report.report import write_report
from mohs.runs import Evaluation, Run, SplitData, versions
from mohs.toml import flat_settings

__all__ = ["METRIC_HEADER", "metric_row", "write_run_report"]

METRIC_HEADER = (
    "R@1", "95% interval", "by class", "95% interval", "R@5", "R@10", "Top-50", "mAP", "catalog", "triplets", "spread",
)  # fmt: skip


def metric_row(measured: Measured) -> list[str]:
    """Return the numbers under `METRIC_HEADER`.

    "by class" is R@1 with each class counting the same, Top-50 is recall@50, catalog and triplets are accuracies.
    """
    recall, macro = measured.retrieval.recall, measured.retrieval.macro
    return [
        f"{recall[1]:.3f}",
        _interval(measured.retrieval.intervals.get("recall@1")),
        f"{macro.metrics['recall@1']:.3f}",
        _interval(macro.intervals.get("recall@1")),
        f"{recall[5]:.3f}",
        f"{recall[10]:.3f}",
        f"{recall[50]:.3f}",
        f"{measured.retrieval.mean_average_precision:.3f}",
        "-" if measured.catalog is None else f"{measured.catalog.recall[1]:.3f}",
        "-" if measured.triplets is None else f"{measured.triplets.accuracy:.3f}",
        f"{measured.spread.std_sqrt_dim:.2f}",
    ]


def _interval(interval: Interval | None) -> str:
    return "-" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def write_run_report(
    path: Path,
    *,
    title: str,
    command: str,
    run: Run,
    evaluation: Evaluation,
    data: SplitData,
    runs: Mapping[str, Run],
    evaluations: Mapping[str, Evaluation],
    rows: Sequence[tuple[str, Measured]],
    summary: Sequence[tuple[str, str]],
    highlight: int,
    verdicts: Sequence[Verdict] = (),
) -> None:
    """Write the page: `run` is the one that is shown in detail, `runs` are those whose curves are drawn, by name.

    `evaluation` is that of `run`, with its baselines, and `data` are its pictures; the doctor looks at it, too.
    `evaluations` are those of the `runs`; `verdicts` come before those on `run`.
    """
    protocol = evaluation.measured["trained"].told_protocol
    found = find(evaluation)
    test_N = evaluation.test_N
    pairs = evaluation.measured["trained"].verification
    if pairs is None:
        pairs = verified(evaluation.embeddings_ND, evaluation.dataset.labels, test_N, seed=run.config.seed)
    best, worst = examples(evaluation, found)
    training_set = data.dataset.take(np.flatnonzero(data.train_N))
    report = Report(
        title=title,
        summary=summary,
        verdicts=[*verdicts, *_verdicts(evaluation, run.events())],
        table_header=["", *METRIC_HEADER],
        table_rows=[[name, *metric_row(measured)] for name, measured in rows],
        table_caption=(
            f"Results on {protocol}: share of queries with a picture of their class among the 1, 5, 10, 50 nearest. "
            "R@1 stands there twice, each time with its 95% interval: over queries, and by class, where a class counts "
            "the same however many pictures it has. Then mean average precision; accuracy of the nearest catalog "
            "picture and of random triplets; spread of the embeddings (0 collapsed, 1 even)."
        ),
        highlight=highlight,
        highlight_mark="shown below",
        strategies=[Strategy(name, each.events()) for name, each in runs.items()],
        examples_best=best,
        examples_worst=worst,
        diagnosis=diagnose_run(RunEvidence.open(run.folder, data=data)),
        diagnosed=next((name for name, each in runs.items() if each.folder == run.folder), run.folder.name),
        settings=flat_settings(run.config.model_dump(mode="json")),
        gallery=[_gallery_band(name, each) for name, each in evaluations.items()],
        pairs=None if pairs is None else pairs_part(run.folder.name, pairs),
        confusions=confusions(evaluation, found),
        embedding_map=embedding_map(evaluation, seed=run.config.seed),
        mined=[triplet for name, each in runs.items() for triplet in mined_triplets(name, each, training_set)],
        command=command,
        versions=versions(),
    )
    write_report(path, report)


def _gallery_band(name: str, evaluation: Evaluation) -> Band:
    """Return recall@1 of galleries of fewer classes, with its intervals."""
    labels = evaluation.dataset.labels
    queries, gallery = evaluation.query_and_gallery()
    sizes = recall_by_gallery_size(evaluation.measured["trained"].retrieval, labels[queries], labels[gallery])
    low, high = np.array(sizes.intervals).T if sizes.intervals else (None, None)
    return Band(name, np.array(sizes.num_classes, dtype=np.float64), np.array(sizes.recall_at_1), low, high)


def _verdicts(evaluation: Evaluation, events: Sequence[Mapping[str, Any]]) -> list[Verdict]:
    """Return what the numbers say at first sight; the reasons are for the reader of the curves."""
    trained = evaluation.measured["trained"]
    verdicts = [Verdict("result", " ".join(search_sentences(trained))), *_beside_baselines(evaluation)]
    if trained.spread.std_sqrt_dim < 0.1:
        verdicts.append(
            Verdict("bad", f"The embeddings have collapsed: spread {trained.spread.std_sqrt_dim:.3f}, near 0.")
        )
    steps = [event for event in events if event["event"] == "step"]
    if steps and (active := float(np.mean([event["active_fraction"] for event in steps[-20:]]))) < 0.02:
        verdicts.append(
            Verdict("note", f"At the end {active:.1%} of the anchors still taught anything: raise the hardness.")
        )
    verdicts += [Verdict("note", note) for note in trained.notes]
    return verdicts


def _beside_baselines(evaluation: Evaluation) -> list[Verdict]:
    """Return how the same searches do without training, and by pixels: paired differences over classes."""
    ours = evaluation.measured["trained"].retrieval
    queries, _ = evaluation.query_and_gallery()
    labels_Q = evaluation.dataset.labels[queries][ours.counted]
    verdicts, beaten = [], []
    for name, label in (("untrained", "the untrained network"), ("pixels", "comparing pixels")):
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
            verdicts.append(Verdict("note", _sentence(text)))
        else:
            degree = "more" if high < 0 else "as many"
            verdicts.append(Verdict("bad", _sentence(f"{label} finds {degree}: {count} first ({interval}).")))
    if beaten:
        verdicts.insert(0, Verdict("result", _sentence(f"{', '.join(beaten)} first.")))
    return verdicts


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
