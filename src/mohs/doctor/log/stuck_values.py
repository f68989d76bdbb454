"""What a network pays that says the same of everything: the values at which a loss gets stuck."""

from dataclasses import dataclass
from typing import Final, final

from mohs.checks import require, wrong_number, wrong_whole
from mohs.errors import Problem
from mohs.settings.loss_records import INFONCE, LOSSES, OF_PAIRS, SOFT_TRIPLET, TRIPLET, LossRecord, StuckValue

__all__ = ["LOSS_NAMES", "LossFacts", "stuck_values"]

_CONTRASTIVE, _CROSS_ENTROPY = OF_PAIRS
_USUAL = (TRIPLET, SOFT_TRIPLET, _CONTRASTIVE, INFONCE, _CROSS_ENTROPY)
# Supervised contrastive loss, for one, is InfoNCE in a log.
_MORE = tuple(r for r in LOSSES if r.log_name and r.log_name not in {usual.log_name for usual in _USUAL})
_RECORDS = (*_USUAL, *_MORE)
_LIKELIEST_FIRST = (_CONTRASTIVE, TRIPLET, SOFT_TRIPLET, _CROSS_ENTROPY, INFONCE, *_MORE)

LOSS_NAMES: Final = tuple(record.log_name or record.name for record in _RECORDS)
"""Losses whose stuck values are known; "cross-entropy" is the binary one, on pairs."""


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
        unknown = None
        if self.name is not None and self.name not in LOSS_NAMES:
            unknown = Problem(
                "loss_name", f"{self.name!r} is not one of {', '.join(LOSS_NAMES)}", "leave it out for others"
            )
        require(
            unknown,
            None if self.margin is None else wrong_number("margin", self.margin, above=0, example=0.2),
            None if self.batch is None else wrong_whole("batch", self.batch, at_least=2, example=96),
        )

    @property
    def record(self) -> LossRecord | None:
        """What is known of the loss of this name; None without a name."""
        return next((record for record in _RECORDS if record.log_name == self.name), None)


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
    records = _LIKELIEST_FIRST if loss.record is None else (loss.record,)
    return tuple(value for record in records for value in record.stuck_values(loss.margin, loss.batch))
