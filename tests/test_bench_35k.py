"""The benchmark of the published size: rows are measured once, and the table says what stands in them."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def bench():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("bench_35k")
    for name in ("bench_35k", "bench_han", "han"):
        sys.modules.pop(name, None)


def test_all_rows_are_of_one_budget_and_the_cycles_are_the_published_ones(bench):
    from mohs.compare.budget import Budget
    from mohs.compare.training import Choice, strategy_config

    configs = {
        name: strategy_config(strategy, bench.SETTINGS, Budget(210_000), Choice(), num_classes=35_000, seed=0)
        for name, strategy in bench.ROWS.items()
        if strategy is not None
    }
    shown = {config.training.num_triplets * config.loss.pictures_per_triplet for config in configs.values()}
    assert shown == {210_000}
    cyclic = configs["cyclic sigmoid"]
    assert (cyclic.training.num_triplets, cyclic.hardness.cycles, cyclic.loss.name) == (70_000, 70, "triplet")
    assert configs["sigmoid"].hardness.cycles == 1


def test_a_row_that_is_there_is_not_run_again(bench, tmp_path, monkeypatch, capsys):
    np.save(tmp_path / "pictures.npy", np.random.default_rng(0).integers(0, 256, (3, 40, 32, 32), dtype=np.uint8))
    monkeypatch.setattr(bench, "ROWS", {bench.UNTRAINED: None})
    command = ["bench_35k.py", "--han", str(tmp_path), "--classes", "30", "--unseen", "10", "--triplets", "60"]
    monkeypatch.setattr(sys, "argv", [*command, "--out", str(tmp_path / "rows.jsonl")])
    bench.main()
    before = (tmp_path / "rows.jsonl").read_bytes()
    [row] = [json.loads(line) for line in before.splitlines()]
    assert row["name"] == "untrained"
    value, _, high = row["seen"]["recall@50"]
    assert (value, high) == (1.0, 1.0)  # of a catalog of 30
    bench.main()
    assert (tmp_path / "rows.jsonl").read_bytes() == before
    assert capsys.readouterr().out.splitlines()[-1].startswith("| untrained | 1.000 (")
    np.save(tmp_path / "pictures.npy", np.zeros((3, 12, 32, 32), np.uint8))
    with pytest.raises(SystemExit, match="holds 12 characters, not 40"):
        bench.run(bench_arguments(tmp_path))


def bench_arguments(folder):
    from argparse import Namespace

    return Namespace(
        han=folder, fonts=folder, classes=30, unseen=10, triplets=61, seed=0, out=folder / "rows.jsonl", table=False
    )


def test_the_table_goes_from_the_untrained_network_to_the_default(bench):
    found = {"recall@1": [0.5, 0.4, 0.6], "recall@50": [0.75, 0.7, 0.8]}
    rows = [
        {"name": name, "seed": 0, "seen": found, "unseen": found, "cpu_s": 1234.0, "stopped": "collapsed" * (i == 2)}
        for i, name in enumerate(bench.ROWS)
    ]
    lines = bench.table(rows)
    assert lines[1].count("|") == lines[0].count("|") == lines[2].count("|")
    names = [line.split("|")[1].strip() for line in lines[2:]]
    assert names[0] == "untrained"
    assert names[-3:] == ["SupCon as users write it (stopped)", "default without hardness", "default"]
    assert lines[-1] == (
        "| default | 0.750 (0.700 to 0.800) | 0.500 (0.400 to 0.600) | 0.500 (0.400 to 0.600) | 1,234 |"
    )
