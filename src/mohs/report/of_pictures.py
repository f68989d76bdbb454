"""Pages of pictures: what a search found, each query beside its matches; what is to be mended, issue by issue."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mohs.data.fixes import LabelFix
from mohs.data.images import ImagePolicy
from mohs.data.picture_input import prepare_pictures
from mohs.index.answers import Answer
from mohs.report.rendering import data_uris, png_uri, rendered

__all__ = ["cleaning_page", "search_page"]

_NUM_ISSUES = 60
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
    queries = [
        {
            "name": name,
            "uris": data_uris(list(prepare_pictures(of_query, _POLICY))),
            "label": answer.label,
            "matches": [
                {
                    "uri": png_uri(match.columns["thumbnail"]),
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
    return rendered("search.html.j2", {"queries": queries})


def cleaning_page(
    title: str,
    lines: Sequence[str],
    fixes: Sequence[LabelFix],
    names: dict[str, str],
    picture_of: Callable[[str], np.ndarray | None],
) -> str:
    """Return one HTML page without any reference to the network.

    Args:
        title: heading.
        lines: what is said before all, a paragraph each.
        fixes: corrections, of which each cause becomes a section; at most 60 of each are shown.
        names: of the causes that may come, in their order, what each is.
        picture_of: the picture of a file, uint8 [H, W, C], or None.
    """
    sections = []
    for cause, name in names.items():
        own = [fix for fix in fixes if fix.cause == cause]
        if not own:
            continue
        issues = []
        for fix in own[:_NUM_ISSUES]:
            pictures = [picture_of(file) for file in (fix.file, fix.other) if file]
            facts = [f"{fix.file}: {fix.label}"]
            facts += [f"{fix.other}: {fix.other_label}"] if fix.other else []
            facts += [f"perhaps {fix.to}"] if fix.to else []
            facts += [f"difference {fix.difference}"] if fix.difference else []
            facts += [f"fits {fix.own_fit} and there {fix.other_fit}"] if fix.own_fit else []
            issues.append({"uris": data_uris([each for each in pictures if each is not None]), "facts": facts})
        sections.append({"name": name, "num": len(own), "issues": issues})
    return rendered("clean.html.j2", {"title": title, "lines": lines, "sections": sections})
