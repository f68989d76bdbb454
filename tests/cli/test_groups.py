"""Groups on the command line: the split, and evaluation without the query's own group."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

import mohs
from mohs.errors import InputError
from mohs.evaluation import evaluate_embeddings


@pytest.fixture(scope="module")
def sessions(tmp_path_factory):
    """12 classes, two sessions of three frames each; frames of a session are alike, sessions of a class are not."""
    folder = tmp_path_factory.mktemp("sessions")
    lines = ["file,class,group"]
    for label in range(12):
        for session in range(2):
            base = np.random.default_rng([label, session]).integers(0, 256, (4, 4, 3))
            for frame in range(3):
                noise = np.random.default_rng([label, session, frame]).integers(-9, 10, base.shape)
                pixels = np.clip(base + noise, 0, 255).astype(np.uint8).repeat(4, 0).repeat(4, 1)
                name = f"{label}-{session}-{frame}.png"
                Image.fromarray(pixels).save(folder / name)
                lines.append(f"{name},{label:02d},s{label}-{session}")
    (folder / "images.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def run(sessions, tmp_path_factory):
    config = mohs.RunConfig(
        out=str(tmp_path_factory.mktemp("runs") / "a"),
        data=mohs.DataConfig(source=str(sessions), size=16, split_by="item", test_fraction=0.4),
        model=mohs.ModelConfig(widths=(4, 8), embedding_dim=8, hidden_dim=0),
        training=mohs.TrainingConfig(num_triplets=24, batch_triplets=12, num_segments=2),
    )
    return mohs.train(config)


def test_a_run_by_item_keeps_sessions_whole_and_leaves_them_out(run_cli, run):
    with (run.folder / "items.csv").open() as file:
        rows = list(csv.DictReader(file))
    sides = {}
    for row in rows:
        sides.setdefault(row["group"], set()).add(row["split"])
    assert len(sides) == 24
    assert all(len(each) == 1 for each in sides.values())
    # The training side of a class is the other session, so that there is nothing to leave out.
    with_own = mohs.evaluate(run, baselines=False, write=False).measured["trained"].retrieval
    without = mohs.evaluate(run, baselines=False, write=False, exclude_same_group=True).measured["trained"]
    assert without.retrieval.metrics == with_own.metrics
    assert without.without_own_group
    answer = run_cli("evaluate", run.folder, "--exclude-same-group")
    assert answer.code == 0
    assert "without the query's own group" in answer.out
    assert json.loads((run.folder / "metrics.json").read_text())["trained"]["without_own_group"] is True


def test_other_data_by_a_run(run_cli, run, sessions, picture_set):
    found = {}
    for name, flags in (("with", []), ("without", ["--exclude-same-group"])):
        answer = run_cli("evaluate", run.folder, "--data", sessions, "--json", *flags)
        assert answer.code == 0
        found[name] = json.loads(answer.out)["pixels"]["retrieval"]["recall@1"]
    assert found["with"] == 1.0
    assert found["without"] < 0.3
    answer = run_cli("evaluate", run.folder, "--data", picture_set, "--exclude-same-group")
    assert (answer.code, answer.err[-1]) == (
        2,
        f"mohs: --exclude-same-group: {picture_set}/images.csv has no column 'group'; add one that says what each "
        "picture was taken with, such as its session",
    )
    answer = run_cli("evaluate", run.folder, "--group-column", "day")
    assert answer.err == [
        "mohs: --catalog, --file-column, --class-column, --group-column, --multi-label, --max-bad: need --data; a "
        "run uses its own data"
    ]


def test_embeddings_from_anywhere(run_cli, tmp_path):
    random = np.random.default_rng(0)
    labels, session = np.repeat(np.arange(12), 4), np.repeat(np.arange(24), 2)
    x = random.normal(size=(24, 16))[session] + 0.01 * random.normal(size=(48, 16))
    np.save(tmp_path / "x.npy", x.astype(np.float32))
    lines = [f"{a},{b}" for a, b in zip(labels, session, strict=True)]
    (tmp_path / "t.csv").write_text("class,day\n" + "\n".join(lines) + "\n")
    given = ["--embeddings", tmp_path / "x.npy", "--labels", tmp_path / "t.csv", "--no-pairs", "--json"]
    found = json.loads(run_cli("evaluate", *given).out)
    assert (found["retrieval"]["recall@1"], found["without_own_group"]) == (1.0, False)
    answer = run_cli("evaluate", *given, "--exclude-same-group", "--group-column", "day")
    found = json.loads(answer.out)
    direct = evaluate_embeddings(x, labels, groups_N=session, verification=False)
    assert found["retrieval"]["recall@1"] == direct.retrieval.recall[1] < 0.2
    answer = run_cli("evaluate", *given, "--exclude-same-group")
    assert answer.err == [
        f"mohs: --exclude-same-group: {tmp_path / 't.csv'} has no column 'group'; add one that says what each picture "
        "was taken with, such as its session"
    ]
    # Queries of their own: the gallery's items of their sessions are left out.
    split = {"query_embeddings_QD": x[::2], "query_labels_Q": labels[::2], "verification": False}
    assert evaluate_embeddings(x[1::2], labels[1::2], **split).retrieval.recall[1] == 1.0
    without = evaluate_embeddings(x[1::2], labels[1::2], **split, groups_N=session[1::2], query_groups_Q=session[::2])
    assert without.retrieval.recall[1] < 0.2
    with pytest.raises(InputError, match="one without the other"):
        evaluate_embeddings(x[1::2], labels[1::2], **split, groups_N=session[1::2])


def test_a_catalog_of_the_same_session_does_not_count():
    x = [[0.0], [0.1], [5.0], [5.1], [0.2], [5.2]]
    labels, roles = [0, 0, 1, 1, 0, 1], ["catalog", "sample", "catalog", "sample", "sample", "sample"]
    report = evaluate_embeddings(x, labels, roles_N=roles, groups_N=["a", "a", "b", "b", "", ""], verification=False)
    assert report.catalog is not None
    assert (report.catalog.num_queries, report.catalog.num_queries_without_match) == (4, 2)
    alone = evaluate_embeddings(x[:4], labels[:4], roles_N=roles[:4], groups_N=["a", "a", "b", "c"], verification=False)
    assert alone.catalog is not None
    report = evaluate_embeddings(
        [*x[:4], [9.0], [9.1]],
        [*labels[:4], 2, 2],
        roles_N=[*roles[:4], "sample", "sample"],
        groups_N=["a", "a", "b", "b", "", ""],
        verification=False,
    )
    assert report.catalog is None  # every sample's catalog picture is of its own session


def test_labels_that_look_the_same_in_two_files_are_said(run_cli, tmp_path):
    np.save(tmp_path / "x.npy", np.eye(4, dtype=np.float32))
    (tmp_path / "g.txt").write_text("Caf\u00e9\nCaf\u00e9\nx\nx\n", encoding="utf-8")
    (tmp_path / "q.txt").write_text("Cafe\u0301\nCafe\u0301\nx\nx\n", encoding="utf-8")
    answer = run_cli(
        "evaluate", "--embeddings", tmp_path / "x.npy", "--labels", tmp_path / "g.txt",
        "--query-embeddings", tmp_path / "x.npy", "--query-labels", tmp_path / "q.txt", "--no-pairs",
    )  # fmt: skip
    assert answer.code == 0
    assert answer.err[0] == (
        f"warning: {tmp_path / 'g.txt'}: 2 classes look like 1: 'Cafe\\u0301' and 'Caf\\xe9' (accents composed or "
        "not); write each of them one way if they are one"
    )


@pytest.fixture
def given(tmp_path):
    """Flags for four rows of two classes with these groups and files."""

    def make(groups, files="abcd"):
        np.save(tmp_path / "x.npy", np.eye(4, dtype=np.float32))
        rows = zip("xxyy", groups, files, strict=True)
        (tmp_path / "t.csv").write_text("class,group,file\n" + "".join(f"{','.join(row)}\n" for row in rows))
        return ["--embeddings", tmp_path / "x.npy", "--labels", tmp_path / "t.csv"]

    return make


def test_groups_that_are_all_empty_leave_nothing_out(run_cli, given, tmp_path):
    answer = run_cli("evaluate", *given(["", "", "", ""]), "--exclude-same-group")
    assert (answer.code, answer.err) == (
        2,
        [
            f"mohs: --exclude-same-group: column 'group' of {tmp_path / 't.csv'} is empty in all 4 rows, so nothing "
            "would be left out; fill it, or leave out --exclude-same-group"
        ],
    )
    assert run_cli("evaluate", *given(["", "", "", ""]), "--no-pairs").code == 0


def test_one_group_for_all_is_told_by_the_flag(run_cli, given):
    answer = run_cli("evaluate", *given("ssss"), "--exclude-same-group")
    assert answer.code == 2
    assert answer.err[-1].startswith("mohs: --exclude-same-group: none of the 4 queries has an item of its class ")


@pytest.mark.parametrize(("groups", "how"), [(["S1", "s1", "a", "b"], "capitals"), (["1", "1.0", "a", ""], "numbers")])
def test_groups_that_look_the_same_are_said(run_cli, given, tmp_path, groups, how):
    answer = run_cli("evaluate", *given(groups), "--exclude-same-group", "--no-pairs")
    assert answer.code == 0
    assert answer.err[0] == (
        f"warning: {tmp_path / 't.csv'}: 2 groups look like 1: {groups[0]!r} and {groups[1]!r} ({how}); write each of "
        "them one way if they are one"
    )


def test_a_file_under_two_classes_is_said(run_cli, given, tmp_path):
    told = (
        f"warning: {tmp_path / 't.csv'}: 1 file stands under several classes, such as 'a.png' under 'x' (row 2) and "
        "'y' (row 4); a search counts each as wrong for the other: keep one class for each file"
    )
    files = ["a.png", "b.png", "a.png", "c.png"]
    assert told in run_cli("evaluate", *given("abcd", files), "--no-pairs").err
    assert told in run_cli("doctor", *given("abcd", files)).err
    assert not run_cli("evaluate", *given("abcd", ["a.png", "a.png", "b.png", "b.png"]), "--no-pairs").err
