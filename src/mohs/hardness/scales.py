"""What a hardness means for an anchor: a distance threshold or a rank among its negatives.

An anchor has M negatives at Euclidean distances d (float32, see `mohs.distances.exact_distance`); they are ordered by
(distance, item index). h = 1 is the hardest choice of every scale and h = 0 the easiest.

============  ======================================================================  ============================
scale         negative chosen                                                         achieved hardness
============  ======================================================================  ============================
`range`       nearest with d ≥ τ = dmax − h·(dmax − dmin)                             (dmax − d) / (dmax − dmin)
`rank`        0-based rank r = rint((1 − h)·(M − 1)), nearest first                   1 − r / (M − 1)
`log-rank`    0-based rank r = rint(M^(1 − h)) − 1                                    1 − ln(r + 1) / ln M
`margin`      nearest with d ≥ min(τ, dmax), key(τ) = key(d_ap) + (1 − h)·margin      1 − (key(d) − key(d_ap)) / margin
============  ======================================================================  ============================

rint rounds halves to even; key(d) is d, or d² for a loss on squared distances. Where no negative reaches τ, `margin`
takes the farthest: dmax is as near to what was asked as there is. Its achieved hardness is clipped to [0, 1].

Every scale is monotone: a lower hardness never chooses a nearer negative. Where dmax = dmin, or M = 1, every hardness
chooses the same negative, and on all scales but `margin` the hardness asked for counts as achieved.

A new scale that goes by ranks is a name in `Scale`, a record in `_RULES` and a row above: mining, the closed loop, the
settings and the command line ask the record.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, final, get_args

import numpy as np
from numpy.typing import NDArray

from mohs.checks import require, wrong_choice

__all__ = [
    "SCALES",
    "Scale",
    "ScaleRule",
    "achieved_by_distance",
    "achieved_by_margin",
    "achieved_by_rank",
    "margin_threshold",
    "range_threshold",
    "rank_of",
    "rule_of",
]

Scale: TypeAlias = Literal["range", "rank", "log-rank", "margin"]
SCALES: tuple[Scale, ...] = get_args(Scale)

_Float: TypeAlias = NDArray[np.float64]
_Index: TypeAlias = NDArray[np.int64]


def _goes_by_distance(*_: object) -> NDArray[np.float64]:
    raise TypeError("this scale has no ranks")


@final
@dataclass(frozen=True)
class ScaleRule:
    """What a scale is, for all who must tell scales apart.

    Attributes:
        needs: what says which negative is meant: its rank ("ranks"); the nearest and the farthest negative
            ("extremes": the one nearest beyond `range_threshold`); or the positive and the loss's margin ("margin": the
            one nearest beyond `margin_threshold`).
        exact_only: why no sample can stand for all negatives; "" where it can.
        least_hardness: of M negatives, the hardness that a closed loop does not go below (`mohs.training.closed_loop`).
        share_nearer: of a hardness and M, the share of negatives nearer than the one chosen; a half where the scale
            does not say.
        rank: of hardnesses and M, the 0-based ranks before they are whole numbers; for scales that need ranks.
        at_rank: of 0-based ranks and M ≥ 2, the hardnesses at which they lie; for scales that need ranks.
    """

    needs: Literal["ranks", "extremes", "margin"]
    exact_only: str = ""
    least_hardness: Callable[[int], float] = lambda _: 0.5
    share_nearer: Callable[[float, int], float] = lambda _, __: 0.5
    rank: Callable[[_Float, _Index], _Float] = _goes_by_distance
    at_rank: Callable[[_Index, _Index], _Float] = _goes_by_distance


_RULES: dict[Scale, ScaleRule] = {
    "range": ScaleRule("extremes", exact_only="range is exact only: sampling its extremes fails"),
    "rank": ScaleRule(
        "ranks",
        share_nearer=lambda h, _: 1.0 - h,
        rank=lambda h_T, m_T: np.rint((1.0 - h_T) * (m_T - 1)),
        at_rank=lambda r_T, m_T: 1.0 - r_T / (m_T - 1),
    ),
    "log-rank": ScaleRule(
        "ranks",
        # That of the median negative, as 1/2 is on the scale `rank`.
        least_hardness=lambda m: float(np.log(2) / np.log(max(m, 2))),
        share_nearer=lambda h, m: float(m ** (1.0 - h) / m),
        rank=lambda h_T, m_T: np.rint(m_T.astype(np.float64) ** (1.0 - h_T)) - 1,
        at_rank=lambda r_T, m_T: 1.0 - np.log(r_T + 1.0) / np.log(m_T),
    ),
    "margin": ScaleRule(
        "margin",
        exact_only="margin is exact only: the nearest negative beyond the positive is rarely in a sample",
        least_hardness=lambda _: 0.0,
    ),
}


def rule_of(scale: Scale) -> ScaleRule:
    """Return what a scale is; raise `InputError` for a name that is none.

    >>> [scale for scale in SCALES if rule_of(scale).needs == "ranks"]
    ['rank', 'log-rank']
    """
    require(wrong_choice("scale", scale, SCALES))
    return _RULES[scale]


def rank_of(scale: Scale, hardness_T: _Float, num_negatives_T: _Index) -> _Index:
    """Return the 0-based rank that `rank` or `log-rank` asks for among M negatives, int64[T] in [0, M − 1].

    >>> rank_of("rank", np.array([0.0, 0.5, 1.0]), np.array([5, 5, 5]))
    array([4, 2, 0])
    >>> rank_of("log-rank", np.array([0.0, 0.5, 1.0]), np.array([100, 100, 100]))
    array([99,  9,  0])
    """
    return _RULES[scale].rank(hardness_T, num_negatives_T).astype(np.int64)


def range_threshold(
    hardest_T: NDArray[np.float32], easiest_T: NDArray[np.float32], hardness_T: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return τ = dmax − h·(dmax − dmin), float64[T], from dmin and dmax.

    >>> range_threshold(np.float32([0.5]), np.float32([1.5]), np.array([0.75]))
    array([0.75])
    """
    dmin_T, dmax_T = hardest_T.astype(np.float64), easiest_T.astype(np.float64)
    return np.minimum(dmax_T - hardness_T * (dmax_T - dmin_T), dmax_T)


def margin_threshold(
    positive_distance_T: NDArray[np.float32], hardness_T: NDArray[np.float64], margin: float, squared: bool
) -> NDArray[np.float32]:
    """Return the smallest float32 d with key(d) ≥ key(d_ap) + (1 − h)·margin, float32[T].

    >>> margin_threshold(np.float32([0.5]), np.array([0.5]), 0.5, False)
    array([0.75], dtype=float32)
    """
    positive_T = positive_distance_T.astype(np.float64)
    offset_T = (1.0 - hardness_T) * margin
    if not squared:
        return _ceil_float32(positive_T + offset_T)
    key_T = positive_T * positive_T + offset_T
    threshold_T = np.sqrt(key_T).astype(np.float32)
    # The square of a float32 is exact in float64, so a step or two decides.
    for _ in range(2):
        below_T = np.nextafter(threshold_T, np.float32(0.0))
        threshold_T = np.where(below_T.astype(np.float64) ** 2 >= key_T, below_T, threshold_T)
    for _ in range(2):
        above_T = np.nextafter(threshold_T, np.float32(np.inf))
        threshold_T = np.where(threshold_T.astype(np.float64) ** 2 >= key_T, threshold_T, above_T)
    return threshold_T


def achieved_by_rank(scale: Scale, rank_T: _Index, num_negatives_T: _Index, hardness_T: _Float) -> _Float:
    """Return the hardness at which `rank_T` lies on the scale `rank` or `log-rank`, float64[T] in [0, 1].

    Where there is one negative, the hardness asked for counts as achieved.
    """
    only_T = num_negatives_T == 1
    return np.where(only_T, hardness_T, _RULES[scale].at_rank(rank_T, np.where(only_T, 2, num_negatives_T)))


def achieved_by_distance(
    distance_T: NDArray[np.float32],
    easiest_T: NDArray[np.float32],
    hardest_T: NDArray[np.float32],
    hardness_T: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return (dmax − d) / (dmax − dmin), or the hardness asked for where dmax = dmin, float64[T] in [0, 1]."""
    d, dmax, dmin = (x.astype(np.float64) for x in (distance_T, easiest_T, hardest_T))
    same = dmax == dmin
    return np.where(same, hardness_T, (dmax - d) / np.where(same, 1.0, dmax - dmin))


def achieved_by_margin(
    distance_T: NDArray[np.float32], positive_distance_T: NDArray[np.float32], margin: float, squared: bool
) -> NDArray[np.float64]:
    """Return 1 − (key(d_an) − key(d_ap)) / margin, clipped to [0, 1], float64[T]."""
    key_T, positive_key_T = distance_T.astype(np.float64), positive_distance_T.astype(np.float64)
    if squared:
        key_T, positive_key_T = key_T**2, positive_key_T**2
    return np.clip(1.0 - (key_T - positive_key_T) / margin, 0.0, 1.0)


def _ceil_float32(value_T: NDArray[np.float64]) -> NDArray[np.float32]:
    rounded_T = value_T.astype(np.float32)
    return np.where(rounded_T >= value_T, rounded_T, np.nextafter(rounded_T, np.float32(np.inf)))
