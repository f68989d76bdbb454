"""How long all retrieval metrics take, all items against all, beside faiss's flat search of the 50 nearest.

    python benchmarks/bench_evaluation.py --quick
    python benchmarks/bench_evaluation.py --n 100000 --d 128 --rounds 3 --json evaluation.json

The search finds 50 neighbours; the metrics here know the rank of every relevant item. Both run in one process on the
same threads, in turns, so that whatever else the machine does falls on both; the table shows medians over the rounds,
and ratios within each round. CPU seconds are summed over the threads: on a busy machine they are the steadier measure.

Ranks near the top are cheap to count, for most of the gallery is passed over at once. So there are two banks: a trained
one, and one that knows next to nothing, where every count is large. Peak memory is that of a process of its own, with
Python, the packages and the embeddings in it.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from own_memory import memory_bytes
from rich.console import Console
from rich.table import Table

from mohs.evaluation.retrieval import evaluate_all_against_all
from mohs.mining.threads import num_threads

NOISE = {"trained": 0.7, "nearly random": 2.5}
K = 50


@dataclass(frozen=True)
class Figure:
    """Medians of one bank."""

    bank: str
    per_class: int
    recall_at_1: float
    wall_s: float
    cpu_s: float
    faiss_wall_s: float
    faiss_cpu_s: float
    wall_ratio: float
    cpu_ratio: float


def bank(num_items: int, dim: int, per_class: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Return unit vectors around their classes' centres, and the classes; the same on every call."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(num_items) // per_class
    rows = rng.standard_normal((labels.max() + 1, dim), dtype=np.float32)[labels]
    rows += noise * rng.standard_normal((num_items, dim), dtype=np.float32)
    rows /= np.sqrt(np.einsum("nd,nd->n", rows, rows))[:, None]
    return rows, labels


def timed(work: Callable[[], object]) -> tuple[float, float, object]:
    """Return wall and CPU seconds, and what came out."""
    wall, cpu = time.perf_counter(), time.process_time()
    value = work()
    return time.perf_counter() - wall, time.process_time() - cpu, value


def compare(num_items: int, dim: int, per_class: int, name: str, rounds: int, console: Console) -> Figure:
    """Run both in turns."""
    import faiss

    rows, labels = bank(num_items, dim, per_class, NOISE[name])
    faiss.omp_set_num_threads(num_threads())
    index = faiss.IndexFlatL2(dim)
    index.add(rows)
    some = slice(0, min(num_items, 2000))
    evaluate_all_against_all(rows[some], np.arange(num_items)[some] // 20)  # compile, start threads
    index.search(rows[:64], K)
    ours, theirs, found = [], [], 0.0
    for turn in range(rounds):
        wall, cpu, result = timed(lambda: evaluate_all_against_all(rows, labels))
        ours.append((wall, cpu))
        found = result.recall[1]
        theirs.append(timed(lambda: index.search(rows, K))[:2])
        console.log(f"{name}, {per_class} a class, round {turn + 1}: {ours[-1][0]:.1f} s, faiss {theirs[-1][0]:.1f} s")
    ratios = [(a[0] / b[0], a[1] / b[1]) for a, b in zip(ours, theirs, strict=True)]

    def median(pairs: list[tuple[float, float]], which: int) -> float:
        return statistics.median(pair[which] for pair in pairs)

    return Figure(
        name, per_class, found, median(ours, 0), median(ours, 1), median(theirs, 0), median(theirs, 1),
        median(ratios, 0), median(ratios, 1),
    )  # fmt: skip


def peak_memory_mb(num_items: int, dim: int, per_class: int, name: str) -> float:
    """Return the peak of a process of its own, in MB."""
    program = [sys.executable, __file__, "--n", str(num_items), "--d", str(dim)]
    program += ["--memory-of", name, "--per-class", str(per_class)]
    return float(subprocess.run(program, check=True, capture_output=True, text=True).stdout)


def show(console: Console, figures: list[Figure], memory: dict[str, float], num_items: int, dim: int) -> None:
    """Print the table."""
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "?"
    table = Table(title=f"N = {num_items:,}, d = {dim}, {num_threads()} threads, load {load}")
    columns = ("bank", "a class", "R@1", "wall s", "CPU s", "faiss s", "x faiss (wall)", "x faiss (CPU)", "peak MB")
    for column in columns:
        table.add_column(column, justify="left" if column == "bank" else "right")
    for f in figures:
        peak = memory.get(f"{f.bank}/{f.per_class}")
        table.add_row(
            f.bank, str(f.per_class), f"{f.recall_at_1:.3f}", f"{f.wall_s:.2f}", f"{f.cpu_s:.2f}",
            f"{f.faiss_wall_s:.2f}", f"{f.wall_ratio:.2f}", f"{f.cpu_ratio:.2f}", "" if peak is None else f"{peak:.0f}",
        )  # fmt: skip
    console.print(table)


def main(arguments: list[str] | None = None) -> None:
    """Parse flags, run the rounds, show the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, help="items (100,000; 10,000 with --quick)")
    parser.add_argument("--d", type=int, default=128, help="dimensions")
    parser.add_argument("--per-class", type=int, nargs="*", default=[2, 10], help="items of each class")
    parser.add_argument("--rounds", type=int, help="turns of both (3)")
    parser.add_argument("--quick", action="store_true", help="a small bank")
    parser.add_argument("--banks", nargs="*", choices=list(NOISE), default=list(NOISE), help="which banks")
    parser.add_argument("--json", help="write the figures to this file")
    parser.add_argument("--memory-of", choices=list(NOISE), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    num_items = options.n or (10_000 if options.quick else 100_000)
    if options.memory_of:
        rows, labels = bank(num_items, options.d, options.per_class[0], NOISE[options.memory_of])
        evaluate_all_against_all(rows, labels)
        print(memory_bytes("VmHWM") / 2**20)
        return
    console = Console()
    rounds = options.rounds or 3
    figures = [
        compare(num_items, options.d, per_class, name, rounds, console)
        for name in options.banks
        for per_class in options.per_class
    ]
    memory = {f"{f.bank}/{f.per_class}": peak_memory_mb(num_items, options.d, f.per_class, f.bank) for f in figures[:1]}
    show(console, figures, memory, num_items, options.d)
    if options.json:
        machine = {"processor": platform.processor() or platform.machine(), "threads": num_threads()}
        result = {
            "n": num_items,
            "d": options.d,
            "machine": machine,
            "figures": [asdict(figure) for figure in figures],
            "peak_mb": memory,
        }
        Path(options.json).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
