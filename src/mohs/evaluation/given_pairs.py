"""Pairs that somebody else chose: indices, or a table of file names."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from mohs.data.rows import read_rows
from mohs.errors import InputError, at_most_20
from mohs.evaluation.checked import as_numpy, checked_embeddings, checked_labels, class_codes
from mohs.evaluation.pairs import Pairs
from mohs.evaluation.same_column import OneMeans, SameColumn, read_same_column, told_by_distances

__all__ = ["given_pairs", "read_pairs"]


def given_pairs(
    first_P: npt.ArrayLike,
    second_P: npt.ArrayLike,
    *,
    num_items: int,
    same_P: npt.ArrayLike | None = None,
    labels_N: npt.ArrayLike | None = None,
) -> Pairs:
    """Return given pairs, each of weight 1. Say with labels which are positive, or with flags if there are no labels.

    Intervals and folds are over classes. Without labels, items that are linked by positive pairs are taken to be of one
    class (connected components), and an item without any is a class of its own.

    Args:
        first_P: item indices, int [P].
        second_P: the other items, int [P].
        num_items: N; indices are in [0, N).
        same_P: bool [P] (or 0 and 1), whether the pair is of one class.
        labels_N: integers or strings [N].

    Raises:
        InputError: an index out of range, an item paired with itself, a pair given twice, both or neither of `same_P`
            and `labels_N`, or flags that contradict each other (a is b, b is c, but a is not c).

    >>> pairs = given_pairs([0, 1, 2], [1, 2, 3], num_items=4, same_P=[True, True, False])
    >>> pairs.class_N.tolist(), pairs.law
    ([0, 0, 0, 1], '3 given pairs: 2 of one class, 1 of two')
    """
    first, second = (_indices(each, name, num_items) for each, name in ((first_P, "first_P"), (second_P, "second_P")))
    if len(first) != len(second):
        raise InputError(f"first_P, second_P: lengths {len(first)} and {len(second)}; give two items for each pair")
    if (same_P is None) == (labels_N is None):
        given = "neither is" if same_P is None else "both are"
        raise InputError(f"same_P, labels_N: {given} given; give labels_N if there are labels, otherwise same_P")
    _raise(_bad_pairs(first, second, [f"first_P, second_P: pair {p}" for p in range(len(first))]))
    if labels_N is not None:
        [class_N] = class_codes(checked_labels(labels_N, "labels_N", num_items))
    else:
        same = as_numpy(same_P)
        if same.shape != first.shape or not np.isin(same, (0, 1)).all():
            raise InputError(f"same_P: shape {same.shape} and type {same.dtype}; give one flag for each pair")
        class_N = _components(first[same == 1], second[same == 1], num_items)
        places = [f"same_P: pair {p}" for p in range(len(first))]
        _raise(_contradictions(first, second, same.astype(bool), class_N, places))
    return _pairs(first, second, class_N, "given pairs")


def read_pairs(
    path: str | Path,
    files: Sequence[str],
    *,
    labels_N: npt.ArrayLike | None = None,
    embeddings_ND: npt.ArrayLike | None = None,
    one_means: OneMeans | None = None,
) -> Pairs:
    """Return the pairs in a table (CSV or Parquet) with the columns `file1`, `file2` and, without labels, `same`.

    The names and cells of `same` are those of `read_same_column`. In a column such as `label`, `y` or `target` 1 may be
    either: `one_means` says it, or the labels do, or the embeddings (`told_by_distances`); how it was read is then said
    in `law`. With labels the column may be there, and must agree. File names are compared as they are written.

    Args:
        path: the table.
        files: the name of each of the N items.
        labels_N: integers or strings [N]; none: see `given_pairs`.
        embeddings_ND: numbers [N, D], only to tell what 1 means.
        one_means: "same" or "different", for a column whose name does not say it.

    Raises:
        InputError: one line for each row that cannot be used (at most 20): a file that is none of the items, a pair
            with itself, a pair given twice, a cell that says neither same nor different, a contradiction; or a column
            of which nothing says what 1 means.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; check the path")
    columns, rows = read_rows(path)
    wanted = ["file1", "file2"] if labels_N is not None else ["file1", "file2", "same"]
    missing = [name for name in ("file1", "file2") if name not in columns]
    column, problems = None, list[str]()
    try:
        column = read_same_column(path, columns, rows, one_means=one_means, required=labels_N is None)
    except InputError as error:
        problems += error.problems
    if missing:
        missing += [] if labels_N is not None or column is not None else ["same"]
        raise InputError(
            f"{path}: no column {', '.join(map(repr, missing))} among {', '.join(map(repr, columns))}; "
            f"the header must name {', '.join(wanted)}"
        )
    if not rows:
        raise InputError(f"{path}: no pairs; write one a row")
    index = {name: i for i, name in enumerate(files)}
    if len(index) < len(files):
        raise InputError(f"files: {len(files) - len(index)} names appear more than once; pairs need different ones")
    problems = [
        f"{path}: row {row}, column {name!r}: {cell!r} is none of the {len(files)} items; write it as in their table"
        for name in ("file1", "file2")
        for row, cell in zip(rows, columns[name], strict=True)
        if cell not in index
    ] + problems
    _raise(problems)
    first, second = (np.array([index[cell] for cell in columns[name]], dtype=np.int64) for name in ("file1", "file2"))
    _raise(_bad_pairs(first, second, [f"{path}: row {row}" for row in rows]))
    if labels_N is not None:
        [class_N] = class_codes(checked_labels(labels_N, "labels_N", len(files)))
        same, reading = (None, "") if column is None else _told_by_labels(column, class_N[first] == class_N[second])
    else:
        assert column is not None  # it is required
        same, reading = _told(column, first, second, embeddings_ND)
        class_N = _components(first[same], second[same], len(files))
    if column is not None and same is not None:
        places = [f"{path}: row {row}, column {column.name!r}" for row in rows]
        _raise(_contradictions(first, second, same, class_N, places))
    pairs = _pairs(first, second, class_N, f"pairs of {path.name}")
    return replace(pairs, law=f"{pairs.law}; {reading}") if reading else pairs


def _told_by_labels(column: SameColumn, same_P: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.bool_], str]:
    """Return what the column says, the way in which it agrees with the labels, and how that was told."""
    if column.one_means is not None:
        return column.same(column.one_means), ""
    agree = {means: float((column.same(means) == same_P).mean()) for means in get_args(OneMeans)}
    means = max(agree, key=lambda each: agree[each])
    if agree[means] < 1.0 and abs(agree["same"] - agree["different"]) < 0.5:
        raise column.ask(f", and the labels do not tell (they agree with 1 = same in {agree['same']:.0%} of the pairs)")
    return column.same(means), f"column {column.name!r} read as 1 = {means}, as the labels say"


def _told(
    column: SameColumn,
    first: npt.NDArray[np.int64],
    second: npt.NDArray[np.int64],
    embeddings_ND: npt.ArrayLike | None,
) -> tuple[npt.NDArray[np.bool_], str]:
    """Return which pairs are the same, without labels, and how that was told if the column does not say it."""
    if column.one_means is not None:
        return column.same(column.one_means), ""
    if embeddings_ND is None:
        raise column.ask("")
    x_ND = checked_embeddings(embeddings_ND, "embeddings_ND")
    distance_P = np.linalg.norm(x_ND[first] - x_ND[second], axis=1)
    return told_by_distances(column, distance_P)


def _pairs(
    first: npt.NDArray[np.int64], second: npt.NDArray[np.int64], class_N: npt.NDArray[np.int64], what: str
) -> Pairs:
    num_same = int((class_N[first] == class_N[second]).sum())
    law = f"{len(first):,} {what}: {num_same:,} of one class, {len(first) - num_same:,} of two"
    return Pairs(first, second, class_N, np.ones(len(first)), law)


def _components(first: npt.NDArray[np.int64], second: npt.NDArray[np.int64], num_items: int) -> npt.NDArray[np.int64]:
    """Return the number of the component of each item, int64 [N], in order of their first items."""
    # Each item takes the smallest label of its neighbours, and then the label of that one, until nothing changes.
    label_N = np.arange(num_items)
    while True:
        new_N = label_N.copy()
        np.minimum.at(new_N, first, label_N[second])
        np.minimum.at(new_N, second, label_N[first])
        new_N = new_N[new_N]
        if np.array_equal(new_N, label_N):
            return np.unique(label_N, return_inverse=True)[1].astype(np.int64)
        label_N = new_N


def _bad_pairs(first: npt.NDArray[np.int64], second: npt.NDArray[np.int64], places: Sequence[str]) -> list[str]:
    problems = [
        f"{places[p]}: item {first[p]} is paired with itself; leave the pair out"
        for p in np.flatnonzero(first == second).tolist()
    ]
    pairs_P2 = np.sort(np.stack([first, second], axis=1), axis=1)
    _, first_of, inverse = np.unique(pairs_P2, axis=0, return_index=True, return_inverse=True)
    earlier_P = first_of[inverse.ravel()].tolist()
    return problems + [
        f"{places[p]}: the same two items as in {places[earlier]}; leave one out"
        for p, earlier in enumerate(earlier_P)
        if earlier != p
    ]


def _contradictions(
    first: npt.NDArray[np.int64],
    second: npt.NDArray[np.int64],
    same: npt.NDArray[np.bool_],
    class_N: npt.NDArray[np.int64],
    places: Sequence[str],
) -> list[str]:
    wrong = np.flatnonzero((class_N[first] == class_N[second]) != same)
    return [
        f"{places[p]}: said to be of {'one class' if same[p] else 'two classes'}, but labels or other pairs say that "
        "it is not; correct one of them"
        for p in wrong.tolist()
    ]


def _indices(values: Any, name: str, num_items: int) -> npt.NDArray[np.int64]:
    indices = as_numpy(values)
    if indices.ndim != 1 or not len(indices) or indices.dtype.kind not in "iu":
        raise InputError(f"{name}: shape {indices.shape} and type {indices.dtype}; give a flat array of item indices")
    wrong = np.flatnonzero((indices < 0) | (indices >= num_items))
    if len(wrong):
        raise InputError(f"{name}: {indices[wrong[0]]} of pair {wrong[0]} is not in [0, {num_items})")
    return indices.astype(np.int64)


def _raise(problems: Sequence[str]) -> None:
    if problems:
        raise InputError(*at_most_20(problems))
