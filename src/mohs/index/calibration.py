"""When an index says "unknown": a distance, learned from pictures of classes that are not in it.

A query is given a class if its nearest item is nearer than a threshold. The threshold keeps *false acceptance* at a
wanted level: the share of pictures of unknown classes that are given a class all the same. Or it is given, and what it
reaches is measured. A curve tells what to expect of other thresholds.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression

from mohs.checks import require, wrong_number
from mohs.errors import InputError, Problem
from mohs.evaluation.intervals import class_interval
from mohs.index.exact_search import Vectors, nearest_items
from mohs.randomness import generator

__all__ = ["Calibration", "OperatingCurve", "calibrate", "operating_curve"]

_MAX_POINTS = 101


@final
@dataclass(frozen=True)
class OperatingCurve:
    """Shares at T thresholds of distance, ascending; an answer is given if the nearest item is nearer than it.

    Attributes:
        threshold_distance: the thresholds.
        precision: of the answers to pictures whose class is in the index, the share that is right; None where no answer
            is given.
        recall: of the pictures whose class is in the index, the share that gets its class.
        false_acceptance: of the pictures whose class is not in the index, the share that gets a class all the same.
    """

    threshold_distance: tuple[float, ...]
    precision: tuple[float | None, ...]
    recall: tuple[float, ...]
    false_acceptance: tuple[float, ...]


def operating_curve(
    distance_P: NDArray[np.floating], right_P: NDArray[np.bool_], distance_Q: NDArray[np.floating]
) -> OperatingCurve:
    """Return the curve of held-out pictures, at up to 101 thresholds: just beyond quantiles of their distances.

    Args:
        distance_P: of pictures whose class is in the index, the distance of the nearest item.
        right_P: whether that item is of their class.
        distance_Q: of pictures whose class is not in the index, the distance of the nearest item.

    >>> curve = operating_curve(np.array([0.1, 0.3]), np.array([True, False]), np.array([0.2, 0.4]))
    >>> [round(t, 3) for t in curve.threshold_distance], curve.precision
    ([0.1, 0.2, 0.3, 0.4], (1.0, 1.0, 0.5, 0.5))
    >>> curve.recall, curve.false_acceptance
    ((0.5, 0.5, 0.5, 0.5), (0.0, 0.5, 0.5, 1.0))
    """
    every = np.unique(np.concatenate([distance_P, distance_Q]).astype(np.float64))
    chosen = every[np.unique(np.linspace(0, len(every) - 1, min(_MAX_POINTS, len(every))).round().astype(int))]
    threshold_T = np.nextafter(chosen, np.inf)
    given_TP = distance_P[None, :] < threshold_T[:, None]
    given_T, found_T = given_TP.sum(axis=1), (given_TP & right_P).sum(axis=1)
    return OperatingCurve(
        threshold_distance=tuple(threshold_T.tolist()),
        precision=tuple(
            found / given if given else None for found, given in zip(found_T.tolist(), given_T.tolist(), strict=True)
        ),
        recall=tuple((found_T / len(distance_P)).tolist()),
        false_acceptance=tuple((distance_Q[None, :] < threshold_T[:, None]).mean(axis=1).tolist()),
    )


_NUM_FOLDS = 5
_SHOWN = 10


@final
@dataclass(frozen=True)
class Calibration:
    """What a distance means in an index, measured on held-out pictures.

    Attributes:
        max_false_acceptance: the wanted level; None if the threshold was given.
        threshold_distance: a query is given a class if its nearest item is nearer than this; 0: never.
        false_acceptance: share of held-out pictures that were given a class when their own was not in the index, by
            thresholds chosen on other classes, or by the given one.
        false_acceptance_interval: its 95% interval over classes.
        num_pictures, num_classes: held-out pictures that this rests on, and their classes.
        num_known: those whose own class is in the index; the three shares below are of them, None if there are none.
        found: given their own class. wrong: given another. unknown: given none.
        slope, intercept: the probability that a match at distance d is of the query's class is
            1 / (1 + exp(−(slope · d + intercept))); None if no held-out picture has its class in the index.
        curve: what to expect at other thresholds; None if no held-out picture has its class in the index, and in files
            of older versions.
    """

    max_false_acceptance: float | None
    threshold_distance: float
    false_acceptance: float
    false_acceptance_interval: tuple[float, float]
    num_pictures: int
    num_classes: int
    num_known: int
    found: float | None
    wrong: float | None
    unknown: float | None
    slope: float | None
    intercept: float | None
    curve: OperatingCurve | None = None

    def probability(self, distance: ArrayLike) -> NDArray[np.float64] | None:
        """Return the probability that a match at each distance is of the query's class; None if it was not learned."""
        if self.slope is None or self.intercept is None:
            return None
        z = self.slope * np.asarray(distance, dtype=np.float64) + self.intercept
        probability: NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(z, -500, 500)))
        return probability

    def as_record(self) -> dict[str, Any]:
        """Return the numbers as JSON values."""
        return asdict(self)

    @classmethod
    def of_record(cls, record: Mapping[str, Any], *, place: str = "calibration") -> "Calibration":
        """Return what `as_record` wrote; raise `InputError` at a place for anything else."""
        try:
            low, high = record["false_acceptance_interval"]
            lists = record.get("curve")
            curve = None if lists is None else OperatingCurve(**{name: tuple(values) for name, values in lists.items()})
            return cls(**{**record, "false_acceptance_interval": (low, high), "curve": curve})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(Problem(place, f"not a calibration ({error!r})", "calibrate again")) from None


def calibrate(
    vectors: Vectors,
    query_QD: NDArray[np.float32],
    class_Q: NDArray[np.object_],
    own_QK: list[list[int]],
    *,
    max_false_acceptance: float | None = None,
    threshold_distance: float | None = None,
    seed: int = 0,
) -> Calibration:
    """Return the calibration of an index on held-out pictures.

    Each picture is asked twice. Once without the items of its own class: it is then of an unknown class, whether or not
    its class is in the index. And, if its class is in it, once with all items but the picture itself.

    With n distances of the first kind, the threshold is the m-th smallest, m = ⌊p·(n + 1)⌋, and nearer than it is
    accepted: a new picture of such classes is then accepted with probability m/(n + 1) ≤ p (split conformal prediction,
    Vovk 2005). What it reaches is measured on folds of classes whose thresholds are chosen on the other folds.

    Args:
        vectors: the items.
        query_QD: unit vectors of the held-out pictures.
        class_Q: their classes.
        own_QK: of each, the items that are this very picture, which are left out.
        max_false_acceptance: p, in (0, 1); 0.05 if neither it nor a threshold is given.
        threshold_distance: instead of p, a threshold of one's own, in (0, 2]. Nothing is chosen then, and what it
            reaches is measured on all pictures.
        seed: of the folds.

    Raises `InputError` for a level or a threshold outside its limits, for both together, fewer than two classes of
    pictures, or an index of one class.
    """
    level = max_false_acceptance
    if threshold_distance is not None:
        require(wrong_number("threshold_distance", threshold_distance, above=0, at_most=2, example=0.5))
        if level is not None:
            what = "max_false_acceptance is given, too, which chooses a threshold"
            fix = "give one of them"
            raise InputError(Problem("threshold_distance", what, fix, mentions=("max_false_acceptance",)))
    else:
        level = 0.05 if level is None else level
        require(wrong_number("max_false_acceptance", level, above=0, below=1, example=0.05))
    names, code_Q = np.unique(class_Q.astype(np.str_), return_inverse=True)
    if len(names) < 2:
        raise InputError(
            Problem("pictures", f"{len(names)} class", "calibrate on pictures of two classes or more, better of 50")
        )
    if len(set(vectors.class_N.tolist())) < 2:
        raise InputError(Problem("index", "its items are of one class", "add items of other classes"))
    is_own_QN = class_Q[:, None] == vectors.class_N[None, :]
    distance_Q = np.array([d[0] for _, d in nearest_items(vectors, query_QD, 1, allowed_QN=~is_own_QN)])
    if threshold_distance is not None:
        threshold = float(threshold_distance)
        accepted_Q = (distance_Q < threshold).astype(np.float64)
    else:
        assert level is not None
        threshold = _threshold(distance_Q, level)
        accepted_Q = _accepted_by_folds(distance_Q, code_Q, level, seed)

    aside_QN = np.zeros_like(is_own_QN)
    for row, items in enumerate(own_QK):
        aside_QN[row, items] = True
    known_Q = (is_own_QN & ~aside_QN).any(axis=1)
    found = wrong = unknown = slope = intercept = curve = None
    if known_Q.any():
        matches = nearest_items(vectors, query_QD[known_Q], _SHOWN, allowed_QN=~aside_QN[known_Q])
        own_K = class_Q[known_Q]
        same = [vectors.class_N[items] == label for (items, _), label in zip(matches, own_K, strict=True)]
        nearest = np.array([distance[0] for _, distance in matches])
        given = nearest < threshold
        right = np.array([bool(each[0]) for each in same])
        found, wrong, unknown = (float(share.mean()) for share in (given & right, given & ~right, ~given))
        curve = operating_curve(nearest, right, distance_Q)
        slope, intercept = _fit_probability(np.concatenate([d for _, d in matches]), np.concatenate(same))
    return Calibration(
        max_false_acceptance=None if level is None else float(level),
        threshold_distance=threshold,
        false_acceptance=float(accepted_Q.mean()),
        false_acceptance_interval=class_interval(accepted_Q, code_Q),
        num_pictures=len(query_QD),
        num_classes=len(names),
        num_known=int(known_Q.sum()),
        found=found,
        wrong=wrong,
        unknown=unknown,
        slope=slope,
        intercept=intercept,
        curve=curve,
    )


def _accepted_by_folds(
    distance_Q: NDArray[np.floating], code_Q: NDArray[np.int64], level: float, seed: int
) -> NDArray[np.float64]:
    """Return 1 for each picture that the threshold of the other folds of classes accepts, and 0 for the others."""
    num_classes = int(code_Q.max()) + 1
    order_C = generator(seed, "folds of held-out classes").permutation(num_classes)
    fold_Q = (order_C % min(_NUM_FOLDS, num_classes))[code_Q]
    accepted_Q = np.empty(len(distance_Q))
    for fold in np.unique(fold_Q):
        here = fold_Q == fold
        accepted_Q[here] = distance_Q[here] < _threshold(distance_Q[~here], level)
    return accepted_Q


def _threshold(distance_Q: NDArray[np.floating], level: float) -> float:
    rank = int(np.floor(level * (len(distance_Q) + 1) + 1e-9))
    return float(np.sort(distance_Q)[rank - 1]) if rank else 0.0


def _fit_probability(distance_P: NDArray[np.floating], same_P: NDArray[np.bool_]) -> tuple[float, float]:
    """Return slope and intercept of a logistic regression with Platt's targets, so that nothing is ever certain."""
    num_same, num_other = int(same_P.sum()), int((~same_P).sum())
    # A target t is a case of weight t with outcome 1 and one of weight 1 − t with outcome 0.
    target_P = np.where(same_P, (num_same + 1) / (num_same + 2), 1 / (num_other + 2))
    x = np.concatenate([distance_P, distance_P]).astype(np.float64)[:, None]
    y = np.repeat([1, 0], len(distance_P))
    model = LogisticRegression(C=np.inf, solver="newton-cholesky").fit(
        x, y, sample_weight=np.concatenate([target_P, 1 - target_P])
    )
    return float(model.coef_[0, 0]), float(model.intercept_[0])
