"""Rows in shards: what is read is what was written, after a kill too, and nothing damaged is read."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mohs.errors import InputError
from mohs.shards import MANIFEST, ShardLayout, is_shards, open_shards, write_shards

LAYOUT = ShardLayout(10, (3,), "float32", 4)
ROWS = np.arange(30, dtype=np.float32).reshape(10, 3)


def write(folder: Path, rows: np.ndarray = ROWS, layout: ShardLayout = LAYOUT, **about: str) -> int:
    return write_shards(folder, layout, about, lambda start, stop: rows[start:stop])


def change(folder: Path, **values: object) -> None:
    """Change a manifest as someone would who gives no sum."""
    path = folder / MANIFEST
    found = json.loads(path.read_text())
    del found["content_sha256"]
    path.write_text(json.dumps(found | values))


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_rows_come_back_in_any_order(tmp_path: Path, dtype: str) -> None:
    rows = ROWS.astype(dtype)
    assert write(tmp_path, rows, ShardLayout(10, (3,), dtype, 4), of="numbers") == 0
    assert is_shards(tmp_path)
    assert not is_shards(tmp_path / "absent")
    bank = open_shards(tmp_path)
    assert (len(bank), bank.shape, bank.dtype, bank.nbytes) == (10, (10, 3), rows.dtype, rows.nbytes)
    assert bank.about == {"of": "numbers"}
    for start in range(11):
        for stop in range(start, 11):
            np.testing.assert_array_equal(bank[start:stop], rows[start:stop])
    index = np.array([9, 0, 4, 4, 3, 8])
    np.testing.assert_array_equal(bank[index], rows[index])
    np.testing.assert_array_equal(bank.read(2, 7), rows[2:7])
    assert list(bank.pieces(3)) == [(0, 3), (3, 4), (4, 7), (7, 8), (8, 10)]
    np.testing.assert_array_equal(np.load(tmp_path / "shard-000002.npy"), rows[8:])


def test_pictures_are_rows_too(tmp_path: Path) -> None:
    pictures = np.arange(5 * 2 * 2 * 3, dtype=np.uint8).reshape(5, 2, 2, 3)
    write(tmp_path, pictures, ShardLayout(5, (2, 2, 3), "uint8", 2))
    np.testing.assert_array_equal(open_shards(tmp_path)[1:4], pictures[1:4])


def test_a_killed_run_is_taken_up_where_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "bank"
    script = f"""
import os, signal
from pathlib import Path
import numpy as np
from mohs.shards import ShardLayout, write_shards

def rows(start, stop):
    if start == 8:
        Path({str(folder)!r}, ".shard-000002.npy.tmp-torn").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    return np.arange(30, dtype=np.float32).reshape(10, 3)[start:stop]

write_shards({str(folder)!r}, ShardLayout(10, (3,), "float32", 4), {{"of": "numbers"}}, rows)
"""
    done = subprocess.run([sys.executable, "-c", script], env=os.environ)
    assert done.returncode == -signal.SIGKILL
    with pytest.raises(InputError, match=r"bank: 1 of 3 shards are not there yet; run the command that writes"):
        open_shards(folder)
    asked = []

    def rows(start: int, stop: int) -> np.ndarray:
        asked.append((start, stop))
        return ROWS[start:stop]

    told: list[tuple[int, int]] = []
    about = {"of": "numbers"}
    assert write_shards(folder, LAYOUT, about, rows, progress=lambda *done: told.append(done)) == 2
    assert asked == [(8, 10)]
    assert told == [(3, 3)]
    assert not list(folder.glob(".*.tmp-*")), "what the kill has left is gone"
    np.testing.assert_array_equal(open_shards(folder)[0:10], ROWS)


def test_the_head_of_a_shard_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random rows of many shards would take most of their time for that."""
    write(tmp_path)
    bank = open_shards(tmp_path)
    monkeypatch.setattr(np, "load", None)
    rows = np.array([9, 0, 4, 9])
    np.testing.assert_array_equal(bank[rows], ROWS[rows])
    np.testing.assert_array_equal(bank[2:9], ROWS[2:9])


def test_a_shard_that_was_damaged_meanwhile_is_made_again(tmp_path: Path) -> None:
    write(tmp_path)
    file = tmp_path / "shard-000001.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    assert write(tmp_path) == 2
    np.testing.assert_array_equal(open_shards(tmp_path)[0:10], ROWS)


def test_another_bank_is_not_continued(tmp_path: Path) -> None:
    write(tmp_path, of="these")
    with pytest.raises(InputError, match="holds shards of another content: pictures, embedder or table; name another"):
        write(tmp_path, of="those")
    with pytest.raises(InputError, match="holds shards of another layout; name another folder"):
        write(tmp_path, ROWS, ShardLayout(10, (3,), "float32", 5), of="these")
    (tmp_path / MANIFEST).unlink()
    with pytest.raises(InputError, match=r"holds 'shard-000000.npy' and no manifest.json; name another folder"):
        write(tmp_path, of="these")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda at: (at / MANIFEST).unlink(), "no bank in shards (no manifest.json); make one"),
        (lambda at: (at / "shard-000001.npy").unlink(), "shard-000001.npy: no such file; make it again"),
        (lambda at: (at / "shard-000001.npy").write_bytes(b""), "shard-000001.npy: cannot be read"),
        (lambda at: np.save(at / "shard-000001.npy", ROWS[:4] + 1), "shard-000001.npy: damaged, or changed since"),
        (lambda at: np.save(at / "shard-000001.npy", ROWS[:3]), "holds float32[3, 3], not float32[4, 3]"),
        (lambda at: np.save(at / "shard-000001.npy", np.asfortranarray(ROWS[:4])), "holds float32[4, 3], not float32"),
        (lambda at: change(at, format=2), "format 2 is newer than 1"),
        (lambda at: change(at, row_shape=[]), "no manifest of shards"),
        (lambda at: change(at, row_shape=["3"]), "row_shape: '3' is not a whole number"),
        (lambda at: change(at, dtype="object"), "dtype: 'object' is not one of"),
        (lambda at: change(at, rows=10**18, rows_per_shard=1), "shards: 1000000000000000000 is not a whole number"),
        (lambda at: change(at, files={"../x.npy": "0"}), "files: '../x.npy' is none of its shards"),
    ],
)  # fmt: skip
def test_what_is_damaged_is_refused_in_a_line(tmp_path: Path, spoil, told: str) -> None:
    write(tmp_path)
    spoil(tmp_path)
    with pytest.raises(InputError) as caught:
        open_shards(tmp_path)
    assert told in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_that_is_cut_short_while_it_is_open_is_told(tmp_path: Path) -> None:
    write(tmp_path)
    bank = open_shards(tmp_path)
    file = tmp_path / "shard-000002.npy"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(InputError, match=r"shard-000002.npy: "):
        bank[8:10]
    with pytest.raises(InputError, match=r"shard-000002.npy: shorter than it was; make it again"):
        bank[np.array([9, 1])]
