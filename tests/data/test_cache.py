import errno
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mohs.data import cache
from mohs.data.cache import default_cache_dir, load_pictures
from mohs.data.images import ImagePolicy, decode_image
from mohs.data.reading import read_table
from mohs.data.table import Table
from mohs.errors import BadImagesError, InputError, ResourceError

POLICY = ImagePolicy(size=8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_pictures_are_decoded_once(picture_table: Table, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[int, int]] = []
    first = load_pictures(picture_table, POLICY, cache_dir=folder, progress=lambda *step: steps.append(step))
    assert steps[-1] == (6, 6)
    expected = np.stack([decode_image(picture_table.path(i), POLICY) for i in range(6)])
    np.testing.assert_array_equal(first.pictures, expected)
    assert isinstance(first.pictures, np.memmap)
    assert not first.pictures.flags.writeable
    monkeypatch.setattr(cache, "decode_all", None)  # a second decoding would fail
    again = load_pictures(picture_table, POLICY, cache_dir=folder)
    np.testing.assert_array_equal(again.pictures, expected)
    assert sorted(path.suffix for path in folder.iterdir()) == [".json", ".npy"]


def test_what_changes_the_cache_file(picture_table: Table, folder: Path) -> None:
    def path(table: Table = picture_table, policy: ImagePolicy = POLICY) -> Path:
        return load_pictures(table, policy, cache_dir=folder).path

    before = path()
    assert path() == before
    assert path(policy=ImagePolicy(size=8, fit="crop")) != before
    assert path(picture_table.take([1, 0, 2, 3, 4, 5])) != before
    shutil.copy(picture_table.path(1), picture_table.path(0))
    os.utime(picture_table.path(0), ns=(1, 1))
    changed = load_pictures(picture_table, POLICY, cache_dir=folder)
    assert changed.path != before
    np.testing.assert_array_equal(changed.pictures[0], changed.pictures[1])


def test_bad_pictures_are_all_named(picture_table: Table, folder: Path) -> None:
    picture_table.path(1).unlink()
    picture_table.path(4).write_bytes(picture_table.path(4).read_bytes()[:-60])
    source = picture_table.source
    lines = (
        f"{source}: row 3: 'a1.png': no such file; replace the file or remove the row",
        f"{source}: row 6: 'c0.png': cannot be decoded (truncated file); replace the file or remove the row",
    )
    with pytest.raises(InputError) as refused:
        load_pictures(picture_table, POLICY, cache_dir=folder)
    assert refused.value.problems == lines
    with pytest.raises(BadImagesError) as too_many:
        load_pictures(picture_table, POLICY, cache_dir=folder, max_bad_images=1)
    assert too_many.value.problems == ("2 of 6 pictures cannot be read; allowed are 1", *lines)
    assert list(folder.iterdir()) == []  # nothing half-written
    for _ in range(2):  # decoded, then from the cache
        loaded = load_pictures(picture_table, POLICY, cache_dir=folder, max_bad_images=2)
        assert [(bad.index, bad.message) for bad in loaded.bad] == [(1, lines[0]), (4, lines[1])]
        expected = np.stack([decode_image(picture_table.path(i), POLICY) for i in (0, 2, 3, 5)])
        np.testing.assert_array_equal(loaded.pictures, expected)
    # The cache of a lenient call does not make a strict one lenient.
    with pytest.raises(InputError) as refused:
        load_pictures(picture_table, POLICY, cache_dir=folder)
    assert refused.value.problems == lines


def test_folder_tables_name_the_path(tmp_path: Path, folder: Path, save_picture: Callable[..., Path]) -> None:
    save_picture(tmp_path / "set" / "a" / "1.png")
    (tmp_path / "set" / "a" / "2.png").write_text("x")
    with pytest.raises(InputError) as caught:
        load_pictures(read_table(tmp_path / "set"), POLICY, cache_dir=folder)
    assert str(caught.value) == (
        f"{tmp_path / 'set'}: 'a/2.png': not a picture of a known format; replace the file or remove the picture"
    )


def test_no_picture_at_all(picture_table: Table, folder: Path) -> None:
    for i in range(6):
        picture_table.path(i).unlink()
    with pytest.raises(BadImagesError, match=r"^no picture can be read\n"):
        load_pictures(picture_table, POLICY, cache_dir=folder, max_bad_images=10)


def test_damaged_cache_is_written_again(picture_table: Table, folder: Path) -> None:
    first = load_pictures(picture_table, POLICY, cache_dir=folder)
    expected = np.array(first.pictures)
    for damage in (first.path.read_bytes()[:200], b"", b"nonsense"):
        first.path.write_bytes(damage)
        np.testing.assert_array_equal(load_pictures(picture_table, POLICY, cache_dir=folder).pictures, expected)
    first.path.with_suffix(".json").write_text("{}")
    np.testing.assert_array_equal(load_pictures(picture_table, POLICY, cache_dir=folder).pictures, expected)


def test_many_at_once(picture_table: Table, folder: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(lambda _: load_pictures(picture_table, POLICY, cache_dir=folder).pictures, range(8)))
    for pictures in loaded:
        np.testing.assert_array_equal(pictures, loaded[0])
    assert len(list(folder.iterdir())) == 2


def test_full_disk(picture_table: Table, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = (
        f"{folder}: no space for the decoded pictures (1,152 bytes); free some, or set XDG_CACHE_HOME to another folder"
    )
    with monkeypatch.context() as patch:
        patch.setattr(cache.shutil, "disk_usage", lambda _: SimpleNamespace(free=1151))
        with pytest.raises(ResourceError) as caught:
            load_pictures(picture_table, POLICY, cache_dir=folder)
    assert str(caught.value) == message

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache, "_write_header", fail)
    with pytest.raises(ResourceError) as caught:
        load_pictures(picture_table, POLICY, cache_dir=folder)
    assert str(caught.value) == message
    assert list(folder.iterdir()) == []


def test_interrupt_leaves_nothing(picture_table: Table, folder: Path) -> None:
    def interrupt(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_pictures(picture_table, POLICY, cache_dir=folder, progress=interrupt)
    assert list(folder.iterdir()) == []


def test_folder_that_cannot_be_made(picture_table: Table, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"cannot be written .*; set XDG_CACHE_HOME to another folder$"):
        load_pictures(picture_table, POLICY, cache_dir=tmp_path / "file" / "cache")


def test_arguments(picture_table: Table, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"^max_bad_images: -1 is not a whole number of at least 0;"):
        load_pictures(picture_table, POLICY, cache_dir=folder, max_bad_images=-1)
    with pytest.raises(InputError, match=r"no items; add a row for each picture$"):
        load_pictures(picture_table.take([]), POLICY, cache_dir=folder)
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert default_cache_dir() == Path("/x/mohs")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_dir() == Path.home() / ".cache" / "mohs"
