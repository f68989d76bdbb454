"""Training on pictures that stay in their file, beside pictures in memory: how much memory, how fast.

    python benchmarks/bench_large_pictures.py
    python benchmarks/bench_large_pictures.py --pictures 20000 --folder /tmp

100,000 pictures of 224 px, two of a class (15 GB; the file is removed afterwards), are trained on for a few steps in a
process of its own; so are 4,000 in memory, in turn, some times each, and 400 once, which say what the network takes.
Before the first step the file is taken out of the system's cache, so that each picture comes from the disk, as of a set
that is far larger than memory. Printed are, for each repeat, the seconds and the processor time of the steps for each
picture shown, what of it random pictures take to read and to make a tensor of, and the highest resident memory of each
process. The pictures are noise: what is learned says nothing.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mohs.data.dataset import Dataset
from mohs.data.stored_pictures import Pictures, ReadAhead, StoredPictures, block_sums, rows_per_block
from mohs.data.table import Table
from mohs.model.embedder import Embedder
from mohs.settings.config import DataConfig, MemoryConfig, RunConfig, TrainingConfig
from mohs.training.events import Event, StepEvent
from mohs.training.loop import fit

NAME = "mohs-large-pictures.npy"


def noise(first: int, last: int, size: int) -> NDArray[np.uint8]:
    """Return different pictures of noise."""
    draw = np.random.default_rng(0).integers(0, 256, (rows_per_block(size * size * 3), size, size, 3), dtype=np.uint8)
    pictures = draw[: last - first]
    number_P8 = np.arange(first, last, dtype=np.uint64).view(np.uint8).reshape(-1, 8)
    pictures.reshape(len(pictures), -1)[:, :8] = number_P8
    return pictures


def write(path: Path, num_pictures: int, size: int) -> None:
    """Write a file of pictures."""
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (num_pictures, size, size, 3)}
        np.lib.format.write_array_header_1_0(file, header)
        step = rows_per_block(size * size * 3)
        for first in range(0, num_pictures, step):
            file.write(noise(first, min(first + step, num_pictures), size).data)


def opened(path: Path, num_pictures: int, size: int) -> StoredPictures:
    """Return the pictures of a file as training has them from the cache; their sums are taken once."""
    offset = np.load(path, mmap_mode="r").offset
    notes = path.with_suffix(".sums")
    if not notes.exists():
        notes.write_text(json.dumps(block_sums(path, offset, num_pictures, size * size * 3)))
    sums = json.loads(notes.read_text())
    return StoredPictures(path, offset, (num_pictures, size, size, 3), sums)


def forget(path: Path) -> None:
    """Take a file out of the system's cache."""
    with path.open("rb") as file:
        os.fdatasync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def train(pictures: Pictures, num_triplets: int, size: int) -> dict[str, Any]:
    """Train some steps, and return what they took."""
    num = len(pictures)
    labels = np.char.mod("%07d", np.arange(num) // 2)
    table = Table(tuple(map(str, range(num))), labels, np.full(num, "sample"), np.full(num, "", dtype="<U10"))
    config = RunConfig(
        data=DataConfig(size=size, channels=3),
        training=TrainingConfig(num_triplets=num_triplets, batch_triplets=24, num_segments=2, device="cpu"),
        memory=MemoryConfig(num_negatives=0),  # else sets of many classes would pay for a bank of negatives, too
    )
    embedder = Embedder.create(config.network, config.data.policy, seed=0)
    marks: list[tuple[float, float, int]] = []
    waits: list[tuple[int, float]] = []
    take = ReadAhead.take

    def waited(self: ReadAhead, item_K: NDArray[np.int64]) -> NDArray[np.uint8]:
        began = time.perf_counter()
        found = take(self, item_K)
        waits.append((len(marks), time.perf_counter() - began))
        return found

    ReadAhead.take = waited  # type: ignore[method-assign]

    def note(event: Event) -> None:
        if isinstance(event, StepEvent):
            if not marks and isinstance(pictures, StoredPictures):
                forget(pictures.path)
            marks.append((time.perf_counter(), time.process_time(), event.pictures))

    result = fit(embedder, Dataset(table, pictures), config, listeners=[note])
    # Of the steps of the first half, which no plan interrupts.
    steps = marks[: len(marks) // 2]
    wait_s = sum(seconds for step, seconds in waits if 0 < step < len(steps))
    shown = steps[-1][2] - steps[0][2]
    read_s = []
    for batch in range(20):
        items = np.random.default_rng(batch).integers(0, num, 48)
        began = time.process_time()
        embedder.to_input(pictures[items])
        read_s.append((time.process_time() - began) / 48)
    return {
        "read_s": float(np.median(read_s)),
        "wait_s": wait_s / shown,
        "wall_s": (steps[-1][0] - steps[0][0]) / shown,
        "cpu_s": (steps[-1][1] - steps[0][1]) / shown,
        "steps": result.num_steps,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def main() -> None:
    """Measure each kind in a process of its own, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--in-memory", type=int, default=4_000)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--triplets", type=int, default=960)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("build"))
    parser.add_argument("--kind", choices=("in memory", "in its file"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    path = arguments.folder / NAME
    if arguments.kind == "in memory":
        step = rows_per_block(arguments.size**2 * 3)
        pictures = np.empty((arguments.pictures, arguments.size, arguments.size, 3), dtype=np.uint8)
        for first in range(0, len(pictures), step):
            pictures[first : first + step] = noise(first, min(first + step, len(pictures)), arguments.size)
        print(json.dumps(train(pictures, arguments.triplets, arguments.size)))
        return
    if arguments.kind is not None:
        stored = opened(path, arguments.pictures, arguments.size)
        print(json.dumps(train(stored, arguments.triplets, arguments.size)))
        return
    arguments.folder.mkdir(parents=True, exist_ok=True)
    columns = "pictures | s a picture shown | of it waiting | CPU s | of it reading | peak memory | above that of 400"
    print(f"| {columns} |")
    print("|---|---|---|---|---|---|---|", flush=True)
    base_bytes = 0
    try:
        write(path, arguments.pictures, arguments.size)
        pair = ((arguments.in_memory, "in memory"), (arguments.pictures, "in its file"))
        rows = ((400, "in memory"), *pair * arguments.repeats)
        for num, kind in rows:
            command = [sys.executable, __file__, "--pictures", str(num), "--size", str(arguments.size)]
            command += ["--triplets", str(arguments.triplets), "--folder", str(arguments.folder), "--kind", kind]
            found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
            base_bytes = base_bytes or found["peak_bytes"]
            above = (found["peak_bytes"] - base_bytes) / 2**30
            print(
                f"| {num:,} {kind} | {found['wall_s']:.4f} | {found['wait_s']:.5f} "
                f"| {found['cpu_s']:.4f} | {found['read_s']:.5f} "
                f"| {found['peak_bytes'] / 2**30:.2f} GiB | {above:.2f} GiB |",
                flush=True,
            )
    finally:
        path.unlink(missing_ok=True)
        path.with_suffix(".sums").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
