"""The column that says which pairs are of one class, in every usual form."""

import numpy as np
import pytest

from mohs.doctor.same_column import check_one_means, read_same_column
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
