"""The closed loop: hardness that keeps triplets active, and gives way when the embedding shrinks.

A curve over time cannot know how far a network has come: at one learning rate hardness 0.8 is what it can learn from,
at another it is what collapses it. The loop asks the bank instead. Before a segment, some anchors are mined at several
hardnesses; their gaps

    g = (key(d_ap) − key(d_an)) / spread^p,  key(d) = d^p,  p = 2 if the loss is squared, else 1

say how far triplets of hardness h are from being active today, in units that do not change when the embedding grows or
shrinks. A triplet is active where g > −q, with q the margin in these units. It cannot be computed, because training
sees other embeddings than the bank: augmented pictures, batch norm over a batch, weights that move. So it is observed:
after a segment of which the share a was active, q° is the value that explains it, and

    q ← q + gain·(q° − q)                                                 after a segment
    h1 = largest h in [h0, cap] of which a share ≤ target has g > −q       before the next
    h2 = largest h in [h0, cap] of which a share ≤ target/2 has g > 0
    h  = h0 + s·(max(h1, h2) − h0),  s = clip((spread / largest spread − 1/2) / 0.3, 0, 1)

h2 is for the start, and for margins that are large beside the spread. There every triplet is active at every hardness,
so that activity asks for the easiest; what still tells hardnesses apart is how many triplets are violated, the negative
nearer than the positive, and that does not depend on the margin. Easy negatives alone differ from the anchor in the
few directions of largest variance: a network trained on them stretches these and lies on a line before the first
segment has ended. Negatives about as near as the positive differ in the others. Yet as long as most triplets are
not violated, pushes outweigh pulls, and the bank does not shrink.

So `target_active` is the share that h1 aims for, not one that is held: h2 and h0 are lower bounds of the hardness, and
where they decide, more triplets are active. Targets of 0.2, 0.5 and 0.8 ended at 0.45, 0.68 and 0.80: low ones are not
reached, because that many triplets are active with negatives as easy as the bounds allow.

s is the back-off: full hardness while the bank keeps 80% of the largest spread it had, hardness h0 once half of it is
gone. h0 asks for the median negative on the scales of ranks (1/2, and ln 2 / ln M for M negatives), 1/2 on `range` and
0 on `margin`: easier than that, all anchors get the same few outliers for negatives, which teach nothing but to move
those. Until a segment has been observed, h1 is h0, and q the loss's own margin (0 for a loss without).

Why it is stable: h enters through the measured distribution of gaps, which contains scale, network and data, so the
only quantity that is integrated is q, and the error in q shrinks by the factor 1 − gain in each segment, whatever the
learning rate, the margin, the batch or the network; they change q itself, which is why it is followed and not set.
With the default gain of 1 the last segment decides alone; what is observed is a mean over all its steps, so its noise
is small.
"""

from dataclasses import asdict, dataclass
from typing import Any, Protocol, final

import numpy as np
from numpy.typing import NDArray

from mohs.hardness.scales import Scale, rule_of
from mohs.mining import mine
from mohs.peers import ALONE, Peers
from mohs.plan import TripletPlan
from mohs.randomness import generator
from mohs.settings.config import HardnessConfig, RunConfig

__all__ = ["Control", "HardnessController", "MeasureGaps", "SegmentBank", "measure_gaps"]

_SAMPLE = 512
_SHARED_ROWS = 64
"""Fewer are mined by each process: to tell the others would take longer."""
_GRID = 17
_FULL_SPREAD, _NO_SPREAD = 0.8, 0.5
_LEAST_SHARE = 0.01
"""Shares nearer than this to 0 or 1 are taken as this: they say on which side q lies, not where."""


@final
@dataclass(frozen=True)
class Control:
    """One decision of the loop: the hardness of a segment, and the numbers that led to it.

    `gap_quantiles` are 101 quantiles of g at this hardness, 0% to 100%: what the segment's activity is explained by.
    """

    hardness: float
    predicted_active: float
    relative_margin: float
    back_off: float
    gap_quantiles: tuple[float, ...]

    def as_record(self) -> dict[str, float]:
        """Return the numbers by name, without the quantiles."""
        return {name: value for name, value in asdict(self).items() if name != "gap_quantiles"}


class MeasureGaps(Protocol):
    """Give the gaps g of sample triplets mined at each hardness."""

    def __call__(self, hardness_G: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return float64[G, S]."""
        ...


@final
class HardnessController:
    """The state of the loop: q and the largest spread. The rule: see `closed_loop.py`.

    >>> loop = HardnessController(HardnessConfig(curve="closed-loop", scale="margin", cap=1.0), margin=0.0)
    >>> def gaps(hardness_G):  # at hardness h, gaps are spread evenly over h − 1 … h
    ...     return hardness_G[:, None] - np.linspace(0, 1, 101)
    >>> control = loop.next_hardness(gaps, spread=1.0, num_negatives=100)
    >>> round(control.hardness, 2)  # a quarter is above 0
    0.25
    >>> loop.observe(0.3, control)  # of gaps from −0.75 to 0.25, this share was active: those above −0.05
    >>> control = loop.next_hardness(gaps, spread=1.0, num_negatives=100)
    >>> round(control.hardness, 2)  # half are where gaps go from −0.55 to 0.45
    0.45
    """

    def __init__(self, config: HardnessConfig, *, margin: float) -> None:
        cap = config.resolved(in_batch=False).cap
        assert cap is not None
        self._config, self._cap = config, cap
        self._relative_margin = margin
        self._largest_spread = 0.0
        self._has_observed = False

    def next_hardness(self, measure: MeasureGaps, *, spread: float, num_negatives: int, factor: float = 1.0) -> Control:
        """Return the hardness of the next segment.

        `spread` is that of its bank, `num_negatives` about how many negatives an anchor has, and `factor` the share
        of h − h0 that the guard has left.
        """
        least = min(rule_of(self._config.scale).least_hardness(num_negatives), self._cap)
        hardness_G = np.linspace(least, self._cap, _GRID)
        gap_GS = measure(hardness_G)
        # Harder negatives are nearer, so the share can only rise; what falls is noise of the sample.
        active_G = np.maximum.accumulate((gap_GS > -self._relative_margin).mean(axis=1))
        self._largest_spread = max(self._largest_spread, spread)
        kept = spread / self._largest_spread if self._largest_spread > 0 else 0.0
        back_off = float(np.clip((kept - _NO_SPREAD) / (_FULL_SPREAD - _NO_SPREAD), 0.0, 1.0))
        violated_G = np.maximum.accumulate((gap_GS > 0).mean(axis=1))
        wanted = _largest_below(hardness_G, violated_G, self._config.target_active / 2)
        if self._has_observed:
            wanted = max(wanted, _largest_below(hardness_G, active_G, self._config.target_active))
        # Rounding must not carry it over the cap.
        hardness = min(least + (wanted - least) * back_off * factor, self._cap)
        quantile_GU = np.quantile(gap_GS, np.linspace(0.0, 1.0, 101), axis=1).T
        quantiles = tuple(float(np.interp(hardness, hardness_G, column)) for column in quantile_GU.T)
        predicted = float(np.interp(hardness, hardness_G, active_G))
        return Control(hardness, predicted, self._relative_margin, back_off, quantiles)

    def observe(self, active_fraction: float, control: Control) -> None:
        """Take note of the share that was active over the segment that `control` decided, in [0, 1]."""
        share = float(np.clip(active_fraction, _LEAST_SHARE, 1.0 - _LEAST_SHARE))
        quantiles = control.gap_quantiles
        explained = -float(np.interp(1.0 - share, np.linspace(0.0, 1.0, len(quantiles)), quantiles))
        self._relative_margin += self._config.gain * (explained - self._relative_margin)
        self._has_observed = True

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, as JSON."""
        return {
            "relative_margin": self._relative_margin,
            "largest_spread": self._largest_spread,
            "has_observed": self._has_observed,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        self._relative_margin = float(state["relative_margin"])
        self._largest_spread = float(state["largest_spread"])
        self._has_observed = bool(state["has_observed"])


@final
@dataclass(frozen=True, eq=False)
class SegmentBank:
    """What the K triplets of a segment are mined from: M embedded items, and who may be whose negative.

    Attributes:
        x_MD, class_M: the items' embeddings and class numbers.
        anchor_K, positive_K: places in the bank.
        origin_K: where positives come from; None: all are items.
        candidates: places of those that may be negatives; None: all may.
        excluded_P2: pairs of places that are never anchor and negative.
        peers: processes with this very bank, which mine together; each has all that is found.
    """

    x_MD: NDArray[np.float32]
    class_M: NDArray[np.int64]
    anchor_K: NDArray[np.int64]
    positive_K: NDArray[np.int64]
    origin_K: NDArray[np.uint8] | None = None
    candidates: NDArray[np.int64] | None = None
    excluded_P2: NDArray[np.int64] | None = None
    peers: Peers = ALONE

    def mine(
        self,
        rows: NDArray[np.int64],
        hardness_R: NDArray[np.float64],
        config: RunConfig,
        *,
        scale: Scale | None = None,
        num_negatives: int = 1,
    ) -> TripletPlan:
        """Return triplets of these rows of the segment at these hardnesses, on the settings' scale or another."""
        scale = config.hardness.scale if scale is None else scale
        by_margin = rule_of(scale).needs == "margin"
        own_by_margin = rule_of(config.hardness.scale).needs == "margin"
        return mine(
            self.x_MD,
            self.class_M,
            anchors_T=self.anchor_K[rows],
            positives_T=self.positive_K[rows],
            positive_origin_T=None if self.origin_K is None else self.origin_K[rows],
            hardness_T=hardness_R,
            scale=scale,
            num_negatives=num_negatives,
            candidates=self.candidates,
            excluded_pairs=self.excluded_P2,
            margin=config.loss.margin if by_margin else None,
            squared=config.loss.squared and by_margin and own_by_margin,
            seed=config.seed,
            peers=self.peers if len(rows) >= _SHARED_ROWS else ALONE,
        )


def measure_gaps(bank: SegmentBank, config: RunConfig, *, spread: float, step: int) -> MeasureGaps:
    """Return a measure of g by mining up to 512 of the anchors, drawn by (seed, step), at each hardness asked for.

    Pairs that are never anchor and negative do not count: `excluded_P2` are not mined, and a negative nearer than
    `negatives.min_distance_ratio` times the positive counts as one as far as the positive, beyond which its replacement
    lies. `spread` is that of the bank.
    """
    chosen = generator(config.seed, "hardness response", step).permutation(len(bank.anchor_K))[:_SAMPLE]
    power, ratio = 2 if config.loss.squared else 1, config.negatives.min_distance_ratio

    def measure(hardness_G: NDArray[np.float64]) -> NDArray[np.float64]:
        plan = bank.mine(np.tile(chosen, len(hardness_G)), np.repeat(hardness_G, len(chosen)), config)
        positive_T = plan.anchor_positive_distance
        near_T = plan.anchor_negative_distance < ratio * positive_T
        negative_T = np.where(near_T, positive_T, plan.anchor_negative_distance).astype(np.float64)
        gap_T = positive_T.astype(np.float64) ** power - negative_T**power
        return (gap_T / max(spread, 1e-12) ** power).reshape(len(hardness_G), -1)

    return measure


def _largest_below(x_G: NDArray[np.float64], y_G: NDArray[np.float64], wanted: float) -> float:
    """Return the largest x with y(x) ≤ wanted, y rising and linear between its points; the first if there is none."""
    if y_G[0] > wanted:
        return float(x_G[0])
    last = int(np.flatnonzero(y_G <= wanted)[-1])
    if last == len(x_G) - 1:
        return float(x_G[last])
    share = (wanted - y_G[last]) / (y_G[last + 1] - y_G[last])
    return float(x_G[last] + share * (x_G[last + 1] - x_G[last]))
