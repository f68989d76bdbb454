"""The benchmark of mining runs, small, and its report puts its figures where they belong; golden runs see a change."""

import ast
import importlib
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import mohs
from mohs.mining.threads import num_threads

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "performance.md"
FIGURES = ROOT / "benchmarks" / "mining.json"


@pytest.mark.parametrize("file", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda file: file.stem)
def test_what_a_benchmark_takes_from_mohs_is_there(file):
    """A benchmark runs rarely: a name that has moved is found out here, without the packages that some need."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.split(".")[0] == "mohs":
            module = importlib.import_module(node.module)
            for alias in node.names:
                there = hasattr(module, alias.name) or importlib.util.find_spec(f"{node.module}.{alias.name}")
                assert there, f"{file.name}: {node.module} has no {alias.name}"


@pytest.fixture(scope="module")
def bench():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield importlib.import_module("bench_mining")
    for name in ("bench_mining", "mining_ways", "mining_report"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def report(bench):
    return importlib.import_module("mining_report")


@pytest.fixture(scope="module")
def result(bench):
    """All figures of very small banks, after a way through JSON."""
    sizes = bench.Sizes(
        num_items=300,
        dim=8,
        rounds=2,
        num_sampled=256,
        num_large=2100,
        num_checked=40,
        grid_items=(200, 2100),
        grid_dims=(4, 8),
        grid_work=1e6,
        grid_least_anchors=50,
        memory=((300, "rank", 300),),
    )
    threads = torch.get_num_threads()
    lines: list[str] = []
    try:
        figures = bench.measure(sizes, lines.append)
    finally:
        torch.set_num_threads(threads)
    assert any("published loop" in line for line in lines)
    return json.loads(json.dumps(figures, allow_nan=False))


def test_every_way_is_measured(result):
    figures = {figure["name"]: figure for figure in result["ways"]["figures"]}
    assert list(figures) == [
        "the matrix product alone",
        "`range`",
        "`rank`",
        "`log-rank`",
        "`margin`",
        "faiss flat, k = 1",
        "faiss flat, k = 100",
        "scikit-learn brute force, k = 3",
        "torch cdist + mask",
        "torch cdist + kthvalue",
        "torch cdist + sort",
        "published loop",
        "pytorch-metric-learning, hardest in batches of 300",
        "pytorch-metric-learning, semi-hard in batches of 300",
        "pytorch-metric-learning, hardest of all items",
    ]
    assert all(figure["wall_s"] > 0 and figure["cpu_s"] > 0 for figure in figures.values())
    assert figures["the matrix product alone"]["wall_ratio"] == 1.0
    loop = figures["published loop"]
    assert (loop["anchors_timed"], loop["scaled"], figures["`rank`"]["scaled"]) == (20, True, False)
    assert (result["complete"], result["machine"]["threads"]) == (False, num_threads())
    assert [(cell["num_items"], cell["dim"], cell["num_anchors"]) for cell in result["grid"]] == [
        (200, 4, 200),
        (200, 8, 200),
        (2100, 4, 119),
        (2100, 8, 59),
    ]
    assert all(figure["num_anchors_exact"] < 300 for figure in result["sampled"]["figures"])
    (memory,) = result["memory"]
    assert 0 < memory["extra_bytes"] < 10**8


def test_ways_take_turns_and_ratios_are_within_a_round(bench, monkeypatch):
    now, turns = {"wall": 0.0, "cpu": 0.0}, []
    clock = SimpleNamespace(perf_counter=lambda: now["wall"], process_time=lambda: now["cpu"])
    monkeypatch.setattr(bench, "time", clock)

    def way(name, num_anchors, *seconds):
        left = list(seconds)

        def run(anchors):
            turns.append((name, len(anchors)))
            now["wall"] += left[0]
            now["cpu"] += 2 * left.pop(0)
            return len(left)

        return bench.Way(name, np.arange(num_anchors), run)

    # The second round is slow for both.
    ways = [way(bench.PRODUCT, 100, 1.0, 9.0, 2.0), way("few", 20, 0.6, 3.6, 0.2)]
    times, found = bench.interleave(ways, 3, 100, turns.append)
    assert [turn for turn in turns if isinstance(turn, tuple)] == [(bench.PRODUCT, 100), ("few", 20)] * 3
    assert found == {bench.PRODUCT: 0, "few": 0}
    np.testing.assert_allclose(times["few"], [(3.0, 6.0), (18.0, 36.0), (1.0, 2.0)])  # scaled to 100 anchors
    figure = bench.figure(ways[1], times, 100)
    assert (figure["anchors_timed"], figure["scaled"]) == (20, True)
    assert (figure["wall_s"], figure["cpu_s"]) == (pytest.approx(3.0), pytest.approx(6.0))
    assert (figure["wall_ratio"], figure["cpu_ratio"]) == (pytest.approx(2.0), pytest.approx(2.0))
    assert bench.figure(ways[0], times, 100)["scaled"] is False


def test_rank_errors_are_those_of_the_plan(bench):
    bank = bench.Bank.random(300, 8)
    plan = bench.mohs(bank, "rank")(bank.anchors_T)
    assert bench.rank_errors(bank, plan, 300).max() == 0.0
    other = mohs.TripletPlan.of(plan.anchor, plan.positive, plan.negative, hardness=1 - plan.hardness)
    errors = bench.rank_errors(bank, other.with_header(plan.header), 300)
    assert errors.mean() == pytest.approx(np.abs(1 - 2 * plan.hardness).mean(), abs=0.01)


def test_the_library_sees_whole_classes(bench, monkeypatch):
    ways = sys.modules["mining_ways"]
    bank = bench.Bank.random(300, 8)
    seen = []
    miners = importlib.import_module("pytorch_metric_learning.miners")
    monkeypatch.setattr(miners, "BatchHardMiner", lambda: lambda *batch: seen.append(batch[1].numpy()))
    ways.library_batch(bank, "BatchHardMiner")(bank.anchors_T[:100])
    assert (np.bincount(seen[0])[np.unique(seen[0])] == 2).all()


def test_the_report_replaces_what_stands_between_its_marks(report, result, tmp_path):
    page, chart = tmp_path / "performance.md", tmp_path / "images" / "mining.png"
    page.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    report.write_page(result, page, chart)
    text = page.read_text(encoding="utf-8")
    for table in report.tables(result).values():
        assert text.count(table) == 1
    outside = re.compile(r"(<!-- figures: \w+ -->).*?(<!-- end of figures -->)", re.DOTALL)
    assert outside.sub(r"\1\2", text) == outside.sub(r"\1\2", PAGE.read_text(encoding="utf-8"))
    assert chart.read_bytes().startswith(b"\x89PNG")
    assert len(chart.read_bytes()) < 100_000
    report.write_page(result, page, chart)
    assert page.read_text(encoding="utf-8") == text
    # A page without one of the marks stays as it is.
    page.write_text(text.replace("<!-- figures: grid -->", ""), encoding="utf-8")
    with pytest.raises(SystemExit, match="mark"):
        report.write_page(result, page, chart)
    assert page.read_text(encoding="utf-8") == text.replace("<!-- figures: grid -->", "")


def test_tables_say_what_was_measured(report, result):
    tables = report.tables(result)
    ways = {row.split(" | ")[0]: row for row in tables["ways"].splitlines()}
    loop = next(figure for figure in result["ways"]["figures"] if figure["name"] == "published loop")
    assert f"| ~{report.number(loop['wall_s'])} | {report.number(loop['wall_ratio'])} |" in ways["| published loop"]
    extra = round(result["memory"][0]["extra_bytes"] / 1e6)
    assert ways["| `rank`, exact"].endswith(f" {extra} |")
    assert len(tables["grid"].splitlines()) == 2 + len(result["grid"])
    bounds = {bound.what: bound for bound in report.bounds(result)}
    ratio = {figure["name"]: figure["wall_ratio"] for figure in result["ways"]["figures"]}
    assert bounds["`range`, exact, against the product"].measured == ratio["`range`"]
    assert bounds["published loop against `range`"].measured == loop["wall_ratio"] / ratio["`range`"]


def test_bounds_hold_or_not(report):
    assert report.Bound("a", 1.2, 1.3).holds
    assert not report.Bound("a", 1.4, 1.3).holds
    assert report.Bound("a", 1.7, 1.6, at_least=True).holds
    assert not report.Bound("a", 1.5, 1.6, at_least=True).holds


def test_the_page_holds_the_figures_that_are_kept(report):
    if not FIGURES.is_file():
        pytest.skip(f"{FIGURES} is absent: whether the tables of {PAGE.name} are its figures is not tested")
    text = PAGE.read_text(encoding="utf-8")
    for name, table in report.tables(json.loads(FIGURES.read_text(encoding="utf-8"))).items():
        assert f"<!-- figures: {name} -->\n{table}\n<!-- end of figures -->" in text, "run benchmarks/mining_report.py"


@pytest.fixture(scope="module")
def golden():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield importlib.import_module("golden")
    for name in ("golden", "golden_grid", "golden_text"):
        sys.modules.pop(name, None)


def test_golden_texts_keep_what_a_person_is_told_and_leave_out_how_long_it_took(golden):
    def text(seconds, place, recall):
        return golden.golden_text.normalised(
            f"embed {seconds} s, {seconds} pictures/s, {seconds} GB are free; {place}/run\n"
            f'{{"mine_s": {seconds}, "checkpoint_s": 60.0, "recall": {recall}}}\n'
            f"<dt>seconds</dt><dd>embed {seconds}</dd><svg id=pictures-per-s>{seconds}</svg><svg>{recall}</svg>\n"
            f"train: step 1/9  loss 2.5  {seconds}\ntrain: step 9/9  loss {recall}\n"
            f"| strategy | R@1 | CPU s |\n| --- | ---: | ---: |\n| default | {recall} | {seconds} |\n",
            {place: "<work>"},
        )

    assert text(1.25, "/tmp/one", 0.5) == text("1,030", "/home/other", 0.5)
    kept = text(1.25, "/tmp/one", 0.75)
    assert kept.count("0.75") == 4
    assert all(part in kept for part in ('"checkpoint_s": 60.0', "<work>/run", "step 9/9", "|strategy|R@1|"))
    assert not any(part in kept for part in ("1.25", "/tmp/one", "step 1/9"))


def test_golden_files_are_told_apart_by_one_value_and_named(golden, tmp_path):
    folders = tmp_path / "before", tmp_path / "after"
    for folder, bias in zip(folders, (0.0, np.nextafter(np.float32(0), np.float32(1))), strict=True):
        weights = {"bias": np.full(3, bias, np.float32), "weight": np.ones((2, 3), np.float32)}
        folder.mkdir()
        save_file(weights, folder / "w.safetensors")
        texts = {"files/w": golden.golden_text.file_text(folder / "w.safetensors", {}), "stdout": "R@1 0.5\n"}
        entry = {"command": ["mohs"], "exit": 0, "sha256": golden.keep(texts, folder / "step")}
        recorded = {"about": {"absent": [], "weights": False}, "entries": {"step": entry}}
        (folder / "golden.json").write_text(json.dumps(recorded), encoding="utf-8")
    assert list(golden.differences(folders[0], folders[0])) == []
    what, *diff = golden.differences(*folders)
    assert what == "step: files/w"
    assert [line.strip()[:6] for line in diff if line.strip()[:2] in ("-b", "+b", "-w", "+w")] == ["-bias:", "+bias:"]


def test_a_golden_run_agrees_with_itself_and_not_with_another(tmp_path):
    def golden_run(*arguments):
        command = (sys.executable, ROOT / "benchmarks" / "golden.py", *arguments)
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    for name, what in (("one", "preset"), ("two", "preset"), ("other", "curve")):
        recorded = golden_run("record", name, "--only", "config/photos", f"errors/{what}")
        assert recorded.returncode == 0, recorded.stderr
        assert "SKIPPED: omniglot; give --omniglot FOLDER" in recorded.stderr
    entry = json.loads((tmp_path / "one" / "golden.json").read_text())["entries"]["errors/preset"]
    assert entry["exit"] == 2
    assert "'best'" in (tmp_path / "one" / "errors" / "preset" / "stderr.txt").read_text()
    same, different = golden_run("compare", "one", "two"), golden_run("compare", "one", "other")
    assert (same.returncode, same.stdout) == (0, "no difference\n")
    assert different.returncode == 1
    assert different.stdout.splitlines() == ["errors/curve: only in other", "errors/preset: only in one"]
