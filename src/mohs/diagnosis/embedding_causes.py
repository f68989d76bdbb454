"""Causes that one set of embeddings shows: collapsed, the wrong way round, of odd lengths, equal positives."""

import numpy as np

from mohs.diagnosis.embedded import EQUAL, Embedded, difference_and_interval, hits_at_1
from mohs.diagnosis.findings import Finding
from mohs.errors import InputError
from mohs.evaluation.triplets import sample_triplets

__all__ = [
    "NO_SPREAD",
    "find_collapsed_embeddings",
    "find_equal_positives",
    "find_swapped_embeddings",
    "find_unnormalised",
]

NO_SPREAD = 0.02
"""Embeddings with a smaller relative spread have collapsed to a point."""

_LINE = 2.0
_NUM_TRIPLETS = 10_000


def find_collapsed_embeddings(embedded: Embedded) -> Finding | None:
    """Find embeddings at one point or on one line.

    A relative spread (√Σ variance over the mean norm) below 0.02, or an effective rank below 2 of 8 or more dimensions
    and classes. One class alone may be at one point.
    """
    relative, rank = embedded.relative_spread, embedded.spread.effective_rank
    num_classes = int(embedded.codes.max()) + 1
    if num_classes < 2:
        return None
    numbers = {"relative_spread": relative, "effective_rank": rank}
    if relative < NO_SPREAD:
        what = f"The embeddings have collapsed to a point: their spread is {relative:.2g} of their length"
    elif rank < _LINE and min(embedded.x_ND.shape[1], num_classes) >= 8:
        what = (
            f"The embeddings of {num_classes:,} classes lie on a line: effective rank {rank:.2f} of "
            f"{embedded.x_ND.shape[1]}, spread {relative:.2g}"
        )
    else:
        return None
    return Finding(
        cause="collapsed",
        severity="error",
        what=what,
        why="One answer for every picture is the way out of triplets that cannot be solved, and the end of steps that "
        "were too large.",
        fix="Begin again from fresh weights: easier negatives at first, a tenth of the learning rate, batch norm, or "
        "InfoNCE.",
        settings={"loss.name": "infonce", "model.batch_norm": True},
        numbers=numbers,
        share=0.6,
    )


def find_swapped_embeddings(embedded: Embedded, *, seed: int = 0) -> Finding | None:
    """Find embeddings that put a class as far apart as they can.

    Random triplets are in order in under 40% of the cases, and the *farthest* item is of the query's class more often
    than the nearest one, by the 95% class interval of the difference, and than a guess by three times. Low
    accuracy alone may have other reasons: two kinds of pictures that the network does not bring together have it too.
    """
    part = embedded.take(embedded.sample_items(seed=seed))
    if not part.has_pairs:
        return None
    a, p, n = sample_triplets(part.labels, _NUM_TRIPLETS, seed=seed)
    positive, negative = _distances(part, a, p), _distances(part, a, n)
    accuracy = float((positive < negative).mean())
    if accuracy >= 0.4:
        return None
    near, counted = hits_at_1(part, part, same_items=True)
    far, _ = hits_at_1(part, part, same_items=True, farthest=True)
    difference, low, _ = difference_and_interval(far[counted].astype(float) - near[counted], part.labels[counted])
    chance = float(np.bincount(part.codes).max() - 1) / max(1, len(part) - 1)
    if low <= 0 or far[counted].mean() < 3 * chance:
        return None
    return Finding(
        cause="swapped",
        severity="error",
        what=f"The farthest picture is of the query's class for {far[counted].mean():.1%} of {int(counted.sum()):,} "
        f"queries, the nearest for {near[counted].mean():.1%}; of random triplets {accuracy:.1%} are in order",
        why="Positive and negative, or distance and similarity, have changed places in the loss.",
        fix="Lower d_ap − d_an + margin (distances), or s_an − s_ap + margin (similarities), and train again.",
        numbers={"farthest_recall": float(far[counted].mean()), "difference": difference, "triplet_accuracy": accuracy},
        share=1.0,
    )


def find_unnormalised(embedded: Embedded, *, seed: int = 0) -> Finding | None:
    """Find embeddings of different lengths that rank better once they are divided by them.

    Their norms vary by 1% or more (standard deviation over mean), and R@1 is better by 0.02 or more at unit length, and
    by the 95% class interval of the difference on the same queries.
    """
    part = embedded.take(embedded.sample_items(seed=seed))
    variation = float(part.norms.std() / part.norms.mean()) if part.norms.mean() > 0 else 0.0
    if variation < 0.01 or not part.has_pairs:
        return None
    raw, counted = hits_at_1(part, part, same_items=True)
    unit, _ = hits_at_1(part.unit(), part.unit(), same_items=True)
    gain, low, high = difference_and_interval(unit[counted].astype(float) - raw[counted], part.labels[counted])
    if low <= 0 or gain < 0.02:
        return None
    return Finding(
        cause="normalisation-missing",
        severity="warning",
        what=f"Lengths of the embeddings vary by {variation:.0%}; R@1 is {raw[counted].mean():.3f} as they are and "
        f"{unit[counted].mean():.3f} at unit length (gain {gain:.3f}, {low:.3f} to {high:.3f})",
        why="The length says how much there is in a picture, not what; Euclidean distances mix both.",
        fix="Divide each embedding by its norm, in training and in search.",
        numbers={"variation": variation, "gain": gain, "low": low, "high": high},
        share=min(1.0, gain),
    )


def find_equal_positives(embedded: Embedded, *, seed: int = 0) -> Finding | None:
    """Find classes whose pictures are one and the same: equal embeddings in a class, in 5% of such pairs or more.

    Equal is closer than 1e-5 of the length. Embeddings that are equal everywhere have collapsed instead.
    """
    part = embedded.take(embedded.sample_items(seed=seed))
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
