import json
import re

import pytest

from mohs import runs

NAMES = ["pixels", "untrained", "hardest", "sigmoid", "cyclic sigmoid", "default"]
FLAGS = ["--classes", "60", "--pictures", "240"]


def test_a_small_demo(run_cli, tmp_path):
    out = tmp_path / "demo"
    answer = run_cli("demo", *FLAGS, "--out", out, "--quiet", "--json")
    assert (answer.code, answer.err) == (0, [])
    result = json.loads(answer.out)
    assert (result["classes"], result["pictures"], result["num_pictures"]) == (60, 120, 240)
    assert result["training_classes"] + result["test_classes"] == 60
    assert list(result["metrics"]) == NAMES
    assert list(result["seconds"]) == NAMES[2:]
    assert all(set(each) == {"embed", "mine", "train", "evaluate"} for each in result["seconds"].values())
    for name, found in result["metrics"].items():
        assert found["protocol"] == "unseen classes", name
        assert 0 <= found["retrieval"]["recall@1"] <= found["retrieval"]["recall@50"] <= 1
        assert found["retrieval"]["num_queries"] == 2 * result["test_classes"]
    assert json.loads((out / "demo.json").read_text()) == result
    # Every strategy showed the same number of pictures.
    shown = {json.loads((out / name.replace(" ", "-") / "run.json").read_text())["num_pictures"] for name in NAMES[2:]}
    assert shown == {240}

    report = out / "report.html"
    assert result["report"] == str(report)
    assert 20_000 < report.stat().st_size < 3_000_000
    page = report.read_text()
    assert (
        re.findall(r"(?:src|href)=[\"']?(?:https?:)?//|url\((?![\"']?(?:#|data:))|@import|<script [^>]*src|<link", page)
        == []
    )
    assert page.count("data:image/png;base64,") > 40
    assert page.count('<h2 id="doctor">') == page.count('<h2 id="gallery">') == 1
    assert 'In the run <strong dir="auto">default</strong>' in page
    gallery = page[page.index('<h2 id="gallery">') :]
    for name in NAMES[2:]:
        recall = result["metrics"][name]["retrieval"]["recall@1"]
        assert re.search(
            rf'<th scope="row">{name}</th>(?:\s*<td[^>]*>\d\.\d\d\d</td>)*\s*<td[^>]*>{recall:.3f}</td>', gallery
        )
    assert f"mohs demo --seed 0 --pictures 240 --out {out} --classes 60" in page

    # Again: the older demo is replaced, and the same seed gives the same numbers.
    (out / "left-over").touch()
    answer = run_cli("demo", *FLAGS, "--out", out)
    assert answer.code == 0, answer.err
    assert not (out / "left-over").exists()
    assert json.loads((out / "demo.json").read_text())["metrics"] == result["metrics"]
    said = "\n".join(answer.err)
    assert "glyphs: 60 classes, 120 pictures, two per class; train on " in said
    for name in NAMES:
        recall = result["metrics"][name]["retrieval"]["recall@1"]
        assert re.search(rf"│ {name} +│ {recall:.3f} │", answer.out)
    assert answer.out.splitlines()[-1] == f"report: {report}"


def test_an_interrupted_demo_may_be_replaced_and_nothing_else(run_cli, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    out = tmp_path / "demo"
    with monkeypatch.context() as patch:
        patch.setattr(runs, "train_on", interrupt)
        assert run_cli("demo", *FLAGS, "--out", out).code == 130
        assert json.loads((out / "demo.json").read_text()) == {"finished": False}
        (out / "mark").touch()
        assert run_cli("demo", *FLAGS, "--out", out).code == 130
    assert not (out / "mark").exists()


@pytest.mark.parametrize("content", ["[]", '{"name": "mine"}', "not json"])
def test_a_folder_of_someone_else_is_refused(content, run_cli, tmp_path):
    out = tmp_path / "other"
    out.mkdir()
    (out / "demo.json").write_text(content)
    (out / "thesis.tex").touch()
    answer = run_cli("demo", *FLAGS, "--out", out)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == [f"mohs: --out: {out} exists and is not a demo; give another folder, or remove it"]
    assert (out / "thesis.tex").exists()


def test_wrong_numbers_and_places(run_cli, tmp_path):
    (tmp_path / "file").touch()
    cases = {
        ("--pictures", "0"): "--pictures: 0 is below 12; use for example 60000",
        ("--classes", "19"): "--classes: 19 is below 20; leave it out for all of them",
        ("--seed", "-1"): "--seed: -1 is below 0; use for example --seed 0",
        ("--out", f"{tmp_path}/file"): f"--out: {tmp_path}/file exists and is not a demo; give another folder, "
        "or remove it",
        ("--out", f"{tmp_path}/file/x"): f"--out: {tmp_path}/file/x cannot be written, because {tmp_path}/file is a "
        "file; name another place",
    }
    for flags, line in cases.items():
        answer = run_cli("demo", "--out", tmp_path / "demo", *flags)
        assert (answer.code, answer.out, answer.err) == (2, "", [f"mohs: {line}"])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
