import numpy as np
import pytest

from mohs.data.fixes import LabelFix, apply_fixes, read_fixes, write_fixes
from mohs.data.table import Table
from mohs.errors import InputError


def table_of(labels):
    num = len(labels)
    return Table(
        tuple(f"img/{i}.png" for i in range(num)),
        np.array(labels),
        np.full(num, "sample"),
        np.full(num, ""),
        source="images.csv",
    )


TABLE = table_of(["A", "A", "B", "B", "C", "C"])


def test_each_suggestion_does_what_it_says():
    applied = apply_fixes(
        TABLE,
        [
            LabelFix("img/4.png", "C", "merge classes", "B"),
            LabelFix("img/0.png", "A", "relabel", "C"),
            LabelFix("img/./3.png", "B", "drop"),
            LabelFix("img/1.png", "A", "look", "B"),
        ],
    )
    assert applied.table.files == ("img/0.png", "img/1.png", "img/2.png", "img/4.png", "img/5.png")
    # The relabelled picture is of C, and C is B now.
    assert applied.table.labels.tolist() == ["B", "A", "B", "B", "B"]
    assert (applied.num_merged, applied.num_relabelled, applied.num_dropped) == (1, 1, 1)
    assert (applied.num_looked, applied.vanished) == (1, ())


def test_a_class_that_vanishes_is_named_and_a_joined_one_is_not():
    fixes = [
        LabelFix("img/0.png", "A", "relabel", "B"),
        LabelFix("img/1.png", "A", "drop"),
        LabelFix("img/4.png", "C", "merge classes", "B"),
    ]
    applied = apply_fixes(TABLE, fixes)
    assert (set(applied.table.labels.tolist()), applied.vanished) == ({"B"}, ("A",))


def test_joined_classes_are_joined_again():
    fixes = [LabelFix("img/0.png", "A", "merge classes", "B"), LabelFix("img/2.png", "B", "merge classes", "C")]
    assert set(apply_fixes(TABLE, fixes).table.labels.tolist()) == {"C"}


def test_nothing_to_do_changes_nothing():
    applied = apply_fixes(TABLE, [])
    assert (applied.table.files, applied.table.labels.tolist()) == (TABLE.files, TABLE.labels.tolist())


def test_all_problems_are_told_at_once():
    with pytest.raises(InputError) as error:
        apply_fixes(
            TABLE,
            [
                LabelFix("img/9.png", "A", "drop"),
                LabelFix("img/0.png", "B", "relabel", "C"),
                LabelFix("img/1.png", "A", "relabel", "B"),
                LabelFix("img/1.png", "A", "relabel", "C"),
                LabelFix("img/1.png", "X", "merge classes", "C"),
                LabelFix("img/2.png", "B", "merge classes", "C"),
                LabelFix("img/2.png", "B", "merge classes", "A"),
                LabelFix("img/4.png", "C", "merge classes", "B"),
            ],
            source="fixes.csv",
        )
    assert error.value.problems == (
        "fixes.csv: file 'img/9.png' is not in images.csv; remove the row",
        "fixes.csv: file 'img/0.png' is of class 'A' in images.csv, not 'B'; these corrections are for another version "
        "of the table",
        "fixes.csv: file 'img/1.png' is to become 'B' and 'C'; keep one",
        "fixes.csv: class 'X' is not in images.csv; remove the row",
        "fixes.csv: class 'B' is to become 'C' and 'A'; keep one",
        "fixes.csv: classes are joined in a circle ('B' to 'C' to 'B'); remove one of the rows",
    )


def test_what_is_written_is_read_and_a_person_may_leave_columns_out(tmp_path):
    fixes = [
        LabelFix("a, b.png", "ä\n1", "relabel", '"', "label-errors", "c.png", '"', "3", "0.99", "", "0.1", "0.9"),
        LabelFix("d.png", "007", "look"),
    ]
    write_fixes(fixes, tmp_path / "fixes.csv")
    assert read_fixes(tmp_path / "fixes.csv") == fixes
    (tmp_path / "short.csv").write_text("to,suggestion,class,file\nB,relabel,A,x.png\n,,A,y.png\n")
    assert read_fixes(tmp_path / "short.csv") == [
        LabelFix("x.png", "A", "relabel", "B"),
        LabelFix("y.png", "A", "look"),
    ]


def test_a_file_that_is_not_corrections(tmp_path):
    path = tmp_path / "fixes.csv"
    with pytest.raises(InputError, match=r"fixes.csv: no such file; give the fixes.csv of 'mohs doctor --precision'$"):
        read_fixes(path)
    path.write_text("file,class\na.png,A\n")
    with pytest.raises(InputError) as error:
        read_fixes(path)
    assert error.value.problems == tuple(
        f"{path}: no column {name!r}; keep the columns of fixes.csv" for name in ("suggestion", "to")
    )
    path.write_text("file,class,suggestion,to\na.png,A,remove,\nb.png,A,relabel,\n")
    with pytest.raises(InputError) as error:
        read_fixes(path)
    assert error.value.problems == (
        f"{path}: row 2: suggestion 'remove' is not one of 'merge classes', 'relabel', 'drop', 'look'; change it",
        f"{path}: row 3: column 'to' is empty; name the class, or make the suggestion 'look'",
    )


def test_a_class_that_was_not_there_is_named() -> None:
    fixes = [LabelFix("img/0.png", "A", "relabel", "b"), LabelFix("img/4.png", "C", "merge classes", "D")]
    assert apply_fixes(TABLE, fixes).new_classes == ("D", "b")
    assert apply_fixes(TABLE, [LabelFix("img/0.png", "A", "relabel", "B")]).new_classes == ()


def test_rows_that_change_nothing_are_no_corrections() -> None:
    applied = apply_fixes(
        TABLE,
        [
            LabelFix("img/0.png", "A", "relabel", "A"),
            LabelFix("img/2.png", "B", "merge classes", "B"),
            LabelFix("img/1.png", "A", "relabel", "C"),
            LabelFix("img/./1.png", "A", "relabel", "C"),
            LabelFix("img/4.png", "C", "drop"),
            LabelFix("img/4.png", "C", "drop"),
        ],
    )
    assert (applied.num_merged, applied.num_relabelled, applied.num_dropped) == (0, 1, 1)
    assert (applied.num_unchanged, applied.num_repeated) == (2, 2)


def test_a_table_without_pictures_is_refused() -> None:
    fixes = [LabelFix(file, str(label), "drop") for file, label in zip(TABLE.files, TABLE.labels, strict=True)]
    with pytest.raises(InputError, match=r"^f.csv: all 6 pictures of images.csv are left out; drop fewer of them$"):
        apply_fixes(TABLE, fixes, source="f.csv")
