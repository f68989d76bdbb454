"""From cells to a table: means over seeds, intervals over classes, and paired differences.

Intervals hold two noises, of which classes were asked for and of which seeds trained: a strategy is what training makes
of it with any seed, asked for any classes of the kind. Hits of a few seeds say how much it differs between seeds;
leaving that out made 28 to 57% of the intervals between a strategy and itself exclude 0, where 5% should. A difference
is taken query by query, so that what makes a query hard for both falls out of it; the seeds of two strategies are not
paired.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, final

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray
from scipy import stats

from mohs.compare.cells import BASELINES, Cell, Comparison, Results, read_arrays
from mohs.compare.metrics import METRIC_NAMES
from mohs.compare.protocols import ComparisonData
from mohs.compare.strategies import STRATEGIES
from mohs.evaluation.gallery_size import expected_ranks, gallery_sizes
from mohs.evaluation.intervals import Interval, class_difference_interval, class_interval
from mohs.settings.config import override_config

__all__ = [
    "PROTOCOLS",
    "SCHEDULES",
    "Difference",
    "Differences",
    "Galleries",
    "Hits",
    "ProtocolName",
    "Row",
    "hits_of",
    "labels_of",
    "optimisers",
    "paired_difference",
    "recall_interval",
    "schedules",
    "seeds_and_classes_interval",
    "summarise",
]

ProtocolName: TypeAlias = Literal["unseen", "seen"]
PROTOCOLS: tuple[ProtocolName, ...] = ("unseen", "seen")


@final
@dataclass(frozen=True)
class Difference:
    """R@1 of a strategy minus that of another, with its 95% interval over seeds and classes.

    `num_seeds` is the smaller number of the two; with one seed the interval is over classes alone.
    """

    to: str
    mean: float
    interval: Interval
    num_seeds: int

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out 0; never with one seed, of which nobody knows what another would give."""
        return self.num_seeds > 1 and (self.interval[0] > 0 or self.interval[1] < 0)

    def as_record(self) -> dict[str, Any]:
        """Return the numbers as JSON values."""
        return {**asdict(self), "interval": list(self.interval), "is_clear": self.is_clear}


@final
@dataclass(frozen=True)
class Galleries:
    """R@1 and the mean reciprocal rank of classes against the number of classes in the gallery, means over seeds."""

    num_classes: tuple[int, ...]
    recall_1: tuple[float, ...]
    mrr: tuple[float, ...]

    def as_record(self) -> dict[str, Any]:
        """Return the numbers as JSON values."""
        return {"num_classes": list(self.num_classes), "recall_1": list(self.recall_1), "mrr": list(self.mrr)}


@final
@dataclass(frozen=True)
class Row:
    """A strategy over its seeds.

    Attributes:
        strategy: its name.
        num_seeds: of its cells.
        means: of every metric of `Metrics`, and of "train_s", "cpu_s", "mine_s", "embed_s", "pictures_per_s",
            "num_pictures", "active_start", "active_end", over the seeds.
        deviations: standard deviation of R@1 between seeds, by protocol; NaN with one seed.
        intervals: of R@1 over seeds and classes, by protocol; with one seed over classes.
        to_default: difference to "default", by protocol; empty for itself, or if it is not compared.
        to_best: difference to the best online strategy at R@1 of that protocol; likewise.
        to_best_plain: the same to the best plain one.
        num_collapsed, num_below_start: cells that collapsed, and that ended below their start (`Cell`).
        settings: learning rate and parameter, as tuning left them; "(edge)" marks a rate at the edge of those tried.
        galleries: by protocol, what is to be expected of galleries of fewer classes.
    """

    strategy: str
    num_seeds: int
    means: Mapping[str, float]
    deviations: Mapping[ProtocolName, float]
    intervals: Mapping[ProtocolName, Interval]
    to_default: Mapping[ProtocolName, Difference]
    to_best: Mapping[ProtocolName, Difference]
    to_best_plain: Mapping[ProtocolName, Difference]
    num_collapsed: int
    num_below_start: int
    settings: str
    galleries: Mapping[ProtocolName, Galleries]

    def as_record(self) -> dict[str, Any]:
        """Return the numbers as JSON values; what could not be measured is none."""
        return {
            "strategy": self.strategy,
            "num_seeds": self.num_seeds,
            "means": {name: _finite(value) for name, value in self.means.items()},
            "deviations": {name: _finite(value) for name, value in self.deviations.items()},
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
            "to_default": {name: found.as_record() for name, found in self.to_default.items()},
            "to_best_online": {name: found.as_record() for name, found in self.to_best.items()},
            "to_best_plain": {name: found.as_record() for name, found in self.to_best_plain.items()},
            "num_collapsed": self.num_collapsed,
            "num_below_start": self.num_below_start,
            "settings": self.settings,
            "galleries": {name: found.as_record() for name, found in self.galleries.items()},
        }


Differences: TypeAlias = Mapping[ProtocolName, Difference]
Hits: TypeAlias = Mapping[ProtocolName, NDArray[np.float64]]

SCHEDULES = (
    ("default", "default without scheduled hardness"),
    ("closed loop", "random"),
    ("closed loop", "semi-hard"),
    ("closed loop", "constant"),
    ("sigmoid", "constant"),
    ("cyclic sigmoid", "constant"),
    ("linear", "constant"),
    ("momentum pairs", "semi-siamese"),
    *((name, name.removesuffix(" on cliques")) for name, strategy in STRATEGIES.items() if strategy.online_cliques),
)
"""Strategies with a schedule of hardness, each beside one with the same loss and without it."""

_COST_NAMES = (
    "train_s", "cpu_s", "mine_s", "embed_s", "pictures_per_s", "num_pictures", "active_start", "active_end",
)  # fmt: skip


def summarise(
    data: ComparisonData, cells: Sequence[Cell], results: Results, *, at_edge: Collection[str] = ()
) -> list[Row]:
    """Return a row for each strategy of the cells, in their order.

    `at_edge` names strategies whose learning rate is the lowest or highest that tuning tried.
    """
    names = list(dict.fromkeys(cell.strategy for cell in cells))
    own = {name: [cell for cell in cells if cell.strategy == name] for name in names}
    hits = {name: hits_of(own[name], results) for name in names}
    labels = labels_of(data)

    def recall(name: str, protocol: ProtocolName) -> float:
        return float(np.mean([getattr(cell.metrics, f"{protocol}_recall_1") for cell in own[name]]))

    def best_of(some: Sequence[str]) -> dict[ProtocolName, str]:
        return {protocol: max(some, key=lambda name: recall(name, protocol)) for protocol in PROTOCOLS if some}

    loops = [name for name in names if name in STRATEGIES and STRATEGIES[name].online is not None]
    best = best_of([name for name in loops if STRATEGIES[name].is_baseline])
    best_plain = best_of([name for name in loops if STRATEGIES[name].is_plain])

    def differences(name: str, to: Mapping[ProtocolName, str]) -> dict[ProtocolName, Difference]:
        return {
            protocol: paired_difference(hits[name][protocol], hits[other][protocol], labels[protocol], to=other)
            for protocol, other in to.items()
            if other != name and other in hits
        }

    rows = []
    for name in names:
        baseline = name in BASELINES
        deviations: dict[ProtocolName, float] = {}
        intervals: dict[ProtocolName, Interval] = {}
        for protocol in PROTOCOLS:
            recalls = [getattr(cell.metrics, f"{protocol}_recall_1") for cell in own[name]]
            deviations[protocol] = float(np.std(recalls, ddof=1)) if len(recalls) > 1 else np.nan
            intervals[protocol] = recall_interval(hits[name][protocol], labels[protocol])
        first = own[name][0]
        rows.append(
            Row(
                name,
                len(own[name]),
                _means(own[name]),
                deviations,
                intervals,
                {} if baseline else differences(name, dict.fromkeys(PROTOCOLS, "default")),
                {} if baseline else differences(name, best),
                {} if baseline else differences(name, best_plain),
                sum(cell.collapsed for cell in own[name]),
                sum(cell.below_start for cell in own[name]),
                "" if baseline else _settings(first, at_edge=name in at_edge),
                {protocol: _by_gallery(own[name], results, protocol) for protocol in PROTOCOLS},
            )
        )
    return rows


def _means(cells: Sequence[Cell]) -> dict[str, float]:
    found = {name: [getattr(cell.metrics, name) for cell in cells] for name in METRIC_NAMES}
    found |= {name: [getattr(cell, name) for cell in cells] for name in _COST_NAMES}
    return {name: float(np.mean(values)) for name, values in found.items()}


def schedules(data: ComparisonData, cells: Sequence[Cell], results: Results) -> list[tuple[str, Differences]]:
    """Return what schedules of hardness add to the same loss: the strategy, and its difference to the one without.

    R@1 with a schedule minus R@1 without it, by protocol, for the pairs of `SCHEDULES`; pairs of which a strategy is
    missing are left out.
    """
    return _pairs(data, cells, results, SCHEDULES)


def optimisers(
    comparison: Comparison, cells: Sequence[Cell], results: Results
) -> tuple[list[tuple[str, Differences]], list[tuple[str, Differences]]]:
    """Return what the optimiser adds to the same strategy, and what the default adds to losses with its own optimiser.

    R@1 with Muon minus R@1 with Adam or AdamW; and R@1 of the default minus that of each library loop with the
    optimiser that the default has under the settings. (Adam and AdamW without decay are the same.) Pairs of which a
    strategy is missing are left out.
    """
    default = override_config(None, (), comparison.settings).optimizer
    loops = [strategy for strategy in STRATEGIES.values() if strategy.is_baseline]
    muon = {strategy.online: strategy.name for strategy in loops if strategy.online_optimizer == "muon"}
    adam = {strategy.online: strategy.name for strategy in loops if strategy.online_optimizer == "adam"}
    pairs = [("default", "default with AdamW")] if default == "muon" else [("default with Muon", "default")]
    pairs += [(muon[loss], adam[loss]) for loss in adam]
    alike = {"muon": muon, "adamw": adam}.get(default, {})
    rest = [("default", name) for name in alike.values()]
    return _pairs(comparison.data, cells, results, pairs), _pairs(comparison.data, cells, results, rest)


def _pairs(
    data: ComparisonData, cells: Sequence[Cell], results: Results, pairs: Sequence[tuple[str, str]]
) -> list[tuple[str, Differences]]:
    there = {cell.strategy for cell in cells}
    wanted = [pair for pair in pairs if there.issuperset(pair)]
    hits = {
        name: hits_of([cell for cell in cells if cell.strategy == name], results)
        for name in {name for pair in wanted for name in pair}
    }
    labels = labels_of(data)
    return [(one, _differences(hits[one], hits[two], labels, to=two)) for one, two in wanted]


def labels_of(data: ComparisonData) -> dict[ProtocolName, NDArray[np.str_]]:
    """Return the class of each query by protocol, for rotated classes the class before rotation."""
    return {"unseen": data.test_group_Q, "seen": data.held_out_group_Q}


def recall_interval(hits_SQ: NDArray[np.float64], labels_Q: NDArray[np.str_]) -> Interval:
    """Return the 95% interval of the mean of hits [S, Q] of S seeds, cut at 0 and 1; NaN columns count nowhere."""
    counted_Q = ~np.isnan(hits_SQ[0])
    low, high = seeds_and_classes_interval([hits_SQ[:, counted_Q]], labels_Q[counted_Q])
    return max(0.0, low), min(1.0, high)


def paired_difference(
    one_SQ: NDArray[np.float64], two_TQ: NDArray[np.float64], labels_Q: NDArray[np.str_], *, to: str
) -> Difference:
    """Return the mean of one − two over seeds and the queries that count (not NaN), with its 95% interval.

    A row is a seed: 1 where it finds the query's class first, 0 where not. Queries are paired, seeds are not.

    >>> one_SQ, two_TQ = np.array([[1.0, 1, 0], [1, 1, 1]]), np.array([[0.0, 1, 0], [1, 1, 0]])
    >>> found = paired_difference(one_SQ, two_TQ, np.array(["a", "b", "c"]), to="x")
    >>> round(found.mean, 3), found.is_clear
    (0.333, False)
    """
    counted_Q = ~np.isnan(one_SQ[0])
    sides = [one_SQ[:, counted_Q], two_TQ[:, counted_Q]]
    mean = float(sides[0].mean() - sides[1].mean())
    interval = seeds_and_classes_interval(sides, labels_Q[counted_Q])
    return Difference(to, mean, interval, min(len(one_SQ), len(two_TQ)))


def _differences(one: Hits, two: Hits, labels: Mapping[ProtocolName, NDArray[np.str_]], *, to: str) -> Differences:
    return {name: paired_difference(one[name], two[name], labels[name], to=to) for name in PROTOCOLS}


def hits_of(cells: Sequence[Cell], results: Results) -> Hits:
    """Return by protocol 1 (found first) or 0 of each seed and query, float64 [S, Q]; NaN for one without a match."""
    arrays = [read_arrays(results, cell) for cell in cells]
    ranks = {name: np.stack([one[f"{name}_rank"] for one in arrays]) for name in PROTOCOLS}
    return {name: np.where(rank_SQ < 0, np.nan, rank_SQ == 1) for name, rank_SQ in ranks.items()}


def _settings(cell: Cell, *, at_edge: bool) -> str:
    edge = " (edge)" if at_edge else ""
    return f"rate {cell.learning_rate:.3g}{edge}, {cell.parameter} {cell.value:g}"


def _by_gallery(cells: Sequence[Cell], results: Results, protocol: ProtocolName) -> Galleries:
    wrong_Q, num_classes = [], 0
    for cell in cells:
        arrays = read_arrays(results, cell)
        wrong_Q.append(arrays[f"{protocol}_wrong_classes"][arrays[f"{protocol}_rank"] > 0])
        num_classes = int(arrays[f"{protocol}_num_classes"])
    sizes = gallery_sizes(num_classes)
    # Every seed asks for the same queries: all of them together have the mean of the seeds' means.
    expected = [expected_ranks(np.concatenate(wrong_Q), num_classes, size) for size in sizes]
    return Galleries(
        tuple(sizes), tuple(float(hit.mean()) for hit, _ in expected), tuple(float(rank.mean()) for _, rank in expected)
    )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def seeds_and_classes_interval(sides: Sequence[NDArray[np.float64]], labels_Q: npt.ArrayLike) -> Interval:
    """Return the 95% interval of the mean of one side's hits, or of the difference of two, over seeds and classes.

    A side is a float array [S, Q], a row for each seed; of two, the mean of the second is taken from that of the first.
    Queries and classes are the same for both (paired), seeds are not: a number that two strategies share as their seed
    does not make their luck the same. With m the estimate and (l, u) its interval over classes of the mean over seeds,

        low = m − √((m − l)² + (t·e)²),   high = m + √((u − m)² + (t·e)²),   e² = Σ max(0, v − (1 − 1/S)·w)

    where the sum is over the sides, v is the variance of the seeds' means divided by S, and w the part of v that comes
    of single answers that change by chance from seed to seed: it shrinks with the number of classes, and the interval
    over classes holds it already. t is Student's quantile with Welch's degrees of freedom, which follow from the v and
    from S − 1 each: 2.8 for three seeds on both sides, 2.3 for five. Intervals of parts are combined as by Zou and
    Donner (2008, "Construction of confidence limits about effect measures: a general approach"). Taking off w a little
    less than whole keeps two or three seeds honest; chosen by simulation, which is a test.

    A side of one seed adds nothing: how much it differs between seeds cannot be known.

    Raises `InputError` for fewer than two classes.

    >>> hits_SQ = np.array([[1.0, 1, 0, 1], [0.0, 1, 0, 0], [1.0, 0, 0, 1]])
    >>> low, high = seeds_and_classes_interval([hits_SQ], ["a", "b", "c", "d"])
    >>> bool(low < hits_SQ.mean() < high)
    True
    """
    means_Q = [hits_SQ.mean(axis=0) for hits_SQ in sides]
    if len(sides) == 2:
        mean = float(means_Q[0].mean() - means_Q[1].mean())
        low, high = class_difference_interval(means_Q[0] - means_Q[1], labels_Q)
    else:
        mean = float(means_Q[0].mean())
        low, high = class_interval(means_Q[0], labels_Q)
    repeated = [hits_SQ for hits_SQ in sides if len(hits_SQ) > 1]
    if not repeated:
        return low, high
    v, w = np.array([_seed_variances(hits_SQ, labels_Q) for hits_SQ in repeated]).T
    num_seeds = np.array([len(hits_SQ) for hits_SQ in repeated])
    variance = np.maximum(0.0, v - (1.0 - 1.0 / num_seeds) * w).sum()
    if variance == 0:
        return low, high
    freedom = v.sum() ** 2 / (v**2 / (num_seeds - 1)).sum()
    reach = float(stats.t.ppf(0.975, freedom) * np.sqrt(variance))
    return mean - float(np.hypot(mean - low, reach)), mean + float(np.hypot(high - mean, reach))


def _seed_variances(hits_SQ: NDArray[np.float64], labels_Q: npt.ArrayLike) -> tuple[float, float]:
    """Return the variance of the mean over seeds as the seeds' means tell it, and the part due to single answers."""
    num_seeds, num_queries = hits_SQ.shape
    codes, size_C = np.unique(np.asarray(labels_Q), return_inverse=True, return_counts=True)[1:]
    num_classes = len(size_C)
    mean_S = hits_SQ.mean(axis=1)
    sum_SC = np.stack([np.bincount(codes, weights=hit_Q, minlength=num_classes) for hit_Q in hits_SQ])
    # What is left of a class's hits without the class's own level and without the seed's.
    rest_SC = sum_SC - sum_SC.mean(axis=0) - np.outer(mean_S - mean_S.mean(), size_C)
    scale = num_classes / ((num_classes - 1) * (num_seeds - 1) * num_seeds * num_queries**2)
    return float(mean_S.var(ddof=1) / num_seeds), float((rest_SC**2).sum() * scale)
