"""All that is looked for in embeddings: of the test, of the training, of queries, and in what they show together."""

from functools import cache, partial

import numpy as np

from mohs.doctor.embeddings import causes, labels, queries, two_sets
from mohs.doctor.embeddings.directions import find_domain_gap, find_dominating_direction
from mohs.doctor.embeddings.split_classes import find_split_ids
from mohs.doctor.findings import Check, Finding, unavailable, unless
from mohs.evaluation.embedded import Embedded
from mohs.evaluation.same_picture import failed_rows

__all__ = ["checks_of_embeddings", "checks_of_one_set", "sound_rows"]

_ALONE = (
    *("collapsed", "failed-pictures", "swapped", "normalisation-missing", "dead-positives", "domain-gap"),
    *("one-dimension-dominates", "narrow-cone", "label-order", "mixed-labels", "at-chance", "perhaps-one-class"),
    *("single-class", "one-class-dominates", "too-few-positives"),
)

_AHEAD = 0.05


def checks_of_embeddings(
    test: Embedded | None, train: Embedded | None, asked: Embedded | None, *, seed: int
) -> list[Check]:
    """Return the checks of a test (the gallery of the queries), a training set and queries, as far as they are there.

    Rows that hold nothing are told, and left out of everything else.
    """
    shown = test if test is not None else train
    if shown is None:
        checks = unavailable("no embeddings with labels", *_ALONE)
    else:
        of = "training" if test is None else "test"
        # A catalog has one picture of each class, and is searched by others.
        answered = "" if test is None or asked is None else "queries have their answers in the gallery"
        checks = [
            Check("failed-pictures", partial(causes.find_failed_pictures, shown)),
            *checks_of_one_set(sound_rows(shown), seed=seed),
            Check("single-class", partial(labels.find_single_class, shown.labels)),
            Check("one-class-dominates", partial(labels.find_dominating_class, shown.labels)),
            Check("too-few-positives", partial(labels.find_few_positives, shown.labels, of=of), answered),
        ]
    return [*checks, *_of_train_and_test(train, test, seed), *_of_queries(test, asked, seed)]


def checks_of_one_set(rows: Embedded, *, seed: int) -> list[Check]:
    """Return the checks of sound rows by themselves; what one of them explains, the later ones do not tell again."""
    collapsed = cache(partial(causes.find_collapsed_embeddings, rows, seed=seed))
    gap = cache(partial(find_domain_gap, rows, seed=seed))
    direction = cache(partial(find_dominating_direction, rows, seed=seed))
    drowned = cache(lambda: _one_of(gap(), direction()))
    order = cache(partial(labels.find_shifted_labels, rows, seed=seed))
    unnormalised = cache(partial(causes.find_unnormalised, rows, seed=seed))
    swapped = cache(partial(causes.find_swapped_embeddings, rows, seed=seed))
    # Whatever is equal everywhere has collapsed, and labels of other rows say nothing about these.
    alone, known = unless(collapsed), unless(collapsed, order)
    chance = cache(partial(labels.find_chance, rows, seed=seed))
    told = unless(collapsed, order, swapped, gap, direction)
    return [
        Check("collapsed", collapsed),
        Check("label-order", alone(order)),
        Check("swapped", known(swapped)),
        Check("normalisation-missing", known(lambda: _unless_more(unnormalised(), drowned()))),
        Check("dead-positives", known(partial(causes.find_equal_positives, rows, seed=seed))),
        Check("domain-gap", known(lambda: drowned() if drowned() is gap() else None)),
        Check("one-dimension-dominates", known(lambda: drowned() if drowned() is direction() else None)),
        Check("narrow-cone", alone(partial(causes.find_narrow_cone, rows, seed=seed))),
        Check("perhaps-one-class", unless(collapsed, order, gap, direction)(partial(find_split_ids, rows))),
        Check("mixed-labels", told(unless(chance)(partial(labels.find_mixed_labels, rows, seed=seed)))),
        Check("at-chance", told(chance)),
    ]


def sound_rows(rows: Embedded) -> Embedded:
    """Return the rows that hold something (`failed_rows`)."""
    failed = failed_rows(rows.x_ND, rows.codes)
    return rows.take(np.flatnonzero(~failed)) if failed.any() else rows


def _of_train_and_test(train: Embedded | None, test: Embedded | None, seed: int) -> list[Check]:
    if train is None or test is None:
        return unavailable("no embeddings of training and of test pictures", "train-test-leak", "mixed-classes")
    leak = partial(two_sets.find_equal_test_items, sound_rows(train), sound_rows(test), seed=seed)
    mixed = partial(two_sets.find_shared_classes, train.labels, test.labels)
    return [Check("train-test-leak", leak), Check("mixed-classes", mixed)]


def _of_queries(gallery: Embedded | None, asked: Embedded | None, seed: int) -> list[Check]:
    if gallery is None or asked is None:
        return unavailable("no embeddings of queries", "normalisation-missing", "self-match", "other-network")
    both = sound_rows(gallery), sound_rows(asked)
    told = unless(partial(causes.find_collapsed_embeddings, both[0], seed=seed))
    return [
        Check("failed-pictures", partial(causes.find_failed_pictures, asked)),
        Check("normalisation-missing", partial(two_sets.find_other_lengths, *both, seed=seed)),
        Check("self-match", partial(queries.find_queries_in_gallery, *both, seed=seed)),
        Check("other-network", told(partial(queries.find_foreign_queries, *both, seed=seed))),
    ]


def _one_of(gap: Finding | None, direction: Finding | None) -> Finding | None:
    """Return which of the two is told: a column of large scale may look like two kinds, and two kinds like a direction.

    The one that explains more by 0.05 of R@1. Else the gap if classes have a picture of each kind more often than by
    chance, or if the direction is no column: then it is the line from one kind to the other. Else the column.
    """
    if gap is None or direction is None:
        return gap or direction
    ahead = gap.numbers["gain"] - direction.numbers["gain"]
    if abs(ahead) < _AHEAD:
        return gap if gap.numbers["paired"] or not direction.numbers["num_columns"] else direction
    return gap if ahead > 0 else direction


def _unless_more(finding: Finding | None, other: Finding | None) -> Finding | None:
    """Return a finding unless another one explains more of R@1, by 0.05: large columns change the lengths, too."""
    if finding is None or other is None:
        return finding
    return None if other.numbers["gain"] >= finding.numbers["gain"] + _AHEAD else finding
