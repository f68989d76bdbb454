"""Retrieval in words: what a search finds, how sure that is, and which queries were counted."""

from mohs.evaluation.retrieval import RetrievalResult
from mohs.evaluation.summary import Measured

__all__ = ["of_100", "queries_counted", "search_sentences"]

# Means over queries and over classes that differ by more are told apart in words.
_UNEVEN = 0.05


def search_sentences(measured: Measured) -> list[str]:
    """Return what a shop would ask: of 100 searches, how many find the right class; each a short sentence.

    >>> from mohs.evaluation.summary import evaluate_embeddings
    >>> report = evaluate_embeddings([[0.0], [0.1], [5.0], [5.1], [9.0]], ["a", "a", "b", "b", "c"], verification=False)
    >>> for sentence in search_sentences(report):
    ...     print(sentence)
    Of 4 searches, 4 find a picture of the right class first, and 4 among the first five.
    For other classes like these 2, expect 1 to 100 of 100 first (95% interval).
    """
    found, catalog = measured.retrieval, measured.catalog
    num = min(found.num_counted, 100)
    among = f", and {_count(found.recall[5], num)} among the first five" if 5 in found.recall else ""
    sentences = [
        f"Of {num} searches, {_count(found.recall[1], num)} find a picture of the right class first{among}.",
        _expected(found),
    ]
    over_classes = found.macro.metrics["recall@1"]
    if abs(over_classes - found.recall[1]) > _UNEVEN:
        more = "many" if over_classes < found.recall[1] else "few"
        sentences.append(
            f"Counted by class it is {of_100(over_classes)} first: classes with {more} pictures are found more often."
        )
    if catalog is not None:
        num = min(catalog.num_counted, 100)
        sentences.append(
            f"Of {num} searches in the catalog, {_count(catalog.recall[1], num)} find the right class first."
        )
    return sentences


def of_100(share: float) -> str:
    """Return a share as a number of 100; what is not all, or not none, is not said to be.

    >>> of_100(0.371), of_100(0.998), of_100(1.0), of_100(0.001)
    ('37 of 100', 'more than 99 of 100', '100 of 100', 'fewer than 1 of 100')
    """
    return f"{_count(share, 100)} of 100"


def queries_counted(result: RetrievalResult) -> str:
    """Return how many queries count, and of how many classes; then how many do not, if there are some.

    >>> from mohs.evaluation.retrieval import evaluate_all_against_all
    >>> queries_counted(evaluate_all_against_all([[0.0], [0.1], [5.0], [5.1], [9.0]], ["a", "a", "b", "b", "c"]))
    '4 queries of 2 classes (1 more has nothing to find)'
    """
    num, classes, left = result.num_counted, result.macro.num_classes, result.num_queries_without_match
    text = f"{num:,} {'query' if num == 1 else 'queries'} of {classes:,} {'class' if classes == 1 else 'classes'}"
    if left:
        text += f" ({left:,} more {'has' if left == 1 else 'have'} nothing to find)"
    return text


def _expected(found: RetrievalResult) -> str:
    if "recall@1" not in found.intervals:
        return "All searches were for one class: nothing follows for others."
    low, high = (round(100 * end) for end in found.intervals["recall@1"])
    classes = f"{found.macro.num_classes:,}"
    return f"For other classes like these {classes}, expect {low} to {high} of 100 first (95% interval)."


def _count(share: float, num: int) -> str:
    count = round(share * num)
    if count == num and share < 1:
        return f"more than {num - 1}"
    return "fewer than 1" if count == 0 and share > 0 else str(count)
