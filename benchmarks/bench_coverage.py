"""How often 95% intervals over classes hold the truth: `mohs.evaluation.intervals` beside a bootstrap of classes.

    python benchmarks/bench_coverage.py --markdown build/coverage.md

A trial draws a rate of success for each class (a beta distribution, so that queries of a class are alike), then the
queries of each. The truth is known, so whether an interval holds it is counted. Metrics are a hit (recall@1), a
reciprocal rank, and the paired difference of two networks' hits. Classes have two queries each, or 1 to 30. Printed is
the *lowest* coverage over all that is varied, and the width against that of ± 1.96 true standard deviations. The table
of docs/guides/results.md was written by this script.
"""

import argparse
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from mohs.evaluation.intervals import Over, class_difference_intervals, class_intervals
from mohs.randomness import generator

Metric: TypeAlias = Literal["hit", "reciprocal rank", "difference"]
Sizes: TypeAlias = Literal["two", "unequal"]
Method: TypeAlias = Callable[[NDArray[np.float64], NDArray[np.int64], Over], NDArray[np.float64]]

NUM_CLASSES = (5, 10, 20, 50, 100, 200, 500)
MEANS = (0.5, 0.9, 0.99)
CORRELATIONS = (0.0, 0.3, 0.8)
SIZES: tuple[Sizes, ...] = ("two", "unequal")
OVERS: tuple[Over, ...] = ("queries", "classes")

# A miss finds its class at rank 1 + G, G geometric with this parameter.
_FOUND_LATER = 0.15


@final
@dataclass(frozen=True)
class Figure:
    """Coverage and mean width (in 3.92 true standard deviations) of a method on trials of one kind."""

    coverage: float
    relative_width: float


def labels_of(num_classes: int, sizes: Sizes, *, seed: int = 0) -> NDArray[np.int64]:
    """Return the class of each query: two of each class, or 1 to 30 with a mean of about 5."""
    if sizes == "two":
        return np.arange(num_classes).repeat(2)
    random = generator(seed, f"sizes of {num_classes} classes")
    return np.arange(num_classes).repeat(np.minimum(random.geometric(0.2, size=num_classes), 30))


def draw(
    metric: Metric,
    mean: float,
    correlation: float,
    labels_Q: NDArray[np.int64],
    *,
    num_trials: int,
    seed: int = 0,
) -> tuple[NDArray[np.float64], float]:
    """Return values [T, Q] and the true mean of them.

    `mean` is that of the hits of the first network; the second one's hits (of a difference) have 0.8 of it and are
    drawn with the same rates of the classes. `correlation` is that of two hits of one class.
    """
    random = generator(seed, f"{metric} {mean} {correlation} {len(labels_Q)}")
    shape = num_trials, int(labels_Q[-1]) + 1
    rate_TC = np.full(shape, mean)
    if correlation:
        concentration = 1 / correlation - 1
        rate_TC = random.beta(mean * concentration, (1 - mean) * concentration, size=shape)
    rate_TQ = rate_TC[:, labels_Q]
    hit_TQ = random.random(rate_TQ.shape) < rate_TQ
    if metric == "hit":
        return hit_TQ.astype(np.float64), mean
    if metric == "difference":
        other_TQ = random.random(rate_TQ.shape) < 0.8 * rate_TQ
        return hit_TQ.astype(np.float64) - other_TQ, 0.2 * mean
    k = np.arange(1, 3000)
    later = float((_FOUND_LATER * (1 - _FOUND_LATER) ** (k - 1) / (1 + k)).sum())
    return np.where(hit_TQ, 1.0, 1 / (1.0 + random.geometric(_FOUND_LATER, hit_TQ.shape))), mean + (1 - mean) * later


def ours(values_TQ: NDArray[np.float64], labels_Q: NDArray[np.int64], over: Over) -> NDArray[np.float64]:
    """Return the intervals of values in [0, 1], [T, 2]."""
    return np.array(class_intervals(values_TQ, labels_Q, over=over))


def ours_of_differences(values_TQ: NDArray[np.float64], labels_Q: NDArray[np.int64], over: Over) -> NDArray[np.float64]:
    """Return the intervals of paired differences, [T, 2]."""
    return np.array(class_difference_intervals(values_TQ, labels_Q, over=over))


def percentiles(values_TQ: NDArray[np.float64], labels_Q: NDArray[np.int64], over: Over) -> NDArray[np.float64]:
    """Return percentile intervals of the mean, classes drawn with replacement 500 times, [T, 2]."""
    count_C = np.bincount(labels_Q).astype(np.float64)
    sums_TC = np.add.reduceat(values_TQ, (np.cumsum(count_C) - count_C).astype(np.int64), axis=1)
    if over == "classes":
        sums_TC, count_C = sums_TC / count_C, np.ones_like(count_C)
    num = len(count_C)
    drawn_BC = generator(0, f"bootstrap of {num}").multinomial(num, np.full(num, 1 / num), size=500).astype(np.float64)
    return np.quantile((sums_TC @ drawn_BC.T) / (drawn_BC @ count_C), [0.025, 0.975], axis=1).T


def measure(
    method: Method, metric: Metric, mean: float, correlation: float, sizes: Sizes, over: Over, num_classes: int, *,
    num_trials: int,
) -> Figure:  # fmt: skip
    """Return the coverage and the width of a method on trials of one kind."""
    labels_Q = labels_of(num_classes, sizes)
    values_TQ, truth = draw(metric, mean, correlation, labels_Q, num_trials=num_trials)
    low_T, high_T = method(values_TQ, labels_Q, over).T
    weight_Q = np.full(len(labels_Q), 1.0) if over == "queries" else 1 / np.bincount(labels_Q)[labels_Q]
    deviation = float((values_TQ @ (weight_Q / weight_Q.sum())).std())
    # An end may miss the truth by its rounding alone.
    held_T = (low_T <= truth + 1e-12) & (truth - 1e-12 <= high_T)
    return Figure(float(held_T.mean()), float((high_T - low_T).mean() / (2 * 1.96 * max(deviation, 1e-12))))


def figures(
    method: Method, metrics: Sequence[Metric], means: Sequence[float], num_classes: int, *, num_trials: int
) -> list[Figure]:
    """Return a figure for each metric, mean, correlation, sizes of classes, and mean over queries or classes."""
    return [
        measure(method, *kind, num_classes, num_trials=num_trials)
        for kind in itertools.product(metrics, means, CORRELATIONS, SIZES, OVERS)
        # Over queries and over classes are the same with two queries each.
        if kind[3:] != ("two", "classes")
    ]


def markdown(num_trials: int) -> str:
    """Return the table: lowest coverage by number of classes, of the bootstrap and of `mohs.evaluation.intervals`."""
    columns: list[tuple[Sequence[Metric], Sequence[float]]] = [
        *((("hit", "reciprocal rank"), (mean,)) for mean in MEANS),
        (("difference",), MEANS),
    ]
    heads = [f"{mean:g}" for mean in MEANS] + ["difference"]
    lines = [
        f"| classes | {' | '.join(f'{head}, before' for head in heads)} | "
        f"{' | '.join(f'{head}, now' for head in heads)} | width |",
        "|---" * (2 * len(heads) + 2) + "|",
    ]
    for num in NUM_CLASSES:
        old = [figures(percentiles, *column, num, num_trials=num_trials) for column in columns]
        new = [
            figures(ours_of_differences if column[0] == ("difference",) else ours, *column, num, num_trials=num_trials)
            for column in columns
        ]
        lowest = [f"{min(each.coverage for each in found):.0%}" for found in [*old, *new]]
        width = np.median([each.relative_width for found in new for each in found])
        lines.append(f"| {num} | {' | '.join(lowest)} | {width:.2f} |")
        print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000, help="trials of each kind")
    parser.add_argument("--markdown", type=Path, help="where the table goes")
    parsed = parser.parse_args(arguments)
    table = markdown(parsed.trials)
    if parsed.markdown is not None:
        parsed.markdown.parent.mkdir(parents=True, exist_ok=True)
        parsed.markdown.write_text(table, encoding="utf-8")


if __name__ == "__main__":
    main()
