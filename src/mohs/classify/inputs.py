"""Checks of what the classifier is given: parameters, pictures or embeddings, labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.multiclass import check_classification_targets

from mohs.errors import InputError, Problem
from mohs.evaluation.checked import Array, Bools, Index, checked_labels
from mohs.randomness import check_seed

__all__ = [
    "METHODS",
    "Method",
    "are_pictures",
    "check_parameters",
    "checked_catalog",
    "checked_classes",
    "known_classes",
]

Method: TypeAlias = Literal["linear", "nearest-neighbours", "nearest-catalog"]

METHODS = ("linear", "nearest-neighbours", "nearest-catalog")

# A threshold chosen to refuse everything is the next number above the largest confidence, which may be 1.
_LARGEST_THRESHOLD = float(np.nextafter(1.0, 2.0))


def check_parameters(given: Mapping[str, Any]) -> None:
    """Raise `InputError` with one line for each of a classifier's parameters, by name, that is out of range."""
    method = given["method"]
    linear = method == "linear"
    checks: list[tuple[str, bool, str, Any]] = [
        ("method", method in METHODS, f"one of {', '.join(map(repr, METHODS))}", "linear"),
        ("dropout", _is_number(given["dropout"]) and 0 <= given["dropout"] < 1, "in [0, 1)", 0.5),
        ("num_epochs", _is_whole(given["num_epochs"], 1), "a whole number above 0", 50),
        (
            "learning_rate",
            _is_number(given["learning_rate"]) and 0 < given["learning_rate"] <= 1e6,
            "in (0, 1e6]",
            0.01,
        ),
        ("weight_decay", _is_number(given["weight_decay"]) and 0 <= given["weight_decay"] < np.inf, "0 or more", 0.01),
        ("num_neighbours", _is_whole(given["num_neighbours"], 1), "a whole number above 0", 5),
        ("num_folds", _is_whole(given["num_folds"], 2), "a whole number above 1", 5),
    ]
    for name, smallest, fits in (("min_probability", 0.0, linear), ("min_similarity", -1.0, not linear)):
        value = given[name]
        if value is None:
            continue
        in_range = _is_number(value) and smallest <= value <= _LARGEST_THRESHOLD
        checks.append((name, in_range, f"in [{smallest:g}, 1]", 0.5))
        if in_range and not fits and method in METHODS:
            other = "min_probability" if linear else "min_similarity"
            checks.append((name, False, f"a threshold of the method {method!r}, which has {other}", None))
    problems = [
        Problem(name, f"{given[name]!r} is not {rule}", "leave it out" if use is None else f"use for example {use!r}")
        for name, good, rule, use in checks
        if not good
    ]
    if problems:
        raise InputError(*problems)
    check_seed(given["seed"])


def are_pictures(X: Any) -> bool:
    """Return whether these are pictures, uint8 [N, H, W, C], or files, rather than embeddings."""
    if isinstance(X, np.ndarray):
        return X.dtype == np.uint8 and X.ndim == 4
    return isinstance(X, Sequence) and bool(len(X)) and all(isinstance(file, str | Path) for file in X)


def checked_classes(y: ArrayLike, num_items: int) -> tuple[Array, Index]:
    """Return (classes [C], sorted; class number of each item, int64 [N]).

    Raises `InputError` if labels are neither strings nor whole numbers, do not fit `num_items`, or are of one class.
    """
    try:
        check_classification_targets(y)
    except ValueError as error:
        raise InputError(Problem("y", " ".join(str(error).split()))) from None
    labels_N = _labels(y, "y", num_items)
    classes, class_N = np.unique(labels_N, return_inverse=True)
    if len(classes) < 2:
        what = f"1 class ({classes[0].item()!r})"
        raise InputError(Problem("y", what, "a classifier needs at least 2: add pictures of others"))
    return classes, class_N.astype(np.int64)


def known_classes(y: ArrayLike, classes: Array, num_items: int) -> Index:
    """Return the class number of each item, int64 [N]; raise `InputError` if one is of none of `classes`."""
    labels_N = _labels(y, "held_out", num_items)
    unknown = np.setdiff1d(labels_N, classes)
    if unknown.size:
        what = f"{unknown.size} classes that were not fitted ({_some(unknown)})"
        raise InputError(Problem("held_out", what, "leave their pictures out"))
    return np.searchsorted(classes, labels_N).astype(np.int64)


def checked_catalog(catalog_N: ArrayLike | None, class_N: Index, classes: Array) -> Bools:
    """Return which items are references, bool [N]: those marked, or all if none is.

    Raises `InputError` if the marks do not fit or if only some of the classes have one.
    """
    marked_N = np.zeros(len(class_N), dtype=bool) if catalog_N is None else np.asarray(catalog_N)
    if marked_N.shape != class_N.shape or marked_N.dtype != np.bool_:
        what = f"{marked_N.dtype}{marked_N.shape} is not bool [{len(class_N)}]"
        raise InputError(Problem("catalog_N", what, "give one flag an item"))
    if not marked_N.any():
        return np.ones(len(class_N), dtype=bool)
    bare = np.delete(classes, np.unique(class_N[marked_N]))
    if bare.size:
        what = f"{bare.size} of {len(classes)} classes have no catalog picture ({_some(bare)})"
        fix = "add one for each, or use the method 'nearest-neighbours'"
        raise InputError(Problem("catalog_N", what, fix))
    return marked_N


def _labels(y: ArrayLike, name: str, num_items: int) -> Array:
    """Return strings or signed integers; whole numbers stored as floats are integers, as scikit-learn takes them."""
    array = np.asarray(y)
    if array.dtype.kind == "f" and np.array_equal(array, np.round(array)):
        array = array.astype(np.int64)
    labels_N = checked_labels(array, name, num_items)
    # "None of these" is -1.
    return labels_N.astype(np.int64) if labels_N.dtype.kind == "u" else labels_N


def _some(labels: Array) -> str:
    return ", ".join(map(repr, labels[:5].tolist())) + (", …" if len(labels) > 5 else "")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _is_whole(value: Any, smallest: int) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= smallest)
