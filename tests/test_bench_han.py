"""What the benchmark of 32,000 classes says of its own rows: gains, their intervals, the figure."""

import importlib
import math
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t as student

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def bench():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("bench_han")
    sys.modules.pop("bench_han", None)


def rows_of(bench, gains):
    """Rows of both strategies with these gains of the first, by (batch, classes), one a seed."""
    return [
        {"strategy": name, "set": [], "batch": batch, "classes": classes, "seed": seed, "seen": seen, "unseen": 0.5}
        for (batch, classes), by_seed in gains.items()
        for seed, gain in enumerate(by_seed)
        for name, seen in zip(bench.DRAWN, (0.7 + gain, 0.7), strict=True)
    ]


def test_the_gain_is_momentum_pairs_minus_random_batches_with_a_pooled_interval(bench):
    rows = rows_of(bench, {(48, 1000): [0.01, 0.03], (48, 4000): [0.05], (96, 1000): [0.00, -0.02]})
    found = bench.gains(rows, "seen")
    # One deviation for all: 2 x (0.01)^2 around each of two means, over 5 runs less 3 points.
    deviation = (4e-4 / 2) ** 0.5
    half = student.ppf(0.975, 2) * deviation
    assert [(classes, seeds) for classes, _, _, seeds in found[48]] == [(1000, 2), (4000, 1)]
    assert found[48][0][1:3] == pytest.approx((0.02, half / 2**0.5))
    assert found[48][1][1:3] == pytest.approx((0.05, half))
    assert found[96][0][1:3] == pytest.approx((-0.01, half / 2**0.5))


def test_a_run_without_its_partner_and_one_with_other_settings_count_for_nothing(bench):
    rows = rows_of(bench, {(48, 1000): [0.01, 0.03]})
    lone = {**rows[0], "seed": 7, "seen": 0.0}
    other = {**rows[0], "set": ["training.learning_rate=1.0"], "seen": 0.0}
    assert bench.gains([*rows, lone, other], "seen") == bench.gains(rows, "seen")


def test_no_interval_without_a_second_seed(bench):
    [(_, gain, half, seeds)] = bench.gains(rows_of(bench, {(48, 1000): [0.01]}), "seen")[48]
    assert (gain, seeds) == (pytest.approx(0.01), 1)
    assert math.isnan(half)


def test_the_same_rows_give_the_same_figure(bench, tmp_path):
    rows = rows_of(bench, {(48, 1000): [0.01, 0.03], (96, 4000): [0.05]})
    bench.draw(rows, tmp_path / "a.svg")
    bench.draw(rows, tmp_path / "b.svg")
    drawn = (tmp_path / "a.svg").read_text()
    assert drawn == (tmp_path / "b.svg").read_text()
    for words in ("48 pairs a batch", "96 pairs a batch", "1,000", "4,000", "unseen classes"):
        assert words in drawn


def test_classes_batches_and_seeds_are_run_each_with_each_and_once(bench, monkeypatch, tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (3, 12, 32, 32), dtype=np.uint8)
    np.save(tmp_path / "pictures.npy", pictures)
    monkeypatch.setattr(bench, "NUM_UNSEEN", 4)
    arguments = (
        "--han", tmp_path, "--classes", 8, 6, "--batch", 4, 2, "--seeds", 0, 1, "--pictures", 16, "--out",
        tmp_path / "rows.jsonl", "--strategies", "default", "--set", "training.whiten=true",
    )  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["bench_han.py", *map(str, arguments)])
    bench.main()
    rows = bench.read_rows(tmp_path / "rows.jsonl")
    assert [(row["classes"], row["batch"], row["seed"]) for row in rows] == list(product((8, 6), (4, 2), (0, 1)))
    assert {(row["stopped"], *row["set"]) for row in rows} == {("", "training.whiten=true")}
    bench.main()  # all is there
    assert bench.read_rows(tmp_path / "rows.jsonl") == rows


def test_a_setting_reaches_the_run(bench, monkeypatch, tmp_path):
    np.save(tmp_path / "pictures.npy", np.zeros((3, 12, 32, 32), dtype=np.uint8))
    monkeypatch.setattr(bench, "NUM_UNSEEN", 4)
    arguments = ("--han", tmp_path, "--classes", 8, "--strategies", "default", "--set", "training.whiten=true")
    monkeypatch.setattr(sys, "argv", ["bench_han.py", *map(str, arguments)])
    given = []

    def caught(strategy, dataset, config, *_):
        given.append(config.training.whiten)
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "train_strategy", caught)
    with pytest.raises(KeyboardInterrupt):
        bench.main()
    assert given == [True]
