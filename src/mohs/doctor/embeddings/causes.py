"""Causes that one set of embeddings shows: collapsed, failed pictures, the wrong way round, odd lengths, copies."""

import numpy as np

from mohs.doctor.embeddings.directions import find_domain_gap, find_dominating_direction
from mohs.doctor.findings import Finding
from mohs.errors import InputError
from mohs.evaluation.checked import Index
from mohs.evaluation.collapse import at_one_point
from mohs.evaluation.embedded import MAX_ITEMS, Embedded, gain_of, hits_at_1
from mohs.evaluation.exact_neighbours import nearest_by_class
from mohs.evaluation.same_picture import EQUAL, failed_rows, some_rows
from mohs.evaluation.triplets import sample_triplets

__all__ = [
    "find_collapsed_embeddings", "find_equal_positives", "find_failed_pictures", "find_narrow_cone",
    "find_swapped_embeddings", "find_unnormalised",
]  # fmt: skip

_LINE = 2.0
_NUM_TRIPLETS = 10_000
_KNOWS = 0.5  # a skill (`Recall.skill`) at which embeddings have not collapsed, however little they vary
_POINT_CLASSES = 4
_POINT_SHARE = 0.05
_FEW_AT_POINTS = 0.2
_CONE = 0.9
_MOST = 0.5


def find_collapsed_embeddings(embedded: Embedded, *, seed: int = 0) -> Finding | None:
    """Find embeddings at one point, on one line, or at a few points with many classes each.

    - One point: a relative spread (√Σ variance over the mean norm) below 0.02. One class alone may be at one point.
    - A line: an effective rank below 2 of 8 or more dimensions and classes, if what drowns the classes is not a domain
      gap, a column or a direction (`mohs.doctor.embeddings.directions`).
    - Points: a fifth of the rows or more lie at points that hold 4 classes each or more, and of these rows fewer than
      0.3 find their class. A point reaches as far as a tenth of the typical distance of two rows, or twice the median
      distance of a class, if that is no more than 0.4 of it; twice as far there are hardly more rows. A twentieth of
      the rows will do within a hundredth of the typical distance: a warning, since blank pictures do the same. So will
      points of two classes, with half of the rows, of which fewer than half find theirs; not along a line.

    At one point or on a line nothing has collapsed if R@1 is more than halfway from chance to 1: then the classes are
    there, however close they lie.
    """
    num_classes = int(embedded.codes.max()) + 1
    if num_classes < 2:
        return None
    relative, rank = embedded.relative_spread, embedded.spread.effective_rank
    part = embedded.sample(seed=seed)
    knows = part.recall is not None and part.recall.skill >= _KNOWS
    numbers = {"relative_spread": relative, "effective_rank": rank}
    few, rows = False, np.zeros(0, dtype=np.int64)
    on_line = rank < _LINE and min(embedded.x_ND.shape[1], num_classes) >= 8 and not knows
    if at_one_point(relative):
        if knows:
            return None
        what = f"The embeddings have collapsed to a point: their spread is {relative:.2g} of their length"
    elif (points := _points(part)) is not None:
        num_points, at_points_N, at_points = points
        share = len(at_points_N) / len(part)
        rows, few = embedded.sample_items(seed=seed)[at_points_N], share < _FEW_AT_POINTS
        numbers |= {"num_points": float(num_points), "share": share, "num_classes": float(at_points)}
        what = (
            f"Of the rows {share:.0%}, of {at_points:,} classes, lie at {num_points:,} "
            f"point{'s' if num_points > 1 else ''}: classes that share one cannot be told apart"
        )
    elif on_line and not (find_domain_gap(part, seed=seed) or find_dominating_direction(part, seed=seed)):
        what = (
            f"The embeddings of {num_classes:,} classes lie on a line: effective rank {rank:.2f} of "
            f"{embedded.x_ND.shape[1]}, spread {relative:.2g}"
        )
    else:
        return None
    if part.recall is not None:
        numbers["recall"] = part.recall.value
    return Finding(
        cause="collapsed",
        severity="warning" if few else "error",
        what=what,
        why="Blank or failed pictures do this, or one picture used for many classes; so does a training that began to "
        "collapse."
        if few
        else "Training ends at one answer for every picture if its triplets cannot be solved, or if its steps are too "
        "large.",
        fix=f"To tell them apart, look at the pictures of {some_rows(rows)}; leave out what did not load."
        if few
        else "Begin again from fresh weights: easier negatives at first, a tenth of the learning rate, batch norm, or "
        "InfoNCE.",
        settings={} if few else {"loss.name": "infonce", "model.batch_norm": True},
        numbers=numbers,
        share=0.6,
    )


def _points(part: Embedded) -> tuple[int, Index, int] | None:
    """Return how many points several classes share, the rows there, and how many classes these are of."""
    if part.recall is None:
        return None
    typical = part.spread.std_sqrt_dim * 2**0.5
    a, p, _ = sample_triplets(part.labels, _NUM_TRIPLETS // 10, seed=0)
    of_class = 2 * float(np.median(_distances(part, a, p)))
    radius = max(0.1 * typical, of_class if of_class <= 0.4 * typical else 0.0)
    points = _shared(part, radius, num_classes=_POINT_CLASSES, least=_FEW_AT_POINTS, most_found=0.3)
    if points is not None or part.spread.effective_rank < _LINE:
        return points  # along a line rows of other classes are near by chance
    points = _shared(part, 0.01 * typical, num_classes=_POINT_CLASSES, least=_POINT_SHARE, most_found=0.3)
    # A few pairs of classes at one point each are look-alikes; half of the rows are not.
    return points or _shared(part, radius, num_classes=2, least=0.5, most_found=0.5)


def _shared(
    part: Embedded, radius: float, *, num_classes: int, least: float, most_found: float
) -> tuple[int, Index, int] | None:
    """Return the points of a radius that so many classes share or more, if they hold this share of the rows or more."""
    _, other_N = nearest_by_class(part.x_ND, part.codes, part.x_ND, part.codes, same_items=True)
    # Rounding of the product may hide rows of one point: their squares are a difference of equal numbers.
    near_N = np.square(other_N) <= radius**2 + 5e-13 * float(np.square(part.norms).max())
    left = np.flatnonzero(near_N)
    at_point_N, num_points = np.zeros(len(part), dtype=bool), 0
    while len(left):
        distance_N = np.linalg.norm(part.x_ND - part.x_ND[left[0]], axis=1)
        near_N = distance_N <= radius
        alone = (distance_N <= 2 * radius).sum() <= 1.25 * near_N.sum()
        if alone and len(np.unique(part.codes[near_N])) >= num_classes:
            num_points += 1
            at_point_N |= near_N
        left = left[~near_N[left]]
    assert part.recall is not None
    counted_N = part.recall.counted & at_point_N
    if at_point_N.mean() < least or not counted_N.any() or part.recall.hits[counted_N].mean() >= most_found:
        return None
    return num_points, np.flatnonzero(at_point_N), len(np.unique(part.codes[at_point_N]))


def find_narrow_cone(embedded: Embedded, *, seed: int = 0) -> Finding | None:
    """Find embeddings in a narrow cone: the mean cosine of two rows is above 0.9.

    A note: the order of the neighbours may be perfect all the same.
    """
    part = embedded.sample(seed=seed)
    if len(part) < 2 or int(part.codes.max()) < 1 or part.x_ND.shape[1] < 2:
        return None
    num, square = len(part), float(np.square(part.unit().x_ND.mean(axis=0)).sum())
    cosine = (num * square - 1) / (num - 1)
    if cosine <= _CONE:
        return None
    numbers = {"mean_cosine": cosine, "relative_spread": part.relative_spread}
    found = ""
    if part.recall is not None:
        numbers["recall"] = part.recall.value
        found = f"; R@1 is {part.recall.value:.3f} all the same"
    return Finding(
        cause="narrow-cone",
        severity="note",
        what=f"The embeddings lie in a narrow cone: the mean cosine of two rows is {cosine:.3f}{found}",
        why="They share one large part, which says nothing. The order of neighbours need not suffer; thresholds and "
        "margins that are made for the whole sphere do.",
        fix="Take the mean vector away and divide by the length, or measure the threshold on these distances.",
        numbers=numbers,
        share=0.05,
    )


def find_failed_pictures(embedded: Embedded) -> Finding | None:
    """Find rows that hold nothing: all zero, or one vector that three classes or more share (`failed_rows`).

    An error from a twentieth of the rows on.
    """
    failed = failed_rows(embedded.x_ND, embedded.codes)
    num, share = int(failed.sum()), float(failed.mean())
    if not num:
        return None
    zeros = int((embedded.norms[failed] == 0).sum())
    sound = embedded.take(np.flatnonzero(~failed))
    numbers = {"num_failed": float(num), "num_zero": float(zeros), "share": share}
    told = ""
    if len(embedded) <= 2 * MAX_ITEMS and embedded.recall is not None and sound.recall is not None:
        numbers |= {"recall": embedded.recall.value, "recall_without": sound.recall.value}
        told = f"; R@1 is {sound.recall.value:.3f} without them and {embedded.recall.value:.3f} with them"
    most = share > _MOST
    return Finding(
        cause="failed-pictures",
        severity="error" if share >= 0.05 else "warning",
        what=f"{num:,} of {len(embedded):,} rows ({share:.1%}) hold nothing: {zeros:,} are all zero, {num - zeros:,} "
        f"share one vector over three classes or more ({some_rows(np.flatnonzero(failed))}){told}",
        why="A picture that did not load, or that is blank, gives the same vector whatever its class. So does one "
        f"picture that is used for many classes{', or a network that has died for these pictures' if most else ''}.",
        fix="Look at the pictures of these rows; read them again, or leave them out."
        + (" If they are sound, it is the network: train it again, at a lower rate." if most else ""),
        numbers=numbers,
        share=share,
    )


def find_swapped_embeddings(embedded: Embedded, *, seed: int = 0) -> Finding | None:
    """Find embeddings that put a class as far apart as they can.

    Random triplets are in order in under 40% of the cases, and the *farthest* item is of the query's class more often
    than the nearest one, by the 95% class interval of the difference, and than a guess by three times. Low
    accuracy alone may have other reasons: two kinds of pictures that the network does not bring together have it too.
    """
    part = embedded.sample(seed=seed)
    near = part.recall
    if not part.has_pairs or near is None:
        return None
    a, p, n = sample_triplets(part.labels, _NUM_TRIPLETS, seed=seed)
    positive, negative = _distances(part, a, p), _distances(part, a, n)
    accuracy = float((positive < negative).mean())
    if accuracy >= 0.4:
        return None
    far = gain_of(near, hits_at_1(part, part, same_items=True, farthest=True)[0], part)
    chance = float(np.bincount(part.codes).max() - 1) / max(1, len(part) - 1)
    if far.low <= 0 or far.after < 3 * chance:
        return None
    return Finding(
        cause="swapped",
        severity="error",
        what=f"The farthest picture is of the query's class for {far.after:.1%} of {far.num:,} "
        f"queries, the nearest for {far.before:.1%}; of random triplets {accuracy:.1%} are in order",
        why="Positive and negative, or distance and similarity, have changed places in the loss.",
        fix="Lower d_ap − d_an + margin (distances), or s_an − s_ap + margin (similarities), and train again.",
        numbers={"farthest_recall": far.after, "difference": far.gain, "triplet_accuracy": accuracy},
        share=1.0,
    )


def find_unnormalised(embedded: Embedded, *, seed: int = 0) -> Finding | None:
    """Find embeddings of different lengths that rank better once they are divided by them.

    Their norms vary by 1% or more (standard deviation over mean), and R@1 is better by 0.02 or more at unit length, and
    by the 95% class interval of the difference on the same queries.
    """
    part = embedded.sample(seed=seed)
    variation = float(part.norms.std() / part.norms.mean()) if part.norms.mean() > 0 else 0.0
    if variation < 0.01 or not part.has_pairs or part.recall is None or (at_unit := part.unit().recall) is None:
        return None
    found = gain_of(part.recall, at_unit.hits, part)
    if found.low <= 0 or found.gain < 0.02 or at_unit.at_chance:
        return None
    return Finding(
        cause="normalisation-missing",
        severity="warning",
        what=f"Lengths of the embeddings vary by {variation:.0%}; R@1 is {found.before:.3f} as they are and "
        f"{found.after:.3f} at unit length (gain {found.gain:.3f}, {found.low:.3f} to {found.high:.3f})",
        why="The length says how much there is in a picture, not what; Euclidean distances mix both.",
        fix="Divide each embedding by its norm, in training and in search.",
        numbers={"variation": variation, "gain": found.gain, "low": found.low, "high": found.high},
        share=min(1.0, found.gain),
    )


def find_equal_positives(embedded: Embedded, *, seed: int = 0) -> Finding | None:
    """Find classes whose pictures are one and the same: equal embeddings in a class, in 5% of such pairs or more.

    Equal is closer than 1e-5 of the length. Embeddings that are equal everywhere have collapsed instead.
    """
    part = embedded.sample(seed=seed)
    if not part.has_pairs:
        return None
    try:
        a, p, n = sample_triplets(part.labels, _NUM_TRIPLETS, seed=seed)
    except InputError:
        return None
    limit = EQUAL * float(part.norms.mean())
    dead = float((_distances(part, a, p) <= limit).mean())
    elsewhere = float((_distances(part, a, n) <= limit).mean())
    if dead < 0.05 or elsewhere > dead / 2:
        return None
    return Finding(
        cause="dead-positives",
        severity="error" if dead >= 0.5 else "warning",
        what=f"{dead:.1%} of the pairs of one class have equal embeddings ({elsewhere:.1%} of the pairs of two)",
        why="They are copies of one picture: found without any learning, they flatter recall, and in training nothing "
        "is pulled together.",
        fix="Keep one of each set of equal pictures ('mohs check' lists them), then measure again.",
        numbers={"dead_share": dead, "equal_across_classes": elsewhere},
        share=dead,
    )


def _distances(part: Embedded, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    distance: np.ndarray = np.linalg.norm(part.x_ND[a] - part.x_ND[b], axis=1)
    return distance
