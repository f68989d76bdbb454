"""Every snippet of the documentation is run: Python blocks in one namespace a page, `mohs` lines in process."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mohs.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
OMNIGLOT = ROOT.parent / "shared" / "data" / "omniglot.zip"
BLOCK = re.compile(
    r"^(?:<!-- needs: (?P<needs>\w+) -->\n)?```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)


MOST = {"--triplets": 200, "--pictures": 1200}


def shortened(line: str) -> str:
    """The same command with a shorter run: what a page shows must work, and how long it trains is not tested."""
    for flag, most in MOST.items():
        line = re.sub(rf"(?<={flag} )[\d_]+", lambda found, most=most: str(min(most, int(found[0]))), line)
    return line


def run_line(line: str) -> None:
    words = shlex.split(shortened(line), comments=True)
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
        if block["needs"] == "omniglot":
            continue  # run by the test below, where the data set is there
        if block["language"] == "python":
            exec(compile(code, str(page), "exec"), namespace)
        elif block["language"] == "sh":
            for line in code.splitlines():
                # The long demo is `make demo`'s; here every other command runs as it is written.
                run_line(line)


def test_every_code_block_has_a_language_that_is_run() -> None:
    for page in PAGES:
        fences = re.findall(r"^```(\w*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert set(fences[::2]) <= {"python", "sh", "toml", ""}, page


def test_readme_on_omniglot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's commands on a real set, on 12 of its classes to keep the test short."""
    if not OMNIGLOT.is_file():
        pytest.skip(f"{OMNIGLOT} is absent: the README's commands on Omniglot are not tested")
    with zipfile.ZipFile(OMNIGLOT) as archive:
        archive.extractall(tmp_path)
    rows = (tmp_path / "omniglot" / "images.csv").read_text(encoding="utf-8").splitlines()
    (tmp_path / "omniglot" / "images.csv").write_text("\n".join(rows[:241]) + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    blocks = [b for b in BLOCK.finditer((ROOT / "README.md").read_text(encoding="utf-8")) if b["needs"] == "omniglot"]
    lines = [line for block in blocks for line in block["code"].splitlines()]
    assert [shlex.split(line)[:2] for line in lines if line.startswith("mohs")] == [
        ["mohs", "mine"],
        ["mohs", "train"],
        ["mohs", "evaluate"],
    ]
    for line in lines:
        run_line(line)
    assert (tmp_path / "runs" / "omniglot" / "report.html").is_file()
    shutil.rmtree(tmp_path / "omniglot")
