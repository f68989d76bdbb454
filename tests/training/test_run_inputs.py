"""Fingerprints of what a run read: what changes them, and what does not."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mohs.data.dataset import Dataset, open_dataset
from mohs.data.images import ImagePolicy
from mohs.settings.config import ModelConfig, NegativesConfig, RunConfig
from mohs.training.run_inputs import changed_files, changed_pictures, save_inputs

NUM = 9


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(NUM):
        (tmp_path / "set" / f"c{i % 3}").mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (12, 12), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "set" / f"c{i % 3}" / f"{i}.bmp")
    return tmp_path / "set"


def opened(folder: Path, cache: str = "cache") -> Dataset:
    return open_dataset(folder, policy=ImagePolicy(size=12, channels=1), cache_dir=folder.parent / cache)


def spoil(file: Path) -> None:
    Image.fromarray(255 - np.asarray(Image.open(file))).save(file)


def test_nothing_has_changed(folder: Path, tmp_path: Path) -> None:
    assert changed_pictures(tmp_path, opened(folder)) is None  # no fingerprints: a run of an older version
    save_inputs(tmp_path, opened(folder), RunConfig())
    assert changed_pictures(tmp_path, opened(folder)) is None
    for file in folder.rglob("*.bmp"):
        os.utime(file, (1, 1))  # other times: another cache file, the same pictures
    assert changed_pictures(tmp_path, opened(folder)) is None
    assert changed_files(tmp_path, RunConfig()) == []


@pytest.mark.parametrize("num", [1, 5, 7, NUM])
def test_changed_pictures_are_counted_and_named(folder: Path, tmp_path: Path, num: int) -> None:
    save_inputs(tmp_path, opened(folder), RunConfig())
    files = opened(folder).table.files
    for file in files[:num]:
        spoil(folder / file)
    line = changed_pictures(tmp_path, opened(folder))
    more = f" and {num - 5} more" if num > 5 else ""
    assert line == (
        f"{folder}: {num} of {NUM} pictures {'has' if num == 1 else 'have'} changed since the run read them: "
        f"{', '.join(files[: min(num, 5)])}{more}"
    )


def test_size_and_time_may_be_those_of_before(folder: Path, tmp_path: Path) -> None:
    save_inputs(tmp_path, opened(folder), RunConfig())
    file = folder / opened(folder).table.files[4]
    before = file.stat()
    spoil(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    # Decoded again, as on another machine or after the cache was emptied.
    line = changed_pictures(tmp_path, opened(folder, "other cache"))
    assert line is not None
    assert "1 of 9 pictures has changed" in line


def test_one_pixel_is_enough(folder: Path, tmp_path: Path) -> None:
    dataset = opened(folder)
    save_inputs(tmp_path, dataset, RunConfig())
    for place in ((0, 0, 0, 0), (4, 11, 11, 0), (NUM - 1, 5, 7, 0)):
        pictures = np.array(dataset.pictures)
        pictures[place] ^= 1
        line = changed_pictures(tmp_path, Dataset(dataset.table, pictures))
        assert line is not None
        assert line.endswith(f": {dataset.table.files[place[0]]}")


def test_weights_and_review_list(folder: Path, tmp_path: Path) -> None:
    weights, review = tmp_path / "w.safetensors", tmp_path / "review.csv"
    weights.write_bytes(b"1")
    review.write_text("file,other\n")
    config = RunConfig(model=ModelConfig(weights=str(weights)), negatives=NegativesConfig(review_list=str(review)))
    save_inputs(tmp_path, opened(folder), config)
    assert changed_files(tmp_path, config) == []
    weights.write_bytes(b"2")
    review.unlink()
    assert changed_files(tmp_path, config) == [
        f"model.weights: {weights} has changed since the run read it",
        f"negatives.review_list: {review} is not there any more",
    ]
