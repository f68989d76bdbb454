"""Presets: each makes valid settings, changes what it says and nothing else, and gives way to the user's own."""

from typing import get_args

import pytest
from safetensors.torch import save_file

from mohs.data.images import ImagePolicy
from mohs.errors import InputError
from mohs.model.embedder import Embedder
from mohs.model.finetune import rate_warning
from mohs.runs import train
from mohs.settings.config import ModelConfig, RunConfig, load_config, override_config
from mohs.settings.presets import Budget, Preset, preset_settings

NAMES = get_args(Preset)


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_makes_valid_settings_that_survive_a_file(name, tmp_path):
    config = override_config(None, [], preset_settings(name))
    for place, value in preset_settings(name).items():
        section, field = place.split(".")
        assert getattr(getattr(config, section), field) == value
        head = ("model.hidden_dim", "model.embedding_dim")
        assert section in ("training", "finetune") or place in head  # not a backbone, not data
    file = tmp_path / "run.toml"
    file.write_text(config.to_toml())
    assert override_config(file, [], {}) == config


@pytest.mark.parametrize("name", [name for name in NAMES if name != "small"])
def test_what_a_preset_sets_is_not_the_default_already(name):
    """But for the momentum, which is part of what SGD is."""
    default = RunConfig()
    same = {
        place
        for place, value in preset_settings(name).items()
        if getattr(getattr(default, place.split(".")[0]), place.split(".")[1]) == value
    }
    assert same <= {"training.momentum"}


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
    assert (
        str(caught.value)
        == "preset: 'finetune' is not one of 'small', 'fine-tune', 'fine-tune-sgd', 'photos', 'frozen'"
    )


def printed(run_cli, *arguments):
    answer = run_cli("train", "shop", *arguments, "--print-config")
    assert answer.code == 0
    return answer


def test_weights_without_a_preset_are_fine_tuned(run_cli, tmp_path):
    weights = ["--weights", "w.safetensors"]
    answer = printed(run_cli, *weights)
    assert answer.out == printed(run_cli, *weights, "--preset", "fine-tune").out
    assert answer.err == [
        "model.weights: uses the preset fine-tune, for loaded weights (training.optimizer adamw, "
        "training.learning_rate 0.001, finetune.backbone_rate 0.1, training.weight_decay 0.05, training.warmup 0.1, "
        "training.max_gradient_norm 1.0); --preset small trains like a new network"
    ]
    # In a file, too.
    (tmp_path / "run.toml").write_text('[model]\nweights = "w.safetensors"\n')
    assert printed(run_cli, "--config", tmp_path / "run.toml").out == answer.out


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_that_is_given_wins_also_with_weights_and_when_it_is_read_back(run_cli, tmp_path, name):
    answer = printed(run_cli, "--weights", "w.safetensors", "--preset", name)
    assert answer.err == []
    wanted = override_config(None, [], {"data.source": "shop", "model.weights": "w.safetensors"},
                             preset=preset_settings(name))  # fmt: skip
    assert answer.out == wanted.to_toml()
    (tmp_path / "run.toml").write_text(answer.out)
    again = printed(run_cli, "--config", tmp_path / "run.toml")
    assert (again.out, again.err) == (answer.out, [])


def test_settings_that_are_given_win_over_the_preset_of_weights(run_cli, tmp_path):
    (tmp_path / "run.toml").write_text("[training]\nwarmup = 0.2\n")
    given = ["--config", tmp_path / "run.toml", "--learning-rate", "0.0005", "--set", "finetune.backbone_rate=0.2"]
    answer = printed(run_cli, "--weights", "w.safetensors", *given)
    for line in ("warmup = 0.2", "learning_rate = 0.0005", "backbone_rate = 0.2", "max_gradient_norm = 1.0"):
        assert line in answer.out.splitlines()
    assert "(training.optimizer adamw, training.weight_decay 0.05, training.max_gradient_norm 1.0)" in answer.err[0]
    assert printed(run_cli).err == []


def test_a_rate_that_ruins_weights_is_told(run_cli, picture_set, tmp_path):
    file = tmp_path / "w.safetensors"
    config = ModelConfig(widths=(8, 8))
    backbone = Embedder.create(config, ImagePolicy(16, 1)).backbone
    save_file({name: value.contiguous() for name, value in backbone.state_dict().items()}, file)
    small = ["--size", "16", "--triplets", "24", "--batch", "8", "--channels", "1", "--set", "model.widths=[8, 8]"]
    command = ["train", picture_set, *small, "--weights", file, "--quiet"]
    said = run_cli(*command, "--out", tmp_path / "auto").err
    assert said[0].startswith("model.weights: uses the preset fine-tune, ")
    assert not any("warning" in line for line in said)
    assert load_config(tmp_path / "auto" / "config.json").finetune.backbone_rate == 0.1
    line = (
        "model.weights: the backbone learns at a rate of 0.004, which washes out what they know; lower "
        "training.learning_rate or finetune.backbone_rate, or take the settings of the preset 'fine-tune'"
    )
    assert run_cli(*command, "--out", tmp_path / "small", "--preset", "small").err[0] == f"warning: {line}"
    own = load_config(tmp_path / "small" / "config.json").model_copy(update={"out": str(tmp_path / "python")})
    with pytest.warns(UserWarning, match=line):
        train(own)


def test_the_backbone_of_a_rate_that_is_no_danger():
    for settings in (
        ["training.learning_rate=0.002"],
        ["finetune.trainable_stages=0"],
        ["training.optimizer=sgd"],
        ["finetune.backbone_rate=0.5"],
    ):
        assert rate_warning(override_config(None, [*settings, "model.weights=w"], {})) is None
    assert rate_warning(override_config(None, [], {})) is None
    thawed = ["finetune.trainable_stages=0", "finetune.unfreeze_at=[0.5]", "model.weights=w"]
    assert rate_warning(override_config(None, thawed, {})) is not None


def test_a_budget_gives_way_to_a_preset_a_file_and_flags(run_cli, tmp_path):
    small, medium, large = (run_cli("train", "shop", "--budget", name, "--print-config").out.splitlines()
                            for name in get_args(Budget))  # fmt: skip
    assert small == run_cli("train", "shop", "--print-config").out.splitlines()
    assert "num_triplets = 100000" in medium
    assert "batch_triplets = 512" in large
    (tmp_path / "run.toml").write_text("[training]\nnum_triplets = 700\n")
    lines = run_cli("train", "shop", "--budget", "medium", "--preset", "photos", "--config", tmp_path / "run.toml",
                    "--batch", "24", "--print-config").out.splitlines()  # fmt: skip
    assert {"num_triplets = 700", "batch_triplets = 24", "embedding_dim = 512", "hidden_dim = 0"} <= set(lines)
    assert "widths = [64, 128, 256]" in lines


def test_an_unknown_budget_is_refused(run_cli):
    answer = run_cli("train", "shop", "--budget", "huge", "--print-config")
    assert (answer.code, answer.err) == (2, ["mohs: budget: 'huge' is not one of 'small', 'medium', 'large'"])
