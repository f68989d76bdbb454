"""Results class by class: which classes are found, and which are taken for each other; and their table."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, final

import numpy as np
import numpy.typing as npt

from mohs.data.rows import write_rows
from mohs.evaluation.checked import Array, Index, checked_labels
from mohs.evaluation.retrieval import RetrievalResult
from mohs.shown import csv_cell

__all__ = ["ClassResult", "ConfusablePair", "Files", "Label", "class_results", "confusable_pairs", "write_class_table"]

Label: TypeAlias = str | int

Files: TypeAlias = Sequence[str] | npt.NDArray[np.str_] | None
"""The file of each item; None if not known."""


@final
@dataclass(frozen=True)
class ClassResult:
    """What the queries of one class found.

    Attributes:
        label: the class.
        num_queries: its queries that have a match in the gallery; the others are not counted.
        recall_at_1: the share of them whose nearest item is of the class; none without such queries.
        average_precision: their mean average precision; none without such queries.
        confused_with: the class that the nearest item of most of its misses belongs to, the first by name among equals;
            none if there is no miss.
        num_confused: how many misses these are.
        example: the first query of them, and the gallery item that it found, as indices.
    """

    label: Label
    num_queries: int
    recall_at_1: float | None
    average_precision: float | None
    confused_with: Label | None
    num_confused: int
    example: tuple[int, int] | None


@final
@dataclass(frozen=True)
class ConfusablePair:
    """Two classes whose queries find each other.

    Attributes:
        first, second: the classes, the first by name first.
        num_first, num_second: misses of the first class whose nearest item is of the second, and the other way round.
        num_queries: queries of both classes that have a match.
        example: a query and the gallery item that it found, as indices.
    """

    first: Label
    second: Label
    num_first: int
    num_second: int
    num_queries: int
    example: tuple[int, int]

    def as_record(self) -> dict[str, Any]:
        """Return the pair as JSON values."""
        return {
            "classes": [self.first, self.second],
            "misses": [self.num_first, self.num_second],
            "num_queries": self.num_queries,
            "example": list(self.example),
        }


def class_results(
    result: RetrievalResult, query_labels_Q: npt.ArrayLike, gallery_labels_G: npt.ArrayLike
) -> list[ClassResult]:
    """Return one `ClassResult` for each class of the queries, in the order of the labels.

    `result` must be that of the same queries and gallery. A *miss* is a query whose nearest item is not of its class;
    ties count against the query.

    >>> from mohs.evaluation.retrieval import evaluate_all_against_all
    >>> labels = ["a", "a", "b", "b"]
    >>> found = class_results(evaluate_all_against_all([[0.0], [1.0], [1.2], [9.0]], labels), labels, labels)
    >>> [(each.label, each.recall_at_1, each.confused_with, each.num_confused) for each in found]
    [('a', 0.5, 'b', 1), ('b', 0.5, 'a', 1)]
    """
    codes_Q, classes_C = _coded(result, query_labels_Q)
    counted_C = np.bincount(codes_Q[result.counted], minlength=len(classes_C))
    hits_C = np.bincount(codes_Q[result.hit_at_1], minlength=len(classes_C))
    precision_C = np.bincount(
        codes_Q[result.counted], weights=result.average_precision[result.counted], minlength=len(classes_C)
    )
    # The misses of a class by the class found: the most frequent comes first.
    by_class: dict[int, tuple[Label, int, tuple[int, int]]] = {}
    for code, found, count, example in _confusions(result, codes_Q, gallery_labels_G):
        if code not in by_class or count > by_class[code][1]:
            by_class[code] = found, count, example
    results = []
    for code, label in enumerate(classes_C.tolist()):
        n = int(counted_C[code])
        confused_with, num_confused, example_or_none = by_class.get(code, (None, 0, None))
        results.append(
            ClassResult(
                label=label,
                num_queries=n,
                recall_at_1=float(hits_C[code] / n) if n else None,
                average_precision=float(precision_C[code] / n) if n else None,
                confused_with=confused_with,
                num_confused=num_confused,
                example=example_or_none,
            )
        )
    return results


def confusable_pairs(
    result: RetrievalResult, query_labels_Q: npt.ArrayLike, gallery_labels_G: npt.ArrayLike
) -> list[ConfusablePair]:
    """Return all pairs of classes with a miss between them, those with most misses first, then by name.

    >>> from mohs.evaluation.retrieval import evaluate_all_against_all
    >>> labels = ["a", "a", "b", "b"]
    >>> [pair] = confusable_pairs(evaluate_all_against_all([[0.0], [1.0], [1.2], [9.0]], labels), labels, labels)
    >>> pair.first, pair.second, pair.num_first, pair.num_second, pair.num_queries
    ('a', 'b', 1, 1, 4)
    """
    codes_Q, classes_C = _coded(result, query_labels_Q)
    counted_C = np.bincount(codes_Q[result.counted], minlength=len(classes_C))
    num_queries = dict(zip(classes_C.tolist(), counted_C.tolist(), strict=True))
    pairs: dict[tuple[Any, Any], list[int]] = {}
    examples: dict[tuple[Any, Any], tuple[int, int]] = {}
    for code, found, count, example in _confusions(result, codes_Q, gallery_labels_G):
        label = classes_C[code].item()
        pair = (label, found) if label < found else (found, label)
        pairs.setdefault(pair, [0, 0])[pair.index(found) ^ 1] += count
        examples.setdefault(pair, example)
    ordered = sorted(pairs.items(), key=lambda item: (-sum(item[1]), item[0]))
    return [
        ConfusablePair(
            first=pair[0],
            second=pair[1],
            num_first=misses[0],
            num_second=misses[1],
            num_queries=num_queries.get(pair[0], 0) + num_queries.get(pair[1], 0),
            example=examples[pair],
        )
        for pair, misses in ordered
    ]


def _coded(result: RetrievalResult, query_labels_Q: npt.ArrayLike) -> tuple[Index, Array]:
    labels_Q = checked_labels(query_labels_Q, "query_labels_Q", result.num_queries)
    classes_C, codes_Q = np.unique(labels_Q, return_inverse=True)
    return codes_Q, classes_C


def _confusions(
    result: RetrievalResult, codes_Q: Index, gallery_labels_G: npt.ArrayLike
) -> Iterator[tuple[int, Label, int, tuple[int, int]]]:
    """Yield (class of the misses, class found, how many, the first of them), in the order of both classes."""
    gallery_labels = checked_labels(gallery_labels_G, "gallery_labels_G", result.num_gallery)
    found_C, found_codes_G = np.unique(gallery_labels, return_inverse=True)
    misses = np.flatnonzero(result.counted & ~result.hit_at_1)
    wrong_M = result.nearest_wrong[misses]
    keys, first, counts = np.unique(
        codes_Q[misses] * len(found_C) + found_codes_G[wrong_M], return_index=True, return_counts=True
    )
    for key, at, count in zip(keys.tolist(), first.tolist(), counts.tolist(), strict=True):
        code, found = divmod(key, len(found_C))
        yield code, found_C[found].item(), count, (int(misses[at]), int(wrong_M[at]))


def write_class_table(path: Path, classes: Sequence[ClassResult], query_files: Files, gallery_files: Files) -> None:
    """Write a CSV with a row for each class; examples are files where they are known, else 0-based row numbers."""
    header = ["class", "queries", "recall@1", "average_precision", "confused_with", "times", "query", "found"]
    rows = []
    for each in classes:
        means = ["" if mean is None else f"{mean:.6g}" for mean in (each.recall_at_1, each.average_precision)]
        confused_with = "" if each.confused_with is None else each.confused_with
        shown: list[Any] = ["", ""]
        if each.example is not None:
            places = zip((query_files, gallery_files), each.example, strict=True)
            shown = [item if files is None else files[item] for files, item in places]
        cells = [each.label, each.num_queries, *means, confused_with, each.num_confused, *shown]
        rows.append([csv_cell(cell) for cell in cells])
    write_rows(path, header, rows)
