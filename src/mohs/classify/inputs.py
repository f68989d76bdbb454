"""Checks of what the classifier is given: parameters, pictures or embeddings, labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.multiclass import check_classification_targets

from mohs.checks import class_labels, is_number, plain_array, require, wrong_choice, wrong_number, wrong_whole
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
    "plain_labels",
]

Method: TypeAlias = Literal["linear", "nearest-neighbours", "nearest-catalog"]

METHODS = ("linear", "nearest-neighbours", "nearest-catalog")


def check_parameters(given: Mapping[str, Any]) -> None:
    """Raise `InputError` with one line for each of a classifier's parameters, by name, that is out of range."""
    method = given["method"]
    problems = [
        wrong_choice("method", method, METHODS),
        wrong_number("dropout", given["dropout"], at_least=0, below=1, example=0.5),
        wrong_whole("num_epochs", given["num_epochs"], example=50),
        wrong_number("learning_rate", given["learning_rate"], above=0, at_most=1e6, example=0.01),
        wrong_number("weight_decay", given["weight_decay"], at_least=0, example=0.01),
        wrong_whole("num_neighbours", given["num_neighbours"], example=5),
        wrong_whole("num_folds", given["num_folds"], at_least=2, example=5),
    ]
    for name, smallest, linear in (("min_probability", 0, True), ("min_similarity", -1, False)):
        # A threshold chosen to refuse everything is the next number above the largest confidence, which may be 1.
        value = given[name]
        if value is None or (is_number(value) and value == np.nextafter(1.0, 2.0)):
            wrong = None
        else:
            wrong = wrong_number(name, value, at_least=smallest, at_most=1, example=0.5)
        problems.append(wrong)
        if value is not None and wrong is None and method in METHODS and linear != (method == "linear"):
            has = "min_similarity" if linear else "min_probability"
            problems.append(
                Problem(name, f"{value!r} is no threshold of the method {method!r}, which has {has}", "leave it out")
            )
    require(*problems)
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
        with np.errstate(invalid="ignore"):  # what is beyond int64 is refused below
            check_classification_targets(y)
    except (ValueError, TypeError) as error:
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
    marked_N = np.zeros(len(class_N), dtype=bool) if catalog_N is None else plain_array("catalog_N", catalog_N)
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


def plain_labels(y: Any, name: str) -> Array:
    """Return labels as an array that may still be a column, or of floats; no two kinds of labels have become one.

    Raises `InputError` as `mohs.checks.plain_array` does, and for labels in a list that are none or of two kinds.
    """
    real = (int, float, np.integer, np.floating)
    if isinstance(y, list | tuple) and not all(isinstance(label, real) and not isinstance(label, bool) for label in y):
        nested = bool(y) and all(isinstance(label, list | tuple | np.ndarray) for label in y)
        return plain_array(name, y) if nested else class_labels(name, y, len(y))
    array = plain_array(name, y)
    return class_labels(name, array, len(array)) if array.dtype.kind == "O" and array.ndim == 1 else array


def _labels(y: ArrayLike, name: str, num_items: int) -> Array:
    """Return strings or signed integers; whole numbers stored as floats are integers, as scikit-learn takes them."""
    array = plain_labels(y, name)
    if array.dtype.kind == "f" and np.array_equal(array, np.round(array)) and (np.abs(array) < 2.0**53).all():
        array = array.astype(np.int64)
    return checked_labels(array, name, num_items)


def _some(labels: Array) -> str:
    return ", ".join(map(repr, labels[:5].tolist())) + (", …" if len(labels) > 5 else "")
