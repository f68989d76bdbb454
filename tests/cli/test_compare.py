import contextlib
import html
import json
import re
import shlex
from dataclasses import asdict

import numpy as np
import pytest

from mohs.cli import compare as compare_module
from mohs.compare import cells as cells_module
from mohs.compare import strategies as strategies_module
from mohs.compare.cells import read_cells
from mohs.compare.strategies import PAPER, STRATEGIES, all_strategies

SMALL = [
    "--size", "16", "--channels", "1", "--set", "model.widths=[8, 16]", "--set", "model.embedding_dim=16",
    "--set", "training.num_segments=2", "--set", "training.batch_triplets=3",
]  # fmt: skip
CHOSEN = ["--strategies", "default, online supcon", "--seeds", "1", "--pictures", "64"]


def figures(cell):
    """All that must come out the same in a second run: all but seconds."""
    return {name: value for name, value in asdict(cell).items() if not name.endswith("_s")}


def test_a_small_comparison(run_cli, picture_set, tmp_path):
    out = tmp_path / "compared"
    answer = run_cli(
        "compare", picture_set / "images.csv", *SMALL, *CHOSEN, "--tune", "1", "--out", out, "--quiet", "--json"
    )
    assert (answer.code, answer.err) == (0, [])
    record = json.loads(answer.out)
    assert json.loads((out / "comparison.json").read_text()) == record
    assert record["finished"] is True
    assert [row["strategy"] for row in record["strategies"]] == ["pixels", "untrained", "default", "online supcon"]
    assert set(record["tuned"]) == {"default", "online supcon"}
    default, online = record["strategies"][2:]
    assert default["to_best_online"]["unseen"]["to"] == "online supcon"
    assert online["to_default"]["seen"]["to"] == "default"
    assert default["means"]["num_pictures"] == record["num_pictures"] == 60
    assert len(read_cells(out / "cells.csv")) == 4
    assert "\n| strategy | R@1 unseen | 95% |" in (out / "table.md").read_text()
    page = (out / "report.html").read_text()
    assert "Strategies compared: set" in page
    assert len(re.findall(r"<h3>R@1 on ", page)) == 2
    assert "Catalog queries were trained on" not in page
    assert len(re.findall(r"<h3>(R@1|Mean reciprocal rank) against gallery size, ", page)) == 4
    assert default["galleries"]["unseen"]["recall_1"][-1] == pytest.approx(default["means"]["unseen_recall_1"])
    assert record["tuned"]["default"]["num_trials"] == 1

    # The command on the page does the same again, to the last digit.
    [line] = re.findall(r"mohs compare [^<]*", page)
    words = shlex.split(html.unescape(line))
    again = run_cli(*words[1:-1], tmp_path / "again", "--quiet")
    assert (answer.code, answer.err) == (0, [])
    assert again.code == 0, again.err
    for one, two in zip(read_cells(out / "cells.csv"), read_cells(tmp_path / "again" / "cells.csv"), strict=True):
        np.testing.assert_equal(figures(one), figures(two))

    # Again: nothing is run, and the table comes to the terminal.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells_module, "train_strategy", lambda *_, **__: pytest.fail("all is there"))
        answer = run_cli("compare", picture_set / "images.csv", *SMALL, *CHOSEN, "--tune", "1", "--out", out)
    assert answer.code == 0, answer.err
    assert re.search(rf"│ default +│ +{default['means']['unseen_recall_1']:.3f} │", answer.out)
    assert answer.out.splitlines()[-1] == f"report: {out / 'report.html'}"
    assert f"default, seed 0: R@1 {default['means']['unseen_recall_1']:.3f} on unseen classes" in "\n".join(answer.err)


def test_at_equal_pictures_and_at_equal_cpu(run_cli, picture_set, tmp_path):
    """One page and one table file hold both; the second has the first's cells where the budget is the same."""
    out = tmp_path / "both"
    names = "default,default with AdamW,online supcon,online supcon with Muon"
    arguments = (
        "compare", picture_set / "images.csv", *SMALL, "--strategies", names, "--seeds", "2", "--pictures", "96",
        "--equal", "both", "--set", "hardness.cycles=2", "--out", out, "--quiet",
    )  # fmt: skip
    answer = run_cli(*arguments, "--json")
    told = ["warning: hardness.cycles: 2 has no effect on the curve 'constant', which does not rise and fall"]
    assert (answer.code, answer.err) == (0, told)
    record = json.loads(answer.out)
    assert (record["equal"], record["num_pictures"]) == ("pictures", 96)
    first, second = record["strategies"], record["strategies_at_equal_cpu"]
    assert [row["strategy"] for row in first] == [row["strategy"] for row in second]
    assert {row["means"]["num_pictures"] for row in first[2:]} == {96}
    [default] = [row for row in second if row["strategy"] == "default"]
    assert default["means"] == first[2]["means"]
    text = (out / "table.md").read_text()
    assert text.index("At equal pictures: every run shows 96 pictures") < text.index("At equal CPU: every run takes")
    assert text.count("| default | default with AdamW | ") == 2
    assert text.count("| online supcon with Muon | online supcon | ") == 2
    assert text.count("| default | online supcon with Muon | ") == 2
    page = html.unescape((out / "report.html").read_text())
    assert "Means over seeds, at equal pictures: every run shows 96 pictures" in page
    assert "Means over seeds. At equal CPU: every run takes about the CPU seconds" in page
    assert page.count("What the optimiser adds: R@1 with Muon minus R@1 with Adam.") == 2
    assert "On unseen classes, Muon adds " in page
    assert "At equal CPU, on unseen classes, R@1 of the default is " in page
    assert "than that of online supcon with Muon, the best with the same optimiser" in page
    assert "--equal both" in page
    answer = run_cli(*arguments)
    assert "96 pictures a run, 2 seeds" in answer.out
    assert "equal CPU seconds, 2 seeds" in answer.out
    # The second alone: nothing is run, and the page says how many pictures the runs show.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells_module, "train_strategy", lambda *_, **__: pytest.fail("all is there"))
        answer = run_cli(*(word if word != "both" else "cpu" for word in arguments), "--json")
    record = json.loads(answer.out)
    assert (record["equal"], "strategies_at_equal_cpu" in record) == ("cpu", False)
    assert record["strategies"] == second
    counts = sorted({int(row["means"]["num_pictures"]) for row in second[2:]})
    shown = f"{counts[0]:,} to {counts[-1]:,}" if len(counts) > 1 else f"{counts[0]:,}"
    assert f"<dd>{shown}</dd>" in (out / "report.html").read_text()


def test_where_a_preset_starts_and_blends_all_are_compared_with_plain_strategies_too(
    run_cli, picture_set, tmp_path, monkeypatch
):
    out = tmp_path / "photos"
    # A few of each kind; that all are compared without this is tested in tests/compare.
    chosen = ("default", "online supcon", "online supcon with Muon", "plain supcon", "plain arcface")
    monkeypatch.setattr(
        strategies_module, "all_strategies", lambda s: [o for o in all_strategies(s) if o.name in chosen]
    )
    names = [strategy.name for strategy in all_strategies({"finetune.head": "rca"}) if strategy.name in chosen]
    answer = run_cli(
        "compare", picture_set / "images.csv", *SMALL, "--preset", "photos", "--seeds", "1", "--pictures", "120",
        "--out", out, "--quiet", "--json",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    record = json.loads(answer.out)
    rows = {row["strategy"]: row for row in record["strategies"]}
    assert list(rows) == ["pixels", "untrained", "plain untrained", *names]
    assert rows["default"]["to_best_online"]["unseen"]["to"].startswith("online ")
    best = rows["default"]["to_best_plain"]["unseen"]["to"]
    assert best.startswith("plain ")
    assert f"than that of {best}, the best plain strategy there" in (out / "report.html").read_text()
    assert "R@1 of the default to the best plain strategy" in (out / "table.md").read_text()


def test_the_published_protocol(run_cli, picture_set, tmp_path, monkeypatch):
    monkeypatch.setattr(compare_module, "_PAPER_TRIPLETS", 8)
    out = tmp_path / "paper"
    answer = run_cli("compare", picture_set / "images.csv", *SMALL, "--paper", "--seeds", "1", "--out", out, "--quiet")
    told = ["warning: training.num_segments: 2 has no effect here; --paper has 10, an epoch each"]
    assert (answer.code, answer.err) == (0, told)
    for name, published in {"easiest": "0.11", "hardest": "0.17", "sigmoid": "0.47", "cyclic sigmoid": "0.44"}.items():
        assert re.search(rf"│ {name} +│ +{published} │ +[01]\.\d+ │ +[01]\.\d+ │ +[01]\.\d+ │", answer.out)
        assert re.search(rf"\n\| {name} \| {published} \| [01]\.", (out / "table.md").read_text())
    page = (out / "report.html").read_text()
    assert "Top-50 accuracy over training" in page
    assert "Triplet accuracy over training" in page
    assert "Published figures are of other pictures" in page
    assert re.search(r'<th scope="row">sigmoid</th>\n<td class="right">0\.47</td>', page)
    assert all(f"Hardness against time: {name}" in page for name in PAPER)
    record = json.loads((out / "comparison.json").read_text())
    assert {row["means"]["num_pictures"] for row in record["strategies"][2:]} == {240}
    assert record["published_top_50"]["sigmoid"] == 0.47
    # A longer budget is ten longer epochs.
    longer = (
        *SMALL,
        "--paper",
        "--strategies",
        "sigmoid",
        "--seeds",
        "1",
        "--pictures",
        "480",
        "--out",
        tmp_path / "long",
    )
    answer = run_cli("compare", picture_set / "images.csv", *longer, "--quiet")
    assert (answer.code, answer.err) == (0, told)
    record = json.loads((tmp_path / "long" / "comparison.json").read_text())
    assert [row["means"]["num_pictures"] for row in record["strategies"][2:]] == [480]
    assert len(record["strategies"]) == 3


def test_a_comparison_that_fails_is_not_a_finished_one(run_cli, picture_set, tmp_path, monkeypatch):
    out = tmp_path / "compared"
    arguments = ("compare", picture_set / "images.csv", *SMALL, *CHOSEN[:-2], "--pictures", "24", "--out", out, "-q")
    assert run_cli(*arguments).code == 0
    assert json.loads((out / "comparison.json").read_text())["finished"] is True

    def fail(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cells_module, "train_strategy", fail)
    with contextlib.suppress(KeyboardInterrupt):
        run_cli(*arguments, "--set", "training.learning_rate=0.001")
    assert json.loads((out / "comparison.json").read_text()) == {"finished": False}


def test_a_budget_is_a_network_and_a_batch(run_cli, picture_set, tmp_path):
    answer = run_cli(
        "compare", picture_set / "images.csv", "--size", "16", "--channels", "1", "--budget", "medium", "--strategies",
        "online supcon", "--seeds", "1", "--pictures", "60", "--out", tmp_path / "out", "--quiet", "--json",
    )  # fmt: skip
    told = ["warning: a step shows 18 pictures and not 192: there are few pictures (--pictures) or few classes"]
    assert (answer.code, answer.err) == (0, told)
    settings = json.loads(answer.out)["settings"]
    assert (settings["model.widths"], settings["model.embedding_dim"]) == ([64, 128, 256], 256)


def test_a_table_of_something_else_is_told_before_anything_trains(run_cli, picture_set, tmp_path):
    out = tmp_path / "compared"
    out.mkdir()
    (out / "comparison.json").write_text('{"finished": false}')
    (out / "cells.csv").write_text("file,class\na.png,1\n")
    answer = run_cli("compare", picture_set / "images.csv", *SMALL, *CHOSEN, "--tune", "1", "--out", out, "--quiet")
    assert answer.code == 2
    line = f"mohs: {out / 'cells.csv'}: row 2: not of this version of mohs; remove the file to measure again"
    assert answer.err == [line]
    assert not (out / "tuning.csv").exists()


def test_settings_that_a_comparison_decides_itself_are_said(run_cli, picture_set, tmp_path):
    (tmp_path / "mine.toml").write_text(
        'seed = 3\nout = "runs"\n[data]\nsplit_by = "item"\nper_class = 1\n'
        "[training]\nnum_triplets = 99\ntensorboard = true\n"
    )
    answer = run_cli(
        "compare", picture_set / "images.csv", *SMALL, *CHOSEN[:-2], "--pictures", "24", "--config",
        tmp_path / "mine.toml", "--out", tmp_path / "out", "--quiet", "--json",
    )  # fmt: skip
    assert answer.err == [
        "warning: seed: 3 has no effect here; the seeds are 0, 1 and so on (--seeds)",
        "warning: out: 'runs' has no effect here; --out is the folder of a comparison",
        "warning: data.split_by: 'item' has no effect here; test classes are unseen",
        "warning: training.num_triplets: 99 has no effect here; --pictures says how long a run is",
        "warning: training.tensorboard: True has no effect here; report.html has the curves",
    ]
    data = json.loads(answer.out)["data"]
    assert data["training_pictures"] == data["training_classes"]  # per_class is taken


def test_the_names_are_listed(run_cli, tmp_path):
    answer = run_cli("compare", "glyphs", "--strategies", "list", "--out", tmp_path / "none")
    assert (answer.code, answer.err) == (0, [])
    assert [line.partition(": ")[0] for line in answer.out.splitlines()] == list(STRATEGIES)
    assert not (tmp_path / "none").exists()


def test_wrong_requests_and_places(run_cli, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    names = ", ".join(STRATEGIES)
    cases = {
        ("--strategies", "hardes"): f"--strategies: 'hardes' is unknown (did you mean 'hardest'?); use some of {names}",
        ("--strategies", "hardest,hardest"): "--strategies: 'hardest' is given twice; leave one out",
        ("--seeds", "0"): "--seeds: 0 is below 1; use for example --seeds 5",
        ("--pictures", "11"): "--pictures: 11 is below 12; use for example 60000",
        ("--equal", "time"): "--equal: 'time' is unknown; use one of pictures, cpu, both",
        ("--tune", "13"): "--tune: 13 is not in [0, 12]; 0 leaves it out",
        ("--per-class", "0"): "--per-class: 0 is below 1; use for example 2",
        ("--set", "classification.num_pictures=96"): "classification.num_pictures: 96 pictures would be shown beyond "
        "the budget, and not by every strategy; leave it out",
        ("--set", "loss.temperature=0.2", "--strategies", "default,hardest"): "loss.temperature: 0.2 has no effect on "
        "the loss 'triplet'; leave it out (strategies: hardest)",
        ("--pictures", "59"): "--pictures: 59 are too few: each of 10 segments needs 6; give 60 or more, or lower "
        "training.num_segments",
        ("--budget", "huge"): "budget: 'huge' is not one of 'small', 'medium', 'large'",
        ("--paper", "--pictures", "11"): "--pictures: 11 is below 12; use for example 60000",
        ("--size", "4"): "--size: 4 is wrong: input should be greater than or equal to 8",
        ("--out", f"{tmp_path}/file/x"): f"--out: {tmp_path}/file/x cannot be written, because {tmp_path}/file is a "
        "file; name another place",
        ("--out", f"{tmp_path}/full"): f"--out: {tmp_path}/full exists and is not a comparison; give another folder, "
        "or remove it",
    }
    for flags, line in cases.items():
        answer = run_cli("compare", "glyphs", "--out", tmp_path / "new", *flags)
        assert (answer.code, answer.out, answer.err) == (2, "", [f"mohs: {line}"])
    answer = run_cli("compare", tmp_path / "none.csv", "--out", tmp_path / "new", "--strategies", "default")
    assert answer.code == 2
    assert len(answer.err) == 1
    assert not (tmp_path / "new").exists()


def test_everything_that_is_wrong_is_said_at_once(run_cli, tmp_path):
    answer = run_cli("compare", "glyphs", "--seeds", "0", "--tune", "-1", "--out", tmp_path / "new")
    assert answer.code == 2
    assert len(answer.err) == 2
