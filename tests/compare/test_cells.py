"""The harness from end to end, on blots, in seconds."""

import itertools
from dataclasses import asdict, replace

import numpy as np
import pytest

from mohs.compare import cells as cells_module
from mohs.compare import summary as summary_module
from mohs.compare import training as training_module
from mohs.compare.budget import Budget
from mohs.compare.cells import Cell, Results, read_arrays, read_cells, run_cells
from mohs.compare.row_files import append_row, read_rows
from mohs.compare.strategies import find_strategies
from mohs.compare.summary import optimisers, schedules, summarise
from mohs.compare.table import (
    HEADER,
    SHORT,
    comparison_markdown,
    markdown,
    pairs_markdown,
    short_rows,
    table_rows,
)
from mohs.compare.training import Choice, made_by, new_embedder, started_embedder
from mohs.errors import InputError
from mohs.settings.config import override_config


def same(one, two):
    """Compare cells with their seconds; what could not be measured is equal to itself."""
    np.testing.assert_equal([asdict(cell) for cell in one], [asdict(cell) for cell in two])


def figures(cell):
    """All that must come out the same in a second run: all but seconds."""
    return {name: value for name, value in asdict(cell).items() if not name.endswith("_s")}


@pytest.fixture(scope="module")
def ran(small, tmp_path_factory):
    results = Results(tmp_path_factory.mktemp("cells"))
    return list(run_cells(small, results)), results


def test_there_is_a_cell_for_each_strategy_and_seed(small, ran):
    cells, results = ran
    names = [strategy.name for strategy in small.strategies]
    assert [(cell.strategy, cell.seed) for cell in cells] == [
        ("pixels", 0), ("untrained", 0), *((name, 0) for name in names),
        ("untrained", 1), *((name, 1) for name in names),
    ]  # fmt: skip
    same(read_cells(results.table), cells)
    for cell in cells[2:5]:
        assert cell.num_pictures == small.budget.num_pictures
        assert cell.pictures_per_s == pytest.approx(cell.num_pictures / cell.train_s)
        assert cell.train_s >= cell.embed_s + cell.mine_s


def test_arrays_say_what_the_cells_say(small, ran):
    cells, results = ran
    for cell in cells:
        arrays = read_arrays(results, cell)
        assert (arrays["unseen_rank"] == 1).mean() == cell.metrics.unseen_recall_1
        assert (arrays["seen_rank"] == 1).mean() == cell.metrics.seen_recall_1
        assert (1 / arrays["unseen_rank"]).mean() == pytest.approx(cell.metrics.unseen_mrr)
        assert ((arrays["unseen_wrong_classes"] == 0) == (arrays["unseen_rank"] == 1)).all()


def test_a_second_run_gives_the_same_figures(small, ran, tmp_path):
    cells, results = ran
    other = Results(tmp_path)
    again = list(run_cells(small, other))
    for one, two in zip(cells, again, strict=True):
        np.testing.assert_equal(figures(one), figures(two))
        first, second = read_arrays(results, one), read_arrays(other, two)
        assert first.keys() == second.keys()
        for name in first:
            np.testing.assert_array_equal(first[name], second[name])


def test_a_run_that_was_killed_goes_on_and_ends_with_the_same_rows(small, ran, tmp_path, monkeypatch):
    cells, _ = ran
    results = Results(tmp_path)
    real, count = cells_module.train_strategy, 0

    def killed(*arguments, **named):
        nonlocal count
        count += 1
        if count == 5:
            raise KeyboardInterrupt
        return real(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(cells_module, "train_strategy", killed)
        with pytest.raises(KeyboardInterrupt):
            list(run_cells(small, results))
    # And a kill in the middle of a row leaves a torn one.
    with results.table.open("a") as stream:
        stream.write("blots,default,")
    started = []
    again = list(run_cells(small, results, started=lambda name, seed: started.append((name, seed))))
    np.testing.assert_equal([figures(cell) for cell in again], [figures(cell) for cell in cells])
    assert len([name for name, _ in started if name not in ("pixels", "untrained")]) == 2
    np.testing.assert_equal([figures(cell) for cell in read_cells(results.table)], [figures(cell) for cell in cells])
    same(list(run_cells(small, results, started=lambda *_: pytest.fail("all is there"))), again)


def test_other_settings_are_other_cells(small, ran):
    _, results = ran
    started = []
    other = replace(small, settings={**small.settings, "training.augment": 0.0}, num_seeds=1)

    def stop(name, seed):
        started.append(name)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(run_cells(other, results, started=stop))
    assert started == ["pixels"]
    with pytest.raises(KeyboardInterrupt):
        list(run_cells(small, results, {"default": Choice(0.3)}, started=stop))
    assert started == ["pixels", "default"]


def test_a_cell_without_its_arrays_is_run_again(small, tmp_path):
    results = Results(tmp_path)
    one = replace(small, strategies=small.strategies[2:], num_seeds=1)
    first = list(run_cells(one, results))
    results.arrays_file(first[-1].key).unlink()
    started = []
    again = list(run_cells(one, results, started=lambda name, _: started.append(name)))
    assert started == ["online supcon"]
    np.testing.assert_equal([figures(cell) for cell in again], [figures(cell) for cell in first])


def test_a_network_that_got_worse_is_told(ran):
    cells, _ = ran
    assert not any(cell.collapsed or cell.below_start for cell in cells)
    metrics = replace(cells[1].metrics, unseen_recall_1=0.3)
    assert not cells_module.is_below_start(metrics, metrics, 24)
    assert cells_module.is_below_start(replace(metrics, unseen_recall_1=0.0), metrics, 10_000)
    # Two standard errors: a small loss is chance.
    assert not cells_module.is_below_start(replace(metrics, unseen_recall_1=0.29), metrics, 24)


@pytest.mark.parametrize(("left", "collapsed"), [(0.09, True), (0.11, False)])
def test_a_network_whose_spread_is_gone_is_told(small, tmp_path, monkeypatch, left, collapsed):
    real = cells_module.measure
    config = override_config(None, (), small.settings)
    start = new_embedder(config)

    def measured(embedder, data, plan=None):
        found = real(embedder, data, plan)
        narrow = replace(found.metrics, spread=left * real(start, data).metrics.spread)
        return replace(found, metrics=narrow)

    one = replace(small, strategies=small.strategies[2:], num_seeds=1)
    results = Results(tmp_path)
    trained = []
    train = cells_module.train_strategy

    def watched(*arguments, **named):
        monkeypatch.setattr(cells_module, "measure", measured)
        trained.append(train(*arguments, **named))
        return trained[-1]

    monkeypatch.setattr(cells_module, "train_strategy", watched)
    assert [cell.collapsed for cell in run_cells(one, results)] == [False, False, collapsed]


def test_a_damaged_file_of_a_cell_is_named(small, ran, tmp_path):
    cells, results = ran
    path = results.arrays_file(cells[0].key)
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"none of it"):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"pixels-0-\w+.npz: cannot be read .*; remove the file to run that cell"):
            summarise(small.data, cells, results)
    path.write_bytes(whole)


def test_a_network_stands_for_what_its_files_hold(small, ran, tmp_path):
    listed = tmp_path / "pairs.csv"
    hashes = []
    for text in ("file,other\n", "file,other\na.png,b.png\n"):
        listed.write_text(text)
        config = override_config(None, (), {**small.settings, "negatives.review_list": str(listed)})
        hashes.append(made_by(config, "pictures"))
        assert made_by(config, "pictures") == hashes[-1]
    assert hashes[0] != hashes[1]


def test_another_package_is_another_cell(small, monkeypatch):
    config = override_config(None, (), small.settings)
    before = made_by(config, "pictures")
    monkeypatch.setattr(training_module, "versions", lambda: {"torch": "0"})
    assert made_by(config, "pictures") != before


def test_the_untrained_network_is_the_one_that_training_finds(small, tmp_path):
    settings = {**small.settings, "model.hidden_dim": 0, "finetune.head": "rca"}
    one = replace(small, settings=settings, strategies=(), num_seeds=1)
    untrained = list(run_cells(one, Results(tmp_path)))[1].metrics
    config = override_config(None, (), settings)
    began = cells_module.measure(started_embedder(config, small.data.train), small.data).metrics
    new = cells_module.measure(new_embedder(config), small.data).metrics
    assert (untrained.unseen_mrr, untrained.seen_mrr, untrained.spread) == (
        began.unseen_mrr, began.seen_mrr, began.spread,
    )  # fmt: skip
    assert new.spread != began.spread


def test_embeddings_that_are_no_numbers_are_the_worst(small):
    def constant(part):
        return np.full((len(part), 4), np.nan, dtype=np.float32)

    data = small.data
    found = cells_module.measure_embeddings(constant(data.train), constant(data.held_out), constant(data.test), data)
    assert found.metrics.unseen_recall_1 == found.metrics.seen_recall_1 == found.metrics.spread == 0.0


@pytest.fixture(scope="module")
def begun(small, tmp_path_factory):
    """A comparison whose settings start the head: plain strategies begin elsewhere."""
    settings = {**small.settings, "model.hidden_dim": 0, "finetune.head": "rca"}
    strategies = tuple(find_strategies(["default", "online supcon", "online arcface", "plain supcon", "plain arcface"]))
    results = Results(tmp_path_factory.mktemp("begun"))
    comparison = replace(small, settings=settings, strategies=strategies, num_seeds=1)
    return comparison, list(run_cells(comparison, results)), results


def test_plain_strategies_are_judged_by_their_own_start(begun, monkeypatch, tmp_path):
    comparison, cells, _ = begun
    starts = {cell.strategy: cell.metrics for cell in cells if cell.strategy.endswith("untrained")}
    assert list(starts) == ["untrained", "plain untrained"]
    assert starts["untrained"].spread != starts["plain untrained"].spread
    asked = []
    monkeypatch.setattr(cells_module, "is_below_start", lambda _, start, __: asked.append(start) or True)
    again = list(run_cells(comparison, Results(tmp_path)))
    assert asked == [starts["untrained"]] * 3 + [starts["plain untrained"]] * 2
    assert [cell.below_start for cell in again] == [False] * 3 + [True] * 5
    without = replace(comparison, strategies=comparison.strategies[:2])
    assert "plain untrained" not in [cell.strategy for cell in run_cells(without, Results(tmp_path))]


def test_a_network_with_another_hidden_layer_is_judged_by_its_own_start(small, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(cells_module, "is_below_start", lambda _, start, __: asked.append(start.spread))
    settings = {name: value for name, value in small.settings.items() if name != "model.hidden_dim"}
    strategies = tuple(find_strategies(["default", "online supcon", "online arcface"]))
    cells = list(run_cells(replace(small, settings=settings, strategies=strategies, num_seeds=1), Results(tmp_path)))
    # Muon trains without a hidden layer, as the untrained network of the table has none; Adam with one.
    assert asked[0] == cells[1].metrics.spread
    assert asked[0] != asked[1] == asked[2]


def test_the_best_online_and_the_best_plain_are_told_apart(begun):
    comparison, cells, results = begun
    rows = {row.strategy: row for row in summarise(comparison.data, cells, results)}
    for protocol in ("unseen", "seen"):
        for kind, to_best in (("online", "to_best"), ("plain", "to_best_plain")):
            means = {n: row.means[f"{protocol}_recall_1"] for n, row in rows.items() if n.startswith(f"{kind} s")}
            means |= {n: row.means[f"{protocol}_recall_1"] for n, row in rows.items() if n == f"{kind} arcface"}
            best = max(means, key=means.__getitem__)
            found = getattr(rows["default"], to_best)[protocol]
            assert found.to == best
            assert found.mean == pytest.approx(rows["default"].means[f"{protocol}_recall_1"] - means[best])
    assert rows["plain untrained"].to_best_plain == {}
    record = rows["default"].as_record()
    assert record["to_best_plain"]["seen"]["to"] == rows["default"].to_best_plain["seen"].to
    assert "\nR@1 of the default to the best plain strategy: unseen classes " in markdown(list(rows.values()))


def test_the_table_of_a_run(small, ran):
    cells, results = ran
    rows = {row.strategy: row for row in summarise(small.data, cells, results)}
    assert list(rows) == ["pixels", "untrained", *(strategy.name for strategy in small.strategies)]
    default, online = rows["default"], rows["online supcon"]
    assert (default.num_seeds, default.to_default, online.to_best) == (2, {}, {})
    assert rows["pixels"].to_default == rows["untrained"].to_best == {}
    for protocol in ("unseen", "seen"):
        means = default.means[f"{protocol}_recall_1"], online.means[f"{protocol}_recall_1"]
        assert default.to_best[protocol].mean == pytest.approx(means[0] - means[1])
        assert online.to_default[protocol].mean == pytest.approx(means[1] - means[0])
        low, high = default.intervals[protocol]
        assert low <= means[0] <= high
        assert default.deviations[protocol] >= 0
    for protocol, labels in (("unseen", small.data.test.labels), ("seen", small.data.train.labels)):
        found = default.galleries[protocol]
        assert found.num_classes[-1] == len(set(labels))
        assert found.recall_1[-1] == pytest.approx(default.means[f"{protocol}_recall_1"])
        assert all(a > b for a, b in itertools.pairwise(found.recall_1))
        assert all(rank > hit for rank, hit in zip(found.mrr, found.recall_1, strict=True))
    lines = table_rows(list(rows.values()))
    edge = {row.strategy: row.settings for row in summarise(small.data, cells, results, at_edge=["default"])}
    assert edge["default"] == "rate 0.004 (edge), loss.temperature 0.1"
    assert "edge" not in edge["random"]
    assert all(len(line) == len(HEADER) for line in lines)
    assert all(len(line) == len(SHORT) for line in short_rows(list(rows.values())))
    text = markdown(list(rows.values()))
    first, second = text.split("\n\n")
    assert first.count("\n") == second.count("\n") - 1 == 1 + len(rows)
    assert f"| default | {default.means['unseen_recall_1']:.3f} |" in first
    assert f"| default | {default.means['unseen_recall_10']:.3f} |" in second
    assert first.splitlines()[0].count("|") == 10
    assert "nan" not in text


def test_what_a_schedule_adds_to_the_same_loss(small, ran, monkeypatch):
    cells, results = ran
    one, two = "default", "random"
    monkeypatch.setattr(summary_module, "SCHEDULES", ((one, two), (two, one), (one, "linear"), ("hardest", two)))
    found = schedules(small.data, cells, results)
    assert [(name, by["unseen"].to) for name, by in found] == [(one, two), (two, one)]  # the others were not run
    rows = {row.strategy: row for row in summarise(small.data, cells, results)}
    for protocol in ("unseen", "seen"):
        assert found[1][1][protocol] == rows[two].to_default[protocol]
        assert found[0][1][protocol].mean == -found[1][1][protocol].mean
    difference = found[0][1]["unseen"]
    low, high = difference.interval
    assert f"| {one} | {two} | {difference.mean:+.3f} [{low:+.3f}, {high:+.3f}] | " in pairs_markdown("a", "b", found)
    assert pairs_markdown("a", "b", []) == ""


def test_what_is_the_optimisers_and_what_is_not(small, ran):
    """Twins are taken from each other, and the default from loops with the optimiser that it has."""
    cells, results = ran
    # The cells of three strategies under the names of others: what is tested is who is taken from whom.
    names = {"default": "default", "random": "online supcon", "online supcon": "online supcon with Muon"}
    told = [replace(cell, strategy=names.get(cell.strategy, cell.strategy)) for cell in cells]
    arrays = {one.made_by: read_arrays(results, one) for one in cells}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summary_module, "read_arrays", lambda _, cell: arrays[cell.made_by])
        muon, rest = optimisers(small, told, results)
        photos = replace(small, settings={**small.settings, "training.optimizer": "adamw"})
        pretrained = optimisers(photos, told, results)
        text = comparison_markdown(small, told, results, summarise(small.data, told, results))
    assert [(name, by["unseen"].to) for name, by in muon] == [("online supcon with Muon", "online supcon")]
    assert [(name, by["unseen"].to) for name, by in rest] == [("default", "online supcon with Muon")]
    assert [(name, by["unseen"].to) for name, by in pretrained[1]] == [("default", "online supcon")]
    means = {row.strategy: row.means["seen_recall_1"] for row in summarise(small.data, cells, results)}
    assert muon[0][1]["seen"].mean == pytest.approx(means["online supcon"] - means["random"])
    assert rest[0][1]["seen"].mean == pytest.approx(means["default"] - means["online supcon"])
    assert "\n\n| with Muon | the same with Adam | R@1 unseen | R@1 catalog |\n" in text
    assert "\n\n| all but the optimiser | a loss of the library with the same one |" in text


def test_the_tables_say_what_is_equal_and_what_the_intervals_hold(small, ran):
    cells, results = ran
    rows = summarise(small.data, cells, results)
    text = comparison_markdown(small, cells, results, rows)
    assert text.startswith(
        "At equal pictures: every run shows 576 pictures in 12 steps of 48. Intervals are 95%, over 2 seeds and "
        "classes.\n\n| strategy |"
    )
    other = replace(small, own_budgets={"random": Budget(960, 48)}, num_seeds=1)
    assert comparison_markdown(other, cells, results, rows).startswith(
        "At equal CPU: every run takes about the CPU seconds that default takes for 576 pictures in 12 steps of 48, by "
        "a short probe of each. Intervals are 95% over classes; what another seed would give is not in them (one seed)."
    )


def test_a_budget_of_its_own_is_another_cell_of_one_strategy(small, ran):
    _, results = ran
    started = []
    other = replace(small, num_seeds=1, own_budgets={"online supcon": Budget(96, 48), "default": small.budget})
    cells = run_cells(other, results, started=lambda name, _: started.append(name))
    found = {cell.strategy: cell for cell in cells}
    assert started == ["online supcon"]
    assert (found["online supcon"].num_pictures, found["online supcon"].budget_pictures) == (96, 96)
    assert found["default"].num_pictures == 576


def test_a_table_of_something_else_is_refused(tmp_path):
    path = tmp_path / "cells.csv"
    path.write_text("file,class\na.png,1\n")
    with pytest.raises(InputError, match=r"cells.csv: row 2: not of this version of mohs; remove the file"):
        read_rows(path, Cell)
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(InputError, match=r"cells.csv: not a table of mohs; remove the file to measure again"):
        read_rows(path, Cell)


def test_rows_survive_commas_quotes_and_what_is_no_number(ran, tmp_path):
    whole = ran[0][2]
    cell = replace(whole, stopped='a "quoted", cause', metrics=replace(whole.metrics, unseen_tpr=np.nan))
    append_row(tmp_path / "x.csv", cell)
    [read] = read_rows(tmp_path / "x.csv", Cell)
    same([read], [cell])
