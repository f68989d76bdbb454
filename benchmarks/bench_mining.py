"""How long mining a whole bank takes, against the matrix product that it cannot do without and against other ways.

    python benchmarks/bench_mining.py --quick
    python benchmarks/bench_mining.py --n 70000 --d 128 --rounds 5 --json mining.json

All contestants run in one process on the same threads, in turns, so that whatever else the machine does falls on all
of them; the table shows medians over the rounds. `x GEMM` is a ratio within each round. CPU seconds are summed over the
threads: on a busy machine they are the steadier measure. Slow ways run on a few anchors and are scaled up (marked ~).
Extra memory is the growth of the peak of a process of its own over what it held with the bank loaded.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from mohs.mining import mine
from mohs.mining.scales import SCALES
from mohs.mining.threads import num_threads, one_blas_thread

MARGIN = 0.2
BLOCK = 512


@dataclass(frozen=True)
class Bank:
    """Unit vectors, two items a class that are closer to each other than to most others; every item once an anchor."""

    rows_ND: np.ndarray
    labels_N: np.ndarray
    anchors_T: np.ndarray
    hardness_T: np.ndarray

    @classmethod
    def random(cls, num_items: int, dim: int) -> "Bank":
        """Return the same bank on every call."""
        rng = np.random.default_rng(0)
        labels = rng.permutation(num_items) // 2
        rows = rng.standard_normal(((num_items + 1) // 2, dim), dtype=np.float32)[labels]
        rows += 0.7 * rng.standard_normal((num_items, dim), dtype=np.float32)
        rows /= np.sqrt(np.einsum("nd,nd->n", rows, rows))[:, None]
        return cls(rows, labels, rng.permutation(num_items), rng.random(num_items) * 0.85)


@dataclass(frozen=True)
class Contestant:
    """A way of mining: `run(anchors)` serves `num_anchors` anchors; times are scaled to all of them."""

    name: str
    num_anchors: int
    run: Callable[[np.ndarray], object]


def mohs(bank: Bank, scale: str) -> Callable[[np.ndarray], object]:
    """Mine with this package."""
    options = {"margin": MARGIN} if scale == "margin" else {}
    return lambda anchors: mine(
        bank.rows_ND,
        bank.labels_N,
        anchors_T=anchors,
        hardness_T=bank.hardness_T[: len(anchors)],
        scale=scale,
        **options,
    )


def gemm(bank: Bank) -> Callable[[np.ndarray], object]:
    """Blocks of 512 anchors against all items into a reused buffer, one BLAS thread in each of our threads."""
    columns_DN = np.ascontiguousarray(bank.rows_ND.T)

    def run(anchors: np.ndarray) -> None:
        local = threading.local()

        def work(start: int) -> None:
            if not hasattr(local, "out"):
                local.out = np.empty((BLOCK, len(bank.rows_ND)), dtype=np.float32)
            block = bank.rows_ND[anchors[start : start + BLOCK]]
            np.matmul(block, columns_DN, out=local.out[: len(block)])

        with one_blas_thread(), ThreadPoolExecutor(num_threads()) as pool:
            list(pool.map(work, range(0, len(anchors), BLOCK)))

    return run


def faiss_flat(bank: Bank, k: int) -> Callable[[np.ndarray], object]:
    """Search the k nearest of all items; no own class, no hardness, no ties."""
    import faiss

    faiss.omp_set_num_threads(num_threads())
    index = faiss.IndexFlatL2(bank.rows_ND.shape[1])
    index.add(bank.rows_ND)
    return lambda anchors: index.search(bank.rows_ND[anchors], k)


def torch_blocks(bank: Bank, choose: str) -> Callable[[np.ndarray], object]:
    """Distances by torch in blocks, own class masked, then the negative by threshold, full sort or k-th value."""
    import torch

    torch.set_num_threads(num_threads())
    rows, labels = torch.from_numpy(bank.rows_ND), torch.from_numpy(bank.labels_N)
    size = 256

    def run(anchors: np.ndarray) -> None:
        for start in range(0, len(anchors), size):
            anchor = torch.from_numpy(anchors[start : start + size])
            hardness = torch.from_numpy(bank.hardness_T[start : start + len(anchor)]).float()[:, None]
            own = labels[anchor][:, None] == labels[None, :]
            distance = torch.cdist(rows[anchor], rows)
            if choose == "mask":
                nearest = distance.masked_fill(own, torch.inf).amin(dim=1, keepdim=True)
                farthest = distance.masked_fill(own, -torch.inf).amax(dim=1, keepdim=True)
                threshold = farthest - hardness * (farthest - nearest)
                distance.masked_fill_(own | (distance < threshold), torch.inf).argmin(dim=1)
            elif choose == "sort":
                order = distance.masked_fill_(own, torch.inf).sort(dim=1).indices
                order.gather(1, ((1 - hardness) * (rows.shape[0] - 3)).long())
            else:
                masked = distance.masked_fill_(own, torch.inf)
                for row, h in zip(masked, hardness.ravel().tolist(), strict=True):
                    row.kthvalue(1 + int((1 - h) * (rows.shape[0] - 3)))

    return run


def sklearn_brute(bank: Bank) -> Callable[[np.ndarray], object]:
    """Search the 3 nearest: the anchor, its class mate, a negative."""
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=3, algorithm="brute").fit(bank.rows_ND)
    return lambda anchors: index.kneighbors(bank.rows_ND[anchors])


def published_loop(bank: Bank) -> Callable[[np.ndarray], object]:
    """One Python call of a distance for each item and anchor, then the threshold, as published."""

    def run(anchors: np.ndarray) -> None:
        for anchor, h in zip(anchors, bank.hardness_T, strict=False):
            distances = [
                (float(np.linalg.norm(bank.rows_ND[anchor] - row)), item)
                for item, row in enumerate(bank.rows_ND)
                if bank.labels_N[item] != bank.labels_N[anchor]
            ]
            farthest, nearest = max(distances)[0], min(distances)[0]
            min(pair for pair in distances if pair[0] >= farthest - h * (farthest - nearest))

    return run


def contestants(bank: Bank, quick: bool) -> list[Contestant]:
    """Return who takes part, the bare product first."""
    everything = len(bank.anchors_T)
    some, few = min(2048, everything), min(512, everything)
    chosen = [Contestant("GEMM alone", everything, gemm(bank))]
    chosen += [Contestant(f"mohs {scale}", everything, mohs(bank, scale)) for scale in SCALES]
    chosen += [Contestant("faiss flat, k=1", everything, faiss_flat(bank, 1))]
    if not quick:
        chosen += [
            Contestant("faiss flat, k=100", some, faiss_flat(bank, 100)),
            Contestant("scikit-learn brute, k=3", some, sklearn_brute(bank)),
            Contestant("torch cdist + mask", some, torch_blocks(bank, "mask")),
            Contestant("torch cdist + sort", few, torch_blocks(bank, "sort")),
            Contestant("torch cdist + kthvalue", few, torch_blocks(bank, "kthvalue")),
            Contestant("published loop", min(20, everything), published_loop(bank)),
        ]
    return chosen


def timed(contestant: Contestant, bank: Bank) -> tuple[float, float]:
    """Wall and CPU seconds for all anchors."""
    anchors = bank.anchors_T[: contestant.num_anchors]
    factor = len(bank.anchors_T) / len(anchors)
    wall, cpu = time.perf_counter(), time.process_time()
    contestant.run(anchors)
    return (time.perf_counter() - wall) * factor, (time.process_time() - cpu) * factor


def extra_memory(num_items: int, dim: int, scale: str) -> float:
    """Peak memory in MB that mining adds in a process of its own."""
    program = [sys.executable, __file__, "--n", str(num_items), "--d", str(dim), "--memory-of", scale]
    return float(subprocess.run(program, check=True, capture_output=True, text=True).stdout)


def print_extra_memory(num_items: int, dim: int, scale: str) -> None:
    """Mine once and print by how many MB the peak of this process grew."""
    small, bank = Bank.random(2000, dim), Bank.random(num_items, dim)
    mohs(small, scale)(small.anchors_T)  # compiled, threads started
    before = _memory_mb("VmRSS")
    mohs(bank, scale)(bank.anchors_T)
    print(_memory_mb("VmHWM") - before)


def _memory_mb(field: str) -> float:
    status = Path("/proc/self/status")
    if not status.exists():  # elsewhere, the peak so far
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(field)) / 2**10


def main() -> None:
    """Parse flags, run the rounds, show the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, help="items, all of them anchors (70,000; 10,000 with --quick)")
    parser.add_argument("--d", type=int, default=128, help="dimensions")
    parser.add_argument("--rounds", type=int, help="turns of all contestants (5; 3 with --quick)")
    parser.add_argument("--quick", action="store_true", help="a small bank, and only what takes seconds")
    parser.add_argument("--only", nargs="*", default=[], help="contestants whose names contain one of these")
    parser.add_argument("--json", help="write the figures to this file")
    parser.add_argument("--memory-of", choices=SCALES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    num_items = arguments.n or (10_000 if arguments.quick else 70_000)
    if arguments.memory_of:
        print_extra_memory(num_items, arguments.d, arguments.memory_of)
        return

    bank, console = Bank.random(num_items, arguments.d), Console()
    chosen = contestants(bank, arguments.quick)
    chosen = [c for c in chosen if c.num_anchors and (not arguments.only or any(o in c.name for o in arguments.only))]
    if chosen[0].name != "GEMM alone":
        chosen.insert(0, Contestant("GEMM alone", num_items, gemm(bank)))
    for contestant in chosen:  # compile, start threads, touch memory
        contestant.run(bank.anchors_T[: min(contestant.num_anchors, 256)])
        if contestant.name.startswith("mohs"):
            contestant.run(bank.anchors_T[: min(num_items, 20_000)])
    times: dict[str, list[tuple[float, float]]] = {c.name: [] for c in chosen}
    for turn in range(arguments.rounds or (3 if arguments.quick else 5)):
        for contestant in chosen:
            if turn and contestant.name == "published loop":
                continue
            times[contestant.name].append(timed(contestant, bank))
            console.log(f"round {turn + 1}: {contestant.name}: {times[contestant.name][-1][0]:.2f} s")

    memory = {f"mohs {s}": extra_memory(num_items, arguments.d, s) for s in SCALES if f"mohs {s}" in times}
    figures = []
    for contestant in chosen:
        runs, base = times[contestant.name], times["GEMM alone"]
        figures.append(
            {
                "name": contestant.name,
                "anchors_timed": contestant.num_anchors,
                "wall_s": statistics.median(wall for wall, _ in runs),
                "cpu_s": statistics.median(cpu for _, cpu in runs),
                "wall_ratio": statistics.median(r[0] / g[0] for r, g in zip(runs, base, strict=False)),
                "cpu_ratio": statistics.median(r[1] / g[1] for r, g in zip(runs, base, strict=False)),
                "extra_memory_mb": memory.get(contestant.name),
            }
        )
    show(console, figures, num_items, arguments.d)
    if arguments.json:
        machine = {"processor": platform.processor() or platform.machine(), "threads": num_threads()}
        result = {"n": num_items, "d": arguments.d, "machine": machine, "figures": figures}
        Path(arguments.json).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def show(console: Console, figures: list[dict], num_items: int, dim: int) -> None:
    """Print the table."""
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "?"
    title = f"N = T = {num_items:,}, d = {dim}, {num_threads()} threads, load {load}"
    table = Table(title=title)
    for column in ("way", "wall s", "CPU s", "x GEMM (wall)", "x GEMM (CPU)", "extra MB"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for f in figures:
        scaled = "~" if f["anchors_timed"] < num_items else ""
        extra = "" if f["extra_memory_mb"] is None else f"{f['extra_memory_mb']:.0f}"
        seconds = (f"{scaled}{f['wall_s']:,.2f}", f"{scaled}{f['cpu_s']:,.2f}")
        table.add_row(f["name"], *seconds, f"{f['wall_ratio']:.2f}", f"{f['cpu_ratio']:.2f}", extra)
    console.print(table)


if __name__ == "__main__":
    main()
