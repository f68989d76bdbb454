import json
from pathlib import Path

import numpy as np
import pytest

from mohs.data.images import ImagePolicy
from mohs.errors import InputError
from mohs.export import network
from mohs.export.network import export_onnx, export_torch
from mohs.model.embedder import Embedder
from mohs.settings.config import ModelConfig


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    config = ModelConfig(widths=(4, 8), hidden_dim=8, embedding_dim=6)
    made = Embedder.create(config, ImagePolicy(size=16, channels=3, fit="crop"), seed=1)
    made(made.to_input(pictures(64)))  # statistics of batch norm are not those it begins with
    return made


def pictures(num: int) -> np.ndarray:
    return np.random.default_rng(num).integers(0, 256, (num, 16, 16, 3), dtype=np.uint8)


def test_onnx_gives_the_vectors_for_any_batch(embedder: Embedder, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs mohs[onnx]")
    made = export_onnx(embedder, tmp_path / "shop.onnx", pictures(40))
    assert made.num_pictures == 40
    assert made.largest_difference < 1e-5
    session = onnxruntime.InferenceSession(made.path, providers=["CPUExecutionProvider"])
    for num in (1, 2, 33):
        found = session.run(None, {"pictures": pictures(num)})[0]
        np.testing.assert_allclose(found, embedder.embed(pictures(num)), atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    about = json.loads(made.description.read_text())
    assert about["input"]["shape"] == ["batch", 16, 16, 3]
    assert about["output"]["shape"] == ["batch", 6]
    assert about["preparation"]["fit"] == "crop"
    assert about["checked"]["num_pictures"] == 40
    assert about["file"] == "shop.onnx"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shop.onnx", "shop.onnx.json"]


def test_torch_gives_the_vectors_for_any_batch(embedder: Embedder, tmp_path: Path) -> None:
    import torch

    made = export_torch(embedder, tmp_path / "shop.pt2", pictures(5))
    program = torch.export.load(made.path).module()
    for num in (1, 33):
        found = program(torch.from_numpy(pictures(num))).numpy()
        np.testing.assert_allclose(found, embedder.embed(pictures(num)), atol=1e-6)


def test_what_gives_other_vectors_is_not_kept(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "MAX_DIFFERENCE", -1.0)
    with pytest.raises(InputError, match=r"shop.pt2: torch .* gives other vectors, by .*; it was not kept"):
        export_torch(embedder, tmp_path / "shop.pt2", pictures(2))
    assert not list(tmp_path.iterdir())


def test_it_is_not_written_without_pictures_to_check_it_on(embedder: Embedder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="pictures: none are given"):
        export_torch(embedder, tmp_path / "shop.pt2", pictures(0))
