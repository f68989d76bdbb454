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


def test_links_that_lead_nowhere_and_pictures_without_text_are_told(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("check_site", ROOT / "docs" / "check_site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "guides").mkdir()
    (tmp_path / "index.html").write_text(
        '<a href="guides/a.html#here">a</a> <a href="guides/">b</a> <a href="https://example.org/x">c</a>'
        '<a href="guides/b.html">d</a> <a href="guides/a.html#there">e</a> <img src="x.png"> <img src="x.png" alt="x">'
    )
    (tmp_path / "guides" / "a.html").write_text('<h1 id="here">A</h1><a href="../index.html">up</a>')
    (tmp_path / "guides" / "index.html").write_text("")
    assert module.link_problems(tmp_path) == [
        'index.html: <img src="x.png">: no text',
        "index.html: guides/b.html: leads nowhere",
        "index.html: guides/a.html#there: no such place in that page",
    ]


def test_the_pages_that_a_search_must_find_are_there() -> None:
    # The browser that searches runs by `make docs-check` alone; a page that gets another name is noticed here.
    text = (ROOT / "docs" / "check_site.py").read_text(encoding="utf-8")
    wanted = re.findall(r'^    "[^"]+": "([\w-]+)\.html",$', text, flags=re.MULTILINE)
    assert len(wanted) >= 6
    names = {page.stem for page in (ROOT / "docs").rglob("*.md")}
    assert set(wanted) <= names
