"""Settings: TOML there and back, exact messages, and who overrides whom."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mohs.data.augment import AugmentPolicy
from mohs.errors import InputError
from mohs.hardness import curves
from mohs.settings.config import (
    DataConfig,
    HardnessConfig,
    LossConfig,
    ModelConfig,
    RunConfig,
    TrainingConfig,
    load_config,
    override_config,
    parse_config,
)
from mohs.settings.loss_records import LOSSES
from mohs.training.step import training_policy

# TOML files are UTF-8, which has no surrogates.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(
    seed=st.integers(0, 2**63 - 1),
    out=TEXT,
    source=TEXT,
    catalog=st.none() | TEXT,
    mean=st.none() | st.tuples(FINITE, FINITE, FINITE),
    options=st.dictionaries(TEXT, TEXT | st.booleans() | st.integers(-(2**31), 2**31) | FINITE, max_size=3),
    rate=st.floats(1e-300, 1e300),
    augment=st.floats(0.0, 1.0),
)
def test_toml_there_and_back(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    out: str,
    source: str,
    catalog: str | None,
    mean: tuple[float, ...] | None,
    options: dict[str, Any],
    rate: float,
    augment: float,
) -> None:
    config = RunConfig(
        seed=seed,
        out=out,
        data=DataConfig(source=source, catalog=catalog),
        model=ModelConfig(mean=mean, backbone_options=options, widths=(3, 5)),
        training=TrainingConfig(learning_rate=rate, augment=augment),
    )
    path = tmp_path_factory.mktemp("toml") / "run.toml"
    path.write_text(config.to_toml(), encoding="utf-8", newline="")
    assert load_config(path) == config
    path.with_suffix(".json").write_text(json.dumps(config.model_dump(mode="json")), encoding="utf-8")
    assert load_config(path.with_suffix(".json")) == config


def test_toml_of_the_defaults_names_every_setting_that_has_a_value() -> None:
    text = RunConfig().to_toml()
    assert text.startswith('seed = 0\n\n[data]\nsource = "glyphs"\nfile_column = "file"\n')
    assert '\n[loss]\nname = "infonce"\nmargin = 0.2\nsquared = true\nswap = false\n' in text
    assert "\ncatalog =" not in text
    assert [line for line in text.splitlines() if line.startswith("[")] == [
        "[data]",
        "[model]",
        "[hardness]",
        "[loss]",
        "[training]",
        "[finetune]",
        "[classification]",
        "[negatives]",
        "[memory]",
        "[guard]",
    ]


def test_every_problem_is_reported_by_place_value_and_rule() -> None:
    values = {
        "sed": 1,
        "loss": {"margin": -1, "margins": 3, "name": "tripel"},
        "losses": {"margin": 1},
        "training": {"learning_rate": float("inf"), "num_triplets": "ten"},
        "model": {"widths": [4, 0]},
        "seed": 2**63,
    }
    with pytest.raises(InputError) as caught:
        parse_config(values, source="run.toml")
    names = "unknown setting; see 'mohs train --print-config' for the names"
    assert set(caught.value.problems) == {
        f"run.toml: sed: {names}",
        f"run.toml: losses: {names}",
        f"run.toml: loss.margins: {names}",
        "run.toml: loss.margin: -1 is wrong: input should be greater than 0",
        f"run.toml: loss.name: 'tripel' is wrong: it should be one of {', '.join(loss.name for loss in LOSSES)}, or a "
        "class name (in capitals) of pytorch_metric_learning.losses",
        "run.toml: training.learning_rate: inf is wrong: input should be a finite number",
        "run.toml: training.num_triplets: 'ten' is wrong: input should be a valid integer, "
        "unable to parse string as an integer",
        "run.toml: model.widths.1: 0 is wrong: input should be greater than or equal to 1",
        "run.toml: seed: 9223372036854775808 is wrong: input should be less than 9223372036854775808",
    }
    assert len(caught.value.problems) == 9


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("data", "size", 7),
        ("data", "size", 1025),
        ("data", "channels", 2),
        ("data", "test_fraction", 0.0),
        ("data", "test_fraction", 1.0),
        ("data", "per_class", 0),
        ("data", "max_bad_images", -1),
        ("data", "fit", "squash"),
        ("model", "embedding_dim", 0),
        ("model", "hidden_dim", -1),
        ("model", "dropout", 1.0),
        ("model", "widths", [0]),
        ("hardness", "cap", 1.01),
        ("hardness", "cap", -0.01),
        ("hardness", "growth", 0),
        ("hardness", "cycles", 0),
        ("hardness", "scale", "hard"),
        ("loss", "temperature", 0),
        ("training", "batch_triplets", 1),
        ("training", "num_segments", 0),
        ("training", "neighbourhood_from", 1.5),
        ("training", "warmup", -0.5),
        ("training", "device", "tpu"),
    ],
)
def test_limits(section: str, name: str, value: Any) -> None:
    with pytest.raises(InputError) as caught:
        parse_config({section: {name: value}}, source="run.toml")
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(f"run.toml: {section}.{name}")


def test_python_gives_one_line_for_each_wrong_value() -> None:
    with pytest.raises(InputError) as caught:
        RunConfig(seed=-1, loss={"margin": -1, "marign": 2}, guard=3)
    assert caught.value.problems == (
        "RunConfig: seed: -1 is wrong: input should be greater than or equal to 0",
        "RunConfig: loss.margin: -1 is wrong: input should be greater than 0",
        "RunConfig: loss.marign: unknown setting; see 'mohs train --print-config' for the names",
        "RunConfig: guard: 3 is wrong: input should be a valid dictionary or instance of GuardConfig",
    )
    with pytest.raises(InputError) as caught:
        LossConfig(name="infonze", margin=True)
    assert [line.partition(" is wrong")[0] for line in caught.value.problems] == [
        "LossConfig: name: 'infonze'",
        "LossConfig: margin: True",
    ]
    assert caught.value.__cause__ is None


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        RunConfig().seed = 3  # type: ignore[misc]


def test_flags_override_set_which_overrides_the_file(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('seed = 1\nout = "from file"\n[loss]\nmargin = 0.1\ntemperature = 0.5\nname = "triplet"\n')
    config = override_config(
        file,
        ["loss.margin=0.2", "loss.temperature=0.6", "out=from set", "loss.temperature=0.7"],
        {"loss.margin": 0.3, "hardness.scale": "rank"},
    )
    assert config.seed == 1  # the file alone
    assert (config.out, config.loss.temperature) == ("from set", 0.7)  # set, the last one
    assert config.loss.margin == 0.3  # the flag
    assert config.loss.name == "triplet"  # its neighbours stay
    assert config.hardness == HardnessConfig(scale="rank")
    assert override_config(None, [], {}) == RunConfig()


def test_set_reads_toml_values_or_plain_text() -> None:
    config = override_config(
        None,
        [
            "data.source = pictures/a=b",
            'data.class_column="name"',
            "data.catalog=",
            "model.widths=[4, 8]",
            "training.augment=0.0",
            "model.backbone_options.pad_type=same",
            "model.backbone_options.drop_rate=0.5",
        ],
        {},
    )
    assert config.data.source.strip() == "pictures/a=b"
    assert (config.data.class_column, config.model.widths, config.training.augment) == ("name", (4, 8), 0.0)
    assert config.model.backbone_options == {"pad_type": "same", "drop_rate": 0.5}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["loss.margin"], "--set: 'loss.margin' is not section.name=value; write for example --set loss.margin=0.5"),
        (["=3"], "--set: '=3' is not section.name=value; write for example --set loss.margin=0.5"),
        (["seed=1", "seed.x=3"], "--set: seed.x: 'seed' is a value, not a section; see --print-config"),
        (["losses.margin=3"], "settings: losses: unknown setting; see 'mohs train --print-config' for the names"),
        (["loss.margin=-1"], "settings: loss.margin: -1 is wrong: input should be greater than 0"),
    ],
)
def test_set_messages(settings: list[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        override_config(None, settings, {})
    assert str(caught.value) == message


def test_file_messages(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.toml: no such file; check the path$"):
        load_config(tmp_path / "none.toml")
    with pytest.raises(InputError, match=r": a folder; give a TOML file or a run's config.json$"):
        load_config(tmp_path)
    (tmp_path / "bad.toml").write_text("seed = 1\nloss = = 3\n")
    with pytest.raises(InputError, match=r"bad\.toml: not TOML \(.*line.*\); correct that place$"):
        load_config(tmp_path / "bad.toml")
    (tmp_path / "latin.toml").write_bytes(b'out = "\xe9"\n')
    with pytest.raises(InputError, match=r"latin\.toml: not TOML \(.*utf-8.*\); correct that place$"):
        load_config(tmp_path / "latin.toml")
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(InputError, match=r"list\.json: not the settings of a run; give a TOML file or a run's config"):
        load_config(tmp_path / "list.json")


@pytest.mark.parametrize("name", ["constant", "linear", "sine", "tanh", "logarithmic", "sigmoid"])
def test_hardness_builds_the_curve_it_names(name: Any) -> None:
    progress = np.linspace(0, 1, 50, endpoint=False)
    config = HardnessConfig(curve=name, cap=0.7, growth=2.0)
    expected = getattr(curves, name)(0.7, *([2.0] if name in ("tanh", "logarithmic", "sigmoid") else []))
    np.testing.assert_array_equal(config.build()(progress), expected(progress))
    repeated = HardnessConfig(curve=name, cap=0.7, growth=2.0, cycles=5).build()(progress)
    np.testing.assert_allclose(repeated, expected(progress * 5 % 1), atol=1e-9)


def test_in_batch_losses_show_two_pictures_a_triplet() -> None:
    shown = {name: LossConfig(name=name).pictures_per_triplet for name in ("triplet", "soft-triplet", "infonce")}
    assert shown == {"triplet": 3, "soft-triplet": 3, "infonce": 2}
    assert LossConfig(name="semi-hard").in_batch


@pytest.mark.parametrize(
    ("values", "num_classes", "strength"),
    [
        ({}, 7_999, 0.7),
        ({}, 8_000, 0.4),
        ({"memory": {"num_negatives": 0}}, 8_000, 0.4),
        ({"loss": {"name": "triplet"}}, 8_000, 0.4),
        ({"model": {"weights": "some.safetensors"}}, 10**6, 0.7),
        ({"training": {"augment": 0.2}}, 10**6, 0.2),
        ({"training": {"augment": 0.2}}, 2, 0.2),
    ],
)
def test_pictures_change_less_where_a_new_network_learns_many_classes(
    values: dict[str, Any], num_classes: int, strength: float
) -> None:
    decided = parse_config(values, source="test").for_classes(num_classes)
    assert decided.training.augment == decided.training.augment_strength == strength
    assert decided.for_classes(2).training.augment == strength  # once decided, it stays
    assert training_policy(decided.training) == AugmentPolicy.of_strength(strength)
