"""What was measured of each class, as a CSV: a row a class, and files to look at."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mohs.evaluation.classes import ClassResult

    # The file of each item; None if not known.
    _Files: TypeAlias = Sequence[str] | NDArray[np.str_] | None

__all__ = ["write_class_table"]


def write_class_table(path: Path, classes: Sequence[ClassResult], query_files: _Files, gallery_files: _Files) -> None:
    """Write a CSV with a row for each class; examples are files where they are known, else 0-based row numbers."""
    from mohs.artefacts import atomic_path
    from mohs.shown import csv_cell

    header = ["class", "queries", "recall@1", "average_precision", "confused_with", "times", "query", "found"]
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for each in classes:
            query, found = ("", "") if each.example is None else each.example
            writer.writerow(
                [
                    csv_cell(each.label),
                    each.num_queries,
                    "" if each.recall_at_1 is None else f"{each.recall_at_1:.6g}",
                    "" if each.average_precision is None else f"{each.average_precision:.6g}",
                    "" if each.confused_with is None else csv_cell(each.confused_with),
                    each.num_confused,
                    query if query_files is None or query == "" else csv_cell(query_files[int(query)]),
                    found if gallery_files is None or found == "" else csv_cell(gallery_files[int(found)]),
                ]
            )
