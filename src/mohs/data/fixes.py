"""Corrections of a table: classes to join, labels to change, pictures to leave out; as CSV, for a person to edit."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from os.path import normpath
from pathlib import Path
from typing import Literal, TypeAlias, final, get_args

import numpy as np

from mohs.checks import require
from mohs.data.multi_label import MultiLabel, file_keys, one_row_each, resolve_labels, rows_of_several_classes
from mohs.data.names import same_name_groups
from mohs.data.rows import read_rows, write_rows
from mohs.data.table import Table
from mohs.errors import InputError, Problem, at_most_20
from mohs.shown import csv_cell

__all__ = ["Applied", "LabelFix", "Suggestion", "apply_fixes", "listing_fixes", "read_fixes", "write_fixes"]

Suggestion: TypeAlias = Literal["merge classes", "relabel", "drop", "look"]


@final
@dataclass(frozen=True)
class LabelFix:
    """One correction, a row of the CSV.

    `suggestion` says what happens: "merge classes": every picture of `label` becomes one of `to`; "relabel": this file
    becomes one of `to`; "drop": this file is left out; "look": nothing. The rest is evidence, as text: the `cause`; the
    picture `other` that shows it and its class; how many of the most confident wrong matches the correction explains
    (`pairs`); similarity of the two by the embedder; difference of their pixels (0: equal); how well the file fits its
    own class and the other one (similarities). The columns in the CSV are called the same, but for `class` and
    `other_class`.
    """

    file: str
    label: str
    suggestion: Suggestion
    to: str = ""
    cause: str = ""
    other: str = ""
    other_label: str = ""
    pairs: str = ""
    similarity: str = ""
    difference: str = ""
    own_fit: str = ""
    other_fit: str = ""


@final
@dataclass(frozen=True)
class Applied:
    """The corrected table and what was done: classes joined to others, pictures relabelled, pictures left out.

    `num_looked` counts the rows that only ask to look, `num_repeated` those that are there before, and `num_unchanged`
    those that give what is there already: a picture or a class its own class. `vanished` are the classes that have no
    picture any more though they were not joined to another, `new_classes` those that the table did not have.
    """

    table: Table
    num_merged: int
    num_relabelled: int
    num_dropped: int
    num_looked: int
    num_repeated: int
    num_unchanged: int
    vanished: tuple[str, ...]
    new_classes: tuple[str, ...]


_COLUMNS = tuple(
    {"label": "class", "other_label": "other_class"}.get(field.name, field.name) for field in fields(LabelFix)
)
_NEEDED = ("file", "class", "suggestion", "to")


def write_fixes(fixes: Sequence[LabelFix], path: str | Path) -> None:
    """Write corrections as CSV, atomically."""
    write_rows(path, _COLUMNS, ([csv_cell(getattr(fix, field.name)) for field in fields(LabelFix)] for fix in fixes))


def read_fixes(path: str | Path) -> list[LabelFix]:
    """Return the corrections in a CSV with at least the columns file, class, suggestion and to.

    An empty suggestion is "look". Raises `InputError` with one line for each problem: a missing column, an unknown
    suggestion, nothing in `to` where it is needed.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(Problem(str(path), "no such file", "give the fixes.csv of 'mohs doctor --precision'"))
    columns, rows = read_rows(path)
    problems = [f"{path}: no column {name!r}; keep the columns of fixes.csv" for name in _NEEDED if name not in columns]
    require(*problems)
    fixes = []
    for place, row in enumerate(rows):
        named = zip(fields(LabelFix), _COLUMNS, strict=True)
        cells = {field.name: columns[name][place] for field, name in named if name in columns}
        suggestion = cells["suggestion"].strip() or "look"
        if suggestion not in get_args(Suggestion):
            known = ", ".join(map(repr, get_args(Suggestion)))
            problems.append(f"{path}: row {row}: suggestion {suggestion!r} is not one of {known}; change it")
        elif suggestion in ("merge classes", "relabel") and not cells["to"].strip():
            problems.append(f"{path}: row {row}: column 'to' is empty; name the class, or make the suggestion 'look'")
        fixes.append(LabelFix(**{**cells, "suggestion": suggestion}))  # type: ignore[arg-type]
    require(*at_most_20(problems))
    return fixes


def apply_fixes(table: Table, fixes: Sequence[LabelFix], *, source: str = "fixes") -> Applied:
    """Return the table with the corrections made: labels changed first, then classes joined, then pictures left out.

    Joined classes may be joined again: with A to B and B to C, A becomes C. The table may list a file under several
    classes (`read_listing`): a correction is of the row with its class, and rows that say the same in the end are one.

    Raises `InputError`, with `source` as the place, for a file or class that the table does not have, a file that has
    another class there (the corrections are for another version of the table), one that is to get two classes, and
    classes joined in a circle; if a file is still under several classes; and if no picture is left.
    """
    labels: list[str] = table.labels.tolist()
    asked = [fix for fix in fixes if fix.suggestion != "look"]
    merged, relabelled, dropped = _changes(table, asked, source)
    num_unchanged = sum(label == to for label, to in merged.items())
    num_unchanged += sum(labels[item] == to for item, to in relabelled.items())
    merged = {label: to for label, to in merged.items() if label != to}
    new = [relabelled.get(i, label) for i, label in enumerate(labels)]
    for i, label in enumerate(new):
        while label in merged:
            label = merged[label]
        new[i] = label
    kept = np.array([i not in dropped for i in range(len(table))], dtype=bool)
    if not kept.any():
        raise InputError(
            Problem(source, f"all {len(table):,} pictures of {table.source} are left out", "drop fewer of them")
        )
    fixed = replace(table, labels=np.array(new, dtype=np.str_)).take(kept)
    new = fixed.labels.tolist()
    left = [
        f"{source}: file {fixed.files[rows[0]]!r} of {table.source} is still under "
        f"{' and '.join(repr(new[i]) for i in rows)}; drop one of the rows, or merge the classes"
        for rows in rows_of_several_classes(file_keys(fixed), new)
    ]
    require(*at_most_20(left))
    applied = one_row_each(fixed, "error")[0]
    remaining = set(applied.labels.tolist())
    return Applied(
        table=applied,
        num_merged=len(merged),
        num_relabelled=sum(item not in dropped and labels[item] != to for item, to in relabelled.items()),
        num_dropped=len(dropped),
        num_looked=len(fixes) - len(asked),
        num_repeated=len(asked) - len({(normpath(fix.file), fix.label, fix.suggestion, fix.to) for fix in asked}),
        num_unchanged=num_unchanged,
        vanished=tuple(sorted(set(labels) - remaining - merged.keys())),
        new_classes=tuple(sorted(remaining - set(labels))),
    )


def _changes(table: Table, asked: Sequence[LabelFix], source: str) -> tuple[dict[str, str], dict[int, str], set[int]]:
    """Return what classes are to become, what rows are to become, and the rows that are dropped."""
    labels: list[str] = table.labels.tolist()
    known, positions = set(labels), defaultdict(list)
    for i, file in enumerate(table.files):
        positions[normpath(file)].append(i)
    problems: list[str] = []
    merged: dict[str, str] = {}
    relabelled: dict[int, str] = {}
    dropped: set[int] = set()
    for fix in asked:
        rows = positions.get(normpath(fix.file), [])
        own = [row for row in rows if labels[row] == fix.label]
        what = ""
        if fix.suggestion == "merge classes":
            if fix.label not in known:
                what = f"class {fix.label!r} is not in {table.source}; remove the row"
            elif merged.setdefault(fix.label, fix.to) != fix.to:
                what = f"class {fix.label!r} is to become {merged[fix.label]!r} and {fix.to!r}; keep one"
        elif not rows:
            what = f"file {fix.file!r} is not in {table.source}; remove the row"
        elif not own:
            what = (
                f"file {fix.file!r} is of class {labels[rows[0]]!r} in {table.source}, not {fix.label!r}; "
                "these corrections are for another version of the table"
            )
        elif fix.suggestion == "drop":
            dropped.update(own)
        elif relabelled.setdefault(own[0], fix.to) != fix.to:
            what = f"file {fix.file!r} is to become {relabelled[own[0]]!r} and {fix.to!r}; keep one"
        problems += [f"{source}: {what}"] if what else []
    problems += _circles(source, {label: to for label, to in merged.items() if label != to})
    require(*at_most_20(problems))
    return merged, relabelled, dropped


def listing_fixes(table: Table, multi_label: MultiLabel) -> list[LabelFix]:
    """Return corrections for files that a table lists under several classes, and for classes of nearly the same name.

    What they suggest is what `multi_label` chooses: "first" drops the later rows of such a file, "drop" all of them,
    "merge" joins the classes; "error" suggests to look. Classes whose names differ in capitals, spaces or the like are
    never joined unseen: the suggestion is to look, and `to` is the larger of them.
    """
    keys, labels = file_keys(table), table.labels.tolist()
    merged = resolve_labels(keys, labels, "merge").merged
    fixes = []
    for rows in rows_of_several_classes(keys, labels):
        for place, row in enumerate(rows):
            label, other = labels[row], rows[1 if place == 0 else 0]
            suggestion: Suggestion = "look"
            if multi_label == "drop" or (multi_label == "first" and label != labels[rows[0]]):
                suggestion = "drop"
            elif multi_label == "merge" and label in merged:
                suggestion = "merge classes"
            to = merged.get(label, label)
            found = LabelFix(table.files[row], label, suggestion, "" if to == label else to, "several-classes")
            fixes.append(replace(found, other=table.files[other], other_label=labels[other]))
    size = Counter(labels)
    for group in same_name_groups(labels):
        to = max(group, key=lambda name: (size[name], name))
        for label in group:
            if label != to:
                file, other = (table.files[labels.index(name)] for name in (label, to))
                fixes.append(LabelFix(file, label, "look", to, "similar-names", other, to))
    return fixes


def _circles(source: str, merged: dict[str, str]) -> list[str]:
    problems = []
    seen: set[str] = set()
    for start in merged:
        path: list[str] = []
        label = start
        while label in merged and label not in seen:
            seen.add(label)
            path.append(label)
            label = merged[label]
        if label in path:
            circle = " to ".join(map(repr, [*path[path.index(label) :], label]))
            problems.append(f"{source}: classes are joined in a circle ({circle}); remove one of the rows")
    return problems
