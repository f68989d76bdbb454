"""Diagnoses of what other libraries leave: logs, embeddings, scores of pairs, in any combination."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import final

from mohs.diagnosis.checks import Check, examine
from mohs.diagnosis.embedded import Embedded
from mohs.diagnosis.embedding_causes import NO_SPREAD
from mohs.diagnosis.embedding_checks import checks_of_embeddings
from mohs.diagnosis.findings import Diagnosis, Finding
from mohs.diagnosis.known_losses import LossFacts
from mohs.diagnosis.log_causes import find_collapsed, find_not_finite, find_stalled
from mohs.diagnosis.log_evidence import Beside, rose
from mohs.diagnosis.log_signals import (
    find_dead_positives,
    find_never_better,
    find_nothing_active,
    find_overfitting,
    find_swapped,
)
from mohs.diagnosis.pair_causes import (
    PairScores,
    find_constant_scores,
    find_fixed_threshold,
    find_scores_at_chance,
    find_sigmoid_on_distance,
    find_swapped_scores,
    why_no_threshold,
)
from mohs.diagnosis.rising_loss import find_learning_rate
from mohs.diagnosis.training_log import TrainingLog
from mohs.diagnosis.triplet_causes import find_easy_selection

__all__ = ["Material", "diagnose_material"]


@final
@dataclass(frozen=True, eq=False)
class Material:
    """What there is to look at; None for what there is not.

    Attributes:
        log: of the training.
        loss: what is known of its loss.
        test: embeddings of the test pictures, the gallery of the queries.
        train: those of the training pictures, by the same network.
        queries: those of queries, made as the service makes them.
        pairs: scores of pairs.
        threshold: where accuracy on pairs is read; None if that is not known.
    """

    log: TrainingLog | None = None
    loss: LossFacts = field(default_factory=LossFacts)
    test: Embedded | None = None
    train: Embedded | None = None
    queries: Embedded | None = None
    pairs: PairScores | None = None
    threshold: float | None = None

    @property
    def empty(self) -> bool:
        """Whether there is nothing to look at."""
        return all(part is None for part in (self.log, self.test, self.train, self.queries, self.pairs))

    @property
    def shown(self) -> Embedded | None:
        """The embeddings to judge alone: those of the test, else those of the training."""
        return self.test if self.test is not None else self.train


def diagnose_material(material: Material, *, seed: int = 0) -> Diagnosis:
    """Look for every cause that the material can show; `seed` decides the samples."""
    found = examine([*_of_log(material, seed), *_of_pairs(material), *_of_embeddings(material, seed)])
    found = replace(found, findings=tuple(_beside_the_log(each, material.log) for each in found.findings))
    reading = "" if material.pairs is None else material.pairs.reading
    return replace(found, notes=(reading,)) if reading else found


def _beside_the_log(finding: Finding, log: TrainingLog | None) -> Finding:
    """Return a collapse of what was given as it looks beside a log in which something was learned."""
    if finding.cause != "collapsed" or log is None or not (sign := rose(log)).holds:
        return finding
    return replace(
        finding,
        what=f"{finding.what}, although {sign.says}",
        why="Either these are of other weights or of batch norm in another mode than what the log measures, or the "
        "training collapsed at its very end.",
        fix="To tell, embed the held-out pictures again with the weights and in the mode of the log's last row.",
        settings={},
    )


def _of_log(material: Material, seed: int) -> list[Check]:
    log, loss = material.log, material.loss
    beside = Beside(material.shown, material.queries, material.pairs, seed)
    if log is None:
        names = ("not-finite", "collapsed", "stalled", "learning-rate-too-high", "nothing-active", "overfitting")
        return [Check(name, _nothing, "no log") for name in names]
    no_activity = log.lacks("active_fraction")
    if no_activity and not log.lacks("loss"):
        no_activity = "" if loss.margin is not None else f"{no_activity} and no margin"
    held_out = (log.val_loss, log.val_accuracy, log.retrieval, log.auc, log.equal_error_rate, log.clustering)
    no_validation = log.lacks("val_loss") if all(values is None for values in held_out) else log.lacks("loss")
    if no_validation and not log.lacks("val_accuracy", "accuracy"):
        no_validation = ""
    no_loss = "" if log.val_loss is not None else log.lacks("loss")
    return [
        Check("not-finite", partial(find_not_finite, log)),
        Check("collapsed", partial(find_collapsed, log, loss, beside)),
        Check("stalled", partial(find_stalled, log, loss, beside)),
        Check("learning-rate-too-high", partial(find_learning_rate, log, loss, beside), no_loss),
        Check("nothing-active", partial(find_nothing_active, log, loss, beside), no_activity),
        Check("dead-positives", partial(find_dead_positives, log), log.lacks("positive_distance")),
        Check(
            "swapped",
            partial(find_swapped, log, loss),
            log.lacks("positive_distance", "negative_distance", "loss"),
        ),
        Check("overfitting", partial(find_overfitting, log), no_validation),
        *([] if no_validation else [Check("at-chance", partial(find_never_better, log, beside))]),
    ]


def _of_pairs(material: Material) -> list[Check]:
    pairs = material.pairs
    if pairs is None:
        return [Check(name, _nothing, "no pairs") for name in ("sigmoid-on-distance", "fixed-threshold")]
    reported = None if material.log is None else material.log.last_accuracy()
    lower_rate = None if material.log is None else material.log.lower_rate()
    threshold = material.threshold
    sigmoid = find_sigmoid_on_distance(pairs, threshold=threshold, reported=reported, lower_rate=lower_rate)
    # A sigmoid on a distance is why 0.5 does not fit, and why all scores are 1 at large distances: one cause is told.
    explained = _unless(sigmoid is not None)
    saturated = _unless(sigmoid is not None and sigmoid.numbers["flat_share"] >= 0.5)
    no_direction = (
        "a score has no direction: name the column 'distance' or 'similarity'" if pairs.kind == "score" else ""
    )
    no_threshold = why_no_threshold(pairs) if threshold is None and reported is None and sigmoid is None else ""
    return [
        Check("sigmoid-on-distance", lambda: sigmoid),
        Check("collapsed", saturated(partial(find_constant_scores, pairs))),
        Check("at-chance", explained(partial(find_scores_at_chance, pairs))),
        Check(
            "swapped",
            partial(find_swapped_scores, pairs),
            "the scores themselves told which way round the labels are" if pairs.reading else no_direction,
        ),
        Check(
            "fixed-threshold",
            explained(partial(find_fixed_threshold, pairs, threshold=threshold, reported=reported)),
            no_threshold,
        ),
    ]


def _of_embeddings(material: Material, seed: int) -> list[Check]:
    train = material.train
    checks = checks_of_embeddings(material.test, train, material.queries, seed=seed)
    missing = _missing_for_selection(material)
    if missing or material.log is None or train is None:
        checks.append(Check("only-easy-triplets", _nothing, missing))
    else:
        find = partial(find_easy_selection, material.log, material.loss, train, seed=seed)
        # At one point there is nothing to choose from; on a line there is, and the choice may be why it is a line.
        checks.append(Check("only-easy-triplets", _unless(train.relative_spread < NO_SPREAD)(find)))
    return checks


def _missing_for_selection(material: Material) -> str:
    if material.log is None:
        return "no log"
    if material.log.loss is None:
        return material.log.lacks("loss")
    if material.train is None:
        return "no embeddings of training pictures"
    if material.loss.name not in (None, "triplet") or material.loss.margin is None:
        return "not a triplet loss whose margin is known"
    return ""


def _unless(known: bool) -> Callable[[Callable[[], Finding | None]], Callable[[], Finding | None]]:
    return lambda find: _nothing if known else find


def _nothing() -> None:
    return None
