"""Settings that a finding asks for, as changes of a file."""

from collections.abc import Mapping
from typing import Any

from mohs.toml import toml_value

__all__ = ["settings_diff"]


def settings_diff(settings: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """Return settings as changes of a TOML file: "-" what is set (where that is known), "+" what to set.

    Settings that are so already are left out.

    >>> settings_diff({"loss.margin": 0.5, "hardness.curve": "closed-loop"}, {"loss.margin": 1.6})
    ['[loss]', '-margin = 1.6', '+margin = 0.5', '[hardness]', '+curve = "closed-loop"']
    """
    lines: list[str] = []
    last = ""
    for name, value in settings.items():
        section, _, setting = name.rpartition(".")
        if name in current and current[name] == value:
            continue
        if section != last:
            lines.append(f"[{section}]")
            last = section
        if current.get(name) is not None:
            lines.append(f"-{setting} = {toml_value(current[name])}")
        lines.append(f"+{setting} = {toml_value(value)}")
    return lines
