"""How long mining takes, against the matrix product that it cannot do without and against other ways.

    python benchmarks/bench_mining.py --quick                        under a minute, prints tables
    python benchmarks/bench_mining.py --json benchmarks/mining.json  all sizes, a quarter of an hour on two cores

All ways run in one process on the same threads, in turns, so that whatever else the machine does falls on all of them.
Times are medians over the rounds; ratios are taken within each round. CPU seconds are summed over the threads: on a
busy machine they are the steadier measure. Slow ways run on a few anchors and are scaled up. Four parts:

- ways: all items of one bank are anchors; this package, the product alone, and what others do;
- sampled: how far sampled ranks are from the wanted ones, and how the time grows to a bank of a million;
- grid: other numbers of items and dimensions, on as many anchors as take about a second to multiply;
- memory: the growth of the peak of a process of its own over what it held with the bank loaded.

`mining_report.py` turns the JSON into the chart and the tables of `docs/performance.md`.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from mining_ways import PRODUCT, Bank, Way, faiss_flat, mohs, other_ways, product
from own_memory import memory_bytes
from rich.console import Console

from mohs import TripletPlan
from mohs.hardness.scales import SCALES, rank_of
from mohs.mining import estimate_peak_bytes
from mohs.mining.threads import num_threads

SAMPLED, SAMPLED_LOG = "`rank`, sampled", "`log-rank`, sampled"

Times: TypeAlias = dict[str, list[tuple[float, float]]]
"""Wall and CPU seconds of each round, by the name of the way."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured. The defaults are what `docs/performance.md` reports.

    `grid_work` is the number of products of two numbers that the anchors of a cell of the grid are chosen for, and
    `memory` lists items, scale and anchors.
    """

    num_items: int = 70_000
    dim: int = 128
    rounds: int = 3
    num_sampled: int = 4096
    num_large: int = 1_000_000
    num_checked: int = 2000
    grid_items: tuple[int, ...] = (10_000, 70_000, 200_000, 1_000_000)
    grid_dims: tuple[int, ...] = (64, 128, 256, 768)
    grid_work: float = 1e11
    grid_least_anchors: int = 2048
    memory: tuple[tuple[int, str, int], ...] = (
        (70_000, "range", 70_000),
        (70_000, "rank", 70_000),
        (70_000, "log-rank", 70_000),
        (70_000, "margin", 70_000),
        (200_000, "rank", 70_000),
        (200_000, "margin", 200_000),
    )


QUICK = Sizes(
    num_items=10_000,
    rounds=2,
    num_large=100_000,
    num_checked=200,
    grid_items=(10_000, 70_000),
    grid_dims=(128,),
    grid_work=2e10,
    grid_least_anchors=512,
    memory=((10_000, "rank", 10_000), (70_000, "rank", 2048)),
)


def measure(sizes: Sizes, log: Callable[[str], object]) -> dict[str, Any]:
    """Return all figures, as JSON values."""
    began, load = time.perf_counter(), _load()
    warm_up(log)
    ways, sampled = measure_ways(sizes, log)
    grid = [measure_cell(n, d, sizes, log) for n in sizes.grid_items for d in sizes.grid_dims]
    memory = [measure_memory(*case, sizes.dim, log) for case in sizes.memory]
    return {
        "date": datetime.date.today().isoformat(),
        "machine": {**_machine(), "load_before": load, "load_after": _load()},
        "complete": sizes == Sizes(),
        "ways": ways,
        "sampled": sampled,
        "grid": grid,
        "memory": memory,
        "seconds": time.perf_counter() - began,
    }


def warm_up(log: Callable[[str], object]) -> None:
    """Compile, import, start threads."""
    bank = Bank.random(2000, 16)
    for scale in SCALES:
        for count in (2000, 50):
            mohs(bank, scale)(bank.anchors_T[:count])
    mohs(bank, "rank", method="sampled", num_sampled=256)(bank.anchors_T)
    for way in other_ways(bank):
        way.run(way.anchors[:256])
    log("compiled")


def measure_ways(sizes: Sizes, log: Callable[[str], object]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the parts ways and sampled, measured in the same rounds."""
    bank, large = Bank.random(sizes.num_items, sizes.dim), Bank.random(sizes.num_large, sizes.dim)
    everything, m = bank.anchors_T, sizes.num_sampled
    num_anchors = len(everything)
    sampled_ways = [
        Way(SAMPLED, everything, mohs(bank, "rank", method="sampled", num_sampled=m)),
        Way(SAMPLED_LOG, everything, mohs(bank, "log-rank", method="sampled", num_sampled=m)),
        Way(
            f"{SAMPLED}, N = {sizes.num_large:,}",
            large.anchors_T[:num_anchors],
            mohs(large, "rank", method="sampled", num_sampled=m),
        ),
    ]
    exact_ways = [Way(PRODUCT, everything, product(bank))]
    exact_ways += [Way(f"`{scale}`", everything, mohs(bank, scale)) for scale in SCALES]
    chosen = [*exact_ways, *sampled_ways, *other_ways(bank)]
    times, found = interleave(chosen, sizes.rounds, num_anchors, log)

    figures = {way.name: figure(way, times, num_anchors) for way in chosen}
    sampled = []
    for way, of in zip(sampled_ways, (bank, bank, large), strict=True):
        plan: TripletPlan = found[way.name]
        row = figures.pop(way.name)
        row["faster_than_exact"] = _ratio(times["`log-rank`" if way.name == SAMPLED_LOG else "`rank`"], times[way.name])
        row["times_of_smaller"] = _ratio(times[way.name], times[SAMPLED])
        row["num_anchors_exact"] = plan.header["num_anchors_exact"]
        errors = rank_errors(of, plan, sizes.num_checked)
        row |= {"error_mean": float(errors.mean()), "error_p99": float(np.quantile(errors, 0.99))}
        sampled.append(row)
        log(f"{way.name}: rank error {row['error_mean']:.4f}")
    common = {"num_items": sizes.num_items, "dim": sizes.dim, "rounds": sizes.rounds}
    settings = {"num_large": sizes.num_large, "num_sampled": m, "num_checked": min(sizes.num_checked, num_anchors)}
    return {**common, "figures": list(figures.values())}, {**common, **settings, "figures": sampled}


def measure_cell(num_items: int, dim: int, sizes: Sizes, log: Callable[[str], object]) -> dict[str, Any]:
    """Return the figures of one number of items and dimensions, on some anchors."""
    bank = Bank.random(num_items, dim)
    work = num_items * dim
    num_anchors = min(num_items, max(sizes.grid_least_anchors, int(sizes.grid_work / work)))
    # Cells that take long are measured once.
    rounds = max(1, min(sizes.rounds, round(sizes.rounds * sizes.grid_work / (num_anchors * work))))
    anchors = bank.anchors_T[:num_anchors]
    chosen = [Way(PRODUCT, anchors, product(bank))]
    chosen += [Way(f"`{scale}`", anchors, mohs(bank, scale)) for scale in ("range", "rank", "margin")]
    chosen.append(Way("faiss flat, k = 1", anchors, faiss_flat(bank, 1)))
    if num_items >= 8 * sizes.num_sampled:
        chosen.append(Way(SAMPLED, anchors, mohs(bank, "rank", method="sampled", num_sampled=sizes.num_sampled)))
    log(f"N = {num_items:,}, d = {dim}, {num_anchors:,} anchors")
    times, _ = interleave(chosen, rounds, num_anchors, log)
    figures = [figure(way, times, num_anchors) for way in chosen]
    return {"num_items": num_items, "dim": dim, "num_anchors": num_anchors, "rounds": rounds, "figures": figures}


def interleave(
    ways: Sequence[Way], rounds: int, num_anchors: int, log: Callable[[str], object]
) -> tuple[Times, dict[str, Any]]:
    """Run all ways in turns; return the times of each round, scaled to `num_anchors` anchors, and what came of it."""
    times: Times = {way.name: [] for way in ways}
    found = {}
    for turn in range(rounds):
        for way in ways:
            wall, cpu = time.perf_counter(), time.process_time()
            found[way.name] = way.run(way.anchors)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            factor = num_anchors / len(way.anchors)
            times[way.name].append((wall * factor, cpu * factor))
            log(f"round {turn + 1}: {way.name}: {wall:.2f} s on {len(way.anchors):,} anchors")
    return times, found


def figure(way: Way, times: Times, num_anchors: int) -> dict[str, Any]:
    """Return the medians of a way."""
    runs = times[way.name]
    return {
        "name": way.name,
        "note": way.note,
        "anchors_timed": len(way.anchors),
        "scaled": len(way.anchors) < num_anchors,
        "wall_s": statistics.median(wall for wall, _ in runs),
        "cpu_s": statistics.median(cpu for _, cpu in runs),
        "wall_ratio": _ratio(runs, times[PRODUCT]),
        "cpu_ratio": statistics.median(r[1] / p[1] for r, p in zip(runs, times[PRODUCT], strict=True)),
    }


def rank_errors(bank: Bank, plan: TripletPlan, num_checked: int) -> np.ndarray:
    """Return |true rank − wanted rank| / M for some anchors of a plan, counted over all their M negatives."""
    chosen = np.random.default_rng(1).choice(len(plan), min(num_checked, len(plan)), replace=False)
    half_norm_N = np.einsum("nd,nd->n", bank.rows_ND, bank.rows_ND) / 2
    errors = []
    for t in np.array_split(chosen, -(-len(chosen) // 50)):
        key_RN = half_norm_N - bank.rows_ND[plan.anchor[t]] @ bank.rows_ND.T
        found_R = key_RN[np.arange(len(t)), plan.negative[t]].copy()
        own_RN = bank.labels_N[plan.anchor[t]][:, None] == bank.labels_N
        key_RN[own_RN] = np.inf
        num_negatives_R = (~own_RN).sum(axis=1)
        wanted_R = rank_of(plan.header["scale"], plan.hardness[t].astype(np.float64), num_negatives_R)
        errors.append(np.abs((key_RN < found_R[:, None]).sum(axis=1) - wanted_R) / num_negatives_R)
    return np.concatenate(errors)


def measure_memory(
    num_items: int, scale: str, num_anchors: int, dim: int, log: Callable[[str], object]
) -> dict[str, Any]:
    """Return what mining adds to the peak of a process of its own, and what was estimated, in bytes."""
    case = json.dumps([num_items, scale, num_anchors, dim])
    done = subprocess.run([sys.executable, __file__, "--memory-of", case], check=True, capture_output=True, text=True)
    row = {
        "num_items": num_items,
        "scale": scale,
        "num_anchors": num_anchors,
        "dim": dim,
        "bank_bytes": 4 * num_items * dim,
        "extra_bytes": int(done.stdout),
        "estimated_bytes": estimate_peak_bytes(num_items, dim, num_anchors, scale=scale),
    }
    log(f"memory of {scale}, N = {num_items:,}: {row['extra_bytes'] / 1e6:.0f} MB")
    return row


def print_extra_memory(num_items: int, scale: str, num_anchors: int, dim: int) -> None:
    """Mine once and print by how many bytes the peak of this process grew."""
    small = Bank.random(2000, dim)
    for count in (2000, 50):  # compile, start threads
        mohs(small, scale)(small.anchors_T[:count])
    bank = Bank.random(num_items, dim)
    _forget_peak()
    before = memory_bytes("VmRSS")
    mohs(bank, scale)(bank.anchors_T[:num_anchors])
    print(memory_bytes("VmHWM") - before)


def _forget_peak() -> None:
    """Let Linux count the peak from now on: making the bank may have taken more than mining it."""
    place = Path("/proc/self/clear_refs")
    if place.exists():
        place.write_text("5", encoding="ascii")


def _ratio(runs: Sequence[tuple[float, float]], base: Sequence[tuple[float, float]]) -> float:
    return statistics.median(r[0] / b[0] for r, b in zip(runs, base, strict=True))


def _load() -> float | None:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _machine() -> dict[str, Any]:
    names, avx512 = [platform.processor() or platform.machine()], False
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")] or names
        avx512 = any("avx512f" in line for line in lines)
    return {"processor": names[0], "avx512": avx512, "threads": num_threads(), "python": platform.python_version()}


def main() -> None:
    """Measure, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, in under a minute")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        print_extra_memory(*json.loads(arguments.memory_of))
        return
    console = Console(width=120, highlight=False, markup=False, log_path=False)
    result = measure(QUICK if arguments.quick else Sizes(), console.log)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    from mining_report import tables

    for name, table in tables(result).items():
        if name != "bounds" or result["complete"]:  # bounds are for the sizes of the page
            print(f"\n{table}")


if __name__ == "__main__":
    main()
