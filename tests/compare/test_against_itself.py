"""Seeds of one strategy in two groups: what the harness says of a difference that is none."""

import importlib
import sys
from dataclasses import replace
from math import comb
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def module():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module("against_itself")
    sys.modules.pop("against_itself", None)


@pytest.mark.parametrize(("num_seeds", "group"), [(4, 2), (6, 3), (9, 3)])
def test_every_split_comes_once(module, num_seeds, group):
    found = list(module.splits(num_seeds, group))
    assert len(found) == comb(num_seeds, group) * comb(num_seeds - group, group) // 2
    assert len({frozenset(pair) for pair in found}) == len(found)
    assert all(not set(one) & set(two) for one, two in found)


@pytest.fixture
def counted(module, small, monkeypatch):
    """Return what is found of 9 seeds whose R@1 differ by `spread`, as if they were the cells of a strategy."""

    def count(spread, num_seeds=9):
        labels = np.repeat([f"c{c:03d}" for c in range(200)], 2)
        random = np.random.default_rng(0)
        chance = 0.5 + spread * random.standard_normal((num_seeds, 1))
        hits_SQ = (random.random((num_seeds, 400)) < chance).astype(float)
        monkeypatch.setattr(module, "hits_of", lambda *_: {"unseen": hits_SQ, "seen": hits_SQ})
        monkeypatch.setattr(module, "labels_of", lambda _: {"unseen": labels, "seen": labels})
        one = replace(small, strategies=small.strategies[:1])
        cells = [type("Cell", (), {"strategy": "default"})] * num_seeds
        return module.against_itself(one, cells, None)

    return count


def test_seeds_that_differ_make_two_strategies_of_one_over_classes_alone(counted):
    unseen, seen = counted(0.1)
    assert (unseen.protocol, seen.protocol) == ("unseen", "seen")
    assert (unseen.num_seeds, unseen.group, unseen.num_splits) == (9, 3, 840)
    assert unseen.num_clear_classes > 0.4 * 840
    assert unseen.num_clear < 0.1 * 840


def test_few_seeds_are_no_test(counted):
    assert counted(0.0, num_seeds=3) == []
    assert [one.group for one in counted(0.0, num_seeds=5)] == [2, 2]


def test_the_table_gives_shares(module):
    text = module.itself_markdown([module.Itself("default", "seen", 9, 3, 840, 42, 420)])
    assert "| default | seen | 3 against 3 of 9 | 840 | 5% | 50% |\n" in text
