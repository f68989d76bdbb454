"""What the sections of the settings have in common: frozen, no unknown names, no truth value for a number.

Short, and apart from `config.py`, which holds the settings alone.
"""

from abc import ABC
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationInfo, field_validator

__all__ = ["Section"]


class Section(BaseModel, ABC, frozen=True, extra="forbid", allow_inf_nan=False):
    """Settings with their types and ranges; what is wrong is pydantic's `ValidationError`."""

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


def _kinds(annotation: Any) -> Iterator[type]:
    """Yield the types in an annotation, of literals the types of their values."""
    inner = get_args(annotation)
    for each in inner:
        yield from _kinds(each)
    if not inner:
        yield annotation if isinstance(annotation, type) else type(annotation)
