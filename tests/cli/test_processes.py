"""`mohs mine` among three processes: the files of one, and one of them speaks."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def draw_classes(folder: Path, num_classes: int, per_class: int) -> Path:
    """Class folders of grey blots, alike within a class."""
    random = np.random.default_rng(0)
    for label in range(num_classes):
        base = random.integers(30, 226, (4, 4)).repeat(4, 0).repeat(4, 1)
        (folder / f"{label:03d}").mkdir(parents=True)
        for number in range(per_class):
            pixels = base + random.integers(-30, 30, base.shape)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{label:03d}" / f"{number}.png")
    return folder


def test_three_processes_write_the_plan_of_one(
    tmp_path: Path, run_cli: Any, torch_as_it_was: None, fork_server: Any
) -> None:
    blots = draw_classes(tmp_path / "blots", 400, 3)
    mine = [
        "mine", str(blots), "--size", "16", "--channels", "1", "--triplets", "700", "--scale", "log-rank",
        "--device", "cpu",
    ]  # fmt: skip
    told = run_cli(*mine, "--out", str(tmp_path / "one.parquet"), "--csv", str(tmp_path / "one.csv"))
    assert told.code == 0, told.err
    command = ["-m", "mohs", *mine, "--out", "plan.parquet", "--csv", "plan.csv"]
    ranks = fork_server.begin_ranks(3, command, tmp_path)
    said = [process.communicate(timeout=300) for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0, 0], said
    assert (tmp_path / "plan.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()
    assert (tmp_path / "plan.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    assert "plan: plan.parquet and plan.csv" in said[0][1]
    assert said[1:] == [("", ""), ("", "")]
