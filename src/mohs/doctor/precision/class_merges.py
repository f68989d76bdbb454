"""Classes that are one: most of the pictures of the smaller one are pictures of the other, too."""

from collections import defaultdict

import numpy as np

from mohs.evaluation.checked import Index

__all__ = ["join_classes", "twins_by_number"]


def twins_by_number(class_N: Index, picture_N: Index) -> tuple[Index, Index]:
    """Return pairs of items of different classes with the same picture, one pair for each two classes and picture.

    >>> first, second = twins_by_number(np.array([0, 0, 1, 2]), np.array([5, 5, 5, 7]))
    >>> first.tolist(), second.tolist()
    ([0], [2])
    """
    # One item of each class and picture is enough.
    _, items = np.unique(np.stack([class_N, picture_N]), axis=1, return_index=True)
    by_picture: dict[int, list[int]] = defaultdict(list)
    for item in np.sort(items).tolist():
        by_picture[int(picture_N[item])].append(item)
    pairs = [(a, b) for group in by_picture.values() for i, a in enumerate(group) for b in group[i + 1 :]]
    first, second = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return first, second


def join_classes(class_N: Index, picture_N: Index, first_T: Index, second_T: Index) -> Index:
    """Return the class that each class is joined to, int64 [C]: the largest of its group, of equal ones the lowest.

    Two classes are one if more than half of the different pictures of one of them have a twin in the other. A class of
    one picture that has a twin is therefore joined; in a class of two, one twin is not enough: it may be a copy under a
    wrong label.

    Args:
        class_N: class codes, 0 to C − 1.
        picture_N: number of each item's picture.
        first_T: items that have a twin.
        second_T: their twins.

    >>> join_classes(np.array([0, 0, 1, 1, 1]), np.array([7, 8, 7, 8, 9]), np.array([0, 1]), np.array([2, 3])).tolist()
    [1, 1]
    """
    num_classes = int(class_N.max()) + 1
    size_C = np.bincount(class_N, minlength=num_classes)
    pictures_C = np.bincount(np.unique(np.stack([class_N, picture_N]), axis=1)[0], minlength=num_classes)
    shared: dict[tuple[int, int], set[int]] = defaultdict(set)
    for one, other in ((first_T, second_T), (second_T, first_T)):
        for label, twin_label, picture in zip(
            class_N[one].tolist(), class_N[other].tolist(), picture_N[one].tolist(), strict=True
        ):
            if label != twin_label:
                shared[label, twin_label].add(picture)
    parent = list(range(num_classes))

    def root(label: int) -> int:
        while parent[label] != label:
            parent[label] = parent[parent[label]]
            label = parent[label]
        return label

    for (label, twin_label), pictures in shared.items():
        if 2 * len(pictures) > pictures_C[label]:
            roots = root(label), root(twin_label)
            # The larger class gives its name; of equal ones the lower.
            winner, loser = sorted(roots, key=lambda each: (-size_C[each], each))
            parent[loser] = winner
    return np.array([root(label) for label in range(num_classes)], dtype=np.int64)
