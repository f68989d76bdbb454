"""Splits that keep groups whole: sessions, cameras, product families, whose pictures know each other."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from mohs.errors import InputError
from mohs.randomness import generator

__all__ = ["classes_by_group", "groups_on_two_sides", "split_groups_by_item"]

Index = npt.NDArray[np.int64]


def classes_by_group(class_of_item: Index, groups: npt.NDArray[np.str_]) -> Index:
    """Return the set of each class, int64 [C]: classes that share a group are in one set, also by way of others.

    A set is named by its lowest class. An item of group "" is in none.

    >>> classes_by_group(np.array([0, 1, 1, 2, 3]), np.array(["a", "a", "b", "b", ""])).tolist()
    [0, 0, 0, 3]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    num_classes = int(class_of_item.max()) + 1
    grouped = groups != ""
    names, group_of_item = np.unique(groups[grouped], return_inverse=True)
    edges = (np.ones(int(grouped.sum()), dtype=np.int8), (class_of_item[grouped], num_classes + group_of_item))
    size = num_classes + len(names)
    found = connected_components(coo_array(edges, shape=(size, size)), directed=False)[1][:num_classes]
    first = np.full(int(found.max()) + 1, num_classes)
    np.minimum.at(first, found, np.arange(num_classes))
    of_class: Index = first[found].astype(np.int64)
    return of_class


def split_groups_by_item(
    labels: npt.NDArray[np.str_],
    groups: npt.NDArray[np.str_],
    shares: Mapping[str, float],
    *,
    seed: int,
    is_sample: npt.NDArray[np.bool_],
    canonical_order: Index,
) -> npt.NDArray[np.str_]:
    """Return the split of each item, str [N]: a group is in one split, and every class keeps a training item.

    Groups, and items without one, come in random order, and each is taken for the next split if every class can spare
    what it has in there, and if the split comes nearer to its share of the samples. A group with a catalog picture is
    for training.

    Raises `InputError` if a split remains empty: then each group holds all of some class.
    """
    class_of_item = np.unique(labels, return_inverse=True)[1]
    # An item without a group is one of its own.
    name = np.where(groups == "", np.char.add("item ", np.arange(len(labels)).astype(np.str_)), groups.astype(np.str_))
    name = np.where(groups == "", name, np.char.add("group ", groups.astype(np.str_)))
    unit_of_item = np.unique(name, return_inverse=True)[1]
    rank = np.empty(len(labels), dtype=np.int64)
    rank[canonical_order] = np.arange(len(labels))
    num_units = int(unit_of_item.max()) + 1
    first = np.full(num_units, len(labels))
    np.minimum.at(first, unit_of_item, rank)
    order = np.argsort(first)[generator(seed, "split groups").permutation(num_units)]
    may_not = np.zeros(num_units, dtype=bool)
    may_not[unit_of_item[~is_sample]] = True
    num_left = np.bincount(class_of_item)
    by_unit = np.argsort(unit_of_item, kind="stable")
    items_of = np.split(by_unit, np.cumsum(np.bincount(unit_of_item))[:-1])
    splits = np.full(len(labels), "train", dtype="<U10")
    num_shared = int(sum(is_sample & (num_left[class_of_item] > 1)))
    for split, share in shares.items():
        wanted, taken = share * num_shared, 0
        for unit in order.tolist():
            items = items_of[unit]
            # Nearer to the share than without it.
            if may_not[unit] or abs(taken + len(items) - wanted) >= abs(taken - wanted):
                continue
            own, count = np.unique(class_of_item[items], return_counts=True)
            if (num_left[own] > count).all():
                num_left[own] -= count
                may_not[unit] = True
                splits[items] = split
                taken += len(items)
        if not taken:
            num_groups = len(set(groups[groups != ""].tolist()))
            raise InputError(
                f"groups: none of {num_groups:,} groups can be for {split!r}: each holds all pictures of a class, or a "
                "catalog picture, or is far larger than the share; split by class, or read no groups "
                "(--group-column '')"
            )
    return splits


def groups_on_two_sides(groups: npt.NDArray[np.str_], splits: npt.NDArray[np.str_]) -> list[str]:
    """Return the groups that are in two splits or more, sorted.

    >>> groups_on_two_sides(np.array(["a", "a", "b", ""]), np.array(["train", "test", "test", "train"]))
    ['a']
    """
    pairs = np.unique(np.stack([groups[groups != ""].astype(np.str_), splits[groups != ""].astype(np.str_)]), axis=1)
    names, count = np.unique(pairs[0], return_counts=True)
    several: list[str] = names[count > 1].tolist()
    return several
