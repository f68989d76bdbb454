"""What fine-tuning keeps: distances in a head of principal components, and a share of the weights it began with."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA

from mohs.artefacts import EventLog
from mohs.data.dataset import Dataset
from mohs.data.images import ImagePolicy
from mohs.errors import InputError
from mohs.model.embedder import Embedder
from mohs.settings.config import DataConfig, FinetuneConfig, ModelConfig, RunConfig, TrainingConfig
from mohs.training.checkpoint import load_checkpoint
from mohs.training.events import Event, StepEvent
from mohs.training.head_start import _head, blend_weights, start_head
from mohs.training.loop import Folder, fit
from mohs.training.processes import Processes
from mohs.training.whitening import whole_classes

POLICY = ImagePolicy(16, 1)
MODEL = ModelConfig(widths=(8, 16), hidden_dim=0, embedding_dim=16)
NUM_FEATURES = 256  # of that network
FULL = MODEL.model_copy(update={"embedding_dim": NUM_FEATURES})


def projected(embedder: Embedder, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Features, and what the head makes of them before it is brought to unit length."""
    embedder.eval()
    with torch.inference_mode():
        features_NF = embedder.features(embedder.to_input(dataset.pictures))
        return features_NF.numpy(), embedder.head(features_NF).numpy()


def started(model: ModelConfig, dataset: Dataset, way: Literal["pca", "rca"], *, seed: int = 0) -> Embedder:
    embedder = Embedder.create(model, POLICY, seed=0)
    start_head(embedder, dataset, Processes(), way=way, seed=seed)
    return embedder


def distances(rows_ND: np.ndarray) -> np.ndarray:
    return np.linalg.norm(rows_ND[:, None].astype(np.float64) - rows_ND[None], axis=2)


def test_the_head_is_the_pca_of_scikit_learn(glyphs: Dataset) -> None:
    embedder = Embedder.create(MODEL, POLICY, seed=0).train()
    start_head(embedder, glyphs, Processes(), way="pca", seed=0)
    assert embedder.training
    features_NF, z_ND = projected(embedder, glyphs)
    wanted_ND = PCA(16, svd_solver="full").fit_transform(features_NF.astype(np.float64))
    sign_D = np.sign((wanted_ND * z_ND).sum(0))  # an eigenvector has none of its own
    np.testing.assert_allclose(z_ND, wanted_ND * sign_D, atol=1e-4)


def test_distances_of_rca_are_those_of_mahalanobis_within_classes(glyphs: Dataset) -> None:
    embedder = started(FULL, glyphs, "rca")
    features_NF, z_ND = projected(embedder, glyphs)
    features_NF = features_NF.astype(np.float64)
    within_FF = np.zeros((NUM_FEATURES, NUM_FEATURES))
    for label in np.unique(glyphs.labels):
        own = features_NF[glyphs.labels == label]
        within_FF += (len(own) - 1) * np.cov(own.T)
    within_FF += np.eye(NUM_FEATURES) * np.trace(within_FF) / NUM_FEATURES
    wanted_NN = cdist(features_NF, features_NF, "mahalanobis", VI=np.linalg.inv(within_FF))
    scale = distances(z_ND).sum() / wanted_NN.sum()
    np.testing.assert_allclose(distances(z_ND), scale * wanted_NN, atol=1e-4 * scale * wanted_NN.max())
    assert np.linalg.norm(embedder.head[0].weight.detach()) == pytest.approx(16.0)  # √256, as of orthonormal rows


def test_without_two_pictures_of_a_class_rca_is_pca(glyphs: Dataset) -> None:
    singles = glyphs.take(np.unique(glyphs.labels, return_index=True)[1])
    pca, rca = started(MODEL, singles, "pca"), started(MODEL, singles, "rca")
    torch.testing.assert_close(rca.head[0].weight, pca.head[0].weight)


def test_rca_passes_over_what_pictures_of_a_class_differ_by() -> None:
    random = np.random.default_rng(0)
    class_N = np.arange(60) // 2
    features_NF = random.normal(size=(60, 256)) * 0.1
    features_NF[:, :8] += 5.0 * random.normal(size=(30, 8))[class_N]
    features_NF[:, 8:16] += 8.0 * random.normal(size=(60, 8))  # says nothing of the class

    def recall(class_of_head_N: np.ndarray) -> float:
        mean_F, row_DF = _head(features_NF, class_of_head_N, 256, np.random.default_rng(0))
        distance_NN = distances((features_NF - mean_F) @ row_DF.T)
        np.fill_diagonal(distance_NN, np.inf)
        return float((class_N[distance_NN.argmin(1)] == class_N).mean())

    of_classes, of_none, of_wrong = recall(class_N), recall(np.arange(60)), recall(random.permutation(class_N))
    assert of_classes > 0.9
    assert of_none < 0.5
    assert of_wrong < 0.5


def test_of_many_pictures_whole_classes_are_taken() -> None:
    class_N = np.random.default_rng(0).permutation(np.repeat(np.arange(500), 2))
    taken = whole_classes(class_N, 101, np.random.default_rng(1))
    assert len(np.unique(taken)) == 101
    assert sorted(np.unique(class_N[taken], return_counts=True)[1]) == [1, *[2] * 50]
    other = whole_classes(class_N, 101, np.random.default_rng(2))
    assert not np.array_equal(taken, other)
    assert np.array_equal(whole_classes(class_N, 5000, np.random.default_rng(1)), np.arange(1000))


def test_with_fewer_pictures_than_dimensions_what_they_lack_is_kept_too(glyphs: Dataset) -> None:
    embedder = started(FULL, glyphs.take(np.arange(0, 50, 10)), "pca")
    weight_DF = embedder.head[0].weight.detach()
    torch.testing.assert_close(weight_DF @ weight_DF.T, torch.eye(NUM_FEATURES), atol=1e-5, rtol=0)
    features_NF, z_ND = projected(embedder, glyphs)
    np.testing.assert_allclose(distances(z_ND), distances(features_NF), atol=1e-4)


def test_fewer_rows_than_directions_are_longer_so_that_distances_stay_in_the_mean(glyphs: Dataset) -> None:
    few = glyphs.take(np.arange(0, 50, 10))  # four components
    model = MODEL.model_copy(update={"embedding_dim": 40})
    weight_DF = started(model, few, "pca").head[0].weight.detach()
    wanted = torch.diag(torch.tensor([1.0] * 4 + [252 / 36] * 36))
    torch.testing.assert_close(weight_DF @ weight_DF.T, wanted, atol=1e-5, rtol=0)
    ratio = []
    for seed in range(30):
        features_NF, z_ND = projected(started(model, few, "pca", seed=seed), glyphs)
        ratio.append(np.square(distances(z_ND)).sum() / np.square(distances(features_NF)).sum())
    assert np.mean(ratio) == pytest.approx(1.0, abs=3 * np.std(ratio) / len(ratio) ** 0.5)


def test_rows_beyond_the_features_are_zero(glyphs: Dataset) -> None:
    model = MODEL.model_copy(update={"embedding_dim": NUM_FEATURES + 4})
    weight_DF = started(model, glyphs, "rca").head[0].weight.detach()
    assert bool((weight_DF[NUM_FEATURES:] == 0).all())
    assert bool((weight_DF[:NUM_FEATURES].norm(dim=1) > 0).all())


@pytest.mark.parametrize("way", ["pca", "rca"])
def test_a_head_with_a_hidden_layer_is_refused(way, glyphs: Dataset) -> None:
    embedder = Embedder.create(ModelConfig(widths=(8, 16), hidden_dim=32), POLICY, seed=0)
    with pytest.raises(
        InputError, match=rf"finetune\.head: '{way}' is for a head of one linear layer.*is 32; make it 0"
    ):
        start_head(embedder, glyphs, Processes(), way=way, seed=0)


def test_dropout_does_not_hide_the_linear_layer(glyphs: Dataset) -> None:
    _, z_ND = projected(started(MODEL.model_copy(update={"dropout": 0.5}), glyphs, "pca"), glyphs)
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
        fit(embedder, dataset, config, listeners=listeners, folder=Folder(path, log, checkpoint))
    return embedder


@pytest.mark.parametrize("way", ["pca", "rca"])
def test_a_run_ends_between_its_start_and_what_it_trained(way, glyphs: Dataset, tmp_path: Path) -> None:
    start = started(MODEL, glyphs, way)
    trained = go(glyphs, FinetuneConfig(head=way), tmp_path / "all")
    half = go(glyphs, FinetuneConfig(head=way, trained_share=0.5), tmp_path / "half")
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
