"""What the sections of the settings have in common: frozen, no unknown names, no truth value for a number.

Short, and apart from `config.py`, which holds the settings alone.
"""

from abc import ABC
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError, ValidationInfo, field_validator

from mohs.errors import InputError, Problem

__all__ = ["Section", "setting_problems"]


class Section(BaseModel, ABC, frozen=True, extra="forbid", allow_inf_nan=False):
    """Settings with their types and ranges; `InputError` has a line for each value that is wrong."""

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise InputError(*setting_problems(error, source=type(self).__name__)) from None

    # As pydantic's own models say it of theirs: sections inside others are then checked without it, so that the
    # outermost one tells all that is wrong, each by its full name.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        # pydantic reads True as 1, and as 1.0.
        given = value if isinstance(value, list | tuple) else (value,)
        if any(isinstance(each, bool) for each in given) and info.field_name is not None:
            kinds = set(_kinds(cls.model_fields[info.field_name].annotation))
            if bool not in kinds and kinds & {int, float}:
                raise ValueError("a truth value is no number; give a number")
        return value


def setting_problems(error: ValidationError, *, source: str) -> list[Problem]:
    """Return a problem for each setting that pydantic refused; its place is the setting, its file `source`."""
    problems = []
    for item in error.errors():
        place = ".".join(map(str, item["loc"]))
        if item["type"] == "extra_forbidden":
            fix = "see 'mohs train --print-config' for the names"
            problems.append(Problem(place, "unknown setting", fix, file=source))
        else:
            message = item["msg"].removeprefix("Value error, ")
            rule = message[:1].lower() + message[1:]
            problems.append(Problem(place, f"{item['input']!r:.100} is wrong: {rule}", file=source))
    return problems


def _kinds(annotation: Any) -> Iterator[type]:
    """Yield the types in an annotation, of literals the types of their values."""
    inner = get_args(annotation)
    for each in inner:
        yield from _kinds(each)
    if not inner:
        yield annotation if isinstance(annotation, type) else type(annotation)
