"""Every kind of picture through every command that reads pictures: used, or named with its reason; none is dropped.

Commands on a table are given one with good pictures and one picture of each kind. Commands that take pictures are
given each kind.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mohs
from mohs.cli import main
from mohs.data.images import ImagePolicy, decode_all
from mohs.settings.config import ModelConfig

from .picture_kinds import GROUPS, make_kinds
from .reliability import check_table_of

pytest.importorskip("lancedb", reason="needs mohs[search]")

Cli = Callable[..., Any]
SIZE = 16
SMALL = (
    "--size", SIZE, "--channels", "3", "--triplets", "48", "--batch", "12", "--set", "training.num_segments=1",
    "--set", "model.widths=[4]", "--set", "model.embedding_dim=8", "--device", "cpu",
)  # fmt: skip
TINY_COMPARISON = (
    "--size", SIZE, "--strategies", "default", "--seeds", "1", "--pictures", "64", "--set", "model.widths=[4]",
    "--set", "training.num_segments=1",
)  # fmt: skip
MANY = ("--max-bad", "500")


class Place:
    """A folder with the set, every kind, an embedder and what commands left; `bad` are the files the gate refuses."""

    def __init__(self, folder: Path, good: Path) -> None:
        self.folder = folder
        kinds = make_kinds(folder)
        self.files = [path for group in kinds.values() for path in group.values()]
        self.with_bytes = [path for group in GROUPS[:-1] for path in kinds[group].values()]
        decoded = decode_all(self.files, ImagePolicy(size=SIZE))
        self.bad = {path.name for path, found in zip(self.files, decoded, strict=True) if found.pixels_HWC is None}
        rows = [f"{good / name},{label}" for name, label in listed_rows(good / "images.csv")]
        self.num_good = len(rows)
        kind_rows = [f"{path.name},{i % 12:03d}" for i, path in enumerate(self.files)]
        (folder / "all.csv").write_text("\n".join(["file,class", *rows, *kind_rows]) + "\n")
        (folder / "good.csv").write_text("\n".join(["file,class", *rows]) + "\n")
        (folder / "kinds.csv").write_text("\n".join(["file,class", *kind_rows]) + "\n")
        config = ModelConfig(widths=(4,), hidden_dim=0, embedding_dim=8)
        mohs.Embedder.create(config, ImagePolicy(size=SIZE), seed=0).save_pretrained(folder / "network")

    def told(self, num_good: int | None = None) -> str:
        """Return the line that counts the pictures."""
        num = (self.num_good if num_good is None else num_good) + len(self.files)
        return f"pictures: {num} read = {num - len(self.bad)} used + {len(self.bad)} set aside"


def listed_rows(path: Path) -> list[tuple[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [(row["file"], row["class"]) for row in csv.DictReader(file)]


def named_in(path: Path, column: str) -> set[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return {Path(row[column]).name for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, picture_set: Path) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("k"), picture_set)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made.folder)
        for words in (
            ("train", "all.csv", "--out", "run", *SMALL, *MANY, "--quiet"),
            ("classify", "fit", "network", "good.csv", "--out", "classifier", "--quiet"),
            ("index", "build", "index", "good.csv", "--embedder", "network", "--quiet"),
        ):
            with pytest.raises(SystemExit) as stop:
                main([str(word) for word in words])
            assert stop.value.code == 0, words
        yield made


WITH_A_TABLE: dict[str, tuple[tuple[object, ...], str]] = {
    "check": (("check", "all.csv", "--write", "clean.csv"), "clean.quarantine.csv"),
    "train": (("train", "all.csv", "--out", "again", *SMALL, *MANY), "again/quarantine.csv"),
    "evaluate": (("evaluate", "run"), "run/metrics.quarantine.csv"),
    "evaluate --data": (("evaluate", "run", "--data", "all.csv", *MANY), "quarantine.csv"),
    "report": (("report", "run", "--out", "r.html"), "run/metrics.quarantine.csv"),
    "doctor": (("doctor", "run", "--precision", "--out", "d"), "d/quarantine.csv"),
    "doctor --data": (
        ("doctor", "run", "--precision", "--data", "all.csv", *MANY, "--out", "e"),
        "e/quarantine.csv",
    ),
    "mine": (
        ("mine", "all.csv", "--embedder", "network", "--triplets", "24", "--out", "p.parquet", *MANY),
        "p.quarantine.csv",
    ),
    "embed": (("embed", "network", "all.csv", "--out", "x.npy", *MANY), "x.quarantine.csv"),
    "classify fit": (("classify", "fit", "network", "all.csv", "--out", "c", *MANY), "c/quarantine.csv"),
    "classify evaluate": (("classify", "evaluate", "classifier", "all.csv", *MANY), "quarantine.csv"),
    "compare": (("compare", "all.csv", *TINY_COMPARISON, *MANY, "--out", "compared"), "compared/quarantine.csv"),
    "index build": (("index", "build", "i", "all.csv", "--embedder", "network", *MANY), "i/quarantine.csv"),
    "index add": (("index", "add", "index", "kinds.csv", *MANY), "quarantine.csv"),
    "index replace": (("index", "replace", "index", "kinds.csv", *MANY), "quarantine.csv"),
    "index calibrate": (("index", "calibrate", "i", "all.csv", *MANY), "quarantine.csv"),
}  # fmt: skip

HELD: dict[str, tuple[int, int, int]] = {}
"""Of each command: kinds, used, named."""


@pytest.fixture
def at_place(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.chdir(place.folder)
    return place


def note(name: str, num_kinds: int, num_named: int) -> None:
    HELD[name] = (num_kinds, num_kinds - num_named, num_named)


@pytest.mark.parametrize("name", WITH_A_TABLE)
def test_a_command_on_a_table_uses_or_names_each(run_cli: Cli, at_place: Place, name: str) -> None:
    words, quarantine = WITH_A_TABLE[name]
    Path(quarantine).unlink(missing_ok=True)
    answer = run_cli(*words)
    said = [*answer.err, *answer.out.splitlines()]
    assert answer.code == 0, said[-20:]
    assert not any("Traceback" in line for line in said), said
    assert at_place.told(0 if "kinds.csv" in words else None) in said
    assert named_in(Path(quarantine), "path") == at_place.bad
    note(name, len(at_place.files), len(at_place.bad))


@pytest.mark.parametrize("name", [name for name, (words, _) in WITH_A_TABLE.items() if MANY[0] in words])
def test_what_is_not_allowed_stops_it_in_lines(run_cli: Cli, at_place: Place, name: str) -> None:
    words = [word for word in WITH_A_TABLE[name][0] if word not in MANY]
    if "--out" in words:
        words[words.index("--out") + 1] = "refused.npy" if name == "embed" else "refused"
    if name == "index build":
        words[2] = "refused"
    answer = run_cli(*words, "--quiet")
    assert answer.code in (2, 3), answer.err[-5:]
    lines = [line for line in answer.err if any(f"{bad!r}" in line or f"/{bad}'" in line for bad in at_place.bad)]
    assert 20 <= len(lines) <= len(answer.err) <= 24, answer.err
    assert not list(Path().glob("refused*/*"))
    assert not Path("refused.npy").exists()


def test_clean_names_each(run_cli: Cli, at_place: Place) -> None:
    for number, more in enumerate(((), ("--against", "index"))):
        out = Path(f"cleaned-{number}")
        answer = run_cli("clean", "all.csv", *more, "--out", out)
        assert answer.code == 0, answer.err
        with (out / "fixes.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        unreadable = {Path(row["file"]).name for row in rows if row["cause"] == "unreadable"}
        assert unreadable == at_place.bad
        assert (out / "report.html").stat().st_size > 1000
        note(" ".join(("clean", *more[:1])), len(at_place.files), len(unreadable))


def test_classify_predict_answers_or_names_each(run_cli: Cli, at_place: Place) -> None:
    answer = run_cli("classify", "predict", "classifier", *at_place.files, "--json")
    assert answer.code == 3
    found = json.loads(answer.out)
    assert {Path(each["file"]).name for each in found["set_aside"]} == at_place.bad
    answered = {Path(each["file"]).name for each in found["pictures"]}
    assert answered == {path.name for path in at_place.files} - at_place.bad
    note("classify predict", len(at_place.files), len(at_place.bad))


def test_search_answers_or_names_each(run_cli: Cli, at_place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = mohs.Index.open("index")
    monkeypatch.setattr("mohs.index.index.Index.open", lambda _: opened)  # once for a hundred commands
    good = [path for path in at_place.files if path.name not in at_place.bad]
    answer = run_cli("search", "index", *good, "--top", "1", "--json")
    assert answer.code == 0, answer.err
    assert [each["picture"] for each in json.loads(answer.out)] == [str(path) for path in good]
    for path in at_place.files:
        if path.name in at_place.bad:
            answer = run_cli("search", "index", path, "--top", "1")
            assert answer.code == 2, path
            assert len(answer.err) == 1, answer.err
            assert path.name in answer.err[0]
    note("search", len(at_place.files), len(at_place.bad))


def test_mine_with_vectors_reads_files_or_leaves_them(run_cli: Cli, at_place: Place) -> None:
    """Pictures are not decoded there, but equal files are looked for."""
    x_ND = np.random.default_rng(0).normal(size=(at_place.num_good + len(at_place.files), 8)).astype(np.float32)
    np.save("all.npy", x_ND)
    answer = run_cli("mine", "all.csv", "--embeddings", "all.npy", "--triplets", "24", "--out", "q.parquet")
    assert answer.code == 0, answer.err
    note("mine --embeddings", len(at_place.files), 0)


def test_export_names_each(run_cli: Cli, at_place: Place) -> None:
    answer = run_cli("export", "network", "--torch-export", "n.pt2", "--data", "kinds.csv")
    assert answer.code == 2
    lines = [line for line in answer.err if not line.startswith("warning: ")]
    assert all(re.search(r"kinds.csv: row \d+: '", line) for line in lines[:20]), answer.err
    assert 15 < len(lines) <= 21, answer.err
    assert not Path("n.pt2").exists()


def test_the_service_answers_or_says_why_not(at_place: Place) -> None:
    pytest.importorskip("fastapi", reason="needs mohs[serve]")
    from starlette.testclient import TestClient

    from mohs.serve.app import create_app
    from mohs.serve.settings import read_settings

    settings = read_settings({"reload_s": 1e6, "review_list": "review.csv"})
    with TestClient(create_app(Path("i"), settings), base_url="http://127.0.0.1:8000") as client:
        refused = 0
        for path in at_place.with_bytes:
            answer = client.post("/search?top=1", content=path.read_bytes(), headers={"content-type": "image/jpeg"})
            assert answer.status_code in (200, 413, 422), (path.name, answer.text)
            assert (answer.status_code == 200) == (path.name not in at_place.bad), (path.name, answer.text)
            if answer.status_code != 200:
                refused += 1
                assert answer.json()["detail"], path.name
                assert "\n" not in answer.json()["detail"], path.name
        note("serve, POST /search", len(at_place.with_bytes), refused)


def test_the_table_of_the_document_is_what_held() -> None:
    if len(HELD) < len(WITH_A_TABLE) + 4:
        pytest.skip("a part of the tests ran")
    rows = [[f"`{name}`", *counts] for name, counts in HELD.items()]
    check_table_of("commands", ["command", "kinds", "used", "named with the reason"], rows)
