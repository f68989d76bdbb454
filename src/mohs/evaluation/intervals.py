"""Folds by class, so that what is chosen on some classes is measured on others."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from mohs.checks import numbers, require, wrong_number, wrong_whole
from mohs.errors import InputError
from mohs.evaluation.checked import Bools, Float64, Index, checked_labels, class_codes
from mohs.randomness import generator

__all__ = [
    "Interval",
    "Over",
    "class_difference_interval",
    "class_difference_intervals",
    "class_interval",
    "class_intervals",
    "class_means",
    "difference_and_interval",
    "fold_of_class",
    "pairs_of_fold",
    "share_and_interval",
    "share_interval",
    "wilson_interval",
]


def fold_of_class(class_2P: Index, same_P: Bools, num_folds: int, *, seed: int) -> Index:
    """Return the fold of each class, int64 [C]: no class is in two folds.

    The classes with a positive pair, in random order, are dealt to folds 0, 1, …, and then the others go on from there,
    so that folds differ by one class at most. Raises `InputError` if `num_folds` is less than 2, or if there are fewer
    than two classes with a positive pair for each fold: a fold would have no pair of each kind.

    >>> class_2P = np.array([[0, 1, 2, 3, 0, 2], [0, 1, 2, 3, 1, 3]])
    >>> sorted(fold_of_class(class_2P, class_2P[0] == class_2P[1], 2, seed=0).tolist())
    [0, 0, 1, 1]
    """
    require(wrong_whole("num_folds", num_folds, at_least=2, example=10))
    num_classes = int(class_2P.max()) + 1
    with_positive = np.unique(class_2P[0, same_P])
    if len(with_positive) < 2 * num_folds:
        raise InputError(
            f"num_folds: {num_folds} folds need {2 * num_folds} classes with a positive pair, and there are "
            f"{len(with_positive)}; use fewer folds or more classes"
        )
    random = generator(seed, "verification folds")
    others = np.setdiff1d(np.arange(num_classes), with_positive)
    order = np.concatenate([random.permutation(with_positive), random.permutation(others)])
    fold_C = np.empty(num_classes, dtype=np.int64)
    fold_C[order] = np.arange(num_classes) % num_folds
    return fold_C


def pairs_of_fold(class_2P: Index, fold_C: Index, fold: int) -> tuple[Bools, Bools]:
    """Return (pairs without a class of the fold, pairs of classes of the fold only), bool [P] each.

    Pairs with one class inside and one outside are in neither.
    """
    inside_2P = fold_C[class_2P] == fold
    return ~inside_2P.any(axis=0), inside_2P.all(axis=0)


Interval: TypeAlias = tuple[float, float]

Over: TypeAlias = Literal["queries", "classes"]
"""What a mean is over: each query counts the same (micro), or each class does (macro)."""

# The 97.5% point of the standard normal distribution.
_Z_95 = 1.959963984540054

# Pulls a variance that few classes tell of towards that of classes whose queries all fail together, as two classes of
# such failures would. Of 0.5, 1 and 2 the least that holds 93% (benchmarks/bench_coverage.py).
_PRIOR_CLASSES = 2.0

# A continuity correction, in classes: a third of a class fewer or more. Without it Wilson's interval, which steps with
# each class that fails, holds 91% at 10 classes and a truth of 0.99.
_CONTINUITY = 1 / 3


def class_interval(
    values_Q: npt.ArrayLike, labels_Q: npt.ArrayLike, *, over: Over = "queries", confidence: float = 0.95
) -> Interval:
    """Return (low, high): an interval of the mean of values in [0, 1] over queries whose classes are a sample.

    Any metric of queries will do: a hit (0 or 1), a reciprocal rank, an average precision. The rule, for C classes:

    1. The mean θ = Σ w_c m_c of the class means m_c, with w_c the class's share of the queries, or 1/C over "classes".
    2. Its variance by leaving out one class at a time, V = (C−1)/C Σ_c (w_c (m_c − θ) / (1 − w_c))², and the
       effective number of classes n = 1/Σ w_c² (Kish 1965).
    3. Its share of the largest possible variance, f = n V / (θ (1 − θ)): 1 if all queries of a class fail together,
       1/k if its k queries are independent. What is known of f comes from the classes that have failures: A of them,
       A = (Σ x_c)² / Σ x_c² with x_c = w_c (1 − m_c), or with x_c = w_c m_c if these are fewer. So f is pulled towards
       1 as two more of them would pull it: f = (A f + 2) / (A + 2).
    4. Wilson's interval of n/f trials, with Student's t of n − 1 degrees of freedom for z (as Korn and Graubard 1998
       do for Clopper and Pearson's), after moving θ outwards by a third of a trial.

    Nothing is drawn. Within [0, 1], and never of width 0. It is conservative with a handful of classes, and with 100 or
    more about as wide as ± 1.96 standard errors.

    Args:
        values_Q: one number in [0, 1] for each query that counts.
        labels_Q: its class, integer or string; at least two classes.
        over: "queries" for the mean over queries, "classes" for the mean of the class means.
        confidence: in (0, 1).

    Raises:
        InputError: a value out of [0, 1], lengths that differ, fewer than two classes, confidence out of range.

    >>> [round(end, 3) for end in class_interval([1, 1, 1, 1, 1, 1], ["a", "a", "b", "b", "c", "c"])]
    [0.11, 1.0]
    >>> [round(end, 3) for end in class_interval([1, 1, 0, 0] * 50, list(range(100)) + list(range(100)))]
    [0.399, 0.601]
    """
    [interval] = class_intervals([values_Q], labels_Q, over=over, confidence=confidence)
    return interval


def class_intervals(
    values_MQ: Sequence[npt.ArrayLike] | Float64,
    labels_Q: npt.ArrayLike,
    *,
    over: Over = "queries",
    confidence: float = 0.95,
) -> list[Interval]:
    """Return the interval of `class_interval` for each of M metrics of the same queries, at once.

    >>> [(round(low, 2), round(high, 2)) for low, high in class_intervals([[1, 1, 1], [0, 0, 0]], ["a", "b", "c"])]
    [(0.11, 1.0), (0.0, 0.89)]
    """
    columns_MQ = _checked_values(values_MQ, 0.0)
    sums = _class_sums(columns_MQ, labels_Q, over)
    low_M, high_M = _intervals(sums, _checked_confidence(confidence))
    return list(zip(low_M.tolist(), high_M.tolist(), strict=True))


def class_difference_interval(
    difference_Q: npt.ArrayLike, labels_Q: npt.ArrayLike, *, over: Over = "queries", confidence: float = 0.95
) -> Interval:
    """Return (low, high): an interval of the mean of paired differences in [−1, 1], such as hits of two networks.

    Two more classes are counted, one that gains and one that loses (Bonett and Price 2012, for paired shares), so that
    equal hits of few classes are not taken for a proof. With the mean d, its variance V and the effective number of
    classes n of `class_interval`, and v = Σx²/Σ|x|, the size of the differences seen (1 for hits, or if none is seen):

        m = n d / (n + 2),   s² = (n (n V + d²) + 2 v) / (n + 2) − m²,   m ± t s / √(n + 2),

    with Student's t of n − 1 degrees of freedom, cut at −1 and 1. Arguments and errors are those of `class_interval`,
    but values lie in [−1, 1].

    >>> [round(end, 2) for end in class_difference_interval([0.0] * 40, list(range(20)) * 2)]
    [-0.13, 0.13]
    >>> [round(end, 2) for end in class_difference_interval([1.0, 0.0, 0.0, 1.0] * 50, list(range(100)) * 2)]
    [0.39, 0.59]
    """
    [interval] = class_difference_intervals([difference_Q], labels_Q, over=over, confidence=confidence)
    return interval


def class_difference_intervals(
    difference_MQ: Sequence[npt.ArrayLike] | Float64,
    labels_Q: npt.ArrayLike,
    *,
    over: Over = "queries",
    confidence: float = 0.95,
) -> list[Interval]:
    """Return the interval of `class_difference_interval` for each of M differences of the same queries, at once.

    >>> class_difference_intervals([[1, 0], [-1, 0]], ["a", "b"])
    [(-1.0, 1.0), (-1.0, 1.0)]
    """
    columns_MQ = _checked_values(difference_MQ, -1.0)
    sums = _class_sums(columns_MQ, labels_Q, over)
    size_M = np.abs(columns_MQ).sum(axis=1)
    size_M = np.divide(np.square(columns_MQ).sum(axis=1), size_M, out=np.ones_like(size_M), where=size_M > 0)
    n, variance_M = sums.num_effective, np.square(sums.deviation_MC).sum(axis=1)
    middle_M = n * sums.mean_M / (n + 2)
    square_M = (n * (n * variance_M + np.square(sums.mean_M)) + 2 * size_M) / (n + 2)
    half_M = _student(n, _checked_confidence(confidence)) * np.sqrt((square_M - np.square(middle_M)) / (n + 2))
    low_M, high_M = np.maximum(middle_M - half_M, -1.0), np.minimum(middle_M + half_M, 1.0)
    return list(zip(low_M.tolist(), high_M.tolist(), strict=True))


def class_means(values_MQ: Sequence[npt.ArrayLike], labels_Q: npt.ArrayLike) -> list[float]:
    """Return the mean over classes of the mean over the queries of each (macro), for each of M metrics.

    >>> class_means([[1, 1, 1, 0]], ["a", "a", "a", "b"])
    [0.5]
    """
    columns_MQ = _checked_values(values_MQ, -np.inf)
    means_M: list[float] = _class_sums(columns_MQ, labels_Q, "classes", least=1).mean_M.tolist()
    return means_M


def share_and_interval(hits_Q: npt.ArrayLike, labels_Q: npt.ArrayLike) -> tuple[float, float, float]:
    """Return a share with its 95% interval over classes; of one class alone, 0 to 1: it says nothing of others.

    >>> share_and_interval([True, False], ["a", "a"])
    (0.5, 0.0, 1.0)
    """
    low, high = (0.0, 1.0) if _one_class(labels_Q) else class_interval(hits_Q, labels_Q)
    return float(np.asarray(hits_Q, dtype=np.float64).mean()), low, high


def difference_and_interval(difference_Q: npt.ArrayLike, labels_Q: npt.ArrayLike) -> tuple[float, float, float]:
    """Return the mean of paired differences in [−1, 1] with its 95% interval over classes; of one class alone, ±1.

    >>> difference_and_interval([1.0, 0.0], ["a", "a"])
    (0.5, -1.0, 1.0)
    """
    low, high = (-1.0, 1.0) if _one_class(labels_Q) else class_difference_interval(difference_Q, labels_Q)
    return float(np.asarray(difference_Q, dtype=np.float64).mean()), low, high


def _one_class(labels_Q: npt.ArrayLike) -> bool:
    return len(np.unique(np.asarray(labels_Q))) < 2


def share_interval(
    share: float,
    variance: float,
    num_classes: float,
    *,
    freedom: float | None = None,
    telling: float | None = None,
    prior: float = _PRIOR_CLASSES,
) -> Interval:
    """Return the 95% interval of a share whose variance between classes is known: steps 3 and 4 of `class_interval`.

    For shares that are no means of numbers of single classes, such as those of pairs.

    Args:
        share: θ in [0, 1].
        variance: V, of θ.
        num_classes: n, the effective number of classes.
        freedom: degrees of freedom of the variance; by default n − 1.
        telling: A, how many classes the failures (or successes, if these are fewer) are spread over; by default as many
            as fail if all of a class do: n·min(θ, 1 − θ).
        prior: how many classes pull f towards 1; fewer will do for means of numbers that are not only 0 and 1.

    >>> [round(end, 3) for end in share_interval(1.0, 0.0, 20)]
    [0.794, 1.0]
    """
    telling = num_classes * min(share, 1 - share) if telling is None else telling
    student = _student(num_classes if freedom is None else freedom + 1, 0.95)
    low_M, high_M = _wilson_of_classes(
        np.clip([share], 0.0, 1.0), np.array([variance]), num_classes, np.array([telling]), prior, student
    )
    return float(low_M[0]), float(high_M[0])


def wilson_interval(successes: float, trials: float) -> Interval:
    """Return (low, high): the 95% Wilson score interval of a share (Wilson 1927).

    (p + z²/2n ± z·√(p(1−p)/n + z²/4n²)) / (1 + z²/n) with p = successes/trials, n = trials, z = 1.96.
    Unlike p ± z·√(p(1−p)/n) it stays in [0, 1] and is not empty at p = 0 or 1. Trials are taken to be independent;
    both numbers may be fractions, for an effective number of trials.

    >>> [round(end, 3) for end in wilson_interval(0, 10)]
    [0.0, 0.278]
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise InputError(
            f"successes, trials: {successes} of {trials} is not a share; need 0 <= successes <= trials >= 1"
        )
    share = np.array([successes / trials])
    low = 0.0 if successes == 0 else float(_wilson_end(share, _Z_95**2 / trials, -1)[0])
    high = 1.0 if successes == trials else float(_wilson_end(share, _Z_95**2 / trials, 1)[0])
    return low, high


@final
@dataclass(frozen=True, eq=False)
class _ClassSums:
    """Means of M metrics over C classes.

    `deviation_MC` is how far each mean moves when a class is left out, scaled so that squares sum to V; `part_MC` is
    what each class adds to the mean, w_c m_c.
    """

    mean_M: Float64
    deviation_MC: Float64
    part_MC: Float64
    weight_C: Float64
    num_effective: float


def _class_sums(values_MQ: Float64, labels_Q: npt.ArrayLike, over: Over, *, least: int = 2) -> _ClassSums:
    if over not in ("queries", "classes"):
        raise InputError(f"over: {over!r} is not 'queries' or 'classes'")
    [codes] = class_codes(checked_labels(labels_Q, "labels_Q", values_MQ.shape[1]))
    count_C = np.bincount(codes)
    num_classes = len(count_C)
    if num_classes < least:
        raise InputError(f"labels_Q: {num_classes} class; an interval over classes needs at least two")
    order_Q = np.argsort(codes, kind="stable")
    sums_MC = np.add.reduceat(values_MQ[:, order_Q], np.cumsum(count_C) - count_C, axis=1)
    weight_C = np.full(num_classes, 1 / num_classes) if over == "classes" else count_C / count_C.sum()
    means_MC = sums_MC / count_C
    mean_M = means_MC @ weight_C
    deviation_MC = np.zeros_like(means_MC)
    if num_classes > 1:
        deviation_MC = (means_MC - mean_M[:, None]) * (weight_C / (1 - weight_C))
        deviation_MC *= math.sqrt((num_classes - 1) / num_classes)
    return _ClassSums(mean_M, deviation_MC, means_MC * weight_C, weight_C, float(1 / np.square(weight_C).sum()))


def _intervals(sums: _ClassSums, confidence: float) -> tuple[Float64, Float64]:
    """Return low and high of M means of values in [0, 1]; steps 3 and 4 of `class_interval`."""
    # Sums of the same numbers in another order may leave [0, 1] in the last place.
    mean_M = np.clip(sums.mean_M, 0.0, 1.0)
    variance_M = np.square(sums.deviation_MC).sum(axis=1)
    telling_M = np.minimum(_effective(sums.part_MC), _effective(sums.weight_C - sums.part_MC))
    student = _student(sums.num_effective, confidence)
    return _wilson_of_classes(mean_M, variance_M, sums.num_effective, telling_M, _PRIOR_CLASSES, student)


def _wilson_of_classes(
    mean_M: Float64, variance_M: Float64, num_effective: float, telling_M: Float64, prior: float, student: float
) -> tuple[Float64, Float64]:
    """Return low and high of means in [0, 1] whose variance between classes is known."""
    largest_M = mean_M * (1 - mean_M)
    measured_M = np.divide(num_effective * variance_M, largest_M, out=np.ones_like(mean_M), where=largest_M > _ROUNDING)
    trials_M = num_effective * (telling_M + prior) / (telling_M * measured_M + prior)
    low_M = _wilson_end(np.maximum(mean_M - _CONTINUITY / trials_M, 0.0), student**2 / trials_M, -1)
    high_M = _wilson_end(np.minimum(mean_M + _CONTINUITY / trials_M, 1.0), student**2 / trials_M, 1)
    return low_M, high_M


def _student(num_effective: float, confidence: float) -> float:
    # With most queries in one class fewer than one degree of freedom is left; the interval is nearly all there is.
    return float(stdtrit(max(num_effective - 1, 1.0), (1 + confidence) / 2))


def _effective(part_MC: Float64) -> Float64:
    """Return how many classes a sum is spread over, (Σ x)² / Σ x²; 0 for a sum of 0."""
    square_M = np.square(part_MC).sum(axis=1)
    spread_M: Float64 = np.divide(
        np.square(part_MC.sum(axis=1)), square_M, out=np.zeros_like(square_M), where=square_M > _ROUNDING**2
    )
    return spread_M


def _wilson_end(share_M: Float64, squared_M: Float64 | float, side: Literal[-1, 1]) -> Float64:
    """Return an end of Wilson's interval, with `squared_M` = z²/n."""
    half_width_M = np.sqrt(share_M * (1 - share_M) * squared_M + np.square(squared_M) / 4)
    end_M: Float64 = np.clip((share_M + squared_M / 2 + side * half_width_M) / (1 + squared_M), 0, 1)
    return end_M


def _checked_values(values_MQ: Sequence[npt.ArrayLike] | Float64, lowest: float) -> Float64:
    columns = [numbers("values_Q", values, truths_count=True).astype(np.float64) for values in values_MQ]
    if any(values.ndim != 1 or not np.isfinite(values).all() for values in columns):
        raise InputError("values_Q: not a flat array of finite numbers; leave out queries without a value first")
    if len({len(values) for values in columns}) > 1:
        raise InputError(
            "values_MQ: the metrics are of different numbers of queries; give each metric one value per query"
        )
    columns_MQ = np.stack(columns) if columns else np.empty((0, 0))
    highest = np.inf if lowest == -np.inf else 1.0
    wrong = columns_MQ[(columns_MQ < lowest - _ROUNDING) | (columns_MQ > highest + _ROUNDING)]
    if len(wrong):
        raise InputError(f"values_Q: {wrong[0]:g} is not in [{lowest:g}, 1]; the interval is for values in that range")
    return columns_MQ


def _checked_confidence(confidence: float) -> float:
    require(wrong_number("confidence", confidence, above=0, below=1, example=0.95))
    return confidence


# A mean of numbers in [0, 1] may leave it in the last places.
_ROUNDING = 1e-9
