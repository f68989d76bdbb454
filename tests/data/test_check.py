import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from mohs.data.check import check_table
from mohs.data.reading import read_table
from mohs.data.table import Table
from mohs.errors import DataWarning


def test_clean_table(picture_table: Table) -> None:
    steps: list[tuple[int, int]] = []
    result = check_table(picture_table, progress=lambda *step: steps.append(step))
    assert (result.problems, result.warnings) == ((), ())
    assert (result.num_items, result.num_samples, result.num_catalog, result.num_classes) == (6, 6, 0, 3)
    assert result.class_sizes == ((2, 3),)
    assert (result.smallest_class, result.median_class, result.largest_class) == (2, 2.0, 2)
    assert (result.num_singletons, result.num_classes_without_catalog) == (0, 3)
    assert steps[-1] == (6, 6)


def test_everything_wrong_is_found(tmp_path: Path, save_picture: Callable[..., Path]) -> None:
    for seed, name in enumerate(("a1", "a2", "b1", "b2", "c1")):
        save_picture(tmp_path / f"{name}.png", seed)
    shutil.copy(tmp_path / "a1.png", tmp_path / "b2.png")  # the same in another class
    shutil.copy(tmp_path / "a1.png", tmp_path / "a3.png")
    shutil.copy(tmp_path / "b1.png", tmp_path / "b3.png")  # the same in its class
    (tmp_path / "a2.png").write_bytes((tmp_path / "a2.png").read_bytes()[:-60])
    Image.new("RGB", (5, 5), (7, 7, 7)).save(tmp_path / "blank.png")
    path = tmp_path / "t.csv"
    path.write_text(
        "file,class,role\na1.png,A,\na2.png,A,\na3.png,A,\nb1.png,b,\nb2.png,b,\nb3.png,b,\nblank.png,b,\n"
        "none.png,b,\nc1.png,c,catalog\nd1.png,a ,\n"
    )
    save_picture(tmp_path / "d1.png", 9)
    with pytest.warns(DataWarning) as said:
        table = read_table(path)
    assert [str(each.message) for each in said] == [
        f"{path}: 2 classes look like 1: 'A' and 'a ' (spaces, capitals); write each of them one way if they are one"
    ]
    result = check_table(table)
    assert result.problems == (
        f"{path}: row 3: 'a2.png': cannot be decoded (truncated file); replace the file or remove the row",
        f"{path}: row 9: 'none.png': no such file; replace the file or remove the row",
    )
    assert (result.missing, result.unreadable, result.one_colour) == ((7,), (1,), (6,))
    assert result.duplicates == ((0, 2, 4), (3, 5))
    assert result.duplicates_across_classes == ((0, 2, 4),)
    assert result.warnings == (
        f"{path}: row 8: 'blank.png': one colour only; look at it",
        f"{path}: row 2: 'a1.png' (A) = {path}: row 4: 'a3.png' (A) = {path}: row 6: 'b2.png' (b): "
        "the same picture in different classes; keep one",
        f"{path}: row 5: 'b1.png' (b) = {path}: row 7: 'b3.png' (b): the same picture again; keep one",
        f"{path}: row 11: 'd1.png': class 'a ' has spaces at its end, which are part of its name; "
        "remove them if they are not meant",
        f"{path}: 2 of 4 classes have one item: no positive pair",
    )
    assert result.class_sizes == ((1, 2), (3, 1), (5, 1))
    assert (result.smallest_class, result.median_class, result.largest_class) == (1, 2.0, 5)
    assert (result.num_classes_without_catalog, result.num_classes_without_sample) == (3, 1)


def test_spaces_around_a_class_are_told_and_kept(tmp_path: Path, save_picture: Callable[..., Path]) -> None:
    cells = (" cup ", "cup", "ring\u00a0", "ring\u00a0", "a b", "a b")
    for number in range(len(cells)):
        save_picture(tmp_path / f"{number}.png", number)
    path = tmp_path / "t.csv"
    path.write_text("file,class\n" + "".join(f"{i}.png,{cell}\n" for i, cell in enumerate(cells)), encoding="utf-8")
    with pytest.warns(DataWarning, match="' cup ' and 'cup' \\(spaces\\)"):
        table = read_table(path)
    assert table.labels.tolist() == list(cells)
    told = [line for line in check_table(table).warnings if "part of its name" in line]
    fix = "which are part of its name"
    assert told == [
        f"{path}: row 2: '0.png': class ' cup ' has spaces at its beginning and end, {fix}; "
        "remove them if they are not meant",
        f"{path}: row 4: '2.png': class 'ring\\xa0' has spaces at its end, {fix} (2 rows); "
        "remove them if they are not meant",
    ]


def test_one_class_is_a_problem(picture_table: Table) -> None:
    result = check_table(picture_table.take([0, 1]))
    assert result.problems == (
        f"{picture_table.source}: 1 class; similarity learning needs at least 2; add other classes",
    )


def test_file_names_that_look_the_same_are_told(tmp_path: Path, save_picture: Callable[..., Path]) -> None:
    for seed, name in enumerate(("a/1", "a/2", "b/1", "b/2")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        save_picture(tmp_path / f"{name}.png", seed)
    assert check_table(read_table(tmp_path)).warnings == ()
    save_picture(tmp_path / "a" / "1.PNG", 9)
    assert check_table(read_table(tmp_path)).warnings == (
        f"{tmp_path}: 2 file names look like 1: 'a/1.PNG' and 'a/1.png' (capitals); rename or remove one of each, "
        "since some disks and archives keep only one of them",
    )
