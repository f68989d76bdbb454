"""A picture that cannot be read is counted, named and listed by every command that reads pictures; none is lost."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mohs.cli import main

Cli = Callable[..., Any]
SMALL = ("--size", "16", "--channels", "3", "--triplets", "48", "--batch", "12", "--set", "training.num_segments=1")
READ = "pictures: 48 read = 47 used + 1 set aside"


def spoil(folder: Path, name: str = "img/003-1.png") -> str:
    """Cut a picture of a set short, and return its name."""
    file = folder / name
    file.write_bytes(file.read_bytes()[:60])
    return name


def listed(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory, picture_set: Path) -> Path:
    """A folder with a set of which one picture is cut short, a run on it, and a classifier."""
    folder = tmp_path_factory.mktemp("spoiled")
    shutil.copytree(picture_set, folder / "set")
    spoil(folder / "set")
    commands = (
        ("train", folder / "set", "--out", folder / "run", *SMALL, "--max-bad", "1", "--quiet"),
        ("classify", "fit", folder / "run", folder / "set", "--out", folder / "c", "--max-bad", "1", "--quiet"),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for command in commands:
            with pytest.raises(SystemExit) as stop:
                main([str(word) for word in command])
            assert stop.value.code == 0
    return folder


def commands(folder: Path, own: Path) -> dict[str, tuple[tuple[object, ...], Path]]:
    """Return commands that read the set, each with the list of what it sets aside."""
    allowed = (folder / "set", "--max-bad", "1")
    return {
        "mine": (
            ("mine", *allowed, "--size", "16", "--triplets", "24", "--out", own / "p.parquet"),
            own / "p.quarantine.csv",
        ),
        "evaluate": (("evaluate", folder / "run"), folder / "run" / "metrics.quarantine.csv"),
        "evaluate --data": (("evaluate", folder / "run", "--data", *allowed), own / "quarantine.csv"),
        "report": (("report", folder / "run", "--out", own / "r.html"), folder / "run" / "metrics.quarantine.csv"),
        "doctor --data": (
            ("doctor", folder / "run", "--precision", "--data", *allowed, "--out", own / "d"),
            own / "d" / "quarantine.csv",
        ),
        "embed": (("embed", folder / "run", *allowed, "--out", own / "x.npy"), own / "x.quarantine.csv"),
        "classify fit": (
            ("classify", "fit", folder / "run", *allowed, "--out", own / "c"),
            own / "c" / "quarantine.csv",
        ),
        "classify evaluate": (("classify", "evaluate", folder / "c", *allowed), own / "quarantine.csv"),
        "index build": (
            ("index", "build", own / "i", *allowed, "--embedder", folder / "run"),
            own / "i" / "quarantine.csv",
        ),
        "check --write": (("check", folder / "set", "--write", own / "clean.csv"), own / "clean.quarantine.csv"),
    }


NAMES = tuple(commands(Path(), Path()))


@pytest.mark.parametrize("name", NAMES)
def test_it_is_counted_named_and_listed(
    run_cli: Cli, spoiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    command, place = commands(spoiled, tmp_path)[name]
    answer = run_cli(*command)
    assert answer.code == 0, answer.err
    assert READ in answer.err
    assert sum("img/003-1.png" in line and line.startswith("set aside: ") for line in answer.err) == 1
    (row,) = listed(place)
    assert row["path"].endswith("img/003-1.png")
    assert row["row"].endswith("images.csv: row 12")
    assert "truncated" in row["reason"]
    assert row["stage"] == "decode"


@pytest.mark.parametrize("name", ["mine", "evaluate", "evaluate --data", "classify evaluate"])
def test_the_counts_are_in_the_json(
    run_cli: Cli, spoiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    command, _ = commands(spoiled, tmp_path)[name]
    found = json.loads(run_cli(*command, "--json").out)["pictures_read"]
    assert found == {"read": 48, "used": 47, "set_aside": 1, "not_chosen": 0}


def test_a_run_says_it_in_its_facts_its_report_and_to_the_doctor(run_cli: Cli, spoiled: Path) -> None:
    facts = json.loads((spoiled / "run" / "run.json").read_text())
    assert facts["pictures_read"] == {"read": 48, "used": 47, "set_aside": 1, "not_chosen": 0}
    assert run_cli("evaluate", spoiled / "run").code == 0
    assert "47 used + 1 set aside" in (spoiled / "run" / "report.html").read_text(encoding="utf-8")
    assert "003-1.png" in (spoiled / "run" / "report.html").read_text(encoding="utf-8")
    told = run_cli("doctor", spoiled / "run").out
    assert READ in told
    assert "set aside: " in told


@pytest.mark.parametrize("flags", [("evaluate",), ("doctor", "--precision")])
def test_what_the_run_put_up_with_is_not_allowed_of_other_data(
    run_cli: Cli, spoiled: Path, flags: tuple[str, ...]
) -> None:
    answer = run_cli(flags[0], spoiled / "run", *flags[1:], "--data", spoiled / "set")
    assert answer.code == 2
    assert "003-1.png" in answer.err[-1]


def test_more_than_allowed_is_an_error(run_cli: Cli, spoiled: Path, own_picture_set: Path, tmp_path: Path) -> None:
    for name in ("img/003-1.png", "img/004-1.png"):
        spoil(own_picture_set, name)
    for command in (
        ("mine", own_picture_set, "--size", "16", "--out", tmp_path / "p"),
        ("classify", "evaluate", spoiled / "c", own_picture_set),
    ):
        answer = run_cli(*command, "--max-bad", "1")
        assert (answer.code, len(answer.err)) == (3, 3), answer.err


def test_the_cleaned_table_trains_without_a_word(run_cli: Cli, spoiled: Path, tmp_path: Path) -> None:
    assert run_cli("check", spoiled / "set", "--write", tmp_path / "clean.csv").code == 0
    answer = run_cli("check", tmp_path / "clean.csv")
    assert (answer.code, answer.err[0]) == (0, "pictures: 47 read = 47 used + 0 set aside")


def test_predict_answers_for_the_good_one_and_names_the_bad_one(run_cli: Cli, spoiled: Path) -> None:
    good, bad = spoiled / "set" / "img" / "001-0.png", spoiled / "set" / "img" / "003-1.png"
    answer = run_cli("classify", "predict", spoiled / "c", good, bad, "--json")
    assert answer.code == 3
    assert [each["file"] for each in json.loads(answer.out)["pictures"]] == [str(good)]
    assert [each["file"] for each in json.loads(answer.out)["set_aside"]] == [str(bad)]
    assert answer.err[-1].startswith(f"mohs: {bad}: ")
    assert run_cli("classify", "predict", spoiled / "c", good, bad, "--max-bad", "1").code == 0
