"""Causes that two sets of embeddings show together: queries and gallery, training and test, two states of a network."""

import numpy as np
from numpy.typing import ArrayLike

from mohs.doctor.embeddings.directions import kinds_of_pictures
from mohs.doctor.findings import Finding
from mohs.evaluation.checked import Bools, Index
from mohs.evaluation.collapse import at_one_point
from mohs.evaluation.embedded import MAX_ITEMS, Embedded, gain_of, hits_at_1, of_one_length, recall_at_1
from mohs.evaluation.same_picture import equal_partner, near_copies, some_rows

__all__ = ["find_batch_norm", "find_equal_test_items", "find_harm", "find_other_lengths", "find_shared_classes", "leak"]

_UNIT = 1e-2
_BATCH_NORM = 0.1


def find_other_lengths(gallery: Embedded, queries: Embedded, *, seed: int = 0) -> Finding | None:
    """Find queries that were not brought to the gallery's length.

    One of the two is at unit length (19 of 20 norms within 1% of 1) and the other is not, or their median norms differ
    by 10% or more. What it costs is measured: R@1 of the queries as they are and with both at unit length. It is an
    error if that is lower by 0.02 or more, and by the 95% class interval of the difference; else a warning,
    since thresholds on the distance are off all the same.
    """
    medians = float(np.median(gallery.norms)), float(np.median(queries.norms))
    unit = [bool((np.abs(part.norms - 1.0) <= _UNIT).mean() >= 0.95) for part in (gallery, queries)]
    ratio = max(medians) / max(min(medians), 1e-300)
    if unit[0] == unit[1] and ratio < 1.1:
        return None
    numbers = {"gallery_norm": medians[0], "query_norm": medians[1]}
    said, severe = "", False
    part = queries.sample(seed=seed)
    raw = recall_at_1(part, gallery, same_items=False)
    if raw is not None:
        found = gain_of(raw, hits_at_1(part.unit(), gallery.unit(), same_items=False)[0], part)
        severe = found.low > 0 and found.gain >= 0.02
        numbers |= found.numbers("recall", "recall_at_unit_length", "lost")
        said = f"; R@1 is {found.before:.3f} so and {found.after:.3f} with both at unit length"
    return Finding(
        cause="normalisation-missing",
        severity="error" if severe else "warning",
        what=f"The median length of the queries is {medians[1]:.3g}, of the gallery {medians[0]:.3g}{said}",
        why="Distances between vectors of different lengths measure the lengths; a threshold found on one does not fit "
        "the other.",
        fix="Divide queries and gallery by their norms, in one function that both go through.",
        numbers=numbers,
        share=min(1.0, max(0.1, numbers.get("lost", 0.1))),
    )


def find_equal_test_items(train: Embedded, test: Embedded, *, seed: int = 0) -> Finding | None:
    """Find test embeddings that are training embeddings, or nearly so.

    0.5% or more of them are equal to one, as far as the precision of the numbers tells
    (`mohs.evaluation.same_picture`): an error from 5% on. Else 1% or more have a near copy (`near_copies`): a warning,
    since frames of one recording may be meant to be apart. Two kinds of pictures have their means taken away before:
    what is of one kind is no copy. Both are compared at unit length if their lengths differ (`of_one_length`).
    """
    items = test.sample_items(seed=seed)
    part = test.take(items)
    train, part = of_one_length(train, part)
    if at_one_point(min(train.relative_spread, part.relative_spread)):
        return None  # all are equal: that is a collapse
    equal = (equal_partner(part.x_ND, train.x_ND) >= 0) & (part.norms > 0)
    share = float(equal.mean())
    if share < 0.005:
        return _near_copies(train, part, items, seed)
    return leak(
        equal,
        f"{int(equal.sum()):,} of {len(part):,} test embeddings ({share:.1%}) are equal to one of a training picture, "
        "but for rounding",
        why="The same pictures are on both sides: what is measured there is memory, and R@1 may be off by as much.",
        fix="Take the copies out of the test, or split again by class; then measure again.",
    )


def leak(equal_T: Bools, what: str, *, why: str, fix: str) -> Finding:
    """Return that test pictures are training pictures too, those marked; an error from 5% of them on."""
    share = float(equal_T.mean())
    return Finding(
        cause="train-test-leak",
        severity="error" if share >= 0.05 else "warning",
        what=what,
        why=why,
        fix=fix,
        settings={"data.split_by": "class"},
        numbers={"share": share, "num_equal": float(equal_T.sum()), "num_test": float(len(equal_T))},
        share=min(1.0, max(share, 0.1)),
    )


def _near_copies(train: Embedded, test: Embedded, items: Index, seed: int) -> Finding | None:
    shown = train.take(train.sample_items(seed=seed, max_items=4 * MAX_ITEMS))
    both = Embedded("", np.concatenate([shown.x_ND, test.x_ND]), np.concatenate([shown.labels, test.labels]))
    kinds = kinds_of_pictures(both, seed=seed)
    if kinds is not None:
        both = Embedded("", kinds.centred(both.x_ND), both.labels)
    known, rows = both.take(np.arange(len(shown))), both.take(np.arange(len(shown), len(both)))
    copied, reach, _ = near_copies(rows.x_ND, rows.labels, known.x_ND, known.labels)
    share = float(copied.mean())
    if not copied.any():
        return None
    numbers = {"share": share, "num_near": float(copied.sum()), "num_test": float(len(rows))}
    told = ""
    before = recall_at_1(rows, known, same_items=False)
    after = recall_at_1(rows, known, same_items=False, beyond_Q=np.where(copied, 2 * reach, -1.0))
    if before is not None and after is not None:
        numbers |= {"recall": before.value, "recall_without": after.value}
        told = f"; searched among the training pictures R@1 is {before.value:.3f}, and {after.value:.3f} without them"
    return Finding(
        cause="train-test-leak",
        severity="warning",
        what=f"{int(copied.sum()):,} of {len(rows):,} test embeddings ({share:.1%}; {some_rows(items[copied])}) are "
        f"far nearer to one of a training picture than pictures of a class are else{told}",
        why="Nearly the same pictures are on both sides: frames of one recording, a burst, or shifted and compressed "
        "copies. What is measured there is half memory.",
        fix="Look at some beside their nearest training picture. Keep pictures that were taken together on one side of "
        "the split.",
        numbers=numbers,
        share=min(1.0, max(share, 0.1)),
    )


def find_shared_classes(train_labels: ArrayLike, test_labels: ArrayLike) -> Finding | None:
    """Find a test that is neither of seen nor of unseen classes: some of its classes were trained on, and some not."""
    classes = np.unique(np.asarray(test_labels))
    seen_C = np.isin(classes, np.unique(np.asarray(train_labels)))
    share = float(seen_C.mean())
    if share in (0.0, 1.0):
        return None
    return Finding(
        cause="mixed-classes",
        severity="warning",
        what=f"{int(seen_C.sum()):,} of {len(classes):,} test classes ({share:.0%}) were trained on, the others "
        "were not",
        why="Seen classes are far easier than unseen ones; a number over both answers neither question.",
        fix="Measure seen and unseen classes apart, or split by class.",
        settings={"data.split_by": "class"},
        numbers={"share": share, "num_classes": float(len(classes))},
        share=min(share, 1.0 - share),
    )


def find_batch_norm(evaluation: Embedded, training: Embedded, *, seed: int = 0) -> Finding | None:
    """Find statistics of batch norm that do not fit: the same pictures rank worse in evaluation mode, by 0.1 or more.

    Both sets hold the same items in the same order. The difference of R@1 is paired, with its 95% class
    interval, whose lower end must be 0.1 or above.
    """
    in_eval, in_train = evaluation.sample(seed=seed), training.sample(seed=seed)
    if not in_eval.has_pairs or in_eval.recall is None or in_train.recall is None:
        return None
    found = gain_of(in_eval.recall, in_train.recall.hits, in_eval)
    if found.low < _BATCH_NORM:
        return None
    unit_eval, unit_train = in_eval.unit(), in_train.unit()
    cosine = float((unit_eval.x_ND * unit_train.x_ND).sum(axis=1).mean())
    return Finding(
        cause="batch-norm-statistics",
        severity="error",
        what=f"R@1 of {found.num:,} training pictures is {found.after:.3f} with batch norm by "
        f"the batch and {found.before:.3f} by its stored statistics (lost {found.gain:.3f}, {found.low:.3f} to "
        f"{found.high:.3f}); spread {in_train.relative_spread:.2f} and {in_eval.relative_spread:.2f}",
        why="The stored means and variances are not those of the pictures: too few steps, a momentum that is too slow, "
        "or pictures prepared differently.",
        fix="Show more steps or larger batches, keep the statistics of pretrained weights, and prepare queries as in "
        "training.",
        settings={"finetune.batch_norm": "eval"},
        numbers={"lost": found.gain, "low": found.low, "high": found.high, "cosine": cosine},
        share=min(1.0, found.gain),
    )


def find_harm(trained: Embedded, untrained: Embedded, *, start: str, seed: int = 0) -> Finding | None:
    """Find training that did harm: R@1 below that of the same pictures by the network it began with.

    The difference is paired; the upper end of its 95% class interval must be below 0. `start` names that
    network, as in "the untrained network".
    """
    after, before = trained.sample(seed=seed), untrained.sample(seed=seed)
    if not after.has_pairs or after.recall is None or before.recall is None:
        return None
    found = gain_of(before.recall, after.recall.hits, after)
    if found.high >= 0:
        return None
    return Finding(
        cause="worse-than-untrained",
        severity="error",
        what=f"R@1 of {found.num:,} test pictures is {found.after:.3f}; {start} gives "
        f"{found.before:.3f} (change {found.gain:.3f}, {found.low:.3f} to {found.high:.3f})",
        why="Training has taken away more than it gave.",
        fix="Look at the other findings; with none, lower the learning rate to a tenth and take easier negatives.",
        numbers={"recall": found.after} | found.numbers("recall_before", "recall", "change"),
        share=0.3,
    )
