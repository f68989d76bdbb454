"""What is said before a run: each line where it is true, and none where it is not."""

import pytest

from mohs.settings.config import override_config
from mohs.settings.presets import preset_settings
from mohs.training.run_inputs import forewarnings


@pytest.mark.parametrize(
    ("preset", "said"),
    [
        ("fine-tune", "finetune.backbone_rate 0.1 is for pretrained ones; give --weights FILE, or leave it out"),
        ("fine-tune-sgd", "finetune.backbone_rate 0.1 is for pretrained ones; give --weights FILE, or leave it out"),
        (
            "photos",
            "finetune.backbone_rate 0.1, finetune.head rca, finetune.trained_share 0.6 are for pretrained ones; "
            "give --weights FILE, or leave them out",
        ),
        ("frozen", "finetune.trainable_stages 0 is for pretrained ones; give --weights FILE, or leave it out"),
    ],
)
@pytest.mark.parametrize("backbone", ["small", "mobilenetv2_100"])
def test_a_preset_for_weights_that_are_not_given_is_told(preset: str, said: str, backbone: str) -> None:
    settings = {"model.backbone": backbone, **preset_settings(preset)}
    line = f"model.weights: none are given, so {backbone!r} starts from random weights, and {said}"
    assert forewarnings(override_config(None, (), settings), 100) == [line]
    assert forewarnings(override_config(None, (), {**settings, "model.weights": "w"}), 100) == []


@pytest.mark.parametrize(
    "setting", ["train_from='stages.0'", "unfreeze_at=[0.5]", "batch_norm='eval'", "layer_decay=0.9"]
)
def test_so_is_any_setting_for_weights(setting: str) -> None:
    name = setting.partition("=")[0]
    (line,) = forewarnings(override_config(None, [f"finetune.{setting}"], {}), 100)
    assert f"finetune.{name} " in line


def test_a_new_network_of_the_usual_length_is_not_warned_of() -> None:
    for num_classes in (2, 20_000, 10**6):
        assert forewarnings(override_config(None, (), {"model.backbone": "mobilenetv2_100"}), num_classes) == []
