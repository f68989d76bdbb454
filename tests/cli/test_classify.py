import csv
import json
import shutil

import numpy as np
import pytest

import mohs
from mohs.classify.classifier import Classifier
from mohs.cli import main
from mohs.sums import read_summed, write_summed

SMALL = ["--size", "16", "--triplets", "24", "--batch", "8", "--set", "model.widths=[8, 8]", "--set", "data.channels=1"]
QUICK = ["--epochs", "5", "--learning-rate", "0.05"]
ROUGH = (
    "warning: calibrated on {} pictures only: the probabilities are rough; calibrated by heads that had 1 of 2 "
    "pictures of most classes: answers are right more often than their probability, and a threshold may accept more "
    "than was asked for; give held-out pictures"
)


def run(*arguments):
    with pytest.raises(SystemExit) as stop:
        main([*map(str, arguments), "--quiet"])
    assert stop.value.code == 0


@pytest.fixture(scope="module")
def item_run(picture_set, tmp_path_factory):
    """A run whose test is on seen classes: 24 training pictures of 12 classes, 12 test pictures; not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "item"
    run("train", picture_set / "images.csv", "--out", folder, "--split-by", "item", "--test-fraction", "0.34", *SMALL)
    return folder


@pytest.fixture(scope="module")
def class_run(picture_set, tmp_path_factory):
    """A run on 7 classes whose test is on the 5 others, 4 pictures each; not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "class"
    run("train", picture_set, "--out", folder, "--test-fraction", "0.4", *SMALL)
    return folder


@pytest.fixture(scope="module")
def classifier(item_run, tmp_path_factory):
    """A linear classifier on the training items of `item_run`; not to be changed."""
    folder = tmp_path_factory.mktemp("classifiers") / "linear"
    run("classify", "fit", item_run, "--out", folder, "--min-probability", "0.01", *QUICK)
    return folder


def test_fit_says_what_it_did(run_cli, item_run, tmp_path):
    answer = run_cli("classify", "fit", item_run, "--out", tmp_path / "c", *QUICK)
    assert (answer.code, answer.out) == (0, "")
    assert answer.err[:2] == ["pictures: 24 read = 24 used + 0 set aside", ROUGH.format(24)]
    assert answer.err[2].startswith("linear on 24 pictures of 12 classes: read ")
    assert answer.err[3].startswith("calibrated by cross-validation on 24 pictures: temperature ")
    assert answer.err[4:] == [f"classifier: {tmp_path}/c"]
    assert {path.name for path in (tmp_path / "c").iterdir()} == {
        "classifier.json",
        "classifier.safetensors",
        "embedder",
    }


def test_fit_as_json_and_it_is_the_library_s(run_cli, item_run, picture_set, tmp_path):
    flags = ["--method", "nearest-neighbours", "--neighbours", "3", "--min-similarity", "0.5", "--seed", "4"]
    answer = run_cli("classify", "fit", item_run, "--out", tmp_path / "c", *flags, "--json")
    record = json.loads(answer.out)
    assert (answer.code, answer.err) == (0, [ROUGH.format(24)])
    assert (record["method"], record["min_similarity"], record["min_probability"]) == ("nearest-neighbours", 0.5, None)
    assert (record["num_pictures"], record["num_classes"], record["threshold"]) == (24, 12, None)
    assert record["run"] == str(item_run.resolve())
    table = mohs.read_table(item_run / "items.csv")
    train = np.flatnonzero(table.splits == "train")
    embedder = mohs.Run.open(item_run).embedder()
    expected = mohs.Classifier(embedder, method="nearest-neighbours", num_neighbours=3, seed=4)
    expected.fit([table.path(i) for i in train], table.labels[train])
    pictures = [table.path(i) for i in range(len(table))]
    found = Classifier.load(tmp_path / "c")
    assert found.predict_proba(pictures) == pytest.approx(expected.predict_proba(pictures), abs=1e-5)
    assert record["embedder_sha256"] == expected.embedder_sha256_
    assert (found.num_neighbours, found.min_similarity, found.seed) == (3, 0.5, 4)


def test_the_folder_is_used_on_its_own(run_cli, item_run, picture_set, tmp_path):
    shutil.copytree(item_run, tmp_path / "run")
    run("classify", "fit", tmp_path / "run", "--out", tmp_path / "c", "--method", "nearest-catalog")
    shutil.rmtree(tmp_path / "run")
    shutil.move(tmp_path / "c", tmp_path / "elsewhere")
    answer = run_cli("classify", "predict", tmp_path / "elsewhere", picture_set / "img" / "003-0.png", "--json")
    [picture] = json.loads(answer.out)["pictures"]
    assert picture["predicted"] == "003"


def test_predict(run_cli, classifier, picture_set):
    files = [picture_set / "img" / name for name in ("000-0.png", "005-1.png")]
    answer = run_cli("classify", "predict", classifier, *files, "--top", "3", "--json")
    assert (answer.code, answer.err) == (0, [ROUGH.format(24)])
    record = json.loads(answer.out)
    assert record["calibration_warning"] == ROUGH.format(24).removeprefix("warning: ")
    loaded = Classifier.load(classifier)
    proba = loaded.predict_proba(files)
    for picture, file, row in zip(record["pictures"], files, proba, strict=True):
        assert picture["file"] == str(file)
        best = np.argsort(-row)[:3]
        assert [each["class"] for each in picture["top"]] == loaded.classes_[best].tolist()
        assert [each["probability"] for each in picture["top"]] == pytest.approx(row[best].tolist(), abs=1e-5)
        assert picture["predicted"] == picture["top"][0]["class"]
        assert picture["confidence"] == picture["top"][0]["probability"]
    answer = run_cli("classify", "predict", classifier, *files, "--top", "2", "--csv")
    rows = list(csv.DictReader(answer.out.splitlines()))
    assert [row["rank"] for row in rows] == ["1", "2", "1", "2"]
    assert [row["class"] for row in rows] == [each["class"] for p in record["pictures"] for each in p["top"][:2]]
    assert {row["file"] for row in rows} == set(map(str, files))
    answer = run_cli("classify", "predict", classifier, *files)
    assert answer.out.startswith("2 pictures")
    assert record["pictures"][0]["predicted"] in answer.out
    # More than there are gives all.
    answer = run_cli("classify", "predict", classifier, files[0], "--top", "100", "--json")
    assert len(json.loads(answer.out)["pictures"][0]["top"]) == 12


def test_predict_none_of_these(run_cli, item_run, picture_set, tmp_path):
    run("classify", "fit", item_run, "--out", tmp_path / "c", *QUICK, "--min-probability", "1")
    answer = run_cli("classify", "predict", tmp_path / "c", picture_set / "img" / "000-0.png", "--csv")
    assert {row["predicted"] for row in csv.DictReader(answer.out.splitlines())} == {"none of these"}


def test_evaluate_on_the_run_s_test_items(run_cli, classifier, item_run):
    answer = run_cli("classify", "evaluate", classifier, "--json")
    found = json.loads(answer.out)
    assert (answer.code, answer.err) == (0, [ROUGH.format(24)])
    assert (found["num_pictures"], found["num_unknown"], found["num_classes"]) == (12, 0, 12)
    table = mohs.read_table(item_run / "items.csv")
    test = np.flatnonzero(table.splits == "test")
    right = Classifier.load(classifier).set_params(min_probability=None)
    assert found["accuracy"] == right.score([table.path(i) for i in test], table.labels[test])
    assert found["at_threshold"]["threshold"] == 0.01
    assert len(found["per_class"]) == 12
    assert len(found["reliability"]) == 15
    answer = run_cli("classify", "evaluate", classifier)
    assert answer.out.startswith("12 pictures, 12 classes")
    for words in ("accuracy of accepted", "reliability", "the 10 worst of 12 classes (--json has all)"):
        assert words in answer.out


def test_evaluate_on_other_pictures(run_cli, item_run, classifier, picture_set, tmp_path):
    answer = run_cli("classify", "evaluate", classifier, picture_set, "--json")
    assert json.loads(answer.out)["num_pictures"] == 36  # the 12 catalog pictures are no queries
    run(
        "classify", "fit", item_run, picture_set / "catalog.csv", "--out", tmp_path / "c", "--method", "nearest-catalog"
    )
    answer = run_cli("classify", "evaluate", tmp_path / "c", picture_set / "images.csv", "--json")
    found = json.loads(answer.out)
    assert found["calibration_warning"].startswith("not calibrated: every class has one picture, so none can be held ")
    assert answer.err == [f"warning: {found['calibration_warning']}"]
    assert run_cli("classify", "evaluate", tmp_path / "c").err == [
        f"mohs: SOURCE: missing; {tmp_path}/c was fitted on {picture_set / 'catalog.csv'}: give pictures that are not "
        "among them"
    ]
    answer = run_cli("classify", "evaluate", tmp_path / "c", picture_set / "catalog.csv", "--json")
    assert json.loads(answer.out)["accuracy"] == 1.0
    assert answer.err[0] == "warning: the classifier was fitted on these pictures; the numbers are too good"
    roles = tmp_path / "catalog.csv"
    roles.write_text(f"file,class,role\n{picture_set}/img/000-3.png,000,catalog\n")
    assert run_cli("classify", "evaluate", tmp_path / "c", roles).err == [
        f"mohs: {roles}: catalog pictures only; add pictures to classify"
    ]


def test_evaluate_counts_pictures_of_unknown_classes(run_cli, class_run, picture_set, tmp_path):
    run("classify", "fit", class_run, "--out", tmp_path / "c", "--method", "nearest-catalog", "--min-similarity", "0.5")
    answer = run_cli("classify", "evaluate", tmp_path / "c", picture_set, "--json")
    found = json.loads(answer.out)
    assert (found["num_pictures"], found["num_unknown"]) == (21, 15)
    assert 0 <= found["at_threshold"]["false_acceptance"] <= 1
    assert (
        answer.err[0] == "15 pictures are of classes that the classifier does not know: they count in 'accepted' alone"
    )


def test_a_threshold_from_the_run_s_unseen_classes(run_cli, class_run, tmp_path):
    flags = ["--method", "nearest-catalog", "--max-false-acceptance", "0.1"]
    answer = run_cli("classify", "fit", class_run, "--out", tmp_path / "c", *flags, "--json")
    record = json.loads(answer.out)
    # The training classes have a catalog picture each; the 21 others calibrate.
    assert record["calibration"]["source"] == "held-out pictures"
    threshold = record["threshold"]
    assert (threshold["num_known"], threshold["num_unseen"]) == (21, 20)
    assert threshold["false_acceptance"] <= 0.1
    assert record["min_similarity"] == threshold["value"] == Classifier.load(tmp_path / "c").min_similarity
    assert run_cli("classify", "evaluate", tmp_path / "c").err == [
        f"mohs: SOURCE: missing; no test class of {class_run.resolve()} is known to the classifier (it was split by "
        "class): give SOURCE, or train with --split-by item"
    ]
    answer = run_cli("classify", "fit", class_run, "--out", tmp_path / "d", *flags)
    assert answer.err[-2].startswith(f"'none of these' below {threshold['value']:.4g}: coverage ")
    assert answer.err[-2].endswith("(on 21 pictures of known and 20 of unseen classes)")


def test_an_embedder_folder_will_do(run_cli, item_run, picture_set, tmp_path):
    embedder = item_run / "embedder"
    answer = run_cli("classify", "fit", embedder, picture_set, "--out", tmp_path / "c", *QUICK, "--json")
    assert (json.loads(answer.out)["run"], json.loads(answer.out)["num_pictures"]) == (None, 48)
    assert run_cli("classify", "fit", embedder, "--out", tmp_path / "d").err == [
        f"mohs: SOURCE: missing; {embedder} is an embedder without pictures of its own"
    ]


def test_held_out_pictures_calibrate(run_cli, item_run, picture_set, tmp_path):
    flags = ["--method", "nearest-catalog", "--held-out", picture_set / "images.csv", "--json"]
    answer = run_cli("classify", "fit", item_run, picture_set / "catalog.csv", "--out", tmp_path / "c", *flags)
    calibration = json.loads(answer.out)["calibration"]
    assert (calibration["source"], calibration["num_pictures"]) == ("held-out pictures", 36)


def test_bad_input_is_one_line_and_leaves_nothing(run_cli, item_run, class_run, picture_set, tmp_path):
    (tmp_path / "there").mkdir()
    one = tmp_path / "one.csv"
    one.write_text(f"file,class\n{picture_set}/img/000-0.png,a\n")
    other = tmp_path / "other.csv"
    other.write_text(f"file,class\n{picture_set}/img/000-0.png,y\n{picture_set}/img/001-0.png,z\n")
    some = tmp_path / "some.csv"  # one class of the catalog: without any, that is told first
    some.write_text(f"{other.read_text()}{picture_set}/img/002-0.png,002\n")
    cases = [
        (
            [tmp_path],
            f"RUN: {tmp_path}: neither a finished run nor an embedder folder (no embedder.json); give one made "
            "by 'mohs train'",
        ),
        (
            [item_run, "--out", tmp_path / "there"],
            f"--out: {tmp_path}/there exists already; name another folder, or remove it",
        ),
        ([item_run, "--dropout", "1"], "--dropout: 1.0 is not a number in [0, 1); use for example 0.5"),
        ([item_run, "--epochs", "0"], "--epochs: 0 is not a whole number of at least 1; use for example 50"),
        ([item_run, "--neighbours", "0"], "--neighbours: 0 is not a whole number of at least 1; use for example 5"),
        ([item_run, "--seed", "-1"], "--seed: -1 is not an integer in [0, 2**63); use for example seed=0"),
        (
            [item_run, "--method", "svm"],
            "--method: 'svm' is not one of 'linear', 'nearest-neighbours', 'nearest-catalog'",
        ),
        ([item_run, "--min-precision", "2"], "--min-precision: 2.0 is not a number in (0, 1]; use for example 0.95"),
        (
            [item_run, "--min-precision", "0.5", "--min-probability", "0.5"],
            "--min-probability, --min-precision: both given; give the threshold or what it is to keep",
        ),
        (
            [item_run, "--unseen", one],
            "--unseen: needs --max-false-acceptance or --min-precision, for which it is used",
        ),
        (
            [item_run, "--max-false-acceptance", "0.1", *QUICK],
            "--max-false-acceptance: needs pictures of classes that are not fitted; give them with --unseen",
        ),
        (
            [item_run, "--max-false-acceptance", "0.1", "--unseen", picture_set, *QUICK],
            "--unseen: 12 of its classes are fitted, for example '000'; leave their pictures out",
        ),
        ([item_run, "--catalog", one], "--catalog: needs SOURCE; a run uses its own data"),
        (
            [item_run, "--class-column", "x"],
            "--file-column, --class-column, --multi-label, --max-bad: need SOURCE, --held-out or --unseen",
        ),
        ([item_run, one], f"{one}: 1 class ('a'); similarity learning needs at least 2; add pictures of other classes"),
        (
            [item_run, tmp_path / "none.csv"],
            f"{tmp_path}/none.csv: no such file or folder; give a CSV or Parquet table, or a folder with one per class",
        ),
        (
            [item_run, "--held-out", other, *QUICK],
            "--held-out: 2 classes that were not fitted ('y', 'z'); leave their pictures out",
        ),
        (
            [item_run, some, "--catalog", picture_set / "catalog.csv", "--method", "nearest-catalog"],
            "--catalog: 2 of "
            "14 classes have no catalog picture ('y', 'z'); add one for each, or use the method 'nearest-neighbours'",
        ),
    ]
    for flags, line in cases:
        place = [] if "--out" in flags else ["--out", tmp_path / "deep" / "c"]
        answer = run_cli("classify", "fit", *flags, *place)
        assert (answer.code, answer.out, answer.err) == (2, "", [f"mohs: {line}"]), flags
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.csv", "other.csv", "some.csv", "there"]


def test_files_that_cannot_be_read_are_named_beside_the_answers(run_cli, classifier, picture_set, tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    good = picture_set / "img" / "000-0.png"
    answer = run_cli(
        "classify", "predict", classifier, good, tmp_path / "a.png", tmp_path / "b.png", tmp_path, "--json"
    )
    assert (answer.code, [each["file"] for each in json.loads(answer.out)["pictures"]]) == (3, [str(good)])
    lines = [line for line in answer.err if line.startswith("mohs: ")]
    assert lines[:2] == [
        f"mohs: {tmp_path}/a.png: not a picture of a known format; replace the file, or leave it out",
        f"mohs: {tmp_path}/b.png: no such file; replace the file, or leave it out",
    ]
    assert lines[2].startswith(f"mohs: {tmp_path}: ")
    answer = run_cli("classify", "predict", classifier, tmp_path / "b.png")
    assert (answer.code, answer.out, len(answer.err)) == (3, "", 1)


def test_bad_input_to_predict_and_evaluate(run_cli, classifier, item_run, picture_set, tmp_path):
    other = tmp_path / "other.csv"
    other.write_text(f"file,class\n{picture_set}/img/000-0.png,y\n{picture_set}/img/001-0.png,z\n")
    good = picture_set / "img" / "000-0.png"
    cases = [
        (
            ["predict", item_run, good],
            [f"{item_run}: not a classifier (no classifier.json); give a folder made by 'mohs classify fit'"],
        ),
        (["predict", classifier, good, "--top", "0"], ["--top: 0 is below 1; use for example --top 5"]),
        (["predict", classifier, good, "--json", "--csv"], ["--json, --csv: both given; use one of them"]),
        (
            ["evaluate", classifier, other],
            [
                f"{other}: none of the 2 classes is one of the 12 that the classifier knows; "
                "give pictures of those classes"
            ],
        ),
        (
            ["evaluate", classifier, "--catalog", other],
            [
                "--catalog, --file-column, --class-column, --multi-label, --max-bad: need SOURCE; "
                "a run uses its own data"
            ],
        ),
    ]
    for arguments, lines in cases:
        answer = run_cli("classify", *arguments)
        read = (
            ["pictures: 2 read = 2 used + 0 set aside"] if other in arguments and "--catalog" not in arguments else []
        )
        assert (answer.code, answer.out, answer.err) == (2, "", [*read, *(f"mohs: {line}" for line in lines)])
    assert run_cli("classify").err == ["mohs classify: Missing command; see 'mohs classify --help'"]
    assert run_cli("classify", "predict", classifier).err == [
        "mohs classify predict: Missing argument 'pictures'; see 'mohs classify predict --help'"
    ]
    assert run_cli("classify", "fit", item_run).err == [
        "mohs classify fit: Missing option '--out'; see 'mohs classify fit --help'"
    ]


def test_another_embedder_is_refused(run_cli, classifier, class_run, picture_set, tmp_path):
    shutil.copytree(classifier, tmp_path / "c")
    shutil.rmtree(tmp_path / "c" / "embedder")
    shutil.copytree(class_run / "embedder", tmp_path / "c" / "embedder")
    answer = run_cli("classify", "predict", tmp_path / "c", picture_set / "img" / "000-0.png")
    assert (answer.code, answer.out, len(answer.err)) == (2, "", 1)
    assert answer.err[0].startswith(
        f"mohs: {tmp_path}/c/embedder: not the embedder that the classifier was fitted on (SHA-256 of the weights "
    )


def test_other_items_than_the_run_s_are_refused(run_cli, item_run, tmp_path):
    shutil.copytree(item_run, tmp_path / "run")
    facts = read_summed(tmp_path / "run" / "run.json")
    write_summed(tmp_path / "run" / "run.json", facts | {"data_fingerprint": "0" * 32})
    answer = run_cli("classify", "fit", tmp_path / "run", "--out", tmp_path / "c")
    assert (answer.code, len(answer.err)) == (2, 1)
    assert (
        f": not the items that {tmp_path}/run was trained and split on (see its items.csv); restore " in answer.err[0]
    )


def test_training_that_breaks_is_exit_code_5(run_cli, item_run, tmp_path):
    flags = ["--learning-rate", "1e6", "--weight-decay", "1e6"]
    answer = run_cli("classify", "fit", item_run, "--out", tmp_path / "c", *flags)
    assert (answer.code, answer.out, len(answer.err)) == (5, "", 1)
    assert answer.err[0].startswith("mohs: classifier: the loss is ")
    assert list(tmp_path.iterdir()) == []


def test_pictures_of_several_classes_are_what_multi_label_says(run_cli, item_run, picture_set, tmp_path):
    table = tmp_path / "t.csv"
    rows = [f"{picture_set}/{row}" for row in (picture_set / "images.csv").read_text().splitlines()[1:]]
    twice = f"{rows[0].rpartition(',')[0]},{rows[-1].rpartition(',')[2]}"
    table.write_text("\n".join(["file,class", *rows, twice]) + "\n")
    command = ["classify", "fit", item_run, table, *QUICK, "--quiet", "--out"]
    assert run_cli(*command, tmp_path / "none").code == 2
    answer = run_cli(*command, tmp_path / "c", "--multi-label", "first")
    assert answer.code == 0, answer.err
    measured = run_cli("classify", "evaluate", tmp_path / "c", table, "--multi-label", "drop", "--json")
    assert measured.code == 0, measured.err
    assert json.loads(measured.out)["num_pictures"] == len(rows) - 1
    for refused in (["fit", item_run, table, "--out", tmp_path / "d"], ["evaluate", tmp_path / "c", table]):
        assert run_cli("classify", *refused, "--multi-label", "all").err == [
            "mohs: --multi-label: 'all' is not one of 'error', 'first', 'drop', 'merge'; change it"
        ]
