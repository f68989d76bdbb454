"""What many functions check of their arguments, once: numbers, choices, arrays, item indices and labels.

A scalar check returns a `Problem`, or None if nothing is wrong, so that all that is wrong is told together:

    >>> require(
    ...     wrong_whole("num_triplets", 0, example=10_000),
    ...     wrong_choice("scale", "ranks", ("rank", "log-rank")),
    ... )
    Traceback (most recent call last):
    mohs.errors.InputError: num_triplets: 0 is not a whole number of at least 1; use for example 10000
    scale: 'ranks' is not one of 'rank', 'log-rank'

A little over 400 lines: half of them are the rules and examples of some twenty small checks of one kind.
"""

import math
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mohs.errors import InputError, Problem, reason_of

__all__ = [
    "class_labels",
    "is_number",
    "is_whole",
    "item_indices",
    "numbers",
    "path_of",
    "plain_array",
    "require",
    "several",
    "truths",
    "wrong_choice",
    "wrong_function",
    "wrong_kind",
    "wrong_number",
    "wrong_text",
    "wrong_whole",
]

_LARGEST: Final = 2**63 - 1
"""Of a whole number: numpy and the others below take no larger one."""


def require(*problems: str | None) -> None:
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
    try:
        return is_real and math.isfinite(value)  # type: ignore[arg-type]
    except OverflowError:  # a whole number that no float64 holds
        return False


def wrong_whole(
    place: str, value: object, *, at_least: int = 1, at_most: int | None = None, example: object = None
) -> Problem | None:
    """Return what is wrong with a count: that it is no whole number of `at_least` to `at_most`.

    >>> wrong_whole("rank", 4, at_least=0, at_most=3)
    'rank: 4 is not a whole number in [0, 3]'
    """
    largest = _LARGEST if at_most is None else at_most
    if is_whole(value) and at_least <= int(value) <= largest:  # type: ignore[call-overload]
        return None
    rule = f"of at least {at_least}" if at_most is None else f"in [{at_least}, {at_most}]"
    if at_most is None and is_whole(value) and int(value) > largest:  # type: ignore[call-overload]
        rule = "below 2**63"
    return Problem(place, f"{_in_a_line(value)} is not a whole number {rule}", _for_example(example))


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
    return Problem(place, f"{_in_a_line(value)} is not a number{rule}", _for_example(example))


def wrong_choice(place: str, value: object, choices: Sequence[str]) -> Problem | None:
    """Return what is wrong with a choice: that it is none of `choices`.

    >>> wrong_choice("metric", "dot", ("euclidean", "cosine"))
    "metric: 'dot' is not one of 'euclidean', 'cosine'"
    """
    if isinstance(value, str) and value in choices:
        return None
    return Problem(place, f"{_in_a_line(value)} is not one of {', '.join(map(repr, choices))}")


def wrong_text(place: str, value: object, *, example: object = None) -> Problem | None:
    """Return what is wrong with a name: that it is no text.

    >>> wrong_text("class_column", ["class"], example="'class'")
    "class_column: ['class'] is not text; use for example 'class'"
    """
    if isinstance(value, str):
        return None
    return Problem(place, f"{_in_a_line(value)} is not text", _for_example(example))


def wrong_kind(place: str, value: object, kind: type, fix: str) -> Problem | None:
    """Return what is wrong with an object of Mohs: that it is none of this class; the fix says how to make one.

    >>> wrong_kind("run", "runs/shop", dict, "open it with mohs.Run.open(folder)")
    "run: 'runs/shop' is no dict; open it with mohs.Run.open(folder)"
    """
    if isinstance(value, kind):
        return None
    shown = repr(value) if isinstance(value, str | PathLike) or value is None else type(value).__name__
    return Problem(place, f"{shown:.100} is no {kind.__name__}", fix)


def wrong_function(place: str, value: object, *, example: object = None) -> Problem | None:
    """Return what is wrong with a function: that it cannot be called.

    >>> wrong_function("curve", 0.5)
    'curve: 0.5 is no function'
    """
    if callable(value):
        return None
    return Problem(place, f"{_in_a_line(value)} is no function", _for_example(example))


def path_of(place: str, value: Any) -> Path:
    """Return what names a file or folder, text or a path, as a path; raise `InputError` for another kind.

    >>> path_of("folder", None)
    Traceback (most recent call last):
    mohs.errors.InputError: folder: None is neither text nor a path; give the path of a file or folder
    """
    if isinstance(value, str | PathLike) and not isinstance(value, bytes):
        return Path(value)
    shown = "None" if value is None else type(value).__name__
    raise InputError(Problem(place, f"{shown} is neither text nor a path", "give the path of a file or folder"))


def several(place: str, values: Any, example: str) -> list[Any]:
    """Return the values of a list, or of what else can be gone through; raise `InputError` for one value alone.

    Text counts as one value, not as its letters.

    >>> several("ids", "a.png", "['a.png']")
    Traceback (most recent call last):
    mohs.errors.InputError: ids: 'a.png' is not a list; use for example ['a.png']
    """
    if isinstance(values, Iterable) and not isinstance(values, str | bytes | dict) and getattr(values, "ndim", 1) != 0:
        return list(values)
    raise InputError(Problem(place, f"{_in_a_line(values)} is not a list", _for_example(example)))


def item_indices(place: str, values: ArrayLike, num_items: int) -> NDArray[np.int64]:
    """Return `values` as int64[T], all in [0, N); raise `InputError` for another shape, type or range.

    >>> item_indices("anchors_T", [0, 2], 2)
    Traceback (most recent call last):
    mohs.errors.InputError: anchors_T: 2 at position 1 is not an item index in [0, 2) (1 such values)
    """
    array = plain_array(place, values)
    if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
        raise InputError(
            Problem(place, f"{array.dtype}{list(array.shape)} is not a list of item indices", "give integers [T]")
        )
    outside = np.flatnonzero((array < 0) | (array >= num_items))
    if outside.size:
        what = (
            f"{array[outside[0]]} at position {outside[0]} is not an item index in [0, {num_items}) "
            f"({outside.size} such values)"
        )
        raise InputError(Problem(place, what))
    return array.astype(np.int64)


def plain_array(place: str, values: Any) -> NDArray[Any]:
    """Return what may be a list, an array of another library or a torch tensor as a numpy array, of any type.

    Tensors may carry gradients, lie on a GPU or be of a type that numpy lacks (bfloat16: then as float32, exactly).
    Raises `InputError` for what would lose something: sparse and masked values, and rows of different lengths.

    >>> plain_array("x_ND", [[1, 2], [3]])
    Traceback (most recent call last):
    mohs.errors.InputError: x_ND: row 1 has another length than row 0 (1 and 2); give rows of one length
    """
    if callable(values) and not hasattr(values, "__array__"):
        curve = ": mohs.curves.schedule(curve, num_triplets)" if "hardness" in place else ""
        raise InputError(Problem(place, "a function is not an array", f"give the values that it returns{curve}"))
    if hasattr(values, "toarray"):
        raise InputError(Problem(place, f"{type(values).__name__} is sparse", "give its toarray()"))
    if isinstance(values, np.ma.MaskedArray) and np.ma.getmaskarray(values).any():
        first = np.argwhere(np.ma.getmaskarray(values))[0].tolist()
        raise InputError(Problem(place, f"the value at {first} is masked", "leave it out, or fill it"))
    try:
        return np.asarray(_of_tensor(values) if hasattr(values, "detach") else values)
    except (ValueError, TypeError, RuntimeError, OverflowError, AttributeError, UserWarning) as error:
        raise InputError(_no_array(place, values, error)) from None


def numbers(place: str, values: Any, *, truths_count: bool = False) -> NDArray[Any]:
    """Return real numbers as an array, floats of at most 64 bits or integers, of any shape.

    With `truths_count` truth values are 0 and 1. Raises `InputError` as `plain_array` does, and for another type: text,
    complex, None, records.

    >>> numbers("x_ND", [[1.0, None]])
    Traceback (most recent call last):
    mohs.errors.InputError: x_ND: None at [0, 1] is not a number; give numbers
    """
    array = plain_array(place, values)
    if truths_count and array.dtype == np.bool_:
        return array.astype(np.float64)
    if array.dtype.kind == "O":
        for at, value in np.ndenumerate(array):
            if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
                where = f" at {list(at)}" if at else ""
                raise InputError(Problem(place, f"{value!r:.60}{where} is not a number", "give numbers"))
        try:
            with np.errstate(over="ignore"):
                return array.astype(np.float64)
        except OverflowError:
            raise InputError(Problem(place, "a whole number that no float64 holds", "give smaller ones")) from None
    if array.dtype.kind in "US" and array.size:
        raise InputError(Problem(place, f"{str(array.flat[0])!r:.60} is text, not a number", "give numbers"))
    if array.dtype.kind not in "fiu":
        raise InputError(Problem(place, f"{array.dtype}{list(array.shape)} is not of real numbers", "give numbers"))
    if array.dtype.itemsize > 8:
        with np.errstate(over="ignore"):
            return array.astype(np.float64)
    return array


def truths(place: str, values: Any, num_items: int | None = None) -> NDArray[np.bool_]:
    """Return truth values as bool[N]; 0 and 1 are False and True. Raise `InputError` for others, or another length.

    >>> truths("correct_N", [1, 0], 2).tolist()
    [True, False]
    """
    array = plain_array(place, values)
    if array.ndim != 1 or (num_items is not None and len(array) != num_items):
        wanted = "" if num_items is None else f" of {num_items}"
        raise InputError(Problem(place, f"shape {list(array.shape)}", f"give a flat array{wanted} of True and False"))
    if array.dtype == np.bool_ or not array.size:
        return array.astype(np.bool_)
    wrong = np.flatnonzero(~np.isin(array, (0, 1))) if array.dtype.kind in "iu" else np.zeros(1, dtype=np.int64)
    if wrong.size:
        what = f"{array[wrong[0]]!r:.60} at position {wrong[0]} is neither True nor False"
        raise InputError(Problem(place, what, "give truth values"))
    return array.astype(np.bool_)


def class_labels(place: str, values: Any, num_items: int | None = None) -> NDArray[Any]:
    """Return labels as int64[N] or text, str[N]: one for each of `num_items` items, or of any number above 0.

    Raises `InputError` for another shape or length, and names the first label that is none: None, NaN, a truth value,
    bytes, a number that is not whole or not below 2**63, text that ends in NUL (numpy cuts it off); or two of which one
    is text and the other a number, which would be equal or not depending on who looks.

    >>> class_labels("labels_N", ["a", None])
    Traceback (most recent call last):
    mohs.errors.InputError: labels_N: None at position 1 is neither text nor a whole number; give class names or numbers
    >>> class_labels("labels_N", [1, "1"])
    Traceback (most recent call last):
    mohs.errors.InputError: labels_N: 1 at position 0 is a number, '1' at position 1 text; give labels of one kind
    """
    if isinstance(values, list | tuple):
        array = np.fromiter(values, dtype=object, count=len(values))
    else:
        array = plain_array(place, values)
    if array.ndim != 1 or (num_items is None and not array.size):
        what = f"shape {array.shape} is not [N] with N >= 1"
        raise InputError(Problem(place, what, "give one label per item"))
    if num_items is not None and len(array) != num_items:
        what = f"{len(array)} labels for {num_items} embeddings"
        raise InputError(Problem(place, what, "give one label for each row"))
    if array.dtype.kind == "U":
        return array
    if array.dtype.kind not in "iuOT":
        raise InputError(Problem(place, f"labels of type {array.dtype}", "use integers or strings, all of one kind"))
    if array.dtype.kind in "OT":
        array = _labels_of_objects(place, array.tolist())
    if array.dtype.kind == "u":
        large = np.flatnonzero(array > np.uint64(_LARGEST))
        if large.size:
            raise InputError(_too_large(place, int(array[large[0]]), int(large[0])))
    return array.astype(np.int64) if array.dtype.kind in "iu" else array


def _labels_of_objects(place: str, values: list[Any]) -> NDArray[Any]:
    kinds = {kind: _kind_of_label(kind) for kind in set(map(type, values))}
    found: dict[str, int] = {}
    for position, value in enumerate(values):
        kind = kinds[type(value)]
        if not kind:
            what = f"{value!r:.60} at position {position} is neither text nor a whole number"
            raise InputError(Problem(place, what, "give class names or numbers"))
        found.setdefault(kind, position)
    if len(found) == 2:
        number, text = found["number"], found["text"]
        what = f"{values[number]!r:.60} at position {number} is a number, {values[text]!r:.60} at position {text} text"
        raise InputError(Problem(place, what, "give labels of one kind"))
    if "number" in found:
        for position, value in enumerate(values):
            if not -_LARGEST <= value <= _LARGEST:
                raise InputError(_too_large(place, value, position))
        return np.array(values, dtype=np.int64)
    cut = next((position for position, value in enumerate(values) if value.endswith("\0")), None)
    if cut is not None:
        raise InputError(Problem(place, f"{values[cut]!r:.60} at position {cut} ends in NUL", "leave it out"))
    return np.array(values, dtype=np.str_)


def _kind_of_label(kind: type) -> str:
    if issubclass(kind, str):
        return "text"
    return "number" if issubclass(kind, int | np.integer) and not issubclass(kind, bool) else ""


def _too_large(place: str, value: int, position: int) -> Problem:
    return Problem(place, f"{value!r:.60} at position {position} is not below 2**63", "give smaller numbers, or text")


def _of_tensor(tensor: Any) -> Any:
    tensor = tensor.detach().cpu()
    # Types that numpy lacks; exact. (torch is not imported here.)
    if str(tensor.dtype) == "torch.bfloat16" or str(tensor.dtype).startswith("torch.float8"):
        tensor = tensor.float()
    return tensor.numpy()


def _length(row: Any) -> int | None:
    try:
        return len(row)
    except TypeError:
        return None


def _no_array(place: str, values: Any, error: Exception) -> Problem:
    if isinstance(values, Sequence):
        lengths = [_length(row) for row in values]
        other = next((at for at, length in enumerate(lengths) if length != lengths[0]), None)
        if other is not None:
            told = " and ".join("none" if length is None else str(length) for length in (lengths[other], lengths[0]))
            return Problem(place, f"row {other} has another length than row 0 ({told})", "give rows of one length")
    reason = reason_of(error)
    return Problem(place, f"{type(values).__name__} is no array ({reason})", "give a numpy array")


def _in_a_line(value: object) -> str:
    """Return how a value is written, cut off; an array's has several lines."""
    written = repr(value)
    return (" ".join(written.split()) if "\n" in written else written)[:100]


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
