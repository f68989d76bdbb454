from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mohs.compare.budget import Budget
from mohs.compare.cells import Comparison
from mohs.compare.protocols import ComparisonData, open_comparison
from mohs.compare.strategies import find_strategies
from mohs.settings.config import DataConfig

SETTINGS: dict[str, Any] = {
    "data.size": 16,
    "data.channels": 1,
    "model.widths": [8, 16],
    "model.hidden_dim": 32,
    "model.embedding_dim": 16,
    "training.num_segments": 2,
    "training.device": "cpu",
}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Figures are the same for the same number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def draw_blots(folder: Path, num_classes: int, per_class: int, *, noise: int = 60) -> Path:
    """Write a table of grey blots, alike within a class and shifted at random, so that there is something to learn."""
    (folder / "img").mkdir(parents=True)
    lines = ["file,class"]
    for label in range(num_classes):
        base = np.random.default_rng(label).integers(0, 256, (4, 4)).repeat(4, 0).repeat(4, 1)
        for number in range(per_class):
            random = np.random.default_rng([label, number])
            moved = np.roll(base, random.integers(-3, 4, 2), axis=(0, 1)) + random.integers(-noise, noise + 1, (16, 16))
            name = f"img/{label:03d}-{number}.png"
            Image.fromarray(np.clip(moved, 0, 255).astype(np.uint8)).save(folder / name)
            lines.append(f"{name},{label:03d}")
    (folder / "images.csv").write_text("\n".join(lines) + "\n")
    return folder / "images.csv"


@pytest.fixture(scope="session")
def blots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 60 classes with 4 pictures each; not to be changed."""
    return draw_blots(tmp_path_factory.mktemp("blots") / "blots", 60, 4)


@pytest.fixture(scope="session")
def blot_data(blots: Path) -> ComparisonData:
    return open_comparison(DataConfig(source=str(blots), size=16, channels=1), name="blots")


@pytest.fixture(scope="session")
def small(blot_data: ComparisonData) -> Comparison:
    """Three strategies, one of each kind, two seeds."""
    strategies = tuple(find_strategies(["default", "random", "online supcon"]))
    return Comparison(blot_data, SETTINGS, Budget(576, 48), strategies, num_seeds=2)
