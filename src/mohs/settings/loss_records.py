"""Every loss that Mohs knows by name, one record each: whoever treats losses differently asks the record.

A new loss is a record here and a builder in `mohs.training.losses` (`plan_losses` or `in_batch`).
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal, final

__all__ = [
    "CONTRASTIVE",
    "INFONCE",
    "LOSSES",
    "OF_PAIRS",
    "SELECTIVE_TRIPLET",
    "SEMI_HARD",
    "SOFT_TRIPLET",
    "SUPCON",
    "TRIPLET",
    "LossRecord",
    "StuckValue",
    "find_record",
    "listed",
]

_HALF_SAME = 0.5


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


def _never_stuck(margin: float, batch: int | None) -> tuple[StuckValue, ...]:  # noqa: ARG001
    return ()


@final
@dataclass(frozen=True, eq=False)
class LossRecord:
    """What is known of a loss, whatever its settings; records are compared by identity.

    Attributes:
        name: in `loss.name`; of a loss of pytorch-metric-learning the name of its class.
        meaning: in a line.
        reads: the settings of `loss` that it reads, besides its name.
        negatives: who they are: "plan", the mined one of each triplet; "batch", all others that are shown; "classes",
            a parameter vector of each class; "pairs", a pair of two classes (losses of other libraries alone).
        of_triplets: whether a term compares one positive with one negative, so that harder negatives raise it.
        margin: "gap": d_an is to exceed d_ap by it; "reach": negatives are pushed apart up to it; None: there is none.
        usual_margins: those that are tried where a log does not tell its margin.
        stuck: the values at which it rests when all answers are the same, likeliest first, by margin and by pairs or
            triplets in a batch (None: unknown).
        extends_to_bank: whether its sum over negatives can take in those of a bank of the whole training set.
        library_class: its class of pytorch-metric-learning, where it is one of that library with another name.
        log_name: what the doctor calls it in the log of any library; None: its values in a log are not known.
        words: of which the names of its columns in logs are made.
    """

    name: str
    meaning: str
    reads: frozenset[str]
    negatives: Literal["plan", "batch", "classes", "pairs"]
    of_triplets: bool = False
    margin: Literal["gap", "reach"] | None = None
    usual_margins: tuple[float, ...] = ()
    stuck: Callable[[float, int | None], tuple[StuckValue, ...]] = _never_stuck
    extends_to_bank: bool = False
    library_class: str | None = None
    log_name: str | None = None
    words: tuple[str, ...] = ()

    @property
    def in_batch(self) -> bool:
        """Whether the plan's negatives are not shown, since the loss has others: of the batch, or of classes."""
        return self.negatives in ("batch", "classes")

    @property
    def pictures_per_triplet(self) -> int:
        """Pictures that one triplet of the plan shows to the network: 2 for in-batch losses, else 3."""
        return 2 if self.in_batch else 3

    @property
    def prefers_muon(self) -> bool:
        """Whether a new network learns better under it by muon than by adamw (docs/lab-book.md)."""
        return self.in_batch

    @property
    def is_hinge_of_triplets(self) -> bool:
        """Whether it is max(0, d_ap − d_an + margin) over the triplets of a plan: then a margin says what is active."""
        return self.of_triplets and self.margin == "gap" and not self.in_batch

    def stuck_values(self, margin: float | None, batch: int | None) -> tuple[StuckValue, ...]:
        """Return the values at which it rests when all answers are the same; of an unknown margin the usual ones'.

        >>> [value.value for value in TRIPLET.stuck_values(0.2, None)]
        [0.2]
        """
        margins = (self.usual_margins or (math.nan,)) if margin is None else (margin,)
        return tuple(value for one in margins for value in self.stuck(one, batch))

    def most_stuck(self, margin: float | None, batch: int | None) -> float | None:
        """Return what one answer for everything costs at most; None where margin or batch decide it and are unknown.

        >>> TRIPLET.most_stuck(None, None) is None, TRIPLET.most_stuck(0.5, None)
        (True, 0.5)
        """
        if margin is None and len(self.usual_margins) > 1:
            return None
        values = [value.value for value in self.stuck_values(margin, batch) if not value.saturated]
        return max(values, default=None)


def _triplet_stuck(margin: float, batch: int | None) -> tuple[StuckValue, ...]:  # noqa: ARG001
    says = f"positive and negative are equally far (triplet loss, margin {margin:g})"
    return (StuckValue(margin, says, one_point=True),)


def _soft_stuck(margin: float, batch: int | None) -> tuple[StuckValue, ...]:  # noqa: ARG001
    return (StuckValue(math.log(2), "positive and negative are equally far (soft margin)", one_point=True),)


def _infonce_stuck(margin: float, batch: int | None) -> tuple[StuckValue, ...]:  # noqa: ARG001
    # Each positive among B, or among all other pictures.
    nums = () if batch is None else ((batch, "candidates is"), (2 * batch - 1, "other pictures is"))
    return tuple(StuckValue(math.log(num), f"each of {num} {kind} equally near", one_point=True) for num, kind in nums)


def _pair_contrastive_stuck(margin: float, batch: int | None) -> tuple[StuckValue, ...]:  # noqa: ARG001
    """Return those of y·d² + (1 − y)·max(0, m − d)², half of the pairs y = 1, on distances and on their sigmoid."""
    other = 1 - _HALF_SAME
    return (
        StuckValue(margin**2 / 2, "every distance is 0"),
        StuckValue(margin**2 / 4, "every distance is 0 (a loss with a factor of 1/2)"),  # Hadsell et al. (2006)
        StuckValue(
            _HALF_SAME * 0.25 + other * max(0.0, margin - 0.5) ** 2,
            "every output is 0.5, the sigmoid of the distance 0",
            saturated=True,
        ),
        StuckValue(
            _HALF_SAME + other * max(0.0, margin - 1.0) ** 2,
            "every output is 1, the sigmoid of a large distance, where it has no slope",
            saturated=True,
        ),
    )


def _even_stuck(margin: float, batch: int | None) -> tuple[StuckValue, ...]:  # noqa: ARG001
    return (StuckValue(math.log(2), "every pair has probability 0.5"),)


_LIBRARY_READS = frozenset({"options", "miner", "miner_options", "learning_rate"})

TRIPLET: Final = LossRecord(
    name="triplet",
    meaning="max(0, d_ap − d_an + margin)",
    reads=frozenset({"margin", "squared", "swap"}),
    negatives="plan",
    of_triplets=True,
    margin="gap",
    usual_margins=(0.2, 0.3, 0.5, 1.0),
    stuck=_triplet_stuck,
    log_name="triplet",
    words=("triplet", "margin", "ranking"),
)
SOFT_TRIPLET: Final = LossRecord(
    name="soft-triplet",
    meaning="ln(1 + exp(d_ap − d_an))",
    reads=frozenset({"squared", "swap"}),
    negatives="plan",
    of_triplets=True,
    stuck=_soft_stuck,
    log_name="soft-triplet",
    words=("soft",),
)
SELECTIVE_TRIPLET: Final = LossRecord(
    name="selective-triplet",
    meaning="s_an of hard triplets, else −ln of the positive's share in a softmax",
    reads=frozenset({"temperature"}),
    negatives="plan",
    of_triplets=True,
)
CONTRASTIVE: Final = LossRecord(
    name="contrastive",
    meaning="d_ap² + max(0, margin − d_an)²",
    reads=frozenset({"margin"}),
    negatives="plan",
    margin="reach",
)
INFONCE: Final = LossRecord(
    name="infonce",
    meaning="−ln of the positive's share in a softmax over the batch",
    reads=frozenset({"temperature", "miner", "miner_options"}),
    negatives="batch",
    stuck=_infonce_stuck,
    extends_to_bank=True,
    log_name="infonce",
    words=("infonce", "info", "nce", "ntxent", "nt", "xent", "npair", "clip"),
)
# With one positive per anchor SupCon is InfoNCE; where a class is in a batch twice, its pictures are no negatives.
SUPCON: Final = replace(INFONCE, name="supcon", words=("supcon",))
SEMI_HARD: Final = LossRecord(
    name="semi-hard",
    meaning="the triplet loss on negatives of the batch that are farther than the positive, and within the margin",
    reads=frozenset({"margin", "squared"}),
    negatives="batch",
    of_triplets=True,
    margin="gap",
    words=("hard", "batch"),
)
_MULTI_SIMILARITY: Final = LossRecord(
    name="multi-similarity",
    meaning="pairs of the batch, weighed by how they lie to the others",
    reads=_LIBRARY_READS,
    negatives="batch",
    library_class="MultiSimilarityLoss",
    words=("ms", "multi", "similarity"),
)
_PROXY_ANCHOR: Final = LossRecord(
    name="proxy-anchor",
    meaning="a vector of each class, pulled and pushed by the pictures of the batch",
    reads=_LIBRARY_READS,
    negatives="classes",
    library_class="ProxyAnchorLoss",
    words=("proxy", "proxyanchor", "anchor"),
)
_ARCFACE: Final = LossRecord(
    name="arcface",
    meaning="cross-entropy over the classes, with an angle as margin",
    reads=_LIBRARY_READS,
    negatives="classes",
    library_class="ArcFaceLoss",
    words=("arcface", "arc", "face"),
)
_OF_THE_LIBRARY: Final = LossRecord(
    name="",
    meaning="a loss class of pytorch-metric-learning",
    reads=_LIBRARY_READS,
    negatives="batch",
)

LOSSES: Final = (
    TRIPLET, SOFT_TRIPLET, SELECTIVE_TRIPLET, CONTRASTIVE,
    INFONCE, SUPCON, SEMI_HARD, _MULTI_SIMILARITY, _PROXY_ANCHOR, _ARCFACE,
)  # fmt: skip
"""Those that `loss.name` may say, besides classes of pytorch-metric-learning."""

_PAIR_CONTRASTIVE: Final = LossRecord(
    name="contrastive",
    meaning="d² of pairs of one class, max(0, margin − d)² of pairs of two, half of each",
    reads=frozenset(),
    negatives="pairs",
    margin="reach",
    usual_margins=(1.0,),
    stuck=_pair_contrastive_stuck,
    log_name="contrastive",
    words=("contrastive", "siamese", "pair", "pairs"),
)
_CROSS_ENTROPY: Final = LossRecord(
    name="cross-entropy",
    meaning="binary cross-entropy on pairs",
    reads=frozenset(),
    negatives="pairs",
    stuck=_even_stuck,
    log_name="cross-entropy",
    words=("softmax", "ce", "bce", "cross", "entropy"),
)

OF_PAIRS: Final = (_PAIR_CONTRASTIVE, _CROSS_ENTROPY)
"""Losses of other libraries, which only the doctor meets: means over pairs and not over triplets."""


def find_record(name: str) -> LossRecord:
    """Return the record of the loss that `loss.name` says: of a class of the library, what is known of them all.

    >>> find_record("supcon").pictures_per_triplet, find_record("CircleLoss").in_batch
    (2, True)
    """
    known = next((record for record in LOSSES if record.name == name), None)
    return replace(_OF_THE_LIBRARY, name=name) if known is None else known


def listed(records: Iterable[LossRecord], *, last: Literal["and", "or"] = "and") -> str:
    """Return the names of losses as a sentence has them, with "and" or "or" before the last.

    >>> listed([TRIPLET, CONTRASTIVE, SEMI_HARD])
    'triplet, contrastive and semi-hard'
    """
    *names, name = [record.name for record in records]
    return f"{', '.join(names)} {last} {name}" if names else name
