"""Presets: each makes valid settings, changes what it says and nothing else, and gives way to the user's own."""

from typing import get_args

import pytest

from mohs.config import RunConfig, override_config
from mohs.errors import InputError
from mohs.presets import Preset, preset_settings

NAMES = get_args(Preset)


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_makes_valid_settings_that_survive_a_file(name, tmp_path):
    config = override_config(None, [], preset_settings(name))
    for place, value in preset_settings(name).items():
        section, field = place.split(".")
        assert getattr(getattr(config, section), field) == value
        assert section in ("training", "finetune")  # not a backbone, not data
    file = tmp_path / "run.toml"
    file.write_text(config.to_toml())
    assert override_config(file, [], {}) == config


@pytest.mark.parametrize("name", [name for name in NAMES if name != "small"])
def test_what_a_preset_sets_is_not_the_default_already(name):
    """But for the optimiser and its momentum, which are part of what these two presets are."""
    default = RunConfig()
    same = {
        place
        for place, value in preset_settings(name).items()
        if getattr(getattr(default, place.split(".")[0]), place.split(".")[1]) == value
    }
    assert same <= {"training.optimizer", "training.momentum"}


def test_small_is_the_defaults():
    assert override_config(None, [], preset_settings("small")) == RunConfig()


def test_sgd_is_the_published_advice():
    config = override_config(None, [], preset_settings("fine-tune-sgd"))
    training = config.training
    assert (training.optimizer, training.learning_rate, training.momentum, training.weight_decay) == (
        "sgd", 0.01, 0.9, 5e-4,
    )  # fmt: skip
    assert training.learning_rate * config.finetune.backbone_rate == pytest.approx(1e-3)
    assert (config.finetune.layer_decay, config.finetune.batch_norm) == (1.0, "auto")


def test_backbones_learn_slower_than_heads():
    for name in ("fine-tune", "fine-tune-sgd"):
        assert override_config(None, [], preset_settings(name)).finetune.backbone_rate < 1
    assert override_config(None, [], preset_settings("frozen")).finetune.trainable_stages == 0


def test_own_settings_win_and_a_preset_is_not_changed():
    config = override_config(None, [], {**preset_settings("fine-tune"), "training.learning_rate": 0.5})
    assert config.training.learning_rate == 0.5
    assert config.finetune.backbone_rate == 0.1
    preset_settings("frozen")["finetune.trainable_stages"] = 3
    assert preset_settings("frozen") == {"finetune.trainable_stages": 0}


def test_an_unknown_preset_is_refused():
    with pytest.raises(InputError) as caught:
        preset_settings("finetune")
    assert str(caught.value) == "preset: 'finetune' is not one of 'small', 'fine-tune', 'fine-tune-sgd', 'frozen'"
