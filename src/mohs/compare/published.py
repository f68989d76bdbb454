"""What was published with sigmoid hardness sequencing, beside what the same four strategies give here."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from mohs.compare.summary import Row
from mohs.compare.table import rows_markdown

__all__ = ["PAPER_CAPTION", "PAPER_HEADER", "PUBLISHED_TOP_50", "paper_markdown", "paper_rows"]

PUBLISHED_TOP_50: Final[Mapping[str, float]] = MappingProxyType(
    {"easiest": 0.11, "hardest": 0.17, "sigmoid": 0.47, "cyclic sigmoid": 0.44}
)
"""Top-50 accuracy on test queries, by strategy."""

PAPER_HEADER: Final = ("strategy", "published Top-50", "Top-50", "random training triplets", "mined triplets")

PAPER_CAPTION: Final = (
    "The published protocol. Published figures are of other pictures: compare their order, not their height. Triplets: "
    "the share with the positive nearer than the negative, at the end."
)


def paper_rows(rows: Sequence[Row]) -> list[list[str]]:
    """Return the cells of the table, a list for each row, as `PAPER_HEADER` says; "-" where there is no figure."""
    return [_cells(row.strategy, row.means) for row in rows]


def paper_markdown(rows: Sequence[Row]) -> str:
    """Return the table as Markdown, below its caption."""
    table = [PAPER_HEADER, ["---"] + ["---:"] * (len(PAPER_HEADER) - 1), *paper_rows(rows)]
    return f"{PAPER_CAPTION}\n\n{rows_markdown(table)}"


def _cells(name: str, means: Mapping[str, float]) -> list[str]:
    published = f"{PUBLISHED_TOP_50[name]:.2f}" if name in PUBLISHED_TOP_50 else "-"
    mined = "-" if math.isnan(means["mined_triplets"]) else f"{means['mined_triplets']:.3f}"
    return [name, published, f"{means['unseen_top_50']:.3f}", f"{means['train_triplets']:.3f}", mined]
