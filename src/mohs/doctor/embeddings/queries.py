"""Queries that do not go with their gallery: rows of it, of another network, prepared or labelled otherwise."""

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from mohs.doctor.findings import Finding
from mohs.evaluation.checked import Float64
from mohs.evaluation.embedded import Embedded, Recall, of_one_length, recall_at_1
from mohs.evaluation.exact_neighbours import nearest_by_class
from mohs.evaluation.intervals import share_and_interval
from mohs.evaluation.same_picture import equal_partner, near_copies
from mohs.randomness import generator

__all__ = ["find_foreign_queries", "find_queries_in_gallery"]

_MIN_LEAK, _LEAK = 0.005, 0.05
_MIN_DROP = 0.2
_MIN_CLASSES = 10
_TOLD_APART = 1.2  # distances to other classes over those within one, from which on a place says something

_UNSURE = "Another network, another preprocessing, or labels that do not fit: what is given does not tell these apart."
_COMPARE = "To tell them apart, embed a few pictures of the gallery as queries are: the same network gives equal rows."


def find_queries_in_gallery(gallery: Embedded, queries: Embedded, *, seed: int = 0) -> Finding | None:
    """Find queries that are rows of the gallery, also after rounding or at another length: 0.5% of them or more.

    Rounding is what the numbers themselves tell (`mohs.evaluation.same_picture`); if that finds none, copies are rows
    far nearer to one of the gallery than pictures of a class are else (`near_copies`), as with codes of 8 bits. Lengths
    are those of `of_one_length`. An error from 5% on, a warning for near copies: R@1 is measured again with each
    query's own row left out.
    """
    gallery, part = of_one_length(gallery, queries.sample(seed=seed))
    if min(gallery.relative_spread, part.relative_spread) < 1e-3:
        return None  # all are equal: that is a collapse
    partner_Q = equal_partner(part.x_ND, gallery.x_ND)
    equal_Q = (partner_Q >= 0) & (part.norms > 0)
    reach_Q = np.linalg.norm(part.x_ND - gallery.x_ND[np.maximum(partner_Q, 0)], axis=1) + 1e-6 * part.norms
    near = float(equal_Q.mean()) < _MIN_LEAK
    if near:
        equal_Q, reach_Q, _ = near_copies(part.x_ND, part.labels, gallery.x_ND, gallery.labels)
        reach_Q = 2 * reach_Q
    share = float(equal_Q.mean())
    if share < _MIN_LEAK:
        return None
    numbers = {"share": share, "num_equal": float(equal_Q.sum()), "num_queries": float(len(part))}
    before = recall_at_1(part, gallery, same_items=False)
    told = ""
    if before is not None:
        after = recall_at_1(part, gallery, same_items=False, beyond_Q=np.where(equal_Q, reach_Q, -1.0))
        numbers["recall"] = before.value
        told = f"; R@1 is {before.value:.3f}, and no query has another picture of its class to find"
        if after is not None:
            numbers |= {"recall_without": after.value, "chance": after.chance}
            told = f"; R@1 is {before.value:.3f}, and {after.value:.3f} with its own row left out of each one's gallery"
    return Finding(
        cause="self-match",
        severity="error" if share >= _LEAK and not near else "warning",
        what=f"{int(equal_Q.sum()):,} of {len(part):,} queries ({share:.1%}) are "
        + (
            "far nearer to a row of the gallery than pictures of a class are else"
            if near
            else "rows of the gallery, but for rounding"
        )
        + told,
        why="They are rows of the gallery with fewer digits, or embedded again, or nearly the same pictures, as of a "
        "burst: such a query finds its copy, whatever the network knows."
        if near
        else "A query that is in the gallery finds itself, whatever the network knows.",
        fix="Take the queries out of the gallery, or give all rows as one set: then none is in its own gallery.",
        numbers=numbers,
        share=min(1.0, max(share, 0.1)),
    )


@final
@dataclass(frozen=True)
class _Mended:
    """R@1 of the queries after a change that one cause would undo."""

    centred: float
    scaled: float
    rotated: float


def find_foreign_queries(gallery: Embedded, queries: Embedded, *, seed: int = 0) -> Finding | None:
    """Find a gallery that is good by itself, and queries that do not find their classes in it.

    R@1 of the queries in the gallery is at chance, or below that of the gallery among itself (of the queries among
    themselves, if the gallery has one picture of each class) by 0.2 or more, by the 95% class intervals of
    both too. What undoes it tells the cause:

    - each set's mean taken away, or each column brought to the same mean and deviation, which regains half of what was
      lost: a domain gap, or another preprocessing;
    - a rotation fitted to the means of half of the classes and measured on the others: another network (or another
      order of the columns);
    - neither, and the queries lie as near to gallery items as items of one class to each other: the labels do not fit;
    - neither, and they lie as far as items of other classes: another network or preprocessing;
    - nothing of these: what is given does not tell.

    Both sets are compared as they are if their lengths are alike, else at unit length. Queries that are rows of the
    gallery are left out.
    """
    part = queries.sample(seed=seed)
    new = equal_partner(part.x_ND, gallery.x_ND) < 0
    part = part.take(np.flatnonzero(new))
    if not len(part):
        return None
    base, part = of_one_length(gallery, part)
    cross = recall_at_1(part, base, same_items=False)
    if cross is None:
        return None
    sample = base.sample(seed=seed)
    alone = [each.recall for each in (sample, part)]
    known = [each for each in alone if each is not None and not each.at_chance]
    own = max(known, key=lambda each: each.value) if known else None
    if not cross.at_chance and (own is None or not _is_lower(cross, own, part, sample)):
        return None
    if any(alone) and own is None and alone[0] is not None:
        return None  # the gallery knows nothing by itself, which is told of the gallery
    mended = _mended(base, part, seed)
    level = own.value if own is not None else 1.0
    half = cross.value + max(0.1, (level - cross.value) / 2)
    numbers = {"recall": cross.value, "chance": cross.chance, "num_queries": float(cross.num)}
    numbers |= {"recall_centred": mended.centred, "recall_scaled": mended.scaled, "recall_rotated": mended.rotated}
    what = f"R@1 of {cross.num:,} queries in the gallery is {cross.value:.3f} (a guess: {cross.chance:.3f})"
    if own is not None:
        numbers["recall_alone"] = own.value
        whose = "the gallery" if own is alone[0] else "the queries"
        what += f", and {own.value:.3f} for {whose} by {'itself' if own is alone[0] else 'themselves'}"
    told = _by_mending(mended, half)
    if told is None and own is not None:
        nearer, foreign = _nearness(base, part, sample if own is alone[0] else part)
        numbers |= {"nearness": nearer, "nearness_of_others": foreign}
        told = _by_nearness(nearer, foreign)
    cause, found, why, fix = told or ("at-chance", "", _UNSURE, _COMPARE)
    return Finding(
        cause=cause,
        severity="error" if cross.at_chance else "warning",
        what=what + found,
        why=why,
        fix=fix,
        numbers=numbers,
        share=min(1.0, max(0.3, level - cross.value)),
    )


def _by_mending(mended: _Mended, half: float) -> tuple[str, str, str, str] | None:
    """Return the cause that a change undoes by half or more: its name, what was found, why, and what to do."""
    if max(mended.centred, mended.scaled) >= half:
        how = "the mean of each set taken away" if mended.centred >= half else "each set's columns brought to one scale"
        return (
            "domain-gap",
            f"; with {how} it is {mended.centred if mended.centred >= half else mended.scaled:.3f}",
            "The queries are shifted as a whole: pictures of another kind, or prepared otherwise than the gallery's.",
            "Prepare queries as the gallery (size, channel order, mean and deviation). If they are of another kind, "
            "train with anchors of one kind and positives of the other; meanwhile take each set's mean away.",
        )
    if mended.rotated >= half:
        return (
            "other-network",
            f"; turned by a rotation fitted on other classes it is {mended.rotated:.3f}",
            "Both know the classes, in other coordinates: another network or weights, or columns in another order.",
            "Embed gallery and queries with the same file of weights; embed the gallery anew after each training.",
        )
    return None


def _by_nearness(nearer: float, foreign: float) -> tuple[str, str, str, str]:
    """Return the same by how near the queries lie to gallery items, beside items of other classes."""
    found = (
        f"; their nearest gallery items are {nearer:.2f} times as far as nearest items of one class, those of other "
        f"classes {foreign:.2f} times"
    )
    cause, why, fix = "at-chance", _UNSURE, _COMPARE
    if foreign >= _TOLD_APART and nearer <= 1 + 0.3 * (foreign - 1):
        cause, fix = "label-order", "Compare some queries with what they find; write embeddings and labels in one loop."
        why = "The queries lie where gallery items of other labels are: labels in another order, or classes that are "
        why += "named otherwise."
    elif foreign >= _TOLD_APART and nearer >= 1 + 0.7 * (foreign - 1):
        cause = "other-network"
        why = "The queries come from another network or another preprocessing than the gallery; or they show what the "
        why += "network does not know."
    return cause, found, why, fix


def _is_lower(cross: Recall, own: Recall, part: Embedded, sample: Embedded) -> bool:
    whose = sample if own.hits is not None and len(own.hits) == len(sample) else part
    (low_mean, low_low, low_high), (high_mean, high_low, high_high) = (
        share_and_interval(found.hits[found.counted], rows.labels[found.counted])
        for found, rows in ((cross, part), (own, whose))
    )
    half = float(np.hypot(low_high - low_low, high_high - high_low)) / 2
    return high_mean - low_mean - half >= _MIN_DROP


def _mended(gallery: Embedded, part: Embedded, seed: int) -> _Mended:
    def recall(query_QD: Float64, gallery_GD: Float64) -> float:
        found = recall_at_1(part.with_rows(query_QD), gallery.with_rows(gallery_GD), same_items=False)
        return 0.0 if found is None else found.value

    query_QD, gallery_GD = part.x_ND - part.x_ND.mean(axis=0), gallery.x_ND - gallery.x_ND.mean(axis=0)
    scale_QD, scale_GD = (x / np.where(x.std(axis=0) > 0, x.std(axis=0), 1.0) for x in (query_QD, gallery_GD))
    return _Mended(recall(query_QD, gallery_GD), recall(scale_QD, scale_GD), _rotated(gallery, part, seed))


def _rotated(gallery: Embedded, part: Embedded, seed: int) -> float:
    """Return R@1 on half of the common classes after an orthogonal map fitted to the means of the others; 0 if few."""
    common = np.intersect1d(part.labels, gallery.labels)
    if len(common) < 2 * _MIN_CLASSES:
        return 0.0
    order = generator(seed, "classes to fit a rotation to").permutation(len(common))
    values = []
    for fitted, tested in ((order[::2], order[1::2]), (order[1::2], order[::2])):
        mean_2CD = [_class_means(each, common[np.sort(fitted)]) for each in (part, gallery)]
        centre_2D = [mean_CD.mean(axis=0) for mean_CD in mean_2CD]
        # Procrustes (Schönemann 1966), as the means go from the queries' coordinates to the gallery's.
        u_DD, _, v_DD = np.linalg.svd((mean_2CD[0] - centre_2D[0]).T @ (mean_2CD[1] - centre_2D[1]))
        turned = part.with_rows((part.x_ND - centre_2D[0]) @ (u_DD @ v_DD) + centre_2D[1])
        found = recall_at_1(
            turned.take(np.flatnonzero(np.isin(part.labels, common[tested]))),
            gallery.take(np.flatnonzero(np.isin(gallery.labels, common[tested]))),
            same_items=False,
        )
        values.append(0.0 if found is None else found.value)
    return float(np.mean(values))


def _class_means(part: Embedded, names: NDArray[np.str_]) -> Float64:
    place = np.minimum(np.searchsorted(names, part.labels), len(names) - 1)
    kept = names[place] == part.labels
    total_CD = np.zeros((len(names), part.x_ND.shape[1]))
    np.add.at(total_CD, place[kept], part.x_ND[kept])
    mean_CD: Float64 = total_CD / np.bincount(place[kept], minlength=len(names))[:, None]
    return mean_CD


def _nearness(gallery: Embedded, part: Embedded, known: Embedded) -> tuple[float, float]:
    """Return two median distances over that of a row of `known` to the nearest one of its class.

    Of a query to its nearest gallery item, and of a row of `known` to the nearest one of another class.
    """
    among = _nearest_distance(known, known, same_class=True)
    across = _nearest_distance(part, gallery, same_class=None)
    others = _nearest_distance(known, known, same_class=False)
    return across / max(among, 1e-300), others / max(among, 1e-300)


def _nearest_distance(rows: Embedded, others: Embedded, *, same_class: bool | None) -> float:
    """Return the median distance to the nearest other item: of the same class, of another one, or any (None)."""
    _, codes = np.unique(np.concatenate([rows.labels, others.labels]), return_inverse=True)
    own_N, other_N = nearest_by_class(
        rows.x_ND, codes[: len(rows)], others.x_ND, codes[len(rows) :], same_items=rows is others
    )
    distance_N = np.minimum(own_N, other_N) if same_class is None else own_N if same_class else other_N
    return float(np.median(distance_N[np.isfinite(distance_N)]))
