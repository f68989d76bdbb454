"""Settings without effect: each rule both ways, and nothing is said of what was not given."""

import pytest

from mohs.settings.config import RunConfig, override_config
from mohs.settings.effects import _rules, when_it_matters, without_effect
from mohs.settings.loss_records import LOSSES, listed
from mohs.settings.toml import flat_settings

# Settings under which the name has no effect, and settings under which it has.
CASES = [
    ("data.fit", [], ["data.source=shop"]),
    ("data.cache", [], ["data.source=shop"]),
    ("model.widths", ["model.backbone=resnet18"], []),
    ("loss.margin", [], ["loss.name=triplet"]),
    ("loss.margin", ["loss.name=soft-triplet"], ["hardness.scale=margin"]),
    ("training.neighbourhood", ["loss.name=triplet"], []),
    ("training.neighbourhood_from", ["loss.name=triplet"], []),
    ("training.neighbourhood_from", ["training.neighbourhood=1"], ["training.neighbourhood=2"]),
    ("hardness.cap", ["training.neighbourhood=1", "memory.num_negatives=0"], ["training.neighbourhood=1"]),
    ("hardness.cap", ["training.neighbourhood=1", "memory.from_progress=1"],
     ["training.neighbourhood=1", "loss.name=triplet"]),
    ("hardness.scale", ["memory.num_negatives=9"], ["memory.num_negatives=0"]),
    ("training.neighbourhood_from", ["memory.num_negatives=9"], ["memory.num_negatives=0"]),
    ("hardness.scale", ["training.neighbourhood_from=1"], []),
    ("hardness.growth", ["hardness.curve=linear"], ["hardness.curve=tanh"]),
    ("hardness.target_active", [], ["hardness.curve=closed-loop"]),
    ("hardness.cycles", [], ["hardness.curve=linear"]),
    ("hardness.cycles", ["hardness.curve=closed-loop"], ["loss.name=triplet"]),
    ("memory.size", ["training.optimizer=adamw"], []),
    ("memory.momentum", ["model.weights=net.safetensors"], ["model.weights=net.safetensors", "memory.num_negatives=9"]),
    ("hardness.gain", ["hardness.curve=constant"], ["hardness.curve=closed-loop"]),
    ("training.momentum", [], ["training.optimizer=sgd"]),
    ("finetune.backbone_rate", ["finetune.trainable_stages=0"], ["finetune.trainable_stages=1"]),
    ("finetune.layer_decay", ["finetune.trainable_stages=0"], ["finetune.unfreeze_at=[0.5]"]),
    ("classification.temperature", [], ["classification.num_pictures=9"]),
    ("classification.margin", ["classification.num_pictures=9"], ["classification.num_pictures=9",
                                                                  "classification.loss=arcface"]),
    ("negatives.skip_nearest", ["training.neighbourhood=1", "memory.num_negatives=0"], []),
    ("training.prefer_positive", ["training.anchors=catalog"], []),
    ("memory.momentum", ["memory.num_negatives=0"], []),
    ("memory.size", ["loss.name=semi-hard"], ["memory.num_negatives=9"]),
    ("memory.size", ["loss.name=supcon", "loss.miner=MultiSimilarityMiner"], ["loss.name=supcon"]),
    ("guard.action", ["guard.enabled=false"], []),
    ("guard.max_actions", ["guard.action=stop"], []),
]  # fmt: skip


@pytest.mark.parametrize(("name", "idle", "working"), CASES)
def test_a_setting_is_told_where_it_has_no_effect_and_there_only(name, idle, working):
    config = override_config(None, idle, {})
    lines = without_effect(config, [name])
    section, _, last = name.partition(".")
    assert len(lines) == 1
    assert lines[0].startswith(f"{name}: {getattr(getattr(config, section), last)!r} has no effect ")
    assert without_effect(config, []) == []
    assert without_effect(override_config(None, working, {}), [name]) == []


def test_no_setting_is_told_twice_and_every_rule_names_settings():
    names = flat_settings(RunConfig().model_dump())
    for settings in ([], ["loss.name=triplet"], ["training.neighbourhood=1"], ["guard.enabled=false"]):
        config = override_config(None, settings, {})
        assert {name for rule in _rules(config) for name in rule.names.split()} <= names.keys()
        told = [line.partition(":")[0] for line in without_effect(config, names)]
        assert len(told) == len(set(told))


def test_whatever_may_be_idle_says_when_it_matters_in_words_that_fit_every_run():
    names = flat_settings(RunConfig().model_dump())
    idle = {name for rule in _rules(RunConfig()) for name in rule.names.split()}
    assert {name for name in names if when_it_matters(name)} == idle
    other = override_config(None, ["loss.name=triplet", "data.source=shop", "guard.action=stop"], {})
    assert [rule.matters for rule in _rules(other)] == [rule.matters for rule in _rules(RunConfig())]


def test_train_warns_of_what_was_given_without_effect(run_cli, tmp_path):
    given = ["--margin", "0.2", "--set", "training.momentum=0.9"]
    answer = run_cli("train", "shop", *given, "--print-config")
    assert answer.code == 0
    assert answer.err == [
        "warning: loss.margin: 0.2 has no effect on the loss 'infonce'; it is of "
        + listed(loss for loss in LOSSES if loss.margin),
        "warning: training.momentum: 0.9 has no effect with training.optimizer 'auto'; it is of sgd",
    ]
    assert run_cli("train", "shop", *given, "--loss", "triplet", "--set", "training.optimizer=sgd",
                   "--print-config").err == []  # fmt: skip
    # Whoever changes a printed file is told of what was changed, not of all that was printed.
    (tmp_path / "run.toml").write_text(answer.out.replace("momentum = 0.9", "momentum = 0.8", 1))
    again = run_cli("train", "--config", tmp_path / "run.toml", "--print-config")
    assert again.err == ["warning: training.momentum: 0.8 has no effect with training.optimizer 'auto'; it is of sgd"]


def test_a_warning_does_not_end_a_run(run_cli, picture_set, tmp_path):
    small = ["--size", "16", "--triplets", "24", "--batch", "8", "--channels", "1", "--set", "model.widths=[8, 8]"]
    given = ["--set", "guard.action=stop", "--set", "guard.max_actions=1"]
    answer = run_cli("train", picture_set, *small, *given, "--out", tmp_path / "run", "--quiet")
    assert answer.code == 0
    assert answer.err[0] == (
        "warning: guard.max_actions: 1 has no effect with guard.action 'stop', which corrects nothing"
    )
