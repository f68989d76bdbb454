"""Tuning: the same rule for every strategy, and no picture of the test."""

import pytest

from mohs.compare import tuning as tuning_module
from mohs.compare.budget import Budget
from mohs.compare.row_files import read_rows
from mohs.compare.training import Choice
from mohs.compare.tuning import MOST_TRIALS, Trial, best_trial, is_at_edge, next_choice, tune
from mohs.errors import InputError

BUDGET = Budget(192, 48)


def search(score, count=MOST_TRIALS):
    """Return the choices of a search in which score(factor, parameter) is what a trial finds."""
    trials = []
    while len(trials) < count and (choice := next_choice(trials)) is not None:
        found = score(choice.rate_factor, choice.parameter)
        trials.append(Trial("d", "s", len(trials), "", choice.rate_factor, choice.parameter, 0.0, 0.0, 1, found, 0.0))
    return trials


def rates(trials):
    return [trial.rate_factor for trial in trials]


def test_a_best_rate_between_others_leaves_trials_for_the_parameter():
    trials = search(lambda factor, parameter: (factor == 1.0) + 0.1 * parameter)
    assert [(t.rate_factor, t.parameter) for t in trials] == [
        (1.0, 0), (0.3, 0), (3.0, 0), (1.0, 1), (1.0, 2), (0.3, 2), (3.0, 2),
    ]  # fmt: skip
    assert best_trial(trials).choice == Choice(1.0, 2)
    assert not is_at_edge(trials)


@pytest.mark.parametrize(
    ("wanted", "tried"), [(0.03, [1.0, 0.3, 3.0, 0.1, 0.03, 0.01]), (30.0, [1.0, 0.3, 3.0, 10.0, 30.0, 100.0])]
)
def test_a_best_rate_at_the_edge_is_followed_until_it_is_not(wanted, tried):
    trials = search(lambda factor, _: -abs(factor - wanted) / (factor + wanted))
    assert rates(trials)[: len(tried)] == tried
    assert best_trial(trials).rate_factor == wanted
    assert not is_at_edge(trials[: len(tried)])
    assert is_at_edge(trials[: len(tried) - 1])


def test_a_search_ends_where_there_is_nothing_more_to_try():
    trials = search(lambda factor, _: factor, count=100)
    assert max(rates(trials)) == 100.0
    assert is_at_edge(trials)
    assert len({trial.choice for trial in trials}) == len(trials) < 100
    assert next_choice(trials) is None


def test_of_two_alike_the_earlier_is_best():
    assert best_trial(search(lambda *_: 0.5, count=3)).number == 0


def test_every_strategy_gets_the_same_trials_and_the_best_is_taken(small, tmp_path):
    table = tmp_path / "tuning.csv"
    found = tune(small, table, num_trials=4, budget=BUDGET)
    assert list(found) == [strategy.name for strategy in small.strategies]
    assert read_rows(table, Trial) == [trial for trials in found.values() for trial in trials]
    for trials in found.values():
        assert rates(trials)[:3] == [1.0, 0.3, 3.0]
        assert trials[3].choice == next_choice(trials[:3])
        assert {trial.num_pictures for trial in trials} == {192}
        assert all(0 < trial.validation_mrr <= 1 for trial in trials)
    assert tune(small, table, num_trials=4, budget=BUDGET, started=lambda *_: pytest.fail("all is there")) == found
    started = []
    tune(small, table, num_trials=5, budget=BUDGET, started=lambda *what: started.append(what))
    assert started == [(strategy.name, 4) for strategy in small.strategies]
    with pytest.raises(InputError, match=r"--tune: 13 is not in \[0, 12\]"):
        tune(small, table, num_trials=13, budget=BUDGET)


def test_few_classes_are_judged_on_both_halves_and_the_mean_counts(small, tmp_path, monkeypatch):
    seen = []
    real = tuning_module.train_strategy

    def watched(strategy, dataset, *rest):
        trained = real(strategy, dataset, *rest)
        seen.append(set(dataset.labels.tolist()))
        return trained

    ranks = iter([0.2, 0.6])
    monkeypatch.setattr(tuning_module, "train_strategy", watched)

    class Found:
        @property
        def mean_reciprocal_rank(self):
            return next(ranks)

    monkeypatch.setattr(tuning_module, "evaluate_all_against_all", lambda *_, **__: Found())
    one = tuning_module.Comparison(small.data, small.settings, small.budget, small.strategies[2:])
    [[trial]] = tune(one, tmp_path / "tuning.csv", num_trials=1, budget=BUDGET).values()
    assert trial.validation_mrr == pytest.approx(0.4)
    assert len(seen) == 2
    assert not seen[0] & seen[1]
    assert seen[0] | seen[1] == set(small.data.train.labels.tolist())


def test_a_trial_that_stops_early_is_worst(small, tmp_path, monkeypatch):
    real = tuning_module.train_strategy

    def stopped(*arguments):
        trained = real(*arguments)
        object.__setattr__(trained, "stopped", "training: loss is nan")
        return trained

    monkeypatch.setattr(tuning_module, "train_strategy", stopped)
    one = tuning_module.Comparison(small.data, small.settings, small.budget, small.strategies[2:])
    [[trial]] = tune(one, tmp_path / "tuning.csv", num_trials=1, budget=BUDGET).values()
    assert trial.validation_mrr == -1.0
