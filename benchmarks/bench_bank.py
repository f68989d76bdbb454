"""A bank on disk that is larger than what mining it may take: seconds and peak memory, beside the disk's own speed.

    python benchmarks/bench_bank.py --quick               200,000 items, half a minute
    python benchmarks/bench_bank.py --json build/bank.json  10,000,000 items of 64 numbers in float16, 1.3 GB of disk

Items are unit vectors around 1,000 centres, two of each class. The bank is written once and kept in the folder given by
`--folder`. Each way of mining runs in a process of its own, whose peak memory is what the system counts for it. Before
that the shards are read once, by plain reads, after the system was asked to forget them: the disk's own speed.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from own_memory import memory_bytes

import mohs
from mohs.artefacts import write_json
from mohs.mining.threads import num_threads
from mohs.randomness import generator
from mohs.shards import ShardLayout, Shards, write_shards

CENTRES, SPREAD = 1000, 0.6
WAYS = ("nearest", "log-rank", "sampled")


@dataclass(frozen=True)
class Sizes:
    """How much is mined."""

    num_items: int = 10_000_000
    dim: int = 64
    num_anchors: int = 10_000
    rows_per_shard: int = 500_000


QUICK = Sizes(num_items=200_000, num_anchors=1_000, rows_per_shard=50_000)


def write_bank(folder: Path, sizes: Sizes) -> None:
    """Write the bank, or what is missing of it."""
    centre_CD = generator(0, "bank centres").standard_normal((CENTRES, sizes.dim)) / np.sqrt(sizes.dim)

    def make_rows(start: int, stop: int) -> np.ndarray:
        draw = generator(0, "bank rows", start)
        class_R = np.arange(start, stop) // 2 - start // 2
        centre_K = draw.integers(0, CENTRES, class_R[-1] + 1)
        of_class_KD = centre_CD[centre_K] + SPREAD * draw.standard_normal((len(centre_K), sizes.dim)) / np.sqrt(
            sizes.dim
        )
        noise_RD = draw.standard_normal((stop - start, sizes.dim), dtype=np.float32) / np.float32(np.sqrt(sizes.dim))
        rows_RD = of_class_KD[class_R] + 0.3 * noise_RD
        return (rows_RD / np.linalg.norm(rows_RD, axis=1, keepdims=True)).astype(np.float16)

    layout = ShardLayout(sizes.num_items, (sizes.dim,), "float16", sizes.rows_per_shard)
    about = {"of": "random clustered unit vectors", "centres": CENTRES, "spread": SPREAD}
    write_shards(folder, layout, about, make_rows)


def read_speed(shards: Shards) -> tuple[float, float]:
    """Return the seconds that reading all shards takes after they were forgotten, and once more after that."""
    block = bytearray(2**24)
    files = [shards.folder / name for name in shards.layout.file_names()]
    for file in files:
        handle = os.open(file, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        for file in files:
            with file.open("rb", buffering=0) as opened:
                while opened.readinto(block):
                    pass
        seconds.append(time.perf_counter() - began)
    return seconds[0], seconds[1]


def measure(folder: Path, way: str, num_anchors: int) -> dict[str, Any]:
    """Mine in this process and return what it took."""
    began = time.perf_counter()
    shards = mohs.open_shards(folder)
    opened_s = time.perf_counter() - began
    labels_N = np.arange(len(shards)) // 2
    anchors_T = np.sort(generator(0, "bank anchors").choice(len(shards), num_anchors, replace=False))
    curve = mohs.curves.cyclic(mohs.curves.sigmoid(cap=0.85, growth=3.0), 10)
    hardness_T = np.ones(num_anchors) if way == "nearest" else mohs.curves.schedule(curve, num_anchors)
    scale = "log-rank" if way == "log-rank" else "rank"
    before = resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    plan = mohs.mine(
        shards, labels_N, anchors_T=anchors_T, hardness_T=hardness_T, scale=scale,
        method="sampled" if way == "sampled" else "exact",
    )  # fmt: skip
    wall_s = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "way": way,
        "wall_s": wall_s,
        "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "sums_s": opened_s,
        "peak_bytes": memory_bytes("VmHWM"),
        "mean_negative_distance": float(plan.anchor_negative_distance.mean()),
        "num_anchors_exact": plan.header.get("num_anchors_exact"),
    }


def main() -> None:
    """Write the bank, read it, mine it each way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path("build/bank"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    sizes = QUICK if given.quick else Sizes()
    if given.one:
        print(json.dumps(measure(given.folder, given.one, sizes.num_anchors)))
        return
    write_bank(given.folder, sizes)
    shards = mohs.open_shards(given.folder, check=False)
    cold_s, warm_s = read_speed(shards)
    facts: dict[str, Any] = {
        **asdict(sizes), "bank_bytes": shards.nbytes, "threads": num_threads(), "read_cold_s": cold_s,
        "read_warm_s": warm_s, "date": time.strftime("%Y-%m-%d"), "load_before": os.getloadavg()[0], "ways": [],
    }  # fmt: skip
    print(f"{shards!r}: {shards.nbytes / 1e6:,.0f} MB, read in {cold_s:.1f} s, again in {warm_s:.1f} s", flush=True)
    for way in given.ways:
        command = [
            sys.executable,
            __file__,
            "--one",
            way,
            "--folder",
            str(given.folder),
            *(["--quick"] if given.quick else []),
        ]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        found["load_after"] = os.getloadavg()[0]
        facts["ways"].append(found)
        print(
            f"{way}: {found['wall_s']:.1f} s, {found['cpu_s']:.1f} s of CPU, "
            f"peak {found['peak_bytes'] / 2**20:,.0f} MiB (load {found['load_after']:.1f})",
            flush=True,
        )
        if given.json:
            write_json(given.json, facts)


if __name__ == "__main__":
    main()
