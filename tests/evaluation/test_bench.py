import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("bench_evaluation")
    sys.modules.pop("bench_evaluation", None)


def test_the_benchmark_measures_both_in_turns(benchmark, tmp_path, capsys):
    benchmark.main(["--n", "600", "--d", "64", "--rounds", "1", "--per-class", "3", "--json", str(tmp_path / "e.json")])
    assert "N = 600, d = 64" in capsys.readouterr().out
    written = json.loads((tmp_path / "e.json").read_text())
    trained, random = written["figures"]
    assert (trained["bank"], random["bank"]) == ("trained", "nearly random")
    assert trained["recall_at_1"] > 0.5 > random["recall_at_1"]
    for figure in (trained, random):
        assert figure["wall_ratio"] == pytest.approx(figure["wall_s"] / figure["faiss_wall_s"])
    assert 50 < written["peak_mb"]["trained/3"] < 2000


def test_memory_of_the_process_that_asks_is_not_counted(benchmark):
    small = benchmark.peak_memory_mb(600, 64, 3, "trained")
    filled = np.ones(2 * 2**30, dtype=np.uint8)
    assert benchmark.peak_memory_mb(600, 64, 3, "trained") == pytest.approx(small, rel=0.1)
    assert filled[-1] == 1
