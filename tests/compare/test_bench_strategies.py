"""The script of `make bench-strategies` on blots: what it writes, and what it says is missing."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mohs.compare import cells as cells_module

FILE = Path(__file__).parents[2] / "benchmarks" / "bench_strategies.py"


@pytest.fixture
def bench(blot_data, small, monkeypatch):
    monkeypatch.syspath_prepend(FILE.parent)
    spec = importlib.util.spec_from_file_location("bench_strategies", FILE)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_strategies", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "open_set", lambda name, *_, **__: replace(blot_data, name=name))
    sets = {name: replace(one, settings={**small.settings, "hardness.cycles": 2}) for name, one in module.SETS.items()}
    monkeypatch.setattr(module, "SETS", sets)
    return module


def run(bench, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["bench_strategies.py", *map(str, arguments)])
    return bench.main()


def test_tables_are_written_and_missing_sets_are_named(bench, monkeypatch, tmp_path, capsys):
    arguments = (
        "--strategies", "default,online supcon", "--seeds", 1, "--pictures", 96, "--tune", 1, "--out", tmp_path,
        "--emoji", tmp_path, "--caltech30", tmp_path,
    )  # fmt: skip
    assert run(bench, monkeypatch, *arguments) == 0
    told = capsys.readouterr()
    assert "NO OMNIGLOT: left out; give its files with --omniglot (see the Makefile)" in told.err
    assert "NO CALTECH30: left out; give its files with --weights (see the Makefile)" in told.err
    text = (tmp_path / "strategies.md").read_text()
    assert text.index("## glyphs") < text.index("## emoji") < text.index("NO OMNIGLOT")
    assert told.out.count("At equal pictures: every run shows 96 pictures in ") == 2
    assert told.out.count("At equal CPU: every run takes about the CPU seconds that default takes for 96 pictures") == 2
    for name in ("glyphs", "emoji"):
        for file in ("summary.json", "summary-cpu.json"):
            rows = json.loads((tmp_path / name / file).read_text())["rows"]
            assert [row["strategy"] for row in rows] == ["pixels", "untrained", "default", "online supcon"]
        assert (tmp_path / name / "probes.csv").read_text().count("\n") == 5
        assert (tmp_path / name / "tuning.csv").read_text().count("\n") == 3

    # Another set alone leaves the tables of those that are there, and runs nothing of them.
    monkeypatch.setattr(cells_module, "train_strategy", lambda *_, **__: pytest.fail("all is there"))
    assert run(bench, monkeypatch, *arguments, "--sets", "glyphs") == 0
    text = (tmp_path / "strategies.md").read_text()
    assert "## emoji" in text
    assert "NO OMNIGLOT" not in text

    # With another setting a cell is another one.
    given = []

    def caught(strategy, dataset, config, *_, **__):
        given.append((strategy.name, config.training.whiten))
        raise KeyboardInterrupt

    monkeypatch.setattr(cells_module, "train_strategy", caught)
    with pytest.raises(KeyboardInterrupt):
        run(bench, monkeypatch, *arguments, "--tune", 0, "--sets", "glyphs", "--set", "training.whiten=true")
    assert given == [("default", True)]
