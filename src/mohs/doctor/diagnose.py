"""Diagnoses of what other libraries leave: logs, embeddings, scores of pairs, in any combination."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import final

from numpy.typing import ArrayLike

from mohs.checks import require, wrong_kind, wrong_number
from mohs.doctor import of_pairs
from mohs.doctor.embeddings.checks import checks_of_embeddings
from mohs.doctor.findings import Check, Diagnosis, Finding, combined, examine, unavailable
from mohs.doctor.log import losses, rising, signals
from mohs.doctor.log.evidence import Beside, rose
from mohs.doctor.log.stuck_values import LossFacts
from mohs.doctor.log.training_log import TrainingLog, read_training_log
from mohs.doctor.of_triplets import find_easy_selection
from mohs.doctor.reported_pairs import OneMeans, ReportedPairs, check_one_means, read_reported_pairs
from mohs.doctor.run.checks import diagnose_run
from mohs.doctor.run.evidence import RunEvidence
from mohs.errors import InputError, Problem
from mohs.evaluation.collapse import at_one_point
from mohs.evaluation.embedded import Embedded
from mohs.evaluation.embedding_files import read_embedded
from mohs.runs import Run

__all__ = ["Material", "diagnose", "diagnose_material"]


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
    pairs: ReportedPairs | None = None
    threshold: float | None = None

    @property
    def empty(self) -> bool:
        """Whether there is nothing to look at."""
        return all(part is None for part in (self.log, self.test, self.train, self.queries, self.pairs))


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
    if log is None:
        causes = ("not-finite", "collapsed", "stalled", "learning-rate-too-high", "nothing-active", "overfitting")
        return unavailable("no log", *causes)
    shown = material.test if material.test is not None else material.train
    beside = Beside(shown, material.queries, material.pairs, seed)
    no_activity = log.lacks("active_fraction")
    if no_activity and not log.lacks("loss"):
        no_activity = "" if loss.margin is not None else f"{no_activity} and no margin"
    held_out = (log.val_loss, log.val_accuracy, log.retrieval, log.auc, log.equal_error_rate, log.clustering)
    no_validation = log.lacks("val_loss") if all(values is None for values in held_out) else log.lacks("loss")
    if no_validation and not log.lacks("val_accuracy", "accuracy"):
        no_validation = ""
    no_loss = "" if log.val_loss is not None else log.lacks("loss")
    no_distances = log.lacks("positive_distance", "negative_distance", "loss")
    checks = [
        Check("not-finite", lambda: losses.find_not_finite(log)),
        Check("collapsed", lambda: losses.find_collapsed(log, loss, beside)),
        Check("stalled", lambda: losses.find_stalled(log, loss, beside)),
        Check("learning-rate-too-high", lambda: rising.find_learning_rate(log, loss, beside), no_loss),
        Check("nothing-active", lambda: signals.find_nothing_active(log, loss, beside), no_activity),
        Check("dead-positives", lambda: signals.find_dead_positives(log), log.lacks("positive_distance")),
        Check("swapped", lambda: signals.find_swapped(log, loss), no_distances),
        Check("overfitting", lambda: signals.find_overfitting(log), no_validation),
    ]
    return checks if no_validation else [*checks, Check("at-chance", lambda: signals.find_never_better(log, beside))]


def _of_pairs(material: Material) -> list[Check]:
    pairs, log, threshold = material.pairs, material.log, material.threshold
    if pairs is None:
        return unavailable("no pairs", "sigmoid-on-distance", "fixed-threshold")
    reported = None if log is None else log.last_accuracy()
    lower_rate = None if log is None else log.lower_rate()
    # A sigmoid on a distance is why 0.5 does not fit, and why all scores are 1 at large distances: one cause is told.
    sigmoid = of_pairs.find_sigmoid_on_distance(pairs, threshold=threshold, reported=reported, lower_rate=lower_rate)
    saturated = sigmoid is not None and sigmoid.numbers["flat_share"] >= 0.5
    no_direction = ""
    if pairs.reading:
        no_direction = "the scores themselves told which way round the labels are"
    elif pairs.kind == "score":
        no_direction = "a score has no direction: name the column 'distance' or 'similarity'"
    no_threshold = threshold is None and reported is None and sigmoid is None
    return [
        Check("sigmoid-on-distance", lambda: sigmoid),
        Check("collapsed", lambda: None if saturated else of_pairs.find_constant_scores(pairs)),
        Check("at-chance", lambda: None if sigmoid else of_pairs.find_scores_at_chance(pairs)),
        Check("swapped", lambda: of_pairs.find_swapped_scores(pairs), no_direction),
        Check(
            "fixed-threshold",
            lambda: None if sigmoid else of_pairs.find_fixed_threshold(pairs, threshold=threshold, reported=reported),
            of_pairs.why_no_threshold(pairs) if no_threshold else "",
        ),
    ]


def _of_embeddings(material: Material, seed: int) -> list[Check]:
    log, loss, train = material.log, material.loss, material.train
    checks = checks_of_embeddings(material.test, train, material.queries, seed=seed)
    missing, record = "", loss.record
    if log is None:
        missing = "no log"
    elif log.loss is None:
        missing = log.lacks("loss")
    elif train is None:
        missing = "no embeddings of training pictures"
    elif loss.margin is None or not (record is None or record.is_hinge_of_triplets):
        missing = "not a triplet loss whose margin is known"
    if missing or log is None or train is None:
        return [*checks, *unavailable(missing, "only-easy-triplets")]
    # At one point there is nothing to choose from; on a line there is, and the choice may be why it is a line.
    at_point = at_one_point(train.relative_spread)
    easy = Check("only-easy-triplets", lambda: None if at_point else find_easy_selection(log, loss, train, seed=seed))
    return [*checks, easy]


def diagnose(
    run: Run | str | Path | None = None,
    *,
    log: TrainingLog | str | Path | None = None,
    loss_name: str | None = None,
    margin: float | None = None,
    batch: int | None = None,
    embeddings: ArrayLike | str | Path | None = None,
    labels: ArrayLike | str | Path | None = None,
    train_embeddings: ArrayLike | str | Path | None = None,
    train_labels: ArrayLike | str | Path | None = None,
    query_embeddings: ArrayLike | str | Path | None = None,
    query_labels: ArrayLike | str | Path | None = None,
    pairs: ReportedPairs | str | Path | None = None,
    threshold: float | None = None,
    one_means: OneMeans | None = None,
    seed: int = 0,
) -> Diagnosis:
    """Return what is wrong with a run, or with what another library left, the worst first.

    Each cause is a test on numbers that are in the finding; a cause that cannot be looked for is listed with the reason
    in `Diagnosis.not_checked`. The more is given, the more can be told: whether a training saw only easy triplets, for
    example, takes its log, its margin and the embeddings of its training pictures.

    Args:
        run: a `Run` or its folder, finished or not; what the others give is looked at as well.
        log: CSV of a training, see `read_training_log`.
        loss_name: of the log: "triplet", "soft-triplet", "contrastive", "infonce" or "cross-entropy" (on pairs).
        margin: of that loss.
        batch: its pairs or triplets in a batch.
        embeddings: of test pictures, [N, D] or an .npy file; the gallery of the queries.
        labels: their classes, [N], or a file of them: CSV or Parquet with a column `class`, .npy or .txt.
        train_embeddings: of training pictures, by the same network.
        train_labels: their classes.
        query_embeddings: of queries, made as the service makes them.
        query_labels: their classes.
        pairs: CSV with a column `same` and one of `distance`, `similarity` or `score`, see `read_reported_pairs`.
        threshold: where accuracy on pairs is read; None if that is not known: 0.5 if the log's accuracy says so.
        one_means: what 1 means in a column of `pairs` that does not say it, "same" or "different".
        seed: decides which classes and triplets are drawn where there are too many to take all.

    Raises `InputError` if nothing is given, for embeddings without labels or of other dimensions, and for what
    cannot be read.

    >>> import numpy as np
    >>> [finding.cause for finding in diagnose(embeddings=np.ones((20, 8)), labels=[0, 1] * 10).findings]
    ['collapsed']
    """
    sets = {
        "embeddings": (embeddings, labels),
        "train_embeddings": (train_embeddings, train_labels),
        "query_embeddings": (query_embeddings, query_labels),
    }
    read = {name: _embedded(name, *values) for name, values in sets.items()}
    require(None if threshold is None else wrong_number("threshold", threshold, example=0.8))
    facts = LossFacts(loss_name, margin, batch)
    if log is None and (loss_name is not None or batch is not None):
        raise InputError(Problem("loss_name, batch", "of a log", "give log too"))
    if query_embeddings is not None and embeddings is None:
        raise InputError(Problem("query_embeddings", "nothing to search in", "give embeddings, the gallery"))
    test = read["embeddings"]
    for name, other in read.items():
        if test is not None and other is not None and other.x_ND.shape[1] != test.x_ND.shape[1]:
            what = f"{other.x_ND.shape[1]} columns for the {test.x_ND.shape[1]} of embeddings"
            raise InputError(Problem(name, what, "both must come from one network"))
    check_one_means(one_means)
    if one_means is not None and not isinstance(pairs, str | Path):
        raise InputError(Problem("one_means", "of a file of pairs", "give pairs too"))
    parts = []
    if run is not None:
        evidence = RunEvidence.open(run.folder if isinstance(run, Run) else run, seed=seed)
        found = diagnose_run(evidence)
        parts.append(replace(found, notes=(*found.notes, *evidence.set_aside())))
    for name, given, kind in (("log", log, TrainingLog), ("pairs", pairs, ReportedPairs)):
        if given is not None and not isinstance(given, str | Path):
            require(wrong_kind(name, given, kind, "give the path of a CSV file"))
    material = Material(
        log=read_training_log(log) if isinstance(log, str | Path) else log,
        loss=facts,
        test=test,
        train=read["train_embeddings"],
        queries=read["query_embeddings"],
        pairs=read_reported_pairs(pairs, one_means=one_means) if isinstance(pairs, str | Path) else pairs,
        threshold=threshold,
    )
    if not material.empty:
        parts.append(diagnose_material(material, seed=seed))
    if not parts:
        raise InputError(Problem("run", "nothing to look at", "give a run, log, embeddings or pairs"))
    return combined(parts)


def _embedded(
    name: str, embeddings: ArrayLike | str | Path | None, labels: ArrayLike | str | Path | None
) -> Embedded | None:
    labels_name = "labels" if name == "embeddings" else name.replace("embeddings", "labels")
    if embeddings is None and labels is None:
        return None
    if embeddings is None:
        raise InputError(Problem(labels_name, f"without {name}", "give both", mentions=(name,)))
    if labels is None:
        raise InputError(Problem(name, f"without {labels_name}", "give both", mentions=(labels_name,)))
    if isinstance(embeddings, str | Path):
        if not isinstance(labels, str | Path):
            raise InputError(f"{labels_name}: not a file, but {name} is one; give two files or two arrays")
        found = read_embedded(embeddings, labels, flag=labels_name)
        return Embedded.of(found.x_ND, found.labels, source=found.source)
    if isinstance(labels, str | Path):
        raise InputError(f"{labels_name}: a file, but {name} is an array; give two files or two arrays")
    return Embedded.of(embeddings, labels, source=name)
