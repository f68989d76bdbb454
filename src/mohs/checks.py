"""What many functions check of their arguments, once: numbers, choices, item indices and labels.

A scalar check returns a `Problem`, or None if nothing is wrong, so that all that is wrong is told together:

    >>> require(
    ...     wrong_whole("num_triplets", 0, example=10_000),
    ...     wrong_choice("scale", "ranks", ("rank", "log-rank")),
    ... )
    Traceback (most recent call last):
    mohs.errors.InputError: num_triplets: 0 is not a whole number of at least 1; use for example 10000
    scale: 'ranks' is not one of 'rank', 'log-rank'
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mohs.errors import InputError, Problem

__all__ = ["is_number", "is_whole", "item_indices", "require", "wrong_choice", "wrong_number", "wrong_whole"]


def require(*problems: Problem | None) -> None:
    """Raise `InputError` with all the problems that there are; None stands for no problem."""
    found = [problem for problem in problems if problem is not None]
    if found:
        raise InputError(*found)


def is_whole(value: object) -> bool:
    """Return whether a value is a whole number by type: Python's or numpy's, and no truth value.

    >>> is_whole(np.int64(3)), is_whole(3.0), is_whole(True)
    (True, False, False)
    """
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Return whether a value is a finite number by type: Python's or numpy's, and no truth value.

    >>> is_number(0.5), is_number(float("nan")), is_number("0.5")
    (True, False, False)
    """
    is_real = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    return is_real and math.isfinite(value)  # type: ignore[arg-type]


def wrong_whole(
    place: str, value: object, *, at_least: int = 1, at_most: int | None = None, example: object = None
) -> Problem | None:
    """Return what is wrong with a count: that it is no whole number of `at_least` to `at_most`.

    >>> wrong_whole("rank", 4, at_least=0, at_most=3)
    'rank: 4 is not a whole number in [0, 3]'
    """
    if is_whole(value) and at_least <= int(value) and (at_most is None or int(value) <= at_most):  # type: ignore[call-overload]
        return None
    rule = f"of at least {at_least}" if at_most is None else f"in [{at_least}, {at_most}]"
    return Problem(place, f"{value!r} is not a whole number {rule}", _for_example(example))


def wrong_number(
    place: str,
    value: object,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
    example: object = None,
) -> Problem | None:
    """Return what is wrong with a number: that it is none, not finite, or outside its limits.

    >>> wrong_number("dropout", 1.0, at_least=0, below=1, example=0.5)
    'dropout: 1.0 is not a number in [0, 1); use for example 0.5'
    >>> wrong_number("margin", -1, above=0)
    'margin: -1 is not a number above 0'
    """
    if is_number(value):
        number = float(value)  # type: ignore[arg-type]
        inside = (
            (above is None or number > above)
            and (at_least is None or number >= at_least)
            and (below is None or number < below)
            and (at_most is None or number <= at_most)
        )
        if inside:
            return None
    rule = _limits(above, at_least, below, at_most)
    return Problem(place, f"{value!r} is not a number{rule}", _for_example(example))


def wrong_choice(place: str, value: object, choices: Sequence[str]) -> Problem | None:
    """Return what is wrong with a choice: that it is none of `choices`.

    >>> wrong_choice("metric", "dot", ("euclidean", "cosine"))
    "metric: 'dot' is not one of 'euclidean', 'cosine'"
    """
    if isinstance(value, str) and value in choices:
        return None
    return Problem(place, f"{value!r} is not one of {', '.join(map(repr, choices))}")


def item_indices(place: str, values: ArrayLike, num_items: int) -> NDArray[np.int64]:
    """Return `values` as int64[T], all in [0, N); raise `InputError` for another shape, type or range.

    >>> item_indices("anchors_T", [0, 2], 2)
    Traceback (most recent call last):
    mohs.errors.InputError: anchors_T: 2 at position 1 is not an item index in [0, 2) (1 such values)
    """
    array: NDArray[Any] = np.asarray(values)
    if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
        raise InputError(
            Problem(place, f"{array.dtype}{list(array.shape)} is not a list of item indices", "give integers [T]")
        )
    outside = np.flatnonzero((array < 0) | (array >= num_items))
    if outside.size:
        raise InputError(
            Problem(
                place,
                f"{array[outside[0]]} at position {outside[0]} is not an item index in [0, {num_items}) "
                f"({outside.size} such values)",
            )
        )
    return array.astype(np.int64)


def _limits(above: float | None, at_least: float | None, below: float | None, at_most: float | None) -> str:
    low, high = (above if at_least is None else at_least), (below if at_most is None else at_most)
    if low is not None and high is not None:
        return f" in {'(' if at_least is None else '['}{low:g}, {high:g}{')' if at_most is None else ']'}"
    if low is not None:
        return f" above {low:g}" if at_least is None else f" of at least {low:g}"
    if high is not None:
        return f" below {high:g}" if at_most is None else f" of at most {high:g}"
    return ""


def _for_example(example: object) -> str:
    return "" if example is None else f"use for example {example}"
