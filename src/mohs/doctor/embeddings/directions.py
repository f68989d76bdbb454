"""Directions that drown the classes: two kinds of pictures, one column of another scale, one direction of anything.

A few directions of large variance look like a collapse to whoever counts dimensions. They are none if the rest knows
the classes: so each cause here is told by R@1 as it is and with the direction taken away.
"""

from dataclasses import dataclass
from typing import final

import numpy as np

from mohs.doctor.findings import Finding
from mohs.evaluation.checked import Bools, Float64, Index
from mohs.evaluation.embedded import Embedded, Gain, Recall, gain_of
from mohs.evaluation.same_picture import some_rows
from mohs.randomness import derived_seed

__all__ = ["Kinds", "find_domain_gap", "find_dominating_direction", "kinds_of_pictures"]

_MAX_KINDS = 4
_NUM_DIRECTIONS = 8
_APART = 4.5
_MIN_GAIN = 0.05
_MIN_ROWS = 20


@final
@dataclass(frozen=True, eq=False)
class Kinds:
    """Groups of rows that are apart whatever their classes.

    Attributes:
        kind_N: the group of each row, int64 [N]; 0 is the largest.
        apart: distance of the two nearest groups' means over the mean standard deviation along it.
        mixed: share of the classes with two rows or more that are in more than one group.
        paired: whether these are more than by chance, by 3 standard deviations: whoever took the pictures took one of
            each kind.
    """

    kind_N: Index
    apart: float
    mixed: float
    paired: bool

    def centred(self, x_ND: Float64) -> Float64:
        """Return the rows less the mean of their group."""
        mean_KD = np.stack([x_ND[self.kind_N == kind].mean(axis=0) for kind in range(int(self.kind_N.max()) + 1)])
        centred_ND: Float64 = x_ND - mean_KD[self.kind_N]
        return centred_ND


def kinds_of_pictures(embedded: Embedded, *, seed: int = 0) -> Kinds | None:
    """Return two to four groups of rows that are apart and that classes do not follow; None if there are none.

    Groups are those of k-means in the eight directions of largest variance, each of a twentieth of the rows or more.
    They are apart if along the line between the means of any two these are 4.5 standard deviations or more from each
    other (Ashman's D; a normal distribution cut in two has 2.7, a circle 4.1). Classes do not follow them if of
    those with two rows half as many as by chance, or more, are in more than one group. Of several such numbers of
    groups the largest is taken: half of a group is not apart from the other half.
    """
    from sklearn.cluster import KMeans

    if len(embedded) < _MIN_ROWS or embedded.relative_spread < 1e-6:
        return None
    centred_ND = embedded.x_ND - embedded.x_ND.mean(axis=0)
    _, _, axis_KD = np.linalg.svd(centred_ND, full_matrices=False)
    low_NK = centred_ND @ axis_KD[:_NUM_DIRECTIONS].T
    num_distinct = len(np.unique(low_NK.round(12), axis=0))
    found: Kinds | None = None
    for num in range(2, min(_MAX_KINDS, num_distinct) + 1):
        random_state = derived_seed(seed, "kinds of pictures", num) % 2**32
        kind_N = KMeans(num, n_init=4, random_state=random_state).fit_predict(low_NK).astype(np.int64)
        count_K = np.bincount(kind_N, minlength=num)
        if count_K.min() < max(5, len(embedded) / 20):
            continue
        apart = min(_apart(low_NK, kind_N == i, kind_N == j) for i in range(num) for j in range(i))
        mixed, by_chance = _mixed(embedded.codes, kind_N)
        if apart >= _APART and by_chance > 0 and mixed >= by_chance / 2:
            rank_K = np.argsort(np.argsort(-count_K, kind="stable"), kind="stable")
            num_several = int((np.bincount(embedded.codes) > 1).sum())
            deviation = float(np.sqrt(by_chance * (1 - by_chance) / num_several))
            found = Kinds(rank_K[kind_N], apart, mixed, mixed > by_chance + 3 * deviation)
    return found


def find_domain_gap(embedded: Embedded, *, seed: int = 0) -> Finding | None:
    """Find kinds of pictures that are nearer to each other than pictures of one class: a domain gap.

    There are `kinds_of_pictures`, and R@1 is better by 0.05 or more if each has its mean taken away, by the 95% class
    interval of the difference too. Or R@1 is at chance, and more classes than by chance have pictures of several kinds.
    """
    part = embedded.sample(seed=seed)
    before = part.recall
    kinds = None if before is None else kinds_of_pictures(part, seed=seed)
    if kinds is None or before is None:
        return None
    found = _gain(before, part, kinds.centred(part.x_ND))
    helps = found.gain >= _MIN_GAIN and found.low > 0
    if not helps and not (before.at_chance and kinds.paired):
        return None
    rows = embedded.sample_items(seed=seed)
    groups = [rows[kinds.kind_N == kind] for kind in range(int(kinds.kind_N.max()) + 1)]
    told = "; ".join(f"{len(group):,}, {some_rows(group)}" for group in groups)
    numbers = {
        "num_kinds": float(len(groups)), "apart": kinds.apart, "mixed": kinds.mixed, "paired": float(kinds.paired),
        **found.numbers("recall", "recall_centred"),
    }  # fmt: skip
    return Finding(
        cause="domain-gap",
        severity="warning",
        what=f"The rows are of {len(groups)} kinds, whatever their classes ({told}); {kinds.mixed:.0%} of the classes "
        f"have more than one kind. R@1 is {before.value:.3f} as they are and {found.after:.3f} with the mean of each "
        "kind taken away",
        why="The network sees first how a picture was made (studio or phone, scan or photo), only then what it shows."
        if helps
        else "The network sees how a picture was made, and does not know that pictures of two kinds show one thing.",
        fix=("Take the mean of each kind away before searching, and train" if helps else "Train")
        + " with anchor and positive of different kinds; augment as the kinds differ.",
        settings={"training.augment": 1.0},
        numbers=numbers,
        share=min(1.0, max(found.gain, 0.3)),
    )


def find_dominating_direction(embedded: Embedded, *, seed: int = 0) -> Finding | None:
    """Find a column or direction whose scale drowns what the others know.

    Columns with 5 times the median standard deviation or more, that hold half of the variance or more, are brought to
    the median; if there are none, the direction of largest variance is, where it holds half of it or more. R@1 must be
    better by 0.05 or more, by the 95% class interval of the difference too. Rows of unit length are brought back to it.
    """
    part = embedded.sample(seed=seed)
    before = part.recall
    if before is None or part.x_ND.shape[1] < 3:
        return None
    centred_ND = part.x_ND - part.x_ND.mean(axis=0)
    std_D = centred_ND.std(axis=0)
    usual = float(np.median(std_D))
    large_D = std_D >= 5 * usual
    total = float(np.square(std_D).sum())
    if total <= 0:
        return None
    of_columns = bool(large_D.any()) and usual > 0 and float(np.square(std_D[large_D]).sum()) >= total / 2
    if of_columns:
        rest_ND = centred_ND * np.where(large_D, usual / std_D, 1.0)
        share, ratio = float(np.square(std_D[large_D]).sum()) / total, float(std_D.max()) / usual
    else:
        _, value_K, axis_KD = np.linalg.svd(centred_ND, full_matrices=False)
        deviation_K = value_K / np.sqrt(len(part))
        share = float(deviation_K[0] ** 2 / total)
        usual = float(np.median(deviation_K[1:])) if len(deviation_K) > 1 else 0.0
        if share < 0.5 or usual <= 0:
            return None
        ratio = float(deviation_K[0]) / usual
        along_N = centred_ND @ axis_KD[0]
        rest_ND = centred_ND - np.outer(along_N * (1 - 1 / ratio), axis_KD[0])
    found = _gain(before, part, rest_ND)
    if found.gain < _MIN_GAIN or found.low <= 0:
        return None
    num, first = int(large_D.sum()), int(std_D.argmax())
    subject = (
        "One direction, which is no single column, holds"
        if not of_columns
        else f"Column {first} holds"
        if num == 1
        else f"{num:,} columns (column {first} most) hold"
    )
    return Finding(
        cause="one-dimension-dominates",
        severity="warning",
        what=f"{subject} {share:.0%} of the variance, with {ratio:.3g} times the scale of the others. R@1 is "
        f"{before.value:.3f} as it is and {found.after:.3f} with it brought to their scale (gain {found.gain:.3f}, "
        f"{found.low:.3f} to {found.high:.3f})",
        why="Distances are those along the largest scale; the other directions hardly count.",
        fix="Divide each column by its standard deviation over the gallery, or whiten, before distances are taken. "
        "Look for a feature or an activation without normalisation.",
        numbers={
            "num_columns": float(num if of_columns else 0),
            "variance_share": share,
            "scale_ratio": ratio,
            **found.numbers("recall", "recall_without"),
        },
        share=min(1.0, found.gain),
    )


def _gain(before: Recall, part: Embedded, changed_ND: Float64) -> Gain:
    """Return what changed rows do to R@1; rows of unit length are brought back to it."""
    changed = part.with_rows(changed_ND)
    after = changed.unit().recall if (np.abs(part.norms - 1.0) <= 1e-2).mean() >= 0.95 else changed.recall
    assert after is not None
    return gain_of(before, after.hits, part)


def _apart(low_NK: Float64, one_N: Bools, other_N: Bools) -> float:
    """Return Ashman's D of two groups along the line between their means."""
    line_K = low_NK[one_N].mean(axis=0) - low_NK[other_N].mean(axis=0)
    length = float(np.linalg.norm(line_K))
    along_N = low_NK @ line_K / max(length, 1e-300)
    deviation = float(np.sqrt((along_N[one_N].var() + along_N[other_N].var()) / 2))
    return length / deviation if deviation > 0 else float("inf" if length > 0 else 0.0)


def _mixed(codes: Index, kind_N: Index) -> tuple[float, float]:
    """Return the share of the classes with two rows or more that are in several groups, and that share by chance."""
    count_C = np.bincount(codes)
    several_C = count_C > 1
    if not several_C.any():
        return 0.0, 0.0
    kinds_C = np.bincount(np.unique(np.stack([codes, kind_N]), axis=1)[0], minlength=len(count_C))
    share_K = np.bincount(kind_N) / len(kind_N)
    in_one_C = (share_K[:, None] ** count_C[several_C]).sum(axis=0)
    return float((kinds_C[several_C] > 1).mean()), float(1 - in_one_C.mean())
