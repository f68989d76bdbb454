"""One picture under several classes: every way to go on, what is said, and what repairs the table."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mohs.data.fixes import apply_fixes, listing_fixes, read_fixes, write_fixes
from mohs.data.multi_label import MULTI_LABEL, MultiLabel, resolve_labels
from mohs.data.reading import read_listing, read_table
from mohs.errors import DataWarning, InputError

ROWS = "a1,gold\na2,gold\na3,gold\nshared,gold\nb1,silver\nshared,silver\nc1,steel\nc2,steel\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "t.csv").write_text(f"file,class\n{ROWS}")
    return tmp_path / "t.csv"


def test_an_error_names_the_way_on(path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_table(path)
    assert caught.value.problems == (
        f"{path}: row 7: file 'shared' is in row 5 with class 'gold' (here 'silver'); keep one of them, or choose with "
        "--multi-label",
    )
    with pytest.raises(InputError, match=r"^multi_label: 'last' is not one of 'error', 'first', 'drop', 'merge'$"):
        read_table(path, multi_label="last")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("how", "files", "labels", "told"),
    [
        (
            "first",
            ["a1", "a2", "a3", "shared", "b1", "c1", "c2"],
            ["gold"] * 4 + ["silver"] + ["steel"] * 2,
            "the first one counts, 1 row left out",
        ),
        (
            "drop",
            ["a1", "a2", "a3", "b1", "c1", "c2"],
            ["gold"] * 3 + ["silver"] + ["steel"] * 2,
            "left out, 2 rows",
        ),
        (
            "merge",
            ["a1", "a2", "a3", "shared", "b1", "c1", "c2"],
            ["gold"] * 5 + ["steel"] * 2,
            "these are one now, 1 class joined to others",
        ),
    ],
)
def test_each_way_on_is_told_in_one_line(
    path: Path, how: MultiLabel, files: list[str], labels: list[str], told: str
) -> None:
    with pytest.warns(DataWarning) as said:
        table = read_table(path, multi_label=how)
    assert (list(table.files), table.labels.tolist()) == (files, labels)
    assert [str(each.message) for each in said] == [
        f"{path}: 1 picture is under several classes (for example 'shared': 'gold', 'silver'): {told}"
    ]
    assert table.place(files.index("c1")) == f"{path}: row 8: 'c1'"


def test_a_class_that_vanishes_and_rows_that_repeat_are_counted(path: Path) -> None:
    path.write_text("file,class\na,x\na,y\nb,x\nb,x\nc,x\nc,z\nd,z\n")
    line = (
        r"2 pictures are under several classes .*: the first one counts, 2 rows left out; without a picture now: "
        r"1 class; listed twice under one class: 1 row$"
    )
    with pytest.warns(DataWarning, match=line):
        assert read_table(path, multi_label="first").files == ("a", "b", "c", "d")


def test_samples_and_catalog(path: Path, tmp_path: Path) -> None:
    path.write_text("file,class\na,x\nb,y\nc,y\n")
    (tmp_path / "catalog.csv").write_text("file,class\na,x\nb,x\n")
    with pytest.raises(
        InputError, match=r"catalog\.csv: row 3: file 'b' is in .*t\.csv: row 3 with class 'y' \(here 'x'\)"
    ):
        read_table(path, catalog=tmp_path / "catalog.csv")
    with pytest.warns(DataWarning, match="1 picture is under several classes"):
        table = read_table(path, catalog=tmp_path / "catalog.csv", multi_label="first")
    assert list(zip(table.files, table.labels.tolist(), table.roles.tolist(), strict=True)) == [
        ("a", "x", "catalog"), ("b", "y", "sample"), ("c", "y", "sample")
    ]  # fmt: skip
    with pytest.warns(DataWarning, match="1 class joined to others"):
        table = read_table(path, catalog=tmp_path / "catalog.csv", multi_label="merge")
    assert table.labels.tolist() == ["x"] * 3
    assert table.roles.tolist() == ["catalog", "catalog", "sample"]


def test_a_picture_in_two_splits_is_an_error_whatever_is_chosen(path: Path) -> None:
    path.write_text("file,class,split\na,x,train\na,y,test\nb,x,train\nc,y,test\n")
    for how in ("error", "first", "merge"):
        with pytest.raises(InputError, match=r"row 3: 'a': split 'test', but 'train' in another row; keep one of them"):
            read_table(path, multi_label=how)
    with pytest.warns(DataWarning):
        assert read_table(path, multi_label="drop").files == ("b", "c")


rows_st = st.lists(st.tuples(st.integers(0, 6), st.sampled_from("uvwxyz")), min_size=1, max_size=20)


@settings(deadline=None)
@given(rows=rows_st)
def test_resolved_rows_follow_the_rule(rows: list[tuple[int, str]]) -> None:
    pictures, labels = [row[0] for row in rows], [row[1] for row in rows]
    several = {p for p in pictures if len({label for q, label in rows if q == p}) > 1}
    for how in MULTI_LABEL[1:]:
        found = resolve_labels(pictures, labels, how)
        kept = [pictures[i] for i in found.rows]
        assert len(set(kept)) == len(kept)
        assert set(kept) == set(pictures) - (several if how == "drop" else set())
        assert len(found.rows) + found.num_rows + found.num_repeats == len(rows)
        for i, label in zip(found.rows, found.labels, strict=True):
            first = labels[pictures.index(pictures[i])]
            assert label == (found.merged.get(first, first))
    # Merging is joining what is connected, by a plain search.
    merged = resolve_labels(pictures, labels, "merge").merged
    component = {label: {label} for label in labels}
    for _ in labels:
        for p in several:
            joined = set().union(*(component[label] for q, label in rows if q == p))
            for label in joined:
                component[label] = joined
    for label in labels:
        best = max(component[label], key=lambda each: (labels.count(each), [-ord(c) for c in each]))
        assert merged.get(label, label) == best


def test_the_same_in_json(run_cli: Callable[..., object], picture_set: Path, tmp_path: Path) -> None:
    lines = (picture_set / "images.csv").read_text().splitlines()
    path = picture_set / "twice.csv"
    path.write_text("\n".join([*lines, lines[1].replace("000\n", "001\n").rpartition(",")[0] + ",001"]) + "\n")
    try:
        answer = run_cli("check", path, "--json")
        assert answer.code == 2
        assert "with class '000' (here '001')" in json.loads(answer.out)["problems"][0]
        answer = run_cli("check", path, "--json", "--multi-label", "merge")
        found = json.loads(answer.out)
        assert (answer.code, found["num_classes"], found["problems"]) == (0, 11, [])
        assert "1 picture is under several classes" in found["warnings"][0]
    finally:
        path.unlink()


def test_mine_takes_a_vector_for_each_row(run_cli: Callable[..., object], path: Path, tmp_path: Path) -> None:
    x_ND = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", x_ND)
    plans = []
    for rows, name in (([0, 1, 2, 3, 4, 6, 7], "y.npy"), (list(range(8)), "x.npy")):
        np.save(tmp_path / name, x_ND[rows])
        out = tmp_path / f"{name}.csv"
        answer = run_cli(
            "mine", path, "--embeddings", tmp_path / name, "--multi-label", "first", "--triplets", 20,
            "--out", tmp_path / f"{name}.parquet", "--csv", out,
        )  # fmt: skip
        assert answer.code == 0
        assert any("1 picture is under several classes" in line for line in answer.err)
        plans.append(out.read_text())
    assert plans[0] == plans[1]


def test_similar_names_are_for_a_person(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("file,class\na,Ring\nb,ring \nc,Ring\nd,x\n")
    with pytest.warns(DataWarning):
        table = read_listing(path)
    write_fixes(listing_fixes(table, "merge"), tmp_path / "fixes.csv")
    (fix,) = read_fixes(tmp_path / "fixes.csv")
    assert (fix.label, fix.suggestion, fix.to, fix.cause) == ("ring ", "look", "Ring", "similar-names")
    assert apply_fixes(table, [fix]).table.num_classes == 3
    text = (tmp_path / "fixes.csv").read_text().replace("look", "merge classes")
    (tmp_path / "fixes.csv").write_text(text)
    assert apply_fixes(table, read_fixes(tmp_path / "fixes.csv")).table.num_classes == 2
