"""`mohs search`: what in an index looks like a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mohs.cli.console import print_json, print_table, require_file_place, say
from mohs.cli.options import Json, naming_flags
from mohs.errors import InputError

if TYPE_CHECKING:
    from mohs.index.answers import Answer

__all__ = ["search"]


def search(
    folder: Annotated[str, typer.Argument(metavar="INDEX", help="Folder of an index, or s3://bucket/name.")],
    pictures: Annotated[list[str], typer.Argument(metavar="PICTURE...", help="Files to search by.")],
    top: Annotated[int, typer.Option(help="Matches for each picture.")] = 10,
    where: Annotated[
        str | None, typer.Option(help='Find only items for which this holds, such as "price < 100 AND stock > 0".')
    ] = None,
    one_of_a_class: Annotated[
        bool, typer.Option("--one-of-a-class", help="Only the nearest item of each class.")
    ] = False,
    as_one: Annotated[
        bool, typer.Option("--as-one", help="The pictures show one thing: answer once for all of them.")
    ] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page with the pictures to this file.")] = None,
    as_json: Json = False,
) -> None:
    """Find the items of an index that are nearest to pictures; "unknown" where an index is calibrated for it."""
    if html is not None:
        require_file_place(html, "--html")
    from mohs.index.index import Index

    flags = {"num_matches": "--top", "where": "--where"}
    with naming_flags(flags):
        answers = Index.open(folder).search(
            pictures, num_matches=top, where=where, one_of_a_class=one_of_a_class, as_one=as_one
        )
    names = [" + ".join(pictures)] if as_one else list(pictures)
    if html is not None:
        from mohs.artefacts import write_text
        from mohs.report.of_pictures import search_page

        write_text(html, search_page(names, [pictures] if as_one else [[each] for each in pictures], answers))
        say(f"page: {html}")
    if as_json:
        print_json([_record(name, answer) for name, answer in zip(names, answers, strict=True)])
    elif html is None:
        for name, answer in zip(names, answers, strict=True):
            _print(name, answer)


def _print(name: str, answer: Answer) -> None:
    if not answer.matches:
        raise InputError("--where: no item of the index is left; widen it")
    calibrated = answer.matches[0].probability is not None
    said = "unknown" if answer.label is None else answer.label
    rows = [
        (
            match.id,
            match.label,
            f"{match.distance:.3f}",
            *([f"{match.probability:.2f}"] if match.probability is not None else []),
        )
        for match in answer.matches
    ]
    header = ("item", "class", "distance", *(["probability"] if calibrated else []))
    print_table(f"{name}: {said}", header, rows)


def _record(name: str, answer: Answer) -> dict[str, Any]:
    return {
        "picture": name,
        "class": answer.label,
        "votes": dict(answer.votes),
        "matches": [
            {
                "id": match.id,
                "class": match.label,
                "distance": match.distance,
                "probability": match.probability,
                **{key: cell for key, cell in match.columns.items() if key != "thumbnail"},
            }
            for match in answer.matches
        ],
    }
