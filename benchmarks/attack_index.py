"""An index under random operations, and under kill -9: equal to a dictionary, and never between two states.

    python benchmarks/attack_index.py                       # 10,000 operations, 60 kills
    python benchmarks/attack_index.py --operations 500 --kills 5

Operations add, replace and remove one to twenty items; after each the number of items is compared, and after every
hundredth all ids, all vectors and the ten nearest to a query, by brute force over the dictionary. Kills hit a process
that adds a hundred items at a time, and in every other round also compacts and cleans up after each: the store must
then open, and hold every hundred whole or not at all.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mohs.distances import exact_distance, unit_rows
from mohs.index import store as stores
from mohs.index.exact_search import Vectors, nearest_items
from mohs.index.store import Store, item_schema, vectors_of

DIM, BATCH = 16, 100
SCHEMA = item_schema(DIM)


def unit(random: np.random.Generator, num: int) -> NDArray[np.float32]:
    """Return random unit vectors."""
    return unit_rows(random.standard_normal((num, DIM)).astype(np.float32))


def rows_of(ids: list[str], x_ND: NDArray[np.float32]) -> pa.Table:
    """Return rows of items with these vectors."""
    cells = {
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(x_ND.ravel()), DIM),
        "thumbnail": pa.array([b"\x89PNG" + bytes(2000)] * len(ids)),
    }
    return pa.table({name: cells.get(name, pa.array(ids)) for name in SCHEMA.names}, schema=SCHEMA)


def new_store(place: Path, ids: list[str], x_ND: NDArray[np.float32]) -> Store:
    """Return a new store with these items."""
    return Store.create(place, rows_of(ids, x_ND).to_batches(), SCHEMA)


def check_all(store: Store, model: dict[str, NDArray[np.float32]], random: np.random.Generator) -> None:
    """Compare everything with the dictionary."""
    found = store.read(["id", "vector"])
    ids = found.column("id").to_pylist()
    assert sorted(ids) == sorted(model), "other items"
    x_ND = vectors_of(found)
    for item, vector in zip(ids, x_ND, strict=True):
        np.testing.assert_array_equal(vector, model[item])
    order = sorted(range(len(ids)), key=ids.__getitem__)
    names = np.array(ids, dtype=object)[order]
    query_1D = unit(random, 1)
    ((places, _),) = nearest_items(Vectors(names, names, x_ND[order]), query_1D, 10)
    distance = {item: float(exact_distance(query_1D, vector[None])[0]) for item, vector in model.items()}
    expected = sorted(model, key=lambda item: (distance[item], item))[:10]
    assert names[places].tolist() == expected, "other neighbours"


def operations(num: int) -> None:
    """Do random operations on a store and a dictionary."""
    random = np.random.default_rng(0)
    counts = {"add": 0, "replace": 0, "remove": 0}
    with tempfile.TemporaryDirectory() as place:
        model = {f"{i:06d}": unit(random, 1)[0] for i in range(200)}
        store = new_store(Path(place), list(model), np.stack(list(model.values())))
        began, next_id = time.perf_counter(), len(model)
        for number in range(num):
            size = int(random.integers(1, 21))
            kind = str(random.choice(["add", "replace", "remove"])) if len(model) > 50 else "add"
            if kind == "add":
                ids = [f"{next_id + i:06d}" for i in range(size)]
                next_id += size
            else:
                ids = random.choice(sorted(model), size=min(size, len(model)), replace=False).tolist()
            x_ND = unit(random, len(ids))
            if kind == "remove":
                store.remove(ids)
                for item in ids:
                    del model[item]
            else:
                (store.add if kind == "add" else store.replace)(rows_of(ids, x_ND))
                model.update(zip(ids, x_ND, strict=True))
            counts[kind] += 1
            store = store.newest()
            assert len(store) == len(model), f"operation {number}: {len(store)} items, not {len(model)}"
            if number % 100 == 99 or number == num - 1:
                check_all(store, model, random)
        took = time.perf_counter() - began
    print(f"{num:,} operations ({counts}): all equal to a dictionary, {1e3 * took / num:.0f} ms each")


def add_for_ever(place: Path, *, compact: bool) -> None:
    """Add a hundred items again and again, and compact after each if wanted, saying so."""
    stores.KEPT_S = 0.0
    random = np.random.default_rng(os.getpid())
    store = Store.open(place)
    print("ready", flush=True)
    for number in range(10**6):
        ids = [f"{os.getpid()}-{number}-{i}" for i in range(BATCH)]
        store.add(rows_of(ids, unit(random, BATCH)))
        if compact:
            print("compacting", flush=True)
            store.compact()
            print("compacted", flush=True)


def cpu_s_of(process: int) -> float:
    """Return the CPU seconds that a process has taken."""
    words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def kills(num: int) -> None:
    """Kill a process that adds, and look at what it left."""
    random = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        new_store(place, ["first"], np.zeros((1, DIM), np.float32))
        num_added = num_in_compaction = 0
        for number in range(num):
            command = [sys.executable, __file__, "--add-to", folder, *([] if number % 2 else ["--compact"])]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
                assert child.stdout is not None
                child.stdout.readline()
                # Of the processor: on a busy machine a child may do nothing in as long by the clock.
                until_s = cpu_s_of(child.pid) + float(random.uniform(0.0, 0.3))
                while cpu_s_of(child.pid) < until_s:
                    time.sleep(0.001)
                child.send_signal(signal.SIGKILL)
                num_in_compaction += child.stdout.read().endswith("compacting\n")
            ids = Store.open(place).read(["id"]).column("id").to_pylist()
            batches: dict[str, int] = {}
            for item in ids:
                batches[item.rpartition("-")[0]] = batches.get(item.rpartition("-")[0], 0) + 1
            assert batches.pop("") == 1, f"kill {number}: the first item is gone"
            assert set(batches.values()) <= {BATCH}, f"kill {number}: {sorted(set(batches.values()))} items of a batch"
            assert len(batches) >= num_added, f"kill {number}: a batch that was there is gone"
            num_added = len(batches)
    print(f"{num} kills, {num_in_compaction} in a compaction: {num_added} batches of {BATCH} whole, none in part")


def main() -> None:
    """Attack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--operations", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--add-to", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--compact", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.add_to is not None:
        add_for_ever(arguments.add_to, compact=arguments.compact)
    if arguments.operations:
        operations(arguments.operations)
    if arguments.kills:
        kills(arguments.kills)


if __name__ == "__main__":
    main()
