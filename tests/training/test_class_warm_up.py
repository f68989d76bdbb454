"""The classification warm-up: what it learns, and that its gradients obey the settings of training."""

import math

import pytest
import torch

from mohs.data.dataset import Dataset
from mohs.data.images import ImagePolicy
from mohs.errors import TrainingError
from mohs.model.embedder import Embedder
from mohs.settings.config import ClassificationConfig, DataConfig, ModelConfig, RunConfig, TrainingConfig
from mohs.training.class_warm_up import warm_up
from mohs.training.events import ClassificationEvent
from mohs.training.processes import Processes


def weights(embedder: Embedder) -> torch.Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in embedder.parameters()])


def warmed(dataset: Dataset, *, rate: float = 0.05, limit: float = 0.0) -> tuple[float, list[ClassificationEvent]]:
    """Return how far the weights moved in ten steps of plain gradient descent, and the events."""
    config = RunConfig(
        data=DataConfig(size=16, channels=1),
        model=ModelConfig(widths=(4, 8), hidden_dim=8, embedding_dim=8, batch_norm=False),
        classification=ClassificationConfig(num_pictures=200),
        training=TrainingConfig(
            optimizer="sgd", momentum=0.0, weight_decay=0.0, learning_rate=rate, warmup=0.0, batch_triplets=10,
            max_gradient_norm=limit, device="cpu",
        ),
    )  # fmt: skip
    embedder = Embedder.create(config.model, ImagePolicy(16, 1), seed=0)
    before = weights(embedder)
    events: list[ClassificationEvent] = []
    warm_up(embedder, dataset, config, torch.device("cpu"), Processes(), emit=events.append)
    return float((weights(embedder) - before).norm()), events


def test_gradients_are_shortened_as_in_training(glyphs: Dataset) -> None:
    moved, events = warmed(glyphs)
    bounded, _ = warmed(glyphs, limit=1e-3)
    path = sum(event.learning_rate for event in events) * 1e-3
    assert len(events) == 10
    assert 0.0 < bounded <= path * (1 + 1e-4) < moved


def test_a_rate_that_breaks_it_is_told(glyphs: Dataset) -> None:
    with pytest.raises(TrainingError) as caught:
        warmed(glyphs, rate=1e30)
    message = str(caught.value)
    assert message.startswith("training: loss is nan at step 1 of 10 of the classification warm-up (rate 1e+30); lower")


def test_a_gradient_that_is_not_finite_is_told(glyphs: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mohs.training.step.shorten_gradient", lambda *_: math.inf)
    with pytest.raises(TrainingError, match="gradient is inf at step 0 of 10 of the classification warm-up"):
        warmed(glyphs)
