"""What stands beside a loss: whether the embeddings are at one point, and whether something was learned.

A loss alone proves neither. What was given with it is asked first: embeddings, scores of pairs, and the log's own
columns of spread, distances, accuracy and search.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Literal, final

import numpy as np

from mohs.doctor.log.rest import end_mean, finite, finite_tail, number_noise
from mohs.doctor.log.stuck_values import LossFacts
from mohs.doctor.log.training_log import Column, TrainingLog
from mohs.doctor.reported_pairs import ReportedPairs
from mohs.evaluation.collapse import at_one_point
from mohs.evaluation.embedded import Embedded, Recall, recall_at_1

__all__ = ["CLUSTERING", "NOTHING_BESIDE", "Beside", "Sign", "ends_high", "metrics", "one_point", "rose"]

CLUSTERING: Final = "agreement of clusters"
"""What `metrics` calls AMI, NMI or ARI. Its level by chance is not known: NMI of many clusters is high by itself."""

_SPREAD_OUT = 0.1
_SHRUNK = 0.1
_FAR_APART = 0.5


@final
@dataclass(frozen=True)
class Sign:
    """An answer with its reason: yes, no, or None where nothing says so."""

    holds: bool | None
    says: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)
    of: Literal["", "accuracy", "distances"] = ""
    """Of what it is, where that is asked."""


@final
@dataclass(frozen=True, eq=False)
class Beside:
    """What was given beside a log: embeddings of the trained network and of its queries, scores of pairs."""

    shown: Embedded | None = None
    queries: Embedded | None = None
    pairs: ReportedPairs | None = None
    seed: int = 0

    @cached_property
    def recall(self) -> Recall | None:
        """R@1 of the embeddings, or of the queries in them; None if nothing has another of its class to find."""
        if self.shown is None:
            return None
        if self.queries is None:
            return self.shown.take(self.shown.sample_items(seed=self.seed)).recall
        queries = self.queries.take(self.queries.sample_items(seed=self.seed))
        return recall_at_1(queries, self.shown, same_items=False)

    @cached_property
    def auc(self) -> float | None:
        """Probability that the scores put a pair in order; of a score without a direction, the better way."""
        if self.pairs is None:
            return None
        auc, _ = self.pairs.auc()
        return {"distance": auc, "similarity": 1 - auc}.get(self.pairs.kind, max(auc, 1 - auc))

    @property
    def says_chance(self) -> str:
        """What was given that is at chance, as in "R@1 of the embeddings is 0.006, that of a guess"; "" if nothing."""
        if self.shown is None or at_one_point(self.shown.relative_spread):
            return ""  # at one point that is no news
        found = self.recall
        return f"R@1 of the embeddings is {found.value:.3f}, that of a guess" if found and found.at_chance else ""


NOTHING_BESIDE: Final = Beside()


def metrics(log: TrainingLog) -> dict[str, Column]:
    """Return the columns that say how well it does, by their names: of search, then of validation, then of training.

    Higher is better in all of them: the equal error rate is given as 1 − EER.
    """
    columns = {log.retrieval_name: log.retrieval, "AUC": log.auc}
    columns |= {"1 − EER": None if log.equal_error_rate is None else 1.0 - log.equal_error_rate}
    columns |= {CLUSTERING: log.clustering}
    columns |= {"val_accuracy": log.val_accuracy, "accuracy": log.accuracy}
    return {name: values for name, values in columns.items() if values is not None and np.isfinite(values).any()}


def rose(log: TrainingLog) -> Sign:
    """Return whether a measure rose as training went on: something was learned, whatever the loss says.

    The mean of the last fifth lies above that of the first by 3 standard errors of the noise between neighbours, and by
    0.05 or as much as it began at (but 0.01). The same for (d_an − d_ap)/d_an, by 0.1.
    """
    for name, values in metrics(log).items():
        first, last, error = _ends(values)
        if last - first > max(3 * error, min(0.05, max(first, 0.01))):
            return Sign(True, f"{name} rose from {first:.3f} to {last:.3f}", {"first": first, "last": last})
    if log.positive_distance is not None and log.negative_distance is not None:
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            gap_T = (log.negative_distance - log.positive_distance) / log.negative_distance
        if np.isfinite(gap_T).any():
            first, last, error = _ends(gap_T)
            if last > 0 and last - first > max(3 * error, 0.1):
                return Sign(True, "negatives moved away from positives", {"first": first, "last": last})
    return Sign(None)


def ends_high(log: TrainingLog, beside: Beside) -> Sign:
    """Return whether the end is far better than chance, by a measure in the log or by what was given beside it.

    Accuracy (on pairs or triplets) above 0.65; search above 0.3 and half of its best; R@1 of the embeddings above 0.3
    and 5 times chance; an AUC above 0.8, of pairs or in the log; an equal error rate below 0.2.
    """
    recall, search, errors = beside.recall, end_mean(log.retrieval), end_mean(log.equal_error_rate)
    if recall is not None and recall.value > max(0.3, 5 * recall.chance):
        return Sign(True, f"R@1 of the embeddings is {recall.value:.3f}", {"recall": recall.value})
    if beside.auc is not None and beside.auc > 0.8:
        return Sign(True, f"the AUC of the pairs is {beside.auc:.3f}", {"auc": beside.auc})
    if log.retrieval is not None and search is not None and search > max(0.3, float(np.nanmax(log.retrieval)) / 2):
        return Sign(True, f"{log.retrieval_name} is {search:.3f}", {"retrieval": search})
    if (auc := end_mean(log.auc)) is not None and auc > 0.8:
        return Sign(True, f"AUC is {auc:.3f}", {"auc": auc})
    if errors is not None and errors < 0.2:
        return Sign(True, f"EER is {errors:.3f}", {"equal_error_rate": errors})
    if (accuracy := log.last_accuracy()) is not None and accuracy > 0.65:
        return Sign(True, f"accuracy is {accuracy:.3f}", {"accuracy": accuracy}, of="accuracy")
    return Sign(None)


def one_point(log: TrainingLog, loss: LossFacts, beside: Beside) -> Sign:
    """Return whether the network maps everything to one point, by direct evidence, the strongest first.

    - Embeddings: a relative spread below 0.02 is a point, above 0.1 none.
    - The column of the spread: the last quarter below a fifth of the largest or below 0.02; above 0.1 none.
    - d_an and d_ap: both below a tenth of the largest d_an, with d_an below 1.5·d_ap, or both below a twentieth of the
      margin. None if d_an is above 0.5, or above a smaller margin, and 0.3 of its largest.
    - An end that is far better than chance (`ends_high`), or a measure that rose: none.
    """
    if beside.shown is not None and int(beside.shown.codes.max()) > 0:
        relative = beside.shown.relative_spread
        if at_one_point(relative) or relative > _SPREAD_OUT:
            says = f"the spread of the embeddings is {relative:.2g} of their length"
            return Sign(at_one_point(relative), says, {"relative_spread": relative})
    if log.spread is not None and len(tail := finite_tail(log.spread, 0.25)):
        last, largest = float(np.median(tail)), float(np.nanmax(log.spread))
        if at_one_point(last, largest=largest):
            says = f"the spread of the embeddings fell from {largest:.3g} to {last:.3g} (1 is full, 0 a point)"
            return Sign(True, says, {"spread": last, "largest_spread": largest})
        if last > _SPREAD_OUT:
            return Sign(False, f"the spread of the embeddings is {last:.3g}", {"spread": last})
    found = _by_distances(log, loss)
    if found.holds is not None:
        return found
    for sign in (rose(log), ends_high(log, beside)):
        if sign.holds:
            return Sign(False, sign.says, sign.numbers)
    return Sign(None)


def _by_distances(log: TrainingLog, loss: LossFacts) -> Sign:
    if log.negative_distance is None or not len(negative_tail := finite_tail(log.negative_distance, 0.25)):
        return Sign(None)
    negative, largest = float(np.median(negative_tail)), float(np.nanmax(log.negative_distance))
    scale = _FAR_APART if loss.margin is None else min(_FAR_APART, loss.margin)
    positive_tail = np.zeros(0) if log.positive_distance is None else finite_tail(log.positive_distance, 0.25)
    if len(positive_tail):
        positive = float(np.median(positive_tail))
        numbers = {"negative_distance": negative, "largest_negative_distance": largest}
        if max(positive, negative) < _SHRUNK * largest and negative < 1.5 * positive:
            return Sign(True, f"the distance to negatives fell from {largest:.3g} to {negative:.3g}", numbers)
        if loss.margin is not None and max(positive, negative) < 0.05 * loss.margin and negative < 1.5 * positive:
            says = f"d_ap is {positive:.2g} and d_an {negative:.2g}, next to nothing beside the margin"
            return Sign(True, says, numbers)
    if negative > scale and negative > 0.3 * largest:
        return Sign(False, f"d_an is {negative:.3g}", {"negative_distance": negative}, of="distances")
    return Sign(None)


def _ends(values_T: Column) -> tuple[float, float, float]:
    """Return the means of the first and the last fifth, and the standard error of their difference."""
    known = finite(values_T)
    k = max(1, len(known) // 5)
    # Two numbers have no noise between them, only a difference.
    noise = number_noise(known) if len(known) > 3 else 0.0
    return float(known[:k].mean()), float(known[-k:].mean()), noise * float(np.sqrt(2 / k))
