"""Nothing that Mohs opens is unpickled."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mohs
from mohs.data.images import ImagePolicy
from mohs.errors import InputError
from mohs.evaluation.embedding_files import read_npy
from mohs.model.embedder import Embedder
from mohs.plan import TripletPlan
from mohs.settings.config import ModelConfig

_ROOT = Path(mohs.__file__).parent
_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
_PICKLE = b"cbuiltins\neval\n(S'1'\ntR."

watched: list[str] | None = None


@sys.addaudithook
def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if watched is not None and event == "pickle.find_class":
        watched.append(f"{arguments[0]}.{arguments[1]}")


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
    assert found == []
