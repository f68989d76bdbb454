"""Arguments of the wrong kind: every public function names the argument and the fix, in one line, whatever is given."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mohs
from mohs.errors import InputError
from mohs.evaluation.pair_curves import pair_curves
from mohs.evaluation.verification import evaluate_pairs

LABELS = np.repeat(np.arange(20), 2)
X = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
LINEAR = mohs.curves.linear()

WRONG: dict[str, Any] = {
    "function": lambda p: p, "object": object(), "number": 3, "rank 0": np.float64(0.5), "rank 3": np.zeros((2, 2, 2)),
    "dict": {"a": 1}, "list of numbers": [1, 2], "set": {1, 2}, "tensor": torch.zeros(3), "type": int, "complex": 1j,
}  # fmt: skip


def mine(**given: Any) -> object:
    return mohs.mine(**{"embeddings_ND": X, "labels_N": LABELS, "anchors_T": [0, 2], "hardness_T": 0.5, **given})


def create(**given: Any) -> object:
    whole = {
        "data_filename": "none.csv", "catalog_filename": None, "train_test_split_ratio": 0.2, "ycolname": "class",
        "xcolname": "file", **given,
    }  # fmt: skip
    return mohs.create_data(**whole)


def a_plan(**given: Any) -> object:
    return mohs.TripletPlan.of([0], [1], [2], **given)


def pairs_of(**given: Any) -> object:
    return evaluate_pairs(X, LABELS, num_resamples=20, **given)


# What each argument takes none of: none of these may end in another library's error.
CALLS: dict[str, Callable[[Any], object]] = {
    "mine(scale)": lambda v: mine(scale=v),
    "mine(metric)": lambda v: mine(metric=v),
    "mine(positive_rule)": lambda v: mine(positive_rule=v),
    "mine(method)": lambda v: mine(method=v),
    "mine(device)": lambda v: mine(device=v),
    "schedule(num_triplets)": lambda v: refused() if v is WRONG["number"] else mohs.curves.schedule(LINEAR, v),
    "PlanSampler(plan)": lambda v: mohs.PlanSampler(v, 2),
    "TripletPlan.of(header)": lambda v: refused() if v is WRONG["dict"] else a_plan(header=v),
    "open_dataset(source)": lambda v: mohs.open_dataset(v, policy=mohs.ImagePolicy(size=8, channels=1)),
    "open_dataset(policy)": lambda v: mohs.open_dataset("none.csv", policy=v),
    "read_table(source)": mohs.read_table,
    "read_table(catalog)": lambda v: mohs.read_table("none.csv", catalog=v),
    "read_table(class_column)": lambda v: mohs.read_table("none.csv", class_column=v),
    "Embedder.from_pretrained": mohs.Embedder.from_pretrained,
    "Index.open": mohs.Index.open,
    "Index.build(folder)": lambda v: mohs.Index.build(v, "none.csv", "none"),
    "Index.build(embedder)": lambda v: mohs.Index.build("new.index", "none.csv", v),
    "Run.open": mohs.Run.open,
    "evaluate(run)": mohs.evaluate,
    "train(config)": mohs.train,
    "load_config": mohs.load_config,
    "open_shards": mohs.open_shards,
    "diagnose(run)": mohs.diagnose,
    "diagnose(log)": lambda v: mohs.diagnose(log=v),
    "diagnose(pairs)": lambda v: mohs.diagnose(pairs=v),
    "create_data(data_filename)": lambda v: create(data_filename=v),
    "create_data(ycolname)": lambda v: create(ycolname=v),
    "create_data(encoder)": lambda v: create(encoder=v),
    "create_data(plot)": lambda v: create(plot=v),
    "evaluate_pairs(pairs)": lambda v: pairs_of(pairs=v),
}  # fmt: skip


def refused() -> None:
    raise InputError("skipped: this one is right")


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_kind_is_one_line(call: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as refusal:
        CALLS[call](WRONG[kind])
    assert all("\n" not in line and len(line) < 400 for line in refusal.value.problems)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: mine(hardness_T=mohs.curves.sigmoid()),
            "hardness_T: a function is not an array; give the values that it returns: "
            "mohs.curves.schedule(curve, num_triplets)",
        ),
        (lambda: mine(hardness_T="hard"), "hardness_T: 'hard' is text, not a number; give numbers"),
        (lambda: mine(hardness_T={"a": 1}), "hardness_T: {'a': 1} is not a number; give numbers"),
        (
            lambda: mohs.curves.schedule("sigmoid", 10),
            "curve: 'sigmoid' is no function; use for example mohs.curves.sigmoid(0.85)",
        ),
        (lambda: mohs.evaluate("runs/shop"), "run: 'runs/shop' is no Run; open it: mohs.Run.open(folder)"),
        (
            lambda: mohs.train("run.toml"),
            "config: 'run.toml' is no RunConfig; give mohs.RunConfig(...), or mohs.load_config(file)",
        ),
        (
            lambda: mohs.open_dataset("shop", policy=64),
            "policy: int is no ImagePolicy; give mohs.ImagePolicy(size=64, channels=3)",
        ),
        (lambda: mohs.Index.open(None), "folder: None is neither text nor a path; give the path of a file or folder"),
        (
            lambda: mohs.read_table("shop.csv", class_column=["class"]),
            "class_column: ['class'] is not text; use for example 'class'",
        ),
        (
            lambda: pair_curves([True, False], similarity_P=[0.9, 0.1], fprs=0.01),
            "fprs: 0.01 is not a list; use for example (0.01, 0.001)",
        ),
    ],
)
def test_the_fix_is_told(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError) as refusal:
        call()
    assert refusal.value.problems == (message,)
