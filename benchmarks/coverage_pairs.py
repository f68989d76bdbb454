"""How often intervals and thresholds of pairs hold on other classes: a simulation with a known truth.

    python benchmarks/coverage_pairs.py [--repeats 200] [--classes 40 100 200 500] [--before]

Classes are points of a normal distribution in 16 dimensions, with two pictures each around them, as far as the class is
wide; "unequal" classes differ in width. Then the share of pairs within any distance is a sum of χ² distributions, and
with it what any threshold reaches on all classes there are. Printed is, for each number of classes, how often the 95%
intervals hold the truth, how often the fitted and the safe threshold keep the wanted precision, and how often there is
a safe one. `--before` adds the intervals of the percentile bootstrap on the pairs that the threshold was chosen on.
"""

import argparse
from dataclasses import dataclass, field
from functools import cached_property
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import chi2

from mohs.errors import InputError
from mohs.evaluation.pair_noise import PairNoise
from mohs.evaluation.pair_scores import PairScores, pair_scores
from mohs.evaluation.ranked_pairs import Rates, class_bootstrap, percentile_interval, rank_pairs
from mohs.evaluation.thresholds import (
    Level,
    best_threshold,
    chosen_farness,
    cross_fitted,
    joined_ends,
    reached_ends,
    safe_farness,
    shares_at,
)


@final
@dataclass(frozen=True)
class Classes:
    """Classes around normal points: `width` of their pictures, times exp(unequal · normal)."""

    dim: int = 16
    width: float = 0.5
    unequal: float = 0.0

    @cached_property
    def rates(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Distances, and the shares of pairs of one class and of two that are within them."""
        distance = np.linspace(0.02, 4 * self.dim**0.5, 2000)
        parts = 15 if self.unequal else 1
        square = (self.width * np.exp(self.unequal * ndtri((np.arange(parts) + 0.5) / parts))) ** 2
        tpr = np.mean([chi2.cdf(distance**2 / (2 * s), self.dim) for s in square], axis=0)
        fpr = np.mean([chi2.cdf(distance**2 / (2 + s + t), self.dim) for s in square for t in square], axis=0)
        return distance, tpr, fpr

    def reached(self, threshold: float, level: Level, prevalence: float) -> float:
        """Return the precision or false positive rate of a threshold on all classes there are."""
        distance, tpr_T, fpr_T = self.rates
        tpr = float(np.interp(threshold, distance, tpr_T))
        fpr = float(np.exp(np.interp(threshold, distance, np.log(np.maximum(fpr_T, 1e-300)))))
        if level[0] == "false positive rate":
            return fpr
        return prevalence * tpr / (prevalence * tpr + (1 - prevalence) * fpr)

    def auc(self) -> float:
        """Return the area under the ROC curve over all classes there are."""
        _, tpr, fpr = self.rates
        return float(np.diff(tpr) @ (1 - (fpr[1:] + fpr[:-1]) / 2))

    def accuracy(self, threshold: float) -> float:
        """Return the accuracy of a threshold, at as many pairs of one class as of two."""
        distance, tpr, fpr = self.rates
        return float((1 + np.interp(threshold, distance, tpr) - np.interp(threshold, distance, fpr)) / 2)

    def pairs(self, num_classes: int, random: np.random.Generator) -> tuple[PairScores, NDArray[np.int64]]:
        """Return all pairs of two pictures of each of so many classes, with their classes, int64 [2, P]."""
        class_N = np.repeat(np.arange(num_classes), 2)
        width_C = self.width * np.exp(self.unequal * random.normal(size=num_classes))
        x_ND = random.normal(size=(num_classes, self.dim))[class_N]
        x_ND = x_ND + width_C[class_N, None] * random.normal(size=x_ND.shape)
        first, second = np.triu_indices(len(x_ND), 1)
        square_N = np.square(x_ND).sum(axis=1)
        square_P = square_N[first] + square_N[second] - 2 * (x_ND @ x_ND.T)[first, second]
        class_2P = np.stack([class_N[first], class_N[second]])
        return pair_scores(class_2P[0] == class_2P[1], distance_P=np.sqrt(np.maximum(square_P, 0))), class_2P


@final
@dataclass
class Coverage:
    """Counts over samples of classes; `told` are those with a threshold that keeps the level on the sample."""

    samples: int = 0
    told: int = 0
    reached: int = 0
    reached_before: int = 0
    kept: int = 0
    safe: int = 0
    safe_kept: int = 0
    auc: int = 0
    auc_before: int = 0
    accuracy: int = 0
    accuracy_before: int = 0
    safe_tpr: list[float] = field(default_factory=list)

    def row(self, name: str) -> str:
        """Return the shares as a row of a Markdown table."""
        safe_tpr = f"{np.mean(self.safe_tpr):.2f}" if self.safe_tpr else "-"
        cells = [
            f"{self.reached / self.told:.0%}",
            f"{self.kept / self.told:.0%}",
            f"{self.safe / self.samples:.0%}",
            f"{self.safe_kept / self.safe:.0%}" if self.safe else "-",
            safe_tpr,
            f"{self.auc / self.samples:.0%}",
            f"{self.accuracy / self.samples:.0%}",
            f"{self.reached_before / self.told:.0%}",
            f"{self.auc_before / self.samples:.0%}",
            f"{self.accuracy_before / self.samples:.0%}",
        ]
        return f"| {name} | " + " | ".join(cells) + " |"


HEADER = (
    "| classes | reached | fitted keeps | safe there is | safe keeps | its TPR | AUC | accuracy | reached, before "
    "| AUC, before | accuracy, before |\n" + "|---" * 11 + "|"
)


def simulate(
    classes: Classes,
    num_classes: int,
    level: Level,
    *,
    repeats: int,
    prevalence: float | None = None,
    seed: int = 0,
    before: bool = False,
) -> Coverage:
    """Return the counts of `repeats` samples of so many classes; the prevalence is that of all pairs by default."""
    share = 1 / (2 * num_classes - 1) if prevalence is None else prevalence
    random = np.random.default_rng(seed)
    count = Coverage()
    true_auc = classes.auc()
    for repeat in range(repeats):
        scores, class_2P = classes.pairs(num_classes, random)
        ranked = rank_pairs(scores, class_2P)
        noise, whole = PairNoise(ranked), ranked.rates()
        assert whole is not None
        count.samples += 1
        low, high = noise.auc()
        count.auc += low <= true_auc <= high
        try:
            best = best_threshold(scores, class_2P, seed=repeat)
        except InputError:
            best = None
        if best is not None:
            accuracy = classes.accuracy(best.threshold)
            count.accuracy += best.interval[0] <= accuracy <= best.interval[1]
            count.accuracy_before += abs(best.accuracy - accuracy) <= 1.96 * best.standard_error
        safe = safe_farness(ranked, noise, whole, level, share)
        if safe is not None:
            reached = classes.reached(safe[0], level, share)
            count.safe += 1
            count.safe_kept += reached >= level[1] if level[0] == "precision" else reached <= level[1]
            count.safe_tpr.append(safe[1].tpr)
        farness = chosen_farness(ranked, whole, level, share)
        if before:
            count_before(count, ranked, farness, classes, level, share, seed=repeat)
        if np.isnan(farness):
            continue
        reached = classes.reached(farness, level, share)
        count.told += 1
        count.kept += reached >= level[1] if level[0] == "precision" else reached <= level[1]
        [elsewhere] = cross_fitted(ranked, noise, [level], share, seed=repeat)
        ends = joined_ends(
            reached_ends(elsewhere, level[0], share), reached_ends(shares_at(ranked, noise, farness), level[0], share)
        )
        count.reached += ends is not None and ends[0] <= reached <= ends[1]
    return count


def count_before(count, ranked, farness, classes, level, prevalence, *, seed):  # type: ignore[no-untyped-def]
    """Count what percentiles of resamples at the threshold chosen on all of them hold."""

    def statistic(rates: Rates) -> NDArray[np.float64]:
        tpr, fpr = ranked.accepted(rates, farness)
        accepted = prevalence * tpr + (1 - prevalence) * fpr
        reached = fpr if level[0] != "precision" else prevalence * tpr / accepted if accepted else np.nan
        return np.array([rates.auc(), reached])

    found_BK = class_bootstrap(ranked, statistic, num_resamples=100, seed=seed)
    for name, truth, values in (
        ("auc_before", classes.auc(), found_BK[:, 0]),
        ("reached_before", classes.reached(farness, level, prevalence), found_BK[:, 1]),
    ):
        interval = None if np.isnan(truth) else percentile_interval(values)
        if interval is not None and interval[0] <= truth <= interval[1]:
            setattr(count, name, getattr(count, name) + 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--classes", type=int, nargs="+", default=[40, 100, 200, 500])
    parser.add_argument("--level", type=float, default=0.95)
    parser.add_argument("--prevalence", type=float)
    parser.add_argument("--before", action="store_true")
    arguments = parser.parse_args()
    print(HEADER)
    for name, drawn in (("", Classes()), (", unequal", Classes(unequal=0.3))):
        for number in arguments.classes:
            found = simulate(
                drawn,
                number,
                ("precision", arguments.level),
                repeats=arguments.repeats,
                prevalence=arguments.prevalence,
                before=arguments.before,
            )
            print(found.row(f"{number:,}{name}"), flush=True)
