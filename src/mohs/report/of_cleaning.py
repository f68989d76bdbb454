"""What is to be mended in a table, as one HTML page: the pictures of each issue side by side."""

from collections.abc import Callable, Sequence
from pathlib import Path

import jinja2
import numpy as np

from mohs.data.fixes import LabelFix
from mohs.report.pictures import data_uris

__all__ = ["cleaning_page"]

_NUM_SHOWN = 60


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
        for fix in own[:_NUM_SHOWN]:
            pictures = [picture_of(file) for file in (fix.file, fix.other) if file]
            facts = [f"{fix.file}: {fix.label}"]
            facts += [f"{fix.other}: {fix.other_label}"] if fix.other else []
            facts += [f"perhaps {fix.to}"] if fix.to else []
            facts += [f"difference {fix.difference}"] if fix.difference else []
            facts += [f"fits {fix.own_fit} and there {fix.other_fit}"] if fix.own_fit else []
            issues.append({"uris": data_uris([each for each in pictures if each is not None]), "facts": facts})
        sections.append({"name": name, "num": len(own), "issues": issues})
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mohs.report"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    style = (Path(__file__).parent / "templates" / "style.css").read_text(encoding="utf-8")
    return environment.get_template("clean.html.j2").render(title=title, lines=lines, sections=sections, style=style)
