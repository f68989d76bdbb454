"""Nothing that Mohs opens is unpickled, starts a program, or makes it write elsewhere."""

import ast
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mohs
from mohs.classify.classifier import Classifier
from mohs.data.images import ImagePolicy
from mohs.errors import InputError
from mohs.evaluation.embedding_files import read_npy
from mohs.model.embedder import Embedder
from mohs.plan import TripletPlan
from mohs.runs import Run
from mohs.settings.config import ModelConfig

_ROOT = Path(mohs.__file__).parent
_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
_PICKLE = b"cbuiltins\neval\n(S'1'\ntR."

_RELEASE = Path(__file__).parents[1] / "formats" / "0.1"
_CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}
_STARTS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect"}

watched: list[str] | None = None


@sys.addaudithook
def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if watched is None:
        return
    if event == "pickle.find_class":
        watched.append(f"{arguments[0]}.{arguments[1]}")
    elif event in _STARTS:
        watched.append(event)
    elif event in _CHANGES or (event == "open" and _writes(arguments)):
        watched.append(f"{event} {arguments[0]}")


def _writes(arguments: tuple[Any, ...]) -> bool:
    _, mode, flags = arguments
    if isinstance(mode, str):
        return bool(set(mode) & set("wax+"))
    return bool(isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))


@pytest.fixture
def found() -> Iterator[list[str]]:
    """What is unpickled meanwhile."""
    global watched
    watched = []
    yield watched
    watched = None


def test_no_module_unpickles() -> None:
    calls = []
    for file in sorted(_ROOT.rglob("*.py")):
        name = file.relative_to(_ROOT).as_posix()
        text = file.read_text(encoding="utf-8")
        if not any(word in text for word in (*_MODULES, "np.load", "torch.load", "read_pickle", "load_checkpoint")):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                assert not _MODULES & {alias.name.partition(".")[0] for alias in node.names}, name
            elif isinstance(node, ast.ImportFrom):
                assert (node.module or "").partition(".")[0] not in _MODULES, name
            elif isinstance(node, ast.Call):
                function = ast.unparse(node.func)
                words = {word.arg: ast.unparse(word.value) for word in node.keywords}
                if function == "torch.load":
                    assert words.get("weights_only") == "True", name
                    calls.append(name)
                elif function in ("np.load", "numpy.load"):
                    assert words.get("allow_pickle", "False") == "False", name
                else:
                    assert function not in ("pd.read_pickle", "np.loads", "torch.jit.load"), name
    # Checkpoints of one's own training, and the process of its own that converts weights.
    assert sorted(calls) == ["model/unpickle.py", "training/checkpoint.py"]


def test_the_hook_sees_a_pickle(found: list[str]) -> None:
    import pickle

    pickle.loads(_PICKLE)
    assert found == ["builtins.eval"]


def files_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the length and time of each file below a folder."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file): (file.stat().st_size, file.stat().st_mtime_ns) for file in files}


_OPENED: dict[str, Callable[[Path], Any]] = {
    "embedder": Embedder.from_pretrained,
    "classifier": Classifier.load,
    "plan": lambda folder: TripletPlan.load(folder / "plan.parquet"),
    "bank": lambda folder: read_npy(folder / "bank.npy", "embeddings"),
    "run": lambda folder: (
        Run.open(folder).embedder(), Run.open(folder).events(), Run.open(folder).facts(),
        Run.open(folder).trained_classes(), mohs.diagnose(folder),
    ),
    "index": lambda folder: (
        mohs.Index.open(folder).search(np.float32([[1, 0, 0, 0]])), mohs.Index.open(folder).calibration,
        mohs.Index.open(folder).check(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", _OPENED)
def test_what_is_opened_runs_unpickles_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: list[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(_RELEASE / name, tmp_path / name)
    _OPENED[name](tmp_path / name)  # what is imported meanwhile writes its bytecode
    before = files_of(tmp_path)
    found.clear()
    _OPENED[name](tmp_path / name)
    # LanceDB makes the folder that is there; numba and the doctor write into the user's cache.
    expected = (f"os.mkdir {tmp_path / name}", os.environ["XDG_CACHE_HOME"], "/numba")
    assert [each for each in found if not any(text in each for text in expected)] == []
    assert files_of(tmp_path) == before  # Rust and C tell no hook


def test_the_hook_sees_what_is_written(tmp_path: Path, found: list[str]) -> None:
    (tmp_path / "x").write_text("x")
    with (tmp_path / "x").open("r+b"):
        pass
    os.close(os.open(tmp_path / "y", os.O_CREAT | os.O_WRONLY))
    (tmp_path / "y").unlink()
    assert [each.split()[0] for each in found] == ["open", "open", "open", "os.remove"]


def test_artefacts_that_are_pickles_are_refused(tmp_path: Path, found: list[str]) -> None:
    embedder = Embedder.create(ModelConfig(widths=(4,), embedding_dim=4), ImagePolicy(size=16))
    embedder.save_pretrained(tmp_path / "embedder")
    TripletPlan.of([0], [1], [2]).save(tmp_path / "plan.parquet")
    np.save(tmp_path / "own.npy", np.zeros((2, 2), np.float32))
    Embedder.from_pretrained(tmp_path / "embedder")
    TripletPlan.load(tmp_path / "plan.parquet")
    read_npy(tmp_path / "own.npy", "embeddings")
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    for name in ("embedder/model.safetensors", "embedder/embedder.json", "plan.parquet", "own.npy"):
        (tmp_path / name).write_bytes(_PICKLE)
    opened = (
        lambda: Embedder.from_pretrained(tmp_path / "embedder"),
        lambda: TripletPlan.load(tmp_path / "plan.parquet"),
        lambda: read_npy(tmp_path / "own.npy", "embeddings"),
        lambda: read_npy(tmp_path / "objects.npy", "embeddings"),
    )
    for attempt in opened:
        with pytest.raises(InputError):
            attempt()
    assert [each for each in found if not each.startswith(("open ", "os."))] == []
