"""Tuning: the same number of trials for every strategy, on a part of the training classes.

A trial is a run with a learning rate and a value of the strategy's one loss parameter, on three quarters of the
training classes; it is judged by R@1 on the last quarter, classes that it has not seen. Test classes play no part. The
order of trials is the same for all: the comparison's rate, then 0.3, 3 and 0.1 times it, each with the parameter's
default; then the parameter's other values at the best rate.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import final

from mohs.compare.cells import Comparison
from mohs.compare.protocols import validation_part
from mohs.compare.rows import append_row, read_rows
from mohs.compare.training import Choice, made_by, strategy_config, train_strategy
from mohs.errors import InputError
from mohs.evaluation.retrieval import evaluate_all_against_all

__all__ = ["MOST_TRIALS", "RATE_FACTORS", "Trial", "best_trial", "next_choice", "read_trials", "tune"]

RATE_FACTORS = (1.0, 0.3, 3.0, 0.1)
"""Learning rates that are tried, as shares of the comparison's, in this order: what is best is flat within a factor of
two, and triplets and proxies want a tenth of what in-batch losses do."""

MOST_TRIALS = len(RATE_FACTORS) + 2
"""Every rate, and the other two values of the parameter."""


@final
@dataclass(frozen=True)
class Trial:
    """One trial: R@1 on the validation classes after `num_pictures` pictures. -1: training stopped early."""

    data: str
    strategy: str
    number: int
    made_by: str
    rate_factor: float
    parameter: int
    learning_rate: float
    value: float
    num_pictures: int
    validation_recall_1: float
    train_s: float

    @property
    def choice(self) -> Choice:
        """What was tried."""
        return Choice(self.rate_factor, self.parameter)


def next_choice(trials: Sequence[Trial]) -> Choice:
    """Return what is tried after these.

    >>> next_choice([])
    Choice(rate_factor=1.0, parameter=0)
    """
    if len(trials) < len(RATE_FACTORS):
        return Choice(RATE_FACTORS[len(trials)], 0)
    return Choice(best_trial(trials[: len(RATE_FACTORS)]).rate_factor, len(trials) - len(RATE_FACTORS) + 1)


def best_trial(trials: Sequence[Trial]) -> Trial:
    """Return the trial of highest R@1; of two alike the earlier."""
    return max(trials, key=lambda trial: trial.validation_recall_1)


def tune(
    comparison: Comparison,
    table: Path,
    *,
    num_trials: int,
    num_pictures: int,
    started: Callable[[str, int], None] = lambda *_: None,
) -> dict[str, Trial]:
    """Return the best trial of every strategy by name; those that `table` has already are not run again.

    `num_pictures` are shown in a trial. `started` is called with the name and number of a trial that is about to run.
    """
    if not 1 <= num_trials <= MOST_TRIALS:
        raise InputError(f"--tune: {num_trials} is not in [0, {MOST_TRIALS}]; 0 leaves it out")
    part = validation_part(comparison.data)
    budget = replace(comparison.budget, num_pictures=num_pictures)
    pictures = part.fingerprint()
    known = {(trial.strategy, trial.number, trial.made_by): trial for trial in read_trials(table)}
    best = {}
    for strategy in comparison.strategies:
        trials: list[Trial] = []
        for number in range(num_trials):
            choice = next_choice(trials)
            config = strategy_config(strategy, comparison.settings, budget, choice, seed=0)
            value = strategy.parameter.values[choice.parameter]
            hashed = made_by(config, pictures, strategy.name, value, asdict(budget))
            trial = known.get((strategy.name, number, hashed))
            if trial is None:
                started(strategy.name, number)
                trained = train_strategy(strategy, part.train, config, budget, choice)
                recall = -1.0
                if not trained.stopped:
                    x_ND = trained.embedder.embed(part.test.pictures)
                    recall = evaluate_all_against_all(x_ND, part.test.labels, ks=(1,)).recall[1]
                trial = Trial(
                    comparison.data.name, strategy.name, number, hashed, choice.rate_factor, choice.parameter,
                    config.training.learning_rate, value, num_pictures, recall, trained.train_s,
                )  # fmt: skip
                append_row(table, trial)
            trials.append(trial)
        best[strategy.name] = best_trial(trials)
    return best


def read_trials(path: Path) -> list[Trial]:
    """Return the trials in a CSV; none without a file."""
    return read_rows(path, Trial)
