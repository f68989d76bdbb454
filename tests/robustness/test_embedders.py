"""Saved embedders from strangers: they run nothing, read nothing else, and take no more memory than their own size."""

import json
import resource
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from mohs.data.images import ImagePolicy
from mohs.errors import InputError
from mohs.model.backbones import check_options
from mohs.model.embedder import Embedder
from mohs.settings.config import ModelConfig


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embedder")
    Embedder.create(ModelConfig(widths=(4, 8), embedding_dim=8), ImagePolicy(size=32)).save_pretrained(folder)
    return folder


def changed(saved: Path, tmp_path: Path, part: str, **values: Any) -> Path:
    """Return a copy of a saved embedder with other settings."""
    settings = json.loads((saved / "embedder.json").read_text())
    settings[part] |= values
    del settings["content_sha256"], settings["files"]  # a forger would write others
    (tmp_path / "embedder.json").write_text(json.dumps(settings))
    (tmp_path / "model.safetensors").write_bytes((saved / "model.safetensors").read_bytes())
    return tmp_path


def refused(folder: Path) -> str:
    """Open an embedder that must be refused: in one line, soon, without memory."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError) as caught:
        Embedder.from_pretrained(folder)
    assert time.perf_counter() - began < 20  # timm may be imported first, beside other tests
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # KiB
    assert len(caught.value.problems) == 1
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"checkpoint_path": "evil.pth"},
        {"pretrained": True},
        {"pretrained_cfg": "x"},
        {"pretrained_cfg_overlay": "x"},
        {"pretrained_strict": False},
        {"cache_dir": "/tmp"},
        {"weight_init": "evil.npz"},
        {"features_only": True},
        {"num_classes": 10**9},
        {"img_size": 20_000},
        {"embed_dim": 10**9},
        {"depth": 10**6},
        {"act_layer": "../../evil"},
        {"norm_layer": "https://evil.example/x"},
        {"global_pool": "file:evil"},
        {"pad_type": "C:\\evil"},
        {"drop_rate": float("nan")},
    ],
)
def test_options_that_read_or_take_too_much_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        check_options(options)
    assert len(caught.value.problems) == 1
    assert str(caught.value).startswith(f"model.backbone_options.{next(iter(options))}: ")


@pytest.mark.parametrize("name", ["weights", "start", "pretrained"])
def test_an_embedder_names_no_other_weights(saved: Path, tmp_path: Path, name: str) -> None:
    line = refused(changed(saved, tmp_path, "model", **{name: str(tmp_path / "evil.pth")}))
    assert line == f"{tmp_path / 'embedder.json'}: model.{name}: a saved embedder loads no other file; remove the line"


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"embedding_dim": 4_000_000}, "s weights (head.3.bias: (8,) in the file, (4000000,"),
        ({"embedding_dim": 10**30}, "model: no such network can be made"),
        ({"embedding_dim": 9_000_000_000}, "are more than 2,000,000,000; if that is meant, set MOHS_MAX_PARA"),
        ({"widths": [4] * 100_000}, "100,000 stages are more than 32; if that is meant, set MOHS_MAX_STAGES"),
        ({"widths": [2**40, 2**40]}, "model: no such network can be made"),
        ({"hidden_dim": 4_000_000}, "does not hold this network's weights"),
        ({"backbone": "vit_giant_patch14_clip_224"}, "does not take pictures of 32 x 32"),
        ({"backbone": "resnetv2_152x4_bit"}, "does not hold this network's weights"),
        ({"backbone": "test_vit", "backbone_options": {"img_size": 8192}}, "does not"),
    ],
)  # fmt: skip
def test_what_the_file_does_not_hold_is_not_allocated(
    saved: Path, tmp_path: Path, values: dict[str, Any], line: str
) -> None:
    assert line in refused(changed(saved, tmp_path, "model", **values))


def test_a_variable_lifts_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    config = ModelConfig(widths=(2,) * 33, embedding_dim=2, hidden_dim=0)
    with pytest.raises(InputError, match="33 stages are more than 32"):
        Embedder.create(config, ImagePolicy(size=32))
    monkeypatch.setenv("MOHS_MAX_STAGES", "33")
    assert Embedder.create(config, ImagePolicy(size=32)).embedding_dim == 2
    monkeypatch.setenv("MOHS_MAX_STAGES", "many")
    with pytest.raises(InputError, match="MOHS_MAX_STAGES: 'many' is not a whole number above 0; unset it"):
        Embedder.create(config, ImagePolicy(size=32))


def test_another_tensor_and_a_damaged_header_are_refused(saved: Path, tmp_path: Path) -> None:
    folder = changed(saved, tmp_path, "model")
    state = load_file(folder / "model.safetensors")
    save_file(state | {"evil": state["mean"].clone()}, folder / "model.safetensors")
    assert "evil: (1, 3, 1, 1) in the file, not there in the network; 1 differ" in refused(folder)
    (folder / "model.safetensors").write_bytes(b"\xff" * 100)
    assert "does not hold this network's weights" in refused(folder)
