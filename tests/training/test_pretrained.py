"""What fine-tuning keeps: distances in a head of principal components, and a share of the weights it began with."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from mohs.artefacts import EventLog
from mohs.config import DataConfig, FinetuneConfig, ModelConfig, RunConfig, TrainingConfig
from mohs.data.dataset import Dataset
from mohs.data.images import ImagePolicy
from mohs.errors import InputError
from mohs.model.embedder import Embedder
from mohs.training.checkpoint import load_checkpoint
from mohs.training.events import Event, StepEvent
from mohs.training.loop import Folder, fit
from mohs.training.pretrained import blend_weights, start_with_principal_components
from mohs.training.processes import Processes

POLICY = ImagePolicy(16, 1)
MODEL = ModelConfig(widths=(8, 16), hidden_dim=0, embedding_dim=16)


def projected(embedder: Embedder, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Features, and what the head makes of them before it is brought to unit length."""
    embedder.eval()
    with torch.inference_mode():
        features_NF = embedder.features(embedder.to_input(dataset.pictures))
        return features_NF.numpy(), embedder.head(features_NF).numpy()


def test_the_head_is_the_pca_of_scikit_learn(glyphs: Dataset) -> None:
    embedder = Embedder.create(MODEL, POLICY, seed=0).train()
    start_with_principal_components(embedder, glyphs, Processes(), seed=0)
    assert embedder.training
    features_NF, z_ND = projected(embedder, glyphs)
    wanted_ND = PCA(16, svd_solver="full").fit_transform(features_NF.astype(np.float64))
    sign_D = np.sign((wanted_ND * z_ND).sum(0))  # an eigenvector has none of its own
    np.testing.assert_allclose(z_ND, wanted_ND * sign_D, atol=1e-4)


def test_with_fewer_pictures_than_dimensions_the_other_rows_stay(glyphs: Dataset) -> None:
    embedder = Embedder.create(MODEL, POLICY, seed=0)
    before_DF = embedder.head[0].weight.detach().clone()
    few = glyphs.take(np.arange(0, 50, 10))
    start_with_principal_components(embedder, few, Processes(), seed=0)
    weight_DF = embedder.head[0].weight.detach()
    assert torch.equal(weight_DF[4:], before_DF[4:])
    torch.testing.assert_close(weight_DF[:4] @ weight_DF[:4].T, torch.eye(4), atol=1e-5, rtol=0)
    features_NF, z_ND = projected(embedder, few)
    distance = np.linalg.norm(features_NF[:, None] - features_NF[None], axis=2)
    np.testing.assert_allclose(np.linalg.norm(z_ND[:, None, :4] - z_ND[None, :, :4], axis=2), distance, atol=1e-4)


def test_a_head_with_a_hidden_layer_is_refused(glyphs: Dataset) -> None:
    embedder = Embedder.create(ModelConfig(widths=(8, 16), hidden_dim=32), POLICY, seed=0)
    with pytest.raises(InputError, match=r"finetune\.head: 'pca' is for a head of one linear layer.*hidden_dim is 32"):
        start_with_principal_components(embedder, glyphs, Processes(), seed=0)


def test_dropout_does_not_hide_the_linear_layer(glyphs: Dataset) -> None:
    model = MODEL.model_copy(update={"dropout": 0.5})
    embedder = Embedder.create(model, POLICY, seed=0)
    start_with_principal_components(embedder, glyphs, Processes(), seed=0)
    _, z_ND = projected(embedder, glyphs)
    np.testing.assert_allclose(z_ND.mean(0), 0.0, atol=1e-4)


def test_blended_weights_lie_between() -> None:
    start = Embedder.create(MODEL, POLICY, seed=0)
    trained = Embedder.create(MODEL, POLICY, seed=1)
    for buffer in trained.buffers():
        if not buffer.is_floating_point():
            buffer.fill_(7)
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    blend_weights(trained, start.state_dict(), 0.3)
    for name, value in trained.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, 0.3 * before[name] + 0.7 * start.state_dict()[name])
        else:
            assert int(value) == 7, name


class Stopped(BaseException):
    pass


def go(dataset: Dataset, finetune: FinetuneConfig, path: Path, *, stop_at: int = 0, resume: bool = False) -> Embedder:
    training = TrainingConfig(
        num_triplets=60, batch_triplets=15, num_segments=2, device="cpu", learning_rate=2e-3, checkpoint_s=1e-9
    )
    config = RunConfig(data=DataConfig(size=16, channels=1), model=MODEL, training=training, finetune=finetune)
    embedder = Embedder.create(MODEL, POLICY, seed=0)
    listeners: list[Any] = []
    if stop_at:

        def stop(event: Event) -> None:
            if isinstance(event, StepEvent) and event.step == stop_at:
                raise Stopped

        listeners.append(stop)
    path.mkdir(exist_ok=True)
    checkpoint = load_checkpoint(path / "checkpoints") if resume else None
    with EventLog(path / "events.jsonl") as log:
        fit(embedder, dataset, config, listeners=listeners, folder=Folder(path, log), resume=checkpoint)
    return embedder


def test_a_run_ends_between_its_start_and_what_it_trained(glyphs: Dataset, tmp_path: Path) -> None:
    start = Embedder.create(MODEL, POLICY, seed=0)
    start_with_principal_components(start, glyphs, Processes(), seed=0)
    trained = go(glyphs, FinetuneConfig(head="pca"), tmp_path / "all")
    half = go(glyphs, FinetuneConfig(head="pca", trained_share=0.5), tmp_path / "half")
    moved = False
    for name, value in half.state_dict().items():
        if value.is_floating_point():
            a, b = start.state_dict()[name], trained.state_dict()[name]
            torch.testing.assert_close(value, (a + b) / 2)
            moved = moved or not torch.allclose(a, b)
    assert moved


def test_a_run_that_is_taken_up_blends_with_its_own_start(glyphs: Dataset, tmp_path: Path) -> None:
    finetune = FinetuneConfig(head="pca", trained_share=0.5)
    whole = go(glyphs, finetune, tmp_path / "whole")
    with pytest.raises(Stopped):
        go(glyphs, finetune, tmp_path / "cut", stop_at=3)
    again = go(glyphs, finetune, tmp_path / "cut", resume=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
