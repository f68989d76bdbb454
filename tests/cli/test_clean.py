"""`mohs clean`: from a spoiled table to a mended one."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mohs
from mohs.data.images import ImagePolicy
from mohs.settings.config import ModelConfig


def photograph(seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC)).astype(np.float64)
    return np.clip(smooth + random.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten products of two pictures; a copy, one picture under two classes, a paler one, a blank and an empty file."""
    monkeypatch.chdir(tmp_path)
    rows = []
    for i in range(20):
        Image.fromarray(photograph(i)).save(f"{i:02d}.png")
        rows.append(f"{i:02d}.png,ring {i // 2}")
    Image.fromarray(photograph(0)).save("copy.png")
    Image.fromarray(photograph(2)).save("again.png")
    Image.fromarray((photograph(4) * 0.7 + 40).astype(np.uint8)).save("paler.png")
    Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save("blank.png")
    Path("empty.png").write_bytes(b"")
    rows += ["copy.png,ring 0", "again.png,ring 7", "paler.png,ring 2", "blank.png,ring 3", "empty.png,ring 4"]
    Path("sound.csv").write_text("\n".join(["file,class", *rows[:20]]) + "\n")
    Path("shop.csv").write_text("\n".join(["file,class", *rows, "05.png,ring 9"]) + "\n")
    Path("new.csv").write_text("\n".join(["file,class", *rows[20:]]) + "\n")
    return tmp_path


def fixes(path: str) -> set[tuple[str, ...]]:
    with Path(path).open(newline="") as file:
        return {(row["file"], row["suggestion"], row["cause"], row["other"], row["to"]) for row in csv.DictReader(file)}


OF_ONE_TABLE = {
    ("05.png", "look", "several-classes", "05.png", ""),
    ("empty.png", "drop", "unreadable", "", ""),
    ("copy.png", "drop", "duplicate", "00.png", ""),
    ("again.png", "look", "two-labels", "02.png", "ring 1"),
    ("paler.png", "look", "near-duplicate", "04.png", ""),
    ("blank.png", "drop", "blank", "", ""),
}


def test_what_is_wrong_is_found_and_mended(shop, run_cli):
    found = run_cli("clean", "shop.csv")
    assert found.code == 0, found.err
    assert found.err[:3] == [
        "wrong labels: not looked for; give an embedder",
        "report: clean/report.html",
        "next: look through clean/fixes.csv, then mohs fix shop.csv clean/fixes.csv --out NEW.csv",
    ]
    assert {row[:4] for row in fixes("clean/fixes.csv")} == {row[:4] for row in OF_ONE_TABLE}
    assert OF_ONE_TABLE - fixes("clean/fixes.csv") <= {("05.png", "look", "several-classes", "05.png", "")}
    page = Path("clean/report.html").read_text()
    assert page.count("<img") == 11
    assert "http" not in page
    text = Path("clean/fixes.csv").read_text()
    lines = text.splitlines()
    again = next(i for i, line in enumerate(lines) if line.startswith("again.png"))
    lines[again] = lines[again].replace(",look,", ",drop,")
    several = next(i for i, line in enumerate(lines) if line.startswith("05.png,ring 9"))
    lines[several] = lines[several].replace(",look,", ",drop,")
    Path("mine.csv").write_text("\n".join(lines) + "\n")
    mended = run_cli("fix", "shop.csv", "mine.csv", "--out", "mended.csv")
    assert mended.code == 0, mended.err
    assert len(Path("mended.csv").read_text().splitlines()) == 1 + 20 + 1  # the sound ones, and the paler one
    as_json = json.loads(run_cli("clean", "mended.csv", "--out", "second", "--json").out)
    assert {cause: num for cause, num in as_json["found"].items() if num} == {"near-duplicate": 1}


def test_new_pictures_are_held_against_an_index(shop, run_cli):
    pytest.importorskip("lancedb", reason="needs mohs[search]")
    config = ModelConfig(widths=(8, 16), hidden_dim=0, embedding_dim=32)
    mohs.Embedder.create(config, ImagePolicy(size=32), seed=0).save_pretrained("network")
    assert run_cli("index", "build", "i", "sound.csv", "--embedder", "network").code == 0
    found = run_cli("clean", "new.csv", "--against", "i", "--out", "arrivals")
    assert found.code == 0, found.err
    assert found.err[0] == "wrong labels: not looked for; calibrate the index (mohs index calibrate)"
    assert fixes("arrivals/fixes.csv") == {
        ("empty.png", "drop", "unreadable", "", ""),
        ("copy.png", "drop", "duplicate", "00.png", ""),
        ("again.png", "look", "two-labels", "02.png", "ring 1"),
        ("paler.png", "look", "near-duplicate", "04.png", ""),
    }


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("shop.csv", "--embedder", "n", "--against", "i"), "--embedder, --against: an index has its own embedder; le"),
        (("shop.csv", "--out", "shop.csv"), "--out: shop.csv is a file; name a folder"),
        (("glyphs",), "SOURCE: 'glyphs' has no files to mend; write them with 'mohs glyphs FOLDER'"),
    ],
)
def test_bad_input_is_one_line(shop, run_cli, arguments, line):
    found = run_cli("clean", *arguments)
    assert found.code == 2
    assert found.err[0].startswith(f"mohs: {line}")
    assert not Path("clean").exists()
