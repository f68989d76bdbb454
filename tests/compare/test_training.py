"""Each strategy shows what it says, by the budget."""

import numpy as np
import pytest
import torch
from pytorch_metric_learning.utils import common_functions

from mohs.compare import online as online_module
from mohs.compare.budgets import Budget, common_segments, whole_budget
from mohs.compare.cells import Comparison
from mohs.compare.metrics import measure
from mohs.compare.strategies import STRATEGIES, find_strategies
from mohs.compare.training import (
    Choice,
    check_strategies,
    new_embedder,
    parameter_value,
    random_plan,
    strategy_config,
    train_strategy,
)
from mohs.errors import InputError

ONLINE = [name for name, strategy in STRATEGIES.items() if strategy.online is not None]


def trained(comparison: Comparison, name: str, budget: Budget, choice: Choice | None = None):
    [strategy] = find_strategies([name])
    choice = choice or Choice()
    config = strategy_config(strategy, comparison.settings, budget, choice, seed=0)
    return train_strategy(strategy, comparison.data.train, config, budget, choice), config


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_shows_the_budget_in_equal_steps(small, name):
    budget = whole_budget(500, 48, common_segments(list(STRATEGIES.values()), small.settings), num_classes=48)
    found, _ = trained(small, name, budget)
    assert found.stopped == ""
    assert found.num_pictures == 480
    assert found.num_steps == budget.num_steps == 10
    assert not found.embedder.training
    assert found.curves["pictures"].tolist() == list(range(48, 481, 48))
    assert "active" in found.curves


@pytest.mark.parametrize("name", ONLINE)
def test_the_online_baselines_learn(small, name):
    start = measure(
        new_embedder(strategy_config(STRATEGIES[name], small.settings, small.budget, Choice(), seed=0)), small.data
    )
    found, _ = trained(small, name, Budget(4800, 60))
    end = measure(found.embedder, small.data)
    assert end.metrics.seen_recall_1 > start.metrics.seen_recall_1
    assert end.metrics.train_triplets > start.metrics.train_triplets


def test_online_batches_hold_two_pictures_of_each_class_and_global_state_is_left_alone(small):
    np.random.seed(3)  # noqa: NPY002
    torch.manual_seed(3)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    batches = list(online_module._batches(small.data.train, 32, 5, seed=0))
    labels = small.data.train.labels_id
    for items in batches:
        assert (labels[items[::2]] == labels[items[1::2]]).all()
        assert (items[::2] != items[1::2]).all()
        assert len(set(labels[items].tolist())) == 16
    again = list(online_module._batches(small.data.train, 32, 5, seed=0))
    other = list(online_module._batches(small.data.train, 32, 5, seed=1))
    assert np.array_equal(batches, again)
    assert not np.array_equal(batches, other)
    trained(small, "online supcon", Budget(128, 32))
    assert (np.random.get_state()[1] == before[0]).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])
    assert common_functions.NUMPY_RANDOM is np.random


def test_a_class_of_one_picture_is_shown_as_two_views(small):
    train = small.data.train
    single = train.take(np.unique(train.labels, return_index=True)[1])
    items = next(online_module._batches(single, 16, 1, seed=0))
    assert (items[::2] == items[1::2]).all()
    config = strategy_config(STRATEGIES["online supcon"], small.settings, small.budget, Choice(), seed=0)
    pictures = new_embedder(config).to_input(single.pictures[items])
    views = online_module._augmented(pictures, config, 0)
    assert not torch.equal(views[::2], views[1::2])


def test_an_online_loss_that_breaks_is_reported_and_its_network_returned(small, monkeypatch):
    class Broken(torch.nn.Module):
        def forward(self, embeddings, *_):
            return embeddings.sum() * torch.nan

    monkeypatch.setattr(online_module, "_build", lambda *_: (Broken(), None))
    found, _ = trained(small, "online supcon", Budget(128, 32))
    assert found.stopped == "training: loss is nan at step 0 of 4"
    assert np.isfinite(found.embedder.embed(small.data.test.pictures)).all()


def test_random_negatives_are_of_other_classes_and_evenly_drawn(small):
    strategy = STRATEGIES["random"]
    config = strategy_config(strategy, small.settings, Budget(60_000), Choice(), seed=0)
    train = small.data.train
    plan = random_plan(train, config)
    assert len(plan) == 20_000
    assert (train.labels[plan.anchor] == train.labels[plan.positive]).all()
    assert (train.labels[plan.anchor] != train.labels[plan.negative]).all()
    drawn = np.bincount(plan.negative, minlength=len(train))
    # 20,000 draws over 96 items: 208 each, standard deviation 14.4.
    assert abs(drawn - 20_000 / len(train)).max() < 5 * 14.4


def test_harder_strategies_mine_harder_negatives(small):
    def gap(name):
        found, _ = trained(small, name, Budget(480, 48))
        return found.plan.achieved_hardness.mean()

    assert gap("easiest") == 0.0
    assert gap("hardest") == 1.0
    found, _ = trained(small, "linear", Budget(480, 48))
    asked = found.curves["asked"]
    assert (np.diff(asked) >= 0).all()
    assert asked[-1] > 0.8
    constant, _ = trained(small, "constant", Budget(480, 48))
    assert np.allclose(constant.curves["asked"], 0.425)
    # The control has the mean hardness of what it is the control of.
    assert abs(asked.mean() - 0.425) < 0.01


def test_the_ablation_differs_from_the_default_in_one_setting(small):
    default, ablated = (
        strategy_config(STRATEGIES[name], small.settings, small.budget, Choice(), seed=0)
        for name in ("default", "default without scheduled hardness")
    )
    assert default != ablated
    assert default == ablated.model_copy(
        update={"training": ablated.training.model_copy(update={"neighbourhood": default.training.neighbourhood})}
    )


def test_what_tuning_chose_is_used(small):
    strategy = STRATEGIES["hardest"]
    config = strategy_config(strategy, small.settings, small.budget, Choice(0.3, 2), seed=0)
    usual = strategy_config(strategy, small.settings, small.budget, Choice(), seed=0)
    assert config.loss.margin == strategy.parameter.values[2]
    assert config.training.learning_rate == pytest.approx(0.3 * usual.training.learning_rate)
    low, _ = trained(small, "online supcon", Budget(128, 32), Choice(0.1, 1))
    high, _ = trained(small, "online supcon", Budget(128, 32), Choice(1.0, 0))
    assert low.curves["loss"][0] != high.curves["loss"][0]


def test_unknown_strategies_are_named():
    with pytest.raises(InputError) as caught:
        find_strategies(["hardes", "default", "default"])
    assert len(caught.value.problems) == 2
    assert caught.value.problems[0].startswith("--strategies: 'hardes' is unknown (did you mean 'hardest'?); use some")
    assert caught.value.problems[1] == "--strategies: 'default' is given twice; leave one out"


def test_names_stand_in_a_list_with_commas():
    assert not [name for name in STRATEGIES if "," in name]
    for strategy in STRATEGIES.values():
        assert strategy.description.endswith(".")
        assert len(set(strategy.parameter.values)) == 3
    assert STRATEGIES["default"].settings == {}
