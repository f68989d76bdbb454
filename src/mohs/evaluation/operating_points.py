"""Thresholds that keep a wanted precision or false positive rate, and intervals of all that verification measures."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, final

import numpy as np
import numpy.typing as npt

from mohs.errors import InputError
from mohs.evaluation.pair_curves import checked_prevalence
from mohs.evaluation.pair_scores import PairScores
from mohs.evaluation.ranked_pairs import Rates, class_bootstrap, percentile_interval, rank_pairs

__all__ = ["Bands", "Interval", "OperatingPoint", "PairIntervals", "Wanted", "pair_intervals"]

Interval: TypeAlias = tuple[float, float] | None
Wanted: TypeAlias = Literal["precision", "false positive rate"]

RECALL_GRID = tuple(float(recall) for recall in np.linspace(0.01, 1.0, 100))
FPR_GRID = tuple(float(fpr) for fpr in np.logspace(-6, 0, 61))


@final
@dataclass(frozen=True)
class OperatingPoint:
    """A threshold that keeps what is wanted on these pairs, and what it then does.

    Attributes:
        wanted: "precision" (at least `level`) or "false positive rate" (at most `level`).
        level: how much.
        threshold: the loosest score of a pair that keeps it (for a precision: of a positive pair); None if none does.
        threshold_interval: 95%, of the threshold chosen in the same way on other samples of classes.
        tpr: share of positive pairs accepted.
        tpr_interval: 95%, likewise.
        fpr: share of negative pairs accepted.
        precision: share of positive pairs among those accepted, at the given prevalence.
        reached_interval: 95%, of the precision (or false positive rate) that a threshold chosen on one sample of
            classes reaches on another: what to expect in use.
        reason: why there is no threshold, "" if there is one.
    """

    wanted: Wanted
    level: float
    threshold: float | None
    threshold_interval: Interval
    tpr: float | None
    tpr_interval: Interval
    fpr: float | None
    precision: float | None
    reached_interval: Interval
    reason: str


@final
@dataclass(frozen=True, eq=False)
class Bands:
    """Pointwise 95% bands of the curves; NaN where the resamples do not tell.

    Attributes:
        recall: grid of the precision-recall curve, float64 [100]: 0.01 to 1.
        precision_low: lower end of the precision at the strictest threshold of at least that recall.
        precision_high: upper end.
        fpr: grid of the ROC curve, float64 [61]: 10⁻⁶ to 1, even in the logarithm. NaN below the rates that the pairs
            are enough for.
        tpr_low: lower end of the TPR at at most that FPR.
        tpr_high: upper end.
    """

    recall: npt.NDArray[np.float64]
    precision_low: npt.NDArray[np.float64]
    precision_high: npt.NDArray[np.float64]
    fpr: npt.NDArray[np.float64]
    tpr_low: npt.NDArray[np.float64]
    tpr_high: npt.NDArray[np.float64]


@final
@dataclass(frozen=True, eq=False)
class PairIntervals:
    """95% class-bootstrap intervals of what verification measures; None where the resamples do not tell.

    Attributes:
        average_precision: at the given prevalence.
        auc: area under the ROC curve.
        equal_error_rate: as in `PairCurves`.
        operating_points: first those of wanted precisions, then those of wanted false positive rates.
        bands: of the curves.
        num_resamples: how many resamples had a positive and a negative pair.
    """

    average_precision: Interval
    auc: Interval
    equal_error_rate: Interval
    operating_points: tuple[OperatingPoint, ...]
    bands: Bands
    num_resamples: int

    def as_record(self) -> dict[str, Any]:
        """Return the numbers as JSON values."""
        return {
            "average_precision": _pair(self.average_precision),
            "auc": _pair(self.auc),
            "equal_error_rate": _pair(self.equal_error_rate),
            "operating_points": [asdict(point) for point in self.operating_points],
            "bands": {
                name: [None if np.isnan(value) else float(value) for value in getattr(self.bands, name)]
                for name in ("recall", "precision_low", "precision_high", "fpr", "tpr_low", "tpr_high")
            },
            "num_resamples": self.num_resamples,
        }


def pair_intervals(
    scores: PairScores,
    class_2P: npt.NDArray[np.int64],
    *,
    prevalence: float | None = None,
    precisions: Sequence[float] = (),
    fprs: Sequence[float] = (),
    num_resamples: int = 400,
    seed: int = 0,
) -> PairIntervals:
    """Return operating points and all intervals, from one set of resamples of the classes (`class_bootstrap`).

    Pairs are sorted once; a resample weighs them anew, at the same prevalence. Intervals are percentiles.

    Args:
        scores: from `pair_scores`.
        class_2P: from `pair_classes`.
        prevalence: share of positive pairs for precision, in (0, 1); none: by weight.
        precisions: wanted precisions, in (0, 1].
        fprs: wanted false positive rates, in (0, 1).
        num_resamples: at least 20.
        seed: of the resamples; the same as of the other class bootstraps.

    Raises:
        InputError: a parameter out of range.
    """
    share = checked_prevalence(prevalence, scores)
    _check(precisions, fprs, num_resamples)
    ranked = rank_pairs(scores, class_2P)
    whole = ranked.rates()
    assert whole is not None  # `pair_scores` refuses pairs of one kind only
    recall_grid, fpr_grid = np.array(RECALL_GRID), np.array(FPR_GRID)
    too_few = {level: reason for level, (_, reason) in zip(fprs, scores.closest_negatives(fprs), strict=True)}
    levels: list[tuple[Wanted, float]] = [("precision", level) for level in precisions]
    levels += [("false positive rate", level) for level in fprs]

    def chosen(rates: Rates, wanted: Wanted, level: float) -> float:
        if wanted == "false positive rate":
            return ranked.farness_at_fpr(rates, level)
        u = rates.last_with_precision(level, share)
        return float(ranked.farness_U[u]) if u >= 0 else np.nan

    def statistic(rates: Rates) -> npt.NDArray[np.float64]:
        points = []
        for wanted, level in levels:
            farness = chosen(rates, wanted, level)
            # Without a threshold nothing is accepted: the TPR is 0.
            tpr, _ = (0.0, 0.0) if np.isnan(farness) else ranked.accepted(rates, farness)
            reached = np.nan if np.isnan(farness) else _reached(wanted, *ranked.accepted(whole, farness), share)
            points += [farness, tpr, reached]
        at_recall = np.minimum(np.searchsorted(rates.tpr_U, recall_grid - 1e-12), len(rates.tpr_U) - 1)
        at_fpr = np.searchsorted(rates.fpr_U, fpr_grid + 1e-12, side="right")
        return np.concatenate(
            [
                [rates.average_precision(share), rates.auc(), rates.equal_error_rate()],
                rates.precision(share)[at_recall],
                np.concatenate([[0.0], rates.tpr_U])[at_fpr],
                points,
            ]
        )

    found_BK = class_bootstrap(ranked, statistic, num_resamples=num_resamples, seed=seed)
    intervals = [percentile_interval(values_B) for values_B in found_BK.T]
    told_F = np.array([not reason for _, reason in scores.closest_negatives(FPR_GRID)])
    ends_K2 = np.array([(np.nan, np.nan) if interval is None else interval for interval in intervals])
    first_fpr = 3 + len(recall_grid)
    first_point = first_fpr + len(fpr_grid)
    points = []
    for i, (wanted, level) in enumerate(levels):
        of_threshold, of_tpr, of_reached = intervals[first_point + 3 * i : first_point + 3 * i + 3]
        farness = chosen(whole, wanted, level)
        reason = too_few[level] if wanted == "false positive rate" else ""
        if np.isnan(farness) and not reason:
            reason = _no_threshold(wanted, level, float(whole.precision(share).max()))
        if reason:
            points.append(OperatingPoint(wanted, level, None, None, None, None, None, None, None, reason))
            continue
        tpr, fpr = ranked.accepted(whole, farness)
        points.append(
            OperatingPoint(
                wanted=wanted,
                level=level,
                threshold=scores.in_units(-farness),
                threshold_interval=_in_units(of_threshold, scores),
                tpr=tpr,
                tpr_interval=of_tpr,
                fpr=fpr,
                precision=_reached("precision", tpr, fpr, share),
                reached_interval=of_reached,
                reason="",
            )
        )
    return PairIntervals(
        average_precision=intervals[0],
        auc=intervals[1],
        equal_error_rate=intervals[2],
        operating_points=tuple(points),
        bands=Bands(
            recall=recall_grid,
            precision_low=ends_K2[3:first_fpr, 0],
            precision_high=ends_K2[3:first_fpr, 1],
            fpr=fpr_grid,
            tpr_low=np.where(told_F, ends_K2[first_fpr:first_point, 0], np.nan),
            tpr_high=np.where(told_F, ends_K2[first_fpr:first_point, 1], np.nan),
        ),
        num_resamples=len(found_BK),
    )


def _reached(wanted: Wanted, tpr: float, fpr: float, prevalence: float) -> float:
    if wanted == "false positive rate":
        return fpr
    return prevalence * tpr / (prevalence * tpr + (1 - prevalence) * fpr)


def _no_threshold(wanted: Wanted, level: float, best_precision: float) -> str:
    if wanted == "precision":
        return f"no threshold has a precision of {level:g}; the best has {best_precision:.3g}"
    return f"even the closest pair, with those tied with it, makes a false positive rate above {level:g}"


def _in_units(interval: Interval, scores: PairScores) -> Interval:
    if interval is None:
        return None
    low, high = sorted(scores.in_units(-end) for end in interval)
    return low, high


def _pair(interval: Interval) -> list[float] | None:
    return None if interval is None else list(interval)


def _check(precisions: Sequence[float], fprs: Sequence[float], num_resamples: int) -> None:
    problems = [
        f"precisions: {level!r} is not in (0, 1]; use for example 0.95" for level in precisions if not 0 < level <= 1
    ]
    problems += [f"fprs: {level!r} is not in (0, 1); use for example 0.001" for level in fprs if not 0 < level < 1]
    if isinstance(num_resamples, bool) or not isinstance(num_resamples, int | np.integer) or num_resamples < 20:
        problems.append(f"num_resamples: {num_resamples!r} is not an integer >= 20; use for example 400")
    if problems:
        raise InputError(*problems)
