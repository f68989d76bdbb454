"""Numbers of every kind for every numeric setting, flag and parameter: taken as they are, or refused in one line.

The matrices are made from the settings' models and from the commands themselves, so that a new one is in them.
"""

import math
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import typer
from pydantic import BaseModel

import mohs
from mohs.classify.thresholds import choose_threshold
from mohs.cli import _run, app
from mohs.errors import InputError
from mohs.evaluation.intervals import class_interval
from mohs.evaluation.pair_calibration import reliability_table
from mohs.evaluation.pairs import sample_pairs
from mohs.evaluation.retrieval import evaluate_all_against_all
from mohs.evaluation.triplets import sample_triplets
from mohs.settings.config import RunConfig, override_config
from mohs.settings.toml import flat_settings

from .reliability import check_table_of

TEXTS = (
    "nan", "inf", "-inf", "1e999", "-1", "-0.5", "0", "1e308", "9" * 25, "1.5.2", "x", "", " ", "[1]", "{}", "true",
    "٣", "0x10", "1,5", "5e-324", "None", "-" + "9" * 25,
)  # fmt: skip
"""What is typed for a number."""

OBJECTS: dict[str, Any] = {
    "NaN": math.nan, "Inf": math.inf, "-Inf": -math.inf, "-1": -1, "-0.5": -0.5, "10**30": 10**30, "-10**30": -(10**30),
    "10**400": 10**400,
    "1e308": 1e308, "text": "x", "a digit": "3", "empty text": "", "None": None, "list": [1], "two": [1, 2], "dict": {},
    "complex": 1j, "bytes": b"3", "NaN of numpy": np.float32("nan"), "array": np.array([1, 2]), "set": {1},
    "a half": 0.5, "1.5": 1.5, "object": object(), "True": True, "False": False,
}  # fmt: skip
"""What a program gives for a number."""


def numeric_settings(model: type[BaseModel] = RunConfig, above: str = "") -> Iterator[str]:
    """Yield the names of settings that are a number, with their sections."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from numeric_settings(kind, f"{above}{name}.")
        elif {int, float} & set(inner(kind)):
            yield f"{above}{name}"


def inner(kind: Any) -> Iterator[Any]:
    """Yield the types in a type, mappings apart."""
    yield kind
    if "Mapping" not in str(kind):
        for each in get_args(kind):
            yield from inner(each)


SETTINGS = sorted(numeric_settings())


def one_line_each(error: InputError, *named: str) -> None:
    for line in error.problems:
        assert line.isprintable(), line
        assert len(line) < 900, line
    assert any(name in line for line in error.problems for name in named), (error.problems, named)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_takes_a_number_as_it_is_or_refuses_it_by_name(name: str) -> None:
    for text in TEXTS:
        try:
            config = override_config(None, [f"{name}={text}"], {})
        except InputError as error:
            one_line_each(error, name, name.partition(".")[0])
        else:
            assert_meant(flat_settings(config.model_dump())[name], text)
    for value in OBJECTS.values():
        try:
            config = override_config(None, (), {name: value})
        except InputError as error:
            one_line_each(error, name, name.partition(".")[0])
        else:
            found = flat_settings(config.model_dump())[name]
            assert_meant(found, str(value) if not isinstance(value, bytes) else value.decode())


@pytest.mark.parametrize("name", SETTINGS)
def test_a_section_takes_no_truth_value_for_a_number(name: str) -> None:
    *sections, last = name.split(".")
    model: type[BaseModel] = RunConfig
    for section in sections:
        model = model.model_fields[section].annotation  # type: ignore[assignment]
    takes_both = bool in set(inner(model.model_fields[last].annotation))
    for value in () if takes_both else (True, [True, 8]):
        with pytest.raises(InputError, match="number"):
            model(**{last: value})


def assert_meant(found: Any, text: str) -> None:
    """Hold a setting against what was typed: that very number, finite."""
    if isinstance(found, list | tuple):
        assert all(map(math.isfinite, found))
    elif found is not None and not isinstance(found, bool | str):
        assert math.isfinite(found)
        typed = tomllib.loads(f"x = {text}")["x"]
        assert not isinstance(typed, bool)
        assert float(found) == float(typed), (found, text)


def commands() -> dict[str, Any]:
    """Return all commands by their words."""

    def walk(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        if getattr(command, "commands", None):
            for name, inner_command in command.commands.items():
                yield from walk(inner_command, (*words, name))
        else:
            yield " ".join(words), command

    return dict(walk(typer.main.get_command(app), ()))


COMMANDS = commands()
FLAGS = [
    (words, each.opts[-1])
    for words, command in COMMANDS.items()
    for each in command.params
    if each.opts[-1].startswith("--") and getattr(each.type_descriptor, "annotation", None) in (int, float)
]
# None of them is there: a command that passes its flags ends at the next thing it looks for.
NOTHING = {"out": "nowhere/out", "to": "pgvector"}


@pytest.mark.parametrize("words", sorted({words for words, _ in FLAGS}))
def test_a_flag_is_refused_in_a_line_or_the_command_goes_on(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mohs-demo").mkdir()
    (tmp_path / "mohs-demo" / "something").touch()
    command = typer.main.get_command(app)
    monkeypatch.setattr("mohs.cli.typer.main.get_command", lambda _: command)  # made once: it takes a while
    given: list[str] = []
    for each in COMMANDS[words].params:
        if each.required:
            value = NOTHING.get(each.name, "nowhere")
            given += [value] if not each.opts[-1].startswith("-") else [each.opts[-1], value]
    for flag in (flag for of, flag in FLAGS if of == words):
        for text in TEXTS:
            if words == "glyphs" and text.strip("9") == "":
                continue  # it would be taken
            code, lines = _run([*words.split(), *given, f"{flag}={text}"])
            said = [*lines, *capsys.readouterr().err.splitlines()]
            assert code == 2, (flag, text, said)
            assert said
            assert len(lines) <= 3, (flag, text, lines)
            assert all(line.isprintable() and len(line) < 900 for line in lines), (flag, text, lines)
            is_number = text.strip("-0123456789.e") == "" and text.count(".") < 2 and text.strip() not in ("", "-")
            assert is_number or flag in lines[0] or "nan inf -inf 1e999 ٣".find(text) >= 0, (flag, text, lines)


N = 12
X = np.random.Generator(np.random.PCG64(0)).normal(size=(N, 4)).astype(np.float32)
Y = np.repeat(np.arange(6), 2)
T = np.arange(N)
SCORE = np.linspace(0, 1, N)


def mined(**options: Any) -> Any:
    return mohs.mine(X, Y, anchors_T=T, hardness_T=np.full(N, 0.5), **options).negative


def at_half(curve: Callable[[np.ndarray], np.ndarray]) -> float:
    return float(curve(np.array([0.5]))[0])


PLAN = mohs.mine(X, Y, anchors_T=T, hardness_T=np.full(N, 0.5))
PARAMETERS: dict[str, Callable[[Any], Any]] = {
    "mine num_negatives": lambda v: mined(num_negatives=v),
    "mine margin": lambda v: mined(scale="margin", margin=v),
    "mine num_sampled": lambda v: mined(scale="rank", method="sampled", num_sampled=v),
    "mine seed": lambda v: mined(seed=v),
    "mine hardness_T": lambda v: mohs.mine(X, Y, anchors_T=[0], hardness_T=[v]).negative,
    "anchor_sequence num_triplets": lambda v: mohs.anchor_sequence(Y, v, seed=0),
    "anchor_sequence seed": lambda v: mohs.anchor_sequence(Y, 8, seed=v),
    "choose_positives seed": lambda v: mohs.choose_positives(Y, T, seed=v)[0],
    "constant cap": lambda v: at_half(mohs.curves.constant(v)),
    "linear cap": lambda v: at_half(mohs.curves.linear(v)),
    "sine cap": lambda v: at_half(mohs.curves.sine(v)),
    "tanh cap": lambda v: at_half(mohs.curves.tanh(v)),
    "tanh growth": lambda v: at_half(mohs.curves.tanh(growth=v)),
    "logarithmic growth": lambda v: at_half(mohs.curves.logarithmic(growth=v)),
    "sigmoid cap": lambda v: at_half(mohs.curves.sigmoid(v)),
    "cyclic num_cycles": lambda v: at_half(mohs.curves.cyclic(mohs.curves.linear(), v)),
    "schedule num_triplets": lambda v: mohs.curves.schedule(mohs.curves.linear(), v),
    "ImagePolicy size": lambda v: mohs.ImagePolicy(size=v).size,
    "ImagePolicy channels": lambda v: mohs.ImagePolicy(channels=v).channels,
    "ImagePolicy white_level": lambda v: mohs.ImagePolicy(white_level=v).white_level,
    "PlanSampler batch_triplets": lambda v: list(mohs.PlanSampler(PLAN, v)),
    "PlanSampler rank": lambda v: list(mohs.PlanSampler(PLAN, 4, rank=v, num_ranks=2)),
    "PlanSampler num_ranks": lambda v: list(mohs.PlanSampler(PLAN, 4, num_ranks=v)),
    "NeighbourhoodSampler batch_classes": lambda v: list(mohs.NeighbourhoodSampler(Y, v)),
    "NeighbourhoodSampler size": lambda v: mohs.NeighbourhoodSampler(Y, 4, size=v).set_pass(1, X),
    "NeighbourhoodSampler hardness": lambda v: mohs.NeighbourhoodSampler(Y, 4, hardness=v).set_pass(1, X),
    "NeighbourhoodSampler seed": lambda v: list(mohs.NeighbourhoodSampler(Y, 4, seed=v)),
    "sample_pairs num_negatives": lambda v: sample_pairs(Y, num_negatives=v),
    "sample_pairs num_nearest": lambda v: sample_pairs(Y, embeddings_ND=X, num_nearest=v),
    "sample_pairs max_positives": lambda v: sample_pairs(Y, max_positives=v),
    "sample_pairs max_positives_per_class": lambda v: sample_pairs(Y, max_positives_per_class=v),
    "sample_pairs seed": lambda v: sample_pairs(Y, seed=v),
    "sample_triplets seed": lambda v: sample_triplets(Y, 4, seed=v),
    "sample_triplets num_triplets": lambda v: sample_triplets(Y, v, seed=0),
    "evaluate_all_against_all ks": lambda v: evaluate_all_against_all(X, Y, ks=(v,)),
    "class_interval confidence": lambda v: class_interval(SCORE, Y, confidence=v),
    "reliability_table num_bins": lambda v: reliability_table(SCORE, Y > 2, num_bins=v),
    "choose_threshold min_precision": lambda v: choose_threshold(SCORE, Y > 2, SCORE, min_precision=v),
    "choose_threshold max_false_acceptance": lambda v: choose_threshold(SCORE, Y > 2, SCORE, max_false_acceptance=v),
    "schedule start": lambda v: mohs.curves.schedule(mohs.curves.linear(), 9, start=v),
    "schedule stop": lambda v: mohs.curves.schedule(mohs.curves.linear(), 9, stop=v),
    "sigmoid lower": lambda v: at_half(mohs.curves.sigmoid(lower=v)),
    "sigmoid offset": lambda v: at_half(mohs.curves.sigmoid(offset=v)),
    "sigmoid asymmetry": lambda v: at_half(mohs.curves.sigmoid(asymmetry=v)),
    "diagnose margin": lambda v: mohs.diagnose(embeddings=X, labels=Y, margin=v),
    "diagnose batch": lambda v: mohs.diagnose(embeddings=X, labels=Y, batch=v),
    "diagnose seed": lambda v: mohs.diagnose(embeddings=X, labels=Y, seed=v).checked,
    "Classifier num_epochs": lambda v: mohs.Classifier(num_epochs=v).fit(X, Y).predict(X),
    "Classifier num_folds": lambda v: mohs.Classifier(method="nearest-neighbours", num_folds=v).fit(X, Y),
    "Classifier dropout": lambda v: mohs.Classifier(dropout=v, num_epochs=1).fit(X, Y).predict(X),
    "Classifier learning_rate": lambda v: mohs.Classifier(learning_rate=v, num_epochs=1).fit(X, Y).predict(X),
    "Classifier num_neighbours": lambda v: mohs.Classifier(method="nearest-neighbours", num_neighbours=v).fit(X, Y),
    "Classifier seed": lambda v: mohs.Classifier(seed=v, num_epochs=1).fit(X, Y).predict(X),
}  # fmt: skip

NOT_TRIED = {("Classifier num_epochs", kind) for kind in ("10**30", "1e308")}  # it would train as long
TRIED = [(name, kind) for name in PARAMETERS for kind in OBJECTS if (name, kind) not in NOT_TRIED]


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_parameter_takes_a_number_or_refuses_it_by_name(name: str) -> None:
    for kind, value in OBJECTS.items():
        if (name, kind) in NOT_TRIED:
            continue
        try:
            PARAMETERS[name](value)
        except InputError as error:
            one_line_each(error, name.split()[-1], "processes")
        except Exception as error:
            raise AssertionError(f"{name} = {kind}") from error
        else:
            is_number = isinstance(value, int | float) and math.isfinite(value)
            assert is_number or value is None, (name, kind)


def test_the_table_of_the_document_is_what_is_tried() -> None:
    rows = (
        ("settings, as they are typed", len(SETTINGS), len(SETTINGS) * len(TEXTS)),
        ("settings, from a program", len(SETTINGS), len(SETTINGS) * len(OBJECTS)),
        ("flags of commands", len(FLAGS), len(FLAGS) * len(TEXTS)),
        ("parameters of functions", len(PARAMETERS), len(TRIED)),
    )
    assert sum(row[2] for row in rows) >= 473
    check_table_of("numbers", ("numbers", "names", "tried"), rows)
