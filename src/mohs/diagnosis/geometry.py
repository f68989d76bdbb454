"""What distances a sphere has room for, whatever the network."""

import math

from mohs.errors import InputError

__all__ = ["reachable_distance"]


def reachable_distance(quantile: float, *, dim: int, num_classes: int, squared: bool = True) -> float:
    """Return how far a negative can be from its anchor on the unit sphere, if all classes are spread out well.

    Each class is one point (its pictures coincide). With C ≤ D + 1 classes in D dimensions all can be equally far from
    each other, d² = 2C/(C − 1), and with C ≤ 2D no nearer than d² = 2 (Rankin 1955). For more classes the points are
    taken to lie at random: the similarity s of two has (1 + s)/2 ~ Beta((D − 1)/2, (D − 1)/2), and `quantile` is the
    share of classes that are nearer than the negative: 0 is the nearest, 0.5 about a random one.

    Args:
        quantile: in [0, 1]; taken as 1/C at least.
        dim: D, 2 or more.
        num_classes: C, 2 or more.
        squared: d², else d.

    >>> round(reachable_distance(0.5, dim=128, num_classes=1000), 3)
    2.0
    >>> round(reachable_distance(0.0, dim=64, num_classes=1000), 2)  # the nearest of a thousand
    1.25
    """
    if not 0.0 <= quantile <= 1.0 or dim < 2 or num_classes < 2:
        raise InputError(
            f"quantile, dim, num_classes: {quantile}, {dim}, {num_classes}; need a share, and 2 or more of both others"
        )
    if num_classes <= dim + 1:
        square = 2 * num_classes / (num_classes - 1)
    elif num_classes <= 2 * dim:
        square = 2.0
    else:
        from scipy.special import betaincinv

        share = min(1.0, max(quantile, 1.0 / num_classes))
        # The distribution is symmetric: the share above s is that below −s.
        similarity = 1 - 2 * float(betaincinv((dim - 1) / 2, (dim - 1) / 2, share))
        square = 2 - 2 * similarity
    return square if squared else math.sqrt(square)
