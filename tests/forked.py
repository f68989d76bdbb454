"""Processes that begin with torch and Mohs imported, since a fork of one that has imported them begins at once.

Importing takes each process some seconds of CPU, and the tests of processes that work together begin thirty of them.
All else is as in a program of its own: its number, its signals, its files, its exit code, and how Python ends.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

# Forks while it has one thread. A child leaves the loop, does what it was asked to do, and ends as a script does.
_SERVER = """
import json, os, runpy, sys
from pathlib import Path
import torch.distributed
import mohs.cli.train, mohs.data.glyphs, mohs.mining, mohs.runs, mohs.training.loop

def next_child():
    for line in sys.stdin:
        order = json.loads(line)
        if "pid" in order:
            pid, status = os.waitpid(order["pid"], os.WNOHANG)
            print(json.dumps(os.waitstatus_to_exitcode(status) if pid else None), flush=True)
            continue
        names = sorted(task.read_text() for task in Path("/proc/self/task").glob("*/comm"))
        threads = [name for name in names if name != "jemalloc_bg_thd\\n"]  # it begins again by itself
        assert len(threads) <= 1, f"a fork would lose threads: {threads}"
        pid = os.fork()
        if pid == 0:
            return order
        print(pid, flush=True)
    os._exit(0)

order = next_child()
sys.stdin = open(os.devnull)
os.chdir(order["folder"])
os.environ.clear()
os.environ.update(order["environment"])
for stream, file in ((1, order["out"]), (2, order["err"])):
    os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
if order["command"][0] == "-m":
    sys.argv = order["command"][1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
else:
    sys.argv = order["command"]
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


@final
class Fork:
    """A process, as `subprocess.Popen` shows one; its output goes to files."""

    def __init__(self, server: "ForkServer", pid: int, out: Path, err: Path) -> None:
        self.pid, self.returncode = pid, None
        self._server, self._out, self._err = server, out, err

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._server.ask(pid=self.pid)
        return self.returncode

    def communicate(self, timeout: float) -> tuple[str, str]:
        """Wait for the end, and return what it said on stdout and on stderr."""
        until = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            time.sleep(0.01)
        return self._out.read_text(), self._err.read_text()

    def said(self) -> str:
        return self._err.read_text()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@final
class ForkServer:
    """The process that has imported torch and Mohs, with one thread for its arithmetic."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._begun = folder, 0
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )

    def ask(self, **order: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def begin(self, command: list[str], folder: Path, variables: Mapping[str, str]) -> Fork:
        """Begin `python COMMAND`, where it is a file and its arguments, or -m, a module and its arguments."""
        self._begun += 1
        out, err = (self._folder / f"{self._begun}.{stream}" for stream in ("out", "err"))
        for file in (out, err):
            file.touch()  # a process that is killed at once has said nothing
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
        pid = self.ask(command=command, folder=str(folder), environment=environment, out=str(out), err=str(err))
        return Fork(self, pid, out, err)

    def begin_ranks(self, num_ranks: int, command: list[str], folder: Path, *, port: int | None = None) -> list[Fork]:
        """Begin processes as by hand on several machines: nobody but themselves looks after them."""
        if port is None:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(num_ranks)}
        return [self.begin(command, folder, {**place, "RANK": str(rank)}) for rank in range(num_ranks)]

    def end(self) -> None:
        self._process.communicate()
