"""One picture under several classes: what is to become of it."""

import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, TypeVar, final

import numpy as np

from mohs.checks import require, wrong_choice
from mohs.data.table import ROLES, Table
from mohs.errors import DataWarning, InputError, Problem, at_most_20

__all__ = [
    "MULTI_LABEL",
    "MultiLabel",
    "Resolution",
    "file_keys",
    "joined_sets",
    "one_class_each",
    "one_row_each",
    "repeat_problems",
    "resolve_labels",
    "rows_of_several_classes",
]

MultiLabel: TypeAlias = Literal["error", "first", "drop", "merge"]
"""Of a picture under several classes: it is an error; its first row counts; it is left out; its classes are one."""

_Member = TypeVar("_Member", bound=Hashable)

MULTI_LABEL: tuple[MultiLabel, ...] = ("error", "first", "drop", "merge")


@final
@dataclass(frozen=True)
class Resolution:
    """Which rows stay, and under which label: `rows` ascending, `labels` of each of them.

    `num_pictures` were under several classes, `num_rows` of theirs are left out, `num_repeats` are left out that say
    the same again; `merged` maps a class to the one that it became.
    """

    rows: tuple[int, ...]
    labels: tuple[str, ...]
    num_pictures: int
    num_rows: int
    num_repeats: int
    merged: dict[str, str]


def rows_of_several_classes(pictures: Sequence[object], labels: Sequence[str]) -> list[list[int]]:
    """Return the rows of each picture that is under several classes, in order; equal pictures are equal values.

    >>> rows_of_several_classes(["a", "b", "a", "b"], ["x", "y", "z", "y"])
    [[0, 2]]
    """
    rows_of: dict[object, list[int]] = defaultdict(list)
    for row, picture in enumerate(pictures):
        rows_of[picture].append(row)
    return [rows for rows in rows_of.values() if len({labels[row] for row in rows}) > 1]


def resolve_labels(pictures: Sequence[object], labels: Sequence[str], how: MultiLabel) -> Resolution:
    """Return one row for each picture, under one class.

    - "first": the first row of a picture counts, the others are left out.
    - "drop": all rows of a picture under several classes are left out.
    - "merge": classes that share a picture are one, also by way of a third class; it has the name of the one with the
      most rows, of equal ones the first by name.
    - "error": only rows that repeat another are left out; a picture keeps a row for each of its classes.

    >>> resolve_labels(["a", "b", "a", "c"], ["x", "y", "z", "z"], "merge").labels
    ('z', 'y', 'z')
    """
    conflicts = rows_of_several_classes(pictures, labels)
    merged = _merged(conflicts, labels) if how == "merge" else {}
    new = [merged.get(label, label) for label in labels]
    out = {row for rows in conflicts for row in rows} if how == "drop" else set()
    seen: set[tuple[object, str]] = set()
    kept: list[int] = []
    first: dict[object, int] = {}
    for row, picture in enumerate(pictures):
        if row in out:
            continue
        owner = first.setdefault(picture, row)
        if (picture, new[row]) in seen or (how == "first" and owner != row):
            continue
        seen.add((picture, new[row]))
        kept.append(row)
    left = set(range(len(labels))) - set(kept)
    num_rows = sum(row in left for rows in conflicts for row in rows)
    return Resolution(
        tuple(kept),
        tuple(new[row] for row in kept),
        len(conflicts),
        num_rows,
        len(left) - num_rows,
        {label: to for label, to in merged.items() if label != to},
    )


def file_keys(table: Table) -> list[str]:
    """Return the path of each item in one way of writing it: equal for the same file."""
    # normpath without resolve(): a link to a picture is another file name, and resolving costs a system call a file.
    root = str(table.root.absolute())
    return [os.path.normpath(os.path.join(root, file)) for file in table.files]  # noqa: PTH118 - a tenth of the time


def first_rows(table: Table) -> dict[str, int]:
    """Return the first row of each file, by its `file_keys`."""
    return {key: row for row, key in reversed(list(enumerate(file_keys(table))))}


def one_class_each(table: Table, multi_label: MultiLabel) -> Table:
    """Return the table with one row for each file: see `read_table`. Warns of what was done, in one line."""
    require(wrong_choice("multi_label", multi_label, MULTI_LABEL))
    pictures = file_keys(table)
    if len(set(pictures)) == len(pictures):
        return table
    labels: list[str] = table.labels.tolist()
    problems = _split_problems(table, pictures) if multi_label != "drop" else []
    if multi_label == "error":
        places = table.places or (table.source,) * len(table)
        problems += repeat_problems(pictures, labels, table.roles.tolist(), places, table.files).values()
    require(*at_most_20(problems))
    new, found = one_row_each(table, multi_label)
    if not len(new):
        raise InputError(
            Problem(table.source, "every picture is under several classes", "'drop' leaves none: use 'first'")
        )
    if found.num_pictures or found.num_repeats > _num_in_both(table, pictures):
        lost = len(set(labels)) - new.num_classes - len(found.merged)
        example = next(iter(rows_of_several_classes(pictures, labels)), [])
        told = [_told(table, example, found, multi_label)] if example else []
        told += [f"without a picture now: {_count(lost, 'class', 'classes')}"] if lost else []
        told += (
            [f"listed twice under one class: {_count(found.num_repeats, 'row', 'rows')}"] if found.num_repeats else []
        )
        warnings.warn(f"{table.source}: {'; '.join(told)}", DataWarning, stacklevel=3)
    return new


def one_row_each(table: Table, multi_label: MultiLabel) -> tuple[Table, Resolution]:
    """Return the table with the rows and classes of `resolve_labels`, and what these are; warns of nothing.

    A file that is listed as a sample and in the catalog, under one class, is a catalog item.
    """
    keys, labels = file_keys(table), table.labels.tolist()
    found = resolve_labels(keys, labels, multi_label)
    new = [found.merged.get(label, label) for label in labels]
    catalog = {(keys[i], new[i]) for i in np.flatnonzero(table.roles == "catalog").tolist()}
    roles = ["catalog" if (keys[i], new[i]) in catalog else str(table.roles[i]) for i in found.rows]
    kept = table.take(list(found.rows))
    return replace(kept, labels=np.array(found.labels, dtype=np.str_), roles=np.array(roles, dtype="<U7")), found


def _told(table: Table, example: Sequence[int], found: Resolution, multi_label: MultiLabel) -> str:
    rows = _count(found.num_rows, "row", "rows")
    done = {
        "first": f"the first one counts, {rows} left out",
        "drop": f"left out, {rows}",
        "merge": f"these are one now, {_count(len(found.merged), 'class', 'classes')} joined to others",
    }[multi_label]
    classes = ", ".join(repr(str(table.labels[i])) for i in example[:3])
    return (
        f"{_count(found.num_pictures, 'picture is', 'pictures are')} under several classes (for example "
        f"{table.files[example[0]]!r}: {classes}): {done}"
    )


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def repeat_problems(
    pictures: Sequence[object], labels: Sequence[str], roles: Sequence[str], places: Sequence[str], files: Sequence[str]
) -> dict[int, str]:
    """Return a line for each row whose picture was listed before, but for samples that the catalog lists, too."""
    problems = {}
    first: dict[object, int] = {}
    for i, picture in enumerate(pictures):
        own = first.setdefault(picture, i)
        if own == i:
            continue
        label, before, place = labels[i], labels[own], places[own]
        of_one_table = place.rpartition(": ")[0] == places[i].rpartition(": ")[0]
        if label == before and roles[i] == "catalog" and not of_one_table:
            continue
        seen = f"in {place.rpartition(': ')[2] if of_one_table else place}"
        if label == before:
            problems[i] = f"{places[i]}: file {files[i]!r} is {seen} too; keep one of them"
        else:
            problems[i] = (
                f"{places[i]}: file {files[i]!r} is {seen} with class {before!r} (here {label!r}); keep one of them, "
                "or choose with --multi-label"
            )
    return problems


def _num_in_both(table: Table, pictures: Sequence[str]) -> int:
    """Return how many samples are in the catalog under the same class: that is no repetition."""
    keys = list(zip(pictures, table.labels.tolist(), strict=True))
    of_role = [{key for key, role in zip(keys, table.roles.tolist(), strict=True) if role == name} for name in ROLES]
    return len(of_role[0] & of_role[1])


def _split_problems(table: Table, pictures: Sequence[str]) -> list[str]:
    """Return a line for each row that puts its file into another split than a row before."""
    problems = []
    first: dict[str, int] = {}
    for i, (picture, split) in enumerate(zip(pictures, table.splits.tolist(), strict=True)):
        own = first.setdefault(picture, i) if split else i
        if split and table.splits[own] != split:
            problems.append(
                f"{table.place(i)}: split {split!r}, but {str(table.splits[own])!r} in another row; keep one of them"
            )
    return problems


def _merged(conflicts: Sequence[Sequence[int]], labels: Sequence[str]) -> dict[str, str]:
    """Return the class that each class in a conflict becomes."""
    size = Counter(labels)
    joined = joined_sets((labels[rows[0]], labels[row]) for rows in conflicts for row in rows[1:])
    return {label: min(own, key=lambda each: (-size[each], each)) for label, own in joined.items()}


def joined_sets(pairs: Iterable[tuple[_Member, _Member]]) -> dict[_Member, set[_Member]]:
    """Return for each member of a pair the set of all that are joined to it, also by way of others.

    Members of one set have the same object.

    >>> joined_sets([("a", "b"), ("c", "d"), ("b", "e")])["e"] == {"a", "b", "e"}
    True
    """
    set_of: dict[_Member, set[_Member]] = {}
    for one, other in pairs:
        small, large = sorted((set_of.setdefault(one, {one}), set_of.setdefault(other, {other})), key=len)
        if small is not large:
            large |= small
            set_of.update(dict.fromkeys(small, large))
    return set_of
