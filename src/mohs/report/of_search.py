"""What a search found, as one HTML page: each query beside its matches."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from mohs.data.images import ImagePolicy
from mohs.data.picture_input import prepare_pictures
from mohs.index.answers import Answer
from mohs.report.pictures import data_uris

__all__ = ["search_page"]

_POLICY = ImagePolicy(size=96, channels=3, fit="pad")
# Columns that a page shows in another way, or not at all.
_APART = ("file", "path", "role", "thumbnail")


def search_page(names: Sequence[str], pictures: Sequence[Sequence[Any]], answers: Sequence[Answer]) -> str:
    """Return one HTML page without any reference to the network.

    Args:
        names: of the queries, as they are shown.
        pictures: the pictures of each query, as `Embedder.embed` takes them.
        answers: what was found for each.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mohs.report"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    queries = [
        {
            "name": name,
            "uris": data_uris(list(prepare_pictures(of_query, _POLICY))),
            "label": answer.label,
            "matches": [
                {
                    "uri": "data:image/png;base64," + base64.b64encode(match.columns["thumbnail"]).decode("ascii"),
                    "id": match.id,
                    "label": match.label,
                    "distance": f"{match.distance:.3f}",
                    "probability": None if match.probability is None else f"{match.probability:.0%}",
                    "facts": [
                        f"{key}: {cell}"
                        for key, cell in match.columns.items()
                        if key not in _APART and cell is not None
                    ],
                }
                for match in answer.matches
            ],
        }
        for name, of_query, answer in zip(names, pictures, answers, strict=True)
    ]
    style = (Path(__file__).parent / "templates" / "style.css").read_text(encoding="utf-8")
    return environment.get_template("search.html.j2").render(queries=queries, style=style)
