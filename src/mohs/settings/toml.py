"""Settings in files: TOML, or the JSON of a run folder, as nested dictionaries."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mohs.artefacts import read_json
from mohs.errors import InputError

__all__ = ["flat_settings", "read_settings_file", "toml_value", "write_toml"]


def read_settings_file(path: Path) -> dict[str, Any]:
    """Return the settings in a TOML file (or in the config.json of a run folder), section by section, unchecked.

    Raises `InputError` if there is no such file or it cannot be read.
    """
    if path.suffix == ".json":
        values = read_json(path)
        if not isinstance(values, dict):
            raise InputError(f"{path}: not the settings of a run; give a TOML file or a run's config.json")
        return values
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        raise InputError(f"{path}: a folder; give a TOML file or a run's config.json") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not TOML ({error}); correct that place") from None


def flat_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of nested settings by "section.name", or by their name where they are in no section.

    >>> flat_settings({"seed": 0, "model": {"backbone_options": {"pad_type": "same"}}})
    {'seed': 0, 'model.backbone_options': {'pad_type': 'same'}}
    """
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{last}": inner for last, inner in value.items()}
        else:
            flat[name] = value
    return flat


def write_toml(values: Mapping[str, Any]) -> str:
    """Return settings as TOML: single values first, then a section for each dictionary.

    >>> print(write_toml({"seed": 0, "loss": {"name": "triplet", "margin": 0.2}}), end="")
    seed = 0
    <BLANKLINE>
    [loss]
    name = "triplet"
    margin = 0.2
    """
    lines = [f"{name} = {toml_value(value)}" for name, value in values.items() if not isinstance(value, Mapping)]
    for section, settings in values.items():
        if isinstance(settings, Mapping):
            lines += ["", f"[{section}]", *(f"{name} = {toml_value(value)}" for name, value in settings.items())]
    return "\n".join(lines) + "\n"


def toml_value(value: Any) -> str:
    """Return a setting's value as TOML writes it."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            # A JSON string is a TOML basic string, but for one control character that only TOML wants escaped.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case dict():
            return "{" + ", ".join(f"{toml_value(name)} = {toml_value(item)}" for name, item in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(toml_value, value)) + "]"
        case _:
            return repr(value)
