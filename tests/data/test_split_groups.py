"""A group (session, camera, product family) is on one side of the split."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mohs.data.reading import read_table
from mohs.data.split import assign_splits, classes_by_group, split_by_class, split_by_item
from mohs.data.table import Table
from mohs.errors import DataWarning, InputError

rows_st = st.lists(
    st.tuples(st.integers(0, 9).map(str), st.sampled_from(["", "", "a", "b", "c", "d", "e", "f"])),
    min_size=2,
    max_size=50,
)
seeds = st.integers(0, 2**32)


def columns(rows: list[tuple[str, str]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([row[0] for row in rows]), np.array([row[1] for row in rows])


def sides_of_groups(groups: np.ndarray, splits: np.ndarray) -> dict[str, set[str]]:
    return {group: set(splits[groups == group].tolist()) for group in set(groups.tolist()) - {""}}


@settings(deadline=None)
@given(rows=rows_st)
def test_sets_of_classes_are_those_of_a_plain_search(rows: list[tuple[str, str]]) -> None:
    labels, groups = columns(rows)
    names, class_of_item = np.unique(labels, return_inverse=True)
    component = {c: {c} for c in range(len(names))}
    for _ in names:
        for group in set(groups.tolist()) - {""}:
            joined = set().union(*(component[c] for c in class_of_item[groups == group].tolist()))
            for c in joined:
                component[c] = joined
    assert classes_by_group(class_of_item, groups).tolist() == [min(component[c]) for c in range(len(names))]


@settings(deadline=None)
@given(rows=rows_st, seed=seeds, share=st.floats(0.05, 0.6), order_seed=seeds)
def test_by_class(rows: list[tuple[str, str]], seed: int, share: float, order_seed: int) -> None:
    labels, groups = columns(rows)
    names, class_of_item = np.unique(labels, return_inverse=True)
    assume(max(1, round(share * len(names))) < len(names))
    sets = classes_by_group(class_of_item, groups)
    if len(set(sets.tolist())) < 2:
        with pytest.raises(InputError, match=r"^groups: they join \d+ classes into 1 set of classes that share groups"):
            split_by_class(labels, {"test": share}, seed=seed, groups=groups)
        return
    splits = split_by_class(labels, {"test": share}, seed=seed, groups=groups)
    assert set(splits.tolist()) == {"train", "test"}
    assert all(len(sides) == 1 for sides in sides_of_groups(groups, splits).values())
    assert all(len(set(splits[labels == label].tolist())) == 1 for label in names)
    # No other choice of one set of classes more or less is nearer to the share.
    wanted = max(1, round(share * len(names)))
    sizes = {each: int((sets == each).sum()) for each in set(sets.tolist())}
    in_test = {each for each in sizes if splits[np.isin(class_of_item, np.flatnonzero(sets == each))][0] == "test"}
    num_test = sum(sizes[each] for each in in_test)
    if len(sizes) - len(in_test) > 1:
        assert all(abs(num_test + sizes[e] - wanted) >= abs(num_test - wanted) for e in sizes if e not in in_test)
    order = np.random.default_rng(order_seed).permutation(len(labels))
    again = split_by_class(labels[order], {"test": share}, seed=seed, groups=groups[order])
    np.testing.assert_array_equal(again, splits[order])


@settings(deadline=None)
@given(rows=rows_st, seed=seeds)
def test_groups_of_one_class_or_none_change_nothing_by_class(rows: list[tuple[str, str]], seed: int) -> None:
    labels, _ = columns(rows)
    assume(len(set(labels.tolist())) > 2)
    own = np.array([f"{label}-{group}" if group else "" for label, group in rows])
    np.testing.assert_array_equal(
        split_by_class(labels, {"test": 0.3}, seed=seed, groups=own), split_by_class(labels, {"test": 0.3}, seed=seed)
    )
    empty = np.full(len(labels), "")
    np.testing.assert_array_equal(
        split_by_item(labels, {"test": 0.3}, seed=seed, groups=empty), split_by_item(labels, {"test": 0.3}, seed=seed)
    )


@settings(deadline=None)
@given(rows=rows_st, seed=seeds, share=st.floats(0.05, 0.6), order_seed=seeds, data=st.data())
def test_by_item(rows: list[tuple[str, str]], seed: int, share: float, order_seed: int, data: st.DataObject) -> None:
    labels, groups = columns(rows)
    assume((groups != "").any())
    roles = np.array(
        data.draw(st.lists(st.sampled_from(["sample"] * 4 + ["catalog"]), min_size=len(rows), max_size=len(rows)))
    )
    keys = [f"{i:03d}" for i in range(len(rows))]
    try:
        splits = split_by_item(labels, {"test": share}, seed=seed, roles=roles, keys=keys, groups=groups)
    except InputError as error:
        assert str(error).startswith("groups: none of ")  # noqa: PT017
        return
    assert all(len(sides) == 1 for sides in sides_of_groups(groups, splits).values())
    assert all("train" in splits[labels == label] for label in set(labels.tolist()))
    assert (splits[roles == "catalog"] == "train").all()
    order = np.random.default_rng(order_seed).permutation(len(rows))
    again = split_by_item(
        labels[order],
        {"test": share},
        seed=seed,
        roles=roles[order],
        keys=[keys[i] for i in order],
        groups=groups[order],
    )
    np.testing.assert_array_equal(again, splits[order])


def test_by_item_comes_to_its_share_and_depends_on_the_seed() -> None:
    # 60 classes, two sessions of four frames each; sessions of one day hold three classes.
    labels = np.repeat(np.arange(60).astype(str), 8)
    groups = np.array([f"day {c // 3}, {s}" for c in range(60) for s in range(2) for _ in range(4)])
    found = [split_by_item(labels, {"test": 0.2}, seed=seed, groups=groups) for seed in (0, 1)]
    for splits in found:
        assert (splits == "test").mean() == pytest.approx(0.2, abs=0.03)
    assert (found[0] != found[1]).any()
    three = split_by_item(labels, {"test": 0.2, "validation": 0.1}, seed=0, groups=groups)
    assert (three == "validation").mean() == pytest.approx(0.1, abs=0.03)


def test_by_item_where_it_is_impossible() -> None:
    labels, groups = np.repeat(["x", "y", "z"], 2), np.array(["a", "a", "b", "b", "c", "c"])
    with pytest.raises(InputError, match=r"none of 3 groups can be for 'test': each holds all pictures of a class"):
        split_by_item(labels, {"test": 0.3}, seed=0, groups=groups)


def table_of(rows: list[tuple[str, str]], splits: list[str] | None = None) -> Table:
    labels, groups = columns(rows)
    files = tuple(f"{i}.png" for i in range(len(rows)))
    marks = np.array(splits or [""] * len(rows), dtype="<U10")
    return Table(files, labels, np.full(len(rows), "sample"), marks, source="t.csv", groups=groups)


def test_own_splits_that_divide_a_group_are_said() -> None:
    rows = [("u", "a"), ("v", "a"), ("w", "b"), ("x", "a"), ("y", ""), ("z", "b")]
    table = table_of(rows, ["train", "train", "train", "test", "test", "train"])
    line = "t.csv: the column 'split' divides 1 of 2 groups (for example 'a'): the test knows them from training"
    with pytest.warns(DataWarning, match=f"^{re.escape(line)}$"):
        assert assign_splits(table, "class", 0.2, seed=0).splits.tolist() == table.splits.tolist()


def test_a_share_that_groups_do_not_allow_is_said() -> None:
    rows = [(f"{c}", f"family {c // 10}") for c in range(40)]
    with pytest.warns(
        DataWarning, match=r"^t\.csv: 25% of the classes are for the test, and not 10%: groups stay whole$"
    ):
        table = assign_splits(table_of(rows), "class", 0.1, seed=0)
    assert (table.splits == "test").sum() == 10
    assign_splits(table_of(rows), "class", 0.25, seed=0)


def test_a_column_of_a_table_is_enough(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(
        "file,class,group\n" + "".join(f"{c}-{i}.png,{c},day {c // 2}\n" for c in range(40) for i in range(3))
    )
    table = assign_splits(read_table(path), "class", 0.2, seed=0)
    assert all(len(sides) == 1 for sides in sides_of_groups(table.groups, table.splits).values())
    without = assign_splits(read_table(path, group_column=""), "class", 0.2, seed=0)
    assert any(len(sides) > 1 for sides in sides_of_groups(table.groups, without.splits).values())
