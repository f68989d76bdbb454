"""Processes that share anchors make the plan of one, header and all, to the byte."""

import importlib
from typing import Any

import numpy as np
import pytest

from mohs.hardness.curves import schedule, sigmoid
from mohs.mining import mine
from mohs.peers import Peers

RNG = np.random.default_rng(0)
X = RNG.normal(size=(700, 8)).astype(np.float32)
LABELS = np.arange(700) // 2
ANCHORS = RNG.integers(0, 700, 1501)

WAYS: list[dict[str, Any]] = [
    {"scale": "range"},
    {"scale": "range", "anchors_T": np.arange(700), "hardness_T": 0.5},  # sweeps, where one process mines all
    {"scale": "rank", "positive_rule": "hard"},
    {"scale": "log-rank", "num_negatives": 3, "excluded_pairs": [[0, 5], [5, 0]]},
    {"scale": "margin", "margin": 1.0, "metric": "cosine"},
    {"scale": "rank", "method": "sampled", "num_sampled": 256},
    {"scale": "log-rank", "method": "sampled", "num_sampled": 256, "num_negatives": 2},
    {"scale": "rank", "anchors_T": [3, 4], "hardness_T": 1.0},  # fewer than there are processes
    {"scale": "rank", "device": "cpu"},
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(map(str, way.values()))[:40])
def test_the_plan_of_several_processes_is_that_of_one(together, way: dict[str, Any]) -> None:
    usual = {"anchors_T": ANCHORS, "hardness_T": schedule(sigmoid(), len(ANCHORS)), "seed": 3}
    alone = mine(X, LABELS, **usual | way)

    def share(peers: Peers) -> bytes:
        plan = mine(X, LABELS, **usual | way, peers=peers)
        return plan.to_arrow().schema.metadata[b"mohs.sha256"]

    wanted = alone.to_arrow().schema.metadata[b"mohs.sha256"]
    for num_ranks in (2, 3, 4):
        assert together(num_ranks, share) == [wanted] * num_ranks


def test_each_process_mines_its_own_anchors_only(together, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("mohs.mining.mine")
    mined: list[list[int]] = []
    usual = module.mine_exact

    def noted(problem, *rest):
        mined.append(problem.anchors_T.tolist())
        return usual(problem, *rest)

    monkeypatch.setattr(module, "mine_exact", noted)
    anchors = np.arange(10)
    together(3, lambda peers: mine(X, LABELS, anchors_T=anchors, hardness_T=1.0, scale="rank", peers=peers))
    assert sorted(mined) == [[0, 3, 6, 9], [1, 4, 7], [2, 5, 8]]


def test_progress_counts_the_own_anchors(together) -> None:
    def share(peers: Peers) -> list[tuple[int, int]]:
        said: list[tuple[int, int]] = []
        mine(
            X, LABELS, anchors_T=ANCHORS, hardness_T=1.0, scale="rank", peers=peers,
            progress=lambda done, total: said.append((done, total)),
        )  # fmt: skip
        return said

    for said in together(2, share):
        assert said[-1] == (751, 751)
