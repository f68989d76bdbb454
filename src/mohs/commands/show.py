"""From a run and its evaluation to the page that shows them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mohs.data.dataset import Dataset
from mohs.evaluation.retrieval import nearest
from mohs.evaluation.summary import Measured
from mohs.plan import TripletPlan
from mohs.report.parts import Example, Hit, MinedTriplet, Report, Strategy, Verdict
from mohs.report.report import write_report
from mohs.runs import Evaluation, Run, versions

__all__ = ["METRIC_HEADER", "metric_row", "write_run_report"]

METRIC_HEADER = ("R@1", "95% interval", "R@5", "R@10", "Top-50", "mAP", "catalog", "triplets", "spread")
_NUM_EXAMPLES = 6
_NUM_RESULTS = 5
_NUM_MINED = 3
_PARTS_OF_SEGMENT = (0.1, 0.5, 0.9)


def metric_row(measured: Measured) -> list[str]:
    """Return the numbers under `METRIC_HEADER`; Top-50 is recall@50, catalog and triplets are accuracies."""
    recall = measured.retrieval.recall
    low, high = measured.retrieval.intervals.get("recall@1", (float("nan"), float("nan")))
    return [
        f"{recall[1]:.3f}",
        f"{low:.3f} to {high:.3f}",
        f"{recall[5]:.3f}",
        f"{recall[10]:.3f}",
        f"{recall[50]:.3f}",
        f"{measured.retrieval.mean_average_precision:.3f}",
        "-" if measured.catalog is None else f"{measured.catalog.recall[1]:.3f}",
        "-" if measured.triplets is None else f"{measured.triplets.accuracy:.3f}",
        f"{measured.spread.std_sqrt_dim:.2f}",
    ]


def write_run_report(
    path: Path,
    *,
    title: str,
    command: str,
    run: Run,
    evaluation: Evaluation,
    training_set: Dataset,
    runs: Mapping[str, Run],
    rows: Sequence[tuple[str, Measured]],
    summary: Sequence[tuple[str, str]],
    highlight: int,
) -> None:
    """Write the page: `run` is the one whose pictures are shown, `runs` are those whose curves are drawn, by name."""
    protocol = evaluation.measured["trained"].protocol
    best, worst = _examples(evaluation)
    report = Report(
        title=title,
        summary=summary,
        verdicts=_verdicts(evaluation, run.events()),
        table_header=["", *METRIC_HEADER],
        table_rows=[[name, *metric_row(measured)] for name, measured in rows],
        table_caption=(
            f"Results on {protocol}: share of queries with a picture of their class among the 1, 5, 10, 50 nearest, "
            "with a 95% class-bootstrap interval of R@1; mean average precision; accuracy of the nearest catalog "
            "picture and of random triplets; spread of the embeddings (0 collapsed, 1 even)."
        ),
        highlight=highlight,
        highlight_mark="shown below",
        strategies=[Strategy(name, each.events()) for name, each in runs.items()],
        examples_best=best,
        examples_worst=worst,
        mined=[triplet for name, each in runs.items() for triplet in _mined(name, each, training_set)],
        command=command,
        versions=versions(),
    )
    write_report(path, report)


def _verdicts(evaluation: Evaluation, events: Sequence[Mapping[str, Any]]) -> list[Verdict]:
    """Return what the numbers say at first sight; the reasons are for the reader of the curves."""
    trained = evaluation.measured["trained"]
    found = trained.retrieval.recall[1]
    verdicts = []
    for name in ("untrained", "pixels"):
        other = evaluation.measured[name].retrieval.recall[1]
        low, high = trained.retrieval.intervals.get("recall@1", (found, found))
        label = "the untrained network" if name == "untrained" else "comparing pixels"
        if low > other:
            verdicts.append(Verdict("good", f"R@1 is {found:.3f}; {label} gives {other:.3f}."))
        elif found > other:
            verdicts.append(
                Verdict("note", f"R@1 is {found:.3f}, above {label} ({other:.3f}) by less than its interval.")
            )
        else:
            degree = "better" if other > high else "as good"
            verdicts.append(Verdict("bad", f"R@1 is {found:.3f}; {label} is {degree} ({other:.3f})."))
    if trained.spread.std_sqrt_dim < 0.1:
        verdicts.append(
            Verdict("bad", f"The embeddings have collapsed: spread {trained.spread.std_sqrt_dim:.3f}, near 0.")
        )
    steps = [event for event in events if event["event"] == "step"]
    if steps and (active := float(np.mean([event["active_fraction"] for event in steps[-20:]]))) < 0.02:
        verdicts.append(
            Verdict("note", f"At the end {active:.1%} of the anchors still taught anything: raise the hardness.")
        )
    if trained.retrieval.num_queries_without_match:
        count, total = trained.retrieval.num_queries_without_match, trained.retrieval.num_queries
        verdicts.append(
            Verdict("note", f"{count} of {total} queries have no other picture of their class: not counted.")
        )
    return verdicts


def _examples(evaluation: Evaluation) -> tuple[list[Example], list[Example]]:
    """Return the surest hits and the worst misses: by the distance of the nearest, by the rank of the first match."""
    measured = evaluation.measured["trained"]
    dataset, x_ND = evaluation.dataset, evaluation.embeddings_ND
    if evaluation.test_N.all():
        queries = gallery = np.arange(len(dataset))
        self_indices = queries
    else:
        queries, gallery = np.flatnonzero(evaluation.test_N), np.flatnonzero(~evaluation.test_N)
        self_indices = None
    k = min(_NUM_RESULTS, len(gallery) - (self_indices is not None))
    found_Qk, distance_Qk = nearest(x_ND[queries], x_ND[gallery], k, self_indices_Q=self_indices)
    result = measured.retrieval
    counted = np.flatnonzero(result.counted)
    hits = counted[result.hit_at_1[counted]]
    misses = counted[~result.hit_at_1[counted]]
    labels_Q = dataset.labels[queries]
    best = _one_per_class(hits[np.argsort(distance_Qk[hits, 0], kind="stable")], labels_Q)
    worst = _one_per_class(misses[np.argsort(-result.first_match_rank[misses], kind="stable")], labels_Q)

    def example(q: int) -> Example:
        label = str(labels_Q[q])
        items = gallery[found_Qk[q]]
        hits = [
            Hit(np.asarray(dataset.pictures[item]), str(dataset.labels[item]), float(d), dataset.labels[item] == label)
            for item, d in zip(items, distance_Qk[q], strict=True)
        ]
        return Example(np.asarray(dataset.pictures[queries[q]]), label, hits)

    return [example(q) for q in best.tolist()], [example(q) for q in worst.tolist()]


def _one_per_class(ordered: np.ndarray, labels_Q: np.ndarray) -> np.ndarray:
    """Return the first queries of different classes: two pictures of a class are each other's mirror image."""
    first = np.sort(np.unique(labels_Q[ordered], return_index=True)[1])
    return np.asarray(ordered[first[:_NUM_EXAMPLES]])


def _mined(name: str, run: Run, training_set: Dataset) -> list[MinedTriplet]:
    """Return triplets from the start, the middle and the end of a run, and of a segment (which may be a cycle)."""
    files = sorted((run.folder / "plans").glob("*.parquet"))
    chosen = []
    for moment, part in zip(np.linspace(0, len(files) - 1, _NUM_MINED), _PARTS_OF_SEGMENT, strict=True):
        plan = TripletPlan.load(files[int(moment)])
        t = int(part * len(plan))
        pictures = [
            np.asarray(training_set.pictures[int(column[t])]) for column in (plan.anchor, plan.positive, plan.negative)
        ]
        chosen.append(
            MinedTriplet(
                anchor=pictures[0],
                positive=pictures[1],
                negative=pictures[2],
                label=str(training_set.labels[plan.anchor[t]]),
                negative_label=str(training_set.labels[plan.negative[t]]),
                hardness=float(plan.achieved_hardness[t]),
                triplet_index=int(plan.header["first_triplet"]) + t,
                strategy=name,
            )
        )
    return chosen
