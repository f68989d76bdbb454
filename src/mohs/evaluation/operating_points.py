"""Thresholds that keep a wanted precision or false positive rate, and intervals of all that verification measures."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np

from mohs.checks import require, several, wrong_number, wrong_whole
from mohs.evaluation.checked import Float64, Index
from mohs.evaluation.intervals import Interval
from mohs.evaluation.pair_curves import checked_prevalence
from mohs.evaluation.pair_noise import PairNoise
from mohs.evaluation.pair_scores import PairScores
from mohs.evaluation.ranked_pairs import Rates, class_bootstrap, percentile_interval, rank_pairs
from mohs.evaluation.thresholds import (
    Level,
    Wanted,
    chosen_farness,
    cross_fitted,
    joined_ends,
    reached_ends,
    safe_farness,
    shares_at,
)

__all__ = ["Bands", "OperatingPoint", "PairIntervals", "Wanted", "pair_intervals"]

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
        reached_interval: 95%, of the precision (or false positive rate) that this threshold has on other classes: what
            to expect in use. A threshold flatters the pairs that it was chosen on; so this is measured by cross-fitting
            over classes (`cross_fitted`), and holds the interval of the pairs themselves, too.
        safe_threshold: the loosest one whose interval keeps the level (`safe_farness`), to rely on in use; None if
            these pairs are too few to be sure of any.
        safe_tpr: share of positive pairs that it accepts.
        reason: why there is no threshold, "" if there is one.
    """

    wanted: Wanted
    level: float
    threshold: float | None = None
    threshold_interval: Interval | None = None
    tpr: float | None = None
    tpr_interval: Interval | None = None
    fpr: float | None = None
    precision: float | None = None
    reached_interval: Interval | None = None
    safe_threshold: float | None = None
    safe_tpr: float | None = None
    reason: str = ""


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

    recall: Float64
    precision_low: Float64
    precision_high: Float64
    fpr: Float64
    tpr_low: Float64
    tpr_high: Float64


@final
@dataclass(frozen=True, eq=False)
class PairIntervals:
    """95% intervals over classes of what verification measures; None where nothing tells.

    Attributes:
        average_precision: at the given prevalence.
        auc: area under the ROC curve.
        equal_error_rate: as in `PairCurves`.
        operating_points: first those of wanted precisions, then those of wanted false positive rates.
        bands: of the curves.
        num_resamples: how many resamples had a positive and a negative pair.
    """

    average_precision: Interval | None
    auc: Interval | None
    equal_error_rate: Interval | None
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
    class_2P: Index,
    *,
    prevalence: float | None = None,
    precisions: Sequence[float] = (),
    fprs: Sequence[float] = (),
    num_resamples: int = 400,
    seed: int = 0,
) -> PairIntervals:
    """Return operating points and all intervals over classes.

    Pairs are sorted once. Intervals of the average precision, the equal error rate and TPRs are Wilson's of as many
    effective classes as give the variance of resamples of the classes (`class_bootstrap`, which weighs pairs anew at
    the same prevalence; `share_interval`), that of the AUC likewise by its influence function (`PairNoise.auc`): few
    classes make percentiles too narrow. Those of thresholds and the bands are percentiles. What a threshold reaches on
    other classes is measured on classes that it was not chosen on (`OperatingPoint.reached_interval`).

    Args:
        scores: from `pair_scores`.
        class_2P: classes of both items of each pair, int64 [2, P], from 0 on.
        prevalence: share of positive pairs for precision, in (0, 1); none: by weight.
        precisions: wanted precisions, in (0, 1].
        fprs: wanted false positive rates, in (0, 1).
        num_resamples: at least 20.
        seed: of the resamples; the same as of the other class bootstraps.

    Raises:
        InputError: a parameter out of range.
    """
    share = checked_prevalence(prevalence, scores)
    precisions, fprs = several("precisions", precisions, "(0.95, 0.99)"), several("fprs", fprs, "(0.01, 0.001)")
    require(
        *(wrong_number("precisions", level, above=0, at_most=1, example=0.95) for level in precisions),
        *(wrong_number("fprs", level, above=0, below=1, example=0.001) for level in fprs),
        wrong_whole("num_resamples", num_resamples, at_least=20, example=400),
    )
    ranked = rank_pairs(scores, class_2P)
    whole = ranked.rates()
    assert whole is not None  # `pair_scores` refuses pairs of one kind only
    recall_grid, fpr_grid = np.array(RECALL_GRID), np.array(FPR_GRID)
    too_few = {level: reason for level, (_, reason) in zip(fprs, scores.closest_negatives(fprs), strict=True)}
    levels: list[Level] = [("precision", level) for level in precisions]
    levels += [("false positive rate", level) for level in fprs]

    farness_L = [chosen_farness(ranked, whole, level, share) for level in levels]

    def statistic(rates: Rates) -> Float64:
        points = []
        for level in levels:
            farness = chosen_farness(ranked, rates, level, share)
            # Without a threshold nothing is accepted: the TPR is 0.
            points += [farness, 0.0 if np.isnan(farness) else ranked.accepted(rates, farness)[0]]
        at_recall = np.minimum(np.searchsorted(rates.tpr_U, recall_grid - 1e-12), len(rates.tpr_U) - 1)
        at_fpr = np.searchsorted(rates.fpr_U, fpr_grid + 1e-12, side="right")
        return np.concatenate(
            [
                [rates.average_precision(share), rates.equal_error_rate()],
                rates.precision(share)[at_recall],
                np.concatenate([[0.0], rates.tpr_U])[at_fpr],
                points,
            ]
        )

    found_BK = class_bootstrap(ranked, statistic, num_resamples=num_resamples, seed=seed)
    intervals = [percentile_interval(values_B) for values_B in found_BK.T]
    told_F = np.array([not reason for _, reason in scores.closest_negatives(FPR_GRID)])
    ends_K2 = np.array([(np.nan, np.nan) if interval is None else interval for interval in intervals])
    first_fpr = 2 + len(recall_grid)
    first_point = first_fpr + len(fpr_grid)
    noise = PairNoise(ranked)

    def around(value: float, k: int) -> Interval | None:
        """Return the interval of a mean whose variance is that of the resamples."""
        return None if intervals[k] is None else noise.interval(value, float(np.nanvar(found_BK[:, k], ddof=1)))

    elsewhere = cross_fitted(ranked, noise, levels, share, seed=seed)

    def point(i: int) -> OperatingPoint:
        (wanted, level), farness, at = levels[i], farness_L[i], first_point + 2 * i
        reason = too_few[level] if wanted == "false positive rate" else ""
        if np.isnan(farness) and not reason:
            reason = _no_threshold(wanted, level, float(whole.precision(share).max()))
        if reason:
            return OperatingPoint(wanted, level, reason=reason)
        tpr, fpr = ranked.accepted(whole, farness)
        safe = safe_farness(ranked, noise, whole, (wanted, level), share)
        return OperatingPoint(
            wanted=wanted,
            level=level,
            threshold=scores.in_units(-farness),
            threshold_interval=_in_units(intervals[at], scores),
            tpr=tpr,
            tpr_interval=around(tpr, at + 1),
            fpr=fpr,
            precision=np.nan if not tpr and not fpr else share * tpr / (share * tpr + (1 - share) * fpr),
            reached_interval=joined_ends(
                reached_ends(elsewhere[i], wanted, share),
                reached_ends(shares_at(ranked, noise, farness), wanted, share),
            ),
            safe_threshold=None if safe is None else scores.in_units(-safe[0]),
            safe_tpr=None if safe is None else safe[1].tpr,
        )

    return PairIntervals(
        average_precision=around(whole.average_precision(share), 0),
        auc=noise.auc(),
        equal_error_rate=around(whole.equal_error_rate(), 1),
        operating_points=tuple(map(point, range(len(levels)))),
        bands=Bands(
            recall=recall_grid,
            precision_low=ends_K2[2:first_fpr, 0],
            precision_high=ends_K2[2:first_fpr, 1],
            fpr=fpr_grid,
            tpr_low=np.where(told_F, ends_K2[first_fpr:first_point, 0], np.nan),
            tpr_high=np.where(told_F, ends_K2[first_fpr:first_point, 1], np.nan),
        ),
        num_resamples=len(found_BK),
    )


def _no_threshold(wanted: Wanted, level: float, best_precision: float) -> str:
    if wanted == "precision":
        return f"no threshold has a precision of {level:g}; the best has {best_precision:.3g}"
    return f"even the closest pair, with those tied with it, makes a false positive rate above {level:g}"


def _in_units(interval: Interval | None, scores: PairScores) -> Interval | None:
    if interval is None:
        return None
    low, high = sorted(scores.in_units(-end) for end in interval)
    return low, high


def _pair(interval: Interval | None) -> list[float] | None:
    return None if interval is None else list(interval)
