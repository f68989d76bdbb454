"""R@1 at chance: labels in another order than the rows, or rows that know nothing of these classes."""

import re

import numpy as np
from numpy.typing import NDArray

from mohs.doctor.findings import Finding
from mohs.evaluation.checked import Float32, Float64, Index
from mohs.evaluation.embedded import MAX_ITEMS, Embedded
from mohs.evaluation.exact_neighbours import nearest
from mohs.evaluation.same_picture import some_rows
from mohs.evaluation.triplets import triplet_accuracy
from mohs.randomness import generator

__all__ = ["find_chance", "find_shifted_labels", "holds_groups"]

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

    Rows that hold groups (`holds_groups`) are well made, but not for these labels. Rows without groups know nothing, or
    too little to be seen. An error, since R@1 itself is the evidence; a warning if fewer than 30 queries count. Also a
    warning where random triplets are in order more often than by chance (the interval of their accuracy is above 0.6):
    then the labels are those of the rows, and what was learned is too coarse for a search.
    """
    part = embedded.sample(seed=seed)
    found = part.recall
    if found is None or not found.at_chance:
        return None
    nearer = holds_groups(part, seed=seed)
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


def holds_groups(part: Embedded, *, seed: int = 0) -> float:
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
