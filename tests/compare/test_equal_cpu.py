"""Equal CPU seconds: what a step costs decides how many there are."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from mohs.compare import equal_cpu as equal_cpu_module
from mohs.compare.budget import Budget
from mohs.compare.cells import Results, run_cells
from mohs.compare.equal_cpu import Probe, cpu_budgets, scaled_steps
from mohs.compare.row_files import read_rows


def probes(once, step, lengths=(10, 30)):
    return [Probe("data", "name", "hash", steps, once + step * steps) for steps in lengths]


def test_steps_are_those_that_cost_as_much():
    assert scaled_steps(probes(0.0, 0.1), probes(0.0, 0.1), 200, 10) == 200
    assert scaled_steps(probes(0.0, 0.2), probes(0.0, 0.1), 200, 10) == 100
    # What happens once is paid once: 5 + 0.1 · 200 = 25 = 1 + 0.12 · 200.
    assert scaled_steps(probes(1.0, 0.12), probes(5.0, 0.1), 200, 10) == 200
    # Whole segments, the nearest, and at least one.
    assert scaled_steps(probes(0.0, 0.11), probes(0.0, 0.1), 200, 10) == 180
    assert scaled_steps(probes(50.0, 1.0), probes(0.0, 0.1), 200, 10) == 10


def test_a_probe_that_noise_turned_round_tells_the_mean_cost_of_a_step():
    turned = [Probe("", "", "", 10, 3.0), Probe("", "", "", 30, 2.9)]
    assert scaled_steps(turned, probes(0.0, 0.1), 100, 10) == 100  # 10 / (2.9 / 30) is 103
    # Steps that cost more the more there are cannot be: nothing happens once.
    bent = [Probe("", "", "", 10, 1.0), Probe("", "", "", 30, 6.0)]
    assert scaled_steps(bent, probes(0.0, 0.1), 100, 10) == 50


def test_a_strategy_that_stops_early_has_as_many_steps():
    broken = [Probe("", "", "", 10, float("nan")), Probe("", "", "", 30, 1.0)]
    assert scaled_steps(broken, probes(0.0, 0.1), 200, 10) == 200


@pytest.fixture
def costs(monkeypatch):
    """CPU seconds of a step, by strategy, as a clock without noise would tell; and what was run."""
    ran = []
    per_step = {"default": 0.2, "random": 0.1, "online supcon": 0.05}

    def train(strategy, dataset, config, budget, choice):
        ran.append((strategy.name, budget.num_steps))
        return SimpleNamespace(stopped="", cpu_s=per_step[strategy.name] * budget.num_steps)

    monkeypatch.setattr(equal_cpu_module, "train_strategy", train)
    return ran


def test_all_get_the_time_of_the_default_in_whole_steps_of_the_same_size(small, costs, tmp_path):
    found = cpu_budgets(small, tmp_path / "probes.csv", 2)
    assert found == {"default": small.budget, "random": Budget(24 * 48, 48), "online supcon": Budget(48 * 48, 48)}
    assert {name for name, _ in costs} == {"default", "random", "online supcon"}
    assert {steps for _, steps in costs} == {2, 6}
    # Kept: a run that goes on has the same budgets, whatever a second probe would find.
    costs.clear()
    assert cpu_budgets(small, tmp_path / "probes.csv", 2) == found
    assert costs == []
    # Without the default, the first is what the others are measured by.
    rest = replace(small, strategies=small.strategies[1:])
    assert cpu_budgets(rest, tmp_path / "probes.csv", 2) == {"random": small.budget, "online supcon": Budget(1152, 48)}


def test_a_real_clock_tells_seconds_and_the_cells_have_those_budgets(small, tmp_path):
    """Which of two is cheaper is not tested: in runs this short that is noise."""
    two = replace(small, num_seeds=1, strategies=(small.strategies[0], small.strategies[2]))
    own = cpu_budgets(two, tmp_path / "probes.csv", 2)
    assert own["default"] == two.budget
    assert own["online supcon"].num_steps % 2 == 0
    told = read_rows(tmp_path / "probes.csv", Probe)
    assert [(probe.strategy, probe.num_steps) for probe in told] == [
        ("default", 2), ("default", 6), ("online supcon", 2), ("online supcon", 6),
    ]  # fmt: skip
    assert all(0 < probe.cpu_s < 100 for probe in told)
    cells = {cell.strategy: cell for cell in run_cells(replace(two, own_budgets=own), Results(tmp_path))}
    assert all(cells[name].num_pictures == own[name].num_pictures for name in own)
