"""Which items are for training, for testing, or held out from both; and how to take a few items of each class.

A split by class is an open set, one by item a closed set. Either keeps groups whole: sessions, cameras, product
families, whose pictures know each other.
"""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from mohs.checks import require, wrong_choice, wrong_number, wrong_whole
from mohs.data.dataset import Dataset
from mohs.data.multi_label import joined_sets
from mohs.data.table import SPLITS, Table
from mohs.errors import DataWarning, InputError, Problem, at_most_20
from mohs.randomness import generator

__all__ = [
    "assign_splits",
    "classes_by_group",
    "hold_out_classes",
    "limit_per_class",
    "split_by_class",
    "split_by_item",
]


def split_by_class(
    labels: np.ndarray,
    fractions: Mapping[str, float],
    *,
    seed: int,
    groups: np.ndarray | None = None,
    purpose: str = "split",
) -> np.ndarray:
    """Return the split of each item, str [N]: no class is in two splits (open set).

    `fractions` gives the share of the classes for each split but train, such as `{"test": 0.2}`; train has the rest
    (at least one class). A share f of C classes is round(f·C), at least 1. The order of rows does not matter. With
    `groups` (str [N], "" for none) no group is in two splits either: classes that share one, also by way of others,
    stay together, and a share is met as nearly as such sets of classes allow. Draws are by (seed, purpose).

    >>> split_by_class(np.array(["a", "b", "a", "c"]), {"test": 0.3}, seed=1).tolist()
    ['train', 'test', 'train', 'train']

    Raises `InputError` for a wrong share or if there are fewer classes, or sets of classes, than splits.
    """
    shares = _check_fractions(fractions)
    names, class_of_item = np.unique(labels, return_inverse=True)
    sizes = [max(1, round(share * len(names))) for share in shares.values()]
    if sum(sizes) >= len(names):
        what = f"{dict(fractions)} of {len(names)} classes leave none for 'train'"
        raise InputError(Problem("fractions", what, "lower them or add classes"))
    order = generator(seed, purpose).permutation(len(names))
    set_of_class = np.arange(len(names)) if groups is None else classes_by_group(class_of_item, groups)
    # In the order of their first classes; without groups each class is a set, and the first ones are taken.
    left = list(dict.fromkeys(set_of_class[order].tolist()))
    size_of = np.bincount(set_of_class, minlength=len(names)).tolist()
    if len(left) <= len(sizes):
        what = (
            f"they join {len(names)} classes into {len(left)} {'set' if len(left) == 1 else 'sets'} of classes that "
            f"share groups, too few for {len(sizes) + 1} splits"
        )
        raise InputError(Problem("groups", what, "split by item, or read no groups (--group-column '')"))
    split_of_class = np.full(len(names), "train", dtype="<U10")
    for place, (name, size) in enumerate(zip(shares, sizes, strict=True)):
        taken = _nearest_to(size, left, size_of, num_kept=len(sizes) - place)
        split_of_class[np.isin(set_of_class, taken)] = name
        left = [each for each in left if split_of_class[each] == "train"]
    return split_of_class[class_of_item]


def _nearest_to(size: int, left: Sequence[int], size_of: Sequence[int], *, num_kept: int) -> list[int]:
    """Return sets of classes that have about `size` classes together, in order, at least one; so many are kept."""
    may_take = len(left) - num_kept
    taken: list[int] = []
    filled = 0
    for each in left:
        if len(taken) < may_take and filled + size_of[each] <= size:
            taken.append(each)
            filled += size_of[each]
    chosen = set(taken)
    others = [each for each in left if each not in chosen]
    if len(taken) < may_take:
        smallest = min(others, key=lambda each: size_of[each])
        if not taken or abs(filled + size_of[smallest] - size) < abs(filled - size):
            taken.append(smallest)
    return taken


def split_by_item(
    labels: np.ndarray,
    fractions: Mapping[str, float],
    *,
    seed: int,
    roles: np.ndarray | None = None,
    keys: Sequence[str] | None = None,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """Return the split of each item, str [N], stratified by class: every class keeps a training item (closed set).

    A share f of a class of n items is n·f rounded up or down at random, such that the shares of the whole come out
    right. Classes of one item go to train, and count in no share. Where n·f would take a whole class, one item stays
    in train, so that the share is smaller. With `roles`, catalog items are training items, and shares are of the
    samples; a class with a catalog item may lose all its samples. With `keys` (file names, say) the order of rows
    does not matter. With `groups` (str [N], "" for none) a group is in one split: see `split_groups_by_item`.

    Raises `InputError` for a wrong share, and if groups leave a split without an item.
    """
    shares = _check_fractions(fractions)
    is_sample = np.ones(len(labels), dtype=bool) if roles is None else np.asarray(roles) == "sample"
    if groups is not None and (groups != "").any():
        return split_groups_by_item(
            labels, groups, shares, seed=seed, is_sample=is_sample, canonical_order=_canonical_order(labels, keys)
        )
    random = generator(seed, "split")
    names, class_of_item, class_sizes = np.unique(labels, return_inverse=True, return_counts=True)
    num_left = np.bincount(class_of_item[is_sample], minlength=len(names))
    may_lose = np.where(class_sizes > num_left, num_left, num_left - 1)
    # Classes in random order, items at random within theirs; in that order every 1/f-th item is taken.
    place_of_class = random.permutation(len(names))
    priority = np.empty(len(labels))
    priority[_canonical_order(labels, keys)] = random.random(len(labels))
    pool = np.lexsort((priority, place_of_class[class_of_item]))
    pool = pool[is_sample[pool] & (may_lose[class_of_item[pool]] > 0)]
    splits = np.full(len(labels), "train", dtype="<U10")
    remaining = 1.0
    for name, share in shares.items():
        steps = np.floor(np.arange(len(pool) + 1) * (share / remaining) + random.random())
        for item in pool[np.diff(steps) > 0].tolist():
            if may_lose[class_of_item[item]] > 0:
                may_lose[class_of_item[item]] -= 1
                splits[item] = name
        pool = pool[splits[pool] == "train"]
        remaining -= share
    return splits


def assign_splits(table: Table, by: Literal["class", "item"], test_fraction: float, *, seed: int) -> Table:
    """Return the table with a split for every item.

    Splits that the table already has are kept, and `test_fraction` is not used. Then every sample must have one; a
    catalog item without one follows its class (by class; train if the class has no sample) or is for training (by
    item). A table without splits is divided by `split_by_class` or `split_by_item` into train and test; its groups
    stay whole. Warns (`DataWarning`) if the table's own splits divide a group, and if groups keep the test far from its
    share.

    Raises `InputError` if `test_fraction` is not in (0, 1), if samples have no split where others have one, and, by
    class, if a class is in two splits or a split has fewer than 2 classes.
    """
    has_splits = bool(np.any(table.splits != ""))
    require(
        wrong_choice("by", by, ("class", "item")),
        None if has_splits else wrong_number("test_fraction", test_fraction, above=0, below=1, example=0.2),
    )
    if has_splits:
        splits = _complete(table, by)
    elif by == "class":
        splits = split_by_class(table.labels, {"test": test_fraction}, seed=seed, groups=table.groups)
    else:
        splits = split_by_item(
            table.labels, {"test": test_fraction}, seed=seed, roles=table.roles, keys=table.files, groups=table.groups
        )
    if by == "class":
        _check_open_set(table, splits)
    if table.groups is not None:
        _warn_of_groups(table, splits, by, None if has_splits else test_fraction)
    return replace(table, splits=splits)


def _warn_of_groups(table: Table, splits: np.ndarray, by: Literal["class", "item"], wanted: float | None) -> None:
    assert table.groups is not None
    if divided := groups_on_two_sides(table.groups, splits):
        num_groups = len(set(table.groups.tolist()) - {""})
        warnings.warn(
            f"{table.source}: the column 'split' divides {len(divided):,} of {num_groups:,} groups (for example "
            f"{', '.join(map(repr, divided[:3]))}): the test knows them from training",
            DataWarning,
            stacklevel=3,
        )
    if wanted is None:
        return
    rows = np.unique(table.labels, return_index=True)[1] if by == "class" else np.flatnonzero(table.roles == "sample")
    share = float((splits[rows] == "test").mean())
    if abs(share - wanted) > wanted / 4 and abs(share - wanted) * len(rows) > 1:
        what = "classes" if by == "class" else "pictures"
        warnings.warn(
            f"{table.source}: {share:.0%} of the {what} are for the test, and not {wanted:.0%}: groups stay whole",
            DataWarning,
            stacklevel=3,
        )


def limit_per_class(items: Dataset | Table, num_per_class: int, *, seed: int) -> np.ndarray:
    """Return the positions of at most `num_per_class` items of each class, chosen at random, int64, ascending.

    A class with fewer keeps them all. Catalog items are taken first, and count. The choice does not depend on the order
    of rows.

    Raises `InputError` if `num_per_class` is no whole number of at least 1.

    >>> table = Table(tuple("abcd"), np.array(list("xxyx")), np.array(["sample"] * 4), np.array([""] * 4))
    >>> limit_per_class(table, 2, seed=0).tolist()
    [0, 1, 2]
    """
    require(wrong_whole("num_per_class", num_per_class, example=2))
    table = items.table if isinstance(items, Dataset) else items
    _, class_of_item, class_sizes = np.unique(table.labels, return_inverse=True, return_counts=True)
    priority = np.empty(len(table))
    priority[_canonical_order(table.labels, table.files)] = generator(seed, "take per class").random(len(table))
    priority[table.roles != "catalog"] += 1
    order = np.lexsort((priority, class_of_item))
    first_of_class = np.cumsum(class_sizes) - class_sizes
    rank_in_class = np.arange(len(table)) - first_of_class[class_of_item[order]]
    return np.sort(order[rank_in_class < num_per_class]).astype(np.int64)


def _canonical_order(labels: np.ndarray, keys: Sequence[str] | None) -> np.ndarray:
    if keys is None:
        return np.argsort(labels, kind="stable")
    return np.lexsort((np.array(keys, dtype=np.str_), labels.astype(np.str_)))


def _check_fractions(fractions: Mapping[str, float]) -> dict[str, float]:
    require(
        *(wrong_choice("fractions", name, SPLITS) for name in fractions),
        *(
            wrong_number(f"fractions: {name!r}", share, above=0, below=1, example=0.2)
            for name, share in fractions.items()
        ),
    )
    shares = {name: float(share) for name, share in fractions.items() if name != "train"}
    total = sum(shares.values())
    if not shares or total >= 1:
        raise InputError(
            Problem("fractions", f"{dict(fractions)} leave nothing to divide", "give shares such as {'test': 0.2}")
        )
    if "train" in fractions and abs(total + fractions["train"] - 1) > 1e-6:
        raise InputError(
            Problem("fractions", f"{dict(fractions)} do not add up to 1", "leave 'train' out, it has the rest")
        )
    return shares


def _complete(table: Table, by: str) -> np.ndarray:
    splits = table.splits.astype("<U10")
    empty = splits == ""
    bare = np.flatnonzero(empty & (table.roles == "sample")).tolist()
    if bare:
        rule = "no split, but others have one; fill in 'train', 'validation' or 'test'"
        raise InputError(*at_most_20([f"{table.place(i)}: {rule}" for i in bare]))
    names, class_of_item = np.unique(table.labels, return_inverse=True)
    split_of_class = np.full(len(names), "train", dtype="<U10")
    if by == "class":
        split_of_class[class_of_item[~empty]] = splits[~empty]
    return np.where(empty, split_of_class[class_of_item], splits)


def _check_open_set(table: Table, splits: np.ndarray) -> None:
    split_of: dict[str, str] = {}
    shared: dict[str, set[str]] = {}
    for label, split in zip(table.labels.tolist(), splits.tolist(), strict=True):
        if split_of.setdefault(label, split) != split:
            shared.setdefault(label, {split_of[label]}).add(split)
    problems = [
        f"{table.source}: class {label!r} is in {' and '.join(sorted(names))}; by class, a class is in one split: "
        "change the table, or split by item"
        for label, names in sorted(shared.items())
    ]
    require(*at_most_20(problems))
    counts = {name: sum(split == name for split in split_of.values()) for name in sorted(set(split_of.values()))}
    problems = [
        f"{table.source}: {count} class in {name}, of {len(split_of)}; each side needs at least 2: "
        "add classes or change the fraction"
        for name, count in counts.items()
        if count < 2
    ]
    require(*problems)


def classes_by_group(class_of_item: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the set of each class, int64 [C]: classes that share a group are in one set, also by way of others.

    A set is named by its lowest class. An item of group "" is in none.

    >>> classes_by_group(np.array([0, 1, 1, 2, 3]), np.array(["a", "a", "b", "b", ""])).tolist()
    [0, 0, 0, 3]
    """
    grouped = groups != ""
    pairs = list(zip(groups[grouped].tolist(), class_of_item[grouped].tolist(), strict=True))
    class_of_group = dict(pairs)
    joined = joined_sets((class_of_group[name], number) for name, number in pairs)
    lowest = {id(own): min(own) for own in joined.values()}
    of_class = np.arange(int(class_of_item.max()) + 1)
    for number, own in joined.items():
        of_class[number] = lowest[id(own)]
    return of_class


def split_groups_by_item(
    labels: np.ndarray,
    groups: np.ndarray,
    shares: Mapping[str, float],
    *,
    seed: int,
    is_sample: np.ndarray,
    canonical_order: np.ndarray,
) -> np.ndarray:
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
            what = (
                f"none of {num_groups:,} groups can be for {split!r}: each holds all pictures of a class, or a catalog "
                "picture, or is far larger than the share"
            )
            raise InputError(Problem("groups", what, "split by class, or read no groups (--group-column '')"))
    return splits


def groups_on_two_sides(groups: np.ndarray, splits: np.ndarray) -> list[str]:
    """Return the groups that are in two splits or more, sorted.

    >>> groups_on_two_sides(np.array(["a", "a", "b", ""]), np.array(["train", "test", "test", "train"]))
    ['a']
    """
    count = Counter(name for name, _ in set(zip(groups.tolist(), splits.tolist(), strict=True)) if name)
    return sorted(name for name, num_splits in count.items() if num_splits > 1)


def hold_out_classes(table: Table, fraction: float, *, seed: int) -> Table:
    """Return the table with a share of its training classes marked "validation", with all their pictures.

    Each item has a split before (`assign_splits`). Pictures that such a class has in the test, as by item, leave it.
    Groups stay whole. Raises `InputError` if the share leaves no training class.

    >>> table = Table(tuple("abcd"), np.array(list("wxyz")), np.full(4, "sample"), np.full(4, "train"))
    >>> hold_out_classes(table, 0.5, seed=0).splits.tolist().count("validation")
    2
    """
    of_training = np.flatnonzero(np.isin(table.labels, np.unique(table.labels[table.splits == "train"])))
    chosen = split_by_class(
        table.labels[of_training],
        {"validation": fraction},
        seed=seed,
        groups=None if table.groups is None else table.groups[of_training],
        purpose="held-out classes",
    )
    splits = table.splits.astype("<U10")
    splits[of_training[chosen == "validation"]] = "validation"
    return replace(table, splits=splits)
