"""Losses that go nowhere, planted in the programs of examples/: the doctor names the plant first, and only there."""

import pytest

import mohs

pytestmark = pytest.mark.usefixtures("torch_as_it_was")


@pytest.fixture(scope="module")
def glyphs() -> mohs.Dataset:
    return mohs.open_dataset("glyphs", policy=mohs.ImagePolicy(size=32, channels=1))


def causes(diagnosis: mohs.Diagnosis, severity: str | None = None) -> list[str]:
    return [finding.cause for finding in diagnosis.findings if severity in (None, finding.severity)]


@pytest.mark.parametrize("seed", [0])
def test_a_filter_that_keeps_easy_triplets_holds_accuracy_at_chance(seed, glyphs, tmp_path, load_example):
    example = load_example("fifty_percent")
    size = {"num_classes": 150, "num_epochs": 6, "steps_per_epoch": 20, "seed": seed}
    lines: list[str] = []
    wrong = example.run(glyphs, tmp_path / "wrong", keep="in order", say=lines.append, **size)
    assert 0.45 < wrong.val_accuracy < 0.55
    assert wrong.loss < 0.1 * example.MARGIN  # which looks like success
    assert causes(wrong.diagnosis)[0] == "only-easy-triplets"
    assert lines[-1] == f"epoch 6: loss {wrong.loss:.4f}, val_accuracy {wrong.val_accuracy:.3f}"

    right = example.run(glyphs, tmp_path / "right", keep="inside the margin", say=lines.append, **size)
    assert right.val_accuracy > 0.75
    assert "only-easy-triplets" not in causes(right.diagnosis)
    assert causes(right.diagnosis, "error") == []
    assert "only-easy-triplets" in right.diagnosis.checked


@pytest.mark.parametrize("seed", [0])
def test_a_sigmoid_on_the_distance_and_large_steps_hold_the_loss_at_one_half(seed, glyphs, tmp_path, load_example):
    example = load_example("constant_loss")
    size = {"num_classes": 150, "num_epochs": 6, "steps_per_epoch": 12, "seed": seed}
    lines: list[str] = []
    both = example.run(glyphs, tmp_path / "both", sigmoid=True, learning_rate=0.3, say=lines.append, **size)
    assert both.val_losses == (0.5,) * 6
    assert both.val_accuracy == 0.5
    assert causes(both.diagnosis) == ["sigmoid-on-distance", "stalled"]
    first, second = both.diagnosis.findings
    # Both of what was planted: the sigmoid, and the rate.
    assert "no slope left" in first.what
    assert first.settings == {"loss.name": "contrastive", "training.learning_rate": 0.03}
    assert "every output is 1, the sigmoid of a large distance" in second.what
    assert lines[-1] == "epoch 6: loss 0.5000, val_loss 0.5000, val_accuracy 0.500"

    # Small steps alone do not help: the order of pairs is learned, and the threshold 0.5 still calls all different.
    sigmoid = example.run(glyphs, tmp_path / "sigmoid", sigmoid=True, learning_rate=1e-3, say=lines.append, **size)
    assert sigmoid.val_accuracy == 0.5
    assert causes(sigmoid.diagnosis)[0] == "sigmoid-on-distance"
    assert "training.learning_rate" not in sigmoid.diagnosis.findings[0].settings

    right = example.run(glyphs, tmp_path / "right", sigmoid=False, learning_rate=1e-3, say=lines.append, **size)
    assert right.val_accuracy > 0.8
    assert causes(right.diagnosis, "error") == []
    assert {"sigmoid-on-distance", "stalled"} <= set(right.diagnosis.checked) - set(causes(right.diagnosis))
