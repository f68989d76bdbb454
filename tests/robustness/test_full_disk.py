"""A disk that fills while something is saved, and a process that ends there: what was there before is whole."""

import errno
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, final

import numpy as np
import pytest
import torch
from PIL import Image

from mohs.artefacts import remove_left_over, sha256_file, write_json
from mohs.classify.classifier import Classifier
from mohs.data.images import ImagePolicy
from mohs.data.table import Table, write_table
from mohs.errors import MohsError, ResourceError
from mohs.model.embedder import Embedder
from mohs.plan import TripletPlan
from mohs.settings.config import ModelConfig
from mohs.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

NUM = 4000


def embedder(seed: int) -> Embedder:
    return Embedder.create(ModelConfig(widths=(8,), embedding_dim=16, hidden_dim=0), ImagePolicy(16, 1), seed=seed)


def plan(seed: int) -> TripletPlan:
    rng = np.random.default_rng(seed)
    numbers = {name: rng.random(NUM).astype(np.float32) for name in (
        "hardness", "achieved_hardness", "anchor_positive_distance", "anchor_negative_distance",
    )}  # fmt: skip
    items = {
        "anchor": rng.integers(0, 9, NUM),
        "positive": rng.integers(10, 19, NUM),
        "negative": rng.integers(20, 29, NUM),
    }
    return TripletPlan(**items, **numbers, positive_origin=np.zeros(NUM, np.uint8), header={"seed": seed})


def save_classifier(place: Path, seed: int) -> None:
    x_ND = np.random.default_rng(seed).normal(size=(200, 16))
    Classifier(method="nearest-neighbours").fit(x_ND, np.arange(200) % 10).save(place / f"classifier-{seed}")


def save_table(place: Path, seed: int) -> None:
    files = tuple(f"{seed}/{number:05d}.png" for number in range(2000))
    labels = np.array(files)
    write_table(Table(files, labels, np.full(2000, "sample"), np.full(2000, "")), place / "items.csv")


def save_tensors(place: Path, seed: int) -> None:
    save_checkpoint(place, Checkpoint(7, {"embedder": embedder(seed).state_dict()}, {"seed": seed}))


WRITERS: dict[str, Callable[[Path, int], None]] = {
    "embedder": lambda place, seed: embedder(seed).save_pretrained(place),
    "checkpoint": save_tensors,
    "plan": lambda place, seed: plan(seed).save(place / "plan.parquet"),
    "plan as CSV": lambda place, seed: plan(seed).save_csv(place / "plan.csv", files=["f"] * 30, labels=["c"] * 30),
    "classifier": save_classifier,
    "table": save_table,
    "json": lambda place, seed: write_json(place / "facts.json", [seed] * 2000),
}


def contents(place: Path) -> dict[str, str]:
    """Return the SHA-256 of every file, by its place."""
    return {str(file.relative_to(place)): sha256_file(file) for file in sorted(place.rglob("*")) if file.is_file()}


@contextmanager
def no_file_above(num_bytes: int) -> Iterator[None]:
    """Let no file grow above a size: the system then refuses to write as on a full disk, with another number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", WRITERS)
def test_a_disk_full_at_eight_sizes_is_one_line_and_leaves_what_was_there(tmp_path: Path, name: str) -> None:
    write = WRITERS[name]
    write(tmp_path, 0)
    before = contents(tmp_path)
    largest = max(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    for share in range(8):
        with no_file_above(share * largest // 8), pytest.raises(ResourceError) as caught:
            write(tmp_path, 1)
        assert len(caught.value.problems) == 1
        assert str(tmp_path) in caught.value.problems[0]
        assert "free some space" in caught.value.problems[0]
        assert contents(tmp_path) == before, share
    write(tmp_path, 1)  # and with room it goes on
    assert contents(tmp_path) != before


@final
@dataclass(frozen=True)
class Point:
    """A place in a write where it fails: what is called there, and whether it is done before."""

    owner: Any
    name: str
    done: bool = False


POINTS = {
    "before": Point(__import__("tempfile"), "mkstemp"),
    "before it is on disk": Point(os, "fsync"),
    "before the rename": Point(Path, "replace"),
    "after": Point(Path, "replace", done=True),
}


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("name", WRITERS)
def test_a_write_that_fails_at_a_point_leaves_the_old_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, point: str
) -> None:
    write, at = WRITERS[name], POINTS[point]
    write(tmp_path, 0)
    before = contents(tmp_path)
    usual = getattr(at.owner, at.name)

    def fail(*how: Any, **more: Any) -> Any:
        if at.done:
            usual(*how, **more)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(at.owner, at.name, fail)
        with pytest.raises((MohsError, OSError)):
            write(tmp_path, 1)
    left = contents(tmp_path)
    assert not [file for file in left if ".tmp-" in file]
    if not at.done:
        assert left == before
    if name == "checkpoint":
        found = load_checkpoint(tmp_path)
        assert found is not None
        assert found.values["seed"] == 0
        assert torch.equal(found.tensors["embedder"]["mean"], embedder(0).mean)
    write(tmp_path, 1)


@pytest.mark.parametrize("point", ["before it is on disk", "before the rename", "after"])
@pytest.mark.parametrize("name", WRITERS)
def test_a_process_killed_at_a_point_leaves_the_old_or_the_new(tmp_path: Path, name: str, point: str) -> None:
    write, at = WRITERS[name], POINTS[point]
    write(tmp_path, 0)
    before = contents(tmp_path)
    usual = getattr(at.owner, at.name)

    def end(*how: Any, **more: Any) -> Any:
        if at.done:
            usual(*how, **more)
        os._exit(9)

    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        setattr(at.owner, at.name, end)
        write(tmp_path, 1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    left = contents(tmp_path)
    whole = {file: digest for file, digest in left.items() if ".tmp-" not in file and ".lock" not in file}
    if not at.done:
        assert whole == before
        assert whole != left  # and what is half done is known for what it is:
    write(tmp_path, 1)
    for folder in (tmp_path, *(entry for entry in tmp_path.iterdir() if entry.is_dir())):
        remove_left_over(folder)
    assert not [file for file in contents(tmp_path) if ".tmp-" in file or ".lock" in file]


@pytest.mark.parametrize("name", WRITERS)
def test_a_process_killed_half_way_through_a_file_leaves_the_old(tmp_path: Path, name: str) -> None:
    write = WRITERS[name]
    write(tmp_path, 0)
    before = contents(tmp_path)
    largest = max(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        # At this size the system ends the process, as SIGKILL would: Python usually ignores the signal.
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest // 2, largest // 2))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        write(tmp_path, 1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGXFSZ
    assert {file: digest for file, digest in contents(tmp_path).items() if file in before} == before
    new = [file for file in contents(tmp_path) if file not in before]
    assert all(".tmp-" in file or ".lock" in file for file in new), new
    write(tmp_path, 1)
    for folder in (tmp_path, *(entry for entry in tmp_path.iterdir() if entry.is_dir())):
        remove_left_over(folder)
    assert not [file for file in contents(tmp_path) if ".tmp-" in file or ".lock" in file]


def test_an_index_keeps_its_version_on_a_disk_that_is_full_at_eight_sizes(tmp_path: Path) -> None:
    pytest.importorskip("lancedb", reason="needs mohs[search]")
    from mohs.index.index import Index

    def pictures(seed: int) -> Table:
        for number in range(6):
            pixels = np.random.default_rng([seed, number]).integers(0, 256, (20, 20), np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        files = tuple(f"{number}.png" for number in range(6))
        return Table(files, np.array(list("aabbcc")), np.full(6, "sample"), np.full(6, ""), tmp_path)

    index = Index.build(tmp_path / "index", pictures(0), embedder(0))
    before = index.vectors().x_ND
    largest = max(file.stat().st_size for file in (tmp_path / "index" / "items.lance").rglob("*") if file.is_file())
    table = pictures(1)
    for share in range(8):
        with no_file_above(share * largest // 8), pytest.raises(MohsError) as caught:
            index.replace(table)
        assert len(caught.value.problems) == 1
        index = Index.open(tmp_path / "index")
        assert index.check() == []
        assert np.array_equal(index.vectors().x_ND, before), share
    index.replace(table)
    assert not np.array_equal(index.vectors().x_ND, before)


def test_room_is_looked_for_before_the_work(
    run_cli: Callable[..., Any], picture_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Embedder, "embed", lambda *_, **__: pytest.fail("embedded before it looked"))
    model = ModelConfig(widths=(4,), embedding_dim=4)
    Embedder.create(model, ImagePolicy(size=16)).save_pretrained(tmp_path / "e")
    free = {tmp_path: 100}
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free.get(Path(folder), 10**12)))
    table, out = picture_set / "images.csv", tmp_path / "out"
    for command, what in (
        (("embed", tmp_path / "e", table, "--out", out / "x.npy"), "embedding takes about"),
        (("index", "build", out / "i", table, "--embedder", tmp_path / "e"), "an index of these items takes about"),
        (("mine", table, "--embedder", tmp_path / "e", "--out", out / "p.parquet"), "the plan takes about"),
        (
            ("mine", table, "--embedder", tmp_path / "e", "--triplets", 2, "--csv", out / "p.csv"),
            "the plan as CSV takes",
        ),
    ):
        answer = run_cli(*command)
        assert answer.code == 4, answer.err
        assert what in answer.err[-1], answer.err
        assert answer.err[-1].endswith("free some space, or write to another disk")
        assert not out.exists()
