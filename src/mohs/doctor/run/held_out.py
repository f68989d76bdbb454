"""Causes that the held-out curve of a run shows: trained too long, or not long enough."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest, ttest_1samp

from mohs.doctor.findings import Finding
from mohs.evaluation.checked import Bools

__all__ = ["find_fall", "find_rise"]

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
