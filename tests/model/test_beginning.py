from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import save_file

from mohs.data.images import ImagePolicy
from mohs.errors import InputError
from mohs.index.frozen import frozen_embedder
from mohs.index.index import Index
from mohs.model.beginning import differences, settings_of_start, takes_head
from mohs.model.embedder import Embedder
from mohs.settings.config import ModelConfig

from .hub_server import COMMIT, Hub, hub_server

POLICY = ImagePolicy(size=16, channels=3)
SMALL = ModelConfig(widths=(4, 8), hidden_dim=6, embedding_dim=5)


@pytest.fixture
def saved(tmp_path: Path) -> str:
    embedder = Embedder.create(SMALL, POLICY, seed=1)
    embedder(torch.rand(8, 3, 16, 16))  # statistics of batch norm are taken, too
    embedder.save_pretrained(tmp_path / "run" / "embedder")
    return str(tmp_path / "run")


def test_all_weights_are_taken_where_all_is_alike(saved: str) -> None:
    config = SMALL.model_copy(update={"start": saved})
    pictures = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    found = Embedder.create(config, POLICY, seed=9).embed(pictures)
    np.testing.assert_array_equal(found, Embedder.from_pretrained(saved).embed(pictures))
    assert differences(config, POLICY) == [f"starts from {saved}: backbone and head"]
    assert takes_head(config)
    again = Embedder.create(config, POLICY)
    again.save_pretrained(Path(saved) / "copy")
    assert Embedder.from_pretrained(Path(saved) / "copy").config.start is None


def test_another_head_is_new_and_what_differs_is_said(saved: str) -> None:
    config = SMALL.model_copy(update={"start": saved, "embedding_dim": 7})
    policy = ImagePolicy(size=24, channels=3, fit="crop")
    made, other = Embedder.create(config, policy, seed=9), Embedder.from_pretrained(saved)
    for name, value in made.backbone.state_dict().items():
        torch.testing.assert_close(value, other.backbone.state_dict()[name], rtol=0, atol=0)
    assert made.embedding_dim == 7
    assert not takes_head(config)
    assert differences(config, policy) == [
        f"starts from {saved}: the backbone; the head is new",
        "model.embedding_dim: 7 here, 5 there",
        "data.size: 24 here, 16 there",
        "data.fit: 'crop' here, 'pad' there",
    ]


@pytest.mark.parametrize(
    ("changed", "channels", "line"),
    [
        ({"widths": (4, 4)}, 3, r"model.widths: \(4, 4\), but the weights of .*run fit only \(4, 8\)"),
        ({"backbone": "test_resnet"}, 3, r"model.backbone: 'test_resnet', but the weights of .* fit only 'small'"),
        ({"batch_norm": False}, 3, "model.batch_norm: False, but the weights of .* fit only True"),
        ({}, 1, "data.channels: 1, but the weights of .* fit only 3; leave it out"),
        ({"weights": "w.safetensors"}, 3, "model.weights, model.start: only one of them can give the first weights"),
    ],
)
def test_what_cannot_be_is_refused(saved: str, changed: dict[str, object], channels: int, line: str) -> None:
    config = SMALL.model_copy(update={"start": saved, **changed})
    with pytest.raises(InputError, match=line):
        Embedder.create(config, ImagePolicy(size=16, channels=channels))


def test_a_vit_of_another_size_is_refused(tmp_path: Path) -> None:
    config = ModelConfig(backbone="test_vit", hidden_dim=0, embedding_dim=4)
    Embedder.create(config, ImagePolicy(size=160)).save_pretrained(tmp_path)
    start = config.model_copy(update={"start": str(tmp_path), "backbone_options": {}})
    assert differences(start, ImagePolicy(size=160)) == [f"starts from {tmp_path}: backbone and head"]
    other = config.model_copy(update={"start": str(tmp_path), "backbone_options": {"img_size": 64}})
    with pytest.raises(
        InputError, match=r"model.backbone_options: {'img_size': 64}, but the weights of .* fit only {}"
    ):
        Embedder.create(other, ImagePolicy(size=64))


def test_a_start_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model.start: .*: no embedder \(no embedder.json\); give a finished run"):
        settings_of_start(str(tmp_path))


def test_settings_that_weights_are_for_are_taken(saved: str) -> None:
    found = settings_of_start(saved)
    assert found["model.widths"] == [4, 8]
    assert (found["data.size"], found["data.channels"], found["data.fit"]) == (16, 3, "pad")
    assert "data.white_level" not in found


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with the weights of timm's smallest network, whose addresses this process takes for the hub's."""
    name = "test_efficientnet.r160_in1k"
    with hub_server() as found:
        template = f"{found.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "ENDPOINT", found.address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        torch.manual_seed(5)
        save_file(timm.create_model(name).state_dict(), tmp_path / "w.safetensors")
        found.repos[f"timm/{name}"] = {"model.safetensors": (tmp_path / "w.safetensors").read_bytes()}
        yield found


@pytest.mark.parametrize("channels", [3, 1])
def test_weights_of_timm_are_fetched_once(hub: Hub, tmp_path: Path, channels: int) -> None:
    config = ModelConfig(backbone="test_efficientnet", pretrained="default", hidden_dim=0, embedding_dim=4)
    policy = ImagePolicy(size=32, channels=channels)
    first, second = Embedder.create(config, policy), Embedder.create(config, policy)
    fetched = [each for each in hub.asked if each.startswith("GET /timm")]
    assert fetched == ["GET /timm/test_efficientnet.r160_in1k/resolve/main/model.safetensors"]
    torch.manual_seed(5)
    wanted = timm.create_model("test_efficientnet.r160_in1k").state_dict()
    own = first.backbone.state_dict()
    name = "blocks.0.0.conv.weight"
    torch.testing.assert_close(own[name], wanted[name], rtol=0, atol=0)
    if channels == 1:  # timm's rule: grey is the sum of what the colours weigh
        torch.testing.assert_close(own["conv_stem.weight"], wanted["conv_stem.weight"].sum(1, keepdim=True))
    torch.testing.assert_close(second.backbone.state_dict()[name], own[name], rtol=0, atol=0)
    first.save_pretrained(tmp_path / "own")
    assert Embedder.from_pretrained(tmp_path / "own").config.pretrained is None
    assert COMMIT in str(next((tmp_path / "cache").rglob("snapshots/*")))


def test_an_index_of_weights_from_the_hub_opens_without_it(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lancedb", reason="needs mohs[search]")
    for label in ("a", "b", "c"):
        (tmp_path / "shop" / label).mkdir(parents=True)
        for i in range(2):
            Image.new("RGB", (9, 9), (40 * i, 80 * ord(label) % 256, 90)).save(tmp_path / "shop" / label / f"{i}.png")
    network = frozen_embedder(tmp_path / "shop", backbone="test_efficientnet", size=32, embedding_dim=8)
    Index.build(tmp_path / "i", tmp_path / "shop", network)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert len(Index.open(tmp_path / "i")) == 6
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}")
    with pytest.raises(InputError, match=r"127.0.0.1:9 cannot be reached, and .* not in the cache"):
        frozen_embedder(tmp_path / "shop", backbone="test_efficientnet", size=32)


@pytest.mark.parametrize(
    ("backbone", "tag", "line"),
    [
        ("small", "default", "model.pretrained: 'small' has no pretrained weights; name a timm model"),
        (
            "test_efficientnet",
            "in22k",
            "model.pretrained: 'in22k' is no tag of 'test_efficientnet'; its tags are r160_in",
        ),
        ("tf_efficientnet_lite0", "in1k", "has no model 'timm/tf_efficientnet_lite0.in1k', or you may not read it"),
    ],
)
def test_pretrained_weights_that_are_not_there(hub: Hub, backbone: str, tag: str, line: str) -> None:
    config = ModelConfig(backbone=backbone, pretrained=tag)
    with pytest.raises(InputError, match=line):
        Embedder.create(config, ImagePolicy(size=32))


def test_a_file_of_settings_loads_no_other_file() -> None:
    config = ModelConfig(backbone="test_efficientnet", backbone_options={"checkpoint_path": "evil.pth"})
    with pytest.raises(
        InputError,
        match=r"model.backbone_options.checkpoint_path: not an option that shapes a network; weights are given by",
    ):
        Embedder.create(config, ImagePolicy(size=32))
