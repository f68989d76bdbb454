"""What is said of settings: each has a meaning, and the page in the docs is what the models say."""

from pathlib import Path

import pytest

from mohs.cli.train import flags
from mohs.errors import InputError
from mohs.settings.config import RunConfig
from mohs.settings.loss_records import LOSSES, listed
from mohs.settings.reference import explain, find_settings, sections, settings_page
from mohs.settings.toml import flat_settings

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
FACTS = [facts for name in ("seed", "out", *sections()) for facts in find_settings(name)]


def test_every_setting_is_there_once_with_a_meaning_and_what_none_means():
    assert [facts.name for facts in FACTS] == list(flat_settings(RunConfig().model_dump()))
    for facts in FACTS:
        assert facts.meaning, facts.name
        assert facts.default != "none: ", f"{facts.name}: its description does not end in '; none: ...'"
        assert ("none: " in facts.meaning) is False, facts.name


def test_the_page_is_what_the_models_say():
    assert PAGE.read_text(encoding="utf-8") == settings_page(flags()), "run make settings-reference"


def test_facts_by_hand():
    rows = {facts.name: dict(facts.rows(None)) for facts in FACTS}
    assert rows["loss.margin"]["values"] == "a number, above 0"
    assert rows["data.size"]["values"] == "a whole number, at least 8, at most 1024"
    assert rows["data.channels"]["values"] == "1 or 3"
    assert rows["model.hidden_dim"]["default"] == "none: 0 where muon trains a new network, else 256"
    of_temperature = [loss for loss in LOSSES if "temperature" in loss.reads]
    assert rows["loss.temperature"]["matters"] == f"with loss.name {listed(of_temperature, last='or')}"
    assert rows["loss.options"]["matters"].endswith("or a class of pytorch-metric-learning")
    assert rows["training.warmup"]["matters"] == "always"
    assert rows["finetune.trainable_stages"]["presets"] == "frozen 0"
    assert rows["model.widths"]["values"] == "a list; each is a whole number, at least 1"


def test_a_name_that_is_none_is_told_with_those_that_are_near():
    for wrong, near in [
        ("loss.margn", "loss.margin"),
        ("momentum", "training.momentum, memory.momentum"),
        ("triplets", "training.num_triplets"),
        ("hardnes", "hardness"),
        ("marg", "loss.margin, classification.margin"),
    ]:
        with pytest.raises(InputError) as refused:
            find_settings(wrong, {"triplets": "training.num_triplets"})
        assert str(refused.value).startswith(f"{wrong}: no such setting; did you mean {near}")
    with pytest.raises(InputError, match="xyzzy: no such setting; see 'mohs train --print-config' for the names"):
        find_settings("xyzzy")


def test_explain_on_the_command_line(run_cli):
    answer = run_cli("train", "--explain", "loss.margin")
    assert (answer.code, answer.err) == (0, [])
    assert answer.out.splitlines() == explain("loss.margin", flags())
    assert "set by   --margin, or --set loss.margin=VALUE" in answer.out
    section = run_cli("train", "--explain", "loss").out
    assert section.startswith("[loss] What training lowers.\n\nloss.name = ")
    assert section.count("  meaning  ") == len(find_settings("loss"))
    wrong = run_cli("train", "--explain", "lossmargin")
    assert (wrong.code, wrong.out) == (2, "")
    assert wrong.err[0].startswith("mohs: --explain lossmargin: no such setting; did you mean loss.margin")
    assert len(wrong.err) == 1
