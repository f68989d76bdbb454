"""Processes killed by SIGKILL while they train, mine, build or read an index, and pairs that train into one folder.

    python benchmarks/attack_writers.py                     # 30 kills each, 20 pairs
    python benchmarks/attack_writers.py --kills 5 --pairs 3
    python benchmarks/attack_writers.py --only build serve

Pictures of 60 characters are written once. Children are forked from this process, which has loaded everything, and are
killed at a random moment of the time that the work takes. A child that had ended before does not count as killed. What
must hold:

- train: taken up again it ends with the weights and plans of a run that nobody killed, bit for bit.
- mine: plan and CSV are the old ones or the new ones, each whole.
- index build: there is no index, or one that is whole; it can be built afterwards.
- service reload: processes that make versions of an index, and that take them up, are killed; it opens, and is sound.
- serve: `mohs serve` itself is killed while it takes up versions that another process makes, and in every other round
  while it adds and removes an item itself. The index is sound, holds what the service said it had stored, and the next
  service answers from it.
- pairs: two trainings with other seeds are started in one folder. One ends well, the other exits with 2, and the
  folder holds settings and weights of the first.

Nothing that a killed process left half-written stays after the next writer.
"""

import argparse
import asyncio
import contextlib
import hashlib
import http.client
import itertools
import json
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from bench_serve import serving

import mohs
from mohs.cli import main as mohs_main
from mohs.index.index import Index
from mohs.mining import compile_kernels
from mohs.plan import TripletPlan
from mohs.randomness import generator
from mohs.runs import Run
from mohs.serve.editions import Editions
from mohs.serve.metrics import Metrics

TOKEN = "a-token-of-some-length"
FORK = multiprocessing.get_context("fork")
SETTINGS = (
    "--per-class", "2", "--size", "16", "--channels", "1", "--triplets", "480", "--batch", "24", "--quiet",
    "--set", "training.num_segments=4", "--set", "training.checkpoint_s=0.02", "--set", "model.widths=[8,16]",
    "--device", "cpu",
)  # fmt: skip


def quiet(work: Callable[[], object]) -> None:
    """Do work without a word, and leave the process."""
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    torch.set_num_threads(1)
    code = 0
    try:
        work()
    except SystemExit as stop:
        code = int(stop.code or 0)
    os._exit(code)


def started(work: Callable[[], object]) -> multiprocessing.process.BaseProcess:
    """Return a forked process that does the work."""
    process = FORK.Process(target=quiet, args=(work,))
    process.start()
    return process


def finished(work: Callable[[], object]) -> float:
    """Do work in a process of its own, which must end well; return the seconds that it took."""
    began = time.monotonic()
    process = started(work)
    process.join()
    assert process.exitcode == 0, process.exitcode
    return time.monotonic() - began


def command(*words: object) -> Callable[[], object]:
    """Return the work of a command."""
    return lambda: mohs_main([str(word) for word in words])


def killed(work: Callable[[], object], after_s: float) -> bool:
    """Do work in a process that is killed after some time; return whether it was still at work."""
    process = started(work)
    process.join(after_s)
    process.kill()
    process.join()
    return process.exitcode == -9


def hashes(folder: Path) -> list[str]:
    """Return the SHA-256 of the weights and plans of a run."""
    files = [folder / "embedder" / "model.safetensors", *sorted((folder / "plans").glob("*.parquet"))]
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


def left_over(folder: Path) -> list[str]:
    """Return what was left half-written below a folder."""
    return [str(path) for path in folder.rglob(".*.tmp-*")]


def kill_training(place: Path, num: int) -> str:
    """Kill trainings, and take them up again."""

    def train(out: Path) -> Callable[[], object]:
        return command("train", place / "set", "--resume", out, *SETTINGS)

    took_s = finished(train(place / "undisturbed"))
    wanted = hashes(place / "undisturbed")
    at_work = taken_up = 0
    for number in itertools.count():
        if at_work == num:
            break
        out = place / f"killed-{number}"
        at_work += killed(train(out), took_s * generator(0, "kill training", number).random())
        taken_up += any(out.glob("checkpoints/step-*.json"))
        finished(train(out))
        assert hashes(out) == wanted, f"kill {number}: another run"
        assert not left_over(out), left_over(out)
        shutil.rmtree(out)
    said = f"train: {num} kills at work in {number} rounds, {taken_up} with a checkpoint"
    return f"{said}: all end with the same weights and plans"


def kill_mining(place: Path, num: int) -> str:
    """Kill minings that write over a plan and its CSV."""
    plan, listed = place / "mined" / "p.parquet", place / "mined" / "p.csv"

    def mine(seed: int) -> Callable[[], object]:
        words = ("mine", place / "set", "--embedder", place / "undisturbed", "--out", plan, "--csv", listed, "--quiet")
        return command(*words, "--triplets", 20_000, "--seed", seed)

    finished(mine(0))
    took_s = finished(mine(0))
    at_work = 0
    before = plan.read_bytes()
    for number in itertools.count():
        if at_work == num:
            break
        at_work += killed(mine(number + 1), took_s * generator(0, "kill mining", number).random())
        found = TripletPlan.load(plan)  # by its sum
        assert len(found) == 20_000
        assert listed.read_bytes().count(b"\n") == 20_001, f"kill {number}: half a CSV"
        assert plan.read_bytes() == before or found.header["seed"] == number + 1
        before = plan.read_bytes()
    finished(mine(0))
    assert not left_over(place / "mined"), left_over(place / "mined")
    return f"mine: {num} kills at work in {number} rounds: plan and CSV whole each time"


def sound(folder: Path, num_items: int) -> Callable[[], object]:
    """Return the work of looking through an index. LanceDB has threads, so that only children may open one."""

    def look() -> None:
        opened = Index.open(folder)
        sys.exit(0 if len(opened) == num_items and opened.check() == [] else 1)

    return look


def sound_beside(folder: Path, num_items: int, item: str, is_there: bool | None) -> Callable[[], object]:
    """Return the work of looking through an index that an item was added to, or not, and of taking it out."""

    def look() -> None:
        opened = Index.open(folder)
        found = opened.snapshot().place(item) is not None
        is_sound = opened.check() == [] and len(opened) == num_items + found and is_there in (None, found)
        if found:
            opened.remove([item])
        sys.exit(0 if is_sound else 1)

    return look


def asked(port: int, method: str, address: str, body: bytes) -> bytes:
    """Return what a service answers; raise `HTTPException` unless that is a success."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        header = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "image/png"}
        connection.request(method, address, body, header)
        answer = connection.getresponse()
        data = answer.read()
    if answer.status >= 300:
        raise http.client.HTTPException(f"{method} {address}: {answer.status} {data[:200]!r}")
    return data


def kill_building(place: Path, num: int) -> str:
    """Kill buildings of an index, every other one about when it is put in its place."""
    folder = place / "indexes" / "i"
    num_items = len(mohs.read_table(place / "set", catalog=None))

    def build() -> Callable[[], object]:
        return command("index", "build", folder, place / "set", "--embedder", place / "undisturbed", "--quiet")

    took_s = finished(build())
    at_work = num_whole = 0
    for number in itertools.count():
        if at_work == num:
            break
        shutil.rmtree(folder, ignore_errors=True)
        share = generator(0, "kill building", number).random()
        at_work += killed(build(), took_s * (share if number % 2 else 0.8 + 0.3 * share))
        if folder.exists():
            num_whole += 1
            finished(sound(folder, num_items))
    shutil.rmtree(folder, ignore_errors=True)
    finished(build())
    finished(sound(folder, num_items))
    assert not left_over(folder.parent), left_over(folder.parent)
    said = f"index build: {num} kills at work in {number} rounds"
    return f"{said}: {num_whole} times a whole index, else none"


def kill_reloading(place: Path, num: int) -> str:
    """Kill processes that take up versions of an index, and in every other round the one that makes them first."""
    folder = place / "indexes" / "i"
    table = mohs.read_table(place / "set")
    if not folder.exists():
        finished(command("index", "build", folder, place / "set", "--embedder", place / "undisturbed", "--quiet"))

    def reload() -> None:
        editions = Editions(folder, Metrics())
        while True:
            asyncio.run(editions.refresh())

    def change() -> None:
        index = Index.open(folder)
        while True:
            index.replace(table.take(np.arange(8)))

    at_work = 0
    for number in range(num):
        both = [started(reload), started(change)]
        time.sleep(0.5 + 2 * generator(0, "kill reloading", number).random())
        for process in both if number % 2 else both[::-1]:
            process.kill()
            process.join()
            at_work += process.exitcode == -9
        finished(sound(folder, len(table)))
    return f"service reload: {num} rounds, {at_work} processes killed at work: the index opens and is sound"


def kill_serving(place: Path, num: int) -> str:
    """Kill `mohs serve` while it takes up new versions of its index."""
    folder = place / "indexes" / "served"
    table = mohs.read_table(place / "set")
    finished(command("index", "build", folder, place / "set", "--embedder", place / "undisturbed", "--quiet"))
    picture = (place / "set" / table.files[0]).read_bytes()
    num_reloads = num_stored = 0
    os.environ["MOHS_SERVE_TOKEN"] = TOKEN
    os.environ["MOHS_SERVE_RELOAD_S"] = "0.005"

    def change() -> None:
        index = Index.open(folder)
        while True:
            index.replace(table.take(np.arange(8)))

    for number in range(num):
        service = serving(folder)
        is_there: bool | None = False  # None: asked for, and not answered
        stop = threading.Event()
        with service as port:
            # Each service answers from what the killed one left: the picture is found, as itself.
            found = json.loads(asked(port, "POST", "/search?top=1", picture))
            assert found["matches"][0]["distance"] < 1e-3, found
            changing = None if number % 2 else started(change)

            def store(port: int = port, stop: threading.Event = stop) -> None:
                nonlocal is_there, num_stored
                with contextlib.suppress(OSError, http.client.HTTPException):
                    while not stop.is_set():
                        is_there = None
                        asked(port, "POST", "/items?id=one+more&class=new", picture)
                        is_there, num_stored = True, num_stored + 1
                        is_there = None
                        asked(port, "DELETE", "/items/one%20more", b"")
                        is_there = False

            client = threading.Thread(target=store)
            if number % 2:
                client.start()
            time.sleep(0.5 + 2 * generator(0, "kill serving", number).random())
            said = asked(port, "GET", "/metrics", b"").decode()
            num_reloads += int(float(said.split("\nmohs_reloads_total ")[1].split()[0]))
            service.process.kill()
            service.process.wait()
            stop.set()
            if number % 2:
                client.join()
            if changing is not None:
                changing.kill()
                changing.join()
        assert service.process.returncode == -9, service.process.returncode
        finished(sound_beside(folder, len(table), "one more", is_there))
    return (
        f"serve: {num} kills of the service, which had taken up {num_reloads} versions and stored {num_stored} items: "
        "the index is sound, and the next service answers from it"
    )


def train_in_pairs(place: Path, num: int) -> str:
    """Start two trainings at once in one folder, as often as said."""
    lost = []
    for number in range(num):
        out = place / f"pair-{number}"
        barrier = FORK.Barrier(2)

        def train(seed: int, out: Path = out, barrier: object = barrier) -> None:
            barrier.wait()  # type: ignore[attr-defined]
            command("train", place / "set", "--out", out, "--seed", seed, *SETTINGS)()

        both = [started(lambda seed=seed, train=train: train(seed)) for seed in (0, 1)]
        for process in both:
            process.join()
        codes = [process.exitcode for process in both]
        assert sorted(codes) == [0, 2], f"pair {number}: {codes}"
        run, winner = Run.open(out), codes.index(0)  # by the sums of all its files
        assert run.config.seed == winner
        alone = place / f"alone-{winner}"
        if not alone.exists():
            finished(command("train", place / "set", "--out", alone, "--seed", winner, *SETTINGS))
        assert hashes(out) == hashes(alone), f"pair {number}: weights of another run"
        lost.append(1 - winner)
        shutil.rmtree(out)
    return f"pairs: {num}, exactly one of each went on; the second one lost {sum(lost)} of them"


def main() -> None:
    """Attack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--pairs", type=int, default=20)
    attacks = {
        "train": kill_training,
        "mine": kill_mining,
        "build": kill_building,
        "reload": kill_reloading,
        "serve": kill_serving,
        "pairs": train_in_pairs,
    }
    parser.add_argument("--only", nargs="+", choices=attacks, default=list(attacks))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        os.environ["XDG_CACHE_HOME"] = str(place / "cache")
        finished(command("glyphs", place / "set", "--size", 16, "--classes", 60))
        finished(lambda: compile_kernels("log-rank"))  # the others find them compiled
        if "train" not in arguments.only:  # whose run the others read
            finished(command("train", place / "set", "--out", place / "undisturbed", *SETTINGS))
        for name in arguments.only:
            work, num = attacks[name], arguments.pairs if name == "pairs" else arguments.kills
            began = time.monotonic()
            print(f"{work(place, num)} ({time.monotonic() - began:.0f} s)", flush=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{used.ru_utime + used.ru_stime:.0f} s of CPU in children, the largest {used.ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
