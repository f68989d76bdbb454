from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mohs.data.images import ImagePolicy
from mohs.model.embedder import Embedder
from mohs.settings.config import ModelConfig

pytest.importorskip("lancedb", reason="needs mohs[search]")


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    config = ModelConfig(widths=(8, 16), hidden_dim=0, embedding_dim=16)
    return Embedder.create(config, ImagePolicy(size=16, channels=3), seed=1).eval()


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 30 products, two pictures each, with an article number, a price and a text."""
    folder, random = tmp_path_factory.mktemp("shop"), np.random.default_rng(0)
    lines = ["file,class,article,price,note"]
    for c in range(30):
        pattern = np.kron(random.integers(0, 255, (4, 4, 3)), np.ones((5, 5, 1)))
        for i in range(2):
            pixels = np.clip(pattern + random.normal(0, 12, pattern.shape), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{c:02d}-{i}.png")
            lines.append(f"{c:02d}-{i}.png,ring {c},A{c:02d}{i},{c + 0.5},{'new' if c % 3 == 0 else ''}")
    (folder / "shop.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def table_of(shop: Path) -> Callable[..., Path]:
    """A table with these rows of the shop's."""

    def make(name: str, rows: list[int], header: str | None = None) -> Path:
        lines = (shop / "shop.csv").read_text().splitlines()
        (shop / name).write_text("\n".join([header or lines[0], *(lines[1 + row] for row in rows)]) + "\n")
        return shop / name

    return make
