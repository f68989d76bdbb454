"""Filters that anybody may send: comparisons of columns, and nothing that calls a function."""

import re
from collections.abc import Sequence

from mohs.errors import InputError, Problem

__all__ = ["require_plain_filter"]

_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<number>\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)|(?P<name>[^\W\d]\w*|`[^`]+`)"
    r"|(?P<sign><=|>=|<>|!=|[-+=<>(),]))"
)
_WORDS = frozenset(("and", "or", "not", "in", "is", "null", "like", "ilike", "between", "true", "false"))
_MAX_LENGTH = 2000
_EXAMPLE = "write for example price < 100 AND note = 'new'"


def require_plain_filter(where: str, columns: Sequence[str]) -> None:
    """Raise `InputError` if an SQL expression is more than comparisons of columns with numbers and texts.

    Functions could take any amount of time and memory, and the expression may come from anybody.

    >>> require_plain_filter("price < 100 AND (note = 'new' OR NOT note IN ('a', 'b'))", ["price", "note"])
    >>> require_plain_filter("repeat('x', 1000000000) = note", ["price", "note"])
    Traceback (most recent call last):
    mohs.errors.InputError: where: 'repeat' is no column; the columns are 'price', 'note'
    """
    if len(where) > _MAX_LENGTH:
        raise InputError(Problem("where", f"{len(where):,} characters are more than {_MAX_LENGTH:,}", "shorten it"))
    place, text = 0, where.rstrip()
    while place < len(text):
        found = _TOKEN.match(text, place)
        if found is None:
            raise InputError(Problem("where", f"{text[place:].strip()[:20]!r} cannot be in a filter", _EXAMPLE))
        name = found["name"]
        if name is not None and name.lower() not in _WORDS and name.strip("`") not in columns:
            known = ", ".join(map(repr, columns))
            raise InputError(Problem("where", f"{name!r} is no column", f"the columns are {known}"))
        place = found.end()
        if name is not None and name.lower() not in _WORDS and text[place:].lstrip().startswith("("):
            raise InputError(Problem("where", f"{name!r} is called like a function", _EXAMPLE))
