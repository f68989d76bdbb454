"""The site names every page of the documentation once; its first page is README, and links still lead somewhere."""

import importlib.util
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


def pages_of(entries: list[dict[str, Any]]) -> list[str]:
    found = []
    for entry in entries:
        for target in entry.values():
            found += [target] if isinstance(target, str) else pages_of(target)
    return found


def test_every_page_is_in_the_navigation_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("build_site", ROOT / "docs" / "build_site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "SOURCE", tmp_path / "pages")
    module.gather()
    pages = sorted(str(page.relative_to(module.SOURCE)) for page in module.SOURCE.rglob("*.md"))
    project = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
    assert sorted(pages_of(project["nav"])) == pages
    for page in module.SOURCE.rglob("*.md"):
        text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for place in re.findall(r"\]\(([^)#\s:]+)(?:#[^)]*)?\)", text):
            assert (page.parent / place).exists() or "LICENSE" in place, f"{page.name}: {place}"
    assert "mohs.mining.mine" in module.modules()
