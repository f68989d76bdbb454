"""Budgets of equal processor time: a short probe says what a step of each strategy costs."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

from mohs.compare.budget import Budget
from mohs.compare.cells import Comparison
from mohs.compare.row_files import append_row, read_rows
from mohs.compare.strategies import Strategy
from mohs.compare.training import Choice, made_by, train_strategy

__all__ = ["Probe", "cpu_budgets", "scaled_steps"]

# Steps of the two probes, in numbers of segments, and how often each is run.
_LENGTHS = (1, 3)
_REPEATS = 2


@final
@dataclass(frozen=True)
class Probe:
    """What a short run cost: the least processor time, in seconds, of several; NaN if training stopped early."""

    data: str
    strategy: str
    made_by: str
    num_steps: int
    cpu_s: float


def cpu_budgets(
    comparison: Comparison,
    table: Path,
    num_segments: int,
    choices: Mapping[str, Choice] | None = None,
    *,
    started: Callable[[str, int], None] = lambda *_: None,
) -> dict[str, Budget]:
    """Return a budget for each strategy under which all take as many CPU seconds as the first in the comparison's.

    The first is "default" if it is compared. A run is taken to cost a + b·steps: a, what happens once (such as a bank
    embedded and mined in each segment), and b are measured by two short runs, on all that the machine does for them.
    Steps are the nearest multiple of `num_segments`, at least one, of as many pictures as the comparison's. Probes are
    kept in `table`, so that what was cut short goes on with the same budgets.
    """
    known = {(probe.strategy, probe.made_by): probe for probe in read_rows(table, Probe)}
    pictures = comparison.data.fingerprint()
    warm = False

    def measured(strategy: Strategy, steps: int) -> Probe:
        nonlocal warm
        budget = Budget(steps * comparison.budget.batch_pictures, comparison.budget.batch_pictures)
        choice = (choices or {}).get(strategy.name, Choice())
        config, _ = comparison.training_of(strategy, choice, budget)
        hashed = made_by(config, pictures, strategy.name, "probe", asdict(budget))
        probe = known.get((strategy.name, hashed))
        if probe is None:
            started(strategy.name, steps)
            # What the first run of a process pays once is no strategy's cost.
            runs = [
                train_strategy(strategy, comparison.data.train, config, budget, choice)
                for _ in range(_REPEATS if warm else _REPEATS + 1)
            ]
            warm = True
            cost = math.nan if any(run.stopped for run in runs) else min(run.cpu_s for run in runs)
            probe = Probe(comparison.data.name, strategy.name, hashed, steps, cost)
            append_row(table, probe)
        return probe

    names = [strategy.name for strategy in comparison.strategies]
    reference = names.index("default") if "default" in names else 0
    probes = [[measured(strategy, length * num_segments) for length in _LENGTHS] for strategy in comparison.strategies]
    size, wanted = comparison.budget.batch_pictures, comparison.budget.num_steps
    steps = [scaled_steps(own, probes[reference], wanted, num_segments) for own in probes]
    steps[reference] = wanted
    return {name: Budget(count * size, size) for name, count in zip(names, steps, strict=True)}


def scaled_steps(own: list[Probe], reference: list[Probe], num_steps: int, num_segments: int) -> int:
    """Return how many steps of one strategy cost what `num_steps` of another do, in a multiple of `num_segments`.

    As many, if training stopped early in a probe.

    >>> def probes(once, step):
    ...     return [Probe("", "", "", steps, once + step * steps) for steps in (10, 30)]
    >>> scaled_steps(probes(0.5, 0.05), probes(2.0, 0.08), 200, 10)
    350
    """
    if any(math.isnan(probe.cpu_s) for probe in (*own, *reference)):
        return num_steps
    (once, step), (other_once, other_step) = _line(own), _line(reference)
    steps = (other_once + other_step * num_steps - once) / step
    return max(1, round(steps / num_segments)) * num_segments


def _line(probes: list[Probe]) -> tuple[float, float]:
    """Return what a run costs once and what a step costs."""
    short, long = probes
    step = (long.cpu_s - short.cpu_s) / (long.num_steps - short.num_steps)
    if not 0 < step <= long.cpu_s / long.num_steps:  # noise: nothing that happens once can be told from the steps
        return 0.0, long.cpu_s / long.num_steps
    return long.cpu_s - step * long.num_steps, step
