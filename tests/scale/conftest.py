import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mohs
from mohs.data.images import ImagePolicy
from mohs.settings.config import ModelConfig

NUM_ITEMS = 600


@pytest.fixture(scope="session")
def ray() -> Iterator[Any]:
    """A cluster of this machine, with two processors."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: mining and embedding on a cluster are NOT tested")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries that Ray brings
        ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield ray
    ray.shutdown()


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures, their table and a saved embedder."""
    folder = tmp_path_factory.mktemp("shop")
    random = np.random.default_rng(0)
    pixels = random.integers(0, 255, (NUM_ITEMS, 12, 12, 3), dtype=np.uint8)
    rows = ["file,class"]
    for i in range(NUM_ITEMS):
        Image.fromarray(pixels[i]).save(folder / f"{i}.png")
        rows.append(f"{i}.png,ring {i // 2}")
    (folder / "shop.csv").write_text("\n".join(rows) + "\n")
    network = mohs.Embedder.create(ModelConfig(widths=(4,), hidden_dim=0, embedding_dim=8), ImagePolicy(size=16))
    network.save_pretrained(folder / "network")
    return folder
