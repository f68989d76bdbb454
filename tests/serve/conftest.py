import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mohs.data.images import ImagePolicy
from mohs.index.index import Index
from mohs.model.embedder import Embedder
from mohs.runs import train
from mohs.settings.config import DataConfig, LossConfig, ModelConfig, RunConfig, TrainingConfig

pytest.importorskip("lancedb", reason="needs mohs[search]")
pytest.importorskip("fastapi", reason="needs mohs[serve]")

from fastapi import FastAPI
from starlette.testclient import TestClient

from mohs.serve.app import create_app
from mohs.serve.settings import read_settings

ADDRESS = "http://127.0.0.1:8000"
TOKEN = "a-token-of-some-length"


@pytest.fixture(autouse=True)
def no_settings_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MOHS_SERVE_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def network() -> Embedder:
    config = ModelConfig(widths=(8, 16), hidden_dim=0, embedding_dim=16)
    return Embedder.create(config, ImagePolicy(size=16), seed=1).eval()


@pytest.fixture(scope="session")
def products(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 30 products, two pictures each, with a price and a text that is no HTML."""
    folder, random = tmp_path_factory.mktemp("products"), np.random.default_rng(0)
    lines = ["file,class,price,note"]
    for c in range(30):
        pattern = np.kron(random.integers(0, 255, (4, 4, 3)), np.ones((12, 12, 1)))
        for i in range(2):
            pixels = np.clip(pattern + random.normal(0, 12, pattern.shape), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{c:02d}-{i}.png")
            lines.append(f"{c:02d}-{i}.png,ring {c},{c + 0.5},{'<b>new</b>' if c % 3 == 0 else ''}")
    (folder / "shop.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="session")
def built(products: Path, network: Embedder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibrated index of them, not to be changed."""
    folder = tmp_path_factory.mktemp("built") / "shop.index"
    index = Index.build(folder, products / "shop.csv", network)
    files = [f"{c:02d}-{i}.png" for c in range(30) for i in range(2)]
    index.calibrate([products / file for file in files], [f"ring {int(file[:2])}" for file in files], ids=files)
    return folder


@pytest.fixture
def shop(products: Path, network: Embedder, tmp_path: Path) -> Path:
    """An index to be changed; not calibrated."""
    return Index.build(tmp_path / "shop.index", products / "shop.csv", network).folder


@pytest.fixture
def client_of(tmp_path: Path) -> Iterator[Callable[..., TestClient]]:
    """Clients of a service for an index, with settings; feedback goes to review.csv in the test's folder."""
    opened: list[TestClient] = []

    def make(folder: Path, create: Callable[..., FastAPI] = create_app, **settings: Any) -> TestClient:
        given = {"reload_s": 30.0, "review_list": str(tmp_path / "review.csv"), **settings}
        client = TestClient(create(folder, read_settings(given)), base_url=ADDRESS, raise_server_exceptions=False)
        client.__enter__()
        opened.append(client)
        return client

    yield make
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def client(client_of: Callable[..., TestClient], built: Path) -> TestClient:
    return client_of(built)


def trained(folder: Path, products: Path, loss: str) -> Path:
    """A run of 60 triplets on the products."""
    config = RunConfig(
        out=str(folder / loss),
        data=DataConfig(source=str(products / "shop.csv"), size=16, cache=str(folder / "cache")),
        model=ModelConfig(widths=(8, 16), hidden_dim=0, embedding_dim=16),
        loss=LossConfig(name=loss),
        training=TrainingConfig(num_triplets=60, num_segments=3, batch_triplets=10, held_out_curve=False),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return train(config).folder


@pytest.fixture(scope="session")
def run(products: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the triplet loss, not to be changed."""
    return trained(tmp_path_factory.mktemp("runs"), products, "triplet")


@pytest.fixture(scope="session")
def in_batch_run(products: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose negatives are those of the batch."""
    return trained(tmp_path_factory.mktemp("runs"), products, "infonce")
