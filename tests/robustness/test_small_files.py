"""Tables and plans from small files that would take much memory; names that steer a terminal or a spreadsheet."""

import csv
import json
import resource
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mohs.cli import main
from mohs.cli.console import print_lines, print_table, say
from mohs.data.fixes import LabelFix, read_fixes, write_fixes
from mohs.data.reading import read_listing
from mohs.data.table import Table, write_table
from mohs.errors import InputError
from mohs.evaluation.classes import ClassResult, write_class_table
from mohs.plan import TripletPlan
from mohs.settings.config import load_run_config
from mohs.shown import csv_cell, from_csv_cell, printable


def peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def many_rows(path: Path, columns: dict[str, pa.Array], num: int) -> None:
    """Write a small Parquet file of many rows: one after another of 60 row groups of a million."""
    table = pa.table({name: pa.repeat(value, num) for name, value in columns.items()})
    with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
        for _ in range(12):
            writer.write_table(table)


def test_rows_are_counted_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many_rows(tmp_path / "many.parquet", {"file": "a.png", "class": "ring"}, 1_000_000)
    assert (tmp_path / "many.parquet").stat().st_size < 2e6
    before = peak_bytes()
    with pytest.raises(InputError) as caught:
        read_listing(tmp_path / "many.parquet")
    place = tmp_path / "many.parquet"
    assert str(caught.value) == (
        f"{place}: 12,000,000 rows are more than 10,000,000; if that is meant, set MOHS_MAX_ROWS=12000000"
    )
    with pytest.raises(InputError, match="12,000,000 rows are more than 10,000,000"):
        TripletPlan.load(place)
    assert peak_bytes() - before < 50e6
    plan = TripletPlan.of([0, 0], [1, 1], [2, 2])
    plan.save(tmp_path / "plan.parquet")
    monkeypatch.setenv("MOHS_MAX_ROWS", "1")
    with pytest.raises(
        InputError, match=r"plan.parquet: 2 rows are more than 1; if that is meant, set MOHS_MAX_ROWS=2"
    ):
        TripletPlan.load(tmp_path / "plan.parquet")
    (tmp_path / "images.csv").write_text("file,class\na.png,x\nb.png,y\n")
    with pytest.raises(InputError, match=r"images.csv: 2 rows are more than 1; "):
        read_listing(tmp_path / "images.csv")
    monkeypatch.setenv("MOHS_MAX_ROWS", "2")
    assert len(TripletPlan.load(tmp_path / "plan.parquet")) == len(read_listing(tmp_path / "images.csv")) == 2


def test_bytes_of_cells_are_counted_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"file": ["a.png", "b.png"], "class": ["x" * 900, "y" * 900]})
    pq.write_table(table, tmp_path / "t.parquet")
    monkeypatch.setenv("MOHS_MAX_CELL_BYTES", "1000")
    with pytest.raises(InputError, match=r"t.parquet: [\d,]+ bytes of cells are more than 1,000; .*MAX_CELL_BYTES="):
        read_listing(tmp_path / "t.parquet")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_long_label_costs_its_own_size(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = ["x" * 100_000, *(f"c{i % 50}" for i in range(20_000))]
    files = [f"{i}.png" for i in range(len(labels))]
    path = tmp_path / f"images.{kind}"
    if kind == "csv":
        path.write_text("file,class\n" + "".join(f"{f},{c}\n" for f, c in zip(files, labels, strict=True)))
    else:
        pq.write_table(pa.table({"file": files, "class": labels}), path)
    row = 2 if kind == "csv" else 1
    with pytest.raises(InputError) as caught:
        read_listing(path)
    assert str(caught.value) == (
        f"{path}: row {row}: column 'class': 100,000 characters are more than 1,000; "
        "if that is meant, set MOHS_MAX_LABEL_CHARACTERS=100000"
    )
    monkeypatch.setenv("MOHS_MAX_LABEL_CHARACTERS", "100000")
    before = peak_bytes()
    listing = read_listing(path)
    assert listing.labels.tolist() == labels
    assert listing.num_classes == 51
    assert len(listing.take(np.arange(10))) == 10
    assert peak_bytes() - before < 60e6


def test_text_of_a_parquet_is_held_once(tmp_path: Path) -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 200_000, pa.int32()), pa.array(["x" * 1000]))
    pq.write_table(pa.table({"file": [f"{i}" for i in range(200_000)], "class": column}), tmp_path / "t.parquet")
    before = peak_bytes()
    assert read_listing(tmp_path / "t.parquet").labels[-1] == "x" * 1000
    assert peak_bytes() - before < 150e6  # 800 MB as an array of one width, 200 MB as text of its own


EVIL = "ring\x1b]0;owned\x07\x1b[2J\u202egnp.\x9b31m"


def test_names_do_not_steer_a_terminal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    say(EVIL)
    print_lines([EVIL, "[bold]plain[/bold]"])
    print_table(EVIL, ["[red]a", "b"], [[EVIL, "[link=https://evil.example]x[/link]"]])
    (tmp_path / "images.csv").write_text(f"file,class\n{EVIL}.png,{EVIL}\nb.png,{EVIL}\n{EVIL}.png,y\n")
    with pytest.raises(SystemExit):
        main(["check", str(tmp_path / "images.csv"), "--quiet"])
    with pytest.raises(SystemExit):
        main([EVIL])
    said = "".join(capsys.readouterr())
    assert said.count("\\x1b]0;owned") >= 4
    assert not any(character in said for character in "\x1b\x07\x9b\u202e")
    assert "[bold]plain[/bold]" in said
    assert "evil.example" in said
    assert printable("plain\ttext\n") == "plain\ttext\n"


FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "'=x", "''+y"]
PLAIN = ["ring", "-7", "+1.5e3", "'quoted'", "a=b", "", "1,5"]


def test_no_name_is_a_formula_and_all_come_back(tmp_path: Path) -> None:
    names = [*FORMULAS, *PLAIN]
    assert [from_csv_cell(csv_cell(name)) for name in names] == names
    assert all(csv_cell(name) == f"'{name}" for name in FORMULAS)
    assert all(csv_cell(name) == name for name in PLAIN)
    labels = np.array([name or "empty" for name in names])
    table = Table(
        tuple(f"{name}x.png" for name in names), labels, np.full(len(names), "sample"), np.full(len(names), "")
    )
    write_table(table, tmp_path / "items.csv")
    assert read_listing(tmp_path / "items.csv").labels.tolist() == labels.tolist()
    fixes = [LabelFix(f"{name}.png", name, "look", other=f"{name}.png", other_label=name) for name in FORMULAS]
    write_fixes(fixes, tmp_path / "fixes.csv")
    assert read_fixes(tmp_path / "fixes.csv") == fixes
    results = [ClassResult("=1", 1, 1.0, 1.0, "=2", 1, (0, 1))]
    write_class_table(tmp_path / "classes.csv", results, ["=q.png"], ["a", "=f.png"])
    plan = TripletPlan.of([0], [1], [2])
    plan.save_csv(tmp_path / "plan.csv", files=["=a", "=b", "=c"], labels=np.array(["=1", "=1", "=2"]).tolist())
    for file in ("items.csv", "fixes.csv", "classes.csv", "plan.csv"):
        with (tmp_path / file).open(newline="") as stream:
            cells = [cell for row in csv.reader(stream) for cell in row]
        assert not [cell for cell in cells if cell[:1] in "=+@\t" and cell and cell not in PLAIN], file


def test_a_run_of_a_stranger_writes_nothing_elsewhere(tmp_path: Path) -> None:
    victim, run = tmp_path / "victim", tmp_path / "run"
    run.mkdir()

    def cache_of(cache: Path | None) -> str | None:
        (run / "config.json").write_text(json.dumps({"data": {"cache": None if cache is None else str(cache)}}))
        return load_run_config(run).data.cache

    for place in (victim, tmp_path, Path("/")):
        with pytest.warns(
            UserWarning, match=r"config.json: data.cache: '.*' holds no decoded pictures, so none are wri"
        ):
            assert cache_of(place) is None
    assert cache_of(None) is None
    assert cache_of(run / "cache") == str(run / "cache")
    victim.mkdir()
    (victim / f"{'0a' * 16}.npy").write_bytes(b"")
    assert cache_of(victim) == str(victim)


def test_equal_pictures_are_no_negatives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw = np.random.default_rng(0)
    rows = ["file,class"]
    for number in range(12):
        pixels = draw.integers(0, 255, (16, 16), dtype=np.uint8)
        for copy, label in enumerate((f"c{number}", f"c{(number + 1) % 12}") if number < 4 else (f"c{number}",)):
            Image.fromarray(pixels).save(tmp_path / f"{number}-{copy}.png")
            rows.append(f"{number}-{copy}.png,{label}")
    (tmp_path / "images.csv").write_text("\n".join(rows) + "\n")
    nearest: dict[bool, float] = {}
    for allowed in (False, True):
        given = ["mine", str(tmp_path), "--triplets", "60", "--curve", "constant", "--cap", "1", "--size", "16"]
        with pytest.raises(SystemExit) as stop:
            main([*given, "--out", str(tmp_path / "p.parquet"), "--json", *(["--equal-pictures"] if allowed else [])])
        assert stop.value.code == 0
        facts = json.loads(capsys.readouterr().out)
        plan = TripletPlan.load(tmp_path / "p.parquet")
        assert facts["num_equal_picture_pairs"] == plan.header["num_equal_picture_pairs"] == (0 if allowed else 8)
        nearest[allowed] = float(plan.anchor_negative_distance.min())
    assert nearest[True] < 1e-6 < nearest[False]
