"""Causes that only a run of Mohs shows: it knows its plans, its banks, its pictures and its held-out curve."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest, ttest_1samp

from mohs.data.dataset import Dataset
from mohs.data.equal_pictures import find_near_duplicates, picture_numbers
from mohs.doctor.embeddings.labels import find_dominating_class
from mohs.doctor.embeddings.two_sets import leak
from mohs.doctor.findings import Finding
from mohs.doctor.of_triplets import (
    find_dead_triplets,
    find_false_negatives,
    find_forgetting,
    find_hardest_negatives,
    find_large_margin,
)
from mohs.doctor.run.evidence import RunEvidence
from mohs.evaluation.checked import Bools
from mohs.evaluation.collapse import at_one_point
from mohs.hardness.scales import rule_of
from mohs.plan import POSITIVE_ORIGINS
from mohs.training.run_inputs import SplitData

__all__ = [
    "collapse_began", "find_damage", "find_dead_run_positives", "find_dominating_negatives", "find_early_collapse",
    "find_equal_pictures", "find_fall", "find_hard_triplets", "find_near_copies", "find_rise",
    "find_run_false_negatives", "find_run_forgetting", "find_run_margin", "find_short_run", "find_unfinished",
]  # fmt: skip

_HALF_SPREAD = 0.5
_EARLY = 0.15
_MAX_TRIPLETS = 2000
_AUGMENTATION = POSITIVE_ORIGINS.index("augmentation")


def find_unfinished(run: RunEvidence) -> Finding | None:
    """Find a run that has no end: stopped by its guard, killed, or still going."""
    if run.finished:
        return None
    steps, guards = run.steps, [event for event in run.events if event["event"] == "guard"]
    at = f"at step {steps[-1]['step']} of {steps[-1]['num_steps']}" if steps else "before its first step"
    if guards and guards[-1]["action"] == "stop":
        what = f"The guard stopped the run {at}: {guards[-1]['cause']}"
        why = "The run had collapsed; what would have followed is not worth its time."
        fix = "Change what the other findings name, and train into another folder."
    else:
        what = f"The run has not finished: its log ends {at}"
        why = "It was stopped, failed (a loss or gradient of NaN or Inf stops a run), or is still going."
        fix = f"Go on with 'mohs train --resume {run.folder}'; it stops again with the reason, if there is one."
    numbers = {name: float(steps[-1][name]) for name in ("step", "num_steps")} if steps else {}
    return Finding(cause="unfinished", severity="warning", what=what, why=why, fix=fix, numbers=numbers, share=0.1)


def collapse_began(run: RunEvidence) -> int | None:
    """Return the row of the step from which on the spread of batches stayed below half of its largest mean over 10.

    None unless it also ends at one point (`at_one_point`), as the collapse guard has it.
    """
    if run.log is None or run.log.spread is None or len(run.log) < 10:
        return None
    means = np.convolve(run.log.spread, np.full(10, 0.1), mode="valid")
    largest = float(means.max())
    if not at_one_point(float(means[-1]), largest=largest):
        return None
    alive = np.flatnonzero(means >= _HALF_SPREAD * largest)
    return int(alive[-1])


def find_hard_triplets(run: RunEvidence) -> Finding | None:
    """Find out whether a collapse came of triplets that were too hard: see `find_hardest_negatives`."""
    row = collapse_began(run)
    if row is None or run.config.loss.in_batch or not run.plans:
        return None
    ends = np.cumsum([len(plan) for plan in run.plans])
    last = int(run.steps[row]["triplets"]) - 1  # the triplet, counted from 0
    plan = run.plans[min(int(np.searchsorted(ends, last, side="right")), len(ends) - 1)]
    kept = plan.positive_origin != _AUGMENTATION
    return find_hardest_negatives(
        positive_T=plan.anchor_positive_distance[kept].astype(np.float64),
        negative_T=plan.anchor_negative_distance[kept].astype(np.float64),
        achieved_T=plan.achieved_hardness[kept].astype(np.float64),
        at=f"When the run collapsed (step {run.steps[row]['step']} of {run.steps[-1]['num_steps']})",
    )


def find_early_collapse(run: RunEvidence) -> Finding | None:
    """Find out whether a collapse came of steps that were too large.

    That is so if it began in the first 15% of the steps, where rates are highest, and the triplets do not explain it.
    """
    row = collapse_began(run)
    if row is None or run.log is None or run.log.spread is None or find_hard_triplets(run) is not None:
        return None
    num_steps = int(run.steps[-1]["num_steps"])
    if row + 1 > _EARLY * num_steps:
        return None
    rate = run.config.training.learning_rate
    largest = float(np.convolve(run.log.spread, np.full(10, 0.1), mode="valid").max())
    last = float(run.log.spread[-10:].mean())
    return Finding(
        cause="learning-rate-too-high",
        severity="error",
        what=f"The spread of the embeddings fell from {largest:.2g} to {last:.2g}, from step {row + 1} of {num_steps} "
        f"on, with a learning rate of {rate:.2g}; few triplets were too hard",
        why="Steps that are too large throw all pictures to one side, where units die and gradients vanish.",
        fix="Lower the learning rate to a tenth, or let it rise for longer.",
        settings={"training.learning_rate": float(f"{rate / 10:.1g}")},
        numbers={"largest_spread": largest, "last_spread": last, "began_at": float(row + 1), "learning_rate": rate},
        share=0.9,
    )


def find_damage(run: RunEvidence) -> Finding | None:
    """Find a learning rate that is too high for pretrained weights: what was known is lost at once.

    R@1 of training pictures in the bank before the second segment is below 0.8 of that before the first one, and by 3
    standard errors. It is an error if the last bank is still as far below, else a warning.
    """
    banks = [event for event in run.events if event["event"] == "segment" and event.get("recall") is not None]
    if run.config.model.beginning is None or len(banks) < 2:
        return None
    start, second, last = (float(banks[i]["recall"]) for i in (0, 1, -1))
    num = int(banks[0]["num_queries"])
    error = 3 * math.sqrt(max(start * (1 - start), 1.0 / num) / num)
    if second >= 0.8 * start - error:
        return None
    training, finetune = run.config.training, run.config.finetune
    rate = training.learning_rate * finetune.backbone_rate
    settings: dict[str, Any] = {"training.learning_rate": min(1e-3, float(f"{training.learning_rate / 10:.1g}"))}
    if finetune.backbone_rate >= 1.0:
        settings = {"training.learning_rate": min(1e-3, training.learning_rate), "finetune.backbone_rate": 0.1}
    return Finding(
        cause="learning-rate-too-high",
        severity="error" if last < 0.8 * start - error else "warning",
        what=f"R@1 of training pictures fell from {start:.3f} with the pretrained weights to {second:.3f} after the "
        f"first of {len(banks)} segments ({num:,} queries; {last:.3f} before the last); their rate was {rate:.2g}",
        why="Gradients through a head that is still random wash out what the backbone knew, before the head knows "
        "anything.",
        fix="A tenth of the rate for the backbone, as 'mohs train --preset fine-tune' has it, and a longer rise.",
        settings=settings,
        numbers={"start": start, "second": second, "last": last, "num_queries": float(num), "learning_rate": rate},
        share=1.0 - second / start,
    )


def find_short_run(run: RunEvidence) -> Finding | None:
    """Find a run of a new network in which not even every class was an anchor once; to be asked where it did harm.

    The first steps of a new network take its random features apart. What they gain comes later, and a run of less than
    a pass says nothing of its other settings: it stands above what else was found.
    """
    if not run.finished or not run.steps or run.data is None or run.config.model.beginning is not None:
        return None
    num_triplets = int(run.steps[-1]["triplets"])
    num_classes = len(np.unique(run.data.dataset.labels[run.data.train_N]))
    if num_triplets >= num_classes:
        return None
    return Finding(
        cause="train-longer",
        severity="error",
        what=f"The run was shorter than a pass: {num_triplets:,} triplets for {num_classes:,} training classes",
        why="Most classes were never an anchor. The first steps only take apart what a random network has, and nothing "
        "else can be judged yet.",
        fix="Train for four passes or more before anything else is changed.",
        settings={"training.num_triplets": 4 * num_classes},
        numbers={"num_triplets": float(num_triplets), "num_classes": float(num_classes)},
        share=1.0,
    )


def find_run_margin(run: RunEvidence) -> Finding | None:
    """Find a margin that the hardness asked for leaves no room for: see `find_large_margin`."""
    if not run.config.loss.record.is_hinge_of_triplets or run.log is None or not run.plans:
        return None
    active, loss = run.log.active_fraction, run.log.loss
    assert active is not None
    assert loss is not None
    last = run.steps[-max(1, len(run.steps) // 4) :]
    hardness = float(np.mean([step["hardness"] for step in last]))
    header = run.plans[-1].header
    return find_large_margin(
        margin=run.config.loss.margin,
        squared=run.config.loss.squared,
        dim=run.config.model.embedding_dim,
        num_classes=int(header["num_classes"]),
        quantile=rule_of(run.config.hardness.scale).share_nearer(hardness, int(header["num_items"])),
        active_T=active,
        loss_T=loss,
        collapsed=collapse_began(run) is not None,
    )


def find_dead_run_positives(run: RunEvidence) -> Finding | None:
    """Find positives that are copies of their anchors, in all plans: see `find_dead_triplets`."""
    kept = [plan.positive_origin != _AUGMENTATION for plan in run.plans]
    positive, negative = (
        np.concatenate([getattr(plan, name)[k] for plan, k in zip(run.plans, kept, strict=True)]).astype(np.float64)
        for name in ("anchor_positive_distance", "anchor_negative_distance")
    )
    return find_dead_triplets(positive, negative)


def find_dominating_negatives(run: RunEvidence) -> Finding | None:
    """Find a class that is the negative of everybody: see `find_dominating_class`."""
    assert run.data is not None
    labels = run.data.dataset.labels[run.data.train_N]
    return find_dominating_class(labels[np.concatenate([plan.negative for plan in run.plans])], of="mined negatives")


def find_run_false_negatives(run: RunEvidence) -> Finding | None:
    """Find mined negatives that training did not push away, in the last third of the plans (`find_false_negatives`)."""
    plans = run.plans[-max(1, len(run.plans) // 3) :]
    a, p, n = (np.concatenate([getattr(plan, name) for plan in plans]) for name in ("anchor", "positive", "negative"))
    origin = np.concatenate([plan.positive_origin for plan in plans])
    rows = np.flatnonzero(origin != _AUGMENTATION)
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _MAX_TRIPLETS)).astype(np.int64))]
    if not len(rows):
        return None
    items, place = np.unique(np.concatenate([a[rows], p[rows], n[rows]]), return_inverse=True)
    x_ND = run.training_embeddings(items).astype(np.float64)
    anchor, positive, negative = (x_ND[part] for part in np.split(place, 3))
    return find_false_negatives(np.linalg.norm(anchor - positive, axis=1), np.linalg.norm(anchor - negative, axis=1))


def find_run_forgetting(run: RunEvidence) -> Finding | None:
    """Find classes that decayed since they were last an anchor: see `find_forgetting`.

    Classes that never were are left out.
    """
    assert run.data is not None
    class_N = run.data.dataset.labels[run.data.train_N]
    anchors = [label for plan in run.plans for label in class_N[plan.anchor].tolist()]
    last, t = {label: place for place, label in enumerate(anchors)}, len(anchors)
    found = run.train.recall
    chosen = np.array([label in last for label in run.train.labels.tolist()])
    if found is None or not (chosen := chosen & found.counted).any():
        return None
    age_N = np.array([t - last[label] for label in run.train.labels[chosen].tolist()], dtype=np.float64)
    return find_forgetting(found.hits[chosen], age_N)


def find_equal_pictures(dataset: Dataset, train_N: Bools, test_N: Bools) -> Finding | None:
    """Find test pictures that are training pictures, byte for byte as the network sees them: 0.5% or more.

    It is an error from 5% on.
    """
    number_N = picture_numbers(dataset.pictures)
    test = np.flatnonzero(test_N)
    equal = np.isin(number_N[test], number_N[train_N])
    share = float(equal.mean())
    if share < 0.005:
        return None
    examples = ", ".join(dataset.table.files[item] for item in test[equal][:3].tolist())
    return leak(
        equal,
        f"{int(equal.sum()):,} of {len(test):,} test pictures ({share:.1%}) are training pictures too, for example "
        f"{examples}",
        why="What is measured on them is memory; R@1 may be off by as much.",
        fix="Take the copies out, or give all copies one class, and split by class.",
    )


def find_near_copies(data: SplitData, *, seed: int = 0) -> Finding | None:
    """Find near-duplicates between what is searched for and what is searched in, as frames of one recording are.

    Where test classes are trained on, that is test against training; on unseen classes the test pictures among
    themselves. Groups of the table are left out. It is told where 2% of the test pictures have one, see
    `find_near_duplicates`; equal pictures are `find_equal_pictures`.
    """
    dataset, table = data.dataset, data.dataset.table
    test = np.flatnonzero(data.test_N)
    found = find_near_duplicates(
        dataset.pictures,
        dataset.labels,
        query_Q=test,
        gallery_G=test if data.unseen_classes else np.flatnonzero(data.train_N),
        groups_N=table.groups,
        seed=seed,
    )
    if not found.is_common:
        return None
    pairs = ", ".join(f"{table.files[one]} and {table.files[other]}" for one, other in found.pairs()[:3])
    where = "among the other test pictures" if data.unseen_classes else "in training"
    return Finding(
        cause="near-duplicates",
        severity="warning",
        what=f"{len(found.query_P):,} of {found.num_looked:,} test pictures looked at ({found.share:.1%}) have a "
        f"near-duplicate {where}, for example {pairs}",
        why="Frames of one recording or photographs of one session find each other first: the result says how well "
        "those are found, and not the next ones.",
        fix="Say in a column 'group' what was taken together: the split keeps a group on one side, and 'mohs evaluate "
        "--exclude-same-group' leaves a query's own group out.",
        numbers={"share": found.share, "num_near": float(len(found.query_P)), "num_looked": float(found.num_looked)},
        share=found.share,
    )


_LEVEL = 0.05
_LEAST = 0.02
_LONGER = 3


def find_fall(events: Sequence[Mapping[str, Any]]) -> Finding | None:
    """Find overfitting: R@1 of held-out pictures fell from its peak to the end, by 0.02 or more.

    Queries are the same every time, so that they are counted in pairs: those lost since the peak against those won (an
    exact one-sided sign test, McNemar 1947). The peak is the highest of many points, some of it by chance: the level of
    5% is divided by the number of points that could be it (Bonferroni).
    """
    hits_PQ = _hits(events)
    if len(hits_PQ) < 3:
        return None
    recall_P = hits_PQ.mean(axis=1)
    peak = int(recall_P[:-1].argmax())
    fall = float(recall_P[peak] - recall_P[-1])
    lost, won = (
        int((one & ~other).sum()) for one, other in ((hits_PQ[peak], hits_PQ[-1]), (hits_PQ[-1], hits_PQ[peak]))
    )
    by_chance = float(binomtest(lost, lost + won, 0.5, alternative="greater").pvalue) if lost + won else 1.0
    probability = by_chance * (len(recall_P) - 1)
    if fall < _LEAST or probability >= _LEVEL:
        return None
    at = int(events[peak]["triplets"])
    numbers = {
        "peak_recall": float(recall_P[peak]), "last_recall": float(recall_P[-1]), "fall": fall,
        "probability": min(1.0, probability), "num_queries": float(hits_PQ.shape[1]),
    }  # fmt: skip
    return Finding(
        cause="overfitting",
        severity="warning",
        what=f"R@1 of {hits_PQ.shape[1]:,} held-out pictures fell from {recall_P[peak]:.3f} after {at:,} triplets to "
        f"{recall_P[-1]:.3f} at the end, after {int(events[-1]['triplets']):,}",
        why="From there on training served the training pictures only. (Their own R@1 says nothing: it is near 1 in "
        "any run that learns.)",
        fix="Shorten the run to about the peak, and measure both. Stronger augmentation (-0.019) and half the pictures "
        "(-0.043) made healthy runs worse.",
        settings={"training.num_triplets": max(at, 1)},
        numbers=numbers,
        share=min(1.0, fall),
    )


def find_rise(events: Sequence[Mapping[str, Any]]) -> Finding | None:
    """Find a run that was too short: R@1 of held-out pictures was higher in its last third than in its middle third.

    By 0.02 or more, and by a paired t-test over the queries, one-sided, at 5%: of each query the share of points of
    either third at which it was right. Means over several points are steadier than two points. The rate falls to 0 at
    the end of every run, which flattens a curve: where it rises all the same, a longer run is worth a try.
    """
    hits_PQ = _hits(events)
    if len(hits_PQ) < 4:
        return None
    done_P = np.array([event["triplets"] for event in events], dtype=np.float64)
    share_P = done_P / done_P[-1]
    middle_P, last_P = (share_P > 1 / 3) & (share_P <= 2 / 3), share_P > 2 / 3
    if not middle_P.any():
        return None
    middle_Q, last_Q = hits_PQ[middle_P].mean(axis=0), hits_PQ[last_P].mean(axis=0)
    change_Q = last_Q - middle_Q
    rise = float(change_Q.mean())
    if rise < _LEAST or not change_Q.std():
        return None
    probability = float(ttest_1samp(change_Q, 0.0, alternative="greater").pvalue)
    if probability >= _LEVEL:
        return None
    length = int(done_P[-1])
    numbers = {
        "middle_recall": float(middle_Q.mean()), "last_recall": float(last_Q.mean()), "rise": rise,
        "probability": probability, "num_queries": float(hits_PQ.shape[1]),
    }  # fmt: skip
    return Finding(
        cause="train-longer",
        severity="note",
        what=f"R@1 of {hits_PQ.shape[1]:,} held-out pictures still rose at the end: {float(middle_Q.mean()):.3f} in "
        f"the middle third of {length:,} triplets and {float(last_Q.mean()):.3f} in the last",
        why="The run may have ended before it had learned what it could.",
        fix="Train longer: with three times the triplets, emoji split by item went from an R@1 of .400 to .483.",
        settings={"training.num_triplets": _LONGER * length},
        numbers=numbers,
        share=min(1.0, rise),
    )


def _hits(events: Sequence[Mapping[str, Any]]) -> Bools:
    """Return whether each query was right at each point, bool[P, Q]."""
    if not events:
        return np.empty((0, 0), dtype=bool)
    return np.array([[digit == "1" for digit in event["hits"]] for event in events], dtype=bool)
