from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mohs.data.reading import read_table
from mohs.data.split import (
    assign_splits,
    limit_per_class,
    split_by_class,
    split_by_item,
)
from mohs.data.table import Table
from mohs.errors import InputError

labels_st = st.lists(st.integers(0, 12).map(str), min_size=1, max_size=60).map(
    lambda names: np.array(names, dtype=np.str_)
)
seeds = st.integers(0, 2**32)


def table_of(labels: list[str], splits: list[str] | None = None, roles: list[str] | None = None) -> Table:
    count = len(labels)
    return Table(
        tuple(f"{i:03d}.png" for i in range(count)),
        np.array(labels),
        np.array(roles or ["sample"] * count),
        np.array(splits or [""] * count, dtype="<U10"),
        source="t.csv",
        places=tuple(f"t.csv: row {i + 2}" for i in range(count)),
    )


@given(labels=labels_st, seed=seeds, order_seed=seeds)
def test_by_class_is_disjoint_and_ignores_row_order(labels: np.ndarray, seed: int, order_seed: int) -> None:
    shares = {"test": 0.3, "validation": 0.2}
    num_classes = len(set(labels.tolist()))
    if max(1, round(0.3 * num_classes)) + max(1, round(0.2 * num_classes)) >= num_classes:
        with pytest.raises(InputError, match=r"leave none for 'train'"):
            split_by_class(labels, shares, seed=seed)
        return
    splits = split_by_class(labels, shares, seed=seed)
    split_of = dict(zip(labels.tolist(), splits.tolist(), strict=True))
    assert [split_of[label] for label in labels.tolist()] == splits.tolist()
    assert list(split_of.values()).count("test") == max(1, round(0.3 * num_classes))
    assert list(split_of.values()).count("validation") == max(1, round(0.2 * num_classes))
    order = np.random.default_rng(order_seed).permutation(len(labels))
    np.testing.assert_array_equal(split_by_class(labels[order], shares, seed=seed), splits[order])


def test_seeds_give_different_splits() -> None:
    labels = np.arange(100).astype(str)
    one, other = (split_by_class(labels, {"test": 0.5}, seed=seed) for seed in (0, 1))
    assert (one != other).sum() > 20
    one, other = (split_by_item(np.repeat(labels, 4), {"test": 0.5}, seed=seed) for seed in (0, 1))
    assert (one != other).sum() > 80


@given(labels=labels_st, seed=seeds, share=st.floats(0.01, 0.99), order_seed=seeds)
def test_by_item_keeps_a_training_item(labels: np.ndarray, seed: int, share: float, order_seed: int) -> None:
    keys = [f"{i:03d}" for i in range(len(labels))]
    splits = split_by_item(labels, {"test": share}, seed=seed, keys=keys)
    for label in set(labels.tolist()):
        own = splits[labels == label]
        in_test = int((own == "test").sum())
        assert (own == "train").sum() >= 1
        if len(own) == 1:
            assert in_test == 0
        else:
            low, high = int(np.floor(len(own) * share - 1e-9)), int(np.ceil(len(own) * share + 1e-9))
            assert min(low, len(own) - 1) <= in_test <= high
    order = np.random.default_rng(order_seed).permutation(len(labels))
    again = split_by_item(labels[order], {"test": share}, seed=seed, keys=[keys[i] for i in order])
    np.testing.assert_array_equal(again, splits[order])


def test_by_item_shares_come_out_right() -> None:
    labels = np.repeat(np.arange(1000), 2).astype(str)  # 0.4 items a class
    splits = split_by_item(labels, {"test": 0.2, "validation": 0.1}, seed=3)
    assert abs(int((splits == "test").sum()) - 400) <= 1
    # A class that gave its spare item to test has none for validation; the share is as near as that allows.
    assert 100 <= int((splits == "validation").sum()) <= 201
    labels = np.repeat(np.arange(100), 20).astype(str)
    splits = split_by_item(labels, {"test": 0.2, "validation": 0.1, "train": 0.7}, seed=3)
    counts = {name: int((splits == name).sum()) for name in ("train", "validation", "test")}
    assert counts["test"] == pytest.approx(400, abs=1)
    assert counts["validation"] == pytest.approx(200, abs=2)


def test_by_item_catalog_is_for_training() -> None:
    labels = np.repeat(np.arange(50), 2).astype(str)
    roles = np.array(["catalog", "sample"] * 50)
    splits = split_by_item(labels, {"test": 0.5}, seed=0, roles=roles)
    assert set(splits[roles == "catalog"].tolist()) == {"train"}
    # A class with a catalog item may lose its only sample; without roles there is one to lose as well.
    assert (splits[roles == "sample"] == "test").sum() == 25


@pytest.mark.parametrize("split", [split_by_class, split_by_item])
def test_wrong_fractions(split: object) -> None:
    labels = np.array(list("abcd"))
    for fractions, message in [
        ({"dev": 0.1}, "fractions: 'dev' is not one of 'train', 'validation', 'test'"),
        ({"test": 1.5}, "fractions: 'test': 1.5 is not a number in (0, 1); use for example 0.2"),
        ({"test": float("nan")}, "fractions: 'test': nan is not a number in (0, 1); use for example 0.2"),
        ({"test": 0.5, "train": 0.6}, "fractions: {'test': 0.5, 'train': 0.6} do not add up to 1; "
         "leave 'train' out, it has the rest"),
        ({"test": 0.6, "validation": 0.6}, "fractions: {'test': 0.6, 'validation': 0.6} leave nothing to divide; "
         "give shares such as {'test': 0.2}"),
    ]:  # fmt: skip
        with pytest.raises(InputError) as caught:
            split(labels, fractions, seed=0)  # type: ignore[operator]
        assert str(caught.value) == message


@given(labels=labels_st, count=st.integers(1, 5), seed=seeds)
def test_limit_per_class(labels: np.ndarray, count: int, seed: int) -> None:
    taken = limit_per_class(table_of(labels), count, seed=seed)
    assert taken.dtype == np.int64
    assert taken.tolist() == sorted(set(taken.tolist()))
    for label in set(labels.tolist()):
        assert (labels[taken] == label).sum() == min(int((labels == label).sum()), count)


def test_limit_per_class_is_random_and_catalog_first() -> None:
    table = table_of(["a"] * 10)
    firsts = {int(limit_per_class(table, 1, seed=seed)[0]) for seed in range(200)}
    assert firsts == set(range(10))
    table = table_of(["a"] * 10, roles=["sample"] * 9 + ["catalog"])
    assert all(9 in limit_per_class(table, 2, seed=seed) for seed in range(20))
    table = table_of(["a", "b"] * 5)
    order = np.random.default_rng(0).permutation(10)
    taken = {table.files[i] for i in limit_per_class(table, 2, seed=5)}
    shuffled = table.take(order)
    assert {shuffled.files[i] for i in limit_per_class(shuffled, 2, seed=5)} == taken
    with pytest.raises(InputError, match=r"^num_per_class: 0 is not a whole number of at least 1; use for example 2$"):
        limit_per_class(table, 0, seed=0)


def test_assign_by_class_and_by_item() -> None:
    table = table_of([str(i) for i in range(10) for _ in range(3)])
    open_set = assign_splits(table, "class", 0.3, seed=0)
    for_test = open_set.splits == "test"
    assert for_test.sum() == 9
    assert not set(open_set.labels[for_test].tolist()) & set(open_set.labels[~for_test].tolist())
    closed = assign_splits(table, "item", 0.3, seed=0)
    assert set(closed.labels[closed.splits == "train"].tolist()) == set(table.labels.tolist())
    assert abs(int((closed.splits == "test").sum()) - 9) <= 1


def test_assign_needs_two_classes_on_each_side() -> None:
    table = table_of(list("aabbccdd"))
    with pytest.raises(InputError) as caught:
        assign_splits(table, "class", 0.25, seed=0)
    assert str(caught.value) == (
        "t.csv: 1 class in test, of 4; each side needs at least 2: add classes or change the fraction"
    )
    assert (assign_splits(table, "class", 0.5, seed=0).splits == "test").sum() == 4
    with pytest.raises(InputError, match=r"^by: 'file' is not one of 'class', 'item'$"):
        assign_splits(table, "file", 0.5, seed=0)  # type: ignore[arg-type]
    for fraction in (0, 1, -0.1):
        with pytest.raises(InputError, match=rf"^test_fraction: {fraction} is not a number in \(0, 1\)"):
            assign_splits(table, "item", fraction, seed=0)


def test_splits_of_the_table_are_kept() -> None:
    labels = list("aabbccdd") + list("acx")
    splits = ["train"] * 4 + ["test"] * 4 + [""] * 3
    roles = ["sample"] * 8 + ["catalog"] * 3
    table = table_of(labels, splits, roles)
    assert assign_splits(table, "class", 0.5, seed=0).splits.tolist() == [*splits[:8], "train", "test", "train"]
    assert assign_splits(table, "item", 0.5, seed=0).splits.tolist() == [*splits[:8], "train", "train", "train"]


def test_splits_of_the_table_are_checked() -> None:
    with pytest.raises(InputError) as caught:
        assign_splits(table_of(list("abcd"), ["train", "", "test", ""]), "class", 0.5, seed=0)
    assert caught.value.problems == (
        "t.csv: row 3: '001.png': no split, but others have one; fill in 'train', 'validation' or 'test'",
        "t.csv: row 5: '003.png': no split, but others have one; fill in 'train', 'validation' or 'test'",
    )
    mixed = table_of(list("aabbccdd"), ["train", "test", "train", "train", "test", "test", "train", "train"])
    with pytest.raises(InputError) as caught:
        assign_splits(mixed, "class", 0.5, seed=0)
    assert str(caught.value) == (
        "t.csv: class 'a' is in test and train; by class, a class is in one split: change the table, or split by item"
    )
    assert assign_splits(mixed, "item", 0.5, seed=0).splits.tolist() == mixed.splits.tolist()


def test_splits_survive_a_file(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("file,class,split\na,x,validation\nb,y,train\nc,z,validation\nd,w,train\n")
    table = assign_splits(read_table(tmp_path / "t.csv"), "class", 0.2, seed=0)
    assert table.splits.tolist() == ["validation", "train"] * 2
