"""A process that dies, or says nothing more, ends the others: soon, with code 5 and one line that names it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

# Sums until the end of time; begins to be waited for once the file is there.
SCRIPT = """
import sys
from pathlib import Path
import torch
import torch.distributed as dist
from mohs.errors import TrainingError
from mohs.training.processes import processes

torch.set_num_threads(1)
try:
    with processes(torch.device("cpu"), silent_s=float(sys.argv[1]), join_s=float(sys.argv[2])) as peers:
        while True:
            dist.all_reduce(torch.ones(1))
            Path(f"began-{peers.rank}").touch()
except TrainingError as error:
    print("mohs:", error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


LEAVES = """
import os, time
from datetime import timedelta
import torch.distributed as dist

next(dist.rendezvous("env://", timeout=timedelta(seconds=60)))
time.sleep(2)
os._exit(1)
"""


def test_one_that_leaves_while_the_others_join_is_named(tmp_path: Path, fork_server: Any) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    # Rank 0 keeps the store that all meet at, and is gone before there is a group.
    (tmp_path / "leaves.py").write_text(LEAVES)
    (tmp_path / "chooses.py").write_text(
        "import os, runpy; runpy.run_path('leaves.py' if os.environ['RANK'] == '0' else 'script.py')"
    )
    ranks = fork_server.begin_ranks(2, ["chooses.py", "10", "30"], tmp_path)
    _, said = ranks[1].communicate(timeout=60)
    ranks[0].communicate(timeout=60)
    assert ranks[1].returncode == 5, said
    assert "mohs: processes: rank 0 is gone (" in said
    assert "Traceback" not in said


BEGINS_ALONE = """
import sys
from mohs.errors import TrainingError
from mohs.training.processes import Heartbeat

try:
    with Heartbeat(1, 2, silent_s=float(sys.argv[1]), join_s=float(sys.argv[2])):
        pass
except TrainingError as error:
    print("mohs:", error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


@pytest.mark.parametrize(("variable", "who"), [("False", "rank 0"), ("True", "torchrun")])
def test_a_store_that_is_gone_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fork_server: Any, variable: str, who: str
) -> None:
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", variable)
    (tmp_path / "alone.py").write_text(BEGINS_ALONE)
    [process] = fork_server.begin_ranks(1, ["alone.py", "1", "30"], tmp_path)
    [said] = end([process])
    assert process.returncode == 5, said
    [line] = [line for line in said.splitlines() if line.startswith("mohs:")]
    assert line.startswith(f"mohs: processes: {who} is gone (its store does not answer: ")
    assert line.endswith("again (a training with --resume)")


def test_a_store_that_takes_the_call_and_never_answers(tmp_path: Path, fork_server: Any) -> None:
    (tmp_path / "alone.py").write_text(BEGINS_ALONE)
    with socket.socket() as stopped:
        stopped.bind(("127.0.0.1", 0))
        stopped.listen()  # as the system does for a process that is stopped
        [process] = fork_server.begin_ranks(1, ["alone.py", "2", "6"], tmp_path, port=stopped.getsockname()[1])
        [said] = end([process])
    assert process.returncode == 5, said
    assert "mohs: processes: rank 0 is gone (silent for 2 s)" in said


def test_a_thread_that_is_with_the_store_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python aborts, with code -6, if a thread comes back from the store while the process ends."""
    import torch.distributed as dist

    from mohs.training.processes import Heartbeat

    calls = []

    class SlowStore:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        def set_timeout(self, _: object) -> None:
            pass

        def check(self, _: object) -> bool:
            return False

        def set(self, *_: object) -> None:
            calls.append("begun")
            time.sleep(1.0)
            calls.append("ended")

    monkeypatch.setattr(dist, "TCPStore", SlowStore)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "1")
    with Heartbeat(0, 2, silent_s=30, join_s=30):
        while not calls:
            time.sleep(0.01)
    assert calls == ["begun", "ended"]


def wait_for(folder: Path, pattern: str, ranks: Sequence[Any]) -> None:
    until = time.monotonic() + 300
    while not list(folder.glob(pattern)):
        assert time.monotonic() < until
        for process in ranks:
            assert process.poll() is None, process.communicate(timeout=60)[1]
        time.sleep(0.02)


def end(ranks: Sequence[Any]) -> list[str]:
    """Return what each process says until its end; none is left running."""
    try:
        return [process.communicate(timeout=300)[1] for process in ranks]
    finally:
        for process in ranks:
            process.kill()


@pytest.mark.parametrize("gone", [0, 1])
@pytest.mark.parametrize(
    ("how", "silent_s", "reason"), [("SIGKILL", 40, "its connection broke"), ("SIGSTOP", 4, "silent for 4 s")]
)
def test_the_other_process_ends_and_names_it(
    tmp_path: Path, fork_server: Any, gone: int, how: str, silent_s: int, reason: str
) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    ranks = fork_server.begin_ranks(2, ["script.py", str(silent_s), "120"], tmp_path)
    wait_for(tmp_path, "began-0", ranks)
    began = time.monotonic()
    ranks[gone].send_signal(getattr(signal, how))
    try:
        [said] = end([ranks[1 - gone]])
        took_s = time.monotonic() - began
    finally:
        ranks[gone].kill()
        end([ranks[gone]])
    assert ranks[1 - gone].returncode == 5
    lines = [line for line in said.splitlines() if line.startswith("mohs:")]
    assert lines == [
        f"mohs: processes: rank {gone} is gone ({reason}); see the output there, then start all processes again "
        "(a training with --resume)"
    ]
    assert took_s < 60


def test_of_three_processes_the_dead_one_is_named(tmp_path: Path, fork_server: Any) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    ranks = fork_server.begin_ranks(3, ["script.py", "40", "120"], tmp_path)
    wait_for(tmp_path, "began-0", ranks)
    ranks[2].kill()
    said = end(ranks)
    assert [process.returncode for process in ranks] == [5, 5, -signal.SIGKILL]
    for lines in said[:2]:
        assert "mohs: processes: rank 2 is gone" in lines


def test_a_process_that_never_comes(tmp_path: Path, fork_server: Any) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    [first, second] = fork_server.begin_ranks(2, ["script.py", "40", "3"], tmp_path)
    second.kill()
    [said, _] = end([first, second])
    assert first.returncode == 5
    assert "rank 0 did not meet all 2 processes at 127.0.0.1:" in said


def begin_programs(folder: Path, command: list[str]) -> list[subprocess.Popen[str]]:
    """Begin two programs of their own: what torch's C++ says is decided before torch is loaded."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    return [
        subprocess.Popen(
            [sys.executable, *command],
            env={**os.environ, **place, "RANK": str(rank), "OMP_NUM_THREADS": "1"},
            cwd=folder,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]


def test_a_killed_run_ends_and_can_be_taken_up(tmp_path: Path) -> None:
    """Rank 0 is killed: it holds the store and the files. Batches are uneven: of 7 and 8 triplets, the last alone."""
    command = [
        "-m", "mohs", "train", "glyphs", "--resume", "run", "--size", "16", "--channels", "1", "--triplets", "301",
        "--batch", "8", "--device", "cpu", "--quiet", "--set", "data.max_classes=60", "--set", "model.widths=[8, 16]",
        "--set", "training.num_segments=3", "--set", "training.checkpoint_s=0.01", "--set", "training.overlap=true",
    ]  # fmt: skip
    ranks = begin_programs(tmp_path, command)
    wait_for(tmp_path, "run/checkpoints/step-*.json", ranks)
    ranks[0].kill()
    began = time.monotonic()
    [_, said] = end(ranks)
    assert time.monotonic() - began < 60
    assert ranks[1].returncode == 5
    assert said.splitlines() == [
        "mohs: processes: rank 0 is gone (its connection broke); see the output there, then start all processes "
        "again (a training with --resume)"
    ]
    assert not (tmp_path / "run" / "run.json").exists()
    ranks = begin_programs(tmp_path, command)
    assert end(ranks)[1] == ""
    assert [process.returncode for process in ranks] == [0, 0]
    assert (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"RANK": "two"}, "RANK: 'two' is not a whole number; start the command with torchrun"),
        ({"RANK": "2"}, "RANK: 2 is not below WORLD_SIZE, 2; ranks count from 0"),
        ({"MASTER_PORT": ""}, "MASTER_PORT: '' is not a whole number"),
        ({"MASTER_ADDR": ""}, "MASTER_ADDR: not set; give the address of the machine of rank 0"),
    ],
)
def test_an_environment_that_makes_no_sense(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], problem: str
) -> None:
    import torch

    from mohs.errors import InputError
    from mohs.training.processes import processes

    sound = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in {**sound, **variables}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=problem), processes(torch.device("cpu")):
        pass
