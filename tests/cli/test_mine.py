import csv
import json
import re

import numpy as np
import pytest

import mohs
from mohs import artefacts, mining
from mohs.plan import POSITIVE_ORIGINS, TripletPlan
from mohs.shards import ShardLayout, write_shards

NUM_ITEMS = 48  # 36 samples, then 12 catalog pictures


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    """An .npy file with a row per item of the picture set, away from the catalog order."""
    path = tmp_path_factory.mktemp("vectors") / "x.npy"
    np.save(path, np.random.default_rng(3).normal(size=(NUM_ITEMS, 6)).astype(np.float32))
    return path


@pytest.mark.parametrize("scale", ["range", "rank", "log-rank", "margin"])
def test_every_scale_with_vectors_given(scale, run_cli, picture_set, vectors, tmp_path):
    flags = ["--margin", "0.2"] if scale == "margin" else []
    out = tmp_path / "plan.parquet"
    answer = run_cli(
        "mine", picture_set, "--embeddings", vectors, "--scale", scale, *flags, "--triplets", 50, "--out", out, "--json"
    )
    assert answer.code == 0, answer.err
    facts = json.loads(answer.out)
    assert answer.err == []
    plan = TripletPlan.load(out)
    assert (len(plan), plan.header["scale"]) == (50, scale)
    assert (facts["num_items"], facts["num_classes"], facts["num_triplets"]) == (NUM_ITEMS, 12, 50)
    # The file holds what mohs.mine gives for the same bank: rows of the vectors are items of the table.
    table = mohs.read_table(picture_set)
    again = mohs.mine(
        np.load(vectors),
        table.labels,
        anchors_T=plan.anchor,
        hardness_T=plan.hardness,
        positives_T=plan.positive,
        scale=scale,
        margin=0.2 if flags else None,
    )
    assert np.array_equal(again.negative, plan.negative)
    assert facts["mean_anchor_negative_distance"] == pytest.approx(again.anchor_negative_distance.mean())
    assert (table.labels[plan.negative] != table.labels[plan.anchor]).all()
    assert (table.roles[plan.anchor] == "sample").all()


def test_the_csv_says_the_same_in_file_names(run_cli, picture_set, tmp_path):
    answer = run_cli(
        "mine",
        picture_set,
        "--triplets",
        30,
        "--size",
        16,
        "--out",
        tmp_path / "p.parquet",
        "--csv",
        tmp_path / "p.csv",
    )
    assert answer.code == 0, answer.err
    assert answer.err[0] == "length: 30 triplets: 2.50 passes over 12 classes"
    assert re.fullmatch(r"memory: mining takes about \d+ MB(, [\d.,]+ [MG]B are free)?", answer.err[1])
    assert answer.err[2:5] == [
        "pictures: 48 read = 48 used + 0 set aside",
        "48 items of 12 classes, 30 triplets",
        "positives: 30 from class",
    ]
    assert answer.err[-1] == f"plan: {tmp_path}/p.parquet and {tmp_path}/p.csv"
    plan, table = TripletPlan.load(tmp_path / "p.parquet"), mohs.read_table(picture_set)
    with (tmp_path / "p.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["anchor_file"] for row in rows] == [table.files[i] for i in plan.anchor]
    assert [row["positive_file"] for row in rows] == [table.files[i] for i in plan.positive]
    assert [row["negative_file"] for row in rows] == [table.files[i] for i in plan.negative]
    assert [row["negative_class"] for row in rows] == table.labels[plan.negative].tolist()
    assert all(row["anchor_class"] == row["anchor_file"][4:7] != row["negative_class"] for row in rows)


def test_positives_from_the_catalog(run_cli, picture_set, vectors, tmp_path):
    command = ["mine", picture_set / "images.csv", "--catalog", picture_set / "catalog.csv", "--embeddings", vectors]
    answer = run_cli(*command, "--triplets", 40, "--prefer", "catalog", "--out", tmp_path / "p.parquet", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["positives"] == {"catalog": 40}
    plan, table = TripletPlan.load(tmp_path / "p.parquet"), mohs.read_table(picture_set)
    assert {POSITIVE_ORIGINS[i] for i in plan.positive_origin} == {"catalog"}
    assert (table.roles[plan.positive] == "catalog").all()


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(run_cli, picture_set, vectors, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        out = tmp_path / name
        assert run_cli("mine", picture_set, "--embeddings", vectors, "--seed", seed, "--out", out).code == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != (tmp_path / "c").read_bytes()


def test_progress_is_for_people_at_a_terminal(run_cli, picture_set, vectors, tmp_path, monkeypatch):
    command = ["mine", picture_set, "--embeddings", vectors, "--triplets", 50, "--out", tmp_path / "p"]
    assert not any("50/50" in line for line in run_cli(*command).err)
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes this for a terminal
    shown = [line for line in run_cli(*command).err if "50/50" in line]
    assert shown
    assert "mining" in shown[0]
    for flag in ("--quiet", "--json"):
        assert not any("mining" in line for line in run_cli(*command, flag).err), flag


def test_mining_that_is_broken_off_leaves_an_older_plan(run_cli, picture_set, vectors, tmp_path, monkeypatch):
    def interrupt(done, total):
        raise KeyboardInterrupt

    complete = mining.mine
    monkeypatch.setattr(mining, "mine", lambda *a, **k: complete(*a, **{**k, "progress": interrupt}))
    (tmp_path / "old").write_text("older")
    for name in ("new", "old"):
        answer = run_cli(
            "mine", picture_set, "--embeddings", vectors, "-q", "--out", tmp_path / name, "--csv", tmp_path / "p.csv"
        )
        assert (answer.code, answer.err) == (130, ["mohs: interrupted"])
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old").read_text() == "older"


def save(path, rows, spoil=None):
    x = np.ones((rows, 4), np.float32)
    if spoil is not None:
        x[spoil, 1] = np.nan
    np.save(path, x)
    return path


def test_wrong_vectors(run_cli, picture_set, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.npy").write_text("not an array")
    np.save(tmp_path / "flat.npy", np.ones(NUM_ITEMS, np.float32))
    save(tmp_path / "short.npy", 10)
    save(tmp_path / "nan.npy", NUM_ITEMS, spoil=[3])
    lines = {
        "none.npy": "no such file; check the path",
        "flat.npy": "shape (48,) is not [N, D] with N >= 1 and D >= 1; give one row per item",
        "short.npy": "10 rows for 48 items in the table; give one row per item",
        "nan.npy": "row 3 has NaN or Inf (1 row in all); leave it out or embed it again",
        "text.npy": "not a .npy file; write the embeddings with numpy.save",
        "folder": "a folder; give a file",
    }
    out = tmp_path / "out" / "plan.parquet"
    for name, line in lines.items():
        answer = run_cli("mine", picture_set, "--embeddings", tmp_path / name, "--out", out)
        assert (answer.code, answer.out, len(answer.err)) == (2, "", 1)
        assert answer.err == [f"mohs: {tmp_path / name}: {line}"]
    assert not out.parent.exists()


def test_wrong_embedders(run_cli, picture_set, vectors, tmp_path):
    answer = run_cli("mine", picture_set, "--embedder", tmp_path, "--out", tmp_path / "p")
    assert answer.err == [
        f"mohs: --embedder: {tmp_path}: neither a finished run nor an embedder folder (no embedder.json); "
        "give one made by 'mohs train'"
    ]
    answer = run_cli("mine", picture_set, "--embedder", tmp_path, "--embeddings", vectors, "--out", tmp_path / "p")
    assert answer.err == ["mohs: --embedder, --embeddings: both given; use one of them"]


def test_the_closed_loop_needs_training(run_cli, picture_set, tmp_path):
    answer = run_cli("mine", picture_set, "--curve", "closed-loop", "--out", tmp_path / "p")
    assert answer.code == 2
    assert answer.err == ["mohs: --curve: 'closed-loop' reads training; use it with 'mohs train', or give a curve"]
    assert not (tmp_path / "p").exists()
    assert list(tmp_path.iterdir()) == []


def test_margins_and_scales_that_do_not_fit(run_cli, picture_set, vectors, tmp_path):
    cases = {
        ("--scale", "margin"): "the scale 'margin' needs the loss's margin; use for example 0.2",
        ("--scale", "margin", "--margin", "0"): "0.0 is not a number in (0, 1e+19]; use for example 0.2",
        ("--scale", "margin", "--margin", "nan"): "nan is not a number in (0, 1e+19]; use for example 0.2",
        ("--margin", "0.5"): "0.5 has no meaning on the scale 'range'; leave it out, or use the scale margin",
    }
    for flags, line in cases.items():
        answer = run_cli("mine", picture_set, "--embeddings", vectors, *flags, "--out", tmp_path / "p")
        assert (answer.code, answer.err) == (2, [f"mohs: --margin: {line}"])
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written_are_known_before_the_work(run_cli, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    cases = {
        ("--out", "file/deep/p"): f"{tmp_path}/file/deep/p cannot be written, because {tmp_path}/file is a file; "
        "name another place",
        ("--out", "folder"): f"{tmp_path}/folder is a folder; name a file in it",
        ("--out", "plan.csv"): f"{tmp_path}/plan.csv: the plan is a Parquet file; use --csv for CSV",
        ("--csv", "file/p"): f"{tmp_path}/file/p cannot be written, because {tmp_path}/file is a file; "
        "name another place",
        ("--csv", "plan.parquet"): f"{tmp_path}/plan.parquet is the plan of --out too; name another file",
    }
    for (flag, name), line in cases.items():
        # The table does not exist: its message would show that the place was looked at too late.
        out = [] if flag == "--out" else ["--out", tmp_path / "plan.parquet"]
        answer = run_cli("mine", tmp_path / "none.csv", *out, flag, tmp_path / name)
        assert (answer.code, answer.err) == (2, [f"mohs: {flag}: {line}"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_folder_without_permission(run_cli, picture_set, tmp_path, monkeypatch):
    (tmp_path / "locked").mkdir()
    # Root may write everywhere.
    monkeypatch.setattr(
        artefacts, "why_not_writable", lambda path: "Permission denied" if path.name == "locked" else ""
    )
    answer = run_cli("mine", picture_set, "--out", tmp_path / "locked" / "p")
    assert answer.err == [
        f"mohs: --out: {tmp_path}/locked/p cannot be written (in {tmp_path}/locked: Permission denied); "
        "name another place"
    ]


def test_a_plan_whose_csv_fails_is_not_written_and_an_older_one_stays(
    run_cli, picture_set, vectors, tmp_path, monkeypatch
):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TripletPlan, "save_csv", fail)
    (tmp_path / "old").write_text("older")
    for name in ("new", "old"):
        answer = run_cli(
            "mine", picture_set, "--embeddings", vectors, "--out", tmp_path / name, "--csv", tmp_path / "p.csv"
        )
        assert answer.code == 4
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old").read_text() == "older"


def test_bad_tables_leave_no_plan(run_cli, own_picture_set, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (own_picture_set / "one.csv").write_text("file,class\nimg/000-0.png,a\nimg/000-1.png,a\n")
    answer = run_cli("mine", own_picture_set / "one.csv", "--out", out / "p")
    assert answer.err == [
        f"mohs: {own_picture_set}/one.csv: 1 class ('a'); similarity learning needs at least 2; "
        "add pictures of other classes"
    ]
    (own_picture_set / "img/004-2.png").write_bytes(b"no picture")
    (own_picture_set / "img/005-0.png").unlink()
    answer = run_cli("mine", own_picture_set, "--out", out / "p")
    assert answer.code == 2
    assert [line.split("': ")[0] for line in answer.err] == [
        f"mohs: {own_picture_set}/images.csv: row 16: 'img/004-2.png",
        f"mohs: {own_picture_set}/images.csv: row 17: 'img/005-0.png",
    ]
    assert list(out.iterdir()) == []


def test_a_plan_shorter_than_a_pass_over_the_classes_is_told(run_cli, picture_set, vectors, tmp_path):
    command = ["mine", picture_set, "--embeddings", vectors, "--quiet", "--out", tmp_path / "p.parquet"]
    answer = run_cli(*command, "--triplets", 9)
    assert (answer.code, answer.err[0]) == (
        0,
        "warning: 9 triplets: 0.75 passes over 12 classes; 3 of them are never an anchor: give 12 or more",
    )
    assert "warning" not in "".join(run_cli(*command, "--triplets", 12).err)


def test_vectors_in_shards_give_the_same_plan(run_cli, picture_set, vectors, tmp_path):
    rows = np.load(vectors)
    layout = ShardLayout(len(rows), rows.shape[1:], "float32", 7)
    write_shards(tmp_path / "bank", layout, {}, lambda start, stop: rows[start:stop])
    plans = []
    for bank in (vectors, tmp_path / "bank"):
        out = tmp_path / f"{bank.name}.parquet"
        answer = run_cli("mine", picture_set, "--embeddings", bank, "--scale", "rank", "--triplets", 50, "--out", out)
        assert answer.code == 0, answer.err
        plans.append(out.read_bytes())
    assert plans[0] == plans[1]
    write_shards(tmp_path / "few", ShardLayout(7, rows.shape[1:], "float32", 7), {}, lambda *_: rows[:7])
    answer = run_cli("mine", picture_set, "--embeddings", tmp_path / "few", "--triplets", 50, "--out", out)
    assert answer.err == [f"mohs: {tmp_path}/few: 7 rows for {NUM_ITEMS} items in the table; embed this table"]
