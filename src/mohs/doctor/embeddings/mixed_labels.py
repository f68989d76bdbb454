"""Labels that part of the rows do not fit: rows amid another class, with their own no nearer than any."""

import numpy as np

from mohs.doctor.findings import Finding
from mohs.evaluation.checked import Float64, Index
from mohs.evaluation.embedded import Embedded
from mohs.evaluation.exact_neighbours import nearest
from mohs.evaluation.same_picture import some_rows

__all__ = ["find_mixed_labels"]

_MIN_CLASSES = 10
_MIN_OF_CLASS = 3
_MIN_ROWS = 10
_MIN_SHARE = 0.02
_PLACE = 0.25
_UNIFORM = 12**-0.5  # standard deviation of a place drawn at random


def find_mixed_labels(embedded: Embedded, *, seed: int = 0) -> Finding | None:
    """Find rows that lie amid another class while their own class is as far as any: labels of other rows, perhaps.

    A row lies *amid* another class if its two nearest rows are of that class, no farther than the second nearest row is
    for half of the rows that find their class. Its *place* is the share of the other classes whose mean is nearer than
    that of its own class (without the row, and without the class it lies amid): 0 to 1. Pictures that look like another
    class still lie near their own: their places are near 0. Labels given at random have places of 0.5 on average. It is
    told from 10 rows and 2% of the rows on, if the mean place less 2 standard errors of random ones is above 0.25.

    Counted are rows of classes of 3 or more; there must be 10 classes. On pictures with right labels (Caltech,
    omniglot; pixels, a network of ImageNet) the mean place was 0.01 to 0.28. By that network it was 0.46 to 0.56 with
    30% of the labels exchanged. Fewer wrong labels among rows that are hard to tell apart are not found.
    """
    items = embedded.sample_items(seed=seed)
    part = embedded.take(items)
    if int(part.codes.max()) + 1 < _MIN_CLASSES:
        return None
    rows, places, counted = _amid(part)
    num = len(rows)
    if num < max(_MIN_ROWS, _MIN_SHARE * counted):
        return None
    place = float(places.mean())
    if place - 2 * _UNIFORM / num**0.5 <= _PLACE:
        return None
    return Finding(
        cause="mixed-labels",
        severity="warning",
        what=f"{num:,} of {counted:,} rows or more ({num / counted:.1%}) lie among another class; their own class "
        f"is far: on average {place:.0%} of the other classes are nearer to them (50% for random labels)",
        why="Labels that are mixed up, shifted from some row on, or wrong do this, and R@1 is then too low. So do "
        "pictures that show something else than their class, or several things. Pictures of look-alike classes do not.",
        fix=f"To tell them apart, look at the pictures of {some_rows(items[rows], 5)}. If the labels are wrong, "
        "write rows and labels anew, in one loop; 'mohs doctor --precision' lists single ones.",
        numbers={"num_amid": float(num), "share": num / counted, "place": place},
        share=min(1.0, num / counted),
    )


def _amid(part: Embedded) -> tuple[Index, Float64, int]:
    """Return the rows amid another class with their places, and how many rows count."""
    codes, count_C = part.codes, np.bincount(part.codes)
    near_N2, distance_N2 = nearest(part.x_ND, part.x_ND, 2, self_indices_Q=np.arange(len(part)))
    first_code_N, second_code_N = codes[near_N2].T
    second_N = distance_N2[:, 1]
    counted_N = count_C[codes] >= _MIN_OF_CLASS
    hit_N = counted_N & (first_code_N == codes)
    if not hit_N.any():
        return np.zeros(0, dtype=np.int64), np.zeros(0), int(counted_N.sum())
    agree_N = (first_code_N == second_code_N) & (first_code_N != codes)
    rows = np.flatnonzero(counted_N & agree_N & (second_N <= np.median(second_N[hit_N])))
    sum_CD = np.zeros((len(count_C), part.x_ND.shape[1]))
    np.add.at(sum_CD, codes, part.x_ND)
    own_RD = (sum_CD[codes[rows]] - part.x_ND[rows]) / (count_C[codes[rows]] - 1)[:, None]
    own_R = np.linalg.norm(part.x_ND[rows] - own_RD, axis=1)
    mean_CD = sum_CD / count_C[:, None]
    places = np.zeros(len(rows))
    for place, row in enumerate(rows.tolist()):
        distance_C = np.linalg.norm(mean_CD - part.x_ND[row], axis=1)
        distance_C[[codes[row], first_code_N[row]]] = np.inf
        places[place] = (distance_C < own_R[place]).sum() / (len(count_C) - 2)
    return rows, places, int(counted_N.sum())
