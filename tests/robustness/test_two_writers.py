"""Two writers that start at one instant: one goes on, the other is told who does."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mohs.errors import InputError
from mohs.settings.config import DataConfig, RunConfig
from mohs.training.run_folder import held_run_folder


def both(attempt: Callable[[int], str]) -> list[str]:
    """Return what became of two attempts that start together."""
    start = threading.Barrier(2)

    def one(number: int) -> str:
        start.wait()
        try:
            return attempt(number)
        except InputError as error:
            return error.problems[0]

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, (0, 1)))


def test_of_twenty_pairs_of_trainings_in_one_folder_exactly_one_goes_on(tmp_path: Path) -> None:
    def train(number: int, folder: Path) -> str:
        with held_run_folder(RunConfig(out=str(folder))):
            time.sleep(0.005)  # in which the other looks
            (folder / "config.json").write_text(str(number))
            return "trained"

    for pair in range(20):
        folder = tmp_path / f"run-{pair}"
        told = both(lambda number, folder=folder: train(number, folder))
        assert told.count("trained") == 1, told
        lost = next(line for line in told if line != "trained")
        assert "in use by process" in lost or "holds a run that did not finish" in lost
        assert (folder / "config.json").read_text() == str(told.index("trained"))


def test_runs_without_a_name_find_a_folder_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(_: int) -> str:
        with held_run_folder(RunConfig(data=DataConfig(source="shop"))) as config:
            time.sleep(0.005)
            (Path(str(config.out)) / "config.json").touch()
            return str(config.out)

    monkeypatch.chdir(tmp_path)
    for _ in range(5):
        named = both(train)
        assert len(set(named)) == 2
        assert all(name.startswith("runs/shop-") for name in named), named
