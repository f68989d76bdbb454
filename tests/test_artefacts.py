"""Files are whole or absent, whatever interrupts the writing."""

import hashlib
import os
import stat
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from mohs import artefacts
from mohs.artefacts import (
    EventLog,
    atomic_path,
    fingerprint,
    read_events,
    read_json,
    sha256_file,
    write_json,
    write_text,
)
from mohs.errors import InputError


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("old", [None, "old"])
def test_interrupted_writing_leaves_what_was_there(tmp_path: Path, error: type[BaseException], old: str | None) -> None:
    path = tmp_path / "result.txt"
    if old is not None:
        path.write_text(old)

    def write_half() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half a fi")
            raise error

    with pytest.raises(error):
        write_half()
    assert [file.name for file in tmp_path.iterdir()] == ([] if old is None else ["result.txt"])
    assert old is None or path.read_text() == old


def test_nothing_is_at_the_path_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "result.parquet"
    with atomic_path(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
        assert temporary.parent == path.parent  # the same file system, so that replacing is one step
        assert temporary.suffix == ".parquet"
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_files_are_as_readable_as_other_new_files(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    write_json(tmp_path / "atomic", 1)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "atomic")]
    assert modes[0] == modes[1]


def test_json_there_and_back(tmp_path: Path) -> None:
    value = {"name": "é", "list": [1, 2.5, None, True], "empty": {}}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    assert "é" in (tmp_path / "a.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [float("-inf")]}, object()])
def test_what_is_not_json_is_refused_and_the_old_file_kept(tmp_path: Path, value: object) -> None:
    write_json(tmp_path / "a.json", 1)
    with pytest.raises((ValueError, TypeError)):
        write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_json_messages(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json: no such file; check the path$"):
        read_json(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text('{"a": 1,\n"b"}')
    with pytest.raises(InputError, match=r"bad\.json: not JSON \(.*line 2.*\); write it again or use another file$"):
        read_json(tmp_path / "bad.json")
    (tmp_path / "latin.json").write_bytes(b'"\xe9"')
    with pytest.raises(InputError, match=r"latin\.json: not JSON \(.*utf-8.*\)"):
        read_json(tmp_path / "latin.json")


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_file(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_fingerprint_sees_values_dtypes_shapes_and_order() -> None:
    a = np.arange(6, dtype=np.int32)
    different = [
        (a,),
        (a.astype(np.int64),),
        (a.reshape(2, 3),),
        (a.reshape(3, 2),),
        (a[::-1],),
        (a, a),
        (a.view(np.float32),),
        (np.array(["0", "1"]),),
        (np.array(["01"]),),
        (np.empty(0),),
        (np.empty((0, 3)),),
        (),
    ]
    prints = [fingerprint(*arrays) for arrays in different]
    assert len(set(prints)) == len(prints)
    assert all(len(text) == 32 and set(text) <= set("0123456789abcdef") for text in prints)


def test_fingerprint_is_of_values_not_of_memory() -> None:
    a = np.arange(12).reshape(3, 4)
    assert fingerprint(np.asfortranarray(a)) == fingerprint(a)
    assert fingerprint(np.arange(24)[::2]) == fingerprint(np.arange(0, 24, 2))
    words = ["007", "é"]
    assert fingerprint(np.array(words)) == fingerprint(np.array(words, dtype="<U40"))
    assert fingerprint(np.array(words)) == fingerprint(np.array(words, dtype=object))


def test_events_there_and_back_and_appended(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog(path) as log:
        log.write("step", {"loss": 0.5})
        assert read_events(path) == [{"event": "step", "loss": 0.5}]  # flushed at once
    with EventLog(path) as log:
        log.write("segment", {"name": "a\nb"})
    assert read_events(path) == [{"event": "step", "loss": 0.5}, {"event": "segment", "name": "a\nb"}]
    with EventLog(path) as log, pytest.raises(ValueError, match="JSON"):
        log.write("step", {"loss": float("nan")})
    assert len(read_events(path)) == 2


@pytest.mark.parametrize("torn", ["", '{"event": "st', '{"event": "step"}'])
def test_torn_last_line_is_left_out(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"event": "step"}\n' + torn)
    assert read_events(path) == [{"event": "step"}]


def test_events_messages(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with pytest.raises(InputError, match=r"events\.jsonl: no such file; give a run folder made by 'mohs train'$"):
        read_events(path)
    path.write_text('{"event": "step"}\n{"event"\n{"event": "step"}\n')
    with pytest.raises(InputError, match=r"events\.jsonl: line 2: not JSON \(.*\); delete the line or the run$"):
        read_events(path)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (7,), (5, 4), (2, 3, 4)])
@pytest.mark.parametrize("hashed_bytes", [1, 40, 2**24])
def test_a_fingerprint_does_not_depend_on_blocks_or_memory_order(shape, hashed_bytes, monkeypatch):
    array = np.arange(np.prod(shape, dtype=int), dtype=np.int64).reshape(shape)
    digest = hashlib.blake2b(f"<i8{shape}".encode() + array.tobytes(), digest_size=16)
    monkeypatch.setattr(artefacts, "_HASHED_BYTES", hashed_bytes)
    for same in (array, np.array(array, order="F"), np.repeat(array[..., None], 2, axis=-1)[..., 0]):
        assert fingerprint(same) == digest.hexdigest()


def test_hashing_what_is_out_of_order_makes_no_copy_of_it():
    array = np.ones((2**22, 12), dtype=np.float32)[:, ::2]  # 100 MB, in blocks of 16
    tracemalloc.start()
    fingerprint(array)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * 10**6


def test_what_a_kill_leaves_goes_when_the_file_is_written_the_next_time(tmp_path: Path) -> None:
    killed = (
        "import os, sys; from mohs.artefacts import atomic_path\n"
        "with atomic_path(sys.argv[1]) as outer, atomic_path(outer) as file:\n"
        "    file.write_text('half'); os.kill(os.getpid(), 9)"
    )
    for name in ("plan.csv", "other.csv"):
        subprocess.run([sys.executable, "-c", killed, str(tmp_path / name)], check=False)
    assert len(list(tmp_path.glob(".*.tmp-*"))) == 4  # a temporary file, and one of its own
    with atomic_path(tmp_path / "plan.csv") as held:
        held.write_text("held by this process")
        # Another writer at the same time leaves alone what is held, and what is of another file.
        write_text(tmp_path / "plan.csv", "second")
        assert held.exists()
        assert len(list(tmp_path.glob(".*plan.csv.tmp-*"))) == 1
        assert len(list(tmp_path.glob(".*other.csv.tmp-*"))) == 2
    assert (tmp_path / "plan.csv").read_text() == "held by this process"
    write_text(tmp_path / "other.csv", "whole")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["other.csv", "plan.csv"]
