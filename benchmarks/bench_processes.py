"""What several processes are worth: embedding, mining and evaluation by one process of n threads and by n of one.

    python benchmarks/bench_processes.py
    python benchmarks/bench_processes.py --processes 4 --items 200000

Each way does the same work with as many threads in all, several times in turn, and the plans are held against each
other to the byte of their sums. Efficiency is the time of one process over that of several: of wall clocks the least
of each, and of processor time of all processes, which other programs on the machine disturb less.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from mohs.data.images import ImagePolicy
from mohs.evaluation.retrieval import evaluate_retrieval
from mohs.mining import compile_kernels, mine
from mohs.model.embedder import Embedder, embed_items
from mohs.peers import Peers
from mohs.randomness import generator
from mohs.settings.config import ModelConfig

SIZE = 32


def tasks(num_items: int, peers: Peers) -> dict[str, Callable[[], str]]:
    """Return what is measured; each returns what it found in short."""
    draw = generator(0, "benchmark of processes")
    pictures = draw.integers(0, 256, (num_items, SIZE, SIZE, 1), dtype=np.uint8)
    network = Embedder.create(ModelConfig(), ImagePolicy(SIZE, 1), seed=0).eval()
    x_ND = draw.standard_normal((num_items, 128), dtype=np.float32)
    labels = np.arange(num_items) // 2
    anchors = draw.permutation(num_items)[: num_items // 3]

    def plan(scale: Any, **more: Any) -> Callable[[], str]:
        return lambda: str(
            mine(x_ND, labels, anchors_T=anchors, hardness_T=0.7, scale=scale, peers=peers, **more)
            .to_arrow()
            .schema.metadata[b"mohs.sha256"]
        )

    def ranked() -> str:
        found = evaluate_retrieval(x_ND[: num_items // 3], labels[: num_items // 3], x_ND, labels, peers=peers)
        return str(found.metrics)

    return {
        "embedding": lambda: str(embed_items(network, pictures, peers=peers).shape),
        "mining, range": plan("range"),
        "mining, log-rank": plan("log-rank"),
        "evaluation": ranked,
    }


def work(num_items: int, repeats: int) -> None:
    """Measure as one of the processes of the environment; the first one prints."""
    import torch

    from mohs.training.processes import processes

    with processes(torch.device("cpu")) as peers:
        for scale in ("range", "log-rank"):
            compile_kernels(scale)
        for name, task in tasks(num_items, peers).items():
            task()
            for _ in range(repeats):
                peers.gather(None)
                began, began_cpu = time.perf_counter(), time.process_time()
                found = task()
                wall_s = time.perf_counter() - began
                cpu_s = sum(peers.gather(time.process_time() - began_cpu))
                if peers.rank == 0:
                    print(json.dumps({"task": name, "wall_s": wall_s, "cpu_s": cpu_s, "found": found}), flush=True)


def launch(num_ranks: int, num_threads: int, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Return what processes that work together have measured."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(num_ranks)}
    command = [sys.executable, __file__, "--work", "--items", str(arguments.items), "--repeats", str(arguments.repeats)]
    ranks = [
        subprocess.Popen(
            command,
            env={
                **os.environ,
                **place,
                "RANK": str(rank),
                "OMP_NUM_THREADS": str(num_threads),
                "OMP_WAIT_POLICY": "PASSIVE",
            },
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(num_ranks)
    ]
    said = [process.communicate()[0] for process in ranks]
    if any(process.returncode for process in ranks):
        raise SystemExit("bench_processes: a process failed")
    return [json.loads(line) for line in said[0].splitlines()]


def main() -> None:
    """Measure both ways in turn, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--items", type=int, default=30_000)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2, help="of starting all anew")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.items, arguments.repeats)
        return
    num = arguments.processes
    one, several = [], []
    for _ in range(arguments.rounds):
        one += launch(1, num, arguments)
        several += launch(num, 1, arguments)
    print(f"| {arguments.items:,} items | 1 process, {num} threads | {num} processes | efficiency, wall | CPU |")
    print("|---|---|---|---|---|")
    for name in dict.fromkeys(row["task"] for row in one):
        both = [[row for row in rows if row["task"] == name] for rows in (one, several)]
        if len({row["found"] for rows in both for row in rows}) > 1:
            raise SystemExit(f"bench_processes: {name}: processes found something else than one")
        (wall_one, wall_all), (cpu_one, cpu_all) = (
            [min(row[unit] for row in rows) for rows in both] for unit in ("wall_s", "cpu_s")
        )
        print(
            f"| {name} | {wall_one:.2f} s, CPU {cpu_one:.2f} s | {wall_all:.2f} s, CPU {cpu_all:.2f} s "
            f"| {wall_one / wall_all:.2f} | {cpu_one / cpu_all:.2f} |"
        )


if __name__ == "__main__":
    main()
