"""Backbones by name, and their weights from a file."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mohs.data.images import ImagePolicy, decode_image
from mohs.errors import InputError
from mohs.evaluation.retrieval import evaluate_all_against_all
from mohs.model.backbones import SmallNetwork, build_backbone, load_weights
from mohs.model.embedder import Embedder
from mohs.settings.config import ModelConfig

SHARED = Path(__file__).parents[3] / "shared"
IMAGENET = SHARED / "weights" / "mobilenetv2_100_imagenet.safetensors"
CALTECH = SHARED / "data" / "caltech30.zip"


def test_timm_model_by_name() -> None:
    backbone = build_backbone(ModelConfig(backbone="mobilenetv2_100"), channels=3, size=64)
    assert backbone.network.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, backbone.num_features) == (1, 1280)
    assert (backbone.mean, backbone.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    grey = build_backbone(ModelConfig(backbone="mobilenetv2_100"), channels=1, size=64)
    assert grey.network.eval()(torch.zeros(1, 1, 32, 32)).shape == (1, 1280)
    assert (grey.mean, grey.std) == (pytest.approx((0.449,)), pytest.approx((0.226,)))
    own = build_backbone(ModelConfig(backbone="mobilenetv2_100", mean=(0.5,) * 3, std=(0.25,) * 3), channels=3, size=64)
    assert (own.mean, own.std) == ((0.5,) * 3, (0.25,) * 3)


def test_options_reach_timm() -> None:
    backbone = build_backbone(
        ModelConfig(backbone="mobilenetv2_100", backbone_options={"pad_type": "same"}),
        channels=3,
        size=64,
    )
    plain = build_backbone(ModelConfig(backbone="mobilenetv2_100"), channels=3, size=64)
    assert type(backbone.network.conv_stem) is not type(plain.network.conv_stem)


@pytest.mark.parametrize(
    ("config", "channels", "message"),
    [
        (
            ModelConfig(backbone="smal"),
            3,
            "model.backbone: 'smal' is neither 'small' nor a timm model; did you mean 'small'?",
        ),
        (
            ModelConfig(backbone="qqqqqqqqq"),
            3,
            "model.backbone: 'qqqqqqqqq' is neither 'small' nor a timm model; timm.list_models() lists the names",
        ),
        (ModelConfig(mean=(0.5,)), 3, "model.mean: 1 values for 3 channels; give one per channel"),
        (ModelConfig(std=(0.5,) * 3), 1, "model.std: 3 values for 1 channels; give one per channel"),
        (
            ModelConfig(std=(0.5, 0.0, 0.5)),
            3,
            "model.std: 0.0 is not positive; give the spread of pictures in [0, 1]",
        ),
    ],
)
def test_wrong_settings(config: ModelConfig, channels: int, message: str) -> None:
    with pytest.raises(InputError) as caught:
        build_backbone(config, channels=channels, size=64)
    assert str(caught.value) == message


def test_misspelt_timm_name_is_corrected() -> None:
    with pytest.raises(InputError, match=r"'mobilnetv2_100' is neither .*; did you mean .*'mobilenetv2_100'.*\?$"):
        build_backbone(ModelConfig(backbone="mobilnetv2_100"), channels=3, size=64)


@pytest.mark.parametrize("options", [{"img_size": 1}, {"act_layer": "round"}])
def test_options_that_do_not_fit(options: dict[str, int | str]) -> None:
    with pytest.raises(InputError) as caught:
        build_backbone(ModelConfig(backbone="mobilenetv2_100", backbone_options=options), channels=3, size=64)
    assert str(caught.value).startswith(f"model.backbone_options: {options} does not fit 'mobilenetv2_100' (")
    assert len(caught.value.problems) == 1


def random_state(network: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(value.shape, generator=generator) if value.is_floating_point() else value.clone()
        for name, value in network.state_dict().items()
    }


def test_weights_are_loaded_whatever_their_type_and_without_the_classifier(tmp_path: Path) -> None:
    network = build_backbone(ModelConfig(backbone="mobilenetv2_100"), channels=3, size=64).network
    state = random_state(network)
    with_classifier = {
        **{name: value.half() if value.is_floating_point() else value for name, value in state.items()},
        "classifier.weight": torch.zeros(1000, 1280),
        "classifier.bias": torch.zeros(1000),
    }
    file = tmp_path / "weights.safetensors"
    save_file({n: v for n, v in with_classifier.items() if not n.endswith("num_batches_tracked")}, file)
    load_weights(network, file)
    for name, value in network.state_dict().items():
        assert value.dtype == state[name].dtype
        torch.testing.assert_close(value, state[name].half().to(value.dtype), rtol=0, atol=0)


def test_all_weights_that_do_not_fit_are_reported_and_none_is_loaded(tmp_path: Path) -> None:
    network = SmallNetwork(1, (4, 8))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = random_state(network)
    del state["stages.0.weight"], state["stages.1.running_mean"]
    state["stages.4.weight"] = torch.zeros(8, 5, 3, 3)
    state["extra.weight"] = torch.zeros(1)
    file = tmp_path / "weights.safetensors"
    save_file(state, file)
    with pytest.raises(InputError) as caught:
        load_weights(network, file)
    assert caught.value.problems == (
        f"model.weights: {file}: extra.weight is not part of this backbone",
        f"model.weights: {file}: stages.0.weight is missing; use weights of this backbone",
        f"model.weights: {file}: stages.1.running_mean is missing; use weights of this backbone",
        f"model.weights: {file}: stages.4.weight has shape (8, 5, 3, 3), the backbone (8, 4, 3, 3)",
    )
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_long_reports_are_cut_and_counted(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    save_file({f"layer{i:02}": torch.zeros(1) for i in range(30)}, file)
    network = nn.Linear(2, 2)
    with pytest.raises(InputError) as caught:
        load_weights(network, file)
    assert len(caught.value.problems) == 11
    assert caught.value.problems[-1] == "… and 22 more"


def test_weights_file_messages(tmp_path: Path) -> None:
    network = SmallNetwork(1, (4,))
    with pytest.raises(InputError, match=r"^model\.weights: .*none: no such file; check the path$"):
        load_weights(network, tmp_path / "none")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(InputError, match=r"^model\.weights: .*text: not a safetensors file \(.*\)$"):
        load_weights(network, tmp_path / "text")
    with pytest.raises(InputError, match=r"^model\.weights: .*: not a safetensors file \(.*\)$"):
        load_weights(network, tmp_path)


@pytest.mark.parametrize("size", [8, 9, 17, 64])
@pytest.mark.parametrize("widths", [(4,), (4, 4, 4, 4, 4)])
def test_small_network_takes_any_size(size: int, widths: tuple[int, ...]) -> None:
    network = SmallNetwork(3, widths).eval()
    assert network(torch.rand(2, 3, size, size)).shape == (2, network.num_features) == (2, 64)


def test_small_network_sees_where_things_are() -> None:
    network = SmallNetwork(1, (4, 8)).eval()
    left, right = torch.ones(2, 1, 1, 32, 32)
    left[..., 8:24, 2:6] = 0
    right[..., 8:24, 26:30] = 0
    assert float((network(left) - network(right)).detach().abs().max()) > 1e-3


def test_real_weights_tell_objects_apart(tmp_path: Path) -> None:
    """The ImageNet weights, where the project keeps them, on eight kinds of photographs: unlike random weights."""
    if not IMAGENET.is_file() or not CALTECH.is_file():
        pytest.skip(f"{IMAGENET} or {CALTECH} is absent: loading of real weights is NOT tested")
    with zipfile.ZipFile(CALTECH) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        labels = np.array([name.split("/")[1] for name in names])
        kinds = np.unique(labels)[::12][:8]
        chosen = [i for kind in kinds for i in np.flatnonzero(labels == kind)[:6]]
        files = [archive.extract(names[i], tmp_path) for i in chosen]
    policy = ImagePolicy(size=96, channels=3)
    x = np.stack([decode_image(file, policy) for file in files])
    found = {}
    for weights in (None, str(IMAGENET)):
        config = ModelConfig(
            backbone="mobilenetv2_100",
            weights=weights,
            backbone_options={"pad_type": "same"},
            mean=(0.5,) * 3,
            std=(0.5,) * 3,
        )
        embedder = Embedder.create(config, policy).eval()
        with torch.inference_mode():
            features = embedder.backbone((embedder.to_input(x) - embedder.mean) / embedder.std)
        features = torch.nn.functional.normalize(features, dim=1).numpy()
        found[weights] = evaluate_all_against_all(features, labels[chosen]).metrics["recall@1"]
        assert embedder.embed(x).shape == (48, 128)
    assert found[str(IMAGENET)] > 0.6
    assert found[str(IMAGENET)] > found[None] + 0.3


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "lcnet_050"])
def test_models_with_a_layer_before_the_classifier_fit_the_head(name: str) -> None:
    embedder = Embedder.create(ModelConfig(backbone=name, embedding_dim=8), ImagePolicy(size=32))
    assert embedder.embed(np.zeros((2, 32, 32, 3), dtype=np.uint8)).shape == (2, 8)


def test_a_model_of_another_input_size_is_refused_in_one_line() -> None:
    with pytest.raises(InputError) as caught:
        build_backbone(ModelConfig(backbone="vit_tiny_patch16_224"), channels=3, size=64)
    (problem,) = caught.value.problems
    assert problem.startswith("model.backbone: 'vit_tiny_patch16_224' does not take pictures of 64 x 64 (")
    assert problem.endswith("); use the size it was made for (--size 224 is common)")
