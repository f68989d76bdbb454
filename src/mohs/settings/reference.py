"""What each setting means, which values it takes and when it matters: read off the models, for help and docs.

`mohs train --explain` prints it, and docs/settings.md is all of it. Where the default is None, a description ends in
"; none: ...", which says what a run without the setting does.
"""

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, final, get_args

from pydantic import BaseModel

from mohs.errors import InputError, Problem
from mohs.settings.config import RunConfig
from mohs.settings.effects import when_it_matters
from mohs.settings.loss_records import LOSSES, listed
from mohs.settings.presets import Preset, preset_settings
from mohs.settings.toml import toml_value

__all__ = ["SettingFacts", "explain", "find_settings", "sections", "settings_page"]


@final
@dataclass(frozen=True)
class SettingFacts:
    """What is known of a setting.

    Attributes:
        name: "section.name", or the name alone where it is in no section.
        meaning: in a line.
        values: the allowed ones, in words.
        default: as TOML writes it; "none: " and what that means where it is not set.
        matters: the conditions under which it has an effect, all of which hold; empty: always.
        presets: the presets that change it, and to what.
    """

    name: str
    meaning: str
    values: str
    default: str
    matters: tuple[str, ...]
    presets: tuple[str, ...]

    def rows(self, flag: str | None) -> list[tuple[str, str]]:
        """Return what is told of it, a topic and a text each; `flag` sets it, if there is one."""
        rows = [("meaning", self.meaning), ("values", self.values), ("default", self.default)]
        if self.presets:
            rows.append(("presets", ", ".join(self.presets)))
        rows.append(("matters", "; and ".join(self.matters) or "always"))
        rows.append(("set by", f"{flag}, or --set {self.name}=VALUE" if flag else f"--set {self.name}=VALUE"))
        return rows


def sections() -> dict[str, str]:
    """Return the sections of the settings, in their order, and what each is about.

    >>> sections()["loss"]
    'What training lowers.'
    """
    return {name: (model.__doc__ or "").strip().splitlines()[0] for name, model in _models().items()}


def find_settings(name: str, aliases: Mapping[str, str] | None = None) -> list[SettingFacts]:
    """Return the facts of the setting "section.name", or of all settings of a section, in their order.

    `aliases` are other names of settings, such as flags, that may be meant: they are told as near names. Raises
    `InputError` for a name that is none.

    >>> find_settings("training.momentum")[0].values
    'a number, at least 0, below 1'
    >>> find_settings("momentum")
    Traceback (most recent call last):
    mohs.errors.InputError: momentum: no such setting; did you mean training.momentum, memory.momentum?
    """
    names = _names()
    found = [each for each in names if each == name or each.startswith(f"{name}.")]
    if not found:
        near = _near(name, [*names, *sections()], aliases or {})
        fix = f"did you mean {', '.join(near)}?" if near else "see 'mohs train --print-config' for the names"
        raise InputError(Problem(name, "no such setting", fix))
    return [_facts(each) for each in found]


def explain(name: str, flags: Mapping[str, str]) -> list[str]:
    r"""Return lines about the setting "section.name", or about all of a section; `flags` are those of settings.

    >>> print("\n".join(explain("training.momentum", {})))
    training.momentum = 0.9
      meaning  share of the last step that sgd keeps
      values   a number, at least 0, below 1
      default  0.9
      presets  fine-tune-sgd 0.9
      matters  with training.optimizer 'sgd'
      set by   --set training.momentum=VALUE
    """
    aliases = {flag.lstrip("-"): setting for setting, flag in flags.items()}
    lines = []
    for facts in find_settings(name.strip().lstrip("-"), aliases):
        value = facts.default.partition(":")[0]
        lines += ["", facts.name if value == "none" else f"{facts.name} = {facts.default}"]
        lines += [f"  {topic:<8} {text}" for topic, text in facts.rows(flags.get(facts.name))]
    about = sections().get(name)
    return lines[1:] if about is None else [f"[{name}] {about}", *lines]


def settings_page(flags: Mapping[str, str]) -> str:
    """Return the page of all settings, docs/settings.md; `flags` are those of `mohs train`."""
    lines = [
        "# Settings",
        "",
        "All settings of a run, in the order of `mohs train --print-config`. A TOML file gives them (`--config FILE`);",
        "`--set section.name=value` changes one. `mohs train --explain section.name` prints an entry of this page.",
        "",
        "This page is written by `make settings-reference`; change the descriptions in `src/mohs/settings/config.py`.",
    ]
    for section, about in {"": "Of the whole run.", **sections()}.items():
        lines += ["", f"## {section or 'Run'}", about]
        inside = [name for name in _names() if name.rpartition(".")[0] == section]
        for facts in map(_facts, inside):
            lines += ["", f"### {facts.name}"]
            lines += [f"- **{topic}**: {text}" for topic, text in facts.rows(flags.get(facts.name))]
    return "\n".join(lines) + "\n"


def _models() -> dict[str, type[BaseModel]]:
    fields = RunConfig.model_fields.items()
    kinds = {name: field.annotation for name, field in fields}
    return {name: kind for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, BaseModel)}


def _names() -> list[str]:
    models = _models()
    single = [name for name in RunConfig.model_fields if name not in models]
    return single + [f"{section}.{name}" for section, model in models.items() for name in model.model_fields]


def _facts(name: str) -> SettingFacts:
    section, _, last = name.rpartition(".")
    model = _models()[section] if section else RunConfig
    field = model.model_fields[last]
    schema = model.model_json_schema()["properties"][last]
    meaning, _, unset = (field.description or "").partition("; none: ")
    value = field.get_default(call_default_factory=True)
    reading = [record for record in LOSSES if section == "loss" and last in record.reads]
    matters = when_it_matters(name)
    if reading and not matters:
        library = ", or a class of pytorch-metric-learning" if any(each.library_class for each in reading) else ""
        matters = [f"with loss.name {listed(reading, last='or')}{library}"]
    presets = {preset: preset_settings(preset) for preset in get_args(Preset)}
    return SettingFacts(
        name=name,
        meaning=meaning,
        values=_values(schema),
        default=f"none: {unset}" if value is None else toml_value(value),
        matters=tuple(matters),
        presets=tuple(f"{preset} {toml_value(taken[name])}" for preset, taken in presets.items() if name in taken),
    )


def _values(schema: Mapping[str, Any]) -> str:
    """Return which values a JSON schema allows, in words."""
    if "anyOf" in schema:
        return ", or ".join(_values(each) for each in schema["anyOf"] if each["type"] != "null")
    if "enum" in schema:
        return " or ".join(toml_value(value) for value in schema["enum"])
    match schema["type"]:
        case "boolean":
            return "true or false"
        case "array":
            return f"a list; each is {_values(schema['items'])}"
        case "object":
            return "a table of names and values"
        case "string":
            return "text"
        case kind:
            number = "a whole number" if kind == "integer" else "a number"
            limits = (
                ("minimum", "at least"),
                ("exclusiveMinimum", "above"),
                ("maximum", "at most"),
                ("exclusiveMaximum", "below"),
            )
            return ", ".join(
                [
                    number,
                    *(
                        f"{words} {toml_value(schema[key]).removesuffix('.0')}"
                        for key, words in limits
                        if key in schema
                    ),
                ]
            )


def _near(name: str, names: Collection[str], aliases: Mapping[str, str]) -> list[str]:
    """Return at most three settings or sections that may be meant: those of the same last name, then the most alike."""
    last = name.rpartition(".")[2].replace("-", "_")
    same = [each for each in names if each.rpartition(".")[2] == last]
    lasts = {each.rpartition(".")[2] for each in names}
    alike = [
        *([aliases[name]] if name in aliases else []),
        *difflib.get_close_matches(name, names, n=3),
        *(each for near in difflib.get_close_matches(last, lasts) for each in names if each.rpartition(".")[2] == near),
    ]
    return list(dict.fromkeys([*same, *alike]))[:3]
