import json

from PIL import Image


def test_what_is_there(run_cli, picture_set):
    answer = run_cli("check", picture_set)
    assert (answer.code, answer.out) == (0, "")
    assert answer.err == [
        "pictures: 48 read = 48 used + 0 set aside",
        "36 samples and 12 catalog pictures of 12 classes",
        "pictures of a class: 4 to 4, median 4; 0 classes have one",
    ]


def test_json_alone_is_on_stdout(run_cli, picture_set):
    answer = run_cli("check", picture_set / "images.csv", "--json")
    found = json.loads(answer.out)
    assert (answer.code, answer.err) == (0, [])
    assert (found["num_samples"], found["num_catalog"], found["num_classes"]) == (36, 0, 12)
    assert (found["problems"], found["warnings"]) == ([], [])


def test_problems_are_in_the_json_and_on_stderr(run_cli, own_picture_set):
    (own_picture_set / "img/003-0.png").unlink()
    answer = run_cli("check", own_picture_set, "--json")
    place = f"{own_picture_set}/images.csv: row 11: 'img/003-0.png'"
    assert answer.code == 2
    (problem,) = json.loads(answer.out)["problems"]
    assert problem.startswith(f"{place}: ")
    assert answer.err == [f"mohs: {problem}"]


def test_a_truncated_picture(run_cli, own_picture_set):
    path = own_picture_set / "img/000-1.png"
    path.write_bytes(path.read_bytes()[:60])
    answer = run_cli("check", own_picture_set)
    assert answer.code == 2
    assert answer.err[-1].startswith(f"mohs: {own_picture_set}/images.csv: row 3: 'img/000-1.png': ")
    assert answer.err[-1].endswith("; replace the file or remove the row")


def test_one_class(run_cli, tmp_path):
    (tmp_path / "set" / "only").mkdir(parents=True)
    Image.new("L", (9, 9), 77).save(tmp_path / "set" / "only" / "a.png")
    answer = run_cli("check", tmp_path / "set")
    assert answer.code == 2
    assert answer.err[-1] == (
        f"mohs: {tmp_path / 'set'}: 1 class; similarity learning needs at least 2; add other classes"
    )


def test_tables_that_cannot_be_read(run_cli, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "header.csv").write_text("file,class\n")
    (tmp_path / "names.csv").write_text("name,kind\na.png,1\n")
    (tmp_path / "nothing.csv").write_text("")
    lines = {
        "none.csv": "no such file or folder; give a CSV or Parquet table, or a folder with one per class",
        "empty": "no pictures (jpg, png, webp, tif and others); put those of each class in a sub-folder named after it",
        "header.csv": "no items; add a row for each picture",
        "nothing.csv": "empty file; write a header with 'file,class' and a row for each picture",
    }
    for name, line in lines.items():
        answer = run_cli("check", tmp_path / name)
        assert (answer.code, answer.out, answer.err) == (2, "", [f"mohs: {tmp_path / name}: {line}"])
    answer = run_cli("check", tmp_path / "names.csv", "--file-column", "name", "--class-column", "label")
    assert answer.err == [
        f"mohs: {tmp_path / 'names.csv'}: no column 'label'; the columns are 'name', 'kind'; "
        "name the right one with --class-column"
    ]


def test_the_built_in_set_has_no_files(run_cli):
    answer = run_cli("check", "glyphs")
    assert answer.code == 2
    assert answer.err == [
        "mohs: SOURCE: 'glyphs' has no files to check; write them with 'mohs glyphs FOLDER' and check FOLDER"
    ]


def test_glyphs_are_written_and_pass_the_check(run_cli, tmp_path):
    answer = run_cli("glyphs", tmp_path / "glyphs", "--size", "16", "--classes", "20", "--json")
    assert answer.code == 0
    assert json.loads(answer.out) == {
        "table": f"{tmp_path}/glyphs/images.csv",
        "catalog": f"{tmp_path}/glyphs/catalog.csv",
    }
    found = json.loads(run_cli("check", tmp_path / "glyphs", "--json").out)
    assert (found["num_classes"], found["num_catalog"], found["problems"]) == (20, 20, [])
    answer = run_cli("glyphs", tmp_path / "glyphs")
    assert (answer.code, answer.err) == (2, [f"mohs: {tmp_path}/glyphs: not an empty folder; name a new one"])


def test_glyphs_of_wrong_numbers_or_places_write_nothing(run_cli, tmp_path):
    (tmp_path / "file").touch()
    cases = {
        ("new", "--size", "4"): "size: 4 is not a whole number in [8, 2048]; use for example 64 (pixels)",
        ("new", "--classes", "1"): "--classes: 1 is below 2; leave it out for all of them",
        ("file/new",): f"FOLDER: {tmp_path}/file/new cannot be written, because {tmp_path}/file is a file; "
        "name another place",
    }
    for (name, *flags), line in cases.items():
        answer = run_cli("glyphs", tmp_path / name, *flags)
        assert (answer.code, answer.out, answer.err) == (2, "", [f"mohs: {line}"])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
