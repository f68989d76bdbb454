"""Pictures that are read before they are asked for: the same ones, in the same order, and few of them held."""

import threading
from pathlib import Path

import numpy as np
import pytest

from mohs.data.read_ahead import ReadAhead, read_in_turn
from mohs.data.stored_pictures import StoredPictures, block_sums
from mohs.errors import ResourceError

WHOLE = np.random.default_rng(0).integers(0, 256, (23, 8, 8, 3), dtype=np.uint8)
BATCHES = [np.array(items, dtype=np.int64) for items in ([3, 1, 1], [22], [0, 5, 7], [], [9, 8])]


@pytest.fixture
def stored(tmp_path: Path) -> StoredPictures:
    path = tmp_path / "pictures.npy"
    np.save(path, WHOLE)
    offset = np.load(path, mmap_mode="r").offset
    return StoredPictures(path, offset, WHOLE.shape, block_sums(path, offset, len(WHOLE), WHOLE[0].nbytes))


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[int]]]:
    """Which thread read which rows of the file."""
    found: list[tuple[str, list[int]]] = []
    read = StoredPictures._read

    def noted(self: StoredPictures, row_K: np.ndarray) -> np.ndarray:
        found.append((threading.current_thread().name.partition("_")[0], row_K.tolist()))
        return read(self, row_K)

    monkeypatch.setattr(StoredPictures, "_read", noted)
    return found


@pytest.mark.parametrize("kind", ["in memory", "in its file"])
def test_batches_come_as_they_were_asked_for(stored: StoredPictures, kind: str) -> None:
    found = list(read_in_turn(stored if kind == "in its file" else WHOLE, BATCHES))
    assert len(found) == len(BATCHES)
    for read, items in zip(found, BATCHES, strict=True):
        assert np.array_equal(read, WHOLE[items])


def test_a_batch_is_read_once_by_the_thread(stored: StoredPictures, readers: list[tuple[str, list[int]]]) -> None:
    assert len(list(read_in_turn(stored, BATCHES))) == 5
    assert readers == [("pictures", items.tolist()) for items in BATCHES]


def test_only_the_next_batch_is_read_before_it_is_asked_for(
    stored: StoredPictures, readers: list[tuple[str, list[int]]]
) -> None:
    batches = read_in_turn(stored, BATCHES)
    next(batches)
    batches.close()  # waits for the thread
    assert len(readers) <= 2


def test_what_was_announced_and_is_not_asked_for_is_given_up(stored: StoredPictures) -> None:
    ahead = ReadAhead(stored)
    for items in BATCHES[:3]:
        ahead.announce(items)
    assert np.array_equal(ahead.take(BATCHES[2]), WHOLE[BATCHES[2]])
    assert np.array_equal(ahead.take(BATCHES[0]), WHOLE[BATCHES[0]])  # never announced again
    ahead.announce(BATCHES[0])
    ahead.close()
    assert np.array_equal(ahead.take(BATCHES[1]), WHOLE[BATCHES[1]])
    ahead.announce(BATCHES[1])  # to nobody


def test_damage_is_told_where_the_pictures_are_asked_for(stored: StoredPictures) -> None:
    content = bytearray(stored.path.read_bytes())
    content[-1] ^= 1
    stored.path.write_bytes(content)
    ahead = ReadAhead(stored)
    ahead.announce(np.array([0]))
    with pytest.raises(ResourceError, match="not as they were written"):
        ahead.take(np.array([0]))
