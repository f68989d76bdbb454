"""The doctor: a run, or files and arrays of a training elsewhere, and what is wrong with them."""

import math
from pathlib import Path

from numpy.typing import ArrayLike

from mohs.diagnosis.checks import combined
from mohs.diagnosis.embedded import Embedded, read_embedded
from mohs.diagnosis.findings import Diagnosis
from mohs.diagnosis.known_losses import LossFacts
from mohs.diagnosis.material import Material, diagnose_material
from mohs.diagnosis.pair_causes import PairScores, read_pair_scores
from mohs.diagnosis.training_log import TrainingLog, read_training_log
from mohs.doctor.evidence import RunEvidence
from mohs.doctor.run_checks import diagnose_run
from mohs.errors import InputError
from mohs.evaluation.same_column import OneMeans, check_one_means
from mohs.runs import Run

__all__ = ["diagnose"]


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
    pairs: PairScores | str | Path | None = None,
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
        pairs: CSV with a column `same` and one of `distance`, `similarity` or `score`, see `read_pair_scores`.
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
    facts = LossFacts(loss_name, margin, batch)
    if log is None and (loss_name is not None or batch is not None):
        raise InputError("loss_name, batch: of a log; give log too")
    if query_embeddings is not None and embeddings is None:
        raise InputError("query_embeddings: nothing to search in; give embeddings, the gallery")
    if threshold is not None and not math.isfinite(threshold):
        raise InputError(f"threshold: {threshold} is not a finite number; give the one in use")
    test = read["embeddings"]
    for name, other in read.items():
        if test is not None and other is not None and other.x_ND.shape[1] != test.x_ND.shape[1]:
            raise InputError(
                f"{name}: {other.x_ND.shape[1]} columns for the {test.x_ND.shape[1]} of embeddings; both must come "
                "from one network"
            )
    check_one_means(one_means)
    if one_means is not None and not isinstance(pairs, str | Path):
        raise InputError("one_means: of a file of pairs; give pairs too")
    parts = []
    if run is not None:
        parts.append(diagnose_run(RunEvidence.open(run.folder if isinstance(run, Run) else run, seed=seed)))
    material = Material(
        log=read_training_log(log) if isinstance(log, str | Path) else log,
        loss=facts,
        test=test,
        train=read["train_embeddings"],
        queries=read["query_embeddings"],
        pairs=read_pair_scores(pairs, one_means=one_means) if isinstance(pairs, str | Path) else pairs,
        threshold=threshold,
    )
    if not material.empty:
        parts.append(diagnose_material(material, seed=seed))
    if not parts:
        raise InputError("run: nothing to look at; give a run, log, embeddings or pairs")
    return combined(parts)


def _embedded(
    name: str, embeddings: ArrayLike | str | Path | None, labels: ArrayLike | str | Path | None
) -> Embedded | None:
    labels_name = "labels" if name == "embeddings" else name.replace("embeddings", "labels")
    if embeddings is None and labels is None:
        return None
    if embeddings is None:
        raise InputError(f"{labels_name}: without {name}; give both")
    if labels is None:
        raise InputError(f"{name}: without {labels_name}; give both")
    if isinstance(embeddings, str | Path):
        if not isinstance(labels, str | Path):
            raise InputError(f"{labels_name}: not a file, but {name} is one; give two files or two arrays")
        return read_embedded(embeddings, labels, flag=labels_name)
    if isinstance(labels, str | Path):
        raise InputError(f"{labels_name}: a file, but {name} is an array; give two files or two arrays")
    return Embedded.of(embeddings, labels, source=name)
