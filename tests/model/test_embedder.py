"""The embedder: unit vectors, decided by its seed, the same after saving and loading."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from mohs.artefacts import read_json, write_json
from mohs.data.images import ImagePolicy, decode_image
from mohs.errors import InputError
from mohs.model.embedder import Embedder
from mohs.settings.config import ModelConfig
from mohs.sums import read_summed, write_summed

GREY = ImagePolicy(size=16, channels=1)
TINY = ModelConfig(widths=(4, 8), hidden_dim=12, embedding_dim=6)


def pictures(num: int, policy: ImagePolicy = GREY, seed: int = 0) -> np.ndarray:
    shape = (num, policy.size, policy.size, policy.channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_embeddings_are_unit_vectors_of_each_picture() -> None:
    embedder = Embedder.create(TINY, GREY, seed=0)
    x = pictures(10)
    embeddings = embedder.embed(x)
    assert (embeddings.shape, embeddings.dtype, embedder.embedding_dim) == ((10, 6), np.float32, 6)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-6)
    assert len(np.unique(embeddings, axis=0)) == 10
    np.testing.assert_allclose(embedder.embed(x[::-1]), embeddings[::-1], atol=1e-5)  # each by itself
    np.testing.assert_allclose(embedder.embed(x, batch_size=3), embeddings, atol=1e-5)
    assert embedder.embed(x[:0]).shape == (0, 6)


def test_seed_decides_the_weights_and_global_state_is_left_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one = Embedder.create(TINY, GREY, seed=1).embed(pictures(3))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    np.testing.assert_array_equal(Embedder.create(TINY, GREY, seed=1).embed(pictures(3)), one)
    assert not np.array_equal(Embedder.create(TINY, GREY, seed=2).embed(pictures(3)), one)


def test_mode_is_given_back_and_statistics_are_not_touched() -> None:
    embedder = Embedder.create(TINY, GREY).train()
    before = {name: value.clone() for name, value in embedder.state_dict().items()}
    embedder.embed(pictures(5))
    assert embedder.training
    assert all(torch.equal(before[name], value) for name, value in embedder.state_dict().items())
    assert not embedder.eval().training
    embedder.embed(pictures(5))
    assert not embedder.training
    with pytest.raises(InputError):
        embedder.train().embed([Path("none.png")])
    assert embedder.training


def test_input_is_normalised_by_mean_and_std() -> None:
    embedder = Embedder.create(TINY.model_copy(update={"mean": (0.2,), "std": (0.4,)}), GREY).eval()
    x = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = nn.functional.normalize(embedder.head(embedder.backbone((x - 0.2) / 0.4)), dim=1)
    torch.testing.assert_close(embedder(x), expected)
    scaled = embedder.to_input(np.array([[[[0]], [[255]]]], dtype=np.uint8))
    assert scaled.flatten().tolist() == [0.0, 1.0]
    assert embedder.to_input(pictures(2, ImagePolicy(16, 3))).shape == (2, 3, 16, 16)


def test_memory_layout_does_not_matter() -> None:
    policy = ImagePolicy(size=16, channels=3)
    embedder = Embedder.create(TINY, policy).eval()
    x = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(embedder(x), embedder(x.contiguous(memory_format=torch.channels_last)), rtol=0, atol=0)
    plain = Embedder.create(TINY, policy).to(memory_format=torch.contiguous_format).eval()
    torch.testing.assert_close(plain(x), embedder(x))


def test_read_only_pictures_are_left_as_they_are() -> None:
    x = pictures(2)
    before = x.copy()
    x.setflags(write=False)
    Embedder.create(TINY, GREY).embed(x)
    np.testing.assert_array_equal(x, before)


def test_files_are_prepared_by_the_policy(tmp_path: Path) -> None:
    files = []
    for i, shape in enumerate([(20, 30), (9, 9)]):
        file = tmp_path / f"{i}.png"
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (*shape, 3), dtype=np.uint8)).save(file)
        files.append(file)
    embedder = Embedder.create(TINY, GREY)
    prepared = np.stack([decode_image(file, GREY) for file in files])
    np.testing.assert_array_equal(embedder.embed(files), embedder.embed(prepared))
    np.testing.assert_array_equal(embedder.embed([str(file) for file in files]), embedder.embed(prepared))


def test_wrong_pictures() -> None:
    embedder = Embedder.create(TINY, GREY)
    fix = "is not uint8[N, H, W, C] with H, W, C = (16, 16, 1); prepare them with decode_image"
    for wrong in (
        pictures(2, ImagePolicy(16, 3)),
        pictures(2, ImagePolicy(32, 1)),
        pictures(2)[0],
        pictures(2).astype(np.float32) / 255,
    ):
        with pytest.raises(InputError) as caught:
            embedder.embed(wrong)
        assert str(caught.value) == f"pictures: {wrong.dtype}{wrong.shape} {fix}"
    with pytest.raises(InputError, match=r"^pictures: 'a.png' is one file; give a list of files$"):
        embedder.embed("a.png")
    with pytest.raises(InputError, match=r"none\.png': no such file; replace the file$"):
        embedder.embed(["none.png"])


@pytest.mark.parametrize("hidden_dim", [0, 12])
def test_without_batch_norm_there_is_none(hidden_dim: int) -> None:
    def kinds(batch_norm: bool) -> list[type]:
        config = ModelConfig(widths=(4, 8), hidden_dim=hidden_dim, embedding_dim=6, batch_norm=batch_norm)
        return [type(module) for module in Embedder.create(config, GREY).modules()]

    norms = (nn.BatchNorm1d, nn.BatchNorm2d)
    assert sum(kind in norms for kind in kinds(True)) == (3 if hidden_dim else 2)
    assert not any(kind in norms for kind in kinds(False))
    assert kinds(False).count(nn.Linear) == (2 if hidden_dim else 1)
    # Then a picture's embedding does not depend on its neighbours, in training either.
    config = ModelConfig(widths=(4, 8), hidden_dim=hidden_dim, embedding_dim=6, batch_norm=False)
    embedder = Embedder.create(config, GREY).train()
    x = embedder.to_input(pictures(5))
    torch.testing.assert_close(embedder(x)[:2], embedder(x[:2]))


def test_dropout_is_for_training_only() -> None:
    embedder = Embedder.create(TINY.model_copy(update={"dropout": 0.5, "batch_norm": False}), GREY)
    assert sum(isinstance(module, nn.Dropout) for module in embedder.modules()) == 1
    x = embedder.to_input(pictures(4))
    assert torch.equal(embedder.eval()(x), embedder(x))
    assert not torch.equal(embedder.train()(x), embedder(x))


def test_saved_and_loaded_embeds_bit_for_bit_alike(tmp_path: Path) -> None:
    policy = ImagePolicy(size=24, channels=3, fit="crop")
    config = TINY.model_copy(update={"dropout": 0.3, "mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7)})
    embedder = Embedder.create(config, policy, seed=3)
    embedder.train()(embedder.to_input(pictures(8, policy)))  # moves the running statistics
    embedder.save_pretrained(tmp_path / "run" / "embedder")
    assert sorted(file.name for file in (tmp_path / "run" / "embedder").iterdir()) == [
        "embedder.json",
        "model.safetensors",
    ]
    for folder in (tmp_path / "run" / "embedder", str(tmp_path / "run")):
        loaded = Embedder.from_pretrained(folder)
        assert not loaded.training
        assert (loaded.policy, loaded.config) == (policy, config)
        np.testing.assert_array_equal(loaded.embed(pictures(5, policy)), embedder.embed(pictures(5, policy)))


def test_timm_embedder_there_and_back_without_its_weights_file(tmp_path: Path) -> None:
    policy = ImagePolicy(size=32, channels=3)
    config = ModelConfig(
        backbone="mobilenetv2_100", backbone_options={"pad_type": "same"}, hidden_dim=0, embedding_dim=8
    )
    source = Embedder.create(config, policy, seed=5)
    save_file({name: value.contiguous() for name, value in source.backbone.state_dict().items()}, tmp_path / "w")
    embedder = Embedder.create(config.model_copy(update={"weights": str(tmp_path / "w")}), policy, seed=6)
    assert torch.equal(embedder.backbone.conv_stem.weight, source.backbone.conv_stem.weight)
    assert not torch.equal(embedder.head[-1].weight, source.head[-1].weight)
    embedder.save_pretrained(tmp_path / "saved")
    (tmp_path / "w").unlink()
    loaded = Embedder.from_pretrained(tmp_path / "saved")
    assert loaded.config.weights is None
    np.testing.assert_array_equal(loaded.embed(pictures(2, policy)), embedder.embed(pictures(2, policy)))


def saved(folder: Path) -> Path:
    Embedder.create(TINY, GREY).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("change", "problems"),
    [
        ({"format": 2}, ["format 2 is newer than 1, the newest that this mohs reads; use a newer mohs"]),
        (
            {"pictures": {"size": 3, "channels": 1, "fit": "pad"}},
            ["size: 3 is not a whole number in [8, 2048]; use for example 64 (pixels)"],
        ),
        (
            {"model": {**TINY.model_dump(exclude={"weights", "start", "pretrained"}), "widths": 0, "with": 1}},
            [
                "widths: 0 is wrong: input should be a valid tuple",
                "with: unknown setting; see 'mohs train --print-config' for the names",
            ],
        ),
    ],
)
def test_wrong_settings_are_named_with_their_file(tmp_path: Path, change: dict, problems: list[str]) -> None:
    file = saved(tmp_path) / "embedder.json"
    write_summed(file, {**read_summed(file), **change})
    with pytest.raises(InputError) as caught:
        Embedder.from_pretrained(tmp_path)
    assert caught.value.problems == tuple(f"{file}: {problem}" for problem in problems)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[]", "not a JSON object; write it again or use another file"),
        ("{}", "format None is not 1; use the version of mohs that saved it"),
        ('{"format": 1}', "not an embedder's settings (KeyError('model')); use one saved by mohs"),
        ('{"format": 1, "model": 3, "pictures": {}}', "not an embedder's settings ("),
        ('{"format": 1, "model": {}, "pictures": {"x": 1}}', "model.backbone: is not there; copy the file again"),
    ],
)
def test_settings_of_something_else(tmp_path: Path, text: str, line: str) -> None:
    (saved(tmp_path) / "embedder.json").write_text(text)
    with pytest.raises(InputError) as caught:
        Embedder.from_pretrained(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/embedder.json: {line}")


@pytest.mark.parametrize("name", ["size", "channels", "fit"])
def test_no_default_stands_in_for_a_setting_that_is_missing(tmp_path: Path, name: str) -> None:
    file = saved(tmp_path) / "embedder.json"
    settings = json.loads(file.read_text())
    del settings["content_sha256"], settings["files"]
    write_json(file, settings)  # as older versions did
    assert Embedder.from_pretrained(tmp_path).policy == GREY
    del settings["pictures"][name]
    write_json(file, settings)
    with pytest.raises(InputError, match=rf"embedder\.json: pictures\.{name}: is not there"):
        Embedder.from_pretrained(tmp_path)


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    network = Embedder.create(TINY, GREY)
    with torch.no_grad():
        network.head[-1].bias[2] = float("nan")
    network.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"model\.safetensors: head\.3\.bias holds NaN or Inf"):
        Embedder.from_pretrained(tmp_path)


def test_corrupt_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"embedder\.json: no such file; check the path$"):
        Embedder.from_pretrained(tmp_path / "none")
    weights = saved(tmp_path) / "model.safetensors"
    whole = weights.read_bytes()
    for broken in (b"", whole[:-20], b"not a safetensors file", whole[100:]):
        weights.write_bytes(broken)
        with pytest.raises(InputError, match=r"model\.safetensors: damaged, .*: SHA-256 is not the one in embedder"):
            Embedder.from_pretrained(tmp_path)
    weights.unlink()
    with pytest.raises(InputError, match=r"model\.safetensors: no such file; copy it beside embedder\.json$"):
        Embedder.from_pretrained(tmp_path)
    (tmp_path / "embedder.json").write_text("{")
    with pytest.raises(InputError, match=r"embedder\.json: not JSON"):
        Embedder.from_pretrained(tmp_path)


def test_weights_of_another_network(tmp_path: Path) -> None:
    file = saved(tmp_path) / "model.safetensors"
    state = load_file(file)
    save_file({**state, "head.0.weight": state["head.0.weight"][:, 1:].contiguous()}, file)
    with pytest.raises(InputError, match=r"model\.safetensors: damaged, or changed since it was written: SHA-256"):
        Embedder.from_pretrained(tmp_path)
    record = read_json(tmp_path / "embedder.json")  # without sums, as older versions wrote it
    write_json(tmp_path / "embedder.json", {k: v for k, v in record.items() if k not in ("content_sha256", "files")})
    with pytest.raises(InputError, match=r"model\.safetensors: does not hold this network's weights \(.*\)$"):
        Embedder.from_pretrained(tmp_path)
