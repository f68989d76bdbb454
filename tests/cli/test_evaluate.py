import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mohs.evaluation import evaluate_embeddings

NUM_CLASSES, PER_CLASS = 12, 3


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with x.npy, labels.csv (class, file, role), labels.txt and labels.npy of 36 items, the same classes."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    codes = np.repeat(np.arange(NUM_CLASSES), PER_CLASS)
    x = random.normal(size=(NUM_CLASSES, 4))[codes] + 0.7 * random.normal(size=(len(codes), 4))
    np.save("x.npy", x.astype(np.float32))
    names = [f"{code:03d}" for code in codes]
    rows = [f"{i}.png,{name},{'catalog' if i % 3 == 0 else ''}" for i, name in enumerate(names)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,class,role", *rows]) + "\n")
    (tmp_path / "labels.txt").write_text("\n".join(names) + "\n")
    np.save("labels.npy", codes)
    return tmp_path


def expected(folder, **options):
    x = np.load(folder / "x.npy")
    labels = [f"{code:03d}" for code in np.load(folder / "labels.npy")]
    return json.loads(json.dumps(evaluate_embeddings(x, labels, **options).as_record()))


def test_embeddings_and_a_table(run_cli, folder):
    answer = run_cli("evaluate", "--embeddings", "x.npy", "--labels", "labels.csv", "--json", "--quiet")
    assert (answer.code, answer.err) == (0, [])
    record = json.loads(answer.out)
    roles = np.where(np.arange(36) % 3 == 0, "catalog", "sample")
    found = {name: record.pop(name) for name in ("embeddings", "queries", "num_dimensions", "num_classes")}
    assert found == {"embeddings": "x.npy", "queries": None, "num_dimensions": 4, "num_classes": 12}
    assert record == expected(folder, roles_N=roles)
    assert record["catalog"]["num_gallery"] == 12
    assert record["verification"]["law"] == "all 36 pairs of one class; all 594 of two classes"


def test_what_a_person_sees(run_cli, folder):
    labels = folder / "labels.csv"
    labels.write_text(labels.read_text().replace("\n0.png,000,", "\n0.png,alone,"))
    answer = run_cli(
        "evaluate", "--embeddings", "x.npy", "--labels", "labels.csv", "--out", "new/numbers.json",
        "--per-class", "classes.csv",
    )  # fmt: skip
    assert answer.code == 0
    lines = answer.out.splitlines()
    # The headline counts the queries that count.
    title = " ".join(line.strip() for line in lines[: next(i for i, line in enumerate(lines) if "┏" in line)])
    assert title == "35 queries of 12 classes (1 more has nothing to find), 36 items of 13 classes, all against all"
    header = next(line for line in lines if "┃" in line)
    names = [word.strip() for word in header.strip("┃").split("┃")]
    assert names == ["", "over queries", "95% interval", "by class", "95% interval", "chance"]
    assert any(line.startswith("Of 35 searches, ") for line in lines)
    record = json.loads((folder / "new" / "numbers.json").read_text())
    rows = {cells[0]: cells[1:] for line in lines if (cells := [c.strip() for c in line.strip("│").split("│")])[1:]}
    for name in ("recall@1", "precision@10", "mAP", "MAP@R", "R-precision", "MRR"):
        low, high = record["retrieval"]["intervals"][name]
        value, chance = record["retrieval"][name], record["retrieval"]["chance"][name]
        shown = [f"{value:.3f}", f"{low:.3f} to {high:.3f}"]
        low, high = record["retrieval"]["macro"]["intervals"][name]
        shown += [f"{record['retrieval']['macro'][name]:.3f}", f"{low:.3f} to {high:.3f}", f"{chance:.3f}"]
        # The other row of this name is the curve over the sizes of the gallery, whose last value is the same.
        assert rows[name] == shown or (name == "recall@1" and rows[name][-1] == shown[0])
    verified = record["verification"]
    assert rows["average precision"][0] == f"{verified['curves']['average_precision']:.3f}"
    assert rows["equal error rate"][0] == f"{verified['curves']['equal_error_rate']:.3f}"
    points = verified["intervals"]["operating_points"]
    [point] = [each for each in points if (each["wanted"], each["level"]) == ("precision", 0.95)]
    assert rows["precision 0.95 at distance up to"][0] == f"{point['threshold']:.3f}"
    # 12 classes are too few to say what the threshold does on others, or to be sure of one.
    assert rows["which on other classes has"][:2] == [f"{point['precision']:.3f}", "-"]
    assert (point["reached_interval"], point["safe_threshold"]) == (None, None)
    assert rows["safe on other classes up to"][:2] == ["-", "too few accepted pairs"]
    assert ("best accuracy" in rows) == (verified["best_accuracy"] is not None)
    assert rows["triplets, hard"][0] == f"{record['hard_triplet_accuracy']['accuracy']:.3f}"
    assert rows["catalog accuracy"][0] == f"{record['catalog']['recall@1']:.3f}"
    first = record["confusable"][0]
    assert rows[first["classes"][0]][0] == first["classes"][1]
    assert answer.err == [
        "written: new/numbers.json",
        "written: classes.csv",
    ]


def test_the_table_of_classes(run_cli, folder):
    run_cli("evaluate", "--embeddings", "x.npy", "--labels", "labels.csv", "--per-class", "classes.csv", "--no-pairs")
    report = evaluate_embeddings(np.load("x.npy"), [f"{code:03d}" for code in np.load("labels.npy")])
    with (folder / "classes.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == [each.label for each in report.classes]
    for row, each in zip(rows, report.classes, strict=True):
        assert int(row["queries"]) == each.num_queries == 3
        assert float(row["recall@1"]) == pytest.approx(each.recall_at_1, rel=1e-5)
        assert float(row["average_precision"]) == pytest.approx(each.average_precision, rel=1e-5)
        assert (row["confused_with"], int(row["times"])) == (each.confused_with or "", each.num_confused)
        example = ("", "") if each.example is None else tuple(f"{i}.png" for i in each.example)
        assert (row["query"], row["found"]) == example
    assert {row["confused_with"] != "" for row in rows} == {True, False}
    # Without file names, examples are row numbers.
    run_cli("evaluate", "--embeddings", "x.npy", "--labels", "labels.txt", "--per-class", "classes.csv", "--no-pairs")
    with (folder / "classes.csv").open(newline="", encoding="utf-8") as file:
        numbers = [row["query"] for row in csv.DictReader(file)]
    assert numbers == [row["query"].removesuffix(".png") for row in rows]


def test_all_forms_of_classes_are_the_same(run_cli, folder):
    names = (folder / "labels.txt").read_text().split()
    pq.write_table(pa.table({"label": names, "number": range(36)}), "labels.parquet")
    np.save("names.npy", np.array(names))
    answers = []
    for options in (
        ["--labels", "labels.txt"],
        ["--labels", "names.npy"],
        ["--labels", "labels.parquet"],
        ["--labels", "labels.parquet", "--class-column", "number"],  # every item a class: refused below
        ["--labels", "labels.npy"],
    ):
        answers.append(run_cli("evaluate", "--embeddings", "x.npy", *options, "--json", "--no-pairs"))
    assert [answer.code for answer in answers] == [0, 0, 0, 2, 0]
    text, array, table, numbered, integers = answers
    assert text.out == array.out == table.out
    assert numbered.err == [
        "mohs: labels.parquet: none of the 36 queries has another item of its class to find; check that these are the "
        "classes, or add items"
    ]
    # The names of the integers are others, in another order.
    assert json.loads(integers.out)["retrieval"]["recall@1"] == json.loads(text.out)["retrieval"]["recall@1"]


def test_queries_against_a_gallery(run_cli, folder):
    x, labels = np.load("x.npy"), (folder / "labels.txt").read_text().split()
    np.save("q.npy", x[::3])
    (folder / "q.txt").write_text("\n".join(labels[::3]))
    np.save("g.npy", np.delete(x, np.s_[::3], axis=0))
    del labels[::3]
    (folder / "g.txt").write_text("\n".join(labels))
    options = ["--embeddings", "g.npy", "--labels", "g.txt", "--query-embeddings", "q.npy", "--query-labels", "q.txt"]
    record = json.loads(run_cli("evaluate", *options, "--json", "--no-pairs", "--seed", "2").out)
    assert (record["protocol"], record["queries"]) == ("queries against gallery", "q.npy")
    assert (record["retrieval"]["num_queries"], record["retrieval"]["num_gallery"]) == (12, 24)
    assert (record["triplet_accuracy"], record["catalog"]) == (None, None)
    direct = evaluate_embeddings(
        np.load("g.npy"), labels, query_embeddings_QD=x[::3], query_labels_Q=[f"{i:03d}" for i in range(12)], seed=2
    )
    assert record["retrieval"] == direct.as_record()["retrieval"]
    # Integers and text of the same form are the same class here.
    np.save("g7.npy", np.array(labels, dtype=int))
    (folder / "q7.txt").write_text("\n".join(str(i) for i in range(12)))
    options = ["--embeddings", "g.npy", "--labels", "g7.npy", "--query-embeddings", "q.npy", "--query-labels", "q7.txt"]
    assert run_cli("evaluate", *options, "--no-pairs").code == 0


def broken(folder):
    """Write files that cannot be used."""
    np.savez("two.npz", a=np.eye(2))
    (folder / "text.npy").write_text("0.5,0.25\n")
    whole = (folder / "x.npy").read_bytes()
    (folder / "cut.npy").write_bytes(whole[:-8])
    x = np.load("x.npy")
    x[[3, 7], 1] = np.nan
    np.save("nan.npy", x)
    np.save("narrow.npy", np.zeros((36, 3)))
    np.save("float-labels.npy", x[:, 0])
    (folder / "short.csv").write_text("class\na\nb\n")
    (folder / "other.csv").write_text("name,rolle\na,b\n")
    (folder / "wrong.csv").write_text("class,role\na,sample\n,catalog\nb,catalogue\nc,x\n")
    (folder / "gap.txt").write_text("a\n\nb\n")
    (folder / "latin.txt").write_bytes("müde\n".encode("latin-1"))
    pq.write_table(pa.table({"class": [0.5, 1.0]}), "float.parquet")


COLUMNS = "the columns are 'name', 'rolle'"
PROBLEMS = [
    ("--embeddings x.npy", ["--labels: missing; give the classes of the rows of --embeddings"]),
    (
        "--embeddings x.npy --labels labels.csv --query-labels labels.csv",
        ["--query-embeddings, --query-labels: one without the other; give both or neither"],
    ),
    (
        "runs/a --embeddings x.npy --labels labels.csv --data shop",
        ["RUN: runs/a with --embeddings; leave it out", "--data: shop with --embeddings; leave it out"],
    ),
    (
        "runs/a --labels labels.csv --seed 3",
        [
            "--labels: labels.csv needs --embeddings; give it, or leave this out",
            "--seed: 3 needs --embeddings; give it, or leave this out",
        ],
    ),
    ("runs/a --no-pairs", ["--no-pairs: needs --embeddings; leave it out for a run, whose report shows its pairs"]),
    (
        "--embeddings none.npy --labels labels.csv",
        ["none.npy: no such file; check the path"],
    ),
    (
        "--embeddings x.npy --labels none.csv",
        ["none.csv: no such file; check the path"],
    ),
    (
        "--embeddings two.npz --labels labels.csv",
        ["two.npz: an archive, perhaps of several arrays; write the one of numbers with numpy.save"],
    ),
    ("--embeddings text.npy --labels labels.csv", ["text.npy: not a .npy file; write the numbers with numpy.save"]),
    (
        "--embeddings nan.npy --labels labels.csv",
        [
            "nan.npy: row 3 holds NaN, Inf or is longer than 1e+18 (2 of 36 rows do); every embedding must be finite",
        ],
    ),
    (
        "--embeddings labels.npy --labels labels.csv",
        [
            "labels.npy: shape (36,) and type int64 are not a table of numbers; give at least one row and one column, "
            "[items, dimensions]"
        ],
    ),
    (
        "--embeddings x.npy --labels short.csv",
        ["--labels: short.csv has 2 classes for the 36 rows of x.npy; give one for each row, in the same order"],
    ),
    (
        "--embeddings x.npy --labels other.csv --file-column rolle",
        [f"other.csv: no column 'class'; {COLUMNS}; name the right one with --class-column"],
    ),
    (
        "--embeddings x.npy --labels other.csv --class-column name --file-column bild",
        [f"other.csv: no column 'bild'; {COLUMNS}; name the right one with --file-column"],
    ),
    (
        "--embeddings x.npy --labels wrong.csv",
        [
            "wrong.csv: row 3: column 'class' is empty; name the class, or remove the row and its embedding",
            "wrong.csv: row 4: role 'catalogue' is not 'sample' or 'catalog'; change it",
            "wrong.csv: row 5: role 'x' is not 'sample' or 'catalog'; change it",
        ],
    ),
    (
        "--embeddings x.npy --labels gap.txt",
        ["gap.txt: line 2: is empty; name the class, or remove the line and its embedding"],
    ),
    (
        "--embeddings x.npy --labels latin.txt",
        ["latin.txt: not UTF-8 text (invalid start byte); save it as UTF-8"],
    ),
    (
        "--embeddings x.npy --labels labels.txt --class-column name",
        ["labels.txt: has no columns; leave out --class-column and --file-column, or give a table"],
    ),
    (
        "--embeddings x.npy --labels float-labels.npy",
        ["float-labels.npy: float32 of shape (36,) cannot be classes; give integers or text, one for each row"],
    ),
    (
        "--embeddings x.npy --labels float.parquet",
        ["float.parquet: column 'class' holds neither text nor integers; store it as text"],
    ),
    (
        "--embeddings x.npy --labels labels.csv --query-embeddings narrow.npy --query-labels labels.csv",
        ["narrow.npy: 3 dimensions, and x.npy has 4; use embeddings of one model for both"],
    ),
    ("--embeddings x.npy --labels labels.csv --out .", ["--out: . is a folder; name a file in it"]),
    (
        "--embeddings x.npy --labels labels.csv --per-class x.npy/c.csv",
        ["--per-class: x.npy/c.csv cannot be written, because x.npy is a file; name another place"],
    ),
    (
        "--embeddings x.npy --labels labels.csv --seed -1",
        ["--seed: -1 is below 0; use for example --seed 0"],
    ),
]


@pytest.mark.parametrize(("line", "messages"), PROBLEMS, ids=lambda value: str(value)[:60])
def test_messages(run_cli, folder, line, messages):
    broken(folder)
    before = sorted(folder.iterdir())
    answer = run_cli("evaluate", *line.split())
    assert (answer.code, answer.out, answer.err) == (2, "", [f"mohs: {message}" for message in messages])
    assert sorted(folder.iterdir()) == before


def test_a_file_that_was_cut_off(run_cli, folder):
    broken(folder)
    answer = run_cli("evaluate", "--embeddings", "cut.npy", "--labels", "labels.csv")
    assert (answer.code, len(answer.err)) == (2, 1)
    assert answer.err[0].startswith("mohs: cut.npy: cannot be read (")
    assert answer.err[0].endswith("); write the numbers with numpy.save again")


def test_notes_on_copies_and_failed_pictures(run_cli, folder):
    x = np.load("x.npy")
    np.save("queries.npy", x[5:20].astype(np.float16))
    (folder / "queries.csv").write_text("class\n" + "".join(f"{i // 3:03d}\n" for i in range(5, 20)))
    line = ("evaluate", "--embeddings", "x.npy", "--labels", "labels.csv", "--no-pairs", "--quiet")
    answer = run_cli(*line, "--query-embeddings", "queries.npy", "--query-labels", "queries.csv")
    assert answer.code == 0
    (note,) = answer.err
    assert note.startswith("note: 15 of 15 queries are rows of the gallery, but for rounding: each finds itself. ")
    x[::4] = 0
    np.save("x.npy", x)
    (note,) = run_cli(*line).err
    assert note.startswith("note: 9 of 36 rows hold nothing: 9 are all zero, 0 share one vector over three classes or")
