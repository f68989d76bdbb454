from pathlib import Path

import numpy as np
import pytest

from mohs.data.dataset import Dataset, open_dataset
from mohs.data.images import ImagePolicy, decode_image
from mohs.data.table import Table
from mohs.errors import InputError

POLICY = ImagePolicy(size=8)


def test_open_and_take(picture_table: Table, tmp_path: Path) -> None:
    dataset = open_dataset(tmp_path / "set", policy=POLICY, cache_dir=tmp_path / "cache")
    assert len(dataset) == 6
    assert dataset.left_out == ()
    assert dataset.labels_id.tolist() == [0, 0, 1, 1, 2, 2]
    assert dataset.labels_id.dtype == np.int64
    part = dataset.take([5, 2])
    assert part.labels.tolist() == ["c", "b"]
    assert part.labels_id.tolist() == [1, 0]
    assert part.roles.tolist() == ["sample", "sample"]
    np.testing.assert_array_equal(part.pictures[0], decode_image(part.table.path(0), POLICY))
    assert np.shares_memory(dataset.take([2, 3, 4]).pictures, dataset.pictures)
    np.testing.assert_array_equal(dataset.take([2, 3, 4]).pictures, dataset.pictures[2:5])
    assert len(dataset.take([])) == 0


def test_bad_pictures_are_left_out_by_name(picture_table: Table, tmp_path: Path) -> None:
    picture_table.path(2).write_text("x")
    dataset = open_dataset(tmp_path / "set", policy=POLICY, cache_dir=tmp_path / "cache", max_bad_images=1)
    assert dataset.labels.tolist() == ["a", "a", "b", "c", "c"]
    assert [dataset.table.files[2], len(dataset.left_out)] == ["b1.png", 1]
    assert "row 4: 'b0.png': not a picture" in dataset.left_out[0]
    for i in range(5):
        np.testing.assert_array_equal(dataset.pictures[i], decode_image(dataset.table.path(i), POLICY))


def test_glyphs_has_its_own_catalog() -> None:
    with pytest.raises(InputError, match=r"^catalog: 'c.csv' with 'glyphs', which has its own; leave catalog out$"):
        open_dataset("glyphs", catalog="c.csv", policy=POLICY)


def test_pictures_must_fit(picture_table: Table) -> None:
    with pytest.raises(InputError) as caught:
        Dataset(picture_table, np.zeros((6, 3, 8, 8), np.uint8))
    assert str(caught.value) == (
        "pictures: uint8(6, 3, 8, 8) is not uint8 [6, H, W, 1 or 3]; give one picture an item, channels last"
    )
