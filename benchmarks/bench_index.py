"""What an index costs at 100,000 items, beside faiss.

    python benchmarks/bench_index.py                          # seconds and milliseconds at 100,000 × 128
    python benchmarks/bench_index.py --approximate 300000     # only the approximate search among so many

Vectors are random unit vectors, on the disk of the machine; exact search, one query at a time, as a service asks.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa

from mohs.index.approximate_search import build_approximation
from mohs.index.exact_search import Vectors, nearest_items
from mohs.index.snapshot import Snapshot
from mohs.index.store import Store, item_schema


def unit(random: np.random.Generator, num: int, dim: int) -> np.ndarray:
    """Return random unit vectors, float32."""
    x = random.normal(size=(num, dim)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def rows_of(ids: list[str], x: np.ndarray, schema: pa.Schema) -> pa.Table:
    """Return rows with these vectors and a thumbnail of a usual size."""
    text = pa.array(ids)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), x.shape[1])
    cells = {"vector": vectors, "thumbnail": pa.array([b"\x89PNG" + bytes(2000)] * len(ids))}
    return pa.table({name: cells.get(name, text) for name in schema.names}, schema=schema)


def median_ms(call: Callable[[int], object], num: int) -> float:
    """Return the median milliseconds of a call."""
    taken = []
    for i in range(num):
        began = time.perf_counter()
        call(i)
        taken.append(1e3 * (time.perf_counter() - began))
    return float(np.median(taken))


def change(store: Store, ids: list[str], random: np.random.Generator, num: int = 300) -> None:
    """Time changes of 100 items each, those that tidy up among them: by the clock, and by the processor."""
    dim = store.schema.field("vector").type.list_size
    taken: dict[str, list[tuple[float, float]]] = {"add": [], "replace": [], "remove": []}
    for i in range(num):
        kind = list(taken)[i % 3]
        chosen = (
            [f"new-{i}-{k}" for k in range(100)] if kind == "add" else random.choice(ids, 100, replace=False).tolist()
        )
        rows = rows_of(chosen, unit(random, 100, dim), store.schema)
        began, cpu_s = time.perf_counter(), time.process_time()
        if kind == "remove":
            store.remove(chosen)
        else:
            (store.add if kind == "add" else store.replace)(rows)
        taken[kind].append((time.perf_counter() - began, time.process_time() - cpu_s))
    for kind, found in taken.items():
        wall, cpu = (1e3 * np.array(each) for each in zip(*found, strict=True))
        print(
            f"{kind} 100, {len(found)} times: median {np.median(wall):.0f} ms, slowest {wall.max():.0f}; "
            f"CPU {np.median(cpu):.0f} ms, most {cpu.max():.0f}"
        )


def store_and_search(num: int, dim: int) -> None:
    """Time building, changing and searching."""
    random = np.random.default_rng(0)
    x, query = unit(random, num, dim), unit(random, 200, dim)
    ids = [f"{i:07d}" for i in range(num)]
    schema = item_schema(dim)
    with tempfile.TemporaryDirectory() as place:
        began = time.perf_counter()
        store = Store.create(Path(place), rows_of(ids, x, schema).to_batches(max_chunksize=4096), schema)
        print(f"build from vectors: {time.perf_counter() - began:.2f} s")
        began = time.perf_counter()
        found = store.read(["id", "class", "vector"])
        print(f"read {len(found):,} vectors into memory: {time.perf_counter() - began:.2f} s")
        print(f"see whether there is a new version: {median_ms(lambda _: store.newest(), 20):.1f} ms")
        change(store, ids, random)
    vectors = Vectors(np.array(ids, dtype=object), np.array(ids, dtype=object), x)
    flat = faiss.IndexFlatL2(dim)
    flat.add(x)
    ours = median_ms(lambda i: nearest_items(vectors, query[i : i + 1], 10), 200)
    theirs = median_ms(lambda i: flat.search(query[i : i + 1], 10), 200)
    own = [set(items.tolist()) for items, _ in nearest_items(vectors, query, 10)]
    same = sum(one == set(other) for one, other in zip(own, flat.search(query, 10)[1].tolist(), strict=True))
    print(f"one exact query: {ours:.2f} ms, faiss flat {theirs:.2f} ms ({ours / theirs:.2f} ×); {same} of 200 the same")


def approximate(num: int, dim: int) -> None:
    """Build the index of the store over clusters of thirty items, and time it beside a comparison with every item."""
    random = np.random.default_rng(0)
    centre = np.repeat(unit(random, -(-num // 30), dim), 30, axis=0)[:num]
    x = centre + 0.06 * random.normal(size=centre.shape).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    query = centre[random.choice(num, 200)] + 0.06 * random.normal(size=(200, dim)).astype(np.float32)
    query /= np.linalg.norm(query, axis=1, keepdims=True)
    schema = item_schema(dim)
    with tempfile.TemporaryDirectory() as place:
        rows = rows_of([f"{i:07d}" for i in range(num)], x, schema)
        store = Store.create(Path(place), rows.to_batches(max_chunksize=4096), schema)
        del rows
        began = time.perf_counter()
        found = build_approximation(store)
        print(f"{num:,} items, index and measure: {time.perf_counter() - began:.1f} s; {found}", flush=True)
        some, exact = Snapshot.read(store.newest(), None, found), Snapshot.read(store.newest(), None)
        pairs = zip(some.search(query, thumbnails=False), exact.search(query, thumbnails=False), strict=True)
        shared = [len({m.id for m in a.matches} & {m.id for m in b.matches}) / 10 for a, b in pairs]
        ours = median_ms(lambda i: some.search(query[i : i + 1], thumbnails=False), 200)
        theirs = median_ms(lambda i: exact.search(query[i : i + 1], thumbnails=False), 200)
        print(f"200 other queries: recall {np.mean(shared):.3f}; {ours:.1f} ms each, exact {theirs:.1f} ms")


def main() -> None:
    """Print a line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--approximate", type=int, help="items; measure approximate search alone")
    arguments = parser.parse_args()
    if arguments.approximate is None:
        store_and_search(arguments.items, arguments.dim)
    else:
        approximate(arguments.approximate, arguments.dim)


if __name__ == "__main__":
    main()
