"""The grid of `make bench-collapse` in seconds: who collapses, who is warned in time, who is left alone."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from mohs.settings.config import DataConfig
from mohs.training.run_inputs import open_split_data

FILE = Path(__file__).parents[1] / "benchmarks" / "bench_collapse.py"
GLYPHS = DataConfig(size=24, channels=1, per_class=2, max_classes=400)


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_collapse", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_collapse"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def cells(bench: ModuleType) -> dict[str, Any]:
    """Five cells of 6,000 pictures: three without batch norm, at rates that kill, and two with it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    split = open_split_data(GLYPHS, seed=0)

    def run(strategy: str, rate: float, batch_norm: bool) -> Any:
        config = bench.settings(
            strategy, data=GLYPHS, rate=rate, margin=0.2, batch_norm=batch_norm, pictures=6000, num_segments=8
        )
        return bench.run_cell("glyphs", strategy, split, config, pictures=6000)

    found = {
        "hardest": run("hardest", 4e-3, False),
        "closed loop": run("closed loop", 1.6e-2, False),
        "default": run("default", 1.6e-2, False),
        "closed loop, healthy": run("closed loop", 4e-3, True),
        "default, healthy": run("default", 4e-3, True),
    }
    torch.set_num_threads(threads)
    return found


def test_hardest_negatives_without_batch_norm_collapse_and_are_warned_of_in_time(cells: dict[str, Any]) -> None:
    hardest = cells["hardest"]
    assert hardest.collapsed
    assert hardest.final_spread < hardest.untrained_spread / 5
    assert hardest.warned_in_time
    assert hardest.first_verdict_at >= hardest.first_warning_at > 0
    assert hardest.num_actions == 0


def test_what_would_have_collapsed_is_saved(cells: dict[str, Any]) -> None:
    cell = cells["closed loop"]
    assert cell.num_actions >= 1  # at 4 times the default rate and without batch norm it fell, and was seen to
    assert not cell.collapsed
    assert cell.final_recall > cell.untrained_recall


def test_the_default_survives_a_rate_that_ruins_others(cells: dict[str, Any]) -> None:
    """With AdamW it fell there, too, and was corrected; by Muon it learns, and the guard has nothing to do."""
    cell = cells["default"]
    assert cell.num_actions == 0
    assert not cell.collapsed
    assert cell.final_recall > 2 * cell.untrained_recall


@pytest.mark.parametrize("strategy", ["closed loop, healthy", "default, healthy"])
def test_healthy_runs_are_left_alone(cells: dict[str, Any], strategy: str) -> None:
    cell = cells[strategy]
    assert not cell.collapsed
    assert cell.num_actions == 0
    assert cell.first_verdict_at == -1
    assert cell.final_recall > cell.untrained_recall


def test_a_grid_goes_on_where_it_was_and_runs_a_twin_only_if_the_guard_acted(
    bench: ModuleType, cells: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran = []

    def run_cell(name: str, strategy: str, split: Any, config: Any, *, pictures: int) -> Any:
        ran.append((strategy, config.training.learning_rate, config.guard.action))
        acted = strategy == "closed loop" and config.training.learning_rate == 1.6e-2
        return replace(
            cells["default"], data=name, strategy=strategy, learning_rate=config.training.learning_rate,
            margin=config.loss.margin, batch_norm=config.model.batch_norm, pictures=pictures, classes=3, seed=0,
            num_actions=int(acted),
        )  # fmt: skip

    labels = SimpleNamespace(labels=np.array(["a", "b", "c"]))
    monkeypatch.setattr(bench, "open_split_data", lambda *_, **__: SimpleNamespace(dataset=labels, train_N=[0, 1, 2]))
    monkeypatch.setattr(bench, "run_cell", run_cell)
    grid = {
        "pictures": 30, "only": ["hardest", "closed loop", "default"], "rates": [1e-3, 1.6e-2], "margins": [0.2, 0.6],
        "batch_norms": [True],
    }  # fmt: skip
    file = tmp_path / "cells.csv"
    for cell in bench.grid([("glyphs", GLYPHS)], bench.read_cells(file), **grid):
        bench.append_cell(file, cell)
        if len(ran) == 7:  # cut short within the closed loop
            break
    first = len(ran)
    for cell in bench.grid([("glyphs", GLYPHS)], bench.read_cells(file), **grid):
        bench.append_cell(file, cell)
    found = bench.read_cells(file)
    assert len({cell.key for cell in found}) == len(found) == 4 + 2 * 4 + 2 * 2  # a margin means nothing to the default
    assert len(ran) == 4 + 4 + 2 + 2  # two twins were run, for two cells in which the guard acted
    assert first < len(ran)
    assert {action for strategy, _, action in ran if strategy in bench.GUARDED} == {"roll-back"}
    assert {action for strategy, _, action in ran if strategy not in bench.GUARDED} == {"warn"}


def test_what_is_counted(bench: ModuleType, cells: dict[str, Any]) -> None:
    healthy = replace(cells["default, healthy"], strategy="hardest", third_lost_at=-1)
    dead = replace(
        healthy, margin=0.6, collapsed=True, third_lost_at=1000, first_warning_at=1000, first_verdict_at=1500
    )
    late = replace(dead, batch_norm=False, first_warning_at=1001)
    loud = replace(healthy, learning_rate=1.0, first_warning_at=500, first_verdict_at=500)
    hurt = replace(loud, learning_rate=2.0, third_lost_at=400)
    rows = bench.summary([healthy, dead, late, loud, hurt])
    assert rows == [("hardest", "2 of 5", "1 of 2", "1 of 2", "1 of 1", "")]
    # Rows come by strategy, the corrected one before the watched.
    # Of a guarded cell it is the twin that tells whether there was anything to correct.
    saved = replace(dead, strategy="default", collapsed=False, num_actions=2)
    watched = "default" + bench.ONLY_WATCHING
    assert bench.summary([replace(dead, strategy=watched), saved])[0] == (
        "default",
        "0 of 1",
        "0 of 0",
        "0 of 0",
        "0 of 0",
        "2",
    )
    wrong = [
        replace(healthy, strategy="default" + bench.ONLY_WATCHING),
        replace(healthy, strategy="default", num_actions=1),
    ]
    assert bench.summary(wrong)[0] == ("default", "0 of 1", "0 of 0", "1 of 1", "0 of 0", "1")
    assert bench._third_lost([0.3, 0.6, 0.41, 0.39, 0.6], [0, 1, 2, 3, 4]) == 3
    assert bench._third_lost([0.3, 0.2, 0.21], [0, 1, 2]) == -1
