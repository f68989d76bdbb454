"""What an index costs at 100,000 items, beside faiss; and how far "unknown" can be trusted on classes never seen.

    python benchmarks/bench_index.py                # seconds and milliseconds at 100,000 × 128
    python benchmarks/bench_index.py --enrol        # also trains on the built-in set: 100 classes added, 200 unknown

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

import mohs
from mohs.evaluation.intervals import class_interval
from mohs.index.calibration import calibrate
from mohs.index.nearest import Vectors, nearest_items
from mohs.index.store import Store, item_schema
from mohs.settings.config import override_config
from mohs.training.run_inputs import open_split_data


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
        hundred = rows_of([f"new-{i}" for i in range(100)], x[:100], schema)
        print(f"see whether there is a new version: {median_ms(lambda _: store.newest(), 20):.1f} ms")
        print(f"add 100: {median_ms(lambda i: store.add(hundred) if not i else None, 1):.0f} ms")
        print(f"replace 100: {median_ms(lambda _: store.replace(hundred), 3):.0f} ms")
        print(f"remove 100: {median_ms(lambda _: store.remove(hundred.column('id').to_pylist()), 1):.0f} ms")
    vectors = Vectors(np.array(ids, dtype=object), np.array(ids, dtype=object), x)
    flat = faiss.IndexFlatL2(dim)
    flat.add(x)
    ours = median_ms(lambda i: nearest_items(vectors, query[i : i + 1], 10), 200)
    theirs = median_ms(lambda i: flat.search(query[i : i + 1], 10), 200)
    own = [set(items.tolist()) for items, _ in nearest_items(vectors, query, 10)]
    same = sum(one == set(other) for one, other in zip(own, flat.search(query, 10)[1].tolist(), strict=True))
    print(f"one exact query: {ours:.2f} ms, faiss flat {theirs:.2f} ms ({ours / theirs:.2f} ×); {same} of 200 the same")


def enrolment(seed: int) -> None:
    """Train on some classes, add 100 that were never trained on, and ask with these and with 200 unknown ones."""
    data = {"data.size": 32, "data.channels": 1, "data.max_classes": 1500, "data.test_fraction": 0.3}
    with tempfile.TemporaryDirectory() as place:
        run = mohs.train(
            override_config(None, [], {**data, "out": f"{place}/run", "training.num_triplets": 9600, "seed": seed})
        )
        split = open_split_data(run.config.data, seed=run.config.seed)
        test = split.dataset.take(np.flatnonzero(split.test_N))
        random = np.random.default_rng(seed)
        names = random.permutation(np.unique(test.labels))
        added, held_out, unknown = names[:100], names[100:200], names[200:400]
        embedder = run.embedder()
        x_ND = embedder.embed(test.pictures)
        first_N = np.zeros(len(test), dtype=bool)
        first_N[np.unique(test.labels, return_index=True)[1]] = True
        # One picture of each added class goes into the index, all others ask.
        in_index = np.flatnonzero(np.isin(test.labels, added) & first_N)
        vectors = Vectors(in_index.astype(str).astype(object), test.labels[in_index].astype(object), x_ND[in_index])
        learn = np.isin(test.labels, held_out)
        found = calibrate(vectors, x_ND[learn], test.labels[learn].astype(object), [[]] * int(learn.sum()), seed=seed)

        def nearest(asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            answers = nearest_items(vectors, x_ND[asked], 1)
            return np.array([vectors.class_N[i[0]] for i, _ in answers]), np.array([d[0] for _, d in answers])

        asked = np.isin(test.labels, added) & ~first_N
        label, _ = nearest(asked)
        right = label == test.labels[asked]
        _, distance = nearest(np.isin(test.labels, unknown))
        refused = distance >= found.threshold_distance
        low, high = class_interval(right, test.labels[asked])
        far, near = class_interval(refused, test.labels[np.isin(test.labels, unknown)])
        print(
            f"seed {seed}: R@1 of 100 added classes {right.mean():.3f} ({low:.3f} to {high:.3f}), "
            f"{len(right)} queries; of "
            f"200 unknown classes {refused.mean():.3f} are told unknown ({far:.3f} to {near:.3f}), "
            f"asked 0.95, learned from {found.num_pictures} pictures of {found.num_classes} classes "
            f"({1 - found.false_acceptance_interval[1]:.3f} to {1 - found.false_acceptance_interval[0]:.3f})",
            flush=True,
        )


def main() -> None:
    """Print a line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--enrol", action="store_true", help="also measure enrolment, some minutes")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    store_and_search(arguments.items, arguments.dim)
    if arguments.enrol:
        for seed in range(arguments.seeds):
            enrolment(seed)


if __name__ == "__main__":
    main()
