"""What is wrong with labels: one class, one that dominates or is alone, another order than the rows, mixed-up ones."""

import math
import re

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mohs.doctor.findings import Finding
from mohs.evaluation.checked import Float32, Float64, Index
from mohs.evaluation.embedded import MAX_ITEMS, Embedded
from mohs.evaluation.exact_neighbours import nearest
from mohs.evaluation.same_picture import some_rows
from mohs.evaluation.triplets import triplet_accuracy
from mohs.randomness import generator

__all__ = [
    "find_chance", "find_dominating_class", "find_few_positives", "find_mixed_labels", "find_shifted_labels",
    "find_single_class",
]  # fmt: skip


def find_dominating_class(labels_N: ArrayLike, *, of: str = "pictures") -> Finding | None:
    """Find a class with far more than its part: a fifth of all or more, and 5 times the mean class or more.

    From a half on it is an error: a mean over pictures is then a mean over that class. `of` says what the labels are
    of, as in "mined negatives".
    """
    names, count_C = np.unique(np.asarray(labels_N), return_counts=True)
    share = float(count_C.max() / count_C.sum())
    mean = 1.0 / len(names)
    if len(names) < 3 or share < 0.2 or share < 5 * mean:
        return None
    p_C = count_C / count_C.sum()
    effective = math.exp(-float((p_C * np.log(p_C)).sum()))
    name = str(names[int(count_C.argmax())])
    return Finding(
        cause="one-class-dominates",
        severity="error" if share >= 0.5 else "warning",
        what=f"{share:.0%} of the {int(count_C.sum()):,} {of} are of the class {name!r}, one of {len(names):,}; they "
        f"count like {effective:.1f} equal classes",
        why="Batches that draw pictures, not classes, are mostly of this class, and so are means over pictures.",
        fix="Draw classes first and then pictures, keep a few pictures of each class, and report means over classes.",
        settings={"data.per_class": max(2, int(np.median(count_C)))} if of == "pictures" else {},
        numbers={"share": share, "num_classes": float(len(names)), "effective_classes": effective},
        share=share,
    )


def find_single_class(labels_N: ArrayLike) -> Finding | None:
    """Find labels of one class alone: nothing can be taken for another class, so that no measure can be wrong.

    >>> find_single_class(["ring", "ring"]).cause, find_single_class(["ring", "lamp"])
    ('single-class', None)
    """
    names = np.unique(np.asarray(labels_N))
    if len(names) != 1:
        return None
    num = len(np.asarray(labels_N))
    return Finding(
        cause="single-class",
        severity="error",
        what=f"All {num:,} rows are of one class, {names[0].item()!r}",
        why="Nothing can be taken for another class: R@1 is 1 whatever the embeddings are, and most causes hide.",
        fix="Check that these are the classes, and give pictures of other classes too.",
        numbers={"num_classes": 1.0},
        share=1.0,
    )


def find_few_positives(labels_N: ArrayLike, *, of: str = "training") -> Finding | None:
    """Find classes without a positive: half of them or more have one picture.

    `of` is "training" or "test". In the test such pictures have no right answer and are not counted; an error if fewer
    than 20 classes are left.
    """
    count_C = np.unique(np.asarray(labels_N), return_counts=True)[1]
    single = float((count_C == 1).mean())
    with_pair = int((count_C > 1).sum())
    if single < 0.5:
        return None
    if of == "test":
        why = "A query without another picture of its class has no right answer: the result is that of the others."
        fix = "Add pictures, or a catalog picture of each class, to the test."
        severe = with_pair < 20
    else:
        why = (
            "Where a class has one picture, its positive is that picture, augmented: the network learns to see through "
        )
        why += "the augmentation, not through what makes two pictures of one thing differ."
        fix = "Add a second picture or a catalog picture of each class, or augment as queries differ from the catalog."
        severe = False
    return Finding(
        cause="too-few-positives",
        severity="error" if severe else "warning",
        what=f"{single:.0%} of the {len(count_C):,} {of} classes have one picture; {with_pair:,} have two or more",
        why=why,
        fix=fix,
        settings={"training.augment": 1.0} if of == "training" else {},
        numbers={"share": single, "num_classes": float(len(count_C)), "num_with_pair": float(with_pair)},
        share=single,
    )


_SHIFTS = (1, -1, 2, -2)
_MIN_GAIN = 0.2
_LATER = 0.1  # so much more of R@1 must be right if labels are moved from some row on only
_NEARER = 0.9
_FEW = 30
_COARSE = 0.6
_DIGITS = re.compile(r"([0-9]+)")


def find_shifted_labels(embedded: Embedded, *, seed: int = 0) -> Finding | None:
    """Find labels that are a row or two off, in reverse or sorted as text: R@1 is higher by 0.2 or more if moved.

    Sorted as text: rows were counted 1, 10, 11, …, 2 on one side and 1, 2, 3 on the other, from 0 or from 1; or the
    names of the classes were (only where the labels are sorted in one of the two ways). What is moved must not be at
    chance, and right for more than half of the queries. Labels may be moved from some row on, where a row is missing in
    the middle (up to `MAX_ITEMS` rows).
    """
    before = embedded.sample(seed=seed).recall
    if before is None:
        return None
    whole = len(embedded) <= MAX_ITEMS
    orders = {f"moved by {shift:+d} rows": np.roll(embedded.labels, shift) for shift in _SHIFTS}
    orders["in reverse"] = embedded.labels[::-1]
    for first in (0, 1):
        text_N = np.argsort(np.arange(first, first + len(embedded)).astype(np.str_), kind="stable")
        orders[f"of rows counted from {first} sorted as text"] = embedded.labels[text_N]
        orders[f"of rows counted from {first} sorted as numbers"] = embedded.labels[np.argsort(text_N)]
    orders |= _orders_of_names(embedded.labels)
    best, name = before.value, ""
    for order, labels in orders.items():
        after = Embedded(embedded.source, embedded.x_ND, labels).sample(seed=seed).recall
        if after is not None and not after.at_chance and after.skill > 0.5 and after.value > best:
            best, name = after.value, order
        if whole and after is not None and not after.at_chance:
            # Right up to a row as they are, and from there on as they are moved: the row with the most hits so.
            hits_N = np.cumsum(before.hits.astype(np.int64) - after.hits)
            row = int(hits_N[:-1].argmax()) + 1
            value = float(int(hits_N[row - 1]) + int(after.hits.sum())) / before.num
            if value > max(best + _LATER, 0.5):
                best, name = value, f"{order} from row {row} on"
    if best < before.value + _MIN_GAIN:
        return None
    return Finding(
        cause="label-order",
        severity="error",
        what=f"R@1 is {before.value:.3f} with the labels as they are and {best:.3f} with the labels {name}",
        why="The labels are not those of the rows: a header was read as a row, a row is missing, or the order differs.",
        fix="Write embeddings and labels in one loop, from one table, and check a few rows by hand.",
        numbers={"recall": before.value, "recall_moved": best},
        share=1.0,
    )


def _orders_of_names(labels: NDArray[np.str_]) -> dict[str, NDArray[np.str_]]:
    """Return labels that are sorted as text as they are sorted by their numbers, and the other way round."""
    parts = {name: _DIGITS.split(name) for name in np.unique(labels).tolist()}  # text and digits in turn
    key = {name: [int(part) if i % 2 else part for i, part in enumerate(split)] for name, split in parts.items()}
    by_number = sorted(key, key=lambda name: key[name])
    place = {name: place for place, name in enumerate(by_number)}
    text_N, number_N = np.sort(labels), labels[np.argsort([place[name] for name in labels.tolist()], kind="stable")]
    if (text_N == number_N).all():
        return {}
    if (labels == text_N).all():
        return {"of classes sorted by number": number_N}
    return {"of classes sorted as text": text_N} if (labels == number_N).all() else {}


def find_chance(embedded: Embedded, *, seed: int = 0) -> Finding | None:
    """Find R@1 at chance (`Recall.at_chance`), where no other cause tells why.

    Rows that hold groups (`_holds_groups`) are well made, but not for these labels. Rows without groups know nothing,
    or too little to be seen. An error, since R@1 itself is the evidence; a warning if fewer than 30 queries count. Also
    a warning where random triplets are in order more often than by chance (the interval of their accuracy is above
    0.6): then the labels are those of the rows, and what was learned is too coarse for a search.
    """
    part = embedded.sample(seed=seed)
    found = part.recall
    if found is None or not found.at_chance:
        return None
    nearer = _holds_groups(part, seed=seed)
    what = f"R@1 of {found.num:,} queries is {found.value:.3f}, and a guess has {found.chance:.3f}"
    triplets = triplet_accuracy(part.x_ND.astype(np.float32), part.labels, seed=seed)
    coarse = triplets.interval[0] > _COARSE
    if coarse:
        what += f", but {triplets.accuracy:.0%} of random triplets are in order"
        why = "The network tells classes apart a little: enough for most pairs, too little to find one among many."
        fix = "Train longer, with negatives that grow harder, and measure again; the labels are those of the rows."
    elif nearer < _NEARER:
        items = embedded.sample_items(seed=seed)
        pair = some_rows(np.sort(items[_nearest_pair(part)]))
        what += f". The rows hold groups (the nearest is at {nearer:.2f} of what it would be without), other than these"
        why = "The labels are in another order than the rows, or of other rows; or the network has learned to tell "
        why += "something else than these classes."
        fix = f"Look at the pictures of {pair}, which lie close. If they show one thing, the labels are wrong: write "
        fix += "rows and labels anew, in one loop."
    else:
        what += ", and no groups of rows can be seen"
        why = "The network knows nothing of these pictures: it was not trained or not loaded, or the pictures were "
        why += "prepared otherwise. Labels in another order than the rows cannot be ruled out."
        fix = "To tell them apart, look at the embeddings of training pictures alone. If they are at chance too, it is "
        fix += "the network or the order of the labels; if they are good, it is how the test was made."
    numbers = {
        "recall": found.value, "chance": found.chance, "num_queries": float(found.num), "nearer": nearer,
        "triplets": triplets.accuracy,
    }  # fmt: skip
    return Finding(
        cause="at-chance",
        severity="error" if found.num >= _FEW and not coarse else "warning",
        what=what,
        why=why,
        fix=fix,
        numbers=numbers,
        # A symptom: what explains it stands above it.
        share=0.4,
    )


def _holds_groups(part: Embedded, *, seed: int = 0) -> float:
    """Return the median distance to the nearest other row over what it would be without groups: about 1 for noise.

    Without groups: the numbers of the rows along each principal direction, in random order. It keeps how far the rows
    reach in each direction and forgets what belongs together.
    """
    centred_ND = part.x_ND - part.x_ND.mean(axis=0)
    _, _, axis_KD = np.linalg.svd(centred_ND, full_matrices=False)
    along_NK = centred_ND @ axis_KD.T
    random = generator(seed, "rows without groups")
    mixed_NK = np.stack([random.permutation(column) for column in along_NK.T], axis=1)
    without = float(np.median(_nearest(mixed_NK)[0]))
    return float(np.median(_nearest(along_NK)[0])) / without if without > 0 else 1.0


def _nearest(x_ND: Float64) -> tuple[Float32, Index]:
    """Return for each row the distance to the nearest other one, and which it is."""
    item_N1, distance_N1 = nearest(x_ND, x_ND, 1, self_indices_Q=np.arange(len(x_ND)))
    return distance_N1[:, 0], item_N1[:, 0]


def _nearest_pair(part: Embedded) -> list[int]:
    """Return two rows of different classes, the closest such pair; any close pair else."""
    distance_N, item_N = _nearest(part.x_ND)
    other = part.codes != part.codes[item_N]
    row = int(np.where(other, distance_N, np.inf).argmin()) if other.any() else int(distance_N.argmin())
    return [row, int(item_N[row])]


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
