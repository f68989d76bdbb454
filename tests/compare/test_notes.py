"""What is said of settings and budgets before a comparison."""

import pytest

from mohs.compare.budget import Budget
from mohs.compare.notes import budget_notes, comparison_notes
from mohs.compare.strategies import find_strategies
from mohs.errors import Problem
from mohs.settings.config import override_config
from mohs.settings.loss_records import LOSSES, listed


def notes_of(values, names, *, idle=(), budget=None, paper_segments=None):
    config = override_config(None, (), values)
    return comparison_notes(idle, config, find_strategies(names), budget=budget, paper_segments=paper_segments)


MARGIN = Problem(
    "loss.margin", f"0.5 has no effect on the loss 'infonce'; it is of {listed(loss for loss in LOSSES if loss.margin)}"
)


def test_what_some_strategy_reads_has_an_effect():
    values = {"loss.margin": 0.5}
    assert notes_of(values, ["default"], idle=[MARGIN]) == [f"warning: {MARGIN}"]
    assert notes_of(values, ["default", "hardest"], idle=[MARGIN]) == []


def test_what_no_library_loop_reads_has_none():
    values = {"hardness.cap": 0.5, "training.optimizer": "sgd", "training.learning_rate": 0.1, "model.hidden_dim": 0}
    reason = "the strategies are library loops, which do not read it"
    assert notes_of(values, ["online supcon", "online arcface"]) == [
        f"warning: hardness.cap: 0.5 has no effect here; {reason}",
        f"warning: training.optimizer: 'sgd' has no effect here; {reason}",
    ]
    assert notes_of(values, ["online supcon", "default"]) == []


def test_what_plain_strategies_have_of_their_own_has_no_effect():
    values = {"finetune.head": "pca", "model.hidden_dim": 0, "finetune.trained_share": 0.5}
    assert notes_of(values, ["plain supcon", "plain arcface"]) == [
        f"warning: {name} has no effect here; the plain strategies change nothing before the first "
        "step or after the last"
        for name in ("finetune.head: 'pca'", "finetune.trained_share: 0.5")
    ]
    assert notes_of(values, ["plain supcon", "online supcon"]) == []


def test_what_a_comparison_decides_is_said_once():
    values = {"seed": 3, "training.prefer_positive": "catalog", "training.num_segments": 4}
    told = [
        "warning: seed: 3 has no effect here; the seeds are 0, 1 and so on (--seeds)",
        "warning: training.prefer_positive: 'catalog' has no effect here; every strategy sees pictures without roles",
    ]
    assert notes_of(values, ["default"]) == told
    assert notes_of(values, ["default"], paper_segments=10) == [
        *told,
        "warning: training.num_segments: 4 has no effect here; --paper has 10, an epoch each",
    ]


@pytest.mark.parametrize(("budget", "told"), [("medium", 0), (None, 1)])
def test_the_length_of_a_budget_was_not_asked_for(budget, told):
    assert len(notes_of({"training.num_triplets": 100_000}, ["default"], budget=budget)) == told


def test_a_budget_that_leaves_less_than_was_asked_for_is_said():
    assert list(budget_notes(Budget(3840, 192), 192, 10)) == []
    assert list(budget_notes(Budget(3840, 192), 195, 10)) == []
    assert list(budget_notes(Budget(600, 60), 192, 10)) == [
        "warning: a step shows 60 pictures and not 192: there are few pictures (--pictures) or few classes",
        "warning: each of 10 segments is one step, in which no schedule can show and few pictures are there for the "
        "guard; give --pictures 1200 or more, or lower training.num_segments",
    ]
    assert list(budget_notes(Budget(192, 192), 192, 1)) == []
