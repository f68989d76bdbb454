"""Tuning: the same search for every strategy, on a part of the training classes.

Every strategy may have as many trials as the others, and its search ends where it has nothing more to try.

A trial is a run with a learning rate and a value of the strategy's one loss parameter on a part of the training
classes; it is judged by the mean reciprocal rank on the others, which it has not seen (`validation_parts`): of few
queries that tells more than R@1 does. Test classes play no part. All strategies look in the same way (`next_choice`).
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

import numpy as np

from mohs.compare.budget import Budget
from mohs.compare.cells import Comparison
from mohs.compare.protocols import validation_parts
from mohs.compare.row_files import append_row, read_rows
from mohs.compare.training import Choice, made_by, train_strategy
from mohs.errors import InputError
from mohs.evaluation.retrieval import evaluate_all_against_all

__all__ = ["MOST_TRIALS", "Trial", "best_trial", "is_at_edge", "next_choice", "tune"]

_RATE_FACTORS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
_FIRST = (1.0, 0.3, 3.0)
_NUM_VALUES = 3

MOST_TRIALS = 12
"""More are of no use: by then most searches have ended."""


@final
@dataclass(frozen=True)
class Trial:
    """One trial: the mean reciprocal rank on validation classes after `num_pictures`. -1: training stopped early."""

    data: str
    strategy: str
    number: int
    made_by: str
    rate_factor: float
    parameter: int
    learning_rate: float
    value: float
    num_pictures: int
    validation_mrr: float
    train_s: float

    @property
    def choice(self) -> Choice:
        """What was tried."""
        return Choice(self.rate_factor, self.parameter)


def next_choice(trials: Sequence[Trial]) -> Choice | None:
    """Return what is tried after these: rates until the best lies between worse ones, then the parameter's values.

    Rates are shares of the comparison's, three to a power of ten. The first are 1, 0.3 and 3, with the parameter's
    default. While the best rate is the lowest or the highest of those tried, the next one beyond it is tried. Then come
    the parameter's other two values at the best rate, and rates beyond if one of these moved it there. None: all tried.

    >>> next_choice([])
    Choice(rate_factor=1.0, parameter=0)
    """
    if len(trials) < len(_FIRST):
        return Choice(_FIRST[len(trials)], 0)
    best = best_trial(trials)
    tried = {trial.choice for trial in trials}
    place = _RATE_FACTORS.index(best.rate_factor)
    beyond = []
    if is_at_edge(trials):
        lowest = min(trial.rate_factor for trial in trials)
        beyond = [place - 1] if best.rate_factor == lowest else [place + 1]
    wanted = [Choice(_RATE_FACTORS[i], best.parameter) for i in beyond if 0 <= i < len(_RATE_FACTORS)]
    wanted += [Choice(best.rate_factor, parameter) for parameter in range(_NUM_VALUES)]
    # With another value of the parameter, the rates beside the best one have not been tried.
    sides = [i for i in (place - 1, place + 1) if 0 <= i < len(_RATE_FACTORS)]
    wanted += [Choice(_RATE_FACTORS[i], best.parameter) for i in sides]
    return next((choice for choice in wanted if choice not in tried), None)


def is_at_edge(trials: Sequence[Trial]) -> bool:
    """Return whether the best trial's rate is the lowest or highest that was tried: a better one may lie beyond."""
    best = best_trial(trials)
    factors = {trial.rate_factor for trial in trials}
    return best.rate_factor in (min(factors), max(factors))


def best_trial(trials: Sequence[Trial]) -> Trial:
    """Return the trial of highest mean reciprocal rank; of two alike the earlier."""
    return max(trials, key=lambda trial: trial.validation_mrr)


def tune(
    comparison: Comparison,
    table: Path,
    *,
    num_trials: int,
    budget: Budget,
    started: Callable[[str, int], None] = lambda *_: None,
) -> dict[str, list[Trial]]:
    """Return the trials of every strategy by name, at most `num_trials`; those that `table` has are not run again.

    `budget` is that of a trial. `started` is called with the name and number of a trial that is about to run.
    """
    if not 1 <= num_trials <= MOST_TRIALS:
        raise InputError(f"--tune: {num_trials} is not in [0, {MOST_TRIALS}]; 0 leaves it out")
    parts = validation_parts(comparison.data)
    pictures = "+".join(part.fingerprint() for part in parts)
    known = {(trial.strategy, trial.number, trial.made_by): trial for trial in read_rows(table, Trial)}
    found = {}
    for strategy in comparison.strategies:
        trials: list[Trial] = []
        while len(trials) < num_trials and (choice := next_choice(trials)) is not None:
            config, value = comparison.training_of(strategy, choice, budget)
            hashed = made_by(config, pictures, strategy.name, value, asdict(budget))
            trial = known.get((strategy.name, len(trials), hashed))
            if trial is None:
                started(strategy.name, len(trials))
                ranks, train_s = [], 0.0
                for part in parts:
                    trained = train_strategy(strategy, part.train, config, budget, choice)
                    train_s += trained.train_s
                    if trained.stopped:
                        ranks = [-1.0]
                        break
                    x_ND = np.nan_to_num(trained.embedder.embed(part.test.pictures), posinf=0.0, neginf=0.0)
                    ranks.append(evaluate_all_against_all(x_ND, part.test.labels, ks=(1,)).mean_reciprocal_rank)
                trial = Trial(
                    comparison.data.name, strategy.name, len(trials), hashed, choice.rate_factor, choice.parameter,
                    config.training.learning_rate, value, budget.num_pictures, float(np.mean(ranks)), train_s,
                )  # fmt: skip
                append_row(table, trial)
            trials.append(trial)
        found[strategy.name] = trials
    return found
