"""Each strategy shows what it says, by the budget."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from pytorch_metric_learning.utils import common_functions

from mohs.compare import online as online_module
from mohs.compare.budget import Budget, common_segments, whole_budget
from mohs.compare.cells import Comparison
from mohs.compare.metrics import measure
from mohs.compare.strategies import STRATEGIES, all_strategies, find_strategies
from mohs.compare.summary import SCHEDULES
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
from mohs.settings.config import RunConfig
from mohs.settings.presets import preset_settings
from mohs.settings.toml import flat_settings
from mohs.training.step import rate_factor

ONLINE = [name for name in STRATEGIES if name.startswith("online ")]


def trained(comparison: Comparison, name: str, budget: Budget, choice: Choice | None = None):
    [strategy] = find_strategies([name])
    choice = choice or Choice()
    config = strategy_config(strategy, comparison.settings, budget, choice, num_classes=2, seed=0)
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
        new_embedder(strategy_config(STRATEGIES[name], small.settings, small.budget, Choice(), num_classes=2, seed=0)),
        small.data,
    )
    found, _ = trained(small, name, Budget(2400, 60))
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
    config = strategy_config(STRATEGIES["online supcon"], small.settings, small.budget, Choice(), num_classes=2, seed=0)
    pictures = new_embedder(config).to_input(single.pictures[items])
    views = online_module._augmented(pictures, items, config, 0)
    assert not torch.equal(views[::2], views[1::2])
    # As in runs of Mohs also without augmentation, but then of such classes only.
    settings = {**small.settings, "training.augment": 0.0}
    config = strategy_config(STRATEGIES["online supcon"], settings, small.budget, Choice(), num_classes=2, seed=0)
    views = online_module._augmented(pictures, items, config, 0)
    assert torch.equal(views[::2], pictures[::2])
    assert all(not torch.equal(one, two) for one, two in zip(views[::2], views[1::2], strict=True))
    others = np.arange(len(items))
    assert torch.equal(online_module._augmented(pictures, others, config, 0), pictures)


def test_the_memory_of_batches_is_as_large_as_a_bank_and_holds_no_picture_twice(small):
    found = []
    real = online_module._build

    def built(*arguments):
        found.append(arguments)
        return real(*arguments)

    few, many = ({**small.settings, "memory.size": size} for size in (60, 10_000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(online_module, "_build", built)
        for settings in (few, many):
            trained(replace(small, settings=settings), "online cross-batch memory", Budget(96, 48))
    assert [arguments[-1] for arguments in found] == [60, len(small.data.train)]
    loss, _ = real(*found[0])
    assert loss.memory_size == 60


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
    config = strategy_config(strategy, small.settings, Budget(60_000), Choice(), num_classes=2, seed=0)
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


def test_the_ablation_has_random_batches_and_no_bank_and_is_the_default_but_for_that(small):
    default, ablated = (
        strategy_config(STRATEGIES[name], small.settings, small.budget, Choice(), num_classes=2, seed=0)
        for name in ("default", "default without scheduled hardness")
    )
    assert (ablated.clique_size, ablated.num_bank_negatives) == (1, 0)
    assert (default.clique_size, default.num_bank_negatives) == (8, 0)
    # Tuning trains on a part of the classes: it must not decide anew whether there is a bank.
    many = strategy_config(STRATEGIES["default"], small.settings, small.budget, Choice(), num_classes=9_000, seed=0)
    assert (many.num_bank_negatives, many.for_classes(6_000).num_bank_negatives) == (8, 8)
    assert default == ablated.model_copy(
        update={
            "training": ablated.training.model_copy(update={"neighbourhood": default.training.neighbourhood}),
            "memory": default.memory,
        }
    )


def test_what_tuning_chose_is_used(small):
    strategy = STRATEGIES["hardest"]
    config = strategy_config(strategy, small.settings, small.budget, Choice(0.3, 2), num_classes=2, seed=0)
    usual = strategy_config(strategy, small.settings, small.budget, Choice(), num_classes=2, seed=0)
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


def test_the_plain_loops_have_nothing_of_ours(small):
    """Under settings that start and blend they are what the online ones are without."""
    ours = {**small.settings, "model.hidden_dim": 0, "finetune.head": "rca", "finetune.trained_share": 0.25}
    bare = {**small.settings, "model.hidden_dim": 0}
    ends = {}
    for name, settings in (("plain supcon", ours), ("online supcon", ours), ("online supcon", bare)):
        config = strategy_config(STRATEGIES[name], settings, small.budget, Choice(), num_classes=2, seed=0)
        found = train_strategy(STRATEGIES[name], small.data.train, config, Budget(96, 48), Choice())
        ends[name, settings is ours] = found.embedder.embed(small.data.test.pictures)
    np.testing.assert_array_equal(ends["plain supcon", True], ends["online supcon", False])
    assert not np.allclose(ends["plain supcon", True], ends["online supcon", True], atol=1e-2)


def test_plain_loops_are_compared_where_they_are_others():
    plain = [name for name in STRATEGIES if name.startswith("plain ")]
    loops = [name for name in ONLINE if " with Muon" not in name]
    assert [name.removeprefix("plain ") for name in plain] == [name.removeprefix("online ") for name in loops]
    usual = [name for name in STRATEGIES if name not in (*plain, "default with Muon")]
    as_dumped = flat_settings(RunConfig().model_dump(mode="json"))
    for settings in ({}, {"finetune.head": "random", "finetune.trained_share": 1.0, "training.mirror": 0.5}, as_dumped):
        assert [strategy.name for strategy in all_strategies(settings)] == usual
    for settings in ({"finetune.head": "pca"}, {"finetune.trained_share": 0.9}, {**as_dumped, "training.whiten": True}):
        assert [strategy.name for strategy in all_strategies(settings)] == usual + plain
    # Pretrained networks learn by AdamW: there Muon is what is to be compared.
    photos = [strategy.name for strategy in all_strategies(preset_settings("photos"))]
    assert photos == [name for name in STRATEGIES if name != "default with AdamW"]


def test_every_library_loop_has_a_twin_with_muon():
    loops = [strategy for strategy in STRATEGIES.values() if strategy.is_baseline]
    assert len(loops) == 16
    for one, two in zip(loops[:8], loops[8:], strict=True):
        assert replace(one, name=two.name, description=two.description, online_optimizer="muon") == two
        assert two.name == f"{one.name} with Muon"


def test_every_library_loop_with_muon_has_a_twin_on_cliques_which_is_no_baseline():
    muon = [
        strategy for strategy in STRATEGIES.values() if strategy.is_baseline and strategy.online_optimizer == "muon"
    ]
    for one in muon:
        two = STRATEGIES[f"{one.name} on cliques"]
        assert replace(one, name=two.name, description=two.description, online_cliques=True) == two
        assert not two.is_baseline
        assert (two.name, one.name) in SCHEDULES
    assert sum(strategy.online_cliques for strategy in STRATEGIES.values()) == len(muon) == 8


def test_a_loop_on_cliques_shows_every_class_once_a_pass_and_near_ones_together_from_the_second_on(small, monkeypatch):
    dataset = small.data.train
    num_classes = int(dataset.labels_id.max()) + 1
    shown = []
    plain = online_module.Descent.embed

    def embed(descent, pictures):
        # Classes 2k and 2k + 1 are the same point, so that they are each other's nearest.
        labels = dataset.labels_id[shown[-1]] // 2
        angle = torch.tensor(labels * (2 * np.pi / num_classes), dtype=torch.float32)[:, None]
        found = plain(descent, pictures)
        point = torch.cat([angle.cos(), angle.sin(), torch.zeros(len(angle), found.shape[1] - 2)], dim=1)
        return point + 0.0 * found

    def augmented(pictures, items, *rest):
        shown.append(items)
        return pictures

    monkeypatch.setattr(online_module.Descent, "embed", embed)
    monkeypatch.setattr(online_module, "_augmented", augmented)
    num_pairs = 18
    per_pass = -(-num_classes // num_pairs)
    trained(small, "online supcon with Muon on cliques", Budget(3 * per_pass * 2 * num_pairs, 2 * num_pairs))
    passes = [np.concatenate(shown[at : at + per_pass]) for at in range(0, 3 * per_pass, per_pass)]
    assert num_classes % num_pairs, "the last batch is to be filled up"
    for items in passes:
        pairs = dataset.labels_id[items].reshape(-1, 2)
        assert (pairs[:, 0] == pairs[:, 1]).all()
        assert sorted(pairs[:num_classes, 0].tolist()) == list(range(num_classes))
        assert pairs[num_classes:].tolist() == pairs[: len(pairs) - num_classes].tolist()
    assert not np.array_equal(passes[1], passes[2])

    def share_met(items):
        batches = [set((dataset.labels_id[part] // 2)[::2].tolist()) for part in np.split(items, per_pass)]
        return sum(len(batch) for batch in batches) / (per_pass * num_pairs)

    # Where both of a pair meet, a batch has half as many points as classes.
    assert share_met(passes[0]) > 0.7
    assert share_met(passes[1]) < 0.62
    assert share_met(passes[2]) < 0.62


def test_semi_siamese_has_all_of_the_bank_for_negatives(small):
    config = strategy_config(STRATEGIES["semi-siamese"], small.settings, small.budget, Choice(), num_classes=2, seed=0)
    assert config.num_bank_negatives >= config.memory.size
    assert config.clique_size == 1
    pairs = strategy_config(STRATEGIES["momentum pairs"], small.settings, small.budget, Choice(), num_classes=2, seed=0)
    assert config == pairs.model_copy(update={"memory": config.memory})
    assert config.memory == pairs.memory.model_copy(update={"num_negatives": config.num_bank_negatives})


def test_muon_has_the_matrices_of_the_network_and_nothing_of_the_loss(small, monkeypatch):
    """As in a run of Mohs: biases and norms are AdamW's, and so are class vectors, at ten times the rate."""
    made = []
    real = online_module.MuonWithAdamW

    def watched(groups, **named):
        made.append(real(groups, **named))
        return made[-1]

    monkeypatch.setattr(online_module, "MuonWithAdamW", watched)
    found, _ = trained(small, "online arcface with Muon", Budget(96, 48))
    [optimizer] = made
    muon, adamw = (
        {id(p) for group in inner.param_groups for p in group["params"]} for inner, _ in optimizer._inner.values()
    )
    weights = list(found.embedder.parameters())
    assert muon == {id(p) for p in weights if p.ndim >= 2}
    assert {id(p) for p in weights if p.ndim < 2} < adamw
    [own] = [group for group in optimizer.param_groups if group["name"] == "loss"]
    assert {id(p) for p in own["params"]} == adamw - {id(p) for p in weights}
    head = next(group for group in optimizer.param_groups if group["name"] == "head")
    assert own["lr"] == pytest.approx(10 * head["lr"])
    trained(small, "online arcface", Budget(96, 48))
    assert len(made) == 1


def test_a_loop_follows_the_curve_of_the_rate_with_either_optimiser(small, monkeypatch):
    """Both are set by the same lines; those of torch could be set by a scheduler of torch."""
    for name, cls in (("online supcon", torch.optim.Adam), ("online supcon with Muon", online_module.MuonWithAdamW)):
        rates = []
        real = cls.step

        def step(self, *arguments, real=real, rates=rates):
            rates.append(self.param_groups[-1]["lr"])
            return real(self, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(cls, "step", step)
            _, config = trained(small, name, Budget(480, 48))
        wanted = [config.training.learning_rate * rate_factor(i, 10, config.training) for i in range(10)]
        assert rates == pytest.approx(wanted)


def test_every_strategy_begins_and_ends_as_the_settings_say(small, monkeypatch):
    """The head of relevant components and the blend of weights are not of runs of Mohs alone."""
    settings = {**small.settings, "model.hidden_dim": 0, "finetune.head": "rca", "finetune.trained_share": 0.25}
    budget = Budget(96, 48)
    ends = {}
    for name in ("default", "random", "online supcon"):
        strategy = STRATEGIES[name]
        for rate in (1e-12, 1e-3):
            config = strategy_config(
                strategy, {**settings, "training.learning_rate": rate}, budget, Choice(), num_classes=2, seed=0
            )
            found = train_strategy(strategy, small.data.train, config, budget, Choice())
            ends[name, rate] = [value.clone() for value in found.embedder.head.parameters()]
    new = list(new_embedder(config).head.parameters())
    for name in ("random", "online supcon"):
        for one, other, untrained in zip(ends[name, 1e-12], ends["default", 1e-12], new, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
            assert not torch.allclose(one, untrained)
        whole = strategy_config(
            STRATEGIES[name], {**settings, "finetune.trained_share": 1.0, "training.learning_rate": 1e-3}, budget,
            Choice(), num_classes=2, seed=0,
        )  # fmt: skip
        found = train_strategy(STRATEGIES[name], small.data.train, whole, budget, Choice())
        for blended, start, end in zip(
            ends[name, 1e-3], ends[name, 1e-12], found.embedder.head.parameters(), strict=True
        ):
            assert not torch.equal(start, end)
            torch.testing.assert_close(blended, 0.75 * start + 0.25 * end, rtol=0, atol=1e-6)


def test_a_whitening_that_is_asked_for_is_done_for_every_strategy_but_the_plain_ones(small):
    budget = Budget(96, 48)
    for name, wanted in (("random", True), ("online supcon", True), ("plain supcon", False)):
        ends = {}
        for whiten in (True, False, None):
            settings = {**small.settings, "training.whiten": whiten}
            config = strategy_config(STRATEGIES[name], settings, budget, Choice(), num_classes=2, seed=0)
            found = train_strategy(STRATEGIES[name], small.data.train, config, budget, Choice())
            ends[whiten] = found.embedder.embed(small.data.test.pictures)
        np.testing.assert_array_equal(ends[None], ends[False])
        assert np.allclose(ends[True], ends[False], atol=1e-2) is not wanted


def test_the_comparison_decides_the_first_value_of_a_parameter(small):
    settings = {**small.settings, "loss.temperature": 0.33}
    default, supcon = STRATEGIES["default"], STRATEGIES["online supcon"]
    assert parameter_value(default, settings, Choice()) == 0.33
    assert parameter_value(default, settings, Choice(parameter=1)) == 0.1
    assert parameter_value(default, small.settings, Choice()) == 0.1
    # A parameter of the library is not a setting.
    assert parameter_value(supcon, settings, Choice()) == 0.1
    low = {**settings, "loss.temperature": 0.05}
    assert [parameter_value(default, low, Choice(parameter=i)) for i in range(3)] == [0.05, 0.1, 0.2]
    assert strategy_config(default, settings, small.budget, Choice(), num_classes=2, seed=0).loss.temperature == 0.33


@pytest.mark.parametrize("name", ["default", "default without scheduled hardness", "hardest", "online supcon"])
def test_pictures_change_alike_for_all_strategies(small, name):
    for num_classes, strength in ((2, 0.7), (8_000, 0.4)):
        config = strategy_config(
            STRATEGIES[name], small.settings, small.budget, Choice(), num_classes=num_classes, seed=0
        )
        assert config.for_classes(2).training.augment == strength  # whatever the number of classes that tuning has


def test_what_some_strategy_cannot_take_is_said_before_any_trains(small):
    strategies = [STRATEGIES[name] for name in ("default", "hardest", "online supcon")]
    check_strategies(strategies, small.settings, small.budget)
    with pytest.raises(InputError) as caught:
        check_strategies(strategies, {**small.settings, "memory.num_negatives": 8}, small.budget)
    assert caught.value.problems == (
        "memory.num_negatives: 8 with the loss 'triplet'; the bank's negatives are for infonce and supcon without a "
        "miner: set it to 0, or take such a loss (strategies: hardest)",
    )
    for more in ([], [STRATEGIES["plain supcon"]]):  # which does not take it
        with pytest.raises(InputError) as caught:
            check_strategies([*strategies, *more], {**small.settings, "finetune.head": "pca"}, small.budget)
        [problem] = caught.value.problems  # of all strategies, so that none is named
        assert problem.startswith("finetune.head: 'pca' is for a head of one linear layer")
        assert "strateg" not in problem
    with pytest.raises(InputError, match="num_pictures: 96 pictures would be shown beyond the budget"):
        check_strategies(strategies, {**small.settings, "classification.num_pictures": 96}, small.budget)
    with pytest.raises(InputError, match=r"none\.csv"):
        check_strategies(strategies, {**small.settings, "negatives.review_list": "none.csv"}, small.budget)


def test_many_strategies_that_cannot_take_something_are_counted(small):
    settings = {**small.settings, "training.num_triplets": 10, "memory.num_negatives": 8}
    with pytest.raises(InputError) as caught:
        check_strategies(list(STRATEGIES.values()), settings, Budget(10**24, 192))
    [first, *_] = [problem for problem in caught.value.problems if "below 2**63" in problem]
    assert re.search(r"\(strategies: default, default without .* and \d+ others\)$", first)
    assert len(first) < 400


def test_the_active_share_of_a_library_loop_falls_as_it_learns(small):
    found, _ = trained(small, "online supcon", Budget(4800, 48))
    active = found.curves["active"]
    assert 0 < active[-10:].mean() < 0.8 * active[:10].mean() <= 1


def test_a_library_loop_needs_two_pictures_of_each_class_of_a_batch(small):
    with pytest.raises(InputError, match="batch_pictures: 192 are more than two of each of 48 classes; lower it"):
        trained(small, "online supcon", Budget(192, 192))


@pytest.mark.parametrize(
    ("name", "hidden_dim"),
    [("default", 0), ("online supcon", 256), ("online supcon with Muon", 0), ("closed loop", 256)],
)
def test_the_head_is_that_of_the_optimiser_unless_it_is_given(name: str, hidden_dim: int) -> None:
    (strategy,) = find_strategies([name])
    config = strategy_config(strategy, {}, Budget(1920), Choice(), num_classes=2, seed=0)
    assert config.network.hidden_dim == hidden_dim
    given = strategy_config(strategy, {"model.hidden_dim": 32}, Budget(1920), Choice(), num_classes=2, seed=0)
    assert given.network.hidden_dim == 32
