"""False negatives: dropped where the rule says so, replaced, and written down for a person."""

import time
from pathlib import Path

import numpy as np
import pytest

from mohs.data.dataset import Dataset
from mohs.data.table import Table
from mohs.errors import InputError
from mohs.mining import mine
from mohs.plan import TripletPlan
from mohs.settings.config import NegativesConfig
from mohs.training.false_negatives import (
    Dropped,
    append_review,
    cut_review,
    distrusted_pairs,
    duplicate_pairs,
    pairs_of_files,
    read_review_list,
    read_review_rows,
    replace_false_negatives,
    review_bytes,
)

BANK = np.float32([[0.0], [1.0], [0.3], [0.95], [1.4], [9.0]])
LABELS = ["a", "a", "b", "c", "d", "e"]


def mined(rows: np.ndarray, *, beyond_positive: bool = False, bank: np.ndarray = BANK) -> TripletPlan:
    anchors, positives = np.array([0, 1]), np.array([1, 0])
    return mine(
        bank,
        LABELS,
        anchors_T=anchors[rows],
        positives_T=positives[rows],
        hardness_T=1.0,
        scale="margin" if beyond_positive else "rank",
        margin=0.2 if beyond_positive else None,
    )


def test_a_negative_nearer_than_the_share_of_the_positive_is_replaced() -> None:
    plain, nothing = replace_false_negatives(mined, 2, 0.0)
    assert plain.negative.tolist() == [2, 3]
    assert len(nothing.anchor_R) == 0
    plan, dropped = replace_false_negatives(mined, 2, 0.5)
    # The positive is at 1.0: 0.3 and 0.05 are nearer than half of it; the nearest no nearer than 1.0 come instead.
    assert dropped.anchor_R.tolist() == [0, 1]
    assert dropped.negative_R.tolist() == [2, 3]
    assert dropped.distance_R == pytest.approx([0.3, 0.05])
    assert dropped.positive_distance_R == pytest.approx([1.0, 1.0])
    assert plan.negative.tolist() == [4, 5]
    assert plan.anchor_negative_distance == pytest.approx([1.4, 8.0])
    assert plan.header["num_false_negatives"] == 2
    only_one, dropped_one = replace_false_negatives(mined, 2, 0.2)
    assert dropped_one.anchor_R.tolist() == [1]
    assert only_one.negative.tolist() == [2, 5]


def test_where_all_are_nearer_than_the_positive_the_farthest_takes_the_place() -> None:
    bank = np.float32([[0.0], [9.9], [0.01], [5.0], [0.02], [4.0]])

    def found(rows: np.ndarray, *, beyond_positive: bool = False) -> TripletPlan:
        return mined(rows, beyond_positive=beyond_positive, bank=bank)

    plan, dropped = replace_false_negatives(found, 2, 0.9)
    assert dropped.negative_R.tolist() == [2, 3]
    assert plan.negative.tolist() == [3, 2]  # of item 0 at 0: 5.0; of item 1 at 9.9: 0.01
    assert plan.anchor_negative_distance == pytest.approx([5.0, 9.89])
    assert plan.achieved_hardness.tolist() == [1.0, 1.0]


def same_twice(dataset: Dataset) -> tuple[Dataset, int, int]:
    """Return the dataset with one item's picture given to an item of another class too."""
    classes = dataset.labels_id
    one, other = 0, int(np.flatnonzero(classes != classes[0])[0])
    pictures = np.array(dataset.pictures)
    pictures[other] = pictures[one]
    return Dataset(dataset.table, pictures), one, other


def test_equal_pictures_of_two_classes_are_pairs_both_ways(glyphs: Dataset) -> None:
    assert duplicate_pairs(glyphs).shape[1] == 2
    before = {tuple(pair) for pair in duplicate_pairs(glyphs).tolist()}
    changed, one, other = same_twice(glyphs)
    assert {(one, other), (other, one)} <= {tuple(pair) for pair in duplicate_pairs(changed).tolist()} - before
    assert len(distrusted_pairs(changed, NegativesConfig(drop_duplicates=False))) == 0


def test_a_picture_under_many_classes_is_fast_and_under_thousands_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def placeholders(num: int) -> Dataset:
        names = np.array([f"c{i // 2}" for i in range(num)])
        table = Table(tuple(f"{i}.png" for i in range(num)), names, np.full(num, "sample"), np.full(num, ""))
        return Dataset(table, np.zeros((num, 8, 8, 1), np.uint8))

    began = time.process_time()
    pairs = duplicate_pairs(placeholders(1000))
    assert len(pairs) == 1000 * 998
    assert (pairs[:3] == [[0, 2], [0, 3], [0, 4]]).all()
    with pytest.raises(InputError) as caught:
        duplicate_pairs(placeholders(40_000))
    assert time.process_time() - began < 5
    assert str(caught.value).startswith("table: '0.png': this picture occurs 40,000 times, under 20,000 classes")
    monkeypatch.setenv("MOHS_MAX_PAIRS", "998000")
    assert len(duplicate_pairs(placeholders(1000))) == 998_000


def test_review_list_there_and_back(glyphs: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "review.csv"
    dropped = Dropped(np.array([3, 5]), np.array([8, 1]), np.float32([0.25, 0.5]), np.float32([1.0, 1.5]))
    append_review(path, Dropped(*(column[:0] for column in vars(dropped).values())), glyphs, 0)
    assert not path.exists()
    append_review(path, dropped, glyphs, 4)
    length = review_bytes(path)
    append_review(path, dropped, glyphs, 5)
    assert path.read_text().splitlines()[0] == "file,other,class,other_class,distance,positive_distance,segment"
    assert len(path.read_text().splitlines()) == 5
    files = glyphs.table.files
    pairs = read_review_list(path, files)
    assert {tuple(pair) for pair in pairs.tolist()} == {(3, 8), (8, 3), (5, 1), (1, 5)}
    cut_review(path, length)
    assert len(path.read_text().splitlines()) == 3
    assert path.read_text().splitlines()[1].endswith(",0.25,1.0,4")
    cut_review(path, 0)
    assert not path.exists()
    config = NegativesConfig(review_list=str(path))
    append_review(path, dropped, glyphs, 0)
    assert {(3, 8), (1, 5)} <= {tuple(pair) for pair in distrusted_pairs(glyphs, config).tolist()}
    # Files of other splits are passed over.
    assert len(read_review_list(path, files[:4])) == 0


def test_review_list_messages(tmp_path: Path) -> None:
    path = tmp_path / "review.csv"
    with pytest.raises(InputError) as caught:
        read_review_list(path, [])
    assert str(caught.value) == f"negatives.review_list: {path}: no such file; check the path"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError) as caught:
        read_review_list(path, [])
    assert caught.value.problems == tuple(
        f"negatives.review_list: {path}: no column {name!r}; use the review.csv of a run" for name in ("file", "other")
    )
    path.write_text("file,other\nx,\n,y\n")
    with pytest.raises(InputError) as caught:
        read_review_list(path, [])
    assert caught.value.problems == (
        f"negatives.review_list: {path}: row 2: other is empty; give both files, or delete the row",
        f"negatives.review_list: {path}: row 3: file is empty; give both files, or delete the row",
    )


def test_a_review_list_may_write_paths_otherwise() -> None:
    found = pairs_of_files([("./a.png", "x/../c.png"), ("a.png", "gone.png")], ["a.png", "b.png", "./c.png"])
    assert found.tolist() == [[0, 2], [2, 0]]


def test_the_last_verdict_on_a_pair_counts(tmp_path: Path) -> None:
    path = tmp_path / "review.csv"
    rows = ["a,b,same", "a,c,same", "./c,a,different", "a,d,different", "d,a,same", "b,c,"]
    path.write_text("\n".join(["file,other,verdict", *rows]) + "\n")
    assert read_review_rows(path) == [("a", "b"), ("a", "d"), ("d", "a"), ("b", "c")]
    path.write_text("file,other,verdict\na,b,perhaps\n")
    with pytest.raises(InputError, match="row 2: verdict 'perhaps' is not one of 'same', 'different', ''; correct it"):
        read_review_rows(path)
