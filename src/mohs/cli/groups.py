"""Groups that a query does not find, on the command line: what `--exclude-same-group` needs, and its messages."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mohs.errors import InputError

__all__ = ["check_groups", "groups_by_flag"]

_FLAG = "--exclude-same-group"


def check_groups(groups_N: Sequence[str] | NDArray[Any] | None, table: str | Path, group_column: str | None) -> None:
    """Raise `InputError` unless a table names a group for a row at least: else the flag would leave nothing out.

    >>> check_groups(["", "a"], "t.csv", None)
    """
    column = repr(group_column or "group")
    if groups_N is None:
        raise InputError(
            f"{_FLAG}: {table} has no column {column}; add one that says what each picture was taken with, such as "
            "its session"
        )
    if not any(str(group) not in ("", "-1") for group in groups_N):
        raise InputError(
            f"{_FLAG}: column {column} of {table} is empty in all {len(groups_N):,} rows, so nothing would be left "
            f"out; fill it, or leave out {_FLAG}"
        )


@contextmanager
def groups_by_flag() -> Iterator[None]:
    """Tell messages about the parameters of groups as ones about the flag that a user knows."""
    try:
        yield
    except InputError as error:
        problems = (problem.replace("query_groups_Q: ", f"{_FLAG}: ", 1) for problem in error.problems)
        raise InputError(*problems) from None
