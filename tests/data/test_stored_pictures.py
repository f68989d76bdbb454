"""Pictures that stay in their file: the same as in memory, compared with their sums when they are first asked for.

Those that are read before they are asked for are the same ones, in the same order, and few of them held.
"""

import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mohs.data import cache, stored_pictures
from mohs.data.cache import load_pictures
from mohs.data.dataset import Dataset
from mohs.data.equal_pictures import picture_numbers
from mohs.data.images import ImagePolicy
from mohs.data.stored_pictures import ReadAhead, StoredPictures, block_sums, read_in_turn
from mohs.data.table import Table
from mohs.errors import InputError, ResourceError
from mohs.evaluation.pixels import pixel_embeddings
from mohs.model.embedder import Embedder
from mohs.settings.config import DataConfig, ModelConfig, RunConfig, TrainingConfig
from mohs.training.loop import fit

POLICY = ImagePolicy(size=8)
WHOLE = np.random.default_rng(0).integers(0, 256, (23, 8, 8, 3), dtype=np.uint8)


@pytest.fixture
def in_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep all pictures in their files, in blocks of two pictures of 8 × 8."""
    monkeypatch.setattr(cache, "_MAPPED_BYTES", 0)
    monkeypatch.setattr(stored_pictures, "_BLOCK_BYTES", 2 * 192)


def stored(folder: Path, pictures: np.ndarray) -> StoredPictures:
    np.save(folder / "pictures.npy", pictures)
    mapped = np.load(folder / "pictures.npy", mmap_mode="r")
    row_bytes = pictures[0].nbytes
    sums = block_sums(folder / "pictures.npy", mapped.offset, len(pictures), row_bytes)
    return StoredPictures(folder / "pictures.npy", mapped.offset, pictures.shape, sums)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> StoredPictures:
    return stored(tmp_path_factory.mktemp("kept"), WHOLE)


@given(
    taken=st.lists(st.integers(-23, 22), max_size=30),
    index=st.one_of(st.slices(30), st.lists(st.integers(-30, 29), max_size=20)),
)
def test_they_are_indexed_as_an_array_is(kept: StoredPictures, taken: list[int], index: slice | list[int]) -> None:
    part, view = WHOLE[np.array(taken, dtype=int)], kept.take(np.array(taken, dtype=int))
    assert (view.shape, view.dtype, len(view)) == (part.shape, part.dtype, len(part))
    if isinstance(index, list):
        index = [i for i in index if -len(part) <= i < len(part)]
        if index:
            assert np.array_equal(view[index[0]], part[index[0]])
        assert np.array_equal(view[np.array(index, dtype=int)], part[np.array(index, dtype=int)])
    else:
        assert np.array_equal(view[index], part[index])


def test_masks_iteration_and_the_whole(kept: StoredPictures) -> None:
    mask = np.arange(23) % 3 == 0
    assert np.array_equal(kept[mask], WHOLE[mask])
    assert np.array_equal(np.stack(list(kept)), WHOLE)
    assert np.array_equal(np.asarray(kept), WHOLE)
    for wrong in (23, -24, np.array([0, 23]), mask[:-1], np.append(mask, False), np.array([0.0, 1.5])):
        with pytest.raises(IndexError):
            kept[wrong]


def test_what_reads_pictures_reads_these(kept: StoredPictures, torch_as_it_was: None) -> None:
    assert np.array_equal(picture_numbers(kept), picture_numbers(WHOLE))
    assert np.array_equal(pixel_embeddings(kept, size=2), pixel_embeddings(WHOLE, size=2))
    network = Embedder.create(ModelConfig(widths=(4,), hidden_dim=8, embedding_dim=4), ImagePolicy(8), seed=0)
    assert np.array_equal(network.embed(kept), network.embed(WHOLE))
    other = Embedder.create(ModelConfig(widths=(4,), hidden_dim=8, embedding_dim=4), ImagePolicy(16), seed=0)
    with pytest.raises(InputError, match=r"uint8\(23, 8, 8, 3\) is not uint8"):
        other.embed(kept)


def test_a_large_cache_stays_in_its_file(
    picture_table: Table, tmp_path: Path, in_file: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_pictures(picture_table, POLICY, cache_dir=tmp_path / "cache")
    monkeypatch.setattr(cache, "decode_all", None)  # a second decoding would fail
    again = load_pictures(picture_table, POLICY, cache_dir=tmp_path / "cache")
    monkeypatch.setattr(cache, "_MAPPED_BYTES", 2**30)
    mapped = load_pictures(picture_table, POLICY, cache_dir=tmp_path / "cache").pictures
    assert isinstance(first.pictures, StoredPictures)
    assert isinstance(mapped, np.memmap)
    assert np.array_equal(np.asarray(first.pictures), mapped)
    assert np.array_equal(np.asarray(again.pictures), mapped)


def test_a_block_is_compared_when_it_is_first_asked_for(picture_table: Table, tmp_path: Path, in_file: None) -> None:
    whole = np.asarray(load_pictures(picture_table, POLICY, cache_dir=tmp_path / "cache").pictures)
    loaded = load_pictures(picture_table, POLICY, cache_dir=tmp_path / "cache")
    content = bytearray(loaded.path.read_bytes())
    content[-1] ^= 1  # of the last picture, in the third block
    loaded.path.write_bytes(content)
    opened = load_pictures(picture_table, POLICY, cache_dir=tmp_path / "cache").pictures
    assert np.array_equal(opened[:4], whole[:4])
    with pytest.raises(ResourceError, match="from number 4 on are not as they were written; start again"):
        opened[4]
    again = load_pictures(picture_table, POLICY, cache_dir=tmp_path / "cache").pictures
    assert np.array_equal(np.asarray(again), whole)
    loaded.path.write_bytes(content[:-100])
    assert np.array_equal(
        np.asarray(load_pictures(picture_table, POLICY, cache_dir=tmp_path / "cache").pictures), whole
    )


def test_a_file_that_is_cut_short_meanwhile_is_named(tmp_path: Path) -> None:
    pictures = stored(tmp_path, WHOLE)
    assert np.array_equal(pictures[[0]], WHOLE[:1])
    (tmp_path / "pictures.npy").write_bytes((tmp_path / "pictures.npy").read_bytes()[:-1000])
    with pytest.raises(ResourceError, match=r"pictures\.npy: ends before the last picture"):
        pictures[:]


def test_a_cache_may_be_deleted_while_it_is_read(tmp_path: Path) -> None:
    pictures = stored(tmp_path, WHOLE)
    part = pictures.take(np.array([3, 1]))
    again = pickle.loads(pickle.dumps(part))
    (tmp_path / "pictures.npy").unlink()
    assert np.array_equal(part[:], WHOLE[[3, 1]])
    assert np.array_equal(pictures[:], WHOLE)
    assert np.array_equal(again[:], WHOLE[[3, 1]])


def test_a_dataset_takes_items_without_reading_them(
    picture_table: Table, tmp_path: Path, in_file: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_pictures(picture_table, POLICY, cache_dir=tmp_path / "cache")
    whole = np.asarray(loaded.pictures)
    dataset = Dataset(picture_table, loaded.pictures)
    with monkeypatch.context() as patch:
        patch.setattr(StoredPictures, "_read", None)
        part = dataset.take([5, 0, 3]).take([2, 0])
    assert np.array_equal(part.pictures[:], whole[[3, 5]])
    assert part.labels.tolist() == ["b", "c"]


def test_a_run_learns_from_them_what_it_learns_from_memory(
    tmp_path: Path, torch_as_it_was: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = np.random.default_rng(0)
    pictures = draw.integers(0, 256, (40, 16, 16, 1), dtype=np.uint8)
    labels = np.repeat([f"c{i:02d}" for i in range(20)], 2)
    table = Table(tuple(f"{i}.png" for i in range(40)), labels, np.full(40, "sample"), np.full(40, ""))
    config = RunConfig(
        data=DataConfig(size=16, channels=1),
        model=ModelConfig(widths=(4, 8), embedding_dim=8),
        training=TrainingConfig(num_triplets=60, batch_triplets=10, num_segments=2, device="cpu"),
    )

    def trained(dataset: Dataset) -> dict[str, torch.Tensor]:
        embedder = Embedder.create(config.network, ImagePolicy(16, 1), seed=0)
        fit(embedder, dataset, config)
        return embedder.state_dict()

    read_by: dict[str, list[np.ndarray]] = {}
    read = StoredPictures._read

    def noted(self: StoredPictures, row_K: np.ndarray) -> np.ndarray:
        read_by.setdefault(threading.current_thread().name.partition("_")[0], []).append(row_K)
        return read(self, row_K)

    monkeypatch.setattr(StoredPictures, "_read", noted)
    one, two = (trained(Dataset(table, each)) for each in (pictures, stored(tmp_path, pictures)))
    for name, value in one.items():
        assert torch.equal(value, two[name]), name
    # What is embedded and shown is read ahead; nobody waits for a picture but who looks for equal ones, in order.
    assert sum(map(len, read_by["pictures"])) >= 2 * 60
    others = [row_K for name, rows in read_by.items() if name != "pictures" for row_K in rows]
    assert all(np.array_equal(row_K, np.arange(40)) for row_K in others)


BATCHES = [np.array(items, dtype=np.int64) for items in ([3, 1, 1], [22], [0, 5, 7], [], [9, 8])]


@pytest.fixture
def apart(tmp_path: Path) -> StoredPictures:
    return stored(tmp_path, WHOLE)


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
def test_batches_come_as_they_were_asked_for(apart: StoredPictures, kind: str) -> None:
    found = list(read_in_turn(apart if kind == "in its file" else WHOLE, BATCHES))
    assert len(found) == len(BATCHES)
    for read, items in zip(found, BATCHES, strict=True):
        assert np.array_equal(read, WHOLE[items])


def test_a_batch_is_read_once_by_the_thread(apart: StoredPictures, readers: list[tuple[str, list[int]]]) -> None:
    assert len(list(read_in_turn(apart, BATCHES))) == 5
    assert readers == [("pictures", items.tolist()) for items in BATCHES]


def test_only_the_next_batch_is_read_before_it_is_asked_for(
    apart: StoredPictures, readers: list[tuple[str, list[int]]]
) -> None:
    batches = read_in_turn(apart, BATCHES)
    next(batches)
    batches.close()  # waits for the thread
    assert len(readers) <= 2


def test_what_was_announced_and_is_not_asked_for_is_given_up(apart: StoredPictures) -> None:
    ahead = ReadAhead(apart)
    for items in BATCHES[:3]:
        ahead.announce(items)
    assert np.array_equal(ahead.take(BATCHES[2]), WHOLE[BATCHES[2]])
    assert np.array_equal(ahead.take(BATCHES[0]), WHOLE[BATCHES[0]])  # never announced again
    ahead.announce(BATCHES[0])
    ahead.close()
    assert np.array_equal(ahead.take(BATCHES[1]), WHOLE[BATCHES[1]])
    ahead.announce(BATCHES[1])  # to nobody


def test_damage_is_told_where_the_pictures_are_asked_for(apart: StoredPictures) -> None:
    content = bytearray(apart.path.read_bytes())
    content[-1] ^= 1
    apart.path.write_bytes(content)
    ahead = ReadAhead(apart)
    ahead.announce(np.array([0]))
    with pytest.raises(ResourceError, match="not as they were written"):
        ahead.take(np.array([0]))
