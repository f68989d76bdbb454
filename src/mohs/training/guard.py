"""The collapse guard: sees a run die while it can still be saved.

A network under triplets it cannot solve takes the one way out that always works: it maps every picture to one point.
The loss then sits at the margin (ln 2 for the soft margin), gradients vanish, and nothing in a falling loss curve
tells. What does tell, in the order in which it is seen:

=================  ====================================================  ===================================
signal             warning                                               collapse
=================  ====================================================  ===================================
spread of batches  mean of the last steps < 1/2 of the largest such mean  < 1/5 of it, or also < 0.02
spread of a bank   < 1/2 of the largest so far                           < 1/5 of it, or also < 0.02
effective rank     < 3 where recall < 4/5 of the best so far; < 1/8 of   < 2 where recall < 4/5 of the best
                   the largest so far where 1 standard error of it is    by 1 standard error
                   lost; < 2 where any of it is
recall of a bank   < 4/5 of the best so far, by 1 standard error         < 1/2 by 3, or warned twice
loss               within 2% of the collapsed loss at a spread < 1/2     none: it tells of a stall
=================  ====================================================  ===================================

Spread is √(Σ variance), 1 for unit vectors spread evenly, 0 at a point (`mohs.evaluation.collapse`). It is blind to the
other way out, a line: a rate that is too high lets one direction swallow all others, and the spread even grows. Then
the effective rank (`mohs.evaluation.collapse`) nears 1. Two classes may lie on a line and be told apart, and a healthy
network that began without batch norm may have no more than 3 to 6 directions; so the bound is where a line begins, and
it counts only where recall is lost: much of it, or a little where nearly all directions or all but one are gone, for
R@1 of a few hundred classes is noisy and may be lost before it shows. Recall is R@1 of training classes in the bank:
unlike the loss it cannot be lowered by shrinking. It depends on how many classes there are to confuse, so a bank with
less than 9/10 of the most queries so far is not judged by it, and a fall in banks of under 100 is chance. A healthy
network, too, may lose recall in its first steps, when much is rearranged, but not for two banks in a row ("twice"). A
loss at its collapsed value is seen in runs that get better, too, where negatives are hard and the margin small: alone
it calls for no action. "The last steps" are an exponential mean over 10 steps, begun after as many. NaN and Inf end a
run with or without a guard.
"""

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from mohs.evaluation.collapse import at_one_point
from mohs.randomness import generator
from mohs.training.kept_apart import pairs_between

__all__ = ["BankHealth", "CollapseGuard", "StepHealth", "Verdict", "bank_recall"]

_STEPS = 10
_KEPT_SPREAD, _WARN_SPREAD = 0.8, 0.5
_WARN_RECALL, _DEAD_RECALL = 0.8, 0.5
_WARN_RANK, _DEAD_RANK = 3.0, 2.0
_KEPT_RANK = 0.125
_SAME_QUERIES, _FEWEST_QUERIES = 0.9, 100
_NEAR_LOSS = 0.02
_MAX_QUERIES = 1024
_GRACE_STEPS = 30


@final
@dataclass(frozen=True)
class StepHealth:
    """What a step shows. `collapsed_loss` is the loss of a network that maps everything to one point, if it has one."""

    loss: float
    collapsed_loss: float | None
    spread: float
    active_fraction: float
    gradient_norm: float
    positive_distance: float
    negative_distance: float | None


@final
@dataclass(frozen=True)
class BankHealth:
    """What a bank shows. `recall` is the R@1 of `num_queries` training pictures; None where no class has two."""

    spread: float
    effective_rank: float
    recall: float | None
    num_queries: int


@final
@dataclass(frozen=True)
class Verdict:
    """A warning or a collapse: the signal, a sentence, and the numbers behind it."""

    level: Literal["warning", "collapse"]
    signal: Literal["batch spread", "bank spread", "effective rank", "recall", "loss"]
    cause: str
    numbers: dict[str, float]


@final
@dataclass(eq=False)
class CollapseGuard:
    """What the guard remembers. It judges; what is then done is the loop's business. The rules: see `guard.py`.

    A signal warns once, and is called a collapse once; again only after it has recovered or something was done.

    Attributes:
        bank_is_healthy: whether the last bank is one to go back to: it gave no sign of a collapse, warned of or not,
            its recall was within a standard error of the best, and it was the best where the effective rank was < 3.
            Without a recall: no sign, and a spread of 4/5 of the largest.

    The others are what a checkpoint keeps: means over the last steps, the best so far, and what has been told.

    >>> guard = CollapseGuard()
    >>> healthy = BankHealth(spread=0.9, effective_rank=40.0, recall=0.5, num_queries=1000)
    >>> guard.after_bank(healthy), guard.after_bank(BankHealth(0.05, 2.0, 0.45, 1000)).level
    (None, 'collapse')
    """

    bank_is_healthy: bool = True
    num_steps: int = 0
    mean_spread: float = 0.0
    mean_loss: float = 0.0
    largest_step_spread: float = 0.0
    largest_bank_spread: float = 0.0
    largest_rank: float = 0.0
    best_recall: float = 0.0
    most_queries: int = 0
    num_low: int = 0
    num_near: int = 0
    grace: int = 0
    told: set[str] = field(default_factory=set)

    def after_step(self, step: StepHealth) -> Verdict | None:
        """Return a verdict on a step, if there is one."""
        self.num_steps += 1
        weight = 1.0 / min(self.num_steps, _STEPS)
        self.mean_spread += weight * (step.spread - self.mean_spread)
        self.mean_loss += weight * (step.loss - self.mean_loss)
        self.grace = max(0, self.grace - 1)
        if self.num_steps < _STEPS or self.grace:
            return None
        self.largest_step_spread = max(self.largest_step_spread, self.mean_spread)
        found = [self._spread("batch spread", self.mean_spread, self.largest_step_spread, asdict(step))]
        near = (
            step.collapsed_loss is not None
            and abs(self.mean_loss - step.collapsed_loss) <= _NEAR_LOSS * step.collapsed_loss
            and self.mean_spread < _WARN_SPREAD
        )
        self.num_near = self.num_near + 1 if near else 0
        if near and self.num_near >= _STEPS:
            cause = (
                f"the loss has stayed at {self.mean_loss:.4g}, what it is when every embedding is the same "
                f"({step.collapsed_loss:.4g}), with a spread of {self.mean_spread:.3g} (1 is full, 0 a point)"
            )
            found.append(Verdict("warning", "loss", cause, _numbers(asdict(step))))
        elif not near:
            self._recovered("loss")
        return self._worst(found)

    def after_bank(self, bank: BankHealth) -> Verdict | None:
        """Return a verdict on a bank, if there is one."""
        self.largest_bank_spread = max(self.largest_bank_spread, bank.spread)
        found = [self._spread("bank spread", bank.spread, self.largest_bank_spread, asdict(bank))]
        self.most_queries = max(self.most_queries, bank.num_queries)
        kept = bank.spread >= _KEPT_SPREAD * self.largest_bank_spread
        if bank.recall is not None and bank.num_queries >= _SAME_QUERIES * self.most_queries:
            self.best_recall = max(self.best_recall, bank.recall)
            self.largest_rank = max(self.largest_rank, bank.effective_rank)
            found += [self._rank(bank, bank.recall), self._recall(bank, bank.recall)]
            slack = self._error(bank.num_queries) if bank.effective_rank >= _WARN_RANK else 0.0
            kept = bank.recall >= self.best_recall - slack
        self.bank_is_healthy = kept and not any(found)
        return None if self.grace else self._worst(found)

    def acted(self) -> None:
        """Look away for 30 steps, so that what was done can show, and begin the means anew."""
        self.grace = _GRACE_STEPS
        self.num_steps = self.num_near = self.num_low = 0
        self.mean_spread = self.mean_loss = 0.0
        self.told.clear()

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, as JSON."""
        return {**asdict(self), "told": sorted(self.told)}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        for name, value in {**state, "told": set(state["told"])}.items():
            setattr(self, name, value)

    def _spread(
        self, signal: Literal["batch spread", "bank spread"], value: float, largest: float, numbers: dict[str, Any]
    ) -> Verdict | None:
        if value >= _WARN_SPREAD * largest:  # a network that begins near a point has not fallen there
            self._recovered(signal)
            return None
        level: Literal["warning", "collapse"] = "collapse" if at_one_point(value, largest=largest) else "warning"
        what = "batches" if signal == "batch spread" else "the bank"
        cause = f"the spread of {what} fell from {largest:.3g} to {value:.3g} (1 is full, 0 a point)"
        return Verdict(level, signal, cause, _numbers({**numbers, "mean_spread": value, "largest_spread": largest}))

    def _rank(self, bank: BankHealth, recall: float) -> Verdict | None:
        least, error = _WARN_RECALL * self.best_recall, self._error(bank.num_queries)
        few = bank.effective_rank < _WARN_RANK and recall < least
        fallen = bank.effective_rank < _KEPT_RANK * self.largest_rank and recall < self.best_recall - error
        line = bank.effective_rank < _DEAD_RANK and recall < self.best_recall
        if not (few or fallen or line):
            self._recovered("effective rank")
            return None
        cause = (
            f"the effective rank of the bank is {bank.effective_rank:.1f} (1 is a line), and R@1 of training pictures "
            f"fell from {self.best_recall:.3f} to {recall:.3f} ({bank.num_queries:,} queries)"
        )
        dead = bank.effective_rank < _DEAD_RANK and recall < least - error
        level: Literal["warning", "collapse"] = "collapse" if dead else "warning"
        return Verdict(level, "effective rank", cause, _numbers({**asdict(bank), "best_recall": self.best_recall}))

    def _error(self, num: int) -> float:
        """Return the standard error of the best recall over so many queries."""
        return math.sqrt(max(self.best_recall * (1.0 - self.best_recall), 1.0 / num) / num)

    def _recall(self, bank: BankHealth, recall: float) -> Verdict | None:
        best, num, error = self.best_recall, bank.num_queries, self._error(bank.num_queries)
        if recall >= _WARN_RECALL * best - error or num < _FEWEST_QUERIES:
            self.num_low = 0
            self._recovered("recall")
            return None
        self.num_low += 1
        dead = recall < _DEAD_RECALL * best - 3.0 * error or self.num_low > 1
        level: Literal["warning", "collapse"] = "collapse" if dead else "warning"
        cause = f"R@1 of training pictures in the bank fell from {best:.3f} to {recall:.3f} ({num:,} queries)"
        return Verdict(level, "recall", cause, _numbers({**asdict(bank), "best_recall": best}))

    def _worst(self, found: list[Verdict | None]) -> Verdict | None:
        """Return the first collapse, else the first warning, that has not been told yet."""
        verdicts = sorted((verdict for verdict in found if verdict is not None), key=lambda v: v.level != "collapse")
        new = [verdict for verdict in verdicts if f"{verdict.level}: {verdict.signal}" not in self.told]
        for verdict in verdicts:
            self.told |= {f"{level}: {verdict.signal}" for level in {"warning", verdict.level}}
        return new[0] if new else None

    def _recovered(self, signal: str) -> None:
        self.told -= {f"{level}: {signal}" for level in ("warning", "collapse")}


def bank_recall(
    bank_ND: NDArray[np.float32],
    class_N: NDArray[np.int64],
    *,
    seed: int,
    apart_P2: NDArray[np.int64] | None = None,
) -> tuple[float | None, int]:
    """Return R@1 in a part of a bank, and the number of queries: up to 1,024 classes of two items or more.

    Of each such class, drawn by `seed`, one item is the query and another its match; the gallery is all these items.
    The nearest other item must be of the query's class; ties count against it. Items that `apart_P2` keeps apart from
    a query (`mohs.training.kept_apart.pairs_between`) are not in its gallery. None and 0 if no class has two items.

    >>> bank_recall(np.float32([[0], [0.1], [5], [5.1]]), np.array([0, 0, 1, 1]), seed=0)
    (1.0, 2)
    """
    draw = generator(seed, "bank recall")
    order = draw.permutation(len(class_N))
    order = order[np.argsort(class_N[order], kind="stable")]
    sorted_class = class_N[order]
    first = np.flatnonzero(np.r_[True, sorted_class[1:] != sorted_class[:-1]])
    paired = first[np.diff(np.r_[first, len(order)]) >= 2]
    if not paired.size:
        return None, 0
    paired = draw.permutation(paired)[:_MAX_QUERIES]
    query_QD, match_QD = bank_ND[order[paired]], bank_ND[order[paired + 1]]
    gallery_GD = np.concatenate([query_QD, match_QD])
    num = len(paired)
    half_norm_G = np.einsum("gd,gd->g", gallery_GD, gallery_GD) / 2
    key_QG = half_norm_G - query_QD @ gallery_GD.T
    here = np.arange(num)
    match_Q = key_QG[here, num + here]
    key_QG[here, here] = key_QG[here, num + here] = np.inf
    if apart_P2 is not None and len(apart_P2):
        gallery = np.concatenate([order[paired], order[paired + 1]])
        key_QG[pairs_between(apart_P2, order[paired], gallery)] = np.inf
    # Products round: within a few last digits counts as a tie.
    slack_Q = 1e-6 * (half_norm_G[:num] + np.abs(match_Q))
    return float((match_Q + slack_Q < key_QG.min(axis=1)).mean()), num


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if value is not None}
