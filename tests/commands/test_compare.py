import json
import re

import pytest

from mohs.commands import compare as compare_module
from mohs.compare import cells as cells_module
from mohs.compare.cells import read_cells
from mohs.compare.strategies import PAPER, STRATEGIES

SMALL = [
    "--size", "16", "--channels", "1", "--set", "model.widths=[8, 16]", "--set", "model.embedding_dim=16",
    "--set", "training.num_segments=2", "--set", "training.batch_triplets=8",
]  # fmt: skip
CHOSEN = ["--strategies", "default, online supcon", "--seeds", "1", "--pictures", "64"]


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
    assert default["means"]["num_pictures"] == 64
    assert len(read_cells(out / "cells.csv")) == 4
    assert (out / "table.md").read_text().startswith("| strategy | R@1 unseen | 95% |")
    page = (out / "report.html").read_text()
    assert "Strategies compared: set" in page
    assert len(re.findall(r"<h3>R@1 on ", page)) == 2
    assert "Catalog queries were trained on" not in page

    # Again: nothing is run, and the table comes to the terminal.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells_module, "train_strategy", lambda *_, **__: pytest.fail("all is there"))
        answer = run_cli("compare", picture_set / "images.csv", *SMALL, *CHOSEN, "--tune", "1", "--out", out)
    assert answer.code == 0, answer.err
    assert re.search(rf"│ default +│ +{default['means']['unseen_recall_1']:.3f} │", answer.out)
    assert answer.out.splitlines()[-1] == f"report: {out / 'report.html'}"
    assert f"default, seed 0: R@1 {default['means']['unseen_recall_1']:.3f} on unseen classes" in "\n".join(answer.err)


def test_the_published_protocol(run_cli, picture_set, tmp_path, monkeypatch):
    monkeypatch.setattr(compare_module, "_PAPER_TRIPLETS", 8)
    out = tmp_path / "paper"
    answer = run_cli("compare", picture_set / "images.csv", *SMALL, "--paper", "--seeds", "1", "--out", out, "--quiet")
    assert (answer.code, answer.err) == (0, [])
    for name, published in {"easiest": "0.11", "hardest": "0.17", "sigmoid": "0.47", "cyclic sigmoid": "0.44"}.items():
        assert re.search(rf"│ {name} +│ +{published} │ +[01]\.\d+ │ +[01]\.\d+ │ +[01]\.\d+ │", answer.out)
    page = (out / "report.html").read_text()
    assert "Top-50 accuracy over training" in page
    assert "Triplet accuracy over training" in page
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
    assert (answer.code, answer.err) == (0, [])
    record = json.loads((tmp_path / "long" / "comparison.json").read_text())
    assert [row["means"]["num_pictures"] for row in record["strategies"][2:]] == [480]
    assert len(record["strategies"]) == 3


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
        ("--seeds", "0"): "--seeds: 0 is below 1; use for example --seeds 3",
        ("--pictures", "11"): "--pictures: 11 is below 12; use for example 60000",
        ("--tune", "7"): "--tune: 7 is not in [0, 6]; 0 leaves it out",
        ("--per-class", "0"): "--per-class: 0 is below 1; use for example 2",
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
