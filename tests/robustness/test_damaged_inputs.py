"""Files that are damaged or of another kind, machines that lack something: one line each, and the right exit code."""

import io
import json
import os
import pwd
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mohs
from mohs.artefacts import read_events, read_json
from mohs.cli import _run, main
from mohs.data.cache import default_cache_dir, load_pictures
from mohs.data.images import ImagePolicy
from mohs.data.reading import read_table
from mohs.errors import InputError
from mohs.evaluation.embedding_files import read_embedded
from mohs.plan import TripletPlan
from mohs.report.of_run_pictures import mined_triplets
from mohs.runs import Run
from mohs.serve.run_plans import read_run_plans
from mohs.settings.config import RunConfig
from mohs.training.events import read_run_events

X = np.eye(6, 4, dtype=np.float32) + 1


def one_line(work: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        work()
    assert len(caught.value.problems) == 1
    assert "\n" not in str(caught.value)
    return str(caught.value)


def saved(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def zipped() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, x=X, y=X)
    return buffer.getvalue()


def with_header(text: str) -> bytes:
    header = text.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + X.tobytes()


ARRAY_FILES: dict[str, bytes] = {
    "nothing": b"",
    "text": b"file,class\n",
    "an archive": zipped(),
    "half an archive": zipped()[:100],
    "the first bytes": saved(X)[:40],
    "half the rows": saved(X)[:-40],
    "objects": saved(np.array([[1, None]] * 6, dtype=object)),
    "names": saved(np.array([["a", "b"]] * 6)),
    "bytes": saved(np.array([[b"a", b"b"]] * 6)),
    "records": saved(np.zeros(6, dtype=[("a", "f4"), ("b", "f4")])),
    "complex": saved(X.astype(np.complex64)),
    "truth": saved(X > 1),
    "times": saved(X.astype("i8").astype("datetime64[s]")),
    "one number": saved(np.float32(3)),
    "one row": saved(X[0]),
    "three axes": saved(X[None]),
    "no rows": saved(X[:0]),
    "another number of rows": saved(X[:5]),
    "NaN": saved(np.full((6, 4), np.nan)),
    "beyond float32": saved(np.full((6, 4), np.inf)),
    "no shape": with_header("{'descr': '<f4', 'fortran_order': False}"),
    "a shape of text": with_header("{'descr': '<f4', 'fortran_order': False, 'shape': ('6', 4)}"),
    "a shape below 0": with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-6, -4)}"),
    "another type": with_header("{'descr': '<q9', 'fortran_order': False, 'shape': (6, 4)}"),
    "no dictionary": with_header("[1, 2]"),
    "no Python": with_header("{'descr': "),
    "brackets": with_header("(" * 100),
}


@pytest.mark.parametrize("kind", ARRAY_FILES)
def test_a_file_of_embeddings_that_is_none_is_named(tmp_path: Path, kind: str) -> None:
    (tmp_path / "x.npy").write_bytes(ARRAY_FILES[kind])
    (tmp_path / "y.csv").write_text("class\na\na\nb\nb\nc\nc\n")
    assert str(tmp_path / "x.npy") in one_line(lambda: read_embedded(tmp_path / "x.npy", tmp_path / "y.csv"))


def test_a_damaged_file_of_embeddings_is_one_line_or_read(tmp_path: Path) -> None:
    (tmp_path / "y.csv").write_text("class\na\na\nb\nb\nc\nc\n")
    whole, random = saved(X), np.random.Generator(np.random.PCG64(19))
    for _ in range(100):
        damaged = bytearray(whole)
        damaged[random.integers(128)] ^= int(random.integers(1, 256))  # of the header
        (tmp_path / "x.npy").write_bytes(bytes(damaged))
        try:
            found = read_embedded(tmp_path / "x.npy", tmp_path / "y.csv").x_ND
        except InputError:
            continue
        assert len(found) == 6


STEP: dict[str, Any] = {"event": "step", "step": 1, "triplets": 8, "loss": 0.5, "active_fraction": 0.5}
EVENTS: dict[str, tuple[str, str]] = {
    "a list": ("[1]", "no object with an 'event'"),
    "no name": ('{"step": 1}', "no object with an 'event'"),
    "another name": ('{"event": 3}', "no object with an 'event'"),
    "no JSON": ("{", "not JSON"),
    "deep": ("[" * 100_000, "nested too deep"),
    "no loss": (json.dumps({name: STEP[name] for name in STEP if name != "loss"}), "loss of a step is missing"),
    "a loss of text": (json.dumps(STEP | {"loss": "0.5"}), "loss of a step is '0.5', not a number"),
    "hits": (json.dumps({"event": "held-out", "triplets": 1, "recall": 0.5, "hits": "12"}), "hits of a held-out is"),
}


@pytest.mark.parametrize("kind", EVENTS)
def test_an_event_that_is_none_is_named_by_its_line(tmp_path: Path, kind: str) -> None:
    line, told = EVENTS[kind]
    (tmp_path / "events.jsonl").write_text(f"{json.dumps(STEP)}\n{line}\n")
    found = one_line(lambda: read_run_events(tmp_path / "events.jsonl"))
    assert found.startswith(f"{tmp_path}/events.jsonl: line 2: ")
    assert told in found
    assert found.endswith("delete the line or the run")


def test_events_of_other_kinds_and_a_torn_line_are_read(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text(f'{json.dumps(STEP)}\n{{"event": "new"}}\n{{"event": "st')
    assert read_run_events(tmp_path / "events.jsonl") == [STEP, {"event": "new"}]
    (tmp_path / "events.jsonl").write_bytes(b'{"event": "caf\xe9"}\n')
    assert "not UTF-8 text" in one_line(lambda: read_events(tmp_path / "events.jsonl"))


def test_deep_json_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("[" * 100_000)
    assert "nested too deep" in one_line(lambda: read_json(tmp_path / "run.json"))


def test_plans_that_are_gone_empty_or_of_other_items(tmp_path: Path, picture_set: Path) -> None:
    from mohs.data.dataset import open_dataset

    dataset = open_dataset(picture_set / "images.csv", policy=ImagePolicy(size=8, channels=1))
    run = Run(tmp_path, RunConfig())
    assert mined_triplets("run", run, dataset) == []  # the folder is gone
    (tmp_path / "plans").mkdir()
    plan = TripletPlan.of([0, 3], [1, 4], [3, 99], header={"first_triplet": 0})
    plan.take(slice(0)).save(tmp_path / "plans" / "segment-000.parquet")
    assert mined_triplets("run", run, dataset) == []
    plan.save(tmp_path / "plans" / "segment-001.parquet")
    assert "negative: 99 at position 1 is not an item index in [0, 36)" in one_line(
        lambda: mined_triplets("run", run, dataset)
    )
    TripletPlan.of([0], [1], [3]).save(tmp_path / "plans" / "segment-001.parquet")
    assert "first_triplet of a header is None" in one_line(lambda: mined_triplets("run", run, dataset))


def test_a_run_without_its_plans_is_used_and_only_what_reads_plans_refuses(tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).parents[1] / "formats" / "0.1" / "run", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "plans")
    run = Run.open(tmp_path / "run")
    assert run.embedder().embedding_dim == 4
    assert "plans: the run's plans are gone; restore them" in one_line(lambda: read_run_plans(run.folder))
    found = mohs.diagnose(run.folder)
    assert found.not_checked["dead-positives"] == "no plans"
    (run.folder / "plans").mkdir()
    (run.folder / "plans" / "segment-000.parquet").write_bytes(b"PAR1")
    assert "segment-000.parquet: damaged" in one_line(lambda: Run.open(run.folder))


@pytest.mark.parametrize("content", [zipped(), b"", b"text", saved(X), saved(np.array([None]))])
def test_a_cache_file_that_is_none_is_written_again(tmp_path: Path, picture_set: Path, content: bytes) -> None:
    table, policy = read_table(picture_set / "images.csv"), ImagePolicy(size=8, channels=1)
    first = load_pictures(table, policy, cache_dir=tmp_path)
    pictures = np.array(first.pictures)
    first.path.write_bytes(content)
    np.testing.assert_array_equal(load_pictures(table, policy, cache_dir=tmp_path).pictures, pictures)


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_: int) -> None:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert one_line(default_cache_dir).endswith("; set XDG_CACHE_HOME to a folder for the cache")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert default_cache_dir() == Path("/cache/mohs")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("can't start new thread"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    ],
)
def test_no_memory_is_one_line_and_exit_code_4(
    monkeypatch: pytest.MonkeyPatch, picture_set: Path, error: Exception
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("mohs.data.check.check_table", fail)
    code, lines = _run(["check", str(picture_set)])
    assert (code, len(lines)) == (4, 1)
    assert lines[0].startswith("mohs: out of memory; ")


def test_names_reach_a_terminal_that_has_no_such_letters(
    own_picture_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = own_picture_set / "images.csv"
    table.write_text(table.read_text().replace(",003", ",Käse").replace("img/000-0.png", "img/é.png"), encoding="utf-8")
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="ascii", write_through=True))
    with pytest.raises(SystemExit) as stop:
        main(["check", str(table), "--json"])
    assert stop.value.code == 2  # there is no such picture
    assert json.loads(shown.getvalue().decode("ascii"))["problems"]
    assert os.path.lexists(table)
