"""A bank in shards is mined as the same bank in memory: index for index, and byte for byte."""

import copy
import importlib
import tempfile
import threading
from pathlib import Path
from typing import final
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mining_cases import KINDS, assert_agrees, cases, random_bank, random_labels

from mohs.errors import InputError
from mohs.hardness.scales import SCALES
from mohs.mining import mine, questions, rank_search, stored, stream, streamed, streamed_kernels
from mohs.shards import RowsInPieces, ShardLayout, Shards, open_shards, write_shards

mine_module = importlib.import_module("mohs.mining.mine")  # mohs.mining has a function of this name, too


def in_shards(bank: np.ndarray, folder: str | Path, rows_per_shard: int) -> Shards:
    layout = ShardLayout(len(bank), bank.shape[1:], str(bank.dtype), rows_per_shard)
    write_shards(folder, layout, {}, lambda start, stop: bank[start:stop])
    return open_shards(folder)


@pytest.fixture(autouse=True)
def not_flushed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of small shards need not be on the disk."""
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.fixture
def tight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have little room for everything, so that few items need many pieces, groups, blocks and passes."""
    for module, name, value in (
        (stream, "TILE", 16), (stream, "_ROWS", 5), (stream, "PIECE_BYTES", 64),
        (streamed, "_GROUP", 11), (streamed, "_SAMPLE", 20), (streamed, "_ROWS", 7), (streamed, "_DEVIATIONS", 0.3),
        (rank_search, "_MOST_CODES", 3), (rank_search, "ROOM_BYTES", 96), (rank_search, "_SPARE", 1),
        (questions, "NUM_CELLS", 4), (rank_search, "NUM_CELLS", 4), (rank_search, "_LEARNT", 2),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases(), st.integers(20, 150))
def test_it_equals_the_oracle(case, rows_per_shard):
    arguments, more = case
    with tempfile.TemporaryDirectory() as folder:
        assert_agrees(*arguments, **more, stored=in_shards(arguments[0], folder, rows_per_shard))


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases(), st.integers(20, 150))
def test_it_does_so_with_little_room(tight, case, rows_per_shard):
    """Guesses are wrong, ranks need several passes, ties have no room."""
    arguments, more = case
    with tempfile.TemporaryDirectory() as folder:
        assert_agrees(*arguments, **more, stored=in_shards(arguments[0], folder, rows_per_shard))


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases(), st.integers(0, 2**32 - 1))
def test_it_does_so_whatever_rounds_the_product(case, seed):
    """Products off by as much as float32 rounding may cost change nothing, though they differ between passes."""
    arguments, more = case
    noise = np.random.default_rng(seed)
    kernel = streamed_kernels.mark_items

    def noisy(product, *others):
        product *= (1 + noise.uniform(-8, 8, product.shape) * 2.0**-24).astype(np.float32)
        kernel(product, *others)

    with tempfile.TemporaryDirectory() as folder, mock.patch.object(stream, "mark_items", noisy):
        assert_agrees(*arguments, **more, stored=in_shards(arguments[0], folder, 70))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("scale", SCALES)
def test_the_plan_is_that_of_the_bank_in_memory(tmp_path: Path, scale, dtype):
    """Byte for byte, whatever the shards: several tiles and pieces, twins, and a class of a third of all."""
    rng = np.random.default_rng(5)
    bank = random_bank(rng, 3000, 12, "unit").astype(dtype)
    twins = rng.permutation(3000)
    bank[twins[:600]] = bank[twins[600:1200]]
    labels = random_labels(rng, 3000, "pairs")
    labels[twins[:1000]] = labels[twins[0]]
    anchors = np.concatenate([twins[:30], rng.integers(0, 3000, 500)])
    wanted = {
        "anchors_T": anchors, "hardness_T": np.where(rng.random(530) < 0.2, 1.0, rng.random(530)), "scale": scale,
        "margin": 0.4 if scale == "margin" else None, "candidates": rng.random(3000) < 0.8,
    }  # fmt: skip
    mine(bank, labels, **wanted).save(tmp_path / "memory.parquet")
    for number, rows_per_shard in enumerate((3000, 700)):
        shards = in_shards(bank, tmp_path / str(number), rows_per_shard)
        with mock.patch.object(stream, "PIECE_BYTES", 4 * 12 * 600):
            mine(shards, labels, **wanted).save(tmp_path / "shards.parquet")
        assert (tmp_path / "shards.parquet").read_bytes() == (tmp_path / "memory.parquet").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_of_it_is_that_of_the_bank_in_memory(tmp_path: Path, kind):
    rng = np.random.default_rng(3)
    bank, labels = random_bank(rng, 2000, 8, kind), random_labels(rng, 2000, "pairs")
    wanted = {"anchors_T": rng.integers(0, 2000, 300), "hardness_T": rng.random(300), "scale": "log-rank"}
    plans = [
        mine(rows, labels, **wanted, method="sampled", num_sampled=256, seed=4)
        for rows in (bank, in_shards(bank, tmp_path, 300))
    ]
    assert 0 < plans[0].header["num_anchors_exact"] < 300
    for plan, name in zip(plans, ("memory", "shards"), strict=True):
        plan.save(tmp_path / name)
    assert (tmp_path / "shards").read_bytes() == (tmp_path / "memory").read_bytes()


def test_ties_without_number_need_no_room(tmp_path: Path, tight):
    """All items but one are at one point: what decides is the item index."""
    bank = np.zeros((400, 3), dtype=np.float32)
    bank[0] = 1.0
    rng = np.random.default_rng(0)
    shards = in_shards(bank, tmp_path, 90)
    for scale in SCALES:
        assert_agrees(
            bank, np.arange(400), rng.integers(0, 400, 12), rng.random(12), scale, None, 0.5, False, stored=shards
        )


def test_progress_is_told_and_never_falls(tmp_path: Path):
    bank = random_bank(np.random.default_rng(0), 500, 4, "plain")
    told: list[tuple[int, int]] = []
    mine(
        in_shards(bank, tmp_path, 100), np.arange(500), anchors_T=np.arange(50), hardness_T=0.5, scale="rank",
        progress=lambda *done: told.append(done),
    )  # fmt: skip
    assert told == sorted(told)
    assert told[-1] == (50, 50)
    assert len(told) > 5


def test_what_cannot_be_mined_is_refused_in_a_line(tmp_path: Path):
    bank = random_bank(np.random.default_rng(0), 30, 4, "plain")
    wanted = {"anchors_T": [0], "hardness_T": 0.5, "scale": "rank"}
    with pytest.raises(InputError, match=r"uint8\[30, 4\] in shards are no vectors; write them with"):
        mine(in_shards(bank.astype(np.uint8), tmp_path / "a", 7), np.arange(30), **wanted)
    bank[17] = 0
    shards = in_shards(bank, tmp_path / "b", 7)
    with pytest.raises(InputError, match="row 17 has norm 0 and cannot be normalised"):
        mine(shards, np.arange(30), **wanted, metric="cosine")
    with pytest.raises(InputError, match="29 labels for 30 embeddings"):
        mine(shards, np.arange(29), **wanted)
    with pytest.raises(InputError, match=r"'cuda' .* a bank in shards"):
        mine(shards, np.arange(30), **wanted, device="cuda")
    bank[17] = np.nan
    with pytest.raises(InputError, match="row 17 has NaN or Inf"):
        mine(in_shards(bank, tmp_path / "c", 7), np.arange(30), **wanted)


@final
class InParts(RowsInPieces):
    """Shards of which every other piece is looked at by itself, as if on another machine, and what it found merged."""

    def __init__(self, shards: Shards) -> None:
        self.layout, self._shards = shards.layout, shards

    def __getitem__(self, index):
        return self._shards[index]

    def scan(self, problem):
        self._problem = problem
        self.frame = stream.LocalScan(problem, 1).frame
        return self

    def ask(self, queries, asked, tick):
        bank = self._problem.bank_ND
        is_candidate = np.isin(np.arange(len(bank)), self._problem.candidates_M)
        pieces = stream.pieces_of(bank)
        as_asked = copy.deepcopy(asked)
        for part in (pieces[1::2], pieces[::2]):
            answers = copy.deepcopy(as_asked)
            stream.stream(bank, part, is_candidate, self.frame, queries, answers, 1, tick)
            for question, answer in zip(asked, answers, strict=True):
                question.merge(answer)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("scale", SCALES)
def test_what_parts_find_is_merged_into_the_same(tmp_path: Path, tight, scale, k):
    """Ties across the parts, in both orders: the lower item index wins wherever it was found."""
    rng = np.random.default_rng(0)
    bank = random_bank(rng, 300, 2, "grid")
    shards = InParts(in_shards(bank, tmp_path, 40))
    hardness = np.where(rng.random(25) < 0.3, 1.0, rng.random(25))
    assert_agrees(
        bank, random_labels(rng, 300, "pairs"), rng.integers(0, 300, 25), hardness, scale, rng.random(300) < 0.9, 0.5,
        False, k=k, stored=shards,
    )  # fmt: skip


def test_keys_that_are_all_equal_are_counted_in_their_row(tmp_path: Path):
    """Between two keys of 0 no cells fit; what is counted stays in its row."""
    question = questions.KeyCounts.ask(np.arange(3), np.zeros(3), np.zeros(3))
    assert np.isfinite(question.line_R3).all()
    assert (question.line_R3[:, 1] > question.line_R3[:, 0]).all()
    cells_RB = np.zeros((3, questions.NUM_CELLS), dtype=np.uint32)
    line_R3 = np.float32([[-1e-45, 1e-45, np.inf]])
    product_RC, half_C = np.zeros((1, 64), dtype=np.float32), np.zeros(64, dtype=np.float32)
    streamed_kernels.count_keys(product_RC, half_C, line_R3, np.zeros(1, dtype=np.int64), cells_RB[1:2])
    assert cells_RB.sum(axis=1).tolist() == [0, 64, 0]


def test_a_collapsed_bank_is_mined_by_rank(tmp_path: Path, tight):
    """Most rows are equal bit by bit, and the others one step away."""
    rng = np.random.default_rng(0)
    bank = np.full((300, 8), 0.25, dtype=np.float32)
    apart = rng.permutation(300)[:60]
    bank[apart, 0] = np.nextafter(bank[apart, 0], np.float32(1))
    anchors, hardness, labels = rng.integers(0, 300, 12), np.tile([0.5, 0.1], 6), np.arange(300) // 2
    shards = in_shards(bank, tmp_path, 100)
    found = mine(shards, labels, anchors_T=anchors, hardness_T=hardness, scale="rank")
    for anchor, h, negative in zip(anchors, hardness, found.negative, strict=True):
        others = np.flatnonzero(labels != labels[anchor])
        is_apart = bank[others, 0] != bank[anchor, 0]
        ordered = others[np.argsort(is_apart, kind="stable")]
        assert negative == ordered[int(np.rint((1 - h) * (len(others) - 1)))]


def test_what_ends_mining_ends_the_hash_of_the_bank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An error or Ctrl-C does not wait until the whole bank has been read."""
    shards = in_shards(np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32), tmp_path, 1)
    hashed: list[int] = []
    has_begun, failed = threading.Event(), threading.Event()

    def blocks(dtype, shape, rows):
        for block in rows:
            hashed.append(len(block))
            has_begun.set()
            failed.wait()
        return "none"

    def fail(*_, **__):
        has_begun.wait()
        threading.Timer(0.2, failed.set).start()
        raise KeyboardInterrupt

    monkeypatch.setattr(stored, "rows_fingerprint", blocks)
    monkeypatch.setattr(mine_module, "positives_of_classes", fail)
    with pytest.raises(KeyboardInterrupt):
        mine(shards, np.arange(300) // 2, anchors_T=[0], hardness_T=1.0)
    assert sum(hashed) < 300
