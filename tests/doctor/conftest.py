from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import mohs
from mohs.doctor.log.training_log import TrainingLog
from mohs.evaluation.embedded import Embedded
from mohs.settings.config import DataConfig, HardnessConfig, LossConfig, ModelConfig, RunConfig, TrainingConfig

NUM_CLASSES, NUM_EACH = 40, 4


@pytest.fixture(scope="session")
def patterns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders: a class is a pattern of grey fields, a picture is the pattern with noise and a shift."""
    folder, rng = tmp_path_factory.mktemp("patterns"), np.random.default_rng(0)
    for c in range(NUM_CLASSES):
        pattern = np.kron(rng.integers(60, 200, (4, 4)), np.ones((4, 4)))
        (folder / f"class{c:02d}").mkdir()
        for i in range(NUM_EACH):
            moved = np.roll(pattern, rng.integers(-1, 2, 2), axis=(0, 1))
            pixels = np.clip(moved + rng.normal(0, 15, (16, 16)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"class{c:02d}" / f"{i}.png")
    return folder


def settings(
    source: Path, out: Path, *, loss: str = "infonce", curve: str = "sigmoid", split_by: str = "class", seed: int = 1
) -> RunConfig:
    return RunConfig(
        seed=seed,
        out=str(out),
        data=DataConfig(source=str(source), size=16, channels=1, test_fraction=0.4, split_by=split_by),
        model=ModelConfig(widths=(8, 16), hidden_dim=32, embedding_dim=16, batch_norm=loss != "contrastive"),
        loss=LossConfig(name=loss),
        hardness=HardnessConfig(curve=curve),
        training=TrainingConfig(num_triplets=800, batch_triplets=16, num_segments=5, augment=0.3, device="cpu"),
    )


HEALTHY = {
    "infonce": {},
    "triplet": {"loss": "triplet", "curve": "closed-loop"},
    "contrastive": {"loss": "contrastive", "split_by": "item"},
}


@pytest.fixture(scope="session")
def runs(patterns: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """Folders of three healthy runs; not to be changed."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("runs")
    yield {name: mohs.train(settings(patterns, place / name, **how)).folder for name, how in HEALTHY.items()}
    torch.set_num_threads(before)


@pytest.fixture
def log_of() -> Callable[..., TrainingLog]:
    """A log of epochs 1, 2, … with these columns."""

    def make(*, unit: str = "epoch", **columns: Any) -> TrainingLog:
        arrays = {name: np.array(values, dtype=np.float64) for name, values in columns.items()}
        length = len(next(iter(arrays.values())))
        return TrainingLog("log.csv", np.arange(1.0, length + 1), unit, **arrays)

    return make


@pytest.fixture
def clusters() -> Callable[..., Embedded]:
    """Classes around unit centres: a row is its class's centre with noise of this length, brought to unit length."""

    def make(
        num_classes: int = 30, per_class: int = 4, *, dim: int = 16, noise: float = 0.3, seed: int = 0, first: int = 0
    ) -> Embedded:
        random = np.random.default_rng(seed)
        class_N = np.repeat(np.arange(num_classes), per_class)
        centre_CD = random.normal(size=(num_classes, dim))
        centre_CD /= np.linalg.norm(centre_CD, axis=1, keepdims=True)
        x_ND = centre_CD[class_N] + noise / np.sqrt(dim) * random.normal(size=(len(class_N), dim))
        x_ND /= np.linalg.norm(x_ND, axis=1, keepdims=True)
        return Embedded.of(x_ND, class_N + first, source="clusters")

    return make
