import csv
import json
from pathlib import Path

import numpy as np
import pytest

from mohs.data.table import Table
from mohs.errors import InputError
from mohs.export.vector_files import write_vectors

X_ND = np.random.default_rng(0).normal(size=(2, 5)).astype(np.float32)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(
        files=("a b.png", "c\td.png"),
        labels=np.array(["ring, gold", "ring\n2"]),
        roles=np.array(["sample", "catalog"]),
        splits=np.array(["", ""]),
        root=tmp_path,
        source="shop.csv",
    )


def test_csv_has_a_path_and_a_list_for_each_item(table: Table, tmp_path: Path) -> None:
    assert write_vectors(tmp_path / "x.csv", table, X_ND) == (tmp_path / "x.csv",)
    with (tmp_path / "x.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["filepath"] for row in rows] == [str(tmp_path / "a b.png"), str(tmp_path / "c\td.png")]
    assert [row["class"] for row in rows] == ["ring, gold", "ring\n2"]
    found = np.array([json.loads(row["embedding"]) for row in rows], np.float32)
    np.testing.assert_array_equal(found, X_ND)


def test_tsv_is_what_the_projector_takes(table: Table, tmp_path: Path) -> None:
    files = write_vectors(tmp_path / "x.tsv", table, X_ND)
    assert files == (tmp_path / "x.tsv", tmp_path / "x.metadata.tsv")
    np.testing.assert_array_equal(np.loadtxt(files[0], dtype=np.float32, delimiter="\t"), X_ND)
    assert files[1].read_text().split("\n") == [
        "class\tfile\trole",
        "ring, gold\ta b.png\tsample",
        "ring 2\tc d.png\tcatalog",
        "",
    ]


def test_another_suffix_is_refused(table: Table, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x.txt is not one of .npy, .parquet, .csv, .tsv; name it so"):
        write_vectors(tmp_path / "x.txt", table, X_ND)
