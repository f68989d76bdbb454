import json
import re
import shutil
from html import unescape

import numpy as np
import pytest

from mohs import diagnose
from mohs.cli import main
from mohs.settings.toml import toml_value

SMALL = ["--size", "16", "--batch", "8", "--set", "model.widths=[8, 8]", "--set", "data.channels=1"]


def train(*arguments):
    with pytest.raises(SystemExit) as stop:
        main(["train", *map(str, arguments), *SMALL, "--quiet"])
    assert stop.value.code == 0


@pytest.fixture(scope="module")
def runs(picture_set, tmp_path_factory):
    """Two runs of one split, and one that was tested on other classes; not to be changed."""
    folder = tmp_path_factory.mktemp("runs")
    train(picture_set, "--out", folder / "short", "--test-fraction", "0.4", "--triplets", "16")
    train(picture_set, "--out", folder / "long", "--test-fraction", "0.4", "--triplets", "160")
    train(picture_set, "--out", folder / "other", "--test-fraction", "0.4", "--triplets", "16", "--seed", "1")
    return folder


def test_runs_stand_side_by_side_and_differences_have_intervals(run_cli, runs, tmp_path):
    page = tmp_path / "page.html"
    answer = run_cli("report", runs / "short", runs / "long", "--out", page, "--quiet", "--json")
    assert answer.code == 0
    said = json.loads(answer.out)
    assert list(said["metrics"]) == ["pixels", "untrained", "short", "long"]
    [difference] = said["differences"]
    assert (difference["run"], difference["against"]) == ("long", "short")
    recall = {name: found["retrieval"]["recall@1"] for name, found in said["metrics"].items()}
    assert difference["recall@1"] == pytest.approx(recall["long"] - recall["short"], abs=1e-12)
    low, high = difference["interval"]
    assert low <= difference["recall@1"] <= high
    html = page.read_text(encoding="utf-8")
    assert f"R@1 of long is {difference['recall@1']:+.3f} against short (95% interval" in html
    assert "What another seed would give is not in it" in html
    for heading in ("Verification: same", "Thresholds", "Map of the embeddings", "Mined triplets", "Reproduce: do it"):
        assert heading in html
    assert (runs / "long" / "metrics.json").is_file()


def test_the_doctor_and_the_size_of_the_gallery_are_on_the_page(run_cli, runs, picture_set, tmp_path):
    # Seven classes cannot be 3 apart, so that there is something to find.
    margin = ["--test-fraction", "0.4", "--triplets", "80", "--set", "loss.name=triplet", "--set", "loss.margin=3"]
    train(picture_set, "--out", tmp_path / "tight", *margin)
    page = tmp_path / "page.html"
    answer = run_cli("report", tmp_path / "tight", runs / "long", "--out", page, "--quiet", "--json")
    metrics = json.loads(answer.out)["metrics"]
    words = " ".join(unescape(re.sub(r"<[^>]*>", " ", page.read_text(encoding="utf-8"))).split())

    assert "In the run tight . An error: the result is not to be trusted." in words
    diagnosis = diagnose(tmp_path / "tight")
    assert "margin-too-large" in [finding.cause for finding in diagnosis.findings]
    assert "[loss] -margin = 3.0 +margin = 1.0" in words
    signs = {"error": "✗ Error", "warning": "● Warning", "note": "● Note"}
    for finding in diagnosis.findings:
        numbers = " ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in finding.numbers.items())
        for text in (f"{signs[finding.severity]} {finding.cause}", finding.what, finding.why, finding.fix, numbers):
            assert " ".join(text.split()) in words, text
        for name, value in finding.settings.items():
            assert f"+{name.rpartition('.')[2]} = {toml_value(value)}" in words
    assert ", ".join(diagnosis.checked) in words

    # The whole gallery is what R@1 was measured in.
    table = words[words.index("classes in the gallery 2 5") :]
    for name in ("tight", "long"):
        [at_two, at_all] = re.search(rf"\b{name} (0\.\d{{3}}|1\.000) (\d\.\d{{3}})\b", table).groups()
        assert at_all == f"{metrics[name]['retrieval']['recall@1']:.3f}"
        assert float(at_two) >= float(at_all)


def test_the_difference_turns_its_sign_with_the_runs(run_cli, runs, tmp_path):
    def difference(*names):
        answer = run_cli("report", *(runs / name for name in names), "--out", tmp_path / "page.html", "-q", "--json")
        return json.loads(answer.out)["differences"][0]

    there, back = difference("short", "long"), difference("long", "short")
    assert back["recall@1"] == -there["recall@1"]
    np.testing.assert_allclose(sorted(-np.array(back["interval"])), there["interval"], atol=1e-12)


def test_runs_with_other_tests_are_not_compared(run_cli, runs, tmp_path):
    answer = run_cli("report", runs / "short", runs / "other", "--out", tmp_path / "page.html", "--quiet")
    assert answer.code == 0
    assert "other was tested on other pictures than short: their rows cannot be compared." in answer.out
    assert "against short (" not in answer.out


def test_runs_of_one_name_are_told_apart_by_their_folders(run_cli, runs, tmp_path):
    for place in ("a", "b"):
        shutil.copytree(runs / "short", tmp_path / place / "run")
    answer = run_cli("report", tmp_path / "a" / "run", tmp_path / "b" / "run", "--out", tmp_path / "page.html", "-q")
    assert answer.code == 0
    assert "R@1 of b/run is +0.000 against a/run" in answer.out


def test_what_cannot_be_reported_is_said_in_a_line(run_cli, runs, tmp_path):
    answer = run_cli("report", runs / "short", runs / "short", "--out", tmp_path / "page.html")
    assert (answer.code, answer.err) == (2, [f"mohs: RUNS: {runs}/short is given twice; give each run once"])
    answer = run_cli("report", tmp_path / "none", "--out", tmp_path / "page.html")
    assert (answer.code, answer.err) == (
        2,
        [f"mohs: {tmp_path}/none: not a run folder (no config.json); give one made by 'mohs train'"],
    )
    assert not (tmp_path / "page.html").exists()
