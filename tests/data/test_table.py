from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mohs.data.images import ImagePolicy, decode_images
from mohs.data.reading import read_table
from mohs.data.table import Table, concatenate, require_classes, write_table
from mohs.errors import DataWarning, InputError


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def problems_of(source: Path, **options: str) -> tuple[str, ...]:
    with pytest.raises(InputError) as caught:
        read_table(source, **options)
    return caught.value.problems


def test_labels_stay_as_written(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "file,class\na,007\nb,NA\nc,1.0\nd,true\ne,2024-01-01\nf,null\ng,nan\nh, x\n")
    table = read_table(path)
    assert table.labels.tolist() == ["007", "NA", "1.0", "true", "2024-01-01", "null", "nan", " x"]
    assert table.files == tuple("abcdefgh")
    assert set(table.roles.tolist()) == {"sample"}
    assert set(table.splits.tolist()) == {""}
    assert table.path(0) == tmp_path / "a"
    assert table.num_classes == len(table) == 8


def test_bom_quotes_crlf_and_blank_lines(tmp_path: Path) -> None:
    text = '\ufefffile,class,note\r\n"a,1.png","x ""y""",\r\n\r\nb.png,ß,"two\r\nlines"\r\n,z,\r\n'
    path = write(tmp_path / "t.csv", text)
    # The blank line is row 3 and counts.
    assert problems_of(path) == (f"{path}: row 5: column 'file' is empty; name a picture or remove the row",)
    table = read_table(write(path, text.replace(",z,\r\n", "")))
    assert table.files == ("a,1.png", "b.png")
    assert table.labels.tolist() == ['x "y"', "ß"]
    assert table.place(1) == f"{path}: row 4: 'b.png'"


def test_all_problems_are_reported_together(tmp_path: Path) -> None:
    path = write(
        tmp_path / "t.csv",
        "file,class,role,split\na,x,sample,train\n,x,,\nb,,,\nc,y,query,\nd,y,,val\n./a,y,,\nb,z,catalog,test\na,x,,\n",
    )
    assert problems_of(path) == (
        f"{path}: row 3: column 'file' is empty; name a picture or remove the row",
        f"{path}: row 4: column 'class' is empty; name the class or remove the row",
        f"{path}: row 5: role 'query' is not 'sample' or 'catalog'; change it",
        f"{path}: row 6: split 'val' is not 'train', 'validation' or 'test'; change it",
        f"{path}: row 7: file './a' is in row 2 with class 'x' (here 'y'); keep one of them, or choose with "
        "--multi-label",
        f"{path}: row 8: file 'b' is in row 4 with class '' (here 'z'); keep one of them, or choose with --multi-label",
        f"{path}: row 9: file 'a' is in row 2 too; keep one of them",
    )


def test_long_lists_of_problems_are_cut(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "file,class\n" + "a,\n" * 30)
    problems = problems_of(path)
    assert len(problems) == 21
    assert problems[-1] == "... and 39 more"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty file; write a header with 'file,class' and a row for each picture"),
        ("file,class\n", "no items; add a row for each picture"),
        ("file;class\na;b;c\n", "row 2: 3 cells for 2 columns; correct the row"),
        ("img,class\na,b\n", "no column 'file'; the columns are 'img', 'class'; name the right one with --file-column"),
        ("file,class\na,b,c\n", "row 2: 3 cells for 2 columns; put cells that hold commas in double quotes"),
        ("file,class,file\na,b,c\n", "column 'file' appears 2 times; rename or remove one"),
        ('file,class\n"a,b\n', "row 2: not CSV (unexpected end of data); check quotes and line ends"),
        (b"file,class\n\xff,b\n", "row 2: byte 0xFF ('ÿ' in Latin-1) is not UTF-8 text; save the table as CSV UTF-8"),
    ],
)
def test_broken_files(tmp_path: Path, text: str | bytes, problem: str) -> None:
    path = write(tmp_path / "t.csv", text)
    assert problems_of(path) == (f"{path}: {problem}",)


def test_missing_source(tmp_path: Path) -> None:
    path = tmp_path / "none.csv"
    assert problems_of(path) == (
        f"{path}: no such file or folder; give a CSV or Parquet table, or a folder with one per class",
    )


def test_other_column_names(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "img,id\na,1\n")
    assert read_table(path, file_column="img", class_column="id").labels.tolist() == ["1"]
    assert len(problems_of(path)) == 2


def test_open_metric_learning_table(tmp_path: Path) -> None:
    path = write(tmp_path / "df.csv", "label,path,split,is_query,is_gallery\n3,a,train,,\n4,b,validation,True,False\n")
    table = read_table(path)
    assert (table.files, table.labels.tolist(), table.splits.tolist()) == (
        ("a", "b"),
        ["3", "4"],
        ["train", "validation"],
    )
    # `path` is only taken when neither of the usual columns is there.
    assert "no column 'file'" in problems_of(write(path, "class,path,label\n1,a,2\n"))[0]


CAFE, DECOMPOSED = "Caf\u00e9", "Cafe\u0301"


def test_classes_that_look_the_same_are_said_in_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", f"file,class\na,{CAFE}\nb,{DECOMPOSED}\nc,Ring\nd,ring \ne,x\n")
    with pytest.warns(DataWarning) as said:
        table = read_table(path)
    assert table.num_classes == 5  # said, and nothing joined
    assert [str(each.message) for each in said] == [
        f"{path}: 4 classes look like 2: 'Cafe\\u0301' and 'Caf\\xe9' (accents composed or not), 'Ring' and 'ring ' "
        "(spaces, capitals); write each of them one way if they are one"
    ]


def test_class_folders_and_groups_that_look_the_same(tmp_path: Path) -> None:
    for label in (CAFE, DECOMPOSED):
        (tmp_path / label).mkdir()
        write(tmp_path / label / "x.png", "")
    with pytest.warns(DataWarning, match="2 classes look like 1"):
        assert read_table(tmp_path).num_classes == 2
    path = write(tmp_path / "t.csv", "file,class,group\na,x,Day 1\nb,y,day 1\nc,z,\nd,z, \n")
    with pytest.warns(DataWarning, match=r"2 groups look like 1: 'Day 1' and 'day 1' \(capitals\)"):
        table = read_table(path)
    assert table.groups is not None
    assert table.groups.tolist() == ["Day 1", "day 1", "", ""]


@pytest.mark.parametrize(("listed", "on_disk"), [(CAFE, DECOMPOSED), (DECOMPOSED, CAFE)])
def test_files_whose_accents_are_composed_otherwise_are_found(tmp_path: Path, listed: str, on_disk: str) -> None:
    (tmp_path / on_disk).mkdir()
    for name in ("1", "2"):
        write(tmp_path / on_disk / f"{on_disk}{name}.png", "")
    path = write(tmp_path / "t.csv", f"file,class\n{listed}/{listed}1.png,x\n{listed}/{listed}2.png,y\nz.png,y\n")
    with pytest.warns(DataWarning) as said:
        table = read_table(path)
    assert [table.path(i).is_file() for i in range(3)] == [True, True, False]
    one, other = f"{listed}/{listed}1.png", f"{on_disk}/{on_disk}1.png"
    assert [str(each.message) for each in said] == [
        f"{path}: 2 files have their accents composed otherwise on disk, and were found there "
        f"(for example {one!a} is {other!a})"
    ]
    # The same file under both names is one file.
    write(path, f"file,class\n{listed}/{listed}1.png,x\n{on_disk}/{on_disk}1.png,y\n")
    with pytest.warns(DataWarning), pytest.raises(InputError, match="with class 'x'"):
        read_table(path)


def test_files_in_other_capitals_or_spaces_are_named(tmp_path: Path) -> None:
    (tmp_path / "Img").mkdir()
    write(tmp_path / "Img" / "A 1.JPG", "")
    policy = ImagePolicy(size=8)
    for name in ("img/a 1.jpg", "Img/A  1.JPG", "Img/A\u200b 1.jpg"):
        assert decode_images([tmp_path / name], policy) == [f"no such file; there is '{tmp_path}/Img/A 1.JPG'"]
    assert decode_images([tmp_path / "Img/A1.JPG"], policy) == ["no such file"]


def test_group_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "file,class,group,day\na,x,g1,mon\nb,y,,tue\n")
    catalog = write(tmp_path / "c.csv", "file,class\nc,x\n")
    table = read_table(path, catalog=catalog)
    assert table.groups is not None
    assert table.groups.tolist() == ["g1", "", ""]
    assert read_table(path, group_column="day").take([1]).groups.tolist() == ["tue"]
    assert read_table(path, group_column="").groups is None
    write_table(table, tmp_path / "new.csv")
    assert read_table(tmp_path / "new.csv").groups.tolist() == ["g1", "", ""]
    assert problems_of(path, group_column="none") == (
        f"{path}: no column 'none'; the columns are 'file', 'class', 'group', 'day'; name the right one with "
        "--group-column",
    )
    pq.write_table(pa.table({"file": ["a"], "class": ["x"], "group": [1.5]}), tmp_path / "t.parquet")
    assert problems_of(tmp_path / "t.parquet") == (
        f"{tmp_path / 't.parquet'}: column 'group' holds neither text nor integers; store it as text",
    )
    (tmp_path / "set" / "x").mkdir(parents=True)
    write(tmp_path / "set" / "x" / "a.png", "")
    assert problems_of(tmp_path / "set", group_column="day") == (
        f"{tmp_path / 'set'}: a folder has no column 'day'; write a table with 'file,class,group'",
    )


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    labels = pa.array(["007", "NA"]).dictionary_encode()
    pq.write_table(pa.table({"file": ["a", "b"], "class": labels, "weight": [0.5, 1.0], "split": [None, "test"]}), path)
    table = read_table(path)
    assert (table.labels.tolist(), table.splits.tolist()) == (["007", "NA"], ["", "test"])
    pq.write_table(pa.table({"file": ["a", "b"], "class": [7, 8]}), path)
    assert read_table(path).labels.tolist() == ["7", "8"]
    pq.write_table(pa.table({"file": ["a", None], "class": ["x", "y"]}), path)
    assert problems_of(path) == (f"{path}: row 2: column 'file' is empty; name a picture or remove the row",)
    pq.write_table(pa.table({"file": ["a", "b"], "class": [1.0, float("nan")]}), path)
    assert problems_of(path) == (f"{path}: column 'class' holds neither text nor integers; store it as text",)
    write(path, "file,class\na,b\n")
    assert problems_of(path)[0].startswith(f"{path}: not a Parquet file (")


def test_folder_of_classes(tmp_path: Path) -> None:
    for file in (
        "b/2.JPG",
        "b/1.png",
        "a/x.webp",
        "a/.hidden.png",
        "a/notes.txt",
        ".git/x.png",
        "readme.md",
        "empty/x.txt",
    ):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        write(tmp_path / file, "")
    with pytest.warns(DataWarning) as said:
        table = read_table(tmp_path)
    assert [str(each.message) for each in said] == [
        f"{tmp_path}: 2 of 5 files are no pictures that Mohs reads and are passed over: 2 .txt (for example "
        "'a/notes.txt', 'empty/x.txt'); 1 folder has no picture: 'empty'"
    ]
    assert table.files == ("a/x.webp", "b/1.png", "b/2.JPG")
    assert table.labels.tolist() == ["a", "b", "b"]
    assert table.place(0) == f"{tmp_path}: 'a/x.webp'"
    (tmp_path / "a" / "deep").mkdir()
    write(tmp_path / "a" / "deep" / "y.png", "")
    write(tmp_path / "loose.png", "")
    assert problems_of(tmp_path) == (
        f"{tmp_path / 'a' / 'deep'}: pictures two folders deep; give the folder that holds the class folders, "
        "or write a table with columns 'file,class'",
        f"{tmp_path / 'loose.png'}: a picture outside the class folders; move it into the folder of its class",
    )


def test_folder_without_pictures(tmp_path: Path) -> None:
    assert problems_of(tmp_path) == (
        f"{tmp_path}: no pictures (jpg, png, webp, tif and others); "
        "put those of each class in a sub-folder named after it",
    )
    (tmp_path / "a").mkdir()
    write(tmp_path / "a" / "x.pdf", "")
    assert problems_of(tmp_path) == (
        f"{tmp_path}: no pictures (jpg, png, webp, tif and others); put those of each class in a sub-folder named "
        "after it; 1 of 1 files is no picture that Mohs reads and is passed over: 1 .pdf ('a/x.pdf'); PDF is not read, "
        "since it is a document; save it as PNG",
    )


def test_folder_with_tables_and_catalog(tmp_path: Path) -> None:
    write(tmp_path / "images.csv", "file,class\na,x\nb,y\n")
    write(tmp_path / "catalog.csv", "file,class\nc,x\nd,z\n")
    table = read_table(tmp_path)
    assert table.files == ("a", "b", "c", "d")
    assert table.roles.tolist() == ["sample", "sample", "catalog", "catalog"]
    assert table.place(2) == f"{tmp_path / 'catalog.csv'}: row 2: 'c'"
    # A table given by name does not pick up its neighbour.
    assert len(read_table(tmp_path / "images.csv")) == 2


def test_catalog_elsewhere_and_listed_twice(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    images = write(tmp_path / "images.csv", "file,class\na,x\nother/c,x\n")
    catalog = write(tmp_path / "other" / "refs.csv", "file,class,role\nc,x,\nd,y,catalog\n")
    table = read_table(images, catalog=catalog)
    assert table.roles.tolist() == ["sample", "catalog", "catalog"]
    assert [table.path(i) for i in range(3)] == [tmp_path / "a", tmp_path / "other" / "c", tmp_path / "other" / "d"]
    write(catalog, "file,class,role\nc,y,\n")
    assert problems_of(images, catalog=str(catalog)) == (
        f"{catalog}: row 2: file '{tmp_path}/other/c' is in {images}: row 3 with class 'x' (here 'y'); keep one of "
        "them, or choose with --multi-label",
    )
    write(catalog, "file,class,role\nc,x,sample\n")
    assert problems_of(images, catalog=str(catalog)) == (
        f"{catalog}: row 2: role 'sample' is not 'catalog'; change it",
    )


def test_require_classes(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "file,class\n1,a\n2,a\n")
    table = read_table(path)
    with pytest.raises(InputError) as caught:
        require_classes(table)
    assert str(caught.value) == (
        f"{path}: 1 class ('a'); similarity learning needs at least 2; add pictures of other classes"
    )
    require_classes(table, minimum=1)


def test_take_and_concatenate(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "t.csv", "file,class,split\na,x,train\nb,y,test\nc,z,\n"))
    taken = table.take([2, 0])
    assert (taken.files, taken.labels.tolist(), taken.splits.tolist()) == (("c", "a"), ["z", "x"], ["", "train"])
    assert taken.place(0) == f"{tmp_path / 't.csv'}: row 4: 'c'"
    assert table.take(table.labels == "y").files == ("b",)
    assert len(table.take([])) == 0
    assert concatenate(taken, table.take([1])).files == ("c", "a", "b")
    with pytest.raises(InputError, match=r"^indices: 0 to 3 for 3 items; stay in \[0, 3\)$"):
        table.take([0, 3])
    with pytest.raises(InputError, match=r"^indices: -1 to 0"):
        table.take([0, -1])


def test_columns_must_fit() -> None:
    three = np.array(["a"] * 3)
    with pytest.raises(
        InputError, match=r"^labels: <U1\(3,\) is not an array of strings \[2\]; give one string a file$"
    ):
        Table(("a", "b"), three, three[:2], three[:2])


def test_write_elsewhere_keeps_the_files(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    table = read_table(write(tmp_path / "t.csv", "file,class\nimg/a,x\n"))
    write_table(table, tmp_path / "runs" / "items.csv")
    again = read_table(tmp_path / "runs" / "items.csv")
    assert again.files == ("../img/a",)
    assert again.path(0).resolve() == table.path(0).resolve()


cell = st.text(st.characters(codec="utf-8", exclude_characters="\0/.\\"), min_size=1).filter(lambda text: text.strip())


@pytest.mark.filterwarnings("ignore::mohs.errors.DataWarning")
@given(rows=st.lists(st.tuples(cell, cell, st.sampled_from(["sample", "catalog"]), st.sampled_from(["", "train"]))))
def test_written_tables_read_back(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]]) -> None:
    rows = list({row[0]: row for row in rows}.values()) or [("a", "b", "sample", "")]
    folder = tmp_path_factory.mktemp("round")
    files, *columns = zip(*rows, strict=True)
    table = Table(files, *(np.array(column, dtype=object) for column in columns), root=folder)
    write_table(table, folder / "t.csv")
    again = read_table(folder / "t.csv")
    assert again.files == table.files
    for name in ("labels", "roles", "splits"):
        assert getattr(again, name).tolist() == getattr(table, name).tolist()


def test_folders_without_a_picture_are_told(tmp_path, save_picture) -> None:
    save_picture(tmp_path / "ring" / "1.png")
    save_picture(tmp_path / "gold" / "1.png", 1)
    save_picture(tmp_path / "__MACOSX" / "ring" / "._1.png", 2)
    (tmp_path / "empty").mkdir()
    with pytest.warns(DataWarning) as told:
        assert read_table(tmp_path).labels.tolist() == ["gold", "ring"]
    assert [str(each.message) for each in told] == [f"{tmp_path}: 1 folder has no picture: 'empty'"]


def test_a_catalog_without_a_class_in_common_is_told(tmp_path) -> None:
    (tmp_path / "images.csv").write_text("file,class\na.png,1\nb.png,2\n")
    (tmp_path / "catalog.csv").write_text("file,class\nc.png,SKU1\nd.png,SKU2\n")
    with pytest.warns(DataWarning) as told:
        read_table(tmp_path)
    assert [str(each.message) for each in told] == [
        f"{tmp_path / 'images.csv'}: none of the 2 classes of the catalog has a sample (it has 'SKU1', samples have "
        "'1'); write the classes as in the other table"
    ]
