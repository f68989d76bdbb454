"""Every snippet of the documentation is run: Python blocks in one namespace a page, `mohs` lines in process."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from mohs.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
DATA = ROOT.parent / "shared" / "data"
BLOCK = re.compile(
    r"^(?:<!-- needs: (?P<needs>\w+) -->\n)?```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)


MOST = {"--triplets": 200, "--pictures": 1200, "--classes": 70}
KEPT = {"search.md": "--classes"}  # its shop begins with the first 150


def shortened(line: str, kept: str | None) -> str:
    """The same command with a shorter run: what a page shows must work, and on how much it trains is not tested."""
    for flag, most in MOST.items():
        if flag == kept:
            continue
        line = re.sub(rf"(?<={flag} )[\d_]+", lambda found, most=most: str(min(most, int(found[0]))), line)
    return line


def run_line(line: str, kept: str | None = None) -> None:
    words = shlex.split(shortened(line, kept), comments=True)
    if not words:
        return
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert words[1] in targets, line
        return
    if words[0] in ("git", "cd", "unzip"):
        return
    if words[0] == "torchrun":
        places = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        done = subprocess.run(words, env=places, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return
    assert words[0] == "mohs", f"a snippet runs {words[0]!r}, which this test cannot"
    with pytest.raises(SystemExit) as stop:
        main([*words[1:], *(["--quiet"] if words[1] in ("train", "evaluate", "mine", "check") else [])])
    assert stop.value.code == 0, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_snippets_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        code = block["code"]
        if block["needs"] is not None:
            continue  # run by the test below, where the data set is there
        if block["language"] == "python":
            exec(compile(code, str(page), "exec"), namespace)
        elif block["language"] == "sh":
            for line in code.splitlines():
                # The long demo is `make demo`'s; here every other command runs as it is written.
                run_line(line, KEPT.get(page.name))


def test_every_code_block_has_a_language_that_is_run() -> None:
    for page in PAGES:
        fences = re.findall(r"^```(\w*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert set(fences[::2]) <= {"python", "sh", "toml", ""}, page


@pytest.mark.parametrize(
    ("name", "num_rows", "commands", "left"),
    [
        ("omniglot", 240, ["mine", "train", "evaluate"], "runs/omniglot/report.html"),
        ("emoji", 160, ["train", "evaluate", "index", "index", "search"], "emoji.index/calibration.json"),
    ],
)
def test_pages_on_a_real_set(
    name: str, num_rows: int, commands: list[str], left: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands of a page on a real set, on some of its classes to keep the test short."""
    if not (DATA / f"{name}.zip").is_file():
        pytest.skip(f"{DATA / name}.zip is absent: the pages' commands on {name} are not tested")
    with zipfile.ZipFile(DATA / f"{name}.zip") as archive:
        archive.extractall(tmp_path)
    _, *rows = (tmp_path / name / "images.csv").read_text(encoding="utf-8").splitlines()
    kept = {row.split(",")[1] for row in rows[:num_rows]}
    for table in (tmp_path / name / "images.csv", tmp_path / name / "catalog.csv"):
        if table.is_file():
            header, *rows = table.read_text(encoding="utf-8").splitlines()
            some = [row for row in rows if row.split(",")[1] in kept]
            table.write_text("\n".join([header, *some]) + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    blocks = [b for page in PAGES for b in BLOCK.finditer(page.read_text(encoding="utf-8")) if b["needs"] == name]
    lines = [line for block in blocks if block["language"] == "sh" for line in block["code"].splitlines()]
    assert [shlex.split(line)[1] for line in lines if line.startswith("mohs")] == commands
    for block in blocks:
        if block["language"] == "python":
            exec(compile(block["code"], name, "exec"), {})
        else:
            for line in block["code"].splitlines():
                run_line(line)
    assert (tmp_path / left).is_file()
    shutil.rmtree(tmp_path / name)


def test_the_demo_picture_shows_the_figures_of_readme() -> None:
    """benchmarks/shot_demo.py writes what the photographed table says into the picture."""
    with Image.open(ROOT / "docs" / "images" / "demo.png") as picture:
        shown = json.loads(picture.text["figures"])
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text[text.index("| 1,039 unseen classes") :].partition("\n\n")[0].replace("*", "")
    header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert header[1:] == ["R@1", "Top-50", "catalog accuracy"]
    told = {name: [cell.split(" / ")[0] for cell in cells] for name, *cells in rows}
    assert told == {name: [row["R@1"], row["Top-50"], row["catalog"]] for name, row in shown.items()}


def anchors(page: Path) -> set[str]:
    """The addresses of a page's headings, as GitHub and the site make them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading).lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere_and_pictures_have_text(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for picture, words, address in re.findall(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)", text):
        place, _, anchor = address.partition("#")
        if "://" in address or place.startswith("mailto:"):
            continue
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), f"{page.name}: {address}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {address}"
        assert not picture or len(words) > 20, f"{page.name}: {address} needs a text that says what it shows"
