"""What the service answers, as its OpenAPI document describes it."""

import datetime
import math
from collections.abc import Mapping
from typing import Any, Literal, final

from pydantic import BaseModel, ConfigDict, Field

from mohs.index.answers import Answer, Match
from mohs.serve.editions import Edition

__all__ = [
    "About",
    "Alike",
    "AlikePicture",
    "Column",
    "Failure",
    "Found",
    "FoundMatch",
    "Health",
    "Stored",
    "Told",
    "about",
    "found",
]

# Columns that a match shows in another way, or that are nobody's business.
_APART = ("path", "thumbnail")


@final
class Failure(BaseModel):
    """What was wrong, in one line."""

    detail: str


@final
class FoundMatch(BaseModel):
    """An item that is near to the query."""

    model_config = ConfigDict(populate_by_name=True)

    id: str
    label: str = Field(serialization_alias="class")
    distance: float = Field(description="Euclidean, of unit vectors: 0 is the same, 2 the opposite")
    probability: float | None = Field(description="that it is of the query's class; null if not calibrated")
    columns: dict[str, Any] = Field(description="the table's cells")


@final
class Found(BaseModel):
    """What was found for a query."""

    model_config = ConfigDict(populate_by_name=True)

    version: str = Field(description="of the index that answered: one for the whole answer")
    query: str = Field(description="what feedback on this answer names: an id, or the hash of the upload")
    label: str | None = Field(serialization_alias="class", description='of the nearest item; null for "unknown"')
    unknown: bool = Field(description="that the nearest item is not near enough")
    votes: dict[str, float]
    matches: list[FoundMatch]


@final
class AlikePicture(BaseModel):
    """One of two pictures, and what hiding parts of it costs their similarity."""

    picture: str = Field(description="as the network sees it: a PNG, as a data address")
    cost: list[list[float]] = Field(description="similarity that is lost where a part is hidden, row by row")
    marked_cost: float = Field(description="similarity that is lost if the tenth that costs most is hidden")
    random_cost: float = Field(description="the same for a random tenth")


@final
class Alike(BaseModel):
    """Why a query and an item are alike."""

    version: str
    similarity: float
    query: AlikePicture
    item: AlikePicture


@final
class Column(BaseModel):
    """A column of the index that filters may use."""

    name: str
    kind: Literal["number", "text", "truth", "other"]


@final
class About(BaseModel):
    """What the index is."""

    version: str
    embedder: str
    num_items: int
    num_classes: int
    columns: list[Column]
    calibration: dict[str, Any] | None
    changes: bool = Field(description="whether items can be added and removed")


@final
class Health(BaseModel):
    """Whether the service answers."""

    status: Literal["ok"]
    version: str
    num_items: int
    problem: str | None = Field(description="why a newer version of the index could not be taken up")


@final
class Stored(BaseModel):
    """What a change came to."""

    version: str
    num_items: int


@final
class Told(BaseModel):
    """What feedback came to."""

    num_rows: int


def found(edition: Edition, query: str, answer: Answer) -> Found:
    """Return an answer as it is sent."""
    return Found(
        version=edition.version,
        query=query,
        label=answer.label,
        unknown=bool(answer.matches) and answer.label is None,
        votes=dict(answer.votes),
        matches=[_match(match) for match in answer.matches],
    )


def about(edition: Edition, *, changes: bool) -> About:
    """Return what the index is, as it is sent."""
    calibration = edition.snapshot.calibration
    return About(
        version=edition.version,
        embedder=edition.embedder,
        num_items=len(edition.snapshot),
        num_classes=len(set(edition.snapshot.class_N.tolist())),
        columns=[
            Column(name=field.name, kind=_kind(str(field.type)))
            for field in edition.snapshot.rows.schema
            if field.name not in _APART
        ],
        calibration=None if calibration is None else calibration.as_record(),
        changes=changes,
    )


def _match(match: Match) -> FoundMatch:
    return FoundMatch(
        id=match.id,
        label=match.label,
        distance=match.distance,
        probability=match.probability,
        columns=_plain({name: cell for name, cell in match.columns.items() if name not in _APART}),
    )


def _plain(cells: Mapping[str, Any]) -> dict[str, Any]:
    """Return cells as JSON has them: no NaN, and dates as text."""
    plain: dict[str, Any] = {}
    for name, cell in cells.items():
        if isinstance(cell, float):
            plain[name] = cell if math.isfinite(cell) else None
        elif cell is None or isinstance(cell, bool | int | str):
            plain[name] = cell
        elif isinstance(cell, datetime.date | datetime.time):
            plain[name] = cell.isoformat()
        else:
            plain[name] = str(cell)
    return plain


def _kind(arrow_type: str) -> Literal["number", "text", "truth", "other"]:
    if arrow_type.startswith(("int", "uint", "float", "double", "halffloat", "decimal")):
        return "number"
    if arrow_type in ("string", "large_string", "string_view"):
        return "text"
    return "truth" if arrow_type == "bool" else "other"
