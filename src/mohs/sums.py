"""A SHA-256 of what a saved file says: kept where it is written, held against it where it is read.

A JSON file keeps the sum of its own values under `content_sha256`, and under `files` those of the files that belong to
it, so that the one JSON of a folder vouches for the whole. A .npy file has its sum behind the array, where numpy does
not look. Files without a sum are older ones, and are read. Sums find damage; whoever forges a file forges its sum.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from mohs.artefacts import json_text, sha256_file, write_json
from mohs.checks import is_whole, require
from mohs.errors import InputError, Problem, at_most_20

__all__ = [
    "add_array_sum",
    "arrays_sum",
    "check_array_sum",
    "check_files",
    "check_format",
    "file_sums",
    "json_sum",
    "parse_summed",
    "read_summed",
    "strict_json",
    "summed_text",
    "write_summed",
]

_OWN = "content_sha256"
_TRAILER = b"mohs-sha256:"
_TRAILER_BYTES = len(_TRAILER) + 64
_READ_BYTES = 2**20


def write_summed(path: str | Path, values: Mapping[str, Any]) -> None:
    """Write an object as JSON with the sum of its values, atomically (`mohs.artefacts.write_json`)."""
    write_json(path, _with_sum(values))


def read_summed(path: str | Path) -> dict[str, Any]:
    """Return the values of an object that `write_summed` wrote, or that an older version wrote without a sum.

    Raises `InputError` naming the file if it is missing, no JSON object, or does not match its sum.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    return parse_summed(data, str(path))


def summed_text(values: Mapping[str, Any]) -> str:
    """Return what `write_summed` writes, for a file that is no path."""
    return json_text(_with_sum(values))


def parse_summed(data: bytes, place: str) -> dict[str, Any]:
    """Return the values of what `write_summed` wrote; raise `InputError` at a place as `read_summed` does."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{place}: not JSON ({error}); write it again or use another file") from None
    values = strict_json(text, place)
    if not isinstance(values, dict):
        raise InputError(Problem(place, "not a JSON object", "write it again or use another file"))
    if _OWN in values:
        own = values.pop(_OWN)
        if own != json_sum(values):
            raise _damaged(place, f"its values do not match their SHA-256 ({_OWN})")
    return values


def strict_json(text: str | bytes, place: str) -> Any:
    """Return a JSON value; raise `InputError` at a place for what is none, a name that is there twice, or NaN.

    >>> strict_json('{"a": 1, "a": 2}', "x.json")
    Traceback (most recent call last):
    mohs.errors.InputError: x.json: not JSON ('a' is there twice); write it again or use another file
    """
    try:
        values = json.loads(text, object_pairs_hook=_without_doubles, parse_constant=_no_number)
        json.dumps(values, allow_nan=False)  # 1e999 is read as Inf
    except RecursionError:
        raise InputError(Problem(place, "not JSON (too deep)", "write it again or use another file")) from None
    except ValueError as error:
        raise InputError(Problem(place, f"not JSON ({error})", "write it again or use another file")) from None
    return values


def json_sum(values: Mapping[str, Any]) -> str:
    """Return the SHA-256 of JSON values, 64 hex digits, whatever the order of names and the white space.

    >>> json_sum({"a": 1, "b": (2.5,)}) == json_sum({"b": [2.5], "a": 1})
    True
    """
    # Read back first: numbers as names become text, which sorts in another way.
    plain = json.loads(json.dumps(values, allow_nan=False))
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def check_format(path: str | Path, found: object, known: int) -> None:
    """Raise `InputError` if a file is not of the format that this version reads, and say so if it is a newer one.

    >>> check_format("embedder.json", 2, 1)
    Traceback (most recent call last):
    mohs.errors.InputError: embedder.json: format 2 is newer than 1, the newest that this mohs reads; use a newer mohs
    """
    if is_whole(found) and int(found) > known:  # type: ignore[call-overload]
        what = f"format {found!r:.60} is newer than {known}, the newest that this mohs reads"
        raise InputError(Problem(str(path), what, "use a newer mohs"))
    if not is_whole(found) or found != known:
        raise InputError(
            Problem(str(path), f"format {found!r:.60} is not {known}", "use the version of mohs that saved it")
        )


def file_sums(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of files of a folder, by name, for `files` of a JSON in it."""
    return {name: sha256_file(folder / name) for name in names}


def check_files(path: Path, values: Mapping[str, Any], *, may_lack: Callable[[str], bool] = lambda _: False) -> None:
    """Raise `InputError` if files beside a JSON at `path` are not those that it was written with (`files` in it).

    One that is missing is no problem if the folder `may_lack` it.
    """
    sums = values.get("files", {})
    problems: list[str] = []
    if not isinstance(sums, dict):
        raise InputError(Problem(str(path), f"files is {type(sums).__name__}, no object", "write it again"))
    for name, expected in sums.items():
        file = path.parent / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            problems.append(Problem(str(path), f"files: {name!r} is outside the folder", "write it again"))
        elif not file.is_file():
            if not may_lack(name):
                problems.append(Problem(str(file), "no such file", f"copy it beside {path.name} again"))
        elif sha256_file(file) != expected:
            problems.append(_damaged(file, f"SHA-256 is not the one in {path.name}").problems[0])
    require(*at_most_20(problems))


def arrays_sum(header: bytes, arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return the SHA-256 of a header and of arrays: of their names, dtypes, shapes and bytes, in this order."""
    digest = hashlib.sha256(header)
    for name, array in arrays.items():
        digest.update(json.dumps([name, array.dtype.str, list(array.shape)]).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def add_array_sum(path: Path) -> None:
    """Put the SHA-256 of a .npy file behind its array."""
    found = sha256_file(path)
    with path.open("ab") as file:
        file.write(_TRAILER + found.encode())


def check_array_sum(path: Path, num_bytes: int) -> None:
    """Raise `InputError` if a .npy file, whose array ends after so many bytes, has other things behind it than its sum.

    An array with nothing behind it is read: numpy itself writes no sum.
    """
    num_behind = path.stat().st_size - num_bytes
    if not num_behind:
        return
    digest = hashlib.sha256()
    with path.open("rb") as file:
        left = num_bytes
        while left and (block := file.read(min(left, _READ_BYTES))):
            digest.update(block)
            left -= len(block)
        behind = file.read(_TRAILER_BYTES)
    if num_behind != _TRAILER_BYTES or not behind.startswith(_TRAILER):
        raise _damaged(path, f"{num_behind:,} bytes behind the array are no SHA-256 of it")
    if behind[len(_TRAILER) :] != digest.hexdigest().encode():
        raise _damaged(path, "does not match its SHA-256")


def _damaged(path: Path | str, what: str) -> InputError:
    return InputError(Problem(str(path), f"damaged, or changed since it was written: {what}", "copy or make it again"))


def _with_sum(values: Mapping[str, Any]) -> dict[str, Any]:
    return {**values, _OWN: json_sum(values)}


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return values


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
