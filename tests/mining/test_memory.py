"""The estimate holds against what the system counts, and memory maps are mined in little memory."""

import json
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from mohs.errors import InputError
from mohs.hardness.scales import SCALES
from mohs.mining import estimate_peak_bytes
from mohs.mining.problem import Hardness, make_problem, pair_distance

MEASURE = """
import json, sys
import numpy as np
from mohs.mining import mine
num_items, dim, num_anchors, scale, method, dtype, options = json.loads(sys.argv[1])
def memory(field):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(field))
def bank_of(num_items):
    rng = np.random.default_rng(0)
    bank = np.empty((num_items, dim), dtype)
    for start in range(0, num_items, 1000):
        bank[start : start + 1000] = rng.standard_normal((len(bank[start : start + 1000]), dim), dtype=np.float32)
    return bank
def run(bank, num_anchors, num_sampled=4096):
    rng = np.random.default_rng(1)
    mine(bank, np.arange(len(bank)) // 2, anchors_T=rng.permutation(len(bank))[:num_anchors],
         hardness_T=rng.random(num_anchors), scale=scale, method=method, num_sampled=num_sampled, **options)
small = bank_of(2000)
run(small, 2000, 256)  # compile, load, start threads
run(small, 50)
bank = bank_of(num_items)
before = memory("VmRSS")
run(bank, num_anchors)
print(memory("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux counts")
@pytest.mark.parametrize(
    ("num_items", "dim", "num_anchors", "scale", "method", "dtype", "options"),
    [
        (20_000, 128, 3000, "rank", "exact", "float32", {}),
        (60_000, 128, 2000, "rank", "exact", "float32", {}),
        (20_000, 128, 20_000, "range", "exact", "float32", {}),  # swept
        (150_000, 64, 60_000, "rank", "sampled", "float16", {}),
        (40_000, 128, 2000, "rank", "exact", "float16", {"metric": "cosine"}),
        # So many negatives are not swept, and the plan takes most of the memory.
        (5000, 16, 5000, "range", "exact", "float32", {"num_negatives": 500}),
    ],
)
def test_the_estimate_is_at_most_half_above_the_peak(num_items, dim, num_anchors, scale, method, dtype, options):
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, json.dumps([num_items, dim, num_anchors, scale, method, dtype, options])],
        capture_output=True, text=True, check=True, env={"OMP_NUM_THREADS": "2", "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    estimate = estimate_peak_bytes(
        num_items, dim, num_anchors, scale=scale, method=method, bank_dtype=dtype, threads=2, **options
    )
    assert 1.0 <= estimate / int(done.stdout) <= 1.5


IN_SHARDS = """
import json, sys
from pathlib import Path
import numpy as np
from mohs.mining import mine
from mohs.shards import ShardLayout, open_shards, write_shards
folder, num_items, dim, num_anchors, scale = Path(sys.argv[1]), *json.loads(sys.argv[2])
def memory(field):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(field))
def bank_of(num_items):
    rng = np.random.default_rng(0)
    layout = ShardLayout(num_items, (dim,), "float16", 2**16)
    make = lambda start, stop: rng.standard_normal((stop - start, dim), dtype=np.float32).astype(np.float16)
    write_shards(folder / str(num_items), layout, {}, make)
    return open_shards(folder / str(num_items), check=False), np.arange(num_items) // 2
def run(bank, labels, anchors):
    mine(bank, labels, anchors_T=anchors, hardness_T=np.linspace(0, 1, len(anchors)), scale=scale)
run(*bank_of(2000), np.arange(50))
bank, labels = bank_of(num_items)
anchors = np.linspace(0, num_items - 1, num_anchors).astype(np.int64)
before = memory("VmRSS")
run(bank, labels, anchors)
print(memory("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux counts")
@pytest.mark.parametrize(
    ("sizes", "most"),
    [((4_000_000, 16, 50, "rank"), 1.2), ((300_000, 64, 2000, "range"), 1.6), ((20_000, 32, 16_384, "rank"), 1.6)],
)
def test_the_estimate_of_a_bank_in_shards_is_near_its_peak(sizes, most, tmp_path):
    """Of many items the labels take most; of few, pieces of the bank; with many anchors what is counted for each."""
    done = subprocess.run(
        [sys.executable, "-c", IN_SHARDS, str(tmp_path), json.dumps(sizes)],
        capture_output=True, text=True, check=True, env={"OMP_NUM_THREADS": "2", "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    num_items, dim, num_anchors, scale = sizes
    estimate = estimate_peak_bytes(
        num_items, dim, num_anchors, scale=scale, threads=2, bank_dtype="float16", in_shards=True
    )
    assert 1.0 <= estimate / int(done.stdout) <= most, done.stdout


def test_a_bank_that_is_not_copied_takes_a_copy_less():
    def estimate(**options):
        return estimate_peak_bytes(10**6, 512, 10**5, scale="rank", threads=4, **options)

    copied = estimate()
    for other in (estimate(bank_dtype="float16"), estimate(bank_dtype="bfloat16"), estimate(in_memory=False)):
        assert copied - other == pytest.approx(1.05 * 4 * 512 * 10**6, rel=0.01)
    assert estimate(num_candidates=10**5) < 0.3 * copied


def test_ends_of_several_negatives_are_counted_for_at_once():
    """Of `range` and `margin` both ends of what is wanted may be looked for in the same passes."""
    one, ranks, ends = (
        estimate_peak_bytes(10**6, 16, 2**14, scale=scale, threads=2, num_negatives=k, in_shards=True)
        for scale, k in (("range", 1), ("rank", 2), ("range", 2))
    )
    counts = 4 * 1024 * 2**14
    assert ends - ranks == pytest.approx(1.05 * counts, rel=0.1)
    assert ranks - one > counts


def test_it_grows_with_what_costs_memory():
    def estimate(num_items=10**5, dim=64, num_anchors=5000, scale="rank", threads=2, **options):
        return estimate_peak_bytes(num_items, dim, num_anchors, scale=scale, threads=threads, **options)

    base = estimate()
    assert estimate(num_items=10**6) > 3 * base
    assert estimate(num_items=10**6) < 12 * base  # not with its square
    assert estimate(dim=640) > base
    assert estimate(threads=4) > base + 10**8
    assert estimate(num_anchors=10**6) > base
    assert estimate(num_anchors=10**6, num_negatives=10) > estimate(num_anchors=10**6) + 400 * 10**6
    assert estimate(metric="cosine") > base + 4 * 64 * 10**5
    # Sweeps need no bins, unless anchors are left for blocks.
    swept = estimate(num_anchors=10**5, scale="range")
    assert swept < estimate(scale="range") < estimate(num_anchors=150_000, scale="range")
    assert swept < estimate(num_anchors=10**5, scale="range", num_negatives=2)
    assert estimate(num_anchors=199_000, scale="range") < estimate(num_anchors=150_000, scale="range")


def test_what_mine_refuses_is_refused_together():
    with pytest.raises(InputError) as caught:
        estimate_peak_bytes(0, 4, 1, scale="rnak", metric="dot", bank_dtype="float64", num_negatives=0)
    assert str(caught.value).split("\n") == [
        "num_items: 0 is not a whole number of at least 1",
        "scale: 'rnak' is not one of 'range', 'rank', 'log-rank', 'margin'",
        "metric: 'dot' is not one of 'euclidean', 'cosine'",
        "num_negatives: 0 is not a whole number of at least 1; use for example 4",
        "bank_dtype: 'float64' is not one of 'float32', 'float16', 'bfloat16'",
    ]
    with pytest.raises(InputError, match="range is exact only"):
        estimate_peak_bytes(10, 4, 1, method="sampled")


LIMITED = """
import json, resource, sys
import numpy as np
from mohs.mining import mine
path, limit, num_anchors, runs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4])
def run(bank, num_anchors, scale, method):
    n = len(bank)
    rng = np.random.default_rng(0)
    plan = mine(bank, np.arange(n) // 2, anchors_T=rng.permutation(n)[:num_anchors], hardness_T=rng.random(num_anchors),
                scale=scale, method=method, num_sampled=256, margin=1.0 if scale == "margin" else None)
    return plan.negative[:5].tolist()
bank = np.load(path, mmap_mode="r")
for scale, method in runs:  # compile, load
    run(np.array(bank[:600]), 600, scale, method)
    run(np.load(path, mmap_mode="r")[:600], 600, scale, method)
    run(np.load(path, mmap_mode="r")[:600], 3, scale, method)
now = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (now + limit, now + limit))
print(json.dumps([run(bank, num_anchors, scale, method) for scale, method in runs]))
"""

EXACT = [[scale, "exact"] for scale in SCALES]
MB = 10**6


@pytest.mark.skipif(sys.platform != "linux", reason="limits private memory as Linux does")
@pytest.mark.parametrize(
    ("num_items", "dim", "dtype", "num_anchors", "limit", "runs"),
    [
        (250_000, 200, "float32", 40, 80 * MB, [*EXACT, ["rank", "sampled"]]),  # 200 MB
        (250_000, 200, "float16", 40, 80 * MB, [["margin", "exact"], ["rank", "sampled"]]),
        (3000, 4096, "float32", 3000, 35 * MB, [["range", "exact"]]),  # swept; 49 MB
    ],
)
def test_a_memory_map_is_mined_in_less_memory_than_it_has(num_items, dim, dtype, num_anchors, limit, runs, tmp_path):
    """The limit is on private memory: pages of the file do not count."""
    path = tmp_path / "bank.npy"
    part = np.random.default_rng(0).standard_normal((1000, dim), dtype=np.float32)
    bank = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=(num_items, dim))
    for start in range(0, num_items, len(part)):
        bank[start : start + len(part)] = part * np.float32(1 + start / num_items)
    assert bank.size * 4 > 1.3 * limit
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path), str(limit), str(num_anchors), json.dumps(runs)],
        capture_output=True, text=True, check=False, env={"OMP_NUM_THREADS": "1", "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(json.loads(done.stdout)) == len(runs)


def test_distances_of_long_rows_take_no_more_memory_than_those_of_short_ones():
    """As many rows at a time as for short ones would take 50 MB here."""
    rows = np.random.default_rng(0).standard_normal((1000, 4096), dtype=np.float32)
    items = np.arange(1000)
    problem = make_problem(
        rows, items // 2, anchors_T=items, wanted=Hardness(np.zeros(1000), "rank")
    )  # fmt: skip
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        distance_T = pair_distance(problem, items[::-1])
        peak_bytes = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert peak_bytes < 2 * MB
    np.testing.assert_allclose(distance_T, np.linalg.norm(rows - rows[::-1], axis=1), rtol=1e-5)
