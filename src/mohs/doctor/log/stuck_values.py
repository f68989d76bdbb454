"""What a network pays that says the same of everything: the values at which a loss gets stuck."""

import math
from dataclasses import dataclass
from typing import Final, final

from mohs.errors import InputError

__all__ = ["LOSS_NAMES", "LossFacts", "StuckValue", "stuck_values"]

LOSS_NAMES: Final = ("triplet", "soft-triplet", "contrastive", "infonce", "cross-entropy")
"""Losses whose stuck values are known; "cross-entropy" is the binary one, on pairs."""

_HALF_SAME = 0.5


@final
@dataclass(frozen=True)
class LossFacts:
    """What is known of a loss: its name (one of `LOSS_NAMES`), margin, and pairs or triplets in a batch; None: unknown.

    Raises `InputError` for a name that is not known, a margin that is not above 0 or a batch below 2.
    """

    name: str | None = None
    margin: float | None = None
    batch: int | None = None

    def __post_init__(self) -> None:
        problems = []
        if self.name is not None and self.name not in LOSS_NAMES:
            problems.append(f"loss_name: {self.name!r} is not one of {', '.join(LOSS_NAMES)}; leave it out for others")
        if self.margin is not None and not (math.isfinite(self.margin) and self.margin > 0):
            problems.append(f"margin: {self.margin!r} is not above 0; give the margin of the loss")
        if self.batch is not None and self.batch < 2:
            problems.append(f"batch: {self.batch!r} is below 2; give the pairs or triplets in a batch")
        if problems:
            raise InputError(*problems)


@final
@dataclass(frozen=True)
class StuckValue:
    """A value of a loss that teaches nothing, and what the network then says, as in "every distance is 0"."""

    value: float
    says: str
    saturated: bool = False
    """Whether it takes a sigmoid on the distance."""
    one_point: bool = False
    """Whether embeddings at one point are why, if something is wrong: of a triplet loss and of InfoNCE."""


def stuck_values(loss: LossFacts) -> tuple[StuckValue, ...]:
    """Return the values at which a loss rests when all answers are the same, likeliest first.

    - triplet: margin (d_ap = d_an); soft margin: ln 2.
    - contrastive y·d² + (1 − y)·max(0, m − d)², half of the pairs y = 1: d = 0 costs m²/2, and m²/4 with the ½ of
      Hadsell et al. (2006). On σ(d), d = 0 gives σ = ½, which costs ¼·½ + max(0, m − ½)²·½; large d gives σ = 1,
      which costs ½ + max(0, m − 1)²/2.
    - InfoNCE over a batch of B pairs: ln B (each positive among B), ln(2B − 1) (all other pictures).
    - binary cross-entropy: ln 2.

    An unknown loss gets those of all; an unknown margin counts as 1 for contrastive and as 0.2, 0.3, 0.5 and 1 for
    triplets.

    >>> [value.value for value in stuck_values(LossFacts("triplet", margin=0.2))]
    [0.2]
    >>> [value.value for value in stuck_values(LossFacts("contrastive"))]
    [0.5, 0.25, 0.25, 0.5]
    """
    names = LOSS_NAMES if loss.name is None else (loss.name,)
    found: list[StuckValue] = []
    if "contrastive" in names:
        m = 1.0 if loss.margin is None else loss.margin
        found += [
            StuckValue(m**2 / 2, "every distance is 0"),
            StuckValue(m**2 / 4, "every distance is 0 (a loss with a factor of 1/2)"),
            StuckValue(
                _HALF_SAME * 0.25 + (1 - _HALF_SAME) * max(0.0, m - 0.5) ** 2,
                "every output is 0.5, the sigmoid of the distance 0",
                saturated=True,
            ),
            StuckValue(
                _HALF_SAME + (1 - _HALF_SAME) * max(0.0, m - 1.0) ** 2,
                "every output is 1, the sigmoid of a large distance, where it has no slope",
                saturated=True,
            ),
        ]
    if "triplet" in names:
        margins = (0.2, 0.3, 0.5, 1.0) if loss.margin is None else (loss.margin,)
        found += [
            StuckValue(m, f"positive and negative are equally far (triplet loss, margin {m:g})", one_point=True)
            for m in margins
        ]
    if "soft-triplet" in names:
        found.append(StuckValue(math.log(2), "positive and negative are equally far (soft margin)", one_point=True))
    if "cross-entropy" in names:
        found.append(StuckValue(math.log(2), "every pair has probability 0.5"))
    if "infonce" in names and loss.batch is not None:
        found += [
            StuckValue(math.log(num), f"each of {num} {kind} equally near", one_point=True)
            for num, kind in ((loss.batch, "candidates is"), (2 * loss.batch - 1, "other pictures is"))
        ]
    return tuple(found)
