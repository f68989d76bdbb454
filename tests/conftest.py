import functools
import importlib.util
import math
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, final

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from PIL import Image

from mohs.cli import main, progress
from mohs.data import glyphs
from mohs.data.dataset import Dataset

from .forked import ForkServer

# As the command line does: threads that spin make the suite slow beside any other program.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# How fast this machine is at the moment is no property of the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

EXAMPLES = Path(__file__).parents[1] / "examples"
NUM_CLASSES = 12
PICTURES_PER_CLASS = 3

LONGEST = ("robustness/test_fuzz.py", "test_docs.py", "training/test_heartbeat.py", "training/test_resume.py")
"""Files that take minutes: what begins last would have one process work while the others have nothing left."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; the order in a file stays."""
    items.sort(key=lambda item: next((i for i, name in enumerate(LONGEST) if f"tests/{name}::" in item.nodeid), 9))


@final
@dataclass(frozen=True)
class Answer:
    """What a command left: exit code, stdout, and stderr as lines."""

    code: int
    out: str
    err: list[str]


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep decoded pictures out of the user's cache folder; subprocesses inherit it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def nothing_waits_for_the_disk() -> Iterator[None]:
    """Files need not outlast a loss of power here; waiting for the disk thousands of times takes minutes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def glyphs_drawn_once() -> Iterator[None]:
    """Drawing the built-in set takes seconds: done once, and once in each size for who asks by its module."""
    with pytest.MonkeyPatch.context() as patch:
        all_faces, draw_all, drawn = glyphs._find_faces(), glyphs._draw_all, {}

        def once(faces: dict[str, Path], progress: Callable[[int, int], None] | None) -> dict[Any, np.ndarray]:
            if faces != all_faces:  # a test of drawing, for itself
                return draw_all(faces, progress)
            if not drawn:
                drawn.update(draw_all(faces, progress))
            return dict(drawn)

        patch.setattr(glyphs, "_draw_all", once)
        drawn_in_size = functools.cache(glyphs.draw_glyphs)

        @functools.wraps(glyphs.draw_glyphs)
        def copy(*how: Any, **more: Any) -> Dataset:
            dataset = drawn_in_size(*how, **more)
            return Dataset(dataset.table, dataset.pictures.copy())

        patch.setattr(glyphs, "draw_glyphs", copy)
        yield


@final
@dataclass(frozen=True, eq=False)
class Together:
    """One of several threads that work as processes do: what `mohs.peers.Peers` asks for."""

    rank: int
    num_ranks: int
    given: list[Any]
    barrier: threading.Barrier

    def gather(self, own: Any) -> list[Any]:
        self.given[self.rank] = pickle.loads(pickle.dumps(own))  # what is sent is a copy
        self.barrier.wait()
        found = list(self.given)
        self.barrier.wait()
        return found

    def from_first(self, value: Any) -> Any:
        return self.gather(value)[0]

    def first_here_first(self, read: Callable[[], Any]) -> Any:
        return read()


@pytest.fixture
def together() -> Callable[[int, Callable[[Together], Any]], list[Any]]:
    """Have several peers do the same work at once, and return what each has found."""

    def work_together(num_ranks: int, work: Callable[[Together], Any]) -> list[Any]:
        given, barrier = [None] * num_ranks, threading.Barrier(num_ranks, timeout=60)

        def begin(rank: int) -> Any:
            try:
                return work(Together(rank, num_ranks, given, barrier))
            except BaseException:
                barrier.abort()
                raise

        with ThreadPoolExecutor(num_ranks) as pool:
            return list(pool.map(begin, range(num_ranks)))

    return work_together


@pytest.fixture(scope="session")
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """Begins processes that have imported torch and Mohs."""
    server = ForkServer(tmp_path_factory.mktemp("said"))
    yield server
    server.end()


@pytest.fixture
def torch_as_it_was() -> Iterator[None]:
    """Give torch one thread, so that numbers are the same everywhere, and its global random state back afterwards."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_num_threads(threads)


@pytest.fixture
def load_example(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Import a script of examples/ by its name, for one test."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)  # dataclasses look their module up
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def run_cli(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Answer]]:
    """Run the command line in this process; how busy the machine is does not show in what it says."""
    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(progress, "_EVERY_S", math.inf)

    def run(*arguments: object) -> Answer:
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Answer(stop.value.code, out, err.splitlines())

    yield run
    signal.signal(signal.SIGTERM, handler)


def draw_pictures(folder: Path, num_classes: int = NUM_CLASSES, per_class: int = PICTURES_PER_CLASS) -> None:
    """Write `folder` with images.csv, catalog.csv and blots of num_classes classes: alike within a class."""
    (folder / "img").mkdir(parents=True)
    images, catalog = ["file,class"], ["file,class"]
    for label in range(num_classes):
        base = np.random.default_rng(label).integers(0, 256, (4, 4, 3))
        for number in range(per_class + 1):
            noise = np.random.default_rng([label, number]).integers(-30, 31, base.shape)
            pixels = np.clip(base + noise, 0, 255).astype(np.uint8).repeat(4, 0).repeat(4, 1)
            name = f"img/{label:03d}-{number}.png"
            Image.fromarray(pixels).save(folder / name)
            (images if number < per_class else catalog).append(f"{name},{label:03d}")
    (folder / "images.csv").write_text("\n".join(images) + "\n")
    (folder / "catalog.csv").write_text("\n".join(catalog) + "\n")


@pytest.fixture(scope="session")
def picture_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images.csv (36 pictures of 12 classes) and catalog.csv (12); not to be changed."""
    folder = tmp_path_factory.mktemp("set")
    draw_pictures(folder)
    return folder


@pytest.fixture
def own_picture_set(tmp_path: Path) -> Path:
    """The same, to be spoiled."""
    draw_pictures(tmp_path / "set")
    return tmp_path / "set"
