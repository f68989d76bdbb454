import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mohs.data.names import (
    file_name_warning,
    find_as_written,
    folded_name,
    joined_warning,
    name_warning,
    same_name_groups,
    spelling_differences,
)

CAFE, DECOMPOSED = "Caf\u00e9", "Cafe\u0301"


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (CAFE, DECOMPOSED, "accents composed or not"),
        ("Ring", "RING", "capitals"),
        ("stra\u00dfe", "STRASSE", "capitals"),
        ("Ring", " Ring ", "spaces"),
        ("Ring 7", "Ring\u00a07", "full width or other forms of a character"),
        ("Ring 7", "Ring  7", "spaces"),
        ("Ring\t7", "Ring 7", "spaces"),
        ("Ring", "Ri\u200bng", "invisible characters"),
        ("Ring", "\ufeffRing", "invisible characters"),
        ("Ring", "Ri\u00adng", "invisible characters"),
        ("\u2764", "\u2764\ufe0f", "invisible characters"),
        ("Ring", "\uff32\uff49\uff4e\uff47", "full width or other forms of a character"),
        ("a-b", "a\u2013b", "full width or other forms of a character"),
        ("Levi's", "Levi\u2019s", "full width or other forms of a character"),
        ("fine", "\ufb01ne", "full width or other forms of a character"),
        (f"{CAFE} bar", f"{DECOMPOSED.upper()} Bar", "accents composed or not, capitals"),
        ("Ring ", "ring", "spaces, capitals"),
    ],
)
def test_names_that_look_the_same(one: str, other: str, words: str) -> None:
    assert one != other
    assert folded_name(one) == folded_name(other)
    assert spelling_differences(one, other) == spelling_differences(other, one) == words
    assert same_name_groups([other, "else", one]) == [sorted([one, other])]


@pytest.mark.parametrize(
    ("one", "other"), [("007", "8"), ("ring 7", "ring7"), ("a_b", "a b"), ("e", "\u00e9"), ("1", "l")]
)
def test_names_that_do_not(one: str, other: str) -> None:
    assert same_name_groups([one, other]) == []


@settings(deadline=None)
@given(st.text())
def test_folding_is_idempotent_and_knows_equivalence(name: str) -> None:
    assert folded_name(unicodedata.normalize("NFD", name)) == folded_name(name)
    assert folded_name(folded_name(name)) == folded_name(name)


def test_files_are_found_as_they_are_written(tmp_path: Path) -> None:
    folder = tmp_path / DECOMPOSED
    folder.mkdir()
    (folder / f"{DECOMPOSED}.png").touch()
    (folder / "IMG.JPG").touch()
    assert find_as_written(tmp_path / CAFE / f"{CAFE}.png") == [folder / f"{DECOMPOSED}.png"]
    assert find_as_written(tmp_path / CAFE / "img.jpg") == [folder / "IMG.JPG"]
    assert find_as_written(folder / "IMG.JPG") == []
    assert find_as_written(tmp_path / "none" / "img.jpg") == []
    (folder / "img.jpg").touch()
    assert find_as_written(folder / "Img.jpg") == [folder / "IMG.JPG", folder / "img.jpg"]
    # A file of the same canonical name comes before others that are only like it.
    (folder / f"{DECOMPOSED.upper()}.png").touch()
    assert find_as_written(folder / f"{CAFE}.png") == [folder / f"{DECOMPOSED}.png"]


@pytest.mark.parametrize(("one", "other"), [("01", "1"), ("1", "1.0"), ("007", "7.0"), ("\uff11", "01"), ("0", "00")])
def test_numbers_that_a_spreadsheet_changed_look_the_same(one, other):
    assert name_warning([one, other], "classes").startswith("2 classes look like 1: ")
    assert "numbers" in spelling_differences(one, other)


@pytest.mark.parametrize(
    "names", [("1.1", "1.10"), ("1", "10"), ("a1", "a01"), ("1.5", "1"), ("0", "1.0"), ("1e3", "1000")]
)
def test_numbers_that_differ_do_not(names):
    assert name_warning(names, "classes") == ""


@pytest.mark.parametrize("joint", ["|", ";", ", ", "/", " + ", "&"])
def test_several_classes_in_one_cell_are_told(joint):
    assert repr(f"ring{joint}gold") in joined_warning(["ring", "gold", f"ring{joint}gold"])
    assert joined_warning(["ring", f"ring{joint}gold"]) == ""


@pytest.mark.parametrize(
    ("other", "how"),
    [
        ("a/cafe\u0301.png", "accents composed or not"),
        ("a/CAF\u00c9.png", "capitals"),
        ("A/caf\u00e9.png", "capitals"),
        ("a/caf\u00e9.PNG", "capitals"),
        ("a/ caf\u00e9.png", "spaces"),
        ("a /caf\u00e9.png", "spaces"),
        ("a/caf\u00e9 .png", "spaces"),
        ("a/caf\u00e9.png ", "spaces"),
    ],
)
def test_file_names_that_look_the_same_are_told(other: str, how: str) -> None:
    line = file_name_warning(["a/caf\u00e9.png", other, "b/caf\u00e9.png", other])
    assert line.startswith("2 file names look like 1: ")
    assert f"({how})" in line


def test_file_names_that_differ_are_not_told() -> None:
    assert file_name_warning(["1.png", "01.png", "1", "01", "1.jpg", "a/1.png", "ab.png", "a b.png", ".png"]) == ""


def test_only_the_first_file_names_are_told() -> None:
    files = [f"{name}{i}.png" for i in range(5) for name in "xX"]
    assert "'X2.png' and 'x2.png' (capitals) and 2 more; rename" in file_name_warning(files)
