"""`mohs mine` among three processes: the files of one, and one of them speaks."""

import os
import socket
import subprocess
import sys
from pathlib import Path

MINE = ["mine", "glyphs", "--size", "16", "--channels", "1", "--triplets", "700", "--scale", "log-rank"]


def test_three_processes_write_the_plan_of_one(tmp_path: Path, run_cli, torch_as_it_was: None) -> None:
    told = run_cli(*MINE, "--device", "cpu", "--out", str(tmp_path / "one.parquet"), "--csv", str(tmp_path / "one.csv"))
    assert told.code == 0, told.err
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "3"}
    command = [sys.executable, "-m", "mohs", *MINE, "--device", "cpu", "--out", "plan.parquet", "--csv", "plan.csv"]
    ranks = [
        subprocess.Popen(
            command,
            env={**os.environ, **place, "RANK": str(rank), "OMP_NUM_THREADS": "1"},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(3)
    ]
    said = [process.communicate(timeout=300) for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0, 0], said
    assert (tmp_path / "plan.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()
    assert (tmp_path / "plan.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    assert "plan: plan.parquet and plan.csv" in said[0][1]
    assert said[1:] == [("", ""), ("", "")]
