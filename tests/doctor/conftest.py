from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mohs
from mohs.config import DataConfig, HardnessConfig, LossConfig, ModelConfig, RunConfig, TrainingConfig

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
