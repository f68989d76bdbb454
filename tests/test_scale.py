"""The page of scale says what its formulas give, and these are near what was measured."""

import importlib
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def scale():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield importlib.import_module("scale")
    sys.modules.pop("scale", None)


def test_the_page_has_the_tables_of_the_formulas(scale):
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    tables = scale.page_tables()
    assert len(tables) == 7
    for name, table in tables.items():
        assert f"<!-- figures: {name} -->\n{table}\n<!-- end of figures -->" in page, f"run benchmarks/scale.py: {name}"


def test_the_formulas_by_hand(scale):
    work, overhead = scale.Work(), scale.Overhead(pair_s=1e-12, number_s=1e-9)
    machine = scale.Machine("one", 1e12, overhead, 1e12, 1e9, 36.0)
    assert scale.picture_bytes(1000, work) == 1000 * 224 * 224 * 3
    assert scale.bank_bytes(1000, work) == 256_000
    assert scale.exact_flops(1000, work) == 256e6
    assert scale.exact_s(10**6, work, machine) == pytest.approx(256 + 1 + 0.128)
    assert scale.exact_s(10**6, work, machine, 1000) == pytest.approx(0.256 + 0.001 + 0.128)
    assert overhead.faster(10.0) == scale.Overhead(1e-13, 1e-10)
    assert scale.sampled_s(10**6, work, machine) == pytest.approx(2e6 * 4096 * 128 * 2.2 / 1e12 + 3 * 0.256)
    assert scale.embed_s(10**6, work, machine) == pytest.approx(769.0)  # the network: reading takes 150 s
    assert scale.embed_s(10**6, work, scale.Machine("slow disk", 1e12, overhead, 1e12, 1e6, 1.0)) == pytest.approx(
        150_528.0
    )
    assert scale.train_s(10**6, work, machine) == pytest.approx(769.0 * 3.4)
    assert scale.dollars(100.0, machine) == pytest.approx(1.0)


def test_the_formulas_are_near_what_was_measured(scale):
    figures = json.loads(scale.FIGURES.read_text(encoding="utf-8"))
    found = scale.checks(figures)
    assert len(found) == 9
    for name, computed, measured in found:
        assert 0.9 < measured / computed < 1.15, name


def test_the_overhead_is_found_again_where_it_is_known(scale):
    def cell(num_items, num_anchors, dim):
        product_s = 2e-11 * num_items * num_anchors * dim
        wall_s = product_s + 3e-10 * num_items * num_anchors + 2e-8 * num_items * dim
        found = [{"name": "the matrix product alone", "wall_s": product_s}, {"name": "`rank`", "wall_s": wall_s}]
        return {"num_items": num_items, "num_anchors": num_anchors, "dim": dim, "figures": found}

    figures = {"ways": cell(70_000, 70_000, 128), "grid": [cell(10**6, 2048, 64), cell(10**6, 2048, 256)]}
    found = scale.measured_overhead(figures)
    assert found.pair_s == pytest.approx(3e-10)
    assert found.number_s == pytest.approx(2e-8)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.001, "< 0.01 s"),
        (119.0, "120 s"),
        (130.0, "2.2 min"),
        (3600.0, "1 h"),
        (86_400.0 * 3, "3 d"),
        (1e8, "3.2 years"),
    ],
)
def test_times_are_told_in_two_digits(scale, seconds, told):
    assert scale.in_seconds(seconds) == told
