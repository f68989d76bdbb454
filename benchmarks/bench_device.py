"""How long a device takes to mine a whole bank, against its own matrix product, and whether the plan is the CPU's.

    python benchmarks/bench_device.py --json device.json
    python benchmarks/bench_device.py --n 70000 --d 128 --rounds 5 --no-cpu

GEMM is the product that mining cannot do without: the same blocks of anchors against all items, into nothing. Times are
medians over the rounds, after one that is not counted; `x GEMM` is a ratio within each round. The plan is compared with
the CPU's for all anchors: the share of equal negatives and the largest difference of their distances. The bank is that
of `bench_mining.py`: unit vectors, two items a class, every item an anchor once, hardness uniform in [0, 0.85].
"""

import argparse
import datetime
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mining_ways import MARGIN, Bank
from rich.console import Console
from rich.table import Table

from mohs.hardness.scales import SCALES, Scale
from mohs.mining.device_blocks import float32_products, rows_per_block
from mohs.mining.exact import mine_exact
from mohs.mining.on_device import mine_on_device, mining_device
from mohs.mining.positives import choose_positives
from mohs.mining.problem import Hardness, MiningProblem, make_problem, pair_distance
from mohs.mining.threads import num_threads


def problem_of(bank: Bank, scale: Scale) -> tuple[MiningProblem, np.ndarray]:
    """Return what is to be mined, and the distances of the positives."""
    problem = make_problem(
        bank.rows_ND,
        bank.labels_N,
        anchors_T=bank.anchors_T,
        wanted=Hardness(bank.hardness_T, scale, MARGIN if scale == "margin" else None),
    )
    positives, _ = choose_positives(problem.labels_N, problem.anchors_T, seed=0)
    return problem, pair_distance(problem, positives)


def gemm(bank: Bank, device: torch.device) -> Callable[[], None]:
    """Return the product alone, from rows that are on the device."""
    problem, _ = problem_of(bank, "range")
    rows = rows_per_block(problem, device)
    items_ND = torch.from_numpy(bank.rows_ND).to(device)
    anchors_TD = items_ND[torch.from_numpy(bank.anchors_T).to(device)]

    def run() -> None:
        with float32_products(device):
            for start in range(0, len(anchors_TD), rows):
                product = anchors_TD[start : start + rows] @ items_ND.T
        # What is read back has been computed.
        product[0, 0].item()

    return run


def seconds(run: Callable[[], object]) -> float:
    """Return the wall time of one call."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def measure(bank: Bank, device: torch.device, rounds: int, *, compare: bool) -> list[dict[str, Any]]:
    """Return a row of figures for GEMM and for each scale."""
    problems = {scale: problem_of(bank, scale) for scale in SCALES}
    runs: dict[str, Callable[[], Any]] = {"GEMM": gemm(bank, device)}
    for scale, (problem, distance_T) in problems.items():
        runs[scale] = lambda problem=problem, distance_T=distance_T: mine_on_device(problem, distance_T, device)
    plans = {name: run() for name, run in runs.items()}  # compiles, and starts the device
    times = [{name: seconds(run) for name, run in runs.items()} for _ in range(rounds)]
    figures = []
    for name in runs:
        row: dict[str, Any] = {
            "name": name,
            "wall_s": statistics.median(t[name] for t in times),
            "times_gemm": statistics.median(t[name] / t["GEMM"] for t in times),
        }
        if name in problems:
            row["anchors_on_cpu"] = plans[name][3]
            if compare:
                row |= agreement(plans[name], *problems[name])
        figures.append(row)
    return figures


def agreement(plan: tuple[Any, ...], problem: MiningProblem, distance_T: np.ndarray) -> dict[str, float]:
    """Return how a plan compares with the CPU's, and how long that took."""
    began = time.perf_counter()
    negative_T, negative_distance_T = (column_T1[:, 0] for column_T1 in mine_exact(problem, distance_T)[:2])
    return {
        "cpu_wall_s": time.perf_counter() - began,
        "equal": float((plan[0] == negative_T).mean()),
        "largest_difference": float(np.abs(plan[1] - negative_distance_T).max()),
    }


def table_of(figures: list[dict[str, Any]], title: str) -> Table:
    """Return the figures for a person."""
    headings = {
        "name": ("way", "{}"),
        "wall_s": ("wall s", "{:.3f}"),
        "times_gemm": ("x GEMM", "{:.1f}"),
        "anchors_on_cpu": ("left to the CPU", "{:,}"),
        "cpu_wall_s": ("CPU wall s", "{:.2f}"),
        "equal": ("equal", "{:.4%}"),
        "largest_difference": ("largest difference", "{:.1e}"),
    }
    table = Table(title=title)
    for key, (heading, _) in headings.items():
        table.add_column(heading, justify="left" if key == "name" else "right")
    for row in figures:
        table.add_row(*(form.format(row[key]) if key in row else "" for key, (_, form) in headings.items()))
    return table


def main() -> None:
    """Parse flags, run the rounds, show the table; where there is no device, say so."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=70_000, help="items, all of them anchors")
    parser.add_argument("--d", type=int, default=128, help="dimensions")
    parser.add_argument("--rounds", type=int, default=3, help="turns of all contestants")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 …, mps")
    parser.add_argument("--no-cpu", action="store_true", help="do not compare with the CPU's plan")
    parser.add_argument("--json", help="write the figures to this file")
    arguments = parser.parse_args()
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        print("no CUDA device here: nothing was measured")
        return
    device = mining_device(arguments.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else arguments.device
    bank = Bank.random(arguments.n, arguments.d)
    figures = measure(bank, device, arguments.rounds, compare=not arguments.no_cpu)
    today = datetime.date.today().isoformat()
    title = f"{today}, {name}, N = T = {arguments.n:,}, d = {arguments.d}, {num_threads()} threads on the host"
    Console(width=120).print(table_of(figures, title))
    if arguments.json:
        result = {"date": today, "device": name, "n": arguments.n, "d": arguments.d, "figures": figures}
        Path(arguments.json).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
