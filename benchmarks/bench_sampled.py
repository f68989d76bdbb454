"""How far sampled ranks are from the wanted ones, and how much faster sampling is than exact mining.

    python benchmarks/bench_sampled.py --quick
    python benchmarks/bench_sampled.py --rounds 5 --json sampled.json

Contestants run in one process on the same threads, in turns; the table shows medians over the rounds, and ratios are
taken within each round. The rank error of an anchor is |true rank − wanted rank| / M over its M negatives, measured by
counting all of them, for a sample of the anchors. The bank is that of `bench_mining.py`: unit vectors, two items a
class, hardness uniform in [0, 0.85].
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from bench_mining import Bank
from rich.console import Console
from rich.table import Table

from mohs import TripletPlan
from mohs.mining import mine
from mohs.mining.scales import rank_of
from mohs.mining.threads import num_threads


def miner(bank: Bank, num_anchors: int, method: str, num_sampled: int, scale: str = "rank") -> Callable:
    """Mine the first anchors of a bank."""
    return lambda: mine(
        bank.rows_ND,
        bank.labels_N,
        anchors_T=bank.anchors_T[:num_anchors],
        hardness_T=bank.hardness_T[:num_anchors],
        scale=scale,
        method=method,
        num_sampled=num_sampled,
    )


def rank_errors(bank: Bank, plan: TripletPlan, num_checked: int) -> np.ndarray:
    """Return |true rank − wanted rank| / M for some anchors of a plan on the scale `rank`."""
    chosen = np.random.default_rng(1).choice(len(plan), min(num_checked, len(plan)), replace=False)
    columns_DN = bank.rows_ND.T
    half_norm_N = np.einsum("nd,nd->n", bank.rows_ND, bank.rows_ND) / 2
    errors = []
    for t in np.array_split(chosen, -(-len(chosen) // 50)):
        key_RN = half_norm_N - bank.rows_ND[plan.anchor[t]] @ columns_DN
        found_R = key_RN[np.arange(len(t)), plan.negative[t]].copy()
        own_RN = bank.labels_N[plan.anchor[t]][:, None] == bank.labels_N
        key_RN[own_RN] = np.inf
        num_negatives_R = (~own_RN).sum(axis=1)
        wanted_R = rank_of("rank", plan.hardness[t].astype(np.float64), num_negatives_R)
        errors.append(np.abs((key_RN < found_R[:, None]).sum(axis=1) - wanted_R) / num_negatives_R)
    return np.concatenate(errors)


def main() -> None:
    """Parse flags, run the rounds, show the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, help="items, all of them anchors (70,000; 10,000 with --quick)")
    parser.add_argument("--large", type=int, help="items of the large bank, as many anchors (1,000,000; 50,000)")
    parser.add_argument("--d", type=int, default=128, help="dimensions")
    parser.add_argument("--m", type=int, default=4096, help="candidates in a sample")
    parser.add_argument("--checked", type=int, default=2000, help="anchors whose true ranks are counted")
    parser.add_argument("--rounds", type=int, default=3, help="turns of all contestants")
    parser.add_argument("--quick", action="store_true", help="small banks")
    parser.add_argument("--json", help="write the figures to this file")
    arguments = parser.parse_args()
    num_items = arguments.n or (10_000 if arguments.quick else 70_000)
    num_large = arguments.large or (50_000 if arguments.quick else 1_000_000)
    console, m = Console(width=120), arguments.m

    bank, large = Bank.random(num_items, arguments.d), Bank.random(num_large, arguments.d)
    num_anchors = min(num_items, num_large)
    ways = {
        f"exact rank, N = {num_items:,}": miner(bank, num_anchors, "exact", m),
        f"sampled rank, N = {num_items:,}": miner(bank, num_anchors, "sampled", m),
        f"sampled log-rank, N = {num_items:,}": miner(bank, num_anchors, "sampled", m, "log-rank"),
        f"sampled rank, N = {num_large:,}": miner(large, num_anchors, "sampled", m),
    }
    exact, sampled, _, sampled_large = ways
    small = Bank.random(min(6000, num_items), arguments.d)
    for method in ("exact", "sampled"):  # compile, start threads
        miner(small, len(small.anchors_T), method, 512)()

    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    plans: dict[str, TripletPlan] = {}
    for turn in range(arguments.rounds):
        for name, way in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            plans[name] = way()
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
            console.log(f"round {turn + 1}: {name}: {times[name][-1][0]:.2f} s")

    banks = {exact: bank, sampled: bank, sampled_large: large}
    errors = {name: rank_errors(b, plans[name], arguments.checked) for name, b in banks.items()}
    figures = []
    for name, runs in times.items():
        error = errors.get(name)
        figures.append(
            {
                "name": name,
                "wall_s": statistics.median(wall for wall, _ in runs),
                "cpu_s": statistics.median(cpu for _, cpu in runs),
                "faster_than_exact": statistics.median(e[0] / r[0] for e, r in zip(times[exact], runs, strict=True)),
                "faster_than_exact_cpu": statistics.median(
                    e[1] / r[1] for e, r in zip(times[exact], runs, strict=True)
                ),
                "times_of_sampled": statistics.median(r[0] / s[0] for r, s in zip(runs, times[sampled], strict=True)),
                "mined_exactly": plans[name].header.get("num_anchors_exact", num_anchors),
                "rank_error_mean": None if error is None else float(error.mean()),
                "rank_error_p99": None if error is None else float(np.quantile(error, 0.99)),
                "rank_error_max": None if error is None else float(error.max()),
            }
        )
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "?"
    table = Table(title=f"T = {num_anchors:,}, d = {arguments.d}, m = {m:,}, {num_threads()} threads, load {load}")
    headings = ("way", "wall s", "CPU s", "x faster", "(CPU)", "x sampled", "exact anchors", "error mean", "p99", "max")
    for column in headings:
        table.add_column(column, justify="left" if column == "way" else "right")
    for f in figures:
        seconds = [f"{f[key]:.2f}" for key in ("wall_s", "cpu_s", "faster_than_exact", "faster_than_exact_cpu")]
        shares = [f[key] for key in ("rank_error_mean", "rank_error_p99", "rank_error_max")]
        table.add_row(
            f["name"],
            *seconds,
            f"{f['times_of_sampled']:.2f}",
            f"{f['mined_exactly']:,}",
            *("" if share is None else f"{share:.4f}" for share in shares),
        )
    console.print(table)
    if arguments.json:
        machine = {"processor": platform.processor() or platform.machine(), "threads": num_threads()}
        result = {
            "n": num_items,
            "n_large": num_large,
            "anchors": num_anchors,
            "d": arguments.d,
            "m": m,
            "checked": min(arguments.checked, num_anchors),
            "machine": machine,
            "figures": figures,
        }
        Path(arguments.json).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
