"""What a device mines is the definition, index for index. Torch's CPU stands for a device; CUDA, where there is one."""

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle import oracle_negatives

from mohs.errors import InputError
from mohs.hardness.scales import SCALES
from mohs.mining import device_blocks, mine, on_device
from mohs.mining.exact import mine_exact
from mohs.mining.on_device import mine_on_device, mining_device
from mohs.mining.positives import choose_positives
from mohs.mining.problem import Hardness, make_problem, pair_distance
from mohs.mining.threads import Meter

CUDA = pytest.param(
    "cuda",
    marks=pytest.mark.skipif(
        not torch.cuda.is_available(), reason="no CUDA device here: mining on CUDA is NOT tested, only on torch's CPU"
    ),
)
DEVICES = ["cpu", CUDA]
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
KINDS = ("plain", "unit", "grid", "duplicates", "near-duplicates", "collapsed", "one point", "outlier", "huge", "tiny")


def random_bank(rng, num_items, dim, kind):
    bank = rng.normal(size=(num_items, dim))
    if kind == "unit":
        bank /= np.linalg.norm(bank, axis=1, keepdims=True)
    elif kind == "grid":  # plenty of ties
        bank = np.rint(bank)
    elif kind in ("duplicates", "near-duplicates"):
        bank = bank[rng.integers(0, max(1, num_items // 4), num_items)]
        if kind == "near-duplicates":
            bank *= 1 + 3e-7 * rng.normal(size=bank.shape)
    elif kind == "collapsed":
        bank = bank * 1e-4 + rng.normal(size=dim)
    elif kind == "one point":
        bank[:] = bank[0]
    elif kind == "outlier":
        bank[rng.integers(num_items)] *= 1e4
    elif kind in ("huge", "tiny"):
        bank *= {"huge": 1e18, "tiny": 1e-30}[kind]
    return bank.astype(np.float32)


def random_labels(rng, num_items, kind):
    """At least two classes; "pairs" are two or three a class, "few" are large classes, "single" are one a class."""
    if kind == "single":
        return rng.permutation(num_items)
    labels = rng.integers(0, {"pairs": max(2, num_items // 2), "few": 3}[kind], num_items)
    labels[:2] = (0, 1)
    return labels


def problem_of(bank, labels, anchors, hardness, scale, candidates=None, margin=0.3, squared=False):
    """A problem, its positives and their distances."""
    by_margin = scale == "margin"
    problem = make_problem(
        bank, labels, anchors_T=anchors, candidates=candidates,
        wanted=Hardness(hardness, scale, margin if by_margin else None, squared and by_margin),
    )  # fmt: skip
    positives = choose_positives(labels, anchors, seed=0)[0]
    return problem, positives, pair_distance(problem, positives)


def assert_as_on_the_cpu(case, device):
    problem, _, positive_distance = problem_of(*case)
    negative, distance, achieved, num_on_cpu = mine_on_device(problem, positive_distance, torch.device(device))
    expected = mine_exact(problem, positive_distance)
    np.testing.assert_array_equal(negative, expected[0][:, 0])
    np.testing.assert_array_equal(distance, expected[1][:, 0])
    np.testing.assert_array_equal(achieved, expected[2][:, 0])
    return num_on_cpu


@st.composite
def cases(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num_items = draw(st.integers(3, 150))
    bank = random_bank(rng, num_items, draw(st.integers(1, 12)), draw(st.sampled_from(KINDS)))
    labels = random_labels(rng, num_items, draw(st.sampled_from(["pairs", "few", "single"])))
    anchors = rng.integers(0, num_items, draw(st.integers(1, 24)))
    hardness = rng.random(len(anchors))
    hardness = np.where(rng.random(len(anchors)) < draw(st.sampled_from([0.0, 0.5])), np.rint(hardness), hardness)
    candidates = None
    if draw(st.booleans()):
        candidates = rng.random(num_items) < 0.5
        candidates[:2] = True  # two classes: every anchor has a negative
    margin = draw(st.sampled_from([1e-6, 0.3, 5.0]))
    return bank, labels, anchors, hardness, draw(st.sampled_from(SCALES)), candidates, margin, draw(st.booleans())


def assert_agrees_with_the_oracle(case, device):
    bank, labels, anchors, hardness, scale, candidates, margin, squared = case
    problem, positives, positive_distance = problem_of(*case)
    options = {"margin": margin, "squared": squared} if scale == "margin" else {}
    negative, distance, achieved, _ = mine_on_device(problem, positive_distance, torch.device(device))
    expected, expected_hardness = oracle_negatives(
        bank, labels, anchors_T=anchors, positives_T=positives, hardness_T=hardness, scale=scale,
        candidates_N=candidates, **options,
    )  # fmt: skip
    np.testing.assert_array_equal(negative, expected)
    np.testing.assert_array_equal(distance, pair_distance(problem, expected))
    np.testing.assert_allclose(achieved, expected_hardness, atol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=cases())
def test_a_device_equals_the_oracle(case, device):
    assert_agrees_with_the_oracle(case, device)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases(), st.integers(1, 12), st.integers(0, 4))
def test_it_does_so_with_small_blocks_few_guesses_and_windows_that_fill_up(case, window, turns):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device_blocks, "_MAX_PAIRS", 300)
        patch.setattr(on_device, "WINDOW", window)
        patch.setattr(on_device, "_FEW", 1)
        patch.setattr(on_device, "_GUESSES", 2)
        patch.setattr(on_device, "_TURNS", turns)
        assert_agrees_with_the_oracle(case, "cpu")


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases(), st.integers(0, 2**32 - 1))
def test_it_does_so_whatever_rounds_the_product(case, seed):
    """Keys off by as much as float32 rounding may cost change nothing: only exact distances decide."""
    noise = torch.Generator().manual_seed(seed)

    def noisy(columns, rows_RD):
        product_RM = torch.addmm(columns.half_norm_M, rows_RD, columns.row_MD.T, alpha=-1)
        size_RM = rows_RD.norm(dim=1)[:, None] * columns.row_MD.norm(dim=1) + columns.half_norm_M
        return product_RM + size_RM * (torch.rand(size_RM.shape, generator=noise) * 2 - 1) * 4 * 2.0**-24

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device_blocks, "_keys", noisy)
        patch.setattr(on_device, "_FEW", 1)
        assert_agrees_with_the_oracle(case, "cpu")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("kind", ["unit", "grid", "near-duplicates"])
def test_two_thousand_items(scale, kind, device):
    rng = np.random.default_rng(5)
    bank = random_bank(rng, 2000, 24, kind)
    twins = rng.permutation(2000)
    bank[twins[:300]] = bank[twins[300:600]]
    case = bank, random_labels(rng, 2000, "pairs"), rng.permutation(2000)[:800], rng.random(800), scale
    assert_as_on_the_cpu(case, device)


@pytest.mark.parametrize("scale", SCALES)
def test_hardly_any_anchor_of_a_healthy_bank_is_left_to_the_cpu_and_all_of_a_collapsed_one(scale):
    rng = np.random.default_rng(6)
    case = random_bank(rng, 2000, 24, "unit"), np.arange(2000) // 2, np.arange(200), rng.random(200), scale
    assert assert_as_on_the_cpu(case, "cpu") == 0
    # All items at one point: every window holds all of them.
    case = np.ones((2000, 4), np.float32), np.arange(2000) // 2, np.arange(200), rng.random(200), scale
    assert assert_as_on_the_cpu(case, "cpu") == 200


def test_ties_go_to_the_lower_index():
    bank = np.float32([[0.0], [1.0], [-1.0], [1.0], [-1.0]])
    for labels in ([0, 1, 2, 3, 4], [9, 4, 3, 2, 1]):
        for scale in SCALES:
            problem, _, distance = problem_of(bank, np.array(labels), np.array([0]), np.array([1.0]), scale)
            assert mine_on_device(problem, distance, torch.device("cpu"))[0].tolist() == [1]
        hardness = np.array([1, 2 / 3, 1 / 3, 0])
        problem, _, distance = problem_of(bank, np.array(labels), np.zeros(4, np.int64), hardness, "rank")
        assert mine_on_device(problem, distance, torch.device("cpu"))[0].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("choose", ["high", "medium", "new"])
def test_products_are_full_float32_and_the_choice_of_the_process_stays(choose, device, monkeypatch):
    if choose == "new" and not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        pytest.skip("this torch has no fp32_precision: its other setting is tested")
    before = torch.get_float32_matmul_precision()
    seen, keys = [], device_blocks._keys

    def spied(columns, rows_RD):
        found = keys(columns, rows_RD)
        exact = columns.half_norm_M.double() - rows_RD.double() @ columns.row_MD.double().T
        new = hasattr(torch.backends.cuda.matmul, "fp32_precision")
        set_to = torch.backends.cuda.matmul.fp32_precision if new else torch.get_float32_matmul_precision()
        seen.append((set_to, found.dtype, float((found - exact).abs().max())))
        return found

    monkeypatch.setattr(device_blocks, "_keys", spied)
    rng = np.random.default_rng(7)
    bank = random_bank(rng, 600, 256, "unit")
    problem, _, distance = problem_of(bank, np.arange(600), np.arange(600), rng.random(600), "rank")
    read = torch.get_float32_matmul_precision
    try:
        if choose == "new":
            torch.backends.cuda.matmul.fp32_precision = "tf32"
            torch.backends.mkldnn.matmul.fp32_precision = "bf16"
            read = lambda: (  # noqa: E731
                torch.backends.cuda.matmul.fp32_precision,
                torch.backends.mkldnn.matmul.fp32_precision,
            )
        else:
            torch.set_float32_matmul_precision(choose)
        chosen = read()
        with torch.autocast(device, dtype=torch.bfloat16):
            mine_on_device(problem, distance, torch.device(device))
        assert read() == chosen
        with pytest.raises(ValueError, match="stop"):
            mine_on_device(problem, distance, torch.device(device), Meter(stop, 600))
        assert read() == chosen
    finally:
        torch.set_float32_matmul_precision(before)
    assert len(seen) == 2
    for set_to, dtype, error in seen:
        assert set_to in ("ieee", "highest")
        assert dtype == torch.float32
        assert error < 1e-6  # in bfloat16 1e-3, in TF32 1e-4


def stop(done, total):
    raise ValueError("stop")


def test_a_device_that_multiplies_less_exactly_is_refused(monkeypatch):
    """As NVIDIA_TF32_OVERRIDE=1 would make it, against every setting of torch."""
    keys = device_blocks._keys

    def coarse(columns, rows_RD):
        columns = device_blocks.Columns(columns.row_MD.bfloat16().float(), columns.half_norm_M, columns.class_M)
        return keys(columns, rows_RD.bfloat16().float())

    monkeypatch.setattr(device_blocks, "_keys", coarse)
    bank = random_bank(np.random.default_rng(8), 300, 64, "unit")
    problem, _, distance = problem_of(bank, np.arange(300), np.arange(9), np.full(9, 0.5), "rank")
    with pytest.raises(InputError) as caught:
        mine_on_device(problem, distance, torch.device("cpu"))
    assert str(caught.value).startswith("device: products on 'cpu' are off by ")
    assert str(caught.value).endswith(
        " times what float32 rounding allows; unset NVIDIA_TF32_OVERRIDE if it is set, or leave the device out"
    )


@pytest.mark.parametrize("scale", SCALES)
def test_memory_decides_how_many_rows_at_once_and_nothing_else(scale, monkeypatch):
    rng = np.random.default_rng(9)
    case = random_bank(rng, 500, 8, "unit"), np.arange(500) // 2, np.arange(300), rng.random(300), scale
    problem, _, distance = problem_of(*case)
    shapes, plans, keys = [], [], device_blocks._keys

    def spied(columns, rows_RD):
        shapes.append(len(rows_RD))
        return keys(columns, rows_RD)

    monkeypatch.setattr(device_blocks, "_keys", spied)
    # A row takes 500·16 + 8·4 + 32,768 bytes, the candidates 500·40.
    for free in (2 * (20_000 + 7 * 40_800), 2 * 10**9):
        monkeypatch.setattr(device_blocks, "_free_bytes", lambda _, free=free: free)
        plans.append(mine_on_device(problem, distance, torch.device("cpu")))
    assert shapes == [7] * 42 + [6, 300]
    for one, other in zip(*plans, strict=True):
        np.testing.assert_array_equal(one, other)


def test_too_little_memory_is_one_line(monkeypatch):
    bank = random_bank(np.random.default_rng(0), 500, 8, "unit")
    problem, _, distance = problem_of(bank, np.arange(500), np.arange(300), np.full(300, 0.5), "rank")
    need = "for 500 candidates of 8 dimensions (0.02 MB) and {} anchors at once ({} MB); free memory there, give fewer "
    fix = "candidates, or leave the device out"
    monkeypatch.setattr(device_blocks, "_free_bytes", lambda _: 100_000)
    with pytest.raises(InputError) as caught:
        mine_on_device(problem, distance, torch.device("cpu"))
    assert str(caught.value) == (
        "device: 'cpu' has 0.1 MB free, of which mining takes 50%: too little " + need.format(1, 0.041) + fix
    )

    def refuse(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has …")

    monkeypatch.setattr(device_blocks, "_free_bytes", lambda _: 10**9)
    monkeypatch.setattr(device_blocks, "_keys", refuse)
    with pytest.raises(InputError) as caught:
        mine_on_device(problem, distance, torch.device("cpu"))
    assert str(caught.value) == "device: 'cpu' ran out of memory " + need.format(300, 12) + fix

    def fail(*_):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(device_blocks, "_keys", fail)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        mine_on_device(problem, distance, torch.device("cpu"))


SMALL = {"embeddings_ND": [[0.0], [1.0], [3.0]], "labels_N": [0, 1, 2], "anchors_T": [0], "hardness_T": 1.0}


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "CUDA", "", "cuda0", "torch-cpu", 0])
def test_names_that_are_no_devices(name):
    with pytest.raises(InputError) as caught:
        mine(**SMALL, device=name)
    assert str(caught.value) == f"device: {name!r} is not one of 'cpu', 'cuda', 'cuda:0' and so on, 'mps'"


def test_devices_that_are_not_here(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"^device: 'mps' is not available here; use 'cpu', or leave the device out$"):
        mine(**SMALL, device="mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("cuda", "cuda:1"):
        with pytest.raises(InputError) as caught:
            mine(**SMALL, device=name)
        assert (
            str(caught.value)
            == f"device: '{name}' is not available here (no CUDA device); use 'cpu', or leave the device out"
        )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert mining_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(InputError, match=r"^device: 'cuda:2' is not available here; the last CUDA device is 'cuda:1'$"):
        mining_device("cuda:2")


def test_mine_hands_over_to_the_device_and_says_so(monkeypatch):
    bank = random_bank(np.random.default_rng(3), 400, 8, "unit")
    bank[:300] = bank[0]
    case = {"embeddings_ND": bank, "labels_N": np.arange(400) // 2, "anchors_T": np.arange(400), "hardness_T": 0.7}
    here = mine(**case)
    assert here.header["device"] == "cpu"
    assert "num_anchors_on_cpu" not in here.header
    monkeypatch.setattr(on_device, "mining_device", lambda _: torch.device("cpu"))
    monkeypatch.setattr(on_device, "WINDOW", 50)
    calls = []
    there = mine(**case, device="cuda", progress=lambda *call: calls.append(call))
    header = dict(there.header)
    # Equal items are too many for a window: they are decided, and counted, on the CPU.
    assert header.pop("device") == "cuda"
    assert 0 < header.pop("num_anchors_on_cpu") < 400
    assert header == {name: value for name, value in here.header.items() if name != "device"}
    assert there.to_arrow().equals(here.to_arrow())
    done = [done for done, _ in calls]
    assert done == sorted(done)
    assert calls[-1] == (400, 400)
    assert any(0 < each < 400 for each in done)


def test_a_device_mines_exactly(monkeypatch):
    case = {
        "embeddings_ND": random_bank(np.random.default_rng(3), 2100, 4, "unit"),
        "labels_N": np.arange(2100),
        "anchors_T": np.arange(50),
        "hardness_T": 0.5,
        "scale": "rank",
        "num_sampled": 256,
    }
    monkeypatch.setattr(on_device, "mining_device", lambda _: torch.device("cpu"))
    monkeypatch.setattr("mohs.mining.sampled.AUTO_PAIRS", 1)
    assert mine(**case, method="auto").header["method"] == "sampled"
    assert mine(**case, method="auto", device="cuda").header["method"] == "exact"
    with pytest.raises(InputError) as caught:
        mine(**case, method="sampled", device="cuda")
    assert str(caught.value) == (
        "method: 'sampled' is for the CPU, not for 'cuda'; use the method exact, or leave the device out"
    )


def test_the_cpu_does_without_torch():
    code = """
import sys
from pathlib import Path
import mohs
for device in (None, "cpu"):
    mohs.mine([[0.0], [1.0], [3.0]], [0, 1, 2], anchors_T=[0], hardness_T=1.0, device=device)
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("bench_device")
    for name in ("bench_device", "mining_ways"):
        sys.modules.pop(name, None)


def test_the_benchmark_measures_and_compares(benchmark):
    bank = benchmark.Bank.random(600, 16)
    figures = benchmark.measure(bank, torch.device("cpu"), 1, compare=True)
    assert [row["name"] for row in figures] == ["GEMM", *SCALES]
    assert all(row["wall_s"] > 0 and row["times_gemm"] > 0 for row in figures)
    for row in figures[1:]:
        assert (row["equal"], row["largest_difference"], row["anchors_on_cpu"]) == (1.0, 0.0, 0)
    # It would say if plans were not the same.
    problem, distance = benchmark.problem_of(bank, "rank")
    plan = mine_exact(problem, distance)
    other = plan[0][:, 0].copy(), plan[1][:, 0].copy()
    other[0][:60], other[1][7] = -1, other[1][7] + 0.5
    seen = benchmark.agreement(other, problem, distance)
    assert (seen["equal"], seen["largest_difference"]) == (0.9, pytest.approx(0.5))
    assert benchmark.table_of(figures, "title").row_count == 5


def test_the_benchmark_without_a_device_says_so(benchmark, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["bench_device.py"])
    benchmark.main()
    assert capsys.readouterr().out == "no CUDA device here: nothing was measured\n"
