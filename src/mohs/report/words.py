"""What was measured in words and in rows of tables: for the page, and for a terminal."""

from typing import Any

from mohs.evaluation.intervals import Interval
from mohs.evaluation.retrieval import RetrievalResult
from mohs.evaluation.summary import EmbeddingReport
from mohs.evaluation.verification import VerificationResult

__all__ = [
    "MEANS_HEADER",
    "METRIC_HEADER",
    "PAIR_HEADER",
    "metric_row",
    "metric_rows",
    "of_100",
    "pair_rows",
    "queries_counted",
    "search_sentences",
]

# Means over queries and over classes that differ by more are told apart in words.
_UNEVEN = 0.05


def search_sentences(measured: EmbeddingReport) -> list[str]:
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


METRIC_HEADER = (
    "R@1", "95% interval", "by class", "95% interval", "R@5", "R@10", "Top-50", "mAP", "catalog", "triplets", "spread",
)  # fmt: skip


def metric_row(measured: EmbeddingReport) -> list[str]:
    """Return the numbers under `METRIC_HEADER`.

    "by class" is R@1 with each class counting the same, Top-50 is recall@50, catalog and triplets are accuracies.
    """
    recall, macro = measured.retrieval.recall, measured.retrieval.macro
    return [
        f"{recall[1]:.3f}",
        _interval(measured.retrieval.intervals.get("recall@1")),
        f"{macro.metrics['recall@1']:.3f}",
        _interval(macro.intervals.get("recall@1")),
        f"{recall[5]:.3f}",
        f"{recall[10]:.3f}",
        f"{recall[50]:.3f}",
        f"{measured.retrieval.mean_average_precision:.3f}",
        "-" if measured.catalog is None else f"{measured.catalog.recall[1]:.3f}",
        "-" if measured.triplets is None else f"{measured.triplets.accuracy:.3f}",
        f"{measured.spread.std_sqrt_dim:.2f}",
    ]


def _interval(interval: Interval | None) -> str:
    return "-" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


MEANS_HEADER = ("", "over queries", "95% interval", "by class", "95% interval", "chance")


def metric_rows(report: EmbeddingReport) -> list[list[str]]:
    """Return rows under `MEANS_HEADER`, one for each metric: over queries and by class."""
    retrieval, catalog = report.retrieval, report.catalog
    rows = [_retrieval_row(name, retrieval, name) for name in retrieval.metrics]
    if catalog is not None:
        rows.append(_retrieval_row("catalog accuracy", catalog, "recall@1"))
    for kind, triplets in (
        ("random", report.triplets),
        ("semi-hard", report.semi_hard_triplets),
        ("hard", report.hard_triplets),
    ):
        if triplets is not None:
            *cells, chance = _row(f"triplets, {kind}", triplets.accuracy, triplets.interval, triplets.chance)
            rows.append([*cells, "-", "-", chance])
    rows.append(["spread", f"{report.spread.std_sqrt_dim:.3f}", "-", "-", "-", "-"])
    return rows


def _retrieval_row(title: str, found: RetrievalResult, name: str) -> list[str]:
    """Return a metric over queries, by class, and by chance (over queries)."""
    *cells, chance = _row(title, found.metrics[name], found.intervals.get(name), found.chance[name])
    return [*cells, *_row("", found.macro.metrics[name], found.macro.intervals.get(name), None)[1:3], chance]


PAIR_HEADER = ("", "value", "95% interval", "chance")

_FPR, _PRECISION = 1e-3, 0.95
_SAFE = {False: "-", True: "too few accepted pairs"}


def pair_rows(found: VerificationResult) -> list[list[str]]:
    """Return rows under `PAIR_HEADER`: how well pairs are told apart, and thresholds to use."""
    curves, intervals, best = found.curves, found.intervals, found.best
    rows = [
        _row(
            "average precision", curves.average_precision, intervals and intervals.average_precision, curves.prevalence
        ),
        _row("area under ROC", curves.auc, intervals and intervals.auc, 0.5),
        _row("equal error rate", curves.equal_error_rate, intervals and intervals.equal_error_rate, 0.5),
    ]
    points = () if intervals is None else intervals.operating_points
    for point in points:
        if (point.wanted, point.level) == ("false positive rate", _FPR) and point.tpr is not None:
            rows.append(_row(f"TPR at FPR {_FPR:g}", point.tpr, point.tpr_interval, _FPR))
    if best is not None:
        rows.append(_row("best accuracy", best.accuracy, best.interval, 0.5))
        rows.append(_row("  at distance up to", best.threshold, None, None))
    for point in points:
        if (point.wanted, point.level) == ("precision", _PRECISION):
            name = f"precision {_PRECISION:g} at distance up to"
            value = point.threshold
            if value is None:
                rows.append([name, "-", "-", "-"])
                continue
            rows.append(_row(name, value, point.threshold_interval, None))
            rows.append(_row("  which on other classes has", point.precision or 0.0, point.reached_interval, None))
            safe = point.safe_threshold
            rows.append(
                ["  safe on other classes up to", "-" if safe is None else f"{safe:.3f}", _SAFE[safe is None], "-"]
            )
    return rows


def _row(name: str, value: float, interval: tuple[float, float] | None, chance: Any) -> list[str]:
    return [
        name,
        f"{value:.3f}",
        _interval(interval),
        "-" if chance is None else f"{chance:.3f}",
    ]
