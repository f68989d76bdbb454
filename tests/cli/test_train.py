import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mohs
from mohs.cli import main
from mohs.model.embedder import Embedder
from mohs.plan import TripletPlan
from mohs.sums import read_summed

SMALL = ["--size", "16", "--triplets", "24", "--batch", "8", "--set", "model.widths=[8, 8]", "--set", "data.channels=1"]
METRICS = ["pixels", "untrained", "trained"]


def train(*arguments):
    with pytest.raises(SystemExit) as stop:
        main(["train", *map(str, arguments), *SMALL, "--quiet"])
    assert stop.value.code == 0


@pytest.fixture(scope="module")
def class_run(picture_set, tmp_path_factory):
    """A finished run, tested on unseen classes; not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "class"
    train(picture_set, "--out", folder, "--test-fraction", "0.4")
    return folder


def as_json(text):
    """Return a JSON value, refusing NaN and Infinity, which Python would read."""

    def refuse(name):
        raise AssertionError(name)

    return json.loads(text, parse_constant=refuse)


def test_train_says_what_it_did(run_cli, picture_set, tmp_path):
    answer = run_cli("train", picture_set, *SMALL, "--out", tmp_path / "run")
    assert (answer.code, answer.out) == (0, "")
    said = "\n".join(answer.err)
    assert answer.err[0] == "length: 24 triplets: 2.40 passes over 10 classes"
    assert re.search(r"train: step 10/10  loss \d+\.\d+  active +\d+%  spread \d\.\d+  [\d,]+ pictures/s", said)
    assert "trained on 40 pictures of 10 classes (24 triplets, 48 pictures shown): embed " in said
    assert answer.err[-2:] == [f"run folder: {tmp_path}/run", f"next: mohs evaluate {tmp_path}/run"]
    names = {"config.json", "items.csv", "inputs.json", "events.jsonl", "plans", "embedder", "run.json"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == names


def test_train_says_that_it_whitens(run_cli, picture_set, tmp_path):
    line = "after the last step: embeddings are whitened within classes (training.whiten)"
    for number, (settings, wanted) in enumerate(
        [(["memory.num_negatives=4"], True), (["memory.num_negatives=4", "training.whiten=false"], False), ([], False)]
    ):
        chosen = [part for setting in settings for part in ("--set", setting)]
        answer = run_cli("train", picture_set, *SMALL, *chosen, "--out", tmp_path / str(number))
        assert (answer.code, answer.err.count(line)) == (0, int(wanted)), answer.err


def test_it_goes_on_from_a_run_with_other_pictures(run_cli, class_run, own_picture_set, tmp_path):
    command = ("train", own_picture_set / "images.csv", "--triplets", "24", "--batch", "8", "--test-fraction", "0.2")
    answer = run_cli(*command, "--from", class_run, "--size", "24", "--seed", "1", "--quiet", "--out", tmp_path / "run")
    assert answer.code == 0, answer.err
    assert answer.err[0].startswith("model.start: uses the preset fine-tune, for loaded weights (training.")
    assert answer.err[1:3] == [f"starts from {class_run}: backbone and head", "data.size: 24 here, 16 there"]
    known = set(mohs.Run.open(class_run).trained_classes())
    run = mohs.Run.open(tmp_path / "run")
    assert run.config.model.widths == (8, 8)
    assert run.config.data.channels == 1
    assert known < set(run.trained_classes())
    tested = {line.split(",")[1] for line in (run.folder / "items.csv").read_text().splitlines() if "test" in line}
    seen = len(tested & known)
    assert seen > 0
    line = f"warning: {seen} test classes were trained on by {class_run}; what is measured on them is not on unseen "
    assert f"{line}classes" in answer.err
    found = as_json(run_cli("evaluate", run.folder, "--json").out)
    assert found["untrained"]["protocol"] == "classes seen and unseen"


def test_what_it_cannot_go_on_from_is_one_line(run_cli, class_run, picture_set, tmp_path):
    wrong = run_cli("train", picture_set, "--from", picture_set, "--out", tmp_path / "run")
    assert (wrong.code, wrong.err) == (
        2,
        [f"mohs: model.start: {picture_set}: no embedder (no embedder.json); give a finished run, or a saved embedder"],
    )
    other = run_cli("train", picture_set, "--from", class_run, "--channels", "3", "--out", tmp_path / "run", "--quiet")
    assert other.code == 2
    assert other.err[-1] == (f"mohs: data.channels: 3, but the weights of {class_run} fit only 1; leave it out")
    head = ("--set", "finetune.head=rca", "--quiet", "--out", tmp_path / "run")
    replaced = run_cli("train", picture_set, "--from", class_run, *head)
    assert replaced.err[-1] == "mohs: finetune.head: 'rca' would replace the head of model.start; leave it out"
    assert not (tmp_path / "run").exists()


def test_train_quiet_with_json(run_cli, picture_set, tmp_path):
    (tmp_path / "run").mkdir()  # an empty folder may be there already
    answer = run_cli("train", picture_set, *SMALL, "--out", tmp_path / "run", "--quiet", "--json")
    assert (answer.code, answer.err) == (0, [])
    facts = as_json(answer.out)
    assert (facts["run"], facts["num_triplets"], facts["num_items"]) == (f"{tmp_path}/run", 24, 48)
    assert facts["num_training_classes"] + facts["num_test_classes"] == facts["num_classes"] == 12


def test_a_run_can_be_repeated_from_its_own_settings(run_cli, class_run, tmp_path):
    answer = run_cli("train", "--config", class_run / "config.json", "--out", tmp_path / "again", "--quiet")
    assert answer.code == 0, answer.err
    for name in ("embedder/model.safetensors", "plans/segment-000.parquet"):
        assert (tmp_path / "again" / name).read_bytes() == (class_run / name).read_bytes()


def test_evaluate_unseen_classes(run_cli, class_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(class_run, folder)
    answer = run_cli("evaluate", folder, "--per-class", tmp_path / "classes.csv")
    read = "pictures: 48 read = 48 used + 0 set aside"
    told = [line for line in answer.err if not line.startswith("doctor: ")]
    way_on = "index build NAME.index SOURCE --embedder" if len(told) == len(answer.err) else "doctor"
    assert (answer.code, told) == (0, [read, f"report: {folder}/report.html", f"next: mohs {way_on} {folder}"])
    findings = mohs.diagnose(folder).findings
    assert answer.err[1:-2] == [f"doctor: {one.severity}: {one.cause}: {one.what}" for one in findings]
    assert answer.out.startswith("20 queries of 5 classes, gallery of 20, unseen classes")
    rows = [line.split()[1] for line in answer.out.splitlines() if line.startswith("│")]
    assert rows[:4] == [*METRICS, "average"]  # precision, of the pairs
    classes = (tmp_path / "classes.csv").read_text().splitlines()
    assert classes[0] == "class,queries,recall@1,average_precision,confused_with,times,query,found"
    assert [line.split(",")[1] for line in classes[1:]] == ["4"] * 5
    examples = [line.split(",")[-2:] for line in classes[1:] if not line.endswith(",,")]
    items = (folder / "items.csv").read_text()
    assert all(f"{Path(file).name}," in items for example in examples for file in example)
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") > 10
    assert re.findall(r"(?:src|href)=[\"']?(?:https?:)?//|url\((?![\"']?(?:#|data:))|@import", page) == []
    assert re.findall(r"<script[^>]*>", page) == ["<script>"]  # the page's own, inside it
    answer = run_cli("evaluate", folder, "--json")
    assert (answer.code, answer.err) == (0, [])
    found = as_json(answer.out)
    assert found == read_summed(folder / "metrics.json")
    assert list(found) == [*METRICS, "pictures_read"]
    assert found["trained"]["protocol"] == "unseen classes"
    assert found["trained"]["catalog"]["num_gallery"] == 5  # one catalog picture for each unseen class
    pairs = [each["verification"] and each["verification"]["law"] for each in (found[name] for name in METRICS)]
    assert pairs == [None, None, "all 30 pairs of one class; all 160 of two classes"]


def test_evaluate_seen_classes(run_cli, picture_set, tmp_path):
    folder = tmp_path / "run"
    train(picture_set / "images.csv", "--out", folder, "--split-by", "item", "--test-fraction", "0.34")
    answer = run_cli("evaluate", folder, "--json")
    found = as_json(answer.out)["trained"]
    assert (answer.code, found["protocol"]) == (0, "seen classes")
    assert (found["retrieval"]["num_queries"], found["retrieval"]["num_gallery"]) == (12, 24)
    assert found["catalog"] is None
    # One test picture of each of 12 classes: pairs are those that a search makes.
    law = "all 24 pairs of one class; all 264 of two classes; each of one of 12 queries and one of 24 items of the "
    assert found["verification"]["law"] == f"{law}gallery"
    table = " ".join(run_cli("evaluate", folder).out.split())
    assert f"pairs: {law[:24]}" in table
    assert "precision 0.95 at distance up to" in table
    assert "Measures on pairs" in (folder / "report.html").read_text(encoding="utf-8")


def test_evaluate_on_other_data(run_cli, class_run, picture_set, tmp_path):
    folder = tmp_path / "run"
    train(picture_set, "--per-class", 2, "--out", folder)
    # All pictures of the other set count, whatever the run kept of its own.
    answer = run_cli("evaluate", folder, "--data", picture_set / "images.csv", "--json")
    assert as_json(answer.out)["trained"]["retrieval"]["num_queries"] == 36
    assert answer.err == ["warning: the run was trained on classes of the same name: 10 of these 12"]
    assert not (folder / "metrics.json").exists()
    assert not (folder / "report.html").exists()
    other = tmp_path / "other"
    for label, grey in (("x", 10), ("y", 200)):
        (other / label).mkdir(parents=True)
        for i in range(2):
            Image.fromarray(np.full((9, 9), grey + i, np.uint8)).save(other / label / f"{i}.png")
    answer = run_cli("evaluate", folder, "--data", other, "--json")
    assert (answer.code, answer.err) == (0, [])
    assert as_json(answer.out)["pixels"]["retrieval"]["num_queries"] == 4
    answer = run_cli("evaluate", folder, "--data", picture_set / "catalog.csv")
    assert answer.err == [
        f"mohs: {picture_set}/catalog.csv: every test class has one picture, so no query has another to find; "
        "add pictures, or a catalog"
    ]


def test_a_run_is_an_embedder_for_mine(run_cli, class_run, picture_set, tmp_path):
    plans = {}
    for name, flags in {"run": ["--embedder", class_run], "none": ["--size", 16, "--channels", 1]}.items():
        out = tmp_path / f"{name}.parquet"
        assert run_cli("mine", picture_set, *flags, "--triplets", 20, "--out", out).code == 0
        plans[name] = TripletPlan.load(out)
    table = mohs.read_table(picture_set)
    bank = mohs.Run.open(class_run).embedder().embed([table.path(i) for i in range(len(table))])
    d = np.linalg.norm(bank[plans["run"].anchor] - bank[plans["run"].negative], axis=1)
    assert plans["run"].anchor_negative_distance == pytest.approx(d, abs=1e-5)
    assert plans["none"].header["bank_fingerprint"] != plans["run"].header["bank_fingerprint"]


def test_folders_that_are_no_finished_run(run_cli, class_run, tmp_path):
    half = tmp_path / "half"
    half.mkdir()
    shutil.copy(class_run / "config.json", half)
    lines = {
        tmp_path: "not a run folder (no config.json); give one made by 'mohs train'",
        tmp_path / "none": "not a run folder (no config.json); give one made by 'mohs train'",
        half: f"this run did not finish (no run.json); go on with 'mohs train --resume {half}'",
    }
    for folder, line in lines.items():
        answer = run_cli("evaluate", folder)
        assert (answer.code, answer.out, answer.err) == (2, "", [f"mohs: {folder}: {line}"])


def test_bad_input_leaves_no_run_folder(run_cli, class_run, own_picture_set, tmp_path):
    (own_picture_set / "one.csv").write_text("file,class\nimg/000-0.png,a\nimg/000-1.png,a\n")
    (own_picture_set / "bad.csv").write_text("file,class\nimg/000-0.png,a\nimg/none.png,b\n")
    (tmp_path / "file").touch()
    out = tmp_path / "deep" / "run"
    cases = [
        (["none.csv"], f"{own_picture_set}/none.csv: no such file or folder; "),
        (["one.csv"], f"{own_picture_set}/one.csv: 1 class ('a'); similarity learning needs at least 2; "),
        (["bad.csv"], f"{own_picture_set}/bad.csv: row 3: 'img/none.png': "),
        (["images.csv", "--catalog", "x.csv"], "x.csv: no such file or folder; "),
        (["images.csv", "--backbone", "resnet"], "model.backbone: 'resnet' is neither 'small' nor a timm model; "),
        (["images.csv", "--weights", "w.bin"], "model.weights: w.bin: no such file; "),
        (["images.csv", "--device", "cuda"], "training.device: 'cuda' is not available here; use 'auto' or 'cpu'"),
        (["images.csv", "--out", class_run], f"out: {class_run} exists already; give another folder with --out, or "),
        (["images.csv", "--out", tmp_path / "file"], f"out: {tmp_path}/file exists already; give another folder with "),
        (
            ["images.csv", "--out", tmp_path / "file" / "run"],
            f"--out: {tmp_path}/file/run cannot be written, because {tmp_path}/file is a file; name another place",
        ),
    ]
    import torch

    for (name, *flags), line in cases:
        if "cuda" in flags and torch.cuda.is_available():
            continue
        place = [] if "--out" in flags else ["--out", out]
        answer = run_cli("train", own_picture_set / name, *SMALL, *place, *flags, "--quiet")
        # Widths without effect, and no weights; a preset is taken.
        num_notes = {"--backbone": 2, "--weights": 1}.get(flags[0] if flags else "", 0)
        assert (answer.code, answer.out, len(answer.err)) == (2, "", 1 + num_notes), (name, flags, answer)
        assert answer.err[-1].startswith(f"mohs: {line}"), answer.err[-1]
    assert not out.parent.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "set"]


def test_training_that_breaks_is_exit_code_5(run_cli, picture_set, tmp_path):
    flags = ["--set", "training.learning_rate=1e30", "--set", "model.batch_norm=false"]
    answer = run_cli("train", picture_set, *SMALL, *flags, "--out", tmp_path / "run", "--quiet")
    assert (answer.code, answer.out, len(answer.err)) == (5, "", 1)
    assert answer.err[0].startswith("mohs: training: ")
    assert "lower it" in answer.err[0]
    # What happened until then stays, and is no finished run.
    assert (tmp_path / "run" / "events.jsonl").stat().st_size > 0
    assert run_cli("evaluate", tmp_path / "run").err == [
        f"mohs: {tmp_path}/run: this run did not finish (no run.json); go on with 'mohs train --resume {tmp_path}/run'"
    ]


def test_a_run_on_files_that_was_cut_is_taken_up_and_ends_the_same(run_cli, own_picture_set, tmp_path, monkeypatch):
    source, out = own_picture_set / "images.csv", tmp_path / "deep" / "run"

    def train(folder):
        cut = ("--set", "training.checkpoint_s=1e-9", "--quiet")
        return run_cli("train", source, *SMALL, *cut, "--resume", folder)

    assert train(tmp_path / "whole").code == 0
    embed, calls = Embedder.embed, []

    def interrupted(self, *arguments, **options):
        calls.append(self)
        if len(calls) == 2:  # the bank of the second segment
            raise KeyboardInterrupt
        return embed(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Embedder, "embed", interrupted)
        assert train(out).code == 130
    assert not (out / "run.json").exists()
    # Other pictures than those it was begun with are refused, ...
    rows = source.read_text()
    source.write_text(rows.replace("img/000-0.png,000\n", ""))
    answer = train(out)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err[-1] == (
        f"mohs: {out}/items.csv: the items of {source} have changed since the run began; restore them, or "
        "train into another folder"
    )
    source.write_text(rows)
    # ... so are other pictures under the same names, for the test or for training, ...
    files = [own_picture_set / "img" / f"{name}.png" for name in ("000-0", "003-2", "011-1")]
    before = [file.read_bytes() for file in files]
    for file in files:
        Image.fromarray(255 - np.asarray(Image.open(file))).save(file)
    answer = train(out)
    assert (answer.code, answer.err[-1]) == (
        2,
        f"mohs: {source}: 3 of 36 pictures have changed since the run read them: img/000-0.png, img/003-2.png, "
        "img/011-1.png; restore what was there, or train into another folder",
    )
    # ... and with the same ones, though they were written again, it ends as if nothing had happened.
    for file, content in zip(files, before, strict=True):
        file.write_bytes(content)
    answer = train(out)
    assert answer.code == 0, answer.err
    for name in ("embedder/model.safetensors", "items.csv"):
        same = (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
        assert same == (name != "items.csv"), name  # paths are relative to the run


def test_other_data_are_measured_whole_after_a_run_on_few_classes(run_cli, picture_set, tmp_path):
    limits = ["--set", "data.max_classes=8", "--per-class", "2", "--size", "16", "--triplets", "20"]
    assert run_cli("train", picture_set / "images.csv", *limits, "--out", tmp_path / "run", "--quiet").code == 0
    answer = run_cli("evaluate", tmp_path / "run", "--data", picture_set / "images.csv", "--json", "--quiet")
    assert json.loads(answer.out)["trained"]["retrieval"]["num_queries"] == 36


def test_what_a_run_cannot_show_is_told_before_it_begins(run_cli, own_picture_set, tmp_path):
    rows = (own_picture_set / "images.csv").read_text().splitlines()[1:]
    # Of 6 classes one picture each is for the test, of 2 classes three each; the other classes train.
    kept = [f"{row},{'train' if row[-3:] >= '008' else 'test'}" for row in rows if row[-3:] >= "006" or "-0" in row]
    (own_picture_set / "images.csv").write_text("file,class,split\n" + "\n".join(kept) + "\n")
    command = ["train", own_picture_set / "images.csv", *SMALL, "--preset", "frozen", "--triplets", "3"]
    answer = run_cli(*command, "--out", tmp_path / "run")
    assert answer.code == 0
    assert answer.err[:4] == [
        "length: 3 triplets: 0.75 passes over 4 classes",
        "test: 12 queries, of which 6 count; the others have no other picture of their class to find",
        "warning: model.weights: none are given, so 'small' starts from random weights, and "
        "finetune.trainable_stages 0 is for pretrained ones; give --weights FILE, or leave it out",
        "warning: training.num_triplets: 3 triplets: 0.75 passes over 4 classes; 1 of them is never an anchor: "
        "give 4 or more",
    ]
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (facts["num_test_items"], facts["num_counted_queries"]) == (12, 6)
    found = as_json(run_cli("evaluate", tmp_path / "run", "--json").out)["trained"]["retrieval"]
    assert (found["num_queries"], found["num_queries_without_match"]) == (12, 6)


def test_a_backbone_without_weights_is_told(run_cli, picture_set, tmp_path):
    command = ["train", picture_set, *SMALL, "--backbone", "test_resnet", "--channels", "3"]
    answer = run_cli(*command, "--set", "data.channels=3", "--out", tmp_path / "run")
    assert answer.code == 0, answer.err
    line = "warning: backbone: 'test_resnet' starts from random weights; give --pretrained, or --weights FILE"
    assert answer.err.count(line) == 1
    assert run_cli(*command, "--quiet", "--out", tmp_path / "quiet").err.count(line) == 1
    fine = run_cli(*command, "--quiet", "--preset", "fine-tune", "--out", tmp_path / "fine").err
    assert sum("starts from random weights" in each for each in fine) == 1


def test_pairs_of_a_review_list_that_the_table_does_not_have_are_told(run_cli, picture_set, tmp_path):
    review = tmp_path / "review.csv"
    pairs = [("img/000-1.png", "img/001-1.png"), ("img/000-1.png", "x.png"), ("y.png", "x.png"), ("z.png", "w.png")]
    review.write_text("file,other\n" + "".join(f"{one},{other}\n" for one, other in pairs))
    chosen = ["--set", f"negatives.review_list={review}", "--quiet"]
    answer = run_cli("train", picture_set, *SMALL, *chosen, "--out", tmp_path / "run")
    assert answer.code == 0, answer.err
    line = f"warning: {review}: 3 of 4 pairs passed over, since the table does not have their files ('x.png', 'y.png', "
    assert [each for each in answer.err if "passed over" in each] == [f"{line}'z.png' and 1 more)"]


def test_a_new_network_is_not_warned_of(run_cli, picture_set, tmp_path):
    answer = run_cli("train", picture_set, *SMALL, "--out", tmp_path / "run")
    assert not any("random weights" in line or "warning" in line for line in answer.err)


def test_a_changed_picture_is_told_when_a_run_is_measured(run_cli, own_picture_set, tmp_path):
    train(own_picture_set / "images.csv", "--out", tmp_path / "run")
    file = own_picture_set / "img" / "005-1.png"
    Image.fromarray(255 - np.asarray(Image.open(file))).save(file)
    line = f"{own_picture_set}/images.csv: 1 of 36 pictures has changed since the run read them: img/005-1.png"
    with pytest.warns(UserWarning, match=re.escape(f"{line}; numbers are of what is there now")):
        assert run_cli("evaluate", tmp_path / "run", "--json").code == 0
    answer = run_cli("doctor", tmp_path / "run")
    assert f"not looked for ({line}):" in answer.out
