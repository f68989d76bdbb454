"""The column that says which pairs are of one class, in every usual form."""

import numpy as np
import pytest

import mohs
from mohs.doctor.reported_pairs import ReportedPairs, check_one_means, read_reported_pairs, read_same_column
from mohs.errors import InputError


def read(path, header, cells, **arguments):
    return read_same_column(path / "pairs.csv", {header: list(cells)}, range(2, 2 + len(cells)), **arguments)


@pytest.mark.parametrize(
    ("header", "cells"),
    [
        ("same", ["True", "False", "TRUE", "false"]),
        ("same", ["yes", "no", "Yes", "NO"]),
        ("is_same", ["1.0", "0.0", "1.0", "0"]),
        ("Is Match", ["t", "f", "match", "mismatch"]),
        ("different", ["0", "1", "no", "TRUE"]),
        ("is-different", ["False", "True", "same", "1.0"]),
        ("label", ["same", "different", "same", "different"]),
        ("y", ["match", "mismatch", "genuine", "impostor"]),
    ],
)
def test_what_is_the_same_is_read_in_every_usual_form(tmp_path, header, cells):
    column = read(tmp_path, header, cells)
    assert column.same(column.one_means).tolist() == [True, False, True, False]


@pytest.mark.parametrize("header", ["label", "y", "target", "Label", "y_true"])
def test_a_column_that_may_be_either_way_round(tmp_path, header):
    column = read(tmp_path, header, "1010")
    assert column.one_means is None
    assert str(column.ask("")) == (
        f"{tmp_path}/pairs.csv: column {header!r}: 1 may mean the same or different; say which with one_means, or name "
        "the column 'same' or 'different'"
    )
    for means in ("same", "different"):
        assert read(tmp_path, header, "1010", one_means=means).one_means == means
        np.testing.assert_array_equal(column.same(means), np.array([1, 0, 1, 0]) == (means == "same"))


def test_what_1_means_is_not_said_twice(tmp_path):
    assert read(tmp_path, "different", "0101", one_means="different").same("different").tolist() == [True, False] * 2
    with pytest.raises(InputError, match="column 'different' says that 1 means different, and one_means is 'same'"):
        read(tmp_path, "different", "0101", one_means="same")
    with pytest.raises(InputError, match="one_means: '1' is not 'same' or 'different'; say what 1 means"):
        check_one_means("1")


_NO_SAME = "columns say whether a pair is of one class; name one 'same'"
_NO_SCORES = "columns hold scores; name one 'distance', 'similarity' or 'score'"


def rows(num=10, *, sign=1, first=0.0):
    return "".join(f"1,{first + sign * (0.1 + i / 100)}\n0,{first + sign * (0.8 + i / 100)}\n" for i in range(num))


@pytest.mark.parametrize(
    ("header", "kind"), [("same,distance", "distance"), ("Match,Cosine", "similarity"), ("is same, y_pred", "score")]
)
def test_pairs_of_a_file(tmp_path, header, kind):
    (tmp_path / "pairs.csv").write_text(f"{header}\n{rows()}")
    found = read_reported_pairs(tmp_path / "pairs.csv")
    assert (found.kind, len(found.value), int(found.same.sum())) == (kind, 20, 10)
    assert (found.value[0], found.same[0]) == (0.1, True)


def test_words_for_the_same(tmp_path):
    words = "TRUE,0.1\nno,0.9\nsame,0.1\nFalse,0.9\nyes,0.1\n0.0,0.9\n1.0,0.1\n-1,0.9\n"
    (tmp_path / "pairs.csv").write_text("same,distance\n" + words + rows())
    found = read_reported_pairs(tmp_path / "pairs.csv")
    assert found.same[:8].tolist() == [True, False] * 4
    assert found.reading == ""
    (tmp_path / "pairs.csv").write_text("is_different,distance\n" + words + rows())
    # A word says it itself.
    assert (
        read_reported_pairs(tmp_path / "pairs.csv").same[:8].tolist() == [False, True, True, True] + [False, True] * 2
    )


def test_a_column_that_may_be_either_way_round_is_told_by_distances(tmp_path):
    path = tmp_path / "pairs.csv"
    for header, value in (("label,distance", rows()), ("Y,Cosine", rows(sign=-1)), ("class,dist", rows())):
        path.write_text(f"{header}\n{value}")
        found = read_reported_pairs(path)
        assert found.same[:2].tolist() == [True, False]
        name = header.split(",")[0]
        assert found.reading == (
            f"{path}: column {name!r}: read as 1 = same, since pairs of 1 are the closer ones in 100.0% of the cases"
        )
        told = mohs.diagnose(pairs=path)
        assert told.notes == (found.reading,)
        assert "swapped" in told.not_checked
    path.write_text("label,distance\n" + rows().replace("1,", "same,").replace("0,", "different,"))
    assert (read_reported_pairs(path).same[:2].tolist(), read_reported_pairs(path).reading) == ([True, False], "")
    path.write_text("label,same,distance\n" + "".join(f"7,{row}\n" for row in rows().splitlines()))
    assert read_reported_pairs(path).same[:2].tolist() == [True, False]  # `same` says it, whatever the label is


ASK = "say which with one_means, or name the column 'same' or 'different'"


@pytest.mark.parametrize(
    ("header", "text", "why"),
    [
        ("target,score", "rows", ", and 'score' has no direction that would tell"),
        (
            "y,distance",
            "other",
            ": pairs of 1 are the farther ones in 100.0% of the cases, so 1 means different, or distances or labels "
            "are the wrong way round",
        ),
        ("y,distance", "noise", ", and the distances do not tell (pairs of 1 are the closer ones in 50% of the cases)"),
    ],
)
def test_what_the_scores_do_not_tell_is_asked(tmp_path, header, text, why):
    path = tmp_path / "pairs.csv"
    noise = "".join(f"1,{i}\n0,{i}\n" for i in range(20))
    path.write_text(f"{header}\n" + {"rows": rows(), "other": rows(sign=-1, first=2.0), "noise": noise}[text])
    with pytest.raises(InputError) as error:
        read_reported_pairs(path)
    name = header.split(",")[0]
    assert str(error.value) == f"{path}: column {name!r}: 1 may mean the same or different{why}; {ASK}"
    assert read_reported_pairs(path, one_means="same").same[:2].tolist() == [True, False]
    assert read_reported_pairs(path, one_means="different").same[:2].tolist() == [False, True]
    assert mohs.diagnose(pairs=path, one_means="different").notes == ()


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a,b\n1,2\n", [f"0 {_NO_SAME}", f"0 {_NO_SCORES}"]),
        ("same,match,d,sim\n1,1,1,1\n", [f"2 {_NO_SAME}", f"2 {_NO_SCORES}"]),
        (
            "same,distance\n1,\n2,0.5\n",
            [
                "row 3: column 'same': '2' is neither 1 nor 0 (nor true, false, same, different)",
                "row 2: column 'distance': '' is not a finite number; leave the row out",
            ],
        ),
        ("same,distance\n" + rows(9), ["9 pairs of one class and 9 of two; give at least 10 of each"]),
        (
            "same,distance\n" + rows() + "1,nan\n",
            ["row 22: column 'distance': 'nan' is not a finite number; leave the row out"],
        ),
        ("same,distance\n", ["0 pairs of one class and 0 of two; give at least 10 of each"]),
    ],
)
def test_pairs_that_cannot_be_read(tmp_path, text, lines):
    path = tmp_path / "pairs.csv"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read_reported_pairs(path)
    assert error.value.problems == tuple(f"{path}: {line}" for line in lines)


def test_places_without_pairs(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"same": [1, 0], "distance": [0.1, 0.2]}), tmp_path / "pairs.parquet")
    for path, line in {
        tmp_path / "none.csv": "no such file; check the path",
        tmp_path: "a folder; give a CSV file",
        tmp_path / "pairs.parquet": "pairs are a CSV file; write them as CSV",
    }.items():
        with pytest.raises(InputError) as error:
            read_reported_pairs(path)
        assert error.value.problems == (f"{path}: {line}",)


def test_values_and_pairs_of_other_numbers():
    with pytest.raises(InputError, match=r"^p: \(3,\) values for \(2,\) pairs; give one each$"):
        ReportedPairs("p", np.zeros(3), np.zeros(2, dtype=bool))
